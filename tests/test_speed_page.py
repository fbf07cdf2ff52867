"""The tables and the numbers of the book's page on speed are the recorded ones."""

import numpy as np
import pytest

from benchmarks import bench, faster
from benchmarks.faster import FLOAT32, HURRIED, INT8
from m2lib.files import ROOT, read_json
from pages import rows_of, sentences_of, text_of
from study.paper.textbook import compared, errors_by_series, held

TEXT = text_of("book/speed.md")
PAGE = sentences_of("book/speed.md")

BENCHMARKS = {
    path.stem: read_json(path)
    for path in sorted((ROOT / "benchmarks" / "results").glob("*-cpu*.json"))
}
"""The records of `make bench`, by name: whole ones, or of memory or OpenVINO alone."""
WITH_OPENVINO = [name for name, record in BENCHMARKS.items() if "openvino" in record]
OF_MEMORY = [name for name in BENCHMARKS if name.endswith("-memory")]
WHOLE = [name for name in BENCHMARKS if not name.endswith(("-memory", "-openvino"))]


@pytest.mark.parametrize("name", WHOLE)
def test_the_tables_of_decoding_and_training_are_the_recorded_ones(name):
    record = BENCHMARKS[name]
    for part, title in bench.titles(record).items():
        assert bench.table(record[part], title) in TEXT


@pytest.mark.parametrize("name", OF_MEMORY)
def test_the_tables_of_memory_are_the_recorded_ones(name):
    assert bench.memory_table(BENCHMARKS[name]) in TEXT


def test_the_page_tells_on_which_processors_the_tables_at_its_end_were_measured():
    assert {BENCHMARKS[name]["device"] for name in WHOLE} == {"cpu: Intel Xeon, 2 threads"}
    assert {BENCHMARKS[name]["device"] for name in OF_MEMORY} == {"cpu: AMD EPYC, 2 threads"}
    assert "those of peak memory on two cores of an AMD EPYC" in PAGE


@pytest.mark.parametrize("name", WITH_OPENVINO)
def test_the_tables_of_openvino_are_the_recorded_ones(name):
    assert bench.openvino_table(BENCHMARKS[name]) in TEXT


def row_called(beginning):
    """Return the cells behind the first label in the page's tables that begins so."""
    for label, *cells in rows_of(TEXT):
        if label.startswith(beginning):
            return cells
    raise AssertionError(f"no row begins with {beginning}")


def test_the_page_tells_how_many_times_as_long_other_libraries_take():
    # Of the two models the small one's tables stand first.
    seconds, *_ = row_called("m2lib, bfloat16, 20 steps")
    _, transformers, *_ = row_called("(b) transformers")
    _, llama, *_ = row_called("(d) llama.cpp, batches of 10, 8 bits")
    assert f"fifty series of the study in {float(seconds):.0f} seconds" in PAGE
    assert f"takes {transformers} times as long, and llama.cpp" in PAGE
    assert f"with weights of 8 bits {llama} times." in PAGE

    seconds, *_ = row_called("m2lib, bfloat16, 13 tokens")
    _, peft, *_ = row_called("(c) PEFT and accelerate, bfloat16 autocast")
    assert f"A training step of the small model takes {seconds} seconds." in PAGE
    assert f"autocast takes {peft} times as long." in PAGE


def test_the_page_tells_how_far_our_losses_are_from_the_plain_loops():
    curves = BENCHMARKS["smollm2-135m-cpu"]["loss_curves"]
    apart = np.abs(np.subtract(curves["m2lib"], curves["plain"]))
    in_the_mean = (
        f"Over {len(apart)} steps it differs from the plain loop's by {apart.mean():.4f} nats"
    )
    assert in_the_mean in PAGE
    assert f"and by {apart.max():.4f} at most" in PAGE


# Forecasts of real series in 8 bits, and in a hurry.


@pytest.fixture(scope="module")
def rows():
    """Return the recorded rows, one for each source and each way to forecast it."""
    return read_json(ROOT / "report" / "results" / faster.RECORD)["rows"]


def seconds_of_a_forecast(rows, way):
    """Return the mean seconds that a forecast takes in one of the ways."""
    own_rows = [row for row in rows if row["forecaster"] == way]
    seconds = sum(row["seconds"] for row in own_rows)
    forecasts = sum(len(row["mase"]) for row in own_rows)
    return seconds / forecasts


def test_the_page_tells_what_was_forecast_in_int8_and_float32(rows):
    sources = {row["source"] for row in rows}
    forecasts = sum(len(row["mase"]) for row in rows if row["forecaster"] == FLOAT32)
    series = compared(errors_by_series(rows), INT8, FLOAT32).count
    assert f"The adapter `general` forecast the {len(sources)} sources" in PAGE
    assert f"{forecasts} forecasts of {series} series" in PAGE


def test_the_page_tells_what_int8_gains_and_costs(rows):
    comparison = compared(errors_by_series(rows), INT8, FLOAT32)
    ratio = comparison.over_series
    int8 = seconds_of_a_forecast(rows, INT8)
    float32 = seconds_of_a_forecast(rows, FLOAT32)

    assert f"took {int8:.1f} seconds of the core in int8, and {float32:.1f}" in PAGE
    assert f"it is {ratio.ratio:.2f} times that in float32" in PAGE
    assert f"from {ratio.low:.2f} to {ratio.high:.2f}" in PAGE
    assert f"smaller on {comparison.better} of the {comparison.count} series" in PAGE
    bands = f"hold {held(rows, INT8):.0%} in int8, and {held(rows, FLOAT32):.0%} in float32"
    assert bands in PAGE


def test_the_page_tells_what_a_hurry_gains_and_costs(rows):
    comparison = compared(errors_by_series(rows), HURRIED, INT8)
    ratio = comparison.over_series
    error = (
        f"{ratio.ratio:.2f} times that of all 20 samples and the longer past "
        f"({ratio.low:.2f} to {ratio.high:.2f}, smaller on {comparison.better} of the "
        f"{comparison.count} series)"
    )
    hurried = seconds_of_a_forecast(rows, HURRIED)
    int8 = seconds_of_a_forecast(rows, INT8)

    assert error in PAGE
    assert f"took {hurried:.1f} seconds instead of {int8:.1f}" in PAGE
    assert f"bands hold {held(rows, HURRIED):.0%}" in PAGE
