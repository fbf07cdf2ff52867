"""Checkpoints that were altered at random, their names made right again: each is passed over, refused, or restored."""

import copy
import hashlib
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save

from m2lib.files import InputError
from m2lib.training import TrainConfig, saved_step, train

pytestmark = pytest.mark.fuzz
EXAMPLES = settings(max_examples=500, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
CONFIG = TrainConfig(steps=3, learning_rate=1e-2, rank=2, sequence_length=8)
WINDOWS = np.arange(32, dtype=np.int64).reshape(4, 8) % 12 + 1
FIELDS = ("step", "losses", "evaluations", "seconds", "evaluation_seconds", "more")
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ODD = st.one_of(
    st.sampled_from([0, 1, 2, 3, 4, -1, "2", 2.5, True, [], [0.5] * 2, ["0.5"] * 2, [{}], [{"step": 1}], 10**30]),
    st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
)


def parts(path):
    with safe_open(path, "pt") as file:
        return load_file(path), dict(file.metadata())


def alter_log(draw, path):
    """Change or drop a field of the log, or of the config."""
    tensors, metadata = parts(path)
    kind = draw(st.sampled_from(["log", "log", "config"]))
    stored = json.loads(metadata[kind])
    field = draw(st.sampled_from(FIELDS if kind == "log" else sorted(stored)))
    if draw(st.booleans()):
        stored[field] = draw(ODD)
    else:
        stored.pop(field, None)
    return save(tensors, metadata | {kind: json.dumps(stored)})


def alter_metadata(draw, path):
    """Drop the log or the config, or replace it by any text."""
    tensors, metadata = parts(path)
    field = draw(st.sampled_from(["log", "config"]))
    metadata[field] = draw(st.text() | st.just("[" * 100_000) | ODD.map(json.dumps))
    if draw(st.booleans()):
        del metadata[field]
    return save(tensors, metadata or None)


def alter_tensors(draw, path):
    """Drop, rename, cast, reshape or spoil a tensor."""
    tensors, metadata = parts(path)
    name = draw(st.sampled_from(sorted(tensors)))
    tensor = tensors.pop(name)
    kind = draw(st.sampled_from(["drop", "rename", "cast", "flatten", "spoil", "all gone"]))
    if kind == "rename":
        name = draw(
            st.text(max_size=9) | st.sampled_from(["|", "|value", "a|b|c", name + "|x", name.partition("|")[0]])
        )
    elif kind == "cast":
        tensor = tensor.to(draw(st.sampled_from([torch.int64, torch.bool, torch.float16, torch.float64])))
    elif kind == "flatten":
        tensor = tensor.flatten()
    elif kind == "spoil":
        tensor.view(-1)[0] = draw(st.floats(width=32))
    elif kind == "all gone":
        tensors.clear()
    if kind not in ("drop", "all gone"):
        tensors[name] = tensor.contiguous()
    return save(tensors, metadata)


def alter_bytes(draw, path):
    """Cut, flip, lengthen or replace it all, or its header."""
    content = path.read_bytes()
    start, end = draw(st.sampled_from([(0, len(content)), (8, 8 + int.from_bytes(content[:8], "little"))]))
    part, rest = content[start:end], content[end:]
    place, some = draw(st.integers(0, len(part))), draw(st.binary(max_size=40))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "replace"]))
    if kind == "flip":
        part = part[:place] + bytes(255 - byte for byte in part[place : place + 3]) + part[place + 3 :]
    else:
        part = {"cut": part[:place], "insert": part[:place] + some + part[place:], "replace": some}[kind]
    return (len(part).to_bytes(8, "little") if start else b"") + part + rest


ALTERATIONS = (alter_log, alter_metadata, alter_tensors, alter_bytes)


class Stopped(Exception):
    pass


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny):
    """The checkpoints of steps 1 and 2 of a run that was stopped then."""
    folder, calls = tmp_path_factory.mktemp("fuzz") / "run", iter(range(10))

    def stop():
        if next(calls) == 3:
            raise Stopped
        return {"mae": 1 / 3}

    model = copy.deepcopy(tiny.model)
    with pytest.raises(Stopped):
        train(
            model, WINDOWS, CONFIG, folder, checkpoint_every=1, evaluate=stop, evaluate_after=range(99), progress=False
        )
    assert [path.name[:11] for path in sorted(folder.iterdir())] == ["step-000001", "step-000002"]
    return folder


@EXAMPLES
@given(data=st.data())
def test_an_altered_checkpoint_is_passed_over_refused_or_restored(original, tiny, data):
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(original, Path(scratch) / "run")
        path = max(folder.iterdir())
        alter = data.draw(st.sampled_from(ALTERATIONS))
        content = alter(data.draw, path)
        path.unlink()
        step, sha256 = data.draw(st.sampled_from([2, 2, 2, 2, 3])), hashlib.sha256(content).hexdigest()[:16]
        path.with_name(f"step-{step:06d}-{sha256}.safetensors").write_bytes(content)
        saved, message, log = saved_step(folder), None, None
        assert len(list(folder.iterdir())) == 2
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                log = train(copy.deepcopy(tiny.model), WINDOWS, CONFIG, folder, evaluate=dict, progress=False)
            except InputError as error:
                message = str(error)
        passed = [str(warning.message) for warning in caught if "damaged" in str(warning.message)]
        assert len(passed) <= 1
        assert bool(passed) == (saved == 1)
        assert len(list(folder.glob("*.damaged"))) == len(passed)
        event(f"{alter.__name__}: {'passed over' if passed else 'refused' if message else 'restored'}")
        if message:
            assert len(message.splitlines()) == 1
        else:
            assert (log.step, len(log.losses)) == (3, 3)
            assert saved_step(folder) == 3
        assert [path.name for path in Path(scratch).iterdir()] == ["run"]
