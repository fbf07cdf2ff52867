"""Training windows of synthetic series."""

from dataclasses import replace

import numpy as np
import pytest

from m2lib.model import PAD_ID, ids_to_text
from m2lib.series import TABLES
from study.synthetic import synthetic_windows


def steps_of(row):
    return [step.split(",") for step in ids_to_text(row[row != PAD_ID]).split(";")[:-1]]


def test_a_step_of_synthetic_series_is_full_and_a_function_of_the_step():
    windows, again, other = (synthetic_windows(1024, seed) for seed in (0, 0, 1))
    lengths = set()
    variables = set()
    for step in range(200):
        batch = windows(step)
        assert np.array_equal(batch, again(step))
        assert not np.array_equal(batch, other(step))
        (count,), (width,) = (
            {*map(len, map(steps_of, batch))},
            {len(one) for row in batch for one in steps_of(row)},
        )
        # and no further series had room
        assert count * len(batch) * TABLES.of(width).longest_step <= 1024
        assert (len(batch) + 1) * count * TABLES.of(width).longest_step > 1024
        lengths.add(count)
        variables.add(width)
    assert min(lengths) >= 20
    assert max(lengths) >= 220
    assert variables == set(range(1, 9))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in scalar")
def test_a_course_that_overflows_is_drawn_anew():
    assert len(synthetic_windows(1024, 3, pair_share=0.8)(1806)) == 1


def test_synthetic_series_of_one_kind():
    for step in range(20):
        batch = synthetic_windows(
            1024, 0, replace(TABLES, digits=4, variables=3), without="dynamics"
        )(step)
        assert {len(one) for row in batch for one in steps_of(row)} == {3}
        assert max(int(number) for row in batch for one in steps_of(row) for number in one) > 999


def test_a_share_of_the_steps_holds_prey_and_predators():
    usual, all_pairs, half = (synthetic_windows(1024, 0, pair_share=share) for share in (0, 1, 0.5))
    assert np.array_equal(usual(5), synthetic_windows(1024, 0)(5))
    for step in range(20):
        (row,) = all_pairs(step)  # one series, with no room for another
        assert {len(one) for one in steps_of(row)} == {2}
        assert 64 < len(steps_of(row)) <= 128
    assert {len(steps_of(half(step)[0])[0]) for step in range(20)} > {2}
