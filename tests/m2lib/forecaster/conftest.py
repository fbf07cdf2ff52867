"""Fixtures that several tests of the forecaster share."""

from types import SimpleNamespace

import numpy as np
import pytest

from m2lib.forecaster import Forecaster, rivals, rolling


@pytest.fixture
def untuned(tiny):
    """Return a forecaster without an adapter."""
    return Forecaster(tiny)


class Smoothing:
    """Stands in for statsforecast's AutoETS: it forecasts the season that it was told of."""

    def __init__(self, season_length):
        self.season = season_length

    def forecast(self, y, h):
        if len(y) < 12:
            raise Exception("series too short")
        return {"mean": np.full(h, float(self.season))}


@pytest.fixture
def installed(monkeypatch):
    """Let statsforecast be installed, with `Smoothing` in it."""

    def find_spec(name):
        return SimpleNamespace() if name == "statsforecast" else None

    monkeypatch.setattr(rolling, "find_spec", find_spec)
    monkeypatch.setattr(rivals, "import_module", lambda _: SimpleNamespace(AutoETS=Smoothing))
