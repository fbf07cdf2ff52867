"""Forecasts that need no language model: what any headline number should be read beside.

All take contexts (n, steps, 2) in scaled units and return forecasts (n, horizon, 2) in scaled units.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from m2lib.series.codec import CONTEXT_STEPS, FORECAST_STEPS, to_integers
from m2lib.series.metrics import series_mae

if TYPE_CHECKING:
    from m2lib.series.data import SeriesSet


def last_value(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """The last step of the context, repeated: int64."""
    return np.repeat(np.asarray(contexts)[:, -1:], horizon, axis=1)


def context_mean(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """Each variable's mean over the context, repeated: float64."""
    return np.repeat(np.mean(contexts, axis=1, keepdims=True), horizon, axis=1)


def nearest_analogue(contexts: np.ndarray, horizon: int = FORECAST_STEPS, recent: int = 6) -> np.ndarray:
    """What followed the stretch of the context most like its last `recent` steps (L1 distance): int64.

    Only stretches that `horizon` steps of the context follow are compared; of equals the earliest is taken.
    Raises ValueError where the context is too short to hold one.
    """
    contexts = np.asarray(contexts)
    starts = contexts.shape[1] - recent - horizon + 1
    if starts < 1:
        raise ValueError(f"contexts of {contexts.shape[1]} steps hold no stretch of {recent} with {horizon} after it")
    windows = np.stack([contexts[:, start : start + recent] for start in range(starts)], axis=1)
    distances = np.abs(windows - contexts[:, None, -recent:]).sum(axis=(2, 3))
    first = distances.argmin(axis=1) + recent
    return contexts[np.arange(len(contexts))[:, None], first[:, None] + np.arange(horizon)]


def log_var(contexts: np.ndarray, horizon: int = FORECAST_STEPS, order: int = 3) -> np.ndarray:
    """A vector autoregression of each series' log(1 + x), fitted by least squares and iterated: float64.

    Forecasts are kept between 0 and ten times the largest value of the context, for an unstable fit grows without end.
    """
    forecasts = []
    for context in np.asarray(contexts, dtype=np.float64):
        logs = np.log1p(context)
        rows = np.stack([_lags(logs[:end], order) for end in range(order, len(logs))])
        weights = np.linalg.lstsq(rows, logs[order:], rcond=None)[0]
        for _ in range(horizon):
            ahead = np.clip(_lags(logs, order) @ weights, 0, np.log1p(10 * context.max()))
            logs = np.vstack([logs, ahead])
        forecasts.append(np.expm1(logs[-horizon:]))
    return np.stack(forecasts)


def _lags(logs: np.ndarray, order: int) -> np.ndarray:
    """1 and the last `order` steps, newest first."""
    return np.concatenate([[1.0], logs[: -order - 1 : -1].ravel()])


BASELINES = {
    "last value, repeated": last_value,
    "mean of the context, repeated": context_mean,
    "nearest analogue in the context": nearest_analogue,
    "log-VAR(3), fitted to the context": log_var,
}


def baseline_maes(series: "SeriesSet", ids: Sequence[int]) -> dict[str, dict[int, float]]:
    """Errors of each of BASELINES by series id, scaled units."""
    ids = list(ids)
    integers = to_integers(series.trajectories[ids], series.scales[ids])
    contexts, truths = integers[:, :CONTEXT_STEPS], integers[:, CONTEXT_STEPS:]
    return {
        name: dict(zip(ids, series_mae(forecast(contexts), truths).tolist(), strict=True))
        for name, forecast in BASELINES.items()
    }
