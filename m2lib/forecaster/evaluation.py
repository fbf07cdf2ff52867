"""What an evaluation found: the errors of all forecasters, and what may be concluded from them.

It is made by `evaluate`, in `m2lib.forecaster.rolling`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from m2lib.series import DECILES, NOTHING_LEFT, quantile_losses, sign_flip_p, t_interval

MODEL = "language model"
WQL = "weighted quantile loss"
# The fewest forecasts that can be more than chance: even if five all err on one side, the p value
# of the sign-flip test is 2 / 2**5 = 0.06, which is above 0.05.
FEWEST_FORECASTS = 6


def four_digits(number: float) -> str:
    """Format a number in four digits, or in all before its point: 0.04711, 25.3, 123457."""
    return f"{number:.4g}" if abs(number) < 9999.5 else f"{number:.0f}"


@dataclass(frozen=True)
class Measure:
    """What the error of one forecast of a series comes to, in one number."""

    head: str
    """The head of its column in the table of an evaluation."""
    written: Callable[[float], str]
    """Writes the mean over all origins, for the table."""
    of: Callable[[np.ndarray, np.ndarray, int], float]
    """Takes absolute errors (steps, variables), the context (steps, variables) that was known, and
    the steps of the season. A measure that scales the errors takes its unit from the last two."""


def mase_units(context: np.ndarray, season: int) -> np.ndarray:
    """Return the `mase_unit` of each variable of a context (steps, variables)."""
    units = np.full(context.shape[1], np.nan)
    least = NOTHING_LEFT * np.ptp(context, axis=0)  # what is less is rounding
    for lag in (season, 1):
        if len(context) >= 2 * lag:
            changes = np.abs(context[lag:] - context[:-lag]).mean(axis=0)
            units = np.where(np.isnan(units) & (changes > least), changes, units)
    return units


def _mean(errors: np.ndarray, *_: object) -> float:
    """Return the mean over steps and variables."""
    # `errors.mean()` adds in another order, and records have the last digits of this one.
    return float(errors.mean(axis=0).mean())


def _scaled_mean(errors: np.ndarray, context: np.ndarray, season: int) -> float:
    """Return the mean over variables, each in its own unit."""
    # The unit of a variable that never changed is NaN, and the variable does not count.
    return float(np.nanmean(errors.mean(axis=0) / mase_units(context, season)))


MEASURES = {
    "errors": Measure("MAE", four_digits, _mean),  # the name of the MAE in records
    "mase": Measure("MASE", "{:.2f}".format, _scaled_mean),
}
"""What is measured of each forecast, by its name in a record."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The errors of all forecasters from all origins, and how certain the language model was.

    Where forecasts of different series are compared, they are by the mean absolute scaled error
    (MASE) [1]_.

    References
    ----------
    .. [1] Hyndman and Koehler, "Another look at measures of forecast accuracy", International
       Journal of Forecasting 22, 2006.
    """

    measures: dict[str, pd.DataFrame]
    """Each of `MEASURES` by its name: a row an origin, a column a forecaster.

    The rows are indexed by `item`, the number of a series among those that are evaluated, counted
    from 0 in the table's order, and `steps`, how many of its steps were known. (`forecasts` has the
    series' own names.)
    """
    season: int
    """Steps of the season, of several the shortest; 1 where there is none."""
    period: int | None
    """Steps of the period that the seasonal naive forecast repeats; None: found in each context."""
    crps: float
    """The mean CRPS of the language model's samples, table's units; of one sample it is the MAE."""
    coverage: float | None
    """The share of true values within the samples' middle 80%; None where there is one sample."""
    forecasts: pd.DataFrame
    """All forecasts, in the table's units: a row for each origin, variable and step.

    Its columns are the id and the time, under the table's own names (`item_id` and `timestamp`
    where it has none); `target_name`; `cutoff`, the last time stamp that was known; `truth`;
    `predictions`, the language model's median; its deciles `0.1` to `0.9`; every other forecaster
    under its name; and `mase_unit`, the mean absolute change from season to season before the
    cutoff. Where fewer than two seasons are known, or each is like the last, it is the one from
    step to step. It is NaN for a variable that never changed.
    """
    id_column: str = "item_id"
    """The column of `forecasts` that names the series."""

    @property
    def errors(self) -> pd.DataFrame:
        """MAE over steps and variables, in the table's units, as `measures` has it."""
        return self.measures["errors"]

    @property
    def mase(self) -> pd.DataFrame:
        """The same errors as MASE, which has no unit, so that series of any size can be averaged.

        A variable's error is divided by its `mase_unit`, and the mean is taken over variables; one
        that has no unit does not count.
        """
        return self.measures["mase"]

    @property
    def mae(self) -> float:
        """The language model's mean error, in the table's units."""
        return float(self.errors[MODEL].mean())

    @property
    def gains(self) -> pd.DataFrame:
        """Each other forecast's MASE less the language model's: a row for each origin."""
        return self.mase.drop(columns=MODEL).sub(self.mase[MODEL], axis=0)

    def record(self) -> dict[str, Any]:
        """Return the evaluation ready for JSON: origins, measures, CRPS and coverage.

        The quantile loss of `by_series` is not among them, because it comes from `forecasts`.
        """
        return {
            "origins": [{"item": item, "steps": steps} for item, steps in self.errors.index],
            **{name: measured.to_dict("list") for name, measured in self.measures.items()},
            "crps": self.crps,
            "coverage": self.coverage,
        }

    @property
    def verdict(self) -> str:
        """A sentence that says whether the model beats the best other forecast, and how surely.

        A difference is called more than chance if all of these hold: there are six forecasts or
        more, at least two of them of the same series; the 95% t interval of the paired gains leaves
        zero out; and the p value of their sign-flip test is below 0.05. The best of k other
        forecasts is chosen by the very errors on which the model is then compared with it, and
        among many the luckiest looks good. So where the model is behind it, the p value is
        multiplied by k (Bonferroni's correction).
        """
        other_mase = self.mase.drop(columns=MODEL)
        best_name = other_mase.mean().idxmin()
        best_error = self.mase[best_name].mean()
        gains = self.gains[best_name]
        gain = gains.mean()
        if gain > 0:
            relation = "below"
        elif gain < 0:
            relation = "above"
        else:
            relation = "equal to"
        if gain and best_error:  # else there is nothing to take a percentage of
            relation = f"{abs(gain) / best_error:.0%} {relation}"
        claim = (
            f"the language model's error is {relation} that of the best of the others, {best_name}"
        )
        if len(gains) < FEWEST_FORECASTS:
            return f"{claim}; fewer than {FEWEST_FORECASTS} forecasts prove nothing"

        low, high = t_interval(gains)
        choices = other_mase.shape[1] if gain < 0 else 1
        is_sure = (low > 0 or high < 0) and choices * sign_flip_p(gains) < 0.05
        # Series that are forecast from one moment each may all err together, for example in a bad
        # year. The interval takes them for independent, so it is too narrow.
        once_each = gains.index.unique("item").size == len(gains)
        restriction = ", one of each series," if once_each else ""
        certainty = "is more than chance" if is_sure and not once_each else "may be chance"
        return f"{claim}; with {len(gains)} forecasts{restriction} that {certainty}"

    def table(self) -> pd.DataFrame:
        """Tabulate the forecasters, best first: mean errors, and the model's paired gain over each.

        Returns
        -------
        DataFrame of str
            A row for each forecaster, the lowest MASE first. The cells are texts to be printed, and
            the numbers are in `measures` and `gains`. Each of `MEASURES` has a column with its mean
            over all origins. Then come `gain of the model`, in MASE, with a `95% interval` by
            Student's t if there are six forecasts or more, and `model better`, the number of
            forecasts in which it is. In the model's own row these last ones are empty.
        """
        best_first = self.mase.mean().sort_values().index
        gains = self.gains
        table = pd.DataFrame(index=best_first)
        for name, measured in self.measures.items():
            measure = MEASURES[name]
            table[measure.head] = measured.mean().map(measure.written)
        table["gain of the model"] = gains.mean().map("{:+.2f}".format)
        if len(gains) >= FEWEST_FORECASTS:
            intervals = gains.apply(t_interval, result_type="reduce")
            table["95% interval"] = intervals.map(lambda ends: f"{ends[0]:+.2f} to {ends[1]:+.2f}")
        table["model better"] = (gains > 0).sum().map(lambda better: f"{better} of {len(gains)}")
        return table.fillna("")

    def by_series(self) -> pd.DataFrame:
        """Return the errors of each series, without a unit.

        Returns
        -------
        DataFrame
            A row for each series, in the table's order. Each forecaster has a column with its MASE,
            the mean over the series' origins. The last column is the weighted quantile loss of the
            language model's deciles, as in `m2lib.series.weighted_quantile_loss`; with several
            variables it is the mean over them. Where all true values are 0 it is infinite, or NaN
            if all deciles are 0, too.
        """
        table = self.forecasts
        truth = table["truth"].to_numpy()
        quantiles = table[[str(level) for level in DECILES]].to_numpy()  # (rows, levels)
        losses = quantile_losses(quantiles.T, truth)

        # Grouped by two columns of the table, which are not copied into `measures`, because the id
        # column may be called `loss` or `size`, too.
        measures = pd.DataFrame({"loss": 2 * losses.mean(axis=0), "size": np.abs(truth)})
        series_and_variable = [table[self.id_column], table["target_name"]]
        by_variable = measures.groupby(series_and_variable, sort=False).mean()
        weighted = by_variable["loss"] / by_variable["size"]
        weighted_by_series = weighted.groupby(level=0, sort=False).mean()
        # Items are numbered in the order in which the table of forecasts has their names.
        by_series = self.mase.groupby("item").mean().set_axis(weighted_by_series.index)
        return by_series.assign(**{WQL: weighted_by_series})
