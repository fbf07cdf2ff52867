"""Which series and whose adapter an experiment uses.

They are chosen by the errors of earlier experiments, or of the report.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

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


def few_of(ids: Sequence[int], count: int, seed: int) -> list[int]:
    """Return a few training series, drawn at random: of 10 the first 3 are those of 3."""
    order = np.random.default_rng(seed).permutation(len(ids))
    return [ids[place] for place in order[:count]]


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
    """Return the baseline's worst 20 except `worst_5`.

    On these the report asks its three best settings again.
    """
    _, worst_20 = best_and_worst(baseline)
    return sorted(set(worst_20) - set(worst_5(default)))
