"""Time stamps: read from a column, found to be even, continued, and written as the table has them.

A series has a time stamp for each step: dates, with or without a time zone, or numbers. Three ways
of writing dates are read, and written again, that pandas does not take for dates: 202412,
20240131, which a time may follow (2024013113), and 2010Q1.
"""

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import (
    infer_dtype,
    is_bool_dtype,
    is_datetime64_any_dtype,
    is_integer_dtype,
    is_numeric_dtype,
)
from pandas.tseries.offsets import BaseOffset, Day, Tick

from m2lib.errors import warn

# Steps of a season, by pandas' names of frequencies: days and business days of a week, weeks of a
# year, months and quarters of a year. The last two are dated by the first or the last day, or the
# first or last business day.
SEASONS = {
    **{"D": 7, "B": 5, "W": 52},
    **{"MS": 12, "ME": 12, "BMS": 12, "BME": 12},
    "WOM": 12,  # such as the third Friday of each month, WOM-3FRI
    **{"QS": 4, "QE": 4, "BQS": 4, "BQE": 4},
}
# The first and last year of a date. 202412 is a month, and 999912, which may be a code, is not; and
# Jan-18, which pandas reads as a day of the year 1, is no date either.
YEARS = (1700, 2200)
# An offset from UTC at the end of a time stamp: Z, +01:00, +0100, and +01 or +1 after minutes. The
# end of the date 2024-01-31 is none.
OFFSET = r"\s*(?:Z|[+-]\d{2}:?\d{2}|(?<=:\d{2})[+-]\d{1,2})$"
UTC_MARK = r"\s*(?:GMT|UTC)\s?(?=[+-]\d)"  # what stands before an offset, as in 20:00 UTC+1
# A time of day without a date: 9:30, 09:30:00.5, 9:30 PM, 09:30Z.
TIME_OF_DAY = r"\s*\d{1,2}(:\d{2}){1,2}([.,]\d+)?\s*([AaPp]\.?[Mm]\.?)?" + rf"({OFFSET})?\s*"
MONTH_CODE = r".*\bM\d{1,2}\b.*"  # 2024-M01, M01 2024
# The hour 2024-01-31 19:00-20:00, whose end is no offset: no clock is 20 hours behind UTC.
HOURS = r".*:\d{2}-(1[5-9]|2\d)(:\d{2})?"
# Patterns of neighbouring stamps, from which the spacing of a series with gaps is learned.
MOST_PATTERNS = 50
MOST_FILLED = 10  # a series with gaps may become so many times as long, and no longer


@dataclass(frozen=True)
class Style:
    """How a table writes its dates, where it does not hold them as dates."""

    form: str
    """What `str.format` takes to write a date: `{0.year}Q{0.quarter}` gives 2010Q1."""
    dtype: Any
    """The type of the table's column, which may be one of whole numbers."""

    def write(self, dates: pd.DatetimeIndex) -> pd.Index:
        """Write dates as the table does."""
        return pd.Index([self.form.format(date) for date in dates]).astype(self.dtype)


def read_stamps(column: pd.Series) -> tuple[pd.Index, Style | None]:
    """Read a column of time stamps.

    Parameters
    ----------
    column : Series
        Dates, periods, text or numbers, or categories of them. Dates may have a time zone, or
        offsets from UTC. Where the offsets change, as they do at a change to summer time or from
        one zone to another, the stamps are converted to UTC, with a warning; but if all of them are
        midnights, they are taken as days, without a zone.
        Numbers that look like years and weeks, such as 202417, remain numbers, with a warning.
        Dates such as 01/02/2024 are read month first, with a warning if none tells the two apart.
        They are read day first if the first number is above 12 in one of them, and the second in
        none, or if they are of several years, and the first number is the same in all.

    Returns
    -------
    times : Index
        A DatetimeIndex, with NaT for a cell that holds no date, such as a time of day alone, or a
        date outside the years 1700 to 2200; or an Index of numbers.
    style : Style or None
        How the table writes dates; None where it is as pandas does.
    """
    column = _by_cells(column)
    if isinstance(column.dtype, pd.PeriodDtype):
        return pd.Index(column.dt.to_timestamp()), Style("{}", column.dtype)
    styled = _styled(column)
    if styled:
        return styled
    if is_integer_dtype(column) and not column.hasnans:
        column = column.astype(np.int64)  # unsigned ones would wrap around
        if _may_be_weeks(column):
            warn(
                f"column {column.name!r}: {column.iloc[0]} is read as a number, and after week 52 "
                "come 53, 54, ...; write weeks as dates: "
                "pd.to_datetime(weeks.astype(str) + '1', format='%G%V%u')"
            )
    if is_numeric_dtype(column):
        return pd.Index(column), None
    return pd.Index(_dates(column)), None


