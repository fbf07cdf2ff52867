"""The seconds that the forecasts of a table take."""

import numpy as np
import pytest

from benchmarks import table


def test_what_takes_long_is_measured_on_few_series_and_scaled(monkeypatch):
    forecast_counts = []
    monkeypatch.setitem(
        table.FORECASTERS, "slow", lambda: lambda series: forecast_counts.append(len(series))
    )
    monkeypatch.setitem(table.MOST, "slow", 10)

    seconds = table.timed("slow")

    assert forecast_counts == [1, 1, 10]  # the first warms up
    assert seconds[100] == pytest.approx(10 * seconds[10])


def test_the_small_network_forecasts_the_table():
    series = table.table_of(3)
    quantiles = table.FORECASTERS["the small network"]()(series)
    assert quantiles.shape == (3, 9, table.HORIZON, 1)
    assert np.isfinite(quantiles).all()
    assert {values.shape for values in series} == {(table.STEPS, 1)}
