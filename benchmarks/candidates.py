"""`python -m benchmarks.candidates` measures the adapters that might go into the package.

Each forecasts the series that `benchmarks.textbook` has for choosing, in the views of `general` and
in int8. The candidate with the lowest error is put into the package by `benchmarks.package`. The
record is candidates.json, beside the recorded runs. It is written after each source, and the same
command goes on from there.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from benchmarks.rows import (
    Row,
    has_all,
    place_of,
    record_parser,
    record_sources,
    recorded_rows,
    show,
)
from benchmarks.tables import Source, model_key
from benchmarks.textbook import MOST_FORECASTS, SAMPLES, cuts_of, language_row, sources_of
from m2lib.files import write_atomic, write_json
from m2lib.forecaster import Forecaster, read_format
from m2lib.forecaster.adapters import VIEWS_FILE
from m2lib.model.adapter_files import ADAPTER_FILE, BIAS_FILE, CONFIG_FILE
from m2lib.series import FORMAT_FILE
from m2lib.settings import out_dir
from study import adapter_path
from study.paper.textbook import CHOOSING
from study.synthetic.shown import VIEWS

RECORD = "candidates.json"
BEFORE = "the mean of general-tail and general-even"
"""The candidate that was in the package before there were others."""
CANDIDATES = {
    BEFORE: ("general-tail", "general-even"),
    "general-shown": ("general-shown",),
    "general-again": ("general-again",),
    "the mean of general-shown and general-again": ("general-shown", "general-again"),
}
"""For each candidate the runs whose adapters' mean it is."""
CHOSEN = "the mean of general-shown and general-again"
"""The candidate with the lowest error."""
DTYPE = "int8"
SPREAD = 1.64
"""The spread at which 80% bands held 80% of the true values in `benchmarks.trials`. If those of a
candidate hold another share by far, it needs a spread of its own."""


def write_candidate(folder: Path, candidate: str) -> None:
    """Write the files of a candidate's adapter into a folder, with the format and the views.

    Its weights are those of a run, or the mean of two runs', which may be better than either [1]_.

    References
    ----------
    .. [1] Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
       accuracy without increasing inference time", ICML 2022.
    """
    folders = [adapter_path("laptop", run) for run in CANDIDATES[candidate]]
    last = folders[-1]
    write_atomic(folder / CONFIG_FILE, (last / CONFIG_FILE).read_bytes())
    for name in (ADAPTER_FILE, BIAS_FILE):
        weights = [load_file(each / name) for each in folders]
        mean = {key: torch.stack([each[key] for each in weights]).mean(0) for key in weights[0]}
        write_atomic(folder / name, save(mean))
    text_format = replace(read_format(last), spread=SPREAD)
    write_json(folder / FORMAT_FILE, text_format.settings())
    write_json(folder / VIEWS_FILE, [asdict(view) for view in VIEWS])


def forecaster_of(candidate: str) -> Forecaster:
    """Return the forecaster of a candidate, whose adapter is written under build/ first."""
    folder = out_dir() / "candidates" / candidate.replace(" ", "-")
    write_candidate(folder, candidate)
    return Forecaster.from_pretrained(folder, device="cpu", dtype=DTYPE)


def new_rows(forecasters: dict[str, Forecaster], source: Source, rows: Sequence[Row]) -> list[Row]:
    """Measure the candidates of which a source has no row among those recorded."""
    cuts = cuts_of(source, MOST_FORECASTS)
    place = place_of(source, CHOOSING)
    new = []
    for name, forecaster in forecasters.items():
        key = {
            **place,
            "forecaster": name,
            "runs": list(CANDIDATES[name]),
            "forecasts": len(cuts),
            "samples": SAMPLES,
            "dtype": DTYPE,
            **model_key(forecaster),
        }
        if not has_all(rows, [key]):
            new.append(key | language_row(forecaster, source, cuts))
    return new


if __name__ == "__main__":
    asked = record_parser(__doc__, RECORD).parse_args()
    loaded = {name: forecaster_of(name) for name in CANDIDATES}
    record_sources(asked.path, sources_of(CHOOSING, asked.sources), partial(new_rows, loaded))
    show(recorded_rows(asked.path), BEFORE, BEFORE)
