"""The benchmark of counts that are mostly zero knows the truth, and judges forecasts by it.

What the page on tables tells of its record is checked in `tests/test_tables_page.py`.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import counts


@pytest.fixture
def knows_the_recipe(monkeypatch):
    """Return a stand-in for a forecaster, whose samples are drawn as the sales are."""
    monkeypatch.setattr(counts, "SAMPLES", 4000)

    def sample(values, horizon, sampling):
        samples = counts.sales(0.3, horizon, sampling.num_samples, seed=7)[..., None]
        forecast = SimpleNamespace(physical=samples, mean=samples.mean(axis=0))
        return [forecast for _ in values]

    return SimpleNamespace(sample=sample)


def test_sales_have_the_mean_and_the_share_of_days_that_are_said():
    sold = counts.sales(0.3, 100, 1000, seed=0)
    assert (sold > 0).mean() == pytest.approx(0.3, abs=0.01)
    assert sold.mean() == pytest.approx(0.3 * counts.MEAN, rel=0.02)


def test_a_forecaster_that_knows_the_recipe_is_found_right(knows_the_recipe):
    row = counts.measured(knows_the_recipe, 0.3, temperature=1.0)
    assert np.mean(row["mean"]) == pytest.approx(1, abs=0.02)
    assert row["days"] == pytest.approx(0.3, abs=0.01)
    # Counts jump, so the least number that holds nine of ten holds some more.
    assert 0.9 <= row["level"] < 0.95
    assert 0.9 <= row["total"] < 0.95


def test_the_table_has_a_row_for_each_measurement():
    row = {"share": 0.3, "temperature": 0.7, "mean": [0.4, 0.6]}
    row |= {"days": 0.13, "level": 0.78, "total": 0.6}
    *_, line = counts.table([row]).splitlines()
    assert line == "| 30% of its days | 0.7 | 50% (-77% to 177%) | 13% | 78% | 60% |"
