"""The data set, from an HDF5 file or simulated from its recipe, and its split.

The recipe draws random predator-prey systems and solves them with the data file's own integrator.
The file is named after Lotka-Volterra, but it holds the Rosenzweig-MacArthur system: prey with a
carrying capacity, and predators that saturate. Some of its series are damped spirals, others limit
cycles.
"""

import io
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import scipy

from m2lib import settings
from m2lib.errors import InputError, first_line
from m2lib.files import short_hash, workspace, write_atomic
from m2lib.series.codec import (
    CONTEXT_STEPS,
    FORECAST_STEPS,
    encode,
    scale_of,
    to_integers,
    without_undershoot,
)
from m2lib.series.equations import Rates, predator_prey

STEPS = CONTEXT_STEPS + FORECAST_STEPS  # steps of a series
# The integrator's relative and absolute tolerance: scipy's defaults, with which the file was made.
RTOL = 1e-3
ATOL = 1e-6
SPLIT_SEED = 10022002  # the report's seed
DEFAULT_FILE = workspace() / "data" / "lotka_volterra_data.h5"
"""Where `load_series` looks for the report's file, and `m2 data generate` writes one."""
# Uniform ranges, in the order in which they are drawn: 1000 values of the first parameter, then
# 1000 of the second, ...
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


@dataclass(frozen=True)
class SeriesSet:
    """Series in physical units."""

    trajectories: np.ndarray
    """float32, shape (n, 100, 2): series, step, (prey, predator)."""
    time: np.ndarray
    """float64, shape (100,): the time of each step, an even grid; 0 to 200 in the report's data."""
    source: str
    """Where the series come from: a file's path, or how they were generated."""

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
        """A hash of the scaled integers, 16 hex digits: files with the same texts have the same."""
        # "<i4" fixes the bytes, 32 bits with the lowest first, whatever the machine's own order is.
        integers: np.ndarray = to_integers(self.trajectories, self.scales).astype("<i4")
        return short_hash(integers.tobytes())


@dataclass(frozen=True)
class Split:
    """The series ids (rows of /trajectories) of each part, ascending; the parts are disjoint."""

    train: tuple[int, ...]
    """What adapters learn from: 900 of the report's 1000."""
    validation: tuple[int, ...]
    """What choices are made on: 50."""
    test: tuple[int, ...]
    """What final forecasts are judged on: 50. No choice ever reads them."""


