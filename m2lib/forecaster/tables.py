"""Tables: a reader's own series, in the long form that chronos and Nixtla's libraries share.

A row is a step of a series. One column says which series it belongs to, one says when it was, and
one to eight hold numbers:

    item_id,timestamp,target
    A,2024-01-01,3.5
    A,2024-01-02,4.1

`items_of` takes the series out. Only it checks the cells, so whoever gets an `Item` need not. Which
column is which is guessed in `m2lib.forecaster.columns`, files are read and written in
`m2lib.forecaster.table_files`, and time stamps are read and continued in
`m2lib.forecaster.calendars`.
"""

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from pandas.api.types import is_list_like, is_numeric_dtype
from pandas.tseries.offsets import BaseOffset

from m2lib.errors import InputError, quoted, warn
from m2lib.forecaster.calendars import (
    YEARS,
    Style,
    following,
    read_stamps,
    seasons_of,
    spacings_of,
    with_frequency,
    without_gaps,
)
from m2lib.forecaster.columns import Columns, numbers_in
from m2lib.series import MOST_VARIABLES, SHORTEST_CONTEXT, checked_seasons

# Columns that forecasts and evaluations write beside the table's id and time.
WRITTEN = ("target_name", "predictions", "mean", "cutoff", "truth", "mase_unit")
Fill = Literal["linear", "last", "zero"]
"""What gaps inside a series are filled with: a straight line, the last known value, or zeros."""


@dataclass(frozen=True)
class Item:
    """One series of a table, which chronos calls an item."""

    name: str | int
    """Its id, of the type that the table has it in; "series" where there is no such column."""
    times: pd.Index
    """The time stamp of each step: dates with their frequency, or numbers; evenly spaced."""
    values: np.ndarray
    """float64, shape (steps, variables), physical units."""
    style: Style | None = None
    """How the table writes dates, where pandas does not read them as dates, such as 2010Q1; None
    for all others, and for numbers."""


def items_of(
    df: pd.DataFrame,
    columns: Columns,
    where: str = "the table",
    least: int = SHORTEST_CONTEXT,
    *,
    skip: bool = False,
    fill: Fill | None = None,
) -> list[Item]:
    """Take the series out of a table, in the order in which their ids first appear.

    Rows of several series may be mixed, and those of a series are sorted by time, with a warning if
    they were not. All values and time stamps are checked here, once.

    Parameters
    ----------
    df : DataFrame
        A row for each step of each series.
    columns : Columns
        Which of its columns is what.
    where : str, optional
        What errors and warnings call the table.
    least : int, optional
        The fewest steps that a series may have.
    skip : bool, optional
        Whether a series that is unfit is left out, with a warning that says why. By default the
        whole table is refused.
    fill : {"linear", "last", "zero"}, optional
        How empty cells and missing rows between two known values are filled, with a warning that
        says how many: by a straight line, by the last value before them, or by 0. By default they
        make a series unfit, and those before its first or after its last value always do.

    Returns
    -------
    list of Item
        One for each series that is fit.

    Raises
    ------
    InputError
        For columns that are not there or are too many, for an unknown `fill`, and for a row without
        an id, or with an id of several parts; and for a series with a cell that is empty or no
        number, a time stamp that is none or stands twice, stamps that are not evenly
        spaced, fewer steps than `least`, or one value throughout in one of the columns. The message
        names the series, row and column, and says what to do.
    """
    _check_columns(df, columns, where)
    if fill not in (None, *get_args(Fill)):
        raise InputError(f"fill is {fill!r}; it may be {', '.join(get_args(Fill))} or None")
    rows = _Rows.of(df, columns, where)
    ids = _ids_of(df, columns, where)

    items = []
    num_unsorted = 0  # series
    num_filled = 0  # steps
    # `places` are the rows' numbers in the table, of one series after another.
    for name, places in pd.Series(np.arange(len(df))).groupby(ids.to_numpy(), sort=False):
        table_order = places.to_numpy()
        time_order = rows.by_time(table_order)
        label = f"series {quoted(str(name))}"
        try:
            item = rows.item(name, time_order, least, fill)
        except InputError as fault:
            if columns.id is None:
                raise
            if not skip:
                raise InputError(f"{fault}; --skip leaves {label} out (skip=True)") from None
            warn(f"{label} is left out: {fault}")
            continue
        items.append(item)
        num_unsorted += not np.array_equal(time_order, table_order)
        # Of 1, empty, a missing row, 4 two steps were filled: four steps, less two complete rows.
        num_complete = int(np.isfinite(rows.values[time_order]).all(axis=1).sum())
        num_filled += len(item.values) - num_complete
    if not items:
        raise InputError(f"{where}: every series is unfit, so none is left; correct one of them")
    if num_unsorted:
        problem = f"the rows of {num_unsorted} of {len(items)} series were sorted by time"
        warn(f"{where}: {problem}")
    if num_filled:
        warn(f"{where}: steps that were filled ({fill}): {num_filled}")
    return items


