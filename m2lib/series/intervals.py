"""How sure a difference of errors is: intervals of means, and tests for small samples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy

MOST_FLIPPED = 20  # up to so many values, all 2^n patterns of signs are tried: a million for 20
PATTERNS = 100_000  # of more values, so many patterns of signs are drawn at random
AT_ONCE = 1000  # so many of them are tried at a time: all would take 2.4 GB for 1000 values


def bootstrap_interval(
    errors: Iterable[float], statistic: Callable[..., float | np.ndarray] = np.mean, seed: int = 0
) -> tuple[float, float]:
    """Return the 95% percentile bootstrap interval of a statistic of per-series errors [1]_.

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
    """Return the interval of a mean by Student's t, as wide as a small sample needs it to be [1]_.

    For n values of mean m and standard deviation s (with the divisor n - 1) it goes from
    m - t s / sqrt(n) to m + t s / sqrt(n), where t is the (1 + level) / 2 quantile of Student's
    distribution with n - 1 degrees of freedom. For n = 10 and 95% that is 2.26, where a large
    sample has 1.96. A percentile bootstrap lacks that factor, so that from ten normal values it
    holds the mean about 90 times in 100, and not 95.

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

    Raises
    ------
    ValueError
        For fewer than two values, and for a level that does not lie between 0 and 1.

    References
    ----------
    .. [1] Student, "The Probable Error of a Mean", Biometrika 6, 1908.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; give a share between 0 and 1, such as 0.95")
    sample = np.asarray(list(values), dtype=np.float64)
    if len(sample) < 2:
        raise ValueError("an interval of a mean wants two or more observations")
    mean = sample.mean()
    standard_error = sample.std(ddof=1) / np.sqrt(len(sample))
    half_width = scipy.stats.t.ppf((1 + level) / 2, len(sample) - 1) * standard_error
    return float(mean - half_width), float(mean + half_width)


def sign_flip_p(values: Iterable[float]) -> float:
    """Return the p value of the two-sided sign-flip test of a mean of zero [1]_.

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
        Above 0, and 1 at most; 1 where a value is not finite.

    Raises
    ------
    ValueError
        Where there is no value.

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
        rng = np.random.default_rng(0)
        sums = np.full(PATTERNS + 1, sample.sum())  # the last one stays the observed pattern's
        for start in range(0, PATTERNS, AT_ONCE):
            flipped = rng.integers(0, 2, size=(AT_ONCE, n))
            signs = 1 - 2 * flipped  # (patterns, n): 1 or -1
            sums[start : start + AT_ONCE] = signs @ sample
    observed = np.abs(sample.sum())  # n is the same for all patterns, so sums stand for means
    rounding = 1e-9 * np.abs(sample).sum()  # sums equal on paper may differ in their last digits
    is_nearer = np.abs(sums) < observed - rounding  # False for NaN, which therefore proves nothing
    return float((~is_nearer).mean())


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


def error_ratio(ours: Iterable[float], theirs: Iterable[float]) -> Ratio:
    """Return the geometric mean ratio of paired errors, with its t interval and sign-flip test.

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
    """Return the mean paired improvement, its 95% interval, and the number of series that improve.

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
