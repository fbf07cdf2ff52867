"""How things are measured: seconds, memory, and what the machine can do at most."""

import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch

from m2lib.accounting.shape import Shape


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 1, warm: bool = True) -> float:
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
    """FLOP/s of the model's own products: one block's weights times `rows` tokens, best of several blocks."""
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
    """GB that a process of its own has at most while it runs `work(*arguments)`: resident, or on the CUDA card."""
    context = multiprocessing.get_context("spawn")
    outcome = context.SimpleQueue()
    process = context.Process(target=_remember_peak, args=(outcome, work, arguments))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} failed in its own process")
    return outcome.get()


def _remember_peak(outcome, work, arguments) -> None:
    work(*arguments)
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        outcome.put(torch.cuda.max_memory_allocated() / 1e9)
        return
    status = Path("/proc/self/status")
    if status.exists():  # Linux's getrusage also remembers what the parent had when it forked
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        outcome.put(int(line.split()[1]) * 1024 / 1e9)
    else:
        outcome.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e9)  # bytes on macOS
