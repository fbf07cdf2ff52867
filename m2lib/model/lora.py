"""LoRA: low-rank adapters beside frozen linear layers, and their files in PEFT's format.

`inject_lora` puts adapters into a model, `merge_lora` adds them into its weights, `save_adapter` and `load_adapter`
write and read them. The layer itself is `LoRALinear`.
"""

import json
import math
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load, save
from torch import nn
from transformers import PreTrainedModel

from m2lib.accounting import PROJECTIONS, TARGETS
from m2lib.files import InputError, write_atomic
from m2lib.model.folders import check_floats, fault
from m2lib.model.reduction import ReducedHead
from m2lib.model.weights import hub_name

# The linear layers of a block, in the order of the forward pass: any of them may have an adapter.
ALL_TARGETS = tuple(PROJECTIONS)
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


class LoRALinear(nn.Module):
    """A linear layer with an adapter: y = W x + (alpha / r) B A x [1]_.

    W (and its bias) is frozen, A (r, d_in) and B (d_out, r) are trained in float32. A starts as kaiming normal, B as
    zero, so that at first the layer is exactly the frozen one. The factors are cast to the input's dtype where they
    are used, and gradients arrive in float32.

    Parameters
    ----------
    base : nn.Linear
        The layer with W, d_in -> d_out. It is frozen and becomes part of this one.
    rank : int
        r, at least 1.
    alpha : float
        The adapter's strength, r times the factor of B A.
    generator : torch.Generator, optional
        Of A's first values, on the CPU. Default: PyTorch's global one.

    Raises
    ------
    ValueError
        For a rank below 1.

    References
    ----------
    .. [1] Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.base = base.requires_grad_(False)
        self.rank, self.alpha = rank, alpha
        device = base.weight.device
        start = torch.empty(rank, base.in_features, device="meta" if device.type == "meta" else "cpu")
        # Drawn on the CPU, so that a seed gives the same adapter on every device. `linear` makes the gain 1: the
        # standard deviation is 1 / sqrt(d_in), and A x is about as large as the entries of x.
        nn.init.kaiming_normal_(start, nonlinearity="linear", generator=generator)
        self.lora_A = nn.Parameter(start.to(device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The frozen layer's output plus the adapter's.

        Parameters
        ----------
        x : Tensor of float, shape (..., d_in)
            Hidden states.

        Returns
        -------
        Tensor of float, shape (..., d_out)
            In x's dtype.
        """
        down = nn.functional.linear(x, self.lora_A.to(x.dtype))
        up = nn.functional.linear(down, self.lora_B.to(x.dtype))
        return self.base(x) + self.alpha / self.rank * up

    @torch.no_grad()
    def merged_weight(self) -> torch.Tensor:
        """The weight of a plain linear layer that computes the same.

        Returns
        -------
        Tensor of float, shape (d_out, d_in)
            W + (alpha / r) B A: the sum in float32, rounded once to W's dtype.
        """
        update = self.alpha / self.rank * self.lora_B @ self.lora_A
        return (self.base.weight.float() + update).to(self.base.weight.dtype)

    def merged(self) -> nn.Linear:
        """Add the adapter into the frozen layer's weight, in place.

        Returns
        -------
        nn.Linear
            The frozen layer, which now computes what this one did. This one would now add its adapter twice.
        """
        with torch.no_grad():
            self.base.weight.copy_(self.merged_weight())
        return self.base


def inject_lora(
    model: PreTrainedModel,
    rank: int,
    alpha: float | None = None,
    *,
    targets: tuple[str, ...] = TARGETS,
    generator: torch.Generator | None = None,
) -> PreTrainedModel:
    """Replace every linear layer named in `targets` by a `LoRALinear`, in place.

    Afterwards A, B and the head's bias are all that trains.

    Parameters
    ----------
    model : PreTrainedModel
        With a reduced vocabulary, and without adapters.
    rank : int
        Of every adapter.
    alpha : float, optional
        Default: the rank, so that the adapter's factor is 1.
    targets : tuple of str, optional
        Last parts of the layers' paths.
    generator : torch.Generator, optional
        Of the A's, on the CPU. Default: PyTorch's global one.

    Returns
    -------
    PreTrainedModel
        The same model.

    Raises
    ------
    ValueError
        Where the model has adapters already, no linear layer of these names, or a head without a bias; for a rank
        below 1.
    """
    _refuse_nesting(model)
    head_bias = _head_bias(model)
    # Found first, replaced after: an adapter's frozen layer, ...q_proj.base, would itself be met on the way.
    found = _linear_layers(model, targets)
    model.requires_grad_(False)  # first: the A's and B's that come in next want a gradient by default
    for path, layer in found.items():
        _replace(model, path, LoRALinear(layer, rank, rank if alpha is None else alpha, generator))
    head_bias.requires_grad_(True)
    return model