def is_styled(column: pd.Series) -> bool:
    """Return whether a column holds dates written as 202412, 20240131 or 2010Q1 throughout."""
    return _styled(_by_cells(column)) is not None


def with_frequency(times: pd.Index) -> pd.Index | None:
    """Return ascending time stamps, dates with their frequency, if evenly spaced; else None.

    Numbers have no frequency, and are returned as they are. Two of them are even, but of dates it
    takes three.
    """
    if isinstance(times, pd.DatetimeIndex):
        dates = pd.DatetimeIndex(times, freq="infer") if len(times) > 2 else times
        if dates.freq is None:
            return None
        # pandas does not check every stamp of all that it infers. It takes a yearly Thanksgiving
        # for the fourth Thursday of each month (WOM-4THU), and the hours of a shop from 10 to 17,
        # even on Sundays, for its own business hours (bh), which begin at 9.
        expected = pd.date_range(dates[0], periods=len(dates), freq=dates.freq)
        return dates if (dates == expected).all() else None
    steps = np.diff(times)
    return times if np.allclose(steps, steps[:1], rtol=1e-3, atol=0) else None


def spacings_of(times: pd.Index) -> list[BaseOffset]:
    """Return the frequencies that three neighbours among ascending dates show; none for numbers."""
    if not isinstance(times, pd.DatetimeIndex):
        return []
    steps = pd.Series(times[1:] - times[:-1])
    # Jan 1, Feb 1, Apr 1, May 1, Jun 1 have the pairs of steps (31, 60), (60, 30) and (30, 31)
    # days, the last of which is one of months. Of equal pairs one is looked at.
    pairs = pd.DataFrame({"step": steps[:-1], "next": steps[1:].to_numpy()})
    sizes = pairs.groupby(["step", "next"], sort=False).size().to_numpy()
    firsts = pairs.drop_duplicates().index[np.argsort(-sizes, kind="stable")]
    triples = [times[place : place + 3] for place in firsts[:MOST_PATTERNS]]
    spacings = [pd.DatetimeIndex(triple, freq="infer").freq for triple in triples]
    return [spacing for spacing in spacings if spacing is not None]


def without_gaps(
    times: pd.Index, spacings: Sequence[BaseOffset] = ()
) -> tuple[pd.Index, np.ndarray] | None:
    """Find the even time stamps among which some are missing.

    Parameters
    ----------
    times : Index
        The time stamps of one series, ascending.
    spacings : sequence of DateOffset, optional
        Spacings to try beside those that neighbours in `times` show, such as those of the whole
        table: a shop may be open on a few days, of which no three are neighbours.

    Returns
    -------
    (Index, ndarray of int64) or None
        Even stamps from the first to the last, and the place of each of `times` among them. Of all
        spacings it is the widest. None if no spacing has all stamps, or if the series would become
        more than ten times as long.
    """
    most_steps = MOST_FILLED * len(times)
    if not isinstance(times, pd.DatetimeIndex):
        stride = np.diff(times).min()
        strides = (times.to_numpy() - times[0]) / stride
        places = np.rint(strides).astype(np.int64)
        if places[-1] >= most_steps or not np.allclose(strides, places, rtol=0, atol=1e-3):
            return None
        return pd.Index(times[0] + stride * np.arange(places[-1] + 1)).astype(times.dtype), places

    widest = None
    for spacing in dict.fromkeys([*spacings_of(times), *spacings]):
        with suppress(ValueError):  # a day may begin at a time that a change to summer time skips
            # Estimated before they are made, because seconds between years would fill the memory.
            # The first step may be a short one (a February), so twice as many pass.
            if (times[-1] - times[0]) / (times[0] + spacing - times[0]) > 2 * most_steps:
                continue
            dates = pd.date_range(times[0], times[-1], freq=spacing)
            places = dates.get_indexer(times)
            if len(dates) > most_steps or (places < 0).any():
                continue
            if widest is None or len(dates) < len(widest[0]):
                widest = dates, places
    return widest


def following(times: pd.Index, steps: int) -> pd.Index:
    """Return the `steps` time stamps that follow even ones, of their type, spacing and time zone.

    Hours and minutes pass as they do in UTC. Days and longer steps keep their time on the local
    clock: skipped times shift forward, and ambiguous ones take the first occurrence.
    """
    if not isinstance(times, pd.DatetimeIndex):
        stride = (times[-1] - times[0]) / (len(times) - 1)
        # Nanoseconds since 1970 have more digits than a float, so it holds only what is added.
        offsets = pd.Index(stride * np.arange(1, steps + 1)).astype(times.dtype)
        return times[-1] + offsets
    last_time = times[-1]
    if times.tz is None or _counts_time(times.freq):
        # The range begins with the last known time stamp.
        return pd.date_range(last_time, periods=steps + 1, freq=times.freq)[1:]
    local = pd.date_range(last_time.tz_localize(None), periods=steps + 1, freq=times.freq)[1:]
    # Of two equal times the one in summer time comes first.
    is_first: np.ndarray = np.ones(steps, dtype=bool)
    return local.tz_localize(times.tz, ambiguous=is_first, nonexistent="shift_forward")


