"""`python -m benchmarks.yardsticks`: forecasters with and without a language model, on series of
ours and other worlds.

The worlds are those of m2lib.series.worlds. Writes yardsticks.json beside the recorded runs, or the
file that is named, row by row; what it holds already of the same data and adapter is kept. Some
forecasters take minutes, and some want statsforecast: `pip install -e '.[yardsticks]'` brings it.
"""

import argparse
import re
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.physics import FITS, physics_forecast
from benchmarks.yardstick_costs import FORMULAS, CountedRates, core_rate
from m2lib import series as library
from m2lib.accounting import Shape
from m2lib.decoding import DecodeConfig, forecast
from m2lib.files import InputError, read_json, short_hash, write_json
from m2lib.forecaster.adapters import GENERAL
from m2lib.forecaster.sampling import TEMPERATURE, Sampler
from m2lib.model import Backbone, adapter_hash, load_adapter, load_backbone
from m2lib.model.adapter_files import ADAPTER_FILE
from m2lib.series import (
    CONTEXT_STEPS,
    FORECAST_STEPS,
    SeriesSet,
    load_series,
    series_mae,
    to_integers,
)
from m2lib.series.worlds import WORLDS
from m2lib.settings import results_dir
from m2lib.study import (
    EXPERIMENTS,
    ORDER,
    PROFILES,
    STATISTICAL,
    TUNED,
    adapter_path,
    load_record,
    record_path,
)
from m2lib.study.costs import adapter_shape, series_costs
from m2lib.study.experiments import CONSTRAINED
from m2lib.study.provenance import provenance
from m2lib.study.records import YARDSTICKS

STUDY = PROFILES["laptop"]
"""Whose language model and adapters are measured."""
WORLD_SERIES = 30
LONGEST_SEASON = 24
"""statsforecast's exponential smoothing has no longer seasons."""


def statistical(model: str, contexts: np.ndarray) -> np.ndarray:
    """Forecasts (n, 20, 2) of contexts (n, 80, 2) by a model of statsforecast, each variable alone.

    Nothing is forecast below zero or above ten times the context's largest value. Raises InputError
    where the library is not installed.
    """
    try:
        from statsforecast import models
    except ImportError as error:
        raise InputError(
            "statsforecast is not installed; `pip install statsforecast` brings it"
        ) from error
    ahead = np.empty((len(contexts), FORECAST_STEPS, contexts.shape[2]))
    for i, context in enumerate(contexts):
        for j, values in enumerate(context.T.astype(np.float64)):
            season = library.period_of(values) or 1
            if model == "AutoARIMA" or (model == "AutoETS" and season > LONGEST_SEASON):
                season = 1  # the search for a seasonal ARIMA takes minutes a series
            fitted = getattr(models, model)(season_length=season)
            ahead[i, :, j] = fitted.forecast(y=values, h=FORECAST_STEPS)["mean"]
        ahead[i] = np.clip(ahead[i], 0, 10 * context.max())
    return ahead


PLAIN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **library.BASELINES,
    TUNED: partial(library.log_var, order=ORDER),
    "the last period, repeated": library.seasonal_naive,
    **{model: partial(statistical, model) for model in STATISTICAL},
}
"""Those that see the scaled contexts alone, by name."""
LANGUAGE_MODELS = {
    "the language model, untuned": None,
    "the language model, final adapter": "final",
    "the language model, best adapter": "best",
    "the language model, for any table": GENERAL.name,
}
"""By name, the experiment whose adapter is used; it takes part once that is recorded. Greedy,
constrained; the last one is the package's, whose shape and format are those of the experiment
`general`. It draws, as that format is for noise, and its forecast is the median."""
DRAWN = DecodeConfig(constrained=True, temperature=TEMPERATURE, n_samples=16)
UNTUNED = "baseline-constrained"
STUDIED = {
    ("validation", "the language model, untuned"): UNTUNED,
    ("test", "the language model, untuned"): "untuned-test-constrained",
    ("test", "the language model, final adapter"): "final",
    ("test", "the language model, best adapter"): "best",
}
"""What the study has recorded itself: the experiment, by set and forecaster."""


def forecasters() -> tuple[str, ...]:
    """The names of all that take part, the language models last."""
    recorded = (
        name for name, adapter in LANGUAGE_MODELS.items() if adapter is None or _finished(adapter)
    )
    return (*PLAIN, *FITS, *recorded)


def _finished(experiment: str) -> bool:
    return (
        record_path(STUDY, experiment).is_file() and load_record(STUDY, experiment).status == "done"
    )


def measured(series: SeriesSet, ids: Sequence[int], name: str) -> dict[str, Any]:
    """What a forecaster comes to on these series: the fields of its `Row` from `seconds` on."""
    ids = list(ids)
    integers = to_integers(series.trajectories[ids], series.scales[ids])
    if name in LANGUAGE_MODELS:
        ahead, row = _written(series.contexts[ids], series.scales[ids], LANGUAGE_MODELS[name])
    else:
        ahead, row = _computed(integers[:, :CONTEXT_STEPS], series.scales[ids], series.time, name)
    return row | {
        "maes": dict(zip(ids, series_mae(ahead, integers[:, CONTEXT_STEPS:]).tolist(), strict=True))
    }


