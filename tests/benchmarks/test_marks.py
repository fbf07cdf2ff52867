"""The errors at the marks of the final run, and the table of them in the book."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import marks
from m2lib.decoding import forecast
from m2lib.errors import InputError
from m2lib.files import read_json, write_json
from m2lib.model import adapter_hash, load_adapter, load_backbone
from m2lib.series import SeriesSet, split_ids
from m2lib.series.intervals import paired_gain
from pages import sentences_of, text_of
from study.experiments import EXPERIMENTS
from study.profiles import REPLICATION, Profile
from study.records import Entry, adapter_path, load_record, save_record
from study.runs import run

SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=1,
    train={"final": {"steps": 3, "sequence_length": 64, "learning_rate": 1e-2}},
    protocol={"final": {"max_new_tokens": 20}},
    forecast_dtype="float32",
    evaluate_every=2,
    watched=1,
)


@pytest.fixture
def forty(data):
    """Return the first 40 series, whose validation split is two, so that a forecast is short."""
    return SeriesSet(data.trajectories[:40], data.time, "forty")


@pytest.fixture
def trained(store, forty, monkeypatch):
    """Run `final` on the tiny model with a mark after two of its three steps."""
    monkeypatch.setitem(EXPERIMENTS, "final", replace(EXPERIMENTS["final"], marks=(2,)))
    run("final", SMALL, data=forty)
    return store


def test_a_mark_is_forecast_with_the_adapter_that_was_kept_there(trained, forty, monkeypatch):
    monkeypatch.setenv("M2_DTYPE", "bfloat16")  # but the profile prescribes float32
    marks.record_marks(SMALL, forty)

    (row,) = read_json(trained / "results" / "marks.json")
    folder = adapter_path(SMALL, "final", 2)
    assert row["step"] == 2
    assert row["dtype"] == "float32"
    assert row["adapter"] == adapter_hash(folder) != load_record(SMALL, "final").adapter
    assert row["loss"] == load_record(SMALL, "final").evaluations[1]["loss"]

    backbone = load_backbone("tiny", dtype="float32")
    load_adapter(backbone.model, folder)
    protocol = load_record(SMALL, "final").protocol
    validation = list(split_ids(40).validation)
    forecasts = forecast(backbone, forty.contexts[validation], protocol)
    assert [int(series_id) for series_id in row["series"]] == validation
    for ahead, entry in zip(forecasts, row["series"].values(), strict=True):
        assert entry["text"] == ahead.texts[0]
        assert entry.keys() >= Entry.__required_keys__


def test_a_mark_that_is_recorded_is_not_forecast_again(trained, forty, monkeypatch):
    marks.record_marks(SMALL, forty)
    before = marks.recorded_marks()
    monkeypatch.setattr(marks, "forecast_entries", None)  # it is not called
    marks.record_marks(SMALL, forty)
    assert marks.recorded_marks() == before


def test_rows_of_the_run_before_are_not_kept(trained, forty):
    marks.record_marks(SMALL, forty)
    (row,) = marks.recorded_marks()
    before = {"adapter": "of the run before"}
    write_json(trained / "results" / "marks.json", [row | before, row | before | {"step": 500}])

    marks.record_marks(SMALL, forty)

    (again,) = marks.recorded_marks()
    assert again["step"] == 2
    assert again["adapter"] == row["adapter"]


def test_rows_of_adapters_that_are_kept_stay_if_the_record_is_behind(store, forty, monkeypatch):
    monkeypatch.setitem(EXPERIMENTS, "final", replace(EXPERIMENTS["final"], marks=(1, 2)))
    run("final", SMALL, data=forty)
    marks.record_marks(SMALL, forty)
    _, second = marks.recorded_marks()

    record = load_record(SMALL, "final")
    record = replace(record, status="running", loss_curve=record.loss_curve[:1])
    save_record(SMALL, record)
    write_json(store / "results" / "marks.json", [second])  # the first one is made again
    marks.record_marks(SMALL, forty)

    assert [row["step"] for row in marks.recorded_marks()] == [1, 2]
    assert marks.recorded_marks()[1] == second


def test_without_an_adapter_there_is_nothing_to_forecast_with(store, forty):
    with pytest.raises(InputError, match="final holds no adapter of a mark"):
        marks.record_marks(SMALL, forty)


PAGE = sentences_of("book/claims.md")


def test_the_page_on_claims_has_the_table_of_the_record():
    assert marks.recorded_marks()
    table = marks.marks_table()
    assert table in text_of("book/claims.md"), "`python -m benchmarks.marks` prints it"


@pytest.fixture(scope="module")
def maes():
    """Return the recorded error of each series, by mark and by series."""
    by_step = {}
    for row in marks.recorded_marks():
        by_step[row["step"]] = {int(i): entry["mae"] for i, entry in row["series"].items()}
    return by_step


@pytest.fixture(scope="module")
def losses():
    """Return the recorded losses on validation windows, by mark."""
    return {row["step"]: row["loss"] for row in marks.recorded_marks()}


def test_the_page_says_that_the_errors_stood_still_while_the_loss_fell(maes, losses):
    rise = paired_gain(maes[1500], maes[3150])
    low, high = rise["mean interval"]
    fewer = sum(maes[3150][i] < maes[1500][i] for i in maes[1500])
    assert f"it rose by {rise['mean']:.1f} ({low:.1f} to {high:.1f})" in PAGE
    assert f"the error is lower in {fewer} of the {len(maes[1500])} series and higher in" in PAGE
    assert f"higher in {rise['better']}." in PAGE
    assert f"from {losses[1500]:.3f} nats a token after 1,500 steps" in PAGE


def compare_marks(maes, earlier, later):
    """Compare the errors of two marks, series by series.

    Return the ends of the fall's interval, the fall as the page writes it, and in how many series
    the error is lower and higher.
    """
    fall = paired_gain(maes[later], maes[earlier])
    low, high = fall["mean interval"]
    written = f"{fall['mean']:.1f} ({low:.1f} to {high:.1f})"
    num_higher = sum(maes[later][i] > maes[earlier][i] for i in maes[earlier])
    return low, high, written, fall["better"], num_higher


def test_the_page_says_that_the_errors_fell_after_that(maes, losses):
    low, _, fall, lower, _ = compare_marks(maes, 3150, 5000)
    assert low > 0
    assert f"to {losses[5000]:.3f} after 5,000" in PAGE
    assert f"the mean error fell by {fall}" in PAGE
    assert f"the error is lower in {lower} of the {len(maes[5000])} series. - From" in PAGE


def test_the_page_does_not_say_that_the_errors_fell_from_5000_to_7500_steps(maes, losses):
    low, high, fall, lower, higher = compare_marks(maes, 5000, 7500)
    medians = [np.median(list(maes[step].values())) for step in (5000, 7500)]
    assert low < 0 < high
    assert f"to {losses[7500]:.3f} after 7,500" in PAGE
    assert f"the mean went down by {fall}" in PAGE
    assert f"went up from {medians[0]:.1f} to {medians[1]:.1f}, and the error is lower in" in PAGE
    assert f"in {lower} of the {len(maes[7500])} series and higher in {higher}." in PAGE


@pytest.mark.parametrize(
    ("before", "after", "loss", "change", "next_sentence"),
    [
        (7500, 10_000, "to {:.3f} after 10,000", "the mean went down by", "From"),
        (
            10_000,
            12_500,
            "and to {:.3f} after 12,500",
            "it is the same: the mean went down by",
            "Even",
        ),
    ],
)
def test_the_page_does_not_say_that_the_errors_fell_later(
    before, after, loss, change, next_sentence, maes, losses
):
    low, high, fall, lower, higher = compare_marks(maes, before, after)
    assert low < 0 < high
    assert loss.format(losses[after]) in PAGE
    assert f"{change} {fall}" in PAGE
    series = len(maes[before])
    assert f"{lower} of the {series} series and higher in {higher}. - {next_sentence}" in PAGE


def test_the_page_says_that_the_fall_from_5000_to_12500_steps_may_be_chance(maes):
    low, high, fall, lower, higher = compare_marks(maes, 5000, 12_500)
    assert low < 0 < high
    assert f"it is {fall}" in PAGE
    assert f"in {lower} of the {len(maes[5000])} series and higher ones in {higher}." in PAGE


def test_the_page_compares_the_final_adapter_with_that_of_the_shorter_run():
    whole = load_record(REPLICATION["report"], "final").maes()
    fifth = load_record(REPLICATION["fifth"], "final").maes()
    low, _, fall, lower, higher = compare_marks({"fifth": fifth, "whole": whole}, "fifth", "whole")
    assert low > 0
    means = f"from {np.mean(list(fifth.values())):.1f} to {np.mean(list(whole.values())):.1f}"
    assert f"the mean error falls {means}, which is by {fall}" in PAGE
    assert f"lower in {lower} of the 50 series and higher in {higher}." in PAGE


def test_the_recorded_forecasts_are_of_the_whole_validation_split():
    for row in marks.recorded_marks():
        assert [int(series_id) for series_id in row["series"]] == list(split_ids().validation)
        errors = [entry["mae"] for entry in row["series"].values()]
        assert np.isfinite(errors).all()
