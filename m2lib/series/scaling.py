"""The straight line between a series' physical values and the integers that stand for them in its text."""

from dataclasses import dataclass

import numpy as np

from m2lib.files import InputError

ROUNDINGS = ("nearest", "published")  # see `m2lib.series.codec.to_integers`
# Physical units: LSODA's default absolute tolerance in scipy. By less than this it may end below zero where zero is
# meant (seed 14, series 248: -6.7e-8).
UNDERSHOOT = 1e-6


@dataclass(frozen=True)
class Scaling:
    """The straight line of one series: scaled = (value - offset) / scale * unit."""

    scale: np.ndarray
    """float64, shape () or (variables,): the physical size of a scaled unit's worth, 1000 with four digits."""
    offset: np.ndarray
    """float64, shape () or (variables,): the physical value of scaled 0."""
    unit: int = 1000
    """Of the text format."""

    @property
    def exists(self) -> bool:
        """Whether a series can be written by it.

        Returns
        -------
        bool
            False where a scale is not a finite number above 0, or an offset is not finite.
        """
        return bool(np.all(is_scale(self.scale)) and np.all(np.isfinite(self.offset)))

    def physical(self, scaled: np.ndarray) -> np.ndarray:
        """Physical values back from scaled ones.

        Parameters
        ----------
        scaled : ndarray, shape (..., steps, variables)
            Scaled units, of this series.

        Returns
        -------
        ndarray of float64, shape (..., steps, variables)
            Physical units.
        """
        return np.asarray(scaled, dtype=np.float64) / self.unit * self.scale + self.offset


def without_undershoot(values: np.ndarray) -> np.ndarray:
    """Zero for what is below zero by less than the integrator's tolerance, all else as it is.

    Parameters
    ----------
    values : ndarray of float
        Physical units.

    Returns
    -------
    ndarray of float
        The same shape and type.
    """
    return np.where((values < 0) & (values > -UNDERSHOOT), values.dtype.type(0), values)


def relative(values: np.ndarray, scale: np.ndarray, offset: np.ndarray | float = 0.0) -> np.ndarray:
    """How large values are in units of their scale, from their offset on: 1 is what becomes scaled 1000.

    Parameters
    ----------
    values : ndarray of float, shape (..., steps, variables)
        Physical units.
    scale, offset : ndarray of float
        Physical units, of a shape that NumPy puts beside the values.

    Returns
    -------
    ndarray of float64, shape (..., steps, variables)
        Not finite where the value or the scale is not.
    """
    with np.errstate(all="ignore"):  # what is not finite is found by whoever asks
        return without_undershoot(np.asarray(values, dtype=np.float64) - offset) / scale


def rounded(parts: np.ndarray, rounding: str, digits: int, values: np.ndarray) -> np.ndarray:
    """The integers of relative values.

    Parameters
    ----------
    parts : ndarray of float64
        As `relative` gives them.
    rounding : {"nearest", "published"}
        As in `m2lib.series.codec.to_integers`.
    digits : int
        Of the largest number; 4 makes 1.0 to 1000.
    values : ndarray
        The physical values, to be named in errors.

    Returns
    -------
    ndarray of int64
        Scaled units, of the same shape.

    Raises
    ------
    InputError
        For an unknown rounding, and a value that is not finite once scaled.
    """
    if rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}: choose one of {', '.join(ROUNDINGS)}")
    # 0.23 at scale 2.0 is 1.15, and 1.15 * 100 is 114.99999999999999: 115 by `nearest`, 114 by `published`.
    decimals = digits - 2
    with np.errstate(over="ignore"):  # reported below
        last_digits = np.round(parts * 10, decimals) * 10**decimals
    fits = np.abs(last_digits) < 2**63  # else there is no int64 of it, and astype would make up a number; NaN is not
    if not fits.all():
        index = tuple(np.argwhere(~fits)[0].tolist())
        value = np.asarray(values)[index]
        raise InputError(f"values{list(index)} is {value:g}, which has no scaled integer; correct or drop it")
    return (np.rint(last_digits) if rounding == "nearest" else np.trunc(last_digits)).astype(np.int64)


def unwritable(parts: np.ndarray, digits: int = 4) -> np.ndarray:
    """Where relative values cannot be written: not finite, negative, or too large for their digits.

    Parameters
    ----------
    parts : ndarray of float64
        As `relative` gives them.
    digits : int, optional
        Of the largest number.

    Returns
    -------
    ndarray of bool
        Of the same shape.
    """
    with np.errstate(all="ignore"):  # what is not finite compares as False
        scaled = parts * 10 ** (digits - 1)
        return ~((scaled >= 0) & (scaled < 10**digits - 0.5))  # 9999.5 would be written as 10000


def is_scale(scale: np.ndarray) -> np.ndarray:
    """Whether numbers are scales: finite and above 0.

    Parameters
    ----------
    scale : ndarray of float
        Any numbers.

    Returns
    -------
    ndarray of bool
        Of the same shape.
    """
    return np.isfinite(scale) & (np.asarray(scale) > 0)
