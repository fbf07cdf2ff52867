"""A system is fitted nearly exactly, and is simulated more exactly than the data set was."""

import numpy as np
import pytest

from benchmarks.physics import fit_system, simulate
from m2lib.series import draw_systems
from m2lib.series.data import solve_system

TIME = np.linspace(0, 200, 100)


@pytest.mark.parametrize("seed", [3, 4])
def test_a_system_is_found_again_from_the_first_part_of_its_course(seed):
    (system,) = draw_systems(1, seed)
    course = simulate(system, TIME)

    found = fit_system(course[:80], TIME)

    assert simulate(found, TIME)[80:] == pytest.approx(course[80:], abs=1e-3)


@pytest.mark.parametrize("place", [0, 500, 999])
def test_the_files_integrator_makes_the_file_and_ours_is_more_exact(data, place):
    system = draw_systems(1000, 0)[place]
    recorded = data.trajectories[place]
    assert np.abs(solve_system(system, TIME) - recorded).max() < 1e-5
    # The file's integrator makes errors that ours does not make.
    assert np.abs(simulate(system, TIME) - recorded).max() > 1e-4
