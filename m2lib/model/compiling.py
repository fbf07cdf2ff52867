"""Compiled blocks, for training that takes hours: `torch.compile` makes one pass of each run of elementwise work."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import PreTrainedModel

from m2lib.files import InputError, first_line


def check_compiler(device: torch.device) -> None:
    """See that `torch.compile` works here, and forget what it has compiled so far.

    It keeps eight versions of a function and leaves a ninth uncompiled; every rank and batch size makes one.

    Parameters
    ----------
    device : torch.device
        To compile for.

    Raises
    ------
    InputError
        Where the C++ compiler is missing that it needs for a CPU, or Triton, for a GPU.
    """
    torch.compiler.reset()
    try:
        torch.compile(torch.relu)(torch.zeros(2, device=device))
    except RuntimeError as error:
        why = first_line(getattr(error, "inner_exception", error))  # older versions of torch wrap it
        raise InputError(
            f"M2_COMPILE=1 needs what torch.compile needs (on a CPU a C++ compiler and Python's headers): {why}"
        ) from error


@contextmanager
def compiled_blocks(model: PreTrainedModel, wanted: bool = True) -> Iterator[None]:
    """Let a model run its blocks compiled while the `with` block runs.

    The first pass takes up to a minute more, and what is compiled then serves batches of any length. Results differ by
    rounding: what is compiled rounds to the model's dtype at the end of a run of operations, not after each.

    Parameters
    ----------
    model : PreTrainedModel
        Llama- or Qwen2-shaped; afterwards it is as it was.
    wanted : bool, optional
        Without it nothing is changed.
    """
    blocks = model.model.layers if wanted else []
    for block in blocks:
        # All blocks are instances of one class, and share what is compiled for the first of them. It is made for any
        # shape from the start: else the first lengths would have versions of their own, which round otherwise, and
        # which of them a step took would depend on where its run began.
        block.forward = torch.compile(block.forward, dynamic=True)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # and the class's own is seen again
