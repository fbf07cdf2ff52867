"""What other versions of transformers and torch call by other names or lack: the rest of the library has one name."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def cache_argument(model: "PreTrainedModel") -> str:
    """What the model calls its KV cache: transformers 5.24 renamed the argument.

    Parameters
    ----------
    model : PreTrainedModel
        Whose `forward` is asked.

    Returns
    -------
    str
        `cache`, or `past_key_values` in older versions.
    """
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def checkpoint_activations(model: "PreTrainedModel", wanted: bool) -> None:
    """Turn gradient checkpointing on or off: transformers 5.24 renamed it to activation checkpointing.

    Parameters
    ----------
    model : PreTrainedModel
        While it is on, a forward pass in training mode keeps each layer's input only, and the backward pass computes
        the rest again.
    wanted : bool
        Whether it is to be on.
    """
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if wanted:
        getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    else:
        getattr(model, f"{kind}_checkpointing_disable")()


def product_with(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
    """A frozen linear layer as a function.

    On a CPU in bfloat16 oneDNN's kernels read a matrix in blocks, and `linear` puts it into blocks anew in each call:
    with 16 rows that is half of the time, with 50 a fifth. Here it is done once, by the operators that `torch.compile`
    puts in the place of `linear`. They are not part of torch's public interface: where they are missing, the product
    is the plain one. The numbers are the same to the bit.

    Parameters
    ----------
    weight : Tensor, shape (d_out, d_in)
        Copied where it is put into blocks, else shared.
    bias : Tensor, shape (d_out,), optional
        In the same dtype.

    Returns
    -------
    callable
        x (n, d_in) -> (n, d_out), without gradients.
    """
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _bfloat16_in_blocks():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
        return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return partial(linear, weight=weight, bias=bias)


def _bfloat16_in_blocks() -> bool:
    """Whether torch has oneDNN's operators for weights in blocks, and the processor its kernels for bfloat16."""
    operators = torch.ops.mkldnn
    needed = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return all(hasattr(operators, name) for name in needed) and operators._is_mkldnn_bf16_supported()
