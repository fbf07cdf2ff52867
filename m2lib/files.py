"""What all else stands on: the project's folders, atomic writes, and the one error that a user sees."""

import glob
import os
import reprlib
import tempfile
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IN_CHECKOUT = (ROOT / "report" / "published").is_dir()
_SHORT = reprlib.Repr()
_SHORT.maxstring = 200  # characters


class InputError(ValueError):
    """A problem its reader can fix. The message is one line: what is at fault, where, and what to do."""

    def __str__(self) -> str:
        # Whatever a message quotes, it stays one line, and a terminal obeys none of it: a line break is shown as \n.
        return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in super().__str__())


def first_line(error: BaseException) -> str:
    """What an exception of another library says, cut to its first line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def quoted(text: str) -> str:
    """What a user has given, as messages show it: in quotation marks, and without its middle where it is very long."""
    return _SHORT.repr(text)


def user_path(text: str, what: str) -> Path:
    """A path as a user writes it, its ~ expanded; nothing need be there yet.

    Raises InputError, naming `what`, for one that can lead nowhere: empty, of a user that is not known, longer than
    the system allows, round in circles, with a NUL, or not UTF-8, which several readers of files do not take.
    """
    try:
        path = Path(text).expanduser()
        str(path).encode()
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # whoever reads or writes there says what they miss
    except (OSError, RuntimeError, ValueError) as error:
        problem = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        if isinstance(error, UnicodeError):
            problem = "not UTF-8"
        raise InputError(f"{what} is {quoted(text)}, which leads nowhere ({problem}); name another path") from error
    if not text:
        raise InputError(f"{what} is empty; leave it out or name one")
    return path


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
    before is then still there, and no temporary file is left. A kill leaves one that `sweep` removes.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():  # a rename would put a file in the place of /dev/null
            raise OSError("what stands there is no file")
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        make_readable(temporary)
        _replace(temporary, path)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free space there or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file where there is one. Raises InputError, naming it, where that is not allowed."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot replace {path}: {error.strerror or error}; choose another folder") from error


def sweep(path: Path) -> None:
    """Remove what killed writes of `path` have left beside it, or those of any file in a folder, as far as one may."""
    inside = path.is_dir()
    for left in path.glob(".*.tmp") if inside else path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with suppress(OSError):
            left.unlink()


def _replace(temporary: Path, path: Path) -> None:
    """Windows replaces no file that someone has open, such as a reader or a virus scanner; they soon let go."""
    for delay in (0.01, 0.1, 0.5):
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(delay)
    temporary.replace(path)


def make_readable(path: Path) -> None:
    """Make a file as readable as any other of the user's: those of tempfile and of safetensors are private."""
    path.chmod(0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