def seasons_of(times: pd.Index) -> tuple[int, ...]:
    """Return the seasons that the calendar knows of even time stamps, in steps, the shortest first.

    Half-hours have a day of 48 steps and a week of 336; numbers and years have none.
    """
    frequency = getattr(times, "freq", None)
    if frequency is None:
        return ()
    if _counts_time(frequency):
        step = pd.Timedelta(frequency)
        lengths = (pd.Timedelta(days=1) / step, pd.Timedelta(days=7) / step)
        return tuple(int(length) for length in lengths if length > 1 and length == int(length))
    # Quarters have names such as QS-OCT, with the month in which a year begins, and weeks such as
    # W-SUN. Of two days, 2D, there are no seven in a week.
    season = SEASONS.get(frequency.freqstr.split("-")[0])
    return (season,) if season else ()


def _counts_time(frequency: BaseOffset) -> bool:
    """Return whether steps are hours, minutes or seconds, and not days or more of a calendar."""
    return isinstance(frequency, Tick) and not isinstance(frequency, Day)


def _by_cells(column: pd.Series) -> pd.Series:
    """Return a column of objects, categories or Arrow's types with NumPy's type of its cells."""
    if isinstance(column.dtype, pd.CategoricalDtype | pd.ArrowDtype):
        column = column.astype(object).where(column.notna(), np.nan)
    if infer_dtype(column) == "decimal":  # a database's numbers
        return pd.to_numeric(column.astype(str), errors="coerce")
    if column.dtype == np.float16:  # pandas has no index of these
        return column.astype(np.float64)
    return column.infer_objects()


def _styled(column: pd.Series) -> tuple[pd.Index, Style] | None:
    """Return the dates in a column of 202412, 20240131 or 2010Q1 and their style; else None."""
    column = column.reset_index(drop=True)  # rows of tables put together may have the same index
    cells = column.dropna()
    dtype = column.dtype
    if not len(cells) or is_bool_dtype(dtype) or is_datetime64_any_dtype(dtype):
        return None
    if is_numeric_dtype(dtype):
        # One empty cell makes a column of whole numbers one of floats.
        if not (cells % 1 == 0).all() or cells.abs().max() > 10**14:
            return None
        cells = cells.astype(np.int64)
        dtype = cells.dtype
    # Most columns are something else, which their first cell shows.
    first = re.fullmatch(r"\d{6}(?:\d\d){0,4}|\d{4}([ -]?[Qq])[1-4]", str(cells.iloc[0]))
    if not first:
        return None
    texts = cells.astype(str)
    mark = first[1]  # between year and quarter: Q, q, -Q or a blank and Q; None without quarters
    if mark:
        form = f"{{0.year}}{mark}{{0.quarter}}"
        valid = texts.str.fullmatch(rf"\d{{4}}{mark}[1-4]")
        quarters = pd.PeriodIndex(texts.where(valid).str.replace(mark, "Q"), freq="Q")
        dates = pd.Series(quarters.to_timestamp(), texts.index)
    else:
        # %Y stands for four digits, and all others for two: of 20240131 the code is %Y%m%d.
        code = "%Y%m%d%H%M%S"[: len(first[0]) - 2]
        form = f"{{:{code}}}"
        dates = pd.to_datetime(texts, format=code, errors="coerce")
        valid = dates.dt.year.between(*YEARS) & (texts.str.len() == len(first[0]))
    if not valid.all():
        return None
    return pd.DatetimeIndex(dates.reindex(column.index)), Style(form, dtype)


def _may_be_weeks(numbers: pd.Series) -> bool:
    """Return whether whole numbers look like years and weeks (202417), and not all like months."""
    years, weeks = numbers // 100, numbers % 100
    return bool(years.between(*YEARS).all() and weeks.between(1, 53).all() and weeks.max() > 12)


def _have_two_readings(numbers: pd.DataFrame) -> bool:
    """Return whether dates such as 01/02/2024 all leave open which of the numbers is the month."""
    same = numbers["first"] == numbers["second"]  # as in 01/01/2024, of which both readings are one
    largest = numbers[["first", "second"]].max(axis=None)
    return bool(len(numbers) and largest <= 12 and not same.all())


