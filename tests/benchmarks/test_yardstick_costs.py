"""What a forecast without a language model costs is counted as it is done."""

import numpy as np
import pytest

from benchmarks.physics import FITS, physics_forecast
from benchmarks.yardstick_costs import FORMULAS, RATES_FLOPS, CountedRates, core_rate
from benchmarks.yardsticks import NETWORK, WITHOUT_MODEL
from m2lib.series import draw_systems
from m2lib.series.data import solve_system
from study import STATISTICAL

STEPS = 80  # of a context, of two variables
HORIZON = 20
LOGARITHM = EXPONENTIAL = 10  # operations, by the rules


def test_each_forecaster_has_a_formula_but_the_statistical_ones_and_the_network():
    assert {*FORMULAS, *STATISTICAL, NETWORK} == set(WITHOUT_MODEL)


def test_the_last_value_costs_nothing():
    assert FORMULAS["last value, repeated"] == 0


def test_the_mean_by_hand():
    sums = STEPS - 1
    divisions = 1
    assert FORMULAS["mean of the context, repeated"] == 2 * (sums + divisions)


def test_the_analogue_by_hand():
    # The last 6 steps are compared with all stretches of 6 that begin before the last 6 + 20.
    stretches = STEPS - 6 - HORIZON + 1
    differences = absolute_values = 12  # of two variables
    sums = 11
    by_hand = stretches * (differences + absolute_values + sums)
    assert FORMULAS["nearest analogue in the context"] == by_hand


def test_the_period_by_hand():
    logarithms = LOGARITHM * STEPS
    mean = STEPS
    distances = STEPS
    # At a lag at which k steps overlap there are k products and k - 1 sums.
    overlaps = [*range(1, STEPS), *range(STEPS, 0, -1)]
    lags = sum(k + k - 1 for k in overlaps)
    assert len(overlaps) == 159
    assert FORMULAS["the last period, repeated"] == 2 * (logarithms + mean + distances + lags)


def test_the_regression_by_hand():
    rows = 77  # the steps that have three before them
    columns = 7  # a constant, and three steps of two variables
    least_squares = 2 * rows * columns**2 + 11 * columns**3
    right_hand_sides = 4 * rows * columns * 2
    # Each step ahead takes two inner products of seven numbers, and a bound by a logarithm.
    iteration = HORIZON * (2 * (7 + 6) + LOGARITHM + 1)
    logarithms = LOGARITHM * 2 * STEPS
    exponentials = EXPONENTIAL * 2 * HORIZON

    by_hand = logarithms + least_squares + right_hand_sides + iteration + exponentials
    assert FORMULAS["log-VAR(3), fitted to the context"] == by_hand


@pytest.fixture(scope="module")
def counted_fit():
    """Fit a system with and without counting; return both forecasts, and what was counted."""
    times = np.linspace(0, 200, 100)
    (system,) = draw_systems(1, 5)
    course = solve_system(system, times)
    contexts = np.rint(100 * course[:STEPS])[None].astype(int)
    scales = np.array([10.0])
    first_fit, _ = FITS

    counts = CountedRates()
    counted = physics_forecast(contexts, scales, times, first_fit, counts)
    not_counted = physics_forecast(contexts, scales, times, first_fit)
    return counted, not_counted, counts


def test_a_fit_is_the_same_when_it_is_counted(counted_fit):
    counted, not_counted, _ = counted_fit
    assert np.array_equal(counted, not_counted)


def test_the_operations_of_a_fit_are_counted(counted_fit):
    _, _, counts = counted_fit
    assert 1e4 < counts.states < 1e7
    assert RATES_FLOPS == 13
    assert counts.flops == 13 * counts.states


def test_the_rate_of_a_core_is_plausible():
    assert core_rate() > 1e8
