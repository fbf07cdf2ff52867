import numpy as np
import pytest

from m2lib.series.codec import TextFormat
from study.synthetic import families

FAMILIES = (*families.WEIGHTS, families.dynamics)


@pytest.mark.parametrize("variables", [1, 2, 3, 8])
def test_a_series_is_a_function_of_its_generator(variables):
    for seed in range(20):
        first, again, other = (
            families.draw_series(np.random.default_rng([3, chosen]), 60, variables)
            for chosen in (seed, seed, seed + 1)
        )
        assert first.shape == (60, variables)
        assert (first == again).all()
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
@pytest.mark.parametrize("steps", [20, 340])
def test_every_family_is_finite_and_moves(family, steps):
    drawn = [family(np.random.default_rng(seed), steps) for seed in range(20)]
    assert all(len(values) == steps and np.isfinite(values).all() for values in drawn)
    assert sum(np.ptp(values) > 0 for values in drawn) >= 19


def test_nearly_all_can_be_written():
    shape = TextFormat(2, digits=3, percentile=100.0, offset=0.3, separate=True)
    written = 0
    for seed in range(100):
        values = families.draw_series(np.random.default_rng(seed), 80, 2)
        if (scaling := shape.scaling(values[:60])).exists:
            written += (shape.integers(values, scaling).clip(0, shape.largest) >= 0).all()
    assert written >= 95


def test_polynomials_are_stable():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        roots = np.roots(families._stable(rng, rng.integers(1, 5)))
        assert (np.abs(roots) < 1).all()


def test_a_season_comes_back():
    """Without noise and trend the autocorrelation at the period is near 1: the families differ as
    they should."""
    rng = np.random.default_rng(0)
    found = [families.components(rng, 200) for _ in range(200)]
    alike = [max(np.corrcoef(x[:-lag], x[lag:])[0, 1] for lag in families.CALENDAR) for x in found]
    assert np.mean(np.array(alike) > 0.5) > 0.3
