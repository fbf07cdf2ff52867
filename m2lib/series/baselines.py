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
    """The last step of the context, repeated.

    Parameters
    ----------
    contexts : ndarray of int64, shape (n, steps, 2)
        Scaled units.
    horizon : int, optional
        Steps to forecast.

    Returns
    -------
    ndarray of int64, shape (n, horizon, 2)
        Scaled units.
    """
    return np.repeat(np.asarray(contexts)[:, -1:], horizon, axis=1)  # -1: and not -1 keeps the axis of steps


def context_mean(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """Each variable's mean over the context, repeated.

    Parameters
    ----------
    contexts : ndarray of int64, shape (n, steps, 2)
        Scaled units.
    horizon : int, optional
        Steps to forecast.

    Returns
    -------
    ndarray of float64, shape (n, horizon, 2)
        Scaled units.
    """
    return np.repeat(np.mean(contexts, axis=1, keepdims=True), horizon, axis=1)


def nearest_analogue(contexts: np.ndarray, horizon: int = FORECAST_STEPS, recent: int = 6) -> np.ndarray:
    """What followed the stretch of the context most like its last `recent` steps.

    Stretches are compared by L1 distance, and only those that `horizon` steps of the context follow; of equals the
    earliest is taken.

    Parameters
    ----------
    contexts : ndarray of int64, shape (n, steps, 2)
        Scaled units.
    horizon : int, optional
        Steps to forecast.
    recent : int, optional
        Steps of a stretch.

    Returns
    -------
    ndarray of int64, shape (n, horizon, 2)
        Scaled units.

    Raises
    ------
    ValueError
        Where the context is too short to hold one such stretch.
    """
    contexts = np.asarray(contexts)
    # Of 80 steps, with recent 6 and horizon 20, a stretch may start at steps 0 to 54, which is 80 - 6 - 20 + 1 = 55
    # starts: the last one covers steps 54 to 59, and the steps 60 to 79 follow it.
    starts = contexts.shape[1] - recent - horizon + 1
    if starts < 1:
        raise ValueError(f"contexts of {contexts.shape[1]} steps hold no stretch of {recent} with {horizon} after it")
    windows = np.stack([contexts[:, start : start + recent] for start in range(starts)], axis=1)
    distances = np.abs(windows - contexts[:, None, -recent:]).sum(axis=(2, 3))  # (n, starts)
    first = distances.argmin(axis=1) + recent  # the first step after the nearest stretch; argmin takes the earliest
    # Series (n, 1) beside steps (n, horizon): row i is series i at its steps first[i], first[i] + 1, ...
    return contexts[np.arange(len(contexts))[:, None], first[:, None] + np.arange(horizon)]


def seasonal_naive(contexts: np.ndarray, horizon: int = FORECAST_STEPS, period: int | None = None) -> np.ndarray:
    """The last period of each variable, repeated; the last value where `period_of` finds none.

    Parameters
    ----------
    contexts : ndarray, shape (n, steps, 2)
        Scaled units.
    horizon : int, optional
        Steps to forecast.
    period : int, optional
        Steps of the period, where it is known. Default: found in each variable.

    Returns
    -------
    ndarray, shape (n, horizon, 2)
        Scaled units, in the contexts' dtype.

    Raises
    ------
    ValueError
        For contexts that are shorter than the given period.
    """
    contexts = np.asarray(contexts)
    if period is not None and contexts.shape[1] < period:
        raise ValueError(f"contexts of {contexts.shape[1]} steps hold no season of {period}")
    ahead = np.empty((len(contexts), horizon, contexts.shape[2]), dtype=contexts.dtype)
    for i, context in enumerate(contexts):
        for j, values in enumerate(context.T):
            # np.resize repeats what it is given until the horizon is full: a period of 3, five steps: a b c a b.
            ahead[i, :, j] = np.resize(values[-(period or period_of(values) or 1) :], horizon)
    return ahead


def period_of(values: np.ndarray, least: float = 0.1) -> int | None:
    """The period of one variable: where the autocorrelation of log(1 + x) is largest after its first fall below zero.

    Parameters
    ----------
    values : ndarray, shape (steps,)
        One variable of a context, in any unit.
    least : float, optional
        The autocorrelation there that makes it a period.

    Returns
    -------
    int or None
        Steps, at most half of those there are; None for a variable that does not come back.
    """
    logs = np.log1p(np.asarray(values, dtype=np.float64))
    about = logs - logs.mean()
    lags = np.correlate(about, about, "full")[len(about) - 1 : len(about) + len(about) // 2]  # lags 0 to half the steps
    below = np.flatnonzero(lags < 0)
    if not len(below):
        return None
    period = int(below[0] + lags[below[0] :].argmax())
    return period if lags[period] >= least * lags[0] else None


def log_var(contexts: np.ndarray, horizon: int = FORECAST_STEPS, order: int = 3) -> np.ndarray:
    """A vector autoregression of each series' log(1 + x), fitted by least squares and iterated.

    Forecasts are kept between 0 and ten times the largest value of the context, for an unstable fit grows without end.

    Parameters
    ----------
    contexts : ndarray, shape (n, steps, 2)
        Scaled units.
    horizon : int, optional
        Steps to forecast.
    order : int, optional
        Steps that the next one is regressed on.

    Returns
    -------
    ndarray of float64, shape (n, horizon, 2)
        Scaled units.
    """
    forecasts = []
    for context in np.asarray(contexts, dtype=np.float64):
        logs = np.log1p(context)
        weights = regressed(logs, order)[1]
        for _ in range(horizon):
            ahead = np.clip(_lags(logs, order) @ weights, 0, np.log1p(10 * context.max()))
            logs = np.vstack([logs, ahead])  # the next step is forecast from this forecast
        forecasts.append(np.expm1(logs[-horizon:]))
    return np.stack(forecasts)


def regressed(logs: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """The least squares of a vector autoregression: each step on 1 and the steps before it.

    Parameters
    ----------
    logs : ndarray of float64, shape (steps, variables)
        More than `order` steps.
    order : int
        Steps that the next one is regressed on.

    Returns
    -------
    rows : ndarray of float64, shape (steps - order, 1 + variables * order)
        For each step that has so many before it, 1 and those, newest first: of 80 steps and order 3, for the steps 3 to
        79.
    weights : ndarray of float64, shape (1 + variables * order, variables)
        `rows @ weights` is nearest to these steps.
    """
    rows = np.stack([_lags(logs[:end], order) for end in range(order, len(logs))])
    return rows, np.linalg.lstsq(rows, logs[order:], rcond=None)[0]


def _lags(logs: np.ndarray, order: int) -> np.ndarray:
    """1 and the last `order` steps, newest first: shape (1 + 2 * order,)."""
    return np.concatenate([[1.0], logs[: -order - 1 : -1].ravel()])  # order 3: [:-4:-1] is steps -1, -2, -3


BASELINES = {
    "last value, repeated": last_value,
    "mean of the context, repeated": context_mean,
    "nearest analogue in the context": nearest_analogue,
    "log-VAR(3), fitted to the context": log_var,
}


def baseline_maes(series: "SeriesSet", ids: Sequence[int]) -> dict[str, dict[int, float]]:
    """The error of each of BASELINES on each series.

    Parameters
    ----------
    series : SeriesSet
        The data set.
    ids : sequence of int
        The series to forecast.

    Returns
    -------
    dict of str to dict of int to float
        MAE by baseline and series id, scaled units.
    """
    ids = list(ids)
    integers = to_integers(series.trajectories[ids], series.scales[ids])
    contexts, truths = integers[:, :CONTEXT_STEPS], integers[:, CONTEXT_STEPS:]
    return {
        name: dict(zip(ids, series_mae(forecast(contexts), truths).tolist(), strict=True))
        for name, forecast in BASELINES.items()
    }