def _have_day_first(numbers: pd.DataFrame) -> bool:
    """Return whether the numbers of dates show that the day stands first.

    They do in 13/01/2024, because there is no 13th month. And 01/01/2024, 01/02/2024, ...,
    01/12/2025 are the first days of months: nobody writes down the first twelve days of January, in
    two years.
    """
    if not len(numbers) or numbers["second"].max() > 12:
        return False
    num_different = numbers.nunique()  # how many different numbers there are in each place
    one_day = num_different["first"] == 1
    several_months = num_different["second"] > 1
    several_years = num_different["year"] > 1
    first_is_a_day = one_day and several_months and several_years
    return bool(numbers["first"].max() > 12 or first_is_a_day)


def _are_fiscal_years(column: pd.Series) -> bool:
    """Return whether all cells are such as 2000/01 and 2001/02, which are not meant as months."""
    texts = column.dropna().astype(str)
    years = texts.str.extract(r"^\d{2}(?P<year>\d{2})[/-](?P<next>\d{2})$").astype(float)
    return len(years) > 1 and bool(((years["year"] + 1) % 100 == years["next"]).all())


def _numbers_of(column: pd.Series) -> pd.DataFrame:
    """Return `first`, `second` and `year`, integers, of dates such as 01/02/2024 or 1.2.24."""
    texts = column.dropna().astype(str)
    year_last = r"(?:^|\s)(?P<first>\d{1,2})[/.-](?P<second>\d{1,2})[/.-](?P<year>\d{4}|\d\d)(?!\d)"
    return texts.str.extract(year_last).dropna().astype(int)


def _dates(column: pd.Series) -> pd.Series:
    """Read the dates of a column, in a time zone if they have one; NaT where a cell holds none."""
    if is_datetime64_any_dtype(column):
        # Nothing is parsed, so the filters of warnings, which all threads share, stay as they are.
        return column.where(column.dt.year.between(*YEARS))
    # pandas would take 20:00 UTC+1 for 20:00 on a clock that is one hour behind UTC.
    column = column.replace(UTC_MARK, "", regex=True)
    # pandas would take 9:30 for half past nine of the day on which it is asked, and 2024-M02, a
    # month, for two seconds after a midnight.
    no_date = column.astype(str).str.fullmatch(f"({TIME_OF_DAY}|{MONTH_CODE}|{HOURS})")
    column = column.mask(no_date | _are_fiscal_years(column))
    numbers = _numbers_of(column)
    day_first = _have_day_first(numbers)
    every_date = len(numbers) == column.notna().sum()
    if every_date and _have_two_readings(numbers) and not day_first:
        warn(
            f"column {column.name!r}: {column.dropna().iloc[0]} and its like are read month first; "
            "if the day comes first, write 2024-01-31"
        )
    # Where offsets differ `to_datetime` raises, or, before pandas 3, returns objects.
    with suppress(ValueError):
        dates = _parsed(column, day_first)
        # Of Python's dates in several zones it reads those of the first zone alone.
        unread = column[dates.isna()].dropna()
        several_zones = any(isinstance(cell, datetime) for cell in unread)
        if is_datetime64_any_dtype(dates) and not several_zones:
            # pandas reads Jan-18, a month in Excel, as 18 January of the year 1.
            return dates.where(dates.dt.year.between(*YEARS))
    return _dates_of_changing_offsets(column, day_first)


def _dates_of_changing_offsets(column: pd.Series, day_first: bool) -> pd.Series:
    """Read the dates of a column whose offsets from UTC change: in UTC, with a warning.

    2024-03-31 01:00+01:00 and 03:00+02:00 become 0:00 and 1:00. But if all are midnights, such as
    2024-03-31 00:00+01:00 and 2024-04-01 00:00+02:00, they are days, and stay as they are.
    """
    texts = column.astype(str)
    # Without an offset a stamp has no place on a clock, and it may hold two dates, as the week
    # 2024-01-01/2024-01-07 does, of which pandas takes the second for a change of offsets.
    texts = texts.where(texts.str.contains(OFFSET, regex=True))
    local = _parsed(texts.str.replace(OFFSET, "", regex=True), day_first)
    if (local.dropna() == local.dropna().dt.normalize()).all():
        return local
    warn(f"column {column.name!r}: offsets from UTC change, so all time stamps are in UTC")
    return _parsed(texts.where(local.notna()), day_first, utc=True)


def _parsed(column: pd.Series, day_first: bool, utc: bool = False) -> pd.Series:
    """Parse a column by pandas, without its warnings of formats that differ.

    A cell that is no date becomes NaT, and the caller names the first one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pd.to_datetime(column, errors="coerce", dayfirst=day_first, utc=utc)
