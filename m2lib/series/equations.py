"""The equations of prey and predators: the data set's, and those of other worlds."""

from collections.abc import Callable

import numpy as np

Rates = Callable[..., tuple[float, float]]
"""A right-hand side, called as `predator_prey` is.

It takes the time, the state (prey, predators) and a system's parameters, and returns the rates of
prey and predators.
"""


def predator_prey(_time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """Return the rates of change of prey and predators, dx/dt and dy/dt.

    They are dx/dt = r x (1 - x/K) - a x y / (1 + h x) and dy/dt = e a x y / (1 + h x) - m y. Here x
    is the prey and y the predators; `RECIPE` names the parameters. The equations are those of
    Rosenzweig and MacArthur ("Graphical Representation and Stability Conditions of Predator-Prey
    Interactions", The American Naturalist 97, 1963).
    """
    prey, predator = state
    growth, attack, mortality, handling, conversion, capacity = parameters
    predation = attack * prey * predator / (1 + handling * prey)
    prey_rate = growth * prey * (1 - prey / capacity) - predation
    predator_rate = conversion * predation - mortality * predator
    return prey_rate, predator_rate


def holling_three(_time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """Return the rates of predators that hardly hunt rare prey: they eat a x^2 y / (1 + h x^2).

    Such predators spare what is left of the prey, and with the recipe's handling times every series
    comes to rest. Cycles need predators that are full before the prey are many: here h is
    e a / (1.5 m), so that a predator that eats all it can gains half as much again as it loses. Of
    30 series, 26 then swing by 100 scaled units or more in the steps that are forecast, as 24 of
    the recipe's own do. (Holling, "Some Characteristics of Simple Types of Predation and
    Parasitism", The Canadian Entomologist 91, 1959.)
    """
    prey, predator = state
    growth, attack, mortality, _, conversion, capacity = parameters
    handling = conversion * attack / (1.5 * mortality)
    predation = attack * prey**2 * predator / (1 + handling * prey**2)
    prey_rate = growth * prey * (1 - prey / capacity) - predation
    predator_rate = conversion * predation - mortality * predator
    return prey_rate, predator_rate


def lotka_volterra(time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """Return the rates without a limit to the prey or to a predator's appetite.

    The cycles neither die out nor settle. The recipe's handling time and capacity are not used.
    """
    growth, attack, mortality, _, conversion, _ = parameters
    handling = 0.0
    capacity = np.inf
    without_limits = (growth, attack, mortality, handling, conversion, capacity)
    return predator_prey(time, state, *without_limits)


def drifting(time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """Return the rates of predators that die ever faster.

    By time 200 they die half as fast again as at time 0.
    """
    growth, attack, mortality, *other_parameters = parameters
    rising_mortality = mortality * (1 + time / 400)
    return predator_prey(time, state, growth, attack, rising_mortality, *other_parameters)
