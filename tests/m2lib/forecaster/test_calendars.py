"""Time stamps: dates in zones, whole numbers and quarters are read, continued and written again.

Gaps among them are found, and the calendar knows which seasons they have.
"""

import re
from datetime import date
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2lib.forecaster import Columns, Item, items_of
from m2lib.forecaster.calendars import (
    following,
    is_styled,
    read_stamps,
    seasons_of,
    with_frequency,
    without_gaps,
)
from m2lib.forecaster.tables import as_written, calendar_seasons, future_times

without_a_warning = pytest.mark.filterwarnings("error")


def series_of(stamps):
    """Return the series 0, 1, 2, ... of a table with these time stamps."""
    table = pd.DataFrame({"ds": stamps, "y": np.arange(len(stamps))})
    (series,) = items_of(table, Columns(None, "ds", ("y",)), "t.csv", least=3)
    return series


CALENDARS = (
    "D",
    "h",
    "15min",
    "36h",
    "3D",
    "W-WED",
    "2W-SUN",
    "B",  # business days
    "MS",  # the first days of months
    "ME",  # their last days
    "QS",
    "QE",
    "YS",
    "YE",
    "2ME",
)


@given(
    calendar=st.sampled_from(CALENDARS),
    start=st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    steps=st.integers(10, 40),
    as_text=st.booleans(),
)
def test_a_calendar_is_found_and_continued(calendar, start, steps, as_text):
    whole = pd.date_range(start, periods=steps + 7, freq=calendar)
    known = whole[:steps]
    series = series_of(known.astype(str) if as_text else known)

    assert series.times.tolist() == known.tolist()
    assert future_times(series, 7).tolist() == whole[steps:].tolist()

    # A series that is cut short, as to evaluate forecasts, keeps its calendar.
    cut = Item("series", series.times[:-3], series.values[:-3])
    assert future_times(cut, 3).equals(series.times[-3:])


@pytest.mark.parametrize(
    ("numbers", "ahead"),
    [
        pytest.param(range(1845, 1860), [1860, 1861], id="years"),
        pytest.param(np.arange(250, 255, dtype=np.uint8), [255, 256], id="of 8 bits"),
        pytest.param(pd.array(range(10), dtype="Int64"), [10, 11], id="a type of pandas"),
        pytest.param(pd.Series(range(10), dtype=object), [10, 11], id="objects"),
        pytest.param([Decimal(year) for year in range(1990, 2000)], [2000, 2001], id="decimals"),
        pytest.param(np.arange(10, dtype=np.float16), [10.0, 11.0], id="of 16 bits"),
        pytest.param(np.linspace(0, 2, 11), [2.2, 2.4], id="fractions"),
    ],
)
def test_numbers_are_times_too(numbers, ahead):
    after = future_times(series_of(numbers), 2)
    assert after.tolist() == pytest.approx(ahead)
    assert after.dtype == np.asarray(ahead).dtype


def test_numbers_may_stand_in_any_order():
    with pytest.warns(UserWarning, match="the rows of 1 of 1 series were sorted by time"):
        series = series_of(np.array([5, 3, 4], dtype=np.uint8))  # 3 - 5 would wrap around
    assert series.times.tolist() == [3, 4, 5]
    assert series.values[:, 0].tolist() == [1, 2, 0]


@without_a_warning
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("calendar", ["15min", "h", "6h", "D", "B", "W-MON", "MS", "QE"])
def test_a_zone_is_taken_and_given_back(zone, calendar):
    whole = pd.date_range("2021-01-01", "2026-11-05", freq=calendar, tz=zone)

    # Seven days reach over New York's change back from summer time on 1 November 2026, and seven
    # hours over the change to it in Paris on 31 March 2024. Longer steps reach over others.
    before_winter = len(whole) - 7
    before_summer = whole.searchsorted(pd.Timestamp("2024-03-30 22:00", tz=zone))
    for end in (before_winter, before_summer):
        known = whole[max(0, end - 400) : end]
        ahead = future_times(series_of(known), 7)
        assert ahead.tolist() == whole[end : end + 7].tolist()
        assert ahead.dtype == whole.dtype


