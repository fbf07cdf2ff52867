"""The language model on tables: the adapter `general`, and the samples that it draws.

`general` is SmolLM2-135M with LoRA on all seven linear layers, trained on synthetic series alone
(book/real_tables.md says how). A series is written as text in three views (`m2tables.views`), and
the samples are shared out among them. The network of `m2tables.network` is a thousand times as fast
and has the lower error, so this is for those who want samples of whole courses, several variables
that are read together, or to see a language model do it.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from m2lib.decoding import BareModel, DecodeConfig, Forecast, forecast, pooled
from m2lib.errors import InputError
from m2lib.files import read_json
from m2lib.model import (
    DEFAULT_BACKBONE,
    Backbone,
    chosen_device,
    fastest_dtype,
    load_adapter,
    load_backbone,
)
from m2lib.series import FORMAT_FILE, SHORTEST_CONTEXT, TextFormat
from m2tables.seasons import Season
from m2tables.views import Seen, View

GENERAL = Path(__file__).parent / "general"
"""The folder of the adapter for any table, in the package."""
VIEWS_FILE = "views.json"
SAMPLES = 20
"""Samples of each series, where a caller does not say how many."""
TEMPERATURE = 0.7
"""That of the sampling, as in the study."""
WINDOW_TOKENS = 1024
"""Of context and forecast together; `general` has learned from no longer texts."""
BATCH = 36
"""Contexts that are forecast together."""


class LanguageModel:
    """A language model with an adapter that forecasts any series by sampling."""

    def __init__(
        self, backbone: Backbone, text_format: TextFormat, views: Sequence[View] = (View(),)
    ) -> None:
        """Take a model whose adapter is in it, the text format of that adapter, and its views."""
        self.backbone = backbone
        self.text_format = text_format
        self.views = tuple(views)
        self._bare = BareModel(backbone.model)

    def __repr__(self) -> str:
        return f"language model {self.backbone.name}, {self.backbone.dtype}"

    @classmethod
    def from_pretrained(
        cls, folder: str | Path = GENERAL, *, device: str | None = None, dtype: str | None = None
    ) -> "LanguageModel":
        """Load an adapter for tables, by default `general`, into SmolLM2-135M.

        Parameters
        ----------
        folder : str or Path, optional
            An adapter's folder, in which text_format.json and views.json say how series are shown.
        device, dtype : str, optional
            As `m2lib.model.load_backbone` takes them. By default the dtype is the one in which the
            device is fastest.

        Returns
        -------
        LanguageModel
            Ready to forecast. `m2 model` has to have fetched the model before.
        """
        folder = Path(folder)
        if not (folder / FORMAT_FILE).is_file():
            raise InputError(f"{folder} holds no adapter for tables ({FORMAT_FILE} is missing)")
        dtype = dtype or fastest_dtype(device or chosen_device())
        backbone = load_backbone(DEFAULT_BACKBONE, device=device, dtype=dtype)
        load_adapter(backbone.model, folder)
        views_path = folder / VIEWS_FILE
        rows = read_json(views_path) if views_path.exists() else [{}]
        text_format = TextFormat(**read_json(folder / FORMAT_FILE))
        return cls(backbone, text_format, [View(**fields) for fields in rows])

    def sample(
        self,
        series: Sequence[np.ndarray],
        horizon: int,
        seasons: Sequence[int],
        *,
        num_samples: int = SAMPLES,
        seed: int = 0,
        views: Sequence[View] | None = None,
        progress: bool = False,
    ) -> list[Forecast]:
        """Sample forecasts of each series.

        Parameters
        ----------
        series : sequence of ndarray of float, each of shape (steps, variables)
            Ten steps or more that are not all alike, physical units.
        horizon : int
            Steps to forecast.
        seasons : sequence of int
            Steps of each series' season; 1: none.
        num_samples, seed : int, optional
            How many samples of each series are drawn, and with which random numbers.
        views : sequence of View, optional
            The ways in which the model is shown each series. Default: the adapter's.
        progress : bool, optional
            Show a bar.

        Returns
        -------
        list of Forecast
            One for each series. `physical` is (num_samples, horizon, variables).

        Raises
        ------
        InputError
            For more steps than the model's window holds beside a context, and for a series that
            cannot be written, naming it.
        """
        text_format = self.text_format.for_variables(series[0].shape[1])
        longest = text_format.longest_step
        steps_read = self._steps_read(series[0].shape[1], horizon)

        # Three views share 20 samples as 7, 7 and 6; each draws 7, and the last of them is dropped.
        views = tuple(views or self.views)[:num_samples]
        protocol = DecodeConfig(
            max_new_tokens=longest * horizon,
            steps=horizon,
            constrained=True,
            temperature=TEMPERATURE,
            n_samples=math.ceil(num_samples / len(views)),
        )
        names = []
        all_seen = []
        for number, (values, length) in enumerate(zip(series, seasons, strict=True)):
            season = Season.of(values, length)
            for view_number, view in enumerate(views):
                names.append(f"{number}, view {view_number}")
                all_seen.append(Seen.of(values, season, view, steps_read))
        forecasts = forecast(
            self._bare,
            [seen.context for seen in all_seen],
            protocol,
            batch_size=BATCH,
            seed=seed,
            ids=names,
            text_format=text_format,
            progress=progress,
        )
        drawn = []
        for number, values in enumerate(series):
            # What was never negative stays so.
            least = np.where(values.min(axis=0) < 0, -np.inf, 0)
            parts = []
            for place in range(number * len(views), (number + 1) * len(views)):
                scaling = all_seen[place].back(forecasts[place].scaling, horizon)
                parts.append(replace(forecasts[place], scaling=scaling, least=least))
            drawn.append(pooled(parts, num_samples))
        return drawn

    def _steps_read(self, variables: int, horizon: int) -> int:
        """Return how many steps of a series fit into the window beside the forecast."""
        longest = self.text_format.for_variables(variables).longest_step
        most = WINDOW_TOKENS // longest
        if most - horizon < SHORTEST_CONTEXT:
            raise InputError(
                f"the language model writes {most - SHORTEST_CONTEXT} steps at most; ask for fewer"
            )
        return most - horizon

    def quantiles(
        self,
        series: Sequence[np.ndarray],
        horizon: int,
        seasons: Sequence[int],
        levels: Sequence[float],
    ) -> np.ndarray:
        """Forecast quantiles as `m2tables.quantile_model.QuantileModel` does, from 20 samples.

        A series that cannot be written keeps its last values, because it has fewer than ten steps,
        or one of its variables does not change in what is read.
        """
        steps_read = self._steps_read(series[0].shape[1], horizon)
        shape = (len(series), len(levels), horizon, series[0].shape[1])
        quantiles = np.empty(shape)
        written = []
        for number, values in enumerate(series):
            read = values[-steps_read:]
            if len(read) < SHORTEST_CONTEXT or not np.ptp(read, axis=0).all():
                quantiles[number] = values[-1]
            else:
                written.append(number)
        if written:
            forecasts = self.sample(
                [series[number] for number in written],
                horizon,
                [seasons[number] for number in written],
                progress=sys.stderr.isatty(),  # no bar in a log
            )
            for number, drawn in zip(written, forecasts, strict=True):
                quantiles[number] = np.quantile(drawn.physical, levels, axis=0)
        return quantiles
