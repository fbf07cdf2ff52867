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


def save_checkpoint(
    folder: Path, log: dict, config: dict, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> Path:
    """Write a file named after the log's step and its content; the newest two are kept.

    Nothing else is needed: the order of the windows is a function of the step, and training draws no random numbers.

    Parameters
    ----------
    folder : Path
        Of this run's checkpoints; made where it is not there.
    log : dict
        The fields of a `TrainLog`, ready for JSON.
    config : dict
        The fields of the `TrainConfig`; a checkpoint is loaded under the same ones only.
    parameters : dict of str to Tensor
        What trains, by name.
    optimizer : torch.optim.Optimizer
        Its state of these parameters is written, on whatever device they are.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        Where the folder cannot be written to.
    """
    tensors = {}  # for each parameter: |value, and AdamW's |step, |exp_avg and |exp_avg_sq
    for name, parameter in parameters.items():
        tensors[f"{name}|value"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{name}|{key}"] = value.detach().cpu().contiguous()
    content = save(tensors, metadata={"log": json.dumps(log), "config": json.dumps(config)})
    # The hash is of the bytes as they are meant to be, taken before they go to the disk: `load_checkpoint` compares.
    path = folder / f"step-{log['step']:06d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    write_atomic(path, content)
    # After the write, never before: there is always a whole one. The second newest is for when the newest is damaged.
    for old in sorted(folder.glob("step-*.safetensors"))[:-2]:
        old.unlink()
    return path


def load_checkpoint(
    folder: Path, config: dict, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict | None:
    """Restore the newest checkpoint that is whole.

    A corrupt or truncated one is named in a warning, renamed, and the one before it used.

    Parameters
    ----------
    folder : Path
        Of this run's checkpoints; it need not be there.
    config : dict
        The fields of the `TrainConfig` that the run goes on under.
    parameters : dict of str to Tensor
        What trains, by name; gets the checkpoint's values, in place.
    optimizer : torch.optim.Optimizer
        Gets the checkpoint's state, in place.

    Returns
    -------
    dict or None
        The log as it was saved; None where there is no checkpoint.

    Raises
    ------
    InputError
        For a checkpoint of another configuration or model; nothing has been restored then.
    """
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest()[:16] != path.stem.split("-")[-1]:
            path.rename(path.with_suffix(".damaged"))  # it can be looked at, and `step-*.safetensors` passes it over
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
        # What is left is AdamW's. It keeps its count of steps on the CPU, its running means where the parameter is.
        for key, value in tensors.items():
            name, _, kind = key.partition("|")
            optimizer.state[parameters[name]][kind] = value.to("cpu" if kind == "step" else parameters[name].device)
        return json.loads(metadata["log"])
    return None
