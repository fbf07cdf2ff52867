"""Cells: what a column of a table holds, read as numbers or as time stamps, and whether these are evenly spaced."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import (
    is_bool_dtype,
    is_datetime64_any_dtype,
    is_integer_dtype,
    is_numeric_dtype,
    is_string_dtype,
)
from pandas.tseries.api import guess_datetime_format

from m2lib.files import quoted
from m2lib.forecaster.table_files import PADDED, fault

LARGEST = 1e100  # in size: the squares and sums of such numbers are still numbers
SHORTEST = 10  # steps of a context at least
DATES = "write dates as 2024-01-31"
LIKE_A_DATE = 190_001  # whole numbers from here on may be dates, as 202401 or 20240131
WINDOW = 7  # stamps that tell a frequency: five business days would look like any days
TRIES = 100  # windows looked at, for an uneven series may be long


def holds_numbers(column: pd.Series) -> bool:
    """Whether a column is one of numbers.

    Parameters
    ----------
    column : pd.Series
        Of any type.

    Returns
    -------
    bool
        True also for text that is a number in most rows: `numbers_of` says what is wrong with the others.
    """
    return bool(is_numeric_dtype(column) or _parsed(column).notna().mean() > 0.5)


def holds_dates(column: pd.Series) -> bool:
    """Whether a column is one of dates.

    Parameters
    ----------
    column : pd.Series
        Of any type.

    Returns
    -------
    bool
        True for text where its first cell has the format of a date, and a plain one: pandas takes `T1` for one, too.
    """
    if is_datetime64_any_dtype(column):
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of days that stand before months
        plain = any(guess_datetime_format(str(cell)) for cell in column.dropna().head(1))
    return plain and not holds_numbers(column)


def numbers_of(column: pd.Series, name: str, where: str) -> np.ndarray:
    """The numbers in a column.

    Parameters
    ----------
    column : pd.Series
        Numbers, booleans, or text that is numbers.
    name : str
        The column's.
    where : str
        What errors call the table.

    Returns
    -------
    ndarray of float64, shape (rows,)
        Finite, and within 1e100 of 0.

    Raises
    ------
    InputError
        Naming the first row whose cell is no such number.
    """
    values = _parsed(column).to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~(np.abs(values) <= LARGEST)  # so is NaN
    if not bad.any():
        return values
    row = bad.argmax()
    if column.isna().iloc[row]:
        problem = "an empty cell, or NaN; fill it (pandas' interpolate) or drop the series"
    elif np.isnan(values[row]):
        problem = f"{quoted(str(column.iloc[row]))} is not a number; correct it, and write numbers as 1234.5"
    else:
        problem = f"{values[row]:g} is not within ±{LARGEST:g}; correct it, or divide the column by a power of ten"
    raise fault(problem, where, row, name)


def times_of(column: pd.Series, name: str, where: str) -> pd.Index:
    """The time stamps in a column.

    Parameters
    ----------
    column : pd.Series
        Dates, text that pandas reads as dates, or numbers.
    name : str
        The column's.
    where : str
        What errors call the table.

    Returns
    -------
    pd.Index
        A DatetimeIndex, or an Index of int64 or float64; none is missing.

    Raises
    ------
    InputError
        Naming the first row whose stamp is missing or no date; where time zones are mixed.
    """
    column = column.infer_objects()  # whole numbers in a column of objects are numbers
    if (empty := column.isna()).any():
        raise fault("an empty cell; give each row its time", where, empty.argmax(), name)
    if is_string_dtype(column) and column.str.match(PADDED).any():
        numbers = pd.to_numeric(column, errors="coerce")  # 01, 02, ...: with zeros in front a CSV's cells are text
        column = numbers if numbers.notna().all() else column
    if isinstance(column.dtype, pd.PeriodDtype):
        raise fault("periods; write dates, such as pandas' dt.to_timestamp() gives", where, None, name)
    if is_numeric_dtype(column) and not is_bool_dtype(column):
        return pd.Index(column.to_numpy(dtype=np.int64 if is_integer_dtype(column) else np.float64))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stamps = pd.Series(pd.to_datetime(column, errors="coerce"))
    except (TypeError, ValueError):  # so says pandas 3 that time zones are mixed; pandas 2 gives a column of objects
        stamps = column.astype(object)
    if not is_datetime64_any_dtype(stamps):
        raise fault("stamps of several time zones, or no dates; write all in one zone, such as UTC", where, None, name)
    if (wrong := stamps.isna()).any():
        cell = quoted(str(column.iloc[wrong.argmax()]))
        problem = f"{cell} is no date, or not written as the first is; {DATES}"
        raise fault(problem, where, wrong.argmax(), name)
    return pd.DatetimeIndex(stamps)


def spaced(times: pd.Index, rows: np.ndarray, name: str, where: str) -> pd.Index:
    """The time stamps of one series, with their frequency.

    Parameters
    ----------
    times : pd.Index
        As `times_of` gives them.
    rows : ndarray of int64, shape (steps,)
        Where each stands in the table, from 0.
    name : str
        The column's.
    where : str
        What errors call the table.

    Returns
    -------
    pd.Index
        The same; dates have a `freq`, but where clocks skip the time of one of them.

    Raises
    ------
    InputError
        Naming the first row whose stamp repeats another, goes back, or leaves the series' spacing.
    """
    if not times.is_unique:
        place = int(times.duplicated().argmax())
        advice = "drop one of its rows, or name the column that tells the series apart (--id)"
        raise fault(f"{_shown(times[place])} stands twice in one series; {advice}", where, rows[place], name)
    if not times.is_monotonic_increasing:
        place = int((times[1:] < times[:-1]).argmax()) + 1
        problem = f"{_shown(times[place])} stands after {_shown(times[place - 1])}; sort the table by this column"
        raise fault(problem, where, rows[place], name)
    even = _even(times)
    if even is None and _even_but_for_clocks(times):
        return times
    if even is None:
        place, problem = _uneven(times)
        raise fault(problem, where, rows[place], name)
    return even


def _parsed(column: pd.Series) -> pd.Series:
    return column if is_numeric_dtype(column) else pd.to_numeric(column.astype(str), errors="coerce")


def _even(times: pd.Index) -> pd.Index | None:
    """Ascending time stamps with their frequency, or None where they are not evenly spaced."""
    if isinstance(times, pd.DatetimeIndex):
        times = pd.DatetimeIndex(times, freq="infer")
        return None if times.freq is None else times
    return None if _departs(times, times[1] - times[0]).any() else times


def by_the_calendar(times: pd.DatetimeIndex, step: Any) -> bool:
    """Whether a step leads to the same time of another day, however many hours the clocks were changed by.

    Parameters
    ----------
    times : DatetimeIndex
        Stamps.
    step : DateOffset or Timedelta
        What leads from one to the next.

    Returns
    -------
    bool
        False for hours, minutes and the like, and where there is no time zone.
    """
    elapsed = isinstance(step, pd.Timedelta) or (isinstance(step, pd.offsets.Tick) and step.name != "D")
    return times.tz is not None and not elapsed


def _departs(times: pd.Index, step: Any) -> np.ndarray:
    """bool, shape (stamps - 1,): where a stamp is not `step` after the one before it."""
    if times.dtype.kind == "f":
        return ~np.isclose(times[1:], times[:-1] + step, rtol=0, atol=step / 1000)
    return np.asarray(times[1:] != times[:-1] + step)


def _uneven(times: pd.Index) -> tuple[int, str]:
    """The place of the first stamp that departs from the usual step, and what to do about it."""
    step, counted = usual_step(times), times
    if isinstance(times, pd.DatetimeIndex) and by_the_calendar(times, step):
        counted = times.tz_localize(None)  # where clocks change, a day later is a time that does not exist, or twice
    place = int(_departs(counted, step).argmax()) + 1
    if counted[place] > counted[place - 1] + step:
        advice = "a gap: fill it (utilsforecast's fill_gaps adds the rows, pandas' interpolate the values)"
        if not isinstance(times, pd.DatetimeIndex) and times[0] >= LIKE_A_DATE:
            advice = f"dates, perhaps: {DATES}; else {advice}"
    else:
        advice = f"uneven: resample the series (pandas' resample), and {DATES}"
    return place, f"{_shown(times[place])} follows {_shown(times[place - 1])}, and a step is {_shown(step)}; {advice}"


def _even_but_for_clocks(times: pd.Index) -> bool:
    """Whether stamps are evenly spaced by the calendar, the next time that there is in the place of one that is not."""
    if not isinstance(times, pd.DatetimeIndex) or not by_the_calendar(times, step := usual_step(times)):
        return False
    days = pd.date_range(times[0].tz_localize(None), periods=len(times), freq=step)
    return on_clocks(days, times.tz).as_unit(times.unit).equals(times)


def on_clocks(stamps: pd.DatetimeIndex, zone: Any) -> pd.DatetimeIndex:
    """Give stamps of a calendar the time zone in which they are read.

    Parameters
    ----------
    stamps : DatetimeIndex
        Without a time zone.
    zone : tzinfo
        Its clocks.

    Returns
    -------
    DatetimeIndex
        In the zone: of a time that clocks skip the next one that there is, of one that comes twice the second.
    """
    return stamps.tz_localize(zone, nonexistent="shift_forward", ambiguous=np.zeros(len(stamps), dtype=bool))


def usual_step(times: pd.Index) -> Any:
    """What leads from most stamps to the next: the frequency of some seven in a row, or else the median difference.

    Parameters
    ----------
    times : pd.Index
        Ascending stamps.

    Returns
    -------
    DateOffset, Timedelta or number
        Such as a day.
    """
    if not isinstance(times, pd.DatetimeIndex):
        return times.dtype.type(np.median(np.diff(times)))
    windows = (_even(times[start : start + WINDOW]) for start in range(min(len(times) - WINDOW + 1, TRIES)))
    return next((window.freq for window in windows if window is not None), (times[1:] - times[:-1]).median())


def _shown(value: Any) -> str:
    """A stamp or a step, as messages have it: dates without their midnight, numbers without their last digits."""
    if isinstance(value, float):  # of NumPy, too
        return f"{value:.6g}"
    return str(getattr(value, "freqstr", value)).removesuffix(" 00:00:00")
