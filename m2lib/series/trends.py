"""The trend of a series, taken out before a text is written and put back afterwards."""

from dataclasses import dataclass, replace

import numpy as np

from m2lib.series.codec import Scaling

FEWEST_CHANGES = 4  # the fewest changes, one after another, that a mean change is taken from
SURE = 2.0  # standard errors; a mean change of no more counts as none


@dataclass(frozen=True)
class Trend:
    """A straight line through 0 at the last step of a series, for each of its variables."""

    slope: np.ndarray
    """float64, shape (variables,), physical units a step."""

    @classmethod
    def of(cls, values: np.ndarray, horizon: int, share: float = 1.0) -> "Trend":
        """Estimate by how much a series changes over a horizon, as far as its past is sure of it.

        The change is the mean of all changes over a horizon in the past. It is shrunk by its
        uncertainty, in the way of James and Stein [1]_: where it is no larger than two of its
        standard errors there is no trend. So a series that wanders or waves seldom has one, and one
        that grows steadily keeps nearly all of its growth. A variable that touches 0 and is never
        negative has none, because its zeros would no longer be zeros.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            What the model is to read. Physical units.
        horizon : int
            Steps that are to be forecast. Changes are taken over a quarter of the past at most.
        share : float, optional
            The share of the trend that is taken out, 0 to 1; at 0 there is none.

        Returns
        -------
        Trend
            The line.

        References
        ----------
        .. [1] Efron and Morris, "Stein's Estimation Rule and Its Competitors: An Empirical Bayes
           Approach", Journal of the American Statistical Association 68, 1973.
        """
        if share == 0 or len(values) < 2 * FEWEST_CHANGES:
            return cls(np.zeros(values.shape[1]))
        span = min(horizon, len(values) // FEWEST_CHANGES)
        changes = values[span:] - values[:-span]
        mean = changes.mean(axis=0)
        # Changes that overlap repeat each other: of 60 steps, 48 changes over 12 steps each say as
        # much as five that follow one another.
        independent = len(values) / span
        squared_error = changes.var(axis=0, ddof=1) / independent
        squared_mean = np.maximum(mean**2, np.finfo(float).tiny)  # no division by 0
        certainty = np.maximum(0.0, 1 - SURE**2 * squared_error / squared_mean)
        slope = share * certainty * mean / span
        return cls(np.where(values.min(axis=0) == 0, 0.0, slope))

    def without(self, values: np.ndarray) -> np.ndarray:
        """Take the trend out of a series (steps, variables); its last step stays as it is."""
        steps_to_last = np.arange(len(values))[::-1, None]
        return values + self.slope * steps_to_last

    def back(self, scaling: Scaling, steps: int) -> Scaling:
        """Put the trend of the next `steps` steps into a scaling, (steps, variables)."""
        ahead = np.arange(1, steps + 1)[:, None]
        return replace(scaling, offset=scaling.offset + self.slope * ahead)
