"""The budget's rules (`m2lib.accounting.rules`), term by term by hand."""

from dataclasses import replace

import pytest

from m2lib.accounting.flops import (
    cached_step_flops,
    forecast_flops,
    forward_flops,
    train_step_flops,
)
from m2lib.accounting.shape import COMPONENTS, Shape, added, total
from m2lib.model.backbones import backbone_config
from m2lib.model.lora import ALL_TARGETS


@pytest.fixture(scope="module")
def three_tokens(toy):
    """Return the breakdown of a forward pass of three tokens through adapters of rank 1."""
    return forward_flops(toy, 3, rank=1)


def test_a_forward_pass_by_hand(three_tokens):
    assert three_tokens == {
        # (3 x 13)(13 x 4): 12 entries of 13 multiplications and 12 additions
        "embedding": 12 * 25,
        # two in the layer, one at the end; a token: 4 squares, 3 additions, 1 division, + eps, sqrt
        # 10, 4 divisions, 4 gains = 27 = 4 * 4 + 11
        "norms": 3 * 3 * 27,
        # three of (3 x 4)(4 x 4), 12 entries of 4 multiplications and 3 additions, and 12 biases
        # each
        "qkv": 3 * (12 * 7 + 12),
        # on q and on v: (3 x 4)(4 x 1): 3 * 7; (3 x 1)(1 x 4): 12 * 1; scale 12; sum 12
        "lora": 2 * (21 + 12 + 12 + 12),
        # added to q and to k
        "rope": 2 * 12,
        # a head: (3 x 2)(2 x 3): 9 entries of 2 multiplications and 1 addition, each divided by
        # sqrt(c)
        "scores": 2 * (9 * 3 + 9),
        "mask": 2 * 9,
        # a row of 3: 3 exponentials of 10, 2 additions, 3 divisions = 35; 3 rows, 2 heads
        "softmax": 2 * 3 * 35,
        # a head: (3 x 3)(3 x 2): 6 entries of 3 multiplications and 2 additions
        "values": 2 * 6 * 5,
        # (3 x 4)(4 x 4)
        "output": 12 * 7,
        "residuals": 2 * 12,
        # gate and up: (3 x 4)(4 x 8), 24 entries of 7; SiLU x / (1 + exp(-x)): negation, exp 10,
        # addition, division = 13; product; down: (3 x 8)(8 x 4), 12 entries of 8 multiplications
        # and 7 additions
        "mlp": 2 * 24 * 7 + 24 * 13 + 24 + 12 * 15,
        # (3 x 4)(4 x 13): 39 entries of 7, and 39 biases
        "head": 39 * 7 + 39,
    }


def test_components_are_in_the_order_of_the_forward_pass(three_tokens):
    assert list(three_tokens) == list(COMPONENTS)


def test_without_adapters_a_pass_costs_less_by_just_these(toy, three_tokens):
    without_adapters = forward_flops(toy, 3)

    assert total(without_adapters) == total(three_tokens) - three_tokens["lora"]


def test_without_biases_a_pass_costs_less_by_just_these(toy, three_tokens):
    without_biases = forward_flops(replace(toy, qkv_bias=False), 3, rank=1)

    # one for each of 12 numbers in q, k and v
    assert total(three_tokens) - total(without_biases) == 3 * 12


def test_adapters_of_each_projection_by_hand(toy):
    """A target d_in -> d_out of rank r: A is N r (2 d_in - 1), B is N d_out (2 r - 1), scale and
    sum are 2 N d_out."""
    # 4 -> 4. The rules take k and v so, too, as if heads were not grouped.
    square = 3 * 2 * 7 + 3 * 4 * 3 + 2 * 3 * 4
    # 4 -> 8 and 8 -> 4
    wider = 3 * 2 * 7 + 3 * 8 * 3 + 2 * 3 * 8
    narrower = 3 * 2 * 15 + 3 * 4 * 3 + 2 * 3 * 4
    by_hand = {
        "q_proj": square,
        "k_proj": square,
        "v_proj": square,
        "o_proj": square,
        "gate_proj": wider,
        "up_proj": wider,
        "down_proj": narrower,
    }

    for name, flops in by_hand.items():
        assert forward_flops(toy, 3, rank=2, targets=(name,))["lora"] == flops, name

    on_all = forward_flops(toy, 3, rank=2, targets=ALL_TARGETS)
    assert on_all["lora"] == sum(by_hand.values())


def test_a_cached_step_by_hand(toy, three_tokens):
    """One token attends over 4 keys, its own included."""
    step = cached_step_flops(toy, 4)

    # a head: (1 x 2)(2 x 4): 4 entries of 2 multiplications and 1 addition, each divided by sqrt(c)
    assert step["scores"] == 2 * (4 * 3 + 4)
    assert step["mask"] == 2 * 4
    # a row of 4: 4 exponentials of 10, 3 additions, 4 divisions
    assert step["softmax"] == 2 * (4 * 10 + 3 + 4)
    # a head: (1 x 4)(4 x 2): 2 entries of 4 multiplications and 3 additions
    assert step["values"] == 2 * 2 * 7
    # what sees no keys costs a third of three tokens
    assert step["mlp"] == three_tokens["mlp"] // 3


def test_a_training_step_costs_three_forward_passes_a_window(toy, three_tokens):
    step = train_step_flops(toy, 3, rank=1, batch=2)

    assert total(step) == 3 * 2 * total(three_tokens)


def test_a_forecast_of_three_tokens_is_a_prefill_and_two_steps(toy):
    prefill = forward_flops(toy, 3)
    second_token = cached_step_flops(toy, 4)
    third_token = cached_step_flops(toy, 5)

    assert forecast_flops(toy, 3, 3) == added(prefill, second_token, third_token)


def test_costs_of_the_reports_model():
    qwen = Shape.of(backbone_config("qwen2.5-0.5b"))

    # added up in book/accountant.md
    assert total(forward_flops(qwen, 512, rank=4)) == 425_146_783_232
    # two windows, each of which costs three forward passes
    assert total(train_step_flops(qwen, 512, rank=4, batch=2)) == 2 * 3 * 425_146_783_232
    # a check value of the coursework
    assert total(forecast_flops(qwen, 512, 220)) == 608_639_707_337
