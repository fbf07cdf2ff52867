"""Training on series without end: none repeats, and none is the data set's."""

from dataclasses import replace

import numpy as np

from m2lib.accounting import CONVENTIONS, Shape, sum_costs
from m2lib.forecaster import Forecaster
from m2lib.model import backbone_config
from m2lib.series import TABLES, draw_systems, split_ids
from study.costs import estimate, workload
from study.experiments import EXPERIMENTS
from study.profiles import Profile
from study.records import adapter_path
from study.runs import Run, run, simulation_seed

NAME = "trial/linear-simulated"
SMALL = Profile(
    "laptop", "tiny", most_series=2, batch_size=2, train={NAME: {"steps": 4, "batch_size": 2}},
    protocol={NAME: {"constrained": False, "max_new_tokens": 20}}, checkpoint_every=1, watched=1,
)  # fmt: skip


def test_no_system_of_the_data_set_is_trained_on_and_none_twice():
    drawn = {
        tuple(system)
        for step in range(5_000)
        for system in draw_systems(1, simulation_seed(step, 0)).tolist()
    }
    more = {
        tuple(system)
        for step in range(500)
        for system in draw_systems(2, simulation_seed(step, 1)).tolist()
    }
    assert (len(drawn), len(more), drawn & more) == (5_000, 1_000, set())
    known = {tuple(system) for system in draw_systems(1000, 0).tolist()}
    assert not (drawn | more) & known
    # nor does any begin where one of the data set's does
    starts = {system[-2:] for system in known}
    assert not {system[-2:] for system in drawn | more} & starts


def test_the_data_sets_training_series_are_not_read(data, store):
    """Whatever they are, the adapter is the same."""
    first = run(NAME, SMALL, data=data)
    other = data.trajectories.copy()
    train = list(split_ids().train)
    other[train] = other[train[::-1]]
    second = run(NAME, SMALL, data=replace(data, trajectories=other), fresh=True)
    assert (first.loss_curve, first.adapter) == (second.loss_curve, second.adapter)
    assert first.plan.learns_from == "simulated series"
    assert first.plan.difference(second.plan).startswith("data is ")


def test_milestones_evaluate_the_whole_validation_split(data, store, monkeypatch):
    experiment = replace(EXPERIMENTS["best"], milestones=(1, 3, 99))
    monkeypatch.setitem(EXPERIMENTS, "best", experiment)
    profile = replace(
        SMALL, train={"best": {"steps": 4, "sequence_length": 1024}},
        protocol={"best": {"constrained": False, "max_new_tokens": 4}}, evaluate_every=2,
    )  # fmt: skip
    seen = []
    real = Run._forecast_batch
    monkeypatch.setattr(
        Run, "_forecast_batch", lambda self, kind, ids: seen.append(ids) or real(self, kind, ids)
    )
    record = run("best", profile, data=data)
    assert [entry["step"] for entry in record.evaluations] == [0, 1, 3, 4]
    assert [sorted(ids) for ids in seen[:4]] == [sorted(split_ids().validation)] * 4
    assert set(record.series) <= set(split_ids().test)
    shape = Shape.of(backbone_config("tiny"))
    assert (
        record.flops["evaluation"]["coursework"]
        <= estimate(workload(experiment, profile), shape)["evaluation"]["coursework"]
    )


def test_an_adapter_for_any_table_learns_from_synthetic_series(data, store):
    name = "tables/three-digits"
    sizes = {name: {"steps": 2, "sequence_length": 1024}}
    profile = replace(SMALL, train=sizes, checkpoint_every=1, watched=1)
    record = run(name, profile, data=data)
    folder = adapter_path(profile, name)
    assert (record.series, record.plan.text_format) == ({}, TABLES)
    assert len(record.evaluations) == 2
    assert [set(entry) for entry in record.evaluations] == [{"step", "loss"}] * 2
    shape = Shape.of(backbone_config("tiny"))
    most = estimate(workload(EXPERIMENTS[name], profile), shape)
    assert all(record.spent()[kind] <= sum_costs(*most.values())[kind] for kind in CONVENTIONS)
    forecaster = Forecaster.from_pretrained(folder)
    assert forecaster.text_format == TABLES
    waves = [np.sin(np.arange(30.0)[:, None] / np.arange(2, 2 + variables)) for variables in (1, 3)]
    made = [forecaster.sample([one], 4, num_samples=2)[0].physical for one in waves]
    assert [samples.shape for samples in made] == [(2, 4, 1), (2, 4, 3)]
    again = run(name, profile, data=data, fresh=True)
    assert (again.loss_curve, again.adapter) == (record.loss_curve, record.adapter)
