"""The numbers that the report prints, from report/published: errors by series, Table 3, single statements."""

import csv

from m2lib.files import InputError, repository
from m2lib.study.profiles import Profile
from m2lib.study.selection import ErrorsOf, worst_5


def published_maes(experiment: str) -> dict[int, float]:
    """The report's own per-series MAE of an experiment, by series id, ascending id. Scaled units.

    Raises InputError for an experiment that report/published/series_mae.csv does not hold.
    """
    path = repository("report", "published", "series_mae.csv")
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file)]
    maes = {int(row["series_id"]): float(row["mae"]) for row in rows if row["experiment"] == experiment}
    if not maes:
        known = ", ".join(sorted({row["experiment"] for row in rows}))
        raise InputError(f"{path}: no experiment {experiment!r}; it holds {known}")
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
    with repository("report", "published", "table_3.csv").open(newline="", encoding="utf-8") as file:
        next(file)
        return {name: [float(cell) if cell else None for cell in row] for name, *row in csv.reader(file)}


def published_statements() -> dict[str, float]:
    """Single numbers that the report prints in its text, by what they are."""
    with repository("report", "published", "printed.csv").open(newline="", encoding="utf-8") as file:
        return {row["statement"]: float(row["value"]) for row in csv.DictReader(file)}
