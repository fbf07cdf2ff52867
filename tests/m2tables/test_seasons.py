"""The season that is taken out before a series is forecast, and put back."""

import numpy as np
import pytest

from m2lib.series import TABLES
from m2tables.seasons import Season

PATTERN = np.array([3.0, -1.0, -4.0, 2.0])

YEARS = np.linspace(100, 150, 72) * np.tile(np.linspace(0.7, 1.3, 12), 6)
"""Six years of months that rise by half, with a season that grows with them."""


def trend_and_pattern(start, length):
    """Return a steady rise and a repeated pattern of mean 0, both over 7 seasons and 3 steps."""
    pattern = np.resize(PATTERN, length)
    steps = np.arange(7 * length + 3)
    rise = start + 0.5 * steps
    repeated = np.resize(pattern - pattern.mean(), len(steps))
    return rise[:, None], repeated[:, None]


def kinds(season):
    """Say what a season does to each variable: `multiplied`, `added` or `none`."""
    names = []
    for factor, shift in zip(season.factor.T, season.shift.T, strict=True):
        if (factor != 1).any():
            names.append("multiplied")
        else:
            names.append("added" if shift.any() else "none")
    return tuple(names)


def put_back(season, context, ahead):
    """Scale `ahead`, a forecast without a season, and read it back with the season."""
    text_format = TABLES.for_variables(1)
    scaling = text_format.scaling(context)
    scaled = (ahead - scaling.offset) / scaling.scale * scaling.unit
    return season.back(scaling, len(context), len(ahead)).physical(scaled)


@pytest.mark.parametrize("length", [4, 7])
def test_a_season_that_is_added_to_a_trend_is_found_and_put_back(length):
    trend, pattern = trend_and_pattern(0.0, length)  # it falls below 0, so it cannot multiply
    values = trend + pattern
    context = values[:-length]

    season = Season.of(context, length)
    forecast = put_back(season, context, ahead=trend[-length:])

    assert kinds(season) == ("added",)
    assert np.allclose(season.without(context), trend[:-length], rtol=2e-3, atol=1e-9)
    assert np.allclose(forecast, values[-length:], rtol=2e-3)


@pytest.mark.parametrize("length", [4, 7])
def test_a_season_that_multiplies_a_trend_is_found_and_put_back(length):
    trend, pattern = trend_and_pattern(100.0, length)
    factors = np.exp(pattern / 20)
    values = trend * factors
    context = values[:-length]
    # A season's mean factor is 1, so that the level is that of the values and not of their logs.
    level = trend * factors[:length].mean()

    season = Season.of(context, length)
    forecast = put_back(season, context, ahead=level[-length:])

    assert kinds(season) == ("multiplied",)
    assert np.allclose(season.without(context), level[:-length], rtol=2e-3, atol=1e-9)
    assert np.allclose(forecast, values[-length:], rtol=2e-3)


@pytest.fixture
def noisy_years():
    """Return the years with some noise, (steps, 1), none of them below zero."""
    return (YEARS + np.random.default_rng(0).normal(0, 5, 72))[:, None]


def test_a_noisy_season_multiplies_by_1_in_the_mean(noisy_years):
    season = Season.of(noisy_years, 12)
    assert kinds(season) == ("multiplied",)
    assert season.factor.mean() == pytest.approx(1)


def test_a_noisy_season_adds_0_in_the_mean(noisy_years):
    season = Season.of(noisy_years - 100, 12)
    assert kinds(season) == ("added",)
    assert season.shift.mean() == pytest.approx(0, abs=1e-9)


def test_each_variable_has_a_season_of_its_own():
    steps = np.arange(40.0)
    of_two_steps = 50 + steps + 5 * (steps % 2)
    of_four_steps = 50 + steps + np.resize(PATTERN, 40)
    both = np.stack([of_two_steps, of_four_steps], axis=1)

    season = Season.of(both, 4)

    # The shorter one fills four steps with its two, twice.
    assert np.allclose(season.factor[:2, 0], season.factor[2:, 0], rtol=1e-2)
    for variable in (0, 1):
        alone = Season.of(both[:, [variable]], 4)
        assert np.allclose(season.factor[:, [variable]], alone.factor)


