"""Synthetic series that are shown to the model as a forecaster shows a reader's series."""

import numpy as np
import pytest

from m2lib.forecaster import adapter_folder
from m2lib.forecaster.adapters import GENERAL, read_views
from m2lib.forecaster.views import Seen
from m2lib.model import PAD_ID, ids_to_text
from m2lib.series import Scaling, Season
from study.synthetic import synthetic_windows
from study.synthetic.shown import LEAST_PAST, OF_SMOOTHING, SEASONS, VIEWS, Showing, smoothing


def test_the_views_are_those_of_general():
    assert read_views(adapter_folder(GENERAL)) == VIEWS


def test_series_of_exponential_smoothing():
    rng = np.random.default_rng(0)
    series = [smoothing(rng, 240, 12) for _ in range(200)]
    assert all(np.isfinite(values).all() and np.ptp(values) > 0 for values in series)
    assert 0.02 < np.mean([values.min() < 0 for values in series]) < 0.2
    # Without its trend, a series is more like itself a whole season ago than half a season ago.
    whole, half = ([_likeness(values, lag) for values in series] for lag in (12, 6))
    assert np.mean(np.array(whole) > half) > 0.9
    again = [smoothing(np.random.default_rng(1), 50) for _ in range(2)]
    assert np.array_equal(*again)


def _likeness(values, lag):
    changes = np.diff(values)
    return np.corrcoef(changes[lag:], changes[:-lag])[0, 1]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("season", [1, 12])
def test_what_was_taken_out_of_the_past_is_taken_out_of_the_future(view, season):
    shown = Showing(view, season, past=100, ahead=10)
    for seed in range(20):
        series = shown.draw_series(np.random.default_rng(seed), 256)
        rng = np.random.default_rng(seed)
        if rng.random() >= OF_SMOOTHING:
            continue  # of another family
        values = smoothing(rng, 110, season)[:, None]
        seen = Seen.of(values[:100], Season.of(values[:100], season), view, 246)
        assert np.array_equal(series[:-10], seen.context)
        # A scaling that changes nothing shows what is put back.
        same = Scaling(scale=np.ones((1, 1)), offset=np.zeros((1, 1)), unit=1)
        assert seen.back(same, 10).physical(series[-10:]) == pytest.approx(values[100:])


def test_ways_to_show_a_series():
    rng = np.random.default_rng(0)
    ways = [Showing.draw(rng) for _ in range(300)]
    assert {way.view for way in ways} == set(VIEWS)
    assert {way.season for way in ways} == set(SEASONS)
    assert all(way.past >= max(LEAST_PAST, 3 * way.season) for way in ways)


def test_a_share_of_the_steps_holds_series_as_they_are_shown():
    usual, all_shown = (synthetic_windows(1024, 0, shown_share=share) for share in (0, 1))
    assert np.array_equal(usual(5), synthetic_windows(1024, 0)(5))
    steps = set()
    for step in range(30):
        batch = all_shown(step)
        assert np.array_equal(batch, all_shown(step))
        assert batch.size <= 1024
        texts = [ids_to_text(row[row != PAD_ID]) for row in batch]
        assert not any("," in text for text in texts)  # of one variable
        steps |= {text.count(";") for text in texts}
    assert min(steps) < 80 < max(steps)
