"""`python -m benchmarks.yardsticks` measures forecasters with and without a language model.

They forecast series of our world and of those in study.worlds. The record is yardsticks.json
beside the recorded runs, or the file that is named. It is written row by row, and rows of the same
data and weights are not measured again. Some forecasters take minutes, and some want statsforecast,
which `pip install -c constraints.txt -e '.[yardsticks]'` brings.
"""

import argparse
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command import one_line
from benchmarks.physics import FITS, physics_forecast
from benchmarks.yardstick_costs import FORMULAS, CountedRates, core_rate
from m2lib import series as library
from m2lib.accounting import Shape
from m2lib.decoding import DecodeConfig, Forecast, forecast
from m2lib.files import read_json, short_hash, write_json
from m2lib.model import (
    ADAPTER_FILE,
    CONFIG_FILE,
    Backbone,
    adapter_hash,
    load_adapter,
    load_backbone,
)
from m2lib.provenance import provenance
from m2lib.series import (
    CONTEXT_STEPS,
    FORECAST_STEPS,
    SeriesSet,
    load_series,
    series_mae,
    to_integers,
)
from m2tables.evaluation import LONGEST_SEASON
from m2tables.language import GENERAL, TEMPERATURE, VIEWS_FILE, LanguageModel
from m2tables.network import FOLDER, WEIGHTS_FILE, NetworkModel
from m2tables.views import View
from study import EXPERIMENTS, ORDER, PROFILES, STATISTICAL, TUNED, adapter_path
from study.costs import series_costs, workload
from study.experiments import CONSTRAINED
from study.records import is_finished, load_finished
from study.settings import results_dir
from study.worlds import WORLDS
from study.yardsticks import YARDSTICKS

PROFILE = PROFILES["laptop"]
"""The profile whose language model and adapters are measured."""
WORLD_SERIES = 30
"""Series of each world."""


def statistical(model: str, contexts: np.ndarray) -> np.ndarray:
    """Forecast contexts (n, 80, 2) by a model of statsforecast, each variable alone: (n, 20, 2).

    Nothing is forecast below zero or above ten times the context's largest value.
    """
    from statsforecast import models  # what else this module has does without the library

    forecasts = np.empty((len(contexts), FORECAST_STEPS, contexts.shape[2]))
    for i, context in enumerate(contexts):
        for j, values in enumerate(context.T.astype(np.float64)):
            season = library.period_of(values) or 1
            if model == "AutoARIMA":
                season = 1  # the search for a seasonal ARIMA takes minutes a series
            if model == "AutoETS" and season > LONGEST_SEASON:
                season = 1
            fresh_model = getattr(models, model)(season_length=season)
            forecasts[i, :, j] = fresh_model.forecast(y=values, h=FORECAST_STEPS)["mean"]
        forecasts[i] = np.clip(forecasts[i], 0, 10 * context.max())
    return forecasts


def for_any_table(contexts: np.ndarray) -> np.ndarray:
    """Forecast contexts (n, 80, 2) by the network of m2tables, each variable alone: (n, 20, 2).

    Like `m2 forecast`, it takes the median, and no season where no calendar names one.
    """
    series = list(contexts.astype(np.float64))
    medians = NetworkModel().quantiles(series, FORECAST_STEPS, [1] * len(series), [0.5])
    return medians[:, 0]


