"""Uncertainty: intervals of mean errors, tests for small samples, and bands of sampled forecasts.

Samples are (m, steps, variables) and truths (steps, variables), both in the same unit: the study's
are in scaled units, those of tables in the table's own. Functions of samples take one series; for
several, average the results, or put the ranks together.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

MOST_FLIPPED = 20  # up to so many values, all 2^n patterns of signs are tried: a million for 20
PATTERNS = 100_000  # of more values, so many patterns of signs are drawn at random


def bootstrap_interval(
    errors: Iterable[float], statistic: Callable[..., float | np.ndarray] = np.mean, seed: int = 0
) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of a statistic of per-series errors [1]_.

    It is taken from 10,000 resamples of the series.

    Parameters
    ----------
    errors : iterable of float
        One per series, at least two, in scaled units.
    statistic : callable, optional
        `np.mean` or `np.median`.
    seed : int, optional
        The seed of the resampling.

    Returns
    -------
    tuple of float
        Low and high end, scaled units.

    References
    ----------
    .. [1] Efron and Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993, chapter
       13.
    """
    values = np.asarray(list(errors), dtype=np.float64)
    rng = np.random.default_rng(seed)
    # scipy takes a tuple of data sets; here there is one. The batch only limits the memory.
    result = scipy.stats.bootstrap(
        (values,), statistic, n_resamples=10_000, batch=1000, method="percentile", rng=rng
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high)


def t_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """The interval of a mean by Student's t, as wide as a small sample needs it to be [1]_.

    For n values of mean m and standard deviation s (with the divisor n - 1) it goes from
    m - t s / sqrt(n) to m + t s / sqrt(n), where t is the (1 + level) / 2 quantile of Student's
    distribution with n - 1 degrees of freedom. For n = 10 and 95% that is 2.26, where a large
    sample has 1.96. A percentile bootstrap lacks that factor, so that from ten normal values it
    holds the mean about 91 times in 100, and not 95.

    Parameters
    ----------
    values : iterable of float
        Independent of each other, at least two, in any unit.
    level : float, optional
        The probability that such an interval holds the true mean, where the values are normally
        distributed.

    Returns
    -------
    tuple of float
        Low and high end, in the unit of the values.

    References
    ----------
    .. [1] Student, "The Probable Error of a Mean", Biometrika 6, 1908.
    """
    sample = np.asarray(list(values), dtype=np.float64)
    if len(sample) < 2:
        raise ValueError("an interval of a mean wants two or more observations")
    mean = sample.mean()
    standard_error = sample.std(ddof=1) / np.sqrt(len(sample))
    half_width = scipy.stats.t.ppf((1 + level) / 2, len(sample) - 1) * standard_error
    return float(mean - half_width), float(mean + half_width)


def sign_flip_p(values: Iterable[float]) -> float:
    """The p value of the two-sided sign-flip test of a mean of zero [1]_.

    This is Fisher's randomisation test of paired values. If each value is as likely to lie
    below zero as above it, by the same amount, then all 2^n patterns of signs are equally likely.
    The p value is the share of the patterns whose mean lies at least as far from zero as the mean
    observed. With n values it is 2 / 2^n or more: five values cannot come below 0.05, six can reach
    0.031, ten 0.002.

    For up to 20 values all patterns are tried, and the test is exact. For more values 100,000
    patterns are drawn at random, the same ones each time, and the observed pattern counts as one
    more.

    Parameters
    ----------
    values : iterable of float
        Such as differences of paired errors: at least one, in any unit.

    Returns
    -------
    float
        Above 0, and 1 at most.

    References
    ----------
    .. [1] Fisher, "The Design of Experiments", Oliver and Boyd, 1935, section 21.
    """
    sample = np.asarray(list(values), dtype=np.float64)
    n = len(sample)
    if not n:
        raise ValueError("a test of signs wants one value or more")
    if n <= MOST_FLIPPED:
        # Each value doubles the number of sums: of 1 and 2 they are 1, -1, and then 3, 1, -1, -3.
        sums = np.zeros(1)
        for value in sample:
            sums = np.concatenate([sums + value, sums - value])
    else:
        flipped = np.random.default_rng(0).integers(0, 2, size=(PATTERNS, n))
        signs = 1 - 2 * flipped  # (patterns, n): 1 or -1
        sums = np.append(signs @ sample, sample.sum())  # the last one is the observed pattern's
    observed = np.abs(sample.sum())  # n is the same for all patterns, so sums stand for means
    rounding = 1e-9 * np.abs(sample).sum()  # sums equal on paper may differ in their last digits
    return float((np.abs(sums) >= observed - rounding).mean())


