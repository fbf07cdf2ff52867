"""The recorded yardsticks are what their forecasters come to, and cost what their formulas say."""

import json
import sys

import numpy as np
import pytest

from benchmarks import yardsticks
from benchmarks.physics import FITS, physics_forecast
from benchmarks.yardstick_costs import FORMULAS, RATES, CountedRates, core_rate
from benchmarks.yardsticks import (
    LANGUAGE_MODELS,
    PLAIN,
    forecasters,
    measured,
    record_yardsticks,
    statistical,
)
from m2lib.files import InputError
from m2lib.series import (
    draw_systems,
    log_var,
    series_mae,
    split_ids,
    to_integers,
)
from m2lib.series.data import solve_system
from study import ORDER, STATISTICAL, load_record, recorded_rows, recorded_yardsticks
from study.worlds import WORLDS

FAST = [name for name in PLAIN if name not in STATISTICAL]
UNTUNED, FINAL, *_ = LANGUAGE_MODELS


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
    errors = {
        k: series_mae(log_var(known[:, :80], order=k), known[:, 80:]).mean() for k in range(1, 11)
    }
    assert min(errors, key=errors.get) == ORDER


def test_physics_wins_where_it_is_known():
    means = {
        name: np.mean(list(maes.values())) for name, maes in recorded_yardsticks("test").items()
    }
    exact, like_the_file = (means.pop(name) for name in FITS)
    assert like_the_file < 0.6 < exact < 2 < min(means.values()) / 3
    assert max(recorded_rows("test")[name]["seconds"] for name in FITS) < 2


def test_statistical_models_are_optional(monkeypatch):
    monkeypatch.setitem(sys.modules, "statsforecast", None)
    with pytest.raises(
        InputError, match=r"statsforecast is not installed; `pip install statsforecast` brings it"
    ):
        statistical("AutoTheta", np.ones((1, 80, 2)))


@pytest.fixture
def two(data, monkeypatch):
    """Two test series and the quick forecasters."""
    monkeypatch.setattr(yardsticks, "sets", lambda: {"test": (data, split_ids().test[:2])})
    monkeypatch.setattr(yardsticks, "PLAIN", {name: PLAIN[name] for name in FAST})
    monkeypatch.setattr(yardsticks, "LANGUAGE_MODELS", {UNTUNED: None, FINAL: "final"})


def test_a_row_says_what_it_cost(two, tmp_path):
    path = record_yardsticks(tmp_path / "y.json")
    rows = {row["forecaster"]: row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]}
    assert list(rows) == [*FAST, *FITS, UNTUNED, FINAL]
    assert all(rows[name]["flops"] == FORMULAS[name] and "bound" not in rows[name] for name in FAST)
    assert all(rows[name]["bound"] == "at least" and rows[name]["flops"] > 1e5 for name in FITS)
    final = load_record("laptop", "final")
    # of the study: all 50
    assert rows[FINAL]["maes"] == {str(i): mae for i, mae in final.maes().items()}
    assert rows[FINAL]["flops"] == pytest.approx(final.flops["forecasts"]["executed"] / 50)
    # two threads
    assert rows[FINAL]["seconds"] == pytest.approx(2 * (final.seconds - final.train_seconds) / 50)
    assert rows[FINAL]["adapter"] == final.adapter != rows[UNTUNED]["adapter"] == ""


def test_a_record_is_kept_and_read_where_there_is_one(two, tmp_path, monkeypatch):
    monkeypatch.setattr(yardsticks, "LANGUAGE_MODELS", {})
    monkeypatch.setattr(yardsticks, "STUDIED", {})
    committed = recorded_yardsticks("validation")
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    assert recorded_yardsticks("validation") == committed  # none there yet
    path = tmp_path / "yardsticks.json"
    measure = yardsticks.measured
    found = []

    def stopping(series, ids, name):
        if name == FAST[2] and not found:
            raise KeyboardInterrupt
        return measure(series, ids, name)

    monkeypatch.setattr(yardsticks, "measured", stopping)
    with pytest.raises(KeyboardInterrupt):
        record_yardsticks()
    assert list(recorded_yardsticks("test")) == FAST[:2]
    monkeypatch.setattr(yardsticks, "measured", lambda *of: found.append(of[2]) or measure(*of))
    assert record_yardsticks() == record_yardsticks() == path
    assert found == [*FAST[2:], *FITS]
    assert recorded_yardsticks("validation") == {}
    assert all(len(maes) == 2 for maes in recorded_yardsticks("test").values())
    found.clear()
    monkeypatch.setattr(yardsticks, "sets", lambda: {"test": (WORLDS["noise of 5%"](3), range(2))})
    record_yardsticks()
    assert found == [*FAST, *FITS]


