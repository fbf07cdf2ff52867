"""Numbers to text and back: by hand, against plain rules in other words, and on the study's
data."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from m2lib.files import InputError
from m2lib.series.codec import (
    STUDY,
    TABLES,
    UNDERSHOOT,
    Scaling,
    TextFormat,
    decode,
    encode,
    scale_of,
    to_integers,
    unscale,
)
from m2lib.series.metrics import series_mae


def test_scale_is_the_90th_percentile_of_both_variables():
    context = np.arange(160, dtype=np.float32).reshape(80, 2)
    assert scale_of(context) == pytest.approx(0.9 * 159)
    assert scale_of(np.stack([context, 2 * context])) == pytest.approx([0.9 * 159, 1.8 * 159])


def test_encode_by_hand():
    assert encode(np.array([[0.952, 1.034], [0.0, 0.0004]]), scale=1.0) == "952,1034;0,0;"
    assert encode(np.array([[12.0, 0.0011], [0.5, 2.0]]), scale=2.0) == "6000,1;250,1000;"


def test_published_rounding_truncates_what_floating_point_left_below():
    assert 1.15 * 100 < 115  # 114.99999999999999
    values = np.array([[0.115, 0.95], [0.82, 1.0]])
    assert to_integers(values, 1.0).tolist() == [[115, 950], [820, 1000]]
    assert to_integers(values, 1.0, "published").tolist() == [[114, 950], [819, 1000]]
    truth = to_integers([[0.23, 0.2], [2.0, 0.4]], 2.0, "published")
    assert series_mae(decode("115,100;1003", 2).values, truth) == (1 + 0 + 3 + 100) / 4


@pytest.mark.parametrize("rounding", ["nearest", "published"])
def test_an_integrators_undershoot_is_zero(rounding):
    values = np.array([[1e-3, -0.9 * UNDERSHOOT], [-1e-8, 0.0]])
    scale = 1e-3
    # not what rounding would take away
    assert -0.9 * UNDERSHOOT / scale * 1000 == pytest.approx(-0.9)
    assert encode(values, scale, rounding) == "1000,0;0,0;"


def spoilt(value, shape=(2, 2)):
    values = np.ones(shape)
    values[-1, -1] = value
    return values


ONE = TextFormat(variables=1, percentile=100)
REFUSED = [
    (
        lambda: encode(spoilt(10.0), 1.0, name=7),
        "series 7, step 1, variable 2 is 10000 in scaled units, outside 0-9",
    ),
    (
        lambda: encode(spoilt(1e300), 1.0),
        "the series, step 1, variable 2 is 1e+303 in scaled units, outside 0-9999",
    ),
    (
        lambda: encode(spoilt(-UNDERSHOOT), 1.0),
        "the series, step 1, variable 2 is -0.001 in scaled units",
    ),
    (lambda: encode(spoilt(np.nan), 1.0), "the series, step 1, variable 2 is nan in scaled units"),
    (
        lambda: encode(spoilt(np.nan), np.nan),
        "the series has no scale: what is read is constant, mostly 0, or not fin",
    ),
    (lambda: encode(spoilt(0.0), 0.0, name=7), "series 7 has no scale: "),
    (lambda: encode(spoilt(1.0), -1.0), "the series has no scale: "),
    (
        lambda: ONE.encode(spoilt(5e3, (3, 1)), ONE.scaling(np.ones((3, 1)))),
        "the series, step 2, variable 1 is 5e+06",
    ),
]


@pytest.mark.parametrize(("function", "line"), REFUSED)
def test_what_cannot_be_written_is_named(function, line):
    with pytest.raises(InputError) as error:
        function()
    assert str(error.value).startswith(line)


def test_a_constant_has_no_scale_above_an_offset():
    shape = TextFormat(variables=1, offset=0.3)
    values = np.full((12, 1), 5.0)
    with pytest.raises(InputError, match=r"^series b has no scale: "):
        shape.encode(values, shape.scaling(values), name="b")
    assert not Scaling(np.array([1.0, np.inf]), np.zeros(2)).exists


HAND_MADE = [
    # text, steps, last, values, repairs
    ("1,2;3,4;", 2, (0, 0), [[1, 2], [3, 4]], 0),
    ("1,2;3,4", 2, (0, 0), [[1, 2], [3, 4]], 0),  # a last step without `;` is read as it stands
    ("1,2;3", 2, (0, 0), [[1, 2], [3, 2]], 1),  # cut inside a step
    ("1,2;3,", 2, (0, 0), [[1, 2], [3, 2]], 1),
    ("12;3,4;", 2, (7, 8), [[12, 8], [3, 4]], 1),  # a missing comma
    ("1,2;", 3, (0, 0), [[1, 2], [1, 2], [1, 2]], 4),  # a missing step is two repairs
    ("", 2, (5, 6), [[5, 6], [5, 6]], 4),
    ("<pad>1,2;", 1, (5, 6), [[5, 6]], 2),  # the text ends at the first pad
    ("1,2;<pad>3,4;", 2, (0, 0), [[1, 2], [1, 2]], 2),
    ("1,2<pad>", 1, (0, 0), [[1, 2]], 0),
    (";;3,4;", 3, (5, 6), [[5, 6], [5, 6], [3, 4]], 4),  # an empty step in the middle is a step
    ("1,2,9,9;3,4;", 2, (0, 0), [[1, 2], [3, 4]], 0),  # fields after the second cost nothing
    ("1,2;3,4;junk;", 2, (0, 0), [[1, 2], [3, 4]], 0),  # nor what follows the last step
    ("0012,000003;", 1, (0, 0), [[12, 3]], 0),
    ("1234567,999999;", 1, (5, 6), [[5, 999999]], 1),  # six digits at most
    ("1" * 40 + ",2;", 1, (5, 6), [[5, 2]], 1),
    ("1_0,+5;", 1, (5, 6), [[5, 6]], 2),  # what int() would take
    ("٣,４;", 1, (5, 6), [[5, 6]], 2),  # digits, but not ASCII
    (" 1,2\n;", 1, (5, 6), [[5, 6]], 2),
    ("1,2;3,4;", 0, (5, 6), [], 0),
]


@pytest.mark.parametrize(("text", "steps", "last", "values", "repairs"), HAND_MADE)
def test_decode_by_hand(text, steps, last, values, repairs):
    read = decode(text, steps, last)
    assert (read.values.tolist(), read.repairs) == (values, repairs)
    assert (read.values.dtype, read.values.shape) == (np.int64, (steps, 2))


def plainly_read(text, steps, last):
    """The rules of `decode` in other words: field by field, letter by letter."""
    text = text[: text.index("<pad>")] if "<pad>" in text else text
    whole = text.removesuffix(";") if text.endswith(";") else text
    found = [step.split(",") for step in whole.split(";")] if text else []
    values = [list(last)]
    repairs = 0
    for fields in (found + [[]] * steps)[:steps]:
        values.append(list(values[-1]))
        for variable in (0, 1):
            field = fields[variable] if variable < len(fields) else ""
            if 1 <= len(field) <= 6 and set(field) <= set("0123456789"):
                values[-1][variable] = int(field)
            else:
                repairs += 1
    return values[1:], repairs


pieces = st.sampled_from(
    ["1", "23", "456789", ",", ";", ";", "<pad>", "<", "\ud800", "٣", "-1", "1_0", "7" * 7]
)


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="0123456789,;", max_size=300),
        st.lists(pieces, max_size=90).map("".join),
    ),
    st.integers(0, 30),
)
def test_any_text_is_read(text, steps):
    read = decode(text, steps, (3, 4))
    assert (read.values.tolist(), read.repairs) == plainly_read(text, steps, (3, 4))


@pytest.mark.parametrize("piece", ["1", ",", ";", "1,2;", "<pad", "\ud800"])
def test_decode_reads_long_texts_at_once(piece):
    started = time.perf_counter()
    assert decode(piece * 1_000_000).values.shape == (20, 2)
    assert time.perf_counter() - started < 1  # it takes a few thousandths


odd = (
    st.sampled_from([0.0, -0.0, -1e-8, -1e-6, 9999.4, 1e-300, 5e-324, 1e300])
    | st.floats(0, 100)
    | st.floats()
)


@given(
    arrays(np.float64, st.tuples(st.integers(0, 6), st.just(2)), elements=odd | st.floats(0, 9)),
    st.floats(1, 1e3) | odd,
)
def test_any_numbers_are_written_or_refused(values, scale):
    undershot = (values < 0) & (values > -UNDERSHOOT)
    with np.errstate(all="ignore"):
        scaled = np.where(undershot, 0, values) / scale * 1000
    if 0 < scale < np.inf and np.all((scaled >= 0) & (scaled < 9999.5)):
        read = decode(encode(values, scale), len(values))
        assert read.repairs == 0
        assert np.array_equal(read.values, to_integers(values, scale))
    else:
        with pytest.raises(InputError):
            encode(values, scale)


def test_every_series_round_trips_within_half_a_hundredth(data):
    integers = to_integers(data.trajectories, data.scales)
    error = np.abs(unscale(integers, data.scales) - data.trajectories)
    assert np.all(error <= data.scales[:, None, None] * 0.000501)
    for series, scale, written in zip(
        data.trajectories[::50], data.scales[::50], integers[::50], strict=True
    ):
        text = encode(series, scale)
        assert text == STUDY.encode(series, STUDY.scaling(series[:80]))
        assert text == "".join(f"{prey},{predator};" for prey, predator in written)
        assert np.array_equal(decode(text, steps=100).values, written)


def test_one_variable_below_zero_by_hand():
    # From -10 to 10 the range is 20; offset 0.5 puts zero at -20, so the largest value is 30 above
    # it: scaled 100.
    shape = TextFormat(variables=1, digits=3, percentile=100, offset=0.5)
    context = np.array([[-10.0], [10.0], [1.0]])
    scaling = shape.scaling(context)
    assert (scaling.offset, scaling.scale, scaling.unit) == (-20, 30, 100)
    assert shape.encode(context, scaling) == "33;100;70;"
    assert scaling.physical(shape.decode("33;100;70;", 3, [0]).values) == pytest.approx(
        context, abs=0.15
    )


def test_separate_variables_have_a_line_each():
    context = np.stack([np.linspace(1, 1000, 50), np.linspace(-1e-3, 1e-3, 50)], axis=1)
    shape = TextFormat(percentile=100, offset=0.3, separate=True)
    integers = shape.integers(context, shape.scaling(context))
    assert integers.max(0).tolist() == [1000, 1000]
    assert integers.min(0) == pytest.approx([231, 231], abs=1)  # 0.3 / 1.3
    joint = TextFormat(percentile=100, offset=0.3)
    assert np.ptp(joint.integers(context, joint.scaling(context))[:, 1]) == 0


@given(
    st.integers(1, 8), st.integers(2, 6), st.sampled_from([0.0, 0.3]), st.booleans(),
    st.sampled_from([2.0, 2.5, 10.0]), st.floats(1e-6, 1e12), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_format_round_trips(variables, digits, offset, separate, room, size, seed):
    context = np.random.default_rng(seed).normal(size=(12, variables)) * size
    context = context if offset else np.abs(context)
    shape = TextFormat(0, digits, 100, offset, separate, room).of(variables)
    scaling = shape.scaling(context)
    read = shape.decode(shape.encode(context, scaling), 12, [0] * variables)
    assert (read.repairs, read.values.max()) == (0, shape.unit)
    error = np.abs(scaling.physical(read.values) - context)
    assert np.all(error <= 0.501 * scaling.scale / shape.unit)


@pytest.mark.parametrize(
    "settings",
    [{"variables": -1}, {"variables": 9}, {"digits": 1}, {"digits": 7}, {"percentile": 0},
     {"percentile": 101}, {"room": 1}, {"room": 11}, {"offset": -0.1}, {"offset": float("nan")},
     {"spread": 0}, {"spread": 11}],
)  # fmt: skip
def test_formats_that_no_series_has(settings):
    with pytest.raises(ValueError, match="a text format"):
        TextFormat(**settings)


def test_the_format_of_tables_by_hand():
    # From 2 to 6 the range is 4; offset 0.5 puts zero at 0, and 6 is written as 500, half of what
    # three digits hold.
    shape = TABLES.of(1)
    context = np.array([[2.0], [6.0], [3.0]])
    assert shape.encode(context, shape.scaling(context)) == "167;500;250;"
    assert (TABLES.of(8).variables, shape.of(8), STUDY.of(3)) == (8, shape, STUDY)


def test_settings_are_the_format():
    assert (STUDY.unit, STUDY.largest, STUDY.longest_step) == (1000, 9999, 10)
    assert list(STUDY.settings()) == [
        "variables",
        "digits",
        "percentile",
        "offset",
        "separate",
        "room",
    ]
    shape = TextFormat(variables=3, digits=3, percentile=100, offset=0.3, separate=True)
    assert TextFormat(**shape.settings()) == shape


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5])
def test_the_smallest_value_is_read_back_exactly(offset, separate):
    shape = TextFormat(2, digits=3, percentile=100, offset=offset, separate=separate, room=2.0)
    rng = np.random.default_rng(0)
    for spread in 10 ** rng.uniform(-6, 6, 50):
        context = np.abs(rng.normal(0, spread, (30, 2))).round(3) + rng.choice([0, 1e3])
        context[7] = 0 if not offset else context[7]
        if not np.ptp(context, axis=0).all():
            continue
        written = shape.integers(context, shape.scaling(context))
        read = shape.reading(context).physical(written)
        axis = 0 if separate else None
        assert np.array_equal(read.min(axis), context.min(axis))
        assert np.allclose(read.max(axis), context.max(axis), rtol=1e-12, atol=0)
        half_a_step = 0.51 * shape.scaling(context).scale / shape.unit
        assert (np.abs(read - context) <= 2 * half_a_step).all()


def test_a_zero_by_hand():
    counts = np.array([[0.0], [12.0], [3.0]])
    shape = TABLES.of(1)
    assert shape.encode(counts, shape.scaling(counts)) == "167;500;250;"
    assert shape.scaling(counts).physical(167) == pytest.approx(0.012)
    line = shape.reading(counts)
    assert line.physical([[167], [500], [0]]).ravel() == pytest.approx([0, 12, -12 * 167 / 333])
    assert line.physical(167).item() == 0
    assert line.relative(counts) * line.unit == pytest.approx(np.array([[167], [500], [250.25]]))
