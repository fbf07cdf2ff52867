"""The data set: 1000 simulated predator-prey series, regenerated from their recipe or read from an HDF5 file.

The file is named after Lotka-Volterra, but what it holds is the Rosenzweig-MacArthur system: prey with a carrying
capacity, predators that saturate. Damped spirals and limit cycles stand side by side.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from m2lib import settings
from m2lib.files import InputError, workspace, write_atomic
from m2lib.series.codec import CONTEXT_STEPS, FORECAST_STEPS, VARIABLES, scale_of, to_integers

DEFAULT_FILE = workspace() / "data" / "lotka_volterra_data.h5"
STEPS = CONTEXT_STEPS + FORECAST_STEPS  # of a series
SPLIT_SEED = 10022002  # the report's

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
        For n < 3.
    """
    if n < 3:
        raise InputError(f"{n} series cannot be split into train, validation and test: at least 3 are needed")
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
    """
    from scipy.integrate import solve_ivp

    rng = np.random.RandomState(seed)
    drawn = np.stack([rng.uniform(low, high, n) for low, high in RECIPE.values()], axis=1)  # (n, 8): a row a series
    time = np.linspace(0, 200, STEPS)
    trajectories: np.ndarray = np.empty((n, STEPS, 2), dtype=np.float32)
    # RECIPE's first six, in its order, are what `predator_prey` takes after the state; the last two are the start.
    for i, (*parameters, prey0, predator0) in enumerate(drawn.tolist()):
        solution = solve_ivp(predator_prey, (0, 200), (prey0, predator0), method="LSODA", t_eval=time, args=parameters)
        trajectories[i] = solution.y.T
    return SeriesSet(trajectories, time, f"generated (n={n}, seed={seed})")


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
    return generate_series() if path is None else read_series(Path(path).expanduser())


def read_series(path: Path) -> SeriesSet:
    """Read and validate an HDF5 file.

    Parameters
    ----------
    path : Path
        A file with /trajectories (n, >= 100, 2), physical units, and /time, one per step; steps after the 100th are
        unused.

    Returns
    -------
    SeriesSet
        Finite and nowhere negative, on an even grid of time, each series with a scale.

    Raises
    ------
    InputError
        In one line, for a file that is missing, not HDF5, or not such a data set; it names dataset and first offending
        index.
    """
    import h5py

    if not path.is_file():
        raise InputError(
            f"no such data file: {path}; `m2 data generate` writes one, and without M2_DATA none is needed"
        )
    try:
        with h5py.File(path, "r") as file:
            arrays = {}
            for name in ("trajectories", "time"):
                if not isinstance(file.get(name), h5py.Dataset):
                    held = ", ".join(f"/{key}" for key in file) or "nothing"
                    raise InputError(f"{path}: no dataset /{name} (the file holds {held}); see data/README.md")
                arrays[name] = file[name][()]
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file ({error}); `m2 data generate` writes one") from error
    trajectories, time = _validated(arrays["trajectories"], arrays["time"], str(path))
    return SeriesSet(trajectories, time, str(path))


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


def _validated(trajectories: Any, time: Any, source: str) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, 100, 2) and float64 (100,), or an InputError that names dataset and first offending index."""

    def reject(dataset: str, problem: str) -> NoReturn:
        raise InputError(f"{source}: /{dataset}{problem}")

    for dataset, array in (("trajectories", trajectories), ("time", time)):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            reject(dataset, " does not hold an array of numbers")
    shape = trajectories.shape
    if len(shape) != 3 or shape[2] != 2 or shape[0] < 1:
        reject("trajectories", f" has shape {shape}; expected (series, steps, 2)")
    if shape[1] < STEPS:
        reject("trajectories", f" has {shape[1]} steps; at least {STEPS} are needed")
    if time.shape != (shape[1],):
        reject("time", f" has shape {time.shape}; expected ({shape[1]},), one per step of /trajectories")
    with np.errstate(over="ignore"):  # beyond float32 is infinity, which is reported below
        trajectories = trajectories[:, :STEPS].astype(np.float32)
    time = time[:STEPS].astype(np.float64)

    for bad, problem in ((~np.isfinite(trajectories), "not finite"), (trajectories < 0, "negative")):
        if bad.any():
            series, step, variable = (int(i) for i in np.argwhere(bad)[0])
            value = trajectories[series, step, variable]
            place = f", series {series}, step {step}, {VARIABLES[variable]}"
            reject("trajectories", f"{place}: {value} is {problem}; correct or drop the series")
    gaps = np.diff(time)  # gap i lies between the steps i and i + 1
    uneven = ~(np.isfinite(gaps) & (gaps > 0) & np.isclose(gaps, gaps[0], rtol=1e-3))
    if uneven.any():
        step = int(np.argmax(uneven)) + 1
        reject(
            "time",
            f", step {step}: {time[step]:g} after {time[step - 1]:g} is not an even grid; resample the series",
        )
    # A context that is 0 nearly throughout has a 90th percentile of 0, which no factor scales to 1000.
    flat = scale_of(trajectories[:, :CONTEXT_STEPS]) <= 0
    if flat.any():
        series = int(np.argmax(flat))
        reject(
            "trajectories",
            f", series {series}: the 90th percentile of its first 80 steps is 0, so it has no scale; drop it",
        )
    return trajectories, time
