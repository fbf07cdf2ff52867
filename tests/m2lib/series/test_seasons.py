"""The season that is taken out before a text is written, and put back."""

import numpy as np
import pytest

from m2lib.series import TABLES, Season

PATTERN = np.array([3.0, -1.0, -4.0, 2.0])


def put_back(season, context, ahead):
    """What a forecaster that knows the next steps without their season would say with it."""
    text_format = TABLES.of(1)
    scaling = text_format.scaling(context)
    scaled = (ahead - scaling.offset) / scaling.scale * scaling.unit
    return season.back(scaling, len(context), len(ahead)).physical(scaled)


@pytest.mark.parametrize("length", [4, 7])
@pytest.mark.parametrize("level", [0.0, 100.0])  # it adds, and it multiplies
def test_a_season_on_a_trend_is_found_and_put_back(length, level):
    pattern = np.resize(PATTERN, length) - np.resize(PATTERN, length).mean()
    steps = np.arange(6 * length + 3)
    trend = (level + 0.5 * steps)[:, None]
    season = np.resize(pattern, len(steps) + length)[:, None]
    whole = np.vstack([trend, trend[-1] + 0.5 * np.arange(1, length + 1)[:, None]])
    values = whole * np.exp(season / 20) if level else whole + season
    context = values[: len(steps)]
    truth = values[len(steps) :]
    found = Season.of(context, length)
    assert np.allclose(found.without(context), trend, rtol=1e-3, atol=1e-9)
    assert np.allclose(put_back(found, context, whole[len(steps) :]), truth, rtol=2e-3)


def test_each_variable_has_its_own():
    steps = np.arange(40.0)
    both = np.stack([50 + steps + 5 * (steps % 2), 50 + steps + np.resize(PATTERN, 40)], axis=1)
    found = Season.of(both, 4)
    # of two steps, within those four
    assert np.allclose(found.factor[:2, 0], found.factor[2:, 0], rtol=1e-2)
    for variable in (0, 1):
        assert np.allclose(found.factor[:, [variable]], Season.of(both[:, [variable]], 4).factor)


def test_one_variable_does_not_decide_for_another():
    steps = np.arange(40.0)
    sales = 50 + steps + np.resize(PATTERN, 40)
    profit = np.resize(PATTERN, 40) + steps / 9
    returns = steps % 4
    together = Season.of(np.stack([sales, profit, returns], axis=1), 4)
    alone = Season.of(sales[:, None], 4)
    assert np.allclose(together.factor[:, [0]], alone.factor)
    assert np.ptp(together.shift, axis=0).astype(bool).tolist() == [False, True, False]
    assert (together.factor[:, 1:] == 1).all()


@pytest.mark.parametrize(
    ("values", "length"),
    [
        (np.arange(30.0) % 7, 1),  # none is asked for
        (np.arange(20.0) % 7 + 1, 7),  # fewer than three
        (np.arange(30.0) % 7 * np.arange(30), 7),  # it comes down to zero, and stays at or above it
        (np.resize([1.0, 5.0, 2.0, 8.0], 40), 4),  # nothing would be left to write
    ],
)
def test_where_there_is_none_a_series_stays_as_it_is(values, length):
    series = values[:, None]
    scaling = TABLES.of(1).scaling(values[:, None])
    found = Season.of(series, length)
    assert np.array_equal(found.without(series), series)
    assert (found.back(scaling, 30, 5).scale == scaling.scale).all()
    assert (found.back(scaling, 30, 5).offset == scaling.offset).all()
