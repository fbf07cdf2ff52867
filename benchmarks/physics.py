"""The yardstick of physics: the system behind a series, fitted to its context and simulated
further.

It is given what no other forecast here is: the equations, and the ranges that their parameters were
drawn from. A system is float64 (8,): parameters and start, in the order of `RECIPE`. `rates` is its
right-hand side.
"""

from collections.abc import Callable

import numpy as np
import scipy

from m2lib.series import to_integers, unscale
from m2lib.series.data import RECIPE, Rates, predator_prey, solve_system

# Parameters and starts are positive and fitted as logarithms, inside the recipe's ranges.
LOW, HIGH = np.log(np.array(list(RECIPE.values())).T)
EDGE = 1e-6  # least_squares wants its start strictly inside the bounds
GOOD = 3e-3  # mean absolute residual, as a share of the mean: about twice what rounding and the file's integrator leave
STARTS = 4  # of the fit at tight tolerances; one is enough for nearly all series


def simulate(system: np.ndarray, time: np.ndarray, rates: Rates = predator_prey) -> np.ndarray:
    """A system's course (steps, 2), physical units, with errors far below what rounding leaves."""
    parameters, start = tuple(system[:6]), system[6:]
    return scipy.integrate.odeint(
        rates, start, time, args=parameters, rtol=1e-8, atol=1e-8, tfirst=True
    )


def fit_system(context: np.ndarray, time: np.ndarray, rates: Rates = predator_prey) -> np.ndarray:
    """The system of the recipe that passes nearest to a context (steps, 2) of physical units, by
    least squares.

    The first start is the system whose rates are nearest to the slopes of a spline through the
    context (Varah, "A Spline Least Squares Method for Numerical Parameter Estimation in
    Differential Equations", SIAM Journal on Scientific and Statistical Computing 3, 1982). Where no
    good fit comes of it, starts are drawn from the recipe. Each is fitted to the first half of the
    context, then to all of it.
    """
    drawn, found = np.random.default_rng(0), []
    for attempt in range(STARTS):
        logs = (
            drawn.uniform(LOW, HIGH, len(LOW))
            if attempt
            else _from_slopes(context, time[: len(context)], rates)
        )
        for steps in (len(context) // 2, len(context)):
            error, logs = _fitted(logs, context[:steps], time[:steps], simulate, 1e-8, rates)
        found.append((error, logs))
        if error < GOOD * context.mean():
            break
    return np.exp(min(found, key=lambda fit: fit[0])[1])


def fit_system_as_the_file(
    context: np.ndarray, time: np.ndarray, rates: Rates = predator_prey
) -> np.ndarray:
    """The same, with the errors of the file's integrator: of the fits from several starts, the one
    that fits best.

    `time` is of all steps that the simulation of the file went on for, from 0.
    """
    first, found = np.log(fit_system(context, time, rates)), []
    drawn = np.random.default_rng(0)
    # The errors jump where the integrator takes other steps, so slopes are taken over wider and
    # narrower distances.
    for attempt, distance in enumerate((1e-4, 1e-5, 1e-3, 1e-4)):
        start = first + drawn.normal(0, 3e-4 * attempt, len(first))
        found.append(_fitted(start, context, time, solve_system, distance, rates))
    return np.exp(min(found, key=lambda fit: fit[0])[1])


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
    """Fit the system of each series to the scaled integers of its context, as all forecasters see
    them, and go on.

    contexts: (n, steps, 2), scaled units; scales: (n,), of the codec; time: (steps + horizon,),
    from 0; name: in `FITS`. Returns int64 (n, horizon, 2), scaled units.
    """
    fit, run = FITS[name]
    ahead = []
    for context, scale in zip(contexts, scales, strict=True):
        system = fit(unscale(context, scale), time, rates=rates)
        ahead.append(to_integers(run(system, time, rates)[len(context) :], scale))
    return np.stack(ahead)


def _from_slopes(context: np.ndarray, time: np.ndarray, rates: Rates) -> np.ndarray:
    """Logarithms of a system whose rates of change are near the slopes of a spline through the
    context."""
    slopes = scipy.interpolate.CubicSpline(time, context, axis=0)(time, 1)[1:-1].T
    states = context[1:-1].T

    def misses(logs: np.ndarray) -> np.ndarray:
        return np.concatenate(rates(0.0, states, *np.exp(logs)) - slopes)

    middle = (LOW + HIGH)[:6] / 2
    found = scipy.optimize.least_squares(misses, middle, bounds=(LOW[:6] - EDGE, HIGH[:6] + EDGE)).x
    return np.concatenate([found, np.log(context[0])])


def _fitted(
    logs: np.ndarray,
    context: np.ndarray,
    time: np.ndarray,
    run: Callable,
    distance: float,
    rates: Rates,
) -> tuple[float, np.ndarray]:
    """The mean absolute residual of a nearby system that fits better, and its logarithms."""
    far = 10 * context.max()  # in place of what an integration that fails does not give

    def residuals(logs: np.ndarray) -> np.ndarray:
        course = run(np.exp(logs), time, rates)[: len(context)]
        if len(course) < len(context):
            return np.full(context.size, far)
        return np.nan_to_num(course - context, nan=far, posinf=far, neginf=-far).ravel()

    start, bounds = np.clip(logs, LOW + EDGE, HIGH - EDGE), (LOW - 1e-3, HIGH + 1e-3)
    options = {"x_scale": "jac", "diff_step": distance, "max_nfev": 40}
    found = scipy.optimize.least_squares(residuals, start, bounds=bounds, **options)
    return float(np.abs(found.fun).mean()), found.x
