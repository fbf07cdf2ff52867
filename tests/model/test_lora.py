import copy
import json

import pytest
import torch

from m2lib.files import InputError
from m2lib.model.backbones import backbone_config, load_backbone, meta_model
from m2lib.model.lora import LoRALinear, inject_lora, load_adapter, lora_layers, merge_lora, save_adapter, trainable
from m2lib.model.reduction import reduce_vocabulary
from m2lib.model.vocabulary import TokenRemap, text_to_ids

IDS = torch.tensor([text_to_ids("952,1034;948,1029;"), text_to_ids("12,7;1034,952;102;")])


@pytest.fixture
def model(tiny):
    return copy.deepcopy(tiny.model)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_random_adapter(model, rank=3, alpha=6.0):
    inject_lora(model, rank, alpha, generator=seeded())
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.normal_(generator=seeded(1))
        model.lm_head.bias.normal_(generator=seeded(2))
    return model


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
    assert layer.merged()(torch.tensor([5.0, 4.0])).item() == 19.5
    with pytest.raises(ValueError, match="rank must be at least 1"):
        LoRALinear(base, 0, 1)


def test_identity_at_injection(model):
    before = model(IDS).logits
    inject_lora(model, rank=4)
    assert torch.equal(model(IDS).logits, before)
    assert set(lora_layers(model)) == {
        f"model.layers.{i}.self_attn.{name}" for i in (0, 1) for name in ("q_proj", "v_proj")
    }
    assert all(layer.alpha == layer.rank == 4 for layer in lora_layers(model).values())


def test_one_step_moves_only_the_adapter_and_the_bias(model):
    inject_lora(model, rank=4)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-2, weight_decay=0)
    for _ in range(2):  # in the first step B is zero, so that no gradient reaches A
        model(IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == set(trainable(model))
    assert {name.rpartition(".")[2] for name in moved} == {"lora_A", "lora_B", "bias"}
    assert "lm_head.bias" in moved


def test_merged_is_unmerged(model):
    with_random_adapter(model)
    with torch.no_grad():
        before = model(IDS).logits
        merge_lora(model)
        after = model(IDS).logits
    assert not lora_layers(model)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()
    with pytest.raises(ValueError, match="no LoRA layers to merge"):
        merge_lora(model)


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
    one, two, other = (inject_lora(copy.deepcopy(model), 2, generator=seeded(seed)) for seed in (0, 0, 1))
    name = "model.layers.1.self_attn.q_proj.lora_A"
    assert torch.equal(one.get_parameter(name), two.get_parameter(name))
    assert not torch.equal(one.get_parameter(name), other.get_parameter(name))


def test_adapters_are_float32_beside_bfloat16_weights():
    model = inject_lora(load_backbone("tiny", device="cpu", dtype="bfloat16").model, rank=2)
    assert {parameter.dtype for parameter in trainable(model).values()} == {torch.float32}
    model(IDS, labels=IDS).loss.backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in trainable(model).values())


def test_saved_adapter_comes_back(model, tmp_path):
    fresh = copy.deepcopy(model)
    with_random_adapter(model)
    save_adapter(model, tmp_path, "tiny")
    load_adapter(fresh, tmp_path)
    assert torch.equal(fresh(IDS).logits, model(IDS).logits)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (3, 6.0, ["q_proj", "v_proj"])
    with pytest.raises(ValueError, match="no LoRA layers to save"):
        save_adapter(merge_lora(fresh), tmp_path, "tiny")


def test_our_adapter_loads_in_peft(model, tmp_path):
    from peft import PeftModel

    plain = copy.deepcopy(model)
    with_random_adapter(model)
    save_adapter(model, tmp_path, "tiny")
    with torch.no_grad():
        theirs = PeftModel.from_pretrained(plain, tmp_path)(IDS).logits
        ours = model(IDS).logits - model.lm_head.bias
    assert torch.allclose(theirs, ours, atol=1e-5, rtol=0)


def test_pefts_adapter_loads_in_ours(model, tmp_path):
    from peft import LoraConfig, get_peft_model

    plain = copy.deepcopy(model)
    config = LoraConfig(r=3, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft_model = get_peft_model(model, config)
    peft_model.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.allclose(load_adapter(plain, tmp_path)(IDS).logits, peft_model(IDS).logits, atol=1e-5, rtol=0)


def test_unfit_adapters_are_named_and_leave_the_model_alone(model, smollm2, tmp_path):
    before = model(IDS).logits
    with pytest.raises(InputError, match=f"{tmp_path}: not a readable LoRA adapter"):
        load_adapter(model, tmp_path)
    other = with_random_adapter(copy.deepcopy(model))
    save_adapter(other, tmp_path, "tiny")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"r": 5}))
    with pytest.raises(InputError, match="belongs to another model"):
        load_adapter(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_rslora": True}))
    with pytest.raises(InputError, match="sets use_rslora, which this library does not read"):
        load_adapter(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"target_modules": ["w"]}))
    with pytest.raises(InputError, match="no linear layers named w"):
        load_adapter(model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"half a file")
    with pytest.raises(InputError, match="not a readable LoRA adapter"):
        load_adapter(model, tmp_path)
    assert not lora_layers(model)
    assert torch.equal(model(IDS).logits, before)
