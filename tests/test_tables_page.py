"""The page on one's own tables: the printout of `m2 evaluate` on it is that of its record."""

import pandas as pd
import pytest

from m2lib.files import ROOT, read_json
from m2lib.forecaster import Evaluation
from m2lib.forecaster.adapters import GENERAL_FOLDER, weights_hash
from m2lib.forecaster.evaluation import MEASURES

PAGE = (ROOT / "book" / "tables.md").read_text(encoding="utf-8")
RECORD = read_json(ROOT / "report" / "results" / "pelts" / "printed.json")


@pytest.fixture
def evaluation():
    """Return the recorded evaluation, without its table of forecasts, which no record holds."""
    again = "delete printed.json, and run `python -m benchmarks.tuned` with statsforecast installed"
    assert MEASURES.keys() <= RECORD.keys(), again
    origins = pd.MultiIndex.from_frame(pd.DataFrame(RECORD["origins"]))
    return Evaluation(
        measures={name: pd.DataFrame(RECORD[name], origins) for name in MEASURES},
        season=RECORD["settings"]["season"],
        period=RECORD["settings"]["period"],
        crps=RECORD["crps"],
        coverage=RECORD["coverage"],
        forecasts=pd.DataFrame(),
    )


def test_the_printed_table_is_that_of_the_record(evaluation):
    rows = [line.rstrip() for line in evaluation.table().to_string().splitlines()]
    assert "\n".join(rows) in PAGE


def test_the_printed_verdict_is_that_of_the_record(evaluation):
    assert evaluation.verdict in " ".join(PAGE.split())


def test_what_is_read_out_of_the_printout_is_in_it(evaluation):
    said = " ".join(PAGE.split())
    best = evaluation.table().iloc[0]
    assert best.name == "language model"
    assert f"it is off by {best['MAE']} thousand pelts, which is {best['MASE']} times" in said
    assert f"here it holds {evaluation.coverage:.0%}" in said
    assert f"CRPS {evaluation.crps:.4g}; the 80% band holds {evaluation.coverage:.0%}" in said


def test_the_record_was_made_by_the_command_of_the_page():
    settings = RECORD["settings"]
    command = "m2 evaluate data/hudson_bay_pelts.csv --horizon 10 --origins 8"
    assert command in " ".join(PAGE.split())
    assert (settings["horizon"], settings["origins"], settings["adapter"]) == (10, 8, "general")
    assert RECORD["adapter"] == weights_hash(GENERAL_FOLDER), "run `python -m benchmarks.tuned`"
