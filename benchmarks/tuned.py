"""`python -m benchmarks.tuned` measures what fine-tuning `general` does to its forecasts of tables.

The same moments are forecast twice: by the adapter as it comes, and by one that was trained before
each moment on what the table held by then (`m2 evaluate`, with and without `--finetune`). Three
tables of `benchmarks.tables` have 20 steps of training. The hares and lynxes have as many as were
best at six earlier moments. The records are in tuned/ and pelts/, beside the recorded runs. Those
of the adapter as it is now are not measured again.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.tables import SOURCES
from m2lib.cli import main
from m2lib.files import ROOT, read_json
from m2lib.forecaster.adapters import GENERAL, weights_hash
from m2lib.settings import out_dir
from study.settings import results_dir

TUNED = {
    "electrical equipment": "electrical_equipment",
    "air passengers": "air_passengers",
    "electricity, daily": "electricity_daily",
}
"""The file of each source's table, of which the first series is taken."""
STEPS = 20
PELTS = ROOT / "data" / "hudson_bay_pelts.csv"
PELTS_STEPS = (0, 10, 20, 40)
"""The steps of training among which is chosen; 0: none."""
PELTS_MOMENTS = {"horizon": 10, "stride": 4, "period": 10}
EARLIER = {"origins": 6, "leave-out": 35}
"""The moments at which is chosen."""
LATER = {"origins": 8, "leave-out": 3}


def evaluate(table: Path, record: Path, steps: int, **options: int) -> None:
    """Run `m2 evaluate` on a table, unless its record is of the adapter as it is now."""
    if record.exists() and read_json(record).get("adapter") == weights_hash(GENERAL):
        return
    asked = [f"--{name}={value}" for name, value in options.items()]
    if steps:
        asked.append(f"--finetune={steps}")
    command = ["evaluate", str(table), *asked, f"--output={record}", "--force"]
    if main(command) != 0:
        raise SystemExit(f"m2 {' '.join(command)} failed")


def record_tables() -> None:
    """Measure three tables, as they come and after 20 steps."""
    for source in SOURCES:
        if source.name not in TUNED:
            continue
        name = TUNED[source.name]
        table = out_dir() / "tuned" / f"{name}.csv"
        table.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame({"y": source.series()[0]}).to_csv(table, index=False)
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
        record = folder / "choice" / f"{GENERAL.name}-{steps}.json"
        evaluate(PELTS, record, steps, **PELTS_MOMENTS, **EARLIER)
        errors[steps] = np.mean(read_json(record)["errors"]["language model"])
    chosen = min(PELTS_STEPS[1:], key=errors.__getitem__)
    evaluate(PELTS, folder / f"{GENERAL.name}.json", 0, **PELTS_MOMENTS, **LATER)
    evaluate(PELTS, folder / f"{GENERAL.name}-tuned.json", chosen, **PELTS_MOMENTS, **LATER)


if __name__ == "__main__":
    record_tables()
    record_pelts()
