"""Bands of sampled forecasts: what they hold, how wide they are, and what would make them right.

Samples are (m, steps, variables) and truths (steps, variables), both in the same unit: the study's
are in scaled units, those of tables in the table's own. Functions of samples take one series; for
several, average the results.
"""

import math

import numpy as np


def band(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the central band of the samples at each step and variable.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, variables)
        At least one forecast.
    level : float
        The share of the samples inside, between 0 and 1: with 0.8 the band goes from the 10th to
        the 90th percentile.

    Returns
    -------
    tuple of ndarray of float64, shape (steps, variables)
        Low and high end, in the unit of the samples.
    """
    ends = [(1 - level) / 2, (1 + level) / 2]
    low, high = np.quantile(samples, ends, axis=0)
    return low, high


def coverage(samples: np.ndarray, truth: np.ndarray, level: float) -> float:
    """Return the share of a series' true values that a band holds, its ends included.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, variables)
        In any unit.
    truth : ndarray, shape (steps, variables)
        In the same unit.
    level : float
        As in `band`. Where the samples are as uncertain as they should be, the mean share over many
        series is near it.

    Returns
    -------
    float
        From 0 to 1.
    """
    low, high = band(samples, level)
    inside = (low <= truth) & (truth <= high)
    return float(inside.mean())


def sharpness(samples: np.ndarray, level: float) -> float:
    """Return the mean width of a band.

    Of two forecasts with the right coverage the narrower says more.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, variables)
        In any unit.
    level : float
        As in `band`.

    Returns
    -------
    float
        In the unit of the samples.
    """
    low, high = band(samples, level)
    return float((high - low).mean())


def conformal(scores: np.ndarray, level: float) -> np.ndarray:
    """Return the split-conformal bound of a new score at a level, from earlier scores [1]_.

    Of n earlier scores it is the k-th smallest, where k is (n + 1) level rounded up: of 50 at a
    level of 0.8 the 41st, because 51 * 0.8 = 40.8. At 0.99 it would be the 51st of 50, so the bound
    is infinite. If the new score is equally likely to take any place among them, it is at most this
    bound with a probability of at least `level`, whatever the scores' distribution.

    Parameters
    ----------
    scores : ndarray, shape (n, ...)
        Scores of series to which nothing was fitted, such as the absolute errors of a forecaster on
        validation series, (n, steps, variables). A band of the bound's half-width around its
        forecast of a new series then holds the truth with that probability.
    level : float
        Above 0, and 1 at most.

    Returns
    -------
    ndarray, shape (...)
        In the scores' unit; infinite where n is too small for the level.

    Raises
    ------
    ValueError
        For a level of 0 or less, or above 1.

    References
    ----------
    .. [1] Lei et al., "Distribution-Free Predictive Inference for Regression", Journal of the
       American Statistical Association 113, 2018.
    """
    if not 0 < level <= 1:
        raise ValueError(f"level is {level}; give a share above 0 and of 1 at most, such as 0.8")
    # The new score may be larger than all earlier ones, so an infinite one stands for it.
    infinite = np.full((1, *np.shape(scores)[1:]), np.inf)
    ascending = np.sort(np.concatenate([scores, infinite]), axis=0)
    # Rounded first, because 100 * 0.55 is 55.00000000000001, whose ceiling is 56.
    k = math.ceil(round(len(ascending) * level, 9))
    return ascending[k - 1]


def stretch_needed(samples: np.ndarray, truth: np.ndarray, level: float) -> np.ndarray:
    """Return the factors that stretch a band around the samples' median to hold each true value.

    Of a band from 8 to 14 with the median 10, a truth of 13 needs 0.75 of the upper half-width:
    (13 - 10) / (14 - 10). A truth of 7 needs 1.5 of the lower one: (10 - 7) / (10 - 8).

    Parameters
    ----------
    samples : ndarray, shape (m, steps, variables)
        In any unit.
    truth : ndarray, shape (steps, variables)
        In the same unit.
    level : float
        As in `band`.

    Returns
    -------
    ndarray of float64, shape (steps, variables)
        1 where the truth lies on an end of the band, 0 where it lies on the median; infinite where
        the band has no width on the truth's side. `conformal` makes one factor of those of many
        series, as [1]_ does by addition.

    References
    ----------
    .. [1] Romano, Patterson and Candès, "Conformalized Quantile Regression", NeurIPS, 2019.
    """
    low, high = band(samples, level)
    median = np.median(samples, axis=0)
    distance = np.abs(truth - median)
    half_width = np.where(truth < median, median - low, high - median)  # on the truth's side
    without_width = np.where(distance > 0, np.inf, 0.0)  # the factor where nothing can be divided
    return np.divide(distance, half_width, out=without_width, where=half_width > 0)


def stretched(samples: np.ndarray, factor: float) -> np.ndarray:
    """Move samples away from their median by a factor, which stretches all bands by it.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, variables)
        In any unit.
    factor : float
        1 leaves them as they are, and a factor below 1 moves them towards the median.

    Returns
    -------
    ndarray of float64, shape (m, steps, variables)
        In the same unit. A sample may come to lie below what the series can reach, so it is for the
        caller to raise it.
    """
    median = np.median(samples, axis=0)
    # Not median + factor * (samples - median): by a factor of 1 that would make 0.1, beside a
    # median of 1.1, into 0.10000000000000009, and a band that begins there would miss a true 0.1.
    return samples + (factor - 1) * (samples - median)
