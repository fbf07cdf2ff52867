import os
import re
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import psutil
import pytest
import scipy.integrate

from m2lib import cli
from m2lib.files import InputError
from m2lib.series.codec import encode, to_integers
from m2lib.series.data import SeriesSet, check_encodable, split_ids
from m2lib.series.recipe import generate_series
from m2lib.series.series_files import DEFAULT_FILE, load_series, read_series, write_series
from m2lib.series.textformat import format_steps


@pytest.fixture
def real_file():
    path = Path(os.environ.get("M2_DATA") or DEFAULT_FILE)
    if not path.exists():
        pytest.skip(f"no real file to compare the recipe with, neither in M2_DATA nor at {DEFAULT_FILE}")
    return read_series(path)


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

    contexts = [len(format_steps(series[:80])) for series in nearest]
    whole = [len(format_steps(series)) for series in nearest]
    assert (min(contexts), max(contexts), round(np.mean(contexts), 1)) == (505, 658, 635.0)
    assert (min(whole), max(whole), round(np.mean(whole), 1)) == (641, 831, 792.4)
    assert encode(data.trajectories[7], data.scales[7]) == format_steps(nearest[7])


def test_generation_draws_each_parameter_for_all_series_first(data):
    # so a smaller set is not the beginning of a larger one, and another seed is another set
    assert not np.array_equal(generate_series(5).trajectories, data.trajectories[:5])
    assert generate_series(5, seed=1).fingerprint != generate_series(5).fingerprint


def test_generated_undershoot_is_zero(tmp_path, monkeypatch):
    """Of seed 14 only series 248 is integrated, which ends below zero."""
    integrate, calls, lowest = scipy.integrate.solve_ivp, count(), []

    def one_alone(*arguments, **options):
        if next(calls) != 248:
            return SimpleNamespace(y=np.ones((2, 100)))
        solution = integrate(*arguments, **options)
        lowest.append(solution.y.min())
        return solution

    monkeypatch.setattr(scipy.integrate, "solve_ivp", one_alone)
    made = generate_series(seed=14)
    assert -1e-6 < lowest[0] < 0
    assert made.trajectories[248].min() == 0
    write_series(made, tmp_path / "14.h5")
    assert read_series(tmp_path / "14.h5").fingerprint == made.fingerprint


def test_undershoot_in_a_file_is_zero(data, tmp_path):
    low = change(data.trajectories[:3].copy(), (1, 99, 0), -9e-7)
    write_series(SeriesSet(low, data.time, "low"), tmp_path / "low.h5")
    read = read_series(tmp_path / "low.h5").trajectories
    assert read[1, 99, 0] == 0
    assert np.array_equal(np.maximum(low, 0), read)


@pytest.mark.parametrize(
    ("value", "words"), [(1e5, "in scaled units, outside 0-9999"), (np.nan, "is not finite"), (-1, "is negative")]
)
def test_what_cannot_be_encoded_is_named_before_training(data, value, words):
    trajectories = data.trajectories[:9].copy()
    trajectories[[4, 7], 95, 1] = value  # in the truth: the contexts can be encoded
    series = SeriesSet(trajectories, data.time, "spoilt")
    check_encodable(series, [8, 0, 1])
    check_encodable(series, [])
    with pytest.raises(InputError, match=f"^series 7, step 95, predator: .*{words}") as error:
        check_encodable(series, (2, 7, 4))
    with pytest.raises(InputError) as encodes:
        encode(trajectories[7], series.scales[7], series=7)
    assert str(error.value) == str(encodes.value)


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


@pytest.mark.parametrize("n", [2, 0, -5, 2.5, np.nan, "9", None, 10**30, pytest.param(-(10**5000), id="long")])
def test_split_needs_three_series(n):
    with pytest.raises(InputError, match="number of series to split should be a whole number of at least 3"):
        split_ids(n)


@pytest.mark.parametrize(
    ("n", "seed", "what"),
    [(0, 0, "number of series"), (1.5, 0, "number of series"), (3, -1, "seed"), (3, 2**32, "seed")],
)
def test_generation_takes_whole_numbers(n, seed, what):
    with pytest.raises(InputError, match=f"the {what} .*should be a whole number"):
        generate_series(n, seed)
    assert len(generate_series(np.int64(1), np.int64(3))) == 1


def test_what_memory_cannot_hold_is_refused_before_it_is_allocated(tmp_path, capsys, monkeypatch):
    with pytest.raises(
        InputError, match=r"a split of 10+ series needs .* GB of memory, and .* GB are free; split fewer"
    ):
        split_ids(10**15)
    path = tmp_path / "new.h5"
    assert cli.main(["data", "generate", "--n", "999999999999", str(path)]) == 1
    written, error = capsys.readouterr()
    assert written == ""
    assert error.startswith("error: a set of 999999999999 series needs 10,000,000.0 GB of memory, and ")
    assert error.count("\n") == 1
    assert not path.exists()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10**5))
    with pytest.raises(InputError, match=r"a set of 1000 series needs 0\.0 GB"):
        generate_series()