NETWORK = "the small network, for any table"
"""The network of m2tables."""
WITHOUT_MODEL: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **library.BASELINES,
    TUNED: partial(library.log_var, order=ORDER),
    "the last period, repeated": library.seasonal_naive,
    **{model: partial(statistical, model) for model in STATISTICAL},
    NETWORK: for_any_table,
}
"""The forecasters that see the scaled contexts alone, by name."""
FOR_ANY_TABLE = "general"
"""The adapter of m2tables, which is no experiment of the study."""
LANGUAGE_MODELS = {
    "the language model, untuned": None,
    "the language model, final adapter": "final",
    "the language model, best adapter": "best",
    "the language model, for any table": FOR_ANY_TABLE,
}
"""The experiment that supplies each forecaster's adapter. A forecaster takes part once its
experiment is recorded.

Decoding is greedy and constrained. The adapter for any table always takes part. It samples, because
its format is for noise, and in its views, as in m2tables. Its forecast is the median."""
GENERAL_PROTOCOL = DecodeConfig(constrained=True, temperature=TEMPERATURE, n_samples=16)
"""How `general` is sampled, all of its views together."""
CONSTRAINED_BASELINE = "baseline-constrained"
STUDIED = {
    ("validation", "the language model, untuned"): CONSTRAINED_BASELINE,
    ("test", "the language model, untuned"): "untuned-test-constrained",
    ("test", "the language model, final adapter"): "final",
    ("test", "the language model, best adapter"): "best",
}
"""The experiments that the study has recorded itself, by set and forecaster."""


def forecasters() -> tuple[str, ...]:
    """Return the names of all forecasters that take part, the language models last."""
    names = [*WITHOUT_MODEL, *FITS]
    for name, adapter in LANGUAGE_MODELS.items():
        if adapter in (None, FOR_ANY_TABLE) or is_finished(PROFILE, adapter):
            names.append(name)
    return tuple(names)


def measured(series: SeriesSet, ids: Sequence[int], name: str) -> dict[str, Any]:
    """Return a forecaster's errors and costs on series, as `study.recorded_rows` describes them."""
    ids = list(ids)
    scales = series.scales[ids]
    integers = to_integers(series.trajectories[ids], scales)
    if name in LANGUAGE_MODELS:
        forecasts, row = _forecast_with_model(series.contexts[ids], scales, name)
    else:
        forecasts, row = _forecast_without_model(
            integers[:, :CONTEXT_STEPS], scales, series.time, name
        )
    maes = series_mae(forecasts, integers[:, CONTEXT_STEPS:])
    return row | {"maes": dict(zip(ids, maes.tolist(), strict=True))}


def _forecast_without_model(
    contexts: np.ndarray, scales: np.ndarray, times: np.ndarray, name: str
) -> tuple[np.ndarray, dict]:
    """Return forecasts without a language model, and what each took."""
    rates = CountedRates()
    # The time of this process alone, of all its threads, however busy the machine is.
    start = time.process_time()
    if name in FITS:
        forecasts = physics_forecast(contexts, scales, times, name, rates)
    else:
        forecasts = WITHOUT_MODEL[name](contexts)
    seconds = (time.process_time() - start) / len(contexts)

    row: dict[str, Any] = {"seconds": seconds}
    weights = _weights_of(name)
    if weights:
        row["adapter"] = weights
    if name in FORMULAS:
        row["flops"] = FORMULAS[name]
    elif name in FITS:
        row |= {"flops": rates.flops / len(contexts), "bound": "at least"}
    else:
        row |= {"flops": seconds * core_rate(), "bound": "at most"}
    return forecasts, row


def _forecast_with_model(
    contexts: np.ndarray, scales: np.ndarray, name: str
) -> tuple[np.ndarray, dict]:
    """Return forecasts of the language model, scaled units, and what each took."""
    adapter = LANGUAGE_MODELS[name]
    backbone = _language_model(adapter)
    start = time.process_time()
    if adapter == FOR_ANY_TABLE:
        points, parts = _sampled(backbone, contexts, scales)
    else:
        forecasts = forecast(backbone, contexts, CONSTRAINED, batch_size=len(contexts))
        points = np.stack([greedy.point for greedy in forecasts])
        parts = [(CONSTRAINED, forecasts)]
    seconds = (time.process_time() - start) / len(contexts)

    shape = Shape.of(backbone.model.config)
    adapted = _shape_of(adapter)
    costs = []
    for protocol, forecasts in parts:
        for entry in forecasts:
            costs.append(series_costs(shape, vars(entry), protocol, **adapted))
    row = {
        "seconds": seconds,
        "flops": sum(cost["executed"] for cost in costs) / len(contexts),
        "coursework": sum(cost["coursework"] for cost in costs) / len(contexts),
        "adapter": _weights_of(name),
    }
    return points, row


