import numpy as np
import pytest

from m2lib.series.metrics import (
    best_and_worst,
    bootstrap_interval,
    crps_fair,
    paired_gain,
    series_mae,
    summarise,
)


def test_mae_by_hand():
    truth = np.array([[1, 2], [3, 4]])
    forecast = np.array([[1, 2], [3, 8]])
    assert series_mae(forecast, truth) == 1
    assert series_mae(np.stack([forecast, truth]), truth).tolist() == [1, 0]


def test_crps_is_the_mae_of_a_certain_forecast():
    truth = np.array([[1.0, 2.0]])
    assert crps_fair(np.stack([truth + 3] * 5), truth) == 3
    with pytest.raises(ValueError, match="at least 2"):
        crps_fair(truth[None], truth)


def test_crps_equals_its_definition_and_the_normal_closed_form():
    rng = np.random.default_rng(0)
    samples, truth = rng.normal(size=(7, 3, 2)), rng.normal(size=(3, 2))
    pairs = np.abs(samples[:, None] - samples[None]).sum(axis=(0, 1)) / (7 * 6)
    assert crps_fair(samples, truth) == pytest.approx((np.abs(samples - truth).mean(0) - pairs / 2).mean())
    # E CRPS of N(0, 1) at 0 is 2 phi(0) - 1/sqrt(pi), and the fair estimate is unbiased for any m
    small = [crps_fair(rng.normal(size=(2, 500, 2)), np.zeros((500, 2))) for _ in range(200)]
    assert np.mean(small) == pytest.approx(2 / np.sqrt(2 * np.pi) - 1 / np.sqrt(np.pi), abs=0.005)


def test_summary():
    assert str(summarise([1, 2, 9])) == "mean 4.0 / median 2.0 (3 series)"
    with pytest.raises(ValueError, match="no errors"):
        summarise([])


def test_best_and_worst_ranks_by_error_then_id():
    assert best_and_worst({5: 1.0, 3: 1.0, 8: 0.5, 1: 9.0}, worst=1) == ([8, 3, 5], [1])


def test_bootstrap_interval_is_that_of_the_normal_mean():
    errors = np.random.default_rng(0).normal(10, 2, size=400)
    low, high = bootstrap_interval(errors)
    half = 1.96 * errors.std(ddof=1) / 20
    assert (low, high) == pytest.approx((errors.mean() - half, errors.mean() + half), abs=0.02)
    assert bootstrap_interval(errors, np.median)[0] < np.median(errors) < bootstrap_interval(errors, np.median)[1]
    assert bootstrap_interval(errors) == (low, high)
    with pytest.raises(ValueError, match="at least 2 errors, got 1"):
        bootstrap_interval([1.0])


def test_a_paired_gain_by_hand():
    gain = paired_gain({4: 1.0, 9: 5.0, 2: 3.0}, {2: 3.0, 4: 3.0, 9: 9.0, 7: 100.0})
    assert (gain["mean"], gain["better"]) == (2.0, 2)
    assert gain["mean interval"] == bootstrap_interval([2.0, 4.0, 0.0])
