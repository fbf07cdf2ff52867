"""How loss and errors fall with the FLOPs of a training."""

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import linregress
from scipy.stats import t as student

from study import Record

MEASURED = ("loss", "mae_mean", "mae_median")
"""What milestones measure."""


def milestones(record: Record) -> pd.DataFrame:
    """Return where a training stood: `step`, `flops`, `loss`, `mae_mean` and `mae_median`.

    The FLOPs are those of the whole training by the rules, in proportion to the steps until then.
    The rows are the evaluations that forecast series, without that of the untuned model; the last
    is the training's end.
    """
    evaluations = pd.DataFrame(record.evaluations).dropna().query("step > 0")
    total = record.flops["training"]["coursework"]
    steps = len(record.loss_curve)
    flops = [total * step / steps for step in evaluations["step"].tolist()]
    evaluations.insert(1, "flops", flops)
    return evaluations


def power_law(x: Any, y: Any, at: Any) -> dict[str, Any]:
    """Return the power law through points: its exponent, y at other x, and 95% intervals of both.

    It is the straight line through logarithms, by least squares. The interval of y at an x is that
    of one more point, and so widens with the distance from the others.
    """
    log_x = np.log(x)
    log_at = np.log(at)
    fit = linregress(log_x, np.log(y))
    n = len(log_x)
    exponent_half_width = student.ppf(0.975, n - 2) * fit.stderr
    # With residuals of standard deviation s, and S = sum((log_x - mean)^2), the slope has the
    # standard error s / sqrt(S), and one more point at a distance d from the mean has
    # s * sqrt(1 + 1 / n + d^2 / S). That is the slope's times sqrt(S * (1 + 1 / n) + d^2).
    squares = float(np.sum((log_x - np.mean(log_x)) ** 2))
    distance = log_at - np.mean(log_x)
    half_width = exponent_half_width * np.sqrt(squares * (1 + 1 / n) + distance**2)
    estimate = np.exp(fit.intercept + fit.slope * log_at)
    return {
        "exponent": fit.slope,
        "exponent interval": (fit.slope - exponent_half_width, fit.slope + exponent_half_width),
        "there": estimate,
        # A half-width of logarithms is a factor.
        "interval there": (estimate * np.exp(-half_width), estimate * np.exp(half_width)),
    }
