"""`python -m benchmarks.table` times what a user waits for: the forecasts of a table.

It has 1, 10 or 100 series of 200 days. Each forecaster writes 14 days with quantiles, or 20 samples
of them: the small network, the language model, and the methods of statsforecast, which
`pip install -c constraints.txt -e '.[yardsticks]'` brings. What takes long is measured on fewer
series, and scaled. The record is benchmarks/results/table.json.
"""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.command import one_line
from m2lib.files import ROOT, write_json
from m2lib.provenance import provenance
from m2lib.series import DECILES
from m2tables import Forecaster
from m2tables.evaluation import STATSFORECAST, statsforecast_model

COUNTS = (1, 10, 100)
"""Series of the tables."""
STEPS = 200
HORIZON = 14
SEASON = 7
MOST = {"AutoARIMA": 10}
"""On how many series those are measured at most that take long."""

Series = list[np.ndarray]


def table_of(count: int) -> Series:
    """Return series (200, 1) with a week, a trend and noise, which differ in all three."""
    rng = np.random.default_rng(0)
    steps = np.arange(STEPS)
    series = []
    for _ in range(count):
        week = rng.uniform(0, 30) * np.sin(2 * np.pi * steps / SEASON + rng.uniform(0, 6))
        trend = rng.uniform(-0.2, 0.2) * steps
        noise = rng.normal(0, 10, STEPS)
        series.append((200 + week + trend + noise)[:, None])
    return series


def _ours(model: str) -> Callable[[Series], object]:
    """Return one of our forecasters, by its name in `Forecaster.from_pretrained`."""
    forecaster = Forecaster.from_pretrained(model)
    return lambda series: forecaster.model.quantiles(
        series, HORIZON, [SEASON] * len(series), DECILES
    )


def _statsforecast(name: str) -> Callable[[Series], object]:
    """Return a method of statsforecast, which forecasts each series by itself."""
    forecast = statsforecast_model(name)
    return lambda series: [forecast(values, HORIZON, SEASON) for values in series]


FORECASTERS: dict[str, Callable[[], Callable[[Series], object]]] = {
    "the small network": partial(_ours, "network"),
    "the language model": partial(_ours, "language"),
    **{name: partial(_statsforecast, name) for name in STATSFORECAST},
}


def timed(name: str) -> dict[int, float]:
    """Return the seconds of a forecaster on each table; those of larger tables may be scaled."""
    forecast = FORECASTERS[name]()
    most = MOST.get(name, max(COUNTS))
    forecast(table_of(1))  # the first time is slower
    seconds: dict[int, float] = {}
    for count in COUNTS:
        if count > most:
            seconds[count] = seconds[most] * count / most
            continue
        start = time.perf_counter()
        forecast(table_of(count))
        seconds[count] = time.perf_counter() - start
    return seconds


def main() -> None:
    """Time all forecasters, one after the other, and write the record."""
    path = ROOT / "benchmarks" / "results" / "table.json"
    rows = {}
    for name in FORECASTERS:
        rows[name] = timed(name)
        print(f"{name}: " + ", ".join(f"{n} series {s:.3g} s" for n, s in rows[name].items()))
    write_json(path, provenance(torch.device("cpu")) | {"most": MOST, "seconds": rows})
    print(path)


if __name__ == "__main__":
    with one_line():
        main()
