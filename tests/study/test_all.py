"""The whole of the report's experiments, as `run --all` runs them, on two random layers."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest

from m2lib.accounting import Shape, forecast_flops, total, train_step_flops
from m2lib.model import load_backbone
from m2lib.series import SeriesSet, split_ids
from m2lib.training import loop
from study import cli, runs
from study.costs import budget_of
from study.experiments import EXPERIMENTS
from study.plans import series_ids_of
from study.profiles import Profile, active_profile
from study.records import load_record
from study.runs import run

STEPS = {
    name: {"steps": 2, "learning_rate": 1e-2} for name in ("default", "search", "context", "final")
}
SHORT = {"max_new_tokens": 20}
SMALL = Profile(
    "laptop", "tiny", most_series=3, batch_size=2, train=STEPS,
    protocol=dict.fromkeys((*STEPS, "baseline", "untuned-test"), SHORT),
    checkpoint_every=1, watched=1,
)  # fmt: skip
CHARGED = [name for name, experiment in EXPERIMENTS.items() if experiment.group]
MAY_DIFFER = ("run", "seconds", "train_seconds", "evaluation_seconds", "commit", "flops")


def records(folder):
    """All records under a folder of results, without what two runs may differ in, and the adapters'
    bytes."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        found[str(path.relative_to(folder))] = {
            key: content[key] for key in content if key not in MAY_DIFFER
        }
    return found | {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")
    }


def study(folder, data):
    """Run all in a folder, and return what was recorded."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "M2_RESULTS": folder,
            "M2_OUT": folder / "out",
            "M2_DTYPE": "float32",
        }.items():
            patch.setenv(name, str(value))
        patch.setenv("M2_DEVICE", "cpu")
        assert {run(name, SMALL, data=data).status for name in CHARGED} == {"done"}
    return records(folder)


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, study(folder, data)


def test_all_of_the_reports_experiments_are_recorded_and_not_repeated(data, unbroken, monkeypatch):
    folder, found = unbroken
    named = {name for name in found if name.endswith(".json") and "adapter" not in name}
    assert named == {f"laptop-tiny/{name}.json" for name in CHARGED}
    monkeypatch.setenv("M2_RESULTS", str(folder))
    monkeypatch.setattr(runs.Run, "begin", None)
    assert [run(name, SMALL, data=data).name for name in CHARGED] == CHARGED
    assert records(folder) == found


def test_a_live_profile_loads_what_it_has(data, store, monkeypatch):
    live = replace(SMALL, name="slice", live=True)
    first = [run(name, live, data=data).maes() for name in ("baseline", "default")]
    monkeypatch.setattr(runs.Run, "begin", None)
    assert [run(name, live, data=data).maes() for name in ("baseline", "default")] == first


def test_no_selection_reads_a_test_series(data, unbroken, tmp_path):
    """With other test series, all that is chosen and trained stays as it was."""
    other = data.trajectories.copy()
    test = list(split_ids().test)
    other[test] = other[test[::-1]] * np.float32(0.5)
    before = unbroken[1]
    after = study(tmp_path, SeriesSet(other, data.time, "other test series"))
    assert before.keys() == after.keys()
    for name, record in before.items():
        if not name.endswith(".json") or "adapter" in name:
            assert after[name] == record, name
        elif (
            EXPERIMENTS[name.removeprefix("laptop-tiny/").removesuffix(".json")].split
            == "validation"
        ):
            changed = {key for key in record if after[name][key] != record[key]}
            assert changed <= {"plan"}, name
            plans = [found[name]["plan"] | {"data": ""} for found in (before, after)]
            assert plans[0] == plans[1], name
    final = "laptop-tiny/final.json"
    assert before[final]["series"] != after[final]["series"]


def test_selections_ask_for_validation_results_only():
    for experiment in EXPERIMENTS.values():
        asked = []

        def maes(name, asked=asked):
            asked.append(name)
            return {int(series): float(series % 7 + len(name)) for series in split_ids().validation}

        assert not experiment.adapter or experiment.adapter.chosen(maes) in experiment.adapter.names
        ids = series_ids_of(experiment, Profile("x", "tiny"), 1000, maes)
        assert all(EXPERIMENTS[name].split == "validation" for name in asked), experiment.name
        assert set(ids) <= set(getattr(split_ids(), experiment.split))


def test_the_report_profile_runs_on_a_folder_of_its_model(store, save_folder, monkeypatch, capsys):
    """As published, through the command, on a small Qwen2 model and tokenizer; Ctrl-C during the
    fourth step."""
    monkeypatch.setenv("M2_PROFILE", "report")
    monkeypatch.setenv("M2_BACKBONE", str(save_folder(store / "Qwen2.5-0.5B-Instruct")))
    real = loop.batch_of
    pressed = []

    def batch_of(step, *arguments):
        if step == 3 and not pressed:
            pressed.append(signal.raise_signal(signal.SIGINT))
        return real(step, *arguments)

    monkeypatch.setattr(loop, "batch_of", batch_of)
    assert cli.main(["run", "--all"]) == 130
    assert (
        "stopped; `python -m study run` goes on from the last checkpoint or batch"
        in capsys.readouterr().err
    )
    profile = active_profile()
    baseline, default = (load_record(profile, name) for name in ("baseline", "default"))
    assert (baseline.status, len(baseline.series), baseline.protocol) == (
        "done",
        50,
        EXPERIMENTS["baseline"].protocol,
    )
    assert (default.status, default.training.learning_rate, default.training.steps) == (
        "running",
        1e-5,
        5000,
    )
    assert (len(default.loss_curve), [entry["step"] for entry in default.evaluations]) == (4, [0])
    shape = Shape.of(load_backbone(profile.backbone).model.config)
    forecast = total(forecast_flops(shape, 512, 220, convention="published"))
    steps = total(train_step_flops(shape, 512, rank=4, batch=2, convention="published"))
    assert budget_of(profile).spent == 50 * forecast + 4 * steps
