"""What our runs are set beside: the numbers that the report prints, and the recorded yardsticks.

Yardsticks are forecasters with and without a language model, on the study's series and on worlds that nobody was
trained on. Some take minutes and some want a library that m2lib does without, so what they come to is recorded, by
`python -m benchmarks.yardsticks`, in yardsticks.json beside the runs.
"""

import csv
import json
from typing import Any

from m2lib.files import InputError, repository
from m2lib.settings import results_root
from m2lib.study.profiles import Profile
from m2lib.study.selection import ErrorsOf, worst_5

FILE = "yardsticks.json"
STATISTICAL = ("AutoARIMA", "AutoETS", "AutoTheta")
ORDER = 9
"""Of the orders from 1 to 10, that with which log-VAR has the lowest mean error on the validation series."""
TUNED = f"log-VAR({ORDER}), its order chosen on validation"


def recorded_rows(where: str) -> dict[str, dict[str, Any]]:
    """The recorded rows of a set, by forecaster: of `M2_RESULTS` where it holds such a record, else the committed ones.

    A row holds `seconds` of one core and executed `flops`, each a series, and `maes` in scaled units by series id.
    Where its flops are a `bound`, `at least` or `at most`, they are not the number itself: of a fit only the right-hand
    sides are counted, and a statistical model is charged what a core computes at most in its seconds. Of a language
    model there are its FLOPs by the rules too (`coursework`), and a hash of its `adapter`'s files.
    """
    own = results_root() / FILE
    path = own if own.exists() else repository("report", "results", FILE)
    rows = [row for row in json.loads(path.read_text(encoding="utf-8"))["rows"] if row["set"] == where]
    return {row["forecaster"]: row | {"maes": {int(i): mae for i, mae in row["maes"].items()}} for row in rows}


def recorded_yardsticks(where: str) -> dict[str, dict[int, float]]:
    """The recorded errors of every forecaster on a set: MAE by series id, by name."""
    return {name: row["maes"] for name, row in recorded_rows(where).items()}


def published_maes(experiment: str) -> dict[int, float]:
    """The report's own per-series MAE of an experiment, by series id, ascending id. Scaled units.

    Raises InputError for an experiment that report/published/series_mae.csv does not hold.
    """
    rows = _rows("series_mae.csv")[1:]
    maes = {int(series): float(mae) for name, _, series, mae in rows if name == experiment}
    if not maes:
        known = ", ".join(sorted({name for name, *_ in rows}))
        raise InputError(f"series_mae.csv: no experiment {experiment!r}; it holds {known}")
    return dict(sorted(maes.items()))


def chosen_by(experiment: str) -> dict[int, float]:
    """The published errors that the report chose by: of its search those of the first round, on five series."""
    maes = published_maes(experiment)
    if not experiment.startswith("search/"):
        return maes
    return {series: maes[series] for series in worst_5(published_maes("default"))}


def deciding_errors(profile: Profile, own: ErrorsOf) -> ErrorsOf:
    """By whose errors series and adapters are chosen: the report's where the profile does as reported, else its own."""
    return chosen_by if profile.as_reported else own


def published_table_3() -> dict[str, list[float | None]]:
    """The report's Table 3: training, inference and total FLOPs by row, by its own accountant."""
    return {name: [float(cell) if cell else None for cell in row] for name, *row in _rows("table_3.csv")[1:]}


def published_statements() -> dict[str, float]:
    """Single numbers that the report prints in its text, by what they are."""
    return {statement: float(value) for statement, value, *_ in _rows("printed.csv")[1:]}


def _rows(file: str) -> list[list[str]]:
    with repository("report", "published", file).open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))
