"""What forecasts without a language model cost, in floating point operations.

An addition, subtraction, multiplication, division or absolute value counts 1, an exponential or
logarithm 10, as by the rules; comparing and copying are free. Formulas are for one series of two
variables, and hold for any.
"""

import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from m2lib.series import CONTEXT_STEPS, FORECAST_STEPS, VARIABLES
from m2lib.series.equations import predator_prey
from study import ORDER, TUNED

RATES_FLOPS = 13
"""FLOPs of one call of `predator_prey`: 5 for what is eaten, 5 for dx/dt, 3 for dy/dt."""
V = len(VARIABLES)
T = CONTEXT_STEPS
H = FORECAST_STEPS


def mean_flops() -> int:
    """Return the cost of the context's mean: T - 1 additions and a division for each variable."""
    return V * T


def analogue_flops() -> int:
    """Return the cost of comparing the last steps with each earlier stretch of the context.

    A distance takes as many differences and absolute values as a stretch has numbers, and their
    sum: of 12 numbers 12 + 12 + 11 operations.
    """
    recent = 6  # as in `nearest_analogue`
    numbers = V * recent
    stretches = T - recent - H + 1
    return stretches * (3 * numbers - 1)


def period_flops() -> int:
    """Return the cost of finding the period of each variable by its autocorrelation.

    It takes logarithms, their mean, the distances from it, and all 2 T - 1 lags. A lag at which k
    steps overlap takes k products and k - 1 sums: with k = 1, ..., T, ..., 1 these are T^2 and
    T^2 - 2 T + 1.
    """
    logarithms = 10 * T
    mean = T
    distances = T
    lags = 2 * T**2 - 2 * T + 1
    return V * (logarithms + mean + distances + lags)


def log_var_flops(order: int = 3) -> int:
    """Return the cost of a vector autoregression of logarithms, fitted and iterated.

    Least squares by singular values of m rows and n columns takes 2 m n^2 + 11 n^3 operations
    (Golub and Van Loan, Matrix Computations, 4th edition, 2013, table 5.5.1), and 4 m n more for
    each column on the right. Each step of the iteration takes V inner products of n numbers, and
    the logarithm of its upper bound (10 x, log(1 + x)).
    """
    rows = T - order
    columns = 1 + V * order
    logarithms = 10 * T * V
    least_squares = 2 * rows * columns**2 + 11 * columns**3 + 4 * rows * columns * V
    iteration = H * (V * (2 * columns - 1) + 11)
    exponentials = 10 * H * V
    return logarithms + least_squares + iteration + exponentials


FORMULAS = {
    "last value, repeated": 0,
    "mean of the context, repeated": mean_flops(),
    "nearest analogue in the context": analogue_flops(),
    "log-VAR(3), fitted to the context": log_var_flops(),
    TUNED: log_var_flops(ORDER),
    "the last period, repeated": period_flops(),
}
"""FLOPs a series, by forecaster."""


@dataclass
class CountedRates:
    """`predator_prey`, which counts the states that it is computed for."""

    states: int = 0
    """How many states were given so far."""

    def __call__(self, _time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
        # An integrator gives one state; the fit to a spline's slopes gives all 78 together.
        self.states += state[0].size
        return predator_prey(_time, state, *parameters)

    @property
    def flops(self) -> int:
        """Operations of the right-hand side alone, without integrator and least squares."""
        return RATES_FLOPS * self.states


@cache
def core_rate() -> float:
    """Return the FLOP/s of one core in products of float64 matrices, the best of several.

    No other arithmetic reaches more.
    """
    size = 768
    matrix = np.random.default_rng(0).random((size, size))
    times = []
    for _ in range(5):
        start = time.process_time()  # of all threads together
        matrix @ matrix
        times.append(time.process_time() - start)
    return 2 * size**3 / min(times)
