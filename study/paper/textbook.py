"""Errors of forecasters on the series of a textbook, as `benchmarks.textbook` has recorded them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from m2lib.errors import InputError
from m2lib.files import read_json
from m2lib.series.intervals import Ratio, error_ratio
from study.paper.errors import geometric_mean
from study.settings import benchmark_record

RECORD = "textbook.json"
FIRST_READING = "textbook_first_reading.json"
SECOND_READING = "textbook_second_reading.json"
"""The rows of `general` of the half for judging when it was opened for the first and the second
time. The adapter has been trained further since, and the half has been opened a third time."""
PICTURED_RECORD = "pictured.json"
"""The one forecast of each source that judges which `figures.real_tables` shows."""
CHOOSING, JUDGING = "choosing", "judging"
LAST_SEASON = "last season"
LAST_VALUE = "last value"
LEAST_ERROR = 0.01
"""An error, MASE or scaled quantile loss, below which two forecasts count as equally good. A
geometric mean bears no error of zero."""


def judged_rows() -> list[dict[str, Any]]:
    """Return the recorded rows of the half for judging, one for each source and forecaster."""
    rows = read_json(benchmark_record(RECORD))["rows"]
    return [row for row in rows if row["split"] == JUDGING]


def pictured_rows() -> list[dict[str, Any]]:
    """Return one forecast of each source that judges, as `benchmarks.pictured` has recorded it."""
    return read_json(benchmark_record(PICTURED_RECORD))["rows"]


def errors_by_series(rows: Iterable[dict[str, Any]], measure: str = "mase") -> pd.DataFrame:
    """Return the error of each series: one row a source and series, one column a forecaster.

    It is the mean MASE of the series' forecasts, or the mean of their other `measure`, `loss`,
    which is their scaled quantile loss; and LEAST_ERROR where that is less. Raises InputError if
    there are no rows.
    """
    frames = []
    for row in rows:
        errors = pd.DataFrame({"series": row["series"], "error": row[measure]})
        frames.append(errors.assign(source=row["source"], forecaster=row["forecaster"]))
    if not frames:
        raise InputError(
            f"{benchmark_record(RECORD)} has no rows of the series that are asked for; "
            "`python -m benchmarks.textbook` measures them, those for judging with --judge"
        )
    table = pd.concat(frames).pivot_table(
        "error", ["source", "series"], "forecaster", aggfunc="mean", sort=False
    )
    return table.clip(lower=LEAST_ERROR)


@dataclass(frozen=True)
class Comparison:
    """Two forecasters on the series that both have forecast."""

    over_series: Ratio | None
    """The ratio of their errors, where each series counts once; None of fewer than two."""
    over_sources: Ratio | None
    """The same, where each source counts once, by the geometric mean of its series."""
    better: int
    """The number of series on which the first one has the smaller error."""
    count: int
    """The number of series."""


def compared(errors: pd.DataFrame, first: str, second: str) -> Comparison:
    """Compare two columns of `errors_by_series`."""
    pairs = pd.DataFrame({"first": errors[first], "second": errors[second]}).dropna()
    by_source = np.exp(np.log(pairs).groupby("source").mean())
    return Comparison(
        over_series=_error_ratio(pairs),
        over_sources=_error_ratio(by_source),
        better=int((pairs["first"] < pairs["second"]).sum()),
        count=len(pairs),
    )


def ratios(errors: pd.DataFrame, ours: str) -> dict[str, Ratio]:
    """Return how many times as large the error of `ours` is as each other forecaster's.

    Each series counts once. Forecasters of fewer than two common series are left out.
    """
    by_rival = {}
    for rival in errors.columns.drop(ours):
        ratio = compared(errors, ours, rival).over_series
        if ratio:
            by_rival[rival] = ratio
    return by_rival


def held(rows: Iterable[dict[str, Any]], forecaster: str) -> float:
    """Return the share of true values that a forecaster's 80% bands hold, in the mean over its
    forecasts, whatever their length."""
    shares = [row["held"] for row in rows if row["forecaster"] == forecaster]
    return float(np.concatenate(shares).mean())


def _error_ratio(pairs: pd.DataFrame) -> Ratio | None:
    """Return the ratio of the columns `first` and `second`; None for fewer than two rows."""
    return error_ratio(pairs["first"], pairs["second"]) if len(pairs) > 1 else None


def summary(rows: Sequence[dict[str, Any]], reference: str, ours: str) -> pd.DataFrame:
    """Return a line for each forecaster, by its error in units of the reference's.

    The intervals are Student's. Over series each series counts once, and they are taken as
    independent of each other within their sources; over sources each source counts once.
    """
    errors = errors_by_series(rows)
    relative = geometric_mean(errors.div(errors[reference], axis=0))
    lines = {}
    for name in errors:
        own = [row for row in rows if row["forecaster"] == name]
        forecasts = sum(len(row["mase"]) for row in own)
        line = {
            "error": relative[name],
            f"it / {reference}": _ratio(compared(errors, name, reference).over_series),
        }
        if ours not in (name, reference):
            comparison = compared(errors, ours, name)
            line |= {
                f"{ours} / it": _ratio(comparison.over_series),
                "over sources": _ratio(comparison.over_sources),
                "better on": f"{comparison.better} of {comparison.count}",
            }
        line |= {
            "80% band holds": f"{held(rows, name):.0%}",
            "seconds a forecast": sum(row["seconds"] for row in own) / forecasts,
        }
        lines[name] = line
    return pd.DataFrame.from_dict(lines, "index").sort_values("error").fillna("")


def _ratio(ratio: Ratio | None) -> str:
    """Return a ratio as a cell of the summary; empty where there is nothing to compare.

    A forecaster beside itself has a ratio of 1, whose interval has no width.
    """
    if ratio is None or ratio.low == ratio.high:
        return ""
    return f"{ratio.ratio:.3f} ({ratio.low:.2f} to {ratio.high:.2f}), p {ratio.p:.3f}"


def by_source(rows: Sequence[dict[str, Any]], reference: str) -> pd.DataFrame:
    """Return the geometric mean error of each forecaster (columns) on each source (rows).

    It is given in units of the reference's. The column `series` has the number of series.
    """
    logs = np.log(errors_by_series(rows))
    relative_logs = logs.sub(logs[reference], axis=0)
    groups = relative_logs.groupby("source", sort=False)
    relative = np.exp(groups.mean())
    relative.insert(0, "series", groups.size())
    return relative
