"""Cells: numbers and time stamps read, their spacing found for every calendar, and the first fault named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2lib.files import InputError
from m2lib.forecaster import Item, future_times
from m2lib.forecaster.cells import holds_dates, holds_numbers, numbers_of, spaced, times_of

CALENDARS = ("D", "h", "15min", "36h", "3D", "W-WED", "2W-SUN", "B", "MS", "ME", "QS", "QE", "YS", "YE", "2ME")


def times(stamps):
    return times_of(pd.Series(stamps), "ds", "t.csv")


def found(stamps):
    return spaced(times(stamps), np.arange(len(stamps)), "ds", "t.csv")


@given(
    st.sampled_from(CALENDARS),
    st.dates(pd.Timestamp("1900-01-01").date(), pd.Timestamp("2100-01-01").date()),
    st.integers(10, 40),
    st.sampled_from([None, "UTC", "Europe/Paris"]),
    st.booleans(),
)
def test_a_calendar_is_found_and_continued(calendar, start, steps, zone, as_text):
    if zone == "Europe/Paris":
        start, calendar = (
            pd.Timestamp("2024-03-25"),
            "h" if calendar.endswith(("h", "n")) else "D",
        )  # summer time is near
    whole = pd.date_range(start, periods=steps + 7, freq=calendar, tz=zone)
    stamps = whole[:steps].astype(str) if as_text and zone != "Europe/Paris" else whole[:steps]
    series = Item("series", found(pd.Index(stamps, dtype=None)), np.zeros((steps, 1)))
    assert series.times.equals(whole[:steps].as_unit(series.times.unit))
    assert (future_times(series, 7) == whole[steps:]).all()


@pytest.mark.parametrize(
    ("start", "zone", "freq", "expected"),
    [
        ("2024-08-20", "America/Santiago", "D", "2024-09-08 01:00"),  # midnight does not exist
        ("2024-03-12 02:30", "Europe/Berlin", "D", "2024-03-31 03:00"),
        ("2024-10-10 02:30", "Europe/Berlin", "D", "2024-10-27 02:30"),  # comes twice
        ("2024-01-07 02:30", "Europe/Berlin", "W", "2024-03-31 03:00"),
        ("2024-03-30 02:30", "Europe/Berlin", "h", "2024-03-31 03:30"),
    ],
)
def test_clocks_may_change_in_the_horizon(start, zone, freq, expected):
    series = Item("series", found(pd.date_range(start, periods=11, freq=freq, tz=zone)), np.zeros((11, 1)))
    after = future_times(series, 40)
    assert len(after) == 40
    assert pd.Timestamp(expected) in after.tz_localize(None)
    assert after.is_monotonic_increasing


@pytest.mark.parametrize(("zone", "start"), [("America/Santiago", "2024-06-16"), ("Europe/Berlin", "2024-01-07 02:30")])
@pytest.mark.parametrize("freq", ["D", "W", "3D"])
def test_what_clocks_skip_is_no_gap(zone, start, freq):
    days = pd.date_range(start, periods=200, freq=freq)
    stamps = days.tz_localize(zone, nonexistent="shift_forward", ambiguous=[False] * 200)
    assert (stamps.tz_localize(None) != days).any()
    moved = int((stamps.tz_localize(None) != days).argmax())
    for last in (moved, moved + 1, 190):  # the moved one ahead, the last, behind
        series = Item("series", found(stamps[:last]), np.zeros((last, 1)))
        assert future_times(series, 10).equals(stamps[last : last + 10].as_unit(series.times.unit))


def test_dates_without_dashes_in_text_are_dates():
    series = Item("series", found(pd.date_range("2024-01-20", periods=20).strftime("%Y%m%d")), np.zeros((20, 1)))
    assert future_times(series, 2).tolist() == [pd.Timestamp("2024-02-09"), pd.Timestamp("2024-02-10")]


def test_a_gap_where_clocks_change_is_a_gap():
    days = pd.date_range("2024-03-20 02:30", periods=30, freq="D")
    for gone in ([11], [11, 20]):  # on the first day of summer time there is no half past two
        with pytest.raises(InputError, match=r"a gap: fill it"):
            found(days.delete(gone).tz_localize("Europe/Berlin"))


@pytest.mark.parametrize(
    "stamps", [pd.date_range("2262-04-01", periods=10).as_unit("ns"), np.arange(2**63 - 20, 2**63 - 10)]
)
def test_beyond_the_last_time_stamp_that_can_be(stamps):
    series = Item("series", found(stamps), np.zeros((10, 1)))
    with pytest.raises(InputError, match=r"40 steps after .* lie beyond the last time stamp that there can be"):
        future_times(series, 40)


@pytest.mark.parametrize(
    ("numbers", "ahead"),
    [
        (range(1845, 1860), [1860, 1861]),
        (range(0, 50, 5), [50, 55]),
        (np.arange(10, dtype=np.uint8), [10, 11]),
        (pd.array(range(10), dtype="Int64"), [10, 11]),
        (pd.Series(range(10), dtype=object), [10, 11]),
        (np.linspace(0, 2, 11), [2.2, 2.4]),
    ],
)
def test_numbers_are_times_too(numbers, ahead):
    series = Item("series", found(numbers), np.zeros((0, 1)))
    after = future_times(series, 2)
    assert after.tolist() == pytest.approx(ahead)
    assert series.times.dtype == after.dtype == np.asarray(ahead).dtype


DAYS = pd.date_range("2024-01-01", periods=14).strftime("%Y-%m-%d").tolist()
BUSINESS = pd.bdate_range("2024-01-01", periods=20).strftime("%Y-%m-%d").tolist()
MONTHS = pd.date_range("2024-01-31", periods=14, freq="ME").strftime("%Y-%m-%d").tolist()
GAP = "a gap: fill it (utilsforecast's fill_gaps adds the rows, pandas' interpolate the values)"
DATES = "write dates as 2024-01-31"
UNEVEN = "uneven: resample the series (pandas' resample), and write dates as 2024-01-31"
TWICE = "stands twice in one series; drop one of its rows, or name the column that tells the series apart (--id)"
SORT = "sort the table by this column"
NO_DATE = "is no date, or not written as the first is; write dates as 2024-01-31"
NO_NUMBER = "is not a number; correct it, and write numbers as 1234.5"
EMPTY = "an empty cell, or NaN; fill it (pandas' interpolate) or drop the series"
SIZE = "is not within ±1e+100; correct it, or divide the column by a power of ten"


@pytest.mark.parametrize(
    ("stamps", "row", "problem"),
    [
        (DAYS[:5] + DAYS[6:], 6, f"2024-01-07 follows 2024-01-05, and a step is D; {GAP}"),
        (DAYS[:1] + DAYS[2:], 2, f"2024-01-03 follows 2024-01-01, and a step is D; {GAP}"),
        (BUSINESS[:8] + BUSINESS[9:], 9, f"2024-01-12 follows 2024-01-10, and a step is B; {GAP}"),
        (MONTHS[:8] + MONTHS[9:], 9, f"2024-10-31 follows 2024-08-31, and a step is ME; {GAP}"),
        (
            [*range(202401, 202413), 202501],
            13,
            f"202501 follows 202412, and a step is 1; dates, perhaps: {DATES}; else {GAP}",
        ),
        ([1845, *range(1847, 1860)], 2, f"1847 follows 1845, and a step is 1; {GAP}"),
        ([0.1 * i for i in (*range(9), 10)], 10, f"1 follows 0.8, and a step is 0.1; {GAP}"),
        ([f"{month[:8]}15" for month in MONTHS], 3, f"2024-03-15 follows 2024-02-15, and a step is 31 days; {UNEVEN}"),
        ([*range(10), 10.5], 11, f"10.5 follows 9, and a step is 1; {GAP}"),
        ([*range(10), 9.5], 11, f"9.5 follows 9, and a step is 1; {UNEVEN}"),
        ([*range(10), np.inf], 11, f"inf follows 9, and a step is 1; {GAP}"),
        ([*DAYS[:4], *DAYS[3:]], 5, f"2024-01-04 {TWICE}"),
        (DAYS * 2, 15, f"2024-01-01 {TWICE}"),
        (DAYS[::-1], 2, f"2024-01-13 stands after 2024-01-14; {SORT}"),
        (np.array([5, 4, 3], dtype=np.uint8), 2, f"4 stands after 5; {SORT}"),
        ([*DAYS[:3], DAYS[4], DAYS[3], *DAYS[5:]], 5, f"2024-01-04 stands after 2024-01-05; {SORT}"),
        ([*DAYS[:3], "soon", *DAYS[4:]], 4, f"'soon' {NO_DATE}"),
        ([f"{day:02}/01/2024" for day in range(1, 15)], 13, f"'13/01/2024' {NO_DATE}"),
        ([*DAYS[:3], None, *DAYS[4:]], 4, "an empty cell; give each row its time"),
        ([1.0, np.nan, 3.0], 2, "an empty cell; give each row its time"),
    ],
)
def test_the_first_stamp_that_is_wrong_is_named(stamps, row, problem):
    with pytest.raises(InputError) as error:
        found(stamps)
    assert str(error.value) == f"t.csv, row {row} (line {row + 1}), column 'ds': {problem}"


@pytest.mark.parametrize(
    "stamps",
    [
        ["2024-01-01T00:00:00+01:00", "2024-06-01T00:00:00+02:00"],
        [True, False],
        pd.period_range("2024", periods=3, freq="M"),
    ],
)
def test_what_is_no_one_clock_is_refused(stamps):
    with pytest.raises(InputError, match=r"^t.csv, (row 1 \(line 2\), )?column 'ds': .*; write "):
        times(stamps)


@pytest.mark.parametrize(
    ("cells", "row", "problem"),
    [
        ([1, "x3", 2], 2, f"'x3' {NO_NUMBER}"),
        (["1", "1,5"], 2, f"'1,5' {NO_NUMBER}"),
        ([1, 2, np.nan], 3, EMPTY),
        ([1, None, "x"], 2, EMPTY),
        (pd.array([1, None], dtype="Int64"), 2, EMPTY),
        ([1, -np.inf], 2, f"-inf {SIZE}"),
        ([1e308], 1, f"1e+308 {SIZE}"),
        (pd.to_datetime(["2024-01-01"]), 1, f"'2024-01-01 00:00:00' {NO_NUMBER}"),
    ],
)
def test_the_first_cell_that_is_no_number_is_named(cells, row, problem):
    with pytest.raises(InputError) as error:
        numbers_of(pd.Series(cells), "y", "table")
    assert str(error.value) == f"table, row {row}, column 'y': {problem}"


@pytest.mark.parametrize("cells", [[1, 2], [True, False], ["1", " 2.5"], [-1e100, 1e-300], pd.array([1], dtype="Int8")])
def test_numbers_of_any_type_are_read(cells):
    read = numbers_of(pd.Series(cells), "y", "table")
    assert read.dtype == np.float64
    assert read.tolist() == [float(cell) for cell in cells]


def test_columns_are_told_apart():
    dates = [DAYS, MONTHS, ["13/01/2024"], ["2024-01"], pd.to_datetime(DAYS), pd.to_datetime(DAYS).date]
    numbers = [[1, 2], [1.5, np.nan], [True], ["1", "2", "x"], ["1845", "1846"]]
    neither = [["T1", "T2"], ["T000000"], ["sun", "rain"], ["May"], [None, None]]
    assert [holds_dates(pd.Series(cells)) for cells in dates + numbers + neither] == [True] * 6 + [False] * 10
    assert [holds_numbers(pd.Series(cells)) for cells in numbers + dates[:4] + neither] == [True] * 5 + [False] * 9
