"""Which models are loaded, under which name, and which are refused, in one line."""

import builtins
import copy
import json
import re
import socket

import pytest
import torch
from safetensors.torch import load, save_file

from m2lib.model.backbones import (
    CONFIGS,
    backbone_config,
    load_backbone,
    meta_model,
    shuffle_weights,
    weight_hash,
)
from m2lib.model.catalogue import BACKBONES

IDS = torch.tensor([[2, 3, 11, 4, 12]])
"""The text `12,3;`."""


def change_json(path, **changes):
    """Change settings in a JSON file, which is written if it is not there yet."""
    settings = {}
    if path.exists():
        settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | changes), encoding="utf-8")


def load_in_float32(folder):
    return load_backbone(str(folder), device="cpu", dtype="float32")


def test_smollm2_is_loaded_to_forecast_on_the_cpu(smollm2):
    assert smollm2.dtype == "float32"
    assert smollm2.device.type == "cpu"
    assert not smollm2.model.training


def test_smollm2_is_known_by_the_hash_of_its_gguf():
    assert weight_hash("smollm2-135m") == "b179c9523d0e6a0f"


def test_smollm2s_committed_config_is_that_of_its_weights():
    # In bfloat16 all weights, with the full vocabulary, take half of the memory.
    full = load_backbone("smollm2-135m", device="cpu", dtype="bfloat16", reduce=False).model
    committed = backbone_config("smollm2-135m")

    for setting in (
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "rope_parameters",
        "vocab_size",
    ):
        assert getattr(committed, setting) == getattr(full.config, setting), setting
    # A GGUF stores this one in float32.
    assert full.config.rms_norm_eps == pytest.approx(committed.rms_norm_eps)

    shapes = {name: parameter.shape for name, parameter in full.named_parameters()}
    by_config = meta_model(committed).named_parameters()
    assert shapes == {name: parameter.shape for name, parameter in by_config}
    assert "lm_head.weight" not in shapes  # it is tied to the embedding


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_a_config(name):
    assert (CONFIGS / f"{name}.json").is_file(), "it needs a shape, see CONTRIBUTING.md"
    assert backbone_config(name).num_hidden_layers


@pytest.mark.parametrize("name", [name for name, spec in BACKBONES.items() if spec.hub_id])
def test_a_config_has_about_as_many_weights_as_the_name_says(name):
    """A shape that was copied from another backbone would make the accountant's counts wrong."""
    number, unit = re.search(r"([\d.]+)([mb])$", name).groups()
    by_name = float(number) * {"m": 1e6, "b": 1e9}[unit]
    model = meta_model(backbone_config(name))
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == pytest.approx(by_name, rel=0.25)


@pytest.fixture(scope="module")
def small():
    """Return the larger one of the two random models."""
    return load_backbone("small", device="cpu")


def test_random_models_are_the_same_each_time(tiny, small):
    for backbone in (tiny, small):
        again = load_backbone(backbone.name, device="cpu", dtype="float32")
        assert torch.equal(again.model(IDS).logits, backbone.model(IDS).logits)
    assert weight_hash("tiny") == weight_hash("tiny") != weight_hash("small")


def test_the_small_random_model_has_the_2_4_million_weights_of_its_description(small):
    count = sum(parameter.numel() for parameter in small.model.parameters())

    assert small.source == "random weights"
    assert 2.35e6 < count < 2.45e6


def test_random_models_leave_the_callers_random_state_alone():
    torch.manual_seed(1)
    expected = torch.rand(3)

    torch.manual_seed(1)
    load_backbone("small", device="cpu")

    assert torch.equal(torch.rand(3), expected)


def test_random_models_leave_the_random_states_of_graphics_cards_alone(monkeypatch):
    seeds = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    monkeypatch.setattr(torch.mps, "manual_seed", seeds.append)

    load_backbone("tiny", device="cpu")

    assert not seeds


def test_shuffling_keeps_the_entries_of_each_matrix_and_moves_them(tiny):
    shuffled = dict(shuffle_weights(copy.deepcopy(tiny.model)).named_parameters())

    original = dict(tiny.model.named_parameters())
    assert shuffled.keys() == original.keys()
    for name, before in original.items():
        after = shuffled[name]
        assert torch.equal(before.flatten().sort().values, after.flatten().sort().values), name
        is_vector = before.dim() == 1  # vectors stay as they are
        assert torch.equal(before, after) == is_vector, name


def test_shuffling_is_the_same_each_time(tiny):
    once = shuffle_weights(copy.deepcopy(tiny.model))
    again = shuffle_weights(copy.deepcopy(tiny.model))

    assert torch.equal(once.lm_head.weight, again.lm_head.weight)


