"""Is it worth it on this table? Rolling origins: forecasts from several moments of the past, beside
simple ones."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from m2lib import series
from m2lib.files import InputError
from m2lib.forecaster.sampling import Sampler
from m2lib.forecaster.tables import Item, calendar_season

MODEL = "language model"
ENOUGH = 5  # forecasts; with fewer no interval is worth a word


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What forecasts from all origins came to."""

    errors: pd.DataFrame
    """A row for each origin (item, steps), as of `origins_of`, and a column for each forecaster:
    the MAE over steps and variables, in the table's units."""
    scaled: pd.DataFrame
    """The same in thousandths of each context's scale, in which series of any size weigh alike.

    The scale is that of the model's text format: compare no two models by it.
    """
    season: int
    """Steps of the season; 1: none."""
    period: int | None
    """Steps that the last period has; None: each context's own."""
    crps: float
    """Of the language model's samples, the table's units; its MAE where it has one sample."""
    coverage: float | None
    """The share of true values within the middle 80% of the samples; None where there is one
    sample."""

    @property
    def mae(self) -> float:
        """The language model's mean error, in the table's units."""
        return float(self.errors[MODEL].mean())

    @property
    def gains(self) -> pd.DataFrame:
        """How much less the language model errs than others, by origin, in thousandths of the
        context's scale."""
        return self.scaled.drop(columns=MODEL).sub(self.scaled[MODEL], axis=0)

    def record(self) -> dict[str, Any]:
        """What is kept of it, ready for JSON: each origin's item and steps, and all that they came
        to."""
        return {
            "origins": [{"item": item, "steps": steps} for item, steps in self.errors.index],
            "errors": self.errors.to_dict("list"),
            "scaled": self.scaled.to_dict("list"),
            "crps": self.crps,
            "coverage": self.coverage,
        }

    @property
    def verdict(self) -> str:
        """A sentence: whether the language model beats the best simple forecast, and how sure that
        is."""
        best = self.scaled.drop(columns=MODEL).mean().idxmin()
        gains = self.gains[best]
        theirs, side = (
            self.scaled[best].mean(),
            ("equal to", "below", "above")[int(np.sign(gains.mean()))],
        )
        share = (
            f"{abs(gains.mean()) / theirs:.0%} " if theirs else ""
        )  # of no error nothing is a share
        said = f"the language model's error is {share}{side} that of the best simple forecast here, {best}"
        if len(gains) < ENOUGH:
            return f"{said}; fewer than {ENOUGH} forecasts prove nothing"
        low, high = series.bootstrap_interval(gains)
        once = gains.index.unique("item").size == len(
            gains
        )  # series of one moment may all err alike
        sure = "is more than chance" if (low > 0 or high < 0) and not once else "may be chance"
        return f"{said}; with {len(gains)} forecasts{', one of each series,' * once} that {sure}"

    def table(self) -> pd.DataFrame:
        """All forecasters, the best first: mean errors, and the language model's paired gain over
        each other one."""
        means, gains = self.scaled.mean().sort_values(), self.gains
        table = pd.DataFrame(
            {"MAE": self.errors.mean().map("{:.4g}".format), "scaled": means.map("{:.1f}".format)}
        )
        table["gain of the model"] = gains.mean().map("{:+.1f}".format)
        if len(gains) >= ENOUGH:
            ends = gains.apply(series.bootstrap_interval, result_type="reduce")
            table["95% interval"] = ends.map(lambda pair: "{:+.1f} to {:+.1f}".format(*pair))
        table["model better"] = (gains > 0).sum().map(f"{{}} of {len(gains)}".format)
        return table.loc[means.index].fillna("")


def origins_of(
    items: Sequence[Item],
    horizon: int,
    count: int,
    stride: int,
    leave_out: int = 0,
    least: int = series.SHORTEST,
) -> list[tuple[int, int]]:
    """The moments to forecast from: the place of a series in the table, and how many of its steps
    are known.

    They are the last `count` of each series that `horizon` steps follow, the earliest first,
    `stride` steps apart. The last `leave_out` steps of a series are in no forecast. `least` steps
    or more are known; InputError where no series is long enough.
    """
    found = []
    for place, item in enumerate(items):
        last = len(item.values) - leave_out - horizon
        found += [
            (place, n) for n in range(last - (count - 1) * stride, last + 1, stride) if n >= least
        ]
    if not found:
        raise InputError(
            f"a forecast of {horizon} steps wants a series of {least + horizon + leave_out}; ask for fewer steps"
        )
    return found


def baselines_for(period: int | None = None) -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    """The simple forecasts that a model should beat, by name; see `m2lib.series.baselines`.

    Each takes contexts (n, steps, variables), of which no value is negative, and a horizon. The
    last `period` steps are repeated; where it is None, each context's autocorrelation finds how
    many.
    """
    return {
        "last value": series.last_value,
        "mean": series.context_mean,
        "last period" if period is None else f"{period} steps ago": partial(
            series.seasonal_naive, period=period
        ),
        "nearest analogue": series.nearest_analogue,
        "log-VAR(3)": series.log_var,
    }


