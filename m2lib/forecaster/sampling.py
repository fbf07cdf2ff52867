"""Drawing forecasts from a language model: of series of any table, in a text format that suits it or that it knows."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2lib.files import InputError
from m2lib.forecaster.cells import LARGEST, SHORTEST
from m2lib.forecasting import DecodeConfig, Forecast, forecast
from m2lib.series import STUDY, TextFormat

if TYPE_CHECKING:
    from m2lib.model import Backbone

WINDOW = 1024  # tokens of context that the model reads at most
SAMPLES = 20
TEMPERATURE = 0.7  # as the study's samples were drawn
LLMTIME_OFFSET = 0.3  # LLMTIME's beta
COLDEST = 1e-6  # a temperature that logits can be divided by
MEMORY_SHARE = 0.5  # of the memory that is free, for the cache of a batch
MOST_ROWS = 256  # forecasts written together: more gain no time, and a seed's draws depend on what a batch holds


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
            Series forecast together. Default: as many as half of the free memory holds, up to 256 forecasts. Draws
            depend on it.
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
        counts = prediction_length, num_samples, 1 if batch_size is None else batch_size
        if min(counts) < 1 or not COLDEST <= temperature < float("inf"):
            counted = "prediction_length, num_samples and batch_size are at least 1"
            raise InputError(f"{counted}, the temperature at least {COLDEST:g}, and finite")
        ids = list(range(len(values))) if ids is None else list(ids)
        contexts, shape = self.contexts(values, prediction_length, ids, targets)
        config = DecodeConfig(
            # Enough of them for any format: decoding stops at the last step's semicolon anyway.
            max_new_tokens=max(shape.longest_step, STUDY.longest_step) * prediction_length,
            steps=prediction_length,
            constrained=True,
            temperature=temperature if num_samples > 1 else 0.0,
            n_samples=num_samples,
        )
        # The samples of a series share the keys and values of its context, and have their own of what they write.
        tokens = (max(map(len, contexts)) + num_samples * prediction_length) * shape.longest_step
        size = batch_size or max(1, min(MOST_ROWS // num_samples, _room(self.backbone) // tokens))
        return forecast(
            self.backbone,
            contexts,
            config,
            batch_size=size,
            seed=seed,
            ids=ids,
            names=tuple(targets),
            text_format=shape,
            progress=len(contexts) > size,
        )

    def contexts(
        self,
        values: Sequence[np.ndarray],
        prediction_length: int,
        ids: Sequence[int | str] | None = None,
        targets: Sequence[str] = (),
    ) -> tuple[list[np.ndarray], TextFormat]:
        """What the model reads of each series, and in which text format; nothing is forecast yet.

        Parameters
        ----------
        values : sequence of ndarray of float, each of shape (steps, variables)
            As in `sample`.
        prediction_length : int
            Likewise.
        ids : sequence of int or str, optional
            Likewise.
        targets : sequence of str, optional
            Likewise.

        Returns
        -------
        contexts : list of ndarray
            The last steps of each series, as many as the model's window holds.
        text_format : TextFormat
            The adapter's, else one that suits the series.

        Raises
        ------
        InputError
            For a series that cannot be forecast, naming it, and as `window` does.
        """
        ids = list(range(len(values))) if ids is None else ids
        _check_series(values, ids, targets)
        shape = self.text_format or format_for(values)
        check_fit(values, shape, ids, targets)
        steps = self.window(shape, prediction_length)
        longer = sum(len(series) > steps for series in values)
        if longer:
            one = len(values) == 1
            which = "the series is" if one else f"{longer} of {len(values)} series are"
            read = f"{'its' if one else 'their'} last {steps} steps are read"
            warnings.warn(f"{which} longer than the model's window: {read}", stacklevel=2)
        contexts = [series[-steps:] for series in values]
        for name, context in zip(ids, contexts, strict=True):
            if not shape.scaling(context).exists:
                problem = f"in the {len(context)} steps that the model reads it never changes, or is mostly 0; drop it"
                raise InputError(f"{_who(name)}: {problem}")
        return contexts, shape

    def window(self, text_format: TextFormat, prediction_length: int) -> int:
        """How many steps of a series the model reads.

        Parameters
        ----------
        text_format : TextFormat
            How they are written.
        prediction_length : int
            Steps to be written after them.

        Returns
        -------
        int
            At most.

        Raises
        ------
        InputError
            Where the model can hold too few beside the steps to be written.
        """
        places = self.backbone.model.config.max_position_embeddings - prediction_length * text_format.longest_step
        steps = min(WINDOW, places) // text_format.longest_step
        if steps < SHORTEST:
            most = self.backbone.model.config.max_position_embeddings // text_format.longest_step - SHORTEST
            problem = f"{prediction_length} steps are more than {self.backbone.name} can write"
            raise InputError(f"{problem}; ask for at most {most}")
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
        Each variable by itself, its context's largest value at scaled 1000. Zero stands for zero where no value is
        negative and the smallest is below half of the largest; else the numbers start below the context's smallest.
    """
    low = min(float(series.min()) for series in values)
    high = max(float(series.max()) for series in values)
    offset = 0.0 if 0 <= low <= high / 2 else LLMTIME_OFFSET
    variables = values[0].shape[1]
    return TextFormat(variables, percentile=100.0, offset=offset, separate=variables > 1)


