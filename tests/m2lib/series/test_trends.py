"""The trend that is taken out before a text is written, and put back."""

import numpy as np
import pytest

from m2lib.series import TABLES, Trend

STEPS = np.arange(60.0)[:, None]
NOISE = np.random.default_rng(0).normal(size=(60, 1))


def test_a_steady_growth_is_taken_out_and_goes_on():
    growth = 10 + 2 * STEPS
    trend = Trend.of(growth)
    assert trend.slope == pytest.approx([2.0])
    assert trend.without(growth) == pytest.approx(np.full((60, 1), 128.0))
    scaling = TABLES.of(1).scaling(trend.without(growth) + NOISE)
    scaled_last = (128 - scaling.offset) / scaling.scale * scaling.unit
    ahead = trend.back(scaling, 3).physical(np.repeat(scaled_last, 3, axis=0))
    assert ahead == pytest.approx(np.array([[130.0], [132.0], [134.0]]))


def test_the_line_is_that_of_the_last_seasons():
    bent = 100 + np.where(STEPS < 40, -STEPS, 2 * STEPS - 120)  # it turns at step 40
    assert Trend.of(bent).slope == pytest.approx([2.0])  # of 20 steps
    assert Trend.of(bent, season=6).slope == pytest.approx([2.0])
    assert Trend.of(bent, season=12).slope[0] < 1  # of 36


@pytest.mark.parametrize(
    "values", [np.full((20, 1), 7.0), STEPS % 5, np.zeros((20, 1)), 1 + STEPS[:19]]
)
def test_where_there_is_none_a_series_stays_as_it_is(values):
    trend = Trend.of(values)
    assert trend.slope == pytest.approx([0.0])
    assert trend.without(values) == pytest.approx(values)


def test_each_variable_has_its_own():
    both = np.hstack([10 + STEPS, 200 - 2 * STEPS])
    assert Trend.of(both).slope == pytest.approx([1.0, -2.0])
