"""Is it worth it on this table? Rolling origins: forecasts from several moments of the past, beside simple ones."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from m2lib.forecaster.cells import SHORTEST
from m2lib.forecaster.origins import Origin, origins_of, rounds
from m2lib.forecaster.sampling import SAMPLES, Sampler, check_fit, format_for
from m2lib.forecaster.tables import Item
from m2lib.forecasting import Forecast
from m2lib.series import (
    Scaling,
    TextFormat,
    context_mean,
    coverage,
    crps_fair,
    last_value,
    log_var,
    nearest_analogue,
    paired_gain,
    seasonal_naive,
)

if TYPE_CHECKING:
    import pandas as pd

MODEL = "language model"
BAND = 0.8
SHOWN = 3  # names of series in a warning
FEW = 5  # forecasts of which no interval is worth a word
Baseline = Callable[[np.ndarray, int], np.ndarray]


@dataclass(frozen=True)
class Evaluation:
    """What forecasts from all origins came to."""

    origins: tuple[Origin, ...]
    """In the order of the errors."""
    errors: dict[str, np.ndarray]
    """By forecaster, float64 (origins,): the MAE over steps and variables, in the table's units."""
    scaled: dict[str, np.ndarray]
    """The same in units of each context's scale, in which series of any size weigh alike; 1000 is the scale."""
    crps: float
    """Of the language model's samples, the table's units; its MAE where it has one sample."""
    coverage: float | None
    """The share of true values within the middle 80% of the samples; None where there is one sample."""

    @property
    def mae(self) -> float:
        """The language model's mean error.

        Returns
        -------
        float
            The table's units.
        """
        return float(self.errors[MODEL].mean())

    def record(self) -> dict[str, Any]:
        """What is kept of it, ready for JSON.

        Returns
        -------
        dict
            Item and context's steps of each origin, errors by forecaster in the table's units and scaled, CRPS and
            coverage.
        """
        return {
            "origins": [asdict(origin) for origin in self.origins],
            "errors": {name: maes.tolist() for name, maes in self.errors.items()},
            "scaled": {name: maes.tolist() for name, maes in self.scaled.items()},
            "crps": self.crps,
            "coverage": self.coverage,
        }

    @property
    def best_baseline(self) -> str:
        """The simple forecast with the smallest mean scaled error.

        Returns
        -------
        str
            Its name.
        """
        return min((name for name in self.scaled if name != MODEL), key=lambda name: self.scaled[name].mean())

    def gain(self, baseline: str) -> dict[str, Any]:
        """How much better the language model is than a baseline, origin by origin.

        Parameters
        ----------
        baseline : str
            Its name.

        Returns
        -------
        dict
            As of `m2lib.series.paired_gain`, in scaled units; `mean interval` is None for fewer than two origins.
        """
        ours, theirs = (dict(enumerate(self.scaled[name].tolist())) for name in (MODEL, baseline))
        if len(ours) < 2:
            return {"mean": theirs[0] - ours[0], "mean interval": None, "better": int(ours[0] < theirs[0])}
        return paired_gain(ours, theirs)

    @property
    def verdict(self) -> str:
        """What all this says, in words.

        Returns
        -------
        str
            A sentence: whether the language model beats the best simple forecast, and how sure that is.
        """
        best, count = self.best_baseline, len(self.origins)
        gain, mean = self.gain(best), float(self.scaled[best].mean())
        share = f"{abs(gain['mean']) / mean:.0%} " if mean else f"{abs(gain['mean']):.3g} scaled units "
        side = "below" if gain["mean"] > 0 else "above"
        said = f"the language model's error is {share}{side} that of the best simple forecast here, {best}"
        if count < FEW:
            return f"{said}; {count} forecast{'s' * (count > 1)} prove{'s' * (count == 1)} nothing"
        low, high = gain["mean interval"]
        sure = "that is more than chance" if low > 0 or high < 0 else "that may be chance"
        return f"{said}; with {count} forecasts {sure}"

    def table(self) -> "pd.DataFrame":
        """All forecasters, the best first.

        Returns
        -------
        DataFrame
            Their mean error in the table's units and scaled, how many origins the language model is better at, and its
            gain with a 95% interval, scaled units.
        """
        import pandas as pd

        rows = {}
        for name in sorted(self.scaled, key=lambda name: self.scaled[name].mean()):
            row = {"MAE": f"{self.errors[name].mean():.4g}", "scaled": f"{self.scaled[name].mean():.1f}"}
            if name != MODEL:
                gain = self.gain(name)
                ends = "{:+.1f} to {:+.1f}".format(*gain["mean interval"]) if gain["mean interval"] else ""
                row |= {"gain of the model": f"{gain['mean']:+.1f}", "95% interval": ends}
                row["model better"] = f"{gain['better']} of {len(self.origins)}"
            rows[name] = row
        return pd.DataFrame(rows).T.fillna("")


