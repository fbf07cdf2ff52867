import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from m2lib import cli
from m2lib.files import InputError
from m2lib.series import SeriesSet, encode, generate_series, load_series, split_ids, to_integers
from m2lib.series.data import (
    DEFAULT_FILE,
    draw_systems,
    read_series,
    simulate_systems,
    solve_system,
    write_series,
)


@pytest.fixture
def real_file():
    path = Path(os.environ.get("M2_DATA") or DEFAULT_FILE)
    if not path.exists():
        pytest.skip(
            f"no real file to compare the recipe with, neither in M2_DATA nor at {DEFAULT_FILE}"
        )
    return read_series(path)


def test_what_is_shared_cannot_be_changed(monkeypatch):
    monkeypatch.delenv("M2_DATA", raising=False)
    monkeypatch.setattr("m2lib.series.data.DEFAULT_FILE", Path("nowhere"))
    shared = load_series()
    for array in (shared.trajectories, shared.time, shared.scales):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_recipe_is_the_real_file(data, real_file):
    assert np.mean(data.trajectories == real_file.trajectories) >= 0.999
    assert np.abs(data.trajectories - real_file.trajectories).max() < 1e-6
    assert np.array_equal(data.time, real_file.time)
    for rounding in ("nearest", "published"):
        ours, theirs = (to_integers(s.trajectories, s.scales, rounding) for s in (data, real_file))
        assert np.array_equal(ours, theirs)
    assert data.fingerprint == real_file.fingerprint


def test_text_lengths_and_roundings(data):
    nearest = to_integers(data.trajectories, data.scales)
    published = to_integers(data.trajectories, data.scales, "published")
    differ = nearest != published
    assert differ.sum() == 12_658
    assert np.all((nearest - published)[differ] == 1)
    assert nearest.max() == 2732

    whole = [
        len(encode(series, scale))
        for series, scale in zip(data.trajectories, data.scales, strict=True)
    ]
    contexts = [
        len(encode(series, scale)) for series, scale in zip(data.contexts, data.scales, strict=True)
    ]
    assert (min(contexts), max(contexts), round(np.mean(contexts), 1)) == (505, 658, 635.0)
    assert (min(whole), max(whole), round(np.mean(whole), 1)) == (641, 831, 792.4)


def test_generation_draws_each_parameter_for_all_series_first(data):
    # so a smaller set is not the beginning of a larger one, and another seed is another set
    assert not np.array_equal(generate_series(5).trajectories, data.trajectories[:5])
    assert generate_series(5, seed=1).fingerprint != generate_series(5).fingerprint


def test_generated_undershoot_is_zero():
    system = draw_systems(1000, 14)[248:249]  # it ends below zero
    assert -1e-6 < solve_system(system[0], np.linspace(0, 200, 100)).min() < 0
    assert simulate_systems(system, "one").trajectories.min() == 0


def test_split_is_the_reports():
    split = split_ids()
    assert [len(part) for part in (split.train, split.validation, split.test)] == [900, 50, 50]
    assert {94, 99, 141} <= set(split.validation)
    assert {0, 11, 22} <= set(split.test)
    assert sorted(split.train + split.validation + split.test) == list(range(1000))
    assert split.validation[:5] == (19, 59, 64, 68, 71)


@pytest.mark.parametrize("n", [3, 4, 19, 20, 45, 100])
def test_split_of_other_sizes(n):
    split = split_ids(n)
    assert len(split.validation) == len(split.test) == max(1, n // 20)
    assert sorted(split.train + split.validation + split.test) == list(range(n))


def test_written_file_comes_back(data, tmp_path, monkeypatch):
    path = tmp_path / "series.h5"
    low = data.trajectories[:20].copy()
    low[1, 99, 0] = -9e-7  # is zero when it is read
    write_series(SeriesSet(low, data.time, "low"), path)
    monkeypatch.setenv("M2_DATA", str(path))
    back = load_series()
    assert np.array_equal(back.trajectories, np.maximum(low, 0))
    assert back.source == str(path)
    assert os.listdir(tmp_path) == ["series.h5"]


def test_fingerprint_ignores_noise_below_the_rounding(data):
    noisy = SeriesSet(data.trajectories[:3] * np.float32(1 + 1e-7), data.time, "noisy")
    same = SeriesSet(data.trajectories[:3], data.time, "same")
    assert noisy.fingerprint == same.fingerprint
    moved = same.trajectories.copy()
    moved[2, 99, 1] *= 1.01
    assert SeriesSet(moved, data.time, "moved").fingerprint != same.fingerprint


def change(series, index, value):
    series[index] = value
    return series


NO_DATA_SET = r"is no data set in HDF5: .*; see data/README\.md"
BAD_FILES = {
    "wrong dataset": (
        lambda t, time: {"series": t, "time": time},
        "object 'trajectories' doesn't exist",
    ),
    "text": (
        lambda t, time: {"trajectories": np.full((4, 100, 2), b"x"), "time": time},
        NO_DATA_SET,
    ),
    "few steps": (
        lambda t, time: {"trajectories": t[:, :99], "time": time[:99]},
        r"has shape \(4, 99, 2\) and /time \(99,\); "
        r"expected \(3 or more series, 100 or more, 2\) and \(steps,\)",
    ),
    "time too short": (lambda t, time: {"trajectories": t, "time": time[:99]}, r"/time \(99,\)"),
    "infinity": (
        lambda t, time: {"trajectories": change(t, (1, 99, 0), np.inf), "time": time},
        "series 1 of .*, step 99, variable 1 is inf in scaled units",
    ),
    "constant zero": (
        lambda t, time: {"trajectories": change(t, 2, 0), "time": time},
        "series 2 of .* has no scale: what is read is constant, mostly 0, or not finite; drop it",
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file_is_named_with_its_first_fault(kind, data, tmp_path, capsys):
    make, message = BAD_FILES[kind]
    path = tmp_path / "bad.h5"
    with h5py.File(path, "w") as file:
        for name, values in make(data.trajectories[:4].copy(), data.time).items():
            file[name] = values
    with pytest.raises(InputError, match=message) as error:
        load_series(path)
    assert str(path) in str(error.value)
    assert cli.main(["data", "check", str(path)]) == 1
    assert capsys.readouterr() == ("", f"error: {error.value}\n")


def test_missing_and_other_files(tmp_path):
    (tmp_path / "text").write_bytes(b"x")
    with pytest.raises(InputError, match=f"text {NO_DATA_SET}"):
        load_series(tmp_path / "text")
    for missing in (tmp_path, tmp_path / "nothing.h5"):
        with pytest.raises(
            InputError, match=r"no such data file: .*; `m2 data generate` writes one"
        ):
            load_series(missing)


def test_steps_after_the_hundredth_are_unused(data, tmp_path):
    with h5py.File(tmp_path / "long.h5", "w") as file:
        file["trajectories"] = np.concatenate([data.trajectories[:3]] * 2, axis=1)
        file["time"] = np.linspace(0, 402, 200)
    assert load_series(tmp_path / "long.h5").trajectories.shape == (3, 100, 2)


def test_a_file_in_its_usual_place_is_read_unasked(data, tmp_path, monkeypatch):
    path = tmp_path / "usual.h5"
    write_series(SeriesSet(data.trajectories[:3], data.time, "three"), path)
    monkeypatch.delenv("M2_DATA", raising=False)
    monkeypatch.setattr("m2lib.series.data.DEFAULT_FILE", path)
    assert load_series().source == str(path)
