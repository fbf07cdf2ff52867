"""The data set from wherever it is: an HDF5 file that is checked before it is believed, or simulated anew."""

import io
import math
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from m2lib import settings
from m2lib.files import InputError, first_line, quoted, user_path, workspace, write_atomic
from m2lib.series.data import BYTES_PER_SERIES, STEPS, SeriesSet, check_encodable, check_memory
from m2lib.series.recipe import generate_series
from m2lib.series.scaling import without_undershoot
from m2lib.series.textformat import VARIABLES

if TYPE_CHECKING:
    import h5py

DEFAULT_FILE = workspace() / "data" / "lotka_volterra_data.h5"
CHECKSUM = 4  # bytes, of HDF5's fletcher32


def load_series(path: str | Path | None = None) -> SeriesSet:
    """The data set: from `path`, else `M2_DATA`, else data/lotka_volterra_data.h5, else generated.

    The same texts, ids and results whichever way.

    Parameters
    ----------
    path : str or Path, optional
        An HDF5 file, as `read_series` takes it.

    Returns
    -------
    SeriesSet
        At least one series.

    Raises
    ------
    InputError
        In one line, for a file that is missing, not HDF5, or not such a data set.
    """
    path = path or settings.read("M2_DATA") or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    return generate_series() if path is None else read_series(path)


def read_series(path: str | Path) -> SeriesSet:
    """Read and validate an HDF5 file.

    Parameters
    ----------
    path : str or Path
        A file with /trajectories (n, >= 100, 2), physical units, and /time, one per step; steps after the 100th are
        not read. `~` is the home folder.

    Returns
    -------
    SeriesSet
        On an even grid of time, every series one that `encode` writes; what is less than 1e-6 below zero is zero.

    Raises
    ------
    InputError
        In one line, for a file that is missing, damaged, not HDF5, larger than memory, or not such a data set; it names
        dataset and first offending index.
    """
    import h5py

    path = _regular_file(path)
    try:
        with h5py.File(path, "r") as file:
            trajectories, time = _first_steps(file, str(path))
    except InputError:
        raise
    except Exception as error:  # of a damaged file h5py says so by exceptions of a dozen kinds
        reason = f"not a readable HDF5 file ({first_line(error)})"
        raise InputError(f"{path}: {reason}; `m2 data generate` writes one") from error
    return _validated(trajectories, time, str(path))


def write_series(series: SeriesSet, path: Path) -> None:
    """Write an HDF5 file that `read_series` reads, whole or not at all.

    Parameters
    ----------
    series : SeriesSet
        What to write: its trajectories and time.
    path : Path
        Where to; a file that stands there is replaced.

    Raises
    ------
    InputError
        Where the folder is read-only or the disk is full.
    """
    import h5py

    buffer = io.BytesIO()  # h5py writes a file bit by bit; made in memory, it reaches the disk in one piece
    with h5py.File(buffer, "w") as file:
        file["trajectories"] = series.trajectories
        file["time"] = series.time
    write_atomic(path, buffer.getvalue())


def _regular_file(path: str | Path) -> Path:
    """The path with its `~` replaced; InputError where no file is there to be read."""
    path = user_path(str(path), "the data file")
    try:
        if not path.exists():
            problem = f"no such data file: {path}"
        elif not path.is_file():  # a folder; a device; a pipe, which would wait for a writer
            problem = f"{path} is not a file"
        else:
            path.open("rb").close()
            return path
    except OSError as error:
        problem = f"cannot read {path} ({error.strerror})"
    raise InputError(f"{problem}; `m2 data generate` writes one, and without M2_DATA none is needed")