def lora_layers(model: PreTrainedModel) -> dict[str, LoRALinear]:
    """The model's adapters.

    Parameters
    ----------
    model : PreTrainedModel
        With adapters or without.

    Returns
    -------
    dict of str to LoRALinear
        By path, such as `model.layers.0.self_attn.q_proj`, from the lowest layer up.
    """
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def adapter_settings(model: PreTrainedModel) -> tuple[int, float, tuple[str, ...]]:
    """Rank, alpha and targets of the adapters in a model; `inject_lora` gives all of them one rank and one alpha.

    Parameters
    ----------
    model : PreTrainedModel
        With adapters.

    Returns
    -------
    rank : int
        Of every adapter.
    alpha : float
        Likewise.
    targets : tuple of str
        Last parts of the adapted layers' paths, in the order of `ALL_TARGETS`.

    Raises
    ------
    ValueError
        Where the model has no adapters.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no LoRA layers")
    first, adapted = next(iter(layers.values())), {path.split(".")[-1] for path in layers}
    return first.rank, first.alpha, tuple(name for name in ALL_TARGETS if name in adapted)


def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """Add every adapter into its frozen weight and remove it, in place: the same function, at the base model's cost.

    In bfloat16 the sum is rounded to the weight's precision.

    Parameters
    ----------
    model : PreTrainedModel
        With adapters.

    Returns
    -------
    PreTrainedModel
        The same model, without adapters.

    Raises
    ------
    ValueError
        Where there is nothing to merge.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no LoRA layers to merge")
    for path, layer in layers.items():
        _replace(model, path, layer.merged())
    return model


def trainable(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """What trains in a model: its adapters' A and B, and the head's bias.

    Parameters
    ----------
    model : PreTrainedModel
        As `inject_lora` leaves it.

    Returns
    -------
    dict of str to nn.Parameter
        By name, such as `model.layers.0.self_attn.q_proj.lora_A`: the parameters themselves, not copies.
    """
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


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
    write_atomic(folder / BIAS_FILE, save({"lm_head.bias": bias}))
    write_atomic(folder / CONFIG_FILE, (json.dumps(config, indent=1) + "\n").encode())
    write_atomic(folder / ADAPTER_FILE, save(tensors))


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
    _refuse_nesting(model)
    targets = tuple(config.target_modules)
    try:
        # Shapes are compared before anything is put into the model: a rank of a million would take up its memory.
        shapes, head_bias = _peft_shapes(_linear_layers(model, targets), config.r), _head_bias(model)
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


def _refuse_nesting(model: PreTrainedModel) -> None:
    """Raise ValueError for a model that has adapters: one more inside another is never meant."""
    if lora_layers(model):
        raise ValueError("this model has LoRA layers already; merge them, or load the backbone again")


def _head_bias(model: PreTrainedModel) -> nn.Parameter:
    """The bias of the reduced model's head; ValueError where the model is not reduced."""
    bias = model.get_output_embeddings().bias
    if bias is None:
        raise ValueError("this model's vocabulary is not reduced: its head has no bias to train")
    return bias


def _linear_layers(model: PreTrainedModel, targets: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The linear layers of these names, by path; ValueError where there are none. The head has no adapter."""
    found = {
        path: layer
        for path, layer in model.named_modules()
        if path.split(".")[-1] in targets and isinstance(layer, nn.Linear) and not isinstance(layer, ReducedHead)
    }
    if not found:
        raise ValueError(f"this model has no linear layers named {' or '.join(targets)}")
    return found


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


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer at a path of the model, in place of what is there."""
    parent, _, name = path.rpartition(".")  # "model.layers.0.self_attn" and "q_proj"
    setattr(model.get_submodule(parent), name, layer)
