"""The language model on tables, as a tiny random one: how series are shown and samples restored."""

import numpy as np
import pytest

from m2lib.errors import InputError
from m2lib.series import TABLES
from m2tables.language import LanguageModel
from m2tables.views import View


@pytest.fixture
def learner(tiny):
    return LanguageModel(tiny, TABLES, (View(20), View(trend=True)))


def waves(steps=40, variables=1):
    """Return waves around 50, of shape (steps, variables)."""
    phases = np.arange(steps)[:, None] / 3 + np.arange(variables)
    return 50 + 30 * np.sin(phases)


def test_each_series_has_its_samples_in_physical_units(learner):
    first, second = learner.sample([waves(40, 2), 1000 * waves(25, 2)], 3, [1, 1], num_samples=5)
    assert first.physical.shape == second.physical.shape == (5, 3, 2)
    assert np.isfinite(first.physical).all()
    assert (first.physical >= 0).all()  # as nothing in its past was negative
    assert second.physical.max() > 10 * first.physical.max()


def test_the_same_seed_draws_the_same_samples(learner):
    draws = [
        learner.sample([waves()], 3, [1], num_samples=4, seed=seed)[0].physical.tolist()
        for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_one_sample_takes_one_view(learner):
    (forecast,) = learner.sample([waves()], 3, [1], num_samples=1)
    assert forecast.physical.shape == (1, 3, 1)


def test_a_season_is_put_back(learner):
    season = np.tile([100.0, 900], 30)[:, None]
    noise = np.random.default_rng(0).normal(0, 1, (60, 1))
    (forecast,) = learner.sample([season + noise], 4, [2], num_samples=3)
    low, high = forecast.physical[:, 0::2], forecast.physical[:, 1::2]
    assert low.mean() < high.mean()


def test_what_cannot_be_written_keeps_its_last_value(learner):
    closed = np.concatenate([waves(40), np.full((300, 1), 7.0)])  # the window holds 253 steps
    series = [np.full((40, 1), 7.0), waves(5), waves(40), closed]
    quantiles = learner.quantiles(series, 3, [1, 1, 1, 1], [0.1, 0.5, 0.9])
    assert quantiles.shape == (4, 3, 3, 1)
    assert (quantiles[[0, 3]] == 7).all()
    assert (quantiles[1] == series[1][-1]).all()
    assert (np.diff(quantiles[2], axis=0) >= 0).all()


def test_more_steps_than_fit_are_refused(learner):
    with pytest.raises(InputError, match=r"the language model writes \d+ steps at most"):
        learner.sample([waves()], 2000, [1])
