"""Tables: a reader's own series, in the long form that chronos and Nixtla's libraries share.

A row is a step of a series. One column says whose, one says when, and one to eight hold numbers:

    item_id,timestamp,target
    A,2024-01-01,3.5
    A,2024-01-02,4.1
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from m2lib.files import InputError, quoted
from m2lib.forecaster.cells import SHORTEST, holds_dates, holds_numbers, numbers_of, spaced, times_of
from m2lib.forecaster.table_files import check_once, fault
from m2lib.series.codec import MOST_VARIABLES

IDS = ("item_id", "unique_id", "id", "series")
TIMES = ("timestamp", "ds", "date", "datetime", "time", "year", "month", "week", "day")
TARGETS = ("target", "y", "value")
NAMED_WITH = (
    "id_column (--id), None where the table is one series",
    "timestamp_column (--time), None where the rows are in order",
    "target (--target)",
)


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what."""

    id: str | None
    """Says which series a row is of; None where the table is one series."""
    time: str | None
    """Holds the time stamps; None where the rows are in order, and steps are numbered from 0."""
    targets: tuple[str, ...]
    """Hold the numbers, one to eight."""


@dataclass(frozen=True)
class Item:
    """One series of a table."""

    name: str | int
    """Its id, of the type that the table has it in; "series" where there is no such column."""
    times: pd.Index
    """A step each: dates, as `spaced` gives them, or numbers that are evenly spaced."""
    values: np.ndarray
    """float64, shape (steps, variables), physical units."""


def guess_columns(
    df: pd.DataFrame,
    id: str | None = None,
    time: str | None = None,
    targets: Sequence[str] = (),
    where: str = "the table",
) -> Columns:
    """Which column is what: as given, and else guessed by the usual names and by what the columns hold.

    Parameters
    ----------
    df : pd.DataFrame
        A table.
    id : str, optional
        The column of ids. Guessed among item_id, unique_id, id and series; failing these, a text column, where time
        stamps repeat. A column whose values never repeat is not taken.
    time : str, optional
        The column of time stamps. Guessed among timestamp, ds, date, datetime, time, year, month, week and day; failing
        these, the first that holds dates.
    targets : sequence of str, optional
        The columns of numbers. Guessed among target, y and value; failing these, all that hold numbers.
    where : str, optional
        What errors call the table, such as its path.

    Returns
    -------
    Columns
        All of them there, each once.

    Raises
    ------
    InputError
        For a table without rows, a column that is missing or named twice, ids or time stamps in a column that is named
        like one of a forecast's, no target, and more than eight.
    """
    given = (id, time, *targets)
    _check_names(df, given, where)
    free = [name for name in df.columns if name not in given]
    if time is None:
        dated = (name for name in free if holds_dates(df[name]))
        time = next(iter(_called(free, TIMES)), None) or next(dated, None)
    id = id or _guess_id(df, [name for name in free if name != time], time)
    targets = targets or _guess_targets(df, [name for name in free if name not in (id, time)])
    columns = Columns(id, time, tuple(targets))
    _check_columns(df, columns, where)
    return columns


def items_of(df: pd.DataFrame, columns: Columns, where: str = "the table", least: int = SHORTEST) -> list[Item]:
    """The series of a table, every value and every time stamp checked.

    Parameters
    ----------
    df : pd.DataFrame
        A table. The rows of a series may stand between those of another.
    columns : Columns
        Its columns.
    where : str, optional
        What errors call the table; of a path that ends in .csv they give the line too.
    least : int, optional
        Steps that a series has to have, 3 or more.

    Returns
    -------
    list of Item
        In the order in which the ids first appear.

    Raises
    ------
    InputError
        In one line that names row, column and remedy: for columns that are not there; what is missing, not a number,
        not finite, or above 1e100 in size; time stamps that are none, mix time zones, repeat, go back or are not
        evenly spaced; series that are too short, or constant in one of the columns.
    """
    _check_columns(df, columns, where)
    values = np.column_stack([numbers_of(df[name], name, where) for name in columns.targets])
    times = None if columns.time is None else times_of(df[columns.time], columns.time, where)
    codes, names = _ids(df, columns.id, where)
    order = np.argsort(codes, kind="stable")  # brings the rows of each series together, and keeps their order
    series = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)
    known: dict[bytes, pd.Index] = {}
    items = []
    for name, rows in zip(names, series, strict=True):
        _check_values(name, rows, values[rows], columns, where, least)
        items.append(Item(name, _item_times(times, rows, columns.time, where, known), values[rows]))
    return items


