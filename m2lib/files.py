"""What all else stands on: the project's folders, an atomic write, and the one error that a user
sees."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (ROOT / "report" / "published").is_dir()


class InputError(ValueError):
    """A problem its reader can fix. The message is one line: what is at fault, where, and what to
    do."""

    def __str__(self) -> str:
        # Whatever a message quotes, it stays one line, and a terminal obeys none of it: a line
        # break is shown as \n.
        return "".join(
            letter if letter.isprintable() else repr(letter)[1:-1] for letter in super().__str__()
        )


def first_line(error: BaseException) -> str:
    """What an exception of another library says, cut to its first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def quoted(text: str) -> str:
    """What a user has given, as messages show it: in quotation marks, and without its end where it
    is very long."""
    return repr(text if len(text) <= 200 else f"{text[:197]}...")


def repository(*parts: str) -> Path:
    """A path in the project's checkout. Raises InputError where m2lib was installed without it."""
    if not IN_CHECKOUT:
        raise InputError(
            f"{'/'.join(parts)} is part of the project's repository; clone it and install from there"
        )
    return ROOT.joinpath(*parts)


def workspace() -> Path:
    """Where data/ and build/ are by default: the checkout, or the current folder where m2lib came
    without it."""
    return ROOT if IN_CHECKOUT else Path.cwd()


def write_atomic(path: Path, content: bytes) -> None:
    """Put `content` at `path` whole or not at all, making folders on the way.

    Raises InputError naming the path where the folder is read-only or the disk is full; what stood
    at `path` before is then still there. A kill may leave a file `.NAME.PID.tmp` beside it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        problem = error.strerror or error
        raise InputError(
            f"cannot write {path}: {problem}; free space there or choose another folder"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_bytes())


def write_json(path: Path, content: object) -> None:
    """Put `content` at `path` as JSON, as `write_atomic` does."""
    write_atomic(path, (json.dumps(content, indent=1) + "\n").encode())


def short_hash(content: bytes) -> str:
    """The first 16 hex digits of the sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