def _ids_of(df: pd.DataFrame, columns: Columns, where: str) -> pd.Series:
    """Return each row's id, all the same without a column of ids; InputError for an unfit one."""
    if columns.id is None:
        return pd.Series("series", df.index)
    ids = df[columns.id]
    if ids.isna().any():
        problem = (
            "an empty cell (NA reads as one, unless --id names the column); write the series' id"
        )
        raise _fault(problem, where, ids.isna().argmax(), columns.id)
    if ids.dtype == object and (has_parts := ids.map(is_list_like)).any():
        # A DataFrame of forecasts would spread the parts of such an id over the rows of its series.
        row = has_parts.argmax()
        problem = f"the id {quoted(str(ids.iloc[row]))} has several parts; join them into one text"
        raise _fault(problem, where, row, columns.id)
    return ids


def calendar_seasons(items: Sequence[Item]) -> tuple[int, ...]:
    """Return all seasons that the calendar knows of the time stamps, in steps, the shortest first.

    Hours and their even parts have a day and a week, days and business days a week, weeks, months
    and quarters a year. There is none for numbers, or where the series of a table differ.
    """
    seasons = _calendars(items)
    return seasons.pop() if len(seasons) == 1 else ()


def calendars_differ(items: Sequence[Item]) -> bool:
    """Return whether the series of a table have different seasons, so that none is taken out."""
    return len(_calendars(items)) > 1


def _calendars(items: Sequence[Item]) -> set[tuple[int, ...]]:
    """Return the seasons of each series' calendar; there is one entry where all have the same."""
    return {seasons_of(item.times) for item in items}


