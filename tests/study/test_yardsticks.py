"""The recorded yardsticks are what their forecasters come to, and say what a sceptic should know."""

import json
import sys

import numpy as np
import pytest

from m2lib.files import InputError
from m2lib.series import BASELINES, FITS, WORLDS, log_var, series_mae, split_ids, to_integers
from m2lib.study import EXPERIMENTS, load_record, yardsticks
from m2lib.study.yardstick_costs import FORMULAS, ORDER
from m2lib.study.yardsticks import (
    LANGUAGE_MODELS,
    PLAIN,
    STATISTICAL,
    STUDIED,
    forecasters,
    measured,
    record_yardsticks,
    recorded_rows,
    recorded_yardsticks,
    statistical,
)

FAST = [name for name in PLAIN if name not in STATISTICAL]
UNTUNED, FINAL, _ = LANGUAGE_MODELS


def test_all_are_recorded_on_all_sets():
    for where in ("validation", "test", *WORLDS):
        found = recorded_yardsticks(where)
        assert {*PLAIN, *FITS, UNTUNED, FINAL} <= set(found) <= set(forecasters())
        ids = getattr(split_ids(), where, range(yardsticks.WORLD_SERIES))
        assert all(sorted(maes) == sorted(ids) for maes in found.values())


@pytest.mark.parametrize("where", ["test", "Holling type III"])
def test_the_record_is_what_the_forecasters_come_to(data, where):
    series, ids = (data, split_ids().test) if where == "test" else (WORLDS[where](30), range(30))
    recorded = recorded_yardsticks(where)
    for name in FAST:
        row = measured(series, ids, name)
        assert row["maes"] == pytest.approx(recorded[name], rel=1e-6), name
        assert 0 <= row["seconds"] < 1
    few = list(ids)[:3]
    maes = measured(series, few, next(iter(FITS)))["maes"]
    assert maes == pytest.approx({i: recorded[next(iter(FITS))][i] for i in few}, abs=1)


def test_the_order_of_the_regression_is_chosen_on_validation(data):
    ids = list(split_ids().validation)
    known = to_integers(data.trajectories[ids], data.scales[ids])
    errors = {k: series_mae(log_var(known[:, :80], order=k), known[:, 80:]).mean() for k in range(1, 11)}
    assert min(errors, key=errors.get) == ORDER


def test_the_physics_wins_where_it_is_known():
    found = {name: np.mean(list(maes.values())) for name, maes in recorded_yardsticks("test").items()}
    exact, like_the_file = (found[name] for name in FITS)
    assert exact < 2
    assert like_the_file < 0.6
    assert min(found[name] for name in found if name not in FITS) > 5 * exact
    rows = recorded_rows("test")
    assert max(rows[name]["seconds"] for name in FITS) < 2


def test_known_errors():
    known = {"last value": (199.7, 152.8), "mean": (142.7, 94.7), "nearest": (37.7, 23.2), "log-VAR": (40.6, 10.9)}
    found = recorded_yardsticks("test")
    for name in BASELINES:
        expected = next(errors for begin, errors in known.items() if name.startswith(begin))
        errors = list(found[name].values())
        assert (round(np.mean(errors), 1), round(np.median(errors), 1)) == expected


def test_statistical_models_are_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    with pytest.raises(InputError, match=r"statsforecast is not installed; `pip install statsforecast` brings it"):
        statistical("AutoTheta", np.ones((1, 80, 2)))


@pytest.fixture
def two(data, monkeypatch):
    """Two test series and the quick forecasters."""
    monkeypatch.setattr(yardsticks, "sets", lambda: {"test": (data, split_ids().test[:2])})
    monkeypatch.setattr(yardsticks, "PLAIN", {name: PLAIN[name] for name in FAST})
    monkeypatch.setattr(yardsticks, "LANGUAGE_MODELS", {UNTUNED: None, FINAL: "final"})


