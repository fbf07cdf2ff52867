"""The data set: 1000 simulated predator-prey series, regenerated from their recipe or read from an HDF5 file.

The file is named after Lotka-Volterra, but what it holds is the Rosenzweig-MacArthur system: prey with a carrying
capacity, predators that saturate. Damped spirals and limit cycles stand side by side.
"""

import hashlib
import io
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from m2lib import settings
from m2lib.files import InputError, first_line, quoted, user_path, workspace, write_atomic
from m2lib.series.codec import CONTEXT_STEPS, FORECAST_STEPS, encode, scale_of, to_integers, unwritable
from m2lib.series.scaling import without_undershoot
from m2lib.series.textformat import VARIABLES

if TYPE_CHECKING:
    import h5py

DEFAULT_FILE = workspace() / "data" / "lotka_volterra_data.h5"
STEPS = CONTEXT_STEPS + FORECAST_STEPS  # of a series
SPLIT_SEED = 10022002  # the report's
BYTES_PER_SERIES = 10_000  # of memory, at the most: 200 values, and copies of them while they are checked and hashed
BYTES_PER_ID = 100  # the same in a split
CHECKSUM = 4  # bytes, of HDF5's fletcher32

# Uniform ranges, in the order in which they are drawn: 1000 values of the first, then 1000 of the second, ...
RECIPE = {
    "growth": (0.1, 0.3),  # r, per unit time
    "attack": (0.2, 0.5),  # a, per predator and unit time
    "mortality": (0.1, 0.3),  # m, per unit time
    "handling": (0.05, 0.2),  # h, per prey
    "conversion": (0.3, 0.7),  # e, predators per prey eaten
    "capacity": (5.0, 15.0),  # K, prey
    "prey0": (0.8, 1.2),  # prey at time 0
    "predator0": (0.8, 1.2),  # predators at time 0
}
Rates = Callable[..., tuple[float, float]]
"""A right-hand side, called as `predator_prey` is."""


@dataclass(frozen=True)
class SeriesSet:
    """Series in physical units."""

    trajectories: np.ndarray
    """float32, shape (n, 100, 2): series, step, (prey, predator)."""
    time: np.ndarray
    """float64, shape (100,): the time of each step, an even grid; 0 to 200 in the report's data."""
    source: str
    """Where the series are from: a file's path, or how they were generated."""

    def __len__(self) -> int:
        return len(self.trajectories)

    @property
    def contexts(self) -> np.ndarray:
        """The first 80 steps: what the model sees.

        Returns
        -------
        ndarray of float32, shape (n, 80, 2)
            Physical units.
        """
        return self.trajectories[:, :CONTEXT_STEPS]

    @property
    def truths(self) -> np.ndarray:
        """The last 20 steps: what the model is to forecast.

        Returns
        -------
        ndarray of float32, shape (n, 20, 2)
            Physical units.
        """
        return self.trajectories[:, CONTEXT_STEPS:]

    @cached_property
    def scales(self) -> np.ndarray:
        """The codec's scale of each series, from its context alone.

        Returns
        -------
        ndarray of float64, shape (n,)
            Physical units, see `m2lib.series.codec.scale_of`.
        """
        return scale_of(self.contexts)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the scaled integers: the same for two files that give the same texts.

        Returns
        -------
        str
            16 hex digits.
        """
        # "<i4" fixes the bytes, 32 bits with the lowest first, whatever the machine's own order is.
        integers: np.ndarray = to_integers(self.trajectories, self.scales).astype("<i4")
        return hashlib.sha256(integers.tobytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Split:
    """Series ids (rows of /trajectories), ascending, disjoint."""

    train: tuple[int, ...]
    """What adapters learn from: 900 of the report's 1000."""
    validation: tuple[int, ...]
    """What choices are made on: 50."""
    test: tuple[int, ...]
    """What final forecasts are judged on: 50. No choice ever reads them."""


def check_encodable(series: SeriesSet, ids: Sequence[int]) -> None:
    """See that whole series can be written, before hours are spent on some of them.

    Parameters
    ----------
    series : SeriesSet
        The data set.
    ids : sequence of int
        The series that will be encoded.

    Raises
    ------
    InputError
        For the first of them that `encode` refuses at any of its 100 steps: encode's own line.
    """
    rows = np.array(list(ids), dtype=int)
    bad = unwritable(series.trajectories[rows], series.scales[rows]).any(axis=(1, 2))
    for i in rows[bad][:1].tolist():
        encode(series.trajectories[i], float(series.scales[i]), series=i)


