"""Time stamps: read from a column, completed where some are missing, and continued."""

import re
from contextlib import suppress

import numpy as np
import pandas as pd
from pandas.api.types import is_datetime64_any_dtype, is_integer_dtype
from pandas.tseries.frequencies import to_offset
from pandas.tseries.offsets import BaseOffset, BusinessDay, DateOffset, Day, Tick

from m2lib.errors import InputError, first_line

# The usual names of a column of time stamps, in lower case; the first that a table has counts.
WHOLE_TIMES = ("timestamp", "ds", "date", "datetime", "time")
PARTS = ("year", "quarter", "month", "week", "day", "hour")  # several of them make a time stamp
TIMES = (*WHOLE_TIMES, *PARTS)

# Texts that are read without a `time_format`: dates, which a time of day may follow, and periods,
# by the form in which `strftime` writes them.
ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"
PERIODS = {
    "%YQ%q": r"\d{4}Q[1-4]",
    "%Y-Q%q": r"\d{4}-Q[1-4]",
    "%Y-%m": r"\d{4}-(0[1-9]|1[0-2])",
}
# Weeks of ISO 8601, such as 2024-W05, which pandas reads only with a day of the week.
WEEK, IS_WEEK = "%G-W%V", r"\d{4}-W\d{2}"
# Steps of a season, by pandas' names of frequencies. WOM-3FRI is the third Friday of each month.
SEASONS = {
    **{"D": 7, "B": 5, "W": 52},
    **{"MS": 12, "ME": 12, "BMS": 12, "BME": 12, "WOM": 12},
    **{"QS": 4, "QE": 4, "BQS": 4, "BQE": 4},
}
DATE = r"\d{4}-\d\d?-\d\d?|\d\d?[./-]\d\d?[./-]\d{4}|\d{4}[./]\d\d?[./]\d\d?"
MOST_FILLED = 10  # a series with gaps may become so many times as long, and no longer


def read_stamps(column: pd.Series, time_format: str | None = None) -> tuple[pd.Index, str]:
    """Read a column of time stamps; its first cell says of which kind all of them are.

    Dates, periods, ISO 8601 texts, texts such as 2010Q1, 2010-Q1, 2010-01 or 2010-W05, and whole
    numbers of steps or years are read, and texts and numbers of one `time_format` of `strftime`. A
    week is read as its Monday. Returned are a DatetimeIndex, a PeriodIndex or numbers, with NaT or
    NaN for a cell that is not read; and the `strftime` form in which the table writes them, empty
    where it is as pandas does. Stamps whose offsets from UTC change are read as UTC. InputError for
    a `time_format` that pandas does not know.
    """
    if isinstance(column.dtype, pd.CategoricalDtype | pd.ArrowDtype):
        column = column.astype(object)
    column = column.convert_dtypes()  # 2001.0, beside an empty cell, becomes 2001
    if is_datetime64_any_dtype(column):
        return pd.DatetimeIndex(column), ""
    if isinstance(column.dtype, pd.PeriodDtype):
        return pd.PeriodIndex(column), ""

    texts = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    first = next(filter(None, texts), "")
    if time_format == WEEK or (not time_format and re.fullmatch(IS_WEEK, first)):
        return _dates(texts + "-1", f"{WEEK}-%u"), WEEK
    if time_format:
        return _dates(texts, time_format), time_format
    numbers = pd.to_numeric(texts, errors="coerce")
    if np.isfinite(pd.to_numeric(first or "nan", errors="coerce")):
        return _whole_numbers(numbers), ""
    for form, pattern in PERIODS.items():
        if re.fullmatch(pattern, first):
            periods = texts.where(texts.str.fullmatch(pattern))
            return pd.PeriodIndex(periods, freq="M" if form == "%Y-%m" else "Q"), form
    return _dates(texts.where(texts.str.fullmatch(ISO_DATE)), "ISO8601"), ""