def test_one_variable_does_not_decide_for_another():
    steps = np.arange(40.0)
    sales = (50 + steps) * (1 + np.resize(PATTERN, 40) / 20)
    profit = np.resize(PATTERN, 40) + steps / 9  # it is negative at times
    returns = np.random.default_rng(0).poisson(0.3, 40).astype(float)  # zeros at any time

    together = Season.of(np.stack([sales, profit, returns], axis=1), 4)
    alone = Season.of(sales[:, None], 4)

    assert kinds(together) == ("multiplied", "added", "none")
    assert np.allclose(together.factor[:, [0]], alone.factor)
    assert (together.factor[:, 1:] == 1).all()
    is_shifted = np.ptp(together.shift, axis=0) > 0
    assert is_shifted.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("values", "length"),
    [
        pytest.param(np.arange(30.0) % 7, 1, id="no season is asked for"),
        pytest.param(np.arange(13.0) % 7 + 1, 7, id="fewer than two seasons"),
        pytest.param(np.random.default_rng(0).poisson(0.4, 140), 7, id="rare sales, at any time"),
        pytest.param(np.random.default_rng(0).poisson(1.2, 140), 7, id="a fifth of them zero"),
        # Likewise zeros at any time of a season of 7, and the moving median is zero.
        pytest.param(np.resize([0.0, 0.0, 3.0], 40), 7, id="a season of another length"),
        pytest.param(np.zeros(40), 7, id="all zero"),
        pytest.param(np.full(40, 5.0), 7, id="constant"),
    ],
)
def test_where_no_season_can_be_taken_out_a_series_stays_as_it_is(values, length):
    series = values[:, None]
    scaling = TABLES.for_variables(1).scaling(series)

    season = Season.of(series, length)
    ahead = season.back(scaling, 30, 5)

    assert kinds(season) == ("none",)
    assert np.array_equal(season.without(series), series)
    assert (ahead.scale == scaling.scale).all()
    assert (ahead.offset == scaling.offset).all()


@pytest.mark.parametrize("start", [100.0, -3.0])
@pytest.mark.parametrize("length", [4, 7])
def test_a_series_is_flat_without_a_season_that_is_all_of_it(length, start):
    values = start + np.resize(np.resize(PATTERN, length), (2 * length + 1, 1))
    season = Season.of(values, length)
    assert np.ptp(season.without(values)) < 1e-9


def test_a_season_is_added_or_multiplies_as_the_values_have_it():
    rise = np.linspace(100, 200, 96)
    wave = np.sin(2 * np.pi * np.arange(96) / 12)
    noise = np.random.default_rng(0).normal(0, 2, 96)
    added = Season.of((rise + 30 * wave + noise)[:, None], 12)
    multiplied = Season.of((rise * (1 + 0.3 * wave) + noise)[:, None], 12)
    assert kinds(added) == ("added",)
    assert kinds(multiplied) == ("multiplied",)


@pytest.mark.parametrize(("steps", "little"), [(72, 0.06), (36, 0.12)])
@pytest.mark.parametrize("wrong", [0.0, 0.01, 1e3, 1e4])
def test_a_zero_or_an_outlier_changes_little(steps, little, wrong):
    noise = np.random.default_rng(0).normal(0, 0.02, (steps, 1))
    values = YEARS[-steps:, None] * np.exp(noise)

    def at(season, level):
        """Return what a season makes of a level, which may be added or multiplied."""
        return season.factor * level + season.shift

    clean = Season.of(values, 12)
    for step in range(1, steps, 5):
        changed = values.copy()
        changed[step] = wrong
        season = Season.of(changed, 12)

        assert np.allclose(at(season, 130), at(clean, 130), atol=little * 130), (step, wrong)
        if wrong == 0 and kinds(season) == ("multiplied",):
            assert season.without(changed)[step] == 0  # a zero stays one


@pytest.mark.parametrize(
    ("distance", "is_outlier"),
    [
        pytest.param(8.5, False, id="7.6 times the mean distance"),
        pytest.param(9.5, True, id="8.6 times the mean distance"),
    ],
)
def test_a_value_eight_times_as_far_away_as_the_mean_is_an_outlier(distance, is_outlier):
    """Of an outlier it does not matter how far away it is, because the season leaves it out."""
    year = 10 * np.sin(2 * np.pi * np.arange(72) / 12)
    values = year + np.random.default_rng(0).uniform(-1, 1, 72)

    def shift_with_a_value_at(distance):
        changed = values.copy()
        changed[30] += distance
        return Season.of(changed[:, None], 12).shift

    far_away = shift_with_a_value_at(100.0)
    assert np.allclose(shift_with_a_value_at(distance), far_away) == is_outlier


