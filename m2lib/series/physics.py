"""The yardstick of physics: the system behind a series, fitted to its context and simulated further.

It is given what no other forecast here is: the equations, and the ranges that their parameters were drawn from.
"""

from collections.abc import Callable

import numpy as np
from scipy.integrate import odeint
from scipy.interpolate import CubicSpline
from scipy.optimize import least_squares

from m2lib.series.codec import to_integers, unscale
from m2lib.series.recipe import RECIPE, Rates, predator_prey, solve_system

# Parameters and starts are positive and fitted as logarithms, inside the recipe's ranges.
LOW, HIGH = np.log(np.array(list(RECIPE.values())).T)
EDGE = 1e-6  # least_squares wants its start strictly inside the bounds
GOOD = 3e-3  # mean absolute residual, as a share of the mean: about twice what rounding and the file's integrator leave
STARTS = 4  # of the fit at tight tolerances; one is enough for nearly all series
FILE_STARTS = 4  # of the fit with the file's integrator, whose errors make the sum of squares rugged

Simulate = Callable[[np.ndarray, np.ndarray, Rates], np.ndarray]


def simulate(system: np.ndarray, time: np.ndarray, rates: Rates = predator_prey) -> np.ndarray:
    """A system's course, with errors far below what rounding leaves.

    Parameters
    ----------
    system : ndarray of float64, shape (8,)
        Parameters and start, in the order of `RECIPE`.
    time : ndarray of float64, shape (steps,)
        Ascending; the start is at its first.
    rates : callable, optional
        The right-hand side, called as `predator_prey` is.

    Returns
    -------
    ndarray of float64, shape (steps, 2)
        Prey and predators, physical units.
    """
    return odeint(rates, system[6:], time, args=tuple(system[:6]), rtol=1e-8, atol=1e-8, tfirst=True)


def fit_system(context: np.ndarray, time: np.ndarray, seed: int = 0, rates: Rates = predator_prey) -> np.ndarray:
    """The system of the recipe that passes nearest to a context, by least squares.

    The first start is the system whose rates are nearest to the slopes of a spline through the context [1]_; where no
    good fit comes of it, starts are drawn from the recipe. Each is fitted to the first half of the context, then to
    all of it.

    Parameters
    ----------
    context : ndarray of float64, shape (steps, 2)
        Physical units.
    time : ndarray of float64, shape (steps or more,)
        Of its steps, and of those to come.
    seed : int, optional
        Of the starts that are drawn.
    rates : callable, optional
        The right-hand side, called as `predator_prey` is.

    Returns
    -------
    ndarray of float64, shape (8,)
        Parameters and start, in the order of `RECIPE`.

    References
    ----------
    .. [1] Varah, "A Spline Least Squares Method for Numerical Parameter Estimation in Differential Equations", SIAM
       Journal on Scientific and Statistical Computing 3, 1982.
    """
    drawn, best, least = np.random.default_rng(seed), LOW, np.inf
    for attempt in range(STARTS):
        logs: np.ndarray = (
            np.asarray(drawn.uniform(LOW, HIGH)) if attempt else _from_slopes(context, time[: len(context)], rates)
        )
        for steps in (len(context) // 2, len(context)):
            logs, error = _fitted(logs, context[:steps], time[:steps], simulate, 1e-8, rates)
        if error < least:
            best, least = logs, error
        if least < GOOD * context.mean():
            break
    return np.exp(best)


def fit_system_as_the_file(
    context: np.ndarray, time: np.ndarray, seed: int = 0, rates: Rates = predator_prey
) -> np.ndarray:
    """The same, with the errors of the file's integrator: of the fits from several starts, the one that fits best.

    Parameters
    ----------
    context : ndarray of float64, shape (steps, 2)
        Physical units.
    time : ndarray of float64, shape (steps or more,)
        Of its steps and of all that the simulation of the file went on for, from 0.
    seed : int, optional
        Of the small changes to the start.
    rates : callable, optional
        The right-hand side, called as `predator_prey` is.

    Returns
    -------
    ndarray of float64, shape (8,)
        Parameters and start, in the order of `RECIPE`.
    """
    first = np.log(fit_system(context, time, seed, rates))
    drawn, best, least = np.random.default_rng(seed), first, np.inf
    # The errors jump where the integrator takes other steps, so slopes are taken over wider and narrower distances.
    for attempt, distance in zip(range(FILE_STARTS), (1e-4, 1e-5, 1e-3, 1e-4), strict=True):
        start = first + drawn.normal(0, 3e-4 * attempt, len(first))
        logs, error = _fitted(start, context, time, solve_system, distance, rates)
        if error < least:
            best, least = logs, error
    return np.exp(best)


FITS: dict[str, tuple[Callable[..., np.ndarray], Simulate]] = {
    "the system, fitted": (fit_system, simulate),
    "the system, fitted with the file's integrator": (fit_system_as_the_file, solve_system),
}


def physics_forecast(
    contexts: np.ndarray, scales: np.ndarray, time: np.ndarray, name: str, rates: Rates = predator_prey
) -> np.ndarray:
    """Fit the system of each series to the scaled integers of its context, as all forecasters see them, and go on.

    Parameters
    ----------
    contexts : ndarray of int64, shape (n, steps, 2)
        Scaled units.
    scales : ndarray of float64, shape (n,)
        Of the codec, physical units.
    time : ndarray of float64, shape (steps + horizon,)
        Of the steps of context and forecast, from 0.
    name : str
        Of the fit, in `FITS`.
    rates : callable, optional
        The right-hand side that is fitted, called as `predator_prey` is.

    Returns
    -------
    ndarray of int64, shape (n, horizon, 2)
        Scaled units.
    """
    fit, run = FITS[name]
    steps, ahead = contexts.shape[1], []
    for context, scale in zip(contexts, scales, strict=True):
        system = fit(unscale(context, scale), time, rates=rates)
        ahead.append(to_integers(run(system, time, rates)[steps:], scale))
    return np.stack(ahead)


def _from_slopes(context: np.ndarray, time: np.ndarray, rates: Rates) -> np.ndarray:
    """Logarithms of a system whose rates of change are near the slopes of a spline through the context."""
    slopes = CubicSpline(time, context, axis=0)(time, 1)[1:-1].T
    states = context[1:-1].T

    def misses(logs: np.ndarray) -> np.ndarray:
        return np.concatenate(rates(0.0, states, *np.exp(logs)) - slopes)

    middle = (LOW + HIGH)[:6] / 2
    found = least_squares(misses, middle, bounds=(LOW[:6] - EDGE, HIGH[:6] + EDGE)).x
    return np.concatenate([found, np.log(context[0])])


def _fitted(
    logs: np.ndarray, context: np.ndarray, time: np.ndarray, run: Simulate, distance: float, rates: Rates
) -> tuple[np.ndarray, float]:
    """The logarithms of a nearby system that fits better, and its mean absolute residual."""
    far = 10 * context.max()  # in place of what an integration that fails does not give

    def residuals(logs: np.ndarray) -> np.ndarray:
        course = run(np.exp(logs), time, rates)[: len(context)]
        if len(course) < len(context):
            return np.full(context.size, far)
        return np.nan_to_num(course - context, nan=far, posinf=far, neginf=-far).ravel()

    start = np.clip(logs, LOW + EDGE, HIGH - EDGE)
    found = least_squares(
        residuals, start, bounds=(LOW - 1e-3, HIGH + 1e-3), x_scale="jac", diff_step=distance, max_nfev=40
    )
    return found.x, float(np.abs(found.fun).mean())
