import shutil
import signal
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2lib import provenance
from m2lib.accounting import Shape, sum_costs
from m2lib.files import InputError
from m2lib.forecaster.adapters import base_of
from m2lib.model import backbone_config, load_adapter, load_backbone, text_to_ids
from m2lib.series import SeriesSet, crps_fair, decode, encode, split_ids, to_integers
from m2lib.settings import out_dir
from m2lib.training import loop
from study import runs
from study.costs import budget_of, estimate, workload
from study.experiments import EXPERIMENTS
from study.plans import plan_run
from study.profiles import Profile
from study.records import (
    Record,
    adapter_path,
    keep_aside,
    load_record,
    record_path,
    recorded_forecast,
    save_record,
)
from study.rules import hard_and_easy
from study.runs import run

SMALL = Profile("laptop", backbone="tiny", most_series=5, batch_size=2)


pytestmark = pytest.mark.usefixtures("store")


def stop(*_, **__):
    raise KeyboardInterrupt


def most_of(name, profile):
    """What an experiment may cost."""
    shape = Shape.of(backbone_config("tiny"))
    return sum_costs(*estimate(workload(EXPERIMENTS[name], profile), shape).values())


def test_run_records_what_it_did(data):
    result = run("baseline", SMALL, data=data)
    assert (result.status, list(result.series)) == ("done", [94, 99, 141, 19, 59])
    assert (result.plan.backbone, result.plan.data) == ("tiny", data.fingerprint)
    assert {"python", "torch", "transformers", "numpy"} <= result.versions.keys()
    assert result.device.startswith("cpu")
    entry = result.series[99]
    truth, last = (
        to_integers(part, data.scales[99], "published").tolist()
        for part in (data.truths[99], data.contexts[99, -1:])
    )
    read = decode(entry["text"], 20, last[0])
    assert entry["mae"] == np.abs(read.values - truth).mean()
    assert entry["repairs"] == read.repairs
    assert (entry["prompt_tokens"], entry["padded_tokens"], entry["new_tokens"]) == (
        512,
        512,
        len(entry["text"]),
    )
    assert load_record(SMALL, "baseline") == result


