"""What follows a table's series: the time stamps ahead, and the table of forecasts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype

from m2lib.files import InputError
from m2lib.forecaster.cells import by_the_calendar, on_clocks, usual_step
from m2lib.forecaster.tables import Columns, Item


def future_times(item: Item, horizon: int) -> pd.Index:
    """The time stamps that follow a series.

    Parameters
    ----------
    item : Item
        The series.
    horizon : int
        How many steps.

    Returns
    -------
    pd.Index
        Of `horizon` stamps, of the series' own type and spacing. A day whose clocks skip its stamp has the next time
        that there is; of a time that comes twice it is the second.

    Raises
    ------
    InputError
        Where they lie beyond the last time stamp that there can be.
    """
    times = item.times
    try:
        if not isinstance(times, pd.DatetimeIndex):
            span, gaps = times[-1] - times[0], len(times) - 1
            stride = span // gaps if is_integer_dtype(times) else span / gaps
            numbers = pd.Index(times[-1] + stride * np.arange(1, horizon + 1))
            if numbers[-1] <= times[-1]:  # NumPy's whole numbers begin again at the lowest
                raise OverflowError
            return numbers
        step = times.freq or usual_step(times)
        if not by_the_calendar(times, step):
            return pd.date_range(times[-1], periods=horizon + 1, freq=step)[1:].as_unit(times.unit)
        # From the first stamp on, which the clocks have not moved.
        days = pd.date_range(times[0].tz_localize(None), periods=len(times) + horizon, freq=step)
        return on_clocks(days[len(times) :].as_unit(times.unit), times.tz)
    except (pd.errors.OutOfBoundsDatetime, OverflowError) as error:
        problem = f"{horizon} steps after {times[-1]} lie beyond the last time stamp that there can be"
        raise InputError(f"{problem}; correct the time stamps") from error


def forecast_table(
    items: Sequence[Item],
    columns: Columns,
    horizon: int,
    quantiles: Sequence[np.ndarray],
    levels: Sequence[float],
    predictions: Sequence[np.ndarray],
) -> pd.DataFrame:
    """A table of forecasts, as chronos's `predict_df` gives it: series by series, target by target, step by step.

    Parameters
    ----------
    items : sequence of Item
        The series.
    columns : Columns
        Of the table that they are from.
    horizon : int
        Steps ahead.
    quantiles : sequence of ndarray of float, each of shape (horizon, variables, levels)
        One for each of `items`, physical units.
    levels : sequence of float
        Of the quantiles, such as 0.1.
    predictions : sequence of ndarray of float, each of shape (horizon, variables)
        Point forecasts, likewise.

    Returns
    -------
    pd.DataFrame
        Ids and time stamps under the table's own names (`item_id` and `timestamp` where it had none), `target_name`,
        `predictions`, and a column for each level, called as it is written: `0.1`.
    """
    variables = len(columns.targets)
    ahead = [times for item in items for times in [future_times(item, horizon)] * variables]
    bands = np.concatenate([one.swapaxes(0, 1).reshape(-1, len(levels)) for one in quantiles])
    return pd.DataFrame(
        {
            columns.id or "item_id": pd.Index([item.name for item in items]).repeat(variables * horizon),
            columns.time or "timestamp": ahead[0].append(ahead[1:]),
            "target_name": np.tile(pd.Index(columns.targets).repeat(horizon), len(items)),
            "predictions": np.concatenate([one.T.ravel() for one in predictions]),
            **{str(level): bands[:, k] for k, level in enumerate(levels)},
        }
    )
