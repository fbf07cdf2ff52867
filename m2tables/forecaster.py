"""The forecaster that a user takes home: tables and arrays in, quantiles out.

Names of methods, arguments and columns are those of chronos (Ansari et al., "Chronos: Learning the
Language of Time Series", Transactions on Machine Learning Research, 2024), so that most code
written for it works here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from m2lib.errors import InputError, check_count
from m2lib.series import DECILES
from m2tables.arrays import series_of
from m2tables.evaluation import Evaluation, Rival, evaluate
from m2tables.quantile_model import QuantileModel
from m2tables.tables import Columns, Fill, Item, future_times, items_of

NETWORK, LANGUAGE = "network", "language"


@dataclass(frozen=True)
class Forecaster:
    """A forecaster of any table, with its uncertainty.

    `Forecaster.from_pretrained` loads one. `predict_df` forecasts a table and `predict_quantiles`
    arrays; `evaluate` compares its forecasts of a table's past with others.
    """

    model: QuantileModel
    """What forecasts."""

    @classmethod
    def from_pretrained(cls, source: str | Path = NETWORK) -> "Forecaster":
        """Load a forecaster.

        Parameters
        ----------
        source : str or Path, optional
            `network`, the small network of the package, which takes a millisecond a series;
            `language`, the language model with the adapter `general`, which takes seconds; or the
            folder of an adapter in a text format for tables.

        Returns
        -------
        Forecaster
            Ready to forecast.

        Raises
        ------
        InputError
            For a source that is none of these.
        """
        if source == NETWORK:
            from m2tables.network import NetworkModel

            return cls(NetworkModel())
        from m2tables.language import GENERAL, LanguageModel

        return cls(LanguageModel.from_pretrained(GENERAL if source == LANGUAGE else source))

    def predict_quantiles(
        self,
        context: Any,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
        *,
        season: int = 1,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Forecast the quantiles of what follows each context, and the median.

        Parameters
        ----------
        context : ndarray or Tensor of float, or sequence of them
            One series (steps,), or several of them: (series, steps), or a list of any lengths. With
            more than one variable each is (variables, steps). Physical units, without gaps.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1; of the network between 0.025 and 0.975.
        season : int, optional
            Steps of the season; 1: none. An array has no calendar, so it has to be given.

        Returns
        -------
        quantiles : Tensor of float32, shape (series, prediction_length, levels)
            Physical units; (series, variables, prediction_length, levels) with more than one
            variable.
        mean : Tensor of float32, shape (series, prediction_length)
            The point forecast, which is the median, as in chronos-2; (series, variables,
            prediction_length) with more than one variable.

        Raises
        ------
        InputError
            For a series that cannot be read, naming it, and for an argument out of its range.
        """
        series = series_of(context)
        _check(prediction_length, quantile_levels)
        check_count("season", season)
        levels = [*quantile_levels, 0.5]
        seasons = [season] * len(series)
        written = self.model.quantiles(series, prediction_length, seasons, levels)
        # (series, levels, steps, variables) -> (series, variables, steps, levels)
        quantiles = torch.from_numpy(written).float().permute(0, 3, 2, 1)
        if quantiles.shape[1] == 1:
            quantiles = quantiles[:, 0]
        return quantiles[..., :-1], quantiles[..., -1]

    def predict_df(
        self,
        df: pd.DataFrame,
        prediction_length: int,
        *,
        quantile_levels: Sequence[float] = DECILES,
        id_column: str | None = "item_id",
        timestamp_column: str | None = "timestamp",
        target: str | Sequence[str] = "target",
        season: int | None = None,
        fill: Fill | None = None,
        time_format: str | None = None,
    ) -> pd.DataFrame:
        """Forecast every series of a long table.

        Parameters
        ----------
        df : DataFrame
            A row for each step of each series, in any order. Columns that are not named below are
            not read.
        prediction_length : int
            Steps to forecast.
        quantile_levels : sequence of float, optional
            Between 0 and 1, of the network between 0.025 and 0.975; each has a column, in this
            order.
        id_column, timestamp_column : str, optional
            The columns that say which series a row belongs to, and when it was. None: the table is
            one series; its rows are in order.
        target : str or sequence of str, optional
            The columns to forecast, one to eight.
        season, fill, time_format : optional
            As `m2tables.items_of` takes them.

        Returns
        -------
        DataFrame
            Columns id, time, `target_name`, `predictions` (the median) and one for each level,
            whose name is text, such as "0.1". The series stand in the table's order.

        Raises
        ------
        InputError
            For a table or an argument that cannot be used, naming series, row and column.
        """
        columns = columns_named(id_column, timestamp_column, target)
        items = items_of(df, columns, season=season, fill=fill, time_format=time_format)
        return self.predict_items(items, columns, prediction_length, quantile_levels)

    def predict_items(
        self,
        items: Sequence[Item],
        columns: Columns,
        prediction_length: int,
        quantile_levels: Sequence[float] = DECILES,
    ) -> pd.DataFrame:
        """Forecast series that `items_of` has taken from a table, as `predict_df` does."""
        _check(prediction_length, quantile_levels)
        levels = [*quantile_levels, 0.5]
        written = self.model.quantiles(
            [item.values for item in items],
            prediction_length,
            [item.season for item in items],
            levels,
        )
        frames = []
        for item, quantiles in zip(items, written, strict=True):
            times = future_times(item, prediction_length)
            for variable, target in enumerate(columns.targets):
                frame = {
                    columns.written_id: item.name,
                    columns.written_time: times,
                    "target_name": target,
                    "predictions": quantiles[-1, :, variable],
                }
                for level, path in zip(quantile_levels, quantiles[..., variable], strict=False):
                    frame[f"{level:.7g}"] = path  # np.arange makes 0.30000000000000004
                frames.append(pd.DataFrame(frame))
        return pd.concat(frames, ignore_index=True)

    def evaluate(
        self,
        df: pd.DataFrame,
        prediction_length: int,
        *,
        origins: int = 1,
        id_column: str | None = "item_id",
        timestamp_column: str | None = "timestamp",
        target: str | Sequence[str] = "target",
        season: int | None = None,
        fill: Fill | None = None,
        time_format: str | None = None,
        rivals: dict[str, Rival] | None = None,
    ) -> Evaluation:
        """Forecast a table's past, and compare with other forecasts.

        Parameters
        ----------
        df : DataFrame
            As in `predict_df`.
        prediction_length : int
            Steps of each forecast.
        origins : int, optional
            Moments from which each series is forecast, one horizon apart; the last forecast ends
            with the series.
        id_column, timestamp_column, target, season, fill, time_format : optional
            As in `predict_df`.
        rivals : dict of str to callable, optional
            Forecasters of your own, as `m2tables.evaluation.Rival`.

        Returns
        -------
        Evaluation
            The errors of all forecasts.

        Raises
        ------
        InputError
            As `predict_df` does, and where no series is long enough.
        """
        columns = columns_named(id_column, timestamp_column, target)
        items = items_of(df, columns, season=season, fill=fill, time_format=time_format)
        return evaluate(self.model, items, columns, prediction_length, origins, rivals)


def columns_named(id: str | None, time: str | None, target: str | Sequence[str]) -> Columns:
    """Return the columns by the names that chronos gives them; a single target needs no list."""
    targets = (target,) if isinstance(target, str) else tuple(target)
    return Columns(id, time, targets)


def _check(horizon: int, levels: Sequence[float]) -> None:
    """Raise InputError for a horizon or for levels that are none, such as percentages."""
    check_count("prediction_length", horizon)
    shares = np.asarray(levels)
    if shares.ndim != 1 or not len(shares) or not ((shares > 0) & (shares < 1)).all():
        raise InputError(f"quantile_levels are {levels}; give a list of numbers between 0 and 1")
