"""The small network for tables: what it may not change, and what it has learned."""

import numpy as np
import pytest

from m2lib.errors import InputError
from m2lib.series import DECILES
from m2tables.network import CONTEXT, HORIZON, LEVELS, NetworkModel, Shown


@pytest.fixture(scope="module")
def network():
    return NetworkModel()


@pytest.fixture(scope="module")
def series():
    """Return months of three series (steps, 1) that grow and swing, with noise."""
    rng = np.random.default_rng(0)
    time = np.arange(120)
    swing = 10 * np.sin(2 * np.pi * time / 12)
    return [(100 + slope * time + swing + rng.normal(size=120))[:, None] for slope in (-0.3, 0, 1)]


def test_units_do_not_matter(network, series):
    forecast = network.quantiles(series, 12, [12] * 3, DECILES)
    scaled = network.quantiles([1000 * values for values in series], 12, [12] * 3, DECILES)
    assert scaled == pytest.approx(1000 * forecast, rel=1e-3)


def test_a_level_does_not_matter_without_a_season(network, series):
    forecast = network.quantiles(series, 12, [1] * 3, DECILES)
    lifted = network.quantiles([values + 500 for values in series], 12, [1] * 3, DECILES)
    assert lifted == pytest.approx(forecast + 500, abs=0.05)


def test_quantiles_ascend_far_ahead_too(network, series):
    horizon = 2 * HORIZON + 5
    quantiles = network.quantiles(series, horizon, [12] * 3, LEVELS)
    assert quantiles.shape == (3, len(LEVELS), horizon, 1)
    assert (np.diff(quantiles, axis=1) >= 0).all()


@pytest.mark.parametrize("is_walk", [False, True], ids=["noise", "a random walk"])
def test_bands_far_ahead_hold_what_they_promise(network, is_walk):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(40, 600, 1))
    paths = noise.cumsum(axis=1) if is_walk else noise + 100
    horizon = 4 * HORIZON
    quantiles = network.quantiles(list(paths[:, :-horizon]), horizon, [1] * 40, [0.1, 0.9])
    low, high = quantiles.swapaxes(0, 1)
    width = (high - low).mean(axis=0)
    truth = paths[:, -horizon:]

    assert (np.diff(width[HORIZON:, 0]) >= -0.05).all()
    assert 0.6 < ((low <= truth) & (truth <= high))[:, -HORIZON:].mean() < 0.97


def test_a_series_that_repeats_itself_is_continued(network):
    week = np.resize([100.0, 80, 80, 90, 120, 200, 150], 28)[:, None]
    quantiles = network.quantiles([week[:21]], 7, [7], DECILES)
    assert quantiles[0] == pytest.approx(np.tile(week[None, 21:], (9, 1, 1)))


def test_a_series_is_forecast_alone_as_beside_others(network, series):
    together = network.quantiles(series, 7, [12] * 3, DECILES)
    alone = network.quantiles(series[1:2], 7, [12], DECILES)
    assert alone[0] == pytest.approx(together[1], rel=1e-4)


def test_each_variable_is_forecast_alone(network, series):
    both = np.concatenate(series[:2], axis=1)
    quantiles = network.quantiles([both], 7, [12], DECILES)
    single = network.quantiles(series[:2], 7, [12] * 2, DECILES)
    assert quantiles[0, ..., 1] == pytest.approx(single[1, ..., 0], rel=1e-4)


def test_a_constant_stays_and_what_was_never_negative_stays_so(network):
    rng = np.random.default_rng(1)
    counts = rng.poisson(0.5, size=(60, 1)).astype(float)
    quantiles = network.quantiles([np.full((30, 1), 7.0), counts], 5, [1, 1], DECILES)
    assert (quantiles[0] == 7).all()
    assert quantiles[1].min() >= 0


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_are_enough_for_a_forecast(network, steps):
    quantiles = network.quantiles([np.arange(float(steps))[:, None]], 3, [12], DECILES)
    assert np.isfinite(quantiles).all()


def test_it_is_ahead_of_the_last_season(network, series):
    contexts = [values[:-12] for values in series]
    forecasts = network.quantiles(contexts, 12, [12] * 3, [0.5])[:, 0]
    truths = np.stack([values[-12:] for values in series])
    last_season = np.stack([values[-24:-12] for values in series])
    assert np.abs(forecasts - truths).mean() < 0.7 * np.abs(last_season - truths).mean()


def test_levels_between_those_it_writes_lie_between_and_others_are_refused(network, series):
    low, between, high = network.quantiles(series, 3, [1] * 3, [0.1, 0.15, 0.2]).swapaxes(0, 1)
    assert between == pytest.approx((low + high) / 2)
    with pytest.raises(InputError, match="the network writes quantiles from"):
        network.quantiles(series, 3, [1] * 3, [0.001])


def test_what_is_shown_goes_back_to_the_series(series):
    values = series[2][:, 0]
    shown = Shown.of(values[:-12], 12)
    future = shown.without(values[-12:])
    assert shown.context.shape == (CONTEXT,)
    assert shown.back(future[None])[0] == pytest.approx(values[-12:])
