"""Drawing forecasts from a language model: of series of any table, in a text format that suits it
or that it knows."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from m2lib.decoding import DecodeConfig, Forecast, forecast
from m2lib.files import InputError
from m2lib.model import Backbone
from m2lib.series import SHORTEST, Season, TextFormat

WINDOW = 1024  # tokens of context that the model reads at most
SAMPLES = 20
TEMPERATURE = 0.7  # as the study's samples were drawn
LLMTIME_OFFSET = 0.3  # LLMTIME's beta
CACHE = 2 * 10**9  # bytes of a batch's keys and values at most, the same on every machine
MOST_ROWS = 256  # forecasts written together: more gain no time, and a seed's draws depend on what a batch holds


@dataclass(frozen=True)
class Sampler:
    """A language model that draws forecasts, and the text format that it reads and writes."""

    backbone: Backbone
    """A model with the 13-token vocabulary, its adapter put in."""
    text_format: TextFormat | None = None
    """How series are written; None: as `format_for` finds for each table, for a model without an
    adapter."""
    adapter: Path | None = None
    """The folder of the adapter that is in the model."""

    def sample(
        self,
        values: Sequence[np.ndarray],
        prediction_length: int,
        *,
        num_samples: int = SAMPLES,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        batch_size: int | None = None,
        ids: Sequence[int | str] | None = None,
        season: int = 1,
    ) -> list[Forecast]:
        """Draw forecasts of each series.

        Parameters
        ----------
        values : sequence of ndarray of float, each of shape (steps, variables)
            The contexts, physical units; the oldest steps drop out beyond the model's window, with
            a warning.
        prediction_length : int
            Steps to forecast.
        num_samples : int, optional
            Forecasts of each series; 1 is the single greedy one.
        temperature : float, optional
            Of the drawing: above 0, lower is narrower.
        seed : int, optional
            Of the drawing.
        batch_size : int, optional
            Series forecast together. Default: as many as 2 GB of keys and values hold, up to 256
            forecasts. Draws depend on it.
        ids : sequence of int or str, optional
            The names of series in errors.
        season : int, optional
            Steps of a season, which is taken out before a series is written, and put back
            afterwards; 1: none.

        Returns
        -------
        list of Forecast
            Their `physical` is (num_samples, prediction_length, variables); their scaled values are
            without season.

        Raises
        ------
        InputError
            For a series that cannot be forecast, naming it, and for more steps than the model can
            write.
        """
        seasons = [Season.of(series, season) for series in values]
        least = [
            np.where(series.min(axis=0) < 0, -np.inf, 0) for series in values
        ]  # what never was negative stays so
        values = [one.without(series) for one, series in zip(seasons, values, strict=True)]
        text_format = self.format_of(values, ids)
        steps = self.window(text_format, prediction_length)
        if max(map(len, values)) > steps:
            warnings.warn(
                f"of a series longer than the model's window the last {steps} steps are read",
                stacklevel=2,
            )
        contexts = [series[-steps:] for series in values]
        protocol = DecodeConfig(
            max_new_tokens=text_format.longest_step * prediction_length,
            steps=prediction_length,
            constrained=True,
            temperature=temperature if num_samples > 1 else 0.0,
            n_samples=num_samples,
        )
        # The samples of a series share the keys and values of its context, and have their own of
        # what they write.
        tokens = (
            max(map(len, contexts)) + num_samples * prediction_length
        ) * text_format.longest_step
        config = self.backbone.model.config
        kv_width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
        bytes_a_series = (
            tokens * 2 * config.num_hidden_layers * kv_width * self.backbone.model.dtype.itemsize
        )
        size = batch_size or max(1, min(MOST_ROWS // num_samples, CACHE // bytes_a_series))
        made = forecast(
            self.backbone,
            contexts,
            protocol,
            batch_size=size,
            seed=seed,
            ids=ids,
            text_format=text_format,
            progress=len(contexts) > size,
        )
        whose = zip(made, seasons, values, strict=True)
        back = [one.back(it.scaling, len(past), prediction_length) for it, one, past in whose]
        return [
            replace(it, scaling=one, least=low)
            for it, one, low in zip(made, back, least, strict=True)
        ]

    def format_of(
        self, values: Sequence[np.ndarray], ids: Sequence[int | str] | None = None
    ) -> TextFormat:
        """The text format for series: the adapter's, which they have to fit, else one that suits
        them."""
        text_format = (self.text_format or format_for(values)).of(values[0].shape[1])
        for name, series in zip(range(len(values)) if ids is None else ids, values, strict=True):
            if series.shape[1] != text_format.variables or (
                series.min() < 0 and not text_format.offset
            ):
                who = "the series" if name == "series" else f"series {name}"
                knows = f"variables: {text_format.variables}, negative numbers: {'yes' if text_format.offset else 'no'}"
                advice = "take another adapter, none, or fine-tune one on the table"
                raise InputError(
                    f"{who} does not fit the adapter's text format ({knows}); {advice}"
                )
        return text_format

    def window(self, text_format: TextFormat, prediction_length: int) -> int:
        """How many steps of a series the model reads at most, beside those that it is to write."""
        places, longest = (
            self.backbone.model.config.max_position_embeddings,
            text_format.longest_step,
        )
        steps = min(WINDOW, places - prediction_length * longest) // longest
        if steps < SHORTEST:
            raise InputError(
                f"{prediction_length} steps are more than {self.backbone.name} can write; ask for fewer"
            )
        return steps


def format_for(values: Sequence[np.ndarray]) -> TextFormat:
    """A text format that suits a table's series.

    Parameters
    ----------
    values : sequence of ndarray of float, each of shape (steps, variables)
        Physical units.

    Returns
    -------
    TextFormat
        Each variable by itself, its context's largest value at scaled 1000. Zero stands for zero
        where no value is negative and the smallest is below half of the largest; else the numbers
        start below the context's smallest.
    """
    together = np.concatenate(values)
    low, high = together.min(), together.max()
    offset = 0.0 if 0 <= low <= high / 2 else LLMTIME_OFFSET
    variables = values[0].shape[1]
    return TextFormat(variables, percentile=100.0, offset=offset, separate=variables > 1)
