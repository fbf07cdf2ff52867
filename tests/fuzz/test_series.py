"""Texts, numbers and HDF5 files that nobody would write: each is read, or refused in one line."""

import io
import itertools
import os
import random
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from m2lib.files import InputError
from m2lib.series import (
    SeriesSet,
    check_encodable,
    decode,
    encode,
    generate_series,
    load_series,
    scale_of,
    split_ids,
    to_integers,
    unscale,
)

pytestmark = pytest.mark.fuzz
TEXTS = 20_000
FILES = 3_000
SECONDS = 20  # that one file may take, on a busy machine
many = settings(max_examples=5_000, deadline=None, derandomize=True, database=None)
some = settings(many, max_examples=1_500)


def tried(function, *arguments):
    """What a function gives, or its InputError in one line; neither a warning nor another exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return function(*arguments)
        except InputError as error:
            refused = error
    assert len(str(refused).splitlines()) == 1
    return refused


# Texts


def plainly_read(text, steps, last):
    """The rules of `decode` in other words: field by field, letter by letter."""
    text = text[: text.index("<pad>")] if "<pad>" in text else text
    whole = text.removesuffix(";") if text.endswith(";") else text
    found = [step.split(",") for step in whole.split(";")] if text else []
    values, repairs = [list(last)], 0
    for fields in (found + [[]] * steps)[:steps]:
        values.append(list(values[-1]))
        for variable in (0, 1):
            field = fields[variable] if variable < len(fields) else ""
            if 1 <= len(field) <= 6 and set(field) <= set("0123456789"):
                values[-1][variable] = int(field)
            else:
                repairs += 1
    return values[1:], repairs


def check_text(text, steps=20, last=(3, 4)):
    read = decode(text, steps, last)
    values, repairs = plainly_read(text, steps, last)
    assert read.values.tolist() == values
    assert read.repairs == repairs


@many
@given(
    st.one_of(
        st.text(),
        st.text(alphabet="0123456789,;", max_size=300),
        st.lists(st.sampled_from(["1", "23", "456789", ",", ";", ";", "<pad>", "<", "\ud800", "٣", "\0"])).map("".join),
        st.lists(st.integers(-5, 10**7).map(str), max_size=80).map(",".join),
    ),
    st.integers(0, 30),
)
def test_any_text_is_read(text, steps):
    check_text(text, steps)


def test_a_text_that_a_model_spoilt_is_read():
    letters = [*"0123456789,;,;", "<pad>", "", ",,", ";;", " ", "x", "\ud83e", "٣", "\u2028", "-", "0" * 9]
    for seed in range(TEXTS):
        chance = random.Random(seed)
        text = [*"".join(f"{chance.randrange(3000)},{chance.randrange(3000)};" for _ in range(chance.randrange(24)))]
        for _ in range(chance.randrange(12)):
            place = chance.randrange(len(text) + 1)
            text[place : place + chance.randrange(4)] = [chance.choice(letters)]
        try:
            check_text("".join(text))
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error


def test_time_grows_with_a_text_and_no_faster():
    for seed in range(200):
        chance = random.Random(seed)
        piece = "".join(chance.choice("0123456789,;<pad> \ud800") for _ in range(chance.randrange(1, 9)))
        started = time.perf_counter()
        decode(piece * (1_000_000 // len(piece)))
        assert time.perf_counter() - started < 1, f"seed {seed}: {piece!r}"


# Numbers

odd = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1e-8, -1e-6, -1.0, 9999.4, 1e5, 1e-300, 5e-324, 1e300]),
    st.floats(0, 100),
    st.floats(),
)
values_of_any_shape = st.one_of(
    arrays(np.float64, st.tuples(st.integers(0, 6), st.just(2)), elements=odd),
    arrays(np.float64, array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4), elements=odd),
)
scales = st.one_of(odd, arrays(np.float64, array_shapes(min_dims=0, max_dims=2, max_side=3), elements=odd))


@many
@given(values_of_any_shape, scales, st.sampled_from(["nearest", "published", "up"]))
def test_any_numbers_are_written_or_refused(values, scale, rounding):
    integers = tried(to_integers, values, scale, rounding)
    tried(unscale, np.ones_like(values), scale)
    tried(scale_of, values)
    text = tried(encode, values, scale, rounding, 7)
    if isinstance(text, InputError):
        assert str(text).startswith(("series 7", "unknown rounding 'up'"))
        return
    read = decode(text, len(values))
    assert read.repairs == 0
    assert np.array_equal(read.values, integers)


@some
@given(arrays(np.float32, (3, 100, 2), elements=st.floats(0, 10, width=32)), st.lists(odd, max_size=4), st.randoms())
def test_a_set_is_refused_as_its_first_bad_series_is(trajectories, spoilt, chance):
    with np.errstate(over="ignore"):
        for value in spoilt:
            trajectories[chance.randrange(3), chance.randrange(100), chance.randrange(2)] = value
    series, ids = SeriesSet(trajectories, np.arange(100.0), "made up"), chance.choices(range(3), k=2)
    written = (tried(encode, trajectories[i], series.scales[i], "nearest", i) for i in ids)
    first = next((text for text in written if isinstance(text, InputError)), None)
    assert str(tried(check_encodable, series, ids)) == str(first)


any_number = st.one_of(st.integers(), st.integers(-3, 9), st.floats(), st.text(max_size=3), st.none(), st.booleans())


@some
@given(any_number, st.one_of(any_number, st.integers(0, 2**32 - 1)))
def test_any_size_and_seed_make_a_set_or_are_refused(n, seed):
    if not isinstance(n, int) or n < 3000:
        tried(split_ids, n)
    if not isinstance(n, int) or n < 3 or n > 10**9:
        made = tried(generate_series, n, seed)
        assert isinstance(made, InputError) or len(made) == n


def test_series_of_other_seeds_can_be_written():
    for seed in range(1, 25):
        made = generate_series(100, seed)
        check_encodable(made, range(100))
        assert made.trajectories.min() >= 0, f"seed {seed}"


# Files


@some
@given(st.text(max_size=20), st.sampled_from(["", "~", "/dev/", "/proc/self/", "x/" * 2_000]))
def test_no_path_is_a_traceback(name, before):
    path = before + name
    if path and not Path(path.replace("\0", "")).is_file():
        assert isinstance(tried(load_series, path), InputError)


LAYOUTS = {
    "plain": {},
    "newest format": {},
    "can grow": {"chunks": (1, 30, 2), "maxshape": (None, None, 2)},
    "gzip": {"chunks": (2, 50, 2), "compression": "gzip", "shuffle": True},
    "gzip and checksum": {"chunks": (2, 50, 2), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf and checksum": {"chunks": (2, 50, 2), "compression": "lzf", "fletcher32": True},
    "checksum": {"chunks": (2, 50, 2), "fletcher32": True},
    "newest format, gzip and checksum": {"chunks": (2, 50, 2), "compression": "gzip", "fletcher32": True},
    "scale and offset": {"chunks": (2, 50, 2), "scaleoffset": 4},
}


def good_file(layout):
    """The bytes of a file of five series, stored in one of many ways."""
    file_bytes = io.BytesIO()
    with h5py.File(file_bytes, "w", libver="latest" if "newest" in layout else None) as file:
        trajectories = np.random.default_rng(0).uniform(0.5, 2, (5, 120, 2)).astype("f4")
        file.create_dataset("raw/mine" if layout == "plain" else "trajectories", data=trajectories, **LAYOUTS[layout])
        if layout == "plain":
            file["trajectories"] = h5py.SoftLink("/raw/mine")
        file.create_dataset("time", data=np.linspace(0, 238, 120), chunks=(120,) if LAYOUTS[layout] else None)
        file["trajectories"].attrs["unit"] = "thousands"
    return file_bytes.getvalue()


def damage(whole, chance):
    """Some of a file's bytes lost, moved, added or changed; most often at its beginning, where its structure is."""
    damaged = bytearray(whole)
    reach = len(damaged) if chance.random() < 0.3 else 2_500
    how = chance.choice(("bit", "byte", "zeros", "ones", "swap", "insert", "cut"))
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        place = chance.randrange(reach)
        if how == "bit":
            damaged[place] ^= 1 << chance.randrange(8)
        elif how == "byte":
            damaged[place] = chance.randrange(256)
        elif how == "zeros":
            damaged[place : place + 16] = bytes(chance.randrange(64))
        elif how == "ones":
            damaged[place : place + 4] = b"\xff" * chance.choice((1, 4, 8))
        elif how == "swap":
            other = chance.randrange(reach)
            damaged[place : place + 8], damaged[other : other + 8] = (
                damaged[other : other + 8],
                damaged[place : place + 8],
            )
        elif how == "insert":
            damaged[place:place] = chance.randbytes(chance.randrange(1, 9))
    return damaged[: chance.randrange(len(damaged))] if how == "cut" else damaged


