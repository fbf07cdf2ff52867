"""The page on one's own tables: its printout of `m2 evaluate` and its numbers are of records."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import counts
from m2lib.files import ROOT, read_json
from m2lib.forecaster import Columns, Evaluation, Forecaster, items_of
from m2lib.forecaster.adapters import GENERAL_FOLDER, adapter_weights_hash
from m2lib.forecaster.evaluation import MEASURES
from m2lib.forecaster.table_files import read_table
from m2lib.forecaster.tables import future_times
from m2lib.series.intervals import t_interval
from pages import execute, programs_of, sentences_of, text_of

PAGE = text_of("book/tables.md")
SENTENCES = sentences_of("book/tables.md")
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
    assert evaluation.verdict in SENTENCES


def test_what_is_read_out_of_the_printout_is_in_it(evaluation):
    best = evaluation.table().iloc[0]
    assert best.name == "language model"
    assert f"it is off by {best['MAE']} thousand pelts, which is {best['MASE']} times" in SENTENCES
    assert f"here it holds {evaluation.coverage:.0%}" in SENTENCES
    scores = f"CRPS {evaluation.crps:.4g}; the 80% band holds {evaluation.coverage:.0%}"
    assert scores in SENTENCES


def test_the_record_was_made_by_the_command_of_the_page():
    settings = RECORD["settings"]
    command = "m2 evaluate data/hudson_bay_pelts.csv --horizon 10 --origins 8"
    assert command in SENTENCES
    assert (settings["horizon"], settings["origins"], settings["adapter"]) == (10, 8, "general")
    assert RECORD["adapter"] == adapter_weights_hash(GENERAL_FOLDER), (
        "run `python -m benchmarks.tuned`"
    )


# Counts that are mostly zero.


@pytest.fixture
def of_counts():
    """Return the recorded rows of simulated sales, by share of days and temperature."""
    rows = read_json(ROOT / "report" / "results" / counts.RECORD)["rows"]
    return {(row["share"], row["temperature"]): row for row in rows}


def test_the_table_of_counts_is_the_recorded_one(of_counts):
    assert counts.table(list(of_counts.values())) in PAGE
    adapters = {row["adapter"] for row in of_counts.values()}
    assert adapters == {adapter_weights_hash(GENERAL_FOLDER)}, "run `python -m benchmarks.counts`"


def test_the_page_says_what_the_temperature_does_to_counts(of_counts):
    assert np.mean(of_counts[0.1, 0.7]["mean"]) == pytest.approx(1 / 6, abs=0.02)
    assert "is forecast to sell a sixth of what it really sells" in SENTENCES
    asked = f"has forecast {counts.ARTICLES} articles, seven days ahead, from the {counts.DAYS}"
    assert asked in SENTENCES
    for share in counts.SHARES:
        row = of_counts[share, 1.0]
        low, high = t_interval(row["mean"])
        assert low < 1 < high, "at 1 both intervals of the mean contain the truth"
        assert row["level"] > counts.LEVEL
        assert row["total"] > row["level"]


# Its programs.


def sales():
    """Return a table of the sales of one article on 120 days."""
    days = pd.date_range("2024-01-01", periods=120)
    sold = 5 + np.random.default_rng(0).gamma(2.0, 3.0, 120)
    return pd.DataFrame({"item_id": "A", "timestamp": days, "target": sold})


def test_the_page_reads_decimal_commas_and_keeps_the_dates(tmp_path):
    days = pd.date_range("2024-01-31", periods=12)
    rows = [f"{day:%d.%m.%Y};0071;1.{day.day:03d},5" for day in days]
    file = tmp_path / "sales.csv"
    file.write_text("\n".join(["day;sku;units", *rows]), encoding="utf-8")
    call = re.search(r"`(pd\.read_csv\(file, sep=[^`]*)`", SENTENCES)[1]
    names = {"pd": pd, "file": file}

    execute(f"table = {call}", names)

    (series,) = items_of(names["table"], Columns("sku", "day", ("units",)))
    assert series.name == "0071"
    assert series.times.tolist() == days.tolist()
    assert series.values[:2, 0].tolist() == [1031.5, 1001.5]


def program_below(title):
    """Return the only program of a section about untidy tables."""
    section = re.search(rf"^### {title}\n(.*?)^### ", PAGE, re.M | re.S)[1]
    (program,) = programs_of(section)
    return program


def test_days_without_a_sale_become_zeros_up_to_the_common_end(tmp_path, monkeypatch):
    program = program_below("Days without a sale")
    days = pd.date_range("2024-01-01", periods=12).astype(str)
    often = pd.DataFrame({"sku": "a", "day": days, "units": range(12)})
    seldom = pd.DataFrame({"sku": "b", "day": days[[3, 4, 9]], "units": [5, 6, 7]})
    monkeypatch.chdir(tmp_path)

    execute(program, {"pd": pd, "df": pd.concat([often, seldom])})

    columns = Columns("sku", "day", ("units",))
    often_sold, seldom_sold = items_of(read_table("filled.csv", "sku"), columns)
    assert often_sold.values[:, 0].tolist() == list(range(12))
    assert seldom_sold.values[:, 0].tolist() == [0, 0, 0, 5, 6, 0, 0, 0, 0, 7, 0, 0]
    assert seldom_sold.times.equals(often_sold.times)


def test_uneven_readings_become_the_means_of_hours(tmp_path, monkeypatch):
    program = program_below("Uneven time stamps")
    minutes = pd.to_timedelta([0, 20, 70, 200, 230, 300], unit="min")
    times = pd.Timestamp("2024-01-01") + minutes
    readings = pd.DataFrame({"sensor": "s", "time": times.astype(str), "value": range(1, 12, 2)})
    monkeypatch.chdir(tmp_path)

    execute(program, {"pd": pd, "df": readings})

    hourly = read_table("hourly.csv")
    with pytest.warns(UserWarning, match=r"steps that were filled \(linear\): 2"):
        (series,) = items_of(hourly, Columns("sensor", "time", ("value",)), least=6, fill="linear")
    assert series.values[:, 0].tolist() == [2, 5, 6.5, 8, 9.5, 11]


def test_totals_are_those_of_each_sample(tmp_path, monkeypatch):
    program = re.search(r"^\*\*Totals\.\*\*.*?^```python\n(.*?)^```", PAGE, re.M | re.S)[1]
    assert "\ntotals.quantile(" in program
    program = program.replace("\ntotals.quantile(", "\nlevels = totals.quantile(")
    days = pd.DataFrame({"sku": "007", "target_name": "units", "predictions": [3, 4]}, [0, 1])
    days.assign(sample_0=[1, 2], sample_1=[5, 6]).to_csv(tmp_path / "ahead.csv", index=False)
    monkeypatch.chdir(tmp_path)
    names = {"pd": pd}

    execute(program, names)

    assert names["totals"].loc[("007", "units")].tolist() == [3, 11]
    assert names["levels"].loc[0.5, ("007", "units")] == 7


def test_counts_of_spring_and_autumn_become_an_even_series(tmp_path, monkeypatch):
    program = program_below("A few counts a year")
    years = np.repeat(range(1990, 2000), 2)
    counts_by_year = pd.DataFrame({"site": "A", "year": years, "voles": range(20)})
    monkeypatch.chdir(tmp_path)

    execute(program, {"df": counts_by_year.assign(season=["spring", "autumn"] * 10)})

    (series,) = items_of(read_table("voles.csv"), Columns("site", "time", ("voles",)))
    assert series.values[:, 0].tolist() == list(range(20))
    assert series.times[:2].tolist() == [1990, 1990.5]
    assert future_times(series, 3).tolist() == [2000, 2000.5, 2001]


def test_the_program_for_tables_runs(tmp_path, monkeypatch):
    section = re.search(r"^## In Python\n(.*?)^## ", PAGE, re.M | re.S)[1]
    program, *_ = programs_of(section)
    smaller = {
        "Forecaster.from_pretrained()": 'Forecaster.from_pretrained("none", backbone="tiny")',
        "num_steps=20": "num_steps=1",
        "finetune=20": "finetune=1",
        'tuned.export("whole")': "",  # `tiny` has no folder with a tokenizer
    }
    for at_full_size, small in smaller.items():
        assert at_full_size in program
        program = program.replace(at_full_size, small)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2_DTYPE", "float32")
    sales().to_csv("sales.csv", index=False)
    names = {}

    execute(program, names)

    assert len(names["ahead"]) == 14
    assert (tmp_path / "ahead.png").is_file()
    assert names["found"].errors.shape[0] == 6
    assert names["found_tuned"].errors.shape[0] == 6
    assert names["samples"].shape == (20, 14, 1)
    assert names["quantiles"].shape == (1, 14, 9)
    assert names["tuned"].adapter == tmp_path / "mine"


# Beside another forecaster. Stand-ins play the libraries that a user has.


class AlwaysThree:
    """Stands in for a method of statsforecast, whose forecasts are 3."""

    def __init__(self, season_length):
        assert season_length == 7

    def forecast(self, y, h):
        assert y.ndim == 1
        return {"mean": np.full(h, 3.0)}


class AlwaysFour:
    """Stands in for a pipeline of Chronos-Bolt, whose forecasts are 4."""

    def predict_quantiles(self, inputs, prediction_length):
        num_series, _ = inputs.shape
        return None, torch.full((num_series, prediction_length), 4.0)


@pytest.fixture
def libraries(monkeypatch):
    """Let the page's programs import statsforecast and chronos."""
    methods = SimpleNamespace(AutoARIMA=AlwaysThree, AutoETS=AlwaysThree, AutoTheta=AlwaysThree)
    pipelines = SimpleNamespace(from_pretrained=lambda name: AlwaysFour())
    monkeypatch.setitem(sys.modules, "statsforecast.models", methods)
    chronos = SimpleNamespace(BaseChronosPipeline=pipelines)
    monkeypatch.setitem(sys.modules, "chronos", chronos)


@pytest.mark.usefixtures("libraries")
def test_the_programs_set_another_forecaster_beside_the_model(tiny):
    section = re.search(r"^### Beside another forecaster\n(.*?)^## ", PAGE, re.M | re.S)[1]
    of_three, of_chronos = programs_of(section)
    df = sales()
    names = {"df": df, "forecaster": Forecaster(tiny, progress=False)}

    execute(of_three, names)
    execute(of_chronos, names)

    assert (names["found"].forecasts["median of three"] == 3).all()
    assert names["ahead_of_three"].tolist() == [[3.0]] * 14
    both = names["forecaster"].evaluate(df, 14, num_samples=2, rivals=names["rivals"])
    assert (both.forecasts["Chronos-Bolt"] == 4).all()
