"""Worlds beside the data set's: with noise, other equations, sampling rate or scale.

Forecasts are always scored against the true course, without noise. The study's adapters were
trained on the first world alone, and `general` on all of these equations, with other parameters,
sampling rates and noise.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from m2lib.series import data

SEED = 2_000_000_000
"""The seed of the systems and the noise of all worlds.

Training draws its own systems from seeds far below, and the data set has seed 0.
"""


def simulate_world(
    n: int,
    rates: data.Rates | None = None,
    end: float = 200.0,
    noise: float = 0.0,
    factor: float = 1.0,
) -> data.SeriesSet:
    """Simulate n series of a world.

    Without `rates` they are the recipe's. With them, these equations are solved to the time `end`
    with tight tolerances, because the question is what an equation does and not what an integrator
    does. The noise on the context is normal, with a standard deviation of `noise` times each value.
    All values are multiplied by `factor` at the end.
    """
    if rates is None:
        series_set = data.generate_series(n, SEED)
    else:
        systems = data.draw_systems(n, SEED)
        source = f"{rates.__name__} to time {end:g} (n={n}, seed={SEED})"
        series_set = data.simulate_systems(systems, source, rates, end, rtol=1e-8, atol=1e-8)
    errors = np.random.default_rng(SEED).normal(1, noise, series_set.contexts.shape)
    noisy_contexts = np.maximum(0, series_set.contexts * errors).astype(np.float32)
    trajectories = np.concatenate([noisy_contexts, series_set.truths], axis=1) * np.float32(factor)
    return data.SeriesSet(
        trajectories=trajectories,
        time=series_set.time,
        source=f"{series_set.source}, noise {noise:g}, times {factor:g}",
    )


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
    return data.predator_prey(time, state, *without_limits)


def drifting(time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """Return the rates of predators that die ever faster.

    By time 200 they die half as fast again as at time 0.
    """
    growth, attack, mortality, *other_parameters = parameters
    rising_mortality = mortality * (1 + time / 400)
    return data.predator_prey(time, state, growth, attack, rising_mortality, *other_parameters)


WORLDS: dict[str, Callable[[int], data.SeriesSet]] = {
    "as trained": simulate_world,
    "noise of 1%": partial(simulate_world, noise=0.01),
    "noise of 5%": partial(simulate_world, noise=0.05),
    "noise of 20%": partial(simulate_world, noise=0.2),
    "Holling type III": partial(simulate_world, rates=holling_three),
    "Lotka-Volterra": partial(simulate_world, rates=lotka_volterra),
    "a rate that drifts": partial(simulate_world, rates=drifting),
    "half the sampling rate": partial(simulate_world, rates=data.predator_prey, end=400.0),
    "a tenth of the size": partial(simulate_world, factor=0.1),
    "ten times the size": partial(simulate_world, factor=10.0),
}
"""For each world, the function that simulates n series of it."""
AT_HOME = "as trained"
RESIZED = ("a tenth of the size", "ten times the size")
OF_USUAL_SIZE = tuple(world for world in WORLDS if world not in RESIZED)
"""All worlds but those that are the first one in other units."""
CHANGED = tuple(world for world in OF_USUAL_SIZE if world != AT_HOME)
"""The worlds whose noise, equations or sampling rate are not the recipe's. README.md,
book/results.md, report/main.typ and lecture 11 count them in words."""
