"""Which column of a table is what: said by the caller, or guessed from names and contents."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from pandas.tseries.api import guess_datetime_format

from m2lib.errors import InputError, quoted
from m2lib.forecaster.calendars import is_styled, read_stamps

# The usual names of each kind of column, in lower case; if a table has several, the first counts.
IDS = ("item_id", "unique_id", "id", "series")
TIMES = ("timestamp", "ds", "date", "datetime", "time", "year", "month", "week", "day")
TARGETS = ("target", "y", "value")
# Parts of a time stamp. Beside a column of years one of quarters, Q1 to Q4, or of seasons, such as
# spring, is no id, though it is text that repeats; and a weekday is nothing to forecast.
PARTS = ("season", "quarter", "weekday", "hour")


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
        # Not `or`, because pandas may call a column 0.
        return "item_id" if self.id is None else self.id

    @property
    def written_time(self) -> str:
        """The column of a table of forecasts that holds the time stamps."""
        return "timestamp" if self.time is None else self.time


def guess_columns(
    df: pd.DataFrame, id: str | None = None, time: str | None = None, targets: Sequence[str] = ()
) -> Columns:
    """Guess, from names and contents, which column is what; what is given stands.

    The time is a column of dates, preferably one with a usual name, and dates in forms such as
    31-Dec-23 count where there are no plainer ones; else a column of any kind that has such a name;
    else the first whose numbers are all such as 202412 or 20240131. The target is the column called
    target, y or value, else all other columns of numbers are. The id is a column with a usual name,
    else the first of text where time stamps repeat, but never a column whose values do not repeat.
    A column that is called like a time, or like a part of one, such as weekday, is guessed to be
    neither id nor target. An empty column is none of the three, unless it is the only one that is
    called as a target is. InputError where several columns have one name.
    """
    repeated_names = df.columns[df.columns.duplicated()]
    if len(repeated_names):
        name = quoted(str(repeated_names[0]))
        raise InputError(f"several columns are called {name}; rename all but one")
    given_names = (id, time, *targets)
    empty_names = [name for name in df if name not in given_names and df[name].isna().all()]
    free_names = [name for name in df if name not in (*given_names, *empty_names)]
    if time is None:
        dates = [name for name in free_names if _holds_dates(df[name])]
        if not dates:  # at first sight; 31-Dec-23 has to be read
            texts = [name for name in free_names if not _holds_numbers(df[name])]
            dates = [name for name in texts if _reads_as_dates(df[name])]
        candidates = _names_among(dates, TIMES) + dates + _names_among(free_names, TIMES)
        if not candidates:
            # Numbers such as 202412 may be dates, but they may also be a code, so they come last.
            candidates = [name for name in free_names if is_styled(df[name])]
        time = candidates[0] if candidates else None
        free_names = [name for name in free_names if name != time]
    time_names = _names_among(free_names, (*TIMES, *PARTS))
    if id is None:
        candidates = _names_among(free_names, IDS)
        # A column of text tells series apart only if time stamps repeat: one series has each once.
        if time not in df or df[time].duplicated().any():
            texts = [name for name in free_names if _holds_text(df[name])]
            candidates += [name for name in texts if name not in time_names]
        repeating_names = [name for name in candidates if df[name].duplicated().any()]
        id = repeating_names[0] if repeating_names else None
    if not targets:
        # `Unnamed: 0` and `index` are what pandas makes of row numbers that were written into a
        # CSV.
        excluded_names = [*time_names, *_names_among(free_names, (*IDS, "index"))]
        excluded_names += [name for name in free_names if str(name).startswith("Unnamed: ")]
        numbers = [
            name for name in free_names if name not in excluded_names and _holds_numbers(df[name])
        ]
        numbers = [name for name in numbers if not is_styled(df[name])]
        # An empty column called target is taken, too: then `items_of` says that it is empty, and no
        # other column is forecast in its place.
        named = _names_among(free_names, TARGETS) + _names_among(empty_names, TARGETS)
        targets = named[:1] or numbers
    return Columns(id, time, tuple(targets))


def _reads_as_dates(column: pd.Series) -> bool:
    """Return whether most cells of a column of text are read as dates."""
    cells = column.dropna()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # `items_of` reads them once more, and then warns
        # Most columns are something else, which their first cell shows.
        for part in (cells.head(1), cells):
            times, _ = read_stamps(part)
            if not isinstance(times, pd.DatetimeIndex) or times.notna().mean() <= 0.5:
                return False
    return True


def _names_among(names: Sequence[str], words: Sequence[str]) -> list[str]:
    """Return the names that are among the words, in the words' order; capitals do not matter."""
    return [name for word in words for name in names if str(name).lower() == word]


def numbers_in(column: pd.Series) -> pd.Series:
    """Return a column's numbers; NaN for a cell that holds none."""
    if is_numeric_dtype(column):
        return column
    return pd.to_numeric(column.astype(str), errors="coerce")


def _holds_numbers(column: pd.Series) -> bool:
    """Return whether most cells of a column are numbers; `items_of` names the first that is not."""
    return not is_bool_dtype(column) and bool(numbers_in(column).notna().mean() > 0.5)


def _holds_text(column: pd.Series) -> bool:
    """Return whether a column's non-empty cells are neither numbers nor dates nor bools."""
    cells = column.dropna().infer_objects()  # beside empty cells, True and False are objects
    return not (is_bool_dtype(cells) or _holds_numbers(cells) or _holds_dates(cells))


def _holds_dates(column: pd.Series) -> bool:
    """Return whether a column begins with a date, and is not one of numbers."""
    if _holds_numbers(column):
        return False
    first = column.dropna().head(1)  # none, where all cells are empty
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas advises on an argument of its own for 13.01.2024
        return any(guess_datetime_format(str(cell)) for cell in first) or is_styled(column)
