"""The fitted system: on what it can know it is nearly exact, on what it cannot it says nothing better."""

import numpy as np
import pytest

from benchmarks.physics import FITS, fit_system, physics_forecast, simulate
from m2lib.series import draw_systems, series_mae, split_ids, to_integers
from m2lib.series.data import solve_system

TIME = np.linspace(0, 200, 100)


@pytest.mark.parametrize("seed", [3, 4])
def test_the_system_comes_back_from_its_own_course(seed):
    (system,) = draw_systems(1, seed)
    course = simulate(system, TIME)
    found = fit_system(course[:80], TIME)
    assert simulate(found, TIME)[80:] == pytest.approx(course[80:], abs=1e-3)


def test_the_files_integrator_makes_the_file(data):
    systems = draw_systems(1000, 0)
    for i in (0, 500, 999):
        assert np.abs(solve_system(systems[i], TIME) - data.trajectories[i]).max() < 1e-5
        assert np.abs(simulate(systems[i], TIME) - data.trajectories[i]).max() > 1e-4  # its own is more exact


def test_forecasts_are_an_order_of_magnitude_nearer_than_any_others(data):
    ids = list(split_ids().validation[:3])
    integers = to_integers(data.trajectories[ids], data.scales[ids])
    exact, like_the_file = (
        series_mae(physics_forecast(integers[:, :80], data.scales[ids], data.time, name), integers[:, 80:])
        for name in FITS
    )
    assert exact.mean() < 2
    assert like_the_file.mean() < 1
