"""Contexts in, numbers out: forecasts from a language model.

`forecast` writes each context as text, cuts it to a prompt, lets the model continue it token by
token, in batches (`m2lib.decoding.generation`), and reads the new text back as numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike

from m2lib.decoding.engine import BareModel
from m2lib.decoding.generation import DecodeConfig, generate
from m2lib.files import InputError
from m2lib.model import SEMICOLON_ID, Backbone, ids_to_text, text_to_ids
from m2lib.series import STUDY, Scaling, TextFormat, stretched


@dataclass(frozen=True)
class Forecast:
    """The forecast of one series, one or several samples of it, and what was read and written for
    it."""

    texts: tuple[str, ...]
    """The generated texts, one a sample."""
    values: np.ndarray
    """The texts as numbers, int64 (n_samples, steps, variables), scaled units."""
    repairs: tuple[int, ...]
    """Values that were missing or unreadable, per text, see `m2lib.series.TextFormat.decode`."""
    scaling: Scaling
    """Between scaled and physical units, from the context."""
    prompt_tokens: int
    """Tokens of the prompt, which is read once for all samples."""
    new_tokens: tuple[int, ...]
    """Tokens generated, per text."""
    padded_tokens: int
    """Tokens of the longest prompt of its batch, whose cache all share."""
    passes: tuple[int, ...]
    """Tokens computed after the prefill, per text, those computed while waiting to leave
    included."""
    spread: float = 1.0
    """Of the text format: how far from their median the samples are read."""
    least: np.ndarray | float = -np.inf
    """The smallest physical value that may be, of each variable."""

    @property
    def point(self) -> np.ndarray:
        """The one forecast, or the median of several at each step: (steps, variables), scaled
        units."""
        return point_forecast(self.values)

    @property
    def physical(self) -> np.ndarray:
        """All samples in physical units: (n_samples, steps, variables)."""
        return np.maximum(self.scaling.physical(stretched(self.values, self.spread)), self.least)


def forecast(
    backbone: Backbone,
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

    In float32 greedy forecasts do not depend on the batch; in bfloat16 its size can tip the balance
    between two nearly equal tokens, after which a forecast goes another way.

    Parameters
    ----------
    backbone : Backbone
        A model with the 13-token vocabulary.
    contexts : ndarray of float, shape (n, steps, variables), or sequence of ndarray, each (steps,
    variables)
        Physical units; in a sequence the numbers of steps may differ.
    config : DecodeConfig
        The protocol.
    batch_size : int, optional
        Contexts decoded together.
    seed : int, optional
        Of the sampling.
    ids : sequence of int or str, optional
        The series' names in errors (default: rows of `contexts`).
    text_format : TextFormat, optional
        How the contexts are written, and the forecasts read.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    list of Forecast
        One for each context, in their order.

    Raises
    ------
    InputError
        For contexts of another shape, for one that cannot be encoded, naming series, step and
        variable, for a prompt without room for a step, and for a constrained forecast without room
        for all of them.
    """
    from tqdm.auto import tqdm

    arrays = [np.asarray(context) for context in contexts]
    needed = text_format.longest_step * config.steps
    if config.constrained and config.max_new_tokens < needed:
        raise InputError(
            f"max_new_tokens is {config.max_new_tokens}; {config.steps} steps may take {needed}"
        )
    if not config.raw_cut and (config.context_tokens or needed) < text_format.longest_step:
        raise InputError(
            f"context_tokens is {config.context_tokens}; one step may take {text_format.longest_step}"
        )
    prompts = []
    for series, context in zip(range(len(arrays)) if ids is None else ids, arrays, strict=True):
        if context.ndim != 2 or context.shape[1] != text_format.variables:
            problem = f"a context is (steps, {text_format.variables}), not {context.shape}"
            raise InputError(f"{problem}; pass a single one as context[None]")
        text = text_format.encode(context, text_format.scaling(context), config.rounding, series)
        prompts.append(cut_prompt(text_to_ids(text), config))
    # One stream of draws for all batches. Drawn on the CPU, so that a seed gives the same ones on
    # every device.
    generator = torch.Generator().manual_seed(seed)
    bare = BareModel(backbone.model)  # merged and packed once for all batches
    forecasts = []
    for start in tqdm(
        range(0, len(prompts), batch_size),
        "forecast",
        unit="batch",
        leave=None,
        disable=not progress,
    ):
        batch = slice(start, start + batch_size)
        generated, passes = generate(
            bare, prompts[batch], config, generator, text_format=text_format
        )
        longest = max(map(len, prompts[batch]))
        for prompt, context, samples, counts in zip(
            prompts[batch], arrays[batch], generated, passes, strict=True
        ):
            texts = tuple(map(ids_to_text, samples))
            values, repairs = read_back(texts, context, config, text_format)
            forecasts.append(
                Forecast(
                    texts,
                    values,
                    repairs,
                    scaling=text_format.scaling(context),
                    prompt_tokens=len(prompt),
                    new_tokens=tuple(map(len, samples)),
                    padded_tokens=longest,
                    passes=tuple(counts),
                    spread=text_format.spread,
                )
            )
    return forecasts


def read_back(
    texts: Sequence[str], context: np.ndarray, config: DecodeConfig, text_format: TextFormat = STUDY
) -> tuple[np.ndarray, tuple[int, ...]]:
    """What was written after a context (steps, variables) as numbers, (n_samples, steps,
    variables), and the repairs.

    What is missing at a text's start repeats the last step of the context.
    """
    last = text_format.integers(context[-1:], text_format.scaling(context), config.rounding)[
        0
    ].tolist()
    read = [text_format.decode(text, config.steps, last) for text in texts]
    return np.stack([decoded.values for decoded in read]), tuple(
        decoded.repairs for decoded in read
    )


def point_forecast(values: np.ndarray) -> np.ndarray:
    """One forecast (steps, variables) of n, (n, steps, variables): the only one, or the median at
    each step [1]_.

    References
    ----------
    .. [1] Gruver et al., "Large Language Models Are Zero-Shot Time Series Forecasters" (LLMTIME),
       NeurIPS, 2023.
    """
    return values[0] if len(values) == 1 else np.median(values, axis=0)


def cut_prompt(ids: list[int], config: DecodeConfig) -> list[int]:
    """The prompt: the last `context_tokens` of a context's ids, from a step boundary on unless
    `raw_cut`.

    Fewer are left, by less than one step, where an incomplete first step is dropped.
    """
    if config.context_tokens is None or len(ids) <= config.context_tokens:
        return ids
    kept = ids[-config.context_tokens :]
    # The last id that is not kept tells whether the cut fell on a boundary. `12,34;567,890;1,2;`
    # cut to 12 tokens is `567,890;1,2;`, after a semicolon: all of it stays. Cut to 10 it is
    # `7,890;1,2;`, after a 6: `1,2;` stays. A whole step is always left where `context_tokens` hold
    # the longest one.
    if config.raw_cut or ids[-config.context_tokens - 1] == SEMICOLON_ID:
        return kept
    return kept[kept.index(SEMICOLON_ID) + 1 :]