def baselines_for(season: int | None = None) -> dict[str, Baseline]:
    """The simple forecasts that a model should beat, by name; see `m2lib.series.baselines`.

    Parameters
    ----------
    season : int, optional
        Steps of the season, where it is known. Default: found in each context by its autocorrelation.

    Returns
    -------
    dict of str to callable
        Each takes contexts (n, steps, variables), of which no value is negative, and a horizon.
    """
    return {
        "last value": last_value,
        "mean": context_mean,
        "last period" if season is None else f"{season} steps ago": partial(seasonal_naive, period=season),
        "nearest analogue": nearest_analogue,
        "log-VAR(3)": log_var,
    }


def evaluate(
    forecaster: Sampler,
    items: Sequence[Item],
    horizon: int,
    *,
    origins: int = 1,
    stride: int | None = None,
    season: int | None = None,
    num_samples: int = SAMPLES,
    refit: Callable[[Sequence[np.ndarray]], Sampler] | None = None,
    **sampling: Any,
) -> Evaluation:
    """Forecast from rolling origins, and compare with what simple forecasts make of the same contexts.

    Parameters
    ----------
    forecaster : Sampler
        The language model.
    items : sequence of Item
        The series.
    horizon : int
        Steps to forecast.
    origins, stride : int, optional
        As in `origins_of`.
    season : int, optional
        As in `baselines_for`.
    num_samples : int, optional
        As in `Sampler.sample`; the model's point forecast is their median.
    refit : callable, optional
        Gets the contexts of one origin of all series and gives the forecaster for it, so that none has seen what comes
        after; each context then has a horizon more than the shortest, to learn from. Default: the same forecaster from
        all origins.
    **sampling
        temperature, seed and batch_size, likewise.

    Returns
    -------
    Evaluation
        Errors of all forecasters, origin by origin. An origin whose context never changes is left out, with a warning.
    """
    least = SHORTEST + horizon if refit else SHORTEST
    rolled = origins_of(items, horizon, origins, stride, least)
    shape = forecaster.text_format or format_for([origin.context(items) for origin in rolled])
    check_fit([origin.context(items) for origin in rolled], shape, [items[origin.item].name for origin in rolled])
    window = forecaster.window(shape, horizon)
    rolled = _moving(rolled, items, shape, window)
    contexts = [origin.context(items) for origin in rolled]
    truths = [items[origin.item].values[origin.steps :][:horizon] for origin in rolled]
    names = [items[origin.item].name for origin in rolled]
    options = {"num_samples": num_samples, **sampling}
    samples: dict[int, Forecast] = {}
    for places in rounds(rolled, refit is not None):
        seen = [contexts[place] for place in places]
        model = refit(seen) if refit else type(forecaster)(forecaster.backbone, shape, forecaster.adapter)
        made = model.sample(seen, horizon, ids=[names[place] for place in places], **options)
        samples |= dict(zip(places, made, strict=True))
    scalings = [shape.scaling(context[-window:]) for context in contexts]

    drawn = [samples[place].physical for place in range(len(rolled))]
    ahead: dict[str, list[np.ndarray]] = {MODEL: [np.median(one, axis=0) for one in drawn]}
    for name, baseline in baselines_for(season).items():
        simple = [_simple(baseline, context, horizon) for context in contexts]
        if all(one is not None for one in simple):
            ahead[name] = [one for one in simple if one is not None]
    errors = {name: np.array(list(map(_mae, made, truths))) for name, made in ahead.items()}
    scaled = {name: np.array(list(map(_mae, made, truths, scalings))) for name, made in ahead.items()}
    if num_samples == 1:
        return Evaluation(tuple(rolled), errors, scaled, float(errors[MODEL].mean()), None)
    scores = crps_fair, partial(coverage, level=BAND)
    crps, covered = (float(np.mean(list(map(score, drawn, truths)))) for score in scores)
    return Evaluation(tuple(rolled), errors, scaled, crps, covered)


def _moving(rolled: list[Origin], items: Sequence[Item], shape: TextFormat, window: int) -> list[Origin]:
    """The origins whose contexts a model can read; a warning says how many are left out, of which series."""
    kept = [origin for origin in rolled if shape.scaling(origin.context(items)[-window:]).exists]
    if not kept or len(kept) == len(rolled):
        return rolled  # where all are flat, the model's own error says so
    names = sorted({str(items[origin.item].name) for origin in set(rolled) - set(kept)})
    shown = ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
    problem = "what the model reads there never changes, or is mostly 0"
    warnings.warn(
        f"{len(rolled) - len(kept)} of {len(rolled)} forecasts are left out ({shown}): {problem}", stacklevel=3
    )
    return kept


def _simple(baseline: Baseline, context: np.ndarray, horizon: int) -> np.ndarray | None:
    """A baseline's forecast (horizon, variables) in the table's units; None where the context is too short for it."""
    below = min(0.0, float(context.min()))  # log-VAR wants numbers that are not negative
    try:
        return baseline(context[None] - below, horizon)[0] + below
    except ValueError:
        return None


def _mae(forecast: np.ndarray, truth: np.ndarray, scaling: Scaling | None = None) -> float:
    """The mean absolute error over steps and variables; in scaled units where a scaling is given."""
    error = np.abs(forecast - truth)
    return float((error / scaling.scale * scaling.unit if scaling else error).mean())
