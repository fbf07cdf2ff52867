"""Frozen linear layers, computed in int8 or from weights in blocks, give what plain ones give."""

from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import linear

from m2lib.model.products import int8_product, product_with

WITH_AND_WITHOUT_BIAS = pytest.mark.parametrize(
    "biased", [pytest.param(False, id="no bias"), pytest.param(True, id="bias")]
)
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


def random_layer(rows, dtype, biased):
    """Return inputs (rows, 96), and the weight and the bias or None of a layer of 96 -> 160."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 96, generator=generator).to(dtype)
    weight = torch.randn(160, 96, generator=generator).to(dtype)
    bias = torch.randn(160, generator=generator).to(dtype)
    return x, weight, bias if biased else None


def test_an_int8_product_by_hand():
    """It is the example in the docstring of `int8_product`."""
    product = int8_product(torch.tensor([[0.3, 0.1, -0.6]]))

    (y,) = product(torch.tensor([[0.5, -1.0, 0.2]]))

    # The sum over the whole numbers, times the scale of x, times the scale of the weight.
    assert y.item() == pytest.approx(-1746 * (1 / 127) * (0.6 / 127), rel=1e-5)


@DTYPES
@WITH_AND_WITHOUT_BIAS
def test_an_int8_product_is_off_by_about_one_per_cent(dtype, biased):
    x, weight, bias = random_layer(40, dtype, biased)
    # The rows have very different sizes. One scale for all would round the small ones to zero.
    x *= torch.logspace(-3, 3, 40)[:, None].to(dtype)
    weight *= torch.logspace(-2, 2, 160)[:, None].to(dtype)

    y = product_with(weight, bias, int8=True)(x)

    exact = linear(x.double(), weight.double(), bias.double() if biased else None)
    errors = (y - exact).norm(dim=1) / exact.norm(dim=1)
    assert 0.002 < float(errors.median()) < 0.02
    assert float(errors.max()) < 0.03


@DTYPES
@WITH_AND_WITHOUT_BIAS
def test_an_int8_product_has_the_dtype_of_its_input(dtype, biased):
    x, weight, bias = random_layer(40, dtype, biased)

    assert product_with(weight, bias, int8=True)(x).dtype == dtype


@DTYPES
@WITH_AND_WITHOUT_BIAS
def test_an_int8_product_leaves_the_weight_alone(dtype, biased):
    x, weight, bias = random_layer(40, dtype, biased)
    before = weight.clone()

    product_with(weight, bias, int8=True)(x)

    assert torch.equal(weight, before)


def test_in_int8_zeros_stay_zeros():
    """A row of zeros has no largest number to scale it by."""
    weight = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
    bias = torch.tensor([5.0, 6.0])

    assert int8_product(weight)(x)[0].tolist() == [0, 0]

    # The first output is that of the weight's row of zeros, so only the bias is left.
    assert int8_product(weight, bias)(x)[:, 0].tolist() == [5, 5]


@pytest.mark.parametrize("rows", [1, 50])
@WITH_AND_WITHOUT_BIAS
def test_a_weight_in_blocks_gives_the_same_bits(rows, biased):
    x, weight, bias = random_layer(rows, torch.bfloat16, biased)

    with torch.inference_mode():
        assert torch.equal(product_with(weight, bias)(x), linear(x, weight, bias))


def test_where_torch_cannot_lay_out_blocks_the_weight_is_not_copied(monkeypatch):
    # Only one of the three operators that it takes is there. Another version may lack some.
    some_operators = SimpleNamespace(mkldnn=SimpleNamespace(_linear_pointwise=None))
    monkeypatch.setattr(torch, "ops", some_operators)
    weight = torch.zeros(4, 3, dtype=torch.bfloat16)

    product = product_with(weight)
    weight += 1

    ones = torch.ones(2, 3, dtype=torch.bfloat16)
    assert product(ones).tolist() == [[3.0] * 4] * 2  # with the weight's new values
