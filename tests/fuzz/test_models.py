"""Model folders that were altered at random: each is refused in one line, or computed as transformers computes it."""

import builtins
import json
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from m2lib.files import InputError
from m2lib.forecasting import Reference
from m2lib.forecasting.engine import Engine
from m2lib.model import backbone_config, load_backbone, text_to_ids

pytestmark = pytest.mark.fuzz
EXAMPLES = settings(max_examples=400, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
PROMPTS = [text_to_ids("3,4;" * 20), text_to_ids("952,1034;948,1029;")]
FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "generation_config.json")
HOSTILE = {
    "auto_map": {name: "evil.Evil" for name in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")},
    "_attn_implementation": "kernels-community/flash-attn3",
    "model_type": "evil",
    "tokenizer_class": "evil.Evil",
    "custom_generate": "evil/evil",
    "transformers_weights": "../evil.safetensors",
    "rope_scaling": {"type": "dynamic", "factor": 2.0},
    "use_sliding_window": True,
    "hidden_act": "gelu",
    "head_dim": 32,
    "quantization_config": {"quant_method": "evil"},
}
SETTINGS = (
    *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps"),
    *("num_key_value_heads", "max_position_embeddings", "rope_parameters", "rope_scaling", "rope_theta", "layer_types"),
    *(
        "sliding_window",
        "attention_bias",
        "pad_token_id",
        "eos_token_id",
        "tie_word_embeddings",
        "partial_rotary_factor",
    ),
    *("pad_token", "eos_token", "added_tokens_decoder", "per_layer_config", "original_max_position_embeddings"),
)
ROPE = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["default", "linear", "llama3", "yarn", "dynamic", "longrope", "evil"]),
        "rope_type": st.sampled_from(["default", "linear", "llama3", "yarn", "proportional"]),
        **{
            name: st.one_of(st.sampled_from([None, 0, 1, 8, 16, 4.0, -1.0, 1e300, "1"]), st.floats())
            for name in ("factor", "low_freq_factor", "high_freq_factor", "attention_factor", "rope_theta", "beta_fast")
        },
        "original_max_position_embeddings": st.sampled_from([None, 1, 16, 10**9, 16.5]),
    },
)
LEAVES = st.none() | st.booleans() | st.integers() | st.text()
NESTED = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
ODD = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 2, -1, 8, 16, 64, 10**6, 10**9, 10**30, "", "silu", "x" * 5000, "a\nb"]),
    st.floats(),
    st.sampled_from([[], {}, [[]], ["full_attention"], ["full_attention", "sliding_attention"], {"content": "~"}]),
    ROPE,
    NESTED,
)


@st.composite
def damaged(draw, content):
    """Bytes that were cut, flipped, lengthened or replaced."""
    place = draw(st.integers(0, max(0, len(content) - 1)))
    kind = draw(st.sampled_from(["cut", "flip", "insert", "replace"]))
    some = draw(st.binary(max_size=64))
    if kind == "flip":
        return content[:place] + bytes(255 - byte for byte in content[place : place + 4]) + content[place + 4 :]
    return {"cut": content[:place], "insert": content[:place] + some + content[place:], "replace": some}[kind]


def alter_settings(draw, folder):
    """Change a setting or two, in a way that a person or an attacker might."""
    path = folder / draw(st.sampled_from(["config.json", "config.json", "tokenizer_config.json"]))
    stored = json.loads(path.read_text(encoding="utf-8"))
    for _ in range(draw(st.integers(1, 2))):
        kind, key = draw(st.sampled_from(["hostile", "odd", "odd", "rope", "drop", "llama"])), None
        if kind == "hostile":
            key = draw(st.sampled_from(sorted(HOSTILE)))
            stored[key] = HOSTILE[key]
        elif kind == "odd":
            key = draw(st.sampled_from(SETTINGS))
            stored[key] = draw(ODD)
        elif kind == "rope":
            stored[draw(st.sampled_from(["rope_parameters", "rope_scaling"]))] = draw(ROPE)
        elif kind == "drop" and stored:
            del stored[draw(st.sampled_from(sorted(stored)))]
        elif kind == "llama":
            stored["model_type"] = "llama"
    path.write_text(json.dumps(stored), encoding="utf-8")


def alter_bytes(draw, folder):
    """Damage a file."""
    path = folder / draw(st.sampled_from(FILES))
    path.write_bytes(draw(damaged(path.read_bytes())))


def alter_header(draw, folder):
    """Damage the JSON at the beginning of the weights, its length corrected."""
    path = folder / "model.safetensors"
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = draw(damaged(content[8:end]))
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])


