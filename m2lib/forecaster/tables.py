"""Tables: a reader's own series, in the long form that chronos and Nixtla's libraries share.

A row is a step of a series. One column says which series it belongs to, one says when it was, and
one to eight hold numbers:

    item_id,timestamp,target
    A,2024-01-01,3.5
    A,2024-01-02,4.1

`read_table` reads a file, `guess_columns` finds out which column is which, and `items_of` takes the
series out. Only `items_of` checks the cells, so whoever gets an `Item` need not.
"""

import os
import warnings
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_dtype, is_integer_dtype, is_numeric_dtype
from pandas.tseries.api import guess_datetime_format

from m2lib.files import InputError, first_line, quoted, write_atomic
from m2lib.series import MOST_VARIABLES, SHORTEST

IDS = ("item_id", "unique_id", "id", "series")
TIMES = ("timestamp", "ds", "date", "datetime", "time", "year", "month", "week", "day")
TARGETS = ("target", "y", "value")
# Steps of a season, by pandas' names of frequencies: hours, days, months and quarters, the latter
# two dated by their start or end.
SEASONS = {"h": 24, "D": 7, "MS": 12, "ME": 12, "QS": 4, "QE": 4}


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what."""

    id: str | None
    """The column that names each row's series; None where the table is one series."""
    time: str | None
    """The column of time stamps; None where rows are in order, and steps are numbered from 0."""
    targets: tuple[str, ...]
    """The one to eight columns of numbers."""


@dataclass(frozen=True)
class Item:
    """One series of a table."""

    name: str | int
    """Its id, of the type that the table has it in; "series" where there is no such column."""
    times: pd.Index
    """The time stamp of each step: dates with their frequency, or numbers; evenly spaced."""
    values: np.ndarray
    """float64, shape (steps, variables), physical units."""


def read_table(path: str | Path, id: str | None = None) -> pd.DataFrame:
    """Read the table in a .csv or .parquet file.

    Ids of a .csv file stay text, because 007 would become the number 7. `id` names their column,
    where it has none of the usual names.
    """
    try:
        if Path(path).suffix.lower() == ".parquet":
            df = pd.read_parquet(path)
            return df.reset_index() if any(df.index.names) else df
        return _read_csv(path, id)
    except (OSError, ValueError, ImportError, pd.errors.ParserWarning) as error:
        problem = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        raise InputError(
            f"cannot read {path} as a table ({problem}); give a .csv file in UTF-8, with names in "
            "line 1 and commas between its cells, or a .parquet file"
        ) from error


def _read_csv(path: str | Path, id: str | None) -> pd.DataFrame:
    """The table in a .csv file; ValueError or pandas' ParserWarning where there is none."""
    names = pd.read_csv(path, nrows=0, skipinitialspace=True).columns
    if pd.to_numeric(names, errors="coerce").notna().any():
        raise ValueError("its first line holds numbers, not names alone")
    as_text = {name: str for name in names if name == id or name.lower() in IDS}
    with warnings.catch_warnings():
        # Where a row has more cells than there are names, as when 1.5 is written 1,5, pandas warns
        # and drops the rest.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(path, index_col=False, dtype=as_text, skipinitialspace=True)