def evaluate(
    forecaster: Sampler,
    items: Sequence[Item],
    horizon: int,
    *,
    origins: int = 1,
    stride: int | None = None,
    leave_out: int = 0,
    season: int | None = None,
    period: int | None = None,
    refit: Callable[[Sequence[np.ndarray]], Sampler] | None = None,
    **sampling: Any,
) -> Evaluation:
    """Forecast from rolling origins, and compare with what simple forecasts make of the same
    contexts.

    Parameters
    ----------
    forecaster : Sampler
        The language model.
    items : sequence of Item
        The series.
    horizon : int
        Steps to forecast.
    origins, stride, leave_out : int, optional
        As in `origins_of`. Default: one origin; a horizon from one to the next, so that no step is
        forecast twice.
    season : int, optional
        Steps of the season, as in `Sampler.sample`. Default: the calendar's, where time stamps say
        which, else none.
    period : int, optional
        As in `baselines_for`. Default: the season, where there is one.
    refit : callable, optional
        Gets the contexts of one origin of all series and gives the forecaster for it, so that none
        has seen what comes after; each context then has a horizon more than the shortest, to learn
        from. Default: the same forecaster from all origins.
    **sampling
        num_samples, temperature, seed and batch_size, as in `Sampler.sample`; the model's point
        forecast is the samples' median.

    Returns
    -------
    Evaluation
        Errors of all forecasters, origin by origin. An origin whose context never changes is left
        out, with a warning.
    """
    season = season or calendar_season(items)
    period = period or (season if season > 1 else None)
    least = series.SHORTEST + horizon if refit else series.SHORTEST
    rolled = origins_of(items, horizon, origins, stride or horizon, leave_out, least)
    contexts = {(item, steps): items[item].values[:steps] for item, steps in rolled}
    # The format that a forecast of these contexts would have: it is chosen without their season.
    unseasonal = [
        series.Season.of(context, season).without(context) for context in contexts.values()
    ]
    text_format = forecaster.format_of(unseasonal, [items[item].name for item, _ in rolled])
    window = forecaster.window(text_format, horizon)
    scalings = {
        origin: text_format.scaling(context[-window:]) for origin, context in contexts.items()
    }
    rolled = [
        origin for origin in rolled if scalings[origin].exists
    ] or rolled  # if all are flat, the model says so
    if flat := len(contexts) - len(rolled):
        warnings.warn(
            f"forecasts left out, as what is read never changes or is mostly 0: {flat}",
            stacklevel=2,
        )

    # With `refit`, origins that are as far from their series' ends share a forecaster; without, all
    # do.
    ends = [len(items[item].values) - steps if refit else 0 for item, steps in rolled]
    drawn: dict[tuple[int, int], np.ndarray] = {}
    for _, together in pd.Series(rolled).groupby(ends, sort=False):
        seen, names = (
            [contexts[origin] for origin in together],
            [items[item].name for item, _ in together],
        )
        if refit:
            model = refit([series.Season.of(context, season).without(context) for context in seen])
        else:
            model = replace(forecaster, text_format=text_format)
        made = model.sample(seen, horizon, ids=names, season=season, **sampling)
        drawn |= {origin: samples.physical for origin, samples in zip(together, made, strict=True)}

    samples = [drawn[origin] for origin in rolled]
    forecasts = {MODEL: [np.median(one, axis=0) for one in samples]}
    # Simple forecasts see no number below zero: log-VAR wants none.
    lifted = [(contexts[origin], min(0.0, contexts[origin].min())) for origin in rolled]
    for name, baseline in baselines_for(period).items():
        try:
            forecasts[name] = [
                baseline(context[None] - low, horizon)[0] + low for context, low in lifted
            ]
        except ValueError:
            warnings.warn(f"left out, as a context is too short for it: {name}", stacklevel=2)
    truths = [items[item].values[steps:][:horizon] for item, steps in rolled]
    errors = pd.DataFrame(index=pd.MultiIndex.from_tuples(rolled, names=["item", "steps"]))
    scaled = errors.copy()
    for name, made in forecasts.items():
        off = [np.abs(forecast - truth) for forecast, truth in zip(made, truths, strict=True)]
        errors[name] = [error.mean() for error in off]
        scaled[name] = [
            (error / scalings[at].scale * 1000).mean()
            for error, at in zip(off, rolled, strict=True)
        ]
    crps, held = float(np.mean(errors[MODEL])), None
    if len(samples[0]) > 1:
        crps = float(np.mean(list(map(series.crps_fair, samples, truths))))
        held = float(
            np.mean([series.coverage(*pair, 0.8) for pair in zip(samples, truths, strict=True)])
        )
    return Evaluation(errors, scaled, season, period, crps, held)
