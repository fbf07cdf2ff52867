"""How many threads decoding takes: as many as PyTorch has, or one where more gain too little.

A step of decoding is hundreds of small products, after each of which threads wait for each other.
On some processors two threads are nearly twice as fast as one. On others they gain next to nothing,
and beside another busy process they take several times as long as one, which waits for nobody. So
each machine measures once what its threads gain. (`m2lib.threads` has more about waiting.)
"""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from transformers import AutoModelForCausalLM

from m2lib.decoding.bare_model import BareModel
from m2lib.decoding.engine import Engine
from m2lib.errors import InputError
from m2lib.files import read_json, write_json
from m2lib.model import SEMICOLON_ID, SYMBOLS, backbone_config, processor_name
from m2lib.settings import cache_dir

LEAST_GAIN = 1.25
"""How many times as fast all threads have to be as one, or decoding takes one."""
LAYERS = 3  # of the model that is timed, a tenth of SmolLM2


@contextmanager
def decoding_threads(device: torch.device) -> Iterator[None]:
    """Decode with one thread if more gain too little here, and then have as many as before.

    Where `OMP_NUM_THREADS` says how many there are, as where there is only one, nothing changes.
    """
    threads = torch.get_num_threads()
    is_free = device.type == "cpu" and threads > 1 and not os.environ.get("OMP_NUM_THREADS")
    if not is_free or thread_gain() >= LEAST_GAIN:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def thread_gain() -> float:
    """Return how many times as fast all threads decode as one, timed once on each machine.

    The file in `M2_CACHE` is only a cache, so one that is damaged is written anew.
    """
    threads = f"{torch.get_num_threads()} threads"
    machine = f"{platform.node()}, {processor_name()}, torch {torch.__version__}, {threads}"
    path = cache_dir() / "thread_gain.json"
    gains: dict[str, float] = {}
    with suppress(OSError, ValueError):  # not there, or no JSON
        gains = read_json(path)
    if machine not in gains:
        gains[machine] = _timed_gain()
        with suppress(InputError):  # if the cache cannot be written to, each process measures
            write_json(path, gains)
    return gains[machine]


def _timed_gain() -> float:
    """Time ten rows of a model as wide as SmolLM2, in float32, with all threads and with one."""
    threads = torch.get_num_threads()
    config = backbone_config("smollm2-135m")
    config.num_hidden_layers = LAYERS
    config.vocab_size = len(SYMBOLS)
    with torch.random.fork_rng(devices=[]):  # its weights take none of the caller's random numbers
        model = BareModel(AutoModelForCausalLM.from_config(config).eval())
    seconds = {}
    try:
        for count in (threads, 1):
            torch.set_num_threads(count)
            _decode(model)  # the first time is slower
            seconds[count] = min(_decode(model) for _ in range(2))
    finally:
        torch.set_num_threads(threads)
    return seconds[1] / seconds[threads]


@torch.inference_mode()
def _decode(model: BareModel) -> float:
    """Return the seconds of ten prompts of 128 tokens and ten tokens after each of them."""
    start = time.perf_counter()
    rows = Engine(model, [[SEMICOLON_ID] * 128] * 10, 1)
    for _ in range(10):
        rows.step(torch.full((10,), SEMICOLON_ID))
    return time.perf_counter() - start
