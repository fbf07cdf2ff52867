"""`python -m benchmarks.tables`: forecasters of any table, on real tables that nobody's adapter was
trained on.

The tables come with statsmodels, statsforecast and matplotlib: `pip install -e '.[yardsticks]'`
brings them. Some sources are for choosing, the others for judging; these were read four times
before `general` was as it is. Errors are told in units of a reference: the last value or the last
period, whichever did better before a source's first forecast. Writes tables.json beside the
recorded runs, row by row; what it holds of the same values and adapter is kept.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import matplotlib.cbook
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save

from m2lib.files import ROOT, read_json, short_hash, write_atomic, write_json
from m2lib.forecaster import Forecaster, read_format
from m2lib.forecaster.adapters import GENERAL
from m2lib.forecaster.export import CARD_FILE, FACTS_FILE, model_card
from m2lib.model.adapter_files import ADAPTER_FILE, BIAS_FILE, CONFIG_FILE
from m2lib.paper.errors import (
    NAIVE,
    REFERENCE,
    TABLE_ERRORS,
    table_errors,
    table_ratios,
    table_summary,
)
from m2lib.series import DECILES, FORMAT_FILE, SHORTEST, log_var_paths, nearest_analogue, period_of
from m2lib.settings import results_dir
from m2lib.study import PROFILES, adapter_path, load_record
from m2lib.study.provenance import provenance

MOST_SERIES = 20  # of a source: drawn at equal distances, in its order
LONGEST_SEASON = 24
FEWEST_EARLIER = 3  # origins before the test, by which a source's reference is chosen
SAMPLES = 48
LEFT_IN = ", season left in"  # of an adapter that reads a series as it is
MOST_NEEDED = 1e3  # where a band has no width at all
SHOWN = 4  # horizons of the context that a picture shows
AVERAGED = "general-tail", "general-even"
"""The runs whose adapters' mean goes into the package."""
MODELS = {
    "last value": "Naive",
    NAIVE: "SeasonalNaive",
    "mean": "HistoricAverage",
    "AutoETS": "AutoETS",
    "AutoARIMA": "AutoARIMA",
    "AutoTheta": "AutoTheta",
}
"""Those of statsforecast, by their names here."""
BANDS = (80, 60, 40, 20)  # whose ends are the deciles, without the middle one
Forecast = Callable[[Sequence[np.ndarray], int, int], list[np.ndarray]]
"""From contexts (steps,), horizon and season, the deciles of each series, (9, horizon)."""


