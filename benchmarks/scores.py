"""The errors of forecasts of real tables, in units in which series can be compared.

The unit of a series is the mean absolute change from one season to the next in a forecast's
context, as in the mean absolute scaled error (MASE) [1]_.

References
----------
.. [1] Hyndman and Koehler, "Another look at measures of forecast accuracy", International Journal
   of Forecasting 22, 2006.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from m2lib.series import quantile_losses

Cut = tuple[int, np.ndarray, np.ndarray]
"""The number of a series in its source, its context (steps,) and the truth (horizon,). Series of
several variables that are forecast together have a second axis for these."""


def five_digits(value: float) -> float:
    """Return a number, rounded to five digits."""
    return float(f"{value:.5g}")


def rounded(values: np.ndarray) -> Any:
    """Return numbers as records keep them: as nested lists, to five digits."""
    return np.vectorize(five_digits)(values).tolist()


def mase_unit(context: np.ndarray, season: int) -> np.ndarray:
    """Return the mean absolute change from season to season in a context (steps,).

    Series of several variables (steps, variables) have a unit for each of these.
    """
    return np.abs(context[season:] - context[:-season]).mean(axis=0)


def score(cuts: Sequence[Cut], season: int, deciles: Sequence[np.ndarray]) -> dict[str, list]:
    """Return the errors of each forecast, in the order of the cuts.

    Errors are in units of the mean change from season to season in a forecast's context, of each
    variable its own. series: the number of the series. mase: the error of the median. loss: twice
    the mean quantile loss of the deciles (9, horizon). held: the share of true values between the
    first and the last decile. Variables have a further axis, over which the mean is taken, too.
    """
    rows: dict[str, list] = {"series": [], "mase": [], "loss": [], "held": []}
    for (number, context, truth), quantiles in zip(cuts, deciles, strict=True):
        unit = mase_unit(context, season)
        errors = (truth - quantiles) / unit
        losses = quantile_losses(quantiles, truth) / unit
        low_errors, median_errors, high_errors = errors[0], errors[4], errors[8]
        is_held = (low_errors >= 0) & (high_errors <= 0)
        rows["series"].append(number)
        rows["mase"].append(five_digits(np.abs(median_errors).mean()))
        rows["loss"].append(five_digits(2 * losses.mean()))
        rows["held"].append(five_digits(is_held.mean()))
    return rows
