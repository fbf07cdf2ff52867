"""The data set: its recipe is the report's file, and a file that is no such data set is refused."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from m2lib.errors import InputError
from m2lib.series import SeriesSet, encode, generate_series, load_series, split_ids, to_integers
from m2lib.series.data import (
    DEFAULT_FILE,
    draw_systems,
    read_series,
    simulate_systems,
    solve_system,
    write_series,
)
from m2tables import cli


@pytest.fixture
def real_file():
    """Return the series of the report's own file; the test is skipped where there is none."""
    path = Path(os.environ.get("M2_DATA") or DEFAULT_FILE)
    if not path.exists():
        pytest.skip(
            f"no real file to compare the recipe with, neither in M2_DATA nor at {DEFAULT_FILE}"
        )
    return read_series(path)


def test_the_recipe_gives_the_series_of_the_real_file(data, real_file):
    assert np.mean(data.trajectories == real_file.trajectories) >= 0.999
    assert np.abs(data.trajectories - real_file.trajectories).max() < 1e-6
    assert np.array_equal(data.time, real_file.time)


def test_the_recipe_gives_the_texts_of_the_real_file(data, real_file):
    for rounding in ("nearest", "published"):
        ours = to_integers(data.trajectories, data.scales, rounding)
        theirs = to_integers(real_file.trajectories, real_file.scales, rounding)
        assert np.array_equal(ours, theirs)
    assert data.fingerprint == real_file.fingerprint


def test_the_published_rounding_is_one_too_low_in_places(data):
    nearest = to_integers(data.trajectories, data.scales)
    published = to_integers(data.trajectories, data.scales, "published")

    differ = nearest != published
    assert differ.sum() == 12_658  # of 200,000 values
    assert np.all((nearest - published)[differ] == 1)


def test_no_value_comes_near_the_largest_that_can_be_written(data):
    assert to_integers(data.trajectories, data.scales).max() == 2732  # of 9999


@pytest.mark.parametrize(
    ("steps", "shortest", "longest", "mean"),
    [
        pytest.param(80, 505, 658, 635.0, id="contexts"),
        pytest.param(100, 641, 831, 792.4, id="whole series"),
    ],
)
def test_texts_are_as_long_as_the_third_notebook_says(data, steps, shortest, longest, mean):
    # in tokens, each of which is a character
    lengths = [
        len(encode(series[:steps], scale))
        for series, scale in zip(data.trajectories, data.scales, strict=True)
    ]
    assert min(lengths) == shortest
    assert max(lengths) == longest
    assert round(np.mean(lengths), 1) == mean


def test_a_smaller_set_is_not_the_beginning_of_a_larger_one(data):
    # Because each parameter is drawn for all series before the next one.
    assert not np.array_equal(generate_series(5).trajectories, data.trajectories[:5])


def test_another_seed_is_another_set():
    assert generate_series(5, seed=1).fingerprint != generate_series(5).fingerprint


def test_generated_undershoot_is_zero():
    system = draw_systems(1000, 14)[248:249]  # one that the integrator leads below zero
    assert -1e-6 < solve_system(system[0], np.linspace(0, 200, 100)).min() < 0
    assert simulate_systems(system, "one").trajectories.min() == 0


def test_what_is_shared_cannot_be_changed(monkeypatch):
    monkeypatch.delenv("M2_DATA", raising=False)
    monkeypatch.setattr("m2lib.series.data.DEFAULT_FILE", Path("nowhere"))
    shared = load_series()
    for array in (shared.trajectories, shared.time, shared.scales):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_the_split_is_the_reports():
    split = split_ids()

    assert len(split.train) == 900
    assert len(split.validation) == 50
    assert len(split.test) == 50
    assert sorted(split.train + split.validation + split.test) == list(range(1000))

    assert split.validation[:5] == (19, 59, 64, 68, 71)
    assert {94, 99, 141} <= set(split.validation)
    assert {0, 11, 22} <= set(split.test)


