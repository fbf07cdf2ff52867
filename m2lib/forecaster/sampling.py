"""Sampling forecasts of any table's series from a language model, in a text format for them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from m2lib.accounting import Shape
from m2lib.decoding import BareModel, DecodeConfig, Engine, Forecast, forecast, pooled
from m2lib.errors import InputError, check_count, warn
from m2lib.forecaster.views import PLAIN, Seen, View
from m2lib.model import INT8, Backbone
from m2lib.series import (
    SHORTEST_CONTEXT,
    UNDERSHOOT,
    Season,
    TextFormat,
    checked_seasons,
    series_label,
)

WINDOW_TOKENS = 1024  # of context that the model reads at most, and of a training window
SAMPLES = 20  # of each series, where a caller does not say how many
TEMPERATURE = 0.7  # as in the study
LLMTIME_OFFSET = 0.3  # LLMTIME's beta
CACHE = 2 * 10**9  # bytes of a batch's keys and values at most, the same on every machine
# Forecasts in a batch at most. A larger batch is no faster. Samples depend on the batch, so the
# number is fixed: in one dtype, a seed gives the same batches on every machine.
MOST_ROWS = 256
# Work of fewer tokens is short on any machine, so its speed is not measured before it begins.
SHORT_WORK = 20_000
TRIED_TOKENS = 128  # the length of the text by which the speed is measured
LONG_WORK = 120  # seconds; what takes longer is said before it begins


@dataclass(frozen=True)
class Sampling:
    """How forecasts are sampled; an argument that is out of its range raises InputError."""

    num_samples: int = SAMPLES
    """Forecasts of each series; 1 is the single greedy one."""
    temperature: float | None = None
    """The sampling's temperature, above 0: the lower, the narrower are the forecasts. None: 0.7,
    but 1 for a series of which a variable is mostly zero in what is read, because a low temperature
    draws what is rare too rarely. Zeros of the season, such as those of the night, do not count."""
    seed: int = 0
    """The sampling's seed. With the same one a call with the same series draws the same samples, as
    long as machine, dtype and number of threads stay the same. All series of a call draw from one
    stream of random numbers, so beside others a series has other samples than alone."""
    batch_size: int | None = None
    """How many contexts are forecast together; each series has one for each view. Samples depend on
    it. None: as many as fit into 2 GB of keys and values, up to 256 forecasts."""
    context_length: int | None = None
    """The last steps of each series that the model reads at most, 10 or more. All that is read
    shares three or four digits, so a shorter past is written with a finer resolution. The season is
    always estimated from the whole series. None: as many as the model's window holds."""

    def __post_init__(self) -> None:
        """Raise InputError for an argument that is out of its range."""
        check_count("num_samples", self.num_samples)
        check_count("seed", self.seed, 0)
        if self.temperature is not None and not 0 < self.temperature < math.inf:  # nan fails too
            raise InputError(
                f"temperature is {self.temperature}; give a number above 0, or ask for one sample, "
                "which is greedy"
            )
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size)
        if self.context_length is not None:
            check_count("context_length", self.context_length, SHORTEST_CONTEXT)

    def temperature_for(self, series: np.ndarray) -> float:
        """Return the temperature for sampling a series (steps, variables) without its season.

        At 0.7 a token of probability 0.3 beside one of 0.7 is drawn with probability
        0.3^(1/0.7) / (0.3^(1/0.7) + 0.7^(1/0.7)) = 0.23. So an article that sells on three days of
        ten would be forecast to sell on fewer, and all its totals would be too low.
        """
        if self.temperature is not None:
            return self.temperature
        mostly_zero = ((series == 0).mean(axis=0) > 0.5).any()
        return 1.0 if mostly_zero else TEMPERATURE


