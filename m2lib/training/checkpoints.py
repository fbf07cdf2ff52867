"""Checkpoints of a training run: adapter, optimiser state and log in one file that is whole or not there.

A file is called step-000150-0123456789abcdef.safetensors: the step with leading zeros, so that sorting the names sorts
the steps, and the start of its content's sha256. A file whose content no longer has that hash was damaged on the disk.
One that has the hash and is still not what `save_checkpoint` writes counts as damaged too.
"""

import hashlib
import json
import math
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from safetensors import safe_open
from safetensors.torch import load, save
from typing_extensions import TypedDict

from m2lib.accounting import TARGETS
from m2lib.files import InputError, write_atomic

_NAME = re.compile(r"step-(\d+)-([0-9a-f]{16})\.safetensors")
_Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@with_config(ConfigDict(strict=True))
class _Evaluation(TypedDict):
    """What of an evaluation must be there; the rest is the caller's."""

    step: int


@with_config(ConfigDict(strict=True, extra="forbid"))
class _Log(TypedDict):
    """The fields of a `TrainLog`."""

    step: int
    losses: list[Annotated[float, Field(allow_inf_nan=False)]]
    evaluations: list[_Evaluation]
    seconds: _Seconds
    evaluation_seconds: _Seconds


_LOG, _CONFIG = TypeAdapter(_Log), TypeAdapter(dict[str, Any])
# Settings that older checkpoints do not name, and what they were trained with.
_ADDED = {"targets": list(TARGETS)}


@dataclass(frozen=True)
class _Checkpoint:
    """What a file holds."""

    log: dict
    config: dict
    tensors: dict[str, dict[str, torch.Tensor]]
    """For each parameter by name: its `value`, and AdamW's `step`, `exp_avg` and `exp_avg_sq`."""


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
    tensors = {}  # for each parameter: |value, and AdamW's |step, |exp_avg and |exp_avg_sq, as `_Checkpoint` has them
    for name, parameter in parameters.items():
        tensors[f"{name}|value"] = parameter.detach().cpu().contiguous()
        for key, value in optimizer.state[parameter].items():
            tensors[f"{name}|{key}"] = value.detach().cpu().contiguous()
    content = save(tensors, metadata={"log": json.dumps(log), "config": json.dumps(config)})
    # The hash is of the bytes as they are meant to be, taken before they go to the disk: `load_checkpoint` compares.
    path = folder / f"step-{log['step']:06d}-{hashlib.sha256(content).hexdigest()[:16]}.safetensors"
    write_atomic(path, content)
    # After the write, never before: there is always a whole one. The second newest is for when the newest is damaged.
    for old in _files(folder)[:-2]:
        old.unlink()
    return path


def saved_step(folder: Path) -> int:
    """The step that a run would go on from.

    Parameters
    ----------
    folder : Path
        Of the run's checkpoints; it need not be there.

    Returns
    -------
    int
        Of the newest checkpoint that is whole, the one that `load_checkpoint` would restore; 0 where there is none.

    Raises
    ------
    InputError
        Where a checkpoint cannot be read.
    """
    found = (_read(path) for path in reversed(_files(folder)))
    return next((checkpoint.log["step"] for checkpoint in found if checkpoint), 0)


def load_checkpoint(
    folder: Path, config: dict, parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict | None:
    """Restore the newest checkpoint that is whole.

    A damaged one is named in a warning, renamed, and the one before it used.

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
        For a checkpoint of another configuration or model, or one that cannot be read or renamed; nothing has been
        restored then.
    """
    wanted = _ADDED | json.loads(json.dumps(config))  # as a file gives it back: JSON has no tuples
    for path in reversed(_files(folder)):
        found = _read(path)
        if found is None:
            _rename(path)
            warnings.warn(f"checkpoint {path} is damaged; using the one before it", stacklevel=2)
            continue
        shapes = {name: tensors["value"].shape for name, tensors in found.tensors.items()}
        fits = shapes == {name: parameter.shape for name, parameter in parameters.items()}
        if _ADDED | found.config != wanted or not fits:
            raise InputError(f"checkpoint {path} is another run's; delete {folder} to start anew")
        for name, parameter in parameters.items():
            tensors = found.tensors[name]
            with torch.no_grad():
                parameter.copy_(tensors.pop("value"))
            # What is left is AdamW's. It keeps its count of steps on the CPU, its running means where the parameter is.
            for kind, value in tensors.items():
                optimizer.state[parameter][kind] = value.to("cpu" if kind == "step" else parameter.device)
        return found.log
    return None


def _files(folder: Path) -> list[Path]:
    """The files that are named like checkpoints, from the oldest on."""

    def step(path: Path) -> float:  # as text 1000000 would stand before 999950
        named = re.match(r"step-(\d+)", path.name)
        return int(named[1]) if named else math.inf

    return sorted((path for path in folder.glob("step-*.safetensors") if path.is_file()), key=step)


def _read(path: Path) -> _Checkpoint | None:
    """What a checkpoint holds; None where it is damaged, InputError where it cannot be read."""
    named = _NAME.fullmatch(path.name)
    try:
        content = path.read_bytes()
        if named is None or hashlib.sha256(content).hexdigest()[:16] != named[2]:
            return None
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        step, config = _LOG.validate_json(metadata["log"])["step"], _CONFIG.validate_json(metadata["config"])
        log = json.loads(metadata["log"])  # with what is not in the schema: the caller's fields of evaluations
        tensors: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in load(content).items():
            name, _, kind = key.partition("|")
            tensors.setdefault(name, {})[kind] = tensor
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error.strerror or error}; mend or remove it") from error
    except Exception:  # safetensors and pydantic raise many kinds; each means that this is not what was written
        return None
    whole = int(named[1]) == step == len(log["losses"]) and all(_whole(parts, step) for parts in tensors.values())
    return _Checkpoint(log, config, tensors) if whole else None


def _whole(tensors: dict[str, torch.Tensor], step: int) -> bool:
    """Whether these are one parameter's value and AdamW's state of it after so many steps."""
    shape = tensors["value"].shape if "value" in tensors else None
    shapes = {"value": shape, "step": (), "exp_avg": shape, "exp_avg_sq": shape}
    if {kind: tensor.shape for kind, tensor in tensors.items()} != shapes:
        return False
    return {tensor.dtype for tensor in tensors.values()} == {torch.float32} and tensors["step"].item() == step


def _rename(path: Path) -> None:
    """Put a damaged checkpoint out of the way: it can be looked at, and `step-*.safetensors` passes it over."""
    try:
        path.rename(path.with_suffix(".damaged"))
    except OSError as error:
        raise InputError(f"checkpoint {path} is damaged: remove it ({error.strerror or error})") from error
