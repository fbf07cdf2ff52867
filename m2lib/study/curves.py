"""Error against FLOPs: what a run had reached at its milestones, and the power law through such points."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from m2lib.study.records import Record

MEASURED = ("loss", "mae_mean", "mae_median")
"""What a milestone holds beside step and FLOPs, as its evaluation names it."""


@dataclass(frozen=True)
class Milestone:
    """What an evaluation in the middle of a run found."""

    step: int
    """Training steps until then."""
    flops: float
    """Training FLOPs by the rules until then: the run's, in proportion to its steps."""
    loss: float
    """On validation series, nats a token."""
    mae_mean: float
    """Over the validation series that were forecast, scaled units."""
    mae_median: float
    """Over the same, scaled units."""


def milestones(record: Record) -> list[Milestone]:
    """The evaluations of a finished training that forecast series too; those of the untuned model apart."""
    total = record.flops["training"]["coursework"]
    return [
        Milestone(int(entry["step"]), total * entry["step"] / len(record.loss_curve), *(entry[key] for key in MEASURED))
        for entry in record.evaluations
        if entry["step"] and "mae_mean" in entry
    ]


@dataclass(frozen=True)
class PowerLaw:
    """y = e^mean_y (x / e^mean_x)^exponent, the straight line through logarithms that least squares finds."""

    exponent: float
    """How much log y rises as log x rises by 1; below 0 where more FLOPs mean less error."""
    points: int
    """How many it was fitted to, n."""
    mean_x: float
    """Of the logarithms of x."""
    mean_y: float
    """Of the logarithms of y."""
    spread_x: float
    """Sum of the squared distances of log x from its mean."""
    residual: float
    """Standard deviation of log y about the line, with n - 2 degrees of freedom."""

    def at(self, x: float) -> float:
        """The law's y at x."""
        return float(np.exp(self.mean_y + self.exponent * (np.log(x) - self.mean_x)))

    @property
    def exponent_interval(self) -> tuple[float, float]:
        """95% interval of the exponent, where the residuals are normal."""
        width = self._t * self.residual / self.spread_x**0.5
        return self.exponent - width, self.exponent + width

    def interval(self, x: float) -> tuple[float, float]:
        """95% interval of one more y, at x: it widens with the distance from the points that were fitted."""
        distance = np.log(x) - self.mean_x
        width = self._t * self.residual * (1 + 1 / self.points + distance**2 / self.spread_x) ** 0.5
        return float(self.at(x) * np.exp(-width)), float(self.at(x) * np.exp(width))

    @property
    def _t(self) -> float:
        return float(student.ppf(0.975, self.points - 2))


def fit_power_law(x: Sequence[float], y: Sequence[float]) -> PowerLaw:
    """Least squares on logarithms; raises ValueError for fewer than three points, or values that are not positive."""
    if len(x) < 3 or min(*x, *y) <= 0:
        raise ValueError("a power law with its interval needs at least three points, all positive")
    log_x, log_y = np.log(x), np.log(y)
    about_x, about_y = log_x - log_x.mean(), log_y - log_y.mean()
    exponent = (about_x @ about_y) / (about_x @ about_x)
    residual = np.sqrt(np.sum((about_y - exponent * about_x) ** 2) / (len(x) - 2))
    return PowerLaw(
        float(exponent), len(x), float(log_x.mean()), float(log_y.mean()), float(about_x @ about_x), float(residual)
    )
