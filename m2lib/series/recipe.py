"""The recipe of the data set: random predator-prey systems, and their courses by the data file's own integrator.

The file is named after Lotka-Volterra, but what it holds is the Rosenzweig-MacArthur system: prey with a carrying
capacity, predators that saturate. Damped spirals and limit cycles stand side by side.
"""

from collections.abc import Callable

import numpy as np
import scipy

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
"""A right-hand side, called as `predator_prey` is: by time, state (prey, predators), and a system's parameters."""


def predator_prey(_time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """The rates dx/dt = r x (1 - x/K) - a x y / (1 + h x) and dy/dt = e a x y / (1 + h x) - m y.

    They are Rosenzweig's and MacArthur's ("Graphical Representation and Stability Conditions of Predator-Prey
    Interactions", The American Naturalist 97, 1963).
    """
    prey, predator = state
    growth, attack, mortality, handling, conversion, capacity = parameters
    eaten = attack * prey * predator / (1 + handling * prey)
    return growth * prey * (1 - prey / capacity) - eaten, conversion * eaten - mortality * predator


def draw_systems(n: int, seed: int) -> np.ndarray:
    """The systems that `generate_series` simulates: float64 (n, 8), parameters and starts in the order of `RECIPE`."""
    rng = np.random.RandomState(seed)
    return np.stack([rng.uniform(low, high, n) for low, high in RECIPE.values()], axis=1)


def solve_system(system: np.ndarray, time: np.ndarray, rates: Rates = predator_prey, **tolerance: float) -> np.ndarray:
    """A system's course (steps, 2) in physical units by LSODA: as the data file has it, with the defaults.

    `time` ascends from 0 to where the simulation ends, which decides the integrator's steps. `tolerance` may be `rtol`
    and `atol` of scipy's solve_ivp, instead of its own.
    """
    # RECIPE's first six, in its order, are what `predator_prey` takes after the state; the last two are the start.
    *parameters, prey, predator = system
    options = {"method": "LSODA", "t_eval": time, "args": parameters, **tolerance}
    return scipy.integrate.solve_ivp(rates, (0, time[-1]), (prey, predator), **options).y.T
