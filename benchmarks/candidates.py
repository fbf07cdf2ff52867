"""`python -m benchmarks.candidates` measures the adapters that might go into the package.

Each forecasts the series that `benchmarks.textbook` has for choosing, and some of the study's
validation series of prey and predators, in the views of `general` and in int8. A candidate takes
the place of the one in the package if its error is lower on both, and surely so on one of them.
`benchmarks.package` puts it there. The record is candidates.json, beside the recorded runs. It is
written after each source, and the same command goes on from there.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save

from benchmarks.rows import (
    Row,
    has_all,
    named,
    one_line,
    place_of,
    record_parser,
    record_sources,
    recorded_rows,
    show,
)
from benchmarks.sources import Source
from benchmarks.textbook import MOST_FORECASTS, SAMPLES, cuts_of, language_row, sources_of
from m2lib.files import delete, write_atomic, write_json
from m2lib.forecaster import Forecaster, adapter_folder, read_format
from m2lib.forecaster.adapters import VIEWS_FILE, adapter_weights_hash, read_views
from m2lib.model.adapter_files import ADAPTER_FILE, BIAS_FILE, CONFIG_FILE
from m2lib.series import FORECAST_STEPS, FORMAT_FILE, load_series, split_ids
from m2lib.settings import out_dir
from study import adapter_path
from study.paper.textbook import CHOOSING, compared, errors_by_series
from study.synthetic.shown import VIEWS

RECORD = "candidates.json"
BEFORE = "the mean of general-tail and general-even"
"""The candidate that was in the package before there were others."""
CANDIDATES = {
    BEFORE: ("general-tail", "general-even"),
    "general-shown": ("general-shown",),
    "general-again": ("general-again",),
    "the mean of general-shown and general-again": ("general-shown", "general-again"),
    "general-both": ("general-both",),
    "the mean of general-again and general-both": ("general-again", "general-both"),
    "the mean of general-even and general-both": ("general-even", "general-both"),
    "general-more": ("general-more",),
    "the mean of general-even and general-more": ("general-even", "general-more"),
    "the mean of general-both and general-more": ("general-both", "general-more"),
}
"""For each candidate the runs whose adapters' mean it is."""
SECOND = "the mean of general-shown and general-again"
"""The candidate that was in the package next. Of the first four it had the lowest error on the
tables, which were all that was asked then."""
CHOSEN = "the mean of general-both and general-more"
"""The candidate in the package. Two are `better` than SECOND, and of these two it has the lower
error on both."""
DTYPE = "int8"
SPREAD = 1.64
"""The spread at which 80% bands held 80% of the true values in `benchmarks.trials`. If those of a
candidate hold another share by far, it needs a spread of its own."""


@dataclass(frozen=True)
class _Pairs(Source):
    """The study's first validation series, whose two variables are forecast together."""

    @cache  # noqa: B019  (sources live as long as the program)
    def series(self) -> list[np.ndarray]:
        """Return prey and predators (100, 2), float64, of each series."""
        data = self.load()
        ids = split_ids(len(data)).validation[:PAIRS]
        return list(data.trajectories[list(ids)].astype(np.float64))


PAIRS = 16
"""The validation series that are forecast."""
PREY_AND_PREDATORS = _Pairs(
    "prey and predators", "validation", FORECAST_STEPS, season=1, origins=1, load=load_series
)
"""The one source that is no table. Its series are simulated, so it is not counted among these."""


def write_candidate(folder: Path, candidate: str) -> None:
    """Write the files of a candidate's adapter into a folder, with the format and the views.

    Its weights are those of a run, or the mean of two runs', which may be better than either [1]_.

    References
    ----------
    .. [1] Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
       accuracy without increasing inference time", ICML 2022.
    """
    # All is read before anything is written: where a run's adapter is missing, the folder, which
    # may be the package's own, stays as it is.
    adapters = [adapter_folder(adapter_path("laptop", run)) for run in CANDIDATES[candidate]]
    last = adapters[-1]
    config = (last / CONFIG_FILE).read_bytes()
    text_format = replace(read_format(last), spread=SPREAD)
    means: dict[str, dict[str, torch.Tensor]] = {}
    for name in (ADAPTER_FILE, BIAS_FILE):
        weights = [load_file(adapter / name) for adapter in adapters]
        means[name] = {}
        for key in weights[0]:
            stacked = torch.stack([tensors[key] for tensors in weights])
            means[name][key] = stacked.mean(0)

    # A folder counts as an adapter by its config, which therefore goes first and comes back last.
    delete(folder / CONFIG_FILE)
    for name, mean in means.items():
        write_atomic(folder / name, save(mean))
    write_json(folder / FORMAT_FILE, text_format.settings())
    write_json(folder / VIEWS_FILE, [asdict(view) for view in VIEWS])
    write_atomic(folder / CONFIG_FILE, config)


