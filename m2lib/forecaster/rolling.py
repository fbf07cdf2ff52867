"""Rolling origins: a language model and simple forecasts forecast a table's past from many moments.

What is known by a moment, the *origin*, is the context, and what came after it is the truth.
`evaluate` makes the forecasts and returns an `Evaluation`, which is in
`m2lib.forecaster.evaluation`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd

from m2lib import series
from m2lib.errors import InputError, check_count, warn
from m2lib.forecaster.columns import Columns
from m2lib.forecaster.evaluation import MEASURES, MODEL, Evaluation, mase_units
from m2lib.forecaster.rivals import Rival, ets_forecasts, rival_forecasts, simple_forecasts
from m2lib.forecaster.sampling import Sampler, Sampling
from m2lib.forecaster.tables import WRITTEN, Item, as_written, chosen_seasons
from m2lib.series import DECILES

Origin = tuple[int, int]
"""A moment to forecast from: the place of a series in the table, and its steps known by then."""


def origins_of(
    items: Sequence[Item],
    prediction_length: int,
    num_origins: int,
    stride: int,
    leave_out: int = 0,
    least: int = series.SHORTEST_CONTEXT,
) -> list[Origin]:
    """Return the origins, the moments to forecast from.

    An origin is a series' place in the table, and how many of its steps are known by then. Each
    series has up to `num_origins` origins, `stride` steps apart, the earliest first. The
    `prediction_length` steps after its last origin end `leave_out` steps before the series does.
    Origins at which fewer than `least` steps are known are left out. Raises InputError if none is
    left.
    """
    origins = []
    for place, item in enumerate(items):
        # Of 30 steps, with forecasts of 3 and two origins 3 apart, 24 and then 27 are known.
        last = len(item.values) - leave_out - prediction_length
        first = last - (num_origins - 1) * stride
        origins += [(place, steps) for steps in range(first, last + 1, stride) if steps >= least]
    if not origins:
        raise InputError(
            f"every series is too short: to forecast {prediction_length} steps takes a series of "
            f"{least + prediction_length + leave_out} or more; forecast fewer steps"
        )
    return origins


def evaluate(
    forecaster: Sampler,
    items: Sequence[Item],
    prediction_length: int,
    *,
    origins: int = 1,
    stride: int | None = None,
    leave_out: int = 0,
    season: int | Sequence[int] | None = None,
    period: int | None = None,
    refit: Callable[[Sequence[np.ndarray]], Sampler] | None = None,
    sampling: Sampling = Sampling(),
    columns: Columns | None = None,
    auto_ets: bool | None = None,
    rivals: Mapping[str, Rival] | None = None,
) -> Evaluation:
    """Forecast from rolling origins, and compare with simple forecasts of the same contexts.

    `Forecaster.evaluate` does this for a DataFrame. Here the series have been taken from their
    table by `items_of`, and `refit` may be any training.

    Parameters
    ----------
    forecaster : Sampler
        The language model.
    items : sequence of Item
        The series.
    prediction_length : int
        Steps to forecast.
    origins, stride, leave_out : int, optional
        The number of origins in each series, the steps from one to the next, and the last steps
        that are not used, as in `origins_of`. Default: one origin. The default stride is
        `prediction_length`, so that no step is forecast twice.
    season : int or sequence of int, optional
        Steps of the season, as in `Sampler.sample`. Default: the calendar's, if the time stamps
        tell which, and otherwise none.
    period : int, optional
        As in `m2lib.forecaster.rivals.baselines_for`. Default: the season, where every context is
        as long as it; of several the longest that every context has three of.
    refit : callable, optional
        Takes the contexts of all series at one origin, without their season, and returns a
        forecaster that has seen nothing later. Each context is then longer than the shortest
        allowed, by `prediction_length` steps or more, so that there is something to learn from.
        Default: the same forecaster at all origins.
    sampling : Sampling, optional
        How many samples, and how they are drawn; the model's point forecast is their median. The
        others read the whole of each context, whatever the sampling's `context_length`.
    columns : Columns, optional
        The columns of the series' table, which name those of `Evaluation.forecasts`. Default: the
        variables are numbered from 0.
    auto_ets : bool, optional
        Whether AutoETS, exponential smoothing chosen for each series, forecasts beside the others.
        Default: where statsforecast is installed.
    rivals : mapping of str to callable, optional
        Forecasters of one's own to compare with, by name. Each is called once, before the language
        model forecasts, with all contexts, ndarrays (steps, variables) in the table's units, and
        with `prediction_length`. It returns a forecast (prediction_length, variables) of each.

    Returns
    -------
    Evaluation
        Errors of all forecasters, origin by origin. An origin is left out, with a warning, if its
        context never changes, or if what the model reads of it is constant or mostly 0.

    Raises
    ------
    InputError
        If no origin is left, for an argument that is out of its range, for a rival whose name is
        taken or whose forecasts do not have that form, and where `Sampler.sample` raises it.
    """
    _check_arguments(prediction_length, origins, stride, leave_out, period)
    seasons = chosen_seasons(items, season)

    # 1. Choose the origins: contexts are all that a forecaster sees, truths what came after.
    least_steps = series.SHORTEST_CONTEXT + prediction_length if refit else series.SHORTEST_CONTEXT
    asked_for = origins_of(
        items,
        prediction_length,
        num_origins=origins,
        stride=stride or prediction_length,
        leave_out=leave_out,
        least=least_steps,
    )
    contexts = {(place, steps): items[place].values[:steps] for place, steps in asked_for}
    # The season is taken out of a context before it is written, so the text format is chosen for
    # contexts without it.
    unseasonal = {
        origin: series.without_season(context, seasons) for origin, context in contexts.items()
    }
    names = [items[place].name for place, _ in asked_for]
    text_format = forecaster.checked_format(list(unseasonal.values()), names)
    steps_read = forecaster.readable_steps(text_format, prediction_length, sampling.context_length)
    units = {origin: mase_units(context, seasons[0]) for origin, context in contexts.items()}
    usable = _usable_origins(contexts, unseasonal, units, text_format, steps_read)
    truths = {
        (place, steps): items[place].values[steps : steps + prediction_length]
        for place, steps in usable
    }

    # 2. Make the other forecasts first, because they take less time, and a rival may fail.
    ordered_contexts = [contexts[origin] for origin in usable]
    if period is None:
        shortest_context = min(map(len, ordered_contexts))
        longest_season = series.season_length(seasons, shortest_context)
        # A context that is shorter than the season could not repeat it.
        period = longest_season if 1 < longest_season <= shortest_context else None
    other_forecasts = simple_forecasts(ordered_contexts, prediction_length, period)
    if auto_ets is None:
        auto_ets = find_spec("statsforecast") is not None
    if auto_ets:
        other_forecasts |= ets_forecasts(ordered_contexts, prediction_length, seasons[0])
    if columns is None:
        columns = Columns(None, None, tuple(map(str, range(ordered_contexts[0].shape[1]))))
    rivals = rivals or {}
    own_columns = (columns.written_id, columns.written_time, *WRITTEN, *map(str, DECILES))
    taken_names = {MODEL, *other_forecasts, *own_columns}
    for name in rivals:
        if name in taken_names:
            raise InputError(f"{name!r} is taken; give the rival another name")
    for name, rival in rivals.items():
        other_forecasts[name] = rival_forecasts(name, rival, ordered_contexts, prediction_length)

    # 3. Sample the language model's forecasts.
    batches = [usable]
    if refit:
        _warn_of_different_ends(usable, items)
        batches = _equally_far_from_the_end(usable, items)
    elif not forecaster.text_format:
        # All moments are written in the format that was chosen for all of them.
        forecaster = replace(forecaster, text_format=text_format)
    samples: dict[Origin, np.ndarray] = {}
    for batch in batches:
        model = refit([unseasonal[origin] for origin in batch]) if refit else forecaster
        ids = [items[place].name for place, _ in batch]
        batch_contexts = [contexts[origin] for origin in batch]
        forecasts = model.sample(
            batch_contexts, prediction_length, sampling, ids=ids, season=seasons
        )
        for origin, forecast in zip(batch, forecasts, strict=True):
            samples[origin] = forecast.physical  # (num_samples, prediction_length, variables)

    # 4. Compare point forecasts with the others, and samples with the truth.
    points = {MODEL: [np.median(samples[origin], axis=0) for origin in usable]} | other_forecasts
    measures = _measure_errors(points, truths, contexts, seasons[0])
    crps = float(np.mean(measures["errors"][MODEL]))  # a single sample has its MAE for a CRPS
    coverage = None
    if sampling.num_samples > 1:
        crps, coverage = _scores(samples, truths)
    table = _forecast_table(items, usable, columns, samples, points, units)
    return Evaluation(
        measures=measures,
        season=seasons[0],
        period=period,
        crps=crps,
        coverage=coverage,
        forecasts=table,
        id_column=columns.written_id,
    )


def _scores(
    samples: Mapping[Origin, np.ndarray], truths: Mapping[Origin, np.ndarray]
) -> tuple[float, float]:
    """Return `crps` and `coverage` of an `Evaluation` of several samples."""
    pairs = [(samples[origin], truth) for origin, truth in truths.items()]
    crps = np.mean([series.crps_fair(forecasts, truth) for forecasts, truth in pairs])
    coverage = np.mean([series.coverage(forecasts, truth, 0.8) for forecasts, truth in pairs])
    return float(crps), float(coverage)


def _usable_origins(
    contexts: Mapping[Origin, np.ndarray],
    unseasonal: Mapping[Origin, np.ndarray],
    units: Mapping[Origin, np.ndarray],
    text_format: series.TextFormat,
    steps_read: int,
) -> list[Origin]:
    """Return the origins that can be forecast from; the others are left out, with a warning.

    At each origin the model is to read the last `steps_read` steps of a context, whose season is
    taken out in `unseasonal`; `units` are the `mase_unit`s of its variables. Raises InputError if
    no origin is left.

    `Forecaster.readable` asks only whether something changes without the season, because that is
    what the model reads. Here a shop that has closed is no test of a forecaster, so something has
    to change with the season, too.
    """
    usable = []
    for origin, context in contexts.items():
        has_unit = not np.isnan(units[origin]).all()
        readings = (context[-steps_read:], unseasonal[origin][-steps_read:])
        if has_unit and all(text_format.scaling(steps).exists for steps in readings):
            usable.append(origin)
    reason = "what is read never changes or is mostly 0"
    if not usable:
        raise InputError(
            f"there is nothing to forecast from: {reason}; drop such series, or read more of their "
            "steps (--context-length, context_length=)"
        )
    if len(usable) < len(contexts):
        warn(f"forecasts left out, as {reason}: {len(contexts) - len(usable)}")
    return usable


def _check_arguments(
    prediction_length: int, origins: int, stride: int | None, leave_out: int, period: int | None
) -> None:
    """Raise InputError for an argument of `evaluate` that is no whole number in its range."""
    check_count("prediction_length", prediction_length)
    check_count("origins", origins)
    check_count("leave_out", leave_out, 0)
    for name, steps in (("stride", stride), ("period", period)):
        if steps is not None:
            check_count(name, steps)


def _warn_of_different_ends(origins: Sequence[Origin], items: Sequence[Item]) -> None:
    """Warn where a training may read values of one series from after the moment of another.

    There is one training for all origins that are equally far from the ends of their series. Steps
    that are merely numbered, because the table has no time stamps, do not tell when a series ends.
    """
    times = [items[place].times for place, _ in origins]
    ends = {stamps[-1] for stamps in times if not isinstance(stamps, pd.RangeIndex)}
    if len(ends) > 1:
        warn(
            "the series end at different times, so a training may read values of one series from "
            "after the moment of another, and the errors may be too low; cut all series off at "
            "the same time"
        )


def _equally_far_from_the_end(
    origins: Sequence[Origin], items: Sequence[Item]
) -> list[list[Origin]]:
    """Group the origins that are equally far from the ends of their series.

    `evaluate` refits once for each group, which is one moment if all series end at the same time.
    Where two series of 30 and of 40 steps have origins at 24 and 27 and at 34 and 37 steps, one
    group is 24 with 34, the other 27 with 37. They are in the order in which the first origin of
    each appears.
    """
    groups: dict[int, list[Origin]] = {}
    for place, steps in origins:
        steps_to_end = len(items[place].values) - steps
        groups.setdefault(steps_to_end, []).append((place, steps))
    return list(groups.values())


def _forecast_table(
    items: Sequence[Item],
    origins: Sequence[Origin],
    columns: Columns,
    samples: Mapping[Origin, np.ndarray],
    points: Mapping[str, Sequence[np.ndarray]],
    units: Mapping[Origin, np.ndarray],
) -> pd.DataFrame:
    """Return the `forecasts` of an `Evaluation`.

    `points` are each forecaster's point forecasts, in the order of the origins.
    """
    frames = []
    for row, origin in enumerate(origins):
        place, steps = origin
        item = items[place]
        prediction_length = samples[origin].shape[1]
        future = slice(steps, steps + prediction_length)
        times = as_written(item, item.times[future])
        cutoff = as_written(item, item.times[[steps - 1]])[0]
        for variable, target in enumerate(columns.targets):
            frame = {
                columns.written_id: item.name,
                columns.written_time: times,
                "target_name": target,
                "cutoff": cutoff,
                "truth": item.values[future, variable],
                "predictions": points[MODEL][row][:, variable],
            }
            quantiles = np.quantile(samples[origin][..., variable], DECILES, axis=0)
            for level, quantile in zip(DECILES, quantiles, strict=True):
                frame[str(level)] = quantile
            for name, forecasts in points.items():
                if name != MODEL:
                    frame[name] = forecasts[row][:, variable]
            frame["mase_unit"] = units[origin][variable]
            frames.append(pd.DataFrame(frame))
    return pd.concat(frames, ignore_index=True)


def _measure_errors(
    points: Mapping[str, Sequence[np.ndarray]],
    truths: Mapping[Origin, np.ndarray],
    contexts: Mapping[Origin, np.ndarray],
    season: int,
) -> dict[str, pd.DataFrame]:
    """Return the `measures` of an `Evaluation`: `points` are forecasts in the truths' order."""
    index = pd.MultiIndex.from_tuples(list(truths), names=["item", "steps"])
    measures = {name: pd.DataFrame(index=index) for name in MEASURES}
    for forecaster, forecasts in points.items():
        for name, measure in MEASURES.items():
            measures[name][forecaster] = [
                measure.of(np.abs(forecast - truth), contexts[origin], season)
                for forecast, (origin, truth) in zip(forecasts, truths.items(), strict=True)
            ]
    return measures
