"""`python -m benchmarks.tables` measures forecasters of any table on real tables.

No adapter was trained on them (`benchmarks.sources` has them). Some sources were for choosing, the
others for judging. The latter were looked at so often while `general` grew that all of them are for
choosing now, and `benchmarks.textbook` has the ones that judge.
Errors are in units of a reference: the last value or the last period, whichever did better before a
source's first forecast. The record is tables.json, beside the recorded runs. It is written row by
row, and rows of the same values and adapter are not measured again.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forecasters import UNTUNED, forecaster_of, model_key, statsforecast_deciles
from benchmarks.rows import has_all, one_line, place_of, recorded_rows, write_rows
from benchmarks.scores import mase_unit, rounded, score
from benchmarks.sources import TABLES, Source
from m2lib.forecaster import Sampling
from m2lib.forecaster.rivals import LONGEST_SEASON
from m2lib.forecaster.sampling import TEMPERATURE
from m2lib.series import DECILES, log_var_paths, nearest_analogue, period_of
from study.paper.errors import REFERENCE, TABLE_ERRORS, table_errors, table_summary
from study.settings import results_dir

SAMPLES = 48
PICTURED = 4
"""Horizons of the context that a picture shows."""
NAIVE = "last period"
"""The calendar's season, repeated; without a season it is the last value."""
MODELS = {
    "last value": "Naive",
    NAIVE: "SeasonalNaive",
    "mean": "HistoricAverage",
    "AutoETS": "AutoETS",
    "AutoARIMA": "AutoARIMA",
    "AutoTheta": "AutoTheta",
}
"""The models of statsforecast, by their names here."""
DecileForecast = Callable[[Sequence[np.ndarray], int, int], list[np.ndarray]]
"""From contexts (steps,), horizon and season, the deciles of each series, (9, horizon)."""