@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
def test_dates_are_read_without_a_change_to_the_filters_of_warnings(zone, monkeypatch):
    monkeypatch.setattr("m2lib.forecaster.calendars.warnings", None)
    dates = pd.Series(pd.date_range("2024-01-31", periods=3, tz=zone))
    times, style = read_stamps(dates)
    assert times.tolist() == dates.tolist()
    assert style is None


@without_a_warning
@pytest.mark.parametrize(
    ("mark", "offset"),
    [
        ("Z", "UTC"),
        ("+00:00", "UTC"),
        ("+0530", "UTC+05:30"),
        ("-03", "UTC-03"),
        # What pandas itself reads with the other sign, or without the offset.
        (" GMT+5", "UTC+05"),
        (" UTC-03", "UTC-03"),
        (" UTC +1", "UTC+01"),
        (" GMT+0530 (IST)", "UTC+05:30"),
    ],
)
def test_one_offset_is_kept(mark, offset):
    hours = pd.date_range("2024-01-31T20:00:00", periods=12, freq="h")
    series = series_of(hours.strftime("%Y-%m-%dT%H:%M:%S") + mark)

    assert str(series.times.tz).startswith(offset)
    assert series.times.tz_localize(None).tolist() == hours.tolist()
    assert future_times(series, 1).tolist() == [series.times[-1] + pd.Timedelta(hours=1)]


def test_offsets_of_summer_time_become_one_clock():
    paris = pd.date_range("2024-03-30T20:00", periods=12, freq="h", tz="Europe/Paris")
    with pytest.warns(UserWarning, match="^column 'ds': offsets from UTC change, so all"):
        series = series_of(paris.astype(str))  # ..., 01:00:00+01:00, 03:00:00+02:00, ...

    assert series.times.tolist() == paris.tz_convert("UTC").tolist()
    assert str(future_times(series, 1)[0]) == "2024-03-31 07:00:00+00:00"


# The first date, 05.03.2024, could be the third of May, but 31.03.2024 shows that the day is first.
@pytest.mark.parametrize("form", ["%a %b %d %Y %H:%M:%S GMT%z", "%d.%m.%Y %H:%M %z"])
def test_offsets_that_change_are_read_in_other_forms(form):
    paris = pd.date_range("2024-03-05 19:00", periods=120, freq="6h", tz="UTC")
    paris = paris.tz_convert("Europe/Paris")
    with pytest.warns(UserWarning, match="offsets from UTC change") as warned:
        series = series_of(paris.strftime(form))
    assert len(warned) == 1  # pandas does not warn of arguments of its own
    assert series.times.tolist() == paris.tz_convert("UTC").tolist()


def test_offsets_of_whole_hours_may_change():
    hours = ["2024-03-31 00:00 UTC+1", "2024-03-31 01:00 UTC+1", "2024-03-31 03:00 UTC+2"]
    with pytest.warns(UserWarning, match="offsets from UTC change"):
        series = series_of(hours)
    assert series.times.hour.tolist() == [23, 0, 1]


def test_pythons_dates_of_several_zones_become_one_clock():
    utc = pd.date_range("2024-03-30T20:00", periods=12, freq="h", tz="UTC")
    stamps = [*utc[:5].tz_convert("Europe/Paris"), *utc[5:].tz_convert("Asia/Tokyo")]
    for cells in (stamps, [stamp.to_pydatetime() for stamp in stamps]):
        with pytest.warns(UserWarning, match="^column 'ds': offsets from UTC change, so all"):
            series = series_of(cells)
        assert series.times.tolist() == utc.tolist()


@without_a_warning
@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S%z", "%a %b %d %Y %H:%M:%S GMT%z"])
def test_days_stay_days_where_their_offsets_change(form):
    paris = pd.date_range("2024-03-25", periods=12, tz="Europe/Paris")
    series = series_of(paris.strftime(form))
    assert series.times.tolist() == paris.tz_localize(None).tolist()
    assert future_times(series, 1).tolist() == [pd.Timestamp("2024-04-06")]


@pytest.mark.parametrize("mark", ["/", " - "])
def test_the_first_and_the_last_day_of_a_week_are_no_date(mark):
    """As pandas writes weeks: 2024-01-01/2024-01-07, which it reads as a time with an offset."""
    weeks = pd.period_range("2024-01-01", periods=12, freq="W-SUN").astype(str)
    stamps = weeks.str.replace("/", mark)
    with pytest.raises(ValueError, match=f"row 1, column 'ds': '{stamps[0]}' is no date"):
        series_of(stamps)


