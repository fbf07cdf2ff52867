"""The data set, from an HDF5 file or made anew from its recipe, and which of its series train, validate and test."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from m2lib import settings
from m2lib.files import InputError, first_line, workspace, write_atomic
from m2lib.series.codec import CONTEXT_STEPS, FORECAST_STEPS, encode, scale_of, to_integers, without_undershoot
from m2lib.series.recipe import Rates, draw_systems, predator_prey, solve_system

STEPS = CONTEXT_STEPS + FORECAST_STEPS  # of a series
SPLIT_SEED = 10022002  # the report's
DEFAULT_FILE = workspace() / "data" / "lotka_volterra_data.h5"


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
        """The first 80 steps, (n, 80, 2): what the model sees."""
        return self.trajectories[:, :CONTEXT_STEPS]

    @property
    def truths(self) -> np.ndarray:
        """The last 20 steps, (n, 20, 2): what the model is to forecast."""
        return self.trajectories[:, CONTEXT_STEPS:]

    @cached_property
    def scales(self) -> np.ndarray:
        """The codec's scale of each series, float64 (n,), from its context alone."""
        return scale_of(self.contexts)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the scaled integers, 16 hex digits: the same for two files that give the same texts."""
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


def split_ids(n: int = 1000) -> Split:
    """The report's split: 900 / 50 / 50 of 1000; for another n, max(1, n // 20) each for validation and test."""
    if n < 3:
        raise InputError(f"a split needs at least 3 series, and there are {n}")
    held_out = max(1, n // 20)
    # The legacy generator, and validation drawn before test: any other way gives other ids than the report's.
    rng = np.random.RandomState(SPLIT_SEED)
    validation = rng.choice(np.arange(n), held_out, replace=False)
    rest = np.setdiff1d(np.arange(n), validation)
    test = rng.choice(rest, held_out, replace=False)
    train = np.setdiff1d(rest, test)
    return Split(*(tuple(np.sort(ids).tolist()) for ids in (train, validation, test)))


def load_series(path: str | Path | None = None) -> SeriesSet:
    """The data set: from `path`, else `M2_DATA`, else data/lotka_volterra_data.h5, else generated.

    The same texts, ids and results whichever way.
    """
    path = path or settings.read("M2_DATA") or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    return generate_series() if path is None else read_series(path)


def read_series(path: str | Path) -> SeriesSet:
    """Read an HDF5 file with /trajectories (n, 100 or more, 2) and /time, one per step; later steps are not used.

    What is less than 1e-6 below zero is zero. Raises InputError for a file that is missing or no such data set, and for
    the first value that cannot be encoded.
    """
    import h5py

    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"no such data file: {path}; `m2 data generate` writes one; without M2_DATA none is needed")
    try:
        with h5py.File(path) as file:
            trajectories = file["trajectories"][()].astype(np.float32)
            time = file["time"][()].astype(np.float64)
    except Exception as error:  # h5py has a dozen kinds of them for a damaged file
        raise InputError(f"{path} is no data set in HDF5: {first_line(error)}; see data/README.md") from error
    shape = trajectories.shape
    if len(shape) != 3 or shape[1] < STEPS or shape[2] != 2 or time.shape != shape[1:2]:
        found = f"/trajectories has shape {shape} and /time {time.shape}"
        raise InputError(f"{path}: {found}; expected (series, {STEPS} or more, 2) and (steps,)")
    gaps = np.diff(time[:STEPS])
    if not (gaps[0] > 0 and np.allclose(gaps, gaps[0], rtol=1e-3)):  # NaN is not close either
        raise InputError(f"{path}: /time is not an even grid; resample the series")
    series = SeriesSet(without_undershoot(trajectories[:, :STEPS]), time[:STEPS], str(path))
    check_encodable(series, range(len(series)))
    return series


def write_series(series: SeriesSet, path: Path) -> None:
    """Write an HDF5 file that `read_series` reads, whole or not at all."""
    import h5py

    buffer = io.BytesIO()  # h5py writes a file bit by bit; made in memory, it reaches the disk in one piece
    with h5py.File(buffer, "w") as file:
        file["trajectories"] = series.trajectories
        file["time"] = series.time
    write_atomic(path, buffer.getvalue())


def check_encodable(series: SeriesSet, ids: Sequence[int]) -> None:
    """See that whole series can be written, before hours are spent on some of them; else the error of `encode`."""
    for i in ids:
        encode(series.trajectories[i], series.scales[i], series=f"{i} of {series.source}")


def generate_series(n: int = 1000, seed: int = 0) -> SeriesSet:
    """Simulate `n` series from the recipe; with the defaults the result *is* the real data set.

    LSODA at scipy's default tolerances, as the file was made: tighter tolerances give a different file. A smaller n
    does not give the first of the 1000, for each parameter is drawn for all at once.
    """
    return simulated(draw_systems(n, seed), f"generated (n={n}, seed={seed})")


def simulated(
    systems: np.ndarray, source: str, rates: Rates = predator_prey, end: float = 200.0, **tolerance: float
) -> SeriesSet:
    """The courses of systems (n, 8) as a set of series, from time 0 to `end`; the rest is as in `solve_system`."""
    time = np.linspace(0, end, STEPS)
    courses = [solve_system(system, time, rates, **tolerance) for system in systems.tolist()]
    return SeriesSet(without_undershoot(np.array(courses, dtype=np.float32)), time, source)
