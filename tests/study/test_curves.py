import numpy as np
import pytest
from scipy.stats import linregress

from m2lib.study.curves import fit_power_law, milestones
from m2lib.study.records import Record


def test_a_power_law_comes_back():
    law = fit_power_law([1e13, 1e14, 1e15], [200, 20, 2])
    assert law.exponent == pytest.approx(-1)
    assert law.at(1e16) == pytest.approx(0.2)
    assert law.exponent_interval == pytest.approx((-1, -1))
    assert law.interval(1e17) == pytest.approx((0.02, 0.02))


def test_intervals_are_those_of_a_regression_of_logarithms():
    x, y = np.geomspace(1e13, 1e15, 6), [90, 66, 40, 33, 20, 17]
    law, theirs = fit_power_law(x, y), linregress(np.log(x), np.log(y))
    assert law.exponent == pytest.approx(theirs.slope)
    low, high = law.exponent_interval
    assert (high - low) / 2 == pytest.approx(2.7764 * theirs.stderr, rel=1e-4)  # Student's t, 4 degrees of freedom
    near, far = law.interval(1e14), law.interval(1e17)
    assert near[0] < law.at(1e14) < near[1]
    assert far[1] / far[0] > near[1] / near[0]


def test_intervals_hold_what_they_promise():
    rng, x, held = np.random.default_rng(0), np.geomspace(1, 100, 6), 0
    for _ in range(1000):
        y = 50 * x**-0.4 * np.exp(rng.normal(0, 0.2, 6))
        low, high = fit_power_law(x, y).interval(1000)
        held += low < 50 * 1000**-0.4 * np.exp(rng.normal(0, 0.2)) < high
    assert held == pytest.approx(950, abs=20)


def test_what_cannot_be_fitted_is_refused():
    for x, y in (([1, 2], [1, 2]), ([1, 2, 3], [1, 0, 2])):
        with pytest.raises(ValueError, match="at least three points, all positive"):
            fit_power_law(x, y)


def test_milestones_are_the_forecasting_evaluations_after_the_start():
    record = Record("best", "laptop", "f", {"decode": {}}, {}, {}, 1, loss_curve=[1.0] * 4)
    record.flops["training"]["coursework"] = 800
    record.evaluations = [
        {"step": 0, "loss": 1.5, "mae_mean": 200.0, "mae_median": 100.0},
        {"step": 1, "loss": 1.2},
        {"step": 2, "loss": 1.0, "mae_mean": 50.0, "mae_median": 30.0},
    ]
    (found,) = milestones(record)
    assert (found.step, found.flops, found.loss, found.mae_median) == (2, 400, 1.0, 30.0)
