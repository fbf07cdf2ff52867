import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from m2lib import cli, settings
from m2lib.accounting import COMPONENTS, Shape, forward_flops, total
from m2lib.files import ROOT
from m2lib.model import backbone_config
from m2lib.study import active_profile, load_record
from m2lib.study.records import hold, save_record

PELTS = ROOT / "data" / "hudson_bay_pelts.csv"


@pytest.fixture(autouse=True)
def surroundings(tmp_path, recipe_file, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path / "build"))
    monkeypatch.setenv("M2_BACKBONE", "tiny")
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.setenv("M2_DATA", str(recipe_file))


@pytest.fixture
def m2(capsys):
    """Runs a command, which ends with a status, and gives what it prints."""

    def run(line, status=0):
        capsys.readouterr()
        assert cli.main(line.split()) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def test_generate_then_check(tmp_path, m2):
    path = tmp_path / "new" / "series.h5"
    m2(f"data generate {path}")
    with h5py.File(path) as file:
        assert file["trajectories"].shape == (1000, 100, 2)
        assert file["trajectories"].dtype == np.float32
    out = m2(f"data check {path}")
    assert "1000: 900 train, 50 validation, 50 test" in out
    assert "every encoded value equal" in out
    assert "is there already; --force replaces it" in m2(f"data generate {path}", 1)
    m2(f"data generate {path} --n 20 --seed 1 --force")
    assert "another data set" in m2(f"data check {path}")


def test_run_prints_its_errors_and_its_record(m2):
    out = m2("run baseline-constrained")
    assert re.match(r"baseline-constrained: done, \d+ s, MAE mean .*, 0 repairs\n", out)
    assert out.strip().endswith("slice-tiny/baseline-constrained.json")
    # Of three series one is hard, and the default run was asked about it.
    assert re.search(r"search/second_1: done, \d+ s, no forecasts\n", m2("run search/second_1"))


