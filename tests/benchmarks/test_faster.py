"""The record of faster ways to forecast compares like with like.

What the page on speed tells of it is checked in `tests/test_speed_page.py`.
"""

from benchmarks.faster import FLOAT32, HURRIED, INT8, RECORD, WAYS
from m2lib.files import ROOT, read_json
from study.paper.textbook import CHOOSING

ROWS = read_json(ROOT / "report" / "results" / RECORD)["rows"]


def forecasts_of(way):
    """Return what tells a way's forecasts apart, source by source, beside the way itself."""
    forecasts = []
    for row in ROWS:
        if row["forecaster"] == way:
            forecasts.append((row["source"], row["values"], row["adapter"], row["series"]))
    return sorted(forecasts)


def test_the_recorded_ways_are_those_of_the_benchmark():
    assert {row["forecaster"] for row in ROWS} == set(WAYS)


def test_only_the_half_for_choosing_is_forecast():
    assert {row["split"] for row in ROWS} == {CHOOSING}


def test_all_ways_forecast_the_same_series_with_the_same_adapter():
    assert forecasts_of(INT8) == forecasts_of(FLOAT32)
    assert forecasts_of(HURRIED) == forecasts_of(FLOAT32)
