"""Intervals and bands: by hand, where they are known, and against a well-kept library."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import scipy
from scipy.stats import chisquare
from utilsforecast import losses

from m2lib.series.intervals import (
    band,
    bootstrap_interval,
    conformal,
    coverage,
    error_ratio,
    paired_gain,
    ranks,
    sharpness,
    sign_flip_p,
    stretch_needed,
    stretched,
    t_interval,
)

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(300, 40, (48, 20, 2))
TRUTH = RNG.normal(300, 40, (20, 2))


def test_bootstrap_interval_is_that_of_the_normal_mean():
    errors = np.random.default_rng(0).normal(10, 2, size=400)
    low, high = bootstrap_interval(errors)
    half = 1.96 * errors.std(ddof=1) / 20
    assert (low, high) == pytest.approx((errors.mean() - half, errors.mean() + half), abs=0.02)
    assert (
        bootstrap_interval(errors, np.median)[0]
        < np.median(errors)
        < bootstrap_interval(errors, np.median)[1]
    )
    assert bootstrap_interval(errors) == (low, high)
    with pytest.raises(ValueError, match="two or more observations"):
        bootstrap_interval([1.0])


def test_a_t_interval_is_that_of_the_tables_and_of_scipy():
    # Mean 5, standard deviation 1.58, so its error is 0.707; of five values t is 2.776 in Student's
    # tables.
    low, high = t_interval([3, 4, 5, 6, 7])
    assert (low, high) == pytest.approx((5 - 2.776 * 0.7071, 5 + 2.776 * 0.7071), abs=1e-3)
    values = np.random.default_rng(1).normal(2, 3, 10)
    theirs = scipy.stats.ttest_1samp(values, 0)
    for level in (0.8, 0.95):
        assert t_interval(values, level) == pytest.approx(tuple(theirs.confidence_interval(level)))
    with pytest.raises(ValueError, match="two or more observations"):
        t_interval([1.0])


def test_of_ten_values_a_t_interval_holds_what_it_promises():
    samples = np.random.default_rng(2).normal(0, 1, (4000, 10))
    ends = np.array([t_interval(sample) for sample in samples])
    held = (ends[:, 0] <= 0) & (ends[:, 1] >= 0)
    assert held.mean() == pytest.approx(0.95, abs=0.01)
    # A percentile bootstrap of a mean has nearly these ends: normal ones, of a deviation that is
    # divided by n.
    reach = 1.96 * samples.std(axis=1) / np.sqrt(10)
    short = np.abs(samples.mean(axis=1)) <= reach
    assert short.mean() == pytest.approx(0.91, abs=0.01)
    low, high = bootstrap_interval(samples[0])
    assert (high - low) / 2 == pytest.approx(reach[0], rel=0.03)


def test_sign_flips_by_hand_and_by_scipy():
    # Of the eight sums of +-1 +-2 +-4 only 7 and -7 are as far from zero as 7, and six as 3 or
    # more.
    assert sign_flip_p([1, 2, 4]) == 2 / 8
    assert sign_flip_p([1, -2, 4]) == 6 / 8
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1  # the sum is 0 but for its last digits
    values = np.random.default_rng(3).normal(0.5, 1, 10)
    theirs = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p(values) == pytest.approx(theirs.pvalue)
    means = [abs(np.mean(values * signs)) for signs in product((1, -1), repeat=10)]
    assert sign_flip_p(values) == np.mean(np.array(means) >= abs(values.mean()) - 1e-12)
    assert sign_flip_p(np.ones(6)) == pytest.approx(0.03125)  # no less is possible with six
    with pytest.raises(ValueError, match="one value or more"):
        sign_flip_p([])


def test_of_many_values_some_sign_flips_are_drawn():
    values = np.random.default_rng(5).normal(0.5, 1, 30)
    theirs = scipy.stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        n_resamples=100_000,
        rng=np.random.default_rng(6),
    )
    assert 0.001 < sign_flip_p(values) < 0.2
    assert sign_flip_p(values) == pytest.approx(theirs.pvalue, abs=0.005)
    assert sign_flip_p(values) == sign_flip_p(values)
    assert sign_flip_p(np.ones(50)) == 1 / 100_001  # the observed pattern alone


def test_a_sign_flip_test_errs_as_often_as_it_says():
    samples = np.random.default_rng(4).normal(0, 1, (1000, 8))
    found = [sign_flip_p(sample) < 0.05 for sample in samples]
    assert np.mean(found) == pytest.approx(0.05, abs=0.02)


def test_a_ratio_of_errors_by_hand():
    half = error_ratio([1, 2, 3, 4, 5, 6.6], [2, 4, 6, 8, 10, 12])
    assert half.ratio == pytest.approx(0.5 * 1.1 ** (1 / 6))
    assert half.low < half.ratio < half.high < 1
    # as far below as above, in logarithms
    assert half.low * half.high == pytest.approx(half.ratio**2)
    assert (half.p, half.surely) == (2 / 64, True)
    twice = error_ratio([2, 4, 6, 8, 10, 12], [1, 2, 3, 4, 5, 6.6])
    assert (twice.ratio, twice.low, twice.high) == pytest.approx(
        (1 / half.ratio, 1 / half.high, 1 / half.low)
    )
    assert not error_ratio(
        [1, 2], [2, 4.1]
    ).surely  # an interval apart from 1, but two pairs prove nothing
    assert not error_ratio([1, 3, 2, 1], [2, 1, 2, 1]).surely
    with pytest.raises(ValueError, match="shorter"):
        error_ratio([1, 2, 3], [1, 2])


def test_a_paired_gain_by_hand():
    gain = paired_gain({4: 1.0, 9: 5.0, 2: 3.0}, {2: 3.0, 4: 3.0, 9: 9.0, 7: 100.0})
    assert (gain["mean"], gain["better"]) == (2.0, 2)
    assert gain["mean interval"] == bootstrap_interval([2.0, 4.0, 0.0])


def test_a_band_by_hand():
    samples = np.arange(101).reshape(-1, 1, 1) * np.ones((1, 2, 2))
    low, high = band(samples, 0.8)
    assert low == pytest.approx(10)
    assert high == pytest.approx(90)
    assert coverage(samples, np.array([[11, 9], [89, 91]]), 0.8) == 0.5
    assert sharpness(samples, 0.8) == pytest.approx(80)


def test_coverage_is_that_of_a_library():
    low, high = band(SAMPLES, 0.8)
    frame = pd.DataFrame(
        {"unique_id": 0, "y": TRUTH.ravel(), "m-lo-80": low.ravel(), "m-hi-80": high.ravel()}
    )
    theirs = losses.coverage(frame, models=["m"], level=80)["m"].item()
    assert coverage(SAMPLES, TRUTH, 0.8) == pytest.approx(theirs)


def test_ranks_are_even_where_samples_are_right_and_ties_are_by_lot():
    rng = np.random.default_rng(7)
    assert ranks(np.array([1, 2, 3]).reshape(-1, 1, 1), np.array([[2.5]]), rng).tolist() == [[2]]
    drawn = np.concatenate(
        [
            ranks(rng.integers(0, 4, (9, 20, 2)), rng.integers(0, 4, (20, 2)), rng).ravel()
            for _ in range(100)
        ]
    )
    assert chisquare(np.bincount(drawn, minlength=10)).pvalue > 0.001
    narrow = ranks(rng.normal(0, 0.2, (9, 500, 2)), rng.normal(0, 1, (500, 2)), rng)
    counts = np.bincount(narrow.ravel(), minlength=10)
    assert counts[[0, 9]].min() > 3 * counts[4:6].max()  # a hollow


def test_conformal_takes_the_right_place():
    scores = np.array([5.0, 1, 4, 2, 3, 9, 7, 8, 6])[:, None] * [1, 10]
    assert conformal(scores, 0.8).tolist() == [8, 80]  # ceil(10 * 0.8)
    assert conformal(scores, 0.85).tolist() == [9, 90]
    assert conformal(scores, 0.95).tolist() == [np.inf, np.inf]  # nine scores cannot tell
    # 100 * 0.55 is 55.00000000000001
    assert conformal(np.arange(1.0, 100.0), 0.55) == 55
    rng = np.random.default_rng(8)
    held = [abs(rng.normal()) <= conformal(np.abs(rng.normal(size=9)), 0.8) for _ in range(2000)]
    assert np.mean(held) == pytest.approx(0.8, abs=0.03)  # nine scores, and yet 80%, on average


def test_a_stretched_band_just_holds_the_truth():
    needed = stretch_needed(SAMPLES, TRUTH, 0.5)
    for step, variable in [(0, 0), (7, 1), (19, 0)]:
        place = slice(step, step + 1), slice(variable, variable + 1)
        inner, outer = (
            stretched(SAMPLES, needed[step, variable] * factor)[:, *place]
            for factor in (0.999, 1.001)
        )
        assert (coverage(inner, TRUTH[place], 0.5), coverage(outer, TRUTH[place], 0.5)) == (0, 1)
    assert stretched(SAMPLES, 100).min() < 0  # it knows of no least value
    np.testing.assert_allclose(stretched(SAMPLES, 1), SAMPLES)
    np.testing.assert_allclose(
        np.median(stretched(SAMPLES, 0.3), axis=0), np.median(SAMPLES, axis=0)
    )
    same = stretch_needed(np.full((4, 1, 2), 7), np.array([[7, 8]]), 0.8)
    assert same.tolist() == [[0, np.inf]]
