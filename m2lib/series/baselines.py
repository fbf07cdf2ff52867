"""Forecasts that need no language model, beside which any headline number should be read.

All take contexts (n, steps, variables) and return forecasts (n, horizon, variables), both in scaled
units, which are never negative; `log_var` and `period_of` take logarithms of 1 + x.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from m2lib.series.codec import FORECAST_STEPS


def last_value(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """Repeat the last step of the context."""
    return np.repeat(contexts[:, -1:], horizon, axis=1)  # -1: and not -1 keeps the axis of steps


def context_mean(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """Repeat each variable's mean over the context."""
    means = np.mean(contexts, axis=1, keepdims=True)
    return np.repeat(means, horizon, axis=1)


def nearest_analogue(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """Repeat what followed the stretch of the context that is most like its last six steps.

    Stretches are compared by L1 distance, and only those that `horizon` steps of the context
    follow; of equally near ones the earliest is taken. np.stack raises ValueError where the context
    is too short to hold one.
    """
    stretch_steps = 6
    # Of 80 steps, with horizon 20, a stretch may start at steps 0 to 54, which makes 80 - 6 - 20 +
    # 1 = 55 starts: the last stretch covers steps 54 to 59, and steps 60 to 79 follow it.
    starts = contexts.shape[1] - stretch_steps - horizon + 1
    stretches = np.stack(
        [contexts[:, start : start + stretch_steps] for start in range(starts)], axis=1
    )
    last_stretch = contexts[:, None, -stretch_steps:]
    distances = np.abs(stretches - last_stretch).sum(axis=(2, 3))  # (n, starts)
    nearest_start = distances.argmin(axis=1)  # argmin takes the earliest of equals

    # Series (n, 1) beside steps (n, horizon) give (n, horizon, variables). With the nearest stretch
    # of series 7 at step 10, row 7 takes steps 16, 17, ... of series 7.
    series = np.arange(len(contexts))[:, None]
    steps = nearest_start[:, None] + stretch_steps + np.arange(horizon)
    return contexts[series, steps]


def seasonal_naive(
    contexts: np.ndarray, horizon: int = FORECAST_STEPS, period: int | None = None
) -> np.ndarray:
    """Repeat the last period of each variable.

    The period is `period` steps if that is given, else what `period_of` finds in the variable; a
    variable without one repeats its last value. Raises ValueError for contexts that are shorter
    than the given period.
    """
    if period is not None and contexts.shape[1] < period:
        raise ValueError(f"contexts of {contexts.shape[1]} steps hold no season of {period}")

    def continued(values: np.ndarray) -> np.ndarray:
        """Continue one variable: (steps,) -> (horizon,)."""
        length = period or period_of(values) or 1
        # np.resize repeats what it is given until the horizon is full: a period a b c over five
        # steps becomes a b c a b.
        return np.resize(values[-length:], horizon)

    return np.apply_along_axis(continued, 1, contexts)


def period_of(values: np.ndarray) -> int | None:
    """Find the period of one variable (steps,), in steps, by its autocorrelation.

    It is the lag at which the autocorrelation of log(1 + x), after its first fall below zero, is
    largest. Where even that is less than a tenth, the variable does not come back: it has no period
    (None). If the autocorrelation does not fall below zero within half of the steps, it has none
    either.
    """
    logs = np.log1p(np.asarray(values, dtype=np.float64))
    centred = logs - logs.mean()
    # "full" gives the lags 1 - n to n - 1, so lag 0 is at n - 1; lags 0 to n / 2 are looked at.
    n = len(centred)
    autocorrelation = np.correlate(centred, centred, "full")[n - 1 : n + n // 2]

    negative = np.flatnonzero(autocorrelation < 0)
    if not len(negative):
        return None
    first_negative = negative[0]
    period = int(first_negative + autocorrelation[first_negative:].argmax())
    if autocorrelation[period] < 0.1 * autocorrelation[0]:
        return None
    return period


def log_var(contexts: np.ndarray, horizon: int = FORECAST_STEPS, order: int = 3) -> np.ndarray:
    """Fit a vector autoregression to each series by least squares, and iterate it.

    It forecasts log(1 + x) from the `order` steps before. Forecasts are kept between 0 and ten
    times the largest value of the context, because an unstable fit grows without end.
    """
    contexts = np.asarray(contexts, dtype=np.float64)
    no_shocks = np.zeros((horizon, 1, contexts.shape[2]))  # one path, which nothing disturbs
    forecasts = []
    for context in contexts:
        weights, _ = _fit_autoregression(context, order)
        paths = _simulate_paths(context, weights, no_shocks)
        forecasts.append(paths[0])
    return np.stack(forecasts)


def log_var_paths(
    contexts: np.ndarray,
    n_paths: int,
    rng: np.random.Generator,
    horizon: int = FORECAST_STEPS,
    order: int = 3,
) -> np.ndarray:
    """Sample forecasts (n, n_paths, horizon, variables) by the residual bootstrap of `log_var`.

    A path is the fitted autoregression, simulated on; at each step one of the fit's own residuals,
    drawn with replacement, is added. The residuals of all variables come from the same step, so
    that errors that go together stay together. The fit is taken as certain, so the paths are a
    little too sure. (Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd
    edition, OTexts, 2021, section 5.5.)
    """
    paths = []
    for context in np.asarray(contexts, dtype=np.float64):
        weights, residuals = _fit_autoregression(context, order)
        # A fit comes nearer to its own data than to new ones, so its residuals are enlarged by
        # sqrt(n / (n - p)), for n residuals and p weights of each variable.
        n_residuals = len(residuals)
        n_weights = len(weights)
        enlarged = residuals * np.sqrt(n_residuals / max(1, n_residuals - n_weights))
        resampled = rng.integers(0, n_residuals, (horizon, n_paths))
        shocks = enlarged[resampled]  # (horizon, n_paths, variables)
        paths.append(_simulate_paths(context, weights, shocks))
    return np.stack(paths)


def _fit_autoregression(context: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit an autoregression to the logs of a context (steps, variables).

    The result is its weights (1 + order * variables, variables) and its residuals (steps - order,
    variables).
    """
    logs = np.log1p(context)
    # A row for each step that has `order` steps before it: 1 and those steps, newest first. Of 80
    # steps and order 3 the first row is for step 3: 1, then both variables of step 2, of step 1, of
    # step 0.
    windows = sliding_window_view(logs[:-1], order, axis=0)  # (rows, variables, order)
    newest_first = windows[..., ::-1].transpose(0, 2, 1)  # (rows, order, variables)
    lags = newest_first.reshape(len(logs) - order, -1)
    rows = np.hstack([np.ones((len(lags), 1)), lags])

    next_steps = logs[order:]
    weights = np.linalg.lstsq(rows, next_steps, rcond=None)[0]
    return weights, next_steps - rows @ weights


def _simulate_paths(context: np.ndarray, weights: np.ndarray, shocks: np.ndarray) -> np.ndarray:
    """Simulate an autoregression on from the end of a context (steps, variables).

    shocks (horizon, n_paths, variables) are added step by step; the paths are (n_paths, horizon,
    variables).
    """
    n_paths = shocks.shape[1]
    variables = context.shape[1]
    num_lags = len(weights) - 1  # order * variables numbers, from which a step is forecast
    largest = np.log1p(10 * context.max())

    newest_first = np.log1p(context)[::-1].ravel()[:num_lags]
    lags = np.tile(newest_first, (n_paths, 1))
    ones = np.ones((n_paths, 1))
    forecasts = []
    for shock in shocks:
        next_step = np.hstack([ones, lags]) @ weights + shock
        next_step = np.clip(next_step, 0, largest)
        forecasts.append(next_step)
        # The next step is forecast from this forecast, and the oldest step is forgotten.
        lags = np.hstack([next_step, lags[:, :-variables]])
    return np.expm1(np.stack(forecasts, axis=1))


BASELINES = {
    "last value, repeated": last_value,
    "mean of the context, repeated": context_mean,
    "nearest analogue in the context": nearest_analogue,
    "log-VAR(3), fitted to the context": log_var,
}
"""The plain yardsticks of the study, by the names in its records. Lectures 6, 7 and 9 and the paper
count these four, so a further one goes into `WITHOUT_MODEL` of benchmarks/yardsticks.py instead."""
