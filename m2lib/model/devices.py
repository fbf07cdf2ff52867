"""The device and dtype to compute with: those of the settings, else the fastest here."""

import platform
import timeit
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from m2lib import settings
from m2lib.files import InputError, read_json, write_json
from m2lib.settings import cache_dir

DTYPES = ("float32", "bfloat16")
"""The dtypes that weights may have."""


def chosen_device() -> str:
    """`M2_DEVICE`, else a CUDA GPU if there is one, else the CPU.

    A Mac's `mps` has to be asked for, because it does not compute quite what the CPU does.
    """
    return settings.read("M2_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def chosen_dtype(device: str) -> str:
    """`M2_DTYPE`, else the dtype in which the device is fastest."""
    return settings.read("M2_DTYPE") or best_dtype(device)


def best_dtype(device: str) -> str:
    """The dtype in which a device, such as `cuda:1`, is fastest.

    For a GPU that is bfloat16 if it has instructions for it. A processor may have them and still be
    slower, so both dtypes are timed, once, and the rates are stored in `M2_CACHE`.
    """
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if not device.startswith("cpu"):
        return "float32"

    threads = f"{torch.get_num_threads()} threads"
    machine = f"{platform.node()}, {processor_name()}, {threads}, torch {torch.__version__}"
    path = cache_dir() / "product_rates.json"
    rates_by_machine = _stored_rates(path)
    if machine not in rates_by_machine:
        rates_by_machine[machine] = product_rates()
        with suppress(InputError):  # if the cache cannot be written to, each process measures
            write_json(path, rates_by_machine)
    rates = rates_by_machine[machine]
    return max(rates, key=rates.__getitem__)


def _stored_rates(path: Path) -> dict[str, dict[str, float]]:
    """The rates by machine and dtype that a file holds: those that can be read, if there are any.

    They are only a cache, so whatever is damaged is measured anew.
    """
    whole = {}
    with suppress(OSError, ValueError, AttributeError):  # not there, no JSON, or no object
        for machine, rates in read_json(path).items():
            with suppress(TypeError, KeyError, ValueError):
                whole[machine] = {dtype: float(rates[dtype]) for dtype in DTYPES}
    return whole


def product_rates() -> dict[str, float]:
    """The rate of this processor's matrix products, FLOP/s by dtype, at a shape from training.

    It is that of the fastest of six products of (1024, 576) and (576, 1536), 1.8 GFLOP each. The
    first is the slowest, because kernels are chosen in it.
    """
    rates = {}
    for dtype in DTYPES:
        tokens = torch.ones((1024, 576), dtype=getattr(torch, dtype))
        weight = torch.ones((1536, 576), dtype=getattr(torch, dtype))
        multiply = partial(torch.nn.functional.linear, tokens, weight)
        seconds = timeit.repeat(multiply, number=1, repeat=6)
        rates[dtype] = 2 * 1024 * 576 * 1536 / min(seconds)
    return rates


def processor_name() -> str:
    """The processor's name as PyTorch knows it, else as Python does."""
    capabilities: dict[str, str] = {}
    if hasattr(torch.cpu, "get_capabilities"):  # torch 2.6 has no such function
        capabilities = torch.cpu.get_capabilities()
    return capabilities.get("cpu_name") or platform.processor() or platform.machine()
