"""Contexts in, numbers out: forecasts from a language model.

`forecast` writes each context as text, cuts it to a prompt, lets the model continue it token by token, in batches
(`m2lib.forecasting.generation`), and reads the new text back as numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2lib.files import InputError
from m2lib.forecasting.protocol import DecodeConfig
from m2lib.model import SEMICOLON_ID, ids_to_text, text_to_ids
from m2lib.series import STUDY, VARIABLES, Decoded, Scaling, TextFormat, to_integers

if TYPE_CHECKING:
    from m2lib.model import Backbone


@dataclass(frozen=True)
class Forecast:
    """The forecast of one series, one or several samples of it, and what was read and written for it."""

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
    """Tokens computed after the prefill, per text, those computed while waiting to leave included."""

    @property
    def point(self) -> np.ndarray:
        """The one forecast, or the median of several at each step (LLMTIME's choice).

        Returns
        -------
        ndarray, shape (steps, variables)
            Scaled units; int64 if there is one sample, else float64.
        """
        return point_forecast(self.values)

    @property
    def physical(self) -> np.ndarray:
        """All samples in physical units.

        Returns
        -------
        ndarray of float64, shape (n_samples, steps, variables)
            Physical units.
        """
        return self.scaling.physical(self.values)


def forecast(
    backbone: "Backbone",
    contexts: np.ndarray | Sequence[np.ndarray],
    config: DecodeConfig,
    *,
    batch_size: int = 10,
    seed: int = 0,
    ids: Sequence[int | str] | None = None,
    names: Sequence[str] = VARIABLES,
    text_format: TextFormat = STUDY,
    progress: bool = False,
) -> list[Forecast]:
    """Forecast the steps that follow each context.

    In float32 greedy forecasts do not depend on the batch; in bfloat16 its size can tip the balance between two nearly
    equal tokens, after which a forecast goes another way.

    Parameters
    ----------
    backbone : Backbone
        A model with the 13-token vocabulary.
    contexts : ndarray of float, shape (n, steps, variables), or sequence of ndarray, each (steps, variables)
        Physical units; in a sequence the numbers of steps may differ.
    config : DecodeConfig
        The protocol.
    batch_size : int, optional
        Contexts decoded together.
    seed : int, optional
        Of the sampling.
    ids : sequence of int or str, optional
        The series' names in errors (default: rows of `contexts`).
    names : sequence of str, optional
        The variables' names in errors.
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
        For contexts of another shape, for one that cannot be encoded, naming series, step and variable, and for a
        protocol without room for the format's steps.
    """
    import torch
    from tqdm.auto import tqdm

    from m2lib.forecasting.generation import generate

    contexts = _checked(contexts, text_format)
    _check_room(config, text_format.longest_step)
    scalings = [text_format.scaling(context) for context in contexts]
    texts = [
        text_format.encode(context, scaling, config.rounding, series, names)
        for series, context, scaling in zip(ids or range(len(contexts)), contexts, scalings, strict=True)
    ]
    prompts = [cut_prompt(text_to_ids(text), config) for text in texts]
    # One stream of draws for all batches. Drawn on the CPU, so that a seed gives the same ones on every device.
    generator = torch.Generator().manual_seed(seed)
    forecasts = []
    for start in tqdm(range(0, len(prompts), batch_size), "forecast", unit="batch", leave=None, disable=not progress):
        batch = slice(start, start + batch_size)
        generated, passes = generate(backbone.model, prompts[batch], config, generator, text_format=text_format)
        longest = max(len(prompt) for prompt in prompts[batch])
        for prompt, context, scaling, samples, counts in zip(
            prompts[batch], contexts[batch], scalings[batch], generated, passes, strict=True
        ):
            new = tuple(ids_to_text(sample) for sample in samples)
            last = text_format.integers(context[-1:], scaling, config.rounding)[0].tolist()
            read = [text_format.decode(text, config.steps, last) for text in new]
            forecasts.append(
                Forecast(
                    new,
                    values=np.stack([decoded.values for decoded in read]),
                    repairs=tuple(decoded.repairs for decoded in read),
                    scaling=scaling,
                    prompt_tokens=len(prompt),
                    new_tokens=tuple(len(sample) for sample in samples),
                    padded_tokens=longest,
                    passes=tuple(counts),
                )
            )
    return forecasts


def _checked(contexts: np.ndarray | Sequence[np.ndarray], text_format: TextFormat) -> list[np.ndarray]:
    """Contexts as arrays of numbers (steps, variables); InputError for a single one, and for other shapes."""
    listed = contexts if isinstance(contexts, list | tuple) else np.asarray(contexts)  # a table is one array
    arrays = [np.asarray(context) for context in listed]
    for array in arrays:
        if array.ndim != 2:
            shape = (len(arrays), *array.shape)
            raise InputError(
                f"contexts are (series, steps, variables), not {shape}; pass a single one as context[None]"
            )
        if array.shape[1] != text_format.variables or not len(array):
            raise InputError(f"a context of shape {array.shape} is not of shape (steps, {text_format.variables})")
    return arrays


def _check_room(config: DecodeConfig, longest_step: int) -> None:
    """Refuse a protocol that has no room for the steps of a format; for the study's own it refuses that itself."""
    needed = longest_step * config.steps
    if config.context_tokens is not None and config.context_tokens < longest_step:
        raise InputError(f"context_tokens is {config.context_tokens}; a step of this text format takes {longest_step}")
    if config.constrained and config.max_new_tokens < needed:
        raise InputError(f"max_new_tokens is {config.max_new_tokens}; {config.steps} steps may take {needed}")


def point_forecast(values: np.ndarray) -> np.ndarray:
    """One forecast of several samples: the sample itself if it is the only one, else their median.

    Parameters
    ----------
    values : ndarray, shape (n, steps, variables)
        The samples, in any unit.

    Returns
    -------
    ndarray, shape (steps, variables)
        In the same unit; the median is taken at each step and variable.

    References
    ----------
    .. [1] Gruver et al., "Large Language Models Are Zero-Shot Time Series Forecasters" (LLMTIME), NeurIPS, 2023.
    """
    return values[0] if len(values) == 1 else np.median(values, axis=0)


def read_back(text: str, context: np.ndarray, scale: float, config: DecodeConfig) -> Decoded:
    """Decode a text of the study's format; what is missing at its start repeats the last step of the context.

    Parameters
    ----------
    text : str
        What a model wrote, whatever it is.
    context : ndarray of float, shape (steps, 2)
        What it continues, physical units.
    scale : float
        Physical value of scaled 1000.
    config : DecodeConfig
        Says how many steps are read, and how the context is rounded.

    Returns
    -------
    Decoded
        Values (steps, 2) in scaled units, and the number of repairs.
    """
    last = to_integers(context[-1:], scale, config.rounding)[0].tolist()
    return STUDY.decode(text, config.steps, last)


def cut_prompt(ids: list[int], config: DecodeConfig) -> list[int]:
    """The prompt: the last `context_tokens` of a context's ids, from a step boundary on unless `raw_cut`.

    Parameters
    ----------
    ids : list of int
        The whole context's, which ends in a semicolon.
    config : DecodeConfig
        Its `context_tokens` and `raw_cut` decide.

    Returns
    -------
    list of int
        The last `context_tokens` ids; up to 9 fewer where an incomplete first step is dropped.
    """
    if config.context_tokens is None or len(ids) <= config.context_tokens:
        return ids
    kept = ids[-config.context_tokens :]
    # The last id that is not kept tells whether the cut fell on a boundary. `12,34;567,890;1,2;` cut to 12 tokens
    # is `567,890;1,2;`, after a semicolon: all of it stays. Cut to 10 it is `7,890;1,2;`, after a 6: `1,2;` stays. A
    # whole step is always left, as `context_tokens` is at least `LONGEST_STEP`.
    if config.raw_cut or ids[-config.context_tokens - 1] == SEMICOLON_ID:
        return kept
    return kept[kept.index(SEMICOLON_ID) + 1 :]
