"""`python -m benchmarks.faster` measures what faster ways to forecast gain in time, and lose.

The adapter `general` forecasts the series that `benchmarks.textbook` has for choosing in each of
WAYS, which take turns, source by source. The record is faster.json, beside the recorded runs. It is
written after each source, and the same command goes on from there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from benchmarks.forecasters import model_key
from benchmarks.rows import (
    Row,
    has_all,
    one_line,
    place_of,
    record_parser,
    record_sources,
    recorded_rows,
    show,
)
from benchmarks.sources import Source
from benchmarks.textbook import (
    MOST_FORECASTS,
    SAMPLES,
    cuts_of,
    language_row,
    sources_of,
)
from m2lib.forecaster import Forecaster, Sampling
from m2lib.forecaster.adapters import GENERAL
from m2lib.forecaster.sampling import TEMPERATURE
from study.paper.textbook import CHOOSING

RECORD = "faster.json"


@dataclass(frozen=True)
class Way:
    """A way in which `general` forecasts."""

    dtype: str
    """The dtype of the model's layers."""
    sampling: Sampling = Sampling(SAMPLES, TEMPERATURE)
    """How its forecasts are sampled."""


FLOAT32 = "float32"
INT8 = "int8"
HURRIED = "int8, 60 steps, 10 samples"
WAYS = {
    FLOAT32: Way("float32"),
    INT8: Way("int8"),
    HURRIED: Way("int8", Sampling(10, TEMPERATURE, context_length=60)),
}


def new_rows(forecasters: dict[str, Forecaster], source: Source, rows: Sequence[Row]) -> list[Row]:
    """Measure the ways of which a source has no row among those recorded."""
    cuts = cuts_of(source, MOST_FORECASTS)
    place = place_of(source, CHOOSING)
    new = []
    for name, way in WAYS.items():
        forecaster = forecasters[way.dtype]
        key = {
            **place,
            "forecaster": name,
            "forecasts": len(cuts),
            "samples": way.sampling.num_samples,
            "model": GENERAL,
            **model_key(forecaster),
        }
        if way.sampling.context_length:
            key["context_length"] = way.sampling.context_length
        if not has_all(rows, [key]):
            row = language_row(forecaster, source, cuts, way.sampling)
            new.append(key | row)
    return new


if __name__ == "__main__":
    options = record_parser(__doc__, RECORD).parse_args()
    with one_line():
        sources = sources_of(CHOOSING, options.sources)
        forecasters: dict[str, Forecaster] = {}  # by dtype
        for dtype in sorted({way.dtype for way in WAYS.values()}):
            forecasters[dtype] = Forecaster.from_pretrained(device="cpu", dtype=dtype)
        record_sources(options.path, sources, partial(new_rows, forecasters))
        show(recorded_rows(options.path), FLOAT32, FLOAT32)
