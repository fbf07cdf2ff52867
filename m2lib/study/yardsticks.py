"""Forecasters that need no language model, on the study's series and on worlds that nobody was trained on.

Some take minutes and some want a library that m2lib does without, so what they come to is recorded, by `m2 yardsticks`.
"""

import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from m2lib.files import InputError, repository, write_atomic
from m2lib.series import (
    BASELINES,
    CONTEXT_STEPS,
    FITS,
    FORECAST_STEPS,
    WORLDS,
    SeriesSet,
    load_series,
    period_of,
    physics_forecast,
    seasonal_naive,
    series_mae,
    split_ids,
    to_integers,
)

FILE = ("report", "results", "yardsticks.json")
WORLD_SERIES = 30
LONGEST_SEASON = 24
"""statsforecast's exponential smoothing has no longer seasons."""

Row = dict[str, Any]
"""What one forecaster came to on one set: `set`, `forecaster`, `maes` by series id, `seconds` a series."""


def statistical(model: str, contexts: np.ndarray) -> np.ndarray:
    """Forecasts (n, 20, 2) of contexts (n, 80, 2) by a model of statsforecast, each variable alone.

    Nothing is forecast below zero or above ten times the context's largest value. Raises InputError where the library
    is not installed.
    """
    try:
        from statsforecast import models
    except ImportError as error:
        raise InputError("statsforecast is not installed; `pip install 'm2lib[yardsticks]'` brings it") from error
    ahead = np.empty((len(contexts), FORECAST_STEPS, contexts.shape[2]))
    for i, context in enumerate(contexts):
        for j, values in enumerate(context.T.astype(np.float64)):
            season = period_of(values) or 1
            if model == "AutoARIMA" or (model == "AutoETS" and season > LONGEST_SEASON):
                season = 1  # the search for a seasonal ARIMA takes minutes a series
            fitted = getattr(models, model)(season_length=season)
            ahead[i, :, j] = fitted.forecast(y=values, h=FORECAST_STEPS)["mean"]
        ahead[i] = np.clip(ahead[i], 0, 10 * context.max())
    return ahead


STATISTICAL = ("AutoARIMA", "AutoETS", "AutoTheta")
PLAIN: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **BASELINES,
    "the last period, repeated": seasonal_naive,
    **{model: partial(statistical, model) for model in STATISTICAL},
}
"""Those that see the scaled contexts alone, by name."""


def measured(series: SeriesSet, ids: Sequence[int], name: str) -> tuple[dict[int, float], float]:
    """The MAE of a forecaster on each series, and the seconds that it takes a series."""
    ids = list(ids)
    integers = to_integers(series.trajectories[ids], series.scales[ids])
    contexts, truths = integers[:, :CONTEXT_STEPS], integers[:, CONTEXT_STEPS:]
    started = time.perf_counter()
    physics = partial(physics_forecast, scales=series.scales[ids], time=series.time, name=name)
    ahead = (physics if name in FITS else PLAIN[name])(contexts)
    seconds = (time.perf_counter() - started) / len(ids)
    return dict(zip(ids, series_mae(ahead, truths).tolist(), strict=True)), seconds


def sets() -> dict[str, tuple[SeriesSet, Sequence[int]]]:
    """What is forecast: validation and test series of the study, and the first series of each world."""
    data = load_series()
    split = split_ids(len(data))
    worlds = {name: make(WORLD_SERIES) for name, make in WORLDS.items()}
    return {"validation": (data, split.validation), "test": (data, split.test)} | {
        name: (series, range(WORLD_SERIES)) for name, series in worlds.items()
    }


def record_yardsticks(path: Path | None = None) -> Path:
    """Measure all forecasters on all sets and write the record, report/results/yardsticks.json; returns its path."""
    import torch

    from m2lib.study.provenance import provenance

    rows: list[Row] = []
    found = sets()
    for where, (series, ids) in found.items():
        for name in (*PLAIN, *FITS):
            maes, seconds = measured(series, ids, name)
            rows.append({"set": where, "forecaster": name, "seconds": seconds, "maes": maes})
            print(f"{where}: {name}, mean MAE {np.mean(list(maes.values())):.1f}, {seconds:.2g} s a series", flush=True)
    written = provenance(torch.device("cpu")) | {
        "data": {name: series.fingerprint for name, (series, _) in found.items()},
        "rows": rows,
    }
    path = path or repository(*FILE)
    write_atomic(path, (json.dumps(written, indent=1) + "\n").encode())
    return path


def recorded_yardsticks(where: str) -> dict[str, dict[int, float]]:
    """The recorded errors of every forecaster on a set: MAE by series id, by name."""
    rows = json.loads(repository(*FILE).read_text(encoding="utf-8"))["rows"]
    return {row["forecaster"]: {int(i): mae for i, mae in row["maes"].items()} for row in rows if row["set"] == where}
