"""Forecasts from a language model: encode the contexts, decode token by token in left-padded batches, read back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2lib.forecasting.protocol import DecodeConfig
from m2lib.model.vocabulary import SEMICOLON_ID, ids_to_text, text_to_ids
from m2lib.series.codec import Decoded, decode, encode, scale_of, to_integers, unscale

if TYPE_CHECKING:
    from m2lib.model.backbones import Backbone


@dataclass(frozen=True)
class Forecast:
    """The forecast of one series.

    texts: n_samples generated texts. values: int64 (n_samples, steps, 2), scaled units. repairs: per text, see
    `codec.decode`. scale: physical value of scaled 1000. prompt_tokens: how many were read. new_tokens: how many were
    generated, per text. padded_tokens: the longest prompt of its batch, whose cache all share. passes: how many tokens
    were computed after the prefill, per text, those computed while waiting to leave included.
    """

    texts: tuple[str, ...]
    values: np.ndarray
    repairs: tuple[int, ...]
    scale: float
    prompt_tokens: int
    new_tokens: tuple[int, ...]
    padded_tokens: int
    passes: tuple[int, ...]

    @property
    def point(self) -> np.ndarray:
        """(steps, 2), scaled units: the one forecast, or the median of several at each step (LLMTIME's choice)."""
        return point_forecast(self.values)

    @property
    def physical(self) -> np.ndarray:
        """float64 (n_samples, steps, 2), physical units."""
        return unscale(self.values, self.scale)


def forecast(
    backbone: "Backbone",
    contexts: np.ndarray,
    config: DecodeConfig,
    *,
    batch_size: int = 10,
    seed: int = 0,
    ids: list[int] | None = None,
) -> list[Forecast]:
    """Forecast the steps that follow each context.

    contexts: (n, steps, 2) in physical units. batch_size: contexts decoded together. seed: of the sampling. ids: the
    series' names in errors (default: rows of `contexts`). In float32 greedy forecasts do not depend on the batch; in
    bfloat16 its size can tip the balance between two nearly equal tokens, after which a forecast goes another way.
    Raises InputError for a context that cannot be encoded, naming series and step.
    """
    import torch

    from m2lib.forecasting.generation import generate

    contexts = np.asarray(contexts)
    scales = scale_of(contexts)
    prompts = [
        cut_prompt(text_to_ids(encode(context, scale, config.rounding, series)), config)
        for series, context, scale in zip(ids or range(len(contexts)), contexts, scales, strict=True)
    ]
    generator = torch.Generator().manual_seed(seed)
    forecasts = []
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        generated, passes = generate(backbone.model, prompts[batch], config, generator)
        longest = max(len(prompt) for prompt in prompts[batch])
        for prompt, context, scale, samples, steps in zip(
            prompts[batch], contexts[batch], scales[batch], generated, passes, strict=True
        ):
            texts = tuple(ids_to_text(ids) for ids in samples)
            read = [read_back(text, context, scale, config) for text in texts]
            forecasts.append(
                Forecast(
                    texts,
                    values=np.stack([one.values for one in read]),
                    repairs=tuple(one.repairs for one in read),
                    scale=float(scale),
                    prompt_tokens=len(prompt),
                    new_tokens=tuple(len(ids) for ids in samples),
                    padded_tokens=longest,
                    passes=tuple(steps),
                )
            )
    return forecasts


def point_forecast(values: np.ndarray) -> np.ndarray:
    """One forecast (steps, 2) of samples (n, steps, 2): the sample itself if it is the only one, else their median."""
    return values[0] if len(values) == 1 else np.median(values, axis=0)


def read_back(text: str, context: np.ndarray, scale: float, config: DecodeConfig) -> Decoded:
    """Decode a generated text; what is missing at its start repeats the last step of `context` (steps, 2)."""
    last = to_integers(context[-1:], scale, config.rounding)[0].tolist()
    return decode(text, config.steps, last)


def cut_prompt(ids: list[int], config: DecodeConfig) -> list[int]:
    """The prompt: the last `context_tokens` of a context's ids, from a step boundary on unless `raw_cut`."""
    if config.context_tokens is None or len(ids) <= config.context_tokens:
        return ids
    kept = ids[-config.context_tokens :]
    if config.raw_cut or ids[-config.context_tokens - 1] == SEMICOLON_ID:
        return kept
    return kept[kept.index(SEMICOLON_ID) + 1 :]
