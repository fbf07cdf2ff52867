"""What a forecaster is made of: a model that gives the quantiles of series."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class QuantileModel(Protocol):
    """The small network, or the language model, or one of your own."""

    def quantiles(
        self,
        series: Sequence[np.ndarray],
        horizon: int,
        seasons: Sequence[int],
        levels: Sequence[float],
    ) -> np.ndarray:
        """Forecast quantiles (series, levels, horizon, variables) of series (steps, variables)."""
