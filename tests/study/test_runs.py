"""One run: what its record says, what it builds on, and which records it leaves alone.

Runs that are interrupted have a file of their own, `test_resuming.py`.
"""

import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2lib.accounting import Shape
from m2lib.errors import InputError
from m2lib.files import read_json
from m2lib.model import (
    CONFIG_FILE,
    backbone_config,
    load_adapter,
    load_backbone,
    shuffle_weights,
    text_to_ids,
)
from m2lib.series import SeriesSet, crps_fair, decode, encode, split_ids, to_integers
from m2lib.training import window_loss
from study import records, runs, windows
from study.costs import estimate, workload
from study.experiments import EXPERIMENTS
from study.plans import plan_run
from study.profiles import Profile
from study.records import (
    adapter_path,
    keep_aside,
    load_record,
    record_path,
    recorded_forecast,
)
from study.runs import Run, run
from study.selections import hard_and_easy
from study.settings import out_dir

SMALL = Profile("laptop", backbone="tiny", most_series=5, batch_size=2)
SHORT_TRAINING = {"steps": 4, "sequence_length": 64}
TRAINED = replace(
    SMALL, train={"default-warm": SHORT_TRAINING, "default": SHORT_TRAINING}, watched=0
)
LIVE = replace(TRAINED, name="slice", live=True)

pytestmark = pytest.mark.usefixtures("store")


def test_a_run_records_what_it_did_and_where(data):
    record = run("baseline", SMALL, data=data)
    assert record.status == "done"
    assert list(record.series) == [94, 99, 141, 19, 59]
    assert record.plan.backbone == "tiny"
    assert record.plan.data == data.fingerprint
    assert {"python", "torch", "transformers", "numpy"} <= record.versions.keys()
    assert record.device.startswith("cpu")
    assert load_record(SMALL, "baseline") == record


def test_a_record_holds_the_errors_and_the_tokens_of_each_text(data):
    entry = run("baseline", SMALL, data=data).series[99]

    scale = data.scales[99]
    truth = to_integers(data.truths[99], scale, "published")
    context = to_integers(data.contexts[99], scale, "published")
    forecast = decode(entry["text"], 20, last=context[-1].tolist())
    assert entry["mae"] == np.abs(forecast.values - truth).mean()
    assert entry["repairs"] == forecast.repairs

    assert entry["prompt_tokens"] == 512
    assert entry["padded_tokens"] == 512
    assert entry["new_tokens"] == len(entry["text"])


def test_a_sampled_forecast_is_the_median_of_its_samples(data):
    small = replace(
        SMALL,
        batch_size=6,
        train={"trial": {"steps": 2}},
        protocol={"trial/sampled": {"n_samples": 3}},
        watched=0,
    )
    record = run("trial/sampled", small, data=data)
    assert record.adapter == load_record(small, "trial/rate-high").adapter

    series_id, entry = next(iter(record.series.items()))
    (truth,) = to_integers(data.truths[[series_id]], data.scales[[series_id]])
    samples = np.stack([decode(text, 20).values for text in entry["texts"]])
    median = np.median(samples, axis=0)
    assert len(samples) == 3
    assert entry["mae"] == np.abs(median - truth).mean()
    assert entry["crps"] == crps_fair(samples, truth)
    assert entry["new_tokens"] == [len(text) for text in entry["texts"]]
    assert (recorded_forecast(record, data, series_id) == median).all()

    again = run("trial/sampled", small, data=data, fresh=True)
    assert again.series == record.series


def test_forecasts_are_made_in_the_profiles_dtype_whatever_training_was_in(
    data, monkeypatch, forecast_dtypes
):
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    in_float32 = replace(TRAINED, forecast_dtype="float32")
    trained = run("default-warm", in_float32, data=data)
    untuned = run("baseline", in_float32, data=data)
    assert trained.dtype == "bfloat16"
    assert trained.forecast_dtype == "float32"
    assert untuned.forecast_dtype == "float32"
    assert set(forecast_dtypes) == {"float32"}


def test_only_training_series_are_trained_on_and_only_validation_series_watched(data, note_calls):
    made_into_windows = note_calls(windows, "make_windows", lambda call: call.texts)
    run("default-warm", replace(TRAINED, watched=2), data=data)

    id_of_text = {}
    for series_id in range(len(data)):
        text = encode(data.trajectories[series_id], data.scales[series_id])
        id_of_text[tuple(text_to_ids(text))] = series_id
    ids = []
    for texts in made_into_windows:
        ids.append({id_of_text[tuple(text)] for text in texts})
    watched, trained = sorted(ids, key=len)
    assert len(watched) == 2
    assert watched == set(split_ids().validation[::25])  # spread evenly
    assert trained == set(split_ids().train)


