"""The season of a series, which its calendar knows: taken out before a text is written, and put
back afterwards."""

from dataclasses import dataclass, replace

import numpy as np

from m2lib.series.codec import Scaling

ENOUGH = 3  # seasons that a series has at least, for one to be found in it
NOTHING_LEFT = (
    1e-6  # of a series' range: so little is left without its season where it is nothing else
)


@dataclass(frozen=True)
class Season:
    """What each step of a season makes of a series' level: a multiple of it, or something more.
    Arrays (season, variables)."""

    factor: np.ndarray
    """What a level is multiplied by."""
    shift: np.ndarray
    """What is added to it, physical units."""

    @classmethod
    def of(cls, values: np.ndarray, length: int) -> "Season":
        """The mean season of a series, by classical decomposition [1]_.

        Where all values of a variable are positive it multiplies; where some are negative it adds.
        So nothing becomes negative that was not, and a variable that comes down to zero is left as
        it is. So is one of fewer than three seasons, and one that would be flat without.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            Physical units.
        length : int
            Steps of a season; of 1 there is none.

        Returns
        -------
        Season
            Its first step is that of `values`.

        References
        ----------
        .. [1] Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition,
           2021, section 3.4.
        """
        low = values.min(axis=0)
        level = np.where(low > 0, np.log(np.where(low > 0, values, 1.0)), values)
        pattern = np.zeros((length, values.shape[1]))
        if length > 1 and len(values) >= ENOUGH * length:
            # A window of whole seasons around a step; of an even season half of the step at each
            # end: 1/8, 1/4, 1/4, 1/4, 1/8 for quarters.
            weights = np.convolve(np.ones(length), [1.0] if length % 2 else [0.5, 0.5]) / length
            trend = np.lib.stride_tricks.sliding_window_view(level, len(weights), axis=0) @ weights
            first = len(weights) // 2
            off, places = level[first:][: len(trend)] - trend, _places(first, len(trend), length)
            found = np.stack([off[places == place].mean(axis=0) for place in range(length)])
            found -= found.mean(axis=0)
            left = level - found[_places(0, len(level), length)]
            pattern = np.where(
                (low != 0) & (np.ptp(left, axis=0) > NOTHING_LEFT * np.ptp(level, axis=0)),
                found,
                0.0,
            )
        return cls(np.exp(np.where(low > 0, pattern, 0.0)), np.where(low > 0, 0.0, pattern))

    def without(self, values: np.ndarray) -> np.ndarray:
        """A series (steps, variables) without its season."""
        now = _places(0, len(values), len(self.factor))
        return (values - self.shift[now]) / self.factor[now]

    def back(self, scaling: Scaling, first: int, steps: int) -> Scaling:
        """What makes of scaled values without season, from the step `first` on, physical ones with
        it."""
        ahead = _places(first, steps, len(self.factor))
        factor = self.factor[ahead]
        return replace(
            scaling,
            scale=scaling.scale * factor,
            offset=scaling.offset * factor + self.shift[ahead],
        )


def _places(first: int, steps: int, length: int) -> np.ndarray:
    """The place within its season of each step."""
    return np.arange(first, first + steps) % length
