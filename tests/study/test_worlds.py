import numpy as np
import pytest

from m2lib.series import draw_systems, encode, generate_series
from m2lib.series.data import drifting, holling_three, lotka_volterra
from study.worlds import SEED, WORLDS


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_gives_series_that_can_be_written_and_are_its_own(world):
    series = WORLDS[world](3)
    assert series.trajectories.shape == (3, 100, 2)
    assert all(encode(series.trajectories[i], float(series.scales[i])) for i in range(3))
    assert np.array_equal(series.trajectories, WORLDS[world](3).trajectories)
    same = np.array_equal(series.truths, generate_series(3, SEED).truths)
    assert same == (world == "as trained" or world.startswith("noise"))


def test_no_world_has_a_system_of_the_data_set():
    known = {tuple(system) for system in draw_systems(1000, 0).tolist()}
    assert not known & {tuple(system) for system in draw_systems(30, SEED).tolist()}


def test_noise_is_as_large_as_it_says():
    clean, noisy = (WORLDS[world](30).contexts for world in ("as trained", "noise of 5%"))
    assert np.std(noisy / clean) == pytest.approx(0.05, rel=0.05)


def test_the_other_equations_by_hand():
    parameters = (0.2, 0.5, 0.1, 0.1, 0.5, 10.0)  # r, a, m, h, e, K
    assert lotka_volterra(0, (2, 3), *parameters) == pytest.approx((0.4 - 3, 1.5 - 0.3))
    eaten = 0.5 * 4 * 3 / (1 + 4 * 0.5 * 0.5 / (1.5 * 0.1))
    assert holling_three(0, (2, 3), *parameters) == pytest.approx(
        (0.4 * 0.8 - eaten, 0.5 * eaten - 0.3)
    )
    eaten = 0.5 * 2 * 3 / 1.2
    assert drifting(200, (2, 3), *parameters) == pytest.approx(
        (0.4 * 0.8 - eaten, 0.5 * eaten - 0.15 * 3)
    )


@pytest.mark.parametrize("world", WORLDS)
def test_most_series_of_a_world_still_cycle_where_they_are_forecast(world):
    series = WORLDS[world](30)
    swings = np.ptp(series.truths, axis=1) / series.scales[:, None]  # 1 is 1000 scaled units
    assert np.mean(swings.max(axis=1) > 0.1) >= 0.7