def split_ids(n: int = 1000) -> Split:
    """Split n series as the report does: 900 / 50 / 50 of 1000.

    Of another number, max(1, n // 20) series each are for validation and for test.
    """
    held_out = max(1, n // 20)
    # The ids are the report's only with NumPy's legacy generator, and with validation drawn before
    # test.
    rng = np.random.RandomState(SPLIT_SEED)
    validation = rng.choice(n, held_out, replace=False)
    remaining_ids = np.setdiff1d(np.arange(n), validation)
    test = rng.choice(remaining_ids, held_out, replace=False)
    train = np.setdiff1d(remaining_ids, test)
    return Split(
        train=tuple(np.sort(train).tolist()),
        validation=tuple(np.sort(validation).tolist()),
        test=tuple(np.sort(test).tolist()),
    )


def load_series(path: str | Path | None = None) -> SeriesSet:
    """Load the data set: the report's, or one of your own.

    It is read from `path`, else from `M2_DATA`, else from data/lotka_volterra_data.h5. Without any
    of these it is generated, and then has the same texts, ids and results as the report's file.
    InputError for a file that is missing, damaged or unfit, as in `read_series`.
    """
    path = path or settings.read("M2_DATA")
    if path:
        return read_series(path)
    if DEFAULT_FILE.exists():
        return read_series(DEFAULT_FILE)
    return _generated()


@cache
def _generated() -> SeriesSet:
    """Simulate the recipe's data set, once in a process; it is shared, so it is read-only."""
    series_set = generate_series()
    for array in (series_set.trajectories, series_set.time, series_set.scales):
        array.setflags(write=False)
    return series_set


def read_series(path: str | Path) -> SeriesSet:
    """Read an HDF5 file with /trajectories (n, steps, 2) and /time (steps,).

    It has at least 3 series of at least 100 steps, of which the first 100 are used. Values less
    than 1e-6 below zero become zero. Raises InputError for a file that is missing or no such data
    set, and for the first value that cannot be encoded.
    """
    import h5py

    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(
            f"no such data file: {path}; `m2 data generate` writes one; "
            "without M2_DATA none is needed"
        )
    try:
        with h5py.File(path) as file:
            trajectories = file["trajectories"][()].astype(np.float32)
            time = file["time"][()].astype(np.float64)
    except Exception as error:  # h5py raises a dozen kinds of exceptions for a damaged file
        raise InputError(
            f"{path} is no data set in HDF5: {first_line(error)}; see data/README.md"
        ) from error

    shape = trajectories.shape
    well_shaped = (
        len(shape) == 3
        and shape[0] >= 3
        and shape[1] >= STEPS
        and shape[2] == 2
        and time.shape == shape[1:2]
    )
    if not well_shaped:
        raise InputError(
            f"{path}: /trajectories has shape {shape} and /time {time.shape}; "
            f"expected (3 or more series, {STEPS} or more, 2) and (steps,)"
        )

    series_set = SeriesSet(
        trajectories=without_undershoot(trajectories[:, :STEPS]),
        time=time[:STEPS],
        source=str(path),
    )
    # A value that cannot be encoded is an error here, and not after hours of training.
    for i, scale in enumerate(series_set.scales):
        encode(series_set.trajectories[i], scale, name=f"{i} of {path}")
    return series_set


def write_series(series_set: SeriesSet, path: Path) -> None:
    """Write an HDF5 file that `read_series` reads, whole or not at all."""
    import h5py

    # h5py writes a file bit by bit; a file in memory can be written to the disk in one piece.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["trajectories"] = series_set.trajectories
        file["time"] = series_set.time
    write_atomic(path, buffer.getvalue())


def draw_systems(n: int, seed: int) -> np.ndarray:
    """Draw the systems that `generate_series` simulates.

    They are float64 (n, 8), parameters and starts in the order of `RECIPE`.
    """
    rng = np.random.RandomState(seed)
    return np.stack([rng.uniform(low, high, n) for low, high in RECIPE.values()], axis=1)


def solve_system(
    system: np.ndarray,
    time: np.ndarray,
    rates: Rates = predator_prey,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> np.ndarray:
    """Solve a system by LSODA for its course (steps, 2) in physical units.

    With the default rates and tolerances it is the course that the data file holds. The simulation
    goes from time 0 to the last of `time`, (steps,), which ascends; where it ends decides the
    integrator's steps. `rtol` and `atol` are its relative and its absolute tolerance.
    """
    # RECIPE's first six values, in its order, are what `predator_prey` takes after the state; the
    # last two are the start.
    parameters = system[:6]
    start = system[6:]
    solution = scipy.integrate.solve_ivp(
        rates,
        (0, time[-1]),
        start,
        method="LSODA",
        t_eval=time,
        args=parameters,
        rtol=rtol,
        atol=atol,
    )
    return solution.y.T


def generate_series(n: int = 1000, seed: int = 0) -> SeriesSet:
    """Simulate `n` series from the recipe; with the defaults the result *is* the real data set.

    The file was made by LSODA at scipy's default tolerances, and tighter tolerances give a
    different one. A smaller n does not give the first of the 1000 series, because each parameter is
    drawn for all series at once.
    """
    return simulate_systems(draw_systems(n, seed), f"generated (n={n}, seed={seed})")


def simulate_systems(
    systems: np.ndarray,
    source: str,
    rates: Rates = predator_prey,
    end: float = 200.0,
    rtol: float = RTOL,
    atol: float = ATOL,
) -> SeriesSet:
    """Solve systems (n, 8) from time 0 to `end` for a set of series, as `solve_system` does."""
    time = np.linspace(0, end, STEPS)
    courses = [solve_system(system, time, rates, rtol, atol) for system in systems]
    trajectories = without_undershoot(np.array(courses, dtype=np.float32))
    return SeriesSet(trajectories, time, source)