def test_interrupted_run_keeps_its_batches_and_goes_on_in_its_own_dtype_on_another_machine(
    data, monkeypatch
):
    whole = run("baseline", SMALL, data=data)
    real = runs.forecast
    calls = []

    def stop_at_third_batch(*arguments, **options):
        calls.append(len(arguments[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(runs, "forecast", stop_at_third_batch)
    with pytest.raises(KeyboardInterrupt):
        run("baseline", SMALL, data=data, fresh=True)
    stopped = load_record(SMALL, "baseline")
    assert (stopped.status, len(stopped.series)) == ("running", 4)
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    monkeypatch.setattr(provenance, "processor_name", lambda: "another")
    resumed = run("baseline", SMALL, data=data)
    assert calls == [2, 2, 1, 1]
    # What the replaced record had spent is not forgotten, and each series is counted once.
    assert resumed.flops == whole.flops | {"discarded": whole.spent()}
    assert all(resumed.spent()[kind] == 2 * flops > 0 for kind, flops in whole.spent().items())
    both = f"{whole.device}; cpu: another, {torch.get_num_threads()} threads"
    assert replace(resumed, seconds=0, flops=whole.flops, run="") == replace(
        whole, seconds=0, run="", device=both
    )


def test_unreadable_record(data):
    path = record_path(SMALL, "baseline")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff{")
    with pytest.raises(
        InputError, match=r"is not a run record.*`python -m study run baseline --fresh` replaces it"
    ):
        run("baseline", SMALL, data=data)
    assert run("baseline", SMALL, data=data, fresh=True).status == "done"
    live = replace(SMALL, name="slice", live=True)
    path = record_path(live, "baseline")
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="utf-8")
    assert run("baseline", live, data=data).status == "done"


def test_another_runs_record_is_not_overwritten(data):
    run("baseline", SMALL, data=data)
    before = record_path(SMALL, "baseline").read_bytes()
    other = SeriesSet(data.trajectories[::-1], data.time, "other")
    for profile, series, setting in (
        (SMALL, other, "data"),
        (replace(SMALL, most_series=4), data, "series"),
        (replace(SMALL, protocol={"baseline": {"steps": 9}}), data, r"protocol\.steps"),
    ):
        with pytest.raises(
            InputError,
            match=f"is of another run: its {setting} is .*; `python -m study run baseline --fresh`",
        ):
            run("baseline", profile, data=series)
    assert record_path(SMALL, "baseline").read_bytes() == before
    assert len(run("baseline", replace(SMALL, most_series=4), data=data, fresh=True).series) == 4


def test_a_record_of_other_series_is_not_taken(data):
    """The errors that chose the series may have changed since."""
    run("baseline", SMALL, data=data)
    plan = plan_run("baseline", SMALL, data)
    assert runs.finished_record_of(plan, SMALL, data)
    other = replace(plan, series=plan.series[1:])
    with pytest.raises(InputError, match=r"is of another run: its series is \(94, 99"):
        runs.finished_record_of(other, SMALL, data)


def test_forecasts_of_an_adapter_that_is_gone_do_not_count(data):
    record = run("default-warm", TRAINED, data=data)
    series = {i: dict(entry) for i, entry in record.series.items()}
    kept = {min(series): series[min(series)] | {"padded_tokens": 9}}
    save_record(TRAINED, replace(record, status="running", adapter="another", series=kept))
    assert run("default-warm", TRAINED, data=data).series == series


def test_live_profile_starts_over_when_settings_changed(data):
    live = replace(SMALL, name="slice", live=True)
    run("baseline", live, data=data)
    assert len(run("baseline", replace(live, most_series=2), data=data).series) == 2


def test_a_sampled_forecast_is_the_median_of_its_samples(data):
    small = replace(
        SMALL,
        batch_size=6,
        train={"trial": {"steps": 2}},
        protocol={"trial/sampled": {"n_samples": 3}},
        watched=0,
    )
    result = run("trial/sampled", small, data=data)
    series, entry = next(iter(result.series.items()))
    truth = to_integers(data.truths[[series]], data.scales[[series]])[0]
    samples = np.stack([decode(text, 20).values for text in entry["texts"]])
    assert (len(samples), result.adapter) == (3, load_record(small, "trial/rate-high").adapter)
    assert entry["mae"] == np.abs(np.median(samples, axis=0) - truth).mean()
    assert entry["crps"] == crps_fair(samples, truth)
    assert entry["new_tokens"] == [len(text) for text in entry["texts"]]
    assert (recorded_forecast(result, data, series) == np.median(samples, axis=0)).all()
    assert run("trial/sampled", small, data=data, fresh=True).series == result.series


SHORT = {"steps": 4, "sequence_length": 64}
TRAINED = replace(
    SMALL, train={"default-warm": SHORT, "default": SHORT}, checkpoint_every=1, watched=0
)


def stop_training(monkeypatch, step):
    """Ctrl-C during that step."""
    real = loop.batch_of

    def batch_of(at, *arguments):
        if at == step:
            monkeypatch.setattr(loop, "batch_of", real)
            signal.raise_signal(signal.SIGINT)
        return real(at, *arguments)

    monkeypatch.setattr(loop, "batch_of", batch_of)


def test_a_fresh_run_goes_on_and_keeps_the_old_record_and_adapter_aside(data, monkeypatch, capsys):
    whole = run("default-warm", TRAINED, data=data)
    before = record_path(TRAINED, "default-warm").read_bytes()
    adapter = (adapter_path(TRAINED, "default-warm") / "adapter_model.safetensors").read_bytes()
    stop_training(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run("default-warm", TRAINED, data=data, fresh=True)
    (kept,) = out_dir().glob("replaced/*/laptop-tiny/default-warm.json")
    assert kept.read_bytes() == before
    assert (kept.with_suffix("") / "adapter_model.safetensors").read_bytes() == adapter
    assert f"the record before is now {kept}" in capsys.readouterr().out
    begun = load_record(TRAINED, "default-warm")
    assert (begun.status, len(begun.loss_curve), begun.flops["discarded"]) == (
        "running",
        3,
        whole.spent(),
    )
    again = run("default-warm", TRAINED, data=data)  # goes on with what is begun
    assert (again.status, again.steps_run, again.loss_curve) == ("done", 4, whole.loss_curve)
    assert again.flops["discarded"] == whole.spent()
    assert (
        adapter_path(TRAINED, "default-warm") / "adapter_model.safetensors"
    ).read_bytes() == adapter


FLOAT32 = replace(TRAINED, forecast_dtype="float32")


def test_forecasts_are_made_in_the_profiles_dtype_whatever_training_was_in(data, monkeypatch):
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    dtypes = []
    real = runs.forecast

    def forecast(backbone, *arguments, **options):
        dtypes.append(backbone.dtype)
        return real(backbone, *arguments, **options)

    monkeypatch.setattr(runs, "forecast", forecast)
    record = run("default-warm", FLOAT32, data=data)
    assert (record.dtype, record.forecast_dtype) == ("bfloat16", "float32")
    assert run("baseline", FLOAT32, data=data).forecast_dtype == "float32"
    assert set(dtypes) == {"float32"}


def test_forecasting_again_keeps_the_training(data, monkeypatch, capsys):
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    run("default-warm", TRAINED, data=data)
    first = load_record(TRAINED, "default-warm")
    assert first.forecast_dtype == ""
    monkeypatch.setattr(runs.Run, "train_weights", None)  # it is not called
    with monkeypatch.context() as stopped:
        stopped.setattr(runs.Run, "forecast_series", stop)
        with pytest.raises(KeyboardInterrupt):
            run("default-warm", FLOAT32, data=data, reforecast=True)
    assert load_record(FLOAT32, "default-warm").status == "running"
    again = run("default-warm", FLOAT32, data=data)  # goes on with what is begun
    assert (again.status, again.forecast_dtype, set(again.series)) == (
        "done",
        "float32",
        set(first.series),
    )
    for field in ("plan", "loss_curve", "adapter", "steps_run", "run"):
        assert getattr(again, field) == getattr(first, field), field
    assert again.flops["discarded"] == first.flops["forecasts"]
    assert again.flops["training"] == first.flops["training"]
    backbone = load_backbone("tiny", dtype="float32")
    one = next(iter(again.series))
    load_adapter(backbone.model, adapter_path(FLOAT32, "default-warm"))
    assert runs.forecast(backbone, data.contexts[[one]], again.protocol)[0].texts == (
        again.series[one]["text"],
    )
    (kept,) = out_dir().glob("replaced/*/laptop-tiny/default-warm.json")
    assert kept.with_suffix("").is_dir()


def test_forecasting_again_needs_the_adapter(data):
    run("default-warm", TRAINED, data=data)
    before = record_path(TRAINED, "default-warm").read_bytes()
    shutil.rmtree(adapter_path(TRAINED, "default-warm"))
    with pytest.raises(
        InputError, match="is gone; `python -m study run default-warm --fresh` trains it again"
    ):
        run("default-warm", TRAINED, data=data, reforecast=True)
    assert record_path(TRAINED, "default-warm").read_bytes() == before


def test_what_is_kept_aside_lies_there_as_it_did(store):
    path = record_path(SMALL, "search/expt_0")
    adapter_path(SMALL, "search/expt_0").mkdir(parents=True)
    path.write_text("{}", encoding="utf-8")
    keep_aside(path)
    (kept,) = out_dir().glob("replaced/*/laptop-tiny/search/expt_0.json")
    assert kept.with_suffix("").is_dir()


def test_a_record_finished_meanwhile_is_not_overwritten(data, monkeypatch):
    """Another process comes to the end between our first look and our lock."""
    whole = run("baseline", SMALL, data=data)
    path = record_path(SMALL, "baseline")
    content = path.read_bytes()
    path.unlink()
    monkeypatch.setattr(runs.records, "hold", lambda *_: nullcontext(path.write_bytes(content)))
    monkeypatch.setattr(runs.Run, "begin", None)
    assert run("baseline", SMALL, data=data) == whole


def test_checkpoints_belong_to_one_run(data, monkeypatch, tmp_path):
    """Another store of results, or a record that was deleted, does not inherit them."""
    stop_training(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run("default-warm", TRAINED, data=data)
    monkeypatch.setenv("M2_RESULTS", str(tmp_path / "another"))
    assert run("default-warm", TRAINED, data=data).steps_run == 4
    monkeypatch.setenv("M2_RESULTS", str(tmp_path / "results"))
    record_path(TRAINED, "default-warm").unlink()
    assert run("default-warm", TRAINED, data=data).steps_run == 4
    # of the one that was stopped
    assert len(list((tmp_path / "build" / "checkpoints").iterdir())) == 1


def test_what_is_still_needed_is_counted_from_the_checkpoint(data, monkeypatch, tmp_path):
    """Stopped after three of four steps, checkpoints gone: four are needed, and the budget
    holds."""
    need = most_of("default", TRAINED)
    tight = replace(TRAINED, budget=need["coursework"])
    run("baseline", replace(TRAINED, budget=10**17), data=data)
    tight = replace(
        tight, budget=tight.budget + load_record(TRAINED, "baseline").spent()["coursework"]
    )
    stop_training(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run("default", tight, data=data)
    shutil.rmtree(tmp_path / "build")
    with pytest.raises(InputError, match="default may need"):
        run("default", tight, data=data)
    assert budget_of(tight).spent <= tight.budget


@pytest.mark.parametrize("fresh", [False, True])
def test_a_killed_run_is_not_refused_for_its_own_reservation(fresh, data, monkeypatch):
    need = most_of("baseline", SMALL)
    tight = replace(SMALL, budget=need["coursework"])
    with monkeypatch.context() as killed:
        killed.setattr(runs, "forecast", stop)
        with pytest.raises(KeyboardInterrupt):
            run("baseline", tight, data=data)
    assert load_record(SMALL, "baseline").flops["reserved"]["coursework"] == tight.budget
    assert run("baseline", tight, data=data, fresh=fresh).status == "done"


def test_a_run_stopped_between_training_and_forecasts_goes_on(data, monkeypatch):
    watched = replace(TRAINED, watched=2, watched_forecasts=("default-warm",))
    whole = run("default-warm", watched, data=data)
    with monkeypatch.context() as stopped:
        stopped.setattr(runs.Run, "forecast_series", stop)
        with pytest.raises(KeyboardInterrupt):
            run("default-warm", watched, data=data, fresh=True)
    begun = load_record(watched, "default-warm")
    assert (begun.status, begun.series, len(begun.loss_curve)) == ("running", {}, 4)
    again = run("default-warm", watched, data=data)
    for field in ("loss_curve", "series", "evaluations", "steps_run", "training", "adapter"):
        assert getattr(again, field) == getattr(whole, field), field
    assert (again.training.alpha, again.training.batch_size) == (None, 2)
    assert [(entry["step"], len(entry)) for entry in again.evaluations] == [(0, 4), (4, 4)]
    assert 0 < again.train_seconds <= again.seconds


def test_series_and_adapter_come_from_earlier_runs(data):
    trained = run("default", TRAINED, data=data)
    rest = run("default-rest", TRAINED, data=data)
    assert set(trained.series) == set(hard_and_easy(load_record(TRAINED, "baseline").maes()))
    assert rest.adapter == trained.adapter != ""
    assert not set(rest.series) & set(trained.series)
    assert (rest.loss_curve, rest.steps_run) == ([], 0)
    backbone = load_backbone("tiny")
    one = next(iter(rest.series))
    load_adapter(backbone.model, adapter_path(TRAINED, "default"))
    assert runs.forecast(backbone, data.contexts[[one]], rest.protocol)[0].texts == (
        rest.series[one]["text"],
    )
    (adapter_path(TRAINED, "default") / "head_bias.safetensors").unlink()
    for again in ({"fresh": True}, {"reforecast": True}):
        with pytest.raises(InputError, match="is gone, or is not the adapter that its record name"):
            run("default-rest", TRAINED, data=data, **again)
        assert load_record(TRAINED, "default-rest") == rest  # nothing is lost


LONG = {"steps": 4, "sequence_length": 64, "learning_rate": 1e-2, "rank": 2}
PARTS = replace(
    SMALL,
    train={"final": LONG, "context": LONG | {"steps": 2}},
    protocol={kind: {"max_new_tokens": 20} for kind in ("default", "final", "context")},
    as_reported=True,
    checkpoint_every=1,
    evaluate_every=2,
    watched=2,
)


@pytest.fixture
def marked(monkeypatch):
    """`final` keeps its adapter after two steps, where `context/512` ends."""
    monkeypatch.setitem(EXPERIMENTS, "final", replace(EXPERIMENTS["final"], marks=(2,)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_takes_its_steps_from_a_longer_one(marked, data, monkeypatch, tmp_path, dtype):
    monkeypatch.setenv("M2_DTYPE", dtype)
    alone = run("context/512", PARTS, data=data)
    assert (alone.taken_from, alone.steps_run) == ("", 2)
    monkeypatch.setenv("M2_RESULTS", str(tmp_path / "other"))
    stop_training(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):  # it need not be finished, only far enough
        run("final", PARTS, data=data)
    monkeypatch.setattr(runs, "train", None)  # it is not called
    taken = run("context/512", PARTS, data=data)
    assert (taken.status, taken.taken_from, taken.steps_run) == ("done", "final", 0)
    for field in ("plan", "dtype", "adapter", "loss_curve", "evaluations", "series", "device"):
        assert getattr(taken, field) == getattr(alone, field), field
    for kind in ("training", "forecasts"):
        assert taken.flops[kind] == alone.flops[kind], kind
    # Two of the three steps that the longer run has taken.
    longer = load_record(PARTS, "final")
    seconds = (longer.train_seconds - longer.evaluation_seconds) * 2 / 3
    assert taken.train_seconds == pytest.approx(seconds, abs=0.01)


def test_a_run_that_takes_its_steps_evaluates_where_the_longer_one_did_not(marked, data):
    rarely = replace(PARTS, evaluate_every=3)
    run("final", rarely, data=data)
    taken = run("context/512", rarely, data=data)
    assert taken.taken_from == "final"
    assert [row["step"] for row in taken.evaluations] == [0, 2]
    assert 0 < taken.evaluations[1]["loss"] != taken.evaluations[0]["loss"]


@pytest.mark.parametrize(
    "other", [{"learning_rate": 2e-2}, {"decay": "cosine"}, {"seed": 1}, {"sequence_length": 32}]
)
def test_steps_are_not_taken_from_a_run_of_other_settings(marked, data, other):
    apart = replace(PARTS, train={"final": LONG | other, "context": LONG | {"steps": 2}})
    run("final", apart, data=data)
    assert adapter_path(apart, "final", 2).is_dir()
    assert run("context/512", apart, data=data).taken_from == ""


def test_a_run_that_was_killed_before_it_had_an_adapter_has_trained_none(data):
    plan = plan_run("default-warm", TRAINED, data)
    steps = plan.training.steps
    killed = Record(plan, dtype="float32", batch_size=2, loss_curve=[1.0] * steps)
    assert not runs.has_trained_adapter(killed, TRAINED)


def test_a_record_has_the_batch_size_that_it_forecast_with(data):
    run("baseline", SMALL, data=data)
    again = run("baseline", replace(SMALL, batch_size=3), data=data, reforecast=True)
    assert again.batch_size == 3


def test_an_adapter_of_a_folders_model_names_the_folder(data, save_folder, tmp_path):
    folder = save_folder(tmp_path / "mine")
    profile = replace(TRAINED, backbone=str(folder))
    run("default", profile, data=data)
    assert base_of(adapter_path(profile, "default")) == str(folder)


def test_only_training_series_are_trained_on(data, monkeypatch):
    seen = []
    real = runs.make_windows
    monkeypatch.setattr(
        runs, "make_windows", lambda texts, length: seen.append(texts) or real(texts, length)
    )
    run("default-warm", replace(TRAINED, watched=2), data=data)
    texts = [
        tuple(text_to_ids(encode(*pair)))
        for pair in zip(data.trajectories, data.scales, strict=True)
    ]
    ids = [{texts.index(tuple(text)) for text in texts_seen} for texts_seen in seen]
    assert [len(found) for found in ids] == [2, 900]
    assert ids[0] <= set(split_ids().validation)
    assert ids[1] == set(split_ids().train)
