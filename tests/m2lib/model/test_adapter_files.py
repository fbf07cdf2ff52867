"""An adapter's files: PEFT reads ours, we read PEFT's, and what does not fit is refused."""

import copy
import json
import re

import pytest
import torch
from safetensors.torch import load, save_file

from m2lib.errors import InputError
from m2lib.model import adapter_files
from m2lib.model.adapter_files import (
    VERSION_FILE,
    adapter_hash,
    load_adapter,
    save_adapter,
)
from m2lib.model.lora import lora_layers, trainable
from m2lib.model.vocabulary import text_to_ids

IDS = torch.tensor([text_to_ids("952,1034;948,1029;"), text_to_ids("12,7;1034,952;102;")])
"""Two texts of the same length, as a batch."""


@pytest.fixture
def adapter(model, add_random_adapter, tmp_path):
    """Return a folder with an adapter for `model`, which is left without one."""
    save_adapter(add_random_adapter(copy.deepcopy(model)), tmp_path / "adapter", "tiny")
    return tmp_path / "adapter"


def read_config(folder):
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))


def test_a_saved_adapter_comes_back(model, targets, add_random_adapter, tmp_path):
    fresh = copy.deepcopy(model)
    add_random_adapter(model, targets)

    save_adapter(model, tmp_path, "tiny")
    load_adapter(fresh, tmp_path)

    assert torch.equal(fresh(IDS).logits, model(IDS).logits)


def test_the_config_holds_rank_alpha_and_targets(model, targets, add_random_adapter, tmp_path):
    save_adapter(add_random_adapter(model, targets), tmp_path, "tiny")

    config = read_config(tmp_path)
    assert config["r"] == 3
    assert config["lora_alpha"] == 6.0
    assert config["target_modules"] == sorted(targets)
    assert config["lora_dropout"] == 0


@pytest.mark.parametrize(
    ("backbone", "base"),
    [("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"), ("my-model", "my-model")],
)
def test_an_adapter_names_its_base_as_the_hub_does(
    backbone, base, model, add_random_adapter, tmp_path
):
    save_adapter(add_random_adapter(model), tmp_path, backbone)

    assert read_config(tmp_path)["base_model_name_or_path"] == base


def test_our_adapter_loads_in_peft(model, targets, add_random_adapter, tmp_path):
    from peft import PeftModel

    plain = copy.deepcopy(model)
    save_adapter(add_random_adapter(model, targets), tmp_path, "tiny")

    with torch.no_grad():
        their_logits = PeftModel.from_pretrained(plain, tmp_path)(IDS).logits
        our_logits = model(IDS).logits

    # PEFT does not read the head's biases.
    our_logits_without_bias = our_logits - model.lm_head.bias
    assert torch.allclose(their_logits, our_logits_without_bias, atol=1e-5, rtol=0)


def test_pefts_adapter_loads_in_ours(model, targets, tmp_path):
    from peft import LoraConfig, get_peft_model

    plain = copy.deepcopy(model)
    # Without their usual initial weights, A and B are both random.
    config = LoraConfig(r=3, lora_alpha=8, target_modules=list(targets), init_lora_weights=False)
    peft_model = get_peft_model(model, config)
    peft_model.save_pretrained(tmp_path)

    load_adapter(plain, tmp_path)

    with torch.no_grad():
        our_logits = plain(IDS).logits
        their_logits = peft_model(IDS).logits
    assert torch.allclose(our_logits, their_logits, atol=1e-5, rtol=0)
    assert len(lora_layers(plain)) == 2 * len(targets)  # in each of two layers
    assert not plain.lm_head.bias.any()  # PEFT's adapters have none


def test_targets_that_only_other_models_have_do_not_matter(model, adapter):
    config = read_config(adapter)
    config["target_modules"].append("c_attn")
    (adapter / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert len(lora_layers(load_adapter(model, adapter))) == 4


def test_an_adapter_that_names_no_version_is_loaded_all_the_same(model, adapter):
    (adapter / VERSION_FILE).unlink()
    assert lora_layers(load_adapter(model, adapter))


def test_the_version_is_no_part_of_an_adapters_hash(adapter):
    before = adapter_hash(adapter)
    (adapter / VERSION_FILE).write_text("9.9.9\n", encoding="utf-8")
    assert adapter_hash(adapter) == before
    (adapter / VERSION_FILE).unlink()
    assert adapter_hash(adapter) == before


def test_peft_does_not_warn_of_our_config(adapter, recwarn):
    from peft import PeftConfig

    PeftConfig.from_pretrained(adapter)
    assert [warning for warning in recwarn if "Unexpected keyword" in str(warning.message)] == []


def test_loading_an_adapter_leaves_the_random_state_alone(model, adapter):
    state = torch.get_rng_state()
    load_adapter(model, adapter)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_adapter_in_bfloat16_is_loaded_into_float32(model, adapter):
    file = adapter / "adapter_model.safetensors"
    tensors = load(file.read_bytes())
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, file)

    load_adapter(model, adapter)

    for parameter in trainable(model).values():
        assert parameter.dtype == torch.float32


def test_a_model_with_an_adapter_takes_no_other(model, adapter):
    load_adapter(model, adapter)

    with pytest.raises(InputError, match="has an adapter already; merge it, or load the backbone"):
        load_adapter(model, adapter)