@dataclass(frozen=True)
class Source:
    """Real series of one origin and one frequency."""

    name: str
    split: str
    """`validation`, for choosing; or `test`."""
    horizon: int
    season: int
    """Steps of the calendar's season; 1: none."""
    origins: int
    """Forecasts of each series, one horizon apart; the last one ends with it."""
    load: Callable[[], pd.DataFrame | pd.Series]
    """The series as columns; a gap at the end of one shortens it, others are filled in a straight
    line."""

    @cache  # noqa: B019  (sources live as long as the program)
    def series(self) -> list[np.ndarray]:
        """The series (steps,), MOST_SERIES at most."""
        frame = pd.DataFrame(self.load()).astype(np.float64)
        whole = [
            column.interpolate(limit_area="inside").dropna().to_numpy()
            for _, column in frame.items()
        ]
        places = np.unique(np.linspace(0, len(whole) - 1, MOST_SERIES).astype(int))
        return [whole[place] for place in places]

    def cuts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Context and truth of each forecast."""
        return self._cuts(self.series(), self.origins)

    def known(self) -> list[np.ndarray]:
        """What there is of each series before the first forecast."""
        return [one[: -self.horizon * self.origins] for one in self.series()]

    def earlier_cuts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Context and truth of forecasts of what is known before the first one: for choosing
        without a look ahead."""
        cuts = self._cuts(self.known(), max(self.origins, FEWEST_EARLIER))
        return [(context, truth) for context, truth in cuts if len(context) >= SHORTEST]

    def _cuts(
        self, series: Sequence[np.ndarray], origins: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        starts = [-self.horizon * (1 + back) for back in reversed(range(origins))]
        cut = [(one[:n], one[n:][: self.horizon]) for one in series for n in starts]
        return [
            (context, truth)
            for context, truth in cut
            if np.abs(_seasonal_steps(context, self.season)).sum()
        ]


def _statsmodels(name: str, *columns: str) -> pd.DataFrame:
    data = import_module(f"statsmodels.datasets.{name}").load_pandas().data
    return data[list(columns)] if columns else data


def _of_its_tests(file: str, **how: Any) -> pd.DataFrame:
    """A table that statsmodels tests itself on."""
    return pd.read_csv(Path(import_module("statsmodels.tsa").__file__).parent / file, **how)


def _passengers() -> pd.Series:
    return import_module("statsforecast.utils").AirPassengersDF["y"]


def _elnino() -> pd.Series:
    return _statsmodels("elnino").set_index("YEAR").stack()


def _fertility() -> pd.DataFrame:
    return _statsmodels("fertility").filter(regex="^[0-9]{4}$").T.dropna(axis=1, thresh=50)


def _electricity() -> pd.Series:
    hourly = _of_its_tests(
        "stl/tests/results/mstl_elec_vic.csv", parse_dates=["ds"], index_col="ds"
    )
    return hourly["y"].resample("D").sum()


def _google() -> pd.Series:
    table = matplotlib.cbook.get_sample_data("goog.npz")["price_data"]
    return pd.Series(table["adj_close"], pd.to_datetime(table["date"])).resample("W").last()


def _indicators() -> pd.DataFrame:
    table = _of_its_tests(
        "statespace/tests/results/frbny_nowcast/Nowcasting/data/US/2016-07-29.csv"
    )
    return table[
        ["PAYEMS", "CPIAUCSL", "HSN1F", "HOUST", "INDPRO", "DSPIC96", "PCEPI", "PERMIT", "TCU"]
    ]


# Of fertility one origin, as its countries move together. Statsmodels' copper (25 years) and
# grunfeld (20) are short.
SOURCES = (
    Source("sunspots", "validation", 6, 1, 12, partial(_statsmodels, "sunspots", "SUNACTIVITY")),
    Source("Nile", "validation", 6, 1, 6, partial(_statsmodels, "nile", "volume")),
    Source("El Niño", "validation", 18, 12, 6, _elnino),
    Source("CO2, monthly", "validation", 18, 12, 6, lambda: _statsmodels("co2")["co2"].resample("MS").mean()),
    Source("Danish economy", "validation", 8, 4, 3, partial(_statsmodels, "danish_data")),
    Source(
        "US housing starts", "validation", 18, 12, 6,
        lambda: _of_its_tests("holtwinters/tests/results/housing-data.csv")["HOUSTNSA"],
    ),
    Source("fertility by country", "test", 6, 1, 1, _fertility),
    Source("US economy", "test", 8, 4, 3, lambda: _statsmodels("macrodata").drop(columns=["year", "quarter"])),
    Source("German rates", "test", 8, 4, 4, partial(_statsmodels, "interest_inflation", "Dp", "R")),
    Source("electrical equipment", "test", 18, 12, 6, partial(_statsmodels, "elec_equip")),
    Source("air passengers", "test", 18, 12, 3, _passengers),
    Source("US unemployment", "test", 18, 12, 6, partial(_of_its_tests, "tests/results/UN.csv")),
    Source("US indicators", "test", 18, 12, 3, _indicators),
    Source("Google, weekly", "test", 13, 1, 5, _google),
    Source("electricity, daily", "test", 14, 7, 4, _electricity),
    Source("hare and lynx", "test", 10, 1, 3, lambda: pd.read_csv(ROOT / "data/hudson_bay_pelts.csv", index_col=0)),
)  # fmt: skip


def _statistical(
    model: str, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Deciles by a model of statsforecast; without a season where it is longer than the library
    bears."""
    models, known = (
        import_module("statsforecast.models"),
        {"season_length": season if season <= LONGEST_SEASON else 1},
    )
    options = {} if model in ("Naive", "HistoricAverage") else known
    found = []
    for context in contexts:
        made = getattr(models, model)(**options).forecast(y=context, h=horizon, level=list(BANDS))
        low, high = ([made[f"{side}-{band}"] for band in BANDS] for side in ("lo", "hi"))
        found.append(np.stack([*low, made["mean"], *reversed(high)]))
    return found


def _repeated(
    steps: int, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Deciles by the last steps, repeated, whatever the calendar's season is."""
    return _statistical("SeasonalNaive" if steps > 1 else "Naive", contexts, horizon, steps)


def _regression(contexts: Sequence[np.ndarray], horizon: int, season: int) -> list[np.ndarray]:
    """Deciles of log-VAR(3), by its bootstrap; each context is moved so that nothing in it is
    negative."""
    found = []
    for context in contexts:
        below = min(0.0, context.min())
        paths = log_var_paths(
            (context - below)[None, :, None], 200, np.random.default_rng(0), horizon
        )[0, ..., 0]
        found.append(np.quantile(paths + below, DECILES, axis=0))
    return found


def repetitions(source: Source) -> dict[int, float]:
    """What the last steps of a source, repeated, erred before its first forecast: mean MASE by the
    number of steps.

    One step is the last value. Against it stand the steps of the calendar's season or, where a
    calendar knows none, the periods that the autocorrelation of its series finds. Nothing is read
    of what the forecasts are judged by.
    """
    if source.season > 1:
        periods = {source.season}
    else:
        lifted = [
            one - min(0.0, one.min()) for one in source.known()
        ]  # the period is found in logarithms of 1 + x
        periods = {
            period for period in map(period_of, lifted) if period and period <= LONGEST_SEASON
        }
    cuts = source.earlier_cuts()
    scales = [_scale(context, source.season) for context, _ in cuts]
    found = {}
    for steps in sorted({1, *periods}):
        errors = [
            np.abs(np.resize(context[-steps:], len(truth)) - truth).mean()
            for context, truth in cuts
        ]
        found[steps] = float(np.mean(np.divide(errors, scales)))
    return found


def _analogue(contexts: Sequence[np.ndarray], horizon: int, season: int) -> list[np.ndarray]:
    """The one forecast of the nearest analogue, nine times."""
    return [
        np.repeat(nearest_analogue(one[None, :, None], horizon)[0].T, 9, axis=0) for one in contexts
    ]


def _language_model(
    name: str, temperature: float, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Deciles of the model's samples."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*longer than the model's window")
        values = [one[:, None] for one in contexts]
        how = {"season": _season(name, season), "num_samples": SAMPLES, "temperature": temperature}
        made = _forecaster(name.removesuffix(LEFT_IN)).sample(values, horizon, **how)
    return [np.quantile(one.physical[..., 0], DECILES, axis=0) for one in made]


def _season(name: str, season: int) -> int:
    return 1 if name.endswith(LEFT_IN) else season


@cache
def _forecaster(name: str) -> Forecaster:
    return Forecaster.from_pretrained("none" if name == "untuned" else name)


def _seasonal_steps(context: np.ndarray, season: int) -> np.ndarray:
    return context[season:] - context[:-season]


def _scale(context: np.ndarray, season: int) -> float:
    """The unit of a MASE: the mean step from season to season."""
    return float(np.abs(_seasonal_steps(context, season)).mean())


def measured(source: Source, forecast: Forecast) -> dict[str, Any]:
    """A row: errors of each forecast in units of the mean step from season to season in its context
    [1]_.

    mase: of the median. loss: twice the mean quantile loss of the deciles; for one certain forecast
    it is the error. held: the share of true values between the first and the last decile. needed:
    how far these two have to be moved from the median, to hold four of five true values. shown: the
    last forecast of the first series, its deciles from the lowest on.

    References
    ----------
    .. [1] Hyndman and Koehler, "Another look at measures of forecast accuracy", International
    Journal of Forecasting
       22, 2006.
    """
    contexts, truths = zip(*source.cuts(), strict=True)
    began = time.perf_counter()
    with np.errstate(all="ignore"):
        deciles = np.stack(
            forecast(contexts, source.horizon, source.season)
        )  # (forecasts, 9, horizon)
    seconds = time.perf_counter() - began
    off, share = np.stack(truths)[:, None] - deciles, np.array(DECILES)[:, None]
    scales = np.array([_scale(context, source.season) for context in contexts])
    width = np.where(off[:, 4] > 0, deciles[:, 8] - deciles[:, 4], deciles[:, 4] - deciles[:, 0])
    needed = np.divide(
        np.abs(off[:, 4]), width, out=np.full_like(width, MOST_NEEDED), where=width > 0
    )
    shown = min(source.origins, len(contexts)) - 1
    parts = {
        "context": contexts[shown][-SHOWN * source.horizon :],
        "truth": truths[shown],
        "deciles": deciles[shown],
    }
    return {
        "mase": (np.abs(off[:, 4]).mean(1) / scales).tolist(),
        "loss": (2 * np.maximum(share * off, (share - 1) * off).mean((1, 2)) / scales).tolist(),
        "held": ((off[:, 0] >= 0) & (off[:, 8] <= 0)).mean(1).tolist(),
        "needed": float(np.quantile(needed, 0.8)),
        "seconds": round(seconds, 2),
        "shown": {
            name: [float(f"{value:.5g}") for value in part.ravel()] for name, part in parts.items()
        },
    }


def record_tables(
    path: Path, split: str, adapters: Sequence[str], temperature: float, only: str = ""
) -> None:
    """Measure all that the record at `path` lacks of a split's sources, and write it after each
    row.

    only: the one forecaster that is measured, where another machine's rounding would have all of a
    source anew.
    """
    forecasts: dict[str, Forecast] = {
        name: partial(_statistical, model) for name, model in MODELS.items()
    }
    forecasts |= {"nearest analogue": _analogue, "log-VAR(3)": _regression}
    forecasts |= {name: partial(_language_model, name, temperature) for name in adapters}
    rows = read_json(path)["rows"] if path.exists() else []
    for source in (one for one in SOURCES if one.split == split):
        values = short_hash(np.concatenate(source.series()).tobytes())
        before = repetitions(source)
        repeats = min(before, key=before.__getitem__)
        for name, forecast in (forecasts | {REFERENCE: partial(_repeated, repeats)}).items():
            if only and name != only:
                continue
            asked: dict[str, Any] = {
                "source": source.name,
                "split": split,
                "forecaster": name,
                "values": values,
            }
            if name in adapters:
                model = _forecaster(name.removesuffix(LEFT_IN))
                weights = (model.adapter / ADAPTER_FILE).read_bytes() if model.adapter else b""
                asked |= {"temperature": temperature, "adapter": short_hash(weights)}
                asked |= {
                    "spread": getattr(model.text_format, "spread", 1),
                    "season": _season(name, source.season),
                }
            if name == REFERENCE:
                asked |= {"repeats": repeats}
            if any(asked.items() <= row.items() for row in rows):
                continue
            row = asked | measured(source, forecast)
            if name == REFERENCE:
                row |= {"before": {str(steps): round(error, 4) for steps, error in before.items()}}
            rows = [
                *(
                    one
                    for one in rows
                    if any(one[key] != row[key] for key in ("source", "forecaster"))
                ),
                row,
            ]
            write_json(path, provenance(torch.device("cpu")) | {"rows": rows})
            print(
                f"{source.name}: {name}, MASE {np.mean(row['mase']):.3f}, {row['seconds']} s",
                flush=True,
            )


def mean_adapter() -> dict[str, bytes]:
    """PEFT's files for the package: the weights are two runs' mean, better than either on what
    chooses [1]_.

    References
    ----------
    .. [1] Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
    accuracy without
       increasing inference time", ICML 2022.
    """
    folders = [adapter_path("laptop", run) for run in AVERAGED]
    files = {CONFIG_FILE: (folders[-1] / CONFIG_FILE).read_bytes()}
    for name in (ADAPTER_FILE, BIAS_FILE):
        one, other = (load_file(folder / name) for folder in folders)
        files[name] = save({key: (one[key] + other[key]) / 2 for key in one})
    return files


def told_apart(path: Path | None) -> str:
    """What the card says of the repetition, and from whom this adapter is told apart, in whole
    sentences."""
    ratios = table_ratios(table_errors(path), "test")
    sources = sum(source.split == "test" for source in SOURCES)
    ahead = [name for name, ratio in ratios.items() if ratio.surely and ratio.ratio < 1]
    behind = [name for name, ratio in ratios.items() if ratio.surely and ratio.ratio > 1]
    undecided = [name for name, ratio in ratios.items() if not ratio.surely]
    return (
        f"The repetition, here `{REFERENCE}`, is that which erred less on a source before its first forecast; its "
        "period is the calendar's, or else found in the series, and `last period` knows the calendar's alone. By a t "
        f"interval and the exact sign-flip test over the {sources} origins, this adapter is ahead of "
        f"{', '.join(ahead) or 'none'} and behind {', '.join(behind) or 'none'}; it is not told apart from "
        f"{', '.join(undecided) or 'none'}"
    )


def package(path: Path) -> None:
    """Put the adapter for any table into the package, with a card of what this record says of it.

    Its samples are spread so far that on the sources for choosing its 80% band would hold so many
    true values.
    """
    records = [load_record(PROFILES["laptop"], AVERAGED[-1])]
    while start := records[-1].config.get("adapter"):
        records.append(load_record(PROFILES["laptop"], start))
    record, recorded = records[0], adapter_path("laptop", records[0].name)
    measures = {"mase": "error (MASE)", "loss": "scaled quantile loss"}
    table = table_summary(table_errors(path), "test").rename(
        columns=measures, index={GENERAL.name: "this adapter"}
    )
    rows = table_errors(path).query("split == 'validation' and forecaster == 'general'")
    spread = float(np.exp(np.log(rows["needed"] * rows["spread"]).mean()))
    text_format = replace(read_format(recorded), spread=round(spread, 2))
    facts = {
        "data": "No real series: an endless stream of made-up ones, as `m2lib.series.synthetic` draws them: seasons "
        "and trends, autoregressions, wandering cycles, counts, Gaussian processes, prey and predators, mixed; 20 "
        "to 256 steps each. The weights are the mean of those after the last two of "
        f"{len(records)} trainings. The settings below are the last one's, the cost is of all",
        "recipe": {"start": record.config["adapter"], "pairs": record.config["pairs"]}
        | record.training
        | {"targets": ", ".join(record.training["targets"])},
        "flops": sum(one.spent()["coursework"] for one in records),
        "measured": "real series of other origins, in geometric mean, and relative to a repetition. "
        f"{told_apart(path)}",
        "errors": table[list(measures.values())].T.to_dict(),
    }
    for name, content in mean_adapter().items():
        write_atomic(GENERAL / name, content)
    write_json(GENERAL / FORMAT_FILE, text_format.settings())
    write_json(GENERAL / FACTS_FILE, facts)
    write_atomic(
        GENERAL / CARD_FILE, model_card(record.backbone["id"], text_format, facts).encode()
    )


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
    parser.add_argument(
        "--package",
        action="store_true",
        help="put the adapter `general` and a card into the package",
    )
    given = parser.parse_args()
    record = given.path or results_dir() / TABLE_ERRORS
    record_tables(record, given.split, given.adapters, given.temperature, given.only)
    print(table_summary(table_errors(record), given.split).to_string(float_format="{:.3f}".format))
    if given.package:
        package(record)
