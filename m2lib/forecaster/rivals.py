"""The forecasts that an evaluation sets beside the language model's.

They are simple forecasts, those of AutoETS, and those of rivals that the caller brings. All of them
read the whole context. None reads a time stamp, so the season has to be told.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module

import numpy as np

from m2lib import series
from m2lib.errors import InputError, first_line, warn

ETS = "AutoETS"
Rival = Callable[[Sequence[np.ndarray], int], Sequence[np.ndarray]]
"""A forecaster to compare with.

It takes contexts, each (steps, variables) in the table's units, and the number of steps to
forecast; it returns a forecast of each context, (prediction_length, variables).
"""
LONGEST_SEASON = 24  # steps of the longest season that statsforecast's AutoETS takes


def baselines_for(period: int | None = None) -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    """Return the simple forecasts that a model should beat, by name; see `m2lib.series.baselines`.

    Each takes contexts (n, steps, variables), of which no value is negative, and the number of
    steps to forecast. The seasonal naive forecast repeats the last `period` steps; if that is None,
    it finds a period for each context by autocorrelation.
    """
    seasonal = "last period" if period is None else f"{period} steps ago"
    return {
        "last value": series.last_value,
        "mean": series.context_mean,
        seasonal: partial(series.seasonal_naive, period=period),
        "nearest analogue": series.nearest_analogue,
        "log-VAR(3)": series.log_var,
    }


def simple_forecasts(
    contexts: Sequence[np.ndarray], prediction_length: int, period: int | None
) -> dict[str, list[np.ndarray]]:
    """Return each baseline's forecasts (prediction_length, variables) of all contexts, by its name.

    A baseline is left out, with a warning, if any of the contexts is too short for it.
    """
    scaled_contexts = [_scaled_to_1000(context) for context in contexts]
    forecasts = {}
    for name, baseline in baselines_for(period).items():
        try:
            forecasts[name] = [
                baseline(scaled[None], prediction_length)[0] * unit + low
                for scaled, unit, low in scaled_contexts
            ]
        except ValueError:
            warn(f"left out, as a context is too short for it: {name}")
    return forecasts


def _scaled_to_1000(context: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scale a context (steps, variables), and return the unit and the low of each variable with it.

    Where a baseline takes logarithms of 1 + x, or adds up the distances of all variables, its
    forecast depends on the units. So that those of a table change nothing, each variable is shown
    as in the study, from 0 to 1000. One with negative values is lifted above 0 first. In the
    table's units a scaled value is value * unit + low.
    """
    low = np.minimum(0.0, context.min(axis=0))
    largest = (context - low).max(axis=0)
    unit = np.where(largest > 0, largest / 1000, 1.0)
    return (context - low) / unit, unit, low


def ets_forecasts(
    contexts: Sequence[np.ndarray], prediction_length: int, season: int
) -> dict[str, list[np.ndarray]]:
    """Return the forecasts (prediction_length, variables) of AutoETS for all contexts, by its name.

    If the season is too long for it, it forecasts as if there were none. It is left out, with a
    warning, if it fails at any context or is not installed.
    """
    forecasts = []
    try:
        models = import_module("statsforecast.models")
        model = models.AutoETS(season_length=season if season <= LONGEST_SEASON else 1)
        for context in contexts:
            with np.errstate(all="ignore"):
                variables = [
                    model.forecast(y=values, h=prediction_length)["mean"] for values in context.T
                ]
            forecasts.append(np.stack(variables, axis=1))
    except Exception as error:  # it raises plain Exceptions, for example for a series too short
        warn(f"left out, as it fails: {ETS} ({first_line(error)})")
        return {}
    return {ETS: forecasts}


def rival_forecasts(
    name: str, rival: Rival, contexts: Sequence[np.ndarray], prediction_length: int
) -> list[np.ndarray]:
    """Return a rival's forecasts (prediction_length, variables) of all contexts, in float64.

    Where there is one variable, it may leave that axis out. Raises InputError if it returns
    anything but numbers, another number of forecasts, or one that has another shape or a value that
    is not finite.
    """
    # Copies, because a context is a part of the table, and what follows it there is the truth.
    returned = rival([context.copy() for context in contexts], prediction_length)
    try:
        forecasts = [np.asarray(forecast, dtype=float) for forecast in returned]
    except (TypeError, ValueError) as error:  # None, where a `return` is missing; or texts
        raise InputError(
            f"{name} did not return forecasts ({first_line(error)}); return an array of numbers "
            "(prediction_length, variables) for each context"
        ) from error
    if len(forecasts) != len(contexts):
        raise InputError(
            f"{name} returned {len(forecasts)} forecasts of {len(contexts)} contexts; "
            "return one of each"
        )
    checked = []
    for number, (values, context) in enumerate(zip(forecasts, contexts, strict=True)):
        shape = (prediction_length, context.shape[1])
        if values.shape == (prediction_length,) and context.shape[1] == 1:
            values = values[:, None]
        if values.shape != shape:
            raise InputError(f"{name}'s forecast {number} has shape {values.shape}, not {shape}")
        if not np.isfinite(values).all():
            raise InputError(f"{name}'s forecast {number} has a value that is not finite")
        checked.append(values)
    return checked
