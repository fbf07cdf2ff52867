"""Worlds that nobody was trained on: the recipe's systems with noise, other equations, another clock or another scale.

What is scored is always the true course, without noise.
"""

from collections.abc import Callable

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


def _solved(n: int, rates: Rates, end: float = 200.0) -> SeriesSet:
    # Tight tolerances: what is asked here is what an equation does, not what an integrator does.
    source = f"{rates.__name__} to time {end:g} (n={n}, seed={SEED})"
    return simulated(draw_systems(n, SEED), source, rates, end, rtol=1e-8, atol=1e-8)


def _noisy(n: int, share: float) -> SeriesSet:
    """Each of the 80 steps that are seen is off by a normal error with this share of its value."""
    clean = generate_series(n, SEED)
    noise = np.random.default_rng(SEED).normal(1, share, clean.contexts.shape)
    seen = np.maximum(0, clean.contexts * noise).astype(np.float32)
    trajectories = np.concatenate([seen, clean.truths], axis=1)
    return SeriesSet(trajectories, clean.time, f"{clean.source}, noise of {share:.0%} on the context")


def _scaled(n: int, factor: float) -> SeriesSet:
    series = generate_series(n, SEED)
    return SeriesSet(series.trajectories * np.float32(factor), series.time, f"{series.source}, times {factor:g}")


WORLDS: dict[str, Callable[[int], SeriesSet]] = {
    "as trained": lambda n: generate_series(n, SEED),
    "noise of 1%": lambda n: _noisy(n, 0.01),
    "noise of 5%": lambda n: _noisy(n, 0.05),
    "noise of 20%": lambda n: _noisy(n, 0.2),
    "Holling type III": lambda n: _solved(n, holling_three),
    "Lotka-Volterra": lambda n: _solved(n, lotka_volterra),
    "a rate that drifts": lambda n: _solved(n, drifting),
    "half the sampling rate": lambda n: _solved(n, predator_prey, end=400.0),
    "a tenth of the size": lambda n: _scaled(n, 0.1),
    "ten times the size": lambda n: _scaled(n, 10.0),
}
"""What makes n series of each world."""
