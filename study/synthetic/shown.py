"""Series of exponential smoothing, shown to the model as a forecaster shows a reader's series.

AutoETS, the best forecaster of many real series, takes them for series of this kind. And `general`
often reads what is left of a series once a season or a line has been taken out, as happens in half
of these training steps. Season and line are estimated from the series itself, which leaves traces:
a line through the last twenty steps of a random walk, for example, is always a little too steep, so
what follows bends back. The model learns this here.
"""

from dataclasses import dataclass

import numpy as np

from m2lib.forecaster import View
from m2lib.forecaster.views import Seen
from m2lib.series import Season
from study.synthetic.families import draw_series, log_uniform, standard

VIEWS = (View(60, trend=True), View(), View(60, season=False))
"""How `general` is shown a series, as `benchmarks.trials` chose."""
SEASONS = {1: 0.45, 4: 0.2, 7: 0.1, 12: 0.2, 24: 0.05}
"""The lengths of seasons, in steps, and how often each is drawn; 1: none."""
OF_SMOOTHING = 0.7
"""The share of series of exponential smoothing; the others are of all families."""
LEAST_PAST = 30  # steps before the forecast, at least
MOST_PAST = 400
LEAST_AHEAD, MOST_AHEAD = 4, 30


def smoothing(rng: np.random.Generator, steps: int, season: int = 1) -> np.ndarray:
    """Draw a series of exponential smoothing (steps,), with a season of `season` steps.

    Level, trend and season each follow the errors, as in the innovations state space models [1]_.
    The trend may be damped; errors may have heavy tails. Half of the series are exponentials of
    such a series, so that season and errors multiply.

    References
    ----------
    .. [1] Hyndman, Koehler, Ord and Snyder, "Forecasting with Exponential Smoothing: The State
       Space Approach", 2008, chapter 2.
    """
    alpha = rng.uniform(0.01, 1.0)
    has_trend = rng.random() < 0.6
    slope_share = rng.uniform(0, 0.3)
    beta = alpha * rng.choice((0.0, slope_share)) * has_trend  # half of the slopes never change
    gamma = (1 - alpha) * log_uniform(rng, 0.001, 0.3)
    damping = 1.0 if rng.random() < 0.5 else rng.uniform(0.8, 0.99)
    degrees_of_freedom = rng.choice((4, 100), p=(0.3, 0.7))
    errors = rng.standard_t(degrees_of_freedom, size=steps)

    level = 0.0
    slope = rng.normal() * log_uniform(rng, 0.02, 0.5) * has_trend
    by_place = rng.normal(size=season) * log_uniform(rng, 0.3, 5)
    by_place -= by_place.mean()
    values = np.empty(steps)
    for step, error in enumerate(errors):
        place = step % season
        values[step] = level + damping * slope + by_place[place] + error
        level += damping * slope + alpha * error
        slope = damping * slope + beta * error
        # Without a season the one place would be a second level.
        by_place[place] += gamma * error if season > 1 else 0.0

    values = standard(values)
    if rng.random() < 0.5:
        return np.exp(log_uniform(rng, 0.05, 0.8) * values)
    # Most real series are above zero, some of them far above.
    lowest = rng.uniform(0, 4) if rng.random() < 0.8 else rng.uniform(-2, 0)
    return values - values.min() + lowest * np.ptp(values)


@dataclass(frozen=True)
class Showing:
    """How series of one training step are shown."""

    view: View
    """How much of them is shown, and what is taken out."""
    season: int
    """Steps of the season; 1: none."""
    past: int
    """Known steps; the view shows the last of them."""
    ahead: int
    """Steps of the future."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Showing":
        """Draw how series are shown."""
        season = int(rng.choice(list(SEASONS), p=list(SEASONS.values())))
        return cls(
            view=VIEWS[rng.integers(len(VIEWS))],
            season=season,
            past=int(log_uniform(rng, max(LEAST_PAST, 3 * season), MOST_PAST + 1)),
            ahead=int(log_uniform(rng, LEAST_AHEAD, MOST_AHEAD + 1)),
        )

    def draw_series(self, rng: np.random.Generator, most_steps: int) -> np.ndarray:
        """Draw a series as the view shows it, float64 (steps, 1), of at most `most_steps` steps.

        Its last steps are the future. Season and trend are estimated from the known steps alone,
        and taken out of both.
        """
        steps = self.past + self.ahead
        if rng.random() < OF_SMOOTHING:
            values = smoothing(rng, steps, self.season)[:, None]
        else:
            # It has a season of its own, or none, and not the one that will be looked for: a
            # calendar, too, may promise a season that a series does not have.
            values = draw_series(rng, steps, 1)
        past_values = values[: self.past]
        season = Season.of(past_values, self.season)
        seen = Seen.of(past_values, season, self.view, most_steps - self.ahead)
        steps_ahead = np.arange(1, self.ahead + 1)[:, None]
        values_without_season = seen.season.without(values)
        future = values_without_season[self.past :] - seen.trend.slope * steps_ahead
        return np.concatenate([seen.context, future])
