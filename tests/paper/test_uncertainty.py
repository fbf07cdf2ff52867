"""What recorded samples come to: here those of the committed record of 12 samples, and made ones."""

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from m2lib.files import ROOT, InputError
from m2lib.paper import panels, uncertainty
from m2lib.paper.uncertainty import LOG_VAR, Sampled
from m2lib.series import crps_fair
from m2lib.study import EXPERIMENTS, PROFILES, load_record

LAPTOP = ROOT / "report" / "results" / "laptop-smollm2-135m"


@pytest.fixture(scope="module")
def found(data):
    record = load_record("laptop", "final-sampled")
    return Sampled.of({"final": record}, {"final": load_record("laptop", "final").maes()}, data)


def made(samples, truths):
    nothing = np.empty(0)
    return Sampled({}, {}, list(range(len(truths))), nothing, nothing, truths, {"final": samples})


def test_scores_are_those_of_the_record(found):
    record = found.records["final"]
    assert found.ids == sorted(record.series)
    assert found.by_series(crps_fair, "final") == pytest.approx({i: e["crps"] for i, e in record.series.items()})
    assert found.mean(uncertainty.median_mae, "final") == pytest.approx(np.mean(list(record.maes().values())))
    assert found.samples[LOG_VAR].shape == found.samples["final"].shape == (50, 12, 20, 2)
    assert found.shown == "final"


def test_a_factor_from_one_set_of_series_mends_the_bands_of_another():
    rng = np.random.default_rng(0)
    sets = [made(rng.normal(500, 10, (40, 48, 20, 2)), rng.normal(500, 30, (40, 20, 2))) for _ in range(2)]
    factor = uncertainty.factor_for(sets[0], "final")
    assert factor == pytest.approx(3, rel=0.1)
    assert uncertainty.held(sets[1], "final")[0.8] < 0.4
    assert uncertainty.held(sets[1], "final", factor=factor)[0.8] == pytest.approx(0.8, abs=0.03)


def test_the_spread_of_right_samples_is_their_error():
    rng = np.random.default_rng(1)
    right = made(rng.normal(500, 30, (40, 48, 20, 2)), rng.normal(500, 30, (40, 20, 2)))
    spread, error = (right.mean(score, "final") for score in (uncertainty.spread, uncertainty.median_mae))
    assert spread == pytest.approx(error, rel=0.05)


def test_the_median_of_all_samples_is_drawn_once(found):
    errors = uncertainty.errors_of_medians(found, "final")
    assert list(errors) == [1, 2, 3, 4, 6, 8, 12]
    assert errors[12] == pytest.approx(found.mean(uncertainty.median_mae, "final"))
    assert errors[1] > errors[3] > errors[12]


@pytest.mark.parametrize("draw", uncertainty.FIGURES, ids=lambda draw: draw.__name__)
def test_a_figure_is_drawn_of_any_number_of_samples(draw, found):
    figure = draw(found)
    assert all(ax.has_data() for ax in figure.axes if ax.get_visible())
    plt.close(figure)


def test_numbers_hold_every_forecaster(found):
    numbers = uncertainty.numbers(found, found, {"temperature/final/0.7": load_record("laptop", "trial/sampled")})
    rows = {row["name"]: row for row in numbers["rows"]}
    assert list(rows) == ["final", LOG_VAR]
    ours = rows["final"]
    assert ours["crps"] == pytest.approx(14.0, abs=0.05)
    assert ours["crps"] < ours["median of samples"] < ours["greedy"]
    assert ours["held when stretched"][1] == pytest.approx(0.8, abs=0.001)  # mended on these very series
    assert numbers["gains"][LOG_VAR]["mean"] == pytest.approx(rows[LOG_VAR]["crps"] - ours["crps"])
    assert [len(row["crps"]) for row in numbers["temperatures"]] == [1]
    assert numbers["cost"]["share of the budget"] < 0.02
    assert numbers["cost"]["one greedy forecast as published"] > numbers["cost"]["flops"]["coursework"]


def test_whose_samples_are_read():
    found = panels.sampled(PROFILES["laptop"])
    assert (list(found.samples), found.shown) == (["untuned", "final", "best", LOG_VAR], "best")
    assert list(found.greedy) == list(found.records)
    assert panels.sampled(PROFILES["laptop"], "validation").greedy == {}


def test_a_record_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    with pytest.raises(InputError, match=r"no record .*untuned/test\.json; .* m2 run samples/untuned/test`"):
        panels.sampled(PROFILES["laptop"])


def test_greedy_forecasts_are_of_the_test_series():
    assert {EXPERIMENTS[name].split for name in uncertainty.GREEDY.values()} == {"test"}
