"""The forecasters that benchmarks of real tables compare: statsforecast's models, and adapters.

A forecast is the nine deciles of each step.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from m2lib.forecaster import NO_ADAPTER, Forecaster
from m2lib.forecaster.adapters import adapter_weights_hash
from m2lib.forecaster.views import PLAIN

UNTUNED = "untuned"
"""The name of the language model without an adapter."""
BANDS = (80, 60, 40, 20)
"""Central intervals, in percent; their ends are the deciles, without the middle one."""


def statsforecast_deciles(
    model: str, contexts: Sequence[np.ndarray], horizon: int, season: int
) -> list[np.ndarray]:
    """Return deciles (9, horizon) by a model of statsforecast, which gets the whole past."""
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


@cache
def forecaster_of(name: str) -> Forecaster:
    """Return the language model with an adapter, by its name or folder, or the UNTUNED one."""
    return Forecaster.from_pretrained(NO_ADAPTER if name == UNTUNED else name, device="cpu")


def model_key(model: Forecaster) -> dict[str, Any]:
    """Return what decides a language model's forecasts, beside series and sampling.

    The views in which it is shown a series are named where they are not the plain one.
    """
    key: dict[str, Any] = {
        "adapter": adapter_weights_hash(model.adapter),
        "spread": getattr(model.text_format, "spread", 1.0),
    }
    if model.views != PLAIN:
        key["views"] = [asdict(view) for view in model.views]
    return key
