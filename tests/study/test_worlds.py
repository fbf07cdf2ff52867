"""Worlds beside the data set's: each gives series of its own, which can be written and forecast."""

import numpy as np
import pytest

from m2lib.series import draw_systems, encode, generate_series
from study.worlds import SEED, WORLDS, drifting, holling_three, lotka_volterra, simulate_world


@pytest.mark.parametrize("world", WORLDS)
def test_the_series_of_a_world_can_be_written(world):
    series = WORLDS[world](3)
    assert series.trajectories.shape == (3, 100, 2)
    for trajectory, scale in zip(series.trajectories, series.scales, strict=True):
        assert encode(trajectory, float(scale))


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_gives_the_same_series_every_time(world):
    first = WORLDS[world](3)
    again = WORLDS[world](3)
    assert np.array_equal(first.trajectories, again.trajectories)


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_has_a_course_of_its_own_unless_it_adds_noise_alone(world):
    series = WORLDS[world](3)
    of_the_recipe = generate_series(3, SEED)
    has_the_recipes_course = world == "as trained" or world.startswith("noise")
    assert np.array_equal(series.truths, of_the_recipe.truths) == has_the_recipes_course


def test_no_world_has_a_system_of_the_data_set():
    of_data_set = {tuple(system) for system in draw_systems(1000, 0).tolist()}
    of_worlds = {tuple(system) for system in draw_systems(30, SEED).tolist()}
    assert not of_data_set & of_worlds


def test_noise_is_as_large_as_it_says():
    clean = WORLDS["as trained"](30).contexts
    noisy = WORLDS["noise of 5%"](30).contexts
    assert np.std(noisy / clean) == pytest.approx(0.05, rel=0.05)


def test_no_noise_makes_a_population_negative():
    contexts = simulate_world(3, noise=2.0).contexts  # 200%: three of ten values would be
    assert contexts.min() == 0


@pytest.mark.parametrize("world", WORLDS)
def test_most_series_of_a_world_still_cycle_where_they_are_forecast(world):
    series = WORLDS[world](30)
    swings = np.ptp(series.truths, axis=1) / series.scales[:, None]  # 1 is 1000 scaled units
    cycles = swings.max(axis=1) > 0.1
    assert np.mean(cycles) >= 0.7


# The rates of change of 2 prey and 3 predators, by hand: of the prey r x (1 - x/K) - eaten, of the
# predators e eaten - m y.
STATE = (2, 3)
PARAMETERS = {"r": 0.2, "a": 0.5, "m": 0.1, "h": 0.1, "e": 0.5, "K": 10.0}


def test_lotka_volterra_by_hand():
    eaten = 0.5 * 2 * 3
    rates = (0.2 * 2 - eaten, 0.5 * eaten - 0.1 * 3)  # without a limit to the prey
    assert lotka_volterra(0, STATE, *PARAMETERS.values()) == pytest.approx(rates)


def test_holling_type_three_by_hand():
    handling = 0.5 * 0.5 / (1.5 * 0.1)  # instead of h
    eaten = 0.5 * 2**2 * 3 / (1 + handling * 2**2)
    rates = (0.2 * 2 * 0.8 - eaten, 0.5 * eaten - 0.1 * 3)
    assert holling_three(0, STATE, *PARAMETERS.values()) == pytest.approx(rates)


def test_a_rate_that_drifts_by_hand():
    eaten = 0.5 * 2 * 3 / (1 + 0.1 * 2)
    mortality = 0.15  # at time 200 half as high again as at time 0
    rates = (0.2 * 2 * 0.8 - eaten, 0.5 * eaten - mortality * 3)
    assert drifting(200, STATE, *PARAMETERS.values()) == pytest.approx(rates)
