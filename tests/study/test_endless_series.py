"""Training on series without end: none repeats, and none is the data set's.

*Simulated* series are of the data set's recipe, *synthetic* ones of the families in
`study.synthetic`.
"""

from dataclasses import replace

import numpy as np
import pytest

from m2lib.accounting import CONVENTIONS
from m2lib.forecaster import Forecaster, Sampling
from m2lib.model import text_to_ids
from m2lib.series import FORMAT_FILE, TABLES, draw_systems, encode, generate_series, split_ids
from m2lib.training import make_windows
from study import runs
from study.plans import plan_run
from study.profiles import Profile
from study.records import adapter_path
from study.runs import run
from study.synthetic import synthetic_windows
from study.windows import simulation_seed, training_windows, watched_windows

SIMULATED = "trial/linear-simulated"
SYNTHETIC = "tables/three-digits"
SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=2,
    batch_size=2,
    train={SIMULATED: {"steps": 4, "batch_size": 2}, SYNTHETIC: {"steps": 2}},
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
    for name in ("few/10/60-0", "few/10/240-0", "few/3/60-0"):
        plan = plan_run(name, SMALL, data)
        rows = training_windows(plan, data, plan.training)
        windows[name] = {tuple(row) for row in rows}
    assert windows["few/10/60-0"] == windows["few/10/240-0"]
    assert len(windows["few/10/60-0"]) == 10
    assert len(windows["few/3/60-0"]) == 3
    assert windows["few/3/60-0"] < windows["few/10/60-0"]


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


def test_synthetic_series_that_are_watched_are_not_trained_on(data):
    plan = plan_run(SYNTHETIC, SMALL, data)
    trained_on = training_windows(plan, data, plan.training)
    watched = watched_windows(plan, data, [19, 59], plan.training)
    for step, window in enumerate(watched):
        assert not np.array_equal(window, trained_on(step)[0])


def test_synthetic_series_are_drawn_as_the_plan_says(data):
    plan = plan_run(SYNTHETIC, SMALL, data)
    plan = replace(plan, without="components", pairs=0.2, shown=0.3)
    config = replace(plan.training, seed=3)

    drawn = training_windows(plan, data, config)

    declared = synthetic_windows(
        config.sequence_length, 3, TABLES, "components", pair_share=0.2, shown_share=0.3
    )
    for step in range(20):
        assert np.array_equal(drawn(step), declared(step)), step


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


def test_an_adapter_for_any_table_learns_from_synthetic_series(data, store, most_flops):
    record = run(SYNTHETIC, SMALL, data=data)
    assert record.plan.text_format == TABLES
    assert record.series == {}
    first, last = record.evaluations
    assert first.keys() == last.keys() == {"step", "loss"}
    most = most_flops(SYNTHETIC, SMALL)
    for convention in CONVENTIONS:
        assert record.spent()[convention] <= most[convention]

    forecaster = Forecaster.from_pretrained(adapter_path(SMALL, SYNTHETIC))
    assert forecaster.text_format == TABLES
    for variables in (1, 3):
        periods = np.arange(2, 2 + variables)
        waves = np.sin(np.arange(30.0)[:, None] / periods)
        (samples,) = forecaster.sample([waves], 4, Sampling(2))
        assert samples.physical.shape == (2, 4, variables)

    again = run(SYNTHETIC, SMALL, data=data, fresh=True)
    assert again.loss_curve == record.loss_curve
    assert again.adapter == record.adapter


def test_an_adapter_for_any_table_has_its_format_before_it_counts_as_one(data, store, monkeypatch):
    """A run that is killed in between leaves no adapter that would be read in another format."""
    folder = adapter_path(SMALL, SYNTHETIC)
    files_before = []
    real = runs.model.save_adapter

    def save_adapter(model, into, loaded_by):
        if into == folder:
            files_before.extend(path.name for path in folder.iterdir())
        real(model, into, loaded_by)

    monkeypatch.setattr(runs.model, "save_adapter", save_adapter)
    run(SYNTHETIC, SMALL, data=data)
    assert files_before == [FORMAT_FILE]
