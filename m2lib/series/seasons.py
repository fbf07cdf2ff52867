"""The season of a series, taken out before a text is written and put back afterwards."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from m2lib.series.codec import Scaling

ENOUGH = 3  # a season is estimated from at least this many of its repetitions
# A series whose range without its season is less than this share of its range is flat without it.
NOTHING_LEFT = 1e-6


@dataclass(frozen=True)
class Season:
    """What a season does to a series at each of its steps: value = factor * level + shift.

    The arrays have shape (length of the season, variables). Of each variable either all factors are
    1 or all shifts are 0.
    """

    factor: np.ndarray
    """The factor by which the level of a series is multiplied."""
    shift: np.ndarray
    """The shift that is added to it, in physical units."""

    @classmethod
    def of(cls, values: np.ndarray, length: int) -> "Season":
        """Estimate the mean season of a series by classical decomposition [1]_.

        The season of a variable multiplies if all its values are positive, so that none becomes
        negative; it is added if some are negative. A variable whose smallest value is zero is left
        as it is. So is one of fewer than three seasons, and one that would be flat without its
        season.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            Physical units.
        length : int
            Number of steps of a season; with 1 there is none.

        Returns
        -------
        Season
            Its first step is the first step of `values`.

        References
        ----------
        .. [1] Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition,
           2021, section 3.4.
        """
        low = values.min(axis=0)
        multiplies = low > 0
        # The log of a product is a sum, so both kinds of season are estimated as what is added.
        logs = np.log(np.where(multiplies, values, 1.0))
        additive = np.where(multiplies, logs, values)

        pattern = np.zeros((length, values.shape[1]))
        if length > 1 and len(values) >= ENOUGH * length:
            estimate = _additive_pattern(additive, length)
            without = additive - estimate[_places(0, len(additive), length)]
            varies = np.ptp(without, axis=0) > NOTHING_LEFT * np.ptp(additive, axis=0)
            pattern = np.where((low != 0) & varies, estimate, 0.0)
        return cls(
            factor=np.exp(np.where(multiplies, pattern, 0.0)),
            shift=np.where(multiplies, 0.0, pattern),
        )

    def without(self, values: np.ndarray) -> np.ndarray:
        """Take the season out of a series (steps, variables)."""
        places = _places(0, len(values), len(self.factor))
        return (values - self.shift[places]) / self.factor[places]

    def back(self, scaling: Scaling, first: int, steps: int) -> Scaling:
        """Put the season of `steps` steps, from the step `first` on, into a scaling.

        The result makes physical values with their season of scaled values without it. From
        level = scaled / unit * scale + offset and value = factor * level + shift follows
        value = scaled / unit * (factor * scale) + (factor * offset + shift).
        """
        places = _places(first, steps, len(self.factor))
        factor = self.factor[places]
        return replace(
            scaling,
            scale=scaling.scale * factor,
            offset=scaling.offset * factor + self.shift[places],
        )


def _additive_pattern(values: np.ndarray, length: int) -> np.ndarray:
    """Estimate what a season adds at each of its steps: (length, variables), of mean 0.

    It is the mean deviation of values (steps, variables) from their trend, a moving average.
    """
    # The average around a step is over one whole season. If its length is even, the steps at both
    # ends count half: 1/8, 1/4, 1/4, 1/4, 1/8 for quarters.
    ends = [1.0] if length % 2 else [0.5, 0.5]
    weights = np.convolve(np.ones(length), ends) / length
    trend = sliding_window_view(values, len(weights), axis=0) @ weights

    first = len(weights) // 2  # the first step that has a trend
    deviations = values[first : first + len(trend)] - trend
    places = _places(first, len(trend), length)
    means = np.stack([deviations[places == place].mean(axis=0) for place in range(length)])
    return means - means.mean(axis=0)


def _places(first: int, steps: int, length: int) -> np.ndarray:
    """The place of each step within its season: 2, 3, 0, 1, ... for first 2 and length 4."""
    return np.arange(first, first + steps) % length
