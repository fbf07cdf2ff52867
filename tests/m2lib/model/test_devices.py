"""The device and the dtype to compute with."""

from contextlib import nullcontext

import pytest
import torch

from m2lib.model.devices import chosen_device, chosen_dtype, fastest_dtype


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """Leave the choice to the library."""
    monkeypatch.delenv("M2_DEVICE", raising=False)
    monkeypatch.delenv("M2_DTYPE", raising=False)


@pytest.fixture
def processor_with(monkeypatch):
    """Return a function that stands in for a processor, and for what PyTorch uses of it."""

    def stand_in(instructions, used):
        known = dict.fromkeys(instructions, True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)

    return stand_in


@pytest.mark.parametrize(("cards", "best"), [(0, "cpu"), (4, "cuda")])
def test_the_best_device_is_never_mps(cards, best, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)

    assert chosen_device() == best


@pytest.mark.parametrize(
    ("instructions", "used", "fastest"),
    [
        pytest.param(["avx2", "avx512_bf16"], "AVX512", "bfloat16", id="instructions for it"),
        pytest.param(["avx2", "avx512_f"], "AVX512", "float32", id="no such instructions"),
        # As with `ATEN_CPU_CAPABILITY=avx2`.
        pytest.param(["avx2", "avx512_bf16"], "AVX2", "float32", id="instructions left unused"),
    ],
)
def test_a_processor_takes_bfloat16_if_it_has_instructions_for_it(
    instructions, used, fastest, processor_with
):
    processor_with(instructions, used)

    assert fastest_dtype("cpu") == fastest


def test_mps_takes_float32_whatever_the_processor_has(processor_with):
    processor_with(["avx512_bf16"], "AVX512")

    assert fastest_dtype("mps") == "float32"


@pytest.mark.parametrize(("has_instructions", "best"), [(True, "bfloat16"), (False, "float32")])
def test_a_card_takes_bfloat16_if_it_has_instructions_for_it(has_instructions, best, monkeypatch):
    """Every card can emulate it."""

    def is_supported(including_emulation=True):
        return has_instructions or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)

    assert fastest_dtype("cuda:1") == best


def test_only_long_work_takes_what_is_fastest_unless_a_dtype_is_named(processor_with, monkeypatch):
    processor_with(["avx512_bf16"], "AVX512")
    assert chosen_dtype() == "float32"
    assert fastest_dtype("cpu") == "bfloat16"

    monkeypatch.setenv("M2_DTYPE", "float32")
    assert fastest_dtype("cpu") == "float32"
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    assert chosen_dtype() == "bfloat16"
