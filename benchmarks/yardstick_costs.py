"""What a forecast without a language model costs in floating point operations.

An addition, subtraction, multiplication, division or absolute value counts 1, an exponential or
logarithm 10, as by the rules; comparing and copying are free. Formulas are for one series of two
variables, and hold for any.
"""

import time
from dataclasses import dataclass
from functools import cache

import numpy as np

from m2lib.series import CONTEXT_STEPS, FORECAST_STEPS, VARIABLES
from m2lib.series.data import predator_prey
from m2lib.study import ORDER, TUNED

RATES = 13
"""Operations of one call of `predator_prey`: 5 for what is eaten, 5 for dx/dt, 3 for dy/dt."""
V, T, H = len(VARIABLES), CONTEXT_STEPS, FORECAST_STEPS


def mean_flops() -> int:
    """T - 1 additions and a division for each variable."""
    return V * T


def analogue_flops(recent: int = 6) -> int:
    """Each stretch's distance: as many differences and absolute values as it has numbers, and one
    sum."""
    numbers = V * recent
    return (T - recent - H + 1) * (3 * numbers - 1)


def period_flops() -> int:
    """Logarithms, their mean and the distances from it, and all 2 T - 1 lags of the
    autocorrelation: 2 T^2 - 2 T + 1.

    A lag at which k steps overlap takes k products and k - 1 sums: with k = 1, ..., T, ..., 1 these
    are T^2 and T^2 - 2 T + 1.
    """
    return V * (10 * T + T + T + 2 * T**2 - 2 * T + 1)


def log_var_flops(order: int = 3) -> int:
    """Logarithms, least squares by singular values, the iteration and its exponentials.

    Least squares of m rows and n columns takes 2 m n^2 + 11 n^3 operations (Golub and Van Loan,
    Matrix Computations, 4th edition, 2013, table 5.5.1), and 4 m n more for each column on the
    right. Each step of the iteration takes V inner products of n numbers, and the logarithm of its
    upper bound (10 x, log(1 + x)).
    """
    rows, columns = T - order, 1 + V * order
    solved = 2 * rows * columns**2 + 11 * columns**3 + 4 * rows * columns * V
    return 10 * T * V + solved + H * (V * (2 * columns - 1) + 11) + 10 * H * V


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
    """`predator_prey`, and how often it was computed: once for each state that it was given."""

    states: int = 0
    """Given so far."""

    def __call__(self, _time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
        self.states += state[
            0
        ].size  # 1 from an integrator; the spline's slopes come all 78 together
        return predator_prey(_time, state, *parameters)

    @property
    def flops(self) -> int:
        """Of the right-hand side alone: what integrator and least squares add to it is not
        counted."""
        return RATES * self.states


@cache
def core_rate(size: int = 768, repeats: int = 5) -> float:
    """FLOP/s of one core in products of float64 matrices, the best of some: more than any other
    arithmetic reaches."""
    matrix, times = np.random.default_rng(0).random((size, size)), []
    for _ in range(repeats):
        started = time.process_time()  # of all threads together
        matrix @ matrix
        times.append(time.process_time() - started)
    return 2 * size**3 / min(times)
