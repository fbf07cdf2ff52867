"""The study's commands, `python -m study`."""

import json
import re
import subprocess
import sys

import pytest
import torch

from m2lib.accounting import COMPONENTS
from m2lib.files import ROOT
from study import PROFILES, active_profile, budget_of, cli, load_record, settings
from study.records import hold, save_record


@pytest.fixture(autouse=True)
def surroundings(tmp_path, recipe_file, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path / "build"))
    monkeypatch.setenv("M2_BACKBONE", "tiny")
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.setenv("M2_DATA", str(recipe_file))


@pytest.fixture
def study(capsys):
    """Runs a command, which ends with a status, and gives what it prints."""

    def run(line, status=0):
        capsys.readouterr()
        assert cli.main(line.split()) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def test_run_prints_its_errors_and_its_record(study):
    out = study("run baseline-constrained")
    assert re.match(r"baseline-constrained: done, \d+ s, MAE mean .*, 0 repairs\n", out)
    assert out.strip().endswith("slice-tiny/baseline-constrained.json")
    # Of three series one is hard, and the default run was asked about it.
    assert re.search(r"search/second_1: done, \d+ s, no forecasts\n", study("run search/second_1"))


@pytest.mark.parametrize(
    ("command", "environment", "message"),
    [
        ("run nope", {}, "unknown experiment 'nope'"),
        ("run", {}, "name the experiments to run, or give --all"),
        ("run baseline --all", {}, "name the experiments to run, or give --all"),
        (
            "run baseline",
            {"M2_PROFILE": "huge"},
            "M2_PROFILE is 'huge'; it may be slice, laptop, fifth or report",
        ),
        ("run baseline", {"M2_BACKBONE": "gpt"}, "unknown backbone 'gpt'"),
        ("run baseline", {"M2_OUT": cli.__file__}, "Not a directory"),
        (
            "run baseline",
            {"M2_DEVICE": "abacus"},
            "M2_DEVICE is 'abacus'; it may be cpu, cuda, cuda:N or mps",
        ),
        ("run baseline --cluster-option a=1", {}, "--cluster-option is for --cluster slurm or"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(
    command, environment, message, monkeypatch, study
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    err = study(command, 1)
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stats", 'Unknown command "stats". Did you mean "status"?'),
        ("run baseline --frsh", "Unknown option: --frsh. Did you mean --fresh?"),
        ("flops final --new-tokens 9", "Unknown option: --new-tokens."),
    ],
)
def test_a_line_that_is_no_command_is_one_line_and_status_2(command, message, study):
    err = study(command, 2)
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "study", "status"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `head` does after its lines
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_status_lists_what_is_recorded_runs_and_was_killed(study):
    def standing():
        return next(
            line.split(None, 1)[1]
            for line in study("status").splitlines()
            if line.startswith("default-warm ")
        )

    assert standing().startswith("not run: ")
    study("run default-warm")
    assert study("status").splitlines()[0].endswith("slice-tiny")
    assert re.match(r"done, \d+ s, 3 of 3 steps, MAE mean", standing())
    profile = active_profile()
    record = load_record(profile, "default-warm")
    record.status = "running"
    save_record(profile, record)
    assert standing().startswith("stopped (`python -m study run default-warm` goes on), ")
    with hold(profile, "default-warm"):
        assert standing().startswith("running, ")


def test_flops_of_the_reports_sizes_and_of_an_experiment(monkeypatch, study):
    for name in ("M2_PROFILE", "M2_BACKBONE"):
        monkeypatch.delenv(name)
    counted = json.loads(study("flops default --convention published --json"))
    assert (counted["backbone"], counted["forward"], counted["train_step"]) == (
        "qwen2.5-0.5b", 369_504_985_888, 1_478_019_943_552,
    )  # fmt: skip
    assert (counted["training"], counted["steps"]) == (5000 * counted["train_step"], 5000)
    assert sum(counted["breakdown"]["forecast"].values()) == counted["forecast"]

    monkeypatch.setenv("M2_PROFILE", "laptop")
    out = study("flops default-warm --backbone tiny")
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (said["backbone"], said["targets"], said["steps"], said["length"]) == (
        "tiny",
        "(q_proj, v_proj)",
        "700",
        "640",
    )
    assert list(said)[-len(COMPONENTS) - 1 :] == [*COMPONENTS, "total"]
    one, many = (
        json.loads(study(f"flops {name} --json")) for name in ("final", "samples/final/test")
    )
    assert (one["samples"], many["samples"]) == (1, 48)
    assert 5 < many["forecast"] / one["forecast"] < 40  # the samples share a prefill


def test_budget_lists_what_was_spent(study):
    assert "left 1e+17" in study("budget")
    study("run baseline baseline-constrained")
    lines = study("budget").splitlines()
    spent = load_record(active_profile(), "baseline").spent()
    assert lines[2].split() == ["baseline", "done", *(f"{flops:.3g}" for flops in spent.values())]
    assert lines[3].endswith("beyond the report, not charged")
    assert lines[4].startswith(f"charged {spent['coursework']:.4g} of 1e+17 (coursework)")


def test_the_rows_of_the_budget_add_up_to_what_is_charged(study, monkeypatch):
    monkeypatch.setenv("M2_PROFILE", "laptop")
    monkeypatch.delenv("M2_BACKBONE", raising=False)
    monkeypatch.delenv("M2_RESULTS", raising=False)
    rows = [line for line in study("budget").splitlines()[2:-1] if "not charged" not in line]
    assert any("no longer kept" in row for row in rows)
    charged = sum(float(row.split()[-3]) for row in rows)
    account = budget_of(PROFILES["laptop"])
    assert charged == pytest.approx(account.spent, rel=0.01)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            PermissionError(13, "Permission denied", "/a/b"),
            1,
            "error: [Errno 13] Permission denied: '/a/b'",
        ),
        (MemoryError("Unable to allocate 7 TiB"), 1, "error: Unable to allocate 7 TiB"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to"),
            1,
            "error: CUDA out of memory. Tried to",
        ),
        (
            KeyboardInterrupt(),
            130,
            "\nstopped; `python -m study run` goes on from the last checkpoint or batch",
        ),
    ],
)
def test_what_ends_a_run_is_said(error, status, line, monkeypatch, study):
    monkeypatch.setattr("study.run", lambda *_, **__: (_ for _ in ()).throw(error))
    assert study("run baseline", status) == f"{line}\n"


@pytest.mark.parametrize(
    "fault", [IndexError("no such place"), RuntimeError("an illegal memory access")]
)
def test_a_fault_of_the_program_stays_a_traceback(fault, monkeypatch):
    monkeypatch.setattr("study.active_profile", lambda: (_ for _ in ()).throw(fault))
    with pytest.raises(type(fault)):
        cli.main(["status"])


def test_help_and_page_name_all_there_is(study):
    page = (ROOT / "book" / "settings.md").read_text(encoding="utf-8")
    said = study("--help")
    for name in [name for name in cli.app if name[0] != "-"]:
        assert f" {name} " in said
        assert f"`python -m study {name}" in page
    for name in settings.SETTINGS:
        assert f" {name} " in said
