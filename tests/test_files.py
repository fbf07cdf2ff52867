"""What all else stands on: paths as users write them, messages of one line, writes that are whole or not at all."""

import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from m2lib import files
from m2lib.files import InputError, quoted, sweep, user_path, write_atomic

HOSTILE = {
    "": "empty",
    "caf\udce9": "not UTF-8",
    "\ud800": "not UTF-8",
    "nul\0": "null (byte|character)",
    "~nul\0": "null (byte|character)",
}
if os.name != "nt":  # Windows looks for these, and finds nothing there
    HOSTILE |= {"~nosuchuser/x": "home directory", "a" * 300: "too long", "a/" * 3000: "too long"}


@pytest.mark.parametrize(("text", "problem"), HOSTILE.items(), ids=range(len(HOSTILE)))
def test_a_path_that_leads_nowhere_is_refused(text, problem):
    with pytest.raises(InputError, match=f"^PLACE is .*{problem}") as refusal:
        user_path(text, "PLACE")
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.skipif(os.name == "nt", reason="Windows says it otherwise")
def test_a_path_round_in_circles_is_refused(tmp_path):
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(InputError, match="Too many levels of symbolic links"):
        user_path(str(tmp_path / "circle" / "x"), "PLACE")


def test_what_may_be_a_path_is_one(tmp_path, monkeypatch):
    for home in ("HOME", "USERPROFILE"):  # Windows reads the second
        monkeypatch.setenv(home, str(tmp_path))
    (tmp_path / "file").touch()
    assert user_path("~/naïve folder", "PLACE") == tmp_path / "naïve folder"
    for there in (".", "new/new", str(tmp_path / "file"), str(tmp_path / "file" / "below")):
        assert user_path(there, "PLACE") == Path(there)
    if os.name != "nt":  # which allows it in no name
        assert user_path("line\nbreak", "PLACE") == Path("line\nbreak")


def test_a_message_is_one_line_whatever_it_quotes():
    message = str(InputError("no file a\nb\r\x1b[2J\0\u2028\udcff: naïve, 10 × 5"))
    assert message == r"no file a\nb\r\x1b[2J\x00\u2028\udcff: naïve, 10 × 5"
    assert quoted("9" * 10_000).startswith("'999")
    assert len(quoted("9" * 10_000)) <= 200


STEPS = ((Path, "mkdir"), (tempfile, "NamedTemporaryFile"), (os, "fsync"), (Path, "chmod"), (Path, "replace"))


@pytest.mark.parametrize(("owner", "step"), STEPS)
@pytest.mark.parametrize("cleans", [True, False])
def test_a_write_that_fails_at_any_step_leaves_what_was_there(owner, step, cleans, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    path = tmp_path / "record.json"
    path.write_bytes(b"old")
    with monkeypatch.context() as injected:
        injected.setattr(owner, step, fail)
        if not cleans:  # the same fault meets what would clean up
            injected.setattr(Path, "unlink", fail)
        with pytest.raises(InputError, match=r"cannot write .*record\.json: Input/output error"):
            write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    if cleans:
        assert os.listdir(tmp_path) == ["record.json"]
    sweep(path)
    assert os.listdir(tmp_path) == ["record.json"]


@pytest.mark.parametrize("times", [2, 9])
def test_a_file_that_windows_will_not_replace_yet_is_tried_again(times, tmp_path, monkeypatch):
    path, refusals, real = tmp_path / "record.json", [], Path.replace
    path.write_bytes(b"old")

    def replace(*places):
        if len(refusals) < times:
            refusals.append(places)
            raise PermissionError(13, "Access is denied")
        return real(*places)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: None)
    with nullcontext() if times == 2 else pytest.raises(InputError, match="Access is denied"):
        write_atomic(path, b"new")
    assert (path.read_bytes(), len(refusals)) == ((b"new", 2) if times == 2 else (b"old", 4))


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
import os, pathlib, signal, sys, tempfile
from m2lib import files

owner, step, when, path = sys.argv[1:]
owner = {"os": os, "Path": pathlib.Path, "tempfile": tempfile}[owner]
real = getattr(owner, step)

def killed(*arguments, **options):
    if when == "after":
        real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, step, killed)
files.write_atomic(pathlib.Path(path), b"new")
"""


@pytest.mark.skipif(os.name == "nt", reason="this system cannot kill a process outright")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("owner", "step"), [*STEPS, (Path, "unlink")])
def test_a_write_that_is_killed_at_any_step_is_whole_or_not_there(owner, step, when, tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes(b"old")
    killed = subprocess.run([sys.executable, "-c", KILLED, owner.__name__, step, when, path])
    assert killed.returncode == -9
    replaced = (step, when) in (("replace", "after"), ("unlink", "before"), ("unlink", "after"))
    assert path.read_bytes() == (b"new" if replaced else b"old")
    left = [place for place in tmp_path.iterdir() if place != path]
    assert len(left) <= 1
    assert all(place.suffix == ".tmp" for place in left)
    sweep(path)
    assert os.listdir(tmp_path) == ["record.json"]


def test_sweep_takes_its_own_files_only(tmp_path, monkeypatch):
    mine, others = tmp_path / "a[1].json", [".a1.json.x.tmp", ".b.json.x.tmp", "a[1].json.x.tmp", ".a[1].json.lock"]
    left = tmp_path / ".a[1].json.k2j_x1.tmp"
    for name in (mine.name, left.name, *others):
        (tmp_path / name).touch()
    with monkeypatch.context() as injected:
        injected.setattr(Path, "unlink", lambda *_, **__: os.open(tmp_path / "none" / "there", os.O_RDONLY))
        sweep(mine)  # what cannot be removed stays, and is no error
    assert left.exists()
    sweep(mine)
    assert sorted(os.listdir(tmp_path)) == sorted((mine.name, *others))
    sweep(tmp_path / "nowhere" / "x")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    """As root `m2 data generate /dev/null --force` would otherwise put a file in the place of the device."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(InputError, match="what stands there is no file"):
            write_atomic(path, b"x")
    assert (tmp_path / "pipe").is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]
