"""Checkpoints: what is restored is what was saved, and another run's are refused."""

import json
import re

import pytest
import torch

from m2lib.files import InputError
from m2lib.training import TrainConfig, TrainLog, load_checkpoint, save_checkpoint, saved_step

CONFIG = {"steps": 9, "learning_rate": 0.1, "alpha": None, "decay": "cosine"}


def state(seed=0):
    """Two parameters, and an optimiser that has taken no step with them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (("a", (2, 3)), ("b", (4,)))
    parameters = {
        name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes
    }
    return parameters, torch.optim.AdamW(parameters.values(), lr=0.1, weight_decay=0.0)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has taken three steps, and its log and parameters after each."""
    folder, (parameters, optimizer) = tmp_path / "run", state()
    log = TrainLog()
    kept = {}
    for step in (1, 2, 3):
        for parameter in parameters.values():
            parameter.grad = torch.full_like(parameter, step)
        optimizer.step()
        log.step = step
        log.losses.append(round(1 / 3 / step, 6))
        log.evaluations.append({"step": step, "mae": 1 / 7, "unknown": None, "nan": float("inf")})
        log.seconds += 0.1
        save_checkpoint(folder, vars(log), CONFIG, parameters, optimizer)
        kept[step] = (
            json.loads(json.dumps(vars(log))),
            {k: v.detach().clone() for k, v in parameters.items()},
        )
    return folder, kept


def restored(folder, config=CONFIG):
    """The log and the parameters that a run goes on from, and how AdamW counts and averages."""
    parameters, optimizer = state(seed=1)
    log = load_checkpoint(folder, config, parameters, optimizer)
    return (
        log,
        parameters,
        {name: optimizer.state[parameter] for name, parameter in parameters.items()},
    )


def test_what_is_restored_is_what_was_saved(run):
    folder, kept = run
    assert saved_step(folder) == 3
    log, parameters, adamw = restored(folder)
    assert log == kept[3][0]
    assert all(torch.equal(parameters[name], value) for name, value in kept[3][1].items())
    assert all(set(parts) == {"step", "exp_avg", "exp_avg_sq"} for parts in adamw.values())
    assert {parts["step"].item() for parts in adamw.values()} == {3}
    assert [path.name for path in folder.iterdir()] == ["step-000003.safetensors"]


def test_a_file_of_an_older_version_is_gone_on_from(run):
    """Its name ended in a hash."""
    folder, kept = run
    path = next(folder.iterdir())
    path.rename(path.with_stem(f"{path.stem}-524337a691fe7019"))
    assert saved_step(folder) == 3
    assert restored(folder)[0] == kept[3][0]


def test_the_newest_checkpoint_has_the_largest_step(tmp_path):
    parameters, optimizer = state()
    for step in (999_950, 1_000_000):  # of which a list in alphabetical order has the second first
        save_checkpoint(tmp_path, {"step": step}, CONFIG, parameters, optimizer)
        assert saved_step(tmp_path) == step
        assert len(list(tmp_path.iterdir())) == 1


def test_a_checkpoint_of_another_run_is_refused_in_one_line(run):
    folder, _ = run
    file = next(folder.iterdir())
    with pytest.raises(
        InputError, match=re.escape(f"checkpoint {file} is another run's; delete {folder}")
    ):
        restored(folder, CONFIG | {"steps": 8})


def test_a_setting_that_is_newer_than_the_checkpoint_has_its_default(tmp_path):
    parameters, optimizer = state()
    config = vars(TrainConfig(steps=7, learning_rate=0.1, rank=2))
    older = {name: value for name, value in config.items() if name != "units_weight"}
    save_checkpoint(tmp_path, vars(TrainLog(step=1)), older, parameters, optimizer)
    assert restored(tmp_path, config)[0]["step"] == 1
    with pytest.raises(InputError, match="is another run's"):
        restored(tmp_path, config | {"units_weight": 2.0})


def test_a_damaged_checkpoint_is_refused_in_one_line(run):
    folder, _ = run
    file = next(folder.iterdir())
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=re.escape(f"checkpoint {file} is damaged (")):
        restored(folder)


def test_where_there_is_no_checkpoint_nothing_is_restored(tmp_path):
    assert saved_step(tmp_path / "nowhere") == 0
    assert restored(tmp_path / "nowhere")[0] is None
