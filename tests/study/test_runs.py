import shutil
import signal
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import numpy as np
import pytest

from m2lib.accounting import Shape
from m2lib.files import InputError
from m2lib.model import backbone_config
from m2lib.series import split_ids
from m2lib.series.codec import decode, to_integers
from m2lib.series.data import SeriesSet
from m2lib.series.metrics import crps_fair
from m2lib.settings import out_dir
from m2lib.study import runs as running
from m2lib.study import runs as working
from m2lib.study.costs import InputError, budget_of
from m2lib.study.costs import estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS
from m2lib.study.profiles import Profile, active_profile
from m2lib.study.records import load_record, record_path, recorded_forecast
from m2lib.study.runs import run
from m2lib.study.runs import adapter_path
from m2lib.training import loop

SMALL = Profile("laptop", backbone="tiny", series=5, batch_size=2, live=False)


pytestmark = pytest.mark.usefixtures("store")


def stop(*_, **__):
    raise KeyboardInterrupt


def test_run_records_what_it_did(data):
    result = run("baseline", SMALL, data=data)
    assert (result.status, list(result.series)) == ("done", [94, 99, 141, 19, 59])
    assert (result.backbone["id"], result.data["fingerprint"]) == ("tiny", data.fingerprint)
    assert {"python", "torch", "transformers", "numpy"} <= result.versions.keys()
    assert result.device.startswith("cpu")
    entry = result.series[99]
    truth, last = (
        to_integers(part, data.scales[99], "published").tolist() for part in (data.truths[99], data.contexts[99, -1:])
    )
    read = decode(entry["text"], 20, last[0])
    assert entry["mae"] == np.abs(read.values - truth).mean()
    assert entry["repairs"] == read.repairs
    assert (entry["prompt_tokens"], entry["padded_tokens"], entry["new_tokens"]) == (512, 512, len(entry["text"]))
    assert load_record(SMALL, "baseline") == result


def test_finished_run_is_loaded_not_repeated(data, monkeypatch):
    result = run("baseline-constrained", SMALL, data=data)
    monkeypatch.setattr(working, "forecast", None)
    assert run("baseline-constrained", SMALL, data=data) == result


