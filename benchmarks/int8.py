"""`python -m benchmarks.int8` measures what forecasts in 8 bits gain in time, and lose in accuracy.

The adapter `general` forecasts the series that `benchmarks.textbook` has for choosing, in float32
and in int8. The two take turns, source by source. The record is int8.json, beside the recorded
runs. It is written after each source, and the same command goes on from there.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.tables import model_key
from benchmarks.textbook import (
    GENERAL,
    SAMPLES,
    cuts_of,
    has_all,
    language_row,
    replaced,
    show,
    sources_of,
    values_hash,
    write_rows,
)
from m2lib.files import read_json
from m2lib.forecaster import Forecaster
from study.paper.textbook import CHOOSING, by_source, summary
from study.settings import results_dir

RECORD = "int8.json"
FLOAT, WHOLE = "float32", "int8"
MOST_FORECASTS = 8  # of each source


def record_dtypes(path: Path, sources: Sequence[str] = ()) -> None:
    """Measure what the record at `path` lacks, and write it after each source."""
    rows = read_json(path)["rows"] if path.exists() else []
    forecasters = {dtype: Forecaster.from_pretrained(dtype=dtype) for dtype in (FLOAT, WHOLE)}
    for source in sources_of(CHOOSING, sources):
        cuts = cuts_of(source, MOST_FORECASTS)
        new = []
        for dtype, forecaster in forecasters.items():
            key = {
                "source": source.name,
                "split": CHOOSING,
                "values": values_hash(source),
                "forecaster": dtype,
                "forecasts": len(cuts),
                "samples": SAMPLES,
                "model": GENERAL,
                **model_key(forecaster),
            }
            if not has_all(rows, [key]):
                new.append(key | language_row(forecaster, source, cuts))
        rows = replaced(rows, new)
        write_rows(path, rows, new)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sources", nargs="*", default=[], metavar="NAME", help="these alone")
    parser.add_argument("--path", type=Path, help=f"default: report/results/{RECORD}")
    options = parser.parse_args()
    record = options.path or results_dir() / RECORD
    record_dtypes(record, options.sources)
    all_rows = read_json(record)["rows"]
    show(summary(all_rows, FLOAT, FLOAT))
    show(by_source(all_rows, FLOAT))
