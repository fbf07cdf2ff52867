"""The residual bootstrap, on autoregressions that are known."""

import numpy as np
import pytest

from m2lib.series.baselines import log_var
from m2lib.series.bootstrap import log_var_paths
from m2lib.series.calibration import coverage

# The logarithms turn in a damped circle about 6: five steps of a cycle of 10.
TURN = 0.9 * np.array([[np.cos(0.63), -np.sin(0.63)], [np.sin(0.63), np.cos(0.63)]])


def simulated(n, noise, rng, steps=100):
    """Series (n, steps, 2) of a log-VAR(1) with normal shocks."""
    away = rng.normal(0, 0.5, (n, 2))
    logs = []
    for _ in range(steps):
        away = away @ TURN.T + rng.normal(0, noise, (n, 2))
        logs.append(6 + away)
    return np.expm1(np.stack(logs, axis=1))


def test_without_residuals_every_path_is_the_point_forecast():
    contexts = simulated(3, 0.0, np.random.default_rng(1), 80)
    paths = log_var_paths(contexts, 5, np.random.default_rng(0))
    assert paths.shape == (3, 5, 20, 2)
    np.testing.assert_allclose(paths, np.repeat(log_var(contexts)[:, None], 5, axis=1), rtol=1e-6)


@pytest.mark.parametrize(("order", "horizon"), [(1, 4), (3, 20)])
def test_the_median_of_small_residuals_is_near_the_point_forecast(order, horizon):
    contexts = simulated(4, 0.01, np.random.default_rng(2), 80)
    paths = log_var_paths(contexts, 400, np.random.default_rng(0), horizon, order)
    np.testing.assert_allclose(np.median(paths, axis=1), log_var(contexts, horizon, order), rtol=0.02)


def test_on_the_process_that_it_fits_its_bands_hold_their_share():
    """Where the context is long; of 80 steps it knows the process less well than it believes."""
    series = simulated(150, 0.1, np.random.default_rng(3), 520)
    for steps, least, most in ((500, -0.03, 0.03), (80, -0.06, 0)):
        contexts, truths = series[:, 500 - steps : 500], series[:, 500:]
        paths = log_var_paths(contexts, 200, np.random.default_rng(0))
        for level in (0.5, 0.8, 0.95):
            held = np.mean([coverage(drawn, truth, level) for drawn, truth in zip(paths, truths, strict=True)])
            assert least < held - level < most, (steps, level)


def test_both_variables_err_together():
    rng = np.random.default_rng(4)
    shock = rng.normal(0, 0.2, (80, 1))
    context = np.expm1(6 + np.hstack([shock, shock]))  # one shock for both, each time
    paths = np.log1p(log_var_paths(context[None], 300, np.random.default_rng(0), 1)[0, :, 0])
    assert np.corrcoef(paths.T)[0, 1] > 0.95


def test_the_same_generator_gives_the_same_paths_within_bounds():
    context = simulated(1, 0.1, np.random.default_rng(5), 80)
    first, again = (log_var_paths(context, 3, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, again)
    steps = np.arange(80)
    explosive = np.round(10 * np.exp(0.1 * 1.2 ** (steps / 3)))[None, :, None].repeat(2, axis=2)
    paths = log_var_paths(explosive, 10, np.random.default_rng(0), 50)
    assert paths.min() >= 0
    assert paths.max() <= 10.01 * explosive.max()
