"""The recipe of the data set: random predator-prey systems, and their courses by the data file's own integrator.

The file is named after Lotka-Volterra, but what it holds is the Rosenzweig-MacArthur system: prey with a carrying
capacity, predators that saturate. Damped spirals and limit cycles stand side by side.
"""

from collections.abc import Callable, Sequence

import numpy as np

from m2lib.series.data import BYTES_PER_SERIES, STEPS, SeriesSet, check_memory, whole_number
from m2lib.series.scaling import without_undershoot

# Uniform ranges, in the order in which they are drawn: 1000 values of the first, then 1000 of the second, ...
RECIPE = {
    "growth": (0.1, 0.3),  # r, per unit time
    "attack": (0.2, 0.5),  # a, per predator and unit time
    "mortality": (0.1, 0.3),  # m, per unit time
    "handling": (0.05, 0.2),  # h, per prey
    "conversion": (0.3, 0.7),  # e, predators per prey eaten
    "capacity": (5.0, 15.0),  # K, prey
    "prey0": (0.8, 1.2),  # prey at time 0
    "predator0": (0.8, 1.2),  # predators at time 0
}
Rates = Callable[..., tuple[float, float]]
"""A right-hand side, called as `predator_prey` is."""


def predator_prey(
    _time: float, state: np.ndarray, growth: float, attack: float, mortality: float, handling: float,
    conversion: float, capacity: float,
) -> tuple[float, float]:  # fmt: skip
    """Right-hand side: dx/dt = r x (1 - x/K) - a x y / (1 + h x), dy/dt = e a x y / (1 + h x) - m y.

    The system is Rosenzweig's and MacArthur's [1]_.

    Parameters
    ----------
    _time : float
        Not used: the rates do not change in time.
    state : ndarray of float, shape (2,)
        Prey x and predators y.
    growth, attack, mortality, handling, conversion, capacity : float
        r, a, m, h, e and K; RECIPE gives their units.

    Returns
    -------
    tuple of float
        dx/dt and dy/dt.

    References
    ----------
    .. [1] Rosenzweig and MacArthur, "Graphical Representation and Stability Conditions of Predator-Prey
       Interactions", The American Naturalist 97, 1963.
    """
    prey, predator = state
    eaten = attack * prey * predator / (1 + handling * prey)
    return growth * prey * (1 - prey / capacity) - eaten, conversion * eaten - mortality * predator


def draw_systems(n: int, seed: int) -> np.ndarray:
    """The systems that `generate_series` simulates: their parameters and starts.

    Parameters
    ----------
    n : int
        Number of systems.
    seed : int
        Of the legacy generator.

    Returns
    -------
    ndarray of float64, shape (n, 8)
        A row a system, in the order of `RECIPE`.
    """
    rng = np.random.RandomState(seed)
    return np.stack([rng.uniform(low, high, n) for low, high in RECIPE.values()], axis=1)


def solve_system(
    system: Sequence[float] | np.ndarray,
    time: np.ndarray,
    rates: Rates = predator_prey,
    tolerance: dict[str, float] | None = None,
) -> np.ndarray:
    """A system's course by LSODA: as the data file has it, with the defaults.

    Parameters
    ----------
    system : sequence of float, or ndarray of float64, shape (8,)
        Parameters and start, in the order of `RECIPE`.
    time : ndarray of float64, shape (steps,)
        Ascending, from 0 to where the simulation ends: that decides the integrator's steps.
    rates : callable, optional
        The right-hand side, called as `predator_prey` is.
    tolerance : dict of str to float, optional
        `rtol` and `atol` of scipy's solve_ivp, instead of its own.

    Returns
    -------
    ndarray of float64, shape (steps, 2)
        Prey and predators, physical units.
    """
    from scipy.integrate import solve_ivp

    # RECIPE's first six, in its order, are what `predator_prey` takes after the state; the last two are the start.
    *parameters, prey0, predator0 = system
    solved = solve_ivp(
        rates, (0, time[-1]), (prey0, predator0), method="LSODA", t_eval=time, args=parameters, **tolerance or {}
    )
    return solved.y.T


def generate_series(n: int = 1000, seed: int = 0) -> SeriesSet:
    """Simulate `n` series from the recipe; with the defaults the result *is* the real data set.

    LSODA at scipy's default tolerances, as the file was made: tighter tolerances give a different file.

    Parameters
    ----------
    n : int, optional
        Number of series. A smaller n does not give the first of the 1000: each parameter is drawn for all at once.
    seed : int, optional
        Seed of the legacy generator that draws the parameters; another gives other series.

    Returns
    -------
    SeriesSet
        `n` series of 100 steps, from time 0 to 200.

    Raises
    ------
    InputError
        For n < 1, for more series than memory holds, and for a seed that is not from 0 to 2**32 - 1.
    """
    n = whole_number("the number of series to generate", n, least=1)
    seed = whole_number("the seed of the recipe", seed, least=0, most=2**32 - 1)
    check_memory(n * BYTES_PER_SERIES, f"a set of {n} series", "generate fewer")
    return simulate(draw_systems(n, seed), f"generated (n={n}, seed={seed})")


def simulate(
    systems: np.ndarray,
    source: str,
    rates: Rates = predator_prey,
    end: float = 200.0,
    tolerance: dict[str, float] | None = None,
) -> SeriesSet:
    """The courses of systems, as a set of series.

    Parameters
    ----------
    systems : ndarray of float64, shape (n, 8)
        As `draw_systems` gives them.
    source : str
        What the set is to say of where it is from.
    rates : callable, optional
        As in `solve_system`.
    end : float, optional
        The time of the last step.
    tolerance : dict of str to float, optional
        As in `solve_system`.

    Returns
    -------
    SeriesSet
        `n` series of 100 steps.
    """
    time = np.linspace(0, end, STEPS)
    trajectories: np.ndarray = np.empty((len(systems), STEPS, 2), dtype=np.float32)
    for i, system in enumerate(systems.tolist()):
        trajectories[i] = solve_system(system, time, rates, tolerance)
    return SeriesSet(without_undershoot(trajectories), time, source)
