"""Errors of forecasters on real series, as `benchmarks.real_tables` has recorded them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from m2lib.files import read_json
from m2lib.series.intervals import Ratio, error_ratio
from study.settings import benchmark_record

RECORD = "real_tables.json"
LAST_VALUE, LAST_SEASON = "last value", "last season"
LEAST_ERROR = 0.01
"""An error, MASE or scaled quantile loss, below which two forecasts count as equally good. A
geometric mean bears no error of zero."""


def judged() -> dict[str, dict[str, Any]]:
    """Return what is recorded of each forecaster on the series that judge, by its name.

    Its `sources` hold by the source's name the errors of all forecasts, in the order of `series`,
    the number of a forecast's series in its source: `mase`, the scaled quantile `loss`, and the
    share of true values that the 80% band `held`.
    """
    return read_json(benchmark_record(RECORD))["judging"]


def errors_by_series(forecasters: dict[str, dict[str, Any]], measure: str = "mase") -> pd.DataFrame:
    """Return the error of each series: one row a source and series, one column a forecaster.

    It is the mean MASE of the series' forecasts, or the mean of their other `measure`, `loss`,
    which is their scaled quantile loss; and LEAST_ERROR where that is less. `forecasters` are those
    of `judged`, or some of them.
    """
    frames = []
    for name, measured in forecasters.items():
        for source, own in measured["sources"].items():
            errors = pd.DataFrame({"series": own["series"], "error": own[measure]})
            frames.append(errors.assign(source=source, forecaster=name))
    table = pd.concat(frames).pivot_table(
        "error", ["source", "series"], "forecaster", aggfunc="mean", sort=False
    )
    return table.clip(lower=LEAST_ERROR)


@dataclass(frozen=True)
class Comparison:
    """Two forecasters on the series that both have forecast."""

    over_series: Ratio
    """The ratio of their errors, where each series counts once."""
    over_sources: Ratio | None
    """The same, where each source counts once, by the geometric mean of its series; None of a
    single source."""
    better: int
    """The number of series on which the first one has the smaller error."""
    count: int
    """The number of series."""


def compared(errors: pd.DataFrame, first: str, second: str) -> Comparison:
    """Compare two columns of `errors_by_series`."""
    pairs = pd.DataFrame({"first": errors[first], "second": errors[second]}).dropna()
    by_source = np.exp(np.log(pairs).groupby("source").mean())
    over_sources = None
    if len(by_source) > 1:
        over_sources = error_ratio(by_source["first"], by_source["second"])
    return Comparison(
        over_series=error_ratio(pairs["first"], pairs["second"]),
        over_sources=over_sources,
        better=int((pairs["first"] < pairs["second"]).sum()),
        count=len(pairs),
    )


def held(measured: dict[str, Any]) -> float:
    """Return the share of true values that a forecaster's 80% bands hold, in the mean over its
    forecasts, whatever their length."""
    shares = [own["held"] for own in measured["sources"].values()]
    return float(np.concatenate(shares).mean())
