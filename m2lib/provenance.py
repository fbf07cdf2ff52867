"""Where a result was computed: device, commit of the code, and versions of the libraries."""

import platform
import subprocess
from importlib.metadata import version
from typing import Any

import torch

from m2lib.files import ROOT
from m2lib.model import processor_name


def provenance(device: torch.device) -> dict[str, Any]:
    """Return where a computation runs: `device`, `commit` and `versions`, as records keep them.

    The device is for example `cuda: NVIDIA H100 80GB HBM3`, or `cpu: AMD EPYC, 2 threads`.
    """
    processor = f"{processor_name()}, {torch.get_num_threads()} threads"
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor
    return {
        "device": f"{device.type}: {device_name}",
        "commit": git_commit(),
        "versions": versions(),
    }


def git_commit() -> str | None:
    """Return the checkout's commit, with `+changes` appended where tracked files differ from it.

    It is None outside a checkout in git, or where git fails.
    """
    # Installed, m2lib may lie below another project, whose commit git would describe.
    if not (ROOT / ".git").exists():
        return None
    # --exclude=* lets no tag describe the commit, so its whole hash does.
    describe = [
        "git",
        "-C",
        str(ROOT),
        "describe",
        "--always",
        "--abbrev=40",
        "--exclude=*",
        "--dirty=+changes",
    ]
    try:
        process = subprocess.run(describe, capture_output=True, check=True, encoding="utf-8")
        return process.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on, by name."""
    packages = ("m2lib", "torch", "transformers", "numpy", "scipy")
    return {"python": platform.python_version()} | {
        package: version(package) for package in packages
    }
