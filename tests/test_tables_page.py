"""The commands and programs of the page on one's own tables do what stands below them."""

import re
import shlex
import shutil

import numpy as np
import pytest

from m2lib.files import ROOT
from m2tables.cli import main
from pages import execute, text_of

PAGE = text_of("book/tables.md")
# A command, and what is printed below it.
COMMANDS = re.findall(r"^```sh\n(m2 [^\n]*)\n```.*?^```text\n(.*?)^```", PAGE, re.M | re.S)
# A program, and what is printed by it if that stands below.
PROGRAMS = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", PAGE, re.M | re.S)
NUMBER = r"-?\d+(?:\.\d+)?"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder that has the pelts where the page has them."""
    (tmp_path / "data").mkdir()
    shutil.copy(ROOT / "data" / "hudson_bay_pelts.csv", tmp_path / "data")
    monkeypatch.chdir(tmp_path)


def assert_alike(printed, expected):
    """Assert that two texts have the same words, and numbers that differ by rounding at most."""
    assert re.sub(NUMBER, "0", printed).split() == re.sub(NUMBER, "0", expected).split()
    numbers = [np.array(re.findall(NUMBER, text), dtype=float) for text in (printed, expected)]
    np.testing.assert_allclose(*numbers, atol=0.11)


def test_a_terminal_shows_the_forecast_that_stands_below_its_command(capsys, monkeypatch):
    command, below = COMMANDS[0]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert main(shlex.split(command)[1:]) == 0
    out, err = capsys.readouterr()
    assert_alike(err + out, below)


@pytest.mark.filterwarnings("ignore:AutoETS")
def test_the_evaluation_prints_the_row_of_ours_that_stands_below_it(capsys):
    command, below = COMMANDS[1]
    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out.splitlines()
    # The other rows depend on whether statsforecast is installed.
    for beginning in ("ours ", "our 80% band"):
        (row,) = (line for line in printed if line.startswith(beginning))
        (row_below,) = (line for line in below.splitlines() if line.startswith(beginning))
        assert_alike(row, row_below)


@pytest.mark.filterwarnings("ignore:AutoETS")
def test_the_programs_print_what_stands_below_them(capsys):
    names = {}
    for program, below in PROGRAMS:
        if "LanguageModel" in program:
            execute(program, names)
            # What the language model draws is another thing on another processor.
            assert capsys.readouterr().out.splitlines()[0] == below.splitlines()[0]
        else:
            execute(program, names)
            assert_alike(capsys.readouterr().out, below)
