"""Checkpoints of a training run: adapter, optimiser state and log in one file that is whole or not there."""

import hashlib
import json
import warnings
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load, save

from m2lib.files import InputError, write_atomic


def save_checkpoint(
    folder: Path, log: dict, config: dict, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> Path:
    """Write a file named after `log["step"]` and its content; the newest two are kept.

    Nothing else is needed: the order of the windows is a function of the step, and training draws no random numbers.
    """
    tensors = {}
    for name, parameter in parameters.items():
        tensors[f"{name}|value"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{name}|{key}"] = value.detach().cpu().contiguous()
    content = save(tensors, metadata={"log": json.dumps(log), "config": json.dumps(config)})
    path = folder / f"step-{log['step']:06d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    write_atomic(path, content)
    for old in sorted(folder.glob("step-*.safetensors"))[:-2]:
        old.unlink()
    return path


def load_checkpoint(
    folder: Path, config: dict, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict | None:
    """Restore the newest checkpoint that is whole and return its log; None where there is none.

    A corrupt or truncated one is named in a warning, renamed, and the one before it used. Raises InputError for a
    checkpoint of another configuration or model.
    """
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != path.stem.split("-")[-1]:
            path.rename(path.with_suffix(".damaged"))
            warnings.warn(f"checkpoint {path} is damaged; using the one before it", stacklevel=2)
            continue
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load(content)
        values = {key.removesuffix("|value"): tensors.pop(key) for key in list(tensors) if key.endswith("|value")}
        shapes = {name: value.shape for name, value in values.items()}
        fits = shapes == {name: parameter.shape for name, parameter in parameters.items()}
        if json.loads(metadata["config"]) != config or not fits:
            raise InputError(f"checkpoint {path} is another run's; delete {folder} to start anew")
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(values[name])
        for key, value in tensors.items():
            name, _, kind = key.partition("|")
            optimizer.state[parameters[name]][kind] = value.to("cpu" if kind == "step" else parameters[name].device)
        return json.loads(metadata["log"])
    return None
