"""Trials of views: what is taken out comes back, and samples are shared out."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import trials
from benchmarks.textbook import CHOOSING, TextbookSource
from benchmarks.trials import CHOSEN, TRIALS, Trial, TriedView, show_series
from m2lib.forecaster import Forecaster
from m2lib.forecaster.adapters import GENERAL, read_views
from m2lib.forecaster.views import Seen
from m2lib.series import TABLES, Season

SOURCE = TextbookSource("steps", CHOOSING, 2, 2, 1, lambda: pd.DataFrame(np.arange(40.0)))
GROWING = np.tile([0.5, 1.5, 0.8, 1.2], 30) * (100 + 2 * np.arange(120))


def test_what_is_taken_out_is_put_back():
    rng = np.random.default_rng(0)
    noisy = GROWING[:100] * np.exp(rng.normal(0, 0.05, 100))
    for trend in ("none", "mean step", "line"):
        for season in ("whole", "part", "in"):
            shown = show_series(noisy, 4, 4, TriedView(60, season, trend))
            assert len(shown.written) == 60
            # With what is taken out put back at its own end, a series is as it was: the 100 steps
            # are a whole number of seasons, so the factors ahead are also those of the last four.
            back = (shown.written[-4:] + shown.base - 4 * slope(shown)) * shown.factor + shown.shift
            np.testing.assert_allclose(back, noisy[-4:])


def slope(shown):
    return shown.base[1] - shown.base[0]


def test_a_trend_goes_on_where_nothing_else_is_forecast():
    noisy = GROWING[:100] + np.random.default_rng(0).normal(0, 0.5, 100)
    shown = show_series(noisy, 20, 4, TriedView(60, "whole", "line"))
    ahead = shown.back(np.zeros((1, 20)))[0]
    assert np.abs(ahead / GROWING[100:120] - 1).max() < 0.05
    # A line without noise leaves nothing to be written, so it stays in.
    line = show_series(np.arange(1.0, 61.0), 4, 1, TriedView(60, trend="line"))
    assert (np.ptp(line.written), line.base.tolist()) == (59, [0, 0, 0, 0])


def test_as_it_was_means_what_a_plain_forecaster_does(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    forecaster = Forecaster(tiny, TABLES)
    monkeypatch.setattr(trials, "forecaster_of", lambda name: forecaster)
    trials._narrow_forecaster.cache_clear()
    cuts = [(0, GROWING[:100], GROWING[100:104]), (1, 500 - GROWING[:90], GROWING[90:94])]
    samples, _ = trials.view_samples(cuts, 4, 4, TriedView())
    own = forecaster.sample([context[:, None] for _, context, _ in cuts], 4, season=4)
    for ours, theirs in zip(samples, own, strict=True):
        np.testing.assert_allclose(ours, theirs.physical[..., 0])
    trials._narrow_forecaster.cache_clear()


def test_samples_are_shared_out_among_views(monkeypatch):
    context, truth = np.arange(40.0), np.full(2, 9.0)

    def view_samples(cuts, horizon, season, view):
        return [np.full((20, 2), float(view.steps))], 20.0

    monkeypatch.setattr(trials, "view_samples", view_samples)
    trial = Trial((TriedView(1), TriedView(2), TriedView(3)), spread=1.0)
    narrow = trials.trial_row(trial, SOURCE, [(0, context, truth)])
    # Of 1, 2 and 3, 7, 7 and 6 times, the median is 2, where a step of the season is 2.
    assert (narrow["mase"], narrow["seconds"]) == ([(9 - 2) / 2], 20.0)
    # Of views that come to the same, each of the 20 samples counts once.
    counting = np.tile(np.arange(20.0)[:, None], 2)
    monkeypatch.setattr(trials, "view_samples", lambda *asked: ([counting], 20.0))
    row = trials.trial_row(trial, SOURCE, [(0, context, truth)])
    assert row["mase"] == [pytest.approx((9.5 - 9) / 2)]
    monkeypatch.setattr(trials, "view_samples", view_samples)
    wide = trials.trial_row(Trial(trial.views, spread=8.0), SOURCE, [(0, context, truth)])
    assert (narrow["held"], wide["held"]) == ([0.0], [1.0])


def test_what_was_chosen_is_how_general_sees_a_series():
    noisy = GROWING[:100] * np.exp(np.random.default_rng(0).normal(0, 0.05, 100))
    season = Season.of(noisy[:, None], 4)
    for tried, view in zip(TRIALS[CHOSEN].views, read_views(GENERAL), strict=True):
        shown = show_series(noisy, 8, 4, tried)
        seen = Seen.of(noisy[:, None], season, view, trials.LONGEST)
        # Both are written alike, because a text does not tell where a series has its zero.
        np.testing.assert_allclose(
            shown.written - shown.written[-1], seen.context[:, 0] - seen.context[-1, 0], atol=1e-9
        )
        level = np.full((8, 1), seen.context[-1, 0])
        scaling = seen.back(TABLES.of(1).scaling(seen.context), 8)
        back = scaling.offset + (level - TABLES.of(1).scaling(seen.context).offset) * (
            scaling.scale / TABLES.of(1).scaling(seen.context).scale
        )
        ahead = shown.back(np.full((1, 8), shown.written[-1]))[0]
        np.testing.assert_allclose(back[:, 0], ahead)
