"""The device and dtype to compute with: those of the settings, else the defaults.

A model is loaded in float32 unless somebody asks for another dtype, so that a lecture's numbers are
the same on every processor. A recorded run, which may train for hours, asks for bfloat16 where the
device has instructions for it.
"""

import platform
from contextlib import suppress
from typing import Any

import torch

from m2lib import settings

DTYPES = ("float32", "bfloat16")
"""The dtypes that weights may have."""


def chosen_device() -> str:
    """Return `M2_DEVICE`, else a CUDA GPU if there is one, else the CPU.

    A Mac's `mps` has to be asked for, because it does not compute quite what the CPU does.
    """
    return settings.read("M2_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def chosen_dtype() -> str:
    """Return `M2_DTYPE`, else float32, in which all processors compute nearly the same."""
    return settings.read("M2_DTYPE") or "float32"


def fastest_dtype(device: str) -> str:
    """Return `M2_DTYPE`, else bfloat16 if a device such as `cuda:1` has instructions for it.

    Otherwise it is float32, because emulated products take several times as long. Of processors,
    those have the instructions that have AVX512-BF16; all with AMX are among them.
    """
    asked = settings.read("M2_DTYPE")
    if asked:
        return asked
    has_bfloat16 = False
    if device.startswith("cuda") and torch.cuda.is_available():
        # PyTorch asks the current device. One that is not there `load_backbone` refuses.
        with suppress(RuntimeError), torch.cuda.device(device):
            has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.startswith("cpu"):
        # `ATEN_CPU_CAPABILITY` may keep PyTorch from using what the processor has.
        uses_avx512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
        has_bfloat16 = uses_avx512 and _capabilities().get("avx512_bf16", False)
    return "bfloat16" if has_bfloat16 else "float32"


def check_computes(device: str | torch.device) -> None:
    """Compute something, because a card that is too old for this torch takes weights all the same.

    RuntimeError where the device cannot compute.
    """
    torch.zeros(1, device=device).add_(1)


def processor_name() -> str:
    """Return the processor's name as PyTorch knows it, else as Python does."""
    return _capabilities().get("cpu_name") or platform.processor() or platform.machine()


def _capabilities() -> dict[str, Any]:
    """Return what PyTorch knows of the processor; torch 2.6 has no function that tells."""
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
