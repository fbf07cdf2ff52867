"""Fan charts of forecasts: the past, the median and the bands, an axis for each variable."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from m2lib.errors import InputError, check_count
from m2tables.calendars import read_stamps
from m2tables.tables import Columns, Fill, Item, items_of

if TYPE_CHECKING:  # drawing alone waits for matplotlib
    from matplotlib.axes import Axes

LEVEL = r"\d(\.\d+)?(e-\d+)?"  # a column of quantiles is called 0.1, or 1e-05
MOST_AXES = 6
PAST = 5  # horizons of the past that are drawn
PAST_COLOUR = "0.25"
COLOUR = "#009E73"  # green of Okabe and Ito's palette, which colour-blind readers can tell apart


def plot_forecasts(
    df: pd.DataFrame,
    forecasts: pd.DataFrame,
    *,
    id_column: str | None = "item_id",
    timestamp_column: str | None = "timestamp",
    most: int = MOST_AXES,
    fill: Fill | None = None,
    time_format: str | None = None,
) -> "list[Axes]":
    """Draw the forecasts of a table below each other, each after the end of its past.

    Parameters
    ----------
    df : DataFrame
        The table that was forecast.
    forecasts : DataFrame
        What `Forecaster.predict_df` made of it, or those of its rows that are to be drawn. The
        levels are drawn in pairs: 0.1 and 0.9 are the 80% band.
    id_column, timestamp_column : str, optional
        As in `Forecaster.predict_df`.
    most : int, optional
        How many axes there are at most: each variable of each series has one.
    fill, time_format : optional
        As they were given to `Forecaster.predict_df`.

    Returns
    -------
    list of Axes
        Matplotlib's; `axes[0].figure` is the figure, which `savefig` writes.

    Raises
    ------
    InputError
        For a table that cannot be read as the one that was forecast, and as `plot_items` does.
    """
    columns = Columns(id_column, timestamp_column, tuple(forecasts["target_name"].unique()))
    items = items_of(df, columns, fill=fill, time_format=time_format)
    return plot_items(items, columns, forecasts, most=most)


def plot_items(
    items: Sequence[Item], columns: Columns, forecasts: pd.DataFrame, *, most: int = MOST_AXES
) -> "list[Axes]":
    """Draw forecasts of series that `items_of` has already taken from their table.

    Parameters
    ----------
    items : sequence of Item
        The series.
    columns : Columns
        The columns of that table.
    forecasts : DataFrame
        As `plot_forecasts` takes it.
    most : int, optional
        How many axes there are at most.

    Returns
    -------
    list of Axes
        Matplotlib's.

    Raises
    ------
    InputError
        Where none of the forecasts is of these series, as where their ids are numbers and those of
        the table are text; and where `most` is no whole number of 1 or more.
    """
    import matplotlib.pyplot as plt

    check_count("most", most)
    ids = forecasts[columns.written_id]
    panels: list[tuple[Item, int, pd.DataFrame]] = []
    for item in items:
        if len(panels) >= most:
            break  # each search goes through all forecasts, so none is made for what is not drawn
        for variable, target in enumerate(columns.targets):
            item_forecasts = forecasts[(ids == item.name) & (forecasts["target_name"] == target)]
            if len(item_forecasts):
                panels.append((item, variable, item_forecasts))
    if not panels:
        raise InputError(
            "none of the forecasts is of these series; give them the ids and targets of the table "
            "(pd.read_csv makes 7 of the id 007)"
        )
    panels = panels[:most]

    size = (8, 2.6 * len(panels))
    _, grid = plt.subplots(len(panels), 1, figsize=size, squeeze=False, layout="constrained")
    axes = list(grid[:, 0])
    time = columns.written_time
    for ax, (item, variable, item_forecasts) in zip(axes, panels, strict=True):
        past_steps = slice(-PAST * len(item_forecasts), None)
        past = item.values[past_steps, variable]
        ax.plot(_dates(item.times)[past_steps], past, color=PAST_COLOUR, lw=1.2)
        form = item.form if isinstance(item.times, pd.DatetimeIndex) else ""
        times, _ = read_stamps(item_forecasts[time], form or None)
        _draw_fan(ax, _dates(times), item_forecasts)
        ax.margins(x=0 if len(item_forecasts) > 1 else 0.02)  # room for the mark of a single step
        # A $ in a name is a dollar, and does not begin a formula.
        ax.set_title(str(item.name), parse_math=False)
        ax.set_xlabel(str(time), parse_math=False)
        ax.set_ylabel(str(columns.targets[variable]), parse_math=False)
    axes[0].lines[0].set_label("past")
    axes[0].legend(frameon=False)
    return axes


def _dates(times: pd.Index) -> pd.Index:
    """Return time stamps as matplotlib draws them: the start of each period."""
    return times.to_timestamp() if isinstance(times, pd.PeriodIndex) else times


def _draw_fan(ax: "Axes", times: pd.Index, forecasts: pd.DataFrame) -> None:
    """Draw one variable's median and the bands of its levels, the widest first."""
    names = [name for name in forecasts.columns if isinstance(name, str)]  # a column 1 is no level
    levels = sorted((name for name in names if re.fullmatch(LEVEL, name)), key=float)
    pairs = zip(levels[: len(levels) // 2], reversed(levels), strict=False)
    is_point = len(times) == 1  # a line of one point and a band without width would not be seen
    for number, (low, high) in enumerate(pairs):
        label = f"{100 * (float(high) - float(low)):.0f}% band"
        opacity = min(0.2 + 0.15 * number, 1.0)  # narrower bands are darker
        ends = (times, forecasts[low], forecasts[high])
        if is_point:
            ax.vlines(*ends, color=COLOUR, alpha=opacity, lw=8, label=label)
        else:
            ax.fill_between(*ends, color=COLOUR, alpha=opacity, lw=0, label=label)
    mark = "o" if is_point else None
    ax.plot(times, forecasts["predictions"], marker=mark, color=COLOUR, lw=1.8, label="median")
