"""Worlds that nobody was trained on: the recipe's systems with noise, other equations, another clock or another scale.

What is scored is always the true course, without noise.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from m2lib.series.data import Rates, SeriesSet, draw_systems, generate_series, predator_prey, simulated

SEED = 2_000_000_000
"""Of the systems of all worlds. Training draws its own from seeds far below, and the data set is made of seed 0."""
FULL = 1.5
"""What a full predator of `holling_three` gains, in terms of what it loses: e a / h = 1.5 m."""


def holling_three(_time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """The rates of predators that hardly hunt what is rare: eaten are a x^2 y / (1 + h x^2).

    Such predators spare what is left of the prey, and with the handling times of the recipe every series comes to
    rest. Cycles want predators that are full before the prey are many: here h is e a / (1.5 m), so that a predator
    that eats all it can gains half as much again as it loses. Of 30 series, 26 then swing by 100 scaled units and more
    in the steps that are forecast, as 24 of the recipe's own do. (Holling, "Some Characteristics of Simple Types of
    Predation and Parasitism", The Canadian Entomologist 91, 1959.)
    """
    prey, predator = state
    growth, attack, mortality, _, conversion, capacity = parameters
    handling = conversion * attack / (FULL * mortality)
    eaten = attack * prey**2 * predator / (1 + handling * prey**2)
    return growth * prey * (1 - prey / capacity) - eaten, conversion * eaten - mortality * predator


def lotka_volterra(time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """The rates without a limit to the prey or to a predator's appetite: cycles that neither die out nor settle."""
    growth, attack, mortality, _, conversion, _ = parameters
    return predator_prey(time, state, growth, attack, mortality, 0.0, conversion, np.inf)


def drifting(time: float, state: np.ndarray, *parameters: float) -> tuple[float, float]:
    """The rates of predators that die ever faster: by time 200 half as fast again as at time 0."""
    growth, attack, mortality, *others = parameters
    return predator_prey(time, state, growth, attack, mortality * (1 + time / 400), *others)


def series_of(
    n: int, rates: Rates | None = None, end: float = 200.0, noise: float = 0.0, factor: float = 1.0
) -> SeriesSet:
    """n series: of the recipe, or of other rates or to another end; with noise on what is seen; times a factor.

    Noise is normal, with a standard deviation of this share of each value. Other rates are solved with tight
    tolerances: what is asked is what an equation does, not what an integrator does.
    """
    if rates is None:
        series = generate_series(n, SEED)
    else:
        source = f"{rates.__name__} to time {end:g} (n={n}, seed={SEED})"
        series = simulated(draw_systems(n, SEED), source, rates, end, rtol=1e-8, atol=1e-8)
    errors = np.random.default_rng(SEED).normal(1, noise, series.contexts.shape)
    seen = np.maximum(0, series.contexts * errors).astype(np.float32)
    trajectories = np.concatenate([seen, series.truths], axis=1) * np.float32(factor)
    return SeriesSet(trajectories, series.time, f"{series.source}, noise {noise:g}, times {factor:g}")


WORLDS: dict[str, Callable[[int], SeriesSet]] = {
    "as trained": series_of,
    "noise of 1%": partial(series_of, noise=0.01),
    "noise of 5%": partial(series_of, noise=0.05),
    "noise of 20%": partial(series_of, noise=0.2),
    "Holling type III": partial(series_of, rates=holling_three),
    "Lotka-Volterra": partial(series_of, rates=lotka_volterra),
    "a rate that drifts": partial(series_of, rates=drifting),
    "half the sampling rate": partial(series_of, rates=predator_prey, end=400.0),
    "a tenth of the size": partial(series_of, factor=0.1),
    "ten times the size": partial(series_of, factor=10.0),
}
"""What makes n series of each world."""