@pytest.mark.parametrize("rounding", ["published", "nearest"])
def test_training_texts_are_rounded_as_the_plan_says(rounding, data):
    forty = SeriesSet(data.trajectories[:40], data.time, "forty")
    plan = plan_run("final", SMALL, forty)
    plan = replace(plan, protocol=replace(plan.protocol, rounding=rounding))

    trained_on = windows.training_windows(plan, forty, plan.training)

    texts = []
    for series_id in split_ids(40).train:
        text = encode(forty.trajectories[series_id], forty.scales[series_id], rounding)
        texts.append(text_to_ids(text))
    expected = windows.make_windows(texts, plan.training.sequence_length)
    assert np.array_equal(trained_on, expected)


def test_an_evaluation_has_the_mean_loss_and_the_mean_and_median_error(data):
    profile = replace(TRAINED, watched=3, watched_forecasts=("default-warm",))
    record = run("default-warm", profile, data=data)

    # The same from the adapter that the training ended with.
    backbone = load_backbone("tiny")
    load_adapter(backbone.model, adapter_path(profile, "default-warm"))
    ids = list(split_ids().validation[::17])  # three of fifty, spread evenly
    losses = []
    for window in windows.watched_windows(record.plan, data, ids, record.training):
        losses.append(window_loss(backbone.model, torch.from_numpy(window[None])).item())
    entries = runs.forecast_entries(backbone, data, ids, record.protocol)
    maes = [entry["mae"] for entry in entries.values()]
    assert len(maes) == 3
    assert record.evaluations[-1] == {
        "step": 4,
        "loss": pytest.approx(np.mean(losses), rel=1e-5),
        "mae_mean": pytest.approx(np.mean(maes)),
        "mae_median": pytest.approx(np.median(maes)),
    }
    assert 0 < record.evaluation_seconds <= record.train_seconds <= record.seconds


def test_each_sample_of_a_series_counts_to_the_batch(data, note_calls):
    small = replace(SMALL, batch_size=6, protocol={"temperature": {"n_samples": 3}})
    batches = note_calls(runs, "forecast", lambda call: len(call.contexts))
    run("temperature/untuned/1.0", small, data=data)
    assert batches == [2, 2, 1]


def test_a_plan_of_shuffled_weights_is_computed_with_them(data):
    plan = plan_run("trial/shuffled", SMALL, data)
    loaded = runs.load_model(plan, SMALL, "float32").model.state_dict()
    shuffled = shuffle_weights(load_backbone("tiny").model).state_dict()
    assert loaded.keys() == shuffled.keys()
    for name, weights in shuffled.items():
        assert torch.equal(loaded[name], weights), name


def test_an_experiment_with_a_model_of_its_own_trains_that_one_in_float32(data, monkeypatch):
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    plan = plan_run("trial/small", SMALL, data)
    dtype = runs.starting_dtype(plan, SMALL, None, False)
    backbone = runs.load_model(plan, SMALL, dtype)
    assert backbone.name == plan.backbone == "small"
    assert backbone.dtype == "float32"  # because all of its weights train


def test_milestones_evaluate_the_whole_validation_split(data, monkeypatch, note_calls):
    milestones = (1, 3, 99)  # the last one is beyond the end
    experiment = replace(EXPERIMENTS["best"], milestones=milestones)
    monkeypatch.setitem(EXPERIMENTS, "best", experiment)
    profile = replace(
        SMALL,
        most_series=2,
        train={"best": {"steps": 4}},
        protocol={"best": {"constrained": False, "max_new_tokens": 4}},
        checkpoint_every=1,
        watched=1,
        evaluate_every=2,
    )
    batches = note_calls(Run, "_forecast_batch", lambda call: sorted(call.ids))
    record = run("best", profile, data=data)

    # Before the first step, after each milestone and after the last step.
    assert [evaluation["step"] for evaluation in record.evaluations] == [0, 1, 3, 4]
    assert batches[:4] == [sorted(split_ids().validation)] * 4
    assert set(record.series) <= set(split_ids().test)

    most = estimate(workload(experiment, profile), Shape.of(backbone_config("tiny")))
    assert record.flops["evaluation"]["coursework"] <= most["evaluation"]["coursework"]


def test_an_adapter_of_a_folders_model_names_the_folder(data, save_folder, tmp_path):
    folder = save_folder(tmp_path / "mine")
    profile = replace(TRAINED, backbone=str(folder))
    run("default", profile, data=data)
    config = read_json(adapter_path(profile, "default") / CONFIG_FILE)
    assert config["base_model_name_or_path"] == str(folder)


@pytest.fixture(scope="module")
def default_and_rest(data, stored_below, tmp_path_factory):
    """Return a folder of results with `default`, and with `default-rest`, which uses its adapter.

    They are read-only; a test that changes them takes a copy.
    """
    folder = tmp_path_factory.mktemp("default_and_rest")
    with stored_below(folder):
        run("default-rest", TRAINED, data=data)
    return folder / "results"


def test_a_run_forecasts_the_series_that_earlier_runs_choose(default_and_rest, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(default_and_rest))
    baseline = load_record(TRAINED, "baseline")
    default = load_record(TRAINED, "default")
    rest = load_record(TRAINED, "default-rest")
    assert set(default.series) == set(hard_and_easy(baseline.maes()))
    assert not set(rest.series) & set(default.series)


