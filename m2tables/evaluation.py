"""Is it worth it? A table's past is forecast once more, and compared with other forecasts.

From each **origin**, a moment of the past, all forecasters see what was known by then, and their
errors are compared on the steps that followed. Errors are mean absolute scaled errors (MASE), so
that series of any size can be averaged: the unit is the mean absolute change from one season to the
next in what was known (Hyndman and Koehler, "Another look at measures of forecast accuracy",
International Journal of Forecasting 22, 2006).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pandas as pd

from m2lib.errors import InputError, check_count, first_line, warn
from m2lib.series import DECILES, sign_flip_p, t_interval
from m2tables.quantile_model import QuantileModel
from m2tables.tables import Columns, Item, as_written

OURS = "ours"
"""The name of our forecasts in tables of errors."""
LAST_VALUE, LAST_SEASON = "last value", "last season"
STATSFORECAST = ("AutoETS", "AutoTheta", "AutoARIMA")
"""The models of statsforecast that take part where it is installed."""
MEDIAN_OF_THREE = "median of the three"
LONGEST_SEASON = 24  # steps of the longest season that statsforecast's models take in good time
FEWEST_FORECASTS = 6
"""Of fewer forecasts no difference is called more than chance."""
Rival = Callable[[np.ndarray, int, int], np.ndarray]
"""A forecaster to compare with: from a context (steps, variables), the horizon and the steps of the
season to a forecast (horizon, variables), all in the table's units."""


@dataclass
class Origin:
    """One series at one moment of its past, and every forecast from there."""

    item: Item
    """The series."""
    known: int
    """Steps that are known."""
    context: np.ndarray
    """float64 (known, variables)."""
    truth: np.ndarray
    """float64 (horizon, variables): what followed."""
    unit: np.ndarray
    """(variables,): the mean absolute change from season to season; NaN where nothing changes."""
    deciles: np.ndarray
    """(9, horizon, variables): ours."""
    forecasts: dict[str, np.ndarray] = field(default_factory=dict)
    """Point forecasts (horizon, variables) by the forecaster's name, ours included."""

    def mase(self, name: str) -> float:
        """Return a forecaster's error in units of the series, the mean over its variables."""
        errors = np.abs(self.forecasts[name] - self.truth).mean(axis=0)
        return float(np.nanmean(errors / self.unit))


