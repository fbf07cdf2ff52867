"""How far off a forecast is. Everything in scaled units: 1000 is the 90th percentile of a series' own context."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap


def series_mae(forecast: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Mean absolute error over the steps and both variables: (..., steps, 2), (..., steps, 2) -> float64 (...)."""
    return np.abs(np.asarray(forecast, dtype=np.float64) - truth).mean(axis=(-2, -1))


def series_rmse(forecast: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Root mean square error, shapes as in `series_mae`."""
    return np.sqrt(np.square(np.asarray(forecast, dtype=np.float64) - truth).mean(axis=(-2, -1)))


def crps_fair(samples: np.ndarray, truth: np.ndarray) -> float:
    """Fair continuous ranked probability score, averaged over the steps and both variables.

    samples: (m, steps, 2), m >= 2 sampled forecasts; truth: (steps, 2). Mean |x_i - y| minus half the mean distance
    of two *different* samples, which makes the score independent of m in expectation; for one certain forecast it is
    the MAE. Source: Ferro, "Fair scores for ensemble forecasts", Q. J. R. Meteorol. Soc. 140 (2014).
    Raises ValueError for fewer than 2 samples.
    """
    samples = np.sort(np.asarray(samples, dtype=np.float64), axis=0)
    m = len(samples)
    if m < 2:
        raise ValueError(f"CRPS needs at least 2 samples, got {m}")
    # With sorted samples the sum of all pairwise distances is a weighted sum of the samples.
    weights = (2 * np.arange(m) - m + 1).reshape(m, 1, 1)
    half_spread = (weights * samples).sum(axis=0) / (m * (m - 1))
    return float((np.abs(samples - truth).mean(axis=0) - half_spread).mean())


@dataclass(frozen=True)
class Summary:
    """Errors of several series, in scaled units."""

    n: int
    mean: float
    median: float

    def __str__(self) -> str:
        return f"mean {self.mean:.1f} / median {self.median:.1f} ({self.n} series)"


def summarise(errors) -> Summary:
    """Mean and median of per-series errors (any iterable of numbers). Raises ValueError where there are none."""
    errors = np.asarray(list(errors), dtype=np.float64)
    if not errors.size:
        raise ValueError("no errors to summarise")
    return Summary(errors.size, float(errors.mean()), float(np.median(errors)))


def bootstrap_interval(errors, statistic=np.mean, seed: int = 0) -> tuple[float, float]:
    """95% percentile bootstrap interval of a statistic of per-series errors, from 10,000 resamples of the series.

    statistic: `np.mean` or `np.median`. Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), ch. 13.
    Raises ValueError for fewer than 2 errors.
    """
    errors = np.asarray(list(errors), dtype=np.float64)
    if errors.size < 2:
        raise ValueError(f"an interval needs at least 2 errors, got {errors.size}")
    drawn = bootstrap((errors,), statistic, n_resamples=10_000, method="percentile", rng=np.random.default_rng(seed))
    return float(drawn.confidence_interval.low), float(drawn.confidence_interval.high)


def paired_gain(ours: dict[int, float], theirs: dict[int, float]) -> dict:
    """By how much the same series are forecast better by ours: on average, with its 95% interval, and how many are.

    ours, theirs: errors by series id, theirs for all of ours. Returns mean, mean interval (low, high), better.
    """
    gains = np.array([theirs[series] - ours[series] for series in ours])
    return {
        "mean": float(gains.mean()),
        "mean interval": bootstrap_interval(gains),
        "better": int((gains > 0).sum()),
    }


def best_and_worst(errors: dict[int, float], worst: int) -> tuple[list[int], list[int]]:
    """Series ids by ascending error, cut into all but the `worst` and the `worst` (the report: best 30, worst 20)."""
    ranked = sorted(errors, key=lambda series: (errors[series], series))
    return ranked[: len(ranked) - worst], ranked[len(ranked) - worst :]
