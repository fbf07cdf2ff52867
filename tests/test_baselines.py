import numpy as np
import pytest

from m2lib.baselines import context_mean, last_value
from m2lib.codec import to_integers
from m2lib.data import split_ids
from m2lib.metrics import series_mae, summarise


def test_by_hand():
    contexts = np.array([[[1, 2], [3, 8]], [[0, 0], [5, 6]]])
    assert last_value(contexts, 2).tolist() == [[[3, 8]] * 2, [[5, 6]] * 2]
    assert context_mean(contexts, 1).tolist() == [[[2, 5]], [[2.5, 3]]]


@pytest.mark.parametrize(("baseline", "mean", "median"), [(last_value, 199.7, 152.8), (context_mean, 142.7, 94.7)])
def test_on_the_test_series(data, baseline, mean, median):
    test = list(split_ids().test)
    integers = to_integers(data.trajectories[test], data.scales[test])
    summary = summarise(series_mae(baseline(integers[:, :80]), integers[:, 80:]))
    assert (round(summary.mean, 1), round(summary.median, 1)) == (mean, median)