@pytest.mark.parametrize(
    ("command", "environment", "message"),
    [
        ("data check nowhere.h5", {}, "no such data file: nowhere.h5"),
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
        ("model nope", {}, "unknown backbone 'nope'"),
        (
            "flops final --new-tokens 9",
            {},
            "final has sizes of its own; leave out its name, or the options of sizes",
        ),
        *(
            (f"flops --targets {wrong}", {}, "is not a choice of q,k,v,o,gate,up,down")
            for wrong in ("q,", "w", "q,q")
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(
    command, environment, message, monkeypatch, m2
):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    err = m2(command, 1)
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("stats", 'Unknown command "stats". Did you mean "status"?'),
        ("data generate --seed -1", 'Invalid value "-1" for --seed.'),
        ("flops --convention rules", 'Choose from: "coursework", "published", "executed".'),
        ("run baseline --frsh", "Unknown option: --frsh. Did you mean --fresh?"),
        (f"forecast {PELTS}", "--horizon requires an argument"),
        (
            f"forecast {PELTS} --horizon 2 --levels 0.1 90",
            'Invalid value "90.0" for --levels. Must be < 1.',
        ),
        (f"forecast {PELTS} --horizon 2 --levels", "--levels requires at least 1 element"),
    ],
)
def test_a_line_that_is_no_command_is_one_line_and_status_2(command, message, m2):
    err = m2(command, 2)
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "m2lib.cli", "status"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `head` does after its lines
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_file_that_is_not_there_is_said_before_torch_is_loaded(m2):
    code = """
import sys
from m2lib.cli import main
print(main(["forecast", "nowhere.csv", "--horizon", "2"]), "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout == "1 False\n"
    assert done.stderr == "error: there is no file nowhere.csv\n"


def test_status_lists_what_is_recorded_runs_and_was_killed(m2):
    def standing():
        return next(
            line.split(None, 1)[1]
            for line in m2("status").splitlines()
            if line.startswith("default-warm ")
        )

    assert standing().startswith("not run: ")
    m2("run default-warm")
    assert m2("status").splitlines()[0].endswith("slice-tiny")
    assert re.match(r"done, \d+ s, 3 of 3 steps, MAE mean", standing())
    profile = active_profile()
    record = load_record(profile, "default-warm")
    record.status = "running"
    save_record(profile, record)
    assert standing().startswith("stopped (`m2 run default-warm` goes on), ")
    with hold(profile, "default-warm"):
        assert standing().startswith("running, ")


def test_flops_of_sizes(m2):
    sizes = "flops --backbone tiny --length 30 --rank 2"
    assert m2(f"{sizes} --targets v,q") == m2(sizes)
    counted, targets = json.loads(m2(f"{sizes} --targets down,q --json")), ["q_proj", "down_proj"]
    assert counted["targets"] == targets
    shape = Shape.of(backbone_config("tiny"))
    assert counted["forward"] == total(forward_flops(shape, 30, rank=2, targets=tuple(targets)))


def test_flops_of_the_reports_sizes_and_of_an_experiment(monkeypatch, m2):
    for name in ("M2_PROFILE", "M2_BACKBONE"):
        monkeypatch.delenv(name)
    counted = json.loads(m2("flops default --convention published --json"))
    assert (counted["backbone"], counted["forward"], counted["train_step"]) == (
        "qwen2.5-0.5b", 369_504_985_888, 1_478_019_943_552,
    )  # fmt: skip
    assert (counted["training"], counted["steps"]) == (5000 * counted["train_step"], 5000)
    assert sum(counted["breakdown"]["forecast"].values()) == counted["forecast"]
    counted = json.loads(
        m2("flops --length 512 --rank 0 --batch 3 --steps 7 --new-tokens 220 --json")
    )
    assert counted["forecast"] == 608_639_707_337
    assert counted["training"] == 7 * 3 * 3 * counted["forward"]

    monkeypatch.setenv("M2_PROFILE", "laptop")
    out = m2("flops default-warm --backbone tiny")
    said = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert (said["backbone"], said["targets"], said["steps"], said["length"]) == (
        "tiny",
        "(q_proj, v_proj)",
        "700",
        "640",
    )
    assert list(said)[-len(COMPONENTS) - 1 :] == [*COMPONENTS, "total"]
    one, many = (json.loads(m2(f"flops {name} --json")) for name in ("final", "samples/final/test"))
    assert (one["samples"], many["samples"]) == (1, 48)
    assert 5 < many["forecast"] / one["forecast"] < 40  # the samples share a prefill


def test_budget_lists_what_was_spent(m2):
    assert "left 1e+17" in m2("budget")
    m2("run baseline baseline-constrained")
    lines = m2("budget").splitlines()
    spent = load_record(active_profile(), "baseline").spent()
    assert lines[2].split() == ["baseline", "done", *(f"{flops:.3g}" for flops in spent.values())]
    assert lines[3].endswith("beyond the report, not charged")
    assert lines[4].startswith(f"charged {spent['coursework']:.4g} of 1e+17 (coursework)")


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
            "\nstopped; `m2 run` and `m2 finetune` go on from the last checkpoint or batch",
        ),
    ],
)
def test_what_ends_a_run_is_said(error, status, line, monkeypatch, m2):
    monkeypatch.setattr("m2lib.study.run", lambda *_, **__: (_ for _ in ()).throw(error))
    assert m2("run baseline", status) == f"{line}\n"


@pytest.mark.parametrize(
    "fault", [IndexError("no such place"), RuntimeError("an illegal memory access")]
)
def test_a_fault_of_the_program_stays_a_traceback(fault, monkeypatch):
    monkeypatch.setattr("m2lib.study.active_profile", lambda: (_ for _ in ()).throw(fault))
    with pytest.raises(type(fault)):
        cli.main(["status"])


# what a make around these tests has set
UNSET = (
    "FRESH",
    "ALL",
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
)


@pytest.fixture
def checkout(tmp_path):
    """A folder with the Makefile and what it has made, and how to call make there."""
    if os.name == "nt" or not shutil.which("make"):
        pytest.skip("make and a Unix shell are not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    for made in ("report", "results", "checkpoints/laptop-x", "fresh/x", "replaced/x"):
        (tmp_path / "build" / made).mkdir(parents=True)
    (tmp_path / ".venv").mkdir()
    for name in ("pyproject.toml", "constraints.txt", ".venv/.ok"):
        (tmp_path / name).touch()

    def make(*words):
        clean = {name: value for name, value in os.environ.items() if name not in UNSET}
        return subprocess.run(
            ["make", *words],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=True,
            env=clean,
        )

    return tmp_path, make


def test_make_clean_keeps_unfinished_work_unless_told(checkout):
    folder, make = checkout
    out = make("clean").stdout.splitlines()
    assert out[-1] == (
        "kept, for they took long to compute: build/checkpoints/laptop-x build/fresh "
        "build/replaced; make clean ALL=1 removes them too"
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "Makefile",
        "build",
        "constraints.txt",
        "pyproject.toml",
    ]
    assert sorted(path.name for path in folder.glob("build/*")) == [
        "checkpoints",
        "fresh",
        "replaced",
    ]
    make("clean", "ALL=1")
    assert not (folder / "build").exists()


def test_make_takes_paths_from_where_it_is_called(checkout):
    """Notebooks run in a folder of their own."""
    folder, make = checkout
    (folder / "show.mk").write_text(
        "show:\n\t@echo $$M2_RESULTS $$M2_OUT $$M2_DATA\n", encoding="utf-8"
    )
    shown = make(
        "-f", "Makefile", "-f", "show.mk", "show", "M2_RESULTS=a", "M2_OUT=/b", "M2_DATA=c d"
    ).stdout
    assert shown == f"{folder}/a /b {folder}/c d\n"


def test_make_understands_no(checkout):
    _, make = checkout
    for fresh in ("no", "0", "false", "off", "OFF", "", None):
        assert (
            "run --all"
            not in make("-n", "report", *([] if fresh is None else [f"FRESH={fresh}"])).stdout
        )
    assert "run --all" in make("-n", "report", "FRESH=1").stdout


def test_help_names_all_there_is_and_does_not_wait_for_torch():
    code = (
        "import sys; from m2lib import cli; cli.main([]); "
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"
    page = (ROOT / "book" / "settings.md").read_text(encoding="utf-8")
    for name in [name for name in cli.app if name[0] != "-"]:
        assert f" {name} " in done.stdout
        assert f"`m2 {name}" in page
    for name in settings.SETTINGS:
        assert f" {name} " in done.stdout


def test_outside_the_repository_what_needs_it_says_so(monkeypatch, tmp_path, m2):
    """As installed from a wheel: data, models and runs work; the PDF is not there."""
    monkeypatch.setattr("m2lib.files.IN_CHECKOUT", False)
    monkeypatch.delenv("M2_OUT")
    monkeypatch.chdir(tmp_path)
    m2("data generate series.h5 --n 3")
    assert m2("status").splitlines()[0] == str(tmp_path / "build" / "results" / "slice-tiny")
    assert re.fullmatch(r"error: report is part of the project's repository; .*\n", m2("pdf", 1))