def test_a_model_without_adapters_has_none_to_save(model, tmp_path):
    with pytest.raises(ValueError, match="this model has no adapters"):
        save_adapter(model, tmp_path, "tiny")


def test_a_folder_that_cannot_be_written_is_named(model, add_random_adapter, tmp_path):
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    below_a_file = str(tmp_path / "file" / "adapter")

    with pytest.raises(InputError, match=r"cannot write .*file.*choose another folder"):
        save_adapter(add_random_adapter(model), below_a_file, "tiny")


def test_an_adapter_that_is_written_in_part_is_none(
    model, adapter, add_random_adapter, monkeypatch
):
    """So it is even over an older adapter: the old config goes first, the new one comes last."""

    def disk_is_full(path, content):
        raise InputError("the disk is full")

    monkeypatch.setattr(adapter_files, "write_atomic", disk_is_full)

    with pytest.raises(InputError, match="the disk is full"):
        save_adapter(add_random_adapter(model), adapter, "tiny")

    assert not (adapter / "adapter_config.json").exists()


# Ways to damage an adapter, each as a function of its folder.


def without(file):
    """Return a function that deletes a file."""

    def damage(folder):
        (folder / file).unlink()

    return damage


def with_content(file, content):
    """Return a function that overwrites a file."""

    def damage(folder):
        (folder / file).write_bytes(content)

    return damage


def with_settings(**settings):
    """Return a function that changes settings in adapter_config.json."""

    def damage(folder):
        text = json.dumps(read_config(folder) | settings)
        (folder / "adapter_config.json").write_text(text, encoding="utf-8")

    return damage


def with_first_tensor(change, file="adapter_model.safetensors"):
    """Return a function that changes the first of a file's tensors."""

    def damage(folder):
        tensors = load((folder / file).read_bytes())
        name = min(tensors)
        tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, folder / file)

    return damage


def without_first_tensor(folder):
    """Leave the first tensor out of adapter_model.safetensors."""
    file = folder / "adapter_model.safetensors"
    tensors = load(file.read_bytes())
    del tensors[min(tensors)]
    save_file(tensors, file)


DAMAGES = [
    pytest.param(without("adapter_config.json"), "No such file", id="no config"),
    pytest.param(with_content("adapter_config.json", b"{"), "property name", id="no JSON"),
    pytest.param(without("adapter_model.safetensors"), "No such file", id="no factors"),
    pytest.param(with_content("head_bias.safetensors", b"half"), "header", id="no safetensors"),
    pytest.param(
        without("head_bias.safetensors"),
        r"head_bias.safetensors, which holds lm_head.bias, is missing; copy it, too",
        id="no bias",
    ),
    pytest.param(
        with_first_tensor(lambda tensor: tensor * float("nan")),
        r"adapter_model.safetensors: .*layers.0.self_attn.q_proj.lora_A.weight holds NaN or infin",
        id="NaN",
    ),
    pytest.param(
        with_first_tensor(lambda tensor: tensor / 0, "head_bias.safetensors"),
        "head_bias.safetensors: lm_head.bias holds NaN or infinity",
        id="infinite bias",
    ),
    pytest.param(
        with_settings(use_rslora=True),
        "sets use_rslora, which this library does not read",
        id="scaled by the rank's root",
    ),
    pytest.param(
        with_settings(alpha_pattern={"q_proj": 1}),
        "sets alpha_pattern, which this library does not read",
        id="another alpha in some layers",
    ),
    pytest.param(
        with_settings(init_lora_weights="pissa"),
        "sets init_lora_weights, which this library does not read",
        id="changed frozen weights",
    ),
    pytest.param(
        with_settings(alora_invocation_tokens=[1, 2]),
        "sets alora_invocation_tokens, which this library does not read",
        id="active behind some tokens only",
    ),
    pytest.param(
        with_settings(target_modules=".*_proj"),
        "target_modules of adapter_config.json is a pattern",
        id="pattern of targets",
    ),
    pytest.param(with_settings(r=5), "does not fit", id="another rank"),
    pytest.param(
        with_settings(target_modules=["w"]), "no linear layers named w", id="unknown target"
    ),
    pytest.param(
        with_settings(target_modules=["lm_head"]),
        "no linear layers named lm_head",
        id="head as target",
    ),
    pytest.param(
        with_settings(target_modules=["q_proj", "v_proj", "o_proj"]),
        "o_proj.* does not fit",
        id="target without tensors",
    ),
    pytest.param(
        with_first_tensor(lambda tensor: tensor[None]), "does not fit", id="tensor of three axes"
    ),
    pytest.param(without_first_tensor, "does not fit", id="missing tensor"),
    pytest.param(
        with_first_tensor(lambda tensor: tensor[1:], "head_bias.safetensors"),
        "lm_head.bias does not fit",
        id="biases of 12 tokens",
    ),
]


@pytest.mark.parametrize(("damage", "line"), DAMAGES)
def test_an_unfit_adapter_is_refused_in_one_line_and_leaves_the_model_alone(
    damage, line, model, adapter, refusal
):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    damage(adapter)

    message = refusal(load_adapter, model, adapter)
    assert message.startswith(f"{adapter}: not a LoRA adapter of this model (")
    assert re.search(line, message)

    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    for name, parameter in before.items():
        assert torch.equal(after[name], parameter)