def outcome(path):
    """`read`, or what is said of the file."""
    result = tried(load_series, path)
    return str(result) if isinstance(result, InputError) else "read"


def damaged_file(folder, seed):
    """The same for a file damaged at random. It runs in another process, which HDF5 may crash."""
    chance, path = random.Random(seed), Path(folder, "damaged.h5")
    path.write_bytes(damage(good_file(chance.choice(list(LAYOUTS))), chance))
    return outcome(path)


def test_a_damaged_file_is_read_or_refused(tmp_path):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        results = [apart.submit(damaged_file, str(tmp_path), seed) for seed in range(FILES)]
        for seed, result in enumerate(results):
            try:
                said = result.result(timeout=SECONDS)
            except BaseException as error:
                for process in apart._processes.values():
                    process.kill()  # or one that hangs would be waited for
                raise AssertionError(f"seed {seed}") from error
            assert said == "read" or said.startswith(f"{tmp_path}/damaged.h5: "), f"seed {seed}: {said}"
    assert os.listdir(tmp_path) == ["damaged.h5"]


KINDS = {
    **{kind: kind for kind in ("f2", "f4", ">f8", "f16", "i1", "u8", "c16", "bool", "S5", "V7")},
    "strings": h5py.string_dtype(),
    "references": h5py.ref_dtype,
    "regions": h5py.regionref_dtype,
    "lists": h5py.vlen_dtype("f4"),
    "records": np.dtype([("prey", "f4"), ("predator", "f4")]),
    "pairs": np.dtype(("f4", (2,))),
    "enumeration": h5py.enum_dtype({"few": 0, "many": 1}),
    "instants": h5py.opaque_dtype("M8[s]"),
}
SHAPES = [(), (0,), (100,), (3, 100), (3, 100, 2), (0, 100, 2), (3, 0, 2), (3, 99, 2), (3, 100, 3), (3, 100, 2, 1)]
VAST = [(2**40, 100, 2), (3, 2**40, 2), (2**63 - 1, 1, 1), (2**62, 100, 2), (3, 100, 2**40)]


def test_an_odd_dataset_is_read_or_refused(tmp_path):
    path, count = tmp_path / "odd.h5", 0
    for (name, kind), shape, filled in itertools.product(KINDS.items(), SHAPES + VAST, (False, True)):
        if filled and (name not in ("f2", "f4", ">f8", "f16", "i1", "u8", "bool", "enumeration") or shape in VAST):
            continue
        for odd_one, other in (("trajectories", "time"), ("time", "trajectories")):
            with h5py.File(path, "w") as file:
                chunks = tuple(min(size, 100) for size in shape) if shape in VAST else None
                file.create_dataset(odd_one, shape, kind, chunks=chunks)
                if filled and shape:
                    file[odd_one][...] = 1
                file[other] = np.linspace(0, 198, 100) if other == "time" else np.ones((3, 100, 2))
            started, said = time.perf_counter(), outcome(path)
            assert said.startswith(f"{path}: /") or said == "read", (name, shape, said)
            assert time.perf_counter() - started < 5, (name, shape)
            count += 1
    assert count >= 700
    assert os.listdir(tmp_path) == ["odd.h5"]
