"""Where a run ran: device, commit and versions, as its record keeps them."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from m2lib import model
from m2lib.files import IN_CHECKOUT, ROOT
from m2lib.study.profiles import Profile

if TYPE_CHECKING:
    import torch


def provenance(device: "torch.device") -> dict[str, Any]:
    """The fields of a `Record` that say where a run ran: device, commit, versions."""
    return {"device": describe_device(device), "commit": git_commit(), "versions": versions()}


def describe_device(device: "torch.device") -> str:
    """For example `cuda: NVIDIA H100 80GB HBM3`, or `cpu: AMD EPYC, 2 threads`."""
    import torch

    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {model.processor_name()}, {torch.get_num_threads()} threads"


def git_commit() -> str | None:
    """The checkout's commit, `+changes` appended where tracked files differ from it; None outside a checkout in git."""
    if not IN_CHECKOUT:  # installed, perhaps below another project, whose commit it would be
        return None
    try:
        git = ["git", "-C", str(ROOT)]
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True).stdout.decode().strip()
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True).returncode
        return commit + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def versions() -> dict[str, str]:
    """Python and the libraries that results depend on."""
    found = {"python": platform.python_version()}
    for package in ("m2lib", "torch", "transformers", "numpy", "scipy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def setting(profile: Profile) -> str:
    """One line for the top of a notebook: profile, backbone, the dtype that is used here, and versions."""
    found = ", ".join(f"{package} {number}" for package, number in versions().items())
    dtype = model.chosen_dtype(model.chosen_device())
    return f"profile {profile.name}, backbone {profile.backbone} in {dtype}; {found}"