def test_a_stamp_without_an_offset_among_others_is_named():
    hours = pd.date_range("2024-03-30", periods=48, freq="h", tz="Europe/Paris")
    stamps = hours.astype(str).tolist()
    stamps[40] = "2024-03-31 17:00:00"
    with (
        pytest.raises(ValueError, match="row 41, column 'ds': '2024-03-31 17:00:00' is no date"),
        pytest.warns(UserWarning, match="offsets from UTC change"),
    ):
        series_of(stamps)


@pytest.mark.parametrize("form", ["%Y-M%m", "M%m %Y"])
def test_the_code_of_a_month_is_no_date(form):
    """pandas makes it a second of 1 January."""
    months = pd.date_range("2024-01-01", periods=12, freq="MS").strftime(form)
    with pytest.raises(ValueError, match=f"row 1, column 'ds': '{months[0]}' is no date"):
        series_of(months)


@pytest.mark.parametrize("mark", ["/", "-"])
def test_fiscal_years_are_no_months(mark):
    """Of 2000/01, 2001/02 and so on, pandas makes months that are thirteen months apart."""
    years = [f"{year}{mark}{(year + 1) % 100:02}" for year in range(2000, 2012)]
    with pytest.raises(ValueError, match=f"row 1, column 'ds': '{years[0]}' is no date"):
        series_of(years)


@pytest.mark.parametrize("form", ["%H:%M", "%H:%M:%S", "%I:%M %p", "%H:%M+01:00"])
def test_a_time_of_day_alone_is_no_date(form):
    """pandas makes it a time of the day on which it is asked."""
    hours = pd.date_range("2024-01-01", periods=12, freq="h").strftime(form)
    message = f"row 1, column 'ds': '{hours[0]}' is no date"
    with pytest.raises(ValueError, match=re.escape(message)):
        series_of(hours)


@pytest.mark.parametrize("end", ["%H:59", "%H"])
def test_the_end_of_an_hour_is_no_offset(end):
    hours = pd.date_range("2024-01-05 15:00", periods=8, freq="h")
    stamps = hours.strftime(f"%Y-%m-%d %H:00-{end}")
    with pytest.raises(ValueError, match=f"row 1, column 'ds': '{stamps[0]}' is no date"):
        series_of(stamps)


THIRD_FRIDAYS = pd.date_range("2020-01-01", periods=60, freq="WOM-3FRI")
THURSDAYS = pd.date_range("2005-01-01", "2024-12-31", freq="WOM-4THU")
FROM_10_TO_17 = [
    day + pd.Timedelta(hours=hour)
    for day in pd.date_range("2024-01-01", periods=12)
    for hour in range(10, 18)
]


@pytest.mark.parametrize(
    "stamps",
    [
        pytest.param(THIRD_FRIDAYS.delete([17, 25]), id="third Fridays without two months"),
        pytest.param(THIRD_FRIDAYS[2::3], id="third Fridays of quarters"),
        pytest.param(THURSDAYS[THURSDAYS.month == 11], id="Thanksgivings"),
        pytest.param(pd.date_range("2020-01-01", periods=24, freq="LWOM-FRI"), id="last Fridays"),
        pytest.param(pd.DatetimeIndex(FROM_10_TO_17), id="a shop's hours"),
        pytest.param(
            pd.date_range("2024-01-01", periods=60, freq="h").delete(range(30, 46)),
            id="hours, of which sixteen are missing",
        ),
    ],
)
def test_what_pandas_alone_calls_even_is_not(stamps):
    """It looks at weekdays and weeks of the month, or at hours, and not at each stamp."""
    assert stamps.inferred_freq is not None
    assert with_frequency(pd.DatetimeIndex(stamps, freq=None)) is None


def test_a_gap_that_pandas_takes_for_a_night_is_filled():
    hours = pd.date_range("2024-01-01", periods=60, freq="h")
    table = pd.DataFrame({"ds": hours, "y": range(60)}).drop(index=range(30, 46))
    with pytest.warns(UserWarning, match=r"steps that were filled \(linear\): 16"):
        (series,) = items_of(table, Columns(None, "ds", ("y",)), fill="linear")
    assert series.values[:, 0].tolist() == list(range(60))


