import numpy as np
import pytest

from m2lib.files import InputError
from m2lib.series.metrics import best_and_worst, summarise
from m2lib.study.comparisons import published_maes


def test_published_numbers():
    baseline = published_maes("baseline")
    best, worst = best_and_worst(baseline, worst=20)
    assert (round(np.mean(list(baseline.values())), 1), round(np.median(list(baseline.values())), 1)) == (123.5, 50.7)
    assert round(summarise(baseline[i] for i in best).mean, 1) == 28.3
    assert round(summarise(baseline[i] for i in worst).mean, 1) == 266.2
    assert list(baseline) == sorted(baseline)
    final = summarise(published_maes("final").values())
    assert (round(final.mean, 1), round(final.median, 1)) == (37.6, 21.5)
    with pytest.raises(InputError, match="no experiment 'nope'; it holds baseline, context/128"):
        published_maes("nope")
