"""Fixtures that several tests of the study share."""

import itertools
import signal
from contextlib import contextmanager
from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import pytest

from m2lib.accounting import Shape, sum_costs
from m2lib.model import backbone_config
from m2lib.training import loop
from study import runs
from study.costs import estimate, workload
from study.experiments import EXPERIMENTS

matplotlib.use("Agg")  # draws without a window


@pytest.fixture(autouse=True)
def close_figures():
    """Close what a test has drawn."""
    yield
    plt.close("all")


@pytest.fixture
def ax():
    """Return the axes of a new figure."""
    return plt.subplots()[1]


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


@pytest.fixture
def forecast_dtypes(note_calls):
    """Return a list to which runs add the dtype of each batch that they forecast."""
    return note_calls(runs, "forecast", lambda call: call.model.dtype)


@pytest.fixture
def interrupted_at(monkeypatch):
    """Return a context manager in which Ctrl-C is pressed instead of a call of a function.

    The function is given by its owner, a module or a class, and by its name. Its first call is
    interrupted, or the one whose number is given.
    """

    @contextmanager
    def interrupted(owner, name, call=1):
        real = getattr(owner, name)
        numbers = itertools.count(1)

        def function(*arguments, **options):
            if next(numbers) == call:
                raise KeyboardInterrupt
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, function)
            with pytest.raises(KeyboardInterrupt):
                yield

    return interrupted


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
