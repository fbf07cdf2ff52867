"""`python -m benchmarks.marks`: how the error falls while the replication's final adapter trains.

The final run keeps its adapter after some of its steps, the marks of its experiment. With the
adapter of each mark the whole validation split is forecast, by the protocol and in the dtype that
the run ends with, and report/results/marks.json gets a row for it. The run need not be finished.
Adapters that have a row already are not asked again. The table that is printed at the end is the
one in book/claims.md.
"""

from typing import Any

from benchmarks.rows import one_line
from m2lib.errors import InputError
from m2lib.files import read_json, write_json
from m2lib.model import adapter_hash, load_adapter, load_backbone
from m2lib.provenance import provenance
from m2lib.series import SeriesSet, load_series, split_ids, summarise
from m2lib.series.intervals import paired_gain
from study import EXPERIMENTS, REPLICATION, Profile, adapter_path, load_record, protocol_at
from study.records import load_finished
from study.runs import forecast_entries
from study.settings import results_dir

RECORD = "marks.json"
RUN = "final"
PROFILE = REPLICATION["report"]


def row_of(step: int, profile: Profile, data: SeriesSet) -> dict[str, Any]:
    """Forecast the validation split with the adapter that the run kept after so many steps.

    The row has the adapter's hash, the loss on validation windows if the run took it after this
    step (else None), where the forecasts were made, and an entry for each series, as in a record.
    """
    folder = adapter_path(profile, RUN, step)
    backbone = load_backbone(profile.backbone, dtype=profile.forecast_dtype)
    load_adapter(backbone.model, folder)
    ids = list(split_ids(len(data)).validation)
    protocol = protocol_at(EXPERIMENTS[RUN], profile)
    losses = {row["step"]: row["loss"] for row in load_record(profile, RUN).evaluations}
    return {
        "step": step,
        "adapter": adapter_hash(folder),
        "loss": losses.get(step),
        **provenance(backbone.device),
        "dtype": backbone.dtype,
        "series": forecast_entries(backbone, data, ids, protocol),
    }


def record_marks(profile: Profile, data: SeriesSet) -> None:
    """Forecast with each adapter that has no row yet, and write the record after each.

    Raises InputError if no adapter has been kept.
    """
    path = results_dir() / RECORD
    rows = recorded_marks()
    recorded_adapters = {row["adapter"] for row in rows}
    adapters: dict[int, str] = {}  # by step; empty where none is kept
    for step in EXPERIMENTS[RUN].marks:
        adapters[step] = adapter_hash(adapter_path(profile, RUN, step))
    kept_adapters = adapters.values()
    if not any(kept_adapters):
        raise InputError(f"{adapter_path(profile, RUN)} holds no adapter of a mark")
    # A run that began anew has not come to the later marks of the one before it yet, so their rows
    # go. (Its record may be some steps behind the adapters that it has kept.)
    steps_taken = len(load_record(profile, RUN).loss_curve)
    rows = [row for row in rows if row["step"] <= steps_taken or row["adapter"] in kept_adapters]
    for step, adapter in adapters.items():
        if adapter and adapter not in recorded_adapters:
            rows = [row for row in rows if row["step"] != step]
            rows.append(row_of(step, profile, data))
            rows.sort(key=lambda row: row["step"])
            write_json(path, rows)


def recorded_marks() -> list[dict[str, Any]]:
    """Return the rows of the record, in the order of their steps; none if there is no record."""
    path = results_dir() / RECORD
    return read_json(path) if path.exists() else []


def marks_table() -> str:
    """Return a table in Markdown: the validation errors before the training, and at each mark.

    Mean and median are MAE in scaled units. `the mean falls by` is the mean over the series of the
    untuned model's error less that of the row, with its 95% bootstrap interval.
    """
    untuned = load_finished(PROFILE, "baseline").maes()
    lines = [
        "| steps | mean | median | the mean falls by | lower in |",
        "|---|---|---|---|---|",
        f"| 0, untuned | {_pair(untuned)} | | |",
    ]
    for row in recorded_marks():
        maes = {int(series_id): entry["mae"] for series_id, entry in row["series"].items()}
        gain = paired_gain(maes, untuned)
        low, high = gain["mean interval"]
        lines.append(
            f"| {row['step']:,} | {_pair(maes)} | {gain['mean']:.1f} ({low:.1f} to {high:.1f}) "
            f"| {gain['better']} of {len(maes)} |"
        )
    return "\n".join(lines)


def _pair(maes: dict[int, float]) -> str:
    """Return the cells of mean and median."""
    errors = summarise(maes.values())
    return f"{errors.mean:.1f} | {errors.median:.1f}"


if __name__ == "__main__":
    with one_line():
        record_marks(PROFILE, load_series())
        print(marks_table())
