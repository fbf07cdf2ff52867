"""The device and dtype to compute with: those of the settings, else the defaults.

A model is loaded in float32 unless somebody asks for another dtype, so that a lecture's numbers are
the same on every processor. Long work, such as a recorded training or the forecasts of a table,
asks for the dtype that is fastest here: float32, bfloat16 or, for forecasts alone, int8
(`m2lib.model.products`).
"""

import platform
import time
import timeit
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch

from m2lib import settings
from m2lib.errors import InputError
from m2lib.files import read_json, write_json
from m2lib.model.products import product_with
from m2lib.settings import cache_dir

DTYPES = ("float32", "bfloat16")
"""The dtypes that weights may have."""
INT8 = "int8"
"""The dtype that products may have besides, see `m2lib.model.products`."""


def chosen_device() -> str:
    """Return `M2_DEVICE`, else a CUDA GPU if there is one, else the CPU.

    A Mac's `mps` has to be asked for, because it does not compute quite what the CPU does.
    """
    return settings.read("M2_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def chosen_dtype() -> str:
    """Return `M2_DTYPE`, else float32, in which every processor computes nearly the same numbers.

    `M2_DTYPE` may be int8, too, which is no dtype of weights; `load_backbone` refuses it.
    """
    return settings.read("M2_DTYPE") or "float32"


def fastest_dtype(device: str) -> str:
    """Return `M2_DTYPE`, else the dtype of weights in which the device is fastest."""
    return settings.read("M2_DTYPE") or best_dtype(device)


def check_computes(device: str | torch.device) -> None:
    """Compute something, because a card that is too old for this torch takes weights all the same.

    RuntimeError where the device cannot compute.
    """
    torch.zeros(1, device=device).add_(1)


def best_dtype(device: str) -> str:
    """Return the dtype of weights in which a device, such as `cuda:1`, is fastest.

    For a CUDA GPU that is bfloat16 if it has instructions for it, and for `mps` it is float32. A
    processor may have the instructions and still be slower with them, so both dtypes are timed, see
    `measured_rates`.
    """
    if device.startswith("cuda"):
        if torch.cuda.is_available():
            # PyTorch asks the current device. One that is not there `load_backbone` refuses.
            with suppress(RuntimeError), torch.cuda.device(device):
                if torch.cuda.is_bf16_supported(including_emulation=False):
                    return "bfloat16"
        return "float32"
    if not device.startswith("cpu"):
        return "float32"
    rates = measured_rates()
    return max(DTYPES, key=rates.__getitem__)


def int8_is_best(device: str) -> bool:
    """Return whether int8 products are the fastest on a device; they are offered on CPUs alone."""
    if not device.startswith("cpu"):
        return False
    rates = measured_rates()
    return rates[INT8] > max(rates[dtype] for dtype in DTYPES)


def measured_rates() -> dict[str, float]:
    """Return the rates of `product_rates`, timed once on each machine and stored in `M2_CACHE`."""
    return measured_once("product_rates.json", (*DTYPES, INT8), product_rates)


def measured_once(
    filename: str, keys: Sequence[str], measure: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Return what `measure` returns, a number for each key, measured once on each machine.

    The file is kept in `M2_CACHE`. It is only a cache, so whatever is damaged in it, or of an older
    version, is measured anew.
    """
    machine = f"{platform.node()}, {processor_name()}, torch {torch.__version__}"
    path = cache_dir() / filename
    by_machine = _stored_numbers(path, keys)
    if machine not in by_machine:
        by_machine[machine] = measure()
        with suppress(InputError):  # if the cache cannot be written to, each process measures
            write_json(path, by_machine)
    return by_machine[machine]


def _stored_numbers(path: Path, keys: Sequence[str]) -> dict[str, dict[str, float]]:
    """Read numbers by machine and key from a file, as far as they can be read."""
    readable = {}
    with suppress(OSError, ValueError, AttributeError):  # not there, no JSON, or no object
        for machine, numbers in read_json(path).items():
            with suppress(TypeError, KeyError, ValueError):
                readable[machine] = {key: float(numbers[key]) for key in keys}
    return readable


def product_rates() -> dict[str, float]:
    """Measure the rates of one core's matrix products, FLOP/s by dtype.

    Each is the mean over as many products of (256, 576) and (576, 1536) as take 0.2 seconds: a
    shape of SmolLM2's, with fewer tokens than in training and more than in a step of decoding. The
    time is that of one core, waiting not counted, so it hardly matters what else the machine does.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    weight = torch.ones((1536, 576))
    try:
        rates = {}
        for dtype in DTYPES:
            typed = weight.to(getattr(torch, dtype))
            rates[dtype] = _product_rate(product_with(typed), typed)
        rates[INT8] = _product_rate(product_with(weight, int8=True), weight)
    finally:
        torch.set_num_threads(threads)
    return rates


def _product_rate(product: Callable[[torch.Tensor], torch.Tensor], weight: torch.Tensor) -> float:
    """Measure the FLOP/s at which 256 tokens are multiplied by a weight (d_out, d_in)."""
    tokens = torch.ones((256, weight.shape[1]), dtype=weight.dtype)
    # `autorange` times 1, 2, 5, 10, 20, ... products, until they take 0.2 seconds together. Windows
    # counts a process's time in steps of 15.6 ms, in which a single product seems to take none. And
    # where one product takes longer than 0.2 seconds, as in int8 on a processor without
    # instructions for it, it stays the only one.
    timer = timeit.Timer(partial(product, tokens), timer=time.process_time)
    count, seconds = timer.autorange()
    return 2 * len(tokens) * weight.numel() * count / seconds


def processor_name() -> str:
    """Return the processor's name as PyTorch knows it, else as Python does."""
    capabilities: dict[str, str] = {}
    if hasattr(torch.cpu, "get_capabilities"):  # torch 2.6 has no such function
        capabilities = torch.cpu.get_capabilities()
    return capabilities.get("cpu_name") or platform.processor() or platform.machine()
