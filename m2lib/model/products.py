"""The matrix products of a frozen linear layer, arranged as a processor computes them fastest.

Three kinds of product compute the same layer. The plain one is `torch.nn.functional.linear`. In
bfloat16 a CPU reads the weights in blocks, and the blocks can be laid out once. In int8 both
weights and inputs are rounded to 8 bits, because many processors multiply those several times as
fast.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import linear

Product = Callable[[torch.Tensor], torch.Tensor]
"""A linear layer as a function, x (n, d_in) -> (n, d_out), of x's dtype."""

LARGEST = 127  # of an int8, leaving out -128 so that the range is symmetric
TINY = torch.finfo(torch.float32).tiny


def product_with(
    weight: torch.Tensor, bias: torch.Tensor | None = None, int8: bool = False
) -> Product:
    """Make a frozen linear layer into a function, to be called where no gradients are kept.

    Parameters
    ----------
    weight : Tensor of float, shape (d_out, d_in)
        The weights. They are not changed, and in 8 bits or in blocks they are copied.
    bias : Tensor of float, shape (d_out,), optional
        Added to each output.
    int8 : bool, optional
        Whether the product is computed in 8 bits, see `int8_product`.

    Returns
    -------
    callable
        x (n, d_in) -> (n, d_out).
    """
    if int8:
        return int8_product(weight, bias)
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _can_pack():
        return _packed_product(weight, bias)
    return partial(linear, weight=weight, bias=bias)


@torch.no_grad()
def int8_product(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Product:
    """Return a linear layer in 8 bits: whole numbers are multiplied, and scaled back afterwards.

    Each row of the weights and each row of x has a scale of its own, so that its largest number
    becomes 127 [1]_ [2]_. One row of x with one of the weights::

        x  =  0.5 -1.0  0.2     scale 1.0 / 127     in 8 bits   64 -127  25
        w  =  0.3  0.1 -0.6     scale 0.6 / 127     in 8 bits   64   21 -127

        64 * 64 - 127 * 21 - 25 * 127 = -1746;  -1746 * (1.0 / 127) * (0.6 / 127) = -0.065

    The exact product is -0.07. Of many numbers the errors cancel in part: a layer's outputs are off
    by one per cent, as a root mean square.

    Parameters
    ----------
    weight : Tensor of float, shape (d_out, d_in)
        The weights.
    bias : Tensor of float, shape (d_out,), optional
        Added to each output, unrounded.

    Returns
    -------
    callable
        x (n, d_in) -> (n, d_out).

    References
    ----------
    .. [1] Yao et al., "ZeroQuant: Efficient and Affordable Post-Training Quantization for
       Large-Scale Transformers", NeurIPS 2022. (A scale for each token.)
    .. [2] Dettmers et al., "LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale",
       NeurIPS 2022.
    """
    whole_weight, weight_scale = _to_int8(weight.float())
    columns = whole_weight.T  # (d_in, d_out)
    weight_scale = weight_scale.T  # (1, d_out)

    def product(x: torch.Tensor) -> torch.Tensor:
        """Return the layer's outputs (n, d_out) of x (n, d_in)."""
        whole, scale = _to_int8(x.float())
        # `_int_mm` gives the exact sums, as int32.
        y = torch._int_mm(whole, columns).float().mul_(scale).mul_(weight_scale)
        if bias is not None:
            y.add_(bias)
        return y.to(x.dtype)

    return product


def _to_int8(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows (n, d) as int8, and a scale (n, 1) for each: whole * scale is near the row."""
    # A row of zeros gets a tiny scale instead of 0, because 0 / 0 is no number.
    scale = rows.abs().amax(1, keepdim=True).div_(LARGEST).clamp_(min=TINY)
    return (rows / scale).round_().to(torch.int8), scale


def _packed_product(weight: torch.Tensor, bias: torch.Tensor | None) -> Product:
    """Return a linear layer in bfloat16 whose weights lie in blocks, as oneDNN's kernels read them.

    `linear` rearranges them in each call: with 16 rows that is half of the time, with 50 a fifth.
    Here it is done once, by the operators that `torch.compile` puts in the place of `linear`. The
    numbers are the same to the bit.
    """
    operators = torch.ops.mkldnn
    packed = operators._reorder_linear_weight(weight.detach())
    # The last three arguments are for an activation of the outputs, and there is none.
    return lambda x: operators._linear_pointwise(x, packed, bias, "none", [], "")


def _can_pack() -> bool:
    """Return whether this torch has the operators for packed weights, and this processor bfloat16.

    They are not part of torch's public interface, and may be missing.
    """
    operators = torch.ops.mkldnn
    needed = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(operators, name) for name in needed):
        return False
    return operators._is_mkldnn_bf16_supported()
