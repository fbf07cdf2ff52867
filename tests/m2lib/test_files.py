"""What all else stands on: errors, warnings, and writes that are whole or not at all."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m2lib.files import InputError, check_count, quoted, write_atomic
from m2lib.forecaster import Columns, items_of


def test_a_message_is_one_line_whatever_it_quotes():
    # A line break, a carriage return, a terminal's command, a null, a line separator, half of a
    # character; and letters that are harmless.
    message = str(InputError("no file a\nb\r\x1b[2J\0\u2028\udcff: naïve, 10 × 5"))

    assert message == r"no file a\nb\r\x1b[2J\x00\u2028\udcff: naïve, 10 × 5"


def test_a_long_text_is_quoted_in_part():
    shown = quoted("9" * 10_000)

    assert shown.startswith("'999")
    assert len(shown) <= 202  # 200 characters and two quotation marks


def test_a_warning_is_of_the_line_that_calls_the_library():
    weeks = 202401 + np.arange(20)
    table = pd.DataFrame({"week": weeks[::-1], "y": np.arange(20.0)})

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        items_of(table, Columns(None, "week", ("y",)))

    messages = sorted(str(warning.message) for warning in caught)
    assert messages[0].startswith("column 'week': 202420 is read as a number")  # by `read_stamps`
    assert messages[1].endswith("were sorted by time")  # by `items_of`
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize("number", [0, -1, 2.0, True, None])
def test_an_argument_that_is_no_whole_number_in_its_range_is_refused_by_name(number):
    """Other tests give each argument of a function one wrong value, and leave the rest to this."""
    message = f"^steps is {number}; give a whole number of 1 or more$"
    with pytest.raises(InputError, match=message):
        check_count("steps", number)


def test_a_whole_number_may_be_one_of_numpys():
    check_count("steps", np.int64(1))


@pytest.fixture
def record(tmp_path):
    """Return a file that holds `old`, the only one in its folder."""
    path = tmp_path / "record.json"
    path.write_bytes(b"old")
    return path


@pytest.mark.parametrize(
    ("owner", "step"),
    [
        pytest.param(Path, "mkdir", id="make the folder"),
        pytest.param(Path, "open", id="open a file beside it"),
        pytest.param(os, "fsync", id="bring it onto the disk"),
        pytest.param(Path, "replace", id="rename it"),
    ],
)
def test_a_write_that_fails_at_any_step_leaves_what_was_there(owner, step, record, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, fail)
        message = r"cannot write .*record\.json: Input/output error; free space there"
        with pytest.raises(InputError, match=message):
            write_atomic(record, b"new")

    assert record.read_bytes() == b"old"
    assert os.listdir(record.parent) == ["record.json"]

    # And nothing is in the way of the next one.
    write_atomic(record, b"new")
    assert record.read_bytes() == b"new"
    assert os.listdir(record.parent) == ["record.json"]


def test_a_write_that_ends_in_the_middle_leaves_what_was_there(record):
    resource = pytest.importorskip("resource")  # Windows has no limits on the size of files

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match="File too large"):
            write_atomic(record, b"new" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert record.read_bytes() == b"old"
    assert os.listdir(record.parent) == ["record.json"]


def test_a_write_in_the_middle_of_another_disturbs_neither(record, monkeypatch):
    """Of two containers with one folder, both may have a process of the same number."""

    def write_another(_):
        monkeypatch.undo()
        write_atomic(record, b"another")
        assert record.read_bytes() == b"another"

    monkeypatch.setattr(os, "fsync", write_another)
    write_atomic(record, b"new")

    assert record.read_bytes() == b"new"
    assert os.listdir(record.parent) == ["record.json"]


def test_a_write_waits_for_whoever_has_the_file_open(record, monkeypatch):
    """Windows replaces no file that another process reads."""
    replace = Path.replace
    refusals = iter([PermissionError(13, "Permission denied")] * 2)

    def replace_in_the_end(temporary, path):
        for refusal in refusals:
            raise refusal
        return replace(temporary, path)

    monkeypatch.setattr(Path, "replace", replace_in_the_end)
    write_atomic(record, b"new")

    assert record.read_bytes() == b"new"
    assert os.listdir(record.parent) == ["record.json"]


def test_a_write_that_stays_refused_is_told(record, monkeypatch):
    def refuse(temporary, path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr("m2lib.files.time.sleep", lambda seconds: None)
    with pytest.raises(InputError, match=r"cannot write .*record\.json: Permission denied"):
        write_atomic(record, b"new")

    assert record.read_bytes() == b"old"
    assert os.listdir(record.parent) == ["record.json"]


KILLED_BEFORE_THE_RENAME = """
import os, pathlib, signal, sys
from m2lib import files

os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomic(pathlib.Path(sys.argv[1]), b"new")
"""


@pytest.mark.skipif(os.name == "nt", reason="this system cannot kill a process outright")
def test_a_write_that_is_killed_leaves_what_was_there(record):
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE_THE_RENAME, record])

    assert killed.returncode == -9
    assert record.read_bytes() == b"old"
