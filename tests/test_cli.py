import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from m2lib import cli
from m2lib.accounting.flops import forward_flops
from m2lib.accounting.shape import COMPONENTS, Shape, total
from m2lib.files import ROOT
from m2lib.model.backbones import backbone_config
from m2lib.study.budget import hold
from m2lib.study.profiles import active_profile
from m2lib.study.records import load_record, save_record


@pytest.fixture(autouse=True)
def surroundings(tmp_path, recipe_file, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path / "build"))
    monkeypatch.setenv("M2_BACKBONE", "tiny")
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.setenv("M2_DATA", str(recipe_file))


def test_generate_then_check(tmp_path, capsys):
    path = tmp_path / "new" / "series.h5"
    assert cli.main(["data", "generate", str(path)]) == 0
    with h5py.File(path) as file:
        assert file["trajectories"].shape == (1000, 100, 2)
        assert file["trajectories"].dtype == np.float32
    assert cli.main(["data", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "1000: 900 train, 50 validation, 50 test" in out
    assert "every encoded value equal" in out

    assert cli.main(["data", "generate", str(path)]) == 1
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert cli.main(["data", "generate", str(path), "--n", "20", "--seed", "1", "--force"]) == 0
    assert cli.main(["data", "check", str(path)]) == 0
    assert "another data set" in capsys.readouterr().out


def test_run_prints_its_errors_and_its_record(capsys):
    assert cli.main(["run", "baseline-constrained"]) == 0
    out = capsys.readouterr().out
    assert "baseline-constrained: MAE mean" in out
    assert "0 repairs" in out
    assert out.strip().endswith("slice-tiny/baseline-constrained.json")


@pytest.mark.parametrize(
    ("command", "environment", "message"),
    [
        (["data", "check", "nowhere.h5"], {}, "no such data file: nowhere.h5"),
        (["data", "check"], {"M2_DATA": "nowhere.h5"}, "no such data file: nowhere.h5"),
        (["run", "nope"], {}, "unknown experiment 'nope'"),
        (["run", "baseline"], {"M2_PROFILE": "huge"}, "M2_PROFILE is 'huge'; it may be slice, laptop, fifth or report"),
        (["run", "baseline"], {"M2_BACKBONE": "gpt"}, "unknown backbone 'gpt'"),
        (
            ["run", "baseline"],
            {"M2_OUT": cli.__file__},
            f"M2_OUT is {cli.__file__!r}, which is or lies in a file; it may be a",
        ),
        (["run", "baseline"], {"M2_DEVICE": "abacus"}, "M2_DEVICE is 'abacus'; it may be cpu, cuda, cuda:N or mps"),
        (["model", "nope"], {}, "unknown backbone 'nope'"),
    ],
)
def test_bad_input_is_one_line_and_a_status(command, environment, message, monkeypatch, capsys):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.main(command) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_backbone_that_splits_a_symbol(tmp_path, monkeypatch, capsys):
    from tokenizers import Tokenizer, models, normalizers

    from m2lib.model.backbones import load_backbone

    load_backbone("tiny", device="cpu", dtype="float32", reduce=False).model.save_pretrained(tmp_path / "split")
    symbols = {symbol: i for i, symbol in enumerate("0123456789,")}
    core = Tokenizer(models.BPE(symbols, []))
    core.normalizer = normalizers.Replace(";", "12")
    core.add_special_tokens(["<|endoftext|>"])
    core.save(str(tmp_path / "split" / "tokenizer.json"))
    monkeypatch.setenv("M2_BACKBONE", str(tmp_path / "split"))
    capsys.readouterr()  # the bars of save_pretrained
    assert cli.main(["run", "baseline"]) == 1
    err = capsys.readouterr().err
    assert "tokenizer writes ';' as 2 tokens [1, 2], not one" in err
    assert err.count("\n") == 1


def test_status_lists_what_is_recorded(capsys):
    cli.main(["run", "default-warm"])
    capsys.readouterr()
    assert cli.main(["status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("slice-tiny")
    assert any(line.startswith("default-warm           done, ") and "3 of 3 steps, MAE mean" in line for line in lines)
    assert any(line.startswith("baseline               not run: the untuned model") for line in lines)


def test_status_tells_a_run_from_one_that_was_killed(capsys):
    cli.main(["run", "default-warm"])
    profile = active_profile()
    record = load_record(profile, "default-warm")
    record.status = "running"
    save_record(profile, record)
    capsys.readouterr()

    def standing():
        assert cli.main(["status"]) == 0
        lines = capsys.readouterr().out.splitlines()
        return next(line.split(None, 1)[1] for line in lines if line.startswith("default-warm "))

    assert standing().startswith("stopped (`m2 run default-warm` goes on), ")
    with hold(profile, "default-warm"):
        assert standing().startswith("running, ")


WRONG = ("", "q,", "w", "q,q", "q,q_proj", "q v")  # for --targets


def test_flops_of_other_targets(capsys):
    sizes = ["flops", "--backbone", "tiny", "--length", "30", "--rank", "2"]
    assert cli.main(sizes) == 0
    default = capsys.readouterr().out
    assert "targets" not in default
    assert cli.main([*sizes, "--targets", "v_proj,q"]) == 0
    assert capsys.readouterr().out == default
    assert cli.main([*sizes, "--targets", "down,q"]) == 0
    assert "forecasts 1, targets q+down\n" in capsys.readouterr().out
    assert cli.main([*sizes, "--targets", "down,q", "--json"]) == 0
    counted, targets = json.loads(capsys.readouterr().out), ["q_proj", "down_proj"]
    shape = Shape.of(backbone_config("tiny"))
    assert counted["targets"] == targets
    assert counted["forward"] == total(forward_flops(shape, 30, rank=2, targets=tuple(targets)))


def test_flops_of_an_experiment_and_of_sizes(monkeypatch, capsys):
    for name in ("M2_PROFILE", "M2_BACKBONE"):
        monkeypatch.delenv(name)
    assert cli.main(["flops", "default", "--convention", "published", "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert (counted["backbone"], counted["forward"], counted["train_step"]) == (
        "qwen2.5-0.5b", 369_504_985_888, 1_478_019_943_552,
    )  # fmt: skip
    assert (counted["training"], counted["steps"]) == (5000 * counted["train_step"], 5000)
    assert sum(counted["breakdown"]["forecast"].values()) == counted["forecast"]

    sizes = ["--length", "512", "--rank", "0", "--batch", "3", "--steps", "7", "--new-tokens", "220"]
    assert cli.main(["flops", *sizes, "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["forecast"] == 608_639_707_337
    assert counted["training"] == 7 * 3 * 3 * counted["forward"]

    monkeypatch.setenv("M2_PROFILE", "laptop")
    assert cli.main(["flops", "default-warm", "--backbone", "tiny"]) == 0
    out = capsys.readouterr().out
    assert "tiny, coursework FLOPs; rank 16, batch 2, steps 700, length 640, prompt 800, samples 1, " in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == [*COMPONENTS, "total"]

    prices = {}
    for name in ("final", "samples/final/test"):  # 48 samples share a prefill
        assert cli.main(["flops", name, "--json"]) == 0
        prices[name] = json.loads(capsys.readouterr().out)
    assert (prices["samples/final/test"]["samples"], prices["final"]["samples"]) == (48, 1)
    assert 5 < prices["samples/final/test"]["forecast"] / prices["final"]["forecast"] < 40
    assert cli.main(["flops", "final", "--new-tokens", "9"]) == 1
    assert "final has sizes of its own; leave out its name, or --new-tokens" in capsys.readouterr().err

    assert cli.main(["flops", "nope"]) == 1
    assert "unknown experiment 'nope'" in capsys.readouterr().err
    for wrong in (["--length", "0"], ["--rank", "-1"], ["--convention", "rules"], *(["--targets", it] for it in WRONG)):
        with pytest.raises(SystemExit):
            cli.main(["flops", *wrong])


def test_budget_lists_what_was_spent(capsys):
    assert cli.main(["budget"]) == 0
    assert "left 1e+17" in capsys.readouterr().out
    for name in ("baseline", "baseline-constrained"):
        cli.main(["run", name])
    capsys.readouterr()
    assert cli.main(["budget"]) == 0
    lines = capsys.readouterr().out.splitlines()
    spent = load_record(active_profile(), "baseline").spent()
    assert lines[2].split() == ["baseline", "done", *(f"{flops:.3g}" for flops in spent.values())]
    assert lines[3].endswith("beyond the report, not charged")
    assert lines[4].startswith(f"charged {spent['coursework']:.4g} of 1e+17 (coursework)")
    assert re.fullmatch(r"that affords \d+ steps of the final run, with its forecasts kept back", lines[5])


def test_ctrl_c_says_how_to_go_on(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.study, "run", interrupted)
    assert cli.main(["run", "baseline"]) == 130
    assert "`m2 run baseline` goes on from" in capsys.readouterr().err


def test_usage_errors(capsys):
    for words in ([], ["data"], ["data", "generate", "--seed", "-1"], ["data", "generate", "--n", "2"]):
        with pytest.raises(SystemExit) as stop:
            cli.main(words)
        assert stop.value.code == 2
    assert "from 3 to" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["data", "check", "~nosuchuser/x"],
        ["data", "check", "a/" * 3000],
        ["data", "generate", "caf\udce9.h5"],
        ["model", "~nosuchuser/x"],
        ["model", "a" * 300],
        ["flops", "--backbone", "nul\0"],
        ["pdf", ""],
        ["flops", "--steps", "9" * 400],
        ["flops", "--steps", "9" * 5000],
        ["flops", "--length", str(10**30)],
        ["data", "generate", "--n", "9" * 40],
    ],
    ids=lambda words: f"{' '.join(words[:-1])} {len(words[-1])}",
)
def test_an_argument_that_cannot_be_is_refused_by_name(words, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"m2 [a-z ]+: error: argument \S+: ", last)
    assert len(last) < 400


def test_the_largest_sizes_can_be_printed(capsys):
    sizes = ("--length", "--rank", "--batch", "--steps", "--new-tokens")
    for convention in ("coursework", "published", "executed"):
        words = [word for size in sizes for word in (size, str(cli.MOST))]
        assert cli.main(["flops", "--backbone", "tiny", "--convention", convention, *words]) == 0
    assert "e+" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(13, "Permission denied", "/a/b\nc"), r"/a/b\nc: Permission denied"),
        (OSError("no device"), "no device"),
        (MemoryError("7 TiB for an array"), "not enough memory (7 TiB for an array); free some, or ask for less"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: 4 TB"),
            "not enough memory (DefaultCPUAllocator: can't allocate memory: 4 TB); free some, or ask for less",
        ),
        (RecursionError("too deep\n!"), "something that was read is nested too deeply (too deep)"),
    ],
)
def test_what_the_system_refuses_is_one_line(error, line, monkeypatch, capsys):
    def refused():
        raise error

    monkeypatch.setattr(cli.study, "active_profile", refused)
    assert cli.main(["status"]) == 1
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_fault_of_the_program_stays_a_traceback(monkeypatch):
    for fault in (TypeError, KeyError, AttributeError, ValueError, RuntimeError):
        monkeypatch.setattr(cli.study, "active_profile", lambda fault=fault: (_ for _ in ()).throw(fault("bug")))
        with pytest.raises(fault, match="bug"):
            cli.main(["status"])


def shell(words, **environment):
    command = f'"{sys.executable}" -m m2lib.cli {words}'
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | environment
    return subprocess.run(command, shell=True, capture_output=True, encoding="utf-8", timeout=60, env=surroundings)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no disk that is always full")
def test_output_to_a_full_disk_is_one_line_and_a_status():
    done = shell("status >/dev/full")
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")


@pytest.mark.skipif(os.name == "nt", reason="another shell")
def test_output_that_is_closed_is_nobodys_loss(tmp_path):
    """Nor does a file that is opened next get what was meant for it."""
    done = shell(f"data generate '{tmp_path}/series.h5' --n 3 <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(cli.series.load_series(tmp_path / "series.h5")) == 3


def test_a_terminal_without_accents_shows_them_as_codes(tmp_path):
    done = shell("status", PYTHONIOENCODING="ascii", M2_OUT=str(tmp_path / "naïve"))
    assert (done.returncode, done.stderr) == (0, "")
    assert r"na\xefve" in done.stdout.splitlines()[0]


UNSET = ("FRESH", "ALL", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # what a make around these tests has set


@pytest.fixture
def checkout(tmp_path):
    """A folder with the Makefile and what it has made, and how to call make there."""
    if os.name == "nt" or not shutil.which("make"):
        pytest.skip("make and a Unix shell are not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    for made in ("build/report", "build/results", "build/checkpoints/laptop-x", "build/fresh/laptop-x", ".venv"):
        (tmp_path / made).mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", ".venv/.ok"):
        (tmp_path / name).touch()

    def make(*words):
        clean = {name: value for name, value in os.environ.items() if name not in UNSET}
        return subprocess.run(
            ["make", *words], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True, env=clean
        )

    return tmp_path, make


def test_make_clean_keeps_unfinished_work_unless_told(checkout):
    folder, make = checkout
    out = make("clean").stdout.splitlines()
    assert out[-1] == (
        "kept, for they took long to compute: build/checkpoints/laptop-x build/fresh; make clean ALL=1 removes them too"
    )
    assert sorted(path.name for path in folder.iterdir()) == ["Makefile", "build", "constraints.txt", "pyproject.toml"]
    assert sorted(path.name for path in folder.glob("build/*")) == ["checkpoints", "fresh"]
    make("clean", "ALL=no")
    assert (folder / "build" / "checkpoints" / "laptop-x").is_dir()
    make("clean", "ALL=1")
    assert not (folder / "build").exists()
    (folder / "build" / "checkpoints").mkdir(parents=True)  # as finished runs leave it
    assert "kept" not in make("clean").stdout
    assert not (folder / "build").exists()


def test_make_understands_no(checkout):
    _, make = checkout
    for fresh in ("no", "0", "false", "off", "OFF", "", None):
        assert "run --all" not in make("-n", "report", *([] if fresh is None else [f"FRESH={fresh}"])).stdout
    assert "run --all" in make("-n", "report", "FRESH=1").stdout


def test_a_reader_that_stops_reading_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "m2lib.cli", "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


def test_help_and_import_do_not_wait_for_torch():
    code = "import sys, m2lib, m2lib.cli, m2lib.series.data, m2lib.study.runs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "False"


def test_an_experiment_that_has_nothing_to_forecast_says_so(capsys):
    # Of three series one is hard, and the default run was asked about it.
    assert cli.main(["run", "search/second_1"]) == 0
    out = capsys.readouterr().out
    assert "search/second_1: no series is left for it to forecast" in out


def test_outside_the_repository_what_needs_it_says_so(monkeypatch, tmp_path, capsys):
    """As installed from a wheel: data, models and live runs work; recorded runs and the PDF are not there."""
    monkeypatch.setattr("m2lib.files.IN_CHECKOUT", False)
    monkeypatch.delenv("M2_OUT")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["data", "generate", "series.h5", "--n", "3"]) == 0
    assert cli.main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == str(tmp_path / "build" / "results" / "slice-tiny")
    for command, profile in ((["pdf"], "slice"), (["status"], "laptop"), (["run", "baseline"], "laptop")):
        monkeypatch.setenv("M2_PROFILE", profile)
        assert cli.main(command) == 1
        err = capsys.readouterr().err
        assert re.fullmatch(r"error: report(/results)? is part of the project's repository, .*\n", err)
