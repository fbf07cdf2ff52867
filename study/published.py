"""The report's own numbers, read from report/published."""

import csv

from m2lib.files import ROOT
from study.selections import Maes, worst_5


def published_name(experiment: str) -> str:
    """Return what the report calls an experiment: the untuned model on test is `untuned`."""
    return "untuned" if experiment == "untuned-test" else experiment


def published_maes(experiment: str) -> Maes:
    """Return the report's own MAE of an experiment by series id, ascending, in scaled units.

    Of an experiment that the report does not have there are none.
    """
    maes = {}
    for name, _, series_id, mae in _rows("series_mae.csv"):
        if name == experiment:
            maes[int(series_id)] = float(mae)
    return dict(sorted(maes.items()))


def published_deciding_maes(experiment: str) -> Maes:
    """Return the published errors that the report chose by.

    Of its search they are those of the first round, on five series.
    """
    maes = published_maes(experiment)
    if not experiment.startswith("search/"):
        return maes
    return {series_id: maes[series_id] for series_id in worst_5(published_maes("default"))}


def published_table_3() -> dict[str, list[float | None]]:
    """Return the report's Table 3: training, inference and total FLOPs, by row.

    They are counted by its own accountant. None stands where it prints nothing.
    """
    table: dict[str, list[float | None]] = {}
    for name, *cells in _rows("table_3.csv"):
        table[name] = [float(cell) if cell else None for cell in cells]
    return table


def published_statements() -> dict[str, float]:
    """Return single numbers that the report prints in its text, by what they are."""
    return {statement: float(value) for statement, value, *_ in _rows("printed.csv")}


def _rows(file: str) -> list[list[str]]:
    """Return the rows of a table in report/published, without its heads."""
    with (ROOT / "report" / "published" / file).open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))[1:]
