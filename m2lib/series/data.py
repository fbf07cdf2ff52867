"""Series and their split: arrays in physical units, and which ids are for training, validation and test."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from m2lib.files import InputError
from m2lib.series.codec import CONTEXT_STEPS, FORECAST_STEPS, encode, scale_of, to_integers, unwritable

STEPS = CONTEXT_STEPS + FORECAST_STEPS  # of a series
SPLIT_SEED = 10022002  # the report's
BYTES_PER_SERIES = 10_000  # of memory, at the most: 200 values, and copies of them while they are checked and hashed
BYTES_PER_ID = 100  # the same in a split


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
    n = whole_number("the number of series to split", n, least=3)
    check_memory(n * BYTES_PER_ID, f"a split of {n} series", "split fewer")
    held_out = max(1, n // 20)
    # The legacy generator, and validation drawn before test: any other way gives other ids than the report's.
    rng = np.random.RandomState(SPLIT_SEED)
    validation = rng.choice(np.arange(n), held_out, replace=False)
    rest = np.setdiff1d(np.arange(n), validation)
    test = rng.choice(rest, held_out, replace=False)
    train = np.setdiff1d(rest, test)
    return Split(*(tuple(np.sort(ids).tolist()) for ids in (train, validation, test)))


def whole_number(name: str, value: Any, least: int, most: int = sys.maxsize) -> int:
    """A whole number within bounds.

    Parameters
    ----------
    name : str
        What it is, for the error.
    value : int or numpy integer
        The number.
    least, most : int
        The bounds; by default at most what can index an array.

    Returns
    -------
    int
        The number.

    Raises
    ------
    InputError
        For anything else.
    """
    if isinstance(value, int | np.integer) and least <= value <= most:
        return int(value)
    bounds = f"a whole number of at least {least} and at most {most}"
    is_long = isinstance(value, int) and abs(value) > sys.maxsize  # Python does not write those of over 4300 digits
    raise InputError(f"{name} should be {bounds}" + ("" if is_long else f", not {value!r:.40}"))


def check_memory(needed: int, what: str, advice: str) -> None:
    """Refuse what memory cannot hold before any of it is allocated: later the system might end the process unasked.

    Parameters
    ----------
    needed : int
        Bytes.
    what : str
        What needs them, for the error.
    advice : str
        What to do instead.

    Raises
    ------
    InputError
        Where fewer are free.
    """
    import psutil

    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(f"{what} needs {needed / 1e9:,.1f} GB of memory, and {free / 1e9:,.1f} GB are free; {advice}")
