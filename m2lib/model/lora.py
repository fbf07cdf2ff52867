"""LoRA: low-rank adapters beside frozen linear layers, and their files in PEFT's format.

`inject_lora` puts adapters into a model, `merge_lora` adds them into its weights, `save_adapter` and `load_adapter`
write and read them. The layer itself is `LoRALinear`.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn
from transformers import PreTrainedModel

from m2lib.files import InputError, first_line, write_atomic

TARGETS = ("q_proj", "v_proj")  # the report's: the queries' and the values' projection of every layer
PEFT_PREFIX = "base_model.model."  # PEFT wraps a model twice, and its files name the path through both wrappers
# Settings of PEFT that change what an adapter computes and that this layer does not have.
UNREAD = ("use_rslora", "use_dora", "alpha_pattern", "rank_pattern", "fan_in_fan_out", "layers_to_transform")
ADAPTER_FILE, CONFIG_FILE, BIAS_FILE = "adapter_model.safetensors", "adapter_config.json", "head_bias.safetensors"


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
    head_bias = model.get_output_embeddings().bias
    if head_bias is None:
        raise ValueError("this model's vocabulary is not reduced: its head has no bias to train")
    # The paths first, the layers after: an adapter's frozen layer, ...q_proj.base, would itself be met on the way.
    found = [
        path for path, layer in model.named_modules() if path.split(".")[-1] in targets and isinstance(layer, nn.Linear)
    ]
    if not found:
        raise ValueError(f"this model has no linear layers named {' or '.join(targets)}")
    model.requires_grad_(False)  # first: the A's and B's that come in next want a gradient by default
    for path in found:
        _replace(model, path, LoRALinear(model.get_submodule(path), rank, rank if alpha is None else alpha, generator))
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
        The name noted as the base model.

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
        "base_model_name_or_path": backbone,
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
        config = json.loads((folder / CONFIG_FILE).read_text())
        tensors = load((folder / ADAPTER_FILE).read_bytes())
        bias_file = folder / BIAS_FILE
        bias = load(bias_file.read_bytes())["lm_head.bias"] if bias_file.exists() else None
        settings = {"rank": config["r"], "alpha": config["lora_alpha"], "targets": tuple(config["target_modules"])}
        unread = [name for name in UNREAD if config.get(name)]
        if unread:
            raise ValueError(f"{CONFIG_FILE} sets {unread[0]}, which this library does not read")
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise InputError(f"{folder}: not a readable LoRA adapter ({first_line(error)})") from error
    _refuse_nesting(model)
    try:
        inject_lora(model, **settings)
    except ValueError as error:
        raise InputError(f"{folder}: the adapter belongs to another model, {error}") from error
    parameters = _peft_names(lora_layers(model))
    if bias is not None:
        parameters["bias"], tensors["bias"] = model.get_output_embeddings().bias, bias
    wrong = [name for name in parameters.keys() | tensors.keys() if not _fits(parameters.get(name), tensors.get(name))]
    if wrong:
        merge_lora(model)  # B is still zero: this takes the empty adapters out again
        raise InputError(f"{folder}: the adapter belongs to another model, {min(wrong)} does not fit")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])
    return model


def _refuse_nesting(model: PreTrainedModel) -> None:
    """Raise ValueError for a model that has adapters: one more inside another is never meant."""
    if lora_layers(model):
        raise ValueError("this model has LoRA layers already; merge them, or load the backbone again")


def _peft_names(layers: dict[str, LoRALinear]) -> dict[str, nn.Parameter]:
    """Every A and B under the name it has in PEFT's adapter file, such as
    `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`."""
    return {
        f"{PEFT_PREFIX}{path}.{name}.weight": getattr(layer, name)
        for path, layer in layers.items()
        for name in ("lora_A", "lora_B")
    }


def _fits(parameter: torch.Tensor | None, tensor: torch.Tensor | None) -> bool:
    """Whether both are there (None: the model or the file lacks it) and of one shape."""
    return parameter is not None and tensor is not None and parameter.shape == tensor.shape


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer at a path of the model, in place of what is there."""
    parent, _, name = path.rpartition(".")  # "model.layers.0.self_attn" and "q_proj"
    setattr(model.get_submodule(parent), name, layer)
