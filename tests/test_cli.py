import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

from m2lib import cli, settings
from m2lib.accounting import Shape, forward_flops, total
from m2lib.files import ROOT
from m2lib.model import backbone_config

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


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("data check nowhere.h5", "no such data file: nowhere.h5"),
        ("data generate . --force", "Is a directory; free space there or choose another"),
        ("model nope", "unknown backbone 'nope'"),
        *(
            (f"flops --targets {wrong}", "is not a choice of q,k,v,o,gate,up,down")
            for wrong in ("q,", "w", "q,q")
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(command, message, m2):
    err = m2(command, 1)
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("flop", 'Unknown command "flop". Did you mean "flops"?'),
        ("data generate --n 2", 'Invalid value "2" for --n.'),
        ("data generate --seed -1", 'Invalid value "-1" for --seed.'),
        ("flops --convention rules", 'Choose from: "coursework", "published", "executed".'),
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


def test_flops_of_sizes(m2):
    sizes = "flops --backbone tiny --length 30 --rank 2"
    assert m2(f"{sizes} --targets v,q") == m2(sizes)
    counted = json.loads(m2(f"{sizes} --targets down,q --json"))
    targets = ["q_proj", "down_proj"]
    assert counted["targets"] == targets
    shape = Shape.of(backbone_config("tiny"))
    assert counted["forward"] == total(forward_flops(shape, 30, rank=2, targets=tuple(targets)))
    sizes = "--length 512 --rank 0 --batch 3 --steps 7 --new-tokens 220"
    counted = json.loads(m2(f"flops --backbone qwen2.5-0.5b {sizes} --json"))
    assert counted["forecast"] == 608_639_707_337
    assert counted["training"] == 7 * 3 * 3 * counted["forward"]


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