def _computed(
    contexts: np.ndarray, scales: np.ndarray, times: np.ndarray, name: str
) -> tuple[np.ndarray, dict]:
    """Forecasts without a language model, and what they took."""
    rates = CountedRates()
    started = (
        time.process_time()
    )  # of all threads, and of this process alone, however busy the machine is
    ahead = (
        physics_forecast(contexts, scales, times, name, rates)
        if name in FITS
        else PLAIN[name](contexts)
    )
    seconds = (time.process_time() - started) / len(contexts)
    if name in FORMULAS:
        return ahead, {"seconds": seconds, "flops": FORMULAS[name]}
    if name in FITS:
        return ahead, {
            "seconds": seconds,
            "flops": rates.flops / len(contexts),
            "bound": "at least",
        }
    return ahead, {"seconds": seconds, "flops": seconds * core_rate(), "bound": "at most"}


def _written(
    contexts: np.ndarray, scales: np.ndarray, adapter: str | None
) -> tuple[np.ndarray, dict]:
    """Forecasts of the language model, and what they took."""
    backbone, experiment = _language_model(adapter), EXPERIMENTS[adapter or UNTUNED]
    started = time.process_time()
    if experiment.made_up:
        sampler, protocol = Sampler(backbone, experiment.made_up), DRAWN
        ahead = sampler.sample(list(contexts), FORECAST_STEPS, num_samples=DRAWN.n_samples)
        points = to_integers(np.median([made.physical for made in ahead], axis=1), scales)
    else:
        ahead, protocol = (
            forecast(backbone, contexts, CONSTRAINED, batch_size=len(contexts)),
            CONSTRAINED,
        )
        points = np.stack([made.point for made in ahead])
    seconds = (time.process_time() - started) / len(contexts)
    shape, adapted = Shape.of(backbone.model.config), adapter_shape(experiment, STUDY)
    costs = [series_costs(shape, vars(made), protocol, **adapted) for made in ahead]
    flops, coursework = (
        sum(cost[kind] for cost in costs) / len(costs) for kind in ("executed", "coursework")
    )
    row = {
        "seconds": seconds,
        "flops": flops,
        "coursework": coursework,
        "adapter": _adapter_hash(adapter),
    }
    return points, row


@cache
def _language_model(adapter: str | None) -> Backbone:
    backbone = load_backbone(STUDY.backbone, device="cpu")
    if adapter:
        load_adapter(
            backbone.model, GENERAL if adapter == GENERAL.name else adapter_path(STUDY, adapter)
        )
    return backbone


def _adapter_hash(adapter: str | None) -> str:
    if adapter == GENERAL.name:
        return short_hash(
            (GENERAL / ADAPTER_FILE).read_bytes()
        )  # without its card, which says what was measured
    return adapter_hash(adapter_path(STUDY, adapter)) if adapter else ""


def _studied(experiment: str, series: SeriesSet) -> dict[str, Any]:
    """The same as `measured`, from the study's own record."""
    record = load_record(STUDY, experiment, series)
    threads = re.search(r"(\d+) threads", record.device)
    seconds = (record.seconds - record.train_seconds) * (int(threads[1]) if threads else 1)
    spent = record.flops["forecasts"]
    shares = {"seconds": seconds, "flops": spent["executed"], "coursework": spent["coursework"]}
    row = {name: amount / len(record.series) for name, amount in shares.items()}
    return row | {"adapter": record.adapter, "maes": record.maes()}


def sets() -> dict[str, tuple[SeriesSet, Sequence[int]]]:
    """What is forecast: validation and test series of the study, and the first series of each
    world."""
    data = load_series()
    split = library.split_ids(len(data))
    worlds = {name: make(WORLD_SERIES) for name, make in WORLDS.items()}
    return {"validation": (data, split.validation), "test": (data, split.test)} | {
        name: (series, range(WORLD_SERIES)) for name, series in worlds.items()
    }


def record_yardsticks(path: Path | None = None) -> Path:
    """Measure all forecasters on all sets and write the record, yardsticks.json beside the runs';
    returns its path.

    It is written after each row. What it holds of the same data and adapter is kept.
    """
    path = path or results_dir() / YARDSTICKS
    found = sets()
    data = {where: series.fingerprint for where, (series, _) in found.items()}
    kept = _kept(path, data) if path.exists() else {}
    rows: dict[tuple[str, str], Any] = {
        place: kept.get(place) for place in product(found, forecasters())
    }
    for (where, name), old in rows.items():
        series, ids = found[where]
        if (where, name) in STUDIED:
            new = _studied(STUDIED[where, name], series)
        elif old:
            continue
        else:
            new = measured(series, ids, name)
        row = {"set": where, "forecaster": name} | new
        if row != old:
            rows[where, name] = row
            made = provenance(torch.device("cpu")) | {
                "data": data,
                "rows": [row for row in rows.values() if row],
            }
            write_json(path, made)
            error, seconds = np.mean(list(row["maes"].values())), row["seconds"]
            print(f"{where}: {name}, mean MAE {error:.1f}, {seconds:.2g} s a series", flush=True)
    return path


def _kept(path: Path, data: dict[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of a record that are about these data, and about the adapters as they are now."""
    stored = read_json(path)
    rows = [
        row | {"maes": {int(i): mae for i, mae in row["maes"].items()}} for row in stored["rows"]
    ]
    return {
        (row["set"], row["forecaster"]): row
        for row in rows
        if stored["data"].get(row["set"], "") == data.get(row["set"])
        and row.get("adapter", "") == _adapter_hash(LANGUAGE_MODELS.get(row["forecaster"]))
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "path", nargs="?", type=Path, help="default: report/results/yardsticks.json"
    )
    arguments = parser.parse_args()
    print(record_yardsticks(arguments.path))
