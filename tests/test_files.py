"""What all else stands on: messages of one line, and writes that are whole or not at all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from m2lib.files import InputError, quoted, write_atomic


def test_a_message_is_one_line_whatever_it_quotes():
    message = str(InputError("no file a\nb\r\x1b[2J\0\u2028\udcff: naïve, 10 × 5"))
    assert message == r"no file a\nb\r\x1b[2J\x00\u2028\udcff: naïve, 10 × 5"
    assert quoted("9" * 10_000).startswith("'999")
    assert len(quoted("9" * 10_000)) <= 202


STEPS = ((Path, "mkdir"), (Path, "open"), (os, "fsync"), (Path, "replace"))


@pytest.mark.parametrize(("owner", "step"), STEPS)
def test_a_write_that_fails_at_any_step_leaves_what_was_there(owner, step, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    path = tmp_path / "record.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as injected:
        injected.setattr(owner, step, fail)
        with pytest.raises(
            InputError, match=r"cannot write .*record\.json: Input/output error; free space there"
        ):
            write_atomic(path, b"new")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["record.json"])
    write_atomic(path, b"new")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"new", ["record.json"])


def test_a_write_that_ends_in_the_middle_leaves_what_was_there(tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "record.json"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InputError, match="File too large"):
            write_atomic(path, b"new" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", ["record.json"])


KILLED = """
import os, pathlib, signal, sys
from m2lib import files

os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
files.write_atomic(pathlib.Path(sys.argv[1]), b"new")
"""


@pytest.mark.skipif(os.name == "nt", reason="this system cannot kill a process outright")
def test_a_write_that_is_killed_leaves_what_was_there(tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(b"old")
    assert subprocess.run([sys.executable, "-c", KILLED, path]).returncode == -9
    assert path.read_bytes() == b"old"
