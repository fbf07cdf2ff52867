"""Executed FLOPs are what PyTorch counts, and a forecast is a prefill and its steps."""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from m2lib.accounting.flops import (
    CONVENTIONS,
    cached_step_flops,
    forecast_flops,
    forward_flops,
    train_step_flops,
)
from m2lib.accounting.shape import COMPONENTS, TARGETS, Shape, total
from m2lib.model.backbones import backbone_config
from m2lib.model.lora import ALL_TARGETS, inject_lora
from m2lib.model.vocabulary import PAD_ID
from m2lib.training import window_loss
from m2lib.training.loop import step_costs


def test_executed_adapters_by_hand(toy):
    """A target d_in -> d_out of rank r: A is 2 N r d_in, B is 2 N r d_out."""

    def cost(targets):
        breakdown = forward_flops(toy, 3, rank=2, targets=targets, convention="executed")
        return breakdown["lora"]

    by_hand = {
        "q_proj": 2 * 3 * 2 * (4 + 4),
        "k_proj": 2 * 3 * 2 * (4 + 2),  # one head of keys for both query heads
        "v_proj": 2 * 3 * 2 * (4 + 2),
        "o_proj": 2 * 3 * 2 * (4 + 4),
        "gate_proj": 2 * 3 * 2 * (4 + 8),
        "up_proj": 2 * 3 * 2 * (4 + 8),
        "down_proj": 2 * 3 * 2 * (8 + 4),
    }
    for name, flops in by_hand.items():
        assert cost((name,)) == flops, name
    assert cost(ALL_TARGETS) == sum(by_hand.values())


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("count", [forward_flops, cached_step_flops, train_step_flops])
def test_without_adapters_targets_change_nothing(count, convention):
    qwen = Shape.of(backbone_config("qwen2.5-0.5b"))

    on_all = count(qwen, 9, rank=0, targets=ALL_TARGETS, convention=convention)

    assert on_all == count(qwen, 9, rank=0, convention=convention)


def counted(work, *arguments, **options):
    """Return the FLOPs of a call as PyTorch counts them, and what the call returns."""
    with FlopCounterMode(display=False) as counter:
        result = work(*arguments, **options)
    return counter.get_total_flops(), result


def forward_and_backward(model, tokens):
    window_loss(model, tokens).backward()


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((0, TARGETS), id="all weights train"),
        # All 127 choices of targets are tried on `tiny` below.
        pytest.param((3, TARGETS), id="the report's adapters"),
        pytest.param((3, ALL_TARGETS), id="adapters everywhere"),
        pytest.param((3, ("o_proj",)), id="on o"),
        pytest.param((3, ("k_proj", "down_proj")), id="on k and down"),
    ],
)
def adapters(request):
    """Return the rank and the targets of adapters; at rank 0 there are none."""
    rank, targets = request.param
    return {"rank": rank, "targets": targets}


@pytest.fixture(scope="module", params=["tiny", "smollm2"])
def model(request, adapters):
    """Return a model with these adapters, or without any and with all weights trainable."""
    model = copy.deepcopy(request.getfixturevalue(request.param).model)
    model.set_attn_implementation("eager")  # the fused attention kernel counts as zero on the CPU
    if adapters["rank"]:
        return inject_lora(model, **adapters)
    return model.float().requires_grad_(True)


BATCHES = pytest.mark.parametrize(("batch", "length"), [(1, 20), (2, 33)])


@BATCHES
def test_an_executed_forward_pass_is_what_pytorch_counts(model, adapters, batch, length):
    tokens = torch.randint(1, 13, (batch, length))

    with torch.no_grad():
        flops, _ = counted(model, tokens, use_cache=False)

    expected = forward_flops(Shape.of(model.config), length, **adapters, convention="executed")
    assert flops == batch * total(expected)


