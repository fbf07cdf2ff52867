"""Which series and whose adapter an experiment uses, where errors decide it: earlier ones of ours,
or the report's.

The report's own numbers are read here too, from report/published.
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
    """How many series it gives of the report's 50."""

    def __str__(self) -> str:
        return f"{self.rule.__name__}({', '.join(self.reads)})"


@dataclass(frozen=True)
class AdapterOf:
    """Whose adapter: of these experiments number `place` by mean error, 0 the best; of one, that
    one's."""

    names: tuple[str, ...]
    """The experiments that have trained an adapter."""
    place: int = 0
    """Which of them, counted from the one with the lowest mean error on its own series."""

    def chosen(self, errors_of: ErrorsOf) -> str:
        """The name of that experiment."""
        if len(self.names) == 1:  # whose errors need not be known
            return self.names[0]
        return sorted(
            self.names, key=lambda name: (summarise(errors_of(name).values()).mean, name)
        )[self.place]


def hard_and_easy(baseline: Maes) -> list[int]:
    """The report's reduced validation set: the worst 20 of 50 and 5 of the best 30; in proportion
    for others."""
    best, worst = _hard(baseline)
    drawn = random.Random(SPLIT_SEED).sample(best, min(len(best), max(1, len(baseline) * 5 // 50)))
    return sorted(worst + drawn)


def all_but_hard_and_easy(baseline: Maes) -> list[int]:
    """The others: what the report's first adapter was never asked about."""
    return sorted(baseline.keys() - set(hard_and_easy(baseline)))


def worst_5(default: Maes) -> list[int]:
    """The five series that the first adapter forecasts worst, on which the report compares
    settings."""
    return sorted(best_and_worst(default, worst=min(5, len(default)))[1])


def others_of_hard_20(baseline: Maes, default: Maes) -> list[int]:
    """The rest of the baseline's worst 20, on which the report asks its three best settings
    again."""
    return sorted(set(_hard(baseline)[1]) - set(worst_5(default)))


def _hard(baseline: Maes) -> tuple[list[int], list[int]]:
    return best_and_worst(baseline, worst=max(1, len(baseline) * 20 // 50))


def published_maes(experiment: str) -> Maes:
    """The report's own per-series MAE of an experiment, by series id, ascending id. Scaled
    units."""
    rows = _rows("series_mae.csv")
    return dict(
        sorted((int(series), float(mae)) for name, _, series, mae in rows if name == experiment)
    )


def chosen_by(experiment: str) -> Maes:
    """The published errors that the report chose by: of its search those of the first round, on
    five series."""
    maes = published_maes(experiment)
    if not experiment.startswith("search/"):
        return maes
    return {series: maes[series] for series in worst_5(published_maes("default"))}


def published_table_3() -> dict[str, list[float | None]]:
    """The report's Table 3: training, inference and total FLOPs by row, by its own accountant."""
    return {
        name: [float(cell) if cell else None for cell in row] for name, *row in _rows("table_3.csv")
    }


def published_statements() -> dict[str, float]:
    """Single numbers that the report prints in its text, by what they are."""
    return {statement: float(value) for statement, value, *_ in _rows("printed.csv")}


def _rows(file: str) -> list[list[str]]:
    with (ROOT / "report" / "published" / file).open(newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))[1:]  # below their names
