"""Tables: a reader's own series, in the long form that chronos and Nixtla's libraries share.

A row is a step of a series. One column says whose, one says when, and one to eight hold numbers:

    item_id,timestamp,target
    A,2024-01-01,3.5
    A,2024-01-02,4.1

A file is read by `read_table`, its columns are found by `guess_columns`, and `items_of` takes the
series out. What is wrong with a table's cells is found there, and nowhere else.
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
SEASONS = {"h": 24, "D": 7, "MS": 12, "ME": 12, "QS": 4, "QE": 4}  # by pandas' names of frequencies


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
    """A step each: dates with their frequency, or numbers; evenly spaced."""
    values: np.ndarray
    """float64, shape (steps, variables), physical units."""


def read_table(path: str | Path, id: str | None = None) -> pd.DataFrame:
    """The table in a .csv or .parquet file. Ids stay text, as a number 007 would be 7; `id` names
    their column."""
    try:
        if Path(path).suffix.lower() == ".parquet":
            df = pd.read_parquet(path)
            return df.reset_index() if any(df.index.names) else df
        names = pd.read_csv(path, nrows=0, skipinitialspace=True).columns
        if pd.to_numeric(names, errors="coerce").notna().any():
            raise ValueError("its first line holds numbers, not names alone")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", pd.errors.ParserWarning
            )  # else 1,5 for 1.5 would be cut to 1
            text = {name: str for name in names if name == id or name.lower() in IDS}
            return pd.read_csv(path, index_col=False, dtype=text, skipinitialspace=True)
    except (OSError, ValueError, ImportError, pd.errors.ParserWarning) as error:
        problem = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        advice = "give a .csv file in UTF-8, with names in line 1 and commas between its cells, or a .parquet file"
        raise InputError(f"cannot read {path} as a table ({problem}); {advice}") from error


def check_output(
    path: Path, force: bool = False, endings: Sequence[str] = (".csv", ".parquet")
) -> None:
    """See that a file can be written, before hours are spent on what it will hold."""
    if path.suffix.lower() not in endings:
        raise InputError(f"{path} does not end in {' or '.join(endings)}; name it so")
    if path.suffix.lower() == ".parquet" and not find_spec("pyarrow"):
        raise InputError(
            f"{path}: parquet needs pyarrow, which is not installed: pip install pyarrow, or use .csv"
        )
    if path.exists() and not force:
        raise InputError(f"{path} exists; name another file, or replace it with --force")
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """See that files can be written into a folder, which need not be there yet."""
    there = next(
        above for above in (folder.absolute(), *folder.absolute().parents) if above.exists()
    )
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InputError(
            f"cannot write into {folder}: {there} is no folder, or read-only; choose another folder"
        )


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table, without its index, to a .csv or .parquet file, whole or not at all."""
    parquet = path.suffix.lower() == ".parquet"
    write_atomic(
        path, frame.to_parquet(index=False) if parquet else frame.to_csv(index=False).encode()
    )


def guess_columns(
    df: pd.DataFrame, id: str | None = None, time: str | None = None, targets: Sequence[str] = ()
) -> Columns:
    """Which column is what: as given, and else guessed by the usual names and by what the columns
    hold.

    The time is a column of dates, the first where none has such a name; else a column of numbers
    that has one. The target is the column called target, y or value, else all other numbers are.
    The id is a column of such a name, else the first of text where time stamps repeat, and never a
    column whose values do not.
    """
    free = [name for name in df.columns if name not in (id, time, *targets)]
    if time is None:
        dates = [name for name in free if _holds_dates(df[name])]
        time = next(iter([*_called(dates, TIMES), *dates, *_called(free, TIMES)]), None)
        free = [name for name in free if name != time]
    if id is None:
        several = time not in df or df[time].duplicated().any()
        text = (
            name
            for name in free
            if several and not _holds_numbers(df[name]) and not _holds_dates(df[name])
        )
        id = next(
            (name for name in (*_called(free, IDS), *text) if df[name].duplicated().any()), None
        )
    if not targets:
        # `Unnamed: 0` and `index` are what pandas makes of row numbers that were written into a
        # CSV.
        other = [
            *_called(free, (*IDS, *TIMES, "index")),
            *(name for name in free if str(name).startswith("Unnamed: ")),
        ]
        numbers = [name for name in free if name not in other and _holds_numbers(df[name])]
        targets = _called(free, TARGETS)[:1] or numbers
    return Columns(id, time, tuple(targets))


