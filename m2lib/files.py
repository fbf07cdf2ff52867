"""The project's folders, writing whole files or none, and how a user hears of faults."""

import hashlib
import json
import os
import secrets
import sys
import time
import warnings
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from traceback import walk_stack
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (ROOT / "report" / "published").is_dir()


class InputError(ValueError):
    """A problem that its reader can fix.

    The message is one line: what is wrong, where, and what to do.
    """

    def __str__(self) -> str:
        # Whatever a message quotes, it stays one line, and a terminal obeys none of it: a line
        # break is shown as \n, an escape character as \x1b.
        characters = [
            character if character.isprintable() else repr(character)[1:-1]
            for character in super().__str__()
        ]
        return "".join(characters)


def warn(message: str) -> None:
    """Warn of something, as of the line outside m2lib that called it.

    Between two functions of m2lib there may be others, of pandas or of the caller, so the line is
    that of the outermost call.
    """
    level = 2  # for `warnings` the line that calls this function; its caller's is 3, and so on
    for level_of_caller, (frame, _) in enumerate(walk_stack(sys._getframe(1)), start=3):
        if frame.f_globals.get("__name__", "").startswith("m2lib."):
            level = level_of_caller
    warnings.warn(message, stacklevel=level)


def check_count(name: str, number: object, least: int = 1) -> None:
    """Raise InputError for an argument that is no whole number from `least` on.

    NumPy's whole numbers pass, but 3.0 and True do not, because slices and loops fail on them later
    with errors that do not name the argument.
    """
    if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
        raise InputError(f"{name} is {number!r}; give a whole number of {least} or more")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or the exception's name if it has no message."""
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0]


def quoted(text: str) -> str:
    """A user's text as messages show it: in quotation marks, and cut to 200 characters."""
    if len(text) > 200:
        text = f"{text[:197]}..."
    return repr(text)


def workspace() -> Path:
    """The default folder of data/ and build/: the checkout, or without one the current folder."""
    return ROOT if IN_CHECKOUT else Path.cwd()


def check_folder(folder: Path) -> None:
    """Raise InputError for a folder that cannot be written into; it need not exist yet."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:  # the root may be a missing drive
        existing = existing.parent
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        raise InputError(
            f"cannot write into {folder}: {existing} is no folder, or read-only; "
            "choose another folder"
        )


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, and make its folders if need be.

    InputError names the path where the folder is read-only or the disk is full; what was at `path`
    before is then still there. A kill may leave a file `.NAME.RANDOM.tmp` beside it.
    """
    path = path.absolute()  # because Path(".") has no name, and `with_name` below wants one
    # Random, because processes in containers, or on machines that share a folder, may have the same
    # number.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        _put_in_place(temporary, path)
    except OSError as error:
        problem = error.strerror or error
        raise InputError(
            f"cannot write {path}: {problem}; free space there or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _put_in_place(temporary: Path, path: Path) -> None:
    """Rename a file to `path`, whatever is there.

    Windows refuses while another process has `path` open, be it only to read it, so it is tried
    again for a second.
    """
    for _ in range(10):
        with suppress(PermissionError):
            temporary.replace(path)
            return
        time.sleep(0.1)
    temporary.replace(path)


def delete(path: Path) -> None:
    """Delete a file, if it is there; InputError where that is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_bytes())


def write_json(path: Path, content: object) -> None:
    """Write a JSON file whole or not at all, as `write_atomic` does."""
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def short_hash(content: bytes) -> str:
    """The first 16 hex digits of the sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
