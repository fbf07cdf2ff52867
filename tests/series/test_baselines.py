import numpy as np
import pytest

from m2lib.series.baselines import context_mean, last_value, log_var, nearest_analogue, period_of, seasonal_naive
from m2lib.series.codec import to_integers
from m2lib.series.data import split_ids
from m2lib.series.metrics import series_mae, summarise


def test_by_hand():
    contexts = np.array([[[1, 2], [3, 8]], [[0, 0], [5, 6]]])
    assert last_value(contexts, 2).tolist() == [[[3, 8]] * 2, [[5, 6]] * 2]
    assert context_mean(contexts, 1).tolist() == [[[2, 5]], [[2.5, 3]]]


@pytest.mark.parametrize(
    ("baseline", "mean", "median"),
    [(last_value, 199.7, 152.8), (context_mean, 142.7, 94.7), (nearest_analogue, 37.7, 23.2), (log_var, 40.6, 10.9)],
)
def test_on_the_test_series(data, baseline, mean, median):
    test = list(split_ids().test)
    integers = to_integers(data.trajectories[test], data.scales[test])
    summary = summarise(series_mae(baseline(integers[:, :80]), integers[:, 80:]))
    assert (round(summary.mean, 1), round(summary.median, 1)) == (mean, median)


def test_the_nearest_analogue_is_what_came_after_the_same_steps():
    period = np.array([[1, 9], [5, 5], [9, 1], [5, 4]])
    context = np.tile(period, (8, 1))[None]
    assert (nearest_analogue(context, 4, recent=4)[0] == period).all()
    with pytest.raises(ValueError, match="contexts of 10 steps hold no stretch of 6 with 5 after it"):
        nearest_analogue(context[:, :10], 5)


def test_log_var_continues_what_is_linear_in_logs():
    steps = np.arange(40)
    exact = np.expm1(np.stack([3 + np.sin(0.5 * steps), 3 + np.cos(0.5 * steps)], axis=1))
    assert log_var(exact[None, :30], 10)[0] == pytest.approx(exact[30:], rel=1e-6)
    explosive = np.expm1(0.1 * 1.2**steps)[:20, None].repeat(2, axis=1)
    assert log_var(explosive[None], 50).max() <= 10.01 * explosive.max() + 10


def test_the_seasonal_naive_repeats_the_last_period():
    period = np.array([[100, 900], [500, 500], [900, 100], [500, 400], [300, 300]])
    context = np.tile(period, (8, 1))[None]
    assert [period_of(values) for values in context[0].T] == [5, 5]
    assert (seasonal_naive(context, 10)[0] == np.tile(period, (2, 1))).all()
    rising = np.stack([np.arange(40), np.full(40, 7)], axis=1)[None]
    assert [period_of(values) for values in rising[0].T] == [None, None]
    assert seasonal_naive(rising, 3).tolist() == [[[39, 7]] * 3]


def test_the_period_is_that_of_the_cycle():
    time = np.arange(80)
    for length in (8, 13, 27, 39):
        assert period_of(500 * (1.2 + np.sin(2 * np.pi * time / length))) == pytest.approx(length, abs=1)
