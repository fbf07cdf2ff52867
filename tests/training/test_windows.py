"""Windows cut from series of a table, and windows of made-up series."""

from dataclasses import replace

import numpy as np
import pytest

from m2lib.files import InputError
from m2lib.model import PAD_ID, ids_to_text
from m2lib.series import TABLES, TextFormat
from m2lib.series.synthetic import FAMILIES
from m2lib.training import cut_windows, made_up_windows


def test_windows_are_written_as_forecasts_are():
    values = [np.arange(1.0, 61.0)[:, None], np.arange(100.0, 60.0, -1.0)[:, None]]
    shape = TextFormat(1, percentile=100)
    windows = cut_windows(values, shape, 5, 204, batch_size=3)
    seen = set()
    for step in range(300):
        for row in windows(step):
            numbers = np.array(
                [int(number) for number in ids_to_text(row).split("<pad>")[0].split(";")[:-1]]
            )
            assert numbers[:-5].max() == 1000  # the scale is the context's
            seen.add((bool(numbers[-1] > numbers[0]), len(numbers)))
    # from the first end to the last
    assert {length for rising, length in seen if rising} == set(range(15, 61))
    assert {length for rising, length in seen if not rising} == set(range(15, 41))
    assert np.array_equal(windows(7), cut_windows(values, shape, 5, 204, batch_size=3)(7))
    assert not np.array_equal(windows(7)[:, :40], windows(8)[:, :40])


def test_a_long_horizon_leaves_the_context_whole():
    series = np.tile(np.arange(1.0, 101.0), 10)[:, None]
    windows = cut_windows([series], TextFormat(1, percentile=100), 250, 100)
    assert max(ids_to_text(windows(step)[0]).count(";") for step in range(20)) == 350


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_what_a_text_cannot_hold_is_written_as_the_nearest_number(offset):
    series = np.array([1.0, 2.0] * 5 + [-300.0, 300.0, 1.5])[:, None]
    text = ids_to_text(
        cut_windows([series], TextFormat(1, percentile=100, offset=offset), 3, 50)(0)[0]
    )
    middle = 750 if offset == 0 else 615  # of 2.0; and with an offset of 0.8 of 1.3
    assert text.split(";")[-4:-1] == ["0", "9999", str(middle)]


def test_stretches_that_are_flat_teach_nothing():
    flat, wave = np.ones((40, 1)), np.sin(np.arange(40.0))[:, None]
    shape = TextFormat(1, percentile=100, offset=0.3)
    windows = cut_windows([flat, wave], shape, 5, 204)
    assert {len(set(ids_to_text(windows(step)[0]).split(";"))) > 5 for step in range(20)} == {True}
    with pytest.raises(InputError, match="are all flat"):
        cut_windows([flat], shape, 5, 204)(0)


def steps_of(row):
    return [step.split(",") for step in ids_to_text(row[row != PAD_ID]).split(";")[:-1]]


def test_a_step_of_made_up_series_is_full_and_a_function_of_the_step():
    windows, again, other = (made_up_windows(1024, seed) for seed in (0, 0, 1))
    lengths, variables = set(), set()
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
    assert (min(lengths), max(lengths)) >= (20, 220)
    assert variables == set(range(1, 9))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in scalar")
def test_a_course_that_overflows_is_drawn_anew():
    assert len(made_up_windows(1024, 3, pairs=0.8)(1806)) == 1


def test_made_up_series_of_one_kind():
    for step in range(20):
        batch = made_up_windows(
            1024, 0, replace(TABLES, digits=4, variables=3), without="dynamics"
        )(step)
        assert {len(one) for row in batch for one in steps_of(row)} == {3}
        assert max(int(number) for row in batch for one in steps_of(row) for number in one) > 999
    assert all(made_up_windows(1024, 0, without=family)(0).size for family in FAMILIES)


def test_a_share_of_the_steps_holds_prey_and_predators():
    usual, all_pairs, half = (made_up_windows(1024, 0, pairs=share) for share in (0, 1, 0.5))
    assert np.array_equal(usual(5), made_up_windows(1024, 0)(5))
    for step in range(20):
        (row,) = all_pairs(step)  # one series, with no room for another
        assert {len(one) for one in steps_of(row)} == {2}
        assert 64 < len(steps_of(row)) <= 128
    assert {len(steps_of(half(step)[0])[0]) for step in range(20)} > {2}
