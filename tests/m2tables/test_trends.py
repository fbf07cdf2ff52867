"""The trend that is taken out before a text is written, and put back."""

import numpy as np
import pytest

from m2lib.series import TABLES
from m2tables.trends import Trend

STEPS = np.arange(60.0)[:, None]
NOISE = np.random.default_rng(0).normal(size=(60, 1))
GROWTH = 10 + 2 * STEPS  # its last value is 128


def test_a_steady_growth_is_taken_out():
    trend = Trend.of(GROWTH)
    assert trend.slope == pytest.approx([2.0])
    assert trend.without(GROWTH) == pytest.approx(np.full((60, 1), 128.0))


def test_a_steady_growth_goes_on_in_the_forecast():
    trend = Trend.of(GROWTH)
    level = trend.without(GROWTH) + NOISE  # because a constant has no scale
    scaling = TABLES.for_variables(1).scaling(level)
    scaled_last = (128 - scaling.offset) / scaling.scale * scaling.unit

    forecast = np.repeat(scaled_last, 3, axis=0)  # a model that has seen no trend foresees none
    ahead = trend.back(scaling, 3).physical(forecast)

    assert ahead == pytest.approx(np.array([[130.0], [132.0], [134.0]]))


def test_the_line_is_that_of_the_last_seasons():
    bent = 100 + np.where(STEPS < 40, -STEPS, 2 * STEPS - 120)  # it turns upwards at step 40

    # Three seasons, but at least 20 steps: the last 20, 20 and 36.
    assert Trend.of(bent).slope == pytest.approx([2.0])
    assert Trend.of(bent, season=6).slope == pytest.approx([2.0])
    assert Trend.of(bent, season=12).slope[0] < 1


def test_a_few_steps_at_the_end_do_not_decide_a_trend():
    level_at_the_end = np.minimum(STEPS, 57) + 1
    assert Trend.of(level_at_the_end).slope == pytest.approx([1.0], abs=0.1)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full((20, 1), 7.0), id="constant"),
        pytest.param(STEPS % 5, id="touches zero"),
        pytest.param(STEPS, id="touched zero long ago"),
        pytest.param(np.zeros((20, 1)), id="all zero"),
        pytest.param(1 + STEPS[:19], id="fewer than 20 steps"),
    ],
)
def test_where_no_trend_can_be_taken_out_a_series_stays_as_it_is(values):
    trend = Trend.of(values)
    assert trend.slope == pytest.approx([0.0])
    assert trend.without(values) == pytest.approx(values)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(STEPS - 30, id="from below zero to above"),
        pytest.param(1 + STEPS[:20], id="twenty steps"),
    ],
)
def test_a_trend_is_found_across_zero_and_in_as_few_as_twenty_steps(values):
    assert Trend.of(values).slope == pytest.approx([1.0])


def test_each_variable_has_a_trend_of_its_own():
    both = np.hstack([10 + STEPS, 200 - 2 * STEPS])
    assert Trend.of(both).slope == pytest.approx([1.0, -2.0])


def test_a_variable_that_touches_zero_leaves_the_others_their_trend():
    both = np.hstack([STEPS % 5, 200 - 2 * STEPS])
    assert Trend.of(both).slope == pytest.approx([0.0, -2.0])
