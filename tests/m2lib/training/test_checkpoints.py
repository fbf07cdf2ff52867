"""Checkpoints: what is restored is what was saved, and another run's are refused."""

import json
from types import SimpleNamespace

import pytest
import torch

from m2lib.errors import InputError
from m2lib.training import (
    TrainConfig,
    TrainLog,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
    saved_step,
)

RUN = {**vars(TrainConfig(steps=9, learning_rate=0.1, rank=2)), "windows": "0123456789abcdef"}


def parameters_and_optimizer(seed=0):
    """Return two parameters by name, and an optimiser that has taken no step with them."""
    generator = torch.Generator().manual_seed(seed)
    parameters = {
        "a": torch.nn.Parameter(torch.randn((2, 3), generator=generator)),
        "b": torch.nn.Parameter(torch.randn((4,), generator=generator)),
    }
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.1, weight_decay=0.0)
    return parameters, optimizer


@pytest.fixture
def run(tmp_path):
    """Take three steps of a run, with a checkpoint after each.

    Return the `folder` of its checkpoints, and what the last one holds: its `log` and the `values`
    of the parameters.
    """
    folder = tmp_path / "run"
    parameters, optimizer = parameters_and_optimizer()
    log = TrainLog()
    for step in (1, 2, 3):
        for parameter in parameters.values():
            parameter.grad = torch.full_like(parameter, step)
        optimizer.step()

        log.step = step
        log.losses.append(round(1 / 3 / step, 6))
        # JSON has to give back what it has no number for, too.
        log.evaluations.append({"step": step, "mae": 1 / 7, "none": None, "inf": float("inf")})
        log.seconds += 0.1
        save_checkpoint(folder, vars(log), RUN, parameters, optimizer)

    return SimpleNamespace(
        folder=folder,
        log=json.loads(json.dumps(vars(log))),
        values={name: parameter.detach().clone() for name, parameter in parameters.items()},
    )


def restored(folder, run=RUN):
    """Return the log and the parameters that a run goes on from, and AdamW's state of each."""
    parameters, optimizer = parameters_and_optimizer(seed=1)  # other values than those saved
    log = load_checkpoint(folder, run, parameters, optimizer)
    states = {name: optimizer.state[parameter] for name, parameter in parameters.items()}
    return log, parameters, states


def test_what_is_restored_is_what_was_saved(run):
    log, parameters, states = restored(run.folder)

    assert saved_step(run.folder) == 3
    assert log == run.log
    for name, value in run.values.items():
        assert torch.equal(parameters[name], value)
        assert set(states[name]) == {"step", "exp_avg", "exp_avg_sq"}
        assert states[name]["step"].item() == 3


def test_only_the_newest_checkpoint_is_kept(run):
    assert [path.name for path in run.folder.iterdir()] == ["step-000003.safetensors"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(run, monkeypatch):
    def disk_is_full(path, content):
        raise InputError("the disk is full")

    monkeypatch.setattr(checkpoints, "write_atomic", disk_is_full)
    parameters, optimizer = parameters_and_optimizer()

    with pytest.raises(InputError, match="the disk is full"):
        save_checkpoint(run.folder, {"step": 4}, RUN, parameters, optimizer)

    assert saved_step(run.folder) == 3


def test_a_file_of_an_older_version_is_gone_on_from(run):
    (path,) = run.folder.iterdir()
    path.rename(path.with_stem(f"{path.stem}-524337a691fe7019"))  # its name ended in a hash

    log, _, _ = restored(run.folder)

    assert saved_step(run.folder) == 3
    assert log == run.log


def test_the_newest_checkpoint_has_the_largest_step(tmp_path):
    parameters, optimizer = parameters_and_optimizer()
    for step in (999_950, 1_000_000):  # of which a list in alphabetical order has the second first
        save_checkpoint(tmp_path, {"step": step}, RUN, parameters, optimizer)
        assert saved_step(tmp_path) == step
        assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_of_another_run_is_refused_in_one_line(run, refusal):
    (path,) = run.folder.iterdir()
    message = f"checkpoint {path} is another run's, which differs in steps; delete {run.folder}"
    assert message in refusal(restored, run.folder, RUN | {"steps": 8})


def test_a_checkpoint_of_other_windows_is_refused(run):
    with pytest.raises(InputError, match="another run's, which differs in seed, windows;"):
        restored(run.folder, RUN | {"seed": 1, "windows": "fedcba9876543210"})


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"a": torch.nn.Parameter(torch.ones(2, 3))}, id="one layer less"),
        pytest.param(
            {"a": torch.nn.Parameter(torch.ones(3, 2)), "b": torch.nn.Parameter(torch.ones(4))},
            id="another width",
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_and_nothing_is_loaded(run, others):
    optimizer = torch.optim.AdamW(others.values(), lr=0.1)
    with pytest.raises(InputError, match=r"is of a model with other layers; delete .*run to start"):
        load_checkpoint(run.folder, RUN, others, optimizer)
    assert all((parameter == 1).all() for parameter in others.values())


def save_without(folder, name):
    """Write the checkpoint of a version that did not know of one thing in RUN."""
    parameters, optimizer = parameters_and_optimizer()
    older = {key: value for key, value in RUN.items() if key != name}
    save_checkpoint(folder, vars(TrainLog(step=1)), older, parameters, optimizer)


def test_a_checkpoint_that_does_not_know_its_windows_is_gone_on_from(tmp_path):
    save_without(tmp_path, "windows")
    log, _, _ = restored(tmp_path)
    assert log["step"] == 1


def test_a_setting_that_is_newer_than_the_checkpoint_has_its_default(tmp_path):
    save_without(tmp_path, "units_weight")
    log, _, _ = restored(tmp_path)
    assert log["step"] == 1

    with pytest.raises(InputError, match="differs in units_weight;"):
        restored(tmp_path, RUN | {"units_weight": 2.0})


def test_a_setting_that_only_the_checkpoint_has_is_a_difference(tmp_path):
    parameters, optimizer = parameters_and_optimizer()
    newer = RUN | {"dropout": 0.1}
    save_checkpoint(tmp_path, vars(TrainLog(step=1)), newer, parameters, optimizer)
    with pytest.raises(InputError, match="differs in dropout;"):
        restored(tmp_path)


def test_of_two_checkpoints_the_newer_is_gone_on_from(run):
    """A run may have been killed after it wrote the one, before it deleted the other."""
    (run.folder / "step-000002.safetensors").write_bytes(b"the older one")
    log, _, _ = restored(run.folder)
    assert log == run.log


def test_a_damaged_checkpoint_is_refused_in_one_line(run, refusal):
    (path,) = run.folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    assert f"checkpoint {path} is damaged (" in refusal(restored, run.folder)


def test_where_there_is_no_checkpoint_nothing_is_restored(tmp_path):
    log, _, _ = restored(tmp_path / "nowhere")
    assert log is None
    assert saved_step(tmp_path / "nowhere") == 0
