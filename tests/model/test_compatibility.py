"""Both generations of transformers, whichever is installed: each stands in for the model. And torch with and without
operators that it does not promise."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

from m2lib.model import compatibility
from m2lib.model.compatibility import cache_argument, checkpoint_activations, product_with


def test_the_cache_has_the_name_that_the_model_takes(tiny):
    newer = SimpleNamespace(forward=lambda input_ids, cache=None: None)
    older = SimpleNamespace(forward=lambda input_ids, past_key_values=None: None)
    assert (cache_argument(newer), cache_argument(older)) == ("cache", "past_key_values")
    assert cache_argument(tiny.model) in ("cache", "past_key_values")


@pytest.mark.parametrize("kinds", [["gradient"], ["activation"], ["activation", "gradient"]])  # between them, both
def test_checkpointing_is_asked_for_by_the_newest_name(kinds):
    asked = []
    model = SimpleNamespace()
    for kind in kinds:
        setattr(model, f"{kind}_checkpointing_enable", lambda how, kind=kind: asked.append((kind, how)))
        setattr(model, f"{kind}_checkpointing_disable", lambda kind=kind: asked.append((kind, "off")))
    checkpoint_activations(model, True)
    checkpoint_activations(model, False)
    assert asked == [(kinds[0], {"use_reentrant": False}), (kinds[0], "off")]


@pytest.mark.parametrize("rows", [1, 3, 50, 640])
@pytest.mark.parametrize("biased", [False, True])
def test_a_weight_in_blocks_gives_the_same_bits(rows, biased):
    random = torch.Generator().manual_seed(0)
    x, weight, bias = (
        torch.randn(shape, generator=random, dtype=torch.bfloat16) for shape in ((rows, 96), (160, 96), (160,))
    )
    product = product_with(weight, bias if biased else None)
    with torch.inference_mode():
        assert torch.equal(product(x), linear(x, weight, bias if biased else None))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_there_are_no_blocks_the_weight_is_shared(monkeypatch, dtype):
    monkeypatch.setattr(compatibility, "_bfloat16_in_blocks", lambda: False)
    weight = torch.zeros(4, 3, dtype=dtype)
    product = product_with(weight)
    weight += 1
    assert product(torch.ones(2, 3, dtype=dtype)).tolist() == [[3.0] * 4] * 2


def test_a_torch_without_the_operators_is_no_error(monkeypatch):
    monkeypatch.setattr(torch, "ops", SimpleNamespace(mkldnn=SimpleNamespace(_linear_pointwise=None)))
    assert not compatibility._bfloat16_in_blocks()
