"""Tables: a reader's own series, in the long form that chronos and Nixtla's libraries share.

A row is a step of a series. One column says which series it belongs to, one says when it was, and
one to eight hold numbers:

    item_id,timestamp,target
    A,2024-01-01,3.5
    A,2024-01-02,4.1

`items_of` takes the series out. Only it checks the cells, so whoever gets an `Item` need not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from m2lib.errors import InputError, check_count, quoted, warn
from m2lib.series import MOST_VARIABLES, SHORTEST_CONTEXT
from m2tables.calendars import (
    PARTS,
    TIMES,
    WHOLE_TIMES,
    calendar_season,
    evenly_spaced,
    following,
    holds_dates,
    numbers_of,
    read_stamps,
)

# The usual names of the other columns, in lower case; the first that a table has counts.
IDS = ("item_id", "unique_id", "id", "series")
TARGETS = ("target", "y", "value")
# Columns that forecasts and evaluations write beside the table's id and time.
WRITTEN = ("target_name", "predictions", "cutoff", "truth")
Fill = Literal["linear", "last", "zero"]
"""What gaps inside a series are filled with: a straight line, the last known value, or zeros."""
FILL = "--fill linear, last or zero; fill="


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what."""

    id: str | None
    """The column that names each row's series; None where the table is one series."""
    time: str | None
    """The column of time stamps; None where rows are in order, and steps are numbered from 0."""
    targets: tuple[str, ...]
    """The one to eight columns of numbers."""

    @property
    def written_id(self) -> str:
        """The column of a table of forecasts that names the series."""
        return "item_id" if self.id is None else self.id  # pandas may call a column 0

    @property
    def written_time(self) -> str:
        """The column of a table of forecasts that holds the time stamps."""
        return "timestamp" if self.time is None else self.time


@dataclass(frozen=True)
class Item:
    """One series of a table, which chronos calls an item."""

    name: str | int
    """Its id, of the type that the table has it in; "series" where there is no such column."""
    times: pd.Index
    """The time stamp of each step: dates with their frequency, periods, or whole numbers; even."""
    values: np.ndarray
    """float64, shape (steps, variables), physical units, without gaps."""
    season: int
    """Steps of the season; 1: none."""
    remark: str = ""
    """What is unusual about it: constant, fewer than 10 steps; empty for most series."""
    form: str = ""
    """The `strftime` form in which the table writes its stamps; empty where pandas' own will do."""


def columns_of(
    df: pd.DataFrame, id: str | None = None, time: str | None = None, targets: Sequence[str] = ()
) -> Columns:
    """Tell by their names which column is what; what is given stands.

    The columns of ids and of time stamps are those with a usual name, such as item_id and
    timestamp, if there are any; but an id of which no two rows share one numbers the rows, and is
    none. The target is the column called target, y or value, else the only other one of numbers.
    InputError lists the candidates where there are several or none, and so it does where time may
    stand in a column with another name, or in several such as year and month.
    """
    _check_names(df, "the table")
    names = {str(name).lower(): name for name in reversed(df.columns)}

    def _usual(words: Sequence[str]) -> list[str]:
        found = [names[word] for word in words if word in names]
        return [name for name in found if name not in (id, time, *targets)]

    if id is None:
        id = next((name for name in _usual(IDS) if df[name].duplicated().any()), None)
    if time is None:
        parts = _usual(PARTS)
        if len(parts) > 1 and not _usual(WHOLE_TIMES):
            raise InputError(
                f"time stands in several columns, {quoted(', '.join(parts))}; make one of them, "
                "such as 2024-01-31 or 2024-01, or name one by --time (timestamp_column=)"
            )
        time = next(iter(_usual(TIMES)), None)
    if time is None:
        dates = [name for name in df if name not in (id, *targets) and holds_dates(df[name])]
        if dates:
            raise InputError(
                f"{quoted(', '.join(map(str, dates)))} holds dates; name the column of time stamps "
                "by --time (timestamp_column=), or drop it if the rows are in order without it"
            )
    if not targets:
        targets = _usual(TARGETS)[:1] or _only_number(df, {id, time, *_usual((*IDS, *TIMES))})
    return Columns(id, time, tuple(targets))


