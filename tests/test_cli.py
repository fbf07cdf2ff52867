"""The `m2` command: the data set, what models cost, help, and how every command ends."""

import errno
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest

from m2lib import settings
from m2lib.accounting import Shape, forward_flops, total
from m2lib.cli import _reader_has_gone
from m2lib.files import ROOT
from m2lib.model import backbone_config
from m2tables import cli

PELTS = ROOT / "data" / "hudson_bay_pelts.csv"

pytestmark = pytest.mark.usefixtures("commands_on_tiny")


@pytest.fixture
def m2(capsys):
    """Return a function that runs a command, which has to end with a status.

    The function returns what the command prints, or where it fails, what it says of that.
    """

    def run(line, status=0):
        capsys.readouterr()
        assert cli.main(line.split()) == status
        out, err = capsys.readouterr()
        return err if status else out

    return run


def run_python(code):
    """Run code in a process of its own, in which no module is loaded yet."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )


def test_data_that_are_generated_are_the_real_data_set(tmp_path, m2):
    path = tmp_path / "new" / "series.h5"
    m2(f"data generate {path}")

    with h5py.File(path) as file:
        assert file["trajectories"].shape == (1000, 100, 2)
        assert file["trajectories"].dtype == np.float32
    checked = m2(f"data check {path}")
    assert "1000: 900 train, 50 validation, 50 test" in checked
    assert "every encoded value equal" in checked


def test_force_alone_replaces_a_data_file(tmp_path, m2):
    path = tmp_path / "series.h5"
    path.write_bytes(b"something else")

    assert "is there already; --force replaces it" in m2(f"data generate {path}", status=1)
    assert path.read_bytes() == b"something else"

    m2(f"data generate {path} --n 20 --seed 1 --force")
    assert "another data set" in m2(f"data check {path}")


def test_a_model_of_random_weights_has_nothing_to_fetch(m2):
    assert m2("model tiny") == "backbone tiny: random weights, nothing to fetch\n"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("data check nowhere.h5", "no such data file: nowhere.h5"),
        ("data generate . --force", "is a folder; name a file in it"),
        ("model nope", "unknown backbone 'nope'"),
        ("flops --targets q,", "is not a choice of q,k,v,o,gate,up,down"),
        ("flops --targets w", "is not a choice of q,k,v,o,gate,up,down"),
        ("flops --targets q,q", "is not a choice of q,k,v,o,gate,up,down"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(command, message, m2):
    err = m2(command, status=1)
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("flop", 'Unknown command "flop". Did you mean "flops"?'),
        ("data generate --n 3.5", "--n: 3.5 is no whole number"),
        ("data generate --seed 0.5", "--seed: 0.5 is no whole number"),
        ("data generate --n 2", 'Invalid value "2" for --n.'),
        ("data generate --seed -1", 'Invalid value "-1" for --seed.'),
        ("flops --convention rules", 'Choose from: "coursework", "published", "executed".'),
        (f"forecast {PELTS}", "--horizon requires an argument"),
        (
            f"forecast --horizon 2 --target hare {PELTS}",
            "--file requires an argument. Give the table's file first, before all options.\n",
        ),
        (
            f"forecast {PELTS} --horizon 2 --levels 0.1 90",
            'Invalid value "90.0" for --levels. Must be < 1.',
        ),
        (f"forecast {PELTS} --horizon 2.5", "Invalid value for --horizon: 2.5 is no whole number"),
        (f"evaluate {PELTS} --horizon 2 --origins 0.5", "--origins: 0.5 is no whole number"),
        (f"forecast {PELTS} --horizon 2 --levels", "--levels requires at least 1 element"),
        (
            f"forecast {PELTS} --horizon 2 --id shop product",
            "more words than the command takes: product; put a name with blanks into quotation "
            "marks, and make one column of two for --id or --time\n",
        ),
        (
            "flops final",
            "more words than the command takes: final; put a name with blanks into quotation "
            "marks\n",
        ),
    ],
)
def test_a_line_that_is_no_command_is_one_line_and_status_2(command, message, m2):
    err = m2(command, status=2)
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("system", "error", "has_gone"),
    [
        ("linux", BrokenPipeError(errno.EPIPE, "Broken pipe"), True),
        ("win32", BrokenPipeError(errno.EPIPE, "Broken pipe"), True),
        ("win32", OSError(errno.EINVAL, "Invalid argument"), True),
        ("win32", OSError(errno.EINVAL, "Invalid argument", "a?.csv"), False),
        ("linux", OSError(errno.EINVAL, "Invalid argument"), False),
    ],
)
def test_windows_has_two_errors_for_a_reader_that_has_gone(system, error, has_gone, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "platform", system)
        found = _reader_has_gone(error)
    assert found == has_gone


def test_adapters_are_on_q_and_v_unless_told_and_their_order_does_not_matter(m2):
    sizes = "flops --backbone tiny --length 30 --rank 2"
    assert m2(f"{sizes} --targets v,q") == m2(sizes)


def test_flops_of_a_forward_pass_are_those_that_the_library_counts(m2):
    counted = json.loads(m2("flops --backbone tiny --length 30 --rank 2 --targets down,q --json"))

    assert counted["targets"] == ["q_proj", "down_proj"]
    shape = Shape.of(backbone_config("tiny"))
    cost = forward_flops(shape, 30, rank=2, targets=("q_proj", "down_proj"))
    assert counted["forward"] == total(cost)


def test_flops_of_a_training_and_of_a_forecast(m2):
    sizes = "--length 512 --rank 0 --batch 3 --steps 7 --new-tokens 220"
    counted = json.loads(m2(f"flops --backbone qwen2.5-0.5b {sizes} --json"))

    # 7 steps of 3 windows; forward and backward count as three times forward.
    assert counted["training"] == 7 * 3 * 3 * counted["forward"]
    # a check value of the coursework
    assert counted["forecast"] == 608_639_707_337


def test_flops_are_counted_by_the_convention_that_is_named(m2):
    sizes = "--rank 0 --batch 2 --convention published"
    counted = json.loads(m2(f"flops --backbone qwen2.5-0.5b {sizes} --json"))

    # integers of the report; its accountant charges 2 + 2 passes for a step of two windows
    assert counted["forward"] == 369_176_060_704
    assert counted["train_step"] == 4 * counted["forward"]
    assert counted["forecast"] == 77_827_484_760_937


def test_help_does_not_wait_for_torch():
    done = run_python(
        """
import sys
from m2tables import cli
cli.main([])
print({"torch", "transformers"} & set(sys.modules))
"""
    )
    assert done.stdout.splitlines()[-1] == "set()"


def test_help_names_each_command_and_each_variable(m2):
    printed = m2("")
    commands = [name for name in cli.app if not name.startswith("-")]
    for name in (*commands, *settings.SETTINGS):
        assert f" {name} " in printed


def test_the_reference_names_each_command():
    page = (ROOT / "book" / "reference.md").read_text(encoding="utf-8")
    for command in cli.app:
        if not command.startswith("-"):
            assert f"`m2 {command}" in page
