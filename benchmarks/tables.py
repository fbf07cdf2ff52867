"""`python -m benchmarks.tables` measures forecasters of any table on real tables.

No adapter was trained on them. The tables come with statsmodels, statsforecast and matplotlib,
which `pip install -e '.[yardsticks]'` brings. Some sources were for choosing, the others for
judging. The latter were looked at so often while `general` grew that all of them are for choosing
now, and `benchmarks.textbook` has the ones that judge.
Errors are in units of a reference: the last value or the last period, whichever did better before a
source's first forecast. The record is tables.json, beside the recorded runs. It is written row by
row, and rows of the same values and adapter are not measured again.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pandas as pd

from benchmarks.rows import five_digits, has_all, one_line, place_of, recorded_rows, write_rows
from m2lib.files import ROOT
from m2lib.forecaster import Forecaster
from m2lib.forecaster.adapters import weights_hash
from m2lib.forecaster.rolling import LONGEST_SEASON
from m2lib.forecaster.views import PLAIN
from m2lib.series import (
    DECILES,
    SHORTEST,
    log_var_paths,
    nearest_analogue,
    period_of,
    quantile_losses,
)
from study.paper.errors import (
    NAIVE,
    REFERENCE,
    TABLE_ERRORS,
    table_errors,
    table_summary,
)
from study.settings import results_dir

MOST_SERIES = 20
"""At most this many series of a source; of a larger one they are taken at equal distances."""
FEWEST_EARLIER = 3
"""Origins before the test, at least, by which a source's reference is chosen."""
SAMPLES = 48
LEFT_IN = ", season left in"
"""Ends the name of an adapter that reads a series as it is, not deseasonalised."""
PICTURED = 4
"""Horizons of the context that a picture shows."""
MODELS = {
    "last value": "Naive",
    NAIVE: "SeasonalNaive",
    "mean": "HistoricAverage",
    "AutoETS": "AutoETS",
    "AutoARIMA": "AutoARIMA",
    "AutoTheta": "AutoTheta",
}
"""The models of statsforecast, by their names here."""
BANDS = (80, 60, 40, 20)
"""Central intervals, in percent; their ends are the deciles, without the middle one."""
DecileForecast = Callable[[Sequence[np.ndarray], int, int], list[np.ndarray]]
"""From contexts (steps,), horizon and season, the deciles of each series, (9, horizon)."""