def _sampled(
    backbone: Backbone, contexts: np.ndarray, scales: np.ndarray
) -> tuple[np.ndarray, list[tuple[DecodeConfig, list[Forecast]]]]:
    """Return the medians of what `general` samples, scaled units, and the samples of each view.

    Of 16 samples its three views have 6, 5 and 5. Each view is sampled by itself, because it has
    costs of its own, and with a seed of its own. The samples are not moved away from their median,
    which is all that is asked. The committed rows were computed in int8, and those of the other
    adapters in float32.
    """
    format_fields = read_json(GENERAL / library.FORMAT_FILE) | {"spread": 1.0}
    views = [View(**fields) for fields in read_json(GENERAL / VIEWS_FILE)]
    model = LanguageModel(backbone, library.TextFormat(**format_fields), views)
    shares = np.bincount(np.arange(GENERAL_PROTOCOL.n_samples) % len(views)).tolist()
    parts = []
    samples_by_view = []
    for seed, (view, share) in enumerate(zip(views, shares, strict=True)):
        forecasts = model.sample(
            list(contexts),
            FORECAST_STEPS,
            [1] * len(contexts),  # no season
            num_samples=share,
            seed=seed,
            views=(view,),
        )
        parts.append((replace(GENERAL_PROTOCOL, n_samples=share), forecasts))
        samples_by_view.append(np.stack([one.physical for one in forecasts]))
    samples = np.concatenate(samples_by_view, axis=1)  # (series, samples, steps, variables)
    return to_integers(np.median(samples, axis=1), scales), parts


@cache
def _language_model(adapter: str | None) -> Backbone:
    """Return the study's language model on the CPU, with an experiment's adapter or none."""
    backbone = load_backbone(PROFILE.backbone, device="cpu", dtype="float32")
    if adapter == FOR_ANY_TABLE:
        load_adapter(backbone.model, GENERAL)
    elif adapter:
        load_adapter(backbone.model, adapter_path(PROFILE, adapter))
    return backbone


def _shape_of(adapter: str | None) -> dict[str, Any]:
    """Return the targets and the rank of an adapter, as the accountant takes them."""
    if adapter == FOR_ANY_TABLE:
        config = read_json(GENERAL / CONFIG_FILE)
        return {"targets": tuple(config["target_modules"]), "rank": config["r"]}
    return workload(EXPERIMENTS[adapter or CONSTRAINED_BASELINE], PROFILE).adapter


def _weights_of(name: str) -> str:
    """Return the hash of what a forecaster learned; an empty string if it learned nothing.

    That is an adapter's, or that of the network's weights.
    """
    if name == NETWORK:
        return short_hash((FOLDER / WEIGHTS_FILE).read_bytes())
    adapter = LANGUAGE_MODELS.get(name)
    if not adapter:
        return ""
    if adapter == FOR_ANY_TABLE:
        # Its card does not count, because that tells what was measured.
        return short_hash((GENERAL / ADAPTER_FILE).read_bytes())
    return adapter_hash(adapter_path(PROFILE, adapter))


def _studied(experiment: str, series: SeriesSet) -> dict[str, Any]:
    """Return the same as `measured`, from the study's own record, which must be finished."""
    record = load_finished(PROFILE, experiment, series)
    # Of several devices the last one has forecast: "cpu: A, 1 threads; cpu: B, 2 threads".
    threads = re.search(r"(\d+) threads", record.device.split("; ")[-1])
    seconds = record.seconds - record.train_seconds
    if threads:
        seconds *= int(threads[1])  # processor time, as `measured` takes it
    flops = record.flops["forecasts"]
    count = len(record.series)
    return {
        "seconds": seconds / count,
        "flops": flops["executed"] / count,
        "coursework": flops["coursework"] / count,
        "adapter": record.adapter,
        "maes": record.maes(),
    }