def check_output(
    path: Path, force: bool = False, endings: Sequence[str] = (".csv", ".parquet")
) -> None:
    """Refuse a file that cannot be written, before hours are spent on what it will hold."""
    if path.suffix.lower() not in endings:
        raise InputError(f"{path} does not end in {' or '.join(endings)}; name it so")
    if path.suffix.lower() == ".parquet" and not find_spec("pyarrow"):
        raise InputError(
            f"{path}: parquet needs pyarrow, which is not installed: "
            "pip install pyarrow, or use .csv"
        )
    if path.exists() and not force:
        raise InputError(f"{path} exists; name another file, or replace it with --force")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written into; it need not exist yet."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise InputError(
            f"cannot write into {folder}: {existing} is no folder, or read-only; "
            "choose another folder"
        )


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table, without its index, to a .csv or .parquet file, whole or not at all."""
    if path.suffix.lower() == ".parquet":
        content = frame.to_parquet(index=False)
    else:
        content = frame.to_csv(index=False).encode()
    write_atomic(path, content)


def guess_columns(
    df: pd.DataFrame, id: str | None = None, time: str | None = None, targets: Sequence[str] = ()
) -> Columns:
    """Guess, from names and contents, which column is what; what is given stands.

    The time is a column of dates, preferably one with a usual name; else a column of numbers that
    has one. The target is the column called target, y or value, else all other columns of numbers
    are. The id is a column with a usual name, else the first of text where time stamps repeat, but
    never a column whose values do not repeat.
    """
    free = [name for name in df.columns if name not in (id, time, *targets)]
    if time is None:
        dates = [name for name in free if _holds_dates(df[name])]
        candidates = _called(dates, TIMES) + dates + _called(free, TIMES)
        time = candidates[0] if candidates else None
        free = [name for name in free if name != time]
    if id is None:
        candidates = _called(free, IDS)
        # A column of text tells series apart only if time stamps repeat: one series has each once.
        if time not in df or df[time].duplicated().any():
            candidates += [
                name for name in free if not _holds_numbers(df[name]) and not _holds_dates(df[name])
            ]
        repeating = [name for name in candidates if df[name].duplicated().any()]
        id = repeating[0] if repeating else None
    if not targets:
        # `Unnamed: 0` and `index` are what pandas makes of row numbers that were written into a
        # CSV.
        others = _called(free, (*IDS, *TIMES, "index"))
        others += [name for name in free if str(name).startswith("Unnamed: ")]
        numbers = [name for name in free if name not in others and _holds_numbers(df[name])]
        targets = _called(free, TARGETS)[:1] or numbers
    return Columns(id, time, tuple(targets))


def items_of(
    df: pd.DataFrame, columns: Columns, where: str = "the table", least: int = SHORTEST
) -> list[Item]:
    """Take the series out of a table, in the order in which their ids first appear.

    Rows of several series may be mixed. All values and time stamps are checked here, once.
    InputError names `where`, row, column and remedy for columns that are not there; cells that are
    empty or no numbers; time stamps that are none, or have a time zone, or do not ascend evenly;
    and series of fewer than `least` steps, or constant in one of the columns.
    """
    _check_columns(df, columns, where)
    values = df[list(columns.targets)].apply(_parsed).to_numpy(dtype=np.float64, na_value=np.nan)
    faulty = np.argwhere(~np.isfinite(values))  # pairs of row and target
    if len(faulty):
        row, variable = faulty[0]
        target = columns.targets[variable]
        cell = quoted(str(df[target].iloc[row]))
        problem = f"{cell} is no finite number; correct it, or fill it (pandas' interpolate)"
        raise _fault(problem, where, row, target)
    times = None if columns.time is None else _times(df[columns.time], where)
    ids = pd.Series("series", df.index) if columns.id is None else df[columns.id]
    if ids.isna().any():
        problem = "an empty cell (NA reads as one); say whose row it is"
        raise _fault(problem, where, ids.isna().argmax(), columns.id)

    items = []
    # `places` are the rows' numbers in the table, of one series after another.
    for name, places in pd.Series(np.arange(len(df))).groupby(ids.to_numpy(), sort=False):
        rows = places.to_numpy()
        series = values[rows]  # (steps, variables)
        who = "the series" if columns.id is None else f"series {quoted(str(name))}"
        if len(series) < least:
            problem = f"{who} has {len(series)} steps, fewer than {least}; bring more, or drop it"
            raise _fault(problem, where, rows[0])
        ranges = np.ptp(series, axis=0)
        if not ranges.all():
            flat = ranges.argmin()
            problem = (
                f"{who} is {series[0, flat]:g} throughout; "
                "drop it, or name other columns (--target)"
            )
            raise _fault(problem, where, rows[0], columns.targets[flat])
        if times is None:
            series_times: pd.Index = pd.RangeIndex(len(series))
        else:
            series_times = _spaced(times[rows], rows, where)
        items.append(Item(name, series_times, series))
    return items


def calendar_season(items: Sequence[Item]) -> int:
    """The season by the time stamps: 24 hours, 7 days, 12 months or 4 quarters, in steps; else 1.

    1 is no season, and holds, too, where the series of a table differ.
    """
    seasons = set()
    for item in items:
        # Quarters have frequencies such as QS-OCT, with the month in which a year begins; months of
        # business days have BMS or BME. Numbers have no frequency.
        frequency = str(getattr(item.times, "freqstr", ""))
        seasons.add(SEASONS.get(frequency.split("-")[0].removeprefix("B"), 1))
    return seasons.pop() if len(seasons) == 1 else 1


def future_times(item: Item, horizon: int) -> pd.Index:
    """The `horizon` time stamps that follow a series, of its own type and spacing."""
    times = item.times
    if isinstance(times, pd.DatetimeIndex):
        # The range begins with the last known time stamp.
        return pd.date_range(times[-1], periods=horizon + 1, freq=times.freq)[1:]
    stride = (times[-1] - times[0]) / (len(times) - 1)
    following = times[-1] + stride * np.arange(1, horizon + 1)
    return pd.Index(following).astype(times.dtype)


def _check_columns(df: pd.DataFrame, columns: Columns, where: str) -> None:
    """Refuse columns that are not there, repeated, too many or none, and a table without rows."""
    names = quoted(", ".join(map(str, df.columns)))
    for name in (columns.id, columns.time, *columns.targets):
        if name is not None and name not in df:
            raise InputError(
                f"{where}: no column {quoted(str(name))} among {names}; say which with id_column, "
                "timestamp_column and target (--id, --time, --target); two may be None"
            )
    if not len(df):
        raise InputError(f"{where} has column names and no rows; add a row for each step")
    count = len(columns.targets)
    if not 1 <= count <= MOST_VARIABLES or len(set(columns.targets)) < count:
        raise InputError(
            f"{where}: {count} columns of numbers; name 1 to {MOST_VARIABLES} of {names} "
            "(--target), each once; commas part cells, points decimals"
        )


def _fault(problem: str, where: str, row: Any = None, column: Any = None) -> InputError:
    """An error that says what is wrong with a table, and where.

    `sales.csv, row 7, column 'y': ...` is about the row of index 6, because people count from 1.
    """
    place = where
    if row is not None:
        place += f", row {row + 1}"
    if column is not None:
        place += f", column {quoted(str(column))}"
    return InputError(f"{place}: {problem}")


def _called(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """The names that are among the words, in the words' order; capitals do not matter."""
    return [name for word in words for name in names if str(name).lower() == word]


