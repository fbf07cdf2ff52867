"""Trials of views: what is taken out of a series comes back, and samples are shared out.

What the page on real tables has of the record is checked in `tests/test_real_tables_page.py`.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks import trials
from benchmarks.sources import TextbookSource
from benchmarks.trials import CHOSEN, TRIALS, Trial, TriedView, show_series
from m2lib.forecaster import Forecaster
from m2lib.forecaster.adapters import GENERAL_FOLDER, read_views
from m2lib.forecaster.views import Seen
from m2lib.series import TABLES, Season
from study.paper.textbook import CHOOSING

SEASON = 4
GROWING = np.tile([0.5, 1.5, 0.8, 1.2], 30) * (100 + 2 * np.arange(120))
"""A season of four steps, times a line."""


def with_noise(values):
    """Return values with noise of 5%."""
    noise = np.random.default_rng(0).normal(0, 0.05, len(values))
    return values * np.exp(noise)


# Views.


@pytest.mark.parametrize("season", ["whole", "part", "in"])
@pytest.mark.parametrize("trend", ["none", "mean step", "line"])
def test_what_is_taken_out_is_put_back(season, trend):
    noisy = with_noise(GROWING[:100])

    shown = show_series(noisy, SEASON, SEASON, TriedView(60, season, trend))

    assert len(shown.written) == 60
    # What is put back is that of the next season. The 100 steps are a whole number of seasons, so
    # its factors are also those of the last four steps; its line lies one season above theirs.
    slope = shown.base[1] - shown.base[0]
    line = shown.base - SEASON * slope
    back = (shown.written[-SEASON:] + line) * shown.factor + shown.shift
    np.testing.assert_allclose(back, noisy[-SEASON:])


def test_a_trend_goes_on_where_nothing_else_is_forecast():
    noisy = GROWING[:100] + np.random.default_rng(0).normal(0, 0.5, 100)

    shown = show_series(noisy, 20, SEASON, TriedView(60, "whole", "line"))
    nothing = np.zeros((1, 20))
    (ahead,) = shown.back(nothing)

    assert np.abs(ahead / GROWING[100:120] - 1).max() < 0.05


def test_a_line_without_noise_stays_in():
    # Without it nothing would be left to be written.
    shown = show_series(np.arange(1.0, 61.0), 4, 1, TriedView(60, trend="line"))
    assert np.ptp(shown.written) == 59
    assert shown.base.tolist() == [0, 0, 0, 0]


def test_the_chosen_views_are_those_in_which_general_sees_a_series():
    noisy = with_noise(GROWING[:100])
    pattern = Season.of(noisy[:, None], SEASON)
    horizon = 8
    for tried, view in zip(TRIALS[CHOSEN].views, read_views(GENERAL_FOLDER), strict=True):
        shown = show_series(noisy, horizon, SEASON, tried)
        seen = Seen.of(noisy[:, None], pattern, view, trials.LONGEST)

        # Both are written alike, because a text does not tell where a series has its zero.
        last_written = shown.written[-1]
        last_seen = seen.context[-1, 0]
        np.testing.assert_allclose(
            shown.written - last_written, seen.context[:, 0] - last_seen, atol=1e-9
        )

        # A forecast that stays at the last value written is read back as the same series.
        (expected,) = shown.back(np.full((1, horizon), last_written))
        scaling = TABLES.for_variables(1).scaling(seen.context)
        scaling_ahead = seen.back(scaling, horizon)
        above_offset = (np.full((horizon, 1), last_seen) - scaling.offset) / scaling.scale
        ahead = scaling_ahead.offset + above_offset * scaling_ahead.scale
        np.testing.assert_allclose(ahead[:, 0], expected)


# Samples.


def test_the_way_as_it_was_is_that_of_a_plain_forecaster(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    forecaster = Forecaster(tiny, TABLES)
    monkeypatch.setattr(trials, "forecaster_of", lambda name: forecaster)
    cuts = [
        (0, GROWING[:100], GROWING[100:104]),
        (1, 500 - GROWING[:90], GROWING[90:94]),  # it falls, and below zero
    ]

    trials._narrow_forecaster.cache_clear()
    samples, _ = trials.view_samples(cuts, 4, SEASON, TriedView())
    trials._narrow_forecaster.cache_clear()  # other tests want another

    contexts = [context[:, None] for _, context, _ in cuts]
    forecasts = forecaster.sample(contexts, 4, season=SEASON)
    for ours, forecast in zip(samples, forecasts, strict=True):
        np.testing.assert_allclose(ours, forecast.physical[..., 0])


THREE_VIEWS = (TriedView(1), TriedView(2), TriedView(3))
STEPS = TextbookSource(
    "steps",
    CHOOSING,
    horizon=2,
    season=2,
    origins=1,
    load=lambda: pd.DataFrame(np.arange(40.0)),
)
CUTS = [(0, np.arange(40.0), np.full(2, 9.0))]
"""One forecast, of two values of 9. Errors are in units of 2, which the context grows by in a
season of two steps."""


@pytest.fixture
def views_of_levels(monkeypatch):
    """Let all 20 samples of a view have the number of its steps as their value: 1, 2 or 3."""

    def view_samples(cuts, horizon, season, view):
        seconds = 20.0
        return [np.full((20, 2), float(view.steps))], seconds

    monkeypatch.setattr(trials, "view_samples", view_samples)


def test_samples_are_shared_out_among_views(views_of_levels):
    row = trials.trial_row(Trial(THREE_VIEWS, spread=1.0), STEPS, CUTS)
    # Of 1, 2 and 3, which come 7, 7 and 6 times, the median is 2.
    assert row["mase"] == [(9 - 2) / 2]
    assert row["seconds"] == 20.0


def test_each_view_gives_other_samples(monkeypatch):
    # Where all views come to the same, each of the 20 samples counts once.
    counting = np.tile(np.arange(20.0)[:, None], 2)
    monkeypatch.setattr(trials, "view_samples", lambda *asked: ([counting], 20.0))

    row = trials.trial_row(Trial(THREE_VIEWS, spread=1.0), STEPS, CUTS)

    median = 9.5
    assert row["mase"] == [pytest.approx((median - 9) / 2)]


def test_a_quarter_of_the_samples_is_left_out_at_either_end_of_a_trimmed_mean(monkeypatch):
    squares = np.tile(np.arange(20.0)[:, None] ** 2, 2)
    monkeypatch.setattr(trials, "view_samples", lambda *asked: ([squares], 20.0))

    row = trials.trial_row(Trial((TriedView(),), trimmed=0.25), STEPS, CUTS)

    middle = np.mean([25, 36, 49, 64, 81, 100, 121, 144, 169, 196])  # neither mean nor median
    assert row["mase"] == [pytest.approx((middle - 9) / 2)]


@pytest.mark.parametrize(("spread", "held"), [(1.0, 0.0), (8.0, 1.0)])
def test_a_wider_spread_holds_more(views_of_levels, spread, held):
    # The samples lie between 1 and 3, and the truth is 9: eight times as far from 2 they reach it.
    row = trials.trial_row(Trial(THREE_VIEWS, spread=spread), STEPS, CUTS)
    assert row["held"] == [held]
