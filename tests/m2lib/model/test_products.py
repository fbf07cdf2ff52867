from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

from m2lib.model.products import int8_product, product_with


def test_in_int8_a_product_is_that_of_the_docstring():
    product = int8_product(torch.tensor([[0.3, 0.1, -0.6]]))
    (y,) = product(torch.tensor([[0.5, -1.0, 0.2]]))
    assert y.item() == pytest.approx(-1746 * (1 / 127) * (0.6 / 127), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("biased", [False, True])
def test_in_int8_a_product_is_off_by_a_per_cent(dtype, biased):
    random = torch.Generator().manual_seed(0)
    shapes = (40, 96), (160, 96), (160,)
    x, weight, bias = (torch.randn(shape, generator=random).to(dtype) for shape in shapes)
    # Rows of different sizes, each of which has a scale of its own.
    x *= torch.logspace(-3, 3, 40)[:, None].to(dtype)
    weight *= torch.logspace(-2, 2, 160)[:, None].to(dtype)
    bias = bias if biased else None
    before = weight.clone()
    made = product_with(weight, bias, int8=True)(x)
    exact = linear(x.double(), weight.double(), None if bias is None else bias.double())
    off = (made - exact).norm(dim=1) / exact.norm(dim=1)
    assert made.dtype == dtype
    assert 0.002 < float(off.median()) < 0.02
    assert float(off.max()) < 0.03
    assert torch.equal(weight, before)


def test_in_int8_zeros_stay_zeros():
    weight = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    bias = torch.tensor([5.0, 6.0])
    assert int8_product(weight)(x).tolist()[0] == [0, 0]
    assert int8_product(weight, bias)(x)[:, 0].tolist() == [5, 5]


@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize("biased", [False, True])
def test_a_weight_in_blocks_gives_the_same_bits(rows, biased):
    random = torch.Generator().manual_seed(0)
    shapes = (rows, 96), (160, 96), (160,)
    x, weight, bias = (
        torch.randn(shape, generator=random, dtype=torch.bfloat16) for shape in shapes
    )
    bias = bias if biased else None
    with torch.inference_mode():
        assert torch.equal(product_with(weight, bias)(x), linear(x, weight, bias))


def test_where_torch_has_no_blocks_the_weight_is_shared(monkeypatch):
    monkeypatch.setattr(
        torch, "ops", SimpleNamespace(mkldnn=SimpleNamespace(_linear_pointwise=None))
    )
    weight = torch.zeros(4, 3, dtype=torch.bfloat16)
    product = product_with(weight)
    weight += 1
    assert product(torch.ones(2, 3, dtype=torch.bfloat16)).tolist() == [[3.0] * 4] * 2
