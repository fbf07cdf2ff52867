"""The table of errors, samples and the power law, against records and made numbers."""

import json

import numpy as np
import pytest
from scipy.stats import linregress

from m2lib.files import InputError
from m2lib.series import crps_fair
from study import (
    EXPERIMENTS,
    PROFILES,
    REPLICATION,
    SEARCH,
    SECOND,
    load_record,
    published_maes,
    record_path,
    recorded_rows,
)
from study.paper import errors
from study.worlds import WORLDS

LAPTOP = PROFILES["laptop"]


def test_a_row_is_a_forecast_of_a_series():
    record = load_record("laptop", "final-sampled")
    table = errors.error_table({"final-sampled": record})
    ours = table[table["who"] == "ours"]
    assert (list(table), len(ours)) == (["who", "experiment", "split", "series", "mae", "crps"], 50)
    assert dict(zip(ours["series"], ours["crps"], strict=True)) == {
        i: e["crps"] for i, e in record.series.items()
    }
    assert set(ours["split"]) == {"test"}
    found = errors.runs(table)
    assert found["published", "final"].to_dict() == published_maes("final")
    assert found["ours", "final-sampled"].to_dict() == record.maes()
    for where in ("validation", "test", *WORLDS):
        for name, row in recorded_rows(where).items():
            assert found[where, name].to_dict() == row["maes"]
    assert found.keys() == errors.recorded_runs(LAPTOP, "final-sampled").keys()


def test_what_asks_an_adapter_again_counts_to_its_training():
    found = errors.recorded_runs(REPLICATION["fifth"], *SEARCH, *SECOND)
    asked = {
        who: [name for name in SEARCH if len(found[who, name]) == 20]
        for who in ("ours", "published")
    }
    assert asked["ours"] == asked["published"] == [*SEARCH[6:]]
    assert ("ours", SECOND[0]) not in found


def test_an_unfinished_or_missing_record_is_no_result(tmp_path, monkeypatch):
    record = json.loads(record_path("laptop", "final").read_text(encoding="utf-8")) | {
        "status": "running"
    }
    path = tmp_path / "laptop-smollm2-135m" / "final.json"
    path.parent.mkdir()
    path.write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    with pytest.raises(
        InputError,
        match=r"final\.json is not finished; `M2_PROFILE=laptop python -m study run final` goes on",
    ):
        errors.finished_record(LAPTOP, "final")
    with pytest.raises(
        InputError,
        match=r"no record .*untuned/test\.json; .* python -m study run samples/untuned/test`",
    ):
        errors.sampled(LAPTOP)


def test_the_active_profile_is_shown_where_it_keeps_records(monkeypatch):
    assert errors.shown_profile() == LAPTOP
    monkeypatch.setenv("M2_PROFILE", "report")
    assert errors.shown_profile().name == "report"


def test_the_untuned_model_is_decoded_as_the_final_one():
    assert errors.untuned_like_final(LAPTOP).protocol == load_record("laptop", "final").protocol
    assert {EXPERIMENTS[name].split for name in errors.GREEDY.values()} == {"test"}


def test_samples_are_those_of_the_record():
    record = load_record("laptop", "final-sampled")
    found = errors.Sampled.of({"final": record})
    crps = {series: entry["crps"] for series, entry in sorted(record.series.items())}
    assert found.by_series(crps_fair, "final").to_dict() == pytest.approx(crps)
    maes = found.by_series(errors.median_mae, "final")
    assert maes.mean() == pytest.approx(np.mean(list(record.maes().values())))
    assert found.samples[errors.LOG_VAR].shape == found.samples["final"].shape == (50, 12, 20, 2)
    assert found.shown == "final"


def test_a_factor_from_one_set_of_series_mends_the_bands_of_another():
    rng = np.random.default_rng(0)
    old, new = (
        errors.Sampled(
            {}, [*range(40)], np.empty(0), rng.normal(500, 30, (40, 20, 2)), {"made": samples}
        )
        for samples in (rng.normal(500, 10, (40, 48, 20, 2)), rng.normal(500, 10, (40, 48, 20, 2)))
    )
    factor = old.factor("made")
    assert factor == pytest.approx(3, rel=0.1)
    assert new.held("made")[0.8] < 0.4
    assert new.held("made", factor=factor)[0.8] == pytest.approx(0.8, abs=0.03)


def test_milestones_are_the_forecasting_evaluations_after_the_start():
    record = load_record("laptop", "final")
    record.loss_curve, record.flops["training"]["coursework"] = [1.0] * 4, 800
    record.evaluations = [
        {"step": 0, "loss": 1.5, "mae_mean": 200.0, "mae_median": 100.0},
        {"step": 1, "loss": 1.2},
        {"step": 2, "loss": 1.0, "mae_mean": 50.0, "mae_median": 30.0},
    ]
    (found,) = errors.milestones(record).to_dict("records")
    assert found == record.evaluations[2] | {"flops": 400}


def test_a_power_law_comes_back_with_the_intervals_of_a_regression():
    law = errors.power_law([1e13, 1e14, 1e15], [200, 20, 2], at=1e17)
    assert law["exponent"] == pytest.approx(-1)
    assert (law["there"], *law["interval there"]) == pytest.approx((0.02, 0.02, 0.02))
    x = np.geomspace(1e13, 1e15, 6)
    y = [90, 66, 40, 33, 20, 17]
    law = errors.power_law(x, y, at=np.array([1e14, 1e17]))
    theirs = linregress(np.log(x), np.log(y))
    low, high = law["exponent interval"]
    # Student's t, 4 degrees of freedom
    assert (high - low) / 2 == pytest.approx(2.7764 * theirs.stderr, rel=1e-4)
    (near, far), (above, far_above) = law["interval there"]
    assert near < law["there"][0] < above
    assert far_above / far > above / near


def test_intervals_hold_what_they_promise():
    rng = np.random.default_rng(0)
    x = np.geomspace(1, 100, 6)
    held = 0
    for _ in range(1000):
        y = 50 * x**-0.4 * np.exp(rng.normal(0, 0.2, 6))
        low, high = errors.power_law(x, y, at=1000)["interval there"]
        held += low < 50 * 1000**-0.4 * np.exp(rng.normal(0, 0.2)) < high
    assert held == pytest.approx(950, abs=20)