@pytest.mark.parametrize("n", [3, 4, 19, 20, 45, 100])
def test_of_other_sizes_a_twentieth_is_held_out_twice(n):
    split = split_ids(n)
    assert len(split.validation) == len(split.test) == max(1, n // 20)
    assert sorted(split.train + split.validation + split.test) == list(range(n))


def test_the_fingerprint_ignores_noise_below_the_rounding(data):
    same = SeriesSet(data.trajectories[:3], data.time, "same")
    noisy = SeriesSet(data.trajectories[:3] * np.float32(1 + 1e-7), data.time, "noisy")
    assert noisy.fingerprint == same.fingerprint


def test_the_fingerprint_notices_one_other_value(data):
    same = SeriesSet(data.trajectories[:3], data.time, "same")
    changed = data.trajectories[:3].copy()
    changed[2, 99, 1] *= 1.01
    assert SeriesSet(changed, data.time, "changed").fingerprint != same.fingerprint


def test_a_written_file_comes_back(data, tmp_path, monkeypatch):
    path = tmp_path / "series.h5"
    trajectories = data.trajectories[:20].copy()
    trajectories[1, 99, 0] = -9e-7  # so little below zero is an undershoot

    write_series(SeriesSet(trajectories, data.time, "twenty"), path)
    monkeypatch.setenv("M2_DATA", str(path))
    back = load_series()

    assert np.array_equal(back.trajectories, np.maximum(trajectories, 0))
    assert back.source == str(path)
    assert os.listdir(tmp_path) == ["series.h5"]  # nothing else is left beside it


def test_a_file_that_cannot_be_written_leaves_the_one_before(data, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "series.h5"
    write_series(SeriesSet(data.trajectories[:3], data.time, "three"), path)
    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)

    others = SeriesSet(data.trajectories[3:6], data.time, "three others")
    with pytest.raises(InputError, match="No space left on device"):
        write_series(others, path)

    assert path.read_bytes() == before


def test_a_file_in_its_usual_place_is_read_unasked(data, tmp_path, monkeypatch):
    path = tmp_path / "usual.h5"
    write_series(SeriesSet(data.trajectories[:3], data.time, "three"), path)
    monkeypatch.delenv("M2_DATA", raising=False)
    monkeypatch.setattr("m2lib.series.data.DEFAULT_FILE", path)
    assert load_series().source == str(path)


def test_steps_after_the_hundredth_are_unused(data, tmp_path):
    with h5py.File(tmp_path / "long.h5", "w") as file:
        file["trajectories"] = np.concatenate([data.trajectories[:3]] * 2, axis=1)
        file["time"] = np.linspace(0, 402, 200)
    assert load_series(tmp_path / "long.h5").trajectories.shape == (3, 100, 2)


def test_a_file_that_is_missing_is_refused(tmp_path):
    for missing in (tmp_path, tmp_path / "nothing.h5"):  # a folder is no file either
        with pytest.raises(
            InputError, match=r"no such data file: .*; `m2 data generate` writes one"
        ):
            load_series(missing)


NO_DATA_SET = r"is no data set in HDF5: .*; see data/README\.md"


def test_a_file_in_another_format_is_refused(tmp_path):
    (tmp_path / "text").write_bytes(b"x")
    with pytest.raises(InputError, match=f"text {NO_DATA_SET}"):
        load_series(tmp_path / "text")


def with_value(trajectories, index, value):
    """Return a copy of the trajectories with another value at an index."""
    changed = trajectories.copy()
    changed[index] = value
    return changed


# By what is wrong with the file: a function that makes its content of good trajectories and time,
# and a pattern that the message matches.
BAD_FILES = {
    "another name": (
        lambda trajectories, time: {"series": trajectories, "time": time},
        "object 'trajectories' doesn't exist",
    ),
    "text in the place of numbers": (
        lambda trajectories, time: {"trajectories": np.full((4, 100, 2), b"x"), "time": time},
        NO_DATA_SET,
    ),
    "few series": (
        lambda trajectories, time: {"trajectories": trajectories[:2], "time": time},
        r"has shape \(2, 100, 2\) and /time \(100,\); expected \(3 or more series, ",
    ),
    "few steps": (
        lambda trajectories, time: {"trajectories": trajectories[:, :99], "time": time[:99]},
        r"has shape \(4, 99, 2\) and /time \(99,\); "
        r"expected \(3 or more series, 100 or more, 2\) and \(steps,\)",
    ),
    "time too short": (
        lambda trajectories, time: {"trajectories": trajectories, "time": time[:99]},
        r"/time \(99,\)",
    ),
    "infinity": (
        lambda trajectories, time: {
            "trajectories": with_value(trajectories, (1, 99, 0), np.inf),
            "time": time,
        },
        r"series 1 of .* has inf at step 99, variable 0 \(counted from 0\)",
    ),
    "constant zero": (
        lambda trajectories, time: {"trajectories": with_value(trajectories, 2, 0), "time": time},
        "series 2 of .* has no scale: what is read is constant, mostly 0, or not finite; drop it",
    ),
}


@pytest.mark.parametrize("fault", BAD_FILES)
def test_a_bad_file_is_named_with_its_first_fault(fault, data, tmp_path, capsys):
    make_content, message = BAD_FILES[fault]
    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        for name, values in make_content(data.trajectories[:4], data.time).items():
            file[name] = values

    with pytest.raises(InputError, match=message) as error:
        load_series(path)
    assert str(path) in str(error.value)

    assert cli.main(["data", "check", str(path)]) == 1
    assert capsys.readouterr() == ("", f"error: {error.value}\n")
