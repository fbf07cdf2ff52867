"""Training on series without end: none repeats, none is the data set's, and a stopped run goes on to the same end."""

import signal
from dataclasses import replace

import numpy as np
import pytest

from m2lib.accounting import Shape
from m2lib.model import backbone_config
from m2lib.series import draw_systems, generate_series, split_ids
from m2lib.study.costs import estimate
from m2lib.study.experiments import EXPERIMENTS
from m2lib.study.profiles import Profile
from m2lib.study.records import load_record
from m2lib.study.runs import RunInProgress, adapter_path, run, simulation_seed
from m2lib.training import loop

NAME = "trial/linear-simulated"
SMALL = Profile(
    "laptop", "tiny", series=2, batch_size=2, train={NAME: {"steps": 4, "batch_size": 2}},
    protocol={NAME: {"constrained": False, "max_new_tokens": 20}}, checkpoint_every=1, watched=1,
)  # fmt: skip


def test_no_system_of_the_data_set_is_trained_on_and_none_twice():
    drawn = {tuple(system) for step in range(5_000) for system in draw_systems(1, simulation_seed(step, 0)).tolist()}
    more = {tuple(system) for step in range(500) for system in draw_systems(2, simulation_seed(step, 1)).tolist()}
    assert (len(drawn), len(more), drawn & more) == (5_000, 1_000, set())
    known = {tuple(system) for system in draw_systems(1000, 0).tolist()}
    assert not (drawn | more) & known
    starts = {system[-2:] for system in known}  # nor does any begin where one of the data set's does
    assert not {system[-2:] for system in drawn | more} & starts


def test_the_systems_drawn_are_those_simulated():
    series, systems = generate_series(3, 5), draw_systems(3, 5)
    assert np.allclose(series.trajectories[:, 0], systems[:, -2:], rtol=1e-6)


def test_a_stopped_run_ends_as_an_unbroken_one(data, store, monkeypatch):
    whole = run(NAME, SMALL, data=data)
    file = adapter_path(SMALL, NAME) / "adapter_model.safetensors"
    adapter, real, pressed, seen = file.read_bytes(), loop.batch_of, [], []

    def batch_of(step, *arguments):
        if step == 2 and not pressed:
            pressed.append(signal.raise_signal(signal.SIGINT))
        batch = real(step, *arguments)
        seen.append((step, batch.tobytes()))
        return batch

    monkeypatch.setattr(loop, "batch_of", batch_of)
    with pytest.raises(KeyboardInterrupt):
        run(NAME, SMALL, data=data, fresh=True)
    again = run(NAME, SMALL, data=data)
    assert (again.loss_curve, again.series, file.read_bytes()) == (whole.loss_curve, whole.series, adapter)
    assert len({content for _, content in seen}) == 4 == len(dict(seen))
    assert load_record(SMALL, NAME, data).config["simulated"]


def test_the_data_sets_training_series_are_not_read(data, store):
    """Whatever they are, the adapter is the same."""
    first = run(NAME, SMALL, data=data)
    other = data.trajectories.copy()
    train = list(split_ids().train)
    other[train] = other[train[::-1]]
    second = run(NAME, SMALL, data=replace(data, trajectories=other), fresh=True)
    assert (first.loss_curve, first.adapter) == (second.loss_curve, second.adapter)
    assert first.fingerprint != second.fingerprint


def test_milestones_evaluate_the_whole_validation_split(data, store, monkeypatch):
    experiment = replace(EXPERIMENTS["best"], milestones=(1, 3, 99))
    monkeypatch.setitem(EXPERIMENTS, "best", experiment)
    profile = replace(
        SMALL, train={"best": {"steps": 4, "sequence_length": 64}},
        protocol={"best": {"constrained": False, "max_new_tokens": 4}}, evaluate_every=2,
    )  # fmt: skip
    seen, real = [], RunInProgress._entries
    monkeypatch.setattr(RunInProgress, "_entries", lambda self, kind, ids: seen.append(ids) or real(self, kind, ids))
    record = run("best", profile, data=data)
    assert [entry["step"] for entry in record.evaluations] == [0, 1, 3, 4]
    assert [sorted(ids) for ids in seen[:4]] == [sorted(split_ids().validation)] * 4
    assert set(record.series) <= set(split_ids().test)
    shape = Shape.of(backbone_config("tiny"))
    assert record.flops["evaluation"]["coursework"] <= estimate(experiment, profile, shape)["evaluation"]["coursework"]
