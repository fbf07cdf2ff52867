"""`python -m benchmarks.precision`: how many greedy forecasts depend on dtype and processor.

The likeliest token is taken each time, and where two are nearly as likely the last bit of a sum
decides. From there on two forecasts may have nothing in common. The replication's forecasts were
made in bfloat16 at first, and are in float32 now. This compares the records that both have, the
earlier ones as a commit of this repository holds them, and writes report/results/precision.json.

With --again the untuned model forecasts the 50 validation series once more, in float32 on this
machine, and its texts are compared with the record's, which another processor may have made.
"""

import argparse
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import one_line
from m2lib.decoding import forecast
from m2lib.errors import InputError
from m2lib.files import ROOT, read_json, write_json
from m2lib.model import load_backbone
from m2lib.provenance import provenance
from m2lib.series import load_series
from study import REPLICATION, load_record, record_path
from study.settings import COMMITTED

PATH = COMMITTED / "precision.json"
BEFORE = "7dc8c5b54cafea65553ad5cadd6cedc21b7b1d5f"
"""The last commit whose records of the replication are all of bfloat16."""
BASELINE = "baseline"
MOVED = {
    "report-qwen2.5-coder-0.5b/untuned-test.json": "fifth-qwen2.5-coder-0.5b/untuned-test.json"
}
"""Records that lay in another folder at that commit. An untuned model has no steps, so this one is
the same at both profiles."""


def earlier_record(path: Path, commit: str) -> dict[str, Any] | None:
    """Return a record as a commit holds it; None if it has none at this path."""
    place = path.relative_to(ROOT).as_posix()
    command = ["git", "-C", str(ROOT), "show", f"{commit}:{place}"]
    process = subprocess.run(command, capture_output=True, check=False)
    return json.loads(process.stdout) if process.returncode == 0 else None


def compared(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return how many series of two records are written differently, and the errors of each.

    These are the series that both records have.
    """
    shared_ids = [series for series in after["series"] if series in before["series"]]
    num_differing = 0
    for series in shared_ids:
        if before["series"][series]["text"] != after["series"][series]["text"]:
            num_differing += 1
    row: dict[str, Any] = {"of": len(shared_ids), "differing": num_differing}
    for label, record in (("before", before), ("after", after)):
        errors = [record["series"][series]["mae"] for series in shared_ids]
        row[label] = {
            "dtype": _dtype(record),
            "device": record["device"],  # the last of several is the one that forecast
            "mean": float(np.mean(errors)),
            "median": float(np.median(errors)),
        }
    return row


def _dtype(record: Mapping[str, Any]) -> str:
    """Return the dtype of a record's forecasts; one of the first schema names it elsewhere."""
    trained_in = record["dtype"] if "dtype" in record else record["backbone"]["dtype"]
    return record.get("forecast_dtype") or trained_in


def compare_records(commit: str) -> list[dict[str, Any]]:
    """Return a row for each record of the replication that forecasts in another dtype now."""
    rows = []
    for profile in REPLICATION.values():
        # A commit holds only the records that come with the project, wherever M2_RESULTS is.
        folder = COMMITTED / record_path(profile, BASELINE).parent.name
        for path in sorted(folder.rglob("*.json")):
            place = path.relative_to(COMMITTED).as_posix()
            before = earlier_record(COMMITTED / MOVED.get(place, place), commit)
            after = read_json(path)
            if not before or "series" not in after or not after["series"]:
                continue  # such as an adapter's own files
            row = compared(before, after)
            if row["before"]["dtype"] != row["after"]["dtype"]:
                run = path.relative_to(folder).with_suffix("").as_posix()
                rows.append({"profile": profile.name, "run": run, **row})
    if not rows:
        raise InputError(f"no record is of another dtype at {commit}; a shallow clone has no past")
    return rows


def forecast_again() -> dict[str, Any]:
    """Return how many of the untuned model's float32 forecasts this machine writes differently."""
    profile = REPLICATION["report"]
    series = load_series()
    record = load_record(profile, BASELINE)
    ids = list(record.series)
    backbone = load_backbone(profile.backbone, dtype="float32")
    forecasts = forecast(
        backbone, series.contexts[ids], record.protocol, batch_size=record.batch_size, ids=ids
    )
    num_differing = 0
    for ahead, entry in zip(forecasts, record.series.values(), strict=True):
        if ahead.texts[0] != entry["text"]:
            num_differing += 1
    setup = provenance(backbone.device)
    return {"of": len(ids), "differing": num_differing, "recorded on": record.device, **setup}


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="forecast once more on this machine")
    options = parser.parse_args()
    results = read_json(PATH) if PATH.exists() else {"again": []}
    results |= {"before": BEFORE, "records": compare_records(BEFORE)}
    if options.again:
        results["again"].append(forecast_again())
    write_json(PATH, results)
    for row in results["records"]:
        print(f"{row['profile']}/{row['run']}: {row['differing']} of {row['of']} differ")
    for row in results["again"]:
        print(
            f"{row['device']}: {row['differing']} of {row['of']} differ from {row['recorded on']}"
        )


if __name__ == "__main__":
    with one_line():
        main()
