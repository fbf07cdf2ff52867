import json
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

from m2lib import cli
from m2lib.accounting.shape import COMPONENTS
from m2lib.study.profiles import active_profile
from m2lib.study.records import load_record


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path / "build"))
    monkeypatch.setenv("M2_BACKBONE", "tiny")
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.delenv("M2_DATA", raising=False)


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
        (["run", "baseline"], {"M2_PROFILE": "huge"}, "M2_PROFILE is 'huge'; it may be slice, laptop or report"),
        (["run", "baseline"], {"M2_BACKBONE": "gpt"}, "unknown backbone 'gpt'"),
        (
            ["run", "baseline"],
            {"M2_OUT": "/dev/null"},
            "M2_OUT is '/dev/null', which is or lies in a file; it may be a",
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
    assert "tiny, coursework FLOPs; rank 16, batch 2, steps 700, length 640, prompt 800, new_tokens 200" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == [*COMPONENTS, "total"]

    assert cli.main(["flops", "nope"]) == 1
    assert "unknown experiment 'nope'" in capsys.readouterr().err
    for wrong in (["--length", "0"], ["--rank", "-1"], ["--convention", "rules"]):
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
    assert "at least 3" in capsys.readouterr().err


def test_a_reader_that_stops_reading_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "m2lib.cli", "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


def test_help_and_import_do_not_wait_for_torch():
    code = "import sys, m2lib, m2lib.cli, m2lib.series.data, m2lib.study.runs; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
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
