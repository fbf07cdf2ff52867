"""Views: how much of a series the model sees, and what is taken out of it beforehand.

All that the model sees of a series shares three or four digits, so each way to show it hides
something else. Sixty steps show smaller changes than three hundred do. A straight line or a
season that is taken out leaves more digits for the rest, and does harm where there was no line and
no season. That is why an adapter may share its samples out among several views of a series.
"""

from dataclasses import dataclass

import numpy as np

from m2lib.series import Scaling
from m2tables.seasons import Season
from m2tables.trends import Trend

SEASONS_SEEN = 6  # a view of few steps shows so many seasons at least
FEWEST_SEEN = 3  # seasons that a view shows at least if it leaves the season in
NOTHING_LEFT = 1e-6
"""A series whose range is at most this share of a whole's is flat beside it."""


@dataclass(frozen=True)
class View:
    """How a series is shown to the model."""

    steps: int | None = None
    """The last steps that are shown, but six seasons at least;
    None: as many as the model's window holds."""
    season: bool = True
    """Whether the season is taken out, and put back into the forecast. It is in any case if the
    model's window does not hold three of it, because then the model could not see it, and if what
    is read does not change, because then there would be nothing to write. It never is where nothing
    else is left."""
    trend: bool = False
    """Whether the trend is taken out, and goes on in the forecast, see `m2tables.trends.Trend`."""


@dataclass(frozen=True)
class Seen:
    """A series as one view shows it, and what has to be put back into its forecasts."""

    context: np.ndarray
    """float64, shape (steps, variables): what is written. Physical units."""
    season: Season
    """The season that was taken out; none where the view leaves it in."""
    trend: Trend
    """The trend that was taken out; none where the view leaves it in."""
    steps: int
    """The length of the whole series, which tells a forecast's place in the season."""

    @classmethod
    def of(cls, values: np.ndarray, season: Season, view: View, most_steps: int) -> "Seen":
        """Show a series in one way.

        Where a variable does not change in the last steps, there is nothing to be seen of it, so
        then `most_steps` are shown. A trend stays in if nothing would be left without it.

        Parameters
        ----------
        values : ndarray of float, shape (steps, variables)
            The whole series. Physical units.
        season : Season
            Its season.
        view : View
            How it is shown.
        most_steps : int
            The most steps that may be shown.

        Returns
        -------
        Seen
            What the model sees.
        """
        length = season.length
        # A view that leaves the season in does so only if the model can see the season, for which
        # the window may be too short, and if the series changes in what is read. A shop that has
        # closed does not; but without its season such a series changes again, and can be written.
        is_seen = FEWEST_SEEN * len(season.factor) <= most_steps
        may_stay = is_seen and _changes(values[-most_steps:], values)
        is_all = not _changes(season.without(values), values)  # nothing would be left to write
        if is_all or (not view.season and may_stay):
            season = Season.none(values.shape[1])
        shown_values = season.without(values)[-most_steps:]
        if view.steps is not None:
            last_steps = shown_values[-max(view.steps, SEASONS_SEEN * length) :]
            if _changes(last_steps, shown_values):
                shown_values = last_steps
        trend = Trend.none(values.shape[1])
        if view.trend:
            line = Trend.of(shown_values, length)
            if _changes(line.without(shown_values), shown_values):
                trend = line
        return cls(trend.without(shown_values), season, trend, len(values))

    def back(self, scaling: Scaling, steps: int) -> Scaling:
        """Put trend and season of the next `steps` steps into the scaling of a forecast."""
        scaling = self.trend.back(scaling, steps)
        return self.season.back(scaling, self.steps, steps)


def _changes(part: np.ndarray, whole: np.ndarray) -> bool:
    """Return whether each variable of a part (steps, variables) moves, compared with the whole."""
    return bool(np.all(np.ptp(part, axis=0) > NOTHING_LEFT * np.ptp(whole, axis=0)))
