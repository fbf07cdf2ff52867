"""Numbers to text and back: by hand, against plain rules in other words, and on the study's
data."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from m2lib.errors import InputError
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

    two_series = np.stack([context, 2 * context])
    assert scale_of(two_series) == pytest.approx([0.9 * 159, 1.8 * 159])


def test_encode_by_hand():
    assert encode(np.array([[0.952, 1.034], [0.0, 0.0004]]), scale=1.0) == "952,1034;0,0;"
    assert encode(np.array([[12.0, 0.0011], [0.5, 2.0]]), scale=2.0) == "6000,1;250,1000;"


def test_published_rounding_truncates_what_floating_point_left_below():
    values = np.array([[0.115, 0.95], [0.82, 1.0]])
    assert 1.15 * 100 < 115  # 114.99999999999999
    assert to_integers(values, 1.0).tolist() == [[115, 950], [820, 1000]]
    assert to_integers(values, 1.0, "published").tolist() == [[114, 950], [819, 1000]]


def test_published_rounding_costs_a_right_forecast_an_error():
    truth = to_integers([[0.23, 0.2], [2.0, 0.4]], 2.0, "published")  # 114,100;1000,200;
    forecast = decode("115,100;1003", 2).values  # the last predator is missing and stays 100
    assert series_mae(forecast, truth) == (1 + 0 + 3 + 100) / 4


@pytest.mark.parametrize("rounding", ["nearest", "published"])
def test_an_integrators_undershoot_is_zero(rounding):
    scale = 1e-3
    values = np.array([[1e-3, -0.9 * UNDERSHOOT], [-1e-8, 0.0]])
    assert values.min() / scale * 1000 == pytest.approx(-0.9)  # it would not be rounded to 0
    assert encode(values, scale, rounding) == "1000,0;0,0;"


def ones_but(value, shape=(2, 2)):
    """Return a series of ones whose very last value is another."""
    values = np.ones(shape)
    values[-1, -1] = value
    return values


@pytest.mark.parametrize(
    ("value", "scaled"),
    [
        (10.0, "10000"),
        (9.9995, "9999.5"),  # it would be rounded up
        (1e300, "1e+303"),
        (-UNDERSHOOT, "-0.001"),
        (np.nan, "nan"),
    ],
)
def test_a_value_that_cannot_be_written_is_named(value, scaled):
    with pytest.raises(InputError) as error:
        encode(ones_but(value), 1.0)
    message = (
        f"the series has {value:g} at step 1, variable 1 (counted from 0), which is {scaled} in "
        "scaled units, outside 0-9999"
    )
    assert str(error.value).startswith(message)


def test_a_series_that_cannot_be_written_is_called_by_its_name():
    with pytest.raises(InputError, match=r"^series 7 has 10 at step 1, variable 1 "):
        encode(ones_but(10.0), 1.0, name=7)


@pytest.mark.parametrize(
    ("value", "scale", "name", "series"),
    [
        (np.nan, np.nan, None, "the series"),
        (0.0, 0.0, 7, "series 7"),
        (1.0, -1.0, None, "the series"),
    ],
)
def test_a_series_without_a_scale_is_named(value, scale, name, series):
    with pytest.raises(InputError) as error:
        encode(ones_but(value), scale, name=name)
    message = f"{series} has no scale: what is read is constant, mostly 0, or not finite"
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("shape", [(20,), (20, 3), (1, 20, 2)], ids=str)
def test_a_series_of_another_shape_is_refused(shape):
    with pytest.raises(InputError, match=r"^series 7 has shape .*; give it as \(steps, 2\)"):
        encode(np.ones(shape), 1.0, name=7)


def test_a_value_that_another_format_cannot_write_is_named():
    shape = TextFormat(variables=1, percentile=100)
    values = ones_but(5e3, shape=(3, 1))
    with pytest.raises(InputError, match=r"^the series has 5000 at step 2, variable 0 .* 5e\+06"):
        shape.encode(values, shape.scaling(np.ones((3, 1))))


def test_a_constant_has_no_scale_above_an_offset():
    shape = TextFormat(variables=1, offset=0.3)
    values = np.full((12, 1), 5.0)
    with pytest.raises(InputError, match=r"^series b has no scale: "):
        shape.encode(values, shape.scaling(values), name="b")


def test_an_infinite_scale_is_none():
    assert not Scaling(np.array([1.0, np.inf]), np.zeros(2)).exists


@pytest.mark.parametrize(
    ("text", "steps", "last", "values", "repairs"),
    [
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
    ],
)
def test_decode_by_hand(text, steps, last, values, repairs):
    read = decode(text, steps, last)
    assert read.values.tolist() == values
    assert read.repairs == repairs
    assert read.values.dtype == np.int64
    assert read.values.shape == (steps, 2)


def plainly_read(text, steps, last):
    """Read a text by the rules of `decode` in other words: field by field, letter by letter."""
    if "<pad>" in text:
        text = text[: text.index("<pad>")]
    written = text.removesuffix(";").split(";") if text else []
    missing = [""] * steps

    values = [list(last)]
    repairs = 0
    for step in (written + missing)[:steps]:
        fields = step.split(",")
        current = list(values[-1])
        for variable in (0, 1):
            field = fields[variable] if variable < len(fields) else ""
            if 1 <= len(field) <= 6 and set(field) <= set("0123456789"):
                current[variable] = int(field)
            else:
                repairs += 1
        values.append(current)
    return values[1:], repairs


PIECES = ["1", "23", "456789", ",", ";", ";", "<pad>", "<", "\ud800", "٣", "-1", "1_0", "7" * 7]
"""What texts that are nearly right are put together from; `;` is there twice, so that steps end."""


@given(
    text=st.one_of(
        st.text(),
        st.text(alphabet="0123456789,;", max_size=300),
        st.lists(st.sampled_from(PIECES), max_size=90).map("".join),
    ),
    steps=st.integers(0, 30),
)
def test_any_text_is_read(text, steps):
    read = decode(text, steps, (3, 4))
    assert (read.values.tolist(), read.repairs) == plainly_read(text, steps, (3, 4))


@pytest.mark.parametrize("piece", ["1", ",", ";", "1,2;", "<pad", "\ud800"])
def test_decode_reads_long_texts_at_once(piece):
    text = piece * 1_000_000

    started = time.process_time()
    read = decode(text)
    seconds = time.process_time() - started

    assert read.values.shape == (20, 2)
    assert seconds < 1  # it takes a few thousandths


ODD = [0.0, -0.0, -1e-8, -1e-6, 9999.4, 1e-300, 5e-324, 1e300]
odd_numbers = st.sampled_from(ODD) | st.floats(0, 100) | st.floats()


@given(
    values=arrays(
        np.float64,
        st.tuples(st.integers(0, 6), st.just(2)),
        elements=odd_numbers | st.floats(0, 9),
    ),
    scale=st.floats(1, 1e3) | odd_numbers,
)
def test_any_numbers_are_written_or_refused(values, scale):
    is_undershoot = (values < 0) & (values > -UNDERSHOOT)
    with np.errstate(all="ignore"):
        scaled = np.where(is_undershoot, 0, values) / scale * 1000
    can_be_written = 0 < scale < np.inf and np.all((scaled >= 0) & (scaled < 9999.5))

    if can_be_written:
        read = decode(encode(values, scale), len(values))
        assert read.repairs == 0
        assert np.array_equal(read.values, to_integers(values, scale))
    else:
        with pytest.raises(InputError):
            encode(values, scale)


def test_every_series_comes_back_within_half_a_hundredth(data):
    integers = to_integers(data.trajectories, data.scales)
    error = np.abs(unscale(integers, data.scales) - data.trajectories)
    # A scaled unit is a hundredth, so a thousandth of the scale; half of one, and float rounding.
    assert np.all(error <= data.scales[:, None, None] * 0.000501)


@pytest.mark.parametrize("number", range(0, 1000, 50))
def test_a_series_is_written_as_its_integers_and_read_as_them(data, number):
    series = data.trajectories[number]
    scale = data.scales[number]
    integers = to_integers(series, scale)

    text = encode(series, scale)

    assert text == "".join(f"{prey},{predator};" for prey, predator in integers)
    assert text == STUDY.encode(series, STUDY.scaling(series[:80]))
    assert np.array_equal(decode(text, steps=100).values, integers)


def test_one_variable_below_zero_by_hand():
    # From -10 to 10 the range is 20; offset 0.5 puts zero at -20, so the largest value is 30 above
    # it: scaled 100.
    shape = TextFormat(variables=1, digits=3, percentile=100, offset=0.5)
    context = np.array([[-10.0], [10.0], [1.0]])

    scaling = shape.scaling(context)
    assert (scaling.offset, scaling.scale, scaling.unit) == (-20, 30, 100)
    assert shape.encode(context, scaling) == "33;100;70;"

    read = shape.decode("33;100;70;", 3, [0])
    assert scaling.physical(read.values) == pytest.approx(context, abs=0.15)


def test_separate_variables_have_a_line_each():
    large = np.linspace(1, 1000, 50)
    small = np.linspace(-1e-3, 1e-3, 50)
    context = np.stack([large, small], axis=1)

    separate = TextFormat(percentile=100, offset=0.3, separate=True)
    integers = separate.integers(context, separate.scaling(context))
    assert integers.max(0).tolist() == [1000, 1000]
    assert integers.min(0) == pytest.approx([231, 231], abs=1)  # 0.3 / 1.3

    joint = TextFormat(percentile=100, offset=0.3)
    integers = joint.integers(context, joint.scaling(context))
    assert np.ptp(integers[:, 1]) == 0  # beside the large variable the small one is flat


@given(
    variables=st.integers(1, 8),
    digits=st.integers(2, 6),
    offset=st.sampled_from([0.0, 0.3]),
    separate=st.booleans(),
    room=st.sampled_from([2.0, 2.5, 10.0]),
    size=st.floats(1e-6, 1e12),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_format_comes_back(variables, digits, offset, separate, room, size, seed):
    any_number = TextFormat(0, digits, 100, offset, separate, room)
    shape = any_number.for_variables(variables)
    context = np.random.default_rng(seed).normal(size=(12, variables)) * size
    if not offset:
        context = np.abs(context)

    scaling = shape.scaling(context)
    read = shape.decode(shape.encode(context, scaling), 12, [0] * variables)

    assert read.repairs == 0
    assert read.values.max() == shape.unit
    error = np.abs(scaling.physical(read.values) - context)
    # half of the smallest step that can be written, and float rounding
    assert np.all(error <= 0.501 * scaling.scale / shape.unit)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("variables", -1),
        ("variables", 9),
        ("digits", 1),
        ("digits", 7),
        ("percentile", 0),
        ("percentile", 101),
        ("room", 1),
        ("room", 11),
        ("offset", -0.1),
        ("offset", 11),
        ("offset", float("nan")),
        ("spread", 0),
        ("spread", 11),
    ],
)
def test_a_format_that_no_series_can_have_is_refused(setting, value):
    with pytest.raises(ValueError, match="a text format"):
        TextFormat(**{setting: value})


def test_the_format_of_tables_by_hand():
    # From 2 to 6 the range is 4; offset 0.5 puts zero at 0, and 6 is written as 500, half of what
    # three digits hold.
    shape = TABLES.for_variables(1)
    context = np.array([[2.0], [6.0], [3.0]])
    assert shape.encode(context, shape.scaling(context)) == "167;500;250;"


def test_only_a_format_for_any_number_of_variables_takes_one():
    one = TABLES.for_variables(1)
    assert TABLES.for_variables(8).variables == 8
    assert one.for_variables(8) == one
    assert STUDY.for_variables(3) == STUDY


def test_the_studys_format_by_hand():
    assert STUDY.unit == 1000
    assert STUDY.largest == 9999
    assert STUDY.longest_step == 10


def test_a_format_comes_back_from_its_settings():
    shape = TextFormat(variables=3, digits=3, percentile=100, offset=0.3, separate=True)
    assert TextFormat(**shape.settings()) == shape

    # Without `spread`, which records from before there was one do not have.
    names = ["variables", "digits", "percentile", "offset", "separate", "room"]
    assert list(STUDY.settings()) == names, "name a new setting in NEWER of codec.py"


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("offset", [0.0, 0.3, 0.5])
def test_the_smallest_value_is_read_back_exactly(offset, separate):
    shape = TextFormat(2, digits=3, percentile=100, offset=offset, separate=separate, room=2.0)
    rng = np.random.default_rng(0)
    sizes = 10 ** rng.uniform(-6, 6, 50)
    for size in sizes:
        above_least = np.abs(rng.normal(0, size, (30, 2))).round(3)
        context = above_least + rng.choice([0, 1e3])  # near zero, or far above it
        if not offset:
            context[7] = 0  # without an offset it is zero that is read back exactly
        if not np.ptp(context, axis=0).all():
            continue  # a variable that is constant, rounded to three decimals, has no scale

        integers = shape.integers(context, shape.scaling(context))
        read = shape.reading(context).physical(integers)

        axis = 0 if separate else None
        assert np.array_equal(read.min(axis), context.min(axis))
        assert np.allclose(read.max(axis), context.max(axis), rtol=1e-12, atol=0)
        half_a_step = 0.51 * shape.scaling(context).scale / shape.unit
        assert (np.abs(read - context) <= 2 * half_a_step).all()


def test_a_zero_is_read_as_zero_above_an_offset():
    counts = np.array([[0.0], [12.0], [3.0]])
    shape = TABLES.for_variables(1)

    # By the line on which it is written, 0 comes back as something more, because 166.7 is rounded.
    scaling = shape.scaling(counts)
    assert shape.encode(counts, scaling) == "167;500;250;"
    assert scaling.physical(167) == pytest.approx(0.012)

    reading = shape.reading(counts)
    assert reading.physical(167).item() == 0
    scaled = np.array([[167], [500], [0]])
    assert reading.physical(scaled).ravel() == pytest.approx([0, 12, -12 * 167 / 333])
    assert reading.relative(counts) * reading.unit == pytest.approx(
        np.array([[167], [500], [250.25]])
    )
