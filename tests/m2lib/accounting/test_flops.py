import copy
from dataclasses import replace
from itertools import combinations

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
from m2lib.accounting.shape import COMPONENTS, TARGETS, Shape, added, total
from m2lib.model.backbones import backbone_config, meta_model
from m2lib.model.lora import ALL_TARGETS, inject_lora
from m2lib.model.vocabulary import PAD_ID, reduce_vocabulary
from m2lib.series import TABLES
from m2lib.training.loop import step_costs
from m2lib.training.windows import window_loss
from study.synthetic import synthetic_windows

QWEN = Shape.of(backbone_config("qwen2.5-0.5b"))
SMOLLM2 = Shape.of(backbone_config("smollm2-135m"))
TOY = Shape(layers=1, width=4, heads=2, kv_heads=1, mlp=8, vocabulary=13, qkv_bias=True)


def test_coursework_check_values():
    assert total(forward_flops(QWEN, 512, rank=4)) == 425_146_783_232
    assert total(train_step_flops(QWEN, 512, rank=4, batch=2)) == 2_550_880_699_392
    assert total(forecast_flops(QWEN, 512, 220)) == 608_639_707_337


def test_coursework_by_hand():
    """N = 3 tokens, d = 4, 2 heads of c = 2, MLP of 8, 13 symbols, rank 1, one layer, q, k and v
    with bias."""
    forward = forward_flops(TOY, 3, rank=1)
    assert forward == {
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
    assert list(forward) == list(COMPONENTS)
    assert total(train_step_flops(TOY, 3, rank=1, batch=2)) == 3 * 2 * total(forward)
    assert total(forward_flops(TOY, 3)) == total(forward) - forward["lora"]
    without_bias = replace(TOY, qkv_bias=False)
    assert total(forward) - total(forward_flops(without_bias, 3, rank=1)) == 3 * 12

    # One token over 4 keys, its own included: the parts that see the keys.
    step = cached_step_flops(TOY, 4)
    assert (step["scores"], step["mask"]) == (2 * (4 * 3 + 4), 2 * 4)
    assert (step["softmax"], step["values"]) == (2 * (4 * 10 + 3 + 4), 2 * 2 * 7)
    assert step["mlp"] == forward["mlp"] // 3
    five = forward_flops(TOY, 3), cached_step_flops(TOY, 4), cached_step_flops(TOY, 5)
    assert forecast_flops(TOY, 3, 3) == added(*five)


def test_adapters_elsewhere_by_hand():
    """A target d_in -> d_out of rank r: A is N r (2 d_in - 1), B is N d_out (2 r - 1), scale and
    sum are 2 N d_out."""

    def cost(convention, *targets):
        return forward_flops(TOY, 3, rank=2, targets=targets, convention=convention)["lora"]

    # 4 -> 4; by the rules also k and v, as if heads were not grouped
    square = 3 * 2 * 7 + 3 * 4 * 3 + 2 * 3 * 4
    # 4 -> 8, and 8 -> 4
    wide = 3 * 2 * 7 + 3 * 8 * 3 + 2 * 3 * 8
    back = 3 * 2 * 15 + 3 * 4 * 3 + 2 * 3 * 4
    by_rules = dict(zip(ALL_TARGETS, (square,) * 4 + (wide, wide, back), strict=True))
    executed = dict(
        zip(
            ALL_TARGETS,
            (2 * 3 * 2 * sum(widths) for widths in TOY.projections.values()),
            strict=True,
        )
    )
    assert list(TOY.projections.values()) == [
        (4, 4),
        (4, 2),
        (4, 2),
        (4, 4),
        (4, 8),
        (4, 8),
        (8, 4),
    ]
    # As published q, k and v sit in each of two heads, 2 -> 2; the others as by the rules, without
    # the scale.
    in_heads = 2 * (3 * 2 * 3 + 3 * 2 * 3 + 3 * 2)
    published = {name: flops - 3 * TOY.projections[name][1] for name, flops in by_rules.items()}
    published |= dict.fromkeys(ALL_TARGETS[:3], in_heads)
    for convention, costs in (
        ("coursework", by_rules),
        ("executed", executed),
        ("published", published),
    ):
        for name, flops in costs.items():
            assert cost(convention, name) == flops, (convention, name)
        assert cost(convention, *ALL_TARGETS) == sum(costs.values())


def test_targets_are_the_layers_that_lora_knows(tiny):
    block = tiny.model.model.layers[0]
    found = {
        name.split(".")[-1]: layer
        for name, layer in block.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    sizes = Shape.of(tiny.model.config).projections
    assert list(sizes.items()) == [
        (name, (layer.in_features, layer.out_features)) for name, layer in found.items()
    ]


def test_without_adapters_targets_change_nothing():
    for convention in CONVENTIONS:
        for count in (forward_flops, cached_step_flops, train_step_flops):
            kind = {"rank": 0, "convention": convention}
            assert count(QWEN, 9, **kind) == count(QWEN, 9, targets=ALL_TARGETS, **kind)


def counted(work):
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.fixture(params=["tiny", "smollm2"])
def model(request):
    model = copy.deepcopy(request.getfixturevalue(request.param).model)
    model.set_attn_implementation("eager")  # the fused attention kernel counts as zero on the CPU
    return model


# All 127 are tried on `tiny` below.
CHOICES = [TARGETS, ALL_TARGETS, ("o_proj",), ("k_proj", "down_proj")]


@pytest.mark.parametrize(
    ("rank", "targets"), [(0, TARGETS), *((3, targets) for targets in CHOICES)]
)
def test_executed_is_what_the_machine_counts(model, rank, targets):
    shape = Shape.of(model.config)
    adapter = {"rank": rank, "targets": targets, "convention": "executed"}
    if rank:
        inject_lora(model, rank, targets=targets)
    else:  # all weights train
        model.float().requires_grad_(True)
    for batch, length in ((1, 20), (2, 33)):
        tokens = torch.randint(1, 13, (batch, length))
        with torch.no_grad():
            forward = counted(lambda tokens=tokens: model(tokens, use_cache=False))
            assert forward == batch * total(forward_flops(shape, length, **adapter))

            caches = []
            prefill = counted(
                lambda tokens=tokens, caches=caches: caches.append(
                    model(tokens, use_cache=True, logits_to_keep=1).past_key_values
                )
            )
            assert prefill == batch * total(forecast_flops(shape, length, 1, **adapter))
            for keys in (length + 1, length + 2):
                step = counted(
                    lambda tokens=tokens, caches=caches: model(
                        tokens[:, :1], cache=caches[0], use_cache=True, logits_to_keep=1
                    )
                )
                assert step == batch * total(cached_step_flops(shape, keys, **adapter))

        train = counted(lambda tokens=tokens: window_loss(model, tokens).backward())
        assert train == total(train_step_flops(shape, length, batch=batch, **adapter))


def test_a_step_counts_right_for_every_choice_of_targets(tiny):
    tiny_shape = Shape.of(tiny.model.config)
    tokens = torch.randint(1, 13, (1, 9))
    for targets in (some for count in range(1, 8) for some in combinations(ALL_TARGETS, count)):
        model = inject_lora(copy.deepcopy(tiny.model), 2, targets=targets)
        step = train_step_flops(
            tiny_shape, 9, rank=2, targets=targets, batch=1, convention="executed"
        )
        assert counted(lambda model=model: window_loss(model, tokens).backward()) == total(step), (
            targets
        )


def test_a_step_of_synthetic_series_counts_what_the_machine_counts(tiny):
    # of 128 tokens at most, which attention takes in one block
    windows = synthetic_windows(200, 3, TABLES.of(1))
    batch = next(rows for rows in map(windows, range(99)) if (rows == PAD_ID).any())
    model = inject_lora(copy.deepcopy(tiny.model), 2, targets=ALL_TARGETS)
    costs = step_costs(Shape.of(model.config), batch, rank=2, targets=ALL_TARGETS)
    assert (
        counted(lambda: window_loss(model, torch.from_numpy(batch)).backward()) == costs["executed"]
    )


@pytest.mark.parametrize(("name", "shape"), [("qwen2.5-0.5b", QWEN), ("smollm2-135m", SMOLLM2)])
def test_shape_counts_the_modules_parameters(name, shape, tiny):
    """The products' weights, from the shape alone, are the parameters that the real module
    holds."""
    model = reduce_vocabulary(meta_model(backbone_config(name)), tiny.remap)
    counts = {
        part: sum(parameter.numel() for name, parameter in model.named_parameters() if part in name)
        for part in ("self_attn", "mlp", "lm_head")
    }
    one_token = forward_flops(shape, 1, convention="executed")
    attention = (one_token["qkv"] + one_token["output"]) // 2
    biases = shape.layers * (shape.width + 2 * shape.kv_width) * shape.qkv_bias
    assert attention + biases == counts["self_attn"]
    assert one_token["mlp"] // 2 == counts["mlp"]
    assert one_token["head"] // 2 + 13 == counts["lm_head"]
    adapters = inject_lora(model, 2)
    lora = sum(
        parameter.numel() for path, parameter in adapters.named_parameters() if "lora_" in path
    )
    assert forward_flops(shape, 1, rank=2, convention="executed")["lora"] // 2 == lora


shapes = st.builds(
    lambda layers, groups, per_group, c, mlp, bias: Shape(
        layers, groups * per_group * c, groups * per_group, groups, mlp, qkv_bias=bias
    ),
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3),
    st.integers(1, 8), st.integers(1, 40), st.booleans(),
)  # fmt: skip
conventions = st.sampled_from(CONVENTIONS)


@settings(max_examples=60)
@given(
    shapes, conventions, st.integers(1, 30), st.integers(1, 30), st.integers(0, 4),
    st.lists(st.sampled_from(ALL_TARGETS), min_size=1, unique=True).map(tuple),
)  # fmt: skip
def test_a_forecast_is_a_prefill_and_its_steps(shape, convention, tokens, new, rank, targets):
    kind = {"rank": rank, "targets": targets, "convention": convention}

    def forecast(new=new, samples=1):
        one = forecast_flops(shape, tokens, new, samples=samples, **kind)
        assert list(one) == list(COMPONENTS)
        assert all(flops >= 0 for flops in one.values())
        return total(one)

    # One more token is one more cached step, and nothing else.
    keys = tokens if convention == "published" else tokens + new
    assert forecast(new + 1) - forecast() == total(cached_step_flops(shape, keys, **kind)) > 0
    # The first token comes with the prefill, and a text that ends at once took one, too.
    assert forecast(0) == forecast(1)
    # Samples share the prefill.
    assert forecast(samples=5) == forecast(1) + 5 * (forecast() - forecast(1))
