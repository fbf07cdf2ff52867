"""The record of forecasts in 8 bits, and the page that tells it."""

import numpy as np

from benchmarks.faster import FLOAT, RECORD, WHOLE
from m2lib.files import ROOT, read_json
from study.paper.textbook import CHOOSING, compared, errors_by_series, held

ROWS = read_json(ROOT / "report" / "results" / RECORD)["rows"]


def test_both_dtypes_forecast_the_same_series_of_the_half_for_choosing():
    places = {}
    for dtype in (FLOAT, WHOLE):
        places[dtype] = [
            (row["source"], row["split"], row["values"], row["adapter"], *row["series"])
            for row in ROWS
            if row["forecaster"] == dtype
        ]
    assert places[FLOAT] == places[WHOLE]
    assert {split for _, split, *_ in places[FLOAT]} == {CHOOSING}


def test_the_page_on_speed_tells_what_int8_gains_and_costs():
    page = " ".join((ROOT / "book" / "speed.md").read_text(encoding="utf-8").split())
    comparison = compared(errors_by_series(ROWS), WHOLE, FLOAT)
    forecasts = sum(len(row["mase"]) for row in ROWS) // 2
    sources = len({row["source"] for row in ROWS})
    assert f"The adapter `general` forecast the {sources} sources" in page
    assert f"{forecasts} forecasts of {comparison.count} series" in page

    seconds = {
        dtype: np.sum([row["seconds"] for row in ROWS if row["forecaster"] == dtype]) / forecasts
        for dtype in (FLOAT, WHOLE)
    }
    assert (
        f"took {seconds[WHOLE]:.1f} seconds of the core in int8, and {seconds[FLOAT]:.1f}" in page
    )
    ratio = comparison.over_series
    assert f"it is {ratio.ratio:.2f} times that in float32" in page
    assert f"from {ratio.low:.2f} to {ratio.high:.2f}" in page
    assert f"smaller on {comparison.better} of the {comparison.count} series" in page
    shares = f"hold {held(ROWS, WHOLE):.0%} in int8, and {held(ROWS, FLOAT):.0%} in float32"
    assert shares in page
