"""Measures of how far off a forecast is.

A measure has the unit of what it is given. The study's errors are in scaled units, in which 1000 is
the 90th percentile of a series' own context; those of tables are in the table's units. Forecasts
and truths are (..., steps, variables), samples of one series (m, steps, variables).

The measures of `m2 evaluate`, among them the scaled one (MASE), which needs the past of a series,
are in `m2tables.evaluation`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

DECILES = tuple(i / 10 for i in range(1, 10))  # the levels 0.1 to 0.9


def series_mae(forecast: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the mean absolute error of each series, over steps and variables.

    Parameters
    ----------
    forecast, truth : ndarray, shape (..., steps, variables)
        Both in the same unit.

    Returns
    -------
    ndarray of float64, shape (...)
        In that unit.
    """
    errors = np.abs(np.asarray(forecast, dtype=np.float64) - truth)
    return errors.mean(axis=(-2, -1))


def crps_fair(samples: np.ndarray, truth: np.ndarray) -> float:
    """Return the fair continuous ranked probability score, averaged over steps and variables.

    For samples x_i of a value y: the mean of `|x_i - y|`, minus half the mean distance of two
    *different* samples [1]_, which makes the score independent of the number of samples in
    expectation. Where all samples are the same, it is their MAE. A single one gives NaN.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, variables)
        Sampled forecasts, m >= 2, in any unit. With one variable its axis may be left out.
    truth : ndarray, shape (steps, variables)
        In the same unit; its axes are those of a sample.

    Returns
    -------
    float
        In that unit; 0 is best.

    References
    ----------
    .. [1] Ferro, "Fair scores for ensemble forecasts", Quarterly Journal of the Royal
       Meteorological Society 140, 2014.
    """
    samples = np.sort(np.asarray(samples, dtype=np.float64), axis=0)
    m = len(samples)
    distance = np.abs(samples - truth).mean(axis=0)
    # With sorted samples the sum of all pairwise distances is a weighted sum of the samples. For
    # the three samples 1, 4, 9 it is (4 - 1) + (9 - 1) + (9 - 4) = 16, and with the weights
    # -2, 0, 2 it is also -2 * 1 + 0 * 4 + 2 * 9 = 16. There are m (m - 1) / 2 pairs, so half of
    # their mean distance is the sum divided by m (m - 1), here 16 / 6.
    weights = _along_first(2 * np.arange(m) - m + 1, samples.ndim - 1)
    half_spread = (weights * samples).sum(axis=0) / (m * (m - 1))
    return float((distance - half_spread).mean())


def quantile_losses(
    quantiles: np.ndarray, truth: np.ndarray, levels: Sequence[float] = DECILES
) -> np.ndarray:
    """Return the quantile (pinball) loss [1]_ of each forecast quantile.

    A quantile q of level t that lies below a truth y costs t (y - q), one above it (1 - t) (q - y).
    A truth of 10 costs 0.9 * (10 - 8) = 1.8 at a quantile of level 0.9 that is 8, which is too low,
    and 0.1 * (12 - 10) = 0.2 at one that is 12.

    Parameters
    ----------
    quantiles : ndarray, shape (levels, ...)
        In any unit.
    truth : ndarray, shape (...)
        In the same unit.
    levels : sequence of float, optional
        Between 0 and 1.

    Returns
    -------
    ndarray, shape (levels, ...)
        In that unit.

    References
    ----------
    .. [1] Koenker and Bassett, "Regression Quantiles", Econometrica 46, 1978.
    """
    errors = np.subtract(truth, quantiles, dtype=np.float64)  # unsigned numbers would wrap around
    t = _along_first(levels, truth.ndim)
    # Where y lies above q, t (y - q) is the larger of the two; where it lies below, the other.
    return np.maximum(t * errors, (t - 1) * errors)


def _along_first(numbers: ArrayLike, other_axes: int) -> np.ndarray:
    """Return numbers for the entries of a first axis, followed by `other_axes` axes of length 1."""
    shaped: np.ndarray = np.reshape(numbers, (-1, *[1] * other_axes))
    return shaped


@dataclass(frozen=True)
class Summary:
    """The errors of several series in short, printed as `mean 25.0 / median 15.0 (50 series)`."""

    n: int
    """Number of series."""
    mean: float
    """In the unit of the errors."""
    median: float
    """In the unit of the errors."""

    def __str__(self) -> str:
        return f"mean {self.mean:.1f} / median {self.median:.1f} ({self.n} series)"


def summarise(errors: Iterable[float]) -> Summary:
    """Summarise per-series errors by their number, mean and median.

    Parameters
    ----------
    errors : iterable of float
        One per series, in any unit.

    Returns
    -------
    Summary
        Mean and median are NaN where there are no errors.
    """
    values = np.asarray(list(errors), dtype=np.float64)
    return Summary(n=values.size, mean=float(values.mean()), median=float(np.median(values)))


def best_and_worst(
    errors: dict[int, float], worst: int | None = None
) -> tuple[list[int], list[int]]:
    """Divide series into the best and the `worst` worst, each by ascending error.

    The report has 30 best and 20 worst series.

    Parameters
    ----------
    errors : dict of int to float
        Errors by series id.
    worst : int, optional
        How many series are the worst, 0 to all. Default: two fifths, as in the report, but at least
        one.

    Returns
    -------
    tuple of list of int
        Series ids of the best and of the worst; of equal errors the smaller id comes first.
    """
    if worst is None:
        worst = max(1, len(errors) * 20 // 50)
    ranked = sorted(errors, key=lambda series: (errors[series], series))
    # Counted from the front, because with worst = 0 ranked[:-worst] would be empty.
    num_best = len(ranked) - worst
    return ranked[:num_best], ranked[num_best:]
