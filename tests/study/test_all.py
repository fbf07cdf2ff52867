"""The whole of the report's experiments, as `m2 run --all` runs them, on two random layers."""

import json
import multiprocessing
import os
import random
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2lib import cli
from m2lib.accounting.flops import forecast_flops, train_step_flops
from m2lib.accounting.shape import Shape, total
from m2lib.model.backbones import load_backbone
from m2lib.series.data import SeriesSet, split_ids
from m2lib.study import budget
from m2lib.study import runs as running
from m2lib.study import runs as working
from m2lib.study.experiments import EXPERIMENTS, series_ids
from m2lib.study.profiles import Profile, active_profile
from m2lib.study.records import load_record
from m2lib.study.runs import run_all
from m2lib.training import loop as training

STEPS = {name: {"steps": 2, "learning_rate": 1e-2} for name in ("default", "search", "context", "final")}
SHORT = {"max_new_tokens": 20}
SMALL = Profile(
    "laptop",
    "tiny",
    series=3,
    batch_size=2,
    live=False,
    train=STEPS,
    protocol=dict.fromkeys((*STEPS, "baseline", "untuned-test"), SHORT),
    checkpoint_every=1,
    watched=1,
)
CHARGED = [name for name, experiment in EXPERIMENTS.items() if experiment.group]
MAY_DIFFER = ("run", "seconds", "train_seconds", "evaluation_seconds", "commit", "steps_run", "flops")


