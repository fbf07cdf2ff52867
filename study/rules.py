"""The rules by which errors decide which series and whose adapter an experiment uses.

The errors are those of earlier experiments, or the report's, whose numbers are read here too, from
report/published.
"""

import csv
import random
from collections.abc import Callable
from dataclasses import dataclass

from m2lib.files import ROOT
from m2lib.series import SPLIT_SEED, best_and_worst, summarise

Maes = dict[int, float]
"""Errors by series id, scaled units."""
ErrorsOf = Callable[[str], Maes]
"""Gives the errors of an experiment by its name."""


@dataclass(frozen=True)
class Selection:
    """Which series of a split: a rule, and the experiments whose errors it gets."""

    rule: Callable[..., list[int]]
    """Gives series ids from errors by series id, one argument for each experiment that it reads."""
    reads: tuple[str, ...]
    """The names of these experiments."""
    count: int
    """How many series it gives of the report's 50, by the report's errors."""


@dataclass(frozen=True)
class AdapterOf:
    """Whose adapter an experiment uses: that of the one that is named, or that errors choose."""

    names: tuple[str, ...]
    """The experiments that have trained an adapter."""
    place: int = 0
    """Which of them, in the order of their mean errors, each on its own series: 0 is the one with
    the lowest."""

    def chosen(self, errors_of: ErrorsOf) -> str:
        """Return the name of that experiment."""
        if len(self.names) == 1:  # its errors need not be known
            return self.names[0]

        def mean_error(name: str) -> tuple[float, str]:
            return summarise(errors_of(name).values()).mean, name

        return sorted(self.names, key=mean_error)[self.place]


def hard_and_easy(baseline: Maes) -> list[int]:
    """Return the report's reduced validation set: the worst 20 of 50, and 5 of the best 30.

    Of other numbers of series there are as many in proportion.
    """
    best, worst = best_and_worst(baseline)
    count = max(1, len(baseline) * 5 // 50)
    easy = random.Random(SPLIT_SEED).sample(best, min(len(best), count))
    return sorted(worst + easy)


def all_but_hard_and_easy(baseline: Maes) -> list[int]:
    """Return the series that the report's first adapter was never asked about."""
    return sorted(baseline.keys() - set(hard_and_easy(baseline)))


def worst_5(default: Maes) -> list[int]:
    """Return the five series that the first adapter forecasts worst.

    On these the report compares settings.
    """
    _, worst = best_and_worst(default, worst=min(5, len(default)))
    return sorted(worst)


def others_of_hard_20(baseline: Maes, default: Maes) -> list[int]:
    """Return the baseline's worst 20 but for `worst_5`.

    On these the report asks its three best settings again.
    """
    _, worst_20 = best_and_worst(baseline)
    return sorted(set(worst_20) - set(worst_5(default)))


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
