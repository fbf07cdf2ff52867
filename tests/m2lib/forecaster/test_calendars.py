"""Time stamps: zones, whole numbers and quarters read, continued and written, gaps closed."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2lib.forecaster import Columns, calendar_seasons, items_of
from m2lib.forecaster.calendars import (
    even,
    following,
    is_styled,
    read_stamps,
    seasons_of,
    without_gaps,
)
from m2lib.forecaster.tables import as_written, future_times

SUMMERS = "2021-01-01", "2026-11-05"


def series_of(stamps, **options):
    df = pd.DataFrame({"ds": stamps, "y": np.arange(len(stamps))})
    return items_of(df, Columns(None, "ds", ("y",)), "t.csv", least=3, **options)[0]


@pytest.fixture
def silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("calendar", ["15min", "h", "6h", "D", "B", "W-MON", "MS", "QE"])
def test_a_zone_is_taken_and_given_back(silence, zone, calendar):
    whole = pd.date_range(*SUMMERS, freq=calendar, tz=zone)
    # The steps ahead lie on both sides of a change back from summer time, and of one to it.
    for end in (len(whole) - 7, whole.searchsorted(pd.Timestamp("2024-03-30 22:00", tz=zone))):
        series = series_of(whole[max(0, end - 400) : end])
        ahead = future_times(series, 7)
        assert ahead.tolist() == whole[end : end + 7].tolist()
        assert ahead.dtype == whole.dtype


@pytest.mark.parametrize(
    ("mark", "offset"), [("Z", "UTC"), ("+00:00", "UTC"), ("+0530", "UTC+05:30"), ("-03", "UTC-03")]
)
def test_one_offset_is_kept(silence, mark, offset):
    hours = pd.date_range("2024-01-31T20:00:00", periods=12, freq="h")
    series = series_of([f"{hour:%Y-%m-%dT%H:%M:%S}{mark}" for hour in hours])
    assert str(series.times.tz).startswith(offset)
    assert series.times.tz_localize(None).tolist() == hours.tolist()
    assert future_times(series, 1).tolist() == [series.times[-1] + pd.Timedelta(hours=1)]


def test_offsets_of_summer_time_become_one_clock():
    paris = pd.date_range("2024-03-30T20:00", periods=12, freq="h", tz="Europe/Paris")
    with pytest.warns(UserWarning, match="^column 'ds': offsets from UTC change, so all"):
        series = series_of(paris.astype(str))  # ... 01:00:00+01:00, 03:00:00+02:00, ...
    assert series.times.tolist() == paris.tz_convert("UTC").tolist()
    assert str(future_times(series, 1)[0]) == "2024-03-31 07:00:00+00:00"


def test_days_stay_days_where_their_offsets_change(silence):
    paris = pd.date_range("2024-03-25", periods=12, tz="Europe/Paris")
    series = series_of(paris.astype(str))
    assert series.times.tolist() == paris.tz_localize(None).tolist()
    assert future_times(series, 1).tolist() == [pd.Timestamp("2024-04-06")]


def test_a_stamp_without_an_offset_among_others_is_named():
    stamps = [*pd.date_range("2024-03-30", periods=48, freq="h", tz="Europe/Paris").astype(str)]
    stamps[40] = "2024-03-31 17:00:00"
    with (
        pytest.raises(ValueError, match="row 41, column 'ds': '2024-03-31 17:00:00' is no date"),
        pytest.warns(UserWarning, match="offsets from UTC change"),
    ):
        series_of(stamps)


def test_a_midnight_that_clocks_skip_is_the_hour_after():
    days = pd.date_range("2024-08-25", "2024-09-07", tz="America/Santiago")
    ahead = following(even(days), 2)
    assert ahead.astype(str).tolist() == ["2024-09-08 01:00:00-03:00", "2024-09-09 00:00:00-03:00"]


@pytest.mark.parametrize(
    ("stamps", "ahead"),
    [
        ([202410, 202411, 202412], [202501, 202502]),
        ([20240129, 20240130, 20240131], [20240201, 20240202]),
        ([20231231, 20240331, 20240630], [20240930, 20241231]),
        (pd.array([202410, 202411, 202412], dtype="UInt32"), [202501, 202502]),
        (["202410", "202411", "202412"], ["202501", "202502"]),
        (["2010Q1", "2010Q2", "2010Q3"], ["2010Q4", "2011Q1"]),
        (["2010-Q1", "2010-Q2", "2010-Q3"], ["2010-Q4", "2011-Q1"]),
        (["2010q1", "2010q2", "2010q3"], ["2010q4", "2011q1"]),
        (["2010 Q1", "2011 Q1", "2012 Q1"], ["2013 Q1", "2014 Q1"]),
        (
            pd.period_range("2010Q1", periods=3, freq="Q"),
            pd.PeriodIndex(["2010Q4", "2011Q1"], freq="Q"),
        ),
        (
            pd.period_range("2010-01", periods=3, freq="M"),
            pd.PeriodIndex(["2010-04", "2010-05"], freq="M"),
        ),
        # counters and years stay what they are
        ([2010, 2011, 2012], [2013, 2014]),
        ([202452, 202453, 202454], [202455, 202456]),
        ([20240229, 20240230, 20240231], [20240232, 20240233]),
        ([100001, 100002, 100003], [100004, 100005]),
        ([0, 1, 2], [3, 4]),
    ],
)
def test_dates_are_continued_as_they_are_written(silence, stamps, ahead):
    series = series_of(stamps)
    assert as_written(series, series.times).tolist() == list(stamps)
    after = future_times(series, 2)
    assert after.tolist() == list(ahead)
    if isinstance(ahead, pd.PeriodIndex):
        assert after.dtype == ahead.dtype


def test_numbers_that_may_be_weeks_are_said_to_be_numbers():
    weeks = [202450, 202451, 202452]
    with pytest.warns(UserWarning, match="^column 'ds': 202450 is read as a number, and after"):
        series = series_of(weeks)
    assert future_times(series, 2).tolist() == [202453, 202454]
    # The remedy that the warning names.
    dates = pd.to_datetime(pd.Series(weeks).astype(str) + "1", format="%G%V%u")
    assert future_times(series_of(dates), 2).tolist() == [
        pd.Timestamp("2024-12-30"),
        pd.Timestamp("2025-01-06"),
    ]


def test_dates_with_two_readings_are_said_to_be_read_month_first(silence):
    first_days = [f"01/{month:02}/2020" for month in range(1, 13)]
    with pytest.warns(UserWarning, match="column 'ds': 01/01/2020 and its like are read month"):
        series = series_of(first_days)
    assert future_times(series, 1)[0] == pd.Timestamp("2020-01-13")


@pytest.mark.parametrize("year", ["2024", "24"])
@pytest.mark.parametrize("mark", ["/", "."])
def test_the_day_is_read_first_where_no_month_is_meant(silence, year, mark):
    january = [f"{day:02}{mark}01{mark}{year}" for day in range(1, 15)]
    times, _ = read_stamps(pd.Series(january, name="ds"))
    assert times.tolist() == list(pd.date_range("2024-01-01", periods=14))


@pytest.mark.parametrize(
    "stamps",
    [
        [f"01/{day}/2020" for day in (11, 12, 13)],  # no month is the 13th
        ["01/01/2020", "02/02/2020", "03/03/2020"],  # the same either way, if not evenly spaced
        ["2020-01-01", "2020-02-01", "2020-03-01"],
    ],
)
def test_dates_with_one_reading_are_read_without_a_word(silence, stamps):
    column = pd.Series(stamps, name="ds")
    times, _ = read_stamps(column)
    assert times.tolist() == pd.to_datetime(stamps).tolist()


def test_whole_numbers_are_dates_beside_an_empty_cell():
    stamps = [202411, 202412, 202501, 202411, 202412, None]
    df = pd.DataFrame({"id": [*"aaabbb"], "month": stamps, "y": [1, 2, 3, 1, 2, 3]})
    with pytest.warns(
        UserWarning, match="series 'b' is left out: the table, row 6, column 'month'"
    ):
        (series,) = items_of(df, Columns("id", "month", ("y",)), least=3, skip=True)
    assert future_times(series, 1).tolist() == [202502]


CALENDARS = ("D", "h", "30min", "36h", "3D", "W-WED", "B", "MS", "ME", "QS", "QE", "YS", "2ME")


@given(
    st.sampled_from(CALENDARS),
    st.dates(pd.Timestamp("1950-01-01").date(), pd.Timestamp("2050-01-01").date()),
    st.sets(st.integers(5, 30), max_size=20),
    st.sampled_from([None, "Europe/Paris"]),
)
def test_missing_rows_are_found_on_any_calendar(calendar, start, missing, zone):
    whole = pd.date_range(start, periods=40, freq=calendar).tz_localize(
        zone, nonexistent="NaT", ambiguous="NaT"
    )
    if zone and calendar in ("h", "30min", "36h"):
        whole = pd.date_range(start, periods=40, freq=calendar, tz=zone)
    kept = [place for place in range(40) if place not in missing]
    times, places = without_gaps(whole[kept])
    assert times.tolist() == whole.tolist()
    assert places.tolist() == kept


def test_a_spacing_is_learned_from_the_other_series():
    days = pd.date_range("2024-01-01", periods=30)
    rare = days[[0, 4, 7, 12, 14, 19, 22, 26, 29]]  # no three have one spacing
    assert without_gaps(rare) is None
    df = pd.DataFrame(
        {
            "id": ["often"] * 30 + ["rare"] * 9,
            "day": [*days, *rare],
            "y": [*range(30), *range(1, 10)],
        }
    )
    with pytest.warns(UserWarning, match=r"steps that were filled \(zero\): 21"):
        items = items_of(df, Columns("id", "day", ("y",)), fill="zero")
    assert items[1].times.equals(items[0].times)
    assert np.flatnonzero(items[1].values[:, 0]).tolist() == [0, 4, 7, 12, 14, 19, 22, 26, 29]


def test_gaps_among_numbers_are_found():
    times, places = without_gaps(pd.Index([1900, 1902, 1904, 1910]))
    assert (times.tolist(), places.tolist()) == ([1900, 1902, 1904, 1906, 1908, 1910], [0, 1, 2, 5])
    assert without_gaps(pd.Index([0, 1, 2.5])) is None


def test_what_would_fill_the_memory_is_no_calendar():
    seconds = pd.date_range("2000-01-01", periods=10, freq="s")
    assert without_gaps(seconds.append(pd.DatetimeIndex(["2024-01-01"]))) is None
    assert without_gaps(pd.Index([0, 1, 10**12])) is None


@pytest.mark.parametrize(
    ("calendar", "seasons"),
    [
        ("min", (1440, 10080)),
        ("5min", (288, 2016)),
        ("10min", (144, 1008)),
        ("15min", (96, 672)),
        ("30min", (48, 336)),
        ("h", (24, 168)),
        ("2h", (12, 84)),
        ("7min", (1440,)),  # no day has a whole number of them, and a week has
        ("D", (7,)),
        ("2D", ()),
        ("B", (5,)),
        ("W-FRI", (52,)),
        ("2W-SUN", ()),
        *((months, (12,)) for months in ("MS", "ME", "BMS", "BME")),
        *((quarters, (4,)) for quarters in ("QS-OCT", "QE-NOV", "BQS", "BQE")),
        *((years, ()) for years in ("YS", "YE", "BYS", "BYE-JUN")),
    ],
)
@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_the_calendar_has_seasons(calendar, seasons, zone):
    times = pd.Index(pd.Series(pd.date_range("2020-01-01", periods=60, freq=calendar, tz=zone)))
    assert seasons_of(even(times)) == seasons


def test_series_of_several_calendars_have_no_season():
    hourly, daily = (series_of(pd.date_range("2024", periods=9, freq=freq)) for freq in ("h", "D"))
    assert calendar_seasons([hourly, hourly]) == (24, 168)
    assert calendar_seasons([hourly, daily]) == ()
    assert calendar_seasons([series_of(range(9))]) == ()


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize(
    "stamps",
    [
        pd.date_range("2024-01-01", periods=12),
        pd.date_range("2024-01-01", periods=12, tz="Europe/Paris"),
        pd.period_range("2024-01", periods=12, freq="M"),
        pd.Index(np.arange(2000, 2012)),
        pd.Index(np.arange(202301, 202313)),
        pd.Index([f"{year}Q{quarter}" for year in (2010, 2011, 2012) for quarter in (1, 2, 3, 4)]),
    ],
)
def test_categories_of_stamps_are_read_as_their_values(silence, stamps, gap):
    """As of a column that was read as categories to save memory."""
    plain = pd.Series(stamps)
    if gap:
        plain[0] = None
    categories = plain.astype("category")
    times, style = read_stamps(categories)
    expected, as_plain = read_stamps(plain)
    assert times.equals(expected)
    assert style == as_plain
    assert is_styled(categories) == is_styled(plain)
    if not gap:
        ahead = future_times(series_of(categories), 2)
        assert ahead.equals(future_times(series_of(plain), 2))
        assert ahead.notna().all()


@pytest.mark.parametrize("stamps", [["2010Q1", "2010Q2", "2010Q3"], [202401, 202402, 202403]])
def test_rows_may_have_the_same_index(silence, stamps):
    """As where tables were put together by `pd.concat` without `ignore_index`."""
    part = pd.Series([*stamps, None])
    times, style = read_stamps(pd.concat([part, part]))
    once, _ = read_stamps(part)
    assert times.equals(once.append(once))
    assert style is not None


def test_of_a_time_that_comes_twice_it_is_the_first():
    """On April 6 clocks in Santiago were turned back from midnight to 23:00."""
    nights = pd.date_range("2024-03-25 23:30", periods=10, tz="America/Santiago")
    ahead = following(even(nights), 4).astype(str).tolist()
    assert ahead[2:] == ["2024-04-06 23:30:00-03:00", "2024-04-07 23:30:00-04:00"]
