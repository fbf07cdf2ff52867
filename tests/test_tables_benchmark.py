"""The benchmark of real tables: its split, its measures by hand, and what its record holds."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks import candidates, package, tables
from benchmarks.rows import recorded_rows
from benchmarks.tables import SOURCES, Source, measured, record_tables
from benchmarks.textbook import cuts_of, score
from m2lib.files import ROOT, read_json
from m2lib.forecaster.adapters import GENERAL, read_format, read_views
from m2lib.forecaster.export import FACTS_FILE
from m2lib.model import CONFIG_FILE, adapter_hash
from m2lib.model.adapter_files import ADAPTER_FILE, BIAS_FILE
from m2lib.series import FORMAT_FILE, TABLES, split_ids
from m2lib.series.intervals import Ratio
from study import PROFILES, adapter_path, load_record
from study.paper.errors import (
    NAIVE,
    REFERENCE,
    relative_errors,
    table_errors,
    table_ratios,
    table_summary,
)
from study.paper.textbook import CHOOSING
from study.settings import results_dir
from study.synthetic.shown import VIEWS


def test_no_source_chooses_and_judges():
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert {source.split for source in SOURCES} == {"validation", "test"}
    assert sum(source.split == "test" for source in SOURCES) >= 10


def test_the_package_carries_the_candidate_that_was_chosen(tmp_path):
    for runs in candidates.CANDIDATES.values():
        for run in runs:
            recorded = adapter_path("laptop", run)
            assert load_record(PROFILES["laptop"], run).adapter == adapter_hash(recorded)
    candidates.write_candidate(tmp_path, candidates.CHOSEN)
    for file in tmp_path.iterdir():
        assert (GENERAL / file.name).read_bytes() == file.read_bytes()
    last_trainings = package.trainings()[: len(package.RUNS)]
    assert [training.name for training in reversed(last_trainings)] == list(package.RUNS)
    last = adapter_path("laptop", package.RUNS[-1])
    text_format = read_format(GENERAL)
    assert replace(text_format, spread=1.0) == read_format(last)
    assert (text_format.spread, read_views(GENERAL)) == (candidates.SPREAD, VIEWS)

    facts = json.loads((GENERAL / FACTS_FILE).read_text(encoding="utf-8"))
    assert facts == package.facts()
    errors = {name: row[package.ERROR] for name, row in facts["errors"].items()}
    assert errors["this adapter"] < min(0.85, errors["the untuned model"])


def test_a_candidate_of_two_runs_has_their_mean(tmp_path, monkeypatch):
    folders = {}
    for run, size in (("low", 1.0), ("high", 4.0)):
        folders[run] = tmp_path / run
        folders[run].mkdir()
        (folders[run] / CONFIG_FILE).write_text("{}")
        (folders[run] / FORMAT_FILE).write_text(json.dumps(TABLES.settings()))
        for file in (ADAPTER_FILE, BIAS_FILE):
            save_file({"weights": torch.full((2,), size)}, folders[run] / file)
    monkeypatch.setattr(candidates, "adapter_path", lambda profile, run: folders[run])
    monkeypatch.setattr(candidates, "CANDIDATES", {"both": ("low", "high"), "one": ("high",)})
    for candidate, size in (("both", 2.5), ("one", 4.0)):
        candidates.write_candidate(tmp_path / candidate, candidate)
        weights = load_file(tmp_path / candidate / ADAPTER_FILE)["weights"]
        assert weights.tolist() == [size, size]
    assert read_format(tmp_path / "both").spread == candidates.SPREAD


def test_the_one_that_was_chosen_is_better_than_the_one_before_and_none_is_better_than_it():
    rows = recorded_rows(results_dir() / candidates.RECORD)
    sources = {source.name for source in candidates.candidate_sources()}
    for name, runs in candidates.CANDIDATES.items():
        own = [row for row in rows if row["forecaster"] == name]
        assert {row["source"] for row in own} == sources
        assert {tuple(row["runs"]) for row in own} == {runs}
    assert {row["split"] for row in rows} == {CHOOSING}
    other = "the mean of general-even and general-more"
    assert candidates.better(rows, candidates.SECOND) == [other, candidates.CHOSEN]
    assert candidates.better(rows, candidates.CHOSEN) == []


def test_a_better_candidate_is_better_on_both_and_surely_on_one(monkeypatch):
    errors = {  # on four tables, and on two series of prey and predators
        "chosen": ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0]),
        "surely on tables": ([0.8, 0.81, 0.8, 0.79], [0.5, 1.9]),
        "surely on pairs": ([0.5, 1.5, 0.9, 1.0], [0.8, 0.801]),
        "surely on neither": ([0.5, 1.5, 0.9, 1.0], [0.5, 1.9]),
        "worse on pairs": ([0.8, 0.81, 0.8, 0.79], [0.6, 1.9]),
    }
    monkeypatch.setattr(candidates, "CANDIDATES", dict.fromkeys([*errors, "asked in part"], ()))
    rows = []
    for name, measured_errors in errors.items():
        for source, mase in zip(
            ("sales", candidates.PREY_AND_PREDATORS.name), measured_errors, strict=True
        ):
            series = list(range(len(mase)))
            rows.append({"source": source, "forecaster": name, "series": series, "mase": mase})
    # A candidate that was not asked about both parts is left out.
    rows.append({"source": "sales", "forecaster": "asked in part", "series": [0], "mase": [0.1]})
    # So are rows of a candidate that is no longer listed.
    rows.append({"source": "sales", "forecaster": "of old", "series": [0], "mase": [0.1]})
    assert candidates.better(rows, "chosen") == ["surely on tables", "surely on pairs"]


def test_the_card_says_who_is_surely_ahead_and_who_behind():
    def ratio(low, high):
        return Ratio(ratio=(low * high) ** 0.5, low=low, high=high, p=0.5)

    ratios = {"a": ratio(0.5, 0.9), "b": ratio(1.1, 1.2), "c": ratio(0.9, 1.1), "d": None}
    assert package.told_apart(ratios) == (
        "this adapter is surely ahead of a and surely behind b, and cannot be told apart from c"
    )
    assert package.told_apart({"c": ratio(0.9, 1.1)}) == "no difference is sure"


def test_prey_and_predators_are_the_first_validation_series(data):
    cuts = cuts_of(candidates.PREY_AND_PREDATORS)
    assert len(cuts) == candidates.PAIRS
    _, context, truth = cuts[3]
    id_ = split_ids(len(data)).validation[3]
    assert np.array_equal(context, data.contexts[id_])
    assert np.array_equal(truth, data.truths[id_])


def test_two_variables_are_scored_each_by_its_own_unit():
    context = np.stack([np.arange(5.0), 10 * np.arange(5.0)], axis=1)  # steps of 1 and of 10
    truth = np.array([[5.0, 50.0], [6.0, 60.0]])
    off = np.array([1.0, 20.0])  # by one step, and by two
    deciles = np.tile(truth + off, (9, 1, 1))
    row = score([(7, context, truth)], 1, [deciles])
    assert row == {"series": [7], "mase": [1.5], "loss": [1.5], "held": [0.0]}


def test_what_tuning_did_is_what_the_page_says():
    page = " ".join((ROOT / "book" / "real_tables.md").read_text(encoding="utf-8").split())
    said = {}
    held = {0: [], 20: []}
    for table in ("electrical_equipment", "air_passengers", "electricity_daily"):
        errors = []
        for steps, bands in held.items():
            record = read_json(ROOT / "report" / "results" / "tuned" / f"{table}-{steps}.json")
            assert (record["settings"]["finetune"] or 0, record["settings"]["season"] > 1) == (
                steps,
                True,
            )
            errors.append(np.mean(record["errors"]["language model"]))
            bands.append(f"{record['coverage']:.0%}")
        said[table] = " to ".join(
            f"{error:,.0f}" if error > 1000 else f"{error:.3g}" for error in errors
        )
    assert [table for table, errors in said.items() if errors not in page] == []
    bands = "The 80% bands held {}, {} and {} of the true values before, and {}, {} and {} after"
    assert bands.format(*held[0], *held[20]) in page


def test_a_row_by_hand():
    # A season of two, from 0 to 9: each value is 2 above the one a season before, so errors count
    # in units of 2.
    source = Source("steps", "validation", 2, 2, 1, lambda: pd.Series(np.arange(12.0)))
    deciles = np.repeat([10, 13], 9).reshape(2, 9).T + np.linspace(-4, 4, 9)[:, None]
    row = measured(source, lambda contexts, horizon, season: [deciles])
    assert row["mase"] == [(0 + 2) / 2 / 2]
    share = np.arange(1, 10)[:, None] / 10
    off = np.array([10, 11]) - deciles
    assert row["loss"] == pytest.approx([2 * np.maximum(share * off, (share - 1) * off).mean() / 2])
    assert row["held"] == [1.0]
    assert row["shown"]["context"] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert (row["shown"]["truth"], row["shown"]["deciles"][:2]) == ([10, 11], [6, 9])


def test_the_record_keeps_what_it_has(tmp_path, monkeypatch):
    def last(contexts, horizon, season):
        return [np.full((9, horizon), one[-1]) for one in contexts]

    def right(contexts, horizon, season):
        return [np.tile(one[-season:], (9, horizon // season)) for one in contexts]

    walk = np.random.default_rng(0).normal(size=60).cumsum()
    sources = [Source(name, "test", 4, 2, 3, lambda: pd.Series(walk)) for name in ("one", "two")]
    monkeypatch.setattr(tables, "SOURCES", sources)
    monkeypatch.setattr(tables, "MODELS", {NAIVE: "SeasonalNaive"})
    monkeypatch.setattr(tables, "statistical", lambda model, *asked: right(*asked))
    monkeypatch.setattr(tables, "_regression", last)
    path = tmp_path / "tables.json"
    record_tables(path, "test", [], 0.7)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    measured_by = [NAIVE, "nearest analogue", "log-VAR(3)", REFERENCE]
    assert [(row["source"], row["forecaster"]) for row in rows[:4]] == [
        ("one", name) for name in measured_by
    ]
    monkeypatch.setattr(tables, "measured", None)  # nothing is measured again
    record_tables(path, "test", [], 0.7)
    found = table_summary(table_errors(path), "test")
    assert found.loc[REFERENCE, "mase"] == found.loc[REFERENCE, "loss"] == 1
    assert found.loc["log-VAR(3)", "mase"] == pytest.approx(
        np.mean(rows[2]["mase"]) / np.mean(rows[3]["mase"])
    )
    by_season = relative_errors(table_errors(path), reference=NAIVE)
    assert by_season.loc["one", "log-VAR(3)"] == pytest.approx(
        np.mean(rows[2]["mase"]) / np.mean(rows[0]["mase"])
    )


def test_one_forecaster_alone_leaves_the_others_as_they_were(tmp_path, monkeypatch):
    walk = np.random.default_rng(0).normal(size=60).cumsum()
    monkeypatch.setattr(
        tables, "SOURCES", [Source("one", "test", 4, 2, 3, lambda: pd.Series(walk))]
    )

    def repeated(model, contexts, horizon, steps):
        return [np.resize(one[-steps:], (9, horizon)) for one in contexts]

    monkeypatch.setattr(tables, "statistical", repeated)
    path = tmp_path / "tables.json"
    other = {
        "source": "one",
        "split": "test",
        "forecaster": "AutoARIMA",
        "values": "of another machine",
    }
    path.write_text(json.dumps({"rows": [other]}), encoding="utf-8")
    record_tables(path, "test", [], 0.7, REFERENCE)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert rows[0] == other
    assert [row["forecaster"] for row in rows] == ["AutoARIMA", REFERENCE]


def repeating(season, values, horizon=5, origins=2):
    return Source("repeating", "test", horizon, season, origins, lambda: pd.Series(values))


def test_a_reference_is_chosen_by_what_comes_before_the_test():
    noise = np.random.default_rng(0).normal(0, 0.1, 60)
    cycle = np.tile([1.0, 4.0, 2.0, 8.0, 5.0], 12) + noise
    source = repeating(5, cycle)
    before = tables.repetitions(source)
    assert list(before) == [1, 5]
    assert before[5] < before[1]
    # What is judged by is turned into something else altogether, and the choice does not move.
    changed = cycle.copy()
    changed[-source.horizon * source.origins :] = 1000 + np.arange(10.0)
    assert tables.repetitions(repeating(5, changed)) == before
    assert len(source.earlier_cuts()) == tables.FEWEST_EARLIER
    last = max(len(context) + len(truth) for context, truth in source.earlier_cuts())
    assert last == len(cycle) - source.horizon * source.origins


def test_without_a_calendar_the_period_is_found_in_the_series():
    steps = np.arange(120)
    cycle = 10 + 5 * np.sin(2 * np.pi * steps / 10) + np.random.default_rng(0).normal(0, 0.2, 120)
    before = tables.repetitions(repeating(1, cycle, horizon=10))
    assert min(before, key=before.__getitem__) == 10
    walk = tables.repetitions(repeating(1, np.arange(120.0) ** 2))
    assert min(walk, key=walk.__getitem__) == 1


def test_the_recorded_references_are_the_better_of_two_before_the_test():
    table = table_errors().set_index(["source", "forecaster"])
    for source in SOURCES:
        row = table.loc[source.name, REFERENCE]
        before = row["before"]
        assert str(int(row["repeats"])) == min(before, key=before.__getitem__)
        assert {"1"} <= set(before)
        calendars = {1: "last value", source.season: NAIVE}.get(int(row["repeats"]))
        if calendars:
            assert row["mase"] == pytest.approx(table.loc[(source.name, calendars), "mase"])
        else:
            assert source.season == 1
            assert np.mean(row["mase"]) < np.mean(table.loc[(source.name, NAIVE), "mase"])
    assert table.loc[("hare and lynx", REFERENCE), "repeats"] == 10


def test_ratios_leave_out_whoever_was_not_asked_about_every_source():
    ratios = table_ratios(table_errors(), "test")
    assert len(ratios) == 10
    assert ratios[REFERENCE].ratio == pytest.approx(
        table_summary(table_errors(), "test").loc["general", "mase"]
    )
    fewer = table_errors().query("source != 'air passengers' or forecaster != 'AutoETS'")
    assert set(ratios) - set(table_ratios(fewer, "test")) == {"AutoETS"}