def test_rounded_numbers_are_continued_by_their_mean_step():
    rounded = pd.Index([0.0, 1.0004, *range(2, 11)])
    assert following(with_frequency(rounded), 2).tolist() == pytest.approx([11, 12], abs=1e-6)


def test_a_midnight_that_clocks_skip_is_the_hour_after():
    """As 8 September 2024 began, the clocks of Santiago were put forward to 1:00."""
    days = pd.date_range("2024-08-25", "2024-09-07", tz="America/Santiago")
    ahead = following(with_frequency(days), 2)
    assert ahead.astype(str).tolist() == ["2024-09-08 01:00:00-03:00", "2024-09-09 00:00:00-03:00"]


def test_a_time_that_comes_twice_is_the_first_of_the_two():
    """At the end of 6 April 2024 the clocks of Santiago were turned back to 23:00."""
    nights = pd.date_range("2024-03-25 23:30", periods=10, tz="America/Santiago")
    ahead = following(with_frequency(nights), 4).astype(str).tolist()
    assert ahead[2:] == ["2024-04-06 23:30:00-03:00", "2024-04-07 23:30:00-04:00"]


@without_a_warning
@pytest.mark.parametrize(
    ("stamps", "ahead"),
    [
        pytest.param([202410, 202411, 202412], [202501, 202502], id="months as numbers"),
        pytest.param([20240129, 20240130, 20240131], [20240201, 20240202], id="days as numbers"),
        pytest.param([20231231, 20240331, 20240630], [20240930, 20241231], id="ends of quarters"),
        pytest.param(
            [2024123122, 2024123123, 2025010100], [2025010101, 2025010102], id="hours as numbers"
        ),
        pytest.param(
            [202412312340, 202412312350, 202501010000],
            [202501010010, 202501010020],
            id="minutes as numbers",
        ),
        pytest.param(
            pd.array([202410, 202411, 202412], dtype="UInt32"),
            [202501, 202502],
            id="a type of pandas",
        ),
        pytest.param(["202410", "202411", "202412"], ["202501", "202502"], id="months as text"),
        pytest.param(["2010Q1", "2010Q2", "2010Q3"], ["2010Q4", "2011Q1"], id="quarters"),
        pytest.param(["2010-Q1", "2010-Q2", "2010-Q3"], ["2010-Q4", "2011-Q1"], id="with a dash"),
        pytest.param(["2010q1", "2010q2", "2010q3"], ["2010q4", "2011q1"], id="with a small q"),
        pytest.param(["2010 Q1", "2011 Q1", "2012 Q1"], ["2013 Q1", "2014 Q1"], id="a year apart"),
        # Numbers that are no dates stay numbers.
        pytest.param([2010, 2011, 2012], [2013, 2014], id="years"),
        pytest.param([202452, 202453, 202454], [202455, 202456], id="no month is the 52nd"),
        pytest.param(
            [20240229, 20240230, 20240231], [20240232, 20240233], id="no day is 30 February"
        ),
        pytest.param([100001, 100002, 100003], [100004, 100005], id="months of the year 1000"),
        pytest.param([0, 1, 2], [3, 4], id="counted steps"),
    ],
)
def test_stamps_are_continued_as_they_are_written(stamps, ahead):
    series = series_of(stamps)
    assert as_written(series, series.times).tolist() == list(stamps)
    assert future_times(series, 2).tolist() == ahead


@without_a_warning
@pytest.mark.parametrize(
    ("stamps", "ahead"),
    [
        (
            pd.period_range("2010Q1", periods=3, freq="Q"),
            pd.PeriodIndex(["2010Q4", "2011Q1"], freq="Q"),
        ),
        (
            pd.period_range("2010-01", periods=3, freq="M"),
            pd.PeriodIndex(["2010-04", "2010-05"], freq="M"),
        ),
    ],
)
def test_periods_are_continued_as_periods(stamps, ahead):
    series = series_of(stamps)
    assert as_written(series, series.times).tolist() == stamps.tolist()

    after = future_times(series, 2)
    assert after.tolist() == ahead.tolist()
    assert after.dtype == ahead.dtype


