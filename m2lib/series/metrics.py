"""How far off a forecast is. Everything in scaled units: 1000 is the 90th percentile of a series' own context."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap


def series_mae(forecast: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean absolute error of each series, over the steps and both variables.

    Parameters
    ----------
    forecast, truth : ndarray, shape (..., steps, 2)
        Scaled units.

    Returns
    -------
    ndarray of float64, shape (...)
        Scaled units.
    """
    return np.abs(np.asarray(forecast, dtype=np.float64) - truth).mean(axis=(-2, -1))


def crps_fair(samples: np.ndarray, truth: np.ndarray) -> float:
    """Fair continuous ranked probability score, averaged over the steps and both variables.

    For samples x_i of a value y: the mean of `|x_i - y|`, minus half the mean distance of two *different* samples [1]_,
    which makes the score independent of the number of samples in expectation. For one certain forecast it is the MAE.

    Parameters
    ----------
    samples : ndarray, shape (m, steps, 2)
        Sampled forecasts, m >= 2. Scaled units.
    truth : ndarray, shape (steps, 2)
        Scaled units.

    Returns
    -------
    float
        Scaled units; 0 is best.

    Raises
    ------
    ValueError
        For fewer than 2 samples.

    References
    ----------
    .. [1] Ferro, "Fair scores for ensemble forecasts", Quarterly Journal of the Royal Meteorological Society 140, 2014.
    """
    samples = np.sort(np.asarray(samples, dtype=np.float64), axis=0)
    m = len(samples)
    if m < 2:
        raise ValueError(f"CRPS needs at least 2 samples, got {m}")
    # With sorted samples the sum of all pairwise distances is a weighted sum of the samples. Of the three 1, 4, 9 it
    # is (4 - 1) + (9 - 1) + (9 - 4) = 16, and with the weights -2, 0, 2 also -2 * 1 + 0 * 4 + 2 * 9 = 16.
    # There are m (m - 1) / 2 pairs; half of their mean is the sum by m (m - 1), here 16 / 6.
    weights: np.ndarray = (2 * np.arange(m) - m + 1).reshape(m, 1, 1)
    half_spread = (weights * samples).sum(axis=0) / (m * (m - 1))
    return float((np.abs(samples - truth).mean(axis=0) - half_spread).mean())


@dataclass(frozen=True)
class Summary:
    """Errors of several series in short; printed as `mean 25.0 / median 15.0 (50 series)`."""

    n: int
    """Number of series."""
    mean: float
    """Scaled units."""
    median: float
    """Scaled units."""

    def __str__(self) -> str:
        return f"mean {self.mean:.1f} / median {self.median:.1f} ({self.n} series)"


def summarise(errors: Iterable[float]) -> Summary:
    """Mean and median of per-series errors.

    Parameters
    ----------
    errors : iterable of float
        One per series, scaled units.

    Returns
    -------
    Summary
        Their number, mean and median.

    Raises
    ------
    ValueError
        Where there are no errors.
    """
    values = np.asarray(list(errors), dtype=np.float64)
    if not values.size:
        raise ValueError("no errors to summarise")
    return Summary(values.size, float(values.mean()), float(np.median(values)))


def bootstrap_interval(
    errors: Iterable[float], statistic: Callable[..., float | np.ndarray] = np.mean, seed: int = 0
) -> tuple[float, float]:
    """95% percentile bootstrap interval of a statistic of per-series errors, from 10,000 resamples of the series [1]_.

    Parameters
    ----------
    errors : iterable of float
        One per series, scaled units.
    statistic : callable, optional
        `np.mean` or `np.median`.
    seed : int, optional
        Of the resampling.

    Returns
    -------
    tuple of float
        Low and high end, scaled units.

    Raises
    ------
    ValueError
        For fewer than 2 errors.

    References
    ----------
    .. [1] Efron and Tibshirani, "An Introduction to the Bootstrap", Chapman & Hall, 1993, chapter 13.
    """
    values = np.asarray(list(errors), dtype=np.float64)
    if values.size < 2:
        raise ValueError(f"an interval needs at least 2 errors, got {values.size}")
    # scipy takes a tuple of data sets; here there is one.
    options = {"batch": max(1, 10**7 // values.size), "rng": np.random.default_rng(seed)}  # 80 MB at a time
    drawn = bootstrap((values,), statistic, n_resamples=10_000, method="percentile", **options)
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def paired_gain(ours: dict[int, float], theirs: dict[int, float]) -> dict[str, float | tuple[float, float]]:
    """By how much the same series are forecast better by ours: on average, with its 95% interval, and how many are.

    Parameters
    ----------
    ours : dict of int to float
        Errors by series id, scaled units.
    theirs : dict of int to float
        The same for the forecasts to compare with: all series of `ours`, others are ignored.

    Returns
    -------
    dict
        `mean`: the mean of their error less ours, scaled units, above 0 where ours is better; `mean interval`: its
        `bootstrap_interval` (low, high); `better`: the number of series on which ours has the smaller error.

    Raises
    ------
    ValueError
        For fewer than 2 series.
    """
    gains = np.array([theirs[series] - ours[series] for series in ours])
    return {
        "mean": float(gains.mean()),
        "mean interval": bootstrap_interval(gains),
        "better": int((gains > 0).sum()),
    }


def best_and_worst(errors: dict[int, float], worst: int) -> tuple[list[int], list[int]]:
    """All but the `worst` series and the `worst` series (the report: best 30, worst 20), each by ascending error.

    Parameters
    ----------
    errors : dict of int to float
        Errors by series id.
    worst : int
        How many series are the worst, 0 to all.

    Returns
    -------
    tuple of list of int
        Series ids of the best and of the worst; of equal errors the smaller id comes first.
    """
    ranked = sorted(errors, key=lambda series: (errors[series], series))
    # Counted from the front: with worst = 0, ranked[:-worst] would be empty, not all.
    return ranked[: len(ranked) - worst], ranked[len(ranked) - worst :]
