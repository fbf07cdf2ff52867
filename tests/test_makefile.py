"""The Makefile: what it removes, and how it takes paths and switches. No target is run in full."""

import os
import re
import shutil
import subprocess

import pytest

import study.settings
from m2lib import settings
from m2lib.files import ROOT


@pytest.fixture
def checkout(tmp_path):
    """Return a folder with the Makefile, an environment, and what runs have left in build/."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ok").touch()
    for made in ("report", "results", "checkpoints/laptop-x", "fresh/x", "replaced/x"):
        (tmp_path / "build" / made).mkdir(parents=True)
    return tmp_path


@pytest.fixture
def make(checkout):
    """Return a function that calls make in the checkout, and returns what it prints."""
    if os.name == "nt" or not shutil.which("make"):
        pytest.skip("make and a Unix shell are not installed")

    def run(*arguments):
        done = subprocess.run(
            ["make", *arguments],
            cwd=checkout,
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
        return done.stdout

    return run


def test_clean_keeps_unfinished_work_and_says_so(checkout, make):
    said = make("clean").splitlines()[-1]
    assert said == (
        "kept, for they took long to compute: build/checkpoints/laptop-x build/fresh "
        "build/replaced; make clean ALL=1 removes them too"
    )

    assert sorted(path.name for path in checkout.iterdir()) == [
        "Makefile",
        "build",
        "constraints.txt",
        "pyproject.toml",
    ]
    assert sorted(path.name for path in (checkout / "build").iterdir()) == [
        "checkpoints",
        "fresh",
        "replaced",
    ]


def test_clean_removes_unfinished_work_if_told(checkout, make):
    make("clean", "ALL=1")
    assert not (checkout / "build").exists()


def test_paths_are_taken_from_where_make_is_called(checkout, make):
    """Notebooks run in a folder of their own, where a relative path would mean another place."""
    rule = "show:\n\t@echo $$M2_RESULTS $$M2_OUT $$M2_DATA\n"
    (checkout / "show.mk").write_text(rule, encoding="utf-8")

    makefiles = ("-f", "Makefile", "-f", "show.mk")
    shown = make(*makefiles, "show", "M2_RESULTS=a", "M2_OUT=/b", "M2_DATA=c d")

    assert shown == f"{checkout}/a /b {checkout}/c d\n"


def test_every_variable_that_names_a_folder_is_taken_from_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name, setting in (settings.SETTINGS | study.settings.SETTINGS).items():
        if setting.may_be == settings.FOLDER:
            assert f"override {name} := $(call absolute,$({name}))\n" in makefile
            assert re.search(rf"^export .*\b{name}\b", makefile, re.M)


def test_the_make_of_macos_understands_the_makefile():
    """It is version 3.81, which knows `override` and `export`, but not both in one line."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert not re.search(r"\b(override export|export override)\s+\w+\s*:?=", makefile)


# `make -n` prints what it would run.


def test_a_report_computes_nothing_anew_unless_told(make):
    assert "run --all" not in make("-n", "report")
    assert "run --all" in make("-n", "report", "FRESH=1")


@pytest.mark.parametrize("no", ["no", "0", "false", "off", "OFF", ""])
def test_a_switch_may_say_no(make, no):
    assert "run --all" not in make("-n", "report", f"FRESH={no}")
