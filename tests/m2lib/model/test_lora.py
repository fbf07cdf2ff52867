import copy
import json

import pytest
import torch
from safetensors.torch import load, save_file

from m2lib import accounting
from m2lib.files import InputError
from m2lib.model import adapter_files
from m2lib.model.adapter_files import load_adapter, save_adapter
from m2lib.model.backbones import backbone_config, load_backbone, meta_model
from m2lib.model.lora import (
    ALL_TARGETS,
    TARGETS,
    LoRALinear,
    inject_lora,
    lora_layers,
    merge_lora,
    train_everything,
    trainable,
)
from m2lib.model.vocabulary import TokenRemap, reduce_vocabulary, text_to_ids

IDS = torch.tensor([text_to_ids("952,1034;948,1029;"), text_to_ids("12,7;1034,952;102;")])


@pytest.fixture
def model(tiny):
    return copy.deepcopy(tiny.model)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_random_adapter(model, rank=3, alpha=6.0, targets=TARGETS):
    inject_lora(model, rank, alpha, targets=targets, generator=seeded())
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.normal_(std=0.3, generator=seeded(1))
        model.lm_head.bias.normal_(generator=seeded(2))
    return model


def test_the_accountant_knows_the_same_layers():
    assert (tuple(accounting.PROJECTIONS), accounting.TARGETS) == (ALL_TARGETS, TARGETS)


def test_layer_by_hand():
    base = torch.nn.Linear(2, 1, bias=True)
    layer = LoRALinear(base, rank=1, alpha=3)
    with torch.no_grad():
        for parameter, value in ((base.weight, [[1.0, 2.0]]), (base.bias, [0.5])):
            parameter.copy_(torch.tensor(value))
        layer.lora_A.copy_(torch.tensor([[1.0, -1.0]]))
        layer.lora_B.copy_(torch.tensor([[2.0]]))
    # W x + b = 5 + 8 + 0.5; (alpha / r) B A x = 3 * 2 * (5 - 4)
    assert layer(torch.tensor([5.0, 4.0])).item() == 13.5 + 6
    assert layer.weight.tolist() == [[1.0 + 3 * 2, 2.0 - 3 * 2]]


def test_identity_at_injection(model):
    before = model(IDS).logits
    inject_lora(model, rank=4)
    assert torch.equal(model(IDS).logits, before)
    assert set(lora_layers(model)) == {
        f"model.layers.{i}.self_attn.{name}" for i in (0, 1) for name in ("q_proj", "v_proj")
    }
    assert all(layer.alpha == layer.rank == 4 for layer in lora_layers(model).values())


CHOICES = pytest.mark.parametrize(
    "targets", [TARGETS, ALL_TARGETS, ("k_proj", "o_proj", "up_proj")]
)


@CHOICES
def test_merged_is_unmerged(model, targets):
    with_random_adapter(model, targets=targets)
    with torch.no_grad():
        before = model(IDS).logits
        merge_lora(model)
        after = model(IDS).logits
    assert not lora_layers(model)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


def test_injection_does_not_nest(model):
    inject_lora(model, rank=2)
    with pytest.raises(ValueError, match="has LoRA layers already"):
        inject_lora(model, rank=2)
    assert len(lora_layers(model)) == 4
    with pytest.raises(ValueError, match="no linear layers named w"):
        inject_lora(merge_lora(model), rank=2, targets=("w",))


def test_trainable_parameters_of_the_reports_model():
    model = meta_model(backbone_config("qwen2.5-0.5b"))
    reduce_vocabulary(model, TokenRemap((151643, *range(15, 25), 11, 26)))
    inject_lora(model, rank=2)
    assert sum(parameter.numel() for parameter in trainable(model).values()) == 135_168 + 13