@dataclass(frozen=True)
class Source:
    """Real series of one origin and one frequency."""

    name: str
    split: str
    """`validation` or `test`, as this benchmark has them. For that of the textbook all of these are
    for choosing; its own sources have `choosing` or `judging` here."""
    horizon: int
    season: int
    """Steps of the calendar's season; 1: none."""
    origins: int
    """Forecasts of each series, one horizon apart; the last one ends with it."""
    load: Callable[[], pd.DataFrame | pd.Series]
    """The series as columns. A gap at the end of one shortens it; other gaps are interpolated."""

    @cache  # noqa: B019  (sources live as long as the program)
    def series(self) -> list[np.ndarray]:
        """Return the series (steps,), float64, MOST_SERIES at most."""
        frame = pd.DataFrame(self.load()).astype(np.float64)
        columns = [column for _, column in frame.items()]
        places = np.unique(np.linspace(0, len(columns) - 1, MOST_SERIES).astype(int))
        filled = [columns[place].interpolate(limit_area="inside") for place in places]
        return [column.dropna().to_numpy() for column in filled]

    def cuts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return context and truth of each forecast."""
        return self._cuts(self.series(), self.origins)

    def known(self) -> list[np.ndarray]:
        """Return what each series holds before the first forecast."""
        return [values[: -self.horizon * self.origins] for values in self.series()]

    def earlier_cuts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return context and truth of forecasts inside `known`, to choose without a look ahead."""
        cuts = self._cuts(self.known(), max(self.origins, FEWEST_EARLIER))
        return [(context, truth) for context, truth in cuts if len(context) >= SHORTEST]

    def _cuts(
        self, series: Sequence[np.ndarray], origins: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Cut each series at its last `origins` origins, one horizon apart.

        With a horizon of 6 and two origins, a series is cut 12 and 6 steps before its end. A
        context that never changes from season to season is left out, because its MASE has no unit.
        """
        cuts = []
        for values in series:
            for back in range(origins, 0, -1):
                context = values[: -self.horizon * back]
                truth = values[-self.horizon * back :][: self.horizon]
                if np.abs(_seasonal_steps(context, self.season)).sum() > 0:
                    cuts.append((context, truth))
        return cuts


def _statsmodels(name: str, *columns: str) -> pd.DataFrame:
    """Return a data set of statsmodels, or some columns of it."""
    data = import_module(f"statsmodels.datasets.{name}").load_pandas().data
    return data[list(columns)] if columns else data


def _test_table_path(file: str) -> Path:
    """Return the path of a table that statsmodels tests itself on."""
    (folder,) = import_module("statsmodels.tsa").__path__
    return Path(folder) / file


def _co2() -> pd.Series:
    return _statsmodels("co2")["co2"].resample("MS").mean()


def _housing_starts() -> pd.Series:
    path = _test_table_path("holtwinters/tests/results/housing-data.csv")
    return pd.read_csv(path)["HOUSTNSA"]


def _unemployment() -> pd.DataFrame:
    return pd.read_csv(_test_table_path("tests/results/UN.csv"))


def _us_economy() -> pd.DataFrame:
    return _statsmodels("macrodata").drop(columns=["year", "quarter"])


def _pelts() -> pd.DataFrame:
    return pd.read_csv(ROOT / "data/hudson_bay_pelts.csv", index_col=0)


def _passengers() -> pd.Series:
    return import_module("statsforecast.utils").AirPassengersDF["y"]


def _elnino() -> pd.Series:
    return _statsmodels("elnino").set_index("YEAR").stack()


def _fertility() -> pd.DataFrame:
    return _statsmodels("fertility").filter(regex="^[0-9]{4}$").T.dropna(axis=1, thresh=50)


def _electricity() -> pd.Series:
    path = _test_table_path("stl/tests/results/mstl_elec_vic.csv")
    hourly = pd.read_csv(path, parse_dates=["ds"], index_col="ds")
    return hourly["y"].resample("D").sum()


def _google() -> pd.Series:
    sample: Any = matplotlib.cbook.get_sample_data("goog.npz")
    table = sample["price_data"]
    prices = pd.Series(table["adj_close"], pd.to_datetime(table["date"]))
    return prices.resample("W").last()


def _indicators() -> pd.DataFrame:
    names = "PAYEMS", "CPIAUCSL", "HSN1F", "HOUST", "INDPRO", "DSPIC96", "PCEPI", "PERMIT", "TCU"
    folder = "statespace/tests/results/frbny_nowcast/Nowcasting/data/US"
    return pd.read_csv(_test_table_path(f"{folder}/2016-07-29.csv"))[list(names)]


# Name, split, horizon, season, origins and loader of each source. Fertility has one origin, because
# its countries move together. Statsmodels' copper (25 years) and grunfeld (20) are too short.
SOURCES = (
    Source("sunspots", "validation", 6, 1, 12, partial(_statsmodels, "sunspots", "SUNACTIVITY")),
    Source("Nile", "validation", 6, 1, 6, partial(_statsmodels, "nile", "volume")),
    Source("El Niño", "validation", 18, 12, 6, _elnino),
    Source("CO2, monthly", "validation", 18, 12, 6, _co2),
    Source("Danish economy", "validation", 8, 4, 3, partial(_statsmodels, "danish_data")),
    Source("US housing starts", "validation", 18, 12, 6, _housing_starts),
    Source("fertility by country", "test", 6, 1, 1, _fertility),
    Source("US economy", "test", 8, 4, 3, _us_economy),
    Source("German rates", "test", 8, 4, 4, partial(_statsmodels, "interest_inflation", "Dp", "R")),
    Source("electrical equipment", "test", 18, 12, 6, partial(_statsmodels, "elec_equip")),
    Source("air passengers", "test", 18, 12, 3, _passengers),
    Source("US unemployment", "test", 18, 12, 6, _unemployment),
    Source("US indicators", "test", 18, 12, 3, _indicators),
    Source("Google, weekly", "test", 13, 1, 5, _google),
    Source("electricity, daily", "test", 14, 7, 4, _electricity),
    Source("hare and lynx", "test", 10, 1, 3, _pelts),
)  # fmt: skip


def statistical(
    model: str, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Return deciles by a model of statsforecast, which gets the whole past of each series."""
    model_class = getattr(import_module("statsforecast.models"), model)
    options = {} if model in ("Naive", "HistoricAverage") else {"season_length": season}
    deciles = []
    for context in contexts:
        with np.errstate(all="ignore"):
            fresh_model = model_class(**options)
            forecast = fresh_model.forecast(y=context, h=horizon, level=list(BANDS))
        # The bands narrow from 80% to 20%, so their lower ends rise and their upper ends fall.
        below = [forecast[f"lo-{band}"] for band in BANDS]
        above = [forecast[f"hi-{band}"] for band in reversed(BANDS)]
        deciles.append(np.stack([*below, forecast["mean"], *above]))
    return deciles


def _repeated(
    steps: int, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Return deciles by the last `steps`, repeated, whatever the calendar's season is."""
    model = "SeasonalNaive" if steps > 1 else "Naive"
    return statistical(model, contexts, horizon, steps)


def _regression(contexts: Sequence[np.ndarray], horizon: int, season: int) -> list[np.ndarray]:
    """Return deciles of log-VAR(3), by its bootstrap.

    Each context is lifted so that nothing in it is negative, because the regression takes
    logarithms.
    """
    deciles = []
    for context in contexts:
        lowest = min(0.0, context.min())
        lifted = (context - lowest)[None, :, None]  # (one series, steps, one variable)
        paths = log_var_paths(lifted, 200, np.random.default_rng(0), horizon)[0, ..., 0]
        deciles.append(np.quantile(paths + lowest, DECILES, axis=0))
    return deciles


def repetitions(source: Source) -> dict[int, float]:
    """Return the mean MASE of the last steps, repeated, before a source's first forecast.

    The key is the number of steps. One step is the last value. Against it stand the steps of the
    calendar's season or, where a calendar knows none, the periods that the autocorrelation of its
    series finds. Nothing is read of what the forecasts are judged by.
    """
    cuts = source.earlier_cuts()
    scales = [_scale(context, source.season) for context, _ in cuts]
    mases = {}
    for steps in sorted({1, *_periods(source)}):
        errors = []
        for context, truth in cuts:
            repeated: np.ndarray = np.resize(context[-steps:], len(truth))
            errors.append(np.abs(repeated - truth).mean())
        mases[steps] = float(np.mean(np.divide(errors, scales)))
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
    name: str, temperature: float, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Return the deciles of the language model's samples."""
    forecaster = forecaster_of(name.removesuffix(LEFT_IN))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*longer than the model's window")
        forecasts = forecaster.sample(
            [context[:, None] for context in contexts],
            horizon,
            season=_season(name, season),
            num_samples=SAMPLES,
            temperature=temperature,
        )
    return [np.quantile(forecast.physical[..., 0], DECILES, axis=0) for forecast in forecasts]


def _season(name: str, season: int) -> int:
    """Return the season that an adapter is given: none (1), where its name says so."""
    return 1 if name.endswith(LEFT_IN) else season


@cache
def forecaster_of(name: str) -> Forecaster:
    return Forecaster.from_pretrained("none" if name == "untuned" else name, device="cpu")


def _seasonal_steps(context: np.ndarray, season: int) -> np.ndarray:
    return context[season:] - context[:-season]


def _scale(context: np.ndarray, season: int) -> float:
    """Return the unit of a MASE: the mean absolute change from season to season."""
    return float(np.abs(_seasonal_steps(context, season)).mean())


def measured(source: Source, forecast: DecileForecast) -> dict[str, Any]:
    """Return a row with the errors of each forecast of a source.

    Errors are in units of the mean change from season to season in a forecast's context [1]_.
    mase: the error of the median. loss: twice the mean quantile loss of the deciles, which for one
    certain forecast is its error. held: the share of true values between the first and the last
    decile. shown: the last forecast of the first series, its deciles from the lowest on.

    References
    ----------
    .. [1] Hyndman and Koehler, "Another look at measures of forecast accuracy", International
       Journal of Forecasting 22, 2006.
    """
    contexts, truths = zip(*source.cuts(), strict=True)
    started = time.perf_counter()
    with np.errstate(all="ignore"):
        forecasts = forecast(contexts, source.horizon, source.season)
    seconds = time.perf_counter() - started

    deciles = np.stack(forecasts)  # (forecasts, 9, horizon)
    truth = np.stack(truths)  # (forecasts, horizon)
    errors = truth[:, None] - deciles
    absolute_errors = np.abs(errors[:, 4])  # of the median
    scales = np.array([_scale(context, source.season) for context in contexts])
    losses = quantile_losses(deciles.swapaxes(0, 1), truth)  # (9, forecasts, horizon)
    held = (errors[:, 0] >= 0) & (errors[:, 8] <= 0)

    shown = min(source.origins, len(contexts)) - 1
    return {
        "mase": (absolute_errors.mean(1) / scales).tolist(),
        "loss": (2 * losses.mean((0, 2)) / scales).tolist(),
        "held": held.mean(1).tolist(),
        "seconds": round(seconds, 2),
        "shown": {
            "context": _five_digits(contexts[shown][-PICTURED * source.horizon :]),
            "truth": _five_digits(truths[shown]),
            "deciles": _five_digits(deciles[shown]),
        },
    }


def _five_digits(values: np.ndarray) -> list[float]:
    return [five_digits(value) for value in values.ravel()]


def record_tables(
    path: Path, split: str, adapters: Sequence[str], temperature: float, only: str = ""
) -> None:
    """Measure what the record at `path` lacks of a split's sources, and write it after each row.

    only: the one forecaster that is measured. A record of another machine needs it, because the
    hash of its values may differ by rounding, and all of a source would be measured anew.
    """
    forecasts: dict[str, DecileForecast] = {}
    for name, model in MODELS.items():
        forecasts[name] = partial(statistical, model)
    forecasts["nearest analogue"] = _analogue
    forecasts["log-VAR(3)"] = _regression
    for name in adapters:
        forecasts[name] = partial(_language_model, name, temperature)

    for name in adapters:
        if only in ("", name):
            forecaster_of(name.removesuffix(LEFT_IN))  # what is no adapter is said before any work
    rows = recorded_rows(path)
    for source in SOURCES:
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
                key |= _adapter_key(name, temperature, source)
            if name == REFERENCE:
                key["repeats"] = repeats
            if has_all(rows, [key]):
                continue
            row = key | measured(source, forecast)
            if name == REFERENCE:
                row["before"] = {str(steps): round(mase, 4) for steps, mase in before.items()}
            rows = write_rows(path, rows, [row])


def _adapter_key(name: str, temperature: float, source: Source) -> dict[str, Any]:
    """Return what decides the forecasts of a language model, beside a source's values."""
    model = forecaster_of(name.removesuffix(LEFT_IN))
    return {
        "temperature": temperature,
        "season": _season(name, source.season),
        **model_key(model),
    }


def model_key(model: Forecaster) -> dict[str, Any]:
    """Return what decides a language model's forecasts, beside series and sampling.

    The views in which it is shown a series are named where they are not the plain one.
    """
    key: dict[str, Any] = {
        "adapter": weights_hash(model.adapter),
        "spread": getattr(model.text_format, "spread", 1.0),
    }
    if model.views != PLAIN:
        key["views"] = [asdict(view) for view in model.views]
    return key


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("validation", "test"), default="validation")
    parser.add_argument(
        "--adapters",
        nargs="*",
        default=["untuned"],
        help=f"folders, names, or untuned; also with {LEFT_IN!r}",
    )
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument(
        "--only", default="", metavar="NAME", help=f"one forecaster alone, such as {REFERENCE!r}"
    )
    parser.add_argument("--path", type=Path, help="default: report/results/tables.json")
    options = parser.parse_args()
    with one_line():
        record = options.path or results_dir() / TABLE_ERRORS
        record_tables(record, options.split, options.adapters, options.temperature, options.only)
        summary = table_summary(table_errors(record), options.split)
        print(summary.to_string(float_format="{:.3f}".format))
