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


@pytest.mark.parametrize(
    ("settings", "step", "windows", "length", "numbers"),
    [
        ({"seed": 1}, 0, 1, 226, [326, 384, 374]),
        ({"seed": 1}, 2, 4, 60, [349, 328, 328]),
        ({"seed": 8, "pair_share": 0.7, "shown_share": 0.4}, 1, 3, 79, [174, 179, 167]),
        ({"seed": 8, "pair_share": 0.7, "shown_share": 0.4}, 2, 1, 85, [208, 172, 167]),
    ],
)
def test_a_seed_keeps_its_series(settings, step, windows, length, numbers):
    """Otherwise the recorded runs could not be made again, and their plans do not tell."""
    batch = synthetic_windows(1024, **settings)(step)
    steps = steps_of(batch[0])
    assert (len(batch), len(steps)) == (windows, length)
    # A last digit may be rounded differently on another processor.
    assert [int(one[0]) for one in steps[:3]] == pytest.approx(numbers, abs=1)


def test_what_cannot_be_drawn_is_refused_at_once():
    with pytest.raises(ValueError, match="512 tokens have no room for 20 steps of 8 variables"):
        synthetic_windows(512, 0)
    with pytest.raises(ValueError, match="no family 'cylce': choose one of components, "):
        synthetic_windows(1024, 0, without="cylce")


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
