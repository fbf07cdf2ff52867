"""Checkpoints that are not what was written: damaged ones are passed over, another run's are refused."""

import dataclasses
import hashlib
import json
import re
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save

from m2lib.files import InputError
from m2lib.training import TrainLog, checkpoints, load_checkpoint, save_checkpoint, saved_step

CONFIG = {"steps": 9, "learning_rate": 0.1, "alpha": None, "decay": "cosine"}


def state(seed=0):
    """Two parameters, and an optimiser that has taken no step with them."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"a": (2, 3), "b": (4,)}
    parameters = {name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}
    return parameters, torch.optim.AdamW(parameters.values(), lr=0.1, weight_decay=0.0)


@pytest.fixture
def run(tmp_path):
    """The folder of a run that has checkpoints of steps 2 and 3, and its log and parameters at each."""
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


def restored(folder):
    """The log and the parameters that a run goes on from, and how AdamW counts and averages."""
    parameters, optimizer = state(seed=1)
    log = load_checkpoint(folder, CONFIG, parameters, optimizer)
    return log, parameters, {name: optimizer.state[parameter] for name, parameter in parameters.items()}


def forge(path, tensors=None, metadata=None, name="step-{step:06d}-{sha}.safetensors", step=3, changes=None):
    """Replace a checkpoint by a forged one, whose name has the right hash unless it says otherwise."""
    with safe_open(path, "pt") as file:
        kept = file.metadata()
    if changes is not None:
        kept["log"] = json.dumps(json.loads(kept["log"]) | changes)
    content = save(
        load(path.read_bytes()) if tensors is None else tensors, kept if metadata is None else metadata(kept)
    )
    path.unlink()
    forged = path.with_name(name.format(step=step, sha=hashlib.sha256(content).hexdigest()[:16]))
    forged.write_bytes(content)
    return forged


def test_what_is_restored_is_what_was_saved(run):
    folder, kept = run
    assert saved_step(folder) == 3
    log, parameters, adamw = restored(folder)
    assert log == kept[3][0]
    assert all(torch.equal(parameters[name], value) for name, value in kept[3][1].items())
    assert all(set(parts) == {"step", "exp_avg", "exp_avg_sq"} for parts in adamw.values())
    assert {parts["step"].item() for parts in adamw.values()} == {3}
    assert sorted(path.name[:11] for path in folder.iterdir()) == ["step-000002", "step-000003"]


def test_checkpoints_are_ordered_by_their_steps(tmp_path):
    for step in (999_950, 1_000_000):
        (tmp_path / f"step-{step:06d}-{'0' * 16}.safetensors").touch()
    assert [path.name[5:12] for path in checkpoints._files(tmp_path)] == ["999950-", "1000000"]


def test_the_log_has_the_fields_of_a_train_log():
    from m2lib.training.checkpoints import _Log

    assert list(_Log.__annotations__) == [field.name for field in dataclasses.fields(TrainLog)]


def without(field):
    return lambda kept: kept | {"log": json.dumps({k: v for k, v in json.loads(kept["log"]).items() if k != field})}


def spoilt(key, change):
    return lambda path: forge(path, tensors=(tensors := load(path.read_bytes())) | {key: change(tensors[key])})


def dropped(key):
    return lambda path: forge(path, tensors={k: v for k, v in load(path.read_bytes()).items() if k != key})


LOSSES = [0.5, 0.4, 0.3]
DAMAGE = {
    "no metadata": lambda path: forge(path, metadata=lambda kept: None),
    "no log": lambda path: forge(path, metadata=lambda kept: {"config": kept["config"]}),
    "no config": lambda path: forge(path, metadata=lambda kept: {"log": kept["log"]}),
    "log is a list": lambda path: forge(path, metadata=lambda kept: kept | {"log": "[]"}),
    "log is no JSON": lambda path: forge(path, metadata=lambda kept: kept | {"log": "{"}),
    "log is deep": lambda path: forge(path, metadata=lambda kept: kept | {"log": "[" * 100_000}),
    "config is a list": lambda path: forge(path, metadata=lambda kept: kept | {"config": "[1]"}),
    "config is deep": lambda path: forge(path, metadata=lambda kept: kept | {"config": "[" * 100_000}),
    **{f"no {field}": lambda path, field=field: forge(path, metadata=without(field)) for field in vars(TrainLog())},
    "an unknown field": lambda path: forge(path, changes={"x": 1}),
    "step is text": lambda path: forge(path, changes={"step": "3"}),
    "step is true": lambda path: forge(path, changes={"step": True}),
    "step is another": lambda path: forge(path, changes={"step": 2, "losses": LOSSES[:2]}),
    "name is another": lambda path: forge(path, step=4),
    "name has no step": lambda path: forge(path, name="step-three-{sha}.safetensors"),
    "name has no hash": lambda path: forge(path, name="step-000003.safetensors"),
    "losses are few": lambda path: forge(path, changes={"losses": LOSSES[:2]}),
    "losses are text": lambda path: forge(path, changes={"losses": ["1"] * 3}),
    "losses are null": lambda path: forge(path, changes={"losses": None}),
    "losses are nan": lambda path: forge(path, changes={"losses": [float("nan")] * 3}),
    "evaluations have no step": lambda path: forge(path, changes={"evaluations": [{"mae": 1}]}),
    "seconds are negative": lambda path: forge(path, changes={"seconds": -1}),
    "seconds are text": lambda path: forge(path, changes={"seconds": "1"}),
    "no value": dropped("a|value"),
    "no AdamW": dropped("a|exp_avg"),
    "no count": dropped("b|step"),
    "another tensor": lambda path: forge(path, tensors=load(path.read_bytes()) | {"a|evil": torch.zeros(2, 3)}),
    "a nameless tensor": lambda path: forge(path, tensors=load(path.read_bytes()) | {"evil": torch.zeros(2, 3)}),
    "AdamW of nothing": lambda path: forge(path, tensors=load(path.read_bytes()) | {"c|exp_avg": torch.zeros(2, 3)}),
    "value is whole": spoilt("a|value", lambda tensor: tensor.int()),
    "value is half": spoilt("a|value", lambda tensor: tensor.half()),
    "AdamW is double": spoilt("a|exp_avg", lambda tensor: tensor.double()),
    "AdamW is short": spoilt("a|exp_avg_sq", lambda tensor: tensor[:1].contiguous()),
    "count is another": spoilt("b|step", lambda tensor: tensor + 1),
    "count is long": spoilt("b|step", lambda tensor: tensor.repeat(2)),
    "empty": lambda path: path.write_bytes(b""),
    "empty, its name right": lambda path: (path.unlink(), path.with_name(
        f"step-000003-{hashlib.sha256(b'').hexdigest()[:16]}.safetensors").write_bytes(b"")),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_forged_checkpoint_counts_as_damaged(run, damage):
    folder, kept = run
    damage(kept[3][2])
    forged = next(path for path in folder.iterdir() if path != kept[2][2])
    assert saved_step(folder) == 2
    assert forged.exists()  # to ask changes nothing
    with pytest.warns(UserWarning, match=re.escape(f"checkpoint {forged} is damaged; using the one before it")):
        log, parameters, _ = restored(folder)
    assert log == kept[2][0]
    assert all(torch.equal(parameters[name], value) for name, value in kept[2][1].items())
    assert {path.name for path in folder.iterdir()} == {kept[2][2].name, forged.with_suffix(".damaged").name}


def renamed(path):
    return forge(path, tensors={key.replace("a|", "c|"): tensor for key, tensor in load(path.read_bytes()).items()})


def cut(path):
    tensors = load(path.read_bytes()).items()
    return forge(path, tensors={key: tensor[:1].clone() if tensor.ndim else tensor for key, tensor in tensors})


OTHERS = {
    "config": lambda path: forge(path, metadata=lambda kept: kept | {"config": json.dumps(CONFIG | {"steps": 8})}),
    "names": renamed,
    "nothing in it": lambda path: forge(path, tensors={}),
    "shapes": cut,
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_another_run_is_refused_in_one_line(run, change):
    folder, kept = run
    forged = change(kept[3][2])
    with pytest.raises(InputError, match=re.escape(f"checkpoint {forged} is another run's; delete {folder}")) as error:
        restored(folder)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_passed_over(run):
    folder, kept = run
    (folder / "step-000009-0123456789abcdef.safetensors").mkdir()
    (folder / "step-000008-0123456789abcdef.safetensors").symlink_to("nowhere")
    assert saved_step(folder) == 3
    log, parameters, _ = restored(folder)
    assert log == kept[3][0]
    _, optimizer = state()
    optimizer.state.clear()
    save_checkpoint(folder, log | {"step": 4}, CONFIG, parameters, optimizer)  # removes the oldest file, no folder
    assert sorted(path.name[:11] for path in folder.iterdir() if path.is_file()) == ["step-000003", "step-000004"]


def test_a_damaged_checkpoint_that_cannot_be_renamed_is_refused_in_one_line(run):
    folder, kept = run
    kept[3][2].write_bytes(b"x")
    kept[3][2].with_suffix(".damaged").mkdir()
    with pytest.raises(InputError, match="is damaged: remove it") as error:
        restored(folder)
    assert "\n" not in str(error.value)


def test_where_there_is_no_checkpoint_nothing_is_saved(run, tmp_path):
    assert saved_step(tmp_path / "nowhere") == 0
    assert restored(tmp_path / "nowhere")[0] is None
    folder, kept = run
    for _, _, path in list(kept.values())[1:]:
        path.write_bytes(path.read_bytes()[:-1])
    assert saved_step(folder) == 0
    with pytest.warns(UserWarning, match="is damaged"):
        assert restored(folder)[0] is None
    shutil.rmtree(folder)
    folder.write_text("a file", encoding="utf-8")
    assert saved_step(folder) == 0
