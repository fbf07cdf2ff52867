"""Time stamps are read, completed, continued and written again; all other ones are refused."""

from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2lib.errors import InputError
from m2tables.calendars import calendar_season
from m2tables.tables import Columns, Item, as_written, future_times, items_of

without_a_warning = pytest.mark.filterwarnings("error")
THE_15TH = pd.DateOffset(months=1, day=15)
SEASONS = {
    **{"D": 7, "3D": 1, "B": 5, "W-WED": 52, "2W-SUN": 26, "14D": 26},
    **{"h": 24, "15min": 96, "6h": 4, "5h": 1, "36h": 1},
    **{"MS": 12, "ME": 12, "2ME": 6, "5ME": 1, THE_15TH: 12, "QS": 4, "QE": 4, "YS": 1, "YE": 1},
}


def series_of(stamps, name="ds", **options):
    """Return the series 0, 1, 2, ... of a table with these time stamps."""
    table = pd.DataFrame({name: stamps, "y": np.arange(float(len(stamps)))})
    (item,) = items_of(table, Columns(None, name, ("y",)), **options)
    return item


@without_a_warning
@given(
    calendar=st.sampled_from([*SEASONS]),
    start=st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    steps=st.integers(10, 40),
    as_text=st.booleans(),
)
def test_a_calendar_is_found_and_continued(calendar, start, steps, as_text):
    whole = pd.date_range(start, periods=steps + 8, freq=calendar)
    whole = whole[1:]  # the 15th comes after the start, which may be any day
    known = whole[:steps]
    item = series_of(known.astype(str) if as_text else known)

    assert item.times.tolist() == known.tolist()
    assert item.season == calendar_season(item.times) == SEASONS[calendar]
    assert future_times(item, 7).tolist() == whole[steps:].tolist()

    # A series that is cut short, as to evaluate forecasts, keeps its calendar.
    cut = Item("series", item.times[:-3], item.values[:-3], item.season)
    assert future_times(cut, 3).tolist() == item.times[-3:].tolist()


@pytest.mark.parametrize("calendar", ["D", "h", "W-WED", "ME", THE_15TH, "QS", "YE"])
def test_missing_rows_are_found_in_every_calendar(calendar):
    whole = pd.date_range("2023-01-15", periods=15, freq=calendar)[1:]
    known = whole.delete([4, 5, 8])
    with pytest.raises(InputError, match=rf"row 5, .*{known[4]} follows {known[3]}, .*\(--fill"):
        series_of(known)
    with pytest.warns(UserWarning, match=r"filled \(last\): 3"):
        item = series_of(known, fill="last")
    assert item.times.tolist() == whole.tolist()
    assert item.season == SEASONS[calendar]


@pytest.mark.parametrize(
    ("stamps", "ahead"),
    [
        pytest.param(["2010Q3", "2010Q4"], ["2011Q1", "2011Q2"], id="quarters"),
        pytest.param(["2010-Q3", "2010-Q4"], ["2011-Q1", "2011-Q2"], id="quarters after a hyphen"),
        pytest.param(["2010-10", "2010-11"], ["2010-12", "2011-01"], id="months"),
        pytest.param(["2010-04", "2010-07"], ["2010-10", "2011-01"], id="every third month"),
        pytest.param(["2024-01-31", "2024-02-29"], ["2024-03-31", "2024-04-30"], id="month ends"),
        pytest.param(["2010Q3"], ["2010Q4", "2011Q1"], id="a single quarter"),
        pytest.param(range(1845, 1860), [1860, 1861], id="years"),
        pytest.param(["2001", "2002"], [2003, 2004], id="years as text"),
        pytest.param([2001.0, 2003.0], [2005, 2007], id="every second year, as floats"),
        pytest.param([7], [8, 9], id="a single step"),
        pytest.param(np.arange(250, 255, dtype=np.uint8), [255, 256], id="of 8 bits"),
        pytest.param(pd.array(range(10), dtype="Int64"), [10, 11], id="a type of pandas"),
        pytest.param([Decimal(1990), Decimal(1991)], [1992, 1993], id="decimals"),
        pytest.param(range(180_000, 180_200), [180_200, 180_201], id="many steps"),
    ],
)
def test_stamps_are_continued_as_the_table_writes_them(stamps, ahead):
    times = future_times(series_of(stamps), 2)
    if isinstance(times, pd.DatetimeIndex):
        times = times.astype(str)
    assert times.tolist() == ahead


@pytest.mark.parametrize(
    ("freq", "season"),
    [("Q", 4), ("M", 12), ("D", 7), ("h", 24), ("2M", 6), ("Y", 1), ("Q-MAR", 4)],
)
def test_periods_are_continued_as_periods(freq, season):
    whole = pd.period_range("2020-01", periods=12, freq=freq)
    item = series_of(whole[:10])
    assert item.season == season
    assert future_times(item, 2).equals(whole[10:])


@pytest.mark.parametrize("time_format", [None, "%G-W%V"])
def test_weeks_are_read_as_their_mondays_and_written_as_weeks(time_format):
    stamps = ["2020-W51", "2020-W52", "2020-W53", "2021-W01"]
    item = series_of(stamps, time_format=time_format)
    assert item.times[2] == pd.Timestamp("2020-12-28")
    assert as_written(item, item.times).tolist() == stamps
    assert future_times(item, 2).tolist() == ["2021-W02", "2021-W03"]
    assert item.season == 52


def test_missing_periods_are_gaps():
    with pytest.raises(InputError, match=r"row 3, .* 2010Q4 follows 2010Q2, so rows are missing"):
        series_of(["2010Q1", "2010Q2", "2010Q4"])
    with pytest.warns(UserWarning, match=r"filled \(linear\): 1"):
        item = series_of(["2010Q1", "2010Q2", "2010Q4"], fill="linear")
    assert item.values[:, 0].tolist() == [0, 1, 1.5, 2]


