"""The project's folders, and writing whole files or none."""

import hashlib
import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from m2lib.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (ROOT / "report" / "published").is_dir()


def workspace() -> Path:
    """Return the default folder of data/ and build/: the checkout, else the current folder."""
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
    """Return the first 16 hex digits of the sha256 of some bytes."""
    return hashlib.sha256(content).hexdigest()[:16]
