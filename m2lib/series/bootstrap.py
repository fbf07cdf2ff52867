"""Sampled forecasts without a language model: the log-VAR, with its own errors drawn again and again."""

import numpy as np

from m2lib.series.baselines import regressed
from m2lib.series.codec import FORECAST_STEPS


def log_var_paths(
    contexts: np.ndarray, n_paths: int, rng: np.random.Generator, horizon: int = FORECAST_STEPS, order: int = 3
) -> np.ndarray:
    """Sampled forecasts of each series by the residual bootstrap [1]_ of `m2lib.series.baselines.log_var`.

    The vector autoregression of log(1 + x) is fitted to a context by least squares. A path is this autoregression,
    simulated on, with one of the fit's own residuals, drawn with replacement, added at each step; both variables' come
    from the same step, so that what errs together stays together. The fit itself is taken as certain, so the paths are
    a little too sure.

    Parameters
    ----------
    contexts : ndarray, shape (n, steps, 2)
        Scaled units.
    n_paths : int
        Paths of each series.
    rng : numpy Generator
        Of the draws.
    horizon : int, optional
        Steps to forecast.
    order : int, optional
        Steps that the next one is regressed on.

    Returns
    -------
    ndarray of float64, shape (n, n_paths, horizon, 2)
        Scaled units, kept between 0 and ten times the largest value of the context.

    References
    ----------
    .. [1] Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, OTexts, 2021, section 5.5.
    """
    return np.stack([_paths(context, n_paths, rng, horizon, order) for context in np.asarray(contexts, np.float64)])


def _paths(context: np.ndarray, n_paths: int, rng: np.random.Generator, horizon: int, order: int) -> np.ndarray:
    logs, steps = np.log1p(context), len(context) - order
    rows, weights = regressed(logs, order)
    # A fit with so many free numbers comes nearer to its own data than to new ones.
    residuals = (logs[order:] - rows @ weights) * np.sqrt(steps / max(1, steps - rows.shape[1]))
    drawn = residuals[rng.integers(0, steps, (horizon, n_paths))]  # (horizon, n_paths, 2)
    recent = np.tile(logs[: -order - 1 : -1].ravel(), (n_paths, 1))  # of each path, newest first
    ahead = []
    for shocks in drawn:
        following = np.hstack([np.ones((n_paths, 1)), recent]) @ weights + shocks
        ahead.append(np.clip(following, 0, np.log1p(10 * context.max())))
        recent = np.hstack([ahead[-1], recent[:, :-2]])
    return np.expm1(np.stack(ahead, axis=1))
