"""Rolling origins: the moments of the past from which a table's series are forecast again."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2lib.files import InputError
from m2lib.forecaster.cells import SHORTEST
from m2lib.forecaster.tables import Item


@dataclass(frozen=True)
class Origin:
    """One forecast to be made: of one series, from one moment on."""

    item: int
    """The series' place in the table."""
    steps: int
    """How many of its steps are the context."""

    def context(self, items: Sequence[Item]) -> np.ndarray:
        """What is known at this moment.

        Parameters
        ----------
        items : sequence of Item
            All series of the table.

        Returns
        -------
        ndarray
            (steps, variables), the table's units.
        """
        return items[self.item].values[: self.steps]


def origins_of(
    items: Sequence[Item], horizon: int, count: int = 1, stride: int | None = None, least: int = SHORTEST
) -> list[Origin]:
    """The moments to forecast from: the last `count` of each series that `horizon` steps follow.

    Parameters
    ----------
    items : sequence of Item
        The series.
    horizon : int
        Steps to forecast.
    count : int, optional
        Of each series, as many as it is long enough for.
    stride : int, optional
        Steps between two of them. Default: the horizon, so that no step is forecast twice.
    least : int, optional
        Steps that a context has.

    Returns
    -------
    list of Origin
        Series by series, the earliest first.

    Raises
    ------
    InputError
        For numbers below 1, and where no series is long enough.
    """
    stride = horizon if stride is None else stride
    if min(horizon, count, stride) < 1:
        raise InputError("horizon, origins and stride are whole numbers from 1 on")
    found = []
    for place, item in enumerate(items):
        last = len(item.values) - horizon
        cuts = range(last - (count - 1) * stride, last + 1, stride)
        found += [Origin(place, steps) for steps in cuts if steps >= least]
    if not found:
        needed = least + horizon
        raise InputError(f"no series is long enough: a forecast of {horizon} steps wants {needed}; ask for fewer steps")
    return found


def rounds(rolled: Sequence[Origin], apart: bool) -> list[list[int]]:
    """Which origins one forecaster serves.

    Parameters
    ----------
    rolled : sequence of Origin
        As `origins_of` gives them.
    apart : bool
        Whether each moment has a forecaster of its own: the last of each series, the last but one, and so on.

    Returns
    -------
    list of list of int
        Places in `rolled`.
    """
    if not apart:
        return [list(range(len(rolled)))]
    found: dict[int, list[int]] = {}
    later = Counter(origin.item for origin in rolled)
    for place, origin in enumerate(rolled):
        later[origin.item] -= 1  # of the series' origins come after it: 2 1 0 and 1 0 for series with three and two
        found.setdefault(later[origin.item], []).append(place)
    return list(found.values())
