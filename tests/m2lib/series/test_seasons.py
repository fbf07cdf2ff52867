"""The season that is taken out before a text is written, and put back."""

import re

import numpy as np
import pytest

from m2lib.files import InputError
from m2lib.series import TABLES, Season, checked_seasons

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
    # The mean factor is 1, so that the level is that of the values and not that of their logs.
    unit = np.exp(season[:length] / 20).mean() if level else 1.0
    assert np.allclose(found.without(context) / unit, trend, rtol=2e-3, atol=1e-9)
    assert np.allclose(put_back(found, context, whole[len(steps) :] * unit), truth, rtol=2e-3)
    assert found.kinds == ("multiplied" if level else "added",)


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
    returns = np.random.default_rng(0).poisson(0.3, 40).astype(float)
    together = Season.of(np.stack([sales, profit, returns], axis=1), 4)
    alone = Season.of(sales[:, None], 4)
    assert np.allclose(together.factor[:, [0]], alone.factor)
    assert np.ptp(together.shift, axis=0).astype(bool).tolist() == [False, True, False]
    assert (together.factor[:, 1:] == 1).all()
    assert together.kinds == ("multiplied", "added", "none")
    assert Season.summary([together]) == "1 multiplied, 1 added, 1 none"
    assert Season.summary([alone, alone]) == "multiplied"


@pytest.mark.parametrize(
    ("values", "length"),
    [
        (np.arange(30.0) % 7, 1),  # none is asked for
        (np.arange(20.0) % 7 + 1, 7),  # fewer than three
        (np.random.default_rng(0).poisson(0.4, 140), 7),  # zeros at any time, as of rare sales
        (np.resize([0.0, 0.0, 3.0], 40), 7),  # likewise, and the moving median is zero
        (np.zeros(40), 7),
        (np.full(40, 5.0), 7),
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
    assert found.kinds == ("none",)


# Six years of months that rise by half, with a season that grows with them.
YEARS = np.linspace(100, 150, 72) * np.tile(np.linspace(0.7, 1.3, 12), 6)


@pytest.mark.parametrize(("steps", "little"), [(72, 0.06), (36, 0.12)])
@pytest.mark.parametrize("wrong", [0.0, 0.01, 1e3, 1e4])
def test_a_zero_or_an_outlier_changes_little(steps, little, wrong):
    values = YEARS[-steps:, None] * np.exp(np.random.default_rng(0).normal(0, 0.02, (steps, 1)))
    clean = Season.of(values, 12)
    for step in range(1, steps, 5):
        changed = values.copy()
        changed[step] = wrong
        season = Season.of(changed, 12)
        assert np.allclose(season.factor, clean.factor, atol=little), (step, wrong)
        if wrong == 0:
            assert season.without(changed)[step] == 0  # a zero stays one


def test_of_several_seasons_it_is_the_longest_that_is_there_three_times():
    hours = np.random.default_rng(0).uniform(1, 9, 168)
    values = np.tile(hours, 4)[:, None]
    for lengths, steps, taken in (
        ((24, 168), 3 * 168, 168),
        ((24, 168), 3 * 168 - 1, 24),
        ((24, 168), 10, 24),
        ((7,), 3 * 168, 7),
    ):
        season = Season.of(values[:steps], lengths)
        alone = Season.of(values[:steps], taken)
        assert np.array_equal(season.factor, alone.factor)
        assert len(season.factor) == taken


def test_an_added_season_may_hold_many_zeros():
    sun = np.sin(2 * np.pi * np.arange(24) / 24).clip(0).round(6)  # more than half are 0
    weather = np.repeat(np.random.default_rng(0).normal(1, 0.05, 20), 24)
    used = -np.tile(sun, 20) * weather
    season = Season.of(used[:, None], 24)
    assert season.kinds == ("added",)
    assert season.without(used[:, None]).std() < 0.1 * used.std()


@pytest.mark.parametrize("wrong", [0, -3, [24, 0], (), 52.18, float("nan"), "7"])
def test_a_season_has_a_step_or_more(wrong):
    assert checked_seasons([168, 24]) == (24, 168)
    assert checked_seasons(np.int64(7)) == (7,)
    with pytest.raises(InputError, match=f"season is {re.escape(str(wrong))}; give its number"):
        checked_seasons(wrong)


def test_near_the_classical_decomposition():
    noise = np.exp(np.random.default_rng(0).normal(0, 0.02, 72))
    logs = np.log(YEARS * noise)
    trend = np.convolve(logs, np.r_[0.5, np.ones(11), 0.5] / 12, "valid")
    month = np.arange(6, 66) % 12
    classical = np.array([(logs[6:-6] - trend)[month == one].mean() for one in range(12)])
    factor = Season.of((YEARS * noise)[:, None], 12).factor[:, 0]
    assert np.allclose(np.log(factor) - np.log(factor).mean(), classical, atol=0.03)


def test_nights_without_sun_and_closed_days():
    rng = np.random.default_rng(0)
    clear = np.maximum(0, np.sin((np.arange(24) - 6) / 12 * np.pi))
    cloud = rng.uniform(0.4, 1.0, 11)
    sun = (cloud[:, None] * clear).ravel()[:, None] * rng.uniform(0.9, 1.1, (264, 1))
    context, truth = sun[:240], sun[240:]
    season = Season.of(context, 24)
    assert season.kinds == ("multiplied",)
    level = season.without(context)
    assert np.ptp(level) < 0.8 * np.ptp(context)
    ahead = np.full((24, 1), np.median(level[-24:]))
    forecast = np.maximum(put_back(season, context, ahead), 0)
    assert np.abs(forecast - truth)[truth < 1e-9].max() < 0.02
    naive = np.abs(sun[216:240] - truth).mean()
    assert np.abs(forecast - truth).mean() < 1.1 * naive
    closed = np.where(np.arange(140) % 7 == 6, 0.0, rng.poisson(50, 140) + np.arange(140))
    factor = Season.of(closed[:, None], 7).factor[:, 0]
    assert factor[6] < 0.06
    assert factor[:6] == pytest.approx(np.full(6, 7 / 6), rel=0.1)


def test_a_lifted_season_is_taken_out_and_put_back_exactly():
    context = (
        np.maximum(0, np.sin(np.arange(96) / 12 * np.pi))[:, None]
        * (1 + np.arange(96) % 5)[:, None]
    )
    season = Season.of(context, 24)
    assert season.shift[0, 0] < 0
    level = season.without(context)
    again = put_back(season, context, level[:24])
    assert np.allclose(again, context[:24], atol=1e-9)