def test_a_run_forecasts_with_the_adapter_of_an_earlier_run(default_and_rest, data, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(default_and_rest))
    default = load_record(TRAINED, "default")
    rest = load_record(TRAINED, "default-rest")
    assert rest.adapter == default.adapter != ""
    assert rest.loss_curve == []
    assert rest.steps_run == 0

    series_id, entry = next(iter(rest.series.items()))
    backbone = load_backbone("tiny")
    load_adapter(backbone.model, adapter_path(TRAINED, "default"))
    (forecast,) = runs.forecast(backbone, data.contexts[[series_id]], rest.protocol)
    assert forecast.texts == (entry["text"],)


def test_a_run_is_refused_if_the_adapter_that_it_uses_has_changed(default_and_rest, data, store):
    shutil.copytree(default_and_rest, store / "results")
    before = load_record(TRAINED, "default-rest")
    (adapter_path(TRAINED, "default") / "head_bias.safetensors").unlink()

    with pytest.raises(InputError, match="is gone, or is not the adapter that its record name"):
        run("default-rest", TRAINED, data=data, fresh=True)
    assert load_record(TRAINED, "default-rest") == before  # nothing is lost


def write_unreadable_record(profile, content):
    """Write something else where the record of `baseline` should be."""
    path = record_path(profile, "baseline")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)


def test_a_record_that_cannot_be_read_is_replaced_only_when_asked_for(data):
    write_unreadable_record(SMALL, b"\xff{")
    message = r"is not a run record.*python -m study run baseline --fresh` replaces it"
    with pytest.raises(InputError, match=message):
        run("baseline", SMALL, data=data)
    assert run("baseline", SMALL, data=data, fresh=True).status == "done"


def test_a_live_run_replaces_a_record_that_cannot_be_read(data):
    write_unreadable_record(LIVE, b"{")
    assert run("baseline", LIVE, data=data).status == "done"


OTHER_PLANS = {
    "series": replace(SMALL, most_series=4),
    r"protocol\.max_new_tokens": replace(SMALL, protocol={"baseline": {"max_new_tokens": 9}}),
    "data": SMALL,
}


@pytest.mark.parametrize("setting", OTHER_PLANS)
def test_a_record_of_another_plan_is_not_overwritten(setting, data):
    run("baseline", SMALL, data=data)
    before = record_path(SMALL, "baseline").read_bytes()
    other_data = data
    if setting == "data":
        other_data = SeriesSet(data.trajectories[::-1], data.time, "other")

    command = "`M2_PROFILE=laptop M2_BACKBONE=tiny python -m study run baseline --fresh`"
    message = f"is of another run: its {setting} is .*; {command}"
    with pytest.raises(InputError, match=message):
        run("baseline", OTHER_PLANS[setting], data=other_data)
    assert record_path(SMALL, "baseline").read_bytes() == before


def test_a_fresh_run_replaces_a_record_of_another_plan(data):
    run("baseline", SMALL, data=data)
    fewer = replace(SMALL, most_series=4)
    assert len(run("baseline", fewer, data=data, fresh=True).series) == 4


def test_a_live_run_replaces_a_record_of_another_plan(data):
    run("baseline", LIVE, data=data)
    fewer = replace(LIVE, most_series=2)
    assert len(run("baseline", fewer, data=data).series) == 2


def test_a_live_profile_loads_what_it_has(data, monkeypatch):
    untuned = run("baseline", LIVE, data=data)
    trained = run("default", LIVE, data=data)
    monkeypatch.setattr(Run, "begin", None)  # it is not called
    assert run("baseline", LIVE, data=data).maes() == untuned.maes()
    assert run("default", LIVE, data=data).maes() == trained.maes()


def test_a_record_of_other_series_is_not_taken(data):
    """The errors that chose the series may have changed since."""
    run("baseline", SMALL, data=data)
    plan = plan_run("baseline", SMALL, data)
    assert records.finished_record_of(plan, SMALL, data)

    other = replace(plan, series=plan.series[1:])
    with pytest.raises(InputError, match=r"is of another run: its series is \(94, 99"):
        records.finished_record_of(other, SMALL, data)


def test_a_record_that_another_process_has_finished_meanwhile_is_not_overwritten(data, monkeypatch):
    """It comes to its end between our first look and our lock."""
    finished = run("baseline", SMALL, data=data)
    path = record_path(SMALL, "baseline")
    content = path.read_bytes()
    path.unlink()

    def hold_too_late(*_):
        path.write_bytes(content)
        return nullcontext()

    monkeypatch.setattr(runs.records, "hold", hold_too_late)
    monkeypatch.setattr(Run, "begin", None)  # it is not called
    assert run("baseline", SMALL, data=data) == finished


def test_what_is_kept_aside_lies_there_as_it_did():
    path = record_path(SMALL, "search/expt_0")
    adapter_path(SMALL, "search/expt_0").mkdir(parents=True)
    path.write_text("{}", encoding="utf-8")
    keep_aside(path)
    (kept,) = out_dir().glob("replaced/*/laptop-tiny/search/expt_0.json")
    assert kept.with_suffix("").is_dir()
