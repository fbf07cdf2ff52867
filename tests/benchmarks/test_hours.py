"""The benchmark of hourly series draws its moments, repeats a period, and compares like with like.

What the page on real tables tells of its record is checked in `tests/test_real_tables_page.py`.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks import hours
from benchmarks.hours import DAY, LAST_WEEK, RECORD, WEEK
from benchmarks.sources import TextbookSource
from m2lib.files import ROOT, read_json
from study.paper.textbook import CHOOSING

ROWS = read_json(ROOT / "report" / "results" / RECORD)["rows"]


@pytest.fixture
def two_columns():
    """Return a source of two series, whose days have two steps.

    In one of them a value is missing, and the other one does not move any more from step 600 on.
    """
    values = np.resize([1.0, 2.0], 1000)
    values[500] = np.nan
    closed = np.where(np.arange(1000) < 600, values, 3.0)
    frame = pd.DataFrame({"open": values, "closed": closed})
    return TextbookSource(
        "days of two steps", CHOOSING, horizon=6, season=2, origins=20, load=lambda: frame
    )


def test_each_series_is_forecast_at_as_many_moments_as_it_has_origins(two_columns):
    numbers = [number for number, _, _ in hours.cuts_of(two_columns)]
    assert numbers == [0] * 20 + [1] * 20


def test_moments_are_drawn_where_all_is_known_and_each_day_moves(two_columns):
    six_weeks = 6 * 7 * 2
    for _, context, truth in hours.cuts_of(two_columns):
        assert len(context) == six_weeks
        assert len(truth) == two_columns.horizon
        assert np.isfinite(context).all()
        assert np.isfinite(truth).all()
        last_day = context[-2:]
        assert np.ptp(last_day) > 0


def test_the_same_moments_are_drawn_each_time(two_columns):
    first = hours.cuts_of(two_columns)
    second = hours.cuts_of(two_columns)
    for (_, context, _), (_, context_again, _) in zip(first, second, strict=True):
        assert np.array_equal(context, context_again)


@pytest.mark.parametrize(
    ("period", "error"),
    [
        pytest.param(2, 1.0, id="the last day"),
        pytest.param(4, 2.0, id="the last two days"),
    ],
)
def test_a_repetition_by_hand(period, error):
    # Three days of two steps, each 1 above the day before, so errors are in units of 1.
    context = np.array([0.0, 5.0, 1.0, 6.0, 2.0, 7.0])
    truth = np.array([3.0, 8.0])

    row = hours.repeated_row([(0, context, truth)], season=2, period=period)

    assert row["series"] == [0]
    assert row["mase"] == [error]


@pytest.mark.parametrize("name", [DAY, WEEK])
def test_all_forecasters_are_asked_about_the_same_series(name):
    of_the_model = {row["source"]: row["series"] for row in ROWS if row["forecaster"] == name}
    of_the_week = {row["source"]: row["series"] for row in ROWS if row["forecaster"] == LAST_WEEK}
    assert of_the_model == of_the_week