def _parsed(column: pd.Series) -> pd.Series:
    """A column's numbers; NaN for a cell that holds none."""
    if is_numeric_dtype(column):
        return column
    return pd.to_numeric(column.astype(str), errors="coerce")


def _holds_numbers(column: pd.Series) -> bool:
    """Whether most cells of a column are numbers; `items_of` names the first that is not."""
    return column.dtype != bool and bool(_parsed(column).notna().mean() > 0.5)


def _holds_dates(column: pd.Series) -> bool:
    """Whether a column begins with a date, and is not one of numbers."""
    first = column.dropna().head(1)  # none, where all cells are empty
    begins = any(guess_datetime_format(str(cell)) for cell in first)
    return begins and not _holds_numbers(column)


def _times(column: pd.Series, where: str) -> pd.Index:
    """The time stamps of a column: a DatetimeIndex without a time zone, or an Index of numbers."""
    column = column.infer_objects()  # whole numbers in a column of objects are numbers
    stamps = column
    if not is_numeric_dtype(column):
        # `to_datetime` warns where formats differ, and raises where time zones do; the checks below
        # name what is wrong.
        with warnings.catch_warnings(), suppress(ValueError):
            warnings.simplefilter("ignore")
            stamps = pd.to_datetime(column, errors="coerce")
        if not is_datetime64_dtype(stamps):
            problem = (
                "time stamps in a time zone; convert them to one clock, such as UTC "
                "(pandas' dt.tz_convert(None))"
            )
            raise _fault(problem, where, None, column.name)
    if stamps.isna().any():
        row = stamps.isna().argmax()
        cell = quoted(str(column.iloc[row]))
        problem = f"{cell} is no date, or not written as the first; write 2024-01-31"
        raise _fault(problem, where, row, column.name)
    if is_integer_dtype(stamps):
        stamps = stamps.astype(np.int64)  # unsigned ones would wrap around
    return pd.Index(stamps)


def _spaced(times: pd.Index, rows: np.ndarray, where: str) -> pd.Index:
    """The time stamps of one series, dates with their frequency, if they ascend evenly."""
    ascends = np.asarray(times[1:] > times[:-1])
    if not ascends.all():
        place = int(ascends.argmin()) + 1
        advice = (
            "sort the rows by time, drop what stands twice, or name the column that tells series "
            "apart (--id)"
        )
    else:
        even = _even(times)
        if even is not None:
            return even
        # The first row that, together with those before it, is not even; two stamps always are.
        place = bisect_left(
            range(len(times)), True, lo=2, key=lambda last: _even(times[: last + 1]) is None
        )
        advice = (
            "unlike the rows before: fill gaps, or resample; write 2024-01-31, months by their "
            "first or last day"
        )
    problem = f"{times[place]} follows {times[place - 1]}; {advice}"
    raise _fault(problem, where, rows[place], times.name)


def _even(times: pd.Index) -> pd.Index | None:
    """Three or more ascending time stamps, dates with their frequency; None if they are uneven."""
    if isinstance(times, pd.DatetimeIndex):
        dates = pd.DatetimeIndex(times, freq="infer")
        return None if dates.freq is None else dates
    steps = np.diff(times)
    return times if np.allclose(steps, steps[0], rtol=1e-3, atol=0) else None
