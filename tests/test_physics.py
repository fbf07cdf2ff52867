"""The fitted system: on what it can know it is nearly exact, on what it cannot it says nothing
better."""

import numpy as np
import pytest

from benchmarks.physics import fit_system, simulate
from m2lib.series import draw_systems
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
        # its own is more exact
        assert np.abs(simulate(systems[i], TIME) - data.trajectories[i]).max() > 1e-4