def test_interrupted_run_keeps_its_batches_and_goes_on(data, monkeypatch):
    whole = run("baseline", SMALL, data=data)
    real, calls = working.forecast, []

    def stop_at_third_batch(*arguments, **options):
        calls.append(len(arguments[1]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(working, "forecast", stop_at_third_batch)
    with pytest.raises(KeyboardInterrupt):
        run("baseline", SMALL, data=data, fresh=True)
    stopped = load_record(SMALL, "baseline")
    assert (stopped.status, len(stopped.series)) == ("aborted", 4)
    resumed = run("baseline", SMALL, data=data)
    assert calls == [2, 2, 1, 1]
    # What the replaced record had spent is not forgotten, and each series is counted once.
    assert resumed.flops == whole.flops | {"discarded": whole.spent()}
    assert all(resumed.spent()[kind] == 2 * flops > 0 for kind, flops in whole.spent().items())
    assert replace(resumed, seconds=0, flops={}, run="") == replace(whole, seconds=0, flops={}, run="")


def test_a_fresh_run_keeps_the_old_record_aside(data, monkeypatch, capsys):
    run("baseline", SMALL, data=data)
    before = record_path(SMALL, "baseline").read_bytes()
    monkeypatch.setattr(working, "forecast", stop)
    with pytest.raises(KeyboardInterrupt):
        run("baseline", SMALL, data=data, fresh=True)
    (kept,) = out_dir().glob("replaced/*/laptop-tiny/baseline.json")
    assert kept.read_bytes() == before
    assert f"the record before is now {kept}" in capsys.readouterr().out


def test_a_run_goes_on_in_its_own_dtype_and_on_another_machine(data, monkeypatch):
    real = working.forecast
    monkeypatch.setattr(working, "forecast", lambda *a, **o: stop() if 141 in o["ids"] else real(*a, **o))
    with pytest.raises(KeyboardInterrupt):
        run("baseline", SMALL, data=data)
    monkeypatch.setattr(working, "forecast", real)
    begun = load_record(SMALL, "baseline").device
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    monkeypatch.setattr(running, "describe_device", lambda _: "cpu: another, 8 threads")
    result = run("baseline", SMALL, data=data)
    assert (result.status, result.backbone["dtype"]) == ("done", "float32")
    assert result.device == f"{begun}; cpu: another, 8 threads"


def test_unreadable_record(data):
    path = record_path(SMALL, "baseline")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\xff{")
    with pytest.raises(InputError, match=r"is not a run record.*`m2 run baseline --fresh` replaces it"):
        run("baseline", SMALL, data=data)
    assert run("baseline", SMALL, data=data, fresh=True).status == "done"
    live = replace(SMALL, name="slice", live=True)
    path = record_path(live, "baseline")
    path.parent.mkdir(parents=True)
    path.write_text("{", encoding="utf-8")
    assert run("baseline", live, data=data).status == "done"


def test_a_series_that_cannot_be_written_is_named(data):
    spoilt = data.trajectories.copy()
    spoilt[59, 30, 1] = 1e6
    with pytest.raises(InputError, match="series 59, step 30, predator"):
        run("baseline", SMALL, data=SeriesSet(spoilt, data.time, "spoilt"))


def test_another_runs_record_is_not_overwritten(data):
    run("baseline", SMALL, data=data)
    before = record_path(SMALL, "baseline").read_bytes()
    other = SeriesSet(data.trajectories[::-1], data.time, "other")
    with pytest.raises(InputError, match="recorded with other data; `m2 run baseline --fresh` replaces it"):
        run("baseline", SMALL, data=other)
    with pytest.raises(InputError, match="recorded with other sizes or code versions"):
        run("baseline", replace(SMALL, series=4), data=data)
    assert record_path(SMALL, "baseline").read_bytes() == before
    assert len(run("baseline", replace(SMALL, series=4), data=data, fresh=True).series) == 4


def test_live_profile_starts_over_when_settings_changed(data):
    live = replace(SMALL, name="slice", live=True)
    run("baseline", live, data=data)
    assert len(run("baseline", replace(live, series=2), data=data).series) == 2


def test_unwritable_store_fails_before_the_work(data, monkeypatch, tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be", encoding="utf-8")
    monkeypatch.setattr(working, "forecast", None)
    with pytest.raises(InputError, match=r"M2_RESULTS is .*results', which is or lies in a file; it may be a folder"):
        run("baseline", SMALL, data=data)


def test_unknown_experiment_and_profile(monkeypatch):
    with pytest.raises(InputError, match="unknown experiment 'nope': choose one of baseline,"):
        run("nope", SMALL)
    monkeypatch.setenv("M2_PROFILE", "huge")
    with pytest.raises(InputError, match="M2_PROFILE is 'huge'; it may be slice, laptop, fifth or report"):
        active_profile()


def test_a_sampled_forecast_is_the_median_of_its_samples(data):
    small = replace(
        SMALL, batch_size=6, train={"trial": {"steps": 2}}, protocol={"trial/sampled": {"n_samples": 3}}, watched=0
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


POOR = replace(SMALL, train={"default": {"steps": 4, "sequence_length": 64}}, checkpoint_every=1, watched=0)
TRAINED = replace(SMALL, train={"default-warm": {"steps": 4, "sequence_length": 64}}, checkpoint_every=1, watched=0)


def stop_training(monkeypatch, step):
    """Ctrl-C during that step."""
    real = loop.batch_of

    def batch_of(at, *arguments):
        if at == step:
            monkeypatch.setattr(loop, "batch_of", real)
            signal.raise_signal(signal.SIGINT)
        return real(at, *arguments)

    monkeypatch.setattr(loop, "batch_of", batch_of)


def test_a_fresh_run_goes_on_and_keeps_the_old_adapter(data, monkeypatch):
    whole = run("default-warm", TRAINED, data=data)
    adapter = (adapter_path(TRAINED, "default-warm") / "adapter_model.safetensors").read_bytes()
    stop_training(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run("default-warm", TRAINED, data=data, fresh=True)
    (kept,) = out_dir().glob("replaced/*/laptop-tiny/default-warm/adapter_model.safetensors")
    assert kept.read_bytes() == adapter
    begun = load_record(TRAINED, "default-warm")
    assert (begun.status, len(begun.loss_curve), begun.flops["discarded"]) == ("aborted", 3, whole.spent())
    again = run("default-warm", TRAINED, data=data)  # goes on with what is begun
    assert (again.status, again.steps_run, again.loss_curve) == ("done", 4, whole.loss_curve)
    assert again.flops["discarded"] == whole.spent()
    assert (adapter_path(TRAINED, "default-warm") / "adapter_model.safetensors").read_bytes() == adapter


def test_a_fresh_run_with_other_settings_goes_on_too(data, monkeypatch):
    run("default-warm", TRAINED, data=data)
    other = replace(TRAINED, series=4)
    with pytest.raises(InputError, match="recorded with other sizes or code versions"):
        run("default-warm", other, data=data)
    stop_training(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run("default-warm", other, data=data, fresh=True)
    done = run("default-warm", other, data=data)
    assert (done.status, done.steps_run, len(done.series)) == ("done", 4, 4)


def test_a_fresh_run_begun_afresh_again_counts_all(data, monkeypatch):
    whole = run("default-warm", TRAINED, data=data)
    for _ in range(2):
        stop_training(monkeypatch, 2)
        with pytest.raises(KeyboardInterrupt):
            run("default-warm", TRAINED, data=data, fresh=True)
    begun = load_record(TRAINED, "default-warm")
    once = begun.flops["training"]["coursework"] + begun.flops["evaluation"]["coursework"]
    assert begun.flops["discarded"]["coursework"] == whole.spent()["coursework"] + once
    done = run("default-warm", TRAINED, data=data, fresh=True)
    assert done.flops["discarded"] == begun.spent()


def test_a_record_finished_meanwhile_is_not_overwritten(data, monkeypatch):
    """Another process comes to the end between our first look and our lock."""
    real, looks = running.hold, []

    @contextmanager
    def hold(*arguments):
        with real(*arguments):
            if not looks:
                looks.append(1)
                monkeypatch.setattr(running, "hold", lambda *_: nullcontext())
                run("baseline", SMALL, data=data)
            yield

    monkeypatch.setattr(running, "hold", hold)
    forecasts, computed = working.forecast, []
    monkeypatch.setattr(working, "forecast", lambda *a, **o: computed.append(len(a[1])) or forecasts(*a, **o))
    assert run("baseline", SMALL, data=data).status == "done"
    assert (looks, sum(computed)) == ([1], 5)
    record = load_record(SMALL, "baseline", data)
    assert (record.status, len(record.series), record.flops["discarded"]["executed"]) == ("done", 5, 0)


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
    assert len(list((tmp_path / "build" / "checkpoints").iterdir())) == 1  # of the one that was stopped


def test_what_is_still_needed_is_counted_from_the_checkpoint(data, monkeypatch, tmp_path):
    """Stopped after three of four steps, checkpoints gone: four are needed, and the budget holds."""
    need = sum_costs(*estimate(EXPERIMENTS["default"], POOR, Shape.of(backbone_config("tiny"))).values())
    tight = replace(POOR, budget=need["coursework"])
    run("baseline", replace(POOR, budget=10**17), data=data)
    tight = replace(tight, budget=tight.budget + load_record(POOR, "baseline").spent()["coursework"])
    stop_training(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        run("default", tight, data=data)
    shutil.rmtree(tmp_path / "build")
    with pytest.raises(InputError, match="default may need"):
        run("default", tight, data=data)
    assert budget_of(tight).spent <= tight.budget


@pytest.mark.parametrize("fresh", [False, True])
def test_a_killed_run_is_not_refused_for_its_own_reservation(fresh, data, monkeypatch):
    need = sum_costs(*estimate(EXPERIMENTS["baseline"], SMALL, Shape.of(backbone_config("tiny"))).values())
    tight = replace(SMALL, budget=need["coursework"])
    with monkeypatch.context() as killed:
        killed.setattr(working.RunInProgress, "end", lambda *_: None)  # nobody gives anything back
        killed.setattr(working, "forecast", stop)
        with pytest.raises(KeyboardInterrupt):
            run("baseline", tight, data=data)
    assert load_record(SMALL, "baseline").flops["reserved"]["coursework"] == tight.budget
    assert budget_of(tight, "baseline").left == tight.budget
    assert run("baseline", tight, data=data, fresh=fresh).status == "done"


@pytest.mark.parametrize("series", [59, "trained"])
def test_what_cannot_be_written_is_refused_before_training(series, data, monkeypatch):
    spoilt = data.trajectories.copy()
    series = split_ids().train[7] if series == "trained" else series
    spoilt[series, 90, 1] = 1e6
    monkeypatch.setattr(loop, "window_loss", None)
    with pytest.raises(InputError, match=f"series {series}, step 90, predator"):
        run("default-warm", TRAINED, data=SeriesSet(spoilt, data.time, "spoilt"))
