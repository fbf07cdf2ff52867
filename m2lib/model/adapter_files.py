"""Adapters as files, in PEFT's format, so that they pass between PEFT and ours both ways."""

import json
import math
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load, save
from torch import nn
from transformers import PreTrainedModel

from m2lib.files import InputError, remove, write_atomic
from m2lib.model.folders import check_floats, fault
from m2lib.model.lora import LoRALinear, head_bias_of, inject_lora, linear_layers, lora_layers, refuse_nesting
from m2lib.model.weights import hub_name

PEFT_PREFIX = "base_model.model."  # PEFT wraps a model twice, and its files name the path through both wrappers
# Settings of PEFT that change what an adapter computes and that this layer does not have.
UNREAD = (
    *("use_rslora", "use_dora", "use_qalora", "alpha_pattern", "rank_pattern", "fan_in_fan_out", "lora_bias"),
    *("layers_to_transform", "layer_replication", "modules_to_save", "trainable_token_indices", "target_parameters"),
    *("alora_invocation_tokens", "arrow_config"),
)
ADAPTER_FILE, CONFIG_FILE, BIAS_FILE = "adapter_model.safetensors", "adapter_config.json", "head_bias.safetensors"


class AdapterConfig(BaseModel):
    """What is read of an adapter_config.json, `UNREAD` apart. Nothing else in it has an effect."""

    model_config = ConfigDict(strict=True, extra="allow")

    peft_type: Literal["LORA"] = "LORA"
    r: Annotated[int, Field(ge=1)]
    """Rank of every adapter."""
    lora_alpha: Annotated[int | float, Field(gt=0, lt=math.inf)]
    """Their strength, `r` times the factor of B A."""
    target_modules: Annotated[list[Annotated[str, Field(pattern=r"^[\w.]{1,100}$")]], Field(min_length=1)]
    """Last parts of the adapted layers' paths."""


def save_adapter(model: PreTrainedModel, folder: Path, backbone: str) -> None:
    """Write the adapter as PEFT reads it (adapter_config.json, adapter_model.safetensors), the head's bias beside it.

    Parameters
    ----------
    model : PreTrainedModel
        With adapters; it is left as it is.
    folder : Path
        Made where it is not there.
    backbone : str
        Its name. As the base model is noted what the hub calls it, so that PEFT can find it there.

    Raises
    ------
    ValueError
        Where the model has no adapters.
    InputError
        Where the folder cannot be written to.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no LoRA layers to save")
    tensors = {name: factor.detach().cpu().contiguous() for name, factor in _peft_names(layers).items()}
    first = next(iter(layers.values()))  # `inject_lora` gives all of them one rank and one alpha
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": hub_name(backbone),
        "r": first.rank,
        "lora_alpha": first.alpha,
        "target_modules": sorted({path.split(".")[-1] for path in layers}),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    bias = model.get_output_embeddings().bias.detach().cpu().contiguous()
    remove(folder / CONFIG_FILE)  # it makes a folder an adapter, so it goes first and comes last
    write_atomic(folder / BIAS_FILE, save({"lm_head.bias": bias}))
    write_atomic(folder / ADAPTER_FILE, save(tensors))
    write_atomic(folder / CONFIG_FILE, (json.dumps(config, indent=1) + "\n").encode())


def load_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Inject the adapter stored in a folder, ours or PEFT's, in place.

    Parameters
    ----------
    model : PreTrainedModel
        With a reduced vocabulary, and without adapters. Where the adapter does not fit, it has none afterwards either.
    folder : Path
        Holds adapter_config.json and adapter_model.safetensors. The head's bias is read where its file is there.

    Returns
    -------
    PreTrainedModel
        The same model.

    Raises
    ------
    InputError
        Naming the folder, for files that are missing, broken, of another model, or with settings of PEFT's that this
        library does not read.
    ValueError
        Where the model has adapters already.
    """
    try:
        config, tensors = _read_config(folder / CONFIG_FILE), _read_tensors(folder / ADAPTER_FILE)
        bias_file = folder / BIAS_FILE
        # A link that leads nowhere is not the same as no bias.
        biased = bias_file.exists() or bias_file.is_symlink()
        bias = _read_tensors(bias_file)["lm_head.bias"] if biased else None
    except Exception as error:  # readers of foreign files raise many kinds; each means that the files are unfit
        raise InputError(f"{folder}: not a readable LoRA adapter ({fault(error)})") from error
    refuse_nesting(model)
    targets = tuple(config.target_modules)
    try:
        # Shapes are compared before anything is put into the model: a rank of a million would take up its memory.
        shapes, head_bias = _peft_shapes(linear_layers(model, targets), config.r), head_bias_of(model)
        if bias is not None:
            shapes["bias"], tensors["bias"] = tuple(head_bias.shape), bias
        wrong = [name for name in shapes.keys() | tensors.keys() if not _fits(shapes.get(name), tensors.get(name))]
        if wrong:
            raise ValueError(f"{min(wrong)!r:.200} does not fit")
        inject_lora(model, config.r, config.lora_alpha, targets=targets)
    except ValueError as error:
        raise InputError(f"{folder}: the adapter belongs to another model, {error}") from error
    parameters = _peft_names(lora_layers(model)) | {"bias": head_bias}
    with torch.no_grad():
        for name, tensor in tensors.items():
            parameters[name].copy_(tensor)
    return model


def _read_config(path: Path) -> AdapterConfig:
    """An adapter_config.json; raises ValidationError or ValueError for what this library does not read."""
    config = AdapterConfig.model_validate_json(path.read_bytes())
    unread = [name for name in UNREAD if (config.model_extra or {}).get(name)]
    if unread:
        raise ValueError(f"{CONFIG_FILE} sets {unread[0]}, which this library does not read")
    return config


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file; ValueError for one that no adapter can hold."""
    tensors = load(path.read_bytes())
    check_floats(path, tensors)
    for name, tensor in tensors.items():
        if not tensor.float().isfinite().all():  # float32 is what it is trained and used in
            raise ValueError(f"{name!r:.200} in {path.name} holds values that are not finite")
    return tensors


def _peft_name(path: str, factor: str) -> str:
    """The name that `lora_A` or `lora_B` of a layer has in PEFT's adapter file, such as
    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`."""
    return f"{PEFT_PREFIX}{path}.{factor}.weight"


def _peft_names(layers: dict[str, LoRALinear]) -> dict[str, nn.Parameter]:
    """Every A and B under its name in PEFT's adapter file."""
    return {
        _peft_name(path, factor): getattr(layer, factor)
        for path, layer in layers.items()
        for factor in ("lora_A", "lora_B")
    }


def _peft_shapes(layers: dict[str, nn.Linear], rank: int) -> dict[str, tuple[int, ...]]:
    """The shapes of every A and B that layers would get, by their names in PEFT's adapter file."""
    down = {_peft_name(path, "lora_A"): (rank, layer.in_features) for path, layer in layers.items()}
    return down | {_peft_name(path, "lora_B"): (layer.out_features, rank) for path, layer in layers.items()}


def _fits(shape: tuple[int, ...] | None, tensor: torch.Tensor | None) -> bool:
    """Whether both are there (None: the model or the file lacks it) and of one shape."""
    return shape is not None and tensor is not None and shape == tensor.shape
