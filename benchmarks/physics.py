"""The yardstick of physics fits the system behind a series to its context and simulates it further.

It is given what no other forecast here is: the equations, and the ranges that their parameters were
drawn from. A system is float64 (8,): parameters and start, in the order of `RECIPE`. `rates` is its
right-hand side.
"""

from collections.abc import Callable

import numpy as np
import scipy

from m2lib.series import to_integers, unscale
from m2lib.series.data import RECIPE, solve_system
from m2lib.series.equations import Rates, predator_prey

# Parameters and starts are positive and fitted as logarithms, inside the recipe's ranges.
LOW, HIGH = np.log(np.array(list(RECIPE.values())).T)  # each (8,)
EDGE = 1e-6  # least_squares wants its start strictly inside the bounds
# A good fit's mean absolute residual, as a share of the mean: about twice what rounding and the
# file's integrator leave.
GOOD = 3e-3
STARTS = 4  # of the fit at tight tolerances; one is enough for nearly all series


def simulate(system: np.ndarray, time: np.ndarray, rates: Rates = predator_prey) -> np.ndarray:
    """Return a system's course (steps, 2), physical units, with errors far below rounding."""
    parameters = tuple(system[:6])
    start = system[6:]
    return scipy.integrate.odeint(
        rates, start, time, args=parameters, rtol=1e-8, atol=1e-8, tfirst=True
    )


def fit_system(context: np.ndarray, time: np.ndarray, rates: Rates = predator_prey) -> np.ndarray:
    """Return the system of the recipe that passes nearest to a context, by least squares.

    The context is (steps, 2), in physical units. The first start is the system whose rates are
    nearest to the slopes of a spline through the context (Varah, "A Spline Least Squares Method for
    Numerical Parameter Estimation in Differential Equations", SIAM Journal on Scientific and
    Statistical Computing 3, 1982). Where no good fit comes of it, starts are sampled from the
    recipe. Each is fitted to the first half of the context, then to all of it.
    """
    generator = np.random.default_rng(0)
    fits = []
    for attempt in range(STARTS):
        if attempt == 0:
            logs = _from_slopes(context, time[: len(context)], rates)
        else:
            logs = generator.uniform(LOW, HIGH, len(LOW))
        for steps in (len(context) // 2, len(context)):
            error, logs = _refine_fit(logs, context[:steps], time[:steps], simulate, 1e-8, rates)
        fits.append((error, logs))
        if error < GOOD * context.mean():
            break
    return _best_system(fits)


def _best_system(fits: list[tuple[float, np.ndarray]]) -> np.ndarray:
    """Return the system (8,) of the least error, out of errors and logarithms of systems."""
    _, logs = min(fits, key=lambda fit: fit[0])
    return np.exp(logs)


def fit_system_as_the_file(
    context: np.ndarray, time: np.ndarray, rates: Rates = predator_prey
) -> np.ndarray:
    """Return the system that passes nearest to a context when the file's integrator simulates it.

    That integrator's own errors are in the file, and so in the context. The fit starts near
    `fit_system`'s, several times, and the best one counts. `time` holds all steps, from 0, that the
    file's simulation went on for.
    """
    exact = np.log(fit_system(context, time, rates))
    generator = np.random.default_rng(0)
    fits = []
    # The errors jump where the integrator takes other steps, so slopes are taken over wider and
    # narrower distances.
    for attempt, distance in enumerate((1e-4, 1e-5, 1e-3, 1e-4)):
        start = exact + generator.normal(0, 3e-4 * attempt, len(exact))
        fits.append(_refine_fit(start, context, time, solve_system, distance, rates))
    return _best_system(fits)


FITS = {
    "the system, fitted": (fit_system, simulate),
    "the system, fitted with the file's integrator": (fit_system_as_the_file, solve_system),
}


def physics_forecast(
    contexts: np.ndarray,
    scales: np.ndarray,
    time: np.ndarray,
    name: str,
    rates: Rates = predator_prey,
) -> np.ndarray:
    """Fit the system of each series to its context, and simulate it further.

    Like all forecasters, it sees the context's scaled integers. contexts: (n, steps, 2), scaled
    units; scales: (n,), of the codec; time: (steps + horizon,), from 0; name: in `FITS`. Returns
    int64 (n, horizon, 2), scaled units.
    """
    fit, run = FITS[name]
    forecasts = []
    for context, scale in zip(contexts, scales, strict=True):
        system = fit(unscale(context, scale), time, rates=rates)
        course = run(system, time, rates)
        forecasts.append(to_integers(course[len(context) :], scale))
    return np.stack(forecasts)


def _from_slopes(context: np.ndarray, time: np.ndarray, rates: Rates) -> np.ndarray:
    """Return logarithms of a system whose rates are near the slopes of a spline, (8,).

    The spline goes through the context, and the system starts where the context does.
    """
    spline = scipy.interpolate.CubicSpline(time, context, axis=0)
    slopes = spline(time, 1)[1:-1].T  # (2, steps - 2), without the ends
    states = context[1:-1].T

    def residuals(logs: np.ndarray) -> np.ndarray:
        return np.concatenate(rates(0.0, states, *np.exp(logs)) - slopes)

    middle = (LOW + HIGH)[:6] / 2  # of the six parameters
    bounds = (LOW[:6] - EDGE, HIGH[:6] + EDGE)
    parameters = scipy.optimize.least_squares(residuals, middle, bounds=bounds).x
    return np.concatenate([parameters, np.log(context[0])])


def _refine_fit(
    logs: np.ndarray,
    context: np.ndarray,
    time: np.ndarray,
    run: Callable,
    distance: float,
    rates: Rates,
) -> tuple[float, np.ndarray]:
    """Return the mean absolute residual of a nearby system that fits better, and its logarithms.

    distance: over which least squares takes the residuals' slopes.
    """
    penalty = 10 * context.max()  # the residual where an integration fails

    def residuals(logs: np.ndarray) -> np.ndarray:
        course = run(np.exp(logs), time, rates)[: len(context)]
        if len(course) < len(context):
            return np.full(context.size, penalty)
        return np.nan_to_num(course - context, nan=penalty, posinf=penalty, neginf=-penalty).ravel()

    fit = scipy.optimize.least_squares(
        residuals,
        np.clip(logs, LOW + EDGE, HIGH - EDGE),
        bounds=(LOW - 1e-3, HIGH + 1e-3),
        x_scale="jac",
        diff_step=distance,
        max_nfev=40,
    )
    return float(np.abs(fit.fun).mean()), fit.x
