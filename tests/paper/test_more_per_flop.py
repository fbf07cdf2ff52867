"""Error against FLOPs, drawn from a made long run beside committed records."""

import copy
import json

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from m2lib import study
from m2lib.paper import more_per_flop

LAPTOP = study.PROFILES["laptop"]
FLOPS, EXPONENT = 6e15, -0.15


@pytest.fixture(scope="module")
def long_run():
    """Milestones that lie on a power law of the FLOPs, and an end below it."""
    record = copy.deepcopy(study.load_record(LAPTOP, "final"))
    record.loss_curve = [1.0] * 6000
    record.flops["training"]["coursework"] = FLOPS
    record.evaluations = [
        {"step": step, "loss": (step / 6000) ** EXPONENT, "mae_mean": 60000 / step, "mae_median": 30000 / step}
        for step in (250, 500, 1000, 2000, 4000)
    ]
    record.evaluations.append({"step": 6000, "loss": 0.8, "mae_mean": 8.0, "mae_median": 5.0})
    return record


@pytest.fixture(scope="module")
def arms():
    return {name: study.load_record(LAPTOP, name) for name in ("trial/rate", "trial/linear-simulated")}


def test_the_end_of_a_run_is_apart_from_its_way(long_run):
    way, end = more_per_flop.learned(long_run)
    assert [at.step for at in way] == [250, 500, 1000, 2000, 4000]
    assert (end.step, end.flops) == (6000, FLOPS)


def test_laws_go_through_milestones(long_run):
    laws = more_per_flop.laws(more_per_flop.learned(long_run)[0])
    assert {name: law.exponent for name, law in laws.items()} == pytest.approx(
        {"loss": EXPONENT, "mae_mean": -1, "mae_median": -1}
    )


def test_an_arm_is_its_record_in_one_row(arms):
    record = arms["trial/linear-simulated"]
    row = more_per_flop.arm("trial/linear-simulated", record)
    assert row["about"] == "both of these"
    assert row["steps"] == 240
    assert row["flops"] == record.flops["training"]["coursework"]
    assert row["loss"] == record.evaluations[-1]["loss"]
    assert row["mean"] == pytest.approx(sum(record.maes().values()) / 50)


def test_the_published_run_is_charged_by_the_rules():
    found = more_per_flop.published_final()
    assert round(found["mean"], 1) == 37.6
    assert 1e16 < found["flops"] < 1.35e17


def test_numbers_compare_in_pairs_and_go_to_the_budget(long_run, arms):
    sampled, final = study.load_record(LAPTOP, "final-sampled"), study.load_record(LAPTOP, "final").maes()
    found = more_per_flop.numbers({"greedy": long_run, "sampled": sampled}, {"final": final}, arms, LAPTOP.budget)
    json.dumps(found, allow_nan=False)  # what the PDF reads
    assert found["laws"]["loss"]["at the budget"] == pytest.approx((LAPTOP.budget / FLOPS) ** EXPONENT)
    assert found["gains"]["sampled"]["final"]["mean"] == pytest.approx(
        np.mean(list(final.values())) - np.mean(list(sampled.maes().values()))  # the made run has final's errors
    )
    assert (found["protocols"]["sampled"]["n_samples"], found["protocols"]["sampled"]["temperature"]) == (12, 0.7)
    assert [row["name"] for row in found["arms"]] == list(arms)


def test_the_curve_shows_milestones_controls_and_yardsticks(long_run, arms):
    controls = {"trial/shuffled": arms["trial/rate"]}
    figure = more_per_flop.draw(long_run, study.load_record(LAPTOP, "final"), arms | controls, LAPTOP.budget)
    loss, mae = figure.axes
    assert {"mean of the context", "nearest analogue", "log-VAR(9)"} <= {text.get_text() for text in mae.texts}
    assert "shuffled weights" in {text.get_text() for text in loss.texts}
    hollow = [line for line in mae.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata()) == 5]
    assert len(hollow) == 2  # mean and median
    assert loss.get_ylabel() == "validation loss (nats a token)"
    plt.close(figure)
