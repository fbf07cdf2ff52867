"""Windows cut from the series of a table. (Those of texts and the loss are in test_loop.)"""

import numpy as np
import pytest

from m2lib.files import InputError
from m2lib.model import ids_to_text
from m2lib.series import TextFormat
from m2lib.training import cut_windows


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
    other = cut_windows(values, shape, 5, 204, batch_size=3, seed=1)
    assert not np.array_equal(windows(7)[:, :40], other(7)[:, :40])


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
    flat = np.ones((40, 1))
    wave = np.sin(np.arange(40.0))[:, None]
    shape = TextFormat(1, percentile=100, offset=0.3)
    windows = cut_windows([flat, wave], shape, 5, 204)
    assert {len(set(ids_to_text(windows(step)[0]).split(";"))) > 5 for step in range(20)} == {True}
    with pytest.raises(InputError, match="are all flat"):
        cut_windows([flat], shape, 5, 204)(0)


def test_a_window_is_as_likely_as_any_other():
    """Of a rising series of 60 steps there are 46, of a falling one of 16 there are two."""
    values = [np.arange(1.0, 61.0)[:, None], np.arange(100.0, 84.0, -1.0)[:, None]]
    batch = cut_windows(values, TextFormat(1, percentile=100), 5, 204, batch_size=2000)(0)
    ends = [ids_to_text(row).split("<pad>")[0].split(";") for row in batch]
    falling = np.mean([int(numbers[0]) > int(numbers[-2]) for numbers in ends])
    assert falling == pytest.approx(2 / 48, abs=0.02)