@pytest.mark.parametrize(
    "weeks",
    [
        pytest.param([202411, 202412, 202413], id="no month is the 13th"),
        pytest.param([202051, 202052, 202053], id="a year of 53 weeks"),
    ],
)
def test_numbers_that_may_be_weeks_are_said_to_be_numbers(weeks):
    first, _, last = weeks
    with pytest.warns(UserWarning, match=f"^column 'ds': {first} is read as a number, and after"):
        series = series_of(weeks)
    assert future_times(series, 2).tolist() == [last + 1, last + 2]


def test_weeks_are_continued_when_they_are_written_as_the_warning_says():
    weeks = pd.Series([202450, 202451, 202452])
    dates = pd.to_datetime(weeks.astype(str) + "1", format="%G%V%u")
    ahead = future_times(series_of(dates), 2)
    assert ahead.tolist() == [pd.Timestamp("2024-12-30"), pd.Timestamp("2025-01-06")]


@without_a_warning
def test_dates_with_two_readings_are_said_to_be_read_month_first():
    # Meant as the first days of twelve months, and read as twelve days of January.
    first_days = [f"01/{month:02}/2020" for month in range(1, 13)]
    with pytest.warns(UserWarning, match="column 'ds': 01/01/2020 and its like are read month"):
        series = series_of(first_days)
    assert future_times(series, 1)[0] == pd.Timestamp("2020-01-13")


@without_a_warning
@pytest.mark.parametrize("year", ["2024", "24"])
@pytest.mark.parametrize("mark", ["/", "."])
def test_the_day_is_read_first_where_no_month_is_meant(year, mark):
    january = [f"{day:02}{mark}01{mark}{year}" for day in range(1, 15)]
    times, _ = read_stamps(pd.Series(january, name="ds"))
    assert times.tolist() == pd.date_range("2024-01-01", periods=14).tolist()


@without_a_warning
@pytest.mark.parametrize("form", ["%a %d/%m/%Y", "%H:%M %d/%m/%Y", "%d/%m/%YT%H:%M"])
def test_a_weekday_or_a_time_may_stand_beside_the_date(form):
    days = pd.date_range("2024-01-01", periods=14)
    times, _ = read_stamps(pd.Series(days.strftime(form), name="ds"))
    assert times.tolist() == days.tolist()

    # No number of the first twelve days is above 12.
    with pytest.warns(UserWarning, match="01/01/2024.* and its like are read month first"):
        read_stamps(pd.Series(days[:12].strftime(form), name="ds"))


@without_a_warning
@pytest.mark.parametrize(
    "stamps",
    [
        pytest.param(pd.date_range("2023-05-01", periods=14, freq="MS"), id="months"),
        pytest.param(pd.date_range("2023-01-01", periods=8, freq="QS"), id="quarters"),
    ],
)
def test_the_day_is_read_first_where_several_years_have_the_same_first_number(stamps):
    """01/05/2023, 01/06/2023 and so on, which nobody means for days of January in two years."""
    times, _ = read_stamps(pd.Series(stamps.strftime("%d/%m/%Y"), name="ds"))
    assert times.tolist() == stamps.tolist()


def test_the_month_is_read_first_where_several_years_have_the_same_second_number():
    months = pd.date_range("2023-05-01", periods=14, freq="MS")
    with pytest.warns(UserWarning, match="05/01/2023 and its like are read month first"):
        times, _ = read_stamps(pd.Series(months.strftime("%m/%d/%Y"), name="ds"))
    assert times.tolist() == months.tolist()


@without_a_warning
@pytest.mark.parametrize(
    "stamps",
    [
        pytest.param(["01/11/2020", "01/12/2020", "01/13/2020"], id="no month is the 13th"),
        pytest.param(["01/01/2020", "02/02/2020", "03/03/2020"], id="the same either way"),
        pytest.param(["2020-01-01", "2020-02-01", "2020-03-01"], id="the year first"),
    ],
)
def test_dates_with_one_reading_are_read_without_a_word(stamps):
    times, _ = read_stamps(pd.Series(stamps, name="ds"))
    assert times.tolist() == pd.to_datetime(stamps).tolist()


def test_whole_numbers_are_dates_beside_an_empty_cell():
    table = pd.DataFrame(
        {
            "id": ["a", "a", "a", "b", "b", "b"],
            "month": [202411, 202412, 202501, 202411, 202412, None],  # floats, because of the None
            "y": [1, 2, 3, 1, 2, 3],
        }
    )
    message = "series 'b' is left out: the table, row 6, column 'month'"
    with pytest.warns(UserWarning, match=message):
        (series,) = items_of(table, Columns("id", "month", ("y",)), least=3, skip=True)
    assert future_times(series, 1).tolist() == [202502]


