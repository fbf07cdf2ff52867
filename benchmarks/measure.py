"""How things are measured: seconds, memory, and what the machine can do at most."""

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress

import psutil
import torch

from m2lib.accounting.shape import Shape


def seconds(
    work: Callable[[], object], device: torch.device, repeats: int = 1, warm: bool = True
) -> float:
    """The least of several times that `work` takes, after one that does not count."""
    if warm:
        work()
    times = []
    for _ in range(repeats):
        _finish(device)
        started = time.perf_counter()
        work()
        _finish(device)
        times.append(time.perf_counter() - started)
    return min(times)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_rate(shape: Shape, dtype: torch.dtype, device: torch.device, rows: int) -> float:
    """FLOP/s of the model's own products: one block's weights times `rows` tokens, best of several
    blocks."""
    d, k, h = shape.width, shape.kv_width, shape.mlp
    sizes = [(d, d + 2 * k), (d, d), (d, h), (d, h), (h, d)]
    blocks = [[torch.randn(n, m, device=device).to(dtype) for m, n in sizes] for _ in range(8)]
    inputs = {m: torch.randn(rows, m, device=device).to(dtype) for m, _ in sizes}

    def work():
        for block in blocks:
            for weight in block:
                torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    with torch.inference_mode():
        took = seconds(work, device, repeats=5)
    return len(blocks) * sum(2 * rows * m * n for m, n in sizes) / took


def bandwidth(device: torch.device) -> float:
    """Bytes a second that are read from memory: the sum of an array too large for any cache."""
    array = torch.ones(2**27, device=device)
    return array.numel() * array.element_size() / seconds(lambda: array.sum(), device, repeats=5)


def peak_memory(work: Callable, *arguments) -> float:
    """GB that a process of its own has at most while it runs `work(*arguments)`: resident, or on
    the CUDA card."""
    context = multiprocessing.get_context("spawn")
    on_card = context.Value("d", 0)
    process = context.Process(target=_remember_peak, args=(on_card, work, arguments))
    process.start()
    watched, resident = psutil.Process(process.pid), 0
    while (
        process.is_alive()
    ):  # not every system remembers a process's peak, so it is watched, 200 times a second
        with suppress(psutil.Error):  # it may end at any moment
            resident = max(resident, watched.memory_info().rss)
        process.join(0.005)
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} failed in its own process")
    return (on_card.value or resident) / 1e9


def _remember_peak(on_card, work, arguments) -> None:
    work(*arguments)
    if torch.cuda.is_available():
        on_card.value = torch.cuda.max_memory_allocated()
