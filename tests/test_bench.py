"""The benchmark's parts, on the smallest model; `make bench` runs it whole."""

import json

import pytest
import torch

from benchmarks import bench, measure
from m2lib.accounting.executed import executed_pass
from m2lib.accounting.flops import forecast_flops
from m2lib.accounting.shape import Shape, total

LIMITS = {"flops": 1e11, "bytes": 1e10}


@pytest.fixture(autouse=True)
def cpu(monkeypatch):
    monkeypatch.setenv("M2_DEVICE", "cpu")


def test_tables_compare_with_the_last_row(monkeypatch):
    monkeypatch.setattr("benchmarks.peers.NEW_TOKENS", 5)
    rows = bench.decode_rows("tiny", "float32", 2, LIMITS)
    lines = bench.table(rows, "2 series").splitlines()
    assert [line.count("|") for line in lines] == [5] * (2 + len(rows))
    assert lines[-1].startswith("| m2lib, float32")
    assert "1 series measured" in lines[2]
    assert rows[-1]["same_as_reference"].startswith("2 of 2 series in float32")
    json.dumps(rows)


def test_training_steps_are_timed_and_follow_the_plain_loop():
    took, losses = bench.our_steps("tiny", "float32", 4)
    plain_took, plain = bench.plain_steps(
        bench.load("tiny", "float32")[0], bench.training_windows(), bench.train_config(4)
    )
    assert took > 0 < plain_took
    assert losses == pytest.approx(plain, abs=1e-4)


def test_limit_is_the_sum_of_its_parts(tiny):
    shape = Shape.of(tiny.model.config)
    one = total(executed_pass(shape, 1, 0, 0, head_tokens=1))
    kept = 2 * shape.layers * shape.kv_width * 4
    # prefills of 30 and 40; a step of both rows at 31 and 41 keys, one of the second alone at 42
    prefill = sum(total(forecast_flops(shape, n, 1, convention="executed")) for n in (30, 40))
    expected = prefill / 1e11 + (31 + 41 + 42) * kept / 1e10
    expected += max(2 * one / 1e11, one * 2 / 1e10) + max(one / 1e11, one * 2 / 1e10)
    assert bench.decode_limit(shape, [30, 40], [2, 3], tiny.model, LIMITS) == pytest.approx(expected)


def test_samples_that_share_are_measured_beside_copies():
    rows = bench.sharing("tiny", "float32", samples=2)
    assert rows["copied"]["GB"] > rows["shared"]["GB"] > 0 < rows["shared"]["seconds"]
    table = bench.sharing_table({"backbone": "tiny", "dtype": "float32", "sharing": rows})
    assert [line.count("|") for line in table.splitlines()] == [4] * 4


def test_machine_rates_are_plausible(tiny):
    device = torch.device("cpu")
    assert 1e8 < measure.product_rate(Shape.of(tiny.model.config), torch.float32, device, 64) < 1e14
    assert measure.seconds(lambda: sum(range(1000)), device, repeats=2) > 0


def test_peak_memory_is_the_childs_own():
    held = torch.ones(2**28)  # a gigabyte of the parent's does not count
    assert 0.05 < measure.peak_memory(sum, [1, 2]) < 0.9
    assert held.sum() == 2**28
    assert 0.55 < measure.peak_memory(torch.ones, 2**27) < 1.4  # half a gigabyte, held for an instant
