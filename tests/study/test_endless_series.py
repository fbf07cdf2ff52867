"""Training on simulated series: none repeats, and none is the data set's."""

from dataclasses import replace

import numpy as np
import pytest

from m2lib.model import text_to_ids
from m2lib.series import draw_systems, encode, generate_series, split_ids
from m2lib.training import make_windows
from study.plans import plan_run
from study.profiles import Profile
from study.runs import run
from study.windows import simulation_seed, training_windows

SIMULATED = "trial/linear-simulated"
SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=2,
    batch_size=2,
    train={SIMULATED: {"steps": 4, "batch_size": 2}},
    protocol={SIMULATED: {"constrained": False, "max_new_tokens": 20}},
    checkpoint_every=1,
    watched=1,
)


def systems_of(n, seed):
    """Return the systems that a seed gives, as tuples."""
    return [tuple(system) for system in draw_systems(n, seed).tolist()]


@pytest.fixture(scope="module")
def trained_on():
    """Return the systems of 5000 steps of one system, and of 500 steps of two at another seed."""
    systems = []
    for step in range(5000):
        systems += systems_of(1, simulation_seed(step, seed=0))
    for step in range(500):
        systems += systems_of(2, simulation_seed(step, seed=1))
    return systems


def test_no_system_is_trained_on_twice(trained_on):
    assert len(trained_on) == len(set(trained_on)) == 6000


def test_no_system_of_the_data_set_is_trained_on(trained_on):
    of_data_set = systems_of(1000, seed=0)
    assert not set(trained_on) & set(of_data_set)
    # Nor does any begin where one of the data set's does: the last two numbers are the start.
    starts = {system[-2:] for system in of_data_set}
    assert not {system[-2:] for system in trained_on} & starts


def test_a_few_training_series_are_the_same_for_each_length_of_training(data):
    windows = {}
    for name in ("few/3/60-0", "few/3/240-0", "few/10/240-0"):
        plan = plan_run(name, SMALL, data)
        rows = training_windows(plan, data, plan.training)
        windows[name] = {tuple(row) for row in rows}
    assert windows["few/3/60-0"] == windows["few/3/240-0"]
    assert len(windows["few/10/240-0"]) == 10
    assert len(windows["few/3/60-0"]) == 3
    assert windows["few/3/60-0"] < windows["few/10/240-0"]


def test_no_step_has_the_seed_of_the_data_set():
    assert simulation_seed(0, seed=0) == 1  # the data set has 0
    assert simulation_seed(5, seed=2) == 2_000_006


def test_a_step_has_a_window_of_each_of_its_own_systems(data):
    plan = plan_run(SIMULATED, SMALL, data)

    step = training_windows(plan, data, plan.training)(3)

    simulated = generate_series(2, simulation_seed(3, seed=0))
    texts = []
    for trajectory, scale in zip(simulated.trajectories, simulated.scales, strict=True):
        texts.append(text_to_ids(encode(trajectory, scale)))
    # No series is longer than a window, so each is one.
    assert np.array_equal(step, make_windows(texts, plan.training.sequence_length))


def test_training_on_simulated_series_does_not_read_the_data_sets(data, store):
    """Whatever its training series are, the adapter is the same."""
    first = run(SIMULATED, SMALL, data=data)
    trajectories = data.trajectories.copy()
    train = list(split_ids().train)
    trajectories[train] = trajectories[train[::-1]]
    other_data = replace(data, trajectories=trajectories)
    second = run(SIMULATED, SMALL, data=other_data, fresh=True)

    assert first.plan.learns_from == "simulated series"
    assert first.plan.difference(second.plan).startswith("data is ")
    assert first.loss_curve == second.loss_curve
    assert first.adapter == second.adapter
