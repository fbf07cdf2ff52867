"""The trend that is taken out before a text is written, and put back."""

import numpy as np
import pytest

from m2lib.series import TABLES
from m2lib.series.trends import Trend

STEPS = np.arange(60.0)[:, None]
NOISE = np.random.default_rng(0).normal(size=(60, 1))


def test_a_steady_growth_is_taken_out_and_goes_on():
    growth = 10 + 2 * STEPS
    trend = Trend.of(growth, 12)
    assert trend.slope == pytest.approx([2.0])
    assert trend.without(growth) == pytest.approx(np.full((60, 1), 128.0))
    scaling = TABLES.of(1).scaling(trend.without(growth) + NOISE)
    scaled_last = (128 - scaling.offset) / scaling.scale * scaling.unit
    ahead = trend.back(scaling, 3).physical(np.repeat(scaled_last, 3, axis=0))
    assert ahead == pytest.approx(np.array([[130.0], [132.0], [134.0]]))


def test_a_trend_counts_as_far_as_the_past_is_sure_of_it():
    assert Trend.of(10 + STEPS + 3 * NOISE, 12).slope == pytest.approx([1.0], abs=0.1)
    assert 0 < Trend.of(10 + 0.25 * STEPS + NOISE, 12).slope < 0.25
    for waving in (NOISE, np.sin(STEPS / 4)):
        assert Trend.of(waving, 12).slope == 0


def test_walks_of_which_nobody_can_say_where_they_go_keep_little():
    walks = np.random.default_rng(1).normal(size=(60, 500)).cumsum(axis=0) + 1e3
    drift = (walks[-1] - walks[0]) / 59
    kept = Trend.of(walks, 12).slope
    assert np.mean(kept == 0) > 0.75
    assert np.mean(kept**2) < 0.3 * np.mean(drift**2)


@pytest.mark.parametrize(
    "values", [np.full((20, 1), 7.0), STEPS % 5, np.zeros((20, 1)), 1 + STEPS[:7]]
)
def test_where_there_is_none_a_series_stays_as_it_is(values):
    trend = Trend.of(values, 4)
    assert trend.slope.tolist() == [0.0]
    assert np.array_equal(trend.without(values), values)


def test_each_variable_has_its_own_and_a_share_of_it_may_stay():
    both = np.hstack([10 + STEPS, 5 - 2 * STEPS])
    assert Trend.of(both, 6).slope == pytest.approx([1.0, -2.0])
    assert Trend.of(both, 6, share=0.5).slope == pytest.approx([0.5, -1.0])
    assert Trend.of(both, 6, share=0.0).slope.tolist() == [0.0, 0.0]