def items_of(
    df: pd.DataFrame, columns: Columns, where: str = "the table", least: int = SHORTEST
) -> list[Item]:
    """The series of a table, in the order in which their ids first appear; rows of several may be
    mixed.

    All values and time stamps are checked here, once. InputError names `where`, row, column and
    remedy for columns that are not there; cells that are empty or no numbers; time stamps that are
    none, or have a time zone, or do not ascend evenly; and series of fewer than `least` steps, or
    constant in one of the columns.
    """
    names = quoted(", ".join(map(str, df.columns)))
    for name in (columns.id, columns.time, *columns.targets):
        if name is not None and name not in df:
            advice = "say which with id_column, timestamp_column and target (--id, --time, --target); two may be None"
            raise InputError(f"{where}: no column {quoted(str(name))} among {names}; {advice}")
    if not len(df):
        raise InputError(f"{where} has column names and no rows; add a row for each step")
    if (
        not 1 <= (count := len(columns.targets)) <= MOST_VARIABLES
        or len(set(columns.targets)) < count
    ):
        advice = f"name 1 to {MOST_VARIABLES} of {names} (--target), each once; commas part cells, points decimals"
        raise InputError(f"{where}: {count} columns of numbers; {advice}")
    values = df[list(columns.targets)].apply(_parsed).to_numpy(dtype=np.float64, na_value=np.nan)
    if (bad := np.argwhere(~np.isfinite(values))).size:
        row, target = bad[0][0], columns.targets[bad[0][1]]
        cell = quoted(str(df[target].iloc[row]))
        problem = f"{cell} is no finite number; correct it, or fill it (pandas' interpolate)"
        raise _fault(problem, where, row, target)
    times = None if columns.time is None else _times(df[columns.time], where)
    whose = pd.Series("series", df.index) if columns.id is None else df[columns.id]
    if (empty := whose.isna()).any():
        raise _fault(
            "an empty cell (NA reads as one); say whose row it is",
            where,
            empty.argmax(),
            columns.id,
        )
    items = []
    for name, places in pd.Series(np.arange(len(df))).groupby(whose.to_numpy(), sort=False):
        rows = places.to_numpy()
        who = "the series" if columns.id is None else f"series {quoted(str(name))}"
        if len(rows) < least:
            raise _fault(
                f"{who} has {len(rows)} steps, fewer than {least}; bring more, or drop it",
                where,
                rows[0],
            )
        if not (moves := np.ptp(values[rows], axis=0)).all():
            flat = moves.argmin()
            problem = f"{who} is {values[rows[0], flat]:g} throughout; drop it, or name other columns (--target)"
            raise _fault(problem, where, rows[0], columns.targets[flat])
        own = pd.RangeIndex(len(rows)) if times is None else _spaced(times[rows], rows, where)
        items.append(Item(name, own, values[rows]))
    return items


def calendar_season(items: Sequence[Item]) -> int:
    """The season by the time stamps, in steps: 24 hours, 7 days, 12 months or 4 quarters; else 1,
    which is none.

    It is none, too, where the series of a table have not all the same.
    """
    # Frequencies of quarters are such as QS-OCT, by the month in which a year begins; of business
    # months such as BME.
    found = {
        SEASONS.get(str(getattr(item.times, "freqstr", "")).split("-")[0].removeprefix("B"), 1)
        for item in items
    }
    return found.pop() if len(found) == 1 else 1


