import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2lib.files import InputError
from m2lib.series.codec import decode, encode, scale_of, to_integers, unscale, unwritable
from m2lib.series.metrics import series_mae
from m2lib.series.scaling import UNDERSHOOT
from m2lib.series.textformat import format_steps


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
    with pytest.raises(InputError, match="unknown rounding 'up'"):
        to_integers(values, 1.0, "up")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (10.0, "series 7, step 1, predator: 10 is 10000 in scaled units"),
        (np.nan, "series 7, step 1, predator: nan is not finite"),
        (-np.inf, "series 7, step 1, predator: -inf is not finite"),
        (1e308, "series 7, step 1, predator: 1e.308 is inf in scaled units"),
        (-0.1, "series 7, step 1, predator: -0.1 is negative"),
        (-UNDERSHOOT, "series 7, step 1, predator: -1e-06 is negative"),
    ],
)
def test_encode_refuses_what_four_digits_cannot_hold(value, message):
    values = np.array([[1.0, 1.0], [1.0, value]])
    with pytest.raises(InputError, match=message):
        encode(values, 1.0, series=7)
    assert unwritable(values, 1.0).tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("rounding", ["nearest", "published"])
def test_an_integrators_undershoot_is_zero(rounding):
    values, scale = np.array([[1e-3, -0.9 * UNDERSHOOT], [-1e-8, 0.0]]), 1e-3
    assert -0.9 * UNDERSHOOT / scale * 1000 == pytest.approx(-0.9)  # not what rounding would take away
    assert encode(values, scale, rounding) == "1000,0;0,0;"
    assert to_integers(values, scale, rounding).tolist() == [[1000, 0], [0, 0]]


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf, -np.inf])
def test_a_scale_that_is_none_is_refused(scale):
    values = np.array([[0.0, 1.0]])
    with pytest.raises(InputError, match=f"^series 7: the 90th percentile of its context is {scale:g}, so"):
        encode(values, scale, series=7)
    with pytest.raises(InputError, match=r"^step 0, predator: nan is not finite"):  # what spoilt the scale is named
        encode(np.array([[0.0, np.nan]]), scale)
    with pytest.raises(InputError, match=r"^the series: .* so it has no scale"):
        encode(np.ones((0, 2)), scale)
    for convert in (to_integers, unscale):
        with pytest.raises(InputError, match=f"scale {scale:g} is not a finite number above 0"):
            convert(values, scale)


@pytest.mark.parametrize("shape", [(), (2,), (0,), (4, 3), (4, 1), (5, 4, 2)])
def test_another_shape_is_refused(shape):
    values = np.ones(shape)
    with pytest.raises(InputError, match=r"^series 7: values of shape .*; expected \(steps, 2\) and a number"):
        encode(values, 1.0, series=7)
    if shape != (5, 4, 2):
        with pytest.raises(InputError, match=r"expected \(..., steps, 2\)"):
            to_integers(values, 1.0)
    with pytest.raises(InputError, match="give a number, or one per series"):
        unscale(np.ones((5, 4, 2)), np.ones(4))
    with pytest.raises(InputError, match="scale of shape"):
        encode(np.ones((4, 2)), np.ones(1))


@pytest.mark.parametrize("shape", [(), (2,), (0, 2), (3, 0, 2), (4, 0)])
def test_an_empty_context_has_no_scale(shape):
    with pytest.raises(InputError, match="has no scale"):
        scale_of(np.ones(shape))


def test_no_series_have_no_scales_and_no_steps_no_text():
    assert scale_of(np.ones((0, 80, 2))).shape == (0,)
    assert encode(np.ones((0, 2)), 1.0) == ""


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_no_integer_is_made_up(value):
    with pytest.raises(InputError, match=r"values\[1, 0, 1\] is .*, which has no scaled integer"):
        to_integers(np.array([[[1.0, 1.0]], [[1.0, value]]]), np.array([1.0, 1.0]))


def test_unscale_is_within_half_a_hundredth(data):
    integers = to_integers(data.trajectories, data.scales)
    error = np.abs(unscale(integers, data.scales) - data.trajectories)
    assert np.all(error <= data.scales[:, None, None] * 0.000501)


def test_every_series_round_trips(data):
    for series, scale in zip(data.trajectories[::50], data.scales[::50], strict=True):
        read = decode(encode(series, scale), steps=100)
        assert read.repairs == 0
        assert np.array_equal(read.values, to_integers(series, scale))


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
]


@pytest.mark.parametrize(("text", "steps", "last", "values", "repairs"), HAND_MADE)
def test_decode_by_hand(text, steps, last, values, repairs):
    read = decode(text, steps, last)
    assert read.values.tolist() == values
    assert read.repairs == repairs
    assert read.values.dtype == np.int64


def test_decode_and_mae_under_published_rounding():
    scale = 2.0
    truth = to_integers([[0.23, 0.2], [2.0, 0.4]], scale, "published")  # 1.15 -> 114
    assert truth.tolist() == [[114, 100], [1000, 200]]
    assert series_mae(decode("114,100;1000,200;", 2).values, truth) == 0
    assert series_mae(decode("115,100;1003", 2).values, truth) == (1 + 0 + 3 + 100) / 4


good = st.integers(0, 999_999).map(str)
bad = st.sampled_from(["", "x", "-1", "1_0", "+5", "٣", "1.5", " 1", "7" * 7, "7" * 40])
fields = st.one_of(good, bad)


@given(
    steps=st.lists(st.lists(fields, max_size=4), max_size=25), ended=st.booleans(), tail=st.sampled_from(["", "<pad>9"])
)
def test_repairs_count_what_was_built_in(steps, ended, tail):
    text = "".join(",".join(step) + ";" for step in steps)
    if steps and not ended and ",".join(steps[-1]):
        text = text[:-1]
    read = decode(text + tail, 20, (3, 4))

    current, repairs, expected = [3, 4], 0, []
    for step in (steps + [[]] * 20)[:20]:
        for variable in (0, 1):
            field = step[variable] if variable < len(step) else ""
            if field.isascii() and field.isdecimal() and len(field) <= 6:
                current[variable] = int(field)
            else:
                repairs += 1
        expected.append(list(current))
    assert read.values.tolist() == expected
    assert read.repairs == repairs


@given(
    st.one_of(
        st.text(), st.text(alphabet="0123456789,;<pad> ", max_size=400), st.binary().map(lambda b: b.decode("latin-1"))
    )
)
def test_decode_reads_any_text(text):
    read = decode(text)
    assert read.values.shape == (20, 2)
    assert np.isfinite(read.values).all()
    assert read.values.min() >= 0
    assert 0 <= read.repairs <= 40


@pytest.mark.parametrize("piece", ["1", ",", ";", "1,2;", "<pad", "<", "\ud800", "٣,"])
def test_decode_reads_long_texts_at_once(piece):
    started = time.perf_counter()
    read = decode(piece * 1_000_000)
    assert time.perf_counter() - started < 1  # it takes a few thousandths
    assert read.values.shape == (20, 2)


def test_decode_reads_no_steps_where_none_are_asked():
    for steps in (0, -1, -7):
        assert decode("1,2;3,4;", steps).values.shape == (0, 2)


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(0, 9999)), min_size=20, max_size=20))
def test_clean_text_is_split(steps):
    read = decode(format_steps(steps))
    assert read.values.tolist() == [list(step) for step in steps]
    assert read.repairs == 0