def written(candidate: str) -> Path:
    """Write a candidate's files under build/, and return their folder."""
    folder = out_dir() / "candidates" / candidate.replace(" ", "-")
    write_candidate(folder, candidate)
    return folder


@cache
def forecaster_in(folder: Path) -> Forecaster:
    """Return the forecaster whose adapter is in a folder, loaded when it is first asked for."""
    return Forecaster.from_pretrained(folder, device="cpu", dtype=DTYPE)


def candidate_sources(names: Sequence[str] = ()) -> list[Source]:
    """Return the sources that choose: tables, then prey and predators; or those with some names."""
    return named([*sources_of(CHOOSING), PREY_AND_PREDATORS], names, CHOOSING)


def new_rows(folders: dict[str, Path], source: Source, rows: Sequence[Row]) -> list[Row]:
    """Measure the candidates that a source has no row of, by name and folder."""
    cuts = cuts_of(source, PAIRS if source is PREY_AND_PREDATORS else MOST_FORECASTS)
    place = place_of(source, CHOOSING)
    new = []
    for name, folder in folders.items():
        key = {
            **place,
            "forecaster": name,
            "runs": list(CANDIDATES[name]),
            "forecasts": len(cuts),
            "samples": SAMPLES,
            "dtype": DTYPE,
            "adapter": adapter_weights_hash(folder),
            "spread": read_format(folder).spread,
            "views": [asdict(view) for view in read_views(folder)],
        }
        if not has_all(rows, [key]):
            new.append(key | language_row(forecaster_in(folder), source, cuts))
    return new


def parted(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows of tables, and those of prey and predators."""
    pairs = [row for row in rows if row["source"] == PREY_AND_PREDATORS.name]
    tables = [row for row in rows if row["source"] != PREY_AND_PREDATORS.name]
    return tables, pairs


def better(rows: Sequence[Row], than: str) -> list[str]:
    """Return the candidates that are better than one of them: on both, and surely on one of these.

    Sure is what Student's 95% interval over the series leaves no doubt about. A candidate that has
    not forecast all that the one has is left out.
    """
    tables_and_pairs = [errors_by_series(part) for part in parted(rows)]
    sources = defaultdict[str, set[str]](set)  # rows may be of candidates that are no longer listed
    for row in rows:
        sources[row["forecaster"]].add(row["source"])
    better_names = []
    for name in CANDIDATES:
        if name == than or sources[name] != sources[than]:
            continue
        ratios = []
        for errors in tables_and_pairs:
            ratio = compared(errors, name, than).over_series
            assert ratio is not None  # there are many series in either part
            ratios.append(ratio)
        is_better_on_both = all(ratio.ratio < 1 for ratio in ratios)
        is_surely_better_on_one = any(ratio.high < 1 for ratio in ratios)
        if is_better_on_both and is_surely_better_on_one:
            better_names.append(name)
    return better_names


if __name__ == "__main__":
    options = record_parser(__doc__, RECORD).parse_args()
    with one_line():
        sources = candidate_sources(options.sources)
        folders = {name: written(name) for name in CANDIDATES}
        record_sources(options.path, sources, partial(new_rows, folders))
        rows = recorded_rows(options.path)
        parts = [part for part in parted(rows) if part]
        for part in parts:
            show(part, BEFORE, BEFORE)
        if len(parts) == 2:
            better_names = better(rows, CHOSEN) or ["none"]
            print(f"better than {CHOSEN}: {', '.join(better_names)}")
