"""Forecasts that need no language model: by hand, and on series whose process is known."""

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

CONTEXTS = np.array([[[1, 2], [3, 8]], [[0, 0], [5, 6]]])
"""Two series of two steps."""
RISING = np.stack([np.arange(40), np.full(40, 7)], axis=1)[None]
"""A series whose variables have no period: one rises, the other is constant."""
TURN = 0.9 * np.array([[np.cos(0.63), -np.sin(0.63)], [np.sin(0.63), np.cos(0.63)]])
"""What a step of `simulated` does to the logarithms: a turn of 36 degrees, so that ten steps are a
cycle, and a damping by a tenth."""


def simulated(n, noise, rng, steps=100):
    """Return series (n, steps, 2) of a log-VAR(1) around 6 with normal shocks."""
    deviation = rng.normal(0, 0.5, (n, 2))
    logs = []
    for _ in range(steps):
        deviation = deviation @ TURN.T + rng.normal(0, noise, (n, 2))
        logs.append(6 + deviation)
    return np.expm1(np.stack(logs, axis=1))


def test_the_last_value_is_repeated():
    assert last_value(CONTEXTS, 2).tolist() == [[[3, 8], [3, 8]], [[5, 6], [5, 6]]]


def test_the_mean_of_the_context_is_that_of_each_variable():
    assert context_mean(CONTEXTS, 1).tolist() == [[[2, 5]], [[2.5, 3]]]


def test_the_nearest_analogue_is_what_came_after_the_same_steps():
    period = np.array([[1, 9], [5, 5], [9, 1], [5, 4]])
    context = np.tile(period, (8, 1))[None]
    assert (nearest_analogue(context, 4)[0] == period).all()


STRETCH = np.array([5, 9, 4, 8, 3, 7])


def test_of_equally_near_analogues_the_earliest_is_taken():
    context = np.concatenate([STRETCH, [1, 1], STRETCH, [2, 2], STRETCH])
    assert nearest_analogue(context[None, :, None], 2).ravel().tolist() == [1, 1]


def test_an_analogue_may_be_followed_by_the_last_step():
    context = np.concatenate([[20, 30], STRETCH, STRETCH])
    assert nearest_analogue(context[None, :, None], 6).ravel().tolist() == STRETCH.tolist()


def test_a_context_without_an_analogue_is_refused():
    context = np.ones((1, 10, 2))  # a stretch of 6 steps and the 5 after it would take 11
    with pytest.raises(ValueError, match="at least one array"):
        nearest_analogue(context, 5)


def test_the_seasonal_naive_repeats_the_last_period():
    period = np.array([[100, 900], [500, 500], [900, 100], [500, 400], [300, 300]])
    context = np.tile(period, (8, 1))[None]

    assert [period_of(variable) for variable in context[0].T] == [5, 5]
    assert (seasonal_naive(context, 10)[0] == np.tile(period, (2, 1))).all()


def test_the_seasonal_naive_repeats_the_last_value_where_there_is_no_period():
    assert [period_of(variable) for variable in RISING[0].T] == [None, None]
    assert seasonal_naive(RISING, 3).tolist() == [[[39, 7], [39, 7], [39, 7]]]


def test_the_seasonal_naive_takes_the_period_that_it_is_given():
    assert seasonal_naive(RISING, 3, period=2)[0, :, 0].tolist() == [38, 39, 38]
    with pytest.raises(ValueError, match="contexts of 40 steps hold no season of 41"):
        seasonal_naive(RISING, 3, period=41)


@pytest.mark.parametrize("length", [8, 13, 27, 39])
def test_the_period_is_that_of_the_cycle(length):
    steps = np.arange(80)
    cycle = 500 * (1.2 + np.sin(2 * np.pi * steps / length))
    assert period_of(cycle) == pytest.approx(length, abs=1)


def test_a_cycle_under_noise_of_its_size_has_a_period():
    noise = np.random.default_rng(0).normal(0, 1, 80)
    logs = np.sin(2 * np.pi * np.arange(80) / 10) + noise
    assert period_of(500 * np.exp(logs)) == 10  # its autocorrelation there is 0.23


def test_what_hardly_comes_back_has_no_period():
    steps = np.arange(80)
    echo = np.where(steps < 8, 100, 0) + np.where((steps >= 40) & (steps < 44), 2, 0)
    assert period_of(echo) is None  # its autocorrelation at 40 steps is 0.06