def alter_tensors(draw, folder):
    """Drop, rename, cast or reshape some weights."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = draw(st.sampled_from(sorted(tensors)))
    kind = draw(st.sampled_from(["drop", "rename", "cast", "cut", "flatten", "nan", "twice"]))
    tensor = tensors.pop(name)
    if kind == "rename":
        name = draw(st.text(max_size=20))
    elif kind == "cast":
        tensor = tensor.to(
            draw(st.sampled_from([torch.int8, torch.bool, torch.float16, torch.float64, torch.float8_e5m2]))
        )
    elif kind == "nan":
        tensor = tensor * torch.nan
    elif kind in ("cut", "flatten"):
        tensor = tensor[1:] if kind == "cut" else tensor.flatten()
    elif kind == "twice":
        save_file({name: tensor}, folder / "more.safetensors")
    if kind != "drop":
        tensors[name] = tensor.contiguous()
    save_file(tensors, path)


def alter_files(draw, folder):
    """Put something else in the place of a file."""
    path = folder / draw(st.sampled_from(FILES))
    kind = draw(st.sampled_from(["gone", "folder", "dangling", "loop", "other", "adapter"]))
    if kind == "adapter":
        (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
        return
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind in ("dangling", "loop"):
        path.symlink_to("nowhere" if kind == "dangling" else path.name)
    elif kind == "other":
        others = [name for name in FILES if (folder / name).is_file()]
        shutil.copyfile(folder / draw(st.sampled_from(others)), path)


ALTERATIONS = (alter_settings, alter_settings, alter_bytes, alter_header, alter_tensors, alter_files)


@pytest.fixture(scope="module")
def original(tmp_path_factory, save_folder):
    folder = save_folder(tmp_path_factory.mktemp("fuzz") / "model")
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"pad_token": "<|endoftext|>", "model_max_length": 10**30}), encoding="utf-8"
    )
    return folder


@pytest.fixture
def watched(monkeypatch):
    """Whatever asks a question is answered yes; that, and any reach for the network, is noted."""
    seen = []
    monkeypatch.setattr(builtins, "input", lambda *_: seen.append("input") or "y")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: seen.append("network"))
    return seen


def tried(call, *arguments, **settings):
    """What a call returns, or None where it is refused in one line."""
    try:
        return call(*arguments, **settings)
    except InputError as error:
        message = str(error)
    assert message.strip()
    assert len(message.splitlines()) == 1
    return None


def outcome(folder):
    """`refused`, or `loaded`; a model that loads is computed as transformers computes it."""
    config = tried(backbone_config, str(folder))
    backbone = tried(load_backbone, str(folder), device="cpu", dtype="float32")
    if backbone is None:
        return "refused"
    assert config is not None
    with torch.inference_mode():
        simple, fast = Reference(backbone.model, PROMPTS), Engine(backbone.model, PROMPTS)
        for step in range(2):
            assert torch.allclose(fast.logits, simple.logits, atol=1e-4, rtol=1e-4, equal_nan=True)
            for engine in (simple, fast):
                engine.step(torch.tensor([step + 1, 12 - step]))
    return "loaded"


def everything(folder):
    return {path.relative_to(folder): path.lstat().st_mtime_ns for path in sorted(folder.rglob("*"))}


@EXAMPLES
@given(data=st.data())
def test_an_altered_folder_is_refused_or_computed(original, watched, data):
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(original, Path(scratch) / "model")
        alter = data.draw(st.sampled_from(ALTERATIONS))
        alter(data.draw, folder)
        before = everything(Path(scratch))
        event(f"{alter.__name__}: {outcome(folder)}")
        assert everything(Path(scratch)) == before
    assert watched == []
    assert not (original / "ran").exists()


@settings(EXAMPLES, max_examples=200)
@given(name=st.text() | st.text(alphabet="~/.x\udcff\n", max_size=8) | st.integers(1, 6000).map(lambda n: "a/" * n))
def test_an_odd_name_is_refused(name, watched):
    assert [tried(read, name) for read in (backbone_config, load_backbone)] == [None, None]
    assert watched == []


@settings(EXAMPLES, max_examples=100)
@given(device=st.text(min_size=1) | st.sampled_from(["meta", "cuda", "cuda:7", "mps", "xla", "vulkan", "cpu:0", "CPU"]))
def test_an_odd_device_is_refused_or_used(device):
    backbone = tried(load_backbone, "tiny", device=device)
    assert backbone is None or backbone.device.type == device.split(":")[0]
