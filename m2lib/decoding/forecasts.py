"""Contexts in, numbers out: forecasts from a language model.

`forecast` writes each context as text, cuts it to a prompt, lets the model continue it token by
token, in batches (`m2lib.decoding.generation`), and reads the new text back as numbers.
"""

import math
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from threading import Event

import numpy as np
import torch
from numpy.typing import ArrayLike

from m2lib import settings
from m2lib.decoding.bare_model import BareModel
from m2lib.decoding.generation import DecodeConfig, generate
from m2lib.errors import InputError, check_count
from m2lib.model import SEMICOLON_ID, Backbone, ids_to_text, text_to_ids
from m2lib.series import STUDY, Scaling, TextFormat, series_label, stretched

FEWEST_ROWS = 4
"""So many samples, over all prompts, are worth a worker of their own: a step of one takes nearly as
long as a step of four."""
DELAY = 2  # seconds before a bar is shown, so that short work shows none


@dataclass(frozen=True)
class Forecast:
    """The forecast of one series, with one or several samples, and the tokens that it took."""

    texts: tuple[str, ...]
    """The generated texts, one for each sample."""
    values: np.ndarray
    """The texts as numbers, int64 (n_samples, steps, variables), scaled units."""
    repairs: tuple[int, ...]
    """Values in each text that were missing or unreadable, see `m2lib.series.TextFormat.decode`."""
    scaling: Scaling
    """The map between scaled and physical units, which comes from the context."""
    prompt_tokens: int
    """Length of the prompt, which is read once for all samples."""
    new_tokens: tuple[int, ...]
    """Tokens generated for each text."""
    padded_tokens: int
    """Length of the longest prompt in the batch. With one sample of each series, every row attends
    to at least as many columns, see `m2lib.decoding.step_columns`."""
    passes: tuple[int, ...]
    """Passes of one token after the prefill for each text, including those that its row ran after
    its end, while it waited to leave the batch."""
    spread: float = 1.0
    """The text format's `spread`: the samples' distance from their median is multiplied by it, in
    physical units."""
    least: np.ndarray | float = -np.inf
    """The smallest possible physical value of each variable; lower ones are raised to it."""

    @property
    def point(self) -> np.ndarray:
        """The point forecast in scaled units, (steps, variables), see `point_forecast`."""
        return point_forecast(self.values)

    @property
    def physical(self) -> np.ndarray:
        """All samples in physical units: (n_samples, steps, variables).

        They are moved away from their median by `spread`, and raised to `least` where they lie
        below it.
        """
        samples = self.scaling.physical(self.values)
        return np.maximum(stretched(samples, self.spread), self.least)


