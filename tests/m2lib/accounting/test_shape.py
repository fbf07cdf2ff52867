"""A shape has the sizes of the real model's layers."""

import pytest
import torch

from m2lib.accounting.flops import forward_flops
from m2lib.accounting.shape import Shape
from m2lib.model.backbones import backbone_config, meta_model
from m2lib.model.lora import inject_lora
from m2lib.model.vocabulary import reduce_vocabulary


def test_projections_of_a_shape_by_hand(toy):
    assert list(toy.projections.values()) == [
        (4, 4),  # q
        (4, 2),  # k and v have one head of 2 for both query heads
        (4, 2),
        (4, 4),  # o
        (4, 8),  # gate
        (4, 8),  # up
        (8, 4),  # down
    ]


def test_projections_are_the_linear_layers_of_a_block(tiny):
    block = tiny.model.model.layers[0]
    widths = {}
    for path, layer in block.named_modules():
        if isinstance(layer, torch.nn.Linear):
            name = path.split(".")[-1]
            widths[name] = (layer.in_features, layer.out_features)

    projections = Shape.of(tiny.model.config).projections
    assert list(projections.items()) == list(widths.items())  # in the same order, too


def count_parameters(model, within):
    """Return the number of the parameters whose names hold a text."""
    return sum(parameter.numel() for name, parameter in model.named_parameters() if within in name)


@pytest.mark.parametrize("name", ["qwen2.5-0.5b", "smollm2-135m"])
def test_a_token_costs_two_flops_for_each_weight_of_the_real_model(name, tiny):
    """As executed, that is: each weight is multiplied once, and the product added."""
    shape = Shape.of(backbone_config(name))
    model = reduce_vocabulary(meta_model(backbone_config(name)), tiny.remap)

    one_token = forward_flops(shape, 1, convention="executed")

    # Biases are added for free, so they are parameters beside the products' weights.
    biases = shape.layers * (shape.width + 2 * shape.kv_width) if shape.qkv_bias else 0
    attention = (one_token["qkv"] + one_token["output"]) // 2
    assert attention + biases == count_parameters(model, "self_attn")
    assert one_token["mlp"] // 2 == count_parameters(model, "mlp")
    assert one_token["head"] // 2 + 13 == count_parameters(model, "lm_head")

    inject_lora(model, 2)
    with_adapters = forward_flops(shape, 1, rank=2, convention="executed")
    assert with_adapters["lora"] // 2 == count_parameters(model, "lora_")
