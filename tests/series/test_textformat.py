import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2lib.files import InputError
from m2lib.series.codec import encode, scale_of, to_integers, unscale
from m2lib.series.scaling import Scaling
from m2lib.series.textformat import TextFormat


def test_the_default_is_the_studys_codec(data):
    study = TextFormat()
    assert (study.unit, study.largest, study.longest_step) == (1000, 9999, 10)
    for context, series in zip(data.contexts[::50], data.trajectories[::50], strict=True):
        scaling = study.scaling(context)
        assert scaling.scale == scale_of(context)
        for rounding in ("nearest", "published"):
            assert study.encode(series, scaling, rounding) == encode(series, scaling.scale, rounding)
        integers = study.integers(series, scaling)
        assert np.array_equal(integers, to_integers(series, scaling.scale))
        assert np.array_equal(scaling.physical(integers), unscale(integers, scaling.scale))


def test_one_variable_below_zero_by_hand():
    # From -10 to 10 the range is 20; offset 0.5 puts zero at -20, so the largest value is 30 above it: scaled 100.
    shape = TextFormat(variables=1, digits=3, percentile=100, offset=0.5)
    context = np.array([[-10.0], [10.0], [1.0]])
    scaling = shape.scaling(context)
    assert (scaling.offset, scaling.scale, scaling.unit) == (-20, 30, 100)
    assert shape.encode(context, scaling) == "33;100;70;"
    assert scaling.physical(shape.decode("33;100;70;", 3, [0]).values) == pytest.approx(context, abs=0.15)


def test_separate_variables_have_a_line_each():
    context = np.stack([np.linspace(1, 1000, 50), np.linspace(-1e-3, 1e-3, 50)], axis=1)
    shape = TextFormat(percentile=100, offset=0.3, separate=True)
    scaling = shape.scaling(context)
    assert scaling.scale.shape == scaling.offset.shape == (2,)
    integers = shape.integers(context, scaling)
    assert integers.max(0).tolist() == [1000, 1000]
    assert integers.min(0) == pytest.approx([231, 231], abs=1)  # 0.3 / 1.3
    joint = TextFormat(percentile=100, offset=0.3)
    assert np.ptp(joint.integers(context, joint.scaling(context))[:, 1]) == 0


@given(
    st.integers(1, 8), st.integers(2, 6), st.sampled_from([0.0, 0.3]), st.booleans(), st.floats(1e-6, 1e12),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_every_format_round_trips(variables, digits, offset, separate, size, seed):
    context = np.random.default_rng(seed).normal(size=(12, variables)) * size
    context = context if offset else np.abs(context)
    shape = TextFormat(variables, digits, 100, offset, separate)
    scaling = shape.scaling(context)
    read = shape.decode(shape.encode(context, scaling), 12, [0] * variables)
    assert read.repairs == 0
    assert read.values.max() == shape.unit
    error = np.abs(scaling.physical(read.values) - context)
    assert np.all(error <= 0.501 * scaling.scale / shape.unit)


@pytest.mark.parametrize(
    ("settings", "value", "line"),
    [
        ({}, np.nan, "series a, step 11, sales: nan is not finite"),
        ({}, -1.0, "series a, step 11, sales: -1 is negative"),
        ({"offset": 0.3}, -1e9, "series a, step 11, sales: -1e.09 is below the offset of the text, 0.7"),
        ({"digits": 3}, 50.0, "series a, step 11, sales: 50 is 2500 in scaled units, outside 0-999; the 100th"),
    ],
)
def test_what_cannot_be_written_is_named(settings, value, line):
    shape = TextFormat(variables=1, percentile=100, **settings)
    values = np.concatenate([np.linspace(1, 2, 11), [value]])[:, None]
    with pytest.raises(InputError, match=line):
        shape.encode(values, shape.scaling(values[:11]), series="a", names=("sales",))


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_a_series_without_a_scale_is_named(offset):
    shape = TextFormat(variables=1, offset=offset)
    values = np.full((12, 1), 5.0 if offset else 0.0)
    with pytest.raises(InputError, match=r"^series b: the 90th percentile of its context is 0.*, so it has no scale"):
        shape.encode(values, shape.scaling(values), series="b")
    assert not Scaling(np.array([1.0, np.inf]), np.zeros(2)).exists


@pytest.mark.parametrize("context", [np.ones(5), np.ones((0, 1)), np.ones((5, 2)), np.ones((2, 5, 1))])
def test_a_context_of_another_shape_has_no_scaling(context):
    with pytest.raises(InputError, match=r"has no scale; expected \(steps, 1\)"):
        TextFormat(variables=1).scaling(context)


@pytest.mark.parametrize(
    "settings",
    [{"variables": 0}, {"variables": 9}, {"digits": 1}, {"digits": 7}, {"percentile": 0}, {"percentile": 101},
     {"offset": -0.1}, {"offset": float("nan")}],
)  # fmt: skip
def test_formats_that_no_series_has(settings):
    with pytest.raises(ValueError, match="a text format"):
        TextFormat(**settings)


def test_settings_are_the_format():
    shape = TextFormat(variables=3, digits=3, percentile=100, offset=0.3, separate=True)
    assert TextFormat(**shape.settings()) == shape