@dataclass(frozen=True)
class Sampler:
    """A language model that forecasts by sampling, and the text format that it reads and writes.

    It takes series as arrays, whose values were checked where they came in. `Forecaster`, which
    users call, adds tables and chronos's names to it. Evaluation and fine-tuning, which a
    `Forecaster` calls, need no more than a `Sampler`.
    """

    backbone: Backbone
    """The model, with the 13-token vocabulary and its adapter put in."""
    text_format: TextFormat | None = None
    """How series are written. None, only without an adapter: as `format_for` chooses for the series
    of a call."""
    adapter: Path | None = None
    """The folder of the adapter that is in the model."""
    views: tuple[View, ...] = PLAIN
    """The ways in which it is shown a series, among which its samples are shared out."""
    int8: bool = False
    """Whether its layers are computed in 8 bits, see `m2lib.model.int8_product`."""
    progress: bool = True
    """Whether work that takes more than two seconds shows a bar, on stderr."""
    _kept: dict[str, BareModel] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The model's matrices after the first forecast, see `_bare`. They are in a dictionary because
    no field of a frozen dataclass can be set later."""

    def __repr__(self) -> str:
        adapter = self.adapter.name if self.adapter else "none"
        backbone = self.backbone
        return (
            f"{type(self).__name__}({backbone.name}, adapter: {adapter}, "
            f"{self.dtype} on {backbone.device})"
        )

    @property
    def dtype(self) -> str:
        """The dtype that its layers are computed in: `int8`, or that of the model's weights."""
        return INT8 if self.int8 else self.backbone.dtype

    def __getstate__(self) -> dict[str, Any]:
        """Leave the matrices out of a copy or pickle; they are made again where they are used."""
        return self.__dict__ | {"_kept": {}}

    def sample(
        self,
        values: Sequence[np.ndarray],
        prediction_length: int,
        sampling: Sampling = Sampling(),
        *,
        ids: Sequence[int | str] | None = None,
        season: int | Sequence[int] = 1,
        views: Sequence[View] | None = None,
    ) -> list[Forecast]:
        """Sample forecasts of each series.

        Parameters
        ----------
        values : sequence of ndarray of float, each of shape (steps, variables)
            The contexts, physical units. Of a context longer than the model's window only the last
            steps are read, with a warning.
        prediction_length : int
            Steps to forecast.
        sampling : Sampling, optional
            How many samples, and how they are drawn.
        ids : sequence of int or str, optional
            The names of series in errors. Default: their numbers from 0.
        season : int or sequence of int, optional
            Steps of the season, which is taken out before a series is written, and put back
            afterwards; 1: none. If several are given, each series gets the longest that fits into
            it three times.
        views : sequence of View, optional
            The ways in which the model is shown each series, see `m2lib.forecaster.View`. The
            samples are shared out among them, so that of 20 samples three views have 7, 7 and 6.
            Default: those of the adapter.

        Returns
        -------
        list of Forecast
            One for each series. `physical` is (num_samples, prediction_length, variables), with
            season and trend; the scaled `values` are without them. Samples of the first view come
            first.

        Raises
        ------
        InputError
            For a series that cannot be forecast, naming it; for more steps than the model can
            write; and for no series at all, or an argument that is out of its range.

        Warns
        -----
        UserWarning
            Before the work begins: if a series is longer than the model's window, unless
            `context_length` fits into it; if an adapter is to forecast more steps than fill half a
            window of the training of `general`; and if the work will take two minutes or more.
        """
        if len(values) == 0:
            raise InputError("there is no series to forecast; give at least one")

        # 1. Find out how many steps are read. That depends on the text format, so one is chosen
        # before it is known what each view shows.
        lengths = checked_seasons(season)
        seasons = [Season.of(series, lengths) for series in values]
        unseasonal = [
            one_season.without(series) for one_season, series in zip(seasons, values, strict=True)
        ]
        text_format = self.checked_format(unseasonal, ids)
        steps_read = self.readable_steps(text_format, prediction_length, sampling.context_length)
        # A caller who asks for just so many steps knows that no others are read.
        was_asked_for = steps_read == sampling.context_length
        if not was_asked_for and any(len(series) > steps_read for series in values):
            warn(f"of a series longer than the model's window the last {steps_read} steps are read")

        # 2. Show each series in each view. For 20 samples each of three views draws 7, and the last
        # of the third view is left out; for 2 samples the third view is not shown at all. They
        # stand view by view: with the series a and b these are a and b in the first view, a and b
        # in the second, a and b in the third.
        num_samples = sampling.num_samples
        views = tuple(views or self.views)[:num_samples]
        samples_each = math.ceil(num_samples / len(views))
        all_seen = [
            Seen.of(series, one_season, view, steps_read)
            for view in views
            for series, one_season in zip(values, seasons, strict=True)
        ]
        contexts = [seen.context for seen in all_seen]
        names = list(range(len(values)) if ids is None else ids) * len(views)
        # With its season, or without its trend, a series may need another format.
        text_format = self.checked_format(contexts, names)

        # 3. Set the protocol, each series' temperature, and how many contexts go together.
        greedy = num_samples == 1
        protocol = DecodeConfig(
            max_new_tokens=text_format.longest_step * prediction_length,
            steps=prediction_length,
            constrained=True,
            temperature=0.0 if greedy else TEMPERATURE,  # each series has its own, see below
            n_samples=samples_each,
        )
        # Zeros at fixed steps, such as the nights of solar power, go with the season, so they do
        # not count.
        temperatures = [sampling.temperature_for(series[-steps_read:]) for series in unseasonal]
        temperatures *= len(views)
        batch_size = sampling.batch_size
        if batch_size is None:
            longest = max(len(context) for context in contexts)
            batch_size = self._batch_size(text_format, longest, samples_each, prediction_length)

        # 4. Forecast them, with a warning first if that will take long or reaches too far.
        self._warn_of_a_far_horizon(text_format, prediction_length)
        bare = self._bare()
        steps = sum(len(context) + samples_each * prediction_length for context in contexts)
        _warn_of_long_work(bare, steps * text_format.longest_step, len(values))
        # A batch's caches are as long as its longest prompt, so prompts of one length go together.
        by_length = sorted(range(len(contexts)), key=lambda number: len(contexts[number]))
        forecasts = forecast(
            bare,
            [contexts[number] for number in by_length],
            protocol,
            batch_size=batch_size,
            seed=sampling.seed,
            ids=[names[number] for number in by_length],
            temperatures=None if greedy else [temperatures[number] for number in by_length],
            text_format=text_format,
            progress=self.progress,
        )
        forecast_by_number = dict(zip(by_length, forecasts, strict=True))
        forecasts = [forecast_by_number[number] for number in range(len(contexts))]

        # 5. Put season and trend back, and join the samples of each series. What was never negative
        # stays so: `least` is the least value that a forecast may have, by variable.
        least = [np.where(series.min(axis=0) < 0, -np.inf, 0) for series in values]
        restored_forecasts = []
        for view_forecast, seen, low in zip(forecasts, all_seen, least * len(views), strict=True):
            scaling = seen.back(view_forecast.scaling, prediction_length)
            restored_forecasts.append(replace(view_forecast, scaling=scaling, least=low))
        # As they stand view by view, every len(values)-th is one of the same series.
        return [
            pooled(restored_forecasts[number :: len(values)], num_samples)
            for number in range(len(values))
        ]

    def format_of(self, values: Sequence[np.ndarray]) -> TextFormat:
        """Return the forecaster's text format, else what `format_for` chooses for these series."""
        text_format = self.text_format or format_for(values)
        # That of an adapter for any table leaves the number of variables open: it is set here.
        return text_format.for_variables(values[0].shape[1])

    def checked_format(
        self, values: Sequence[np.ndarray], ids: Sequence[int | str] | None = None
    ) -> TextFormat:
        """Return the text format that `format_of` gives, after a check that the series fit it.

        InputError names the first series that does not.
        """
        names = range(len(values)) if ids is None else ids
        variables = values[0].shape[1]
        for name, series in zip(names, values, strict=True):
            if series.shape[1] != variables:
                raise InputError(
                    f"{series_label(name)} has another number of variables than the first one "
                    f"({series.shape[1]}, not {variables}); forecast them in separate calls"
                )
        text_format = self.format_of(values)
        for name, series in zip(names, values, strict=True):
            # An integrator's undershoot is small beside the series, too. Where all numbers are
            # tiny, a negative one is meant as such.
            least = -UNDERSHOOT * min(1.0, series.max())
            too_low = series.min() < least and not text_format.offset
            if series.shape[1] != text_format.variables or too_low:
                negative = "yes" if text_format.offset else "no"
                raise InputError(
                    f"{series_label(name)} does not fit the adapter's text format "
                    f"(variables: {text_format.variables}, negative numbers: {negative}); "
                    "take another adapter or none (--adapter none), or fine-tune one on the table"
                )
        return text_format

    def readable_steps(
        self,
        text_format: TextFormat,
        prediction_length: int,
        context_length: int | None = None,
    ) -> int:
        """Return the most steps of a series that the model reads, given how many it is to write.

        They are no more than `context_length`, where that is given. InputError where one of the two
        is no whole number or too small, and where there is no room for the shortest context and
        that many steps.
        """
        check_count("prediction_length", prediction_length)
        if context_length is not None:
            check_count("context_length", context_length, SHORTEST_CONTEXT)
        positions = self.backbone.model.config.max_position_embeddings
        longest = text_format.longest_step  # tokens
        steps = min(WINDOW_TOKENS, positions - prediction_length * longest) // longest
        if steps < SHORTEST_CONTEXT:
            raise InputError(
                f"{prediction_length} steps are more than {self.backbone.name} can write; "
                "ask for fewer"
            )
        return steps if context_length is None else min(steps, context_length)

    def _warn_of_a_far_horizon(self, text_format: TextFormat, prediction_length: int) -> None:
        """Warn of forecasts that are longer than nearly all that an adapter has learned from."""
        # It is judged by the training of `general`, whose windows of 1024 tokens hold 256 steps of
        # one variable, context and forecast together. On average the forecast is half of them.
        # No file says how far another adapter has learned to forecast.
        learned = WINDOW_TOKENS // text_format.longest_step // 2
        if self.adapter and prediction_length > learned:
            warn(
                f"{prediction_length} steps are more than half a training window of `general` "
                f"holds, which is {learned}; unless the adapter was tuned on as many, the last "
                "steps will be poor; forecast fewer steps, or longer ones: months instead of days"
            )

    def _bare(self) -> BareModel:
        """Return the model's matrices, merged and packed anew only if its weights have changed."""
        model = self.backbone.model
        if "bare" not in self._kept or not self._kept["bare"].is_of(model):
            self._kept.clear()  # before new ones are made, because they may take half a gigabyte
            self._kept["bare"] = BareModel(model, self.int8)
        return self._kept["bare"]

    def _token_bytes(self) -> int:
        """Return the bytes of a token's keys and values in all layers."""
        shape = Shape.of(self.backbone.model.config)
        kv_numbers = 2 * shape.layers * shape.kv_width
        return kv_numbers * self.backbone.model.dtype.itemsize

    def _batch_size(
        self, text_format: TextFormat, longest: int, samples_each: int, prediction_length: int
    ) -> int:
        """Return how many contexts of up to `longest` steps are forecast together: 1 or more."""
        # The samples of a series share the keys and values of its context, and have their own of
        # what they write.
        steps_kept = longest + samples_each * prediction_length
        series_bytes = steps_kept * text_format.longest_step * self._token_bytes()
        return max(1, min(MOST_ROWS // samples_each, CACHE // series_bytes))


def _warn_of_long_work(bare: BareModel, tokens: int, series: int) -> None:
    """Warn of work that will take minutes, as if each token took as long as one of a short text."""
    if tokens < SHORT_WORK:
        return
    text = [1] * TRIED_TOKENS
    seconds = []
    with torch.inference_mode():
        for _ in range(2):  # the first only warms the processor up
            start = time.perf_counter()
            Engine(bare, [text]).logits.tolist()  # `tolist` waits for a graphics card
            seconds.append(time.perf_counter() - start)
    expected = min(seconds) / TRIED_TOKENS * tokens
    if expected >= LONG_WORK:
        # Of a longer table they are one part of fifty, and the others take as long each.
        label = "this series" if series == 1 else f"these {series} series"
        warn(
            f"{label} will take some {expected / 60:.0f} minutes here; fewer series or samples, a "
            "shorter horizon or a shorter context (--context-length, context_length=) take less"
        )


def format_for(values: Sequence[np.ndarray]) -> TextFormat:
    """Choose a text format that suits a table's series.

    Parameters
    ----------
    values : sequence of ndarray of float, each of shape (steps, variables)
        Physical units.

    Returns
    -------
    TextFormat
        Each variable is scaled by itself, its context's largest value to 1000. Zero stays zero
        where no value is negative and the smallest is at most half of the largest; else the numbers
        start below the context's smallest.
    """
    all_values = np.concatenate(values)
    low, high = all_values.min(), all_values.max()
    offset = 0.0 if 0 <= low <= high / 2 else LLMTIME_OFFSET
    variables = values[0].shape[1]
    return TextFormat(variables, percentile=100.0, offset=offset, separate=variables > 1)