def split_ids(n: int = 1000) -> Split:
    """The report's split: 900 / 50 / 50 of 1000; for another n, max(1, n // 20) each for validation and test.

    Parameters
    ----------
    n : int, optional
        Number of series.

    Returns
    -------
    Split
        Every id from 0 to n - 1, once.

    Raises
    ------
    InputError
        For n < 3, and for more than memory holds.
    """
    n = _whole("the number of series to split", n, least=3)
    _check_memory(n * BYTES_PER_ID, f"a split of {n} series", "split fewer")
    held_out = max(1, n // 20)
    # The legacy generator, and validation drawn before test: any other way gives other ids than the report's.
    rng = np.random.RandomState(SPLIT_SEED)
    validation = rng.choice(np.arange(n), held_out, replace=False)
    rest = np.setdiff1d(np.arange(n), validation)
    test = rng.choice(rest, held_out, replace=False)
    train = np.setdiff1d(rest, test)
    return Split(*(tuple(np.sort(ids).tolist()) for ids in (train, validation, test)))


def predator_prey(
    _time: float, state: np.ndarray, growth: float, attack: float, mortality: float, handling: float,
    conversion: float, capacity: float,
) -> tuple[float, float]:  # fmt: skip
    """Right-hand side: dx/dt = r x (1 - x/K) - a x y / (1 + h x), dy/dt = e a x y / (1 + h x) - m y.

    The system is Rosenzweig's and MacArthur's [1]_.

    Parameters
    ----------
    _time : float
        Not used: the rates do not change in time.
    state : ndarray of float, shape (2,)
        Prey x and predators y.
    growth, attack, mortality, handling, conversion, capacity : float
        r, a, m, h, e and K; RECIPE gives their units.

    Returns
    -------
    tuple of float
        dx/dt and dy/dt.

    References
    ----------
    .. [1] Rosenzweig and MacArthur, "Graphical Representation and Stability Conditions of Predator-Prey
       Interactions", The American Naturalist 97, 1963.
    """
    prey, predator = state
    eaten = attack * prey * predator / (1 + handling * prey)
    return growth * prey * (1 - prey / capacity) - eaten, conversion * eaten - mortality * predator


def draw_systems(n: int, seed: int) -> np.ndarray:
    """The systems that `generate_series` simulates: their parameters and starts.

    Parameters
    ----------
    n : int
        Number of systems.
    seed : int
        Of the legacy generator.

    Returns
    -------
    ndarray of float64, shape (n, 8)
        A row a system, in the order of `RECIPE`.
    """
    rng = np.random.RandomState(seed)
    return np.stack([rng.uniform(low, high, n) for low, high in RECIPE.values()], axis=1)


def solve_system(
    system: Sequence[float] | np.ndarray,
    time: np.ndarray,
    rates: Rates = predator_prey,
    tolerance: dict[str, float] | None = None,
) -> np.ndarray:
    """A system's course by LSODA: as the data file has it, with the defaults.

    Parameters
    ----------
    system : sequence of float, or ndarray of float64, shape (8,)
        Parameters and start, in the order of `RECIPE`.
    time : ndarray of float64, shape (steps,)
        Ascending, from 0 to where the simulation ends: that decides the integrator's steps.
    rates : callable, optional
        The right-hand side, called as `predator_prey` is.
    tolerance : dict of str to float, optional
        `rtol` and `atol` of scipy's solve_ivp, instead of its own.

    Returns
    -------
    ndarray of float64, shape (steps, 2)
        Prey and predators, physical units.
    """
    from scipy.integrate import solve_ivp

    # RECIPE's first six, in its order, are what `predator_prey` takes after the state; the last two are the start.
    *parameters, prey0, predator0 = system
    solved = solve_ivp(
        rates, (0, time[-1]), (prey0, predator0), method="LSODA", t_eval=time, args=parameters, **tolerance or {}
    )
    return solved.y.T


def generate_series(n: int = 1000, seed: int = 0) -> SeriesSet:
    """Simulate `n` series from the recipe; with the defaults the result *is* the real data set.

    LSODA at scipy's default tolerances, as the file was made: tighter tolerances give a different file.

    Parameters
    ----------
    n : int, optional
        Number of series. A smaller n does not give the first of the 1000: each parameter is drawn for all at once.
    seed : int, optional
        Seed of the legacy generator that draws the parameters; another gives other series.

    Returns
    -------
    SeriesSet
        `n` series of 100 steps, from time 0 to 200.

    Raises
    ------
    InputError
        For n < 1, for more series than memory holds, and for a seed that is not from 0 to 2**32 - 1.
    """
    n = _whole("the number of series to generate", n, least=1)
    seed = _whole("the seed of the recipe", seed, least=0, most=2**32 - 1)
    _check_memory(n * BYTES_PER_SERIES, f"a set of {n} series", "generate fewer")
    time = np.linspace(0, 200, STEPS)
    trajectories: np.ndarray = np.empty((n, STEPS, 2), dtype=np.float32)
    for i, system in enumerate(draw_systems(n, seed).tolist()):
        trajectories[i] = solve_system(system, time)
    return SeriesSet(without_undershoot(trajectories), time, f"generated (n={n}, seed={seed})")


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
    _check_memory(needed, f"{source}: /trajectories of shape {shape}", "split the file into smaller ones")
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


def _whole(name: str, value: Any, least: int, most: int = sys.maxsize) -> int:
    """A whole number within bounds; the default bound is what can index an array."""
    if isinstance(value, int | np.integer) and least <= value <= most:
        return int(value)
    bounds = f"a whole number of at least {least} and at most {most}"
    is_long = isinstance(value, int) and abs(value) > sys.maxsize  # Python does not write those of over 4300 digits
    raise InputError(f"{name} should be {bounds}" + ("" if is_long else f", not {value!r:.40}"))


def _check_memory(needed: int, what: str, advice: str) -> None:
    """Refuse what memory cannot hold before any of it is allocated: later the system might end the process unasked."""
    import psutil

    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(f"{what} needs {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free; {advice}")