def _repeated(
    steps: int, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Return deciles by the last `steps`, repeated, whatever the calendar's season is."""
    model = "SeasonalNaive" if steps > 1 else "Naive"
    return statsforecast_deciles(model, contexts, horizon, steps)


def _regression(contexts: Sequence[np.ndarray], horizon: int, season: int) -> list[np.ndarray]:
    """Return deciles of log-VAR(3), by its bootstrap.

    Each context is lifted so that nothing in it is negative, because the regression takes
    logarithms.
    """
    deciles = []
    for context in contexts:
        lowest = min(0.0, context.min())
        lifted = (context - lowest)[None, :, None]  # (one series, steps, one variable)
        all_paths = log_var_paths(lifted, 200, np.random.default_rng(0), horizon)
        paths = all_paths[0, ..., 0]  # (200, horizon), of the one series and variable
        deciles.append(np.quantile(paths + lowest, DECILES, axis=0))
    return deciles


def repetitions(source: Source) -> dict[int, float]:
    """Return the mean MASE of the last steps, repeated, before a source's first forecast.

    The key is the number of steps. One step is the last value. Against it stand the steps of the
    calendar's season or, where a calendar knows none, the periods that the autocorrelation of its
    series finds. Nothing is read of what the forecasts are judged by.
    """
    cuts = source.earlier_cuts()
    units = [mase_unit(context, source.season) for _, context, _ in cuts]
    mases = {}
    for steps in sorted({1, *_periods(source)}):
        errors = []
        for _, context, truth in cuts:
            forecast: np.ndarray = np.resize(context[-steps:], len(truth))
            errors.append(np.abs(forecast - truth).mean())
        mases[steps] = float(np.mean(np.divide(errors, units)))
    return mases


def _periods(source: Source) -> set[int]:
    """Return the season of a source's calendar, or else the periods found in what is known."""
    if source.season > 1:
        return {source.season}
    periods = set()
    for values in source.known():
        # The period is found in logarithms of 1 + x, so negative values are lifted.
        period = period_of(values - min(0.0, values.min()))
        if period and period <= LONGEST_SEASON:
            periods.add(period)
    return periods


def _analogue(contexts: Sequence[np.ndarray], horizon: int, season: int) -> list[np.ndarray]:
    """Return the one forecast of the nearest analogue as each of the nine deciles."""
    deciles = []
    for context in contexts:
        forecast = nearest_analogue(context[None, :, None], horizon)[0]  # (horizon, one variable)
        deciles.append(np.repeat(forecast.T, 9, axis=0))
    return deciles


def _language_model(
    name: str, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Return the deciles of the language model's samples."""
    forecaster = forecaster_of(name)
    sampling = Sampling(SAMPLES, TEMPERATURE)
    series = [context[:, None] for context in contexts]  # (steps, one variable)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*longer than the model's window")
        forecasts = forecaster.sample(series, horizon, sampling, season=season)
    return [np.quantile(forecast.physical[..., 0], DECILES, axis=0) for forecast in forecasts]


def measured(source: Source, forecast: DecileForecast) -> dict[str, Any]:
    """Return a row with the errors of each forecast of a source.

    That is what `score` gives, and: seconds. shown: the last forecast of the first series, with its
    deciles from the lowest on.
    """
    cuts = source.cuts()
    contexts = [context for _, context, _ in cuts]
    start = time.perf_counter()
    with np.errstate(all="ignore"):
        deciles = forecast(contexts, source.horizon, source.season)
    seconds = time.perf_counter() - start

    # The cuts are in the order of the series, so the first `origins` of them are the first one's.
    place = min(source.origins, len(cuts)) - 1
    _, context, truth = cuts[place]
    return {
        **score(cuts, source.season, deciles),
        "seconds": round(seconds, 2),
        "shown": {
            "context": rounded(context[-PICTURED * source.horizon :]),
            "truth": rounded(truth),
            "deciles": rounded(deciles[place].ravel()),
        },
    }


def _forecasts_by_name(adapters: Sequence[str]) -> dict[str, DecileForecast]:
    """Return all forecasters by name, but for the reference, which depends on the source."""
    forecasts: dict[str, DecileForecast] = {}
    for name, model in MODELS.items():
        forecasts[name] = partial(statsforecast_deciles, model)
    forecasts["nearest analogue"] = _analogue
    forecasts["log-VAR(3)"] = _regression
    for name in adapters:
        forecasts[name] = partial(_language_model, name)
    return forecasts


def record_tables(path: Path, split: str, adapters: Sequence[str], only: str = "") -> None:
    """Measure what the record at `path` lacks of a split's sources, and write it after each row.

    only: the one forecaster that is measured. A record of another machine needs it, because the
    hash of its values may differ by rounding, and all of a source would be measured anew.
    """
    forecasts = _forecasts_by_name(adapters)
    for name in adapters:
        if only in ("", name):
            forecaster_of(name)  # what is no adapter is said before any work
    rows = recorded_rows(path)
    for source in TABLES:
        if source.split != split:
            continue
        place = place_of(source, split)
        before = repetitions(source)
        repeats = min(before, key=before.__getitem__)
        forecasts[REFERENCE] = partial(_repeated, repeats)
        for name, forecast in forecasts.items():
            if only and name != only:
                continue
            # A row is measured again where any of these has changed.
            key = place | {"forecaster": name}
            if name in adapters:
                key |= {"temperature": TEMPERATURE, "season": source.season}
                key |= model_key(forecaster_of(name))
            if name == REFERENCE:
                key["repeats"] = repeats
            if has_all(rows, [key]):
                continue
            row = key | measured(source, forecast)
            if name == REFERENCE:
                row["before"] = {str(steps): round(mase, 4) for steps, mase in before.items()}
            rows = write_rows(path, rows, [row])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument(
        "--adapters", nargs="*", default=[UNTUNED], help="folders, names, or untuned"
    )
    parser.add_argument(
        "--only", default="", metavar="NAME", help=f"one forecaster alone, such as {REFERENCE!r}"
    )
    parser.add_argument("--path", type=Path, help="default: report/results/tables.json")
    options = parser.parse_args()
    with one_line():
        record = options.path or results_dir() / TABLE_ERRORS
        record_tables(record, options.split, options.adapters, options.only)
        summary = table_summary(table_errors(record), options.split)
        print(summary.to_string(float_format="{:.3f}".format))