def future_times(item: Item, horizon: int) -> pd.Index:
    """The `horizon` time stamps that follow a series, of its own type and spacing."""
    times = item.times
    if isinstance(times, pd.DatetimeIndex):
        return pd.date_range(times[-1], periods=horizon + 1, freq=times.freq)[1:]
    stride = (times[-1] - times[0]) / (len(times) - 1)
    return pd.Index(times[-1] + stride * np.arange(1, horizon + 1)).astype(times.dtype)


def _fault(problem: str, where: str, row: Any = None, column: Any = None) -> InputError:
    """What is wrong with a table, and where: `sales.csv, row 7, column 'y': ...` for row 6, as
    people count from 1."""
    rows = [] if row is None else [f"row {row + 1}"]
    columns = [] if column is None else [f"column {quoted(str(column))}"]
    return InputError(f"{', '.join([where, *rows, *columns])}: {problem}")


def _called(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """Those of the names that are one of the words, in the words' order; capitals do not matter."""
    return [name for word in words for name in names if str(name).lower() == word]


def _parsed(column: pd.Series) -> pd.Series:
    """A column's numbers; NaN for what is none."""
    return (
        column if is_numeric_dtype(column) else pd.to_numeric(column.astype(str), errors="coerce")
    )


def _holds_numbers(column: pd.Series) -> bool:
    """Whether most cells are numbers: `items_of` names the others."""
    return column.dtype != bool and bool(_parsed(column).notna().mean() > 0.5)


def _holds_dates(column: pd.Series) -> bool:
    """Whether a column begins with a date, and is not one of numbers."""
    begins = any(guess_datetime_format(str(cell)) for cell in column.dropna().head(1))
    return begins and not _holds_numbers(column)


def _times(column: pd.Series, where: str) -> pd.Index:
    """The time stamps of a column: a DatetimeIndex without a time zone, or an Index of numbers."""
    stamps = column = column.infer_objects()  # whole numbers in a column of objects are numbers
    if not is_numeric_dtype(column):
        with warnings.catch_warnings(), suppress(ValueError):  # as of several time zones
            warnings.simplefilter("ignore")
            stamps = pd.to_datetime(column, errors="coerce")
        if not is_datetime64_dtype(stamps):
            problem = "time stamps in a time zone; convert them to one clock, such as UTC (pandas' dt.tz_convert(None))"
            raise _fault(problem, where, None, column.name)
    if (wrong := stamps.isna()).any():
        cell = quoted(str(column.iloc[row := wrong.argmax()]))
        raise _fault(
            f"{cell} is no date, or not written as the first; write 2024-01-31",
            where,
            row,
            column.name,
        )
    return pd.Index(stamps.astype(np.int64) if is_integer_dtype(stamps) else stamps)


def _spaced(times: pd.Index, rows: np.ndarray, where: str) -> pd.Index:
    """The time stamps of one series, dates with their frequency; they have to ascend evenly."""
    ascends = np.asarray(times[1:] > times[:-1])
    if ascends.all() and (even := _even(times)) is not None:
        return even
    if not ascends.all():
        place = int(ascends.argmin()) + 1
        advice = "sort the rows by time, drop what stands twice, or name the column that tells series apart (--id)"
    else:
        # The first row that, together with those before it, is not even; two stamps always are.
        place = bisect_left(
            range(len(times)), True, lo=2, key=lambda last: _even(times[: last + 1]) is None
        )
        advice = "unlike the rows before: fill gaps, or resample; write 2024-01-31, months by their first or last day"
    raise _fault(
        f"{times[place]} follows {times[place - 1]}; {advice}", where, rows[place], times.name
    )


def _even(times: pd.Index) -> pd.Index | None:
    """Ascending time stamps, three or more, dates with their frequency; None where they are not
    evenly spaced."""
    if isinstance(times, pd.DatetimeIndex):
        found = pd.DatetimeIndex(times, freq="infer")
        return None if found.freq is None else found
    steps = np.diff(times)
    return times if np.allclose(steps, steps[0], rtol=1e-3, atol=0) else None