def _only_number(df: pd.DataFrame, taken: set[str | None]) -> list[str]:
    """Return the one column of numbers that is not taken; InputError where it is not one."""
    free = [name for name in df if name not in taken]
    # `Unnamed: 0` is what pandas makes of row numbers that were written into a CSV.
    free = [name for name in free if not str(name).startswith("Unnamed: ")]
    numbers = [name for name in free if is_numeric_dtype(df[name]) and not is_bool_dtype(df[name])]
    if len(numbers) != 1:
        listed = quoted(", ".join(map(str, numbers or df.columns)))
        problem = (
            "several columns may be the target," if numbers else "no column of numbers is left of"
        )
        raise InputError(f"{problem} {listed}; name the target by --target (target=)")
    return numbers


def items_of(
    df: pd.DataFrame,
    columns: Columns,
    where: str = "the table",
    *,
    season: int | None = None,
    fill: Fill | None = None,
    time_format: str | None = None,
) -> list[Item]:
    """Take the series out of a table, in the order in which their ids first appear.

    Rows of several series may be mixed. Rows at the start and the end of a series that are empty in
    all targets are dropped, and so is a series without any value. Warned of are such series, rows
    that have to be sorted by time, gaps that are filled, and series that end at different times.

    Parameters
    ----------
    df : DataFrame
        A row for each step of each series.
    columns : Columns
        Which of its columns is what.
    where : str, optional
        What errors and warnings call the table.
    season : int, optional
        Steps of the season; 1: none. Default: the calendar's, as `calendar_season` knows it.
    fill : {"linear", "last", "zero"}, optional
        How empty cells and missing rows between two known values are filled: by a straight line, by
        the last value before them, or by 0. By default they are refused.
    time_format : str, optional
        The `strftime` form of time stamps, such as %d/%m/%Y, that are neither dates of ISO 8601,
        nor periods such as 2010Q1, 2010-01 and 2010-W05, nor whole numbers of steps or years.

    Returns
    -------
    list of Item
        The series.

    Raises
    ------
    InputError
        For columns that are not there or are too many, an option that is none, and the first cell
        or row that is unfit. The message names series, row and column, and says what to do.
    """
    _check_names(df, where)
    _check_columns(df, columns, where)
    _check_options(season, fill, time_format)
    fault = partial(_fault, df, columns, where)
    ids = pd.Series("series", range(len(df)))
    if columns.id is not None:
        ids = df[columns.id].reset_index(drop=True)
        if ids.isna().any():
            raise fault(ids.isna().argmax(), columns.id, "an empty cell; write the series' id")
    values = np.column_stack([_numbers(df[target], fault) for target in columns.targets])
    times, form = pd.Index(ids.groupby(ids.to_numpy()).cumcount()), ""
    if columns.time is not None:
        times, form = _times(df[columns.time], time_format, fault)
    table_times = times.unique().sort_values()

    items = []
    empty = []
    num_unsorted = num_filled = 0
    for name, places in pd.Series(range(len(df))).groupby(ids.to_numpy(), sort=False):
        rows = places.to_numpy()  # of the table
        if np.isnan(values[rows]).all():
            empty.append(name)
            continue
        by_time = rows[times[rows].argsort(kind="stable")]
        num_unsorted += not np.array_equal(by_time, rows)
        frame = _series(by_time, times, table_times, values, columns, fill, fault)
        num_filled += len(frame) - int(np.isfinite(values[by_time]).all(axis=1).sum())
        steps = season or calendar_season(frame.index)
        remark = _remark(frame, steps)
        items.append(Item(name, frame.index, frame.to_numpy(), steps, remark, form))
    if empty:
        names = quoted(", ".join(map(str, empty)))
        problem = f"{where}: series without any value: {names}"
        if not items:
            raise InputError(f"{problem}; add values")
        warn(f"{problem}; they are left out")
    if num_unsorted:
        warn(f"{where}: the rows of {num_unsorted} of {len(items)} series were sorted by time")
    if num_filled:
        warn(f"{where}: steps that were filled ({fill}): {num_filled}")
    ends = {item.times[-1] for item in items}
    if columns.time is not None and len(ends) > 1:
        warn(
            f"{where}: the series end at different times, from {min(ends)} to {max(ends)}, and "
            "each is forecast from its own end"
        )
    return items


def future_times(item: Item, horizon: int) -> pd.Index:
    """Return the `horizon` time stamps that follow a series, written as its table writes them."""
    return as_written(item, following(item.times, horizon))


def as_written(item: Item, times: pd.Index) -> pd.Index:
    """Return time stamps of a series as its table writes them: texts where 2010Q1 were texts."""
    return times.strftime(item.form) if item.form else times


