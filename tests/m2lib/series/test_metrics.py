"""Errors, scores and quantile losses: by hand, against closed forms, and against well-kept
libraries."""

import numpy as np
import pandas as pd
import pytest
import scoringrules
from utilsforecast import losses

from m2lib.series.metrics import (
    DECILES,
    best_and_worst,
    crps_fair,
    quantile_loss,
    series_mae,
    summarise,
    weighted_quantile_loss,
)

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(300, 40, (48, 20, 2))
TRUTH = RNG.normal(300, 40, (20, 2))


def test_mae_by_hand():
    truth = np.array([[1, 2], [3, 4]])
    forecast = np.array([[1, 2], [3, 8]])
    assert series_mae(forecast, truth) == 1
    assert series_mae(np.stack([forecast, truth]), truth).tolist() == [1, 0]


def test_crps_is_the_mae_of_a_certain_forecast():
    truth = np.array([[1.0, 2.0]])
    assert crps_fair(np.stack([truth + 3] * 5), truth) == 3


def test_crps_is_its_definition_that_of_a_library_and_the_closed_form():
    pairs = np.abs(SAMPLES[:, None] - SAMPLES[None]).sum(axis=(0, 1)) / (48 * 47)
    assert crps_fair(SAMPLES, TRUTH) == pytest.approx(
        (np.abs(SAMPLES - TRUTH).mean(0) - pairs / 2).mean()
    )
    theirs = scoringrules.crps_ensemble(TRUTH, np.moveaxis(SAMPLES, 0, -1), estimator="fair").mean()
    assert crps_fair(SAMPLES, TRUTH) == pytest.approx(theirs)
    normal = scoringrules.crps_normal(
        TRUTH, 300, 40
    ).mean()  # of the distribution that samples come from
    rng = np.random.default_rng(9)
    many = [crps_fair(rng.normal(300, 40, (20, 20, 2)), TRUTH) for _ in range(400)]
    # fair: 20 samples are enough, on average
    assert np.mean(many) == pytest.approx(normal, rel=0.01)


def test_quantile_loss_is_that_of_a_library():
    frame = pd.DataFrame({"unique_id": 0, "y": TRUTH.ravel()})
    ours = []
    for level in DECILES:
        frame["model"] = np.quantile(SAMPLES, level, axis=0).ravel()
        theirs = losses.quantile_loss(frame, models={"model": "model"}, q=level)["model"].item()
        ours.append(quantile_loss(SAMPLES, TRUTH, [level]))
        assert ours[-1] == pytest.approx(theirs)
    assert quantile_loss(SAMPLES, TRUTH) == pytest.approx(np.mean(ours))
    median = np.median(SAMPLES, axis=0)
    assert quantile_loss(SAMPLES, TRUTH, [0.5]) == pytest.approx(series_mae(median, TRUTH) / 2)


def test_weighted_quantile_loss_has_no_unit():
    once = weighted_quantile_loss([quantile_loss(SAMPLES, TRUTH)], [TRUTH])
    assert weighted_quantile_loss(
        [quantile_loss(10 * SAMPLES, 10 * TRUTH)], [10 * TRUTH]
    ) == pytest.approx(once)
    twice = weighted_quantile_loss([quantile_loss(SAMPLES, TRUTH)] * 2, [TRUTH] * 2)
    assert twice == pytest.approx(once)


def test_summary():
    assert str(summarise([1, 2, 9])) == "mean 4.0 / median 2.0 (3 series)"


def test_best_and_worst_ranks_by_error_then_id():
    errors = {5: 1.0, 3: 1.0, 8: 0.5, 1: 9.0}
    assert best_and_worst(errors, worst=1) == ([8, 3, 5], [1])
    assert best_and_worst(errors, worst=0) == ([8, 3, 5, 1], [])
