"""How sure: intervals of mean errors, tests for small samples, and bands of forecasts by samples.

Samples are (m, steps, 2) and truths (steps, 2), both in scaled units. Functions of samples take one
series; over several, take the mean, or put the ranks together.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

MOST_FLIPPED = 20  # values, of which all patterns of signs are tried, a million
PATTERNS = 100_000  # of signs, that are tried of more values


def bootstrap_interval(
    errors: Iterable[float], statistic: Callable[..., float | np.ndarray] = np.mean, seed: int = 0
) -> tuple[float, float]:
    """95% percentile bootstrap interval of a statistic of per-series errors, from 10,000 resamples
    of the series [1]_.

    Parameters
    ----------
    errors : iterable of float
        One per series, two at least, scaled units.
    statistic : callable, optional
        `np.mean` or `np.median`.
    seed : int, optional
        Of the resampling.

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
    # scipy takes a tuple of data sets; here there is one. A batch says how much memory is taken,
    # and nothing else.
    drawn = scipy.stats.bootstrap(
        (values,), statistic, n_resamples=10_000, batch=1000, method="percentile", rng=rng
    )
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def t_interval(values: Iterable[float], level: float = 0.95) -> tuple[float, float]:
    """The interval of a mean by Student's t, as wide as a small sample needs it to be [1]_.

    From n values of mean m and standard deviation s (its squares divided by n - 1) it goes from m -
    t s / sqrt(n) to m + t s / sqrt(n), where t is the (1 + level) / 2 quantile of Student's
    distribution of n - 1 degrees of freedom. For n = 10 and 95% that is 2.26, where a large sample
    has 1.96. A percentile bootstrap knows nothing of that factor: of ten normal values it holds the
    mean about 91 times in 100, and not 95.

    Parameters
    ----------
    values : iterable of float
        Independent of each other, two at least, in any unit.
    level : float, optional
        How often such an interval holds the mean that it is about, where the values are normally
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
    error = sample.std(ddof=1) / np.sqrt(len(sample))
    reach = scipy.stats.t.ppf((1 + level) / 2, len(sample) - 1) * error
    return float(sample.mean() - reach), float(sample.mean() + reach)


def sign_flip_p(values: Iterable[float]) -> float:
    """The sign-flip test of a mean of zero, from both sides: Fisher's randomisation test of paired
    values [1]_.

    If each value is as likely to lie below zero as above it, by the same amount, then all 2^n
    patterns of signs are equally likely. The p value is the share of the patterns whose mean lies
    at least as far from zero as the mean observed. With n values it is 2 / 2^n or more: five cannot
    come below 0.05, six can reach 0.031, ten 0.002.

    Up to 20 values all patterns are tried, and the test is exact. Of more values 100,000 patterns
    are drawn at random, the same ones each time, and the observed pattern counts as one more.

    Parameters
    ----------
    values : iterable of float
        Such as differences of paired errors; at least one, in any unit.

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
        # Bit i of a pattern's number is the sign of value i: pattern 5 of three values, binary 101,
        # is -, +, -.
        flipped = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        flipped = np.random.default_rng(0).integers(0, 2, size=(PATTERNS, n))
        flipped = np.concatenate([flipped, np.zeros((1, n), dtype=flipped.dtype)])
    sums = np.abs((1 - 2 * flipped) @ sample)
    rounding = (
        1e-9 * np.abs(sample).sum()
    )  # two sums that are equal on paper may differ in their last digits
    return float((sums >= np.abs(sample.sum()) - rounding).mean())


@dataclass(frozen=True)
class Ratio:
    """How many times as large our errors are as theirs, and how sure that is. Below 1 ours are
    smaller."""

    ratio: float
    """The geometric mean over the pairs."""
    low: float
    """Low end of its 95% t interval."""
    high: float
    """High end of its 95% t interval."""
    p: float
    """Of the sign-flip test of a ratio of 1."""

    @property
    def surely(self) -> bool:
        """Whether both say that the ratio is not 1: the interval leaves it out, and p is below
        0.05."""
        return not self.low <= 1 <= self.high and self.p < 0.05


