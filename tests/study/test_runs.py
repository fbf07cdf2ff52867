from dataclasses import replace

import numpy as np
import pytest

from m2lib.files import InputError
from m2lib.series.codec import decode, to_integers
from m2lib.series.data import SeriesSet
from m2lib.series.metrics import crps_fair
from m2lib.study import work as working
from m2lib.study.profiles import Profile, active_profile
from m2lib.study.records import load_record, record_path, recorded_forecast
from m2lib.study.runs import run

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
    assert replace(resumed, seconds=0, flops={}) == replace(whole, seconds=0, flops={})


def test_stopped_fresh_run_leaves_the_old_record(data, monkeypatch):
    run("baseline", SMALL, data=data)
    before = record_path(SMALL, "baseline").read_bytes()
    monkeypatch.setattr(working, "forecast", stop)
    with pytest.raises(KeyboardInterrupt):
        run("baseline", SMALL, data=data, fresh=True)
    assert record_path(SMALL, "baseline").read_bytes() == before


def test_run_goes_on_only_in_its_own_dtype(data, monkeypatch):
    real = working.forecast
    monkeypatch.setattr(working, "forecast", lambda *a, **o: stop() if 141 in o["ids"] else real(*a, **o))
    with pytest.raises(KeyboardInterrupt):
        run("baseline", SMALL, data=data)
    monkeypatch.setattr(working, "forecast", real)
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    with pytest.raises(InputError, match="was begun in float32 on cpu"):
        run("baseline", SMALL, data=data)
    monkeypatch.setenv("M2_DTYPE", "float32")
    assert run("baseline", SMALL, data=data).status == "done"


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
    path.write_text("{")
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
    (tmp_path / "results").write_text("a file where the folder should be")
    monkeypatch.setattr(working, "forecast", None)
    with pytest.raises(InputError, match=r"M2_RESULTS is .*results', which is or lies in a file; it may be a folder"):
        run("baseline", SMALL, data=data)


def test_unknown_experiment_and_profile(monkeypatch):
    with pytest.raises(InputError, match="unknown experiment 'nope': choose one of baseline,"):
        run("nope", SMALL)
    monkeypatch.setenv("M2_PROFILE", "huge")
    with pytest.raises(InputError, match="M2_PROFILE is 'huge'; it may be slice, laptop or report"):
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
