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
    quantile_losses,
    series_mae,
    summarise,
)

RNG = np.random.default_rng(0)
SAMPLES = RNG.normal(300, 40, (48, 20, 2))
TRUTH = RNG.normal(300, 40, (20, 2))


def test_mae_by_hand():
    truth = np.array([[1, 2], [3, 4]])
    forecast = np.array([[1, 2], [3, 8]])
    several = np.stack([forecast, truth])

    assert series_mae(forecast, truth) == 1
    assert series_mae(several, truth).tolist() == [1, 0]


def test_numbers_without_a_sign_have_the_mae_of_others():
    forecast = np.array([[8, 12]], dtype=np.uint8)
    truth = np.array([[10, 10]], dtype=np.uint8)
    assert series_mae(forecast, truth) == 2


def test_crps_is_the_mae_of_a_certain_forecast():
    truth = np.array([[1.0, 2.0]])
    samples = np.stack([truth + 3] * 5)
    assert crps_fair(samples, truth) == 3


def test_crps_of_one_variable_needs_no_axis_for_it():
    assert crps_fair(SAMPLES[..., 0], TRUTH[:, 0]) == crps_fair(SAMPLES[..., :1], TRUTH[:, :1])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of a division by zero
def test_what_is_not_known_is_no_number():
    assert np.isnan(crps_fair(SAMPLES[:1], TRUTH))  # a single sample has no distance to another

    none = summarise([])
    assert none.n == 0
    assert np.isnan([none.mean, none.median]).all()


def test_crps_is_that_of_a_library():
    samples_last = np.moveaxis(SAMPLES, 0, -1)
    theirs = scoringrules.crps_ensemble(TRUTH, samples_last, estimator="fair").mean()
    assert crps_fair(SAMPLES, TRUTH) == pytest.approx(theirs)


def test_crps_of_few_samples_is_on_average_that_of_their_distribution():
    rng = np.random.default_rng(9)
    scores = []
    for _ in range(400):
        samples = rng.normal(300, 40, (20, 20, 2))
        scores.append(crps_fair(samples, TRUTH))

    closed_form = scoringrules.crps_normal(TRUTH, 300, 40).mean()
    assert np.mean(scores) == pytest.approx(closed_form, rel=0.01)


@pytest.mark.parametrize("level", DECILES)
def test_quantile_loss_is_that_of_a_library(level):
    predicted = np.quantile(SAMPLES, level, axis=0)
    frame = pd.DataFrame({"unique_id": 0, "y": TRUTH.ravel(), "model": predicted.ravel()})
    theirs = losses.quantile_loss(frame, models={"model": "model"}, q=level)
    ours = quantile_losses(predicted[np.newaxis], TRUTH, [level]).mean()
    assert ours == pytest.approx(theirs["model"].item())


def test_numbers_without_a_sign_have_the_quantile_loss_of_others():
    quantiles = np.array([[12]], dtype=np.uint8)
    assert quantile_losses(quantiles, np.array([10], dtype=np.uint8), [0.9]) == pytest.approx(0.2)


def test_a_summary_is_printed_in_one_line():
    assert str(summarise([1, 2, 9])) == "mean 4.0 / median 2.0 (3 series)"


def test_best_and_worst_ranks_by_error_then_id():
    errors = {5: 1.0, 3: 1.0, 8: 0.5, 1: 9.0}
    assert best_and_worst(errors, worst=1) == ([8, 3, 5], [1])
    assert best_and_worst(errors, worst=0) == ([8, 3, 5, 1], [])
    assert best_and_worst({5: 1.0, 3: 2.0}) == ([5], [3])  # two fifths, but at least one