@dataclass(frozen=True)
class Evaluation:
    """All forecasts of a table's past, and their errors."""

    origins: list[Origin]
    """Each series at each moment, in the table's order."""
    columns: Columns
    """The table's."""

    @property
    def mase(self) -> pd.DataFrame:
        """The MASE of each forecast: a row an origin, a column a forecaster."""
        names = self.origins[0].forecasts
        rows = [{name: origin.mase(name) for name in names} for origin in self.origins]
        index = [(origin.item.name, origin.known) for origin in self.origins]
        return pd.DataFrame(rows, index=pd.MultiIndex.from_tuples(index, names=["series", "steps"]))

    @property
    def coverage(self) -> float:
        """The share of true values within our 80% bands."""
        held = []
        for origin in self.origins:
            low, high = origin.deciles[0], origin.deciles[-1]
            held.append(((low <= origin.truth) & (origin.truth <= high)).mean())
        return float(np.mean(held))

    def table(self) -> pd.DataFrame:
        """Tabulate the forecasters, the lowest mean MASE first.

        Returns
        -------
        DataFrame
            Columns `MASE`, `ours less` (the mean of its MASE less ours), `95% interval` of that by
            Student's t where there are six forecasts or more, and `ours better`, the number of
            forecasts in which ours has the lower error.
        """
        mase = self.mase
        rows = []
        for name in mase.mean().sort_values().index:
            row = {"forecaster": name, "MASE": f"{mase[name].mean():.3f}"}
            if name != OURS:
                gains = mase[name] - mase[OURS]
                row["ours less"] = f"{gains.mean():+.3f}"
                if len(gains) >= FEWEST_FORECASTS:
                    row["95% interval"] = "{:+.3f} to {:+.3f}".format(*t_interval(gains))
                row["ours better"] = f"{(gains > 0).sum()} of {len(gains)}"
            rows.append(row)
        return pd.DataFrame(rows).set_index("forecaster").fillna("")

    @property
    def verdict(self) -> str:
        """A sentence that says how ours compares with the best of the others, and how surely.

        A difference is called more than chance if there are six forecasts or more, and two or more
        of the same series; if the 95% t interval of the paired errors leaves zero out; and if the
        sign-flip test's p value is below 0.05. The best of k others is chosen by the errors that it
        is then compared by, so where ours is behind, p is multiplied by k (Bonferroni's
        correction).
        """
        mase = self.mase
        others = mase.drop(columns=OURS)
        best = others.mean().idxmin()
        gains = others[best] - mase[OURS]
        relation = "equal to"
        if gains.mean():
            relation = "below" if gains.mean() > 0 else "above"
            if others[best].mean():  # nothing is a percentage of 0
                relation = f"{abs(gains.mean()) / others[best].mean():.0%} {relation}"
        claim = f"our error is {relation} that of the best of the others, {best}"
        if len(gains) < FEWEST_FORECASTS:
            return f"{claim}; fewer than {FEWEST_FORECASTS} forecasts prove nothing"

        low, high = t_interval(gains)
        choices = others.shape[1] if gains.mean() < 0 else 1
        is_sure = (low > 0 or high < 0) and choices * sign_flip_p(gains) < 0.05
        # Series that are forecast from one moment each may all err together, as in a bad year. The
        # interval takes them for independent, so it is too narrow.
        once_each = mase.index.unique("series").size == len(gains)
        which = ", one of each series," if once_each else ""
        certainty = "is more than chance" if is_sure and not once_each else "may be chance"
        return f"{claim}; with {len(gains)} forecasts{which} that {certainty}"

    @property
    def forecasts(self) -> pd.DataFrame:
        """All forecasts in the table's units: a row for each origin, variable and step.

        Its columns are the id and the time, under the table's own names; `target_name`; `cutoff`,
        the last time stamp that was known; `truth`; our deciles `0.1` to `0.9`; and each
        forecaster's point forecast under its name.
        """
        frames = []
        for origin in self.origins:
            times = as_written(origin.item, origin.item.times)
            ahead = slice(origin.known, origin.known + len(origin.truth))
            for variable, target in enumerate(self.columns.targets):
                frame = {
                    self.columns.written_id: origin.item.name,
                    self.columns.written_time: times[ahead],
                    "target_name": target,
                    "cutoff": times[origin.known - 1],
                    "truth": origin.truth[:, variable],
                }
                for level, path in zip(DECILES, origin.deciles[..., variable], strict=True):
                    frame[str(level)] = path
                for name, forecast in origin.forecasts.items():
                    frame[name] = forecast[:, variable]
                frames.append(pd.DataFrame(frame))
        return pd.concat(frames, ignore_index=True)


