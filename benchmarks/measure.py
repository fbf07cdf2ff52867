"""Seconds, peak memory, and what the machine can do at most are measured here."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import psutil
import torch

from m2lib.accounting.shape import Shape


def seconds(
    work: Callable[[], object], device: torch.device, repeats: int = 1, warm: bool = True
) -> float:
    """Return the least of several times that `work` takes, after a warm-up that does not count.

    With `warm` False there is none on a CPU, because long work needs none. A graphics card always
    gets one, because at first it loads its kernels, and cuDNN makes a plan for each size.
    """
    if warm or device.type != "cpu":
        work()
    times = []
    for _ in range(repeats):
        _finish(device)
        start = time.perf_counter()
        work()
        _finish(device)
        times.append(time.perf_counter() - start)
    return min(times)


def _finish(device: torch.device) -> None:
    """Wait until a graphics card, which works through a queue, has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def product_rate(shape: Shape, dtype: torch.dtype, device: torch.device, rows: int) -> float:
    """Return the FLOP/s of the model's own products, at best.

    The products are those of the weights of eight blocks with the same `rows` tokens.
    """
    width = shape.width
    mlp = shape.mlp
    sizes = [  # (inputs, outputs)
        (width, width + 2 * shape.kv_width),  # queries, keys and values
        (width, width),  # what attention gives
        (width, mlp),  # gate
        (width, mlp),  # up
        (mlp, width),  # down
    ]
    weights = []
    for _ in range(8):
        for n_in, n_out in sizes:
            weights.append(torch.randn(n_out, n_in, device=device).to(dtype))
    inputs_by_width = {}
    for n_in in (width, mlp):
        inputs_by_width[n_in] = torch.randn(rows, n_in, device=device).to(dtype)

    def work() -> None:
        for weight in weights:
            torch.nn.functional.linear(inputs_by_width[weight.shape[1]], weight)

    with torch.inference_mode():
        duration = seconds(work, device, repeats=5)
    flops = sum(2 * rows * weight.numel() for weight in weights)
    return flops / duration


def bandwidth(device: torch.device) -> float:
    """Return the bytes/s that are read from memory, by the sum of an array too large for caches."""
    array = torch.ones(2**27, device=device)
    duration = seconds(lambda: array.sum(), device, repeats=5)
    return array.numel() * array.element_size() / duration


def peak_memory(work: Callable, *arguments: Any) -> float:
    """Return the peak GB of a process of its own that runs `work(*arguments)`.

    On a CUDA card its memory there counts, and elsewhere its resident memory.
    """
    context = multiprocessing.get_context("spawn")
    card_peak = context.Value("d", 0)
    process = context.Process(target=_remember_peak, args=(card_peak, work, arguments))
    process.start()
    watched_process = psutil.Process(process.pid)
    resident_peak = 0
    # Not every system remembers a process's peak, so it is watched, 200 times a second.
    while process.is_alive():
        with suppress(psutil.Error):  # it may end at any moment
            resident_peak = max(resident_peak, watched_process.memory_info().rss)
        process.join(0.005)
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} failed in its own process")
    return (card_peak.value or resident_peak) / 1e9


def _remember_peak(card_peak: Any, work: Callable, arguments: Sequence[Any]) -> None:
    """Do the work, and leave the peak bytes on all CUDA cards in `card_peak`."""
    work(*arguments)
    # All cards are asked, because `work` may run on another one than the first. None has held
    # anything where CUDA was not even started.
    if torch.cuda.is_initialized():
        cards = range(torch.cuda.device_count())
        card_peak.value = sum(torch.cuda.max_memory_allocated(card) for card in cards)