@pytest.mark.parametrize(
    ("length", "steps", "taken"),
    [
        pytest.param(7, 14, 7, id="two seasons"),
        pytest.param(7, 13, 1, id="fewer than two"),
        pytest.param(10**15, 10, 1, id="a length that would fill the memory"),
    ],
)
def test_a_season_is_taken_out_of_two_at_least(length, steps, taken):
    values = np.random.default_rng(0).uniform(1, 9, (steps, 1))
    season = Season.of(values, length)
    assert len(season.factor) == taken
    assert season.length == length


def test_an_added_season_may_hold_many_zeros():
    sun = np.sin(2 * np.pi * np.arange(24) / 24).clip(0).round(6)  # more than half are 0
    weather = np.repeat(np.random.default_rng(0).normal(1, 0.05, 20), 24)
    used = -np.tile(sun, 20) * weather

    season = Season.of(used[:, None], 24)

    assert kinds(season) == ("added",)
    assert season.without(used[:, None]).std() < 0.1 * used.std()


@pytest.mark.parametrize(
    ("zeros", "is_taken"),
    [pytest.param(14, True, id="a tenth"), pytest.param(15, False, id="more")],
)
def test_no_season_is_taken_where_more_than_a_tenth_are_scattered_zeros(zeros, is_taken):
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 6, 140).astype(float)
    counts[rng.choice(140, zeros, replace=False)] = 0
    assert (kinds(Season.of(counts[:, None], 7)) != ("none",)) == is_taken


def test_a_season_is_near_that_of_the_classical_decomposition():
    values = YEARS * np.exp(np.random.default_rng(0).normal(0, 0.02, 72))

    factor = Season.of(values[:, None], 12).factor[:, 0]

    # The classical one, of logs: the trend is the mean of a year around each month, with half of
    # the months at both ends. It leaves out half a year at either end of the series.
    logs = np.log(values)
    half_ends = np.concatenate([[0.5], np.ones(11), [0.5]])
    trend = np.convolve(logs, half_ends / 12, "valid")
    deviations = logs[6:-6] - trend
    month = np.arange(6, 66) % 12
    classical = np.array([deviations[month == number].mean() for number in range(12)])
    assert np.allclose(np.log(factor) - np.log(factor).mean(), classical, atol=0.03)


def test_nights_without_sun_are_taken_out_and_put_back():
    rng = np.random.default_rng(0)
    clear_sky = np.maximum(0, np.sin((np.arange(24) - 6) / 12 * np.pi))
    clouds = rng.uniform(0.4, 1.0, 11)  # one for each of 11 days
    sun = np.outer(clouds, clear_sky).reshape(-1, 1) * rng.uniform(0.9, 1.1, (264, 1))
    context = sun[:240]
    truth = sun[240:]

    season = Season.of(context, 24)
    level = season.without(context)
    last_level = np.full((24, 1), np.median(level[-24:]))
    forecast = np.maximum(put_back(season, context, last_level), 0)

    assert kinds(season) == ("multiplied",)
    assert np.ptp(level) < 0.8 * np.ptp(context)
    night = truth < 1e-9
    errors = np.abs(forecast - truth)
    assert errors[night].max() < 0.02
    errors_of_yesterday = np.abs(context[-24:] - truth)
    assert errors.mean() < 1.1 * errors_of_yesterday.mean()


def test_a_day_on_which_a_shop_is_closed_has_a_factor_near_zero():
    rng = np.random.default_rng(0)
    days = np.arange(140)
    sales = np.where(days % 7 == 6, 0.0, rng.poisson(50, 140) + days)

    factor = Season.of(sales[:, None], 7).factor[:, 0]

    assert factor[6] < 0.06
    assert factor[:6] == pytest.approx(np.full(6, 7 / 6), rel=0.1)


@pytest.mark.parametrize(("sunday", "is_lifted"), [(0.0, True), (0.02, True), (0.2, False)])
def test_a_series_is_lifted_where_a_step_is_nearly_always_zero(sunday, is_lifted):
    sales = np.resize([1, 1, 1, 1, 1, 1, sunday], 140) * np.linspace(50, 60, 140)
    sales *= np.random.default_rng(0).uniform(0.95, 1.05, 140)
    season = Season.of(sales[:, None], 7)
    assert (season.shift[0, 0] < 0) == is_lifted


def test_a_lifted_season_is_taken_out_and_put_back_exactly():
    hours = np.arange(96)
    day = np.maximum(0, np.sin(hours / 12 * np.pi))
    strength = 1 + hours % 5
    context = (day * strength)[:, None]

    season = Season.of(context, 24)
    level = season.without(context)
    again = put_back(season, context, level[:24])

    assert season.shift[0, 0] < 0  # it was lifted, because the nights are 0
    assert np.allclose(again, context[:24], atol=1e-9)
