"""The recorded yardsticks are what their forecasters come to, and a record is kept row by row."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import yardsticks
from benchmarks.physics import FITS
from benchmarks.yardstick_costs import FORMULAS
from benchmarks.yardsticks import (
    LANGUAGE_MODELS,
    NETWORK,
    WITHOUT_MODEL,
    forecasters,
    measured,
    record_yardsticks,
    statistical,
)
from m2lib.accounting import Shape
from m2lib.series import log_var, series_mae, split_ids, to_integers
from study import ORDER, STATISTICAL, load_record, recorded_rows, recorded_yardsticks
from study.costs import series_costs
from study.experiments import CONSTRAINED
from study.worlds import WORLDS

FAST = [name for name in WITHOUT_MODEL if name not in STATISTICAL]
EXACT_FIT, FIT_LIKE_THE_FILE = FITS
UNTUNED, FINAL, *_ = LANGUAGE_MODELS


# The committed record.


@pytest.mark.parametrize("where", ["validation", "test", *WORLDS])
def test_every_forecaster_is_recorded_on_every_set(where):
    recorded = recorded_yardsticks(where)
    always = {*WITHOUT_MODEL, *FITS, UNTUNED, FINAL}
    assert always <= set(recorded)
    assert set(recorded) <= set(forecasters())

    ids = getattr(split_ids(), where, range(yardsticks.WORLD_SERIES))
    for maes in recorded.values():
        assert sorted(maes) == sorted(ids)


@pytest.mark.parametrize("where", ["test", "Holling type III"])
def test_the_record_is_what_the_forecasters_come_to(data, where):
    if where == "test":
        series = data
        ids = split_ids().test
    else:
        series = WORLDS[where](30)
        ids = range(30)
    recorded = recorded_yardsticks(where)

    for name in FAST:
        row = measured(series, ids, name)
        digits = 1e-4 if name == NETWORK else 1e-6  # the network computes in float32
        assert row["maes"] == pytest.approx(recorded[name], rel=digits), name
        assert 0 <= row["seconds"] < 1

    # A fit takes longer, and its last digits depend on the machine.
    few = list(ids)[:3]
    maes = measured(series, few, EXACT_FIT)["maes"]
    assert maes == pytest.approx({i: recorded[EXACT_FIT][i] for i in few}, abs=1)


@pytest.mark.parametrize(("where", "name"), yardsticks.STUDIED)
def test_what_the_study_has_forecast_itself_is_as_in_its_record(where, name):
    record = load_record("laptop", yardsticks.STUDIED[where, name])
    row = recorded_rows(where)[name]
    assert row["maes"] == record.maes(), "run `python -m benchmarks.yardsticks`"
    assert row["adapter"] == record.adapter


@pytest.mark.parametrize("where", ["validation", "test", *WORLDS])
def test_what_has_learned_is_recorded_with_the_weights_as_they_are_now(where):
    rows = recorded_rows(where)
    for name in (NETWORK, *LANGUAGE_MODELS):
        hash_now = yardsticks._weights_of(name)
        assert rows[name]["adapter"] == hash_now, "run `python -m benchmarks.yardsticks`"


@pytest.mark.parametrize(
    ("device", "seconds"), [("cpu: A, 4 threads; cpu: B, 2 threads", 100), ("cpu: A", 50)]
)
def test_the_studys_own_forecasts_count_by_the_threads_that_made_them(
    device, seconds, data, monkeypatch
):
    record = SimpleNamespace(
        device=device,
        seconds=110.0,
        train_seconds=10.0,
        flops={"forecasts": {"executed": 6, "coursework": 8}},
        series={1: {}, 2: {}},
        adapter="a hash",
        maes=lambda: {1: 3.0, 2: 4.0},
    )
    monkeypatch.setattr(yardsticks, "load_finished", lambda *_: record)
    row = yardsticks._studied("final", data)
    assert row["seconds"] == seconds
    assert row["flops"] == 3
    assert row["coursework"] == 4


def test_the_order_of_the_regression_is_chosen_on_validation(data):
    ids = list(split_ids().validation)
    integers = to_integers(data.trajectories[ids], data.scales[ids])
    contexts = integers[:, :80]
    truths = integers[:, 80:]

    errors = {}
    for order in range(1, 11):
        errors[order] = series_mae(log_var(contexts, order=order), truths).mean()

    assert min(errors, key=errors.get) == ORDER


def test_to_know_the_equations_is_better_than_all_else_by_far():
    """The fits come to 0.3 and 1.2 scaled units, and the next best forecaster to 8.6."""
    means = {}
    for name, maes in recorded_yardsticks("test").items():
        means[name] = np.mean(list(maes.values()))
    like_the_file = means.pop(FIT_LIKE_THE_FILE)
    exact = means.pop(EXACT_FIT)

    assert like_the_file < 0.6 < exact < 2
    assert min(means.values()) / 3 > 2  # those of all others


def test_a_fit_takes_less_than_two_seconds():
    rows = recorded_rows("test")
    assert rows[EXACT_FIT]["seconds"] < 2
    assert rows[FIT_LIKE_THE_FILE]["seconds"] < 2


# Forecasters.


def test_statistical_models_forecast_from_zero_to_ten_times_the_largest_value(monkeypatch):
    class Wild:
        def __init__(self, season_length):
            pass

        def forecast(self, y, h):
            return {"mean": np.linspace(-1000, 1000, h)}

    library = SimpleNamespace(models=SimpleNamespace(Wild=Wild))
    monkeypatch.setitem(sys.modules, "statsforecast", library)

    forecasts = statistical("Wild", np.full((1, 80, 2), 3.0))

    assert forecasts.min() == 0
    assert forecasts.max() == 30


def test_the_language_model_forecasts_worlds_too(monkeypatch, smollm2):
    monkeypatch.setattr(yardsticks, "_language_model", lambda adapter: smollm2)

    row = measured(WORLDS["a tenth of the size"](2), [1], UNTUNED)

    assert 0 < row["maes"][1] < 3000
    # Two for each of the 106 million weights in the layers and some 850 tokens are 1.8e11;
    # attention and logits come on top.
    assert 1e11 < row["flops"] < row["coursework"] < 3e11


def test_general_shares_its_samples_out_among_its_views(tiny, data):
    ids = list(split_ids().validation)[:2]

    points, parts = yardsticks._sampled(tiny, data.contexts[ids], data.scales[ids])

    assert points.shape == data.truths[ids].shape
    asked = []
    written = []  # for each view, the samples of the two series
    context_tokens = []
    for protocol, forecasts in parts:
        asked.append(protocol.n_samples)
        written.append([len(forecast.texts) for forecast in forecasts])
        context_tokens.append(forecasts[0].prompt_tokens)
    assert asked == [6, 5, 5]
    assert written == [[6, 6], [5, 5], [5, 5]]
    # The second view shows all 80 steps, and the others 60.
    assert context_tokens[1] > context_tokens[0]
    assert context_tokens[1] > context_tokens[2]


def test_statistical_models_take_the_season_of_each_variable_where_they_can(monkeypatch):
    seasons = []

    class LastValue:
        def __init__(self, season_length):
            seasons.append(season_length)

        def forecast(self, y, h):
            return {"mean": np.full(h, y[-1])}

    models = SimpleNamespace(**dict.fromkeys(STATISTICAL, LastValue))
    monkeypatch.setitem(sys.modules, "statsforecast", SimpleNamespace(models=models))
    steps = np.arange(80)
    waves = [10 + 5 * np.sin(2 * np.pi * steps / period) for period in (8, 30)]
    contexts = np.stack(waves, axis=1)[None]

    seasons_of = {}
    for model in STATISTICAL:
        seasons.clear()
        forecasts = statistical(model, contexts)
        seasons_of[model] = seasons.copy()
        assert np.array_equal(forecasts[0, 0], contexts[0, -1])
    assert seasons_of == {"AutoARIMA": [1, 1], "AutoETS": [8, 1], "AutoTheta": [8, 30]}


@pytest.fixture
def six_seconds(monkeypatch):
    """Let each set take six seconds of the processor."""
    clock = iter([1.0, 7.0])
    monkeypatch.setattr(yardsticks, "time", SimpleNamespace(process_time=lambda: next(clock)))


def test_a_statistical_model_is_charged_for_the_seconds_of_a_series(data, six_seconds, monkeypatch):
    monkeypatch.setitem(yardsticks.WITHOUT_MODEL, "AutoARIMA", WITHOUT_MODEL[FAST[0]])
    monkeypatch.setattr(yardsticks, "core_rate", lambda: 1e9)

    row = measured(data, split_ids().test[:3], "AutoARIMA")

    assert row["seconds"] == 2
    assert row["flops"] == 2e9
    assert row["bound"] == "at most"


def test_a_language_model_costs_the_mean_over_its_series(tiny, data, six_seconds, monkeypatch):
    forecasts = []
    for new in (100, 150):
        tokens = {"prompt_tokens": 700, "padded_tokens": 700}
        tokens |= {"new_tokens": (new,), "passes": (new - 1,)}
        forecasts.append(SimpleNamespace(point=np.zeros((20, 2)), **tokens))
    monkeypatch.setattr(yardsticks, "_language_model", lambda adapter: tiny)
    monkeypatch.setattr(yardsticks, "forecast", lambda *_, **__: forecasts)

    row = measured(data, split_ids().test[:2], UNTUNED)

    shape = Shape.of(tiny.model.config)
    first, second = (series_costs(shape, vars(one), CONSTRAINED) for one in forecasts)
    assert row["seconds"] == 3
    assert row["flops"] == (first["executed"] + second["executed"]) / 2
    assert row["coursework"] == (first["coursework"] + second["coursework"]) / 2


# A new record.


@pytest.fixture
def two_series(data, monkeypatch):
    """Let two test series be forecast, by the quick forecasters and two language models."""
    monkeypatch.setattr(yardsticks, "sets", lambda: {"test": (data, split_ids().test[:2])})
    monkeypatch.setattr(yardsticks, "WITHOUT_MODEL", {name: WITHOUT_MODEL[name] for name in FAST})
    monkeypatch.setattr(yardsticks, "LANGUAGE_MODELS", {UNTUNED: None, FINAL: "final"})


def test_a_row_says_what_it_cost(two_series, tmp_path):
    path = record_yardsticks(tmp_path / "yardsticks.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = {row["forecaster"]: row for row in record["rows"]}

    assert list(rows) == [*FAST, *FITS, UNTUNED, FINAL]
    for name in FORMULAS:
        assert rows[name]["flops"] == FORMULAS[name]
        assert "bound" not in rows[name]
    assert rows[NETWORK]["bound"] == "at most"
    for name in FITS:
        assert rows[name]["flops"] > 1e5
        assert rows[name]["bound"] == "at least"

    # The study has recorded the language models itself: on all 50 series, with two threads.
    final = load_record("laptop", "final")
    row = rows[FINAL]
    seconds_of_forecasts = final.seconds - final.train_seconds
    assert row["maes"] == {str(i): mae for i, mae in final.maes().items()}
    assert row["flops"] == pytest.approx(final.flops["forecasts"]["executed"] / 50)
    assert row["seconds"] == pytest.approx(2 * seconds_of_forecasts / 50)
    assert row["adapter"] == final.adapter
    assert rows[UNTUNED]["adapter"] == ""
    assert final.adapter != ""


def test_a_record_is_kept_and_goes_on_where_it_was_stopped(two_series, tmp_path, monkeypatch):
    monkeypatch.setattr(yardsticks, "LANGUAGE_MODELS", {FINAL: "final"})
    monkeypatch.setattr(yardsticks, "STUDIED", {})
    committed = recorded_yardsticks("validation")
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    assert recorded_yardsticks("validation") == committed  # there is no other one yet

    measure = yardsticks.measured

    def stopping(series, ids, name):
        if name == FAST[2]:
            raise KeyboardInterrupt
        return measure(series, ids, name)

    monkeypatch.setattr(yardsticks, "measured", stopping)
    with pytest.raises(KeyboardInterrupt):
        record_yardsticks()
    assert list(recorded_yardsticks("test")) == FAST[:2]

    names = []

    def listing(series, ids, name):
        names.append(name)
        return measure(series, ids, name)

    # It goes on after what it has, and the second call finds nothing to be done.
    monkeypatch.setattr(yardsticks, "measured", listing)
    path = tmp_path / "yardsticks.json"
    assert record_yardsticks() == path
    assert record_yardsticks() == path
    assert names == [*FAST[2:], *FITS]
    # Where there is a record, it is read instead of the committed one.
    assert recorded_yardsticks("validation") == {}
    assert all(len(maes) == 2 for maes in recorded_yardsticks("test").values())

    # Of other data under the same name all is measured anew.
    names.clear()
    other_data = WORLDS["noise of 5%"](3)
    monkeypatch.setattr(yardsticks, "sets", lambda: {"test": (other_data, range(2))})
    record_yardsticks()
    assert names == [*FAST, *FITS]


@pytest.mark.parametrize("learned", [FINAL, NETWORK])
def test_a_row_of_other_weights_is_measured_anew(learned, two_series, tmp_path, monkeypatch):
    names = []

    def measure(series, ids, name):
        names.append(name)
        adapter = yardsticks._weights_of(name)
        return {"seconds": 1.0, "adapter": adapter, "maes": dict.fromkeys(ids, 1.0)}

    monkeypatch.setattr(yardsticks, "WITHOUT_MODEL", {})
    monkeypatch.setattr(yardsticks, "FITS", {})
    monkeypatch.setattr(yardsticks, "STUDIED", {})
    monkeypatch.setattr(yardsticks, "LANGUAGE_MODELS", {FINAL: "final"})
    monkeypatch.setattr(yardsticks, "measured", measure)
    monkeypatch.setattr(yardsticks, "forecasters", lambda: (learned,))
    path = tmp_path / "yardsticks.json"

    record_yardsticks(path)
    record_yardsticks(path)
    assert names == [learned]

    monkeypatch.setattr(yardsticks, "_weights_of", lambda name: "another")
    record_yardsticks(path)
    assert names == [learned, learned]


@pytest.fixture
def worlds_in_two_units():
    """Return one world twice, in other units, and once more with a series less."""
    return {
        "small": (WORLDS["a tenth of the size"](2), [0, 1]),
        "large": (WORLDS["ten times the size"](2), [0, 1]),
        "fewer": (WORLDS["ten times the size"](2), [0]),
    }


@pytest.mark.parametrize(
    ("set_name", "forecaster", "known"),
    [
        pytest.param("large", UNTUNED, {"seconds": 1.0}, id="the same in other units"),
        pytest.param("fewer", UNTUNED, None, id="other series"),
        pytest.param("large", FAST[0], None, id="no language model"),
    ],
)
def test_a_language_model_is_asked_once_about_a_world_in_two_units(
    worlds_in_two_units, set_name, forecaster, known
):
    rows = {}
    for name in (UNTUNED, FAST[0]):
        rows["small", name] = {"set": "small", "forecaster": name, "seconds": 1.0}
        rows["large", name] = None
        rows["fewer", name] = None

    assert yardsticks._of_a_twin(rows, worlds_in_two_units, set_name, forecaster) == known
