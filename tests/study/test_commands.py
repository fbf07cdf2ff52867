"""The study's commands, `python -m study`: what they print, and how they end."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from m2lib.accounting import COMPONENTS
from m2lib.files import ROOT
from study import EXPERIMENTS, PROFILES, active_profile, budget_of, cli, load_record, settings
from study.records import hold, save_record

pytestmark = pytest.mark.usefixtures("commands_on_tiny")


@pytest.fixture
def study(capsys):
    """Return a function that runs a command and returns what it prints.

    It checks the exit status. If that is not 0, what the command prints as an error is returned.
    """

    def run_command(line, status=0):
        capsys.readouterr()
        assert cli.main(line.split()) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run_command


def test_run_prints_the_errors_of_a_run_and_where_its_record_is(study):
    out = study("run baseline-constrained")
    assert re.match(r"baseline-constrained: done, \d+ s, MAE mean .*, 0 repairs\n", out)
    record = Path(out.strip().splitlines()[-1])
    assert record.parts[-2:] == ("slice-tiny", "baseline-constrained.json")


def test_run_says_if_there_is_nothing_to_forecast(study):
    # Of the slice's three series one is hard, and the default run has forecast it already.
    out = study("run search/second_1")
    assert re.search(r"search/second_1: done, \d+ s, no forecasts\n", out)


@pytest.fixture
def asked_for(monkeypatch):
    """Return a list of what is asked of `study.run`, which runs nothing.

    An entry has the experiment's name, and `fresh` if that is set.
    """
    asked = []

    def run(name, profile, **options):
        asked.append((name, {option for option, is_set in options.items() if is_set}))
        return SimpleNamespace(status="done", seconds=0.0, training=None, series={})

    monkeypatch.setattr("study.run", run)
    return asked


def test_all_are_the_reports_experiments_and_beyond_adds_the_others(study, asked_for):
    study("run --all")
    of_the_report = [name for name, _ in asked_for]
    assert all(EXPERIMENTS[name].group for name in of_the_report)
    assert len(of_the_report) == 19  # as many as book/reference.md says

    asked_for.clear()
    study("run --all --beyond")
    assert [name for name, _ in asked_for] == list(EXPERIMENTS)


def test_a_run_is_repeated_as_the_command_says(study, asked_for):
    study("run baseline --fresh")
    assert asked_for == [("baseline", {"fresh"})]


def test_the_model_of_the_active_profile_is_fetched(study):
    assert study("model") == "backbone tiny: random weights, nothing to fetch\n"


@pytest.mark.parametrize(
    ("command", "environment", "message"),
    [
        pytest.param("run nope", {}, "unknown experiment 'nope'", id="unknown experiment"),
        pytest.param("run", {}, "name the experiments to run, or give --all", id="no experiment"),
        pytest.param(
            "run baseline --all",
            {},
            "name the experiments to run, or give --all",
            id="an experiment and all",
        ),
        pytest.param(
            "run baseline",
            {"M2_PROFILE": "huge"},
            "M2_PROFILE is 'huge'; it may be slice, laptop, fifth or report",
            id="unknown profile",
        ),
        pytest.param(
            "run baseline",
            {"M2_BACKBONE": "gpt"},
            "unknown backbone 'gpt'",
            id="unknown backbone",
        ),
        pytest.param(
            "run baseline",
            {"M2_OUT": cli.__file__},
            Path(cli.__file__).name,  # each system says what is wrong with it in other words
            id="a file instead of a folder",
        ),
        pytest.param(
            "run baseline",
            {"M2_DEVICE": "abacus"},
            "M2_DEVICE is 'abacus'; it may be cpu, cuda, cuda:N or mps",
            id="unknown device",
        ),
        pytest.param(
            "run baseline --beyond",
            {},
            "name the experiments to run, or give --all (and --beyond)",
            id="beyond without all",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(
    command, environment, message, monkeypatch, study
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    error = study(command, status=1)
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stats", 'Unknown command "stats". Did you mean "status"?'),
        ("run baseline --frsh", "Unknown option: --frsh. Did you mean --fresh?"),
        ("flops final --new-tokens 9", "Unknown option: --new-tokens."),
    ],
)
def test_a_line_that_is_no_command_is_one_line_and_status_2(command, message, study):
    error = study(command, status=2)
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "study", "status"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `head` does after its lines
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_status_says_whether_an_experiment_is_recorded_stopped_or_running(study):
    def standing():
        """Return what `status` says of default-warm."""
        for line in study("status").splitlines():
            if line.startswith("default-warm "):
                _, what_it_says = line.split(None, maxsplit=1)
                return what_it_says
        return None

    assert standing().startswith("not run: ")

    study("run default-warm")
    assert re.match(r"done, \d+ s, 3 of 3 steps, MAE mean", standing())
    first_line = study("status").splitlines()[0]
    assert first_line.endswith("slice-tiny")  # the folder of the records

    profile = active_profile()
    record = load_record(profile, "default-warm")
    record.status = "running"  # as after a kill, when no process holds it
    save_record(profile, record)
    assert standing().startswith("stopped (`python -m study run default-warm` goes on), ")

    with hold(profile, "default-warm"):
        assert standing().startswith("running, ")


def test_flops_counts_at_the_reports_sizes_where_no_profile_is_named(monkeypatch, study):
    monkeypatch.delenv("M2_PROFILE")
    monkeypatch.delenv("M2_BACKBONE")
    counted = json.loads(study("flops default --convention published --json"))
    assert counted["backbone"] == "qwen2.5-0.5b"
    # The report prints the cost of a step, of two windows. Its accountant charges 2 + 2 forward
    # passes for it, see DEPARTURES in m2lib/accounting/published.py.
    assert counted["train_step"] == 1_478_019_943_552
    assert counted["forward"] == 1_478_019_943_552 // 4
    assert counted["steps"] == 5000
    assert counted["training"] == 5000 * counted["train_step"]
    assert sum(counted["breakdown"]["forecast"].values()) == counted["forecast"]


def test_flops_counts_at_the_sizes_of_the_profile_that_is_named(monkeypatch, study):
    monkeypatch.setenv("M2_PROFILE", "laptop")
    monkeypatch.delenv("M2_BACKBONE")
    out = study("flops default-warm --backbone tiny")
    rows = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert rows["backbone"] == "tiny"
    assert rows["targets"] == "q_proj, v_proj"
    assert rows["steps"] == "700"
    assert rows["length"] == "640"
    # The parts of the model come last, with their sum.
    assert list(rows)[-len(COMPONENTS) - 1 :] == [*COMPONENTS, "total"]


def test_flops_counts_the_shared_prefill_of_samples_once(monkeypatch, study):
    monkeypatch.setenv("M2_PROFILE", "laptop")
    monkeypatch.delenv("M2_BACKBONE")
    greedy = json.loads(study("flops final --json"))
    sampled = json.loads(study("flops samples/final/test --json"))
    assert greedy["samples"] == 1
    assert sampled["samples"] == 48
    assert 5 < sampled["forecast"] / greedy["forecast"] < 40


def test_budget_lists_what_each_experiment_spent(study):
    assert "left 1e+17" in study("budget")

    study("run baseline baseline-constrained")
    spent = load_record(active_profile(), "baseline").spent()
    # The folder and the heads of the columns come first.
    _, _, baseline, constrained, account = study("budget").splitlines()
    columns = [f"{flops:.3g}" for flops in spent.values()]
    assert baseline.split() == ["baseline", "done", *columns]
    assert constrained.endswith("beyond the report, not charged")
    assert account.startswith(f"charged {spent['coursework']:.4g} of 1e+17 (coursework)")


def test_the_rows_of_the_committed_budget_add_up_to_what_is_charged(study, monkeypatch):
    monkeypatch.setenv("M2_PROFILE", "laptop")
    monkeypatch.delenv("M2_BACKBONE", raising=False)
    monkeypatch.delenv("M2_RESULTS", raising=False)
    _, _, *rows, _ = study("budget").splitlines()
    charged_rows = [row for row in rows if "not charged" not in row]
    assert any("no longer kept" in row for row in charged_rows)
    charged = 0.0
    for row in charged_rows:
        coursework = row.split()[-3]  # before the columns of the other two conventions
        charged += float(coursework)
    assert charged == pytest.approx(budget_of(PROFILES["laptop"]).spent, rel=0.01)


def failing_with(error):
    """Return a function that raises an error, whatever it is called with."""

    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        pytest.param(
            PermissionError(13, "Permission denied", "/a/b"),
            1,
            "error: [Errno 13] Permission denied: '/a/b'",
            id="no permission",
        ),
        pytest.param(
            MemoryError("Unable to allocate 7 TiB"),
            1,
            "error: not enough memory (Unable to allocate 7 TiB); fewer samples, a shorter context "
            "or, to train, M2_RECOMPUTE=1 takes less",
            id="no memory",
        ),
        pytest.param(
            torch.OutOfMemoryError("CUDA out of memory. Tried to"),
            1,
            "error: not enough memory (CUDA out of memory. Tried to); fewer samples, a shorter "
            "context or, to train, M2_RECOMPUTE=1 takes less",
            id="no memory on the GPU",
        ),
        pytest.param(
            KeyboardInterrupt(),
            130,
            "\nstopped; `python -m study run` goes on from the last checkpoint or batch",
            id="Ctrl-C",
        ),
    ],
)
def test_what_ends_a_run_is_said(error, status, line, monkeypatch, study):
    monkeypatch.setattr("study.run", failing_with(error))
    assert study("run baseline", status) == f"{line}\n"


@pytest.mark.parametrize(
    "fault", [IndexError("no such place"), RuntimeError("an illegal memory access")]
)
def test_a_fault_of_the_program_stays_a_traceback(fault, monkeypatch):
    monkeypatch.setattr("study.active_profile", failing_with(fault))
    with pytest.raises(type(fault)):
        cli.main(["status"])


def test_the_help_and_the_page_of_settings_name_every_command(study):
    page = (ROOT / "book" / "reference.md").read_text(encoding="utf-8")
    shown_help = study("--help")
    commands = [name for name in cli.app if not name.startswith("-")]
    for name in commands:
        assert f" {name} " in shown_help
        assert f"`python -m study {name}" in page


def test_the_help_names_every_setting_of_the_study(study):
    shown_help = study("--help")
    for name in settings.SETTINGS:
        assert f" {name} " in shown_help
