"""An adapter changes nothing until it is trained, and computes the same when it is merged."""

import copy

import pytest
import torch

from m2lib import accounting
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
"""Two texts of the same length, as a batch."""


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_accountant_knows_the_same_layers():
    assert tuple(accounting.PROJECTIONS) == ALL_TARGETS
    assert accounting.TARGETS == TARGETS


def test_layer_by_hand():
    base = torch.nn.Linear(2, 1, bias=True)
    layer = LoRALinear(base, rank=1, alpha=3)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 2.0]]))
        base.bias.copy_(torch.tensor([0.5]))
        layer.lora_A.copy_(torch.tensor([[1.0, -1.0]]))
        layer.lora_B.copy_(torch.tensor([[2.0]]))

    # W x + b = 5 + 8 + 0.5; (alpha / r) B A x = 3 * 2 * (5 - 4)
    assert layer(torch.tensor([5.0, 4.0])).item() == 13.5 + 6

    # W + (alpha / r) B A
    assert layer.weight.tolist() == [[1.0 + 3 * 2, 2.0 - 3 * 2]]


def test_an_adapter_changes_nothing_at_first(model):
    before = model(IDS).logits

    inject_lora(model, rank=4)

    assert torch.equal(model(IDS).logits, before)


def test_by_default_adapters_lie_beside_q_and_v_of_every_layer(model):
    inject_lora(model, rank=4)

    assert set(lora_layers(model)) == {
        "model.layers.0.self_attn.q_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
    }


def test_alpha_is_the_rank_by_default(model):
    inject_lora(model, rank=4)

    for layer in lora_layers(model).values():
        assert layer.alpha == layer.rank == 4


def test_an_adapter_starts_with_a_of_one_over_the_root_of_its_width_and_b_of_zero():
    layer = LoRALinear(torch.nn.Linear(400, 3), rank=100, alpha=1, generator=seeded(0))

    deviation = 400**-0.5
    assert layer.lora_A.std().item() == pytest.approx(deviation, rel=0.02)
    # The numbers are normal: uniform ones of this deviation end at 1.73 times it.
    assert layer.lora_A.abs().max().item() > 3 * deviation
    assert not layer.lora_B.any()


def test_the_seed_decides_the_first_values_of_an_adapter(model):
    def start(seed):
        """Return the first values of one adapter's A."""
        adapted = inject_lora(copy.deepcopy(model), 2, generator=seeded(seed))
        return adapted.get_parameter("model.layers.1.self_attn.q_proj.lora_A")

    assert torch.equal(start(seed=0), start(seed=0))
    assert not torch.equal(start(seed=0), start(seed=1))


def test_adapters_are_not_injected_twice(model):
    inject_lora(model, rank=2)

    with pytest.raises(ValueError, match="has LoRA layers already"):
        inject_lora(model, rank=2)

    assert len(lora_layers(model)) == 4


def test_a_merged_model_takes_adapters_again(model):
    merge_lora(inject_lora(model, rank=2))

    inject_lora(model, rank=2)

    assert len(lora_layers(model)) == 4


@pytest.mark.parametrize("targets", [("w",), ("q_proj", "w")], ids=str)
def test_a_target_that_no_layer_is_named_after_is_refused(model, targets):
    with pytest.raises(ValueError, match="no linear layers named w"):
        inject_lora(model, rank=2, targets=targets)

    assert not lora_layers(model)


def test_a_model_with_its_whole_vocabulary_is_refused():
    whole = load_backbone("tiny", device="cpu", dtype="float32", reduce=False).model

    with pytest.raises(ValueError, match="call reduce_vocabulary on it first"):
        inject_lora(whole, rank=2)

    assert not lora_layers(whole)


def test_a_merged_model_computes_what_it_did_with_its_adapter(model, targets, add_random_adapter):
    add_random_adapter(model, targets)

    with torch.no_grad():
        before = model(IDS).logits
        merge_lora(model)
        after = model(IDS).logits

    assert not lora_layers(model)
    assert (after - before).abs().max() <= 1e-5 * before.abs().max()


def test_a_merged_weight_is_rounded_once():
    base = torch.nn.Linear(32, 32, bias=False, dtype=torch.bfloat16)
    torch.nn.init.normal_(base.weight, generator=seeded(0))
    layer = LoRALinear(base, rank=2, alpha=4, generator=seeded(1))
    with torch.no_grad():
        layer.lora_B.normal_(std=0.1, generator=seeded(2))

    alpha_over_rank = 2
    exact = base.weight.double() + alpha_over_rank * layer.lora_B.double() @ layer.lora_A.double()
    assert torch.equal(layer.weight, exact.bfloat16())


def test_adapters_are_float32_beside_bfloat16_weights():
    model = load_backbone("tiny", device="cpu", dtype="bfloat16").model

    inject_lora(model, rank=2)
    model(IDS, labels=IDS).loss.backward()

    for parameter in trainable(model).values():
        assert parameter.dtype == torch.float32
        assert parameter.grad.dtype == torch.float32


def test_trainable_parameters_of_the_reports_model():
    model = meta_model(backbone_config("qwen2.5-0.5b"))
    reduce_vocabulary(model, TokenRemap((151643, *range(15, 25), 11, 26)))

    inject_lora(model, rank=2)

    # In each of 24 layers 2 (896 + 896) on q_proj and 2 (896 + 128) on v_proj; the head's biases.
    count = sum(parameter.numel() for parameter in trainable(model).values())
    assert count == 135_168 + 13


def test_every_weight_can_be_made_trainable(model):
    train_everything(model)

    assert all(parameter.requires_grad for parameter in model.parameters())


def test_beside_an_adapter_nothing_trains_but_the_heads_bias(model):
    train_everything(model)

    inject_lora(model, rank=2)

    beside_the_adapter = [name for name in trainable(model) if "lora_" not in name]
    assert beside_the_adapter == ["lm_head.bias"]


def test_all_weights_train_in_float32_only(model):
    with pytest.raises(ValueError, match=r"in float32 only, not in torch.bfloat16"):
        train_everything(model.bfloat16())
