"""The device and the dtype to compute with, and how a processor's speed is measured."""

import json
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch

from m2lib.model import devices
from m2lib.model.devices import (
    best_dtype,
    chosen_device,
    chosen_dtype,
    fastest_dtype,
    int8_is_best,
    product_rates,
)


@pytest.mark.parametrize(("cards", "best"), [(0, "cpu"), (4, "cuda")])
def test_the_best_device_is_never_mps(cards, best, monkeypatch):
    monkeypatch.delenv("M2_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert chosen_device() == best


@dataclass
class Processor:
    """A processor of known speed."""

    rates: dict[str, float]
    """FLOP/s by dtype."""
    measurements: int = 0
    """How often these have been measured."""

    def measure(self):
        """Stand in for `product_rates`."""
        self.measurements += 1
        return self.rates


@pytest.fixture
def processor(tmp_path, monkeypatch):
    """Stand in for this machine's processor by one that is fastest in int8 and slow in bfloat16.

    Its rates are stored in `tmp_path`, where there are none at first.
    """
    processor = Processor({"float32": 2e11, "bfloat16": 1e11, "int8": 3e11})
    monkeypatch.setattr(devices, "product_rates", processor.measure)
    monkeypatch.setenv("M2_CACHE", str(tmp_path))
    return processor


def test_a_cpu_takes_the_faster_of_the_two_dtypes_of_weights(processor):
    assert best_dtype("cpu") == "float32"


def test_mps_takes_float32_whatever_the_processors_rates_are(processor):
    processor.rates["bfloat16"] = 9e11

    assert best_dtype("mps") == "float32"
    assert processor.measurements == 0


@pytest.mark.parametrize(("has_instructions", "best"), [(True, "bfloat16"), (False, "float32")])
def test_a_card_takes_bfloat16_if_it_has_instructions_for_it(
    has_instructions, best, processor, monkeypatch
):
    """Every card can emulate it."""

    def is_supported(including_emulation=True):
        return has_instructions or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)

    assert best_dtype("cuda:1") == best
    assert processor.measurements == 0


def test_int8_is_best_on_a_cpu_where_it_is_the_fastest(processor):
    assert int8_is_best("cpu")


def test_int8_is_not_best_on_a_cpu_where_another_dtype_is_faster(processor):
    processor.rates["int8"] = 1.5e11  # between those of bfloat16 and float32

    assert not int8_is_best("cpu")


@pytest.mark.parametrize("device", ["mps", "cuda:0"])
def test_int8_is_best_on_no_other_device(device, processor):
    assert not int8_is_best(device)


def test_a_processor_is_measured_once(processor):
    best_dtype("cpu")
    best_dtype("cpu")
    int8_is_best("cpu")

    assert processor.measurements == 1


@pytest.mark.parametrize(
    "damaged", [pytest.param(b"{", id="no JSON"), b"[]", pytest.param(b"\xff", id="no text")]
)
def test_damaged_rates_are_measured_anew_once(damaged, processor, tmp_path):
    (tmp_path / "product_rates.json").write_bytes(damaged)

    assert best_dtype("cpu") == "float32"
    assert best_dtype("cpu") == "float32"
    assert processor.measurements == 1


def test_rates_of_an_older_version_are_measured_anew_and_those_of_other_machines_kept(
    processor, tmp_path
):
    best_dtype("cpu")
    file = tmp_path / "product_rates.json"
    (machine,) = json.loads(file.read_text("utf-8"))
    rates_by_machine = {
        machine: {"float32": 1, "bfloat16": 2},  # of a version that did not know int8
        "another machine": {"float32": 1.0, "bfloat16": 2.0, "int8": 0.5},
    }
    file.write_text(json.dumps(rates_by_machine), "utf-8")

    assert best_dtype("cpu") == "float32"
    assert best_dtype("cpu") == "float32"
    assert processor.measurements == 2
    assert json.loads(file.read_text("utf-8")).keys() == {machine, "another machine"}


def test_a_rate_is_measured_by_a_clock_that_ticks_every_15_milliseconds(monkeypatch):
    """Such is the clock of Windows."""
    fine_clock = time.process_time
    ticks_per_second = 64

    def coarse_clock():
        return math.floor(fine_clock() * ticks_per_second) / ticks_per_second

    monkeypatch.setattr(time, "process_time", coarse_clock)

    for rate in product_rates().values():
        assert 1e7 < rate < 1e15


def test_only_long_work_takes_what_is_fastest(processor, monkeypatch):
    monkeypatch.delenv("M2_DTYPE", raising=False)
    processor.rates["bfloat16"] = 2 * processor.rates["float32"]
    assert chosen_dtype() == "float32"
    assert fastest_dtype("cpu") == "bfloat16"

    monkeypatch.setenv("M2_DTYPE", "float32")
    assert fastest_dtype("cpu") == "float32"
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    assert chosen_dtype() == "bfloat16"
