"""The data set, from an HDF5 file or made anew from its recipe, and which of its series train,
validate and test.

The recipe: random predator-prey systems, and their courses by the data file's own integrator. The
file is named after Lotka-Volterra, but it holds the Rosenzweig-MacArthur system: prey with a
carrying capacity, predators that saturate. Damped spirals and limit cycles stand side by side.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import scipy

from m2lib import settings
from m2lib.files import InputError, first_line, short_hash, workspace, write_atomic
from m2lib.series.codec import (
    CONTEXT_STEPS,
    FORECAST_STEPS,
    encode,
    scale_of,
    to_integers,
    without_undershoot,
)

STEPS = CONTEXT_STEPS + FORECAST_STEPS  # of a series
SPLIT_SEED = 10022002  # the report's
DEFAULT_FILE = workspace() / "data" / "lotka_volterra_data.h5"
# Uniform ranges, in the order in which they are drawn: 1000 values of the first, then 1000 of the
# second, ...
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
"""A right-hand side, called as `predator_prey` is: by time, state (prey, predators), and a system's
parameters."""


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
        """A hash of the scaled integers, 16 hex digits: the same for two files that give the same
        texts."""
        # "<i4" fixes the bytes, 32 bits with the lowest first, whatever the machine's own order is.
        integers: np.ndarray = to_integers(self.trajectories, self.scales).astype("<i4")
        return short_hash(integers.tobytes())


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
    """The report's split: 900 / 50 / 50 of 1000; for another n, max(1, n // 20) each for validation
    and test."""
    held_out = max(1, n // 20)
    # The legacy generator, and validation drawn before test: any other way gives other ids than the
    # report's.
    rng = np.random.RandomState(SPLIT_SEED)
    validation = rng.choice(n, held_out, replace=False)
    rest = np.setdiff1d(np.arange(n), validation)
    test = rng.choice(rest, held_out, replace=False)
    return Split(
        *(tuple(np.sort(ids).tolist()) for ids in (np.setdiff1d(rest, test), validation, test))
    )


def load_series(path: str | Path | None = None) -> SeriesSet:
    """The data set: from `path`, else `M2_DATA`, else data/lotka_volterra_data.h5, else generated.

    The same texts, ids and results whichever way.
    """
    path = path or settings.read("M2_DATA") or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    return _generated() if path is None else read_series(path)


@cache
def _generated() -> SeriesSet:
    """The recipe's data set, simulated once in a process; it is shared, so nobody may write to
    it."""
    made = generate_series()
    made.trajectories.setflags(write=False)
    return made


def read_series(path: str | Path) -> SeriesSet:
    """Read an HDF5 file with /trajectories (n, 100 or more, 2), n at least 3, and /time; later
    steps are not used.

    What is less than 1e-6 below zero is zero. Raises InputError for a file that is missing or no
    such data set, and for the first value that cannot be encoded.
    """
    import h5py

    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(
            f"no such data file: {path}; `m2 data generate` writes one; without M2_DATA none is needed"
        )
    try:
        with h5py.File(path) as file:
            trajectories = file["trajectories"][()].astype(np.float32)
            time = file["time"][()].astype(np.float64)
    except Exception as error:  # h5py has a dozen kinds of them for a damaged file
        raise InputError(
            f"{path} is no data set in HDF5: {first_line(error)}; see data/README.md"
        ) from error
    shape = trajectories.shape
    if (
        len(shape) != 3
        or shape[0] < 3
        or shape[1] < STEPS
        or shape[2] != 2
        or time.shape != shape[1:2]
    ):
        found = f"/trajectories has shape {shape} and /time {time.shape}"
        raise InputError(
            f"{path}: {found}; expected (3 or more series, {STEPS} or more, 2) and (steps,)"
        )
    series = SeriesSet(without_undershoot(trajectories[:, :STEPS]), time[:STEPS], str(path))
    for i, scale in enumerate(series.scales):  # sooner than after hours of training
        encode(series.trajectories[i], scale, series=f"{i} of {path}")
    return series


def write_series(series: SeriesSet, path: Path) -> None:
    """Write an HDF5 file that `read_series` reads, whole or not at all."""
    import h5py

    buffer = (
        io.BytesIO()
    )  # h5py writes a file bit by bit; made in memory, it reaches the disk in one piece
    with h5py.File(buffer, "w") as file:
        file["trajectories"] = series.trajectories
        file["time"] = series.time
    write_atomic(path, buffer.getvalue())


def predator_prey(_time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """The rates dx/dt = r x (1 - x/K) - a x y / (1 + h x) and dy/dt = e a x y / (1 + h x) - m y.

    They are Rosenzweig's and MacArthur's ("Graphical Representation and Stability Conditions of
    Predator-Prey Interactions", The American Naturalist 97, 1963).
    """
    prey, predator = state
    growth, attack, mortality, handling, conversion, capacity = parameters
    eaten = attack * prey * predator / (1 + handling * prey)
    return growth * prey * (1 - prey / capacity) - eaten, conversion * eaten - mortality * predator


def holling_three(_time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """The rates of predators that hardly hunt what is rare: eaten are a x^2 y / (1 + h x^2).

    Such predators spare what is left of the prey, and with the handling times of the recipe every
    series comes to rest. Cycles want predators that are full before the prey are many: here h is e
    a / (1.5 m), so that a predator that eats all it can gains half as much again as it loses. Of 30
    series, 26 then swing by 100 scaled units and more in the steps that are forecast, as 24 of the
    recipe's own do. (Holling, "Some Characteristics of Simple Types of Predation and Parasitism",
    The Canadian Entomologist 91, 1959.)
    """
    prey, predator = state
    growth, attack, mortality, _, conversion, capacity = parameters
    handling = conversion * attack / (1.5 * mortality)
    eaten = attack * prey**2 * predator / (1 + handling * prey**2)
    return growth * prey * (1 - prey / capacity) - eaten, conversion * eaten - mortality * predator


def lotka_volterra(time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """The rates without a limit to the prey or to a predator's appetite: cycles that neither die
    out nor settle."""
    growth, attack, mortality, _, conversion, _ = parameters
    return predator_prey(time, state, growth, attack, mortality, 0.0, conversion, np.inf)


def drifting(time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """The rates of predators that die ever faster: by time 200 half as fast again as at time 0."""
    growth, attack, mortality, *others = parameters
    return predator_prey(time, state, growth, attack, mortality * (1 + time / 400), *others)


def draw_systems(n: int, seed: int) -> np.ndarray:
    """The systems that `generate_series` simulates: float64 (n, 8), parameters and starts in the
    order of `RECIPE`."""
    rng = np.random.RandomState(seed)
    return np.stack([rng.uniform(low, high, n) for low, high in RECIPE.values()], axis=1)


def solve_system(
    system: np.ndarray, time: np.ndarray, rates: Rates = predator_prey, **tolerance: float
) -> np.ndarray:
    """A system's course (steps, 2) in physical units by LSODA: as the data file has it, with the
    defaults.

    `time` ascends from 0 to where the simulation ends, which decides the integrator's steps.
    `tolerance` may be `rtol` and `atol` of scipy's solve_ivp, instead of its own.
    """
    # RECIPE's first six, in its order, are what `predator_prey` takes after the state; the last two
    # are the start.
    *parameters, prey, predator = system
    options = {"method": "LSODA", "t_eval": time, "args": parameters, **tolerance}
    return scipy.integrate.solve_ivp(rates, (0, time[-1]), (prey, predator), **options).y.T


def generate_series(n: int = 1000, seed: int = 0) -> SeriesSet:
    """Simulate `n` series from the recipe; with the defaults the result *is* the real data set.

    LSODA at scipy's default tolerances, as the file was made: tighter tolerances give a different
    file. A smaller n does not give the first of the 1000, for each parameter is drawn for all at
    once.
    """
    return simulated(draw_systems(n, seed), f"generated (n={n}, seed={seed})")


def simulated(
    systems: np.ndarray,
    source: str,
    rates: Rates = predator_prey,
    end: float = 200.0,
    **tolerance: float,
) -> SeriesSet:
    """The courses of systems (n, 8) as a set of series, from time 0 to `end`; the rest is as in
    `solve_system`."""
    time = np.linspace(0, end, STEPS)
    courses = [solve_system(system, time, rates, **tolerance) for system in systems.tolist()]
    return SeriesSet(without_undershoot(np.array(courses, dtype=np.float32)), time, source)
