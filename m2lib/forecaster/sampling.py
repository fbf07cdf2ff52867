"""Drawing forecasts from a language model: of series of any table, in a text format that suits it or that it knows."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2lib.files import InputError
from m2lib.forecasting import DecodeConfig, Forecast, forecast
from m2lib.series import STUDY, TextFormat

if TYPE_CHECKING:
    from m2lib.model import Backbone

WINDOW = 1024  # tokens of context that the model reads at most
SHORTEST = 10  # steps of a context at least
SAMPLES = 20
TEMPERATURE = 0.7  # as the study's samples were drawn
LLMTIME_OFFSET = 0.3  # LLMTIME's beta
MEMORY_SHARE = 0.5  # of the memory that is free, for the cache of a batch


class Sampler:
    """A language model that draws forecasts, and the text format that it reads and writes.

    Parameters
    ----------
    backbone : Backbone
        A model with the 13-token vocabulary, its adapter put in.
    text_format : TextFormat, optional
        How series are written. Default: chosen for each table by `format_for`, as a model without an adapter allows.
    adapter : Path, optional
        The folder of the adapter that is in the model.
    """

    def __init__(self, backbone: "Backbone", text_format: TextFormat | None = None, adapter: Path | None = None):
        self.backbone, self.text_format, self.adapter = backbone, text_format, adapter

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
        targets: Sequence[str] = (),
    ) -> list[Forecast]:
        """Draw forecasts of each series.

        Parameters
        ----------
        values : sequence of ndarray of float, each of shape (steps, variables)
            The contexts, physical units; the oldest steps drop out beyond the model's window, with a warning.
        prediction_length : int
            Steps to forecast.
        num_samples : int, optional
            Forecasts of each series; 1 is the single greedy one.
        temperature : float, optional
            Of the drawing: above 0, lower is narrower.
        seed : int, optional
            Of the drawing.
        batch_size : int, optional
            Series forecast together. Default: as many as half of the free memory holds.
        ids : sequence of int or str, optional
            The series' names in errors.
        targets : sequence of str, optional
            The variables' names in errors.

        Returns
        -------
        list of Forecast
            Their `physical` is (num_samples, prediction_length, variables).

        Raises
        ------
        InputError
            For settings or a series that cannot be forecast, naming it.
        """
        if prediction_length < 1 or num_samples < 1 or temperature <= 0:
            raise InputError("prediction_length and num_samples are at least 1, the temperature is above 0")
        names = list(ids) if ids is not None else list(range(len(values)))
        shape = self.text_format or format_for(values)
        _check_fit(values, shape, names, targets)
        contexts = self._cut(values, shape, prediction_length)
        config = DecodeConfig(
            # Enough of them for any format: decoding stops at the last step's semicolon anyway.
            max_new_tokens=max(shape.longest_step, STUDY.longest_step) * prediction_length,
            steps=prediction_length,
            constrained=True,
            temperature=temperature if num_samples > 1 else 0.0,
            n_samples=num_samples,
        )
        tokens = (max(map(len, contexts)) + prediction_length) * shape.longest_step
        size = batch_size or max(1, _rows_that_fit(self.backbone, tokens) // num_samples)
        return forecast(
            self.backbone,
            contexts,
            config,
            batch_size=size,
            seed=seed,
            ids=names,
            names=tuple(targets),
            text_format=shape,
            progress=len(contexts) > size,
        )

    def _cut(self, values: Sequence[np.ndarray], shape: TextFormat, horizon: int) -> list[np.ndarray]:
        """The last steps of each series that the window holds; InputError where it holds too few beside the horizon."""
        places = self.backbone.model.config.max_position_embeddings - horizon * shape.longest_step
        steps = min(WINDOW, places) // shape.longest_step
        if steps < SHORTEST:
            most = self.backbone.model.config.max_position_embeddings // shape.longest_step - SHORTEST
            raise InputError(f"{horizon} steps are more than {self.backbone.name} can write; ask for at most {most}")
        longer = sum(len(series) > steps for series in values)
        if longer:
            warnings.warn(f"{longer} of {len(values)} series are longer than the model's window: their last {steps} "
                          "steps are read", stacklevel=2)  # fmt: skip
        return [series[-steps:] for series in values]


def format_for(values: Sequence[np.ndarray]) -> TextFormat:
    """A text format that suits a table's series.

    Parameters
    ----------
    values : sequence of ndarray of float, each of shape (steps, variables)
        Physical units.

    Returns
    -------
    TextFormat
        Each variable by itself, its context's largest value at scaled 1000. Zero stands for zero where no value is
        negative and the smallest is below half of the largest; else the numbers start below the context's smallest.
    """
    low = min(float(series.min()) for series in values)
    high = max(float(series.max()) for series in values)
    offset = 0.0 if 0 <= low <= high / 2 else LLMTIME_OFFSET
    variables = values[0].shape[1]
    return TextFormat(variables, percentile=100.0, offset=offset, separate=variables > 1)


def _check_fit(
    values: Sequence[np.ndarray], shape: TextFormat, names: Sequence[int | str], targets: Sequence[str]
) -> None:
    """Raise InputError for series that a text format does not hold, or that are too short."""
    for name, series in zip(names, values, strict=True):
        if series.ndim != 2 or series.shape[1] != shape.variables:
            has = series.shape[1] if series.ndim == 2 else f"the shape {series.shape}"
            raise InputError(
                f"series {name} has {has} variables, and the adapter's text format {shape.variables}; "
                "take another adapter, none, or fine-tune one on the table"
            )
        if len(series) < SHORTEST:
            raise InputError(f"series {name} has {len(series)} steps; a context needs at least {SHORTEST}")
        if not shape.offset and (series < 0).any():
            step, variable = np.argwhere(series < 0)[0].tolist()
            target = targets[variable] if targets else f"variable {variable + 1}"
            raise InputError(
                f"series {name}, step {step}, {target}: {series[step, variable]:g} is negative, and the adapter's text "
                "format has none; take no adapter, or fine-tune one on the table"
            )


def _rows_that_fit(backbone: "Backbone", tokens: int) -> int:
    """How many rows of so many tokens a part of the free memory holds, keys and values of all layers."""
    import psutil
    import torch

    config, device = backbone.model.config, backbone.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    row = 2 * config.num_hidden_layers * width * tokens * backbone.model.dtype.itemsize
    return max(1, int(MEMORY_SHARE * free / row))
