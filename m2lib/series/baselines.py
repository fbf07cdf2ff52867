"""Forecasts that need no language model: what any headline number should be read beside.

All take contexts (n, steps, variables) in scaled units and return forecasts (n, horizon, variables)
in scaled units.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from m2lib.series.codec import FORECAST_STEPS


def last_value(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """The last step of the context, repeated."""
    return np.repeat(contexts[:, -1:], horizon, axis=1)  # -1: and not -1 keeps the axis of steps


def context_mean(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """Each variable's mean over the context, repeated."""
    return np.repeat(np.mean(contexts, axis=1, keepdims=True), horizon, axis=1)


def nearest_analogue(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """What followed the stretch of the context most like its last six steps.

    Stretches are compared by L1 distance, and only those that `horizon` steps of the context
    follow; of equals the earliest is taken. Raises ValueError, of np.stack, where the context is
    too short to hold one.
    """
    recent = 6
    # Of 80 steps, with horizon 20, a stretch may start at steps 0 to 54, which is 80 - 6 - 20 + 1 =
    # 55 starts: the last one covers steps 54 to 59, and the steps 60 to 79 follow it.
    starts = contexts.shape[1] - recent - horizon + 1
    windows = np.stack([contexts[:, start : start + recent] for start in range(starts)], axis=1)
    distances = np.abs(windows - contexts[:, None, -recent:]).sum(axis=(2, 3))  # (n, starts)
    first = (
        distances.argmin(axis=1) + recent
    )  # the first step after the nearest stretch; argmin takes the earliest
    # Series (n, 1) beside steps (n, horizon): row i is series i at its steps first[i], first[i] +
    # 1, ...
    return contexts[np.arange(len(contexts))[:, None], first[:, None] + np.arange(horizon)]


def seasonal_naive(
    contexts: np.ndarray, horizon: int = FORECAST_STEPS, period: int | None = None
) -> np.ndarray:
    """The last period of each variable, repeated: `period` steps, else what `period_of` finds, else
    the last value.

    Raises ValueError for contexts that are shorter than the given period.
    """
    if period is not None and contexts.shape[1] < period:
        raise ValueError(f"contexts of {contexts.shape[1]} steps hold no season of {period}")
    # np.resize repeats what it is given until the horizon is full: a period of 3, five steps: a b c
    # a b.
    return np.apply_along_axis(
        lambda x: np.resize(x[-(period or period_of(x) or 1) :], horizon), 1, contexts
    )


def period_of(values: np.ndarray) -> int | None:
    """The period of one variable (steps,): where the autocorrelation of log(1 + x), after its first
    fall below zero, is largest; None where it is less than a tenth there, for then the variable
    does not come back.
    """
    logs = np.log1p(np.asarray(values, dtype=np.float64))
    about = logs - logs.mean()
    lags = np.correlate(about, about, "full")[
        len(about) - 1 : len(about) + len(about) // 2
    ]  # lags 0 to half the steps
    below = np.flatnonzero(lags < 0)
    if not len(below):
        return None
    period = int(below[0] + lags[below[0] :].argmax())
    return period if lags[period] >= 0.1 * lags[0] else None


def log_var(contexts: np.ndarray, horizon: int = FORECAST_STEPS, order: int = 3) -> np.ndarray:
    """A vector autoregression of each series' log(1 + x) on `order` steps, fitted by least squares
    and iterated.

    Forecasts are kept between 0 and ten times the largest value of the context, for an unstable fit
    grows without end.
    """
    contexts = np.asarray(contexts, dtype=np.float64)
    certain = np.zeros((horizon, 1, contexts.shape[2]))
    return np.stack(
        [_continued(context, _fitted(context, order)[0], certain)[0] for context in contexts]
    )


def log_var_paths(
    contexts: np.ndarray,
    n_paths: int,
    rng: np.random.Generator,
    horizon: int = FORECAST_STEPS,
    order: int = 3,
) -> np.ndarray:
    """Sampled forecasts (n, n_paths, horizon, variables) of each series by the residual bootstrap
    of `log_var`.

    A path is the fitted autoregression, simulated on; at each step one of the fit's own residuals,
    drawn with replacement, is added. All variables' come from the same step, so that what errs
    together stays together. The fit is taken as certain, so the paths are a little too sure.
    (Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, OTexts, 2021,
    section 5.5.)
    """
    paths = []
    for context in np.asarray(contexts, dtype=np.float64):
        weights, residuals = _fitted(context, order)
        # A fit with so many free numbers comes nearer to its own data than to new ones.
        free = np.sqrt(len(residuals) / max(1, len(residuals) - len(weights)))
        drawn = rng.integers(0, len(residuals), (horizon, n_paths))
        paths.append(_continued(context, weights, (residuals * free)[drawn]))
    return np.stack(paths)


def _fitted(context: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Weights (1 + order * variables, variables) of an autoregression, and its residuals (steps -
    order, variables)."""
    logs = np.log1p(context)
    # A row for each step that has `order` steps before it: 1 and those, newest first. Of 80 steps
    # and order 3 the first row is for step 3: 1, then both variables of step 2, of step 1, of step
    # 0.
    before = (
        sliding_window_view(logs[:-1], order, axis=0)[..., ::-1]
        .transpose(0, 2, 1)
        .reshape(len(logs) - order, -1)
    )
    rows = np.hstack([np.ones((len(before), 1)), before])
    weights = np.linalg.lstsq(rows, logs[order:], rcond=None)[0]
    return weights, logs[order:] - rows @ weights


def _continued(context: np.ndarray, weights: np.ndarray, shocks: np.ndarray) -> np.ndarray:
    """Paths (n_paths, horizon, variables) of an autoregression with these shocks (horizon, n_paths,
    variables)."""
    variables, lags = context.shape[1], len(weights) - 1
    newest_first = np.log1p(context)[::-1].ravel()[:lags]
    recent, ahead = np.tile(newest_first, (shocks.shape[1], 1)), []
    for shock in shocks:
        following = np.hstack([np.ones((len(recent), 1)), recent]) @ weights + shock
        ahead.append(np.clip(following, 0, np.log1p(10 * context.max())))
        recent = np.hstack(
            [ahead[-1], recent[:, :-variables]]
        )  # the next step is forecast from this forecast
    return np.expm1(np.stack(ahead, axis=1))


BASELINES = {
    "last value, repeated": last_value,
    "mean of the context, repeated": context_mean,
    "nearest analogue in the context": nearest_analogue,
    "log-VAR(3), fitted to the context": log_var,
}
