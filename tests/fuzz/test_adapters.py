"""Adapters that were altered at random: each is refused in one line and leaves the model alone, or computes numbers."""

import copy
import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from m2lib.files import InputError
from m2lib.model import inject_lora, load_adapter, lora_layers, save_adapter, text_to_ids

pytestmark = pytest.mark.fuzz
EXAMPLES = settings(max_examples=500, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
IDS = torch.tensor([text_to_ids("952,1034;948,1029;")])
CONFIG, *TENSORS = FILES = ("adapter_config.json", "adapter_model.safetensors", "head_bias.safetensors")
SETTINGS = (
    *("r", "lora_alpha", "target_modules", "peft_type", "use_rslora", "use_dora", "bias", "modules_to_save"),
    *("rank_pattern", "alpha_pattern", "layers_to_transform", "base_model_name_or_path", "auto_mapping", "task_type"),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ODD = st.one_of(
    st.sampled_from(
        [0, 1, 2, 4, -3, 10**9, 10**30, "3", 3.5, True, ["q_proj"], ["lm_head"], ["base"], "q_proj", ["a\nb"]]
    ),
    st.lists(st.sampled_from(["q_proj", "v_proj", "k_proj", "down_proj", "lm_head", "model", "", "norm"])),
    st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
)


def alter_settings(draw, folder):
    """Change or drop a setting or two."""
    stored = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(SETTINGS))
        if draw(st.booleans()):
            stored[name] = draw(ODD)
        else:
            stored.pop(name, None)
    (folder / CONFIG).write_text(json.dumps(stored), encoding="utf-8")


def alter_bytes(draw, folder):
    """Cut, flip, lengthen or replace a file, or the header of one of tensors."""
    path = folder / draw(st.sampled_from(FILES))
    content = path.read_bytes()
    end = len(content)
    if path.name != CONFIG and draw(st.booleans()):
        end = 8 + int.from_bytes(content[:8], "little")
    start = 0 if end == len(content) else 8
    part, rest = content[start:end], content[end:]
    place, some = draw(st.integers(0, len(part))), draw(st.binary(max_size=40))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "replace"]))
    if kind == "flip":
        part = part[:place] + bytes(255 - byte for byte in part[place : place + 3]) + part[place + 3 :]
    else:
        part = {"cut": part[:place], "insert": part[:place] + some + part[place:], "replace": some}[kind]
    path.write_bytes((len(part).to_bytes(8, "little") if start else b"") + part + rest)


def alter_tensors(draw, folder):
    """Drop, rename, cast, reshape or spoil a tensor."""
    path = folder / draw(st.sampled_from(TENSORS))
    tensors = load_file(path)
    name = draw(st.sampled_from(sorted(tensors)))
    tensor = tensors.pop(name)
    kind = draw(st.sampled_from(["drop", "rename", "cast", "cut", "flatten", "spoil", "more"]))
    if kind == "rename":
        name = draw(
            st.text(max_size=20) | st.sampled_from(["bias", "lm_head.bias", name + ".x", "base_model.model." + name])
        )
    elif kind == "cast":
        dtypes = torch.int8, torch.int64, torch.bool, torch.float16, torch.bfloat16, torch.float64, torch.float8_e5m2
        tensor = tensor.to(draw(st.sampled_from(dtypes)))
    elif kind == "spoil":
        tensor.view(-1)[draw(st.integers(0, tensor.numel() - 1))] = draw(st.floats(width=32))
    elif kind in ("cut", "flatten"):
        tensor = tensor[1:] if kind == "cut" else tensor.flatten()
    elif kind == "more":
        tensors[draw(st.text(max_size=9))] = torch.zeros(draw(st.lists(st.integers(0, 3), max_size=3)))
    if kind != "drop":
        tensors[name] = tensor.contiguous()
    save_file(tensors, path)


def alter_files(draw, folder):
    """Put something else in the place of a file."""
    path = folder / draw(st.sampled_from(FILES))
    path.unlink()
    kind = draw(st.sampled_from(["gone", "folder", "dangling", "loop", "other"]))
    if kind == "folder":
        path.mkdir()
    elif kind in ("dangling", "loop"):
        path.symlink_to("nowhere" if kind == "dangling" else path.name)
    elif kind == "other":
        shutil.copyfile(folder / draw(st.sampled_from([name for name in FILES if name != path.name])), path)


ALTERATIONS = (alter_settings, alter_bytes, alter_tensors, alter_files)


@pytest.fixture(scope="module")
def original(tmp_path_factory, tiny):
    model, generator = inject_lora(copy.deepcopy(tiny.model), 3, 6.0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.normal_(generator=generator)
    save_adapter(model, tmp_path_factory.mktemp("fuzz") / "adapter", "tiny")
    return next(tmp_path_factory.getbasetemp().glob("fuzz*/adapter"))


@EXAMPLES
@given(data=st.data())
def test_an_altered_adapter_is_refused_or_computes(original, tiny, data):
    model = copy.deepcopy(tiny.model)
    names = [name for name, _ in model.named_parameters()]
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(original, Path(scratch) / "adapter")
        alter = data.draw(st.sampled_from(ALTERATIONS))
        alter(data.draw, folder)
        before = {path: path.lstat().st_mtime_ns for path in Path(scratch).rglob("*")}
        message = None
        try:
            load_adapter(model, folder)
        except InputError as error:
            message = str(error)
        assert {path: path.lstat().st_mtime_ns for path in Path(scratch).rglob("*")} == before
    event(f"{alter.__name__}: {'loaded' if message is None else 'refused'}")
    if message is None:
        assert lora_layers(model)
        with torch.inference_mode():
            model(IDS)
        return
    assert len(message.splitlines()) == 1
    assert str(folder) in message
    assert [name for name, _ in model.named_parameters()] == names
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), tiny.model.parameters(), strict=True))