def holds_dates(column: pd.Series) -> bool:
    """Return whether the first cell of a column is a date, whatever its form, or a period."""
    if is_datetime64_any_dtype(column) or isinstance(column.dtype, pd.PeriodDtype):
        return True
    first = next(iter(column.dropna()), "")
    patterns = (DATE, IS_WEEK, *PERIODS.values())
    return any(re.fullmatch(rf"({pattern})([T ].*)?", str(first).strip()) for pattern in patterns)


def _dates(texts: pd.Series, form: str) -> pd.DatetimeIndex:
    """Read texts of one form as dates, NaT where a text is of another; InputError for no form."""
    # With a change of clocks 01:00+01:00 and 03:00+02:00 stand in one column, which pandas reads as
    # UTC alone.
    offsets = texts.str.extract(r"\d:?\d\d(?::\d\d(?:\.\d+)?)?\s*([+-]\d\d:?\d\d)$")[0].dropna()
    try:
        read = pd.to_datetime(texts, format=form, errors="coerce", utc=offsets.nunique() > 1)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"--time-format {form} (time_format=) cannot be read: {first_line(error).rstrip('.')}"
        ) from error
    return pd.DatetimeIndex(read)


def _whole_numbers(numbers: pd.Series) -> pd.Index:
    """Return whole numbers, NaN for any other, and NaN for all of them where they may be dates.

    45292 in a column of dates is a day number of Excel, 1706659200 are Unix seconds, 20240131,
    202401 and 202417 are a day, a month and a week, and 2312 followed by 2401 are months.
    """
    known = numbers.dropna()
    year_and_part = (known // 100).between(1700, 2200) & (known % 100).between(1, 53)
    is_month = (known % 100).between(1, 12).all()
    has_new_year = (known.drop_duplicates().sort_values().diff() == 89).any()  # 2401 - 2312
    is_called_date = any(word in str(numbers.name).lower() for word in TIMES)
    is_date = (
        known.abs().max() >= 10_000_000
        or year_and_part.all()
        or (is_month and has_new_year)
        or (is_called_date and known.between(20_000, 60_000).all())
    )
    whole = numbers.where((numbers % 1 == 0) & (not is_date))
    return pd.Index(whole if whole.isna().any() else whole.astype(np.int64))


def evenly_spaced(times: pd.Index, table_times: pd.Index) -> pd.Index | None:
    """Return the even time stamps from the first to the last of a series, missing ones included.

    `times` ascend. Those of the whole table, `table_times`, show the spacing of a series that has
    one or two dates. Dates are returned with their frequency. None if no spacing has all stamps, or
    if the series would become more than ten times as long.
    """
    longest = MOST_FILLED * len(times)
    if not isinstance(times, pd.DatetimeIndex):
        numbers = numbers_of(times)
        stride = _stride(numbers)
        if numbers[-1] - numbers[0] >= longest * stride:
            return None
        return _as_times(np.arange(numbers[0], numbers[-1] + 1, stride), times)
    spacing = _spacing(times if len(times) > 2 else table_times)
    if spacing is None:
        return None
    with suppress(ValueError):  # a day may begin at a time that a change of clocks skips
        # Estimated before they are made, because seconds between years would fill the memory. The
        # first step may be a short one (a February), so twice as many pass.
        if (times[-1] - times[0]) / (times[0] + spacing - times[0]) <= 2 * longest:
            dates = pd.date_range(times[0], times[-1], freq=spacing)
            if times.isin(dates).all() and len(dates) <= longest:
                return dates
    return None


def _spacing(dates: pd.DatetimeIndex) -> BaseOffset | None:
    """Return the frequency that ascending dates have, or would have if none was missing.

    None for a single date. Of dates that are not even it is one that does not have them all.
    """
    if len(dates) > 2 and (inferred := pd.DatetimeIndex(dates, freq="infer").freq) is not None:
        return inferred
    clock = dates.tz_localize(None)
    # The 15th of each month; or January 31, February 29, April 30, which are months with a gap.
    months = np.gcd.reduce(np.diff(12 * clock.year + clock.month))
    day = clock.day.max()
    if months and (clock.day == np.minimum(day, clock.days_in_month)).all():
        return DateOffset(months=int(months), day=int(day))
    # Of days with the steps 1, 1, 3, 1 and 7, 14, 7 the common ones are 1 and 7.
    step = pd.Timedelta(int(np.gcd.reduce(np.diff(clock.asi8))), unit=clock.unit)
    days, rest = divmod(step, pd.Timedelta(days=1))
    if rest:
        return to_offset(step)
    has_weekend = (clock.day_of_week >= 5).any() or clock[-1] - clock[0] < pd.Timedelta(days=7)
    if days == 1 and not has_weekend:
        return BusinessDay()
    return Day(days) if days else None


def following(times: pd.Index, steps: int) -> pd.Index:
    """Return the `steps` time stamps that follow even ones, of their type and time zone.

    Days and longer steps keep their time on the local clock: a time that it skips moves forward,
    and of one that it shows twice the first is taken.
    """
    if not isinstance(times, pd.DatetimeIndex):
        numbers = numbers_of(times)
        return _as_times(numbers[-1] + _stride(numbers) * np.arange(1, steps + 1), times)
    if _is_clock_time(times.freq):
        return pd.date_range(times[-1], periods=steps + 1, freq=times.freq)[1:]
    local = pd.date_range(times[-1].tz_localize(None), periods=steps + 1, freq=times.freq)[1:]
    is_summer = np.full(steps, True)  # which comes first
    return local.tz_localize(times.tz, ambiguous=is_summer, nonexistent="shift_forward")


def calendar_season(times: pd.Index) -> int:
    """Return the steps of the season that the calendar knows of even time stamps; 1: none.

    Hours and their even parts have a day, days and business days a week, weeks, months and quarters
    a year; and so do several of them in one step, such as two months, that fit into it.
    """
    if isinstance(times, pd.PeriodIndex):
        starts = times.to_timestamp()
        times = pd.DatetimeIndex(starts, freq=_spacing(starts))
    frequency = getattr(times, "freq", None)
    if frequency is None:
        return 1
    if _is_clock_time(frequency):
        steps = pd.Timedelta(days=1) / pd.Timedelta(frequency)
        return int(steps) if steps == int(steps) else 1
    if months := frequency.kwds.get("months"):
        whole, step = 12, months
    elif isinstance(frequency, Day) and frequency.n % 7 == 0:
        whole, step = 52, frequency.n // 7
    else:
        # Quarters have names such as QS-OCT, with the month in which a year begins, and weeks
        # W-SUN.
        whole, step = SEASONS.get(frequency.rule_code.split("-")[0], 1), frequency.n
    return 1 if whole % step else whole // step


def _is_clock_time(frequency: BaseOffset) -> bool:
    """Return whether steps are hours, minutes or seconds, and not days or more of a calendar."""
    return isinstance(frequency, Tick) and not isinstance(frequency, Day)


def numbers_of(times: pd.Index) -> np.ndarray:
    """Return time stamps as numbers, int64: dates and periods as pandas counts them."""
    return times.to_numpy() if is_integer_dtype(times) else times.asi8


def _as_times(numbers: np.ndarray, like: pd.Index) -> pd.Index:
    """Return numbers as time stamps, the inverse of `numbers_of`."""
    if isinstance(like, pd.PeriodIndex):
        return pd.PeriodIndex.from_ordinals(numbers, freq=like.freq)
    return pd.Index(numbers)


def _stride(numbers: np.ndarray) -> int:
    """Return the widest step that has all ascending numbers: 2 of 0, 2, 6; 1 of a single number."""
    return int(np.gcd.reduce(np.diff(numbers))) or 1
