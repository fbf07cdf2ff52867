"""The trend of a series, taken out before a text is written and put back afterwards."""

from dataclasses import dataclass, replace

import numpy as np

from m2lib.series.codec import Scaling

# The trend is that of the last three seasons, and of no fewer than 20 steps.
SEASONS = 3
FEWEST_STEPS = 20


@dataclass(frozen=True)
class Trend:
    """A straight line through 0 at the last step of a series, for each of its variables.

    With a slope of 2 a series 1 3 5 is 5 5 5 without its trend, and a forecast 5 5 becomes 7 9.
    """

    slope: np.ndarray
    """float64, shape (variables,), physical units a step."""

    @classmethod
    def of(cls, values: np.ndarray, season: int = 1) -> "Trend":
        """Fit a line by least squares to the last seasons of a series.

        A variable that touches 0 and is never negative has no trend, because its zeros would no
        longer be zeros.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            What the model is to read. Physical units.
        season : int, optional
            Steps of the season; 1: there is none.

        Returns
        -------
        Trend
            The line, which has a slope of 0 for a series of fewer than 20 steps.
        """
        if len(values) < FEWEST_STEPS:
            return cls.none(values.shape[1])
        last = values[-max(FEWEST_STEPS, SEASONS * season) :]
        slope = np.polyfit(np.arange(len(last)), last, 1)[0]
        return cls(np.where(values.min(axis=0) == 0, 0.0, slope))

    @classmethod
    def none(cls, variables: int) -> "Trend":
        """Return the trend of a series of so many variables that has none."""
        return cls(np.zeros(variables))

    def without(self, values: np.ndarray) -> np.ndarray:
        """Take the trend out of a series (steps, variables); its last step stays as it is."""
        steps_to_last = np.arange(len(values))[::-1, None]
        return values + self.slope * steps_to_last

    def back(self, scaling: Scaling, steps: int) -> Scaling:
        """Put the trend of the next `steps` steps into a scaling, (steps, variables)."""
        steps_ahead = np.arange(1, steps + 1)[:, None]
        return replace(scaling, offset=scaling.offset + self.slope * steps_ahead)