@BATCHES
def test_an_executed_forecast_is_what_pytorch_counts(model, adapters, batch, length):
    shape = Shape.of(model.config)
    tokens = torch.randint(1, 13, (batch, length))

    with torch.no_grad():
        flops, output = counted(model, tokens, use_cache=True, logits_to_keep=1)
        prefill = forecast_flops(shape, length, 1, **adapters, convention="executed")
        assert flops == batch * total(prefill)

        # Each step puts its token into the cache, so that the next one has a key more.
        for keys in (length + 1, length + 2):
            flops, _ = counted(
                model,
                tokens[:, :1],
                cache=output.past_key_values,
                use_cache=True,
                logits_to_keep=1,
            )
            step = cached_step_flops(shape, keys, **adapters, convention="executed")
            assert flops == batch * total(step)


@BATCHES
def test_an_executed_training_step_is_what_pytorch_counts(model, adapters, batch, length):
    tokens = torch.randint(1, 13, (batch, length))

    flops, _ = counted(forward_and_backward, model, tokens)

    shape = Shape.of(model.config)
    expected = train_step_flops(shape, length, batch=batch, **adapters, convention="executed")
    assert flops == total(expected)


def test_a_training_step_is_counted_right_for_every_choice_of_targets(tiny):
    shape = Shape.of(tiny.model.config)
    tokens = torch.randint(1, 13, (1, 9))

    for size in range(1, len(ALL_TARGETS) + 1):
        for targets in combinations(ALL_TARGETS, size):
            model = inject_lora(copy.deepcopy(tiny.model), 2, targets=targets)
            flops, _ = counted(forward_and_backward, model, tokens)

            expected = train_step_flops(
                shape, 9, rank=2, targets=targets, batch=1, convention="executed"
            )
            assert flops == total(expected), targets


def test_a_training_step_on_windows_with_pads_is_counted_right(tiny):
    # Of at most 128 tokens, which attention takes in one block, without leaving any pairs out.
    batch = np.ones((3, 100), dtype=np.int64)
    batch[1, 80:] = PAD_ID
    model = inject_lora(copy.deepcopy(tiny.model), 2, targets=ALL_TARGETS)

    flops, _ = counted(forward_and_backward, model, torch.from_numpy(batch))

    costs = step_costs(Shape.of(model.config), batch, rank=2, targets=ALL_TARGETS)
    assert flops == costs["executed"]


@st.composite
def shapes(draw):
    """Draw the shape of a small model, with or without grouped heads and biases."""
    head_width = draw(st.integers(1, 8))
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    return Shape(
        layers=draw(st.integers(1, 4)),
        width=heads * head_width,
        heads=heads,
        kv_heads=kv_heads,
        mlp=draw(st.integers(1, 40)),
        qkv_bias=draw(st.booleans()),
    )


@st.composite
def countings(draw):
    """Draw what decides a count beside shape and tokens: adapters or none, and a convention."""
    choices_of_targets = st.lists(st.sampled_from(ALL_TARGETS), min_size=1, unique=True)
    return {
        "rank": draw(st.integers(0, 4)),
        "targets": tuple(draw(choices_of_targets)),
        "convention": draw(st.sampled_from(CONVENTIONS)),
    }


PROMPTS = st.integers(1, 30)
NEW_TOKENS = st.integers(1, 30)


@settings(max_examples=60)
@given(shapes(), PROMPTS, NEW_TOKENS, countings())
def test_a_forecast_has_every_component_and_none_is_negative(shape, prompt, new, counting):
    forecast = forecast_flops(shape, prompt, new, **counting)

    assert list(forecast) == list(COMPONENTS)
    assert min(forecast.values()) >= 0


@settings(max_examples=60)
@given(shapes(), PROMPTS, NEW_TOKENS, countings())
def test_a_forecast_is_a_prefill_and_its_steps(shape, prompt, new, counting):
    def forecast(new_tokens, samples=1):
        return total(forecast_flops(shape, prompt, new_tokens, samples=samples, **counting))

    # One more token is one more cached step, and nothing else. As published, each step is charged
    # at the prompt's length.
    keys = prompt if counting["convention"] == "published" else prompt + new
    one_step = total(cached_step_flops(shape, keys, **counting))
    assert forecast(new + 1) - forecast(new) == one_step > 0

    # The first token comes with the prefill, and a text that ends at once took one, too.
    prefill = forecast(1)
    assert forecast(0) == prefill

    # Samples share the prefill.
    steps = forecast(new) - prefill
    assert forecast(new, samples=5) == prefill + 5 * steps