EACH_KIND_OF_STAMPS = pytest.mark.parametrize(
    "stamps",
    [
        pytest.param(pd.date_range("2024-01-01", periods=12), id="dates"),
        pytest.param(pd.date_range("2024-01-01", periods=12, tz="Europe/Paris"), id="in a zone"),
        pytest.param(pd.period_range("2024-01", periods=12, freq="M"), id="periods"),
        pytest.param(pd.Index(range(2000, 2012)), id="years"),
        pytest.param(pd.Index(range(202301, 202313)), id="months as numbers"),
        pytest.param(
            pd.period_range("2010Q1", periods=12, freq="Q").strftime("%YQ%q"), id="quarters as text"
        ),
    ],
)


@without_a_warning
@pytest.mark.parametrize("gap", [False, True])
@EACH_KIND_OF_STAMPS
def test_categories_of_stamps_are_read_as_their_values(stamps, gap):
    """A column may have been read as categories to save memory."""
    plain = pd.Series(stamps)
    if gap:
        plain[0] = None
    categories = plain.astype("category")

    times, style = read_stamps(categories)
    expected_times, expected_style = read_stamps(plain)
    assert times.equals(expected_times)
    assert style == expected_style
    assert is_styled(categories) == is_styled(plain)


@without_a_warning
@EACH_KIND_OF_STAMPS
def test_categories_of_stamps_are_continued_as_their_values(stamps):
    plain = pd.Series(stamps)
    ahead = future_times(series_of(plain.astype("category")), 2)
    assert ahead.equals(future_times(series_of(plain), 2))
    assert ahead.notna().all()


@without_a_warning
@pytest.mark.parametrize("stamps", [["2010Q1", "2010Q2", "2010Q3"], [202401, 202402, 202403]])
def test_rows_may_have_the_same_index(stamps):
    """As where tables were put together by `pd.concat` without `ignore_index`."""
    part = pd.Series([*stamps, None])
    times, style = read_stamps(pd.concat([part, part]))

    times_of_part, _ = read_stamps(part)
    assert times.equals(times_of_part.append(times_of_part))
    assert style is not None


HOURS = ("h", "30min", "36h")
DAYS_OR_LONGER = ("D", "3D", "W-WED", "B", "MS", "ME", "QS", "QE", "YS", "2ME")


@given(
    calendar=st.sampled_from(HOURS + DAYS_OR_LONGER),
    start=st.dates(date(1950, 1, 1), date(2050, 1, 1)),
    missing=st.sets(st.integers(5, 30), max_size=20),
    zone=st.sampled_from([None, "Europe/Paris"]),
)
def test_missing_rows_are_found_on_any_calendar(calendar, start, missing, zone):
    if calendar in HOURS:
        whole = pd.date_range(start, periods=40, freq=calendar, tz=zone)
    else:  # these begin at midnight on the local clock
        local = pd.date_range(start, periods=40, freq=calendar)
        whole = local.tz_localize(zone, nonexistent="NaT", ambiguous="NaT")
    kept = [place for place in range(40) if place not in missing]

    times, places = without_gaps(whole[kept])

    assert times.tolist() == whole.tolist()
    assert places.tolist() == kept


def test_a_spacing_is_learned_from_the_other_series():
    days = pd.date_range("2024-01-01", periods=30)
    open_days = [0, 4, 7, 12, 14, 19, 22, 26, 29]  # no three neighbours are evenly spaced
    rare = days[open_days]
    assert without_gaps(rare) is None

    table = pd.DataFrame(
        {
            "id": ["often"] * 30 + ["rare"] * 9,
            "day": [*days, *rare],
            "y": [*range(30), *range(1, 10)],
        }
    )
    with pytest.warns(UserWarning, match=r"steps that were filled \(zero\): 21"):
        often_open, rarely_open = items_of(table, Columns("id", "day", ("y",)), fill="zero")

    assert rarely_open.times.equals(often_open.times)
    assert np.flatnonzero(rarely_open.values[:, 0]).tolist() == open_days


