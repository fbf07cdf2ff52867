"""How loss and errors fall with the FLOPs of a training, against made numbers."""

import numpy as np
import pytest
from scipy.stats import linregress

from study import load_record
from study.paper import scaling


def test_milestones_are_the_forecasting_evaluations_after_the_start():
    record = load_record("laptop", "final")
    record.loss_curve = [1.0] * 4
    record.flops["training"]["coursework"] = 800
    untrained = {"step": 0, "loss": 1.5, "mae_mean": 200.0, "mae_median": 100.0}
    without_forecasts = {"step": 1, "loss": 1.2}
    milestone = {"step": 2, "loss": 1.0, "mae_mean": 50.0, "mae_median": 30.0}
    record.evaluations = [untrained, without_forecasts, milestone]

    (row,) = scaling.milestones(record).to_dict("records")

    assert row == milestone | {"flops": 400}  # two of the four steps


def test_a_power_law_comes_back():
    law = scaling.power_law([1e13, 1e14, 1e15], [200, 20, 2], at=1e17)

    assert law["exponent"] == pytest.approx(-1)
    # Where the points lie on the law, nothing is unsure.
    assert law["there"] == pytest.approx(0.02)
    assert law["interval there"] == pytest.approx((0.02, 0.02))


# Six points near a power law.
FLOPS = np.geomspace(1e13, 1e15, 6)
ERRORS = [90, 66, 40, 33, 20, 17]


def test_the_interval_of_an_exponent_is_that_of_a_regression():
    low, high = scaling.power_law(FLOPS, ERRORS, at=1e17)["exponent interval"]

    regression = linregress(np.log(FLOPS), np.log(ERRORS))
    students_t = 2.7764  # for 95% with 4 degrees of freedom
    assert (high - low) / 2 == pytest.approx(students_t * regression.stderr, rel=1e-4)


def test_a_power_law_is_less_sure_far_from_its_points():
    law = scaling.power_law(FLOPS, ERRORS, at=np.array([1e14, 1e17]))

    near, far = law["there"]
    (low_near, _), (high_near, high_far) = law["interval there"]

    assert low_near < near < high_near
    assert high_far / far > high_near / near


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 100, 6)

    def observed(x):
        """Return what a law gives at x, off by a factor of about a fifth."""
        return 50 * x**-0.4 * np.exp(rng.normal(0, 0.2, np.shape(x)))

    held = 0
    for _ in range(1000):
        low, high = scaling.power_law(x, observed(x), at=1000)["interval there"]
        held += low < observed(1000) < high

    assert held == pytest.approx(950, abs=20)
