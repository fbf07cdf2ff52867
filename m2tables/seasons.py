"""The season of a series, taken out before it is forecast and put back afterwards."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

from m2lib.series.codec import Scaling

FEWEST_SEASONS = 2  # the repetitions that a season is estimated from, at least
# A value counts as an outlier if it is so many times as far from trend and season as the mean of
# all values is. Of 1000 values from a normal distribution the farthest is 4 times as far.
OUTLIER = 8.0
# A factor below LEAST_FACTOR is that of a step that is nearly always 0. Divided by so small a
# number, such a step would say nothing about the level. So a series with such steps is lifted by
# LIFT of its mean first, and their factor is then some 0.05 / 1.05.
LEAST_FACTOR = 0.05
LIFT = 0.05
# A season multiplies where the values are nearer to it, by this factor, than to one that is added.
# (Two repetitions are met exactly by either.)
NEARER = 0.99
# Where more than this share of the values is 0, the zeros may stand anywhere, as those of counts
# and of rain do, or at fixed steps, as those of the night. Only at fixed steps a season explains
# more than EXPLAINED of the mean distance from the trend.
MANY_ZEROS = 0.1
EXPLAINED = 0.5


@dataclass(frozen=True)
class Season:
    """What a season does to a series at each of its steps: value = factor * level + shift.

    The arrays have shape (length of the season, variables). A season that is added has factors of
    1. One that multiplies has shifts of 0, or if the series was lifted, all of minus the lift.
    """

    factor: np.ndarray
    """The factor by which the level of a series is multiplied."""
    shift: np.ndarray
    """The shift that is then added, in physical units."""
    length: int = 1
    """Steps of the season that the series is known to have, whether it was taken out or not."""

    @classmethod
    def of(cls, values: np.ndarray, length: int) -> "Season":
        """Estimate the season of a series by classical decomposition [1]_, with medians.

        The season of a variable is added, or multiplies where no value is negative and the values
        are nearer to such a one. It is the median over all repetitions, and outliers are left out
        of the trend, so one zero or one wrong value changes little. A variable with steps that are
        nearly always 0, such as the nights of solar power, is lifted a little before it is divided
        by its season.

        A variable of fewer than two seasons is left as it is. So is one with zeros at any time,
        such as counts or rain, of which a season explains little.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            Physical units.
        length : int
            Number of steps of the season; with 1 there is none.

        Returns
        -------
        Season
            Its first step is the first step of `values`.

        References
        ----------
        .. [1] Hyndman and Athanasopoulos, "Forecasting: principles and practice", 3rd edition,
           2021, section 3.4.
        """
        # Where nothing is taken out, nothing of a season's length is allocated: a day in steps of a
        # second has 86,400.
        estimated = length if FEWEST_SEASONS * length <= len(values) else 1
        factor = np.ones((estimated, values.shape[1]))
        shift = np.zeros_like(factor)
        if estimated > 1:
            for variable, series in enumerate(values.T):
                factor[:, variable], shift[:, variable] = _estimate(series, estimated)
        return cls(factor, shift, length)

    @classmethod
    def none(cls, variables: int) -> "Season":
        """Return the season of a series of so many variables that has none."""
        return cls(np.ones((1, variables)), np.zeros((1, variables)))

    def without(self, values: np.ndarray) -> np.ndarray:
        """Take the season out of a series (steps, variables)."""
        places = _places(0, len(values), len(self.factor))
        return (values - self.shift[places]) / self.factor[places]

    def back(self, scaling: Scaling, first: int, steps: int) -> Scaling:
        """Put the season of `steps` steps, from the step `first` on, into a scaling.

        The result makes physical values with their season of scaled values without it. From
        level = (scaled - start) / unit * scale + offset and value = factor * level + shift follows
        value = (scaled - start) / unit * (factor * scale) + (factor * offset + shift).
        """
        places = _places(first, steps, len(self.factor))
        factor = self.factor[places]
        return replace(
            scaling,
            scale=scaling.scale * factor,
            offset=scaling.offset * factor + self.shift[places],
        )


def _estimate(values: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the factors and shifts (length,) of the season of one variable, values (steps,)."""
    ordinary = _without_outliers(values, length)
    trend = _moving_average(ordinary, length)
    first = length // 2  # the first step that has a trend
    middle = ordinary[first : first + len(trend)]
    places = _places(first, len(trend), length)

    shift = _by_place(middle - trend, first, length)
    distance = np.abs(middle - (trend + shift[places])).mean()
    season = np.ones(length), shift - shift.mean()
    if values.min() >= 0:
        factor, lift = _multiplicative_season(middle, trend, first, length)
        fitted = factor[places] * (trend + lift) - lift
        its_distance = np.abs(middle - fitted).mean()
        if its_distance < NEARER * distance:
            distance = its_distance
            season = factor / factor.mean(), np.full(length, -lift)

    explains_little = distance > (1 - EXPLAINED) * np.abs(middle - trend).mean()
    if np.mean(values == 0) > MANY_ZEROS and explains_little:
        return np.ones(length), np.zeros(length)
    return season