def test_a_folder_loads_the_model_that_was_saved_there(folder, tiny):
    backbone = load_in_float32(folder)

    assert backbone.remap == tiny.remap
    assert torch.equal(backbone.model(IDS).logits, tiny.model(IDS).logits)
    assert backbone.model.config._attn_implementation == "sdpa"


def test_a_folder_may_be_a_path_and_the_device_one_of_pytorchs(folder):
    as_text = load_backbone(str(folder), device="cpu")
    assert load_backbone(folder, device=torch.device("cpu")).loaded_by == as_text.loaded_by


def test_a_folder_called_like_a_hub_model_has_the_name_of_that_backbone(folder):
    called_like_it = folder.rename(folder.parent / "Qwen2.5-0.5B-Instruct")

    assert load_in_float32(called_like_it).name == "qwen2.5-0.5b"


def test_a_model_in_two_files_loads_as_one_and_has_a_hash_of_its_own(folder, tiny):
    whole_file = folder / "model.safetensors"
    hash_of_one_file = weight_hash(str(folder))
    tensors = load(whole_file.read_bytes())
    whole_file.unlink()

    # As the hub splits large models: the index says which file holds a tensor.
    weight_map = {}
    names = sorted(tensors)
    for file, names_within in (
        ("model-00001-of-00002.safetensors", names[::2]),
        ("model-00002-of-00002.safetensors", names[1::2]),
    ):
        save_file({name: tensors[name] for name in names_within}, folder / file)
        weight_map |= dict.fromkeys(names_within, file)
    change_json(folder / "model.safetensors.index.json", metadata={}, weight_map=weight_map)

    backbone = load_in_float32(folder)
    assert torch.equal(backbone.model(IDS).logits, tiny.model(IDS).logits)
    assert weight_hash(str(folder)) != hash_of_one_file


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param(
            {"model_type": "mistral"},
            "model_type is not that of a plain Llama or Qwen2",
            id="another model",
        ),
        pytest.param({"model_type": "evil"}, "model type `evil`", id="unknown model"),
        pytest.param({"hidden_act": "gelu"}, "hidden_act is not", id="activation"),
        pytest.param(
            {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
            "sliding_window is not",
            id="sliding window",
        ),
        pytest.param({"is_causal": False}, "is_causal is not", id="attention in both directions"),
        pytest.param(
            {"model_type": "llama", "attention_chunk_size": 8},
            "attention_chunk_size is not",
            id="attention in chunks",
        ),
        pytest.param({"model_type": "llama", "mlp_bias": True}, "mlp_bias is not", id="MLP bias"),
        pytest.param(
            {"model_type": "llama", "attention_bias": True},
            "attention_bias is not",
            id="attention bias",
        ),
        pytest.param({"model_type": "llama", "head_dim": 32}, "head_dim is not", id="head width"),
        pytest.param(
            {"model_type": "llama", "per_layer_config": {"1": {"intermediate_size": 24}}},
            "is_heterogeneous is not",
            id="layers that differ",
        ),
        pytest.param(
            {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}},
            "rope_type is not",
            id="angles that depend on the length",
        ),
        pytest.param(
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            "partial_rotary_factor is not",
            id="positions in half of a head",
        ),
        pytest.param(
            {"quantization_config": {"quant_method": "fp8"}},
            "quantization_config is not",
            id="quantised weights",
        ),
        pytest.param(
            {"transformers_weights": "adapter_model.bin"},
            "transformers_weights is not",
            id="weights of another name",
        ),
        pytest.param({"hidden_size": "64"}, "hidden_size", id="text for a number"),
    ],
)
@pytest.mark.parametrize("read", [backbone_config, load_backbone])
def test_what_is_not_computed_is_refused_by_name(read, changes, line, folder, refusal):
    change_json(folder / "config.json", **changes)

    message = refusal(read, str(folder))

    assert f"{folder / 'config.json'}: " in message
    assert line in message


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("config.json", None, "no config.json here; a backbone folder holds"),
        ("tokenizer.json", b"{", "cannot load a model from here"),
        ("model.safetensors", None, "no *.safetensors here"),
        ("model.safetensors", b"half", "cannot load a model from here"),
        ("adapter_config.json", b"{}", "an adapter lies beside the model"),
        (
            "model.safetensors.index.json",
            b'{"weight_map": {"a": "a.bin"}}',
            "names files that are no safetensors",
        ),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(file, content, line, folder, refusal):
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)

    assert line in refusal(load_backbone, str(folder))


UP_PROJ = "model.layers.0.mlp.up_proj.weight"


def drop_one(tensors):
    del tensors[UP_PROJ]


def cut_a_row(tensors):
    tensors[UP_PROJ] = tensors[UP_PROJ][1:].contiguous()


def add_one(tensors):
    tensors["a.weight"] = tensors[UP_PROJ].clone()


