"""The benchmark of hourly series: its moments, its repetitions, and the page that tells it."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import hours
from benchmarks.hours import DAY, LAST_DAY, LAST_WEEK, RECORD, WEEK
from benchmarks.textbook import TextbookSource
from m2lib.files import ROOT, read_json
from study.paper.textbook import CHOOSING, compared, errors_by_series, held

ROWS = read_json(ROOT / "report" / "results" / RECORD)["rows"]


def test_moments_are_drawn_where_all_is_known():
    values = np.resize([1.0, 2.0], 1000)
    values[500] = np.nan
    shut = np.where(np.arange(1000) < 600, values, 3.0)  # closed from some day on
    frame = pd.DataFrame({"open": values, "shut": shut})
    source = TextbookSource("days of two steps", CHOOSING, 6, 2, 20, lambda: frame)
    cuts = hours.cuts_of(source)
    assert [number for number, _, _ in cuts] == [0] * 20 + [1] * 20
    for _, context, truth in cuts:
        assert (len(context), len(truth)) == (6 * 7 * 2, 6)
        assert np.isfinite(context).all()
        assert np.isfinite(truth).all()
        assert np.ptp(context[-2:]) > 0
    again = hours.cuts_of(source)
    assert all(np.array_equal(one[1], other[1]) for one, other in zip(cuts, again, strict=True))


def test_a_repetition_by_hand():
    # Three days of two steps, and a truth of one more: the day before is off by 1, 1 by the unit of
    # a change from day to day of 1.
    context = np.array([0.0, 5.0, 1.0, 6.0, 2.0, 7.0])
    row = hours.repeated_row([(0, context, np.array([3.0, 8.0]))], season=2, period=2)
    assert (row["series"], row["mase"]) == ([0], [1.0])
    longer = hours.repeated_row([(0, context, np.array([3.0, 8.0]))], season=2, period=4)
    assert longer["mase"] == [2.0]


def test_the_page_on_real_tables_tells_what_the_week_gains():
    page = " ".join((ROOT / "book" / "real_tables.md").read_text(encoding="utf-8").split())
    errors = errors_by_series(ROWS)
    week = compared(errors, WEEK, DAY)
    forecasts = sum(len(row["mase"]) for row in ROWS if row["forecaster"] == WEEK)
    assert f"{forecasts} forecasts of {week.count} hourly and half-hourly series" in page
    day = compared(errors, WEEK, LAST_DAY).over_series
    repeated = compared(errors, WEEK, LAST_WEEK).over_series
    for text, ratio in (
        ("that with the day alone (95% interval", week.over_series),
        ("that of repeating the last day (", day),
        ("that of repeating the last week (", repeated),
    ):
        said = f"{ratio.ratio:.2f} times {text} {ratio.low:.2f} to {ratio.high:.2f}"
        assert said.replace("( ", "(") in page
    assert f"hold {held(ROWS, WEEK):.0%} ({held(ROWS, DAY):.0%} with the day alone)" in page


@pytest.mark.parametrize("name", [DAY, WEEK])
def test_both_are_of_the_same_forecasts(name):
    naive = {row["source"]: row["series"] for row in ROWS if row["forecaster"] == LAST_WEEK}
    told = {row["source"]: row["series"] for row in ROWS if row["forecaster"] == name}
    assert told == naive