def test_of_many_patterns_of_stamps_the_most_frequent_are_looked_at():
    """Fifty are looked at, and here the first 58 are all different, and show no spacing."""
    steps = np.append(np.arange(2, 61), np.ones(150, dtype=int))  # 2, 3, ... 60, 1, 1, ... days
    days_passed = np.append(0, steps.cumsum())
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(days_passed, unit="D")

    times, places = without_gaps(pd.DatetimeIndex(days))

    assert times.equals(pd.date_range(days[0], days[-1]))
    assert places.tolist() == days_passed.tolist()


def test_gaps_among_numbers_are_found():
    times, places = without_gaps(pd.Index([1900, 1902, 1904, 1910]))
    assert times.tolist() == [1900, 1902, 1904, 1906, 1908, 1910]
    assert places.tolist() == [0, 1, 2, 5]


def test_numbers_of_no_common_step_have_no_spacing():
    assert without_gaps(pd.Index([0, 1, 2.5])) is None
    assert without_gaps(pd.Index([0, 1, 2.01])) is None


def test_a_series_with_gaps_becomes_ten_times_as_long_at_most():
    times, _ = without_gaps(pd.Index([0, 1, 2, 39]))
    assert len(times) == 40
    assert without_gaps(pd.Index([0, 1, 2, 40])) is None

    first = pd.Timestamp("2024-02-01")
    months = [first + pd.DateOffset(months=count) for count in (0, 1, 2, 39)]
    times, _ = without_gaps(pd.DatetimeIndex(months))
    assert len(times) == 40
    later = pd.DatetimeIndex([*months[:3], first + pd.DateOffset(months=40)])
    assert without_gaps(later) is None


def test_whole_numbers_are_continued_to_their_last_digit():
    nanoseconds = 1_700_000_000_000_000_001 + 1_000_000 * np.arange(12)
    ahead = future_times(series_of(nanoseconds), 2)
    assert ahead.tolist() == [1_700_000_000_012_000_001, 1_700_000_000_013_000_001]


def test_what_would_fill_the_memory_is_no_calendar():
    ten_seconds = pd.date_range("2000-01-01", periods=10, freq="s")
    years_later = pd.DatetimeIndex(["2024-01-01"])
    assert without_gaps(ten_seconds.append(years_later)) is None
    assert without_gaps(pd.Index([0, 1, 10**12])) is None


@pytest.mark.parametrize(
    ("calendar", "seasons"),
    [
        # a day and a week
        ("min", (1440, 10080)),
        ("5min", (288, 2016)),
        ("10min", (144, 1008)),
        ("15min", (96, 672)),
        ("30min", (48, 336)),
        ("h", (24, 168)),
        ("2h", (12, 84)),
        ("7min", (1440,)),  # no day has a whole number of them, and a week has
        # a week
        ("D", (7,)),
        ("2D", ()),
        ("B", (5,)),
        # a year
        ("W-FRI", (52,)),
        ("2W-SUN", ()),
        ("MS", (12,)),
        ("ME", (12,)),
        ("BMS", (12,)),
        ("BME", (12,)),
        ("WOM-3FRI", (12,)),
        ("QS-OCT", (4,)),
        ("QE-NOV", (4,)),
        ("BQS", (4,)),
        ("BQE", (4,)),
        ("YS", ()),
        ("YE", ()),
        ("BYS", ()),
        ("BYE-JUN", ()),
    ],
)
@pytest.mark.parametrize("zone", [None, "America/New_York"])
def test_the_calendar_has_seasons(calendar, seasons, zone):
    dates = pd.date_range("2020-01-01", periods=60, freq=calendar, tz=zone)
    times = pd.Index(pd.Series(dates))  # which does not know its frequency
    assert seasons_of(with_frequency(times)) == seasons


def test_the_seasons_of_a_table_are_those_of_its_calendar():
    hourly = series_of(pd.date_range("2024", periods=9, freq="h"))
    assert calendar_seasons([hourly, hourly]) == (24, 168)


def test_series_of_several_calendars_have_no_season():
    hourly = series_of(pd.date_range("2024", periods=9, freq="h"))
    daily = series_of(pd.date_range("2024", periods=9, freq="D"))
    assert calendar_seasons([hourly, daily]) == ()


def test_series_of_numbered_steps_have_no_season():
    assert calendar_seasons([series_of(range(9))]) == ()