def chosen_seasons(items: Sequence[Item], season: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the seasons that a caller asks for, in steps; None asks for the calendar's.

    They are in ascending order, and (1,) where there is none. Raises InputError as
    `checked_seasons` does.
    """
    if season is None:
        return calendar_seasons(items) or (1,)
    return checked_seasons(season)


def future_times(item: Item, horizon: int) -> pd.Index:
    """Return the `horizon` time stamps that follow a series, written as its table writes them."""
    return as_written(item, following(item.times, horizon))


def as_written(item: Item, times: pd.Index) -> pd.Index:
    """Return a series' time stamps as its table writes them: 2010Q1 where they are dates here."""
    return item.style.write(pd.DatetimeIndex(times)) if item.style else times


@dataclass(frozen=True)
class _Rows:
    """A table's rows, read; the methods make a series of some of them."""

    df: pd.DataFrame
    columns: Columns
    where: str
    values: np.ndarray
    """float64, shape (rows, variables); NaN for a cell without a number."""
    empty: np.ndarray
    """bool, shape (rows, variables): the cells that hold nothing, and so can be filled."""
    times: pd.Index | None
    """The time stamp of each row, NaN or NaT where there is none; None without such a column."""
    style: Style | None

    @classmethod
    def of(cls, df: pd.DataFrame, columns: Columns, where: str) -> "_Rows":
        """Read the cells and time stamps of a table."""
        cells = df[list(columns.targets)]
        values = cells.apply(numbers_in).to_numpy(dtype=np.float64, na_value=np.nan)
        times, style = (None, None) if columns.time is None else read_stamps(df[columns.time])
        return cls(df, columns, where, values, cells.apply(_empty).to_numpy(), times, style)

    @cached_property
    def spacings(self) -> list[BaseOffset]:
        """The spacings of the time stamps of all series together."""
        assert self.times is not None
        return spacings_of(self.times.dropna().unique().sort_values())

    def by_time(self, rows: np.ndarray) -> np.ndarray:
        """Sort the rows of one series by time; rows of one time keep their order."""
        if self.times is None:
            return rows
        return rows[self.times[rows].argsort(kind="stable")]

    def item(self, name: Any, rows: np.ndarray, least: int, fill: Fill | None) -> Item:
        """Return the series in some rows, which are sorted by time; InputError if it is unfit."""
        self._check_cells(rows)
        values = self.values[rows]
        times: pd.Index = pd.RangeIndex(len(rows))
        places = np.arange(len(rows))  # the step of each row: 0 1 3 where one row is missing
        if self.times is not None:
            times = self.times[rows]
            self._check_ascending(times, rows)
            if fill and with_frequency(times) is None:
                times, places = without_gaps(times, self.spacings) or (times, places)
        if fill:
            values = _fill_gaps(values, places, len(times), fill)

        if len(values) < least:  # filled steps count, too
            advice = "forecast fewer steps, " if least > SHORTEST_CONTEXT else ""
            problem = (
                f"the series has {len(values)} steps, fewer than {least}; bring more, {advice}"
                "or drop it"
            )
            raise _fault(problem, self.where, rows[0])
        self._check_gaps(values[places], rows, fill)
        if self.times is not None:
            times = self._even_times(times, rows, fill)
        self._check_changing(values, rows)
        return Item(name, times, values, self.style)

    def _check_gaps(self, values: np.ndarray, rows: np.ndarray, fill: Fill | None) -> None:
        """Refuse cells that are still empty among the values of some rows, (rows, variables).

        If gaps were filled, such a cell lies at an end of the series, where nothing is filled.
        """
        gaps = np.argwhere(~np.isfinite(values))  # pairs of row and variable
        if len(gaps):
            row, variable = gaps[0]
            finite_rows = np.flatnonzero(np.isfinite(values[:, variable]))
            is_at_end = not len(finite_rows) or not finite_rows[0] < row < finite_rows[-1]
            problem = (
                "an empty cell before the first or after the last value of its series; drop the "
                "row (nothing is filled there, and no covariates of the future are read)"
                if fill or is_at_end
                else "an empty cell; fill it (--fill linear, last or zero; fill=), or drop the row"
            )
            raise _fault(problem, self.where, rows[row], self.columns.targets[variable])

    def _check_changing(self, values: np.ndarray, rows: np.ndarray) -> None:
        """Refuse a series (steps, variables) of which a variable is the same throughout."""
        ranges = np.ptp(values, axis=0)
        if not ranges.all():
            variable = ranges.argmin()
            problem = (
                f"the series is {values[0, variable]:.10g} throughout; "
                "drop it, or name other columns (--target)"
            )
            raise _fault(problem, self.where, rows[0], self.columns.targets[variable])

    def _check_cells(self, rows: np.ndarray) -> None:
        """Refuse cells that are neither numbers nor empty, and rows without a time stamp."""
        faulty = np.argwhere(~np.isfinite(self.values[rows]) & ~self.empty[rows])
        if len(faulty):
            row, variable = faulty[0]
            target = self.columns.targets[variable]
            cell = str(self.df[target].iloc[rows[row]])
            remedy = "correct it, or leave the cell empty if its value is missing"
            # $1,200.50, 12,5 or 5%; a mark for thousands may be a blank of any width.
            if re.fullmatch(r"\D*\d[\d.,'\u2019\s]*\D*", cell):
                remedy = (
                    "write it as 1200.5 or -1200.5, without a mark for thousands, % or a currency "
                    '(pd.read_csv reads 1,200.50 with thousands=",", and 12,5 with decimal=",")'
                )
            problem = f"{quoted(cell)} is no finite number; {remedy}"
            raise _fault(problem, self.where, rows[row], target)
        if self.times is None:
            return
        undated = self.times[rows].isna()
        if undated.any():
            row = rows[undated.argmax()]
            stamps = self.df[self.columns.time]
            cell = str(stamps.iloc[row])
            problem = (
                f"{quoted(cell)} is no date of the years {YEARS[0]} to {YEARS[1]}, or not written "
                "as the first; write 2024-01-31"
            )
            if stamps.isna().iloc[row]:
                problem = "an empty cell; write its time stamp, or drop the row"
            elif re.fullmatch(r"\d{4}-W\d{2}", cell):
                problem += ": pd.to_datetime(weeks + '-1', format='%G-W%V-%u') gives the Mondays"
            raise _fault(problem, self.where, row, self.columns.time)

    def _check_ascending(self, times: pd.Index, rows: np.ndarray) -> None:
        """Refuse a time stamp that stands twice in a series whose rows are in the order of time."""
        repeats = np.flatnonzero(np.asarray(times[1:] == times[:-1]))
        if len(repeats):
            row = rows[repeats[0] + 1]
            cell = quoted(str(self.df[self.columns.time].iloc[row]))
            problem = (
                f"{cell} stands twice; drop a row, name the column that tells series apart (--id) "
                "or another one of time stamps (--time), or, where clocks were turned back, write "
                "offsets from UTC; of two columns that belong together, such as year and month or "
                "shop and product, make one"
            )
            raise _fault(problem, self.where, row, self.columns.time)

    def _even_times(self, times: pd.Index, rows: np.ndarray, fill: Fill | None) -> pd.Index:
        """Return ascending time stamps, dates with their frequency; InputError if not even."""
        even_times = with_frequency(times)
        if even_times is not None:
            return even_times
        # The first row that, together with those before it, is not even; two stamps always are. It
        # is found by bisection, because each trial goes through all stamps up to its row.
        place = bisect_left(
            range(len(times)),
            True,
            lo=2,
            key=lambda last: with_frequency(times[: last + 1]) is None,
        )
        advice = (
            "no spacing holds all stamps, so that nothing can be filled; resample"
            if fill
            else "fill gaps (--fill linear, last or zero; fill=), or resample"
        )
        problem = (
            f"{times[place]} follows {times[place - 1]}, unlike the rows before; {advice}; "
            "write 2024-01-31 and not 240131, 31012024 or 2024.01, months by their first or last "
            "day, years as 2024"
        )
        raise _fault(problem, self.where, rows[place], self.columns.time)


def _fill_gaps(values: np.ndarray, places: np.ndarray, steps: int, fill: Fill) -> np.ndarray:
    """Put the values (rows, variables) at their places among `steps` steps, and fill the gaps.

    In 1, empty, 3, empty the first gap becomes 2 (linear), 1 (last) or 0 (zero). The last one stays
    NaN, because it does not lie between two values.
    """
    frame = pd.DataFrame(np.nan, index=range(steps), columns=range(values.shape[1]))
    frame.iloc[places] = values
    filled_forward = frame.ffill()
    is_inside = filled_forward.notna() & frame.bfill().notna()
    methods = {"linear": frame.interpolate, "last": frame.ffill, "zero": lambda: frame.fillna(0.0)}
    return methods[fill]().where(is_inside).to_numpy()


def _check_columns(df: pd.DataFrame, columns: Columns, where: str) -> None:
    """Refuse columns that are not there, repeated, too many or none, and a table without rows."""
    if not isinstance(df, pd.DataFrame):
        raise InputError(
            f"{where} is a {type(df).__name__}; give a pandas DataFrame (of polars: "
            "df.to_pandas(); of a file: pd.read_csv)"
        )
    for role, name in (("id_column", columns.id), ("timestamp_column", columns.time)):
        if isinstance(name, list | tuple):
            raise InputError(
                f"{where}: {quoted(', '.join(map(str, name)))} are several columns; join them "
                f"into one, and name it as {role}"
            )
    names = quoted(", ".join(map(str, df.columns)))
    for name in (columns.id, columns.time, *columns.targets):
        if name is not None and name not in df:
            raise InputError(
                f"{where}: no column {quoted(str(name))} among {names}; say which with id_column, "
                "timestamp_column and target (--id, --time, --target); the first two may be None"
                + ("; df.reset_index() makes a column of it" if name in df.index.names else "")
            )
        if name is not None and isinstance(df[name], pd.DataFrame):
            raise InputError(
                f"{where}: several columns are called {quoted(str(name))}; rename all but one"
            )
        if name in WRITTEN and name in (columns.id, columns.time):
            raise InputError(
                f"{where}: a table of forecasts has a column {name!r} of its own; rename yours"
            )
    if columns.time is None and isinstance(
        df.index, pd.DatetimeIndex | pd.PeriodIndex | pd.MultiIndex
    ):
        raise InputError(
            f"{where}: its index, which holds more than the numbers of its rows, is not read; "
            "df.reset_index() makes columns of it; name them as id_column and timestamp_column"
        )
    if columns.written_id == columns.written_time:
        raise InputError(
            f"{where}: in a table of forecasts {quoted(str(columns.written_id))} would be the id "
            "and the time; rename yours, or name another one"
        )
    if not len(df):
        raise InputError(f"{where} has column names and no rows; add a row for each step")
    count = len(columns.targets)
    if not 1 <= count <= MOST_VARIABLES or len(set(columns.targets)) < count:
        raise InputError(
            f"{where}: {count} columns of numbers; name 1 to {MOST_VARIABLES} of {names} "
            "(--target), each once. A number is written 1234.5, without a mark for thousands, % or "
            "a currency, and commas stand between cells; a wide table, with a column for each "
            "series, becomes a long one by df.melt"
        )


def _fault(problem: str, where: str, row: Any = None, column: Any = None) -> InputError:
    """Return an error that says what is wrong with a table, and where.

    `sales.csv, row 7, column 'y': ...` is about the row of index 6, because people count from 1.
    """
    location = where
    if row is not None:
        location += f", row {row + 1}"
    if column is not None:
        location += f", column {quoted(str(column))}"
    return InputError(f"{location}: {problem}")


def _empty(column: pd.Series) -> pd.Series:
    """Return which cells of a column hold nothing, or blanks alone."""
    if is_numeric_dtype(column):
        # Arrow's columns tell NaN from an empty cell. As NumPy's numbers both are NaN.
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return pd.Series(np.isnan(numbers), column.index)
    return column.isna() | (column.astype(str).str.strip() == "")
