"""Sampled forecasts: scores, bands, and the autoregression's samples beside them."""

from statistics import mean

import numpy as np
import pytest

from m2lib.series import crps_fair
from study import EXPERIMENTS
from study.paper import samples


def test_samples_are_compared_with_greedy_forecasts_of_the_test_series():
    assert {EXPERIMENTS[name].split for name in samples.GREEDY.values()} == {"test"}


@pytest.fixture(scope="module")
def sampled(sampled_record):
    return samples.Sampled.of({"final": sampled_record})


def test_samples_have_the_scores_of_the_record(sampled, sampled_record):
    crps = {series: entry["crps"] for series, entry in sampled_record.series.items()}
    assert sampled.by_series(crps_fair, "final").to_dict() == pytest.approx(crps)

    maes = sampled.by_series(samples.median_mae, "final")
    assert maes.mean() == pytest.approx(mean(sampled_record.maes().values()))


def test_the_log_var_draws_as_many_samples_as_the_language_model(sampled):
    assert sampled.samples["final"].shape == (50, 12, 20, 2)  # series, samples, steps, variables
    assert sampled.samples[samples.LOG_VAR].shape == (50, 12, 20, 2)


def test_the_samples_that_are_drawn_are_the_language_models(sampled):
    assert sampled.shown == "final"


def three_times_too_narrow(rng):
    """Return samples of 40 series that spread by 10, about true values that spread by 30."""
    truths = rng.normal(500, 30, (40, 20, 2))
    narrow = rng.normal(500, 10, (40, 48, 20, 2))
    return samples.Sampled(
        records={},
        ids=list(range(40)),
        contexts=np.empty(0),
        truths=truths,
        samples={"made": narrow},
    )


def test_a_factor_from_one_set_of_series_mends_the_bands_of_another():
    rng = np.random.default_rng(0)
    old = three_times_too_narrow(rng)
    new = three_times_too_narrow(rng)

    factor = old.factor("made")

    assert factor == pytest.approx(3, rel=0.1)
    assert new.held("made")[0.8] < 0.4
    assert new.held("made", factor=factor)[0.8] == pytest.approx(0.8, abs=0.03)
