"""Views: which steps of a series the model is shown, and what is taken out of them."""

import numpy as np

from m2tables.seasons import Season
from m2tables.views import Seen, View

WINDOW = 256
"""Steps that a window of 1024 tokens holds, of one variable with three digits."""


def random_series(steps):
    """Return a series of one variable, of positive numbers at random."""
    return np.random.default_rng(0).uniform(1, 9, (steps, 1))


def test_a_view_shows_as_many_steps_as_it_names():
    quarters = random_series(80)
    season = Season.of(quarters, 4)
    seen = Seen.of(quarters, season, View(40, season=False), WINDOW)
    assert np.array_equal(seen.context, quarters[-40:])


def test_a_view_without_a_number_shows_all_steps():
    quarters = random_series(80)
    seen = Seen.of(quarters, Season.of(quarters, 4), View(), WINDOW)
    assert len(seen.context) == 80


def test_a_view_of_few_steps_shows_six_seasons():
    quarters = random_series(80)
    seen = Seen.of(quarters, Season.of(quarters, 4), View(20, trend=True), WINDOW)
    assert len(seen.context) == 24


def test_a_season_that_the_window_cannot_show_is_taken_out():
    pattern = np.resize([1.0, 2.0, 4.0, 3.0, 9.0], 80)
    values = (pattern + np.arange(80))[:, None]
    season = Season.of(values, 5)
    view = View(season=False)

    # A window of 15 steps holds three seasons of 5, and one of 14 does not.
    left_in = Seen.of(values, season, view, 15)
    assert np.array_equal(left_in.context, values[-15:])
    taken_out = Seen.of(values, season, view, 14)
    assert np.array_equal(taken_out.context, season.without(values)[-14:])


def test_a_view_of_steps_that_are_all_the_same_shows_more():
    closed = random_series(60)
    closed[30:] = 7.0
    seen = Seen.of(closed, Season.none(1), View(20), WINDOW)
    assert np.array_equal(seen.context, closed)


def test_a_view_shows_more_where_one_of_two_variables_stays_the_same():
    both = np.hstack([random_series(60), random_series(60)])
    both[30:, 1] = 7.0
    seen = Seen.of(both, Season.none(2), View(20), WINDOW)
    assert np.array_equal(seen.context, both)


def test_a_trend_stays_in_where_nothing_would_be_left_without_it():
    line = np.arange(60.0)[:, None] + 5
    seen = Seen.of(line, Season.none(1), View(trend=True), WINDOW)
    assert np.array_equal(seen.context, line)
    assert seen.trend.slope == 0


def test_a_season_stays_in_where_nothing_would_be_left_without_it():
    pattern = np.resize([1.0, 5.0, 2.0, 8.0], 40)[:, None]
    season = Season.of(pattern, 4)
    assert np.ptp(season.without(pattern)) < 1e-9
    assert np.array_equal(Seen.of(pattern, season, View(), WINDOW).context, pattern)
