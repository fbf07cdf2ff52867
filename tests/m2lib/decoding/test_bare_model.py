"""Frozen linear layers give the same from weights in blocks as from plain ones."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

from m2lib.decoding.bare_model import _product


@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize(
    "biased", [pytest.param(False, id="no bias"), pytest.param(True, id="bias")]
)
def test_a_weight_in_blocks_gives_the_same_bits(rows, biased):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 96, generator=generator).bfloat16()
    weight = torch.randn(160, 96, generator=generator).bfloat16()
    bias = torch.randn(160, generator=generator).bfloat16() if biased else None

    with torch.inference_mode():
        assert torch.equal(_product(weight, bias)(x), linear(x, weight, bias))


def test_where_torch_cannot_lay_out_blocks_the_weight_is_not_copied(monkeypatch):
    # Only one of the three operators that it takes is there. Another version may lack some.
    some_operators = SimpleNamespace(mkldnn=SimpleNamespace(_linear_pointwise=None))
    monkeypatch.setattr(torch, "ops", some_operators)
    weight = torch.zeros(4, 3, dtype=torch.bfloat16)

    product = _product(weight)
    weight += 1

    ones = torch.ones(2, 3, dtype=torch.bfloat16)
    assert product(ones).tolist() == [[3.0] * 4] * 2  # with the weight's new values
