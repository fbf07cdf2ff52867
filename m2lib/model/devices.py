"""What computes, and in which dtype: as the settings say, else the fastest here."""

import platform
import timeit
from contextlib import suppress
from functools import partial

import torch

from m2lib import settings
from m2lib.files import InputError, read_json, write_json
from m2lib.settings import cache_dir

DTYPES = ("float32", "bfloat16")
"""What weights may be in."""


def chosen_device() -> str:
    """`M2_DEVICE`, else the fastest device here that computes what the CPU does: a Mac's `mps` has
    to be asked for."""
    return settings.read("M2_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def chosen_dtype(device: str) -> str:
    """`M2_DTYPE`, else the dtype in which the device is fastest."""
    return settings.read("M2_DTYPE") or best_dtype(device)


def best_dtype(device: str) -> str:
    """The dtype in which a device, such as `cuda:1`, is fastest.

    A GPU takes bfloat16 where it has instructions for it. A processor may have them and still be
    slower: it multiplies in both, once, and its answer is kept in `M2_CACHE`.
    """
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if not device.startswith("cpu"):
        return "float32"
    kept = cache_dir() / "product_rates.json"
    here = f"{platform.node()}, {processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    known = read_json(kept) if kept.exists() else {}
    if here not in known:
        known[here] = product_rates()
        with suppress(InputError):  # a cache that cannot be written to: measured each time
            write_json(kept, known)
    return max(known[here], key=known[here].__getitem__)


def product_rates() -> dict[str, float]:
    """How fast this processor multiplies matrices of the shape that training has, in FLOP/s by
    dtype.

    The best of five products of (1024, 576) and (576, 1536): 1.8 GFLOP each.
    """
    rates = {}
    for dtype in DTYPES:
        inputs = [
            torch.ones(shape, dtype=getattr(torch, dtype)) for shape in ((1024, 576), (1536, 576))
        ]
        # Six times, for in the first, which is the slowest, kernels are chosen.
        seconds = timeit.repeat(partial(torch.nn.functional.linear, *inputs), number=1, repeat=6)
        rates[dtype] = 2 * 1024 * 576 * 1536 / min(seconds)
    return rates


def processor_name() -> str:
    """What the processor is called, as PyTorch knows it, else as Python does."""
    capabilities: dict[str, str] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # torch 2.6 has no such function
    return capabilities.get("cpu_name") or platform.processor() or platform.machine()
