"""Checkpoints of a training run: adapter, optimiser state and log in one file that is whole or not
there.

A file is called step-000150.safetensors, with leading zeros, so that sorting the names sorts the
steps.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from m2lib.files import InputError, first_line, write_atomic


def save_checkpoint(
    folder: Path,
    log: dict,
    config: dict,
    parameters: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the checkpoint of the log's step, and then delete the one before it.

    log: the fields of a `TrainLog`. config: those of the `TrainConfig`. Nothing else is needed: the
    order of the windows is a function of the step, and training draws no random numbers.
    """
    tensors = {}  # for each parameter: |value, and AdamW's |step, |exp_avg and |exp_avg_sq
    for name, parameter in parameters.items():
        for kind, value in {"value": parameter.detach(), **optimizer.state[parameter]}.items():
            tensors[f"{name}|{kind}"] = value.cpu().contiguous()
    content = save(tensors, metadata={"log": json.dumps(log), "config": json.dumps(config)})
    write_atomic(folder / f"step-{log['step']:06d}.safetensors", content)
    for old in _files(folder)[:-1]:
        old.unlink()


def saved_step(folder: Path) -> int:
    """The step that a run would go on from, 0 where there is no checkpoint."""
    return max((int(path.stem.split("-")[1]) for path in _files(folder)), default=0)


def load_checkpoint(
    folder: Path,
    config: dict,
    parameters: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> dict | None:
    """Restore parameters and optimiser in place from the newest checkpoint; its log, None where
    there is none.

    Raises InputError for a checkpoint that is damaged, or of another configuration.
    """
    if not (files := _files(folder)):
        return None
    try:
        with safe_open(files[-1], "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        problem = f"checkpoint {files[-1]} is damaged ({first_line(error)})"
        raise InputError(f"{problem}; delete {folder} to start anew") from error
    # The settings are compared as a file gives them back: JSON has no tuples.
    if json.loads(metadata["config"]) != json.loads(json.dumps(config)):
        raise InputError(f"checkpoint {files[-1]} is another run's; delete {folder} to start anew")
    for key, value in tensors.items():
        name, _, kind = key.partition("|")
        if kind == "value":
            parameters[name].data.copy_(value)
        else:  # AdamW keeps its count of steps on the CPU, its running means where the parameter is
            place = "cpu" if kind == "step" else parameters[name].device
            optimizer.state[parameters[name]][kind] = value.to(
                place, copy=True
            )  # `value` is the file, mapped
    return json.loads(metadata["log"])


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.safetensors"))