Fault = Callable[[Any, str, str], InputError]
"""What makes an error of a row's index, a column and a problem."""


def _fault(
    df: pd.DataFrame, columns: Columns, where: str, row: int, column: str, problem: str
) -> InputError:
    """Return an error that says what is wrong with a table, and where.

    `sales.csv, series 'A', row 7, column 'y': ...` is about the row of index 6, because people
    count from 1.
    """
    name = None if columns.id is None else df[columns.id].iloc[row]
    series = "" if pd.isna(name) else f", series {quoted(str(name))}"
    return InputError(f"{where}{series}, row {row + 1}, column {quoted(str(column))}: {problem}")


def _numbers(column: pd.Series, fault: Fault) -> np.ndarray:
    """Return a column's numbers, float64, NaN for an empty cell; refuse what is no number."""
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        is_empty = np.isnan(numbers)
    else:
        texts = column.astype(str).str.strip()
        numbers = pd.to_numeric(texts, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        is_empty = (column.isna() | (texts == "")).to_numpy()
    unread = ~np.isfinite(numbers) & ~is_empty
    if unread.any():
        row = int(unread.argmax())
        problem = (
            f"{quoted(str(column.iloc[row]))} is no finite number; write it as 1234.5, without a "
            "mark for thousands, % or a currency, or leave the cell empty if its value is missing"
        )
        raise fault(row, column.name, problem)
    return numbers


def _times(column: pd.Series, time_format: str | None, fault: Fault) -> tuple[pd.Index, str]:
    """Return the time stamp of each row, and their form; refuse what is no time stamp."""
    times, form = read_stamps(column, time_format)
    unread = times.isna()
    if not unread.any():
        return times, form
    row = int(unread.argmax())
    cell = column.iloc[row]
    if pd.isna(cell) or not str(cell).strip():
        problem = "an empty cell; write its time stamp, or drop the row"
    elif time_format:
        problem = (
            f"{quoted(str(cell))} is not of the form {time_format}; correct it, or --time-format "
            "(time_format=)"
        )
    else:
        problem = (
            f"{quoted(str(cell))} is no time stamp that is read; write 2024-01-31, 2024-01-31 "
            "18:00, 2024-W05, 2024-01, 2024Q1, or whole numbers that count steps or years, not "
            "days as Excel does or seconds; or give the form of any other by --time-format, such "
            "as %d/%m/%Y or %Y%m%d (time_format=)"
        )
    raise fault(row, column.name, problem)


def _series(
    rows: np.ndarray,
    times: pd.Index,
    table_times: pd.Index,
    values: np.ndarray,
    columns: Columns,
    fill: Fill | None,
    fault: Fault,
) -> pd.DataFrame:
    """Return the steps of one series, whose rows are in the order of time, at even stamps.

    `times` and `values` (rows, variables) are those of all rows of the table.
    """
    time = columns.time or columns.targets[0]
    known = np.flatnonzero(np.isfinite(values[rows]).any(axis=1))
    rows = rows[known[0] : known[-1] + 1]
    stamps = times[rows]
    repeats = np.flatnonzero(np.asarray(stamps[1:] == stamps[:-1]))
    if len(repeats):
        problem = (
            f"{stamps[repeats[0]]} stands twice; drop a row, or name the column that tells series "
            "apart (--id); where clocks were turned back, write stamps in UTC"
        )
        raise fault(rows[repeats[0] + 1], time, problem)
    even = evenly_spaced(stamps, table_times)
    if even is None:
        raise _uneven(rows, stamps, time, fault)

    frame = pd.DataFrame(values[rows], index=stamps).reindex(even)
    if fill:
        frame = _filled(frame, fill)
    elif len(even) > len(stamps):
        place = np.flatnonzero(np.asarray(stamps != even[: len(stamps)]))[0]
        which = "business days, as on holidays," if getattr(even, "freqstr", "") == "B" else "rows"
        problem = (
            f"{stamps[place]} follows {stamps[place - 1]}, so {which} are missing; fill them "
            f"({FILL}), or resample"
        )
        raise fault(rows[place], time, problem)
    gaps = np.argwhere(frame.isna().to_numpy())  # pairs of step and variable
    if len(gaps):
        step, variable = gaps[0]
        problem = (
            f"an empty cell; fill it ({FILL}) if it stands between two values of its column, or "
            "drop its row at the start or the end"
        )
        # A step without a row is named by the next one that has a row.
        raise fault(rows[stamps.searchsorted(even[step])], columns.targets[variable], problem)
    return frame


def _uneven(rows: np.ndarray, stamps: pd.Index, time: str, fault: Fault) -> InputError:
    """Return the error of a series of which no spacing has all time stamps."""
    if len(stamps) == 1:
        return fault(rows[0], time, "a single date shows no spacing; add a row, or drop the series")
    # The step that is most unlike the others: months of 28 to 31 days are more alike than a gap.
    steps = np.diff(numbers_of(stamps))
    place = np.abs(steps - np.median(steps)).argmax() + 1
    problem = f"{stamps[place]} follows {stamps[place - 1]}, unlike the other rows; resample"
    return fault(rows[place], time, f"{problem}, or correct the time stamps")


def _filled(frame: pd.DataFrame, fill: Fill) -> pd.DataFrame:
    """Fill the gaps between known values.

    In 1, empty, 3, empty the first gap becomes 2 (linear), 1 (last) or 0 (zero). The last one stays
    NaN, because it does not lie between two values.
    """
    is_inside = frame.ffill().notna() & frame.bfill().notna()
    methods = {"linear": frame.interpolate, "last": frame.ffill, "zero": lambda: frame.fillna(0.0)}
    return methods[fill]().where(is_inside)


def _remark(frame: pd.DataFrame, season: int) -> str:
    """Return what is unusual about a series, such as "constant, fewer than 10 steps"."""
    remarks = {
        "a single step, which shows no spread": len(frame) == 1,
        "constant": len(frame) > 1 and not np.ptp(frame.to_numpy(), axis=0).all(),
        f"fewer than {SHORTEST_CONTEXT} steps": 1 < len(frame) < SHORTEST_CONTEXT,
        f"fewer than two seasons of {season} steps": season > 1 and len(frame) < 2 * season,
    }
    return ", ".join(remark for remark, applies in remarks.items() if applies)


def _check_names(df: Any, where: str) -> None:
    """Refuse what is no table, and several columns of one name."""
    if not isinstance(df, pd.DataFrame):
        raise InputError(f"{where} is a {type(df).__name__}; give a pandas DataFrame")
    repeated = df.columns[df.columns.duplicated()]
    if len(repeated):
        name = quoted(str(repeated[0]))
        raise InputError(f"{where}: several columns are called {name}; rename all but one")


def _check_columns(df: pd.DataFrame, columns: Columns, where: str) -> None:
    """Refuse columns that are not there, used twice, too many or none, and a table without rows."""
    names = quoted(", ".join(map(str, df.columns)))
    count = len(columns.targets)
    if not 1 <= count <= MOST_VARIABLES:
        raise InputError(
            f"{where}: {count} targets; name 1 to {MOST_VARIABLES} of {names} by --target (target=)"
        )
    used = [name for name in (columns.id, columns.time, *columns.targets) if name is not None]
    for name in used:
        if name not in df or used.count(name) > 1:
            problem = "is named twice" if name in df else f"is none of {names}"
            raise InputError(
                f"{where}: the column {quoted(str(name))} {problem}; name another as id_column, "
                "timestamp_column or target (--id, --time, --target)"
            )
    if columns.time is None and isinstance(df.index, pd.DatetimeIndex | pd.PeriodIndex):
        raise InputError(
            f"{where}: its index of dates is not read; df.reset_index() makes a column of it, "
            "which you can name as timestamp_column"
        )
    written = (columns.written_id, columns.written_time)
    if written[0] == written[1] or set(written) & set(WRITTEN):
        raise InputError(
            f"{where}: a table of forecasts has columns of its own that are called as your id or "
            f"time, {quoted(', '.join(map(str, written)))}; rename yours"
        )
    if not len(df):
        raise InputError(f"{where} has column names and no rows; add a row for each step")


def _check_options(season: int | None, fill: str | None, time_format: str | None) -> None:
    """Refuse a season, a way to fill and a form of time stamps that are none."""
    if season is not None:
        check_count("season", season)
    if fill not in (None, *get_args(Fill)):
        raise InputError(f"fill is {fill!r}; it may be {', '.join(get_args(Fill))} or None")
    if time_format is not None and "%" not in time_format:
        raise InputError(f"time_format is {time_format!r}; give a form such as %d/%m/%Y")