def test_written_file_comes_back(data, tmp_path, monkeypatch):
    path = tmp_path / "series.h5"
    write_series(data, path)
    monkeypatch.setenv("M2_DATA", str(path))
    back = load_series()
    assert np.array_equal(back.trajectories, data.trajectories)
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


BAD_FILES = {
    "wrong dataset": (lambda t, time: {"series": t, "time": time}, "no dataset /trajectories.*/series"),
    "no time": (lambda t, time: {"trajectories": t}, "no dataset /time"),
    "wrong rank": (lambda t, time: {"trajectories": t[0], "time": time}, r"/trajectories has shape \(100, 2\)"),
    "three variables": (
        lambda t, time: {"trajectories": np.zeros((4, 100, 3)), "time": time},
        r"/trajectories has shape \(4, 100, 3\)",
    ),
    "few steps": (lambda t, time: {"trajectories": t[:, :99], "time": time[:99]}, "has 99 steps; at least 100"),
    "time too short": (lambda t, time: {"trajectories": t, "time": time[:99]}, r"/time has shape \(99,\)"),
    "text": (
        lambda t, time: {"trajectories": np.full((4, 100, 2), b"x"), "time": time},
        "/trajectories does not hold an array of numbers",
    ),
    "empty dataset": (
        lambda t, time: {"trajectories": h5py.Empty("f4"), "time": time},
        "/trajectories does not hold an array of numbers",
    ),
    "beyond float32": (
        lambda t, time: {"trajectories": change(t.astype(float), (0, 3, 0), 1e300), "time": time},
        "series 0, step 3, prey: inf is not finite",
    ),
    "uneven time": (
        lambda t, time: {"trajectories": t, "time": change(time.copy(), 40, 200.0)},
        "/time, step 40: 200 after .* not an even grid",
    ),
    "nan": (
        lambda t, time: {"trajectories": change(t, (2, 17, 1), np.nan), "time": time},
        "/trajectories, series 2, step 17, predator: nan is not finite",
    ),
    "infinity": (
        lambda t, time: {"trajectories": change(t, (1, 99, 0), np.inf), "time": time},
        "series 1, step 99, prey: inf is not finite",
    ),
    "beyond four digits": (
        lambda t, time: {"trajectories": change(t, (3, 99, 1), 1e5), "time": time},
        "/trajectories, series 3, step 99, predator: 100000 is [0-9]+ in scaled units, outside 0-9999",
    ),
    "negative": (
        lambda t, time: {"trajectories": change(t, (3, 0, 0), -0.5), "time": time},
        "series 3, step 0, prey: -0.5 is negative",
    ),
    "constant zero": (
        lambda t, time: {"trajectories": change(t, 2, 0), "time": time},
        "/trajectories, series 2: the 90th percentile of its context is 0",
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
    assert str(error.value).startswith(str(path))
    assert cli.main(["data", "check", str(path)]) == 1
    assert capsys.readouterr() == ("", f"error: {error.value}\n")


def of_three_bytes(file):
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_precision(24)
    kind.set_size(3)
    h5py.h5d.create(file.id, b"trajectories", kind, h5py.h5s.create_simple((4, 100, 2)))


def virtual(file):
    layout = h5py.VirtualLayout((4, 100, 2), "f4")
    layout[:] = h5py.VirtualSource("gone.h5", "trajectories", (4, 100, 2))
    file.create_virtual_dataset("trajectories", layout)


def half_written(file):
    file.create_dataset("trajectories", (4, 100, 2), "f4", chunks=(1, 100, 2))[:2] = 1


# Each makes /trajectories.
ODD_FILES = {
    "soft link to itself": (lambda file: link(file, h5py.SoftLink("/trajectories")), "too many links"),
    "soft link to nothing": (lambda file: link(file, h5py.SoftLink("/gone")), "no dataset /trajectories"),
    "external link": (lambda file: link(file, h5py.ExternalLink("/dev/zero", "/a")), "lies in another file"),
    "raw bytes of another file": (
        lambda file: create(file, external=[("/dev/zero", 0, 3200)]),
        "lies in another file",
    ),
    "virtual": (virtual, "lies in another file"),
    "group": (lambda file: file.create_group("trajectories"), "no dataset /trajectories"),
    "number": (lambda file: link(file, 3.0), r"/trajectories has shape \(\)"),
    "no series": (lambda file: create(file, (0, 100, 2)), r"/trajectories has shape \(0, 100, 2\)"),
    "integers of 24 bits": (of_three_bytes, "does not hold an array of numbers"),
    "strings": (lambda file: create(file, kind=h5py.string_dtype()), "does not hold an array of numbers"),
    "records": (lambda file: create(file, kind=[("a", "f4")]), "does not hold an array of numbers"),
    "references": (lambda file: create(file, kind=h5py.ref_dtype), "does not hold an array of numbers"),
    "lists": (lambda file: create(file, kind=h5py.vlen_dtype("f4")), "does not hold an array of numbers"),
    "complex": (lambda file: create(file, kind="c8"), "does not hold an array of numbers"),
    "truth values": (lambda file: create(file, kind=bool), "does not hold an array of numbers"),
    "terabytes": (
        lambda file: create(file, (2**40, 100, 2), chunks=(1, 100, 2)),
        r"needs 10,995,116.3 GB of memory, and [0-9.,]+ GB are free; split the file",
    ),
    "half written": (half_written, "holds 2 of its 4 chunks"),
    "unusual filter": (lambda file: create(file, kind="i4", scaleoffset=0), "repack it by gzip"),
}


def link(file, target):
    file["trajectories"] = target


def create(file, shape=(4, 100, 2), kind="f4", **how):
    file.create_dataset("trajectories", shape, kind, **how)


@pytest.mark.parametrize("kind", ODD_FILES)
def test_an_odd_file_is_refused_in_one_line(kind, data, tmp_path):
    make, message = ODD_FILES[kind]
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["time"] = data.time
        make(file)
    assert re.search(message, refusal(path))


def refusal(path):
    """What is said of a file, in one line."""
    with pytest.raises(InputError) as error:
        load_series(path)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_a_soft_link_within_the_file_is_followed(data, tmp_path):
    path = tmp_path / "soft.h5"
    with h5py.File(path, "w") as file:
        file["raw/mine"], file["time"] = data.trajectories[:4], data.time
        link(file, h5py.SoftLink("/raw/mine"))
    assert np.array_equal(read_series(path).trajectories, data.trajectories[:4])


@pytest.fixture
def packed(data, tmp_path):
    """A file in chunks with checksums, and where its first chunk lies."""
    path = tmp_path / "packed.h5"
    with h5py.File(path, "w") as file:
        how = {"chunks": (2, 50, 2), "compression": "gzip", "fletcher32": True}
        dataset = file.create_dataset("trajectories", data=data.trajectories[:4], **how)
        file["time"] = data.time
        first = dataset.id.get_chunk_info(0)
    assert np.array_equal(read_series(path).trajectories, data.trajectories[:4])
    return path, first


def test_damaged_files_are_refused_in_one_line(packed):
    path, first = packed
    whole = path.read_bytes()
    middle = first.byte_offset + first.size // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    assert re.search("filter returned failure|Fletcher32 checksum", refusal(path))  # newer and older HDF5
    # Of a chunk that says it has no bytes HDF5 would read what is no memory of its own, and end the process.
    entry = first.size.to_bytes(4, "little") + bytes(4)  # its size and filter mask
    path.write_bytes(whole.replace(entry, bytes(8), 1))
    assert "shorter than its checksum" in refusal(path)
    for cut in (0, 4, 100, 1000, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert "not a readable HDF5 file" in refusal(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (".", "is not a file"),
        ("/dev/zero", "is not a file"),
        ("pipe", "is not a file"),
        ("~nosuchuser/x.h5", "Could not determine home"),
        ("n" * 300, "File name too long"),
        ("n/" * 3000, "File name too long"),
        ("\udcff.h5", "not UTF-8"),
        ("a\0b", "embedded null"),
        ("pipe/x.h5", "no such data file"),
        ("loop", "symbolic link"),
        ("locked", "Permission denied"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="Windows has other odd paths")
def test_odd_paths_are_refused_in_one_line(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("loop").symlink_to("loop")
    Path("locked").touch(mode=0)
    if name == "locked" and os.access("locked", os.R_OK):
        pytest.skip("root may read any file")
    assert message in refusal(name)


def test_missing_and_unreadable_files(tmp_path, capsys):
    with pytest.raises(InputError, match="no such data file"):
        load_series(tmp_path / "nothing.h5")
    (tmp_path / "text.h5").write_text("not HDF5", encoding="utf-8")
    with pytest.raises(InputError, match="not a readable HDF5 file"):
        load_series(tmp_path / "text.h5")
    for name in ("nothing.h5", "text.h5"):
        assert cli.main(["data", "check", str(tmp_path / name)]) == 1
        assert capsys.readouterr().err.count("\n") == 1


def test_steps_after_the_hundredth_are_unused(data, tmp_path):
    path = tmp_path / "long.h5"
    with h5py.File(path, "w") as file:
        file["trajectories"] = np.concatenate([data.trajectories[:3]] * 2, axis=1)
        file["time"] = np.linspace(0, 402, 200)
    assert load_series(path).trajectories.shape == (3, 100, 2)