def test_log_var_continues_what_is_linear_in_logs():
    steps = np.arange(40)
    logs = np.stack([3 + np.sin(0.5 * steps), 3 + np.cos(0.5 * steps)], axis=1)
    series = np.expm1(logs)

    forecast = log_var(series[None, :30], 10)

    assert forecast[0] == pytest.approx(series[30:], rel=1e-6)


def test_log_var_may_rise_above_its_context():
    growing = np.expm1(0.1 * np.arange(40))[:, None]
    forecast = log_var(growing[None, :30], 10)
    assert forecast[0] == pytest.approx(growing[30:], rel=1e-6)


def test_log_var_stays_within_bounds_where_its_fit_explodes():
    logs = 0.1 * 1.2 ** np.arange(20)
    explosive = np.expm1(logs)[:, None].repeat(2, axis=1)
    assert log_var(explosive[None], 50).max() <= 10.01 * explosive.max() + 10


def test_log_var_stays_at_zero_where_its_fit_falls_below():
    falling = np.expm1(0.1 * np.arange(40))[::-1, None]  # the last of its 40 steps is 0
    forecast = log_var(falling[None, :35], 10)
    assert forecast[0, :4] == pytest.approx(falling[35:39], rel=1e-6)
    assert (forecast[0, 5:] == 0).all()


def test_without_residuals_every_path_is_the_point_forecast():
    contexts = simulated(3, 0.0, np.random.default_rng(1), 80)

    paths = log_var_paths(contexts, 5, np.random.default_rng(0))

    assert paths.shape == (3, 5, 20, 2)
    point_forecasts = np.repeat(log_var(contexts)[:, None], 5, axis=1)
    np.testing.assert_allclose(paths, point_forecasts, rtol=1e-6)


@pytest.mark.parametrize(
    ("steps", "least", "most"),
    [
        pytest.param(500, -0.03, 0.03, id="a long context"),
        # Of so few steps it knows the process less well than it believes.
        pytest.param(80, -0.06, 0, id="80 steps"),
    ],
)
def test_on_the_process_that_it_fits_its_bands_hold_their_share(steps, least, most):
    series = simulated(150, 0.1, np.random.default_rng(3), 520)
    contexts = series[:, 500 - steps : 500]
    truths = series[:, 500:]

    paths = log_var_paths(contexts, 200, np.random.default_rng(0))

    for level in (0.5, 0.8, 0.95):
        held = [coverage(*pair, level) for pair in zip(paths, truths, strict=True)]
        assert least < np.mean(held) - level < most, level


def test_residuals_of_a_short_context_are_enlarged():
    context = simulated(1, 0.1, np.random.default_rng(6), 20)

    paths = log_var_paths(context, 4000, np.random.default_rng(0), horizon=1)

    # 17 of 20 steps have three before them, and each variable has a constant and six weights.
    logs = np.log1p(context[0])
    before = np.hstack([np.ones((17, 1)), logs[2:-1], logs[1:-2], logs[:-3]])
    weights, *_ = np.linalg.lstsq(before, logs[3:], rcond=None)
    residuals = logs[3:] - before @ weights
    enlarged = np.sqrt(17 / (17 - 7)) * residuals.std(axis=0)
    assert np.log1p(paths[0, :, 0]).std(axis=0) == pytest.approx(enlarged, rel=0.05)


def test_the_paths_of_two_variables_share_the_shocks_of_their_past():
    rng = np.random.default_rng(4)
    shock = rng.normal(0, 0.2, (80, 1))
    context = np.expm1(6 + np.hstack([shock, shock]))  # one shock for both, each time

    paths = log_var_paths(context[None], 300, np.random.default_rng(0), horizon=1)

    logs = np.log1p(paths[0, :, 0])  # of all paths, at their only step
    assert np.corrcoef(logs.T)[0, 1] > 0.95


def test_the_same_generator_gives_the_same_paths():
    context = simulated(1, 0.1, np.random.default_rng(5), 80)
    first = log_var_paths(context, 3, np.random.default_rng(7))
    again = log_var_paths(context, 3, np.random.default_rng(7))
    assert np.array_equal(first, again)


def test_paths_stay_within_bounds_where_the_fit_explodes():
    growth = 10 * np.exp(0.1 * 1.2 ** (np.arange(80) / 3))
    explosive = np.round(growth)[None, :, None].repeat(2, axis=2)  # scaled units are whole numbers

    paths = log_var_paths(explosive, 10, np.random.default_rng(0), horizon=50)

    assert paths.min() >= 0
    assert paths.max() <= 10.01 * explosive.max()
