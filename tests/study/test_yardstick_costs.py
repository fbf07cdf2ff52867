"""The formulas are what the forecasts compute, counted operation by operation on numbers that keep count."""

import numpy as np
import pytest

from m2lib.series import BASELINES, physics_forecast
from m2lib.series.recipe import draw_systems, predator_prey, solve_system
from m2lib.study.yardstick_costs import FORMULAS, RATES, CountedRates, core_rate
from m2lib.study.yardsticks import FITS, PLAIN, STATISTICAL


class Number(float):
    """A number that counts the operations on it."""

    count = 0

    def computed(self, value):
        Number.count += 1
        return Number(value)

    def __abs__(self):
        return self.computed(float.__abs__(self))


for name in ("add", "sub", "mul", "truediv", "radd", "rsub", "rmul", "rtruediv"):
    operation = getattr(float, f"__{name}__")
    setattr(Number, f"__{name}__", lambda self, other, do=operation: self.computed(do(self, float(other))))


def counted(values):
    return np.array([Number(value) for value in np.ravel(values)], dtype=object).reshape(np.shape(values))


@pytest.fixture
def context():
    (system,) = draw_systems(1, 5)
    return np.rint(100 * solve_system(system, np.linspace(0, 200, 100))[:80])[None]


@pytest.mark.parametrize("name", [name for name in BASELINES if "log" not in name])
def test_plain_forecasts_compute_what_their_formula_says(context, name):
    expected = BASELINES[name](context)
    Number.count = 0
    assert np.array_equal(BASELINES[name](counted(context)).astype(float), expected)
    assert Number.count == FORMULAS[name]


def test_autocorrelation_and_least_squares_by_their_parts(context):
    logs = counted(np.log1p(context[0, :, 0]))
    Number.count = 0
    about = logs - logs.mean()
    lags = [sum((a * b for a, b in zip(about[k:], about, strict=False)), start=0) for k in range(80)]  # those from 0 on
    from_zero = (
        Number.count - 80 - 80
    )  # less the mean and the distances from it; a sum starts from 0: one too many each
    assert np.array(lags).argmax() == 0
    both = 2 * (from_zero - 80) - (2 * 80 - 1)  # the other lags are as many, lag 0 counted once
    assert FORMULAS["the last period, repeated"] == 2 * (10 * 80 + 80 + 80 + both)
    # 77 rows, 7 columns, 2 right-hand sides; 20 steps of 2 products of 7, and a bound; logarithms and exponentials.
    solved = 2 * 77 * 49 + 11 * 343 + 4 * 77 * 7 * 2
    assert FORMULAS["log-VAR(3), fitted to the context"] == solved + 20 * (2 * 13 + 11) + 10 * (160 + 40)


def test_a_right_hand_side_is_thirteen_operations(context):
    Number.count = 0
    predator_prey(0.0, counted([2, 3]), 0.2, 0.5, 0.1, 0.1, 0.5, 10.0)
    assert Number.count == RATES
    rates = CountedRates()
    rates(0.0, np.array([2.0, 3.0]), 0.2, 0.5, 0.1, 0.1, 0.5, 10.0)
    rates(0.0, np.ones((2, 78)), 0.2, 0.5, 0.1, 0.1, 0.5, 10.0)
    assert (rates.states, rates.flops) == (79, 79 * RATES)


def test_a_fit_is_the_same_while_it_is_counted(context):
    rates, (name, _) = CountedRates(), FITS
    of = context.astype(int), np.array([1000.0]) / 100, np.linspace(0, 200, 100), name
    assert np.array_equal(physics_forecast(*of, rates), physics_forecast(*of))
    assert 1e4 < rates.states < 1e7


def test_every_yardstick_has_a_cost():
    assert {*FORMULAS, *STATISTICAL} == set(PLAIN)
    assert core_rate() > 1e8
