"""Bands of samples: by hand, where they are known, and against a well-kept library."""

import numpy as np
import pandas as pd
import pytest
from utilsforecast import losses

from m2lib.series.bands import (
    band,
    conformal,
    coverage,
    sharpness,
    stretch_needed,
    stretched,
)

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(300, 40, (48, 20, 2))
TRUTH = RNG.normal(300, 40, (20, 2))


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


def test_conformal_takes_the_right_place():
    # The scores 1 to 9, and in a second column ten times as much.
    scores = np.array([5.0, 1, 4, 2, 3, 9, 7, 8, 6])[:, None] * [1, 10]
    assert conformal(scores, 0.8).tolist() == [8, 80]  # ceil(10 * 0.8)
    assert conformal(scores, 0.85).tolist() == [9, 90]
    assert conformal(scores, 0.95).tolist() == [np.inf, np.inf]  # nine scores cannot tell
    assert conformal(scores, 1).tolist() == [np.inf, np.inf]  # nor can any number of scores

    # 100 * 0.55 is 55.00000000000001, and yet its place is the 55th.
    assert conformal(np.arange(1.0, 100.0), 0.55) == 55


@pytest.mark.parametrize("level", [0, 80])
def test_a_level_that_is_no_share_has_no_bound(level):
    with pytest.raises(ValueError, match=f"level is {level}; give a share above 0"):
        conformal(np.arange(9.0), level)


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


def test_a_factor_of_one_changes_no_digit():
    samples = np.array([0.1, 0.1, 1.1, 3.0, 9.0]).reshape(-1, 1, 1)

    unchanged = stretched(samples, 1.0)

    assert np.array_equal(unchanged, samples)
    assert coverage(unchanged, np.array([[0.1]]), 0.8) == 1


def test_stretched_samples_know_of_no_least_value():
    assert stretched(SAMPLES, 100).min() < 0


def test_a_band_holds_its_ends():
    sevens = np.full((4, 1, 2), 7)
    assert coverage(sevens, np.array([[7, 8]]), 0.8) == 0.5


def test_a_band_without_width_needs_no_stretch_or_an_endless_one():
    sevens = np.full((4, 1, 2), 7)
    assert stretch_needed(sevens, np.array([[7, 8]]), 0.8).tolist() == [[0, np.inf]]
