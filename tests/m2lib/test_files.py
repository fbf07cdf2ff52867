"""Writes are whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2lib.errors import InputError
from m2lib.files import write_atomic


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