def evaluate(
    model: QuantileModel,
    items: Sequence[Item],
    columns: Columns,
    horizon: int,
    origins: int = 1,
    rivals: dict[str, Rival] | None = None,
) -> Evaluation:
    """Forecast the past of series, and compare with other forecasts.

    Parameters
    ----------
    model : QuantileModel
        Ours.
    items : sequence of Item
        Series of a table. One that is too short for an origin, or had not changed by then, is not
        forecast from there.
    columns : Columns
        The columns of that table.
    horizon : int
        Steps of each forecast.
    origins : int, optional
        Moments from which each series is forecast, one horizon apart.
    rivals : dict of str to Rival, optional
        Forecasters of the caller's, by name, beside the usual ones: the last value, the last
        season, and where statsforecast is installed AutoETS, AutoTheta, AutoARIMA and the median of
        these three.

    Returns
    -------
    Evaluation
        With all forecasts.

    Raises
    ------
    InputError
        Where nothing is left to be forecast, a rival returns something else than a forecast, or
        `horizon` or `origins` is no number of steps or moments.
    """
    check_count("prediction_length", horizon)
    check_count("origins", origins)
    cuts = []
    for item in items:
        for back in range(origins, 0, -1):
            known = len(item.values) - back * horizon
            unit = _unit(item.values[: max(known, 0)], item.season)
            if np.isfinite(unit).any():
                cuts.append((item, known, unit))
    if not cuts:
        raise InputError(
            f"no series has changed before the last {origins * horizon} steps, so there is nothing "
            "to compare; ask for fewer origins, or forecast fewer steps"
        )
    missing = origins * len(items) - len(cuts)
    if missing:
        warn(
            f"{missing} of the {origins * len(items)} forecasts are missing, because their series "
            "are too short, or had not changed by then"
        )
    contexts = [item.values[:known] for item, known, _ in cuts]
    seasons = [item.season for item, _, _ in cuts]
    all_deciles = model.quantiles(contexts, horizon, seasons, DECILES)
    others = _usual_rivals(has_season=max(seasons) > 1) | (rivals or {})
    compared = []
    for (item, known, unit), context, deciles in zip(cuts, contexts, all_deciles, strict=True):
        truth = item.values[known : known + horizon]
        origin = Origin(item, known, context, truth, unit, deciles)
        origin.forecasts[OURS] = deciles[len(DECILES) // 2]
        for name, rival in others.items():
            origin.forecasts[name] = _checked(name, rival, context, horizon, item.season)
        if set(STATSFORECAST) <= set(others):
            three = [origin.forecasts[name] for name in STATSFORECAST]
            origin.forecasts[MEDIAN_OF_THREE] = np.median(three, axis=0)
        compared.append(origin)
    return Evaluation(compared, columns)


def _unit(context: np.ndarray, season: int) -> np.ndarray:
    """Return the mean absolute change from season to season of each variable, (variables,).

    Where fewer than two seasons are known it is that from step to step. NaN where nothing changes.
    """
    lag = season if len(context) > season else 1
    if len(context) <= lag:
        return np.full(context.shape[1], np.nan)
    change = np.abs(context[lag:] - context[:-lag]).mean(axis=0)
    return np.where(change > 0, change, np.nan)


def _usual_rivals(has_season: bool) -> dict[str, Rival]:
    """Return the forecasters that every evaluation has."""
    rivals: dict[str, Rival] = {LAST_VALUE: _last_value}
    if has_season:
        rivals[LAST_SEASON] = _last_season
    if find_spec("statsforecast"):
        rivals |= {name: statsforecast_model(name) for name in STATSFORECAST}
    else:
        warn(
            "AutoETS, AutoTheta, AutoARIMA and their median, the best simple forecast, are missing "
            "here: pip install statsforecast"
        )
    return rivals


def _last_value(context: np.ndarray, horizon: int, season: int) -> np.ndarray:
    return np.repeat(context[-1:], horizon, axis=0)


def _last_season(context: np.ndarray, horizon: int, season: int) -> np.ndarray:
    places: np.ndarray = np.arange(horizon) % season
    return context[-season:][places] if len(context) >= season else context[-1:][0 * places]


def statsforecast_model(name: str) -> Rival:
    """Return a model of statsforecast; where it fails, as on very short series, the last value."""

    def _forecast(context: np.ndarray, horizon: int, season: int) -> np.ndarray:
        models = import_module("statsforecast.models")
        length = season if season <= LONGEST_SEASON else 1
        paths = []
        for values in context.T:
            try:
                with np.errstate(all="ignore"):
                    model = getattr(models, name)(season_length=length)
                    paths.append(model.forecast(y=values, h=horizon)["mean"])
            except Exception as error:  # it raises plain Exceptions
                warn(f"{name} fails and repeats the last value: {first_line(error)}")
                paths.append(np.repeat(values[-1], horizon))
        return np.stack(paths, axis=1)

    return _forecast


def _checked(name: str, rival: Rival, context: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Return a rival's forecast (horizon, variables); InputError if it is none."""
    # A copy, because a context is a part of the table, and what follows it there is the truth.
    returned = np.asarray(rival(context.copy(), horizon, season), dtype=float)
    shape = (horizon, context.shape[1])
    if returned.size != np.prod(shape) or not np.isfinite(returned).all():
        raise InputError(f"{name} has to return finite numbers of the shape {shape}")
    return returned.reshape(shape)
