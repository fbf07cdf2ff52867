"""Seconds, rates and peak memory are measured as they should be."""

from types import SimpleNamespace

import pytest
import torch

from benchmarks import measure
from m2lib.accounting.shape import Shape

CPU = torch.device("cpu")


def test_the_rate_of_products_is_plausible(tiny):
    shape = Shape.of(tiny.model.config)
    rate = measure.product_rate(shape, torch.float32, CPU, rows=64)
    assert 1e8 < rate < 1e14


def test_the_least_of_several_times_counts(monkeypatch):
    clock = iter([0.0, 3.0, 3.0, 4.0, 4.0, 9.0])  # begin and end of each
    monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
    assert measure.seconds(lambda: None, CPU, repeats=3) == 1.0


@pytest.mark.parametrize(("device", "runs"), [("cpu", 1), ("cuda", 2), ("mps", 2)])
def test_a_card_is_always_warmed_up(device, runs, monkeypatch):
    monkeypatch.setattr(measure, "_finish", lambda _: None)
    done = []

    measure.seconds(lambda: done.append(1), torch.device(device), warm=False)

    assert len(done) == runs


@pytest.fixture
def gigabyte_of_the_parent():
    """Hold a gigabyte in this process, which must not count as memory of its child."""
    held = torch.ones(2**28)
    yield
    assert held.sum() == 2**28


def test_the_memory_of_the_parent_does_not_count(gigabyte_of_the_parent):
    # The child itself holds little but Python and torch.
    assert 0.05 < measure.peak_memory(sum, [1, 2]) < 0.9


def test_the_memory_of_the_second_card_counts(monkeypatch):
    peaks = [0, 3 * 10**9]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda card=0: peaks[card])
    on_card = SimpleNamespace(value=0)

    measure._remember_peak(on_card, print, ())

    assert on_card.value == 3 * 10**9


def test_memory_that_the_child_holds_for_an_instant_counts(gigabyte_of_the_parent):
    half_a_gigabyte = 2**27  # numbers of four bytes
    assert 0.55 < measure.peak_memory(torch.ones, half_a_gigabyte) < 1.4
