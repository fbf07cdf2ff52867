"""Windows for training: cut from texts and tables, and batched."""

from dataclasses import replace

import numpy as np
import pytest

from m2lib.errors import InputError
from m2lib.model import PAD_ID, ids_to_text
from m2lib.series import TextFormat
from m2lib.training import TrainConfig, batch_of, make_windows, random_windows

CONFIG = TrainConfig(steps=12, learning_rate=1e-2, rank=2, batch_size=2)
ONE_VARIABLE = TextFormat(1, percentile=100)


@pytest.mark.parametrize(
    ("texts", "windows"),
    [
        pytest.param([[1, 2, 3]], [[1, 2, 3, PAD_ID]], id="shorter than a window"),
        pytest.param([[1, 2, 3, 4]], [[1, 2, 3, 4]], id="a window"),
        pytest.param(
            [[1, 2, 3, 4, 5], [6]],
            [[1, 2, 3, 4], [3, 4, 5, PAD_ID], [6, PAD_ID, PAD_ID, PAD_ID]],
            id="two texts",
        ),
        pytest.param(
            [[1, 2, 3, 4, 5, 6, 7]],
            [[1, 2, 3, 4], [3, 4, 5, 6], [5, 6, 7, PAD_ID]],
            id="three windows",
        ),
    ],
)
def test_windows_cover_each_text_at_half_steps(texts, windows):
    assert make_windows(texts, 4).tolist() == windows


def test_no_window_of_an_odd_length_only_repeats_the_one_before():
    windows = make_windows([[1, 2, 3, 4, 5, 6, 7]], 5)
    assert windows.tolist() == [[1, 2, 3, 4, 5], [3, 4, 5, 6, 7]]
    assert len(make_windows([[1, 2, 3, 4, 5, 6, 7, 8]], 5)) == 3


def test_an_epoch_sees_every_window_once():
    windows = np.arange(10).reshape(5, 2)
    first_numbers = [batch_of(step, windows, CONFIG)[:, 0] for step in range(4)]
    first_epoch = np.concatenate(first_numbers[:2])
    second_epoch = np.concatenate(first_numbers[2:])

    # Of five windows, two a step, one waits for another epoch.
    assert len(set(first_epoch)) == 4
    assert len(set(second_epoch)) == 4
    assert not np.array_equal(first_epoch, second_epoch)


def test_where_there_are_fewer_windows_a_batch_has_all_of_them():
    window = np.array([[1, 2, 3]])
    for step in range(3):
        assert batch_of(step, window, CONFIG).tolist() == [[1, 2, 3]]


def test_a_batch_is_a_function_of_the_step_and_the_seed():
    windows = np.arange(100).reshape(50, 2)
    batch = batch_of(3, windows, CONFIG)
    assert np.array_equal(batch, batch_of(3, windows, CONFIG))
    assert not np.array_equal(batch, batch_of(3, windows, replace(CONFIG, seed=1)))


RISING = np.arange(1.0, 61.0)[:, None]
"""A series of 60 steps."""
FALLING = np.arange(100.0, 60.0, -1.0)[:, None]
"""A series of 40 steps."""


def numbers_of(window):
    """Return the numbers of a window of one variable, without its pads."""
    text = ids_to_text(window).split("<pad>")[0]
    return np.array([int(number) for number in text.split(";")[:-1]])


@pytest.fixture(scope="module")
def drawn():
    """Return the numbers of 900 windows of the two series, each with a horizon of 5 steps."""
    windows = random_windows([RISING, FALLING], ONE_VARIABLE, 5, 204, batch_size=3)
    numbers = []
    for step in range(300):
        numbers += [numbers_of(window) for window in windows(step)]
    return numbers


def test_a_window_is_scaled_by_its_context(drawn):
    assert all(numbers[:-5].max() == 1000 for numbers in drawn)


def test_a_window_ends_anywhere_from_the_first_end_to_the_last(drawn):
    lengths_of_rising = {len(numbers) for numbers in drawn if numbers[-1] > numbers[0]}
    lengths_of_falling = {len(numbers) for numbers in drawn if numbers[-1] <= numbers[0]}
    # The shortest context has 10 steps.
    assert lengths_of_rising == set(range(15, 61))
    assert lengths_of_falling == set(range(15, 41))


def test_random_windows_are_a_function_of_the_step_and_the_seed():
    series = [RISING, FALLING]
    windows = random_windows(series, ONE_VARIABLE, 5, 204, batch_size=3)
    again = random_windows(series, ONE_VARIABLE, 5, 204, batch_size=3)
    other_seed = random_windows(series, ONE_VARIABLE, 5, 204, batch_size=3, seed=1)

    assert np.array_equal(windows(7), again(7))
    # Batches are as wide as their longest window: all have 40 tokens at least.
    assert not np.array_equal(windows(7)[:, :40], windows(8)[:, :40])
    assert not np.array_equal(windows(7)[:, :40], other_seed(7)[:, :40])


def test_a_long_horizon_leaves_the_context_whole():
    series = np.tile(np.arange(1.0, 101.0), 10)[:, None]
    windows = random_windows([series], ONE_VARIABLE, horizon=250, context_length=100)
    longest = max(len(numbers_of(windows(step)[0])) for step in range(20))
    assert longest == 350


@pytest.mark.parametrize(
    ("offset", "last"),
    [
        (0.0, 750),  # 1.5 of 2.0
        (0.3, 615),  # zero lies at 0.7, so that it is 0.8 of 1.3
    ],
)
def test_what_a_text_cannot_hold_is_written_as_the_nearest_number(offset, last):
    series = np.array([1.0, 2.0] * 5 + [-300.0, 300.0, 1.5])[:, None]
    shape = replace(ONE_VARIABLE, offset=offset)
    windows = random_windows([series], shape, horizon=3, context_length=50)
    assert numbers_of(windows(0)[0])[-3:].tolist() == [0, 9999, last]


def test_stretches_that_are_flat_teach_nothing():
    flat = np.ones((40, 1))
    wave = np.sin(np.arange(40.0))[:, None]
    shape = replace(ONE_VARIABLE, offset=0.3)

    windows = random_windows([flat, wave], shape, 5, 204)
    for step in range(20):
        assert len(set(numbers_of(windows(step)[0]))) > 5

    with pytest.raises(InputError, match="are all flat"):
        random_windows([flat], shape, 5, 204)(0)


def test_a_window_is_as_likely_as_any_other():
    # The rising series has 46 windows, the falling one of 16 steps has two.
    series = [RISING, FALLING[:16]]
    batch = random_windows(series, ONE_VARIABLE, 5, 204, batch_size=2000)(0)

    is_falling = []
    for window in batch:
        numbers = numbers_of(window)
        is_falling.append(numbers[0] > numbers[-1])

    assert np.mean(is_falling) == pytest.approx(2 / 48, abs=0.02)
