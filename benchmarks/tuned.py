"""`python -m benchmarks.tuned` measures what fine-tuning `general` does to its forecasts of tables.

The same moments are forecast twice: by the adapter as it comes, and by one that was trained before
each moment on what the table held by then (`m2 evaluate`, with and without `--finetune`). Three
tables of `benchmarks.tables` have 20 steps of training. The hares and lynxes have as many as were
best at six earlier moments. The records are in tuned/ and pelts/, beside the recorded runs, where
there are also some of other adapters. What is recorded of the adapter as it is now is not measured
again.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.rows import one_line
from benchmarks.sources import TABLES
from m2lib.cli import main
from m2lib.files import ROOT, read_json, short_hash
from m2lib.forecaster.adapters import (
    GENERAL,
    GENERAL_FOLDER,
    adapter_weights_hash,
    read_format,
    read_views,
)
from m2lib.forecaster.views import PLAIN
from m2lib.settings import out_dir
from study.settings import results_dir

TABLE_FILES = {
    "electrical equipment": "electrical_equipment",
    "air passengers": "air_passengers",
    "electricity, daily": "electricity_daily",
}
"""The file of each source's table, of which the first series is taken."""
STEPS = 20
PELTS = ROOT / "data" / "hudson_bay_pelts.csv"
PELTS_STEPS = (0, 10, 20, 40)
"""How many steps of training are compared. The best of those above 0 is measured later on."""
PELTS_MOMENTS = {"horizon": 10, "stride": 4, "period": 10}
EARLIER_MOMENTS = {"origins": 6, "leave_out": 35}
"""The moments used for choosing."""
LATER_MOMENTS = {"origins": 8, "leave_out": 3}
PRINTED = {"horizon": 10, "origins": 8}
"""The evaluation whose printout is in book/tables.md; it wants statsforecast for AutoETS's row."""


def evaluate(table: Path, record: Path, steps: int, **options: int) -> None:
    """Run `m2 evaluate`, unless its record is of this table, these options and this adapter."""
    if record.exists() and _is_same(read_json(record), table, steps, options):
        return
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    if steps:
        flags.append(f"--finetune={steps}")
    command = ["evaluate", str(table), *flags, f"--output={record}", "--force"]
    if main(command) != 0:
        raise SystemExit(f"m2 {' '.join(command)} failed")


def _is_same(record: dict[str, Any], table: Path, steps: int, options: dict[str, int]) -> bool:
    """Return whether a record has this table, these training steps, these options and `general`."""
    settings = record["settings"]
    steps_of_record = settings["finetune"] or 0  # None: without training
    return (
        options.items() <= settings.items()
        and steps_of_record == steps
        and record["table"]["sha256"] == short_hash(table.read_bytes())
        and _is_of_general(record, steps)
    )


def _is_of_general(record: dict[str, Any], steps: int) -> bool:
    """Return whether a record is of `general` as it is now: its weights, text format and views.

    An adapter that was tuned before each moment has the plain view.
    """
    views = PLAIN if steps else read_views(GENERAL_FOLDER)
    return (
        record.get("adapter") == adapter_weights_hash(GENERAL_FOLDER)
        and record.get("text_format") == read_format(GENERAL_FOLDER).settings()
        and record.get("views") == [asdict(view) for view in views]
    )


def record_tables() -> None:
    """Measure three tables, as they come and after 20 steps."""
    for source in TABLES:
        if source.name not in TABLE_FILES:
            continue
        name = TABLE_FILES[source.name]
        table = out_dir() / "tuned" / f"{name}.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        first_series = source.series()[0]
        pd.DataFrame({"y": first_series}).to_csv(table, index=False)
        options = {
            "horizon": source.horizon,
            "origins": source.origins,
            "season": source.season,
        }
        for steps in (0, STEPS):
            record = results_dir() / "tuned" / f"{name}-{steps}.json"
            evaluate(table, record, steps, **options)


def record_pelts() -> None:
    """Choose how long to train on the pelts, and measure that at later moments."""
    folder = results_dir() / "pelts"
    errors = {}
    for steps in PELTS_STEPS:
        record = folder / "choice" / f"{GENERAL}-{steps}.json"
        evaluate(PELTS, record, steps, **PELTS_MOMENTS, **EARLIER_MOMENTS)
        errors[steps] = np.mean(read_json(record)["errors"]["language model"])
    best_steps = min(PELTS_STEPS[1:], key=errors.__getitem__)
    evaluate(PELTS, folder / f"{GENERAL}.json", 0, **PELTS_MOMENTS, **LATER_MOMENTS)
    evaluate(
        PELTS,
        folder / f"{GENERAL}-tuned.json",
        best_steps,
        **PELTS_MOMENTS,
        **LATER_MOMENTS,
    )
    evaluate(PELTS, folder / "printed.json", 0, **PRINTED)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # it has no options but --help
    with one_line():
        record_tables()
        record_pelts()
