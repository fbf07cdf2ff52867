"""Checkpoints of a training run: adapter, optimiser state and log in one file that is whole or not there.

A file is called step-000150-0123456789abcdef.safetensors: the step with leading zeros, so that sorting the names sorts
the steps, and the start of its content's sha256. A file whose content no longer has that hash was damaged on the disk.
"""

import hashlib
import json
import warnings
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load, save

from m2lib.files import InputError, write_atomic
from m2lib.model import TARGETS

# Settings that older checkpoints do not name, and what they were trained with.
_ADDED = {"targets": list(TARGETS)}


def save_checkpoint(
    folder: Path, log: dict, config: dict, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> Path:
    """Write the checkpoint of the log's step, and keep the newest two.

    log: the fields of a `TrainLog`. config: those of the `TrainConfig`. Nothing else is needed: the order of the
    windows is a function of the step, and training draws no random numbers.
    """
    tensors = {}  # for each parameter: |value, and AdamW's |step, |exp_avg and |exp_avg_sq
    for name, parameter in parameters.items():
        for kind, value in {"value": parameter.detach(), **optimizer.state[parameter]}.items():
            tensors[f"{name}|{kind}"] = value.cpu().contiguous()
    content = save(tensors, metadata={"log": json.dumps(log), "config": json.dumps(config)})
    path = folder / f"step-{log['step']:06d}-{_hash(content)}.safetensors"
    write_atomic(path, content)
    # After the write, never before: there is always a whole one. The second newest is for when the newest is damaged.
    for old in _files(folder)[:-2]:
        old.unlink()
    return path


def saved_step(folder: Path) -> int:
    """The step that a run would go on from, of the newest checkpoint that is whole; 0 where there is none."""
    return next((int(path.name.split("-")[1]) for path in reversed(_files(folder)) if _is_whole(path)), 0)


def load_checkpoint(
    folder: Path, config: dict, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict | None:
    """Restore parameters and optimiser in place from the newest whole checkpoint; its log, None where there is none.

    A damaged one is named in a warning, renamed, and the one before it used. Raises InputError for a checkpoint of
    another configuration or model; nothing has been restored then.
    """
    wanted = _ADDED | json.loads(json.dumps(config))  # as a file gives it back: JSON has no tuples
    for path in reversed(_files(folder)):
        if not _is_whole(path):
            path.rename(path.with_suffix(".damaged"))
            warnings.warn(f"checkpoint {path} is damaged; using the one before it", stacklevel=2)
            continue
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load(path.read_bytes())
        shapes = {name: tensor.shape for name, tensor in tensors.items() if name.endswith("|value")}
        fits = shapes == {f"{name}|value": parameter.shape for name, parameter in parameters.items()}
        if _ADDED | json.loads(metadata["config"]) != wanted or not fits:
            raise InputError(f"checkpoint {path} is another run's; delete {folder} to start anew")
        for key, value in tensors.items():
            name, _, kind = key.partition("|")
            if kind == "value":
                parameters[name].data.copy_(value)
            else:  # AdamW keeps its count of steps on the CPU, its running means where the parameter is
                place = "cpu" if kind == "step" else parameters[name].device
                optimizer.state[parameters[name]][kind] = value.to(place)
        return json.loads(metadata["log"])
    return None


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))


def _is_whole(path: Path) -> bool:
    return path.stem.endswith(f"-{_hash(path.read_bytes())}")


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
