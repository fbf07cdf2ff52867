"""Worlds beside the data set's: with noise, other equations, sampling rate or scale.

Forecasts are always scored against the true course, without noise. The study's adapters were
trained on the first world alone.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from m2lib.series import data
from m2lib.series.equations import Rates, drifting, holling_three, lotka_volterra, predator_prey

SEED = 2_000_000_000
"""The seed of the systems and the noise of all worlds.

Training draws its own systems from seeds far below, and the data set has seed 0.
"""


def simulate_world(
    n: int,
    rates: Rates | None = None,
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


WORLDS: dict[str, Callable[[int], data.SeriesSet]] = {
    "as trained": simulate_world,
    "noise of 1%": partial(simulate_world, noise=0.01),
    "noise of 5%": partial(simulate_world, noise=0.05),
    "noise of 20%": partial(simulate_world, noise=0.2),
    "Holling type III": partial(simulate_world, rates=holling_three),
    "Lotka-Volterra": partial(simulate_world, rates=lotka_volterra),
    "a rate that drifts": partial(simulate_world, rates=drifting),
    "half the sampling rate": partial(simulate_world, rates=predator_prey, end=400.0),
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
