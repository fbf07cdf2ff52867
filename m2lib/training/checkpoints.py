"""Checkpoints of a training run: adapter, optimiser state and log in one file, written atomically.

A file is called step-000150.safetensors; the zeros only make a folder's listing read well.
"""

import json
from dataclasses import MISSING, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from m2lib.errors import InputError, first_line
from m2lib.files import write_atomic
from m2lib.training.config import TrainConfig


def save_checkpoint(
    folder: Path,
    log: dict,
    run: dict,
    parameters: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the checkpoint of the log's step, and then delete the one before it.

    `log` holds the fields of a `TrainLog`, `run` what tells this run from others: the fields of its
    `TrainConfig`, and in `windows` a hash of the first step's windows. Nothing else is needed,
    because the order of the windows is a function of the step and training draws no random numbers.
    """
    tensors = {}
    for name, parameter in parameters.items():
        tensors[f"{name}|value"] = parameter.detach().cpu().contiguous()
        for kind, value in optimizer.state[parameter].items():  # AdamW's step, exp_avg, exp_avg_sq
            tensors[f"{name}|{kind}"] = value.cpu().contiguous()
    content = save(tensors, metadata={"log": json.dumps(log), "config": json.dumps(run)})
    write_atomic(folder / f"step-{log['step']:06d}.safetensors", content)
    for old in _files(folder)[:-1]:
        old.unlink()


def saved_step(folder: Path) -> int:
    """Return the newest checkpoint's step, from which a run would go on; 0 without a checkpoint."""
    return max(map(_step_of, _files(folder)), default=0)


def load_checkpoint(
    folder: Path,
    run: dict,
    parameters: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> dict | None:
    """Restore parameters and optimiser in place from the newest checkpoint, and return its log.

    Without a checkpoint nothing changes, and the log is None. Raises InputError for a checkpoint
    that is damaged, that another `run` wrote (see `save_checkpoint`), or that has other parameters.
    """
    files = _files(folder)
    if not files:
        return None
    newest = files[-1]
    try:
        with safe_open(newest, "pt") as file:
            metadata = file.metadata()
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        problem = f"checkpoint {newest} is damaged ({first_line(error)})"
        raise InputError(f"{problem}; delete {folder} to start anew") from error
    differences = _differences(json.loads(metadata["config"]), run)
    if differences:
        raise InputError(
            f"checkpoint {newest} is another run's, which differs in {', '.join(differences)}; "
            f"delete {folder} to start anew, or train in another folder"
        )

    saved_shapes = {}
    for key, value in tensors.items():
        if key.endswith("|value"):
            saved_shapes[key.removesuffix("|value")] = value.shape
    if saved_shapes != {name: parameter.shape for name, parameter in parameters.items()}:
        raise InputError(
            f"checkpoint {newest} is of a model with other layers; "
            f"delete {folder} to start anew, or train in another folder"
        )

    for key, value in tensors.items():
        name, _, kind = key.partition("|")
        parameter = parameters[name]
        if kind == "value":
            parameter.data.copy_(value)
        else:
            # AdamW keeps its count of steps on the CPU, its running means beside the parameter. All
            # are copied, because `value` is mapped memory of a file that will be deleted.
            device = "cpu" if kind == "step" else parameter.device
            optimizer.state[parameter][kind] = value.to(device, copy=True)
    return json.loads(metadata["log"])


def _differences(old_run: dict, run: dict) -> list[str]:
    """Return the names in which a checkpoint's run and this one differ.

    A setting that the checkpoint lacks is newer than the checkpoint, and had the effect of its
    default. Where it lacks the hash of the windows, they are not compared.
    """
    for setting in fields(TrainConfig):
        if setting.default is not MISSING:
            old_run.setdefault(setting.name, setting.default)
    old_run = json.loads(json.dumps(old_run))  # JSON has no tuples, so that they compare as lists
    run = json.loads(json.dumps(run))
    old_run.setdefault("windows", run["windows"])
    return [name for name in old_run | run if old_run.get(name) != run.get(name)]


def _files(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, the newest last."""
    return sorted(folder.glob("step-*.safetensors"), key=_step_of)


def _step_of(file: Path) -> int:
    """Return the step of a checkpoint, by its name."""
    return int(file.stem.split("-")[1])
