"""`python -m benchmarks.marks`: how the error falls while the replication's final adapter trains.

The final run keeps its adapter after some of its steps, the marks of its experiment. With the
adapter of each mark the whole validation split is forecast, by the protocol and in the dtype that
the run ends with, and report/results/marks.json gets a row for it. The run need not be finished.
Adapters that have a row already are not asked again.
"""

from typing import Any

from benchmarks.rows import one_line
from m2lib.decoding import forecast
from m2lib.files import InputError, read_json, write_json
from m2lib.model import adapter_hash, load_adapter, load_backbone
from m2lib.provenance import provenance
from m2lib.series import SeriesSet, load_series, split_ids, summarise, to_integers
from study import EXPERIMENTS, REPLICATION, Profile, adapter_path, load_record, protocol_at
from study.records import entry_of
from study.settings import results_dir

RECORD = "marks.json"
RUN = "final"


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
    forecasts = forecast(
        backbone, data.contexts[ids], protocol, batch_size=profile.batch_size, ids=ids
    )
    truths = to_integers(data.truths[ids], data.scales[ids], protocol.rounding)
    losses = {row["step"]: row["loss"] for row in load_record(profile, RUN).evaluations}
    return {
        "step": step,
        "adapter": adapter_hash(folder),
        "loss": losses.get(step),
        **provenance(backbone.device),
        "dtype": backbone.dtype,
        "series": dict(zip(ids, map(entry_of, forecasts, truths), strict=True)),
    }


def record_marks() -> None:
    """Forecast with each adapter that has no row yet, and print the errors of all.

    Raises InputError if no adapter has been kept.
    """
    profile = REPLICATION["report"]
    data = load_series()
    path = results_dir() / RECORD
    rows = read_json(path) if path.exists() else []
    recorded = {row["adapter"] for row in rows}
    kept = {step: adapter_hash(adapter_path(profile, RUN, step)) for step in EXPERIMENTS[RUN].marks}
    if not any(kept.values()):
        raise InputError(f"{adapter_path(profile, RUN)} holds no adapter of a mark")
    for step, adapter in kept.items():
        if adapter and adapter not in recorded:
            rows = [row for row in rows if row["step"] != step]
            rows.append(row_of(step, profile, data))
            rows.sort(key=lambda row: row["step"])
            write_json(path, rows)
    for row in rows:
        errors = summarise(entry["mae"] for entry in row["series"].values())
        print(f"after {row['step']:,} steps: {errors}")


if __name__ == "__main__":
    with one_line():
        record_marks()
