import numpy as np
import pytest

from m2lib.series import (
    context_mean,
    coverage,
    last_value,
    log_var,
    log_var_paths,
    nearest_analogue,
    period_of,
    seasonal_naive,
)

# The logarithms turn in a damped circle about 6: five steps of a cycle of 10.
TURN = 0.9 * np.array([[np.cos(0.63), -np.sin(0.63)], [np.sin(0.63), np.cos(0.63)]])


def test_by_hand():
    contexts = np.array([[[1, 2], [3, 8]], [[0, 0], [5, 6]]])
    assert last_value(contexts, 2).tolist() == [[[3, 8]] * 2, [[5, 6]] * 2]
    assert context_mean(contexts, 1).tolist() == [[[2, 5]], [[2.5, 3]]]


def test_the_nearest_analogue_is_what_came_after_the_same_steps():
    period = np.array([[1, 9], [5, 5], [9, 1], [5, 4]])
    context = np.tile(period, (8, 1))[None]
    assert (nearest_analogue(context, 4)[0] == period).all()
    # too short for a stretch of 6 with 5 after it
    with pytest.raises(ValueError, match="at least one array"):
        nearest_analogue(context[:, :10], 5)


def test_log_var_continues_what_is_linear_in_logs():
    steps = np.arange(40)
    exact = np.expm1(np.stack([3 + np.sin(0.5 * steps), 3 + np.cos(0.5 * steps)], axis=1))
    assert log_var(exact[None, :30], 10)[0] == pytest.approx(exact[30:], rel=1e-6)
    explosive = np.expm1(0.1 * 1.2**steps)[:20, None].repeat(2, axis=1)
    assert log_var(explosive[None], 50).max() <= 10.01 * explosive.max() + 10


def test_the_seasonal_naive_repeats_the_last_period():
    period = np.array([[100, 900], [500, 500], [900, 100], [500, 400], [300, 300]])
    context = np.tile(period, (8, 1))[None]
    assert [period_of(values) for values in context[0].T] == [5, 5]
    assert (seasonal_naive(context, 10)[0] == np.tile(period, (2, 1))).all()
    rising = np.stack([np.arange(40), np.full(40, 7)], axis=1)[None]
    assert [period_of(values) for values in rising[0].T] == [None, None]
    assert seasonal_naive(rising, 3).tolist() == [[[39, 7]] * 3]
    assert seasonal_naive(rising, 3, period=2)[0, :, 0].tolist() == [38, 39, 38]
    with pytest.raises(ValueError, match="contexts of 40 steps hold no season of 41"):
        seasonal_naive(rising, 3, period=41)


def test_the_period_is_that_of_the_cycle():
    time = np.arange(80)
    for length in (8, 13, 27, 39):
        assert period_of(500 * (1.2 + np.sin(2 * np.pi * time / length))) == pytest.approx(
            length, abs=1
        )


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


def test_on_the_process_that_it_fits_its_bands_hold_their_share():
    """Where the context is long; of 80 steps it knows the process less well than it believes."""
    series = simulated(150, 0.1, np.random.default_rng(3), 520)
    for steps, least, most in ((500, -0.03, 0.03), (80, -0.06, 0)):
        contexts = series[:, 500 - steps : 500]
        truths = series[:, 500:]
        paths = log_var_paths(contexts, 200, np.random.default_rng(0))
        for level in (0.5, 0.8, 0.95):
            held = np.mean(
                [coverage(drawn, truth, level) for drawn, truth in zip(paths, truths, strict=True)]
            )
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
