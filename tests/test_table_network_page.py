"""What the book says of the small network on real tables is what the record has."""

import numpy as np

from benchmarks.table_network import NETWORK, RECORD
from benchmarks.textbook import ENSEMBLE
from m2lib.files import read_json
from pages import text_of
from study.paper.textbook import (
    CHOOSING,
    JUDGING,
    LAST_SEASON,
    compared,
    errors_by_series,
    held,
    judged_rows,
)
from study.settings import results_dir

PAGE = text_of("book/real_tables.md")
RECORDED = read_json(results_dir() / RECORD)["rows"]
OURS = [row for row in RECORDED if row["split"] == JUDGING]
CALLED = {ENSEMBLE: "the median of AutoETS, AutoTheta and AutoARIMA", "general": "`general`"}


def test_the_table_is_that_of_the_record():
    errors = errors_by_series(judged_rows() + OURS)
    losses = errors_by_series(judged_rows() + OURS, "loss")
    relative = np.exp(np.log(errors.div(errors[LAST_SEASON], axis=0)).mean())
    for name in (ENSEMBLE, "AutoETS", "AutoARIMA", "general", "AutoTheta"):
        by_error, by_loss = (compared(table, NETWORK, name) for table in (errors, losses))
        ratios = [by_error.over_series, by_loss.over_series]
        cells = [CALLED.get(name, name), f"{relative[name]:.2f}"]
        cells += [f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" for ratio in ratios]
        cells += [f"{by_error.better} of {by_error.count}"]
        assert f"| {' | '.join(cells)} |" in PAGE
    assert f"| the network | {relative[NETWORK]:.2f} |" in PAGE
    assert f"80% bands hold {held(OURS, NETWORK):.0%}" in PAGE


def test_where_it_is_surely_ahead():
    errors = errors_by_series(judged_rows() + OURS)
    losses = errors_by_series(judged_rows() + OURS, "loss")
    assert compared(errors, NETWORK, "general").over_series.high < 1
    ratio = compared(errors, NETWORK, ENSEMBLE).over_series
    assert ratio.low < 1 < ratio.high
    assert compared(losses, NETWORK, ENSEMBLE).over_series.high < 1


def test_it_was_ahead_of_autoets_on_the_series_for_choosing():
    chosen_by = errors_by_series(row for row in RECORDED if row["split"] == CHOOSING)
    assert compared(chosen_by, NETWORK, "AutoETS").over_series.high < 1