def sets() -> dict[str, tuple[SeriesSet, Sequence[int]]]:
    """Return what is forecast, as series and their ids.

    These are the study's validation and test series, and the first series of each world.
    """
    data = load_series()
    split = library.split_ids(len(data))
    series_sets: dict[str, tuple[SeriesSet, Sequence[int]]] = {
        "validation": (data, split.validation),
        "test": (data, split.test),
    }
    for name, make in WORLDS.items():
        series_sets[name] = (make(WORLD_SERIES), range(WORLD_SERIES))
    return series_sets


def record_yardsticks(path: Path | None = None) -> Path:
    """Measure all forecasters on all sets, and write yardsticks.json; returns its path.

    It lies beside the recorded runs, unless a path is given, and is written after each row. Rows of
    the same data and weights are not measured again.
    """
    path = path or results_dir() / YARDSTICKS
    series_sets = sets()
    data = {name: series.fingerprint for name, (series, _) in series_sets.items()}
    valid_rows = _valid_rows(path, data) if path.exists() else {}
    where = provenance(torch.device("cpu"))
    if path.exists():  # rows that stay were measured where the record says
        devices = [*read_json(path)["device"].split("; "), where["device"]]
        where["device"] = "; ".join(dict.fromkeys(devices))
    rows: dict[tuple[str, str], Any] = {}  # None where a row is missing
    for place in product(series_sets, forecasters()):
        rows[place] = valid_rows.get(place)

    for (set_name, name), old_row in rows.items():
        series, ids = series_sets[set_name]
        if (set_name, name) in STUDIED:
            new_row = _studied(STUDIED[set_name, name], series)
        elif old_row:
            continue
        else:
            twin_row = _of_a_twin(rows, series_sets, set_name, name)
            new_row = twin_row or measured(series, ids, name)
        row = {"set": set_name, "forecaster": name} | new_row
        if row == old_row:
            continue
        rows[set_name, name] = row
        known_rows = [known_row for known_row in rows.values() if known_row]
        write_json(path, where | {"data": data, "rows": known_rows})
        mean_mae = np.mean(list(row["maes"].values()))
        error = f"mean MAE {mean_mae:.1f}"
        print(f"{set_name}: {name}, {error}, {row['seconds']:.2g} s a series", flush=True)
    return path


def _of_a_twin(
    rows: dict[tuple[str, str], Any],
    series_sets: dict[str, tuple[SeriesSet, Sequence[int]]],
    set_name: str,
    name: str,
) -> dict[str, Any] | None:
    """Return a language model's row of an equal set, if there is one.

    It reads scaled numbers only, in which the same world in other units is the same.
    """
    if name not in LANGUAGE_MODELS:
        return None
    series, ids = series_sets[set_name]
    for other_name, (other_series, other_ids) in series_sets.items():
        if other_name == set_name:
            continue
        has_same_data = other_series.fingerprint == series.fingerprint
        has_same_ids = list(other_ids) == list(ids)
        row = rows[other_name, name]
        if has_same_data and has_same_ids and row:
            return {key: value for key, value in row.items() if key not in ("set", "forecaster")}
    return None


def _valid_rows(path: Path, data: dict[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of a record that are about these data, and the weights as they are now."""
    record = read_json(path)
    rows = {}
    for row in record["rows"]:
        set_name = row["set"]
        name = row["forecaster"]
        if record["data"].get(set_name, "") != data.get(set_name):
            continue
        if row.get("adapter", "") == _weights_of(name):
            maes = {int(i): mae for i, mae in row["maes"].items()}  # JSON has made texts of the ids
            rows[set_name, name] = row | {"maes": maes}
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "path", nargs="?", type=Path, help="default: report/results/yardsticks.json"
    )
    options = parser.parse_args()
    with one_line():
        print(record_yardsticks(options.path))
