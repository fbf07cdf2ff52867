"""Worlds beside the data set's: the recipe's systems with noise, other equations, another clock or
another scale.

What is scored is always the true course, without noise. The study's adapters were trained on the
first alone, and `general` on all of these equations, with other parameters, clocks and noise.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from m2lib.series import data

SEED = 2_000_000_000
"""Of the systems of all worlds. Training draws its own from seeds far below, and the data set is
made of seed 0."""


def series_of(
    n: int,
    rates: data.Rates | None = None,
    end: float = 200.0,
    noise: float = 0.0,
    factor: float = 1.0,
) -> data.SeriesSet:
    """n series: of the recipe, or of other rates or to another end; with noise on what is seen;
    times a factor.

    Noise is normal, with a standard deviation of this share of each value. Other rates are solved
    with tight tolerances: what is asked is what an equation does, not what an integrator does.
    """
    if rates is None:
        series = data.generate_series(n, SEED)
    else:
        source = f"{rates.__name__} to time {end:g} (n={n}, seed={SEED})"
        series = data.simulated(
            data.draw_systems(n, SEED), source, rates, end, rtol=1e-8, atol=1e-8
        )
    errors = np.random.default_rng(SEED).normal(1, noise, series.contexts.shape)
    seen = np.maximum(0, series.contexts * errors).astype(np.float32)
    trajectories = np.concatenate([seen, series.truths], axis=1) * np.float32(factor)
    return data.SeriesSet(
        trajectories, series.time, f"{series.source}, noise {noise:g}, times {factor:g}"
    )


WORLDS: dict[str, Callable[[int], data.SeriesSet]] = {
    "as trained": series_of,
    "noise of 1%": partial(series_of, noise=0.01),
    "noise of 5%": partial(series_of, noise=0.05),
    "noise of 20%": partial(series_of, noise=0.2),
    "Holling type III": partial(series_of, rates=data.holling_three),
    "Lotka-Volterra": partial(series_of, rates=data.lotka_volterra),
    "a rate that drifts": partial(series_of, rates=data.drifting),
    "half the sampling rate": partial(series_of, rates=data.predator_prey, end=400.0),
    "a tenth of the size": partial(series_of, factor=0.1),
    "ten times the size": partial(series_of, factor=10.0),
}
"""What makes n series of each world."""