def forecast(
    model: Backbone | BareModel,
    contexts: ArrayLike,
    config: DecodeConfig,
    *,
    batch_size: int = 10,
    seed: int = 0,
    ids: Sequence[int | str] | None = None,
    text_format: TextFormat = STUDY,
    progress: bool = False,
) -> list[Forecast]:
    """Forecast the steps that follow each context.

    The contexts are written as they are. `m2tables.Forecaster` also takes out seasons and
    trends, reads tables, and returns quantiles.

    On a CPU the contexts are shared out among workers, one for each of PyTorch's threads
    (`torch.set_num_threads`, `OMP_NUM_THREADS`). Each computes batches of its own with a single
    thread, so that none waits for another.

    In float32 forecasts depend neither on the number of workers nor on the batch. But in bfloat16
    the size of a batch can tip the balance between two nearly equal tokens, after which the
    forecast takes another course.

    Parameters
    ----------
    model : Backbone or BareModel
        A model with the 13-token vocabulary. For several calls pass one `BareModel`, so that
        adapters are merged and weights packed only once.
    contexts : ndarray of float, shape (n, steps, variables), or sequence of ndarray
        Physical units. In a sequence each is (steps, variables), and the numbers of steps may
        differ.
    config : DecodeConfig
        The protocol.
    batch_size : int, optional
        Number of contexts that are decoded together, at most.
    seed : int, optional
        Seed of the sampling. With the name of a series it decides its samples.
    ids : sequence of int or str, optional
        Names of the series (default: their numbers in `contexts`).
    text_format : TextFormat, optional
        How the contexts are written, and the forecasts read.
    progress : bool, optional
        Show a bar with the time left, once it has taken two seconds. It counts tokens, and so moves
        within a batch, too.

    Returns
    -------
    list of Forecast
        One for each context, in their order.

    Raises
    ------
    InputError
        If a context has another shape or cannot be encoded (series, step and variable are named),
        if a prompt has no room for one step, or a constrained forecast none for all its steps, if
        a prompt and its forecast have more tokens than the model has positions, if the text format
        is one for any number of variables, and if `batch_size` or `seed` is no whole number in its
        range.
    """
    from tqdm.auto import tqdm

    check_count("batch_size", batch_size)
    check_count("seed", seed, 0)
    arrays = [np.asarray(context) for context in contexts]
    if not text_format.variables:
        raise InputError(
            "the text format is one for any number of variables; call its `for_variables`"
        )
    _check_room(config, text_format)
    bare = model if isinstance(model, BareModel) else BareModel(model.model)

    # 1. Write each context as text, and cut it to a prompt. The model needs a position for each
    # token of the prompt and each new one, of which well-formed steps take no more than this.
    most_new = min(config.max_new_tokens, config.steps * text_format.longest_step)
    longest_prompt = bare.max_positions - most_new
    names = list(range(len(arrays)) if ids is None else ids)
    prompts = []
    work = []  # the tokens of each prompt and of what will be written after it, for the bar
    for name, context in zip(names, arrays, strict=True):
        if context.ndim != 2 or context.shape[1] != text_format.variables:
            problem = f"a context is (steps, {text_format.variables}), not {context.shape}"
            raise InputError(f"{problem}; pass a single one as context[None]")
        if not len(context):
            raise InputError(f"{series_label(name)} has no steps; drop it")
        text = text_format.encode(context, text_format.scaling(context), config.rounding, name)
        prompt = cut_prompt(text_to_ids(text), config)
        if len(prompt) > longest_prompt:
            raise InputError(
                f"{series_label(name)} has {len(prompt)} tokens; beside {most_new} new ones the "
                f"model has room for {longest_prompt}; set context_tokens, or shorten the series"
            )
        prompts.append(prompt)
        # New steps are taken to be as long as those of the context are in the mean.
        work.append(len(prompt) + config.n_samples * config.steps * len(text) // len(context))

    # 2. Let the model go on with them, batch by batch.
    on_cpu = bare.embedding.device.type == "cpu"
    workers = _count_workers(len(prompts), config.n_samples) if on_cpu else 1
    batches = _batches(work, batch_size, workers)
    bar = tqdm(
        total=sum(work),
        desc="forecast",
        unit="token",
        unit_scale=True,
        leave=False,
        delay=DELAY,
        disable=not progress or settings.bars_are_off(),
    )
    stopped = Event()

    def decode(batch: Sequence[int]) -> list[Forecast]:
        """Forecast the contexts of these numbers together."""
        to_go = sum(work[number] for number in batch)

        def tick(tokens: int) -> None:
            """Move the bar on, but not beyond the batch's end."""
            nonlocal to_go
            if stopped.is_set():
                raise KeyboardInterrupt
            moved = min(tokens, to_go)
            to_go -= moved
            with bar.get_lock():
                bar.update(moved)

        generated, passes = generate(
            bare,
            [prompts[number] for number in batch],
            config,
            [_random_stream(seed, names[number]) for number in batch],
            text_format=text_format,
            tick=tick,
        )
        tick(to_go)  # to the batch's end, if its texts came out shorter

        # 3. Read the new texts as numbers.
        longest = max(len(prompts[number]) for number in batch)
        forecasts = []
        for number, samples, sample_passes in zip(batch, generated, passes, strict=True):
            context = arrays[number]
            texts = tuple(ids_to_text(sample) for sample in samples)
            values, repairs = read_back(texts, context, config, text_format)
            forecasts.append(
                Forecast(
                    texts=texts,
                    values=values,
                    repairs=repairs,
                    scaling=text_format.reading(context, config.rounding),
                    prompt_tokens=len(prompts[number]),
                    new_tokens=tuple(len(sample) for sample in samples),
                    padded_tokens=longest,
                    passes=tuple(sample_passes),
                    spread=text_format.spread,
                )
            )
        return forecasts

    with bar:
        if on_cpu:
            parts = _share_out(decode, batches, workers, stopped)
        else:
            parts = list(map(decode, batches))
    made = dict(zip(chain.from_iterable(batches), chain.from_iterable(parts), strict=True))
    return [made[number] for number in range(len(prompts))]


def _count_workers(num_prompts: int, num_samples: int) -> int:
    """Return how many batches a CPU computes at the same time: one for each thread.

    But a worker has FEWEST_ROWS at least, so little work is left to one.
    """
    worth_it = num_prompts * num_samples // FEWEST_ROWS
    return max(1, min(torch.get_num_threads(), num_prompts, worth_it))


def _batches(work: Sequence[int], most: int, workers: int) -> list[list[int]]:
    """Return the numbers of the prompts in batches that keep all workers busy to the end.

    Prompts of similar work share a batch, so that few columns are padding, and the largest come
    first. Batches have about the same work, and `most` prompts at most: for 2 workers 50 equal
    prompts in batches of 10 are 3 rounds of 2 batches, of 8 or 9 each.
    """
    order = sorted(range(len(work)), key=lambda number: -work[number])
    planned = math.ceil(len(work) / (most * workers)) * workers
    batches: list[list[int]] = []
    while order:
        # An equal share of what is left. Where small prompts do not all fit into the last batches,
        # there are more batches than planned.
        share = sum(work[number] for number in order) / max(1, planned - len(batches))
        batch = [order.pop(0)]
        filled = work[batch[0]]
        while order and len(batch) < most and filled + work[order[0]] / 2 <= share:
            filled += work[order[0]]
            batch.append(order.pop(0))
        batches.append(batch)
    return batches


def _random_stream(seed: int, name: int | str) -> torch.Generator:
    """Return the random numbers of one series.

    They are drawn on the CPU, so that they are the same on every device.
    """
    key = zlib.crc32(name.encode()) if isinstance(name, str) else int(name)
    (state,) = np.random.SeedSequence((int(seed), key)).generate_state(1)
    return torch.Generator().manual_seed(int(state))


def _share_out(
    decode: Callable[[Sequence[int]], list[Forecast]],
    batches: Sequence[Sequence[int]],
    workers: int,
    stopped: Event,
) -> list[list[Forecast]]:
    """Decode batches in Python threads with one thread of PyTorch's each.

    Threads inside a product would wait for each other thousands of times a second, which takes ten
    times as long where another program holds a core. While a thread computes, PyTorch lets go of
    the interpreter's lock. Ctrl-C and errors set `stopped`, at which all of them end after their
    next token.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,))
    try:
        return list(pool.map(decode, batches))
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _check_room(config: DecodeConfig, text_format: TextFormat) -> None:
    """Raise InputError for a protocol without room for the longest steps of a text format."""
    one_step = text_format.longest_step  # tokens
    all_steps = one_step * config.steps
    if config.constrained and config.max_new_tokens < all_steps:
        raise InputError(
            f"max_new_tokens is {config.max_new_tokens}; {config.steps} steps may take {all_steps}"
            ", so give as many, or fewer steps"
        )
    if config.context_tokens and config.context_tokens < one_step and not config.raw_cut:
        raise InputError(
            f"context_tokens is {config.context_tokens}; one step may take {one_step}, "
            "so give as many at least"
        )


def read_back(
    texts: Sequence[str], context: np.ndarray, config: DecodeConfig, text_format: TextFormat = STUDY
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Decode what was generated after a context (steps, variables), and count the repairs.

    Gives the values, int64 (n_samples, steps, variables) in scaled units, and the repairs of each
    text. Steps that are missing at a text's start repeat the last step of the context.
    """
    scaling = text_format.scaling(context)
    last_step = text_format.integers(context[-1:], scaling, config.rounding)[0].tolist()
    decoded = [text_format.decode(text, config.steps, last_step) for text in texts]
    values = np.stack([sample.values for sample in decoded])
    repairs = tuple(sample.repairs for sample in decoded)
    return values, repairs


def point_forecast(values: np.ndarray) -> np.ndarray:
    """Return the point forecast (steps, variables) of samples (n, steps, variables).

    It is their median [1]_. A single sample is returned as it is, in integers.

    References
    ----------
    .. [1] Gruver et al., "Large Language Models Are Zero-Shot Time Series Forecasters" (LLMTIME),
       NeurIPS, 2023.
    """
    return values[0] if len(values) == 1 else np.median(values, axis=0)


def pooled(parts: Sequence[Forecast], n_samples: int) -> Forecast:
    """Join forecasts of one series, each with a scaling of its own, to one with all their samples.

    Parameters
    ----------
    parts : sequence of Forecast
        Forecasts of the same steps in the same text format, one or more.
    n_samples : int
        The samples to keep of several parts: equally many of each, or one more of the first ones. A
        single part keeps all of its own.

    Returns
    -------
    Forecast
        Its samples are those of the first part, then those of the second, and so on. Its scaling
        has an entry for each sample, so its values can be compared in physical units only, and its
        prompt's tokens are those of all prompts.
    """
    if len(parts) == 1:
        return parts[0]
    # Three parts share 20 samples as 7, 7 and 6.
    share, remainder = divmod(n_samples, len(parts))
    values = []
    scales = []
    offsets = []
    starts = []
    texts: list[str] = []
    repairs: list[int] = []
    new_tokens: list[int] = []
    passes: list[int] = []
    for number, part in enumerate(parts):
        num_kept = share + 1 if number < remainder else share
        shape = part.values[:num_kept].shape
        values.append(part.values[:num_kept])
        scales.append(np.broadcast_to(part.scaling.scale, shape))
        offsets.append(np.broadcast_to(part.scaling.offset, shape))
        starts.append(np.broadcast_to(part.scaling.start, shape))
        texts += part.texts[:num_kept]
        repairs += part.repairs[:num_kept]
        new_tokens += part.new_tokens[:num_kept]
        passes += part.passes[:num_kept]
    scaling = Scaling(
        scale=np.concatenate(scales),
        offset=np.concatenate(offsets),
        unit=parts[0].scaling.unit,
        start=np.concatenate(starts),
    )
    return Forecast(
        texts=tuple(texts),
        values=np.concatenate(values),
        repairs=tuple(repairs),
        scaling=scaling,
        prompt_tokens=sum(part.prompt_tokens for part in parts),
        new_tokens=tuple(new_tokens),
        padded_tokens=max(part.padded_tokens for part in parts),
        passes=tuple(passes),
        spread=parts[0].spread,
        least=parts[0].least,
    )


def cut_prompt(ids: list[int], config: DecodeConfig) -> list[int]:
    """Cut a context to the prompt: its last `context_tokens` ids, without an incomplete first step.

    With `raw_cut` the incomplete step stays, as in the report.
    """
    if config.context_tokens is None or len(ids) <= config.context_tokens:
        return ids
    prompt = ids[-config.context_tokens :]
    # The last id before the prompt tells whether the cut fell on a step boundary.
    # `12,34;567,890;1,2;` cut to 12 tokens is `567,890;1,2;`, after a semicolon: all of it stays.
    # Cut to 10 it is `7,890;1,2;`, after a 6: only `1,2;` stays. One whole step is always left,
    # because `_check_room` wants `context_tokens` to hold the longest one.
    before_prompt = ids[-config.context_tokens - 1]
    if config.raw_cut or before_prompt == SEMICOLON_ID:
        return prompt
    return prompt[prompt.index(SEMICOLON_ID) + 1 :]
