from functools import wraps

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


def test_nearly_all_numbers_can_be_written():
    shape = TextFormat(2, digits=3, percentile=100.0, offset=0.3, separate=True)
    inside = []
    for seed in range(100):
        values = families.draw_series(np.random.default_rng(seed), 80, 2)
        scaling = shape.scaling(values[:60])
        if scaling.exists:
            written = shape.integers(values, scaling)
            inside.append(np.mean((written >= 0) & (written <= shape.largest)))
    assert len(inside) >= 95
    assert np.mean(inside) > 0.99


def test_polynomials_are_stable():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        roots = np.roots(families._stable(rng, rng.integers(1, 5)))
        assert (np.abs(roots) < 1).all()


def test_a_season_comes_back(monkeypatch):
    """The steps are more like those of a whole season ago than like those of half a season ago."""
    monkeypatch.setattr(families, "_period", lambda rng, steps: 12)
    rng = np.random.default_rng(0)
    changes = [np.diff(families.components(rng, 200)) for _ in range(200)]
    whole, half = (
        np.array([np.corrcoef(change[lag:], change[:-lag])[0, 1] for change in changes])
        for lag in (12, 6)
    )
    # 70% of the series; without a season it would be 5%.
    assert np.mean(whole > half + 0.2) > 0.5


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_family_that_is_left_out_is_not_drawn(monkeypatch, name):
    drawn = set()

    def noted(family):
        def draw(*arguments):
            drawn.add(family.__name__)
            return family(*arguments)

        return wraps(family)(draw)

    monkeypatch.setattr(
        families, "WEIGHTS", {noted(family): weight for family, weight in families.WEIGHTS.items()}
    )
    monkeypatch.setattr(families, "dynamics", noted(families.dynamics))
    for seed in range(100):
        families.draw_series(np.random.default_rng(seed), 30, 2, without=name)
    assert drawn == {*families.FAMILIES} - {name}