@pytest.mark.parametrize(
    ("stamps", "time_format", "ahead"),
    [
        (["31/01/2024", "01/02/2024"], "%d/%m/%Y", "02/02/2024"),
        (["Jan 24", "Feb 24", "Mar 24"], "%b %y", "Apr 24"),
        ([20240131, 20240201], "%Y%m%d", "20240202"),
        ([202411, 202412], "%Y%m", "202501"),
        (["2024-W01-1", "2024-W02-1"], "%G-W%V-%u", "2024-W03-1"),
    ],
)
def test_any_other_form_is_read_and_written_by_time_format(stamps, time_format, ahead):
    with pytest.raises(InputError, match=rf"row 1, column 'ds': '{stamps[0]}' .*--time-format"):
        series_of(stamps)
    item = series_of(stamps, time_format=time_format)
    assert isinstance(item.times, pd.DatetimeIndex)
    assert as_written(item, item.times).tolist() == [str(stamp) for stamp in stamps]
    assert future_times(item, 1).tolist() == [ahead]


@pytest.mark.parametrize(
    ("stamps", "row"),
    [
        pytest.param([45292, 45293], 1, id="days of Excel"),
        pytest.param([45292.5, 45293.5], 1, id="hours of Excel"),
        pytest.param([1706659200, 1706745600], 1, id="Unix seconds"),
        pytest.param(["20240131", "20240201"], 1, id="days as text"),
        pytest.param([202417, 202418], 1, id="weeks"),
        pytest.param([0.0, 0.5], 2, id="fractions"),
        pytest.param([True, False], 1, id="yes and no"),
        pytest.param(["01/02/2024"], 1, id="days or months first"),
        pytest.param(["2000/01", "2001/02"], 1, id="fiscal years"),
        pytest.param(["Jan-18"], 1, id="months of Excel"),
        pytest.param(["9:30"], 1, id="times of day"),
        pytest.param(["2024-02-29", "2024-02-30"], 2, id="no day of the calendar"),
        pytest.param(["2024-12", "2024-13"], 2, id="no month"),
        pytest.param(["2010Q4", "2010Q5"], 2, id="no quarter"),
        pytest.param(["2021-W01", "2021-W53"], 2, id="no week of that year"),
        pytest.param([1, 2, "total"], 3, id="text after numbers"),
    ],
)
def test_all_other_stamps_are_refused_with_the_option(stamps, row):
    cell = stamps[row - 1]
    with pytest.raises(InputError, match=rf"row {row}, column 'date': '{cell}' is no time stamp"):
        series_of(stamps, name="date")
    with pytest.raises(InputError, match=r"--time-format, .* \(time_format=\)$"):
        series_of(stamps, name="date")


def test_numbers_of_excels_size_count_steps_where_the_column_is_not_called_a_date():
    assert series_of([45292, 45293], name="step").times.tolist() == [45292, 45293]


def test_a_wrong_time_format_is_named():
    with pytest.raises(InputError, match=r"row 2, .*'2024-02-01' is not of the form %d/%m/%Y"):
        series_of(["31/01/2024", "2024-02-01"], time_format="%d/%m/%Y")
    with pytest.raises(InputError, match="'K' is a bad directive"):
        series_of(["31/01/2024"], time_format="%K")


@without_a_warning
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/New_York"])
@pytest.mark.parametrize("calendar", ["15min", "h", "D", "B", "W-MON", "MS", "QE"])
def test_a_zone_is_taken_and_given_back(zone, calendar):
    whole = pd.date_range("2021-01-01", "2026-11-05", freq=calendar, tz=zone)
    # Seven steps reach over New York's change back from summer time, and Paris's change to it.
    for end in (len(whole) - 7, whole.searchsorted(pd.Timestamp("2024-03-30 22:00", tz=zone))):
        known = whole[max(0, end - 400) : end]
        ahead = future_times(series_of(known), 7)
        assert ahead.tolist() == whole[end : end + 7].tolist()
        assert ahead.dtype == whole.dtype


def test_a_midnight_that_a_change_of_clocks_skips_moves_forward():
    item = series_of(pd.date_range("2024-04-21", periods=4, tz="Africa/Cairo"))
    assert [time.hour for time in future_times(item, 3)] == [0, 1, 0]


def test_texts_with_one_offset_keep_it_and_with_several_are_read_as_utc():
    hours = pd.date_range("2024-01-31 20:00", periods=3, freq="h").strftime("%Y-%m-%dT%H:%M")
    item = series_of(hours + "+01:00")
    assert item.times.tz_localize(None).strftime("%Y-%m-%dT%H:%M").tolist() == hours.tolist()
    item = series_of([*(hours + "+01:00"), "2024-02-01T00:00+02:00", "2024-02-01T01:00+02:00"])
    assert item.times[[0, -1]].tolist() == [
        pd.Timestamp("2024-01-31T19:00Z"), pd.Timestamp("2024-01-31T23:00Z"),
    ]  # fmt: skip


def test_a_form_that_pandas_does_not_know_is_refused():
    with pytest.raises(InputError, match=r"--time-format %Y-W%W .* cannot be read: "):
        series_of(["2024-W01", "2024-W02"], time_format="%Y-W%W")


def test_months_of_two_digit_years_are_no_steps():
    months = [*range(2011, 2013), *range(2101, 2113)]
    with pytest.raises(InputError, match=r"row 1, .*'2011' is no time stamp"):
        series_of(months)
    assert len(series_of(months, time_format="%y%m").values) == 14
