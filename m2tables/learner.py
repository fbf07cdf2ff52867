"""What a forecaster is made of: whoever forecasts the quantiles of series."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Learner(Protocol):
    """What forecasts series: the small network, or the language model."""

    def quantiles(
        self,
        series: Sequence[np.ndarray],
        horizon: int,
        seasons: Sequence[int],
        levels: Sequence[float],
    ) -> np.ndarray:
        """Forecast quantiles (series, levels, horizon, variables) of series (steps, variables)."""