def _multiplicative_season(
    values: np.ndarray, trend: np.ndarray, first: int, length: int
) -> tuple[np.ndarray, float]:
    """Return the factors (length,) of values (steps,) by trend, and the lift of both.

    `first` is the step of the first value.
    """
    # Where the trend reaches 0 nothing can be divided by it: factors of 0 are below LEAST_FACTOR,
    # so the series is lifted.
    factor = np.zeros(length)
    lift = 0.0
    if trend.min() > 0:
        factor = _by_place(values / trend, first, length)
    if factor.min() < LEAST_FACTOR:
        lift = LIFT * float(values.mean())
        if lift == 0:  # nothing but zeros
            return np.ones(length), 0.0
        factor = _by_place((values + lift) / (trend + lift), first, length)
    return factor, lift


def _without_outliers(values: np.ndarray, length: int) -> np.ndarray:
    """Replace the outliers of values (steps,) by what trend and season say.

    This trend is the moving median of a whole season. It is coarser than the moving average, but a
    single value, however wrong, does not move it.
    """
    # (NumPy would take the median of each window anew: of minutes and their week gigabytes.)
    middle = pd.Series(values).rolling(length).median().to_numpy()[length - 1 :]
    if length % 2 == 0:  # an even season has two middles
        middle = (middle[1:] + middle[:-1]) / 2
    # At both ends the trend goes on as it last was, so that each place of the season has a value in
    # every repetition. (A moving average has none for half a season at either end. Of three seasons
    # that would leave two values for each place, and the median of two is their mean, which an
    # outlier moves.)
    steps = np.arange(len(values))
    trend = np.interp(steps, np.arange(len(middle)) + length // 2, middle)
    season = _by_place(values - trend, 0, length)
    expected = trend + season[steps % length]
    distance = np.abs(values - expected)
    return np.where(distance > OUTLIER * distance.mean(), expected, values)


def _moving_average(values: np.ndarray, length: int) -> np.ndarray:
    """Return the trend of values (steps,), from step `length // 2` to as many before the end."""
    # The average around a step is over one whole season. If its length is even, the steps at both
    # ends count half: 1/8, 1/4, 1/4, 1/4, 1/8 for quarters.
    ends = [1.0] if length % 2 else [0.5, 0.5]
    weights = np.convolve(np.ones(length), ends) / length
    trend: np.ndarray = sliding_window_view(values, len(weights)) @ weights
    return trend


def _by_place(values: np.ndarray, first: int, length: int) -> np.ndarray:
    """Return the medians (length,) by place in the season, of values (steps,) from step `first`."""
    # Of a season of 4 whose first value is at place 2, place 3 has the values 1, 5, 9 and so on.
    places = _places(first, len(values), length)
    ordered = values[np.lexsort((values, places))]  # those of place 0, ascending, of place 1, ...
    counts = np.bincount(places)
    starts = np.cumsum(counts) - counts
    low = ordered[starts + (counts - 1) // 2]
    high = ordered[starts + counts // 2]
    return (low + high) / 2


def _places(first: int, steps: int, length: int) -> np.ndarray:
    """Return the place of each step within its season: 2, 3, 0, 1, ... for first 2 and length 4."""
    return np.arange(first, first + steps) % length