def test_seed_decides_the_start(model):
    one, two, other = (
        inject_lora(copy.deepcopy(model), 2, generator=seeded(seed)) for seed in (0, 0, 1)
    )
    name = "model.layers.1.self_attn.q_proj.lora_A"
    assert torch.equal(one.get_parameter(name), two.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_adapters_are_float32_beside_bfloat16_weights():
    model = inject_lora(load_backbone("tiny", device="cpu", dtype="bfloat16").model, rank=2)
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    model(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in trainable(model).values())


@CHOICES
def test_saved_adapter_comes_back(model, tmp_path, targets):
    fresh = copy.deepcopy(model)
    with_random_adapter(model, targets=targets)
    save_adapter(model, tmp_path, "tiny")
    load_adapter(fresh, tmp_path)
    assert torch.equal(fresh(IDS).logits, model(IDS).logits)
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (
        3,
        6.0,
        sorted(targets),
    )


def test_an_adapter_names_its_base_as_the_hub_does(model, tmp_path):
    with_random_adapter(model)
    for backbone, base in (
        ("smollm2-135m", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("my-model", "my-model"),
    ):
        save_adapter(model, tmp_path, backbone)
        config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
        assert config["base_model_name_or_path"] == base


@CHOICES
def test_our_adapter_loads_in_peft(model, tmp_path, targets):
    from peft import PeftModel

    plain = copy.deepcopy(model)
    with_random_adapter(model, targets=targets)
    save_adapter(model, tmp_path, "tiny")
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(plain, tmp_path)(IDS).logits
        ours = model(IDS).logits - model.lm_head.bias
    assert torch.allclose(theirs, ours, atol=1e-5, rtol=0)


@CHOICES
def test_pefts_adapter_loads_in_ours(model, tmp_path, targets):
    from peft import LoraConfig, get_peft_model

    plain = copy.deepcopy(model)
    config = LoraConfig(r=3, lora_alpha=8, target_modules=list(targets), init_lora_weights=False)
    peft_model = get_peft_model(model, config)
    peft_model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.allclose(
            load_adapter(plain, tmp_path)(IDS).logits, peft_model(IDS).logits, atol=1e-5, rtol=0
        )
    assert len(lora_layers(plain)) == 2 * len(targets)
    assert not plain.lm_head.bias.any()  # PEFT's adapters have none


def test_an_adapter_in_bfloat16_loads(model, adapter):
    file = adapter / "adapter_model.safetensors"
    save_file({name: tensor.bfloat16() for name, tensor in load(file.read_bytes()).items()}, file)
    load_adapter(model, adapter)
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    with pytest.raises(InputError, match="has an adapter already; merge it, or load the backbone"):
        load_adapter(model, adapter)


def test_a_model_without_adapters_has_none_to_save(model, tmp_path):
    with pytest.raises(ValueError, match="this model has no adapters"):
        save_adapter(model, tmp_path, "tiny")


def test_a_folder_that_cannot_be_written_is_named(model, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(InputError, match=r"cannot write .*file.*; choose another folder"):
        save_adapter(with_random_adapter(model), str(tmp_path / "file" / "adapter"), "tiny")


@pytest.fixture
def adapter(model, tmp_path):
    """A folder with an adapter of the model's."""
    save_adapter(with_random_adapter(copy.deepcopy(model)), tmp_path / "adapter", "tiny")
    return tmp_path / "adapter"


def changed(**settings):
    """Change settings in adapter_config.json."""

    def change(folder):
        path = folder / "adapter_config.json"
        path.write_text(
            json.dumps(json.loads(path.read_text(encoding="utf-8")) | settings), encoding="utf-8"
        )

    return change


def spoilt(how, file="adapter_model.safetensors"):
    """Change the first tensor of a file, or leave it out."""

    def change(folder):
        tensors = load((folder / file).read_bytes())
        name = min(tensors)
        tensor = how(tensors.pop(name))
        save_file(
            tensors if tensor is None else tensors | {name: tensor.contiguous()}, folder / file
        )

    return change


UNFIT = [
    (lambda folder: (folder / "adapter_config.json").unlink(), "No such file"),
    (lambda folder: (folder / "adapter_config.json").write_bytes(b"{"), "property name"),
    (lambda folder: (folder / "adapter_model.safetensors").unlink(), "No such file"),
    (lambda folder: (folder / "head_bias.safetensors").write_bytes(b"half"), "header"),
    (
        lambda folder: (folder / "head_bias.safetensors").unlink(),
        r"head_bias.safetensors, which holds lm_head.bias, is missing; copy it, too",
    ),
    (
        spoilt(lambda tensor: tensor * float("nan")),
        r"adapter_model.safetensors: .*layers.0.self_attn.q_proj.lora_A.weight holds NaN or infin",
    ),
    (
        spoilt(lambda tensor: tensor / 0, "head_bias.safetensors"),
        "head_bias.safetensors: lm_head.bias holds NaN or infinity",
    ),
    (changed(use_rslora=True), "sets use_rslora, which this library does not read"),
    (
        changed(init_lora_weights="pissa"),
        "sets init_lora_weights, which this library does not read",
    ),
    (
        changed(alora_invocation_tokens=[1, 2]),
        "sets alora_invocation_tokens, which this library does not read",
    ),
    (changed(target_modules=".*_proj"), "target_modules of adapter_config.json is a pattern"),
    (changed(r=5), "does not fit"),
    (changed(target_modules=["w"]), "no linear layers named w"),
    (changed(target_modules=["lm_head"]), "no linear layers named lm_head"),
    (changed(target_modules=["q_proj", "v_proj", "o_proj"]), "o_proj.* does not fit"),
    (spoilt(lambda tensor: tensor[None]), "does not fit"),
    (spoilt(lambda tensor: None), "does not fit"),
    (spoilt(lambda tensor: tensor[1:], "head_bias.safetensors"), "lm_head.bias does not fit"),
]


@pytest.mark.parametrize(("change", "line"), UNFIT)
def test_an_unfit_adapter_is_refused_in_one_line_and_leaves_the_model_alone(
    model, adapter, change, line
):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    change(adapter)
    with pytest.raises(InputError, match=line) as error:
        load_adapter(model, adapter)
    assert str(error.value).startswith(f"{adapter}: not a LoRA adapter of this model (")
    assert "\n" not in str(error.value)
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_all_weights_train_in_float32_only(model):
    assert all(parameter.requires_grad for parameter in train_everything(model).parameters())
    with pytest.raises(ValueError, match=r"in float32 only, not in torch.bfloat16"):
        train_everything(model.bfloat16())


def test_an_adapter_that_is_written_in_part_is_none(model, adapter, monkeypatch):
    """Also where one was there before: its config goes first, and the new one comes last."""

    def full(path, content):
        raise InputError("the disk is full")

    monkeypatch.setattr(adapter_files, "write_atomic", full)
    with pytest.raises(InputError, match="the disk is full"):
        save_adapter(with_random_adapter(model), adapter, "tiny")
    assert not (adapter / "adapter_config.json").exists()


def test_a_merged_weight_is_rounded_once():
    base = torch.nn.Linear(32, 32, bias=False, dtype=torch.bfloat16)
    torch.nn.init.normal_(base.weight, generator=seeded())
    layer = LoRALinear(base, rank=2, alpha=4, generator=seeded(1))
    with torch.no_grad():
        layer.lora_B.normal_(std=0.1, generator=seeded(2))
    exact = base.weight.double() + 2 * layer.lora_B.double() @ layer.lora_A.double()
    assert torch.equal(layer.weight, exact.bfloat16())