def _first_steps(file: "h5py.File", source: str) -> tuple[np.ndarray, np.ndarray]:
    """The steps that are used of /trajectories and /time, read only where their form is right and memory holds them."""
    trajectories, time = _dataset(file, "trajectories", source), _dataset(file, "time", source)
    shape = trajectories.shape
    if len(shape) != 3 or shape[2] != len(VARIABLES) or shape[0] < 1:
        _reject(source, "trajectories", f" has shape {shape}; expected (series, steps, {len(VARIABLES)})")
    if shape[1] < STEPS:
        _reject(source, "trajectories", f" has {shape[1]} steps; at least {STEPS} are needed")
    if time.shape != (shape[1],):
        _reject(source, "time", f" has shape {time.shape}; expected ({shape[1]},), one per step of /trajectories")
    # A file of a few kB can claim any shape. What is compressed is read by whole chunks.
    chunks = sum(data.dtype.itemsize * math.prod(data.chunks) for data in (trajectories, time) if data.chunks)
    needed = shape[0] * BYTES_PER_SERIES + chunks
    check_memory(needed, f"{source}: /trajectories of shape {shape}", "split the file into smaller ones")
    _check_chunks(trajectories, "trajectories", source)
    _check_chunks(time, "time", source)
    return trajectories[:, :STEPS], time[:STEPS]


def _dataset(file: "h5py.File", name: str, source: str) -> "h5py.Dataset":
    """A dataset of numbers that lie in the file itself."""
    import h5py

    elsewhere = " lies in another file; copy its numbers into this one"
    if isinstance(file.get(name, getlink=True), h5py.ExternalLink):  # not even looked at: it might be a pipe
        _reject(source, name, elsewhere)
    dataset = file.get(name)
    if not isinstance(dataset, h5py.Dataset):
        held = ", ".join(quoted(f"/{key}") for key in islice(file, 5)) or "nothing"
        raise InputError(f"{source}: no dataset /{name} (the file holds {held}); see data/README.md")
    # Where the other file is gone HDF5 would give zeros.
    if dataset.is_virtual or dataset.external or dataset.file.filename != file.filename:
        _reject(source, name, elsewhere)
    try:
        kind = dataset.dtype.kind
    except TypeError:  # there is no NumPy type for it, such as for integers of 24 bits
        kind = "none"
    if dataset.shape is None or kind not in "fiu":
        _reject(source, name, " does not hold an array of numbers")
    return dataset


def _check_chunks(dataset: "h5py.Dataset", name: str, source: str) -> None:
    """Refuse what HDF5 would not refuse: chunks that were never written, and what it crashes over, Python with it."""
    from h5py import h5z

    recipe = dataset.id.get_create_plist()
    filters = {recipe.get_filter(i)[0] for i in range(recipe.get_nfilters())}
    # Not scale-offset, which reads beyond its bytes where they are damaged, nor what else is seldom met.
    if not filters <= {h5z.FILTER_DEFLATE, h5z.FILTER_LZF, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}:
        _reject(source, name, " is packed by an unusual filter; repack it by gzip (`h5repack -f GZIP=4`)")
    if dataset.chunks:
        sizes: list[int] = []
        dataset.id.chunk_iter(lambda chunk: sizes.append(chunk.size))
        # -(-a // b) is a / b rounded up: 120 steps in chunks of 50 are 3 chunks.
        whole = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        if len(sizes) != whole:
            _reject(source, name, f" holds {len(sizes)} of its {whole} chunks, for not all were written; write it anew")
        if h5z.FILTER_FLETCHER32 in filters and min(sizes) < CHECKSUM:
            _reject(source, name, " is damaged: a chunk is shorter than its checksum; take the file from a backup")


def _validated(trajectories: np.ndarray, time: np.ndarray, source: str) -> SeriesSet:
    """The set in its own types, or an InputError that names dataset and first offending index."""
    with np.errstate(all="ignore"):  # beyond float32 is infinity; what nonsense computes to is reported, not warned of
        trajectories, time = without_undershoot(trajectories.astype(np.float32)), time.astype(np.float64)
        gaps = np.diff(time)  # gap i lies between the steps i and i + 1
        uneven = ~(np.isfinite(gaps) & (gaps > 0) & np.isclose(gaps, gaps[0], rtol=1e-3))
        if uneven.any():
            step = int(np.argmax(uneven)) + 1
            place = f", step {step}: {time[step]:g} after {time[step - 1]:g}"
            _reject(source, "time", f"{place} is not an even grid; resample the series")
        series = SeriesSet(trajectories, time, source)
        try:
            check_encodable(series, range(len(series)))
        except InputError as error:
            _reject(source, "trajectories", f", {error}")
    return series


def _reject(source: str, dataset: str, problem: str) -> NoReturn:
    raise InputError(f"{source}: /{dataset}{problem}")
