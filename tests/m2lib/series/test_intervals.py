"""Intervals and tests: by hand, where they are known, and against well-kept libraries."""

import tracemalloc

import numpy as np
import pytest
import scipy

from m2lib.series.intervals import (
    bootstrap_interval,
    error_ratio,
    paired_gain,
    sign_flip_p,
    t_interval,
)

ERRORS = np.random.default_rng(0).normal(10, 2, size=400)


def test_a_bootstrap_interval_of_a_normal_mean_is_the_textbooks():
    half_width = 1.96 * ERRORS.std(ddof=1) / np.sqrt(400)
    expected = (ERRORS.mean() - half_width, ERRORS.mean() + half_width)
    assert bootstrap_interval(ERRORS) == pytest.approx(expected, abs=0.02)


def test_a_bootstrap_interval_of_the_median_holds_it():
    skewed = np.exp(ERRORS - 10)  # their median is 0.9, and their mean 6.6
    low, high = bootstrap_interval(skewed, np.median)
    low_of_mean, _ = bootstrap_interval(skewed)
    assert low < np.median(skewed) < high < low_of_mean


def test_a_bootstrap_interval_is_the_same_each_time():
    assert bootstrap_interval(ERRORS) == bootstrap_interval(ERRORS)


def test_with_another_seed_a_bootstrap_interval_is_another():
    assert bootstrap_interval(ERRORS, seed=1) != bootstrap_interval(ERRORS)


def test_a_t_interval_is_that_of_the_tables():
    # Mean 5, standard deviation 1.58, so its error is 0.707; of five values t is 2.776 in Student's
    # tables.
    expected = (5 - 2.776 * 0.7071, 5 + 2.776 * 0.7071)
    assert t_interval([3, 4, 5, 6, 7]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_a_t_interval_is_that_of_scipy(level):
    values = np.random.default_rng(1).normal(2, 3, 10)
    theirs = scipy.stats.ttest_1samp(values, 0).confidence_interval(level)
    assert t_interval(values, level) == pytest.approx((theirs.low, theirs.high))


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_that_is_no_share_has_no_interval(level):
    with pytest.raises(ValueError, match=f"level is {level}; give a share between 0 and 1"):
        t_interval([1.0, 2.0], level)


@pytest.mark.parametrize("interval", [bootstrap_interval, t_interval])
def test_one_value_has_no_interval(interval):
    with pytest.raises(ValueError, match="two or more observations"):
        interval([1.0])


def test_of_ten_values_a_t_interval_holds_what_it_promises():
    samples = np.random.default_rng(2).normal(0, 1, (4000, 10))
    ends = np.array([t_interval(sample) for sample in samples])
    holds_zero = (ends[:, 0] <= 0) & (ends[:, 1] >= 0)
    assert holds_zero.mean() == pytest.approx(0.95, abs=0.01)


def test_of_ten_values_a_bootstrap_interval_holds_less():
    samples = np.random.default_rng(2).normal(0, 1, (4000, 10))
    # A percentile bootstrap of a mean has nearly the ends of a normal interval, with a deviation
    # that is divided by n. One bootstrap shows it; the share is that of 4000 normal intervals.
    reach = 1.96 * samples.std(axis=1) / np.sqrt(10)
    low, high = bootstrap_interval(samples[0])
    assert (high - low) / 2 == pytest.approx(reach[0], rel=0.03)

    holds_zero = np.abs(samples.mean(axis=1)) <= reach
    assert holds_zero.mean() == pytest.approx(0.91, abs=0.01)


def test_sign_flips_by_hand():
    # Of the eight sums of +-1 +-2 +-4 only 7 and -7 are as far from zero as 7, and six as 3 or
    # more.
    assert sign_flip_p([1, 2, 4]) == 2 / 8
    assert sign_flip_p([1, -2, 4]) == 6 / 8
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1  # the sum is 0 but for its last digits
    # No pattern comes nearer to zero than 0.1, and some sums of 0.1 are a last digit below it.
    assert sign_flip_p([-0.3, 0.1, 0.2, 0.1]) == 1
    assert sign_flip_p(np.ones(6)) == pytest.approx(0.03125)  # no less is possible with six


def test_sign_flips_are_those_of_scipy():
    values = np.random.default_rng(3).normal(0.5, 1, 10)
    theirs = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip_p(values) == pytest.approx(theirs.pvalue)


def test_of_no_values_there_is_no_test():
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
    # Of 50 equal values no drawn pattern is as far from zero: the observed one counts alone.
    assert sign_flip_p(np.ones(50)) == 1 / 100_001


def test_sign_flips_of_many_values_fit_into_memory():
    tracemalloc.start()
    sign_flip_p(np.ones(200))  # of which all patterns at once would take 160 MB
    _, most_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert most_bytes < 50e6


@pytest.mark.parametrize("count", [3, 30])
def test_what_is_not_known_proves_nothing(count):
    values = np.ones(count)
    values[1] = np.nan
    assert sign_flip_p(values) == 1


def test_of_twenty_values_all_sign_flips_are_tried():
    assert sign_flip_p(np.ones(20)) == 2 / 2**20


def test_a_sign_flip_test_errs_as_often_as_it_says():
    samples = np.random.default_rng(4).normal(0, 1, (1000, 8))
    is_significant = [sign_flip_p(sample) < 0.05 for sample in samples]
    assert np.mean(is_significant) == pytest.approx(0.05, abs=0.02)


def test_a_ratio_of_errors_by_hand():
    # Half as large in five of six pairs, and 10% more than half in the last.
    half = error_ratio([1, 2, 3, 4, 5, 6.6], [2, 4, 6, 8, 10, 12])

    assert half.ratio == pytest.approx(0.5 * 1.1 ** (1 / 6))
    assert half.low < half.ratio < half.high < 1
    # As far below as above, in logarithms.
    assert half.low * half.high == pytest.approx(half.ratio**2)
    assert half.p == 2 / 64


def test_a_ratio_the_other_way_round_is_the_inverse():
    half = error_ratio([1, 2, 3, 4, 5, 6.6], [2, 4, 6, 8, 10, 12])
    twice = error_ratio([2, 4, 6, 8, 10, 12], [1, 2, 3, 4, 5, 6.6])

    assert twice.ratio == pytest.approx(1 / half.ratio)
    assert twice.low == pytest.approx(1 / half.high)
    assert twice.high == pytest.approx(1 / half.low)


def test_two_pairs_prove_nothing_by_their_signs_whatever_their_interval():
    apart_from_one = error_ratio([1, 2], [2, 4.1])
    assert apart_from_one.high < 1
    assert apart_from_one.p == 2 / 4


def test_a_ratio_of_unequally_many_errors_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        error_ratio([1, 2, 3], [1, 2])


def test_a_paired_gain_by_hand():
    ours = {4: 1.0, 9: 5.0, 2: 3.0}
    theirs = {2: 3.0, 4: 3.0, 9: 9.0, 7: 100.0}  # 7 has no partner and does not count

    gain = paired_gain(ours, theirs)

    assert gain["mean"] == 2.0
    assert gain["better"] == 2
    gains = [0.0, 2.0, 4.0]  # of the series 2, 4 and 9
    assert gain["mean interval"] == bootstrap_interval(gains)


def test_the_order_of_the_series_does_not_change_a_paired_gain():
    ours = {i: 0.0 for i in range(30)}
    theirs = {i: float(i**2) for i in range(30)}
    backwards = {i: 0.0 for i in reversed(range(30))}
    assert paired_gain(backwards, theirs) == paired_gain(ours, theirs)
