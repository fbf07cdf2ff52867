"""Errors of forecasts of real tables, by hand. Both benchmarks of tables take them from here."""

import numpy as np
import pytest

from benchmarks.scores import rounded, score

CONTEXT = np.arange(38.0)
"""Each value is 2 above the one a season of two before it, so errors count in units of 2."""
TRUTH = np.array([38.0, 39.0])


def test_a_number_is_kept_to_five_digits():
    assert rounded(np.array([123456.7, 0.00123456])) == [123460, 0.0012346]


def test_a_score_by_hand():
    deciles = np.array([38, 41]) + np.arange(-4, 5)[:, None]  # the medians are off by 0 and 2

    row = score([(0, CONTEXT, TRUTH)], 2, [deciles])

    assert row["series"] == [0]
    assert row["mase"] == [(0 + 2) / 2 / 2]
    assert row["held"] == [1.0]  # from 34 to 42, and from 37 to 45
    levels = np.arange(1, 10)[:, None] / 10
    errors = TRUTH - deciles
    loss = np.maximum(levels * errors, (levels - 1) * errors).mean()
    assert row["loss"] == pytest.approx([2 * loss / 2], rel=1e-4)  # twice the loss, in units of 2


def test_a_value_on_the_edge_of_the_band_is_held():
    exact = np.tile(TRUTH, (9, 1))  # a band without a width
    assert score([(0, CONTEXT, TRUTH)], 2, [exact])["held"] == [1.0]


def test_two_variables_are_scored_each_by_its_own_unit():
    steps = np.arange(5.0)
    context = np.stack([steps, 10 * steps], axis=1)  # one grows by 1, the other by 10
    truth = np.array([[5.0, 50.0], [6.0, 60.0]])
    off = np.array([1.0, 20.0])  # by one unit, and by two
    deciles = np.tile(truth + off, (9, 1, 1))

    row = score([(7, context, truth)], 1, [deciles])

    assert row == {"series": [7], "mase": [1.5], "loss": [1.5], "held": [0.0]}
