"""Synthetic series that are shown to the model as a forecaster shows a reader's series."""

import numpy as np
import pytest

from m2lib.forecaster import adapter_folder
from m2lib.forecaster.adapters import GENERAL_FOLDER, read_views
from m2lib.forecaster.views import Seen
from m2lib.model import PAD_ID, ids_to_text
from m2lib.series import Scaling, Season
from study.synthetic import synthetic_windows
from study.synthetic.shown import LEAST_PAST, OF_SMOOTHING, SEASONS, VIEWS, Showing, smoothing


def test_the_views_are_those_of_general():
    assert read_views(adapter_folder(GENERAL_FOLDER)) == VIEWS


@pytest.fixture(scope="module")
def smoothed():
    """Return 200 series of exponential smoothing with a season of 12 steps."""
    rng = np.random.default_rng(0)
    return [smoothing(rng, 240, 12) for _ in range(200)]


def test_series_of_exponential_smoothing_are_finite_and_move(smoothed):
    for values in smoothed:
        assert np.isfinite(values).all()
        assert np.ptp(values) > 0


def test_a_few_series_of_exponential_smoothing_fall_below_zero(smoothed):
    falls_below = [values.min() < 0 for values in smoothed]
    assert 0.02 < np.mean(falls_below) < 0.2


def test_series_of_exponential_smoothing_keep_their_season(smoothed):
    """Their changes are more like those of a whole season ago than like those of half of one."""

    def likeness(values, lag):
        """Return the correlation of changes with those of `lag` steps ago."""
        changes = np.diff(values)  # without the trend, which would make all steps alike
        return np.corrcoef(changes[lag:], changes[:-lag])[0, 1]

    has_season = [likeness(values, 12) > likeness(values, 6) for values in smoothed]
    assert np.mean(has_season) > 0.9


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("season", [1, 12])
def test_what_was_taken_out_of_the_past_is_taken_out_of_the_future(view, season):
    past, ahead = 100, 10
    showing = Showing(view, season, past, ahead)
    # A scaling that changes nothing, so that `Seen.back` gives what is put back, and no more.
    unscaled = Scaling(scale=np.ones((1, 1)), offset=np.zeros((1, 1)), unit=1)
    for seed in range(20):
        shown = showing.draw_series(np.random.default_rng(seed), 256)

        # The same series, drawn as `draw_series` draws it.
        rng = np.random.default_rng(seed)
        if rng.random() >= OF_SMOOTHING:
            continue  # it is of another family
        values = smoothing(rng, past + ahead, season)[:, None]
        known = values[:past]
        seen = Seen.of(known, Season.of(known, season), view, 256 - ahead)

        assert np.array_equal(shown[:-ahead], seen.context)
        put_back = seen.back(unscaled, ahead).physical(shown[-ahead:])
        assert put_back == pytest.approx(values[past:])


def test_every_view_and_season_is_drawn_and_the_past_is_long_enough():
    rng = np.random.default_rng(0)
    showings = [Showing.draw(rng) for _ in range(300)]
    assert {showing.view for showing in showings} == set(VIEWS)
    assert {showing.season for showing in showings} == set(SEASONS)
    for showing in showings:
        assert showing.past >= max(LEAST_PAST, 3 * showing.season)


def test_seeds_keep_their_shown_series():
    """Otherwise the recorded runs could not be made again, and their plans do not tell."""
    steps, size = 0, 0.0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        series = Showing.draw(rng).draw_series(rng, 256)
        steps += len(series)
        size += np.abs(series).sum() / np.abs(series).max()
    assert steps == 1604
    assert size == pytest.approx(927.006, rel=1e-5)


def test_steps_of_shown_series_are_functions_of_the_step_and_have_room():
    all_shown = synthetic_windows(1024, 0, shown_share=1)
    lengths = set()
    for step in range(30):
        batch = all_shown(step)
        assert np.array_equal(batch, all_shown(step))
        assert batch.size <= 1024
        for row in batch:
            text = ids_to_text(row[row != PAD_ID])
            assert "," not in text  # it is of one variable
            lengths.add(text.count(";"))
    # Short and long ones: views show 60 steps or all that have room, and up to 30 ahead.
    assert min(lengths) < 80 < max(lengths)
