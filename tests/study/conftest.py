"""Fixtures that several tests of the study share."""

import signal
from contextlib import contextmanager
from dataclasses import replace

import pytest

from m2lib.accounting import Shape, sum_costs
from m2lib.model import backbone_config
from m2lib.training import loop
from study import runs
from study.costs import estimate, workload
from study.experiments import EXPERIMENTS


@pytest.fixture
def most_flops():
    """Return a function that gives what an experiment may cost at most on the tiny model.

    The costs are FLOPs by convention, those of training, evaluations and forecasts together. Of an
    experiment that chooses its series, `num_forecasts` says how many it chooses.
    """
    tiny = Shape.of(backbone_config("tiny"))

    def most_flops_of(name, profile, num_forecasts=None):
        work = workload(EXPERIMENTS[name], profile)
        if num_forecasts is not None:
            work = replace(work, num_forecasts=num_forecasts)
        parts = estimate(work, tiny)
        return sum_costs(*parts.values())

    return most_flops_of


@pytest.fixture(scope="session")
def stored_below():
    """Return a context manager that does for a folder what `store` does for the folder of a test.

    It is for runs that the tests of a module share.
    """

    @contextmanager
    def surroundings(folder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("M2_RESULTS", str(folder / "results"))
            patch.setenv("M2_OUT", str(folder / "build"))
            patch.setenv("M2_DTYPE", "float32")
            patch.setenv("M2_DEVICE", "cpu")
            yield patch

    return surroundings


@pytest.fixture
def forecast_dtypes(monkeypatch):
    """Return a set that fills with the dtypes in which runs forecast."""
    dtypes = set()
    real = runs.forecast

    def forecast(backbone, *arguments, **options):
        dtypes.add(backbone.dtype)
        return real(backbone, *arguments, **options)

    monkeypatch.setattr(runs, "forecast", forecast)
    return dtypes


@pytest.fixture
def press_ctrl_c(monkeypatch):
    """Return a function that arranges for Ctrl-C to be pressed once, during a training step.

    Steps count from 0. A training ends the step in which it is interrupted, and saves it.
    """

    def arrange(during_step):
        real = loop.batch_of

        def batch_of(step, *arguments):
            if step == during_step:
                monkeypatch.setattr(loop, "batch_of", real)
                signal.raise_signal(signal.SIGINT)
            return real(step, *arguments)

        monkeypatch.setattr(loop, "batch_of", batch_of)

    return arrange
