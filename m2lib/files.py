"""What all else stands on: the project's folders, atomic writes, and the one error that a user sees."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (ROOT / "report" / "published").is_dir()


class InputError(ValueError):
    """A problem its reader can fix. The message is one line: what is at fault, where, and what to do."""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, cut to its first line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def repository(*parts: str) -> Path:
    """A path in the project's checkout. Raises InputError where m2lib was installed without it."""
    if not IN_CHECKOUT:
        raise InputError(
            f"{'/'.join(parts)} is part of the project's repository, and this m2lib was installed without it; clone it "
            "and install with `pip install -e .` there"
        )
    return ROOT.joinpath(*parts)


def workspace() -> Path:
    """Where data/ and build/ are by default: the checkout, or the current folder where m2lib came without it."""
    return ROOT if IN_CHECKOUT else Path.cwd()


def write_atomic(path: Path, content: bytes) -> None:
    """Put `content` at `path` whole or not at all, making folders on the way.

    Raises InputError naming the path where the folder is read-only or the disk is full; what stood at `path`
    before is then still there, and no temporary file is left.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # NamedTemporaryFile is private to its owner; a record or a figure is as readable as any other file.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free space there or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
