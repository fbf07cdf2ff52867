"""Checkpoints that are not what was written: damaged ones are passed over, another run's are refused."""

import json
import re

import pytest
import torch
from safetensors.torch import load, save

from m2lib.files import InputError
from m2lib.training import TrainLog, load_checkpoint, save_checkpoint, saved_step

CONFIG = {"steps": 9, "learning_rate": 0.1, "alpha": None, "decay": "cosine"}


def state(seed=0, names="ab"):
    """Two parameters, and an optimiser that has taken no step with them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = zip(names, ((2, 3), (4,)), strict=True)
    parameters = {name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes}
    return parameters, torch.optim.AdamW(parameters.values(), lr=0.1, weight_decay=0.0)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has checkpoints of steps 2 and 3, and its log, parameters and file at each."""
    folder, (parameters, optimizer) = tmp_path / "run", state()
    log, kept = TrainLog(), {}
    for step in (1, 2, 3):
        for parameter in parameters.values():
            parameter.grad = torch.full_like(parameter, step)
        optimizer.step()
        log.step = step
        log.losses.append(round(1 / 3 / step, 6))
        log.evaluations.append({"step": step, "mae": 1 / 7, "unknown": None, "nan": float("inf")})
        log.seconds += 0.1
        path = save_checkpoint(folder, vars(log), CONFIG, parameters, optimizer)
        kept[step] = json.loads(json.dumps(vars(log))), {k: v.detach().clone() for k, v in parameters.items()}, path
    return folder, kept


def restored(folder, config=CONFIG, **more):
    """The log and the parameters that a run goes on from, and how AdamW counts and averages."""
    parameters, optimizer = state(seed=1, **more)
    log = load_checkpoint(folder, config, parameters, optimizer)
    return log, parameters, {name: optimizer.state[parameter] for name, parameter in parameters.items()}


def test_what_is_restored_is_what_was_saved(run):
    folder, kept = run
    assert saved_step(folder) == 3
    log, parameters, adamw = restored(folder)
    assert log == kept[3][0]
    assert all(torch.equal(parameters[name], value) for name, value in kept[3][1].items())
    assert all(set(parts) == {"step", "exp_avg", "exp_avg_sq"} for parts in adamw.values())
    assert {parts["step"].item() for parts in adamw.values()} == {3}
    assert sorted(path.name[:11] for path in folder.iterdir()) == ["step-000002", "step-000003"]


DAMAGE = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:-1],
    "a bit turned": lambda content: content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
    "another file": lambda content: save(load(content), {"log": "{}", "config": "{}"}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(run, damage):
    folder, kept = run
    path = kept[3][2]
    path.write_bytes(damage(path.read_bytes()))
    assert saved_step(folder) == 2
    assert path.exists()  # to ask changes nothing
    with pytest.warns(UserWarning, match=re.escape(f"checkpoint {path} is damaged; using the one before it")):
        log, parameters, _ = restored(folder)
    assert log == kept[2][0]
    assert all(torch.equal(parameters[name], value) for name, value in kept[2][1].items())
    assert {path.name for path in folder.iterdir()} == {kept[2][2].name, path.with_suffix(".damaged").name}


@pytest.mark.parametrize("other", [{"config": CONFIG | {"steps": 8}}, {"names": "ac"}, {"names": "ba"}])
def test_a_checkpoint_of_another_run_is_refused_in_one_line(run, other):
    folder, kept = run
    with pytest.raises(InputError, match=re.escape(f"checkpoint {kept[3][2]} is another run's; delete {folder}")):
        restored(folder, **other)


def test_where_there_is_no_checkpoint_nothing_is_saved(run, tmp_path):
    assert saved_step(tmp_path / "nowhere") == 0
    assert restored(tmp_path / "nowhere")[0] is None
    folder, kept = run
    for step in (2, 3):
        kept[step][2].write_bytes(b"")
    assert saved_step(folder) == 0
    with pytest.warns(UserWarning, match="is damaged"):
        assert restored(folder)[0] is None