@pytest.mark.parametrize(
    ("change", "unfit"), [(drop_one, UP_PROJ), (cut_a_row, UP_PROJ), (add_one, "a.weight")]
)
def test_weights_that_are_missing_unknown_or_of_another_shape_are_refused(
    change, unfit, folder, refusal
):
    file = folder / "model.safetensors"
    tensors = load(file.read_bytes())
    change(tensors)
    save_file(tensors, file)

    message = refusal(load_backbone, str(folder))

    assert f"config.json and weights do not agree on {unfit}" in message


def test_a_config_with_one_layer_more_than_the_weights_is_refused(folder, refusal):
    change_json(folder / "config.json", num_hidden_layers=3, layer_types=None)

    assert "model.layers.2" in refusal(load_backbone, str(folder))


@pytest.fixture
def attempts(monkeypatch):
    """Return a list that is filled with what a test attempts: input, network, pickle.

    Somebody at the keyboard says yes to whatever is asked, and there is no network.
    """
    attempts = []

    def say_yes(*_):
        attempts.append("input")
        return "y"

    def connect(*_, **__):
        attempts.append("network")
        raise OSError("no network")

    def unpickle(*_, **__):
        attempts.append("pickle")

    # In offline mode, which holds in all other tests, nothing would even try.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(builtins, "input", say_yes)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    monkeypatch.setattr(torch, "load", unpickle)
    return attempts


@pytest.fixture
def hostile_folder(folder):
    """Return a folder that holds the model `tiny`, and all that might make a reader run code.

    There are code and a pickle beside the weights, and settings that ask for code, from here and
    from the hub. Where the code is run, it writes a file `ran`.
    """
    mark = str(folder / "ran")
    code = f"open({mark!r}, 'w')\nclass Evil: pass\n"
    (folder / "evil.py").write_text(code, encoding="utf-8")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04cevil\nEvil\n.")

    model_code = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "evil.Evil")
    change_json(
        folder / "config.json",
        auto_map=model_code,
        _attn_implementation="kernels-community/flash-attn3",
        use_kernels=True,
    )
    change_json(folder / "generation_config.json", custom_generate="evil/evil")
    tokenizer_code = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    change_json(folder / "tokenizer_config.json", auto_map=tokenizer_code)
    return folder


def test_neither_code_nor_network_nor_another_file_has_an_effect(hostile_folder, attempts, tiny):
    backbone = load_in_float32(hostile_folder)
    meta_model(backbone_config(str(hostile_folder)))

    assert torch.equal(backbone.model(IDS).logits, tiny.model(IDS).logits)
    assert backbone.remap == tiny.remap
    assert attempts == []
    assert not (hostile_folder / "ran").exists()


def test_a_hostile_folder_that_is_refused_has_no_effect_either(hostile_folder, attempts, refusal):
    # A model that only the code beside it would know; and then no weights but the pickle.
    change_json(hostile_folder / "config.json", model_type="evil")
    refusal(load_backbone, str(hostile_folder))
    (hostile_folder / "model.safetensors").unlink()
    refusal(load_backbone, str(hostile_folder))

    assert attempts == []
    assert not (hostile_folder / "ran").exists()


def test_the_pad_is_the_one_that_the_folder_names(folder):
    # By itself the tokenizer has no pad, so its <|endoftext|> is taken; `~` comes just before that.
    assert load_backbone(str(folder), device="cpu").remap.backbone_ids[0] == 95

    change_json(folder / "tokenizer_config.json", pad_token="~")
    assert load_backbone(str(folder), device="cpu").remap.backbone_ids[0] == 94


def test_a_pad_that_the_model_does_not_know_is_refused(folder, refusal):
    change_json(folder / "tokenizer_config.json", pad_token="[PAD]")
    assert "has a token beyond the 96 that the model knows" in refusal(load_backbone, str(folder))


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_a_dtype_may_be_one_of_pytorchs(dtype):
    backbone = load_backbone("tiny", device="cpu", dtype=dtype)
    assert backbone.dtype == "bfloat16"


def test_an_unknown_dtype_is_refused(refusal):
    message = refusal(load_backbone, "tiny", dtype="int4")
    assert "'int4' is no dtype of a model's weights" in message


@pytest.mark.parametrize("device", ["abacus", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(device, refusal):
    assert f"cannot use device {device!r}" in refusal(load_backbone, "tiny", device=device)


def test_a_card_that_takes_the_weights_and_cannot_compute_is_refused(monkeypatch, refusal):
    def fail(device):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr("m2lib.model.backbones.check_computes", fail)

    message = refusal(load_backbone, "tiny", device="cpu")
    assert "no kernel image is available" in message
    assert message.endswith("take the CPU (M2_DEVICE=cpu, device='cpu')")