def _check_names(df: pd.DataFrame, names: tuple[str | None, ...], where: str) -> None:
    """Refuse what is no DataFrame, a table without rows, and names that are not those of one column each."""
    if not isinstance(df, pd.DataFrame):
        raise InputError(f"{where} is a {type(df).__name__}; make it a pandas DataFrame with named columns")
    check_once(df.columns, where)
    if not len(df):
        raise InputError(f"{where} has column names and no rows; add a row for each step")
    for name in filter(None, names):
        if name not in df.columns:
            advice = NAMED_WITH[min(names.index(name), 2)]
            raise InputError(f"{where}: no column {quoted(str(name))}; {_there(df)}; name one with {advice}")
        if names.count(name) > 1:
            raise InputError(f"{where}: column {quoted(str(name))} is named twice; name each column for one thing")


def _check_columns(df: pd.DataFrame, columns: Columns, where: str) -> None:
    _check_names(df, (columns.id, columns.time, *columns.targets), where)
    number = len(columns.targets)
    if not number:
        raise InputError(f"{where}: no column of numbers to forecast; {_there(df)}")
    if number > MOST_VARIABLES:
        raise InputError(f"{where}: {number} columns of numbers; name at most {MOST_VARIABLES} to forecast (--target)")
    # A forecast's columns keep these two names, and have those of `ahead.forecast_table` beside them.
    for name, other in ((columns.id, columns.time or "timestamp"), (columns.time, columns.id or "item_id")):
        if name == other or re.fullmatch(r"target_name|predictions|0?\.\d+", str(name)):
            raise InputError(f"{where}: forecasts have a column {quoted(str(name))} of their own; rename this one")


def _there(df: pd.DataFrame) -> str:
    index = [str(name) for name in df.index.names if name is not None]
    more = f", and the index {quoted(', '.join(index))}, which reset_index() makes columns" if index else ""
    return f"there are {quoted(', '.join(map(str, df.columns)))}{more}"


def _called(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """Those of the names that are one of the words, in the words' order; capitals do not matter."""
    return [name for word in words for name in names if str(name).lower() == word]


def _guess_id(df: pd.DataFrame, free: Sequence[str], time: str | None) -> str | None:
    # Where no time stamp repeats, a text column (sunny, rainy, sunny) does not tell series apart.
    several = time is None or df[time].duplicated().any()
    text = [name for name in free if several and not holds_numbers(df[name]) and not holds_dates(df[name])]
    return next((name for name in [*_called(free, IDS), *text] if df[name].duplicated().any()), None)


def _guess_targets(df: pd.DataFrame, free: Sequence[str]) -> list[str]:
    # `Unnamed: 0` is what pandas makes of an empty name, as of row numbers that were written into a CSV, too.
    other = [*_called(free, (*IDS, *TIMES)), *(name for name in free if str(name).startswith("Unnamed: "))]
    numbers = (name for name in free if name not in other and holds_numbers(df[name]))
    return _called(free, TARGETS)[:1] or list(numbers)


def _ids(df: pd.DataFrame, name: str | None, where: str) -> tuple[np.ndarray, list]:
    """For each row the place of its series, and the series' names, in the order in which they appear."""
    if name is None:
        return np.zeros(len(df), dtype=np.int64), ["series"]
    codes, names = pd.factorize(df[name])
    if codes.min() < 0:
        raise fault("an empty cell (NA reads as one); say whose row it is", where, codes.argmin(), name)
    return codes, names.tolist()


def _check_values(
    name: str | int, rows: np.ndarray, values: np.ndarray, columns: Columns, where: str, least: int
) -> None:
    who = "the series" if columns.id is None else f"series {quoted(str(name))}"
    if len(rows) < least:
        problem = f"{who} begins here and has {len(rows)} steps, fewer than {least}; bring more, or drop it"
        raise fault(problem, where, rows[0])
    constant = values.min(axis=0) == values.max(axis=0)
    if constant.any():
        value, target = values[0, constant.argmax()], columns.targets[constant.argmax()]
        advice = "drop it" if len(columns.targets) == 1 else "drop it, or name other columns to forecast (--target)"
        raise fault(f"{who} is {value:g} throughout, so nothing is to be forecast; {advice}", where, rows[0], target)


def _item_times(
    times: pd.Index | None, rows: np.ndarray, name: str | None, where: str, known: dict[bytes, pd.Index]
) -> pd.Index:
    """The time stamps of one series, found among those that are `known` where another series has the same."""
    if times is None or name is None:
        return pd.RangeIndex(len(rows))
    own = times[rows]
    key = (own.asi8 if isinstance(own, pd.DatetimeIndex) else own.to_numpy()).tobytes()
    if key not in known:
        known[key] = spaced(own, rows, name, where)
    return known[key]
