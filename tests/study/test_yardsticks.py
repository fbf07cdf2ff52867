"""The recorded yardsticks are what their forecasters come to, and say what a sceptic should know."""

import json
import sys

import numpy as np
import pytest

from m2lib.files import InputError
from m2lib.series import BASELINES, FITS, WORLDS, split_ids
from m2lib.study import yardsticks
from m2lib.study.yardsticks import PLAIN, STATISTICAL, measured, record_yardsticks, recorded_yardsticks, statistical

FAST = [name for name in PLAIN if name not in STATISTICAL]


def test_all_are_recorded_on_all_sets():
    for where in ("validation", "test", *WORLDS):
        found = recorded_yardsticks(where)
        assert set(found) == {*PLAIN, *FITS}
        ids = getattr(split_ids(), where, range(yardsticks.WORLD_SERIES))
        assert all(sorted(maes) == sorted(ids) for maes in found.values())


@pytest.mark.parametrize("where", ["test", "Holling type III"])
def test_the_record_is_what_the_forecasters_come_to(data, where):
    series, ids = (data, split_ids().test) if where == "test" else (WORLDS[where](30), range(30))
    recorded = recorded_yardsticks(where)
    for name in FAST:
        maes, seconds = measured(series, ids, name)
        assert maes == pytest.approx(recorded[name], rel=1e-6), name
        assert 0 < seconds < 1
    few = list(ids)[:3]
    maes, _ = measured(series, few, next(iter(FITS)))
    assert maes == pytest.approx({i: recorded[next(iter(FITS))][i] for i in few}, abs=1)


def test_the_physics_wins_where_it_is_known():
    found = {name: np.mean(list(maes.values())) for name, maes in recorded_yardsticks("test").items()}
    exact, like_the_file = (found[name] for name in FITS)
    assert exact < 2
    assert like_the_file < 0.6
    assert min(found[name] for name in found if name not in FITS) > 10 * exact
    seconds = {
        (row["set"], row["forecaster"]): row["seconds"]
        for row in json.loads(yardsticks.repository(*yardsticks.FILE).read_text())["rows"]
    }
    assert max(seconds["test", name] for name in FITS) < 2


def test_known_errors():
    known = {"last value": (199.7, 152.8), "mean": (142.7, 94.7), "nearest": (37.7, 23.2), "log-VAR": (40.6, 10.9)}
    found = recorded_yardsticks("test")
    for name in BASELINES:
        expected = next(errors for begin, errors in known.items() if name.startswith(begin))
        errors = list(found[name].values())
        assert (round(np.mean(errors), 1), round(np.median(errors), 1)) == expected


def test_statistical_models_are_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    with pytest.raises(
        InputError, match=r"statsforecast is not installed; `pip install 'm2lib\[yardsticks\]'` brings it"
    ):
        statistical("AutoTheta", np.ones((1, 80, 2)))


def test_a_record_is_written_whole(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(yardsticks, "sets", lambda: {"test": (data, split_ids().test[:2])})
    monkeypatch.setattr(yardsticks, "PLAIN", {name: PLAIN[name] for name in FAST})
    path = record_yardsticks(tmp_path / "y.json")
    rows = json.loads(path.read_text())["rows"]
    assert [row["forecaster"] for row in rows] == [*FAST, *FITS]
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
