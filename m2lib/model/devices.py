"""What computes, and in which dtype: as the settings say, else the fastest here."""

import json
import platform
import time
from contextlib import suppress

from m2lib import settings
from m2lib.files import InputError, write_atomic
from m2lib.settings import cache_dir

DTYPES = ("float32", "bfloat16")
"""What weights may be in."""


def chosen_device() -> str:
    """The device that is used where a call names none.

    Returns
    -------
    str
        `M2_DEVICE`, else `best_device`.
    """
    return settings.read("M2_DEVICE") or best_device()


def chosen_dtype(device: str) -> str:
    """The dtype that is used where a call names none.

    Parameters
    ----------
    device : str
        As in `best_dtype`.

    Returns
    -------
    str
        `M2_DTYPE`, else `best_dtype` of the device.
    """
    return settings.read("M2_DTYPE") or best_dtype(device)


def best_device() -> str:
    """The fastest device here that computes what the CPU does; a Mac's `mps` has to be asked for.

    Returns
    -------
    str
        `cuda` or `cpu`.
    """
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def best_dtype(device: str) -> str:
    """The dtype in which a device is fastest; a processor is asked once, and its answer kept in `M2_CACHE`.

    Parameters
    ----------
    device : str
        As PyTorch names it, such as `cuda:1`.

    Returns
    -------
    str
        `bfloat16` or `float32`. A GPU takes bfloat16 where it has instructions for it. A processor may have them and
        still be slower: it multiplies in both, and the faster one is taken.
    """
    import torch

    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if not device.startswith("cpu"):
        return "float32"
    kept = cache_dir() / "product_rates.json"
    here = f"{platform.node()}, {processor_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    known: dict[str, dict[str, float]] = {}
    with suppress(OSError, ValueError):  # no such file yet, or one that was cut short: measured again
        known = json.loads(kept.read_text(encoding="utf-8"))
    if here not in known:
        known[here] = product_rates()
        with suppress(InputError):  # a cache that cannot be written to: measured each time
            write_atomic(kept, json.dumps(known, indent=1).encode())
    return max(known[here], key=known[here].__getitem__)


def product_rates() -> dict[str, float]:
    """How fast this machine's processor multiplies matrices of the shape that training has.

    Returns
    -------
    dict of str to float
        FLOP/s by dtype, the best of five products of (1024, 576) and (576, 1536): 1.8 GFLOP each.
    """
    import torch

    rates = {}
    for dtype in DTYPES:
        rows, weight = (torch.ones(shape, dtype=getattr(torch, dtype)) for shape in ((1024, 576), (1536, 576)))
        seconds = []
        for _ in range(6):  # the first, in which kernels are chosen, is the slowest
            began = time.perf_counter()
            torch.nn.functional.linear(rows, weight)
            seconds.append(time.perf_counter() - began)
        rates[dtype] = 2 * 1024 * 576 * 1536 / min(seconds)
    return rates


def processor_name() -> str:
    """What the processor is called.

    Returns
    -------
    str
        As PyTorch knows it, else as Python does.
    """
    import torch

    capabilities: dict[str, str] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.6 has no such function
    return capabilities.get("cpu_name") or platform.processor() or platform.machine()