def test_the_language_model_forecasts_worlds_too(monkeypatch, smollm2):
    monkeypatch.setattr(yardsticks, "_language_model", lambda adapter: smollm2)
    row = measured(WORLDS["a tenth of the size"](2), [1], UNTUNED)
    assert 0 < row["maes"][1] < 3000
    assert 1e11 < row["flops"] < row["coursework"] < 3e11


@pytest.fixture
def context():
    (system,) = draw_systems(1, 5)
    return np.rint(100 * solve_system(system, np.linspace(0, 200, 100))[:80])[None]


def test_formulas_by_hand():
    # The mean of 80 values takes 79 sums and a division, for each of two variables.
    assert FORMULAS["last value, repeated"] == 0
    assert FORMULAS["mean of the context, repeated"] == 2 * 80
    # 55 stretches of 6 steps begin before the last 6 + 20: each has 12 numbers.
    assert FORMULAS["nearest analogue in the context"] == (80 - 6 - 20 + 1) * (12 + 12 + 11)
    # Logarithms, their mean, the distances from it, and 159 lags.
    lags = sum(k + k - 1 for k in [*range(1, 80), *range(80, 0, -1)])
    assert FORMULAS["the last period, repeated"] == 2 * (10 * 80 + 80 + 80 + lags)
    # 77 rows, 7 columns, 2 right-hand sides; 20 steps of 2 products of 7, and a bound; logarithms
    # and exponentials.
    solved = 2 * 77 * 49 + 11 * 343 + 4 * 77 * 7 * 2
    iterated = 20 * (2 * 13 + 11) + 10 * (160 + 40)
    assert FORMULAS["log-VAR(3), fitted to the context"] == solved + iterated


def test_the_operations_of_a_fit_are_counted(context):
    rates = CountedRates()
    name, _ = FITS
    contexts = context.astype(int)
    scales = np.array([10.0])
    times = np.linspace(0, 200, 100)
    counted = physics_forecast(contexts, scales, times, name, rates)
    assert np.array_equal(counted, physics_forecast(contexts, scales, times, name))
    assert 1e4 < rates.states < 1e7
    assert RATES == 13
    assert rates.flops == 13 * rates.states
    assert {*FORMULAS, *STATISTICAL} == set(PLAIN)
    assert core_rate() > 1e8


def test_general_shares_its_samples_out_among_its_views(tiny, data):
    ids = list(split_ids().validation)[:2]
    points, parts = yardsticks._sampled(tiny, data.contexts[ids], data.scales[ids])
    assert points.shape == data.truths[ids].shape
    assert [protocol.n_samples for protocol, _ in parts] == [6, 5, 5]
    assert [[len(one.texts) for one in forecasts] for _, forecasts in parts] == [
        [6, 6],
        [5, 5],
        [5, 5],
    ]
    # The second view shows all 80 steps, and the others 60.
    shown = [forecasts[0].prompt_tokens for _, forecasts in parts]
    assert shown[1] > max(shown[0], shown[2])


def test_a_language_model_is_asked_once_about_a_world_in_two_units():
    sets = {
        "small": (WORLDS["a tenth of the size"](2), [0, 1]),
        "large": (WORLDS["ten times the size"](2), [0, 1]),
        "fewer": (WORLDS["ten times the size"](2), [0]),
    }
    rows = dict.fromkeys([(place, name) for place in sets for name in (UNTUNED, FAST[0])])
    for name in (UNTUNED, FAST[0]):
        rows["small", name] = {"set": "small", "forecaster": name, "seconds": 1.0}
    assert yardsticks._of_a_twin(rows, sets, "large", UNTUNED) == {"seconds": 1.0}
    assert yardsticks._of_a_twin(rows, sets, "fewer", UNTUNED) is None
    assert yardsticks._of_a_twin(rows, sets, "large", FAST[0]) is None
