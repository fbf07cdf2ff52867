"""`python -m benchmarks.faster` measures what faster ways to forecast gain in time, and lose.

The adapter `general` forecasts the series that `benchmarks.textbook` has for choosing in each of
WAYS, which take turns, source by source. The record is faster.json, beside the recorded runs. It is
written after each source, and the same command goes on from there.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.tables import Source, model_key
from benchmarks.textbook import (
    GENERAL,
    SAMPLES,
    cuts_of,
    has_all,
    language_row,
    place_of,
    record_sources,
    show,
    sources_of,
)
from m2lib.files import read_json
from m2lib.forecaster import Forecaster
from study.paper.textbook import CHOOSING, by_source, summary
from study.settings import results_dir

RECORD = "faster.json"
MOST_FORECASTS = 8  # of each source


@dataclass(frozen=True)
class Way:
    """A way in which `general` forecasts."""

    dtype: str
    """The dtype of the model's layers."""
    num_samples: int = SAMPLES
    """Forecasts sampled for each series."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further options of `Forecaster.sample`."""


FLOAT, WHOLE, HURRIED = "float32", "int8", "int8, 60 steps, 10 samples"
WAYS = {
    FLOAT: Way("float32"),
    WHOLE: Way("int8"),
    HURRIED: Way("int8", num_samples=10, options={"context_length": 60}),
}


def new_rows(
    forecasters: dict[str, Forecaster], source: Source, rows: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Measure the ways of which a source has no row among those recorded."""
    cuts = cuts_of(source, MOST_FORECASTS)
    new = []
    for name, way in WAYS.items():
        forecaster = forecasters[way.dtype]
        key = {
            **place_of(source, CHOOSING),
            "forecaster": name,
            "forecasts": len(cuts),
            "samples": way.num_samples,
            "model": GENERAL,
            **way.options,
            **model_key(forecaster),
        }
        if not has_all(rows, [key]):
            row = language_row(forecaster, source, cuts, way.num_samples, **way.options)
            new.append(key | row)
    return new


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", nargs="*", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--path", type=Path, help=f"default: report/results/{RECORD}")
    arguments = parser.parse_args()
    record = arguments.path or results_dir() / RECORD
    dtypes = {way.dtype for way in WAYS.values()}
    loaded = {dtype: Forecaster.from_pretrained(dtype=dtype) for dtype in sorted(dtypes)}
    measured = sources_of(CHOOSING, arguments.sources)
    record_sources(record, measured, partial(new_rows, loaded))
    all_rows = read_json(record)["rows"]
    show(summary(all_rows, FLOAT, FLOAT))
    show(by_source(all_rows, FLOAT))