def records(folder):
    """All records under a folder of results, without what two runs may differ in, and the adapters' bytes."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "schema" in content:
            content = {key: value for key, value in content.items() if key not in MAY_DIFFER}
        found[str(path.relative_to(folder))] = content
    return found | {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def study(folder, data, saves=None, delay=0.0):
    """Runs in a process of its own; with `saves` it is killed so many seconds after the so-many-th save of a record."""
    torch.set_num_threads(1)
    os.environ |= {"M2_RESULTS": str(folder / "results"), "M2_OUT": str(folder / "build")}
    os.environ |= {"M2_DTYPE": "float32", "M2_DEVICE": "cpu"}
    real, seen = working.save_record, []

    def save(*arguments):
        real(*arguments)
        seen.append(1)
        if len(seen) == saves:
            threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()

    working.save_record = save
    list(run_all(SMALL, data=data))


@pytest.fixture(scope="module")
def start():
    if "forkserver" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system has no fork server")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["accelerate", "m2lib.model.backbones", "m2lib.training.loop", "m2lib.study.runs", "transformers"]
    )

    def start(*arguments):
        process = context.Process(target=study, args=arguments)
        process.start()
        return process

    return start


@pytest.fixture(scope="module")
def unbroken(start, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    process = start(folder, data)
    process.join(300)
    assert process.exitcode == 0
    return folder


def test_all_of_the_reports_experiments_are_recorded(unbroken, monkeypatch):
    found = records(unbroken / "results")
    assert {name for name in found if name.endswith(".json") and "adapter" not in name} == {
        f"laptop-tiny/{name}.json" for name in CHARGED
    }
    monkeypatch.setenv("M2_RESULTS", str(unbroken / "results"))
    assert {load_record(SMALL, name).status for name in CHARGED} == {"done"}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process outright")
def test_killed_at_ten_moments_it_ends_as_unbroken(start, data, unbroken, tmp_path):
    moments = [(random.randrange(1, 7), random.uniform(0, 0.1)) for _ in range(10)]
    print("killed after so many saves and seconds", moments)
    for saves, delay in moments:
        process = start(tmp_path, data, saves, delay)
        process.join(300)
        assert process.exitcode == -signal.SIGKILL
    process = start(tmp_path, data)
    process.join(300)
    assert process.exitcode == 0
    assert records(tmp_path / "results") == records(unbroken / "results")


def test_finished_work_is_not_repeated(data, unbroken, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(unbroken / "results"))
    monkeypatch.setattr(running, "RunInProgress", None)
    before = {path: path.stat().st_mtime_ns for path in (unbroken / "results").rglob("*.json")}
    assert [result.name for result in run_all(SMALL, data=data)] == CHARGED
    assert {path: path.stat().st_mtime_ns for path in (unbroken / "results").rglob("*.json")} == before


def test_a_live_profile_runs_all_twice(data, store, monkeypatch):
    live = replace(SMALL, name="slice", live=True)
    first = [(result.name, result.maes()) for result in run_all(live, data=data)]
    monkeypatch.setattr(running, "RunInProgress", None)
    assert [(result.name, result.maes()) for result in run_all(live, data=data)] == first


def test_no_selection_reads_a_test_series(start, data, unbroken, tmp_path):
    """With other test series, all that is chosen and trained stays as it was."""
    other = data.trajectories.copy()
    test = list(split_ids().test)
    other[test] = other[test[::-1]] * np.float32(0.5)
    process = start(tmp_path, SeriesSet(other, data.time, "other test series"))
    process.join(300)
    assert process.exitcode == 0
    before, after = (records(folder / "results") for folder in (unbroken, tmp_path))
    assert before.keys() == after.keys()
    for name, record in before.items():
        if not name.endswith(".json") or "adapter" in name:
            assert after[name] == record, name
        elif EXPERIMENTS[name.removeprefix("laptop-tiny/").removesuffix(".json")].split == "validation":
            unlike = {key for key in record if after[name][key] != record[key]}
            assert unlike <= {"data", "fingerprint"}, name
    final = "laptop-tiny/final.json"
    assert before[final]["series"] != after[final]["series"]


def test_selections_ask_for_validation_results_only():
    for experiment in EXPERIMENTS.values():
        asked = []

        def maes(name, asked=asked):
            asked.append(name)
            ids = split_ids().validation
            return {int(series): float(series % 7 + len(name)) for series in ids}

        assert not experiment.adapter or experiment.adapter.chosen(maes) in experiment.adapter.names
        ids = series_ids(experiment, None, 1000, maes)
        assert all(EXPERIMENTS[name].split == "validation" for name in asked), experiment.name
        assert set(ids) <= set(getattr(split_ids(), experiment.split))


def test_a_profile_sizes_experiments_by_name_and_by_kind():
    experiment = EXPERIMENTS["search/expt_3"]
    sized = experiment.at(replace(SMALL, train={"search": {"steps": 7}, "search/expt_3": {"steps": 9}}))
    assert (sized.train["steps"], sized.protocol.max_new_tokens) == (9, 20)
    assert experiment.at(replace(SMALL, train={"search": {"steps": 7}})).train["steps"] == 7
    assert experiment.at(Profile("x", "tiny", 3, 2, live=False)) == experiment


def test_the_report_profile_runs_on_a_folder_of_its_model(store, save_folder, monkeypatch, capsys):
    """As published, through the command, on a small Qwen2 model and tokenizer; Ctrl-C during the fourth step."""
    monkeypatch.setenv("M2_PROFILE", "report")
    monkeypatch.setenv("M2_BACKBONE", str(save_folder(store / "Qwen2.5-0.5B-Instruct")))
    real, pressed = training.batch_of, []

    def batch_of(step, *arguments):
        if step == 3 and not pressed:
            pressed.append(signal.raise_signal(signal.SIGINT))
        return real(step, *arguments)

    monkeypatch.setattr(training, "batch_of", batch_of)
    assert cli.main(["run", "--all"]) == 130
    assert "`m2 run --all` goes on from the last checkpoint or batch" in capsys.readouterr().err
    profile = active_profile()
    baseline, default = (load_record(profile, name) for name in ("baseline", "default"))
    assert (baseline.status, len(baseline.series), baseline.config["decode"]["context_tokens"]) == ("done", 50, 512)
    assert baseline.config["decode"]["rounding"] == "published"
    assert (default.status, default.training["learning_rate"], default.training["steps"]) == ("aborted", 1e-5, 5000)
    assert (len(default.loss_curve), [entry["step"] for entry in default.evaluations]) == (4, [0])
    spent = budget.budget_of(profile)
    assert (spent.convention, spent.limit) == ("published", 10**17)
    shape = Shape.of(load_backbone(profile.backbone).model.config)
    forecast = total(forecast_flops(shape, 512, 220, convention="published"))
    steps = total(train_step_flops(shape, 512, rank=4, batch=2, convention="published"))
    assert spent.spent == 50 * forecast + 4 * steps


def test_all_or_names_not_both(store, monkeypatch, capsys):
    monkeypatch.setenv("M2_BACKBONE", "tiny")
    for words in ([], ["baseline", "--all"]):
        assert cli.main(["run", *words]) == 1
        assert "name the experiments to run, or give --all" in capsys.readouterr().err
