"""The benchmark of real tables: its split, its measures by hand, and what its record holds."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks import tables
from benchmarks.tables import SOURCES, Source, measured, record_tables
from m2lib.files import ROOT, read_json
from m2lib.forecaster.adapters import GENERAL, read_format
from m2lib.forecaster.export import FACTS_FILE
from m2lib.model import CONFIG_FILE
from m2lib.paper.errors import NAIVE, table_errors, table_summary
from m2lib.study import PROFILES, adapter_path, load_record
from m2lib.study.records import adapter_hash


def test_no_source_chooses_and_judges():
    assert len({source.name for source in SOURCES}) == len(SOURCES)
    assert {source.split for source in SOURCES} == {"validation", "test"}
    assert sum(source.split == "test" for source in SOURCES) >= 10


def test_the_package_carries_the_recorded_adapter():
    for run in tables.AVERAGED:
        recorded = adapter_path("laptop", run)
        assert load_record(PROFILES["laptop"], run).adapter == adapter_hash(recorded)
    text_format = read_format(GENERAL)
    assert replace(text_format, spread=1.0) == read_format(recorded)
    assert (GENERAL / CONFIG_FILE).read_bytes() == (recorded / CONFIG_FILE).read_bytes()
    assert all((GENERAL / name).read_bytes() == content for name, content in tables.mean_adapter().items())
    rows = table_errors().query("forecaster == 'general'")
    assert set(rows["spread"]) == {text_format.spread}
    needed = rows[rows["split"] == "validation"]["needed"] * text_format.spread
    assert np.exp(np.log(needed).mean()) == pytest.approx(text_format.spread, abs=0.01)
    facts = json.loads((GENERAL / FACTS_FILE).read_text(encoding="utf-8"))
    errors = {name: row["error (MASE)"] for name, row in facts["errors"].items()}
    assert errors["this adapter"] == table_summary(table_errors(), "test").loc[GENERAL.name, "mase"]
    assert errors["this adapter"] < min(0.9, errors["AutoETS"], errors["untuned"])


def test_what_tuning_did_is_what_the_page_says():
    page = " ".join((ROOT / "book" / "tables.md").read_text(encoding="utf-8").split())
    said, held = {}, {0: [], 20: []}
    for table in ("electrical_equipment", "air_passengers", "electricity_daily"):
        errors = []
        for steps, bands in held.items():
            record = read_json(ROOT / "report" / "results" / "tuned" / f"{table}-{steps}.json")
            assert (record["settings"]["finetune"] or 0, record["settings"]["season"] > 1) == (steps, True)
            errors.append(np.mean(record["errors"]["language model"]))
            bands.append(f"{record['coverage']:.0%}")
        said[table] = " to ".join(f"{error:,.0f}" if error > 1000 else f"{error:.3g}" for error in errors)
    assert [table for table, errors in said.items() if errors not in page] == []
    bands = "The 80% bands held {}, {} and {} of the true values before, and {}, {} and {} after"
    assert bands.format(*held[0], *held[20]) in page


def test_a_row_by_hand():
    # A season of two, from 0 to 9: each value is 2 above the one a season before, so errors count in units of 2.
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
    monkeypatch.setattr(tables, "_statistical", lambda model, *asked: right(*asked))
    monkeypatch.setattr(tables, "_regression", last)
    path = tmp_path / "tables.json"
    record_tables(path, "test", [], 0.7)
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert [(row["source"], row["forecaster"]) for row in rows[:2]] == [("one", NAIVE), ("one", "nearest analogue")]
    monkeypatch.setattr(tables, "measured", None)  # nothing is measured again
    record_tables(path, "test", [], 0.7)
    found = table_summary(table_errors(path), "test")
    assert found.loc[NAIVE, "mase"] == found.loc[NAIVE, "loss"] == 1
    assert found.loc["log-VAR(3)", "mase"] == pytest.approx(np.mean(rows[2]["mase"]) / np.mean(rows[0]["mase"]))