def test_a_row_says_what_it_cost(two, tmp_path, capsys):
    path = record_yardsticks(tmp_path / "y.json")
    rows = {row["forecaster"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == [*FAST, *FITS, UNTUNED, FINAL]
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
    assert all(rows[name]["flops"] == FORMULAS[name] and "bound" not in rows[name] for name in FAST)
    assert all(rows[name]["bound"] == "at least" and rows[name]["flops"] > 1e5 for name in FITS)
    final = load_record("laptop", "final")
    assert rows[FINAL]["maes"] == {str(i): mae for i, mae in final.maes().items()}  # of the study: all 50
    assert rows[FINAL]["flops"] == pytest.approx(final.flops["forecasts"]["executed"] / 50)
    assert rows[FINAL]["seconds"] == pytest.approx(2 * (final.seconds - final.train_seconds) / 50)  # two threads
    assert rows[FINAL]["adapter"] == final.adapter != rows[UNTUNED]["adapter"] == ""


def test_a_record_of_ones_own_is_read_where_there_is_one(two, tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    committed = recorded_yardsticks("validation")  # none there yet
    monkeypatch.setattr(yardsticks, "LANGUAGE_MODELS", {})
    assert record_yardsticks() == tmp_path / "yardsticks.json"
    assert committed
    assert recorded_yardsticks("validation") == {}
    assert all(len(maes) == 2 for maes in recorded_yardsticks("test").values())


def test_what_is_recorded_is_not_measured_again(two, tmp_path, monkeypatch, capsys):
    path = record_yardsticks(tmp_path / "y.json")
    written = path.read_bytes()
    monkeypatch.setattr(yardsticks, "measured", None)
    record_yardsticks(path)
    assert path.read_bytes() == written
    with pytest.raises(TypeError):
        record_yardsticks(path, fresh=True)


def test_an_interrupted_record_keeps_its_rows_and_other_data_are_measured(data, two, tmp_path, monkeypatch):
    path, measure = tmp_path / "y.json", yardsticks.measured

    def stopping(series, ids, name):
        if name == FAST[2]:
            raise KeyboardInterrupt
        return measure(series, ids, name)

    monkeypatch.setattr(yardsticks, "measured", stopping)
    with pytest.raises(KeyboardInterrupt):
        record_yardsticks(path)
    assert [row["forecaster"] for row in json.loads(path.read_text(encoding="utf-8"))["rows"]] == FAST[:2]
    found = []
    monkeypatch.setattr(yardsticks, "measured", lambda *of: found.append(of[2]) or measure(*of))
    record_yardsticks(path)
    assert found == [*FAST[2:], *FITS]
    found.clear()
    monkeypatch.setattr(yardsticks, "sets", lambda: {"test": (WORLDS["noise of 5%"](3), range(2))})
    monkeypatch.setattr(yardsticks, "STUDIED", {})
    monkeypatch.setattr(yardsticks, "LANGUAGE_MODELS", {})
    record_yardsticks(path)
    assert found == [*FAST, *FITS]


def test_another_adapter_is_measured_again(two, tmp_path):
    path = record_yardsticks(tmp_path / "y.json")
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    assert ("test", FINAL) in yardsticks._kept(path, data)
    path.write_text(
        path.read_text(encoding="utf-8").replace(load_record("laptop", "final").adapter, "0" * 16), encoding="utf-8"
    )
    assert ("test", FINAL) not in yardsticks._kept(path, data)
    assert ("test", FAST[0]) in yardsticks._kept(path, data)


def test_the_language_model_forecasts_worlds_too(monkeypatch, smollm2):
    monkeypatch.setattr(yardsticks, "_language_model", lambda adapter: smollm2)
    row = measured(WORLDS["a tenth of the size"](2), [1], UNTUNED)
    assert 0 < row["maes"][1] < 3000
    assert row["seconds"] > 0
    assert 1e11 < row["flops"] < row["coursework"] < 3e11


def test_adapters_take_part_when_they_are_recorded(store):
    assert set(STUDIED.values()) <= set(EXPERIMENTS)
    assert forecasters() == (*PLAIN, *FITS, UNTUNED)  # of an empty store


def test_a_damaged_record_is_refused_in_one_line(tmp_path, two):
    path = tmp_path / "y.json"
    path.write_text('{"rows": 3}', encoding="utf-8")
    with pytest.raises(InputError, match=r"y\.json is no record of yardsticks \(.*\); restore it from git"):
        record_yardsticks(path)
