"""The whole of the report's experiments, as `run --all` runs them, on two random layers."""

import json

import numpy as np
import pytest

from m2lib.accounting import Shape, forecast_flops, total, train_step_flops
from m2lib.model import load_backbone
from m2lib.series import SeriesSet, split_ids
from study import cli, runs
from study.costs import budget_of
from study.experiments import EXPERIMENTS
from study.profiles import Profile, active_profile
from study.records import load_record
from study.runs import run

TRAINED = ("default", "search", "context", "final")
"""The kinds of the report's experiments that train something."""
SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=3,
    batch_size=2,
    train={kind: {"steps": 2, "learning_rate": 1e-2} for kind in TRAINED},
    protocol={kind: {"max_new_tokens": 20} for kind in (*TRAINED, "baseline", "untuned-test")},
    checkpoint_every=1,
    watched=1,
)
REPORTED = [name for name, experiment in EXPERIMENTS.items() if experiment.group]
"""The report's own experiments; those beyond it are in no group."""
MAY_DIFFER = ("run", "seconds", "train_seconds", "evaluation_seconds", "commit", "flops")
"""The fields of a record in which two equal runs may differ."""


def run_all(data):
    """Run the report's experiments."""
    for name in REPORTED:
        assert run(name, SMALL, data=data).status == "done"


def stored_in(folder):
    """Return what a folder of results holds by path: its JSON files, and its adapters' bytes."""
    contents = {}
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        for field in MAY_DIFFER:
            content.pop(field, None)
        contents[path.relative_to(folder).as_posix()] = content
    for path in folder.rglob("*.safetensors"):
        contents[path.relative_to(folder).as_posix()] = path.read_bytes()
    return contents


def is_record(path):
    """Whether a path of a folder of results is that of a record, and not of an adapter's file."""
    return path.endswith(".json") and "adapter" not in path


def name_of(path):
    """Return the experiment whose record has this path."""
    return path.removeprefix("laptop-tiny/").removesuffix(".json")


def without_data_set(record):
    """Return a record that does not say which data set it is of."""
    return record | {"plan": record["plan"] | {"data": ""}}


@pytest.fixture(scope="module")
def results(data, stored_below, tmp_path_factory):
    """Return a folder that holds all of the report's experiments."""
    folder = tmp_path_factory.mktemp("all")
    with stored_below(folder):
        run_all(data)
    return folder / "results"


def test_each_of_the_reports_experiments_is_recorded(results):
    recorded = [name_of(path) for path in stored_in(results) if is_record(path)]
    assert sorted(recorded) == sorted(REPORTED)


def test_finished_experiments_are_not_run_again(results, data, monkeypatch):
    before = stored_in(results)
    monkeypatch.setenv("M2_RESULTS", str(results))
    monkeypatch.setattr(runs.Run, "begin", None)  # it is not called
    for name in REPORTED:
        assert run(name, SMALL, data=data).name == name
    assert stored_in(results) == before


def test_no_selection_reads_a_test_series(results, data, store):
    """With other test series, all that is chosen and trained stays as it was."""
    trajectories = data.trajectories.copy()
    test = list(split_ids().test)
    trajectories[test] = trajectories[test[::-1]] * np.float32(0.5)
    run_all(SeriesSet(trajectories, data.time, "other test series"))

    before = stored_in(results)
    after = stored_in(store / "results")
    assert before.keys() == after.keys()
    for path, content in before.items():
        if not is_record(path):  # a file of an adapter
            assert after[path] == content, path
        elif EXPERIMENTS[name_of(path)].split == "validation":
            assert without_data_set(after[path]) == without_data_set(content), path

    # What is forecast on the test series is another thing, as it must be.
    final = "laptop-tiny/final.json"
    assert before[final]["series"] != after[final]["series"]


def test_the_report_profile_runs_on_a_folder_of_its_model(
    store, save_folder, monkeypatch, press_ctrl_c, capsys
):
    """As published and through the command, on a small Qwen2 and its tokenizer."""
    monkeypatch.setenv("M2_PROFILE", "report")
    monkeypatch.setenv("M2_BACKBONE", str(save_folder(store / "Qwen2.5-0.5B-Instruct")))
    profile = active_profile()
    press_ctrl_c(during_step=3)  # the fourth step of `default`, the first experiment that trains

    assert cli.main(["run", "--all"]) == 130
    message = "stopped; `python -m study run` goes on from the last checkpoint or batch"
    assert message in capsys.readouterr().err

    baseline = load_record(profile, "baseline")
    assert baseline.status == "done"
    assert len(baseline.series) == 50
    assert baseline.protocol == EXPERIMENTS["baseline"].protocol

    default = load_record(profile, "default")
    assert default.status == "running"
    assert default.training.learning_rate == 1e-5
    assert default.training.steps == 5000
    assert len(default.loss_curve) == 4
    assert [entry["step"] for entry in default.evaluations] == [0]

    shape = Shape.of(load_backbone(profile.backbone).model.config)
    forecast = total(forecast_flops(shape, 512, 220, convention="published"))
    step = total(train_step_flops(shape, 512, rank=4, batch=2, convention="published"))
    assert budget_of(profile).spent == 50 * forecast + 4 * step