def _check_series(values: Sequence[np.ndarray], names: Sequence[int | str], targets: Sequence[str]) -> None:
    """Raise InputError for series that no model forecasts: none at all, too short, or not of numbers."""
    if not len(values):
        raise InputError("there is no series to forecast; give one or more")
    for name, series in zip(names, values, strict=True):
        if series.ndim != 2:
            raise InputError(f"{_who(name)} has the shape {series.shape}; a context is of shape (steps, variables)")
        if len(series) < SHORTEST:
            raise InputError(f"{_who(name)} has {len(series)} steps; a context needs at least {SHORTEST}")
        bad = ~(np.abs(series) <= LARGEST)  # so is NaN
        if bad.any():
            place, value = _first(name, series, bad, targets)
            raise InputError(f"{place}: {value:g} is no number within ±{LARGEST:g}; correct it, or drop the series")


def check_fit(
    values: Sequence[np.ndarray], shape: TextFormat, names: Sequence[int | str], targets: Sequence[str] = ()
) -> None:
    """See that a text format holds series.

    Parameters
    ----------
    values : sequence of ndarray of float, each of shape (steps, variables)
        The series, physical units.
    shape : TextFormat
        An adapter's.
    names : sequence of int or str
        Of the series, in errors.
    targets : sequence of str, optional
        The variables' names in errors.

    Raises
    ------
    InputError
        Naming the first series that has other variables, or negative values where the format has none.
    """
    for name, series in zip(names, values, strict=True):
        there = series.shape[1]
        if there != shape.variables:
            has = f"{there} variable{'s' * (there > 1)}"
            raise InputError(
                f"{_who(name)} has {has}, and the adapter's text format {shape.variables}; "
                "take another adapter, none, or fine-tune one on the table"
            )
        if not shape.offset and (series < 0).any():
            place, value = _first(name, series, series < 0, targets)
            raise InputError(
                f"{place}: {value:g} is negative, and the adapter's text format has none; "
                "take no adapter, or fine-tune one on the table"
            )


def _who(name: int | str) -> str:
    """A series, as errors call it; the only one of a table has no name of its own."""
    return "the series" if name == "series" else f"series {name}"


def _first(name: int | str, series: np.ndarray, bad: np.ndarray, targets: Sequence[str]) -> tuple[str, float]:
    """Where the first bad value of a series stands, and the value."""
    step, variable = np.argwhere(bad)[0].tolist()
    target = targets[variable] if targets else f"variable {variable + 1}"
    return f"{_who(name)}, step {step}, {target}", series[step, variable]


def _room(backbone: "Backbone") -> int:
    """Of how many tokens a part of the free memory holds the keys and values of all layers."""
    import psutil
    import torch

    config, device = backbone.model.config, backbone.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    return int(MEMORY_SHARE * free / (2 * config.num_hidden_layers * width * backbone.model.dtype.itemsize))