@dataclass(frozen=True)
class Ratio:
    """How many times as large our errors are as theirs, and how sure that is.

    Below 1 ours are smaller.
    """

    ratio: float
    """The geometric mean over the pairs."""
    low: float
    """Low end of its 95% t interval."""
    high: float
    """High end of its 95% t interval."""
    p: float
    """The p value of the sign-flip test of a ratio of 1."""

    @property
    def surely(self) -> bool:
        """Whether the ratio is surely not 1: the interval leaves 1 out, and p is below 0.05."""
        interval_holds_one = self.low <= 1 <= self.high
        return not interval_holds_one and self.p < 0.05


def error_ratio(ours: Iterable[float], theirs: Iterable[float]) -> Ratio:
    """The geometric mean ratio of paired errors, with its t interval and sign-flip test.

    Interval and test are those of the logarithms of the ratios, one for each pair, because there
    twice and half as large are equally far from equal. The interval's ends are taken back to
    ratios.

    Parameters
    ----------
    ours : iterable of float
        Errors above 0, at least two, in any unit, such as a forecaster's mean error on each source.
    theirs : iterable of float
        The errors that they are compared with, in the same order and unit.

    Returns
    -------
    Ratio
        Without a unit.
    """
    pairs = zip(ours, theirs, strict=True)
    logs = np.array([np.log(our / their) for our, their in pairs])
    low, high = t_interval(logs)
    return Ratio(
        ratio=float(np.exp(logs.mean())),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        p=sign_flip_p(logs),
    )


def paired_gain(ours: dict[int, float], theirs: dict[int, float]) -> dict[str, Any]:
    """The mean paired improvement with its 95% interval, and the number of series that improve.

    Parameters
    ----------
    ours : dict of int to float
        Errors by series id, scaled units, of at least two series.
    theirs : dict of int to float
        The same for the forecasts to compare with. It holds all series of `ours`; others are
        ignored.

    Returns
    -------
    dict
        `mean`: the mean of their error less ours, scaled units, above 0 where ours is better; `mean
        interval`: its `bootstrap_interval` (low, high); `better`: the number of series on which
        ours has the smaller error.
    """
    # In the order of the ids, because the bootstrap's seed draws places in this array.
    gains = np.array([theirs[series] - ours[series] for series in sorted(ours)])
    return {
        "mean": float(gains.mean()),
        "mean interval": bootstrap_interval(gains),
        "better": int((gains > 0).sum()),
    }


def band(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The central band of the samples at each step and variable.

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
    """The share of a series' true values that a band holds, its ends included.

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
    """The mean width of a band: of two forecasts with the right coverage the narrower says more.

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


def ranks(samples: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Count the samples that lie below each true value, with ties broken at random.

    This is the probability integral transform of samples. Where truth and samples come from one
    distribution, every rank from 0 to m is as likely as any other [1]_. A histogram of ranks with a
    hump in the middle tells of samples that are spread too far, one with a hollow of samples that
    are too close together.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, variables)
        In any unit.
    truth : ndarray, shape (steps, variables)
        In the same unit.
    rng : numpy Generator
        It breaks the ties.

    Returns
    -------
    ndarray of int64, shape (steps, variables)
        From 0 to m.

    References
    ----------
    .. [1] Hamill, "Interpretation of Rank Histograms for Verifying Ensemble Forecasts", Monthly
       Weather Review 129, 2001.
    """
    below = (samples < truth).sum(axis=0)
    equal = (samples == truth).sum(axis=0)
    # Of three equal samples 0, 1, 2 or 3 count as below.
    return below + rng.integers(0, equal + 1)


def conformal(scores: np.ndarray, level: float) -> np.ndarray:
    """The bound of a new score at a level, by split-conformal prediction from earlier scores [1]_.

    Of n earlier scores it is the k-th smallest, where k is (n + 1) level rounded up. If the new
    score is equally likely to take any place among them, it is at most this bound with a
    probability of at least `level`, whatever the scores' distribution.

    Parameters
    ----------
    scores : ndarray, shape (n, ...)
        Scores of series to which nothing was fitted, such as the absolute errors of a forecaster on
        validation series, (n, steps, variables). A band of the bound's half-width around its
        forecast of a new series then holds the truth with that probability.
    level : float
        Between 0 and 1.

    Returns
    -------
    ndarray, shape (...)
        In the scores' unit; infinite where n is too small for the level.

    References
    ----------
    .. [1] Lei et al., "Distribution-Free Predictive Inference for Regression", Journal of the
       American Statistical Association 113, 2018.
    """
    # The new score may be larger than all earlier ones, so an infinite one stands for it.
    infinite = np.full((1, *np.shape(scores)[1:]), np.inf)
    ascending = np.sort(np.concatenate([scores, infinite]), axis=0)
    # Rounded first, because 100 * 0.55 is 55.00000000000001, whose ceiling is 56.
    k = math.ceil(round(len(ascending) * level, 9))
    return ascending[k - 1]


def stretch_needed(samples: np.ndarray, truth: np.ndarray, level: float) -> np.ndarray:
    """The factor that stretches a band around the samples' median until it holds each true value.

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
    return median + factor * (samples - median)
