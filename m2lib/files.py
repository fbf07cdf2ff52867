"""Where things live and how they are written: the project's folders, atomic writes, the one error a user sees."""

import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


class InputError(ValueError):
    """A problem its reader can fix. The message is one line: what is at fault, where, and what to do."""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, cut to its first line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def out_dir() -> Path:
    """Folder that live runs write under: `M2_OUT`, else build/ (git-ignored)."""
    return Path(os.environ.get("M2_OUT") or ROOT / "build").expanduser().resolve()


def cache_dir() -> Path:
    """Folder for downloaded and converted weights: `M2_CACHE`, else ~/.cache/m2lib."""
    return Path(os.environ.get("M2_CACHE") or "~/.cache/m2lib").expanduser().resolve()


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