def error_ratio(ours: Iterable[float], theirs: Iterable[float]) -> Ratio:
    """The ratio of paired errors in geometric mean, with its t interval and the exact sign-flip
    test.

    Both are made of the logarithms of the ratios, one of each pair: there twice and half as large
    are equally far from equal. The interval's ends are taken back to ratios.

    Parameters
    ----------
    ours : iterable of float
        Errors above 0, two at least, in any unit: such as a forecaster's mean error on each source.
    theirs : iterable of float
        What they are compared with, in the same order and unit.

    Returns
    -------
    Ratio
        Without a unit.
    """
    pairs = zip(ours, theirs, strict=True)
    logs = np.array([np.log(mine / other) for mine, other in pairs])
    low, high = t_interval(logs)
    return Ratio(
        ratio=float(np.exp(logs.mean())),
        low=float(np.exp(low)),
        high=float(np.exp(high)),
        p=sign_flip_p(logs),
    )


def paired_gain(ours: dict[int, float], theirs: dict[int, float]) -> dict[str, Any]:
    """Mean paired improvement with its 95% interval, and the number of series that improve.

    Parameters
    ----------
    ours : dict of int to float
        Errors by series id, scaled units; two series at least.
    theirs : dict of int to float
        The same for the forecasts to compare with: all series of `ours`, others are ignored.

    Returns
    -------
    dict
        `mean`: the mean of their error less ours, scaled units, above 0 where ours is better; `mean
        interval`: its `bootstrap_interval` (low, high); `better`: the number of series on which
        ours has the smaller error.
    """
    gains = np.array(
        [theirs[series] - ours[series] for series in sorted(ours)]
    )  # a seed's resamples are of places
    return {
        "mean": float(gains.mean()),
        "mean interval": bootstrap_interval(gains),
        "better": int((gains > 0).sum()),
    }


def band(samples: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """The central band of the samples at each step and variable.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        At least one forecast; scaled units.
    level : float
        The share of the samples inside, between 0 and 1: 0.8 is from the 10th to the 90th
        percentile.

    Returns
    -------
    tuple of ndarray of float64, shape (steps, 2)
        Low and high end, scaled units.
    """
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
        As in `band`. Where the samples are as uncertain as they should be, the mean of the share is
        near it.

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


def ranks(samples: np.ndarray, truth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How many of the samples lie below each true value, ties by lot: the probability integral
    transform of samples.

    Where truth and samples come from one distribution, every rank from 0 to m is as likely as any
    other [1]_; a histogram with a hump in the middle tells of samples that are spread too far, one
    with a hollow of too little.

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
    .. [1] Hamill, "Interpretation of Rank Histograms for Verifying Ensemble Forecasts", Monthly
       Weather Review 129, 2001.
    """
    below, equal = (samples < truth).sum(axis=0), (samples == truth).sum(axis=0)
    return below + rng.integers(
        0, equal + 1
    )  # three equal ones: 0, 1, 2 or 3 of them count as below


def conformal(scores: np.ndarray, level: float) -> np.ndarray:
    """What a new score stays within at this level, as scores of the same kind tell: split-conformal
    prediction [1]_.

    Of n earlier scores it is the k-th smallest, k = (n + 1) level rounded up: where the new score
    is as likely to take any place among them, it is one of the k smallest with at least that
    chance, whatever the scores' distribution.

    Parameters
    ----------
    scores : ndarray, shape (n, ...)
        What must not have been fitted to, as the absolute errors of a forecaster on validation
        series, (n, steps, 2); a band of this half-width around its forecast of a new series then
        holds the truth.
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
    no_bound = np.full((1, *np.shape(scores)[1:]), np.inf)  # the new score may be larger than all
    return np.quantile(np.concatenate([scores, no_bound]), level, axis=0, method="inverted_cdf")


def stretch_needed(samples: np.ndarray, truth: np.ndarray, level: float) -> np.ndarray:
    """How far a band must be stretched around the samples' median until it just holds each true
    value.

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
        1 where the truth lies on an end of the band, 0 on the median; infinite where the band has
        no width on the truth's side. `conformal` makes one factor of those of many series, as [1]_
        does by addition.

    References
    ----------
    .. [1] Romano, Patterson and Candès, "Conformalized Quantile Regression", NeurIPS, 2019.
    """
    (low, high), middle = band(samples, level), np.median(samples, axis=0)
    off, reach = np.abs(truth - middle), np.where(truth < middle, middle - low, high - middle)
    return np.divide(off, reach, out=np.where(off > 0, np.inf, 0.0), where=reach > 0)


def stretched(samples: np.ndarray, factor: float) -> np.ndarray:
    """The samples, moved away from their median by a factor (below 1 towards it), which stretches
    all bands by it.

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
    """
    middle = np.median(samples, axis=0)
    return np.maximum(middle + factor * (samples - middle), 0)
