"""Forecasts that need no language model: what any headline number should be read beside.

All take contexts (n, steps, 2) in scaled units and return forecasts (n, horizon, 2) in scaled units.
"""

import numpy as np

from m2lib.codec import FORECAST_STEPS


def last_value(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """The last step of the context, repeated: int64."""
    return np.repeat(np.asarray(contexts)[:, -1:], horizon, axis=1)


def context_mean(contexts: np.ndarray, horizon: int = FORECAST_STEPS) -> np.ndarray:
    """Each variable's mean over the context, repeated: float64."""
    return np.repeat(np.mean(contexts, axis=1, keepdims=True), horizon, axis=1)
