"""Intervals, tests and bands: by hand, where they are known, and against well-kept libraries."""

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
ERRORS = np.random.default_rng(0).normal(10, 2, size=400)


def test_a_bootstrap_interval_of_a_normal_mean_is_the_textbooks():
    half_width = 1.96 * ERRORS.std(ddof=1) / np.sqrt(400)
    expected = (ERRORS.mean() - half_width, ERRORS.mean() + half_width)
    assert bootstrap_interval(ERRORS) == pytest.approx(expected, abs=0.02)


def test_a_bootstrap_interval_of_the_median_holds_it():
    low, high = bootstrap_interval(ERRORS, np.median)
    assert low < np.median(ERRORS) < high


def test_a_bootstrap_interval_is_the_same_each_time():
    assert bootstrap_interval(ERRORS) == bootstrap_interval(ERRORS)


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
    assert sign_flip_p(np.ones(6)) == pytest.approx(0.03125)  # no less is possible with six


def test_sign_flips_are_those_of_scipy_and_of_all_patterns_one_by_one():
    values = np.random.default_rng(3).normal(0.5, 1, 10)

    theirs = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    patterns = product((1, -1), repeat=10)
    distances = np.array([abs(np.mean(values * pattern)) for pattern in patterns])
    is_as_far = distances >= abs(values.mean()) - 1e-12

    assert sign_flip_p(values) == pytest.approx(theirs.pvalue)
    assert sign_flip_p(values) == is_as_far.mean()


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
    assert half.surely is True


def test_a_ratio_the_other_way_round_is_the_inverse():
    half = error_ratio([1, 2, 3, 4, 5, 6.6], [2, 4, 6, 8, 10, 12])
    twice = error_ratio([2, 4, 6, 8, 10, 12], [1, 2, 3, 4, 5, 6.6])

    assert twice.ratio == pytest.approx(1 / half.ratio)
    assert twice.low == pytest.approx(1 / half.high)
    assert twice.high == pytest.approx(1 / half.low)


def test_a_ratio_is_sure_only_if_interval_and_test_agree():
    apart_from_one = error_ratio([1, 2], [2, 4.1])
    assert apart_from_one.high < 1
    assert not apart_from_one.surely  # two pairs prove nothing, whatever their interval

    mixed = error_ratio([1, 3, 2, 1], [2, 1, 2, 1])
    assert not mixed.surely


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


def test_a_band_by_hand():
    samples = np.arange(101).reshape(-1, 1, 1) * np.ones((1, 2, 2))  # 0 to 100 at each place
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


def test_a_rank_by_hand():
    samples = np.array([1, 2, 3]).reshape(-1, 1, 1)
    assert ranks(samples, np.array([[2.5]]), np.random.default_rng(7)).tolist() == [[2]]


def test_ranks_are_even_where_samples_are_right_and_ties_are_by_lot():
    rng = np.random.default_rng(7)
    drawn = []
    for _ in range(100):
        samples = rng.integers(0, 4, (9, 20, 2))  # of four numbers, so there are many ties
        truth = rng.integers(0, 4, (20, 2))
        drawn.append(ranks(samples, truth, rng).ravel())

    counts = np.bincount(np.concatenate(drawn), minlength=10)
    assert chisquare(counts).pvalue > 0.001


def test_ranks_of_too_narrow_samples_have_a_hollow():
    rng = np.random.default_rng(7)
    samples = rng.normal(0, 0.2, (9, 500, 2))
    truth = rng.normal(0, 1, (500, 2))

    counts = np.bincount(ranks(samples, truth, rng).ravel(), minlength=10)

    assert counts[[0, 9]].min() > 3 * counts[4:6].max()


def test_conformal_takes_the_right_place():
    # The scores 1 to 9, and in a second column ten times as much.
    scores = np.array([5.0, 1, 4, 2, 3, 9, 7, 8, 6])[:, None] * [1, 10]
    assert conformal(scores, 0.8).tolist() == [8, 80]  # ceil(10 * 0.8)
    assert conformal(scores, 0.85).tolist() == [9, 90]
    assert conformal(scores, 0.95).tolist() == [np.inf, np.inf]  # nine scores cannot tell

    # 100 * 0.55 is 55.00000000000001, and yet its place is the 55th.
    assert conformal(np.arange(1.0, 100.0), 0.55) == 55


def test_a_conformal_bound_of_nine_scores_holds_its_share_on_average():
    rng = np.random.default_rng(8)
    held = []
    for _ in range(2000):
        new_score = abs(rng.normal())
        earlier_scores = np.abs(rng.normal(size=9))
        held.append(new_score <= conformal(earlier_scores, 0.8))
    assert np.mean(held) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize(("step", "variable"), [(0, 0), (7, 1), (19, 0)])
def test_a_stretched_band_just_holds_the_truth(step, variable):
    place = (slice(step, step + 1), slice(variable, variable + 1))
    needed = stretch_needed(SAMPLES, TRUTH, 0.5)[step, variable]

    just_too_narrow = stretched(SAMPLES, 0.999 * needed)[:, *place]
    just_wide_enough = stretched(SAMPLES, 1.001 * needed)[:, *place]

    assert coverage(just_too_narrow, TRUTH[place], 0.5) == 0
    assert coverage(just_wide_enough, TRUTH[place], 0.5) == 1


def test_samples_are_stretched_around_their_median():
    np.testing.assert_allclose(stretched(SAMPLES, 1), SAMPLES)

    median = np.median(SAMPLES, axis=0)
    np.testing.assert_allclose(np.median(stretched(SAMPLES, 0.3), axis=0), median)


def test_stretched_samples_know_of_no_least_value():
    assert stretched(SAMPLES, 100).min() < 0


def test_a_band_without_width_needs_no_stretch_or_an_endless_one():
    sevens = np.full((4, 1, 2), 7)
    assert stretch_needed(sevens, np.array([[7, 8]]), 0.8).tolist() == [[0, np.inf]]
