"""The record of faster ways to forecast, and the page that tells it."""

import numpy as np

from benchmarks.faster import FLOAT32, HURRIED, INT8, RECORD, WAYS
from m2lib.files import ROOT, read_json
from study.paper.textbook import CHOOSING, compared, errors_by_series, held

ROWS = read_json(ROOT / "report" / "results" / RECORD)["rows"]
PAGE = " ".join((ROOT / "book" / "speed.md").read_text(encoding="utf-8").split())


def rows_of(way):
    return [row for row in ROWS if row["forecaster"] == way]


def seconds_of(way):
    forecasts = sum(len(row["mase"]) for row in rows_of(way))
    return np.sum([row["seconds"] for row in rows_of(way)]) / forecasts


def test_all_ways_forecast_the_same_series_of_the_half_for_choosing():
    places = {
        way: sorted(
            (row["source"], row["split"], row["values"], row["adapter"], *row["series"])
            for row in rows_of(way)
        )
        for way in WAYS
    }
    assert places[FLOAT32] == places[INT8] == places[HURRIED]
    assert {split for _, split, *_ in places[FLOAT32]} == {CHOOSING}
    assert {row["forecaster"] for row in ROWS} == set(WAYS)


def test_the_page_on_speed_tells_what_int8_gains_and_costs():
    comparison = compared(errors_by_series(ROWS), INT8, FLOAT32)
    forecasts = sum(len(row["mase"]) for row in rows_of(FLOAT32))
    sources = len({row["source"] for row in ROWS})
    assert f"The adapter `general` forecast the {sources} sources" in PAGE
    assert f"{forecasts} forecasts of {comparison.count} series" in PAGE
    assert (
        f"took {seconds_of(INT8):.1f} seconds of the core in int8, and {seconds_of(FLOAT32):.1f}"
        in PAGE
    )
    ratio = comparison.over_series
    assert f"it is {ratio.ratio:.2f} times that in float32" in PAGE
    assert f"from {ratio.low:.2f} to {ratio.high:.2f}" in PAGE
    assert f"smaller on {comparison.better} of the {comparison.count} series" in PAGE
    shares = f"hold {held(ROWS, INT8):.0%} in int8, and {held(ROWS, FLOAT32):.0%} in float32"
    assert shares in PAGE


def test_the_page_on_speed_tells_what_a_hurry_costs():
    comparison = compared(errors_by_series(ROWS), HURRIED, INT8)
    ratio = comparison.over_series
    assert (
        f"{ratio.ratio:.2f} times that of all 20 samples and the longer past "
        f"({ratio.low:.2f} to {ratio.high:.2f}, smaller on {comparison.better} of the "
        f"{comparison.count} series)" in PAGE
    )
    assert f"took {seconds_of(HURRIED):.1f} seconds instead of {seconds_of(INT8):.1f}" in PAGE
    assert f"bands hold {held(ROWS, HURRIED):.0%}" in PAGE
