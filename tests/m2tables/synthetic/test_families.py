"""The families of synthetic series: values are finite, move, and can nearly all be written."""

import numpy as np
import pytest

from m2lib.series import TextFormat
from m2tables.synthetic import families

FUNCTIONS = (*families.WEIGHTS, families.dynamics)
"""The functions that draw a series, one a family."""


def test_a_series_is_a_function_of_its_generator():
    def draw(seed):
        return families.draw_series(np.random.default_rng([3, seed]), 60)

    for seed in range(20):
        series = draw(seed)
        assert series.shape == (60,)
        assert np.array_equal(series, draw(seed))
        assert not np.array_equal(series, draw(seed + 1))


@pytest.mark.parametrize("family", FUNCTIONS, ids=lambda family: family.__name__)
@pytest.mark.parametrize("steps", [20, 340])
def test_series_of_every_family_are_finite_and_nearly_all_move(family, steps):
    moving = 0
    for seed in range(20):
        values = family(np.random.default_rng(seed), steps)
        assert len(values) == steps
        assert np.isfinite(values).all()
        moving += np.ptp(values) > 0
    assert moving >= 19


@pytest.mark.parametrize(
    ("family", "size"),
    zip(FUNCTIONS, (987.391, 996.853, 1011.287, 885.321, 982.702, 2638.642), strict=True),
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_family_keeps_its_series(family, size):
    """Otherwise the recorded runs could not be made again, and their plans do not tell.

    The sizes are those of the code that drew what `general` learned from: the sum over the first
    twenty seeds.
    """
    drawn = [family(np.random.default_rng(seed), 60) for seed in range(20)]
    assert sum(np.abs(values).sum() for values in drawn) == pytest.approx(size, rel=1e-5)


def test_mixtures_and_what_disturbs_them_keep_their_series():
    drawn = [families.draw_series(np.random.default_rng(seed), 60) for seed in range(20)]
    assert sum(np.abs(values).sum() for values in drawn) == pytest.approx(1042.057, rel=1e-5)


def test_nearly_all_numbers_can_be_written():
    text_format = TextFormat(1, digits=3, percentile=100.0, offset=0.3, separate=True)
    shares = []
    for seed in range(100):
        values = families.draw_series(np.random.default_rng(seed), 80)[:, None]
        scaling = text_format.scaling(values[:60])
        if scaling.exists:  # there is none for a flat context
            written = text_format.integers(values, scaling)
            has_room = (written >= 0) & (written <= text_format.largest)
            shares.append(np.mean(has_room))
    assert len(shares) >= 95
    assert np.mean(shares) > 0.99


def test_the_polynomials_of_filters_are_stable():
    for seed in range(50):
        rng = np.random.default_rng(seed)
        order = rng.integers(1, 5)
        roots = np.roots(families._stable(rng, order))
        assert (np.abs(roots) < 1).all()


def test_a_season_comes_back(monkeypatch):
    """The steps are more like those of a whole season ago than like those of half a season ago."""
    season = 12
    monkeypatch.setattr(families, "_period", lambda rng, steps: season)
    rng = np.random.default_rng(0)

    def likeness(changes, lag):
        """Return the correlation of changes with those of `lag` steps ago."""
        return np.corrcoef(changes[lag:], changes[:-lag])[0, 1]

    has_season = []
    for _ in range(200):
        changes = np.diff(families.components(rng, 200))
        has_season.append(likeness(changes, season) > likeness(changes, season // 2) + 0.2)
    # It is 70% of the series; without a season it would be 5%.
    assert np.mean(has_season) > 0.5
