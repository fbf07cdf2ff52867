"""How well a forecast by samples knows how sure it is: bands and what they hold, quantile loss, ranks of the truth; and
what other series' truths say about how far samples should be spread.

Samples are (m, steps, 2) and truths (steps, 2), both in scaled units. All functions take one series; over several, take
the mean, or put the ranks together.
"""

import math
from collections.abc import Sequence

import numpy as np

DECILES = tuple(i / 10 for i in range(1, 10))


def band(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The central band of the samples at each step and variable.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        At least one forecast; scaled units.
    level : float
        The share of the samples inside, between 0 and 1: 0.8 is from the 10th to the 90th percentile.

    Returns
    -------
    tuple of ndarray of float64, shape (steps, 2)
        Low and high end, scaled units.

    Raises
    ------
    ValueError
        For a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"the level of a band must be between 0 and 1, got {level}")
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def coverage(samples: np.ndarray, truth: np.ndarray, level: float) -> float:
    """The share of a series' true values that a band holds, its ends included.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        Scaled units.
    truth : ndarray, shape (steps, 2)
        Scaled units.
    level : float
        As in `band`. Where the samples are as uncertain as they should be, the mean of the share is near it.

    Returns
    -------
    float
        From 0 to 1.
    """
    low, high = band(samples, level)
    return float(((low <= truth) & (truth <= high)).mean())


def sharpness(samples: np.ndarray, level: float) -> float:
    """The mean width of a band: of two forecasts with the right coverage the sharper one says more.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        Scaled units.
    level : float
        As in `band`.

    Returns
    -------
    float
        Scaled units.
    """
    low, high = band(samples, level)
    return float((high - low).mean())


def quantile_loss(samples: np.ndarray, truth: np.ndarray, levels: Sequence[float] = DECILES) -> float:
    """The mean quantile (pinball) loss [1]_ of the samples' quantiles.

    A quantile q of level t that lies below a truth y costs t (y - q), one above it (1 - t) (q - y).

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        Scaled units.
    truth : ndarray, shape (steps, 2)
        Scaled units.
    levels : sequence of float, optional
        Between 0 and 1; with 0.5 alone the loss is half the MAE of the samples' median.

    Returns
    -------
    float
        Scaled units.

    References
    ----------
    .. [1] Koenker and Bassett, "Regression Quantiles", Econometrica 46, 1978.
    """
    share = np.array(levels).reshape(-1, 1, 1)
    below = truth - np.quantile(samples, levels, axis=0)  # (levels, steps, 2)
    return float(np.maximum(share * below, (share - 1) * below).mean())


def weighted_quantile_loss(losses: Sequence[float], truths: Sequence[np.ndarray]) -> float:
    """Quantile losses of several series in one number that has no unit: twice their mean, by the mean true value [1]_.

    Parameters
    ----------
    losses : sequence of float
        The `quantile_loss` of each series.
    truths : sequence of ndarray, each of shape (steps, 2)
        Their true values, all of one shape.

    Returns
    -------
    float
        0 for forecasts without error; comparable among data sets.

    References
    ----------
    .. [1] Alexandrov et al., "GluonTS: Probabilistic and Neural Time Series Modeling in Python", Journal of Machine
       Learning Research 21, 2020.
    """
    return float(2 * np.mean(losses) / np.abs(np.stack(list(truths))).mean())


def ranks(samples: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How many of the samples lie below each true value, ties by lot: the probability integral transform of samples.

    Where truth and samples come from one distribution, every rank from 0 to m is as likely as any other [1]_; a
    histogram with a hump in the middle tells of samples that are spread too far, one with a hollow of too little.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        Scaled units.
    truth : ndarray, shape (steps, 2)
        Scaled units.
    rng : numpy Generator
        Of the lots.

    Returns
    -------
    ndarray of int64, shape (steps, 2)
        From 0 to m.

    References
    ----------
    .. [1] Hamill, "Interpretation of Rank Histograms for Verifying Ensemble Forecasts", Monthly Weather Review 129,
       2001.
    """
    below, equal = (samples < truth).sum(axis=0), (samples == truth).sum(axis=0)
    return below + rng.integers(0, equal + 1)  # three equal ones: 0, 1, 2 or 3 of them count as below


def conformal(scores: np.ndarray, level: float) -> np.ndarray:
    """What a new score stays within at this level, as scores of the same kind tell: split-conformal prediction [1]_.

    Of n earlier scores it is the k-th smallest, k = (n + 1) level rounded up: where the new score is as likely to take
    any place among them, it is one of the k smallest with at least that chance, whatever the scores' distribution.

    Parameters
    ----------
    scores : ndarray, shape (n, ...)
        What must not have been fitted to, as the absolute errors of a forecaster on validation series, (n, steps, 2);
        a band of this half-width around its forecast of a new series then holds the truth.
    level : float
        Between 0 and 1.

    Returns
    -------
    ndarray, shape (...)
        In the scores' unit; infinite where n is too small for the level.

    References
    ----------
    .. [1] Lei et al., "Distribution-Free Predictive Inference for Regression", Journal of the American Statistical
       Association 113, 2018.
    """
    scores = np.sort(np.asarray(scores, dtype=np.float64), axis=0)
    k = math.ceil((len(scores) + 1) * level)
    return scores[k - 1] if k <= len(scores) else np.full(scores.shape[1:], np.inf)


def stretch_needed(samples: np.ndarray, truth: np.ndarray, level: float) -> np.ndarray:
    """How far a band must be stretched around the samples' median until it just holds each true value.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        Scaled units.
    truth : ndarray, shape (steps, 2)
        Scaled units.
    level : float
        As in `band`.

    Returns
    -------
    ndarray of float64, shape (steps, 2)
        1 where the truth lies on an end of the band, 0 on the median; infinite where the band has no width on the
        truth's side. `conformal` makes one factor of those of many series, as [1]_ does by addition.

    References
    ----------
    .. [1] Romano, Patterson and Candès, "Conformalized Quantile Regression", NeurIPS, 2019.
    """
    (low, high), middle = band(samples, level), np.median(samples, axis=0)
    off, reach = np.abs(truth - middle), np.where(truth < middle, middle - low, high - middle)
    return np.divide(off, reach, out=np.where(off > 0, np.inf, 0.0), where=reach > 0)


def stretched(samples: np.ndarray, factor: float) -> np.ndarray:
    """The samples, moved away from their median by a factor (below 1 towards it), which stretches all bands by it.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        Scaled units.
    factor : float
        1 leaves them as they are.

    Returns
    -------
    ndarray of float64, shape (m, steps, 2)
        Scaled units, not below 0.

    Raises
    ------
    ValueError
        For a factor that is infinite, as `conformal` gives it where too many bands have no width, or negative.
    """
    if not 0 <= factor < math.inf:
        raise ValueError(f"samples cannot be stretched by {factor}")
    middle = np.median(samples, axis=0)
    return np.maximum(middle + factor * (samples - middle), 0)
