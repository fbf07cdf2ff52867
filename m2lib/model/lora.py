"""LoRA: low-rank adapters beside frozen linear layers, and their files in PEFT's format.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn
from transformers import PreTrainedModel

from m2lib.files import InputError, first_line, write_atomic

TARGETS = ("q_proj", "v_proj")
PEFT_PREFIX = "base_model.model."
# Settings of PEFT that change what an adapter computes and that this layer does not have.
UNREAD = ("use_rslora", "use_dora", "alpha_pattern", "rank_pattern", "fan_in_fan_out", "layers_to_transform")
ADAPTER_FILE, CONFIG_FILE, BIAS_FILE = "adapter_model.safetensors", "adapter_config.json", "head_bias.safetensors"


class LoRALinear(nn.Module):
    """y = W x + (alpha / r) B A x, with W (and its bias) frozen, A (r, d_in) and B (d_out, r) trained in float32.

    A starts as kaiming normal, B as zero, so that at first the layer is exactly the frozen one. The factors are cast
    to the input's dtype where they are used, and gradients arrive in float32.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None):
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank must be at least 1, got {rank}")
        self.base = base.requires_grad_(False)
        self.rank, self.alpha = rank, alpha
        device = base.weight.device
        start = torch.empty(rank, base.in_features, device="meta" if device.type == "meta" else "cpu")
        # Drawn on the CPU, so that a seed gives the same adapter on every device.
        nn.init.kaiming_normal_(start, nonlinearity="linear", generator=generator)
        self.lora_A = nn.Parameter(start.to(device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., d_in) -> (..., d_out), in x's dtype."""
        down = nn.functional.linear(x, self.lora_A.to(x.dtype))
        up = nn.functional.linear(down, self.lora_B.to(x.dtype))
        return self.base(x) + self.alpha / self.rank * up

    @torch.no_grad()
    def merged_weight(self) -> torch.Tensor:
        """W + (alpha / r) B A, rounded once to W's dtype."""
        update = self.alpha / self.rank * self.lora_B @ self.lora_A
        return (self.base.weight.float() + update).to(self.base.weight.dtype)

    def merged(self) -> nn.Linear:
        """The frozen layer with the adapter added into its weight."""
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
    """Put a `LoRALinear` in place of every linear layer named in `targets`, in place, and return the model.

    alpha: default the rank. generator: of the A's, on the CPU. Afterwards A, B and the head's bias are all that
    trains. Raises ValueError where the model has adapters already, or no such layer.
    """
    _refuse_nesting(model)
    head_bias = model.get_output_embeddings().bias
    if head_bias is None:
        raise ValueError("this model's vocabulary is not reduced: its head has no bias to train")
    found = [
        path for path, layer in model.named_modules() if path.split(".")[-1] in targets and isinstance(layer, nn.Linear)
    ]
    if not found:
        raise ValueError(f"this model has no linear layers named {' or '.join(targets)}")
    model.requires_grad_(False)
    for path in found:
        _replace(model, path, LoRALinear(model.get_submodule(path), rank, rank if alpha is None else alpha, generator))
    head_bias.requires_grad_(True)
    return model


def lora_layers(model: PreTrainedModel) -> dict[str, LoRALinear]:
    """The model's adapters by path."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def merge_lora(model: PreTrainedModel) -> PreTrainedModel:
    """Add every adapter into its frozen weight and remove it, in place: the same function, at the base model's cost.

    In bfloat16 the sum is rounded to the weight's precision. Raises ValueError where there is nothing to merge.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no LoRA layers to merge")
    for path, layer in layers.items():
        _replace(model, path, layer.merged())
    return model


def trainable(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """What trains, by name: the adapters' A and B, and the head's bias."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save_adapter(model: PreTrainedModel, folder: Path, backbone: str) -> None:
    """Write the adapter as PEFT reads it (adapter_config.json, adapter_model.safetensors), the head's bias beside it.

    backbone: the name noted as the base model. Raises ValueError where the model has no adapters, InputError where
    the folder cannot be written to.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no LoRA layers to save")
    tensors = {name: factor.detach().cpu().contiguous() for name, factor in _peft_names(layers).items()}
    one = next(iter(layers.values()))
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": backbone,
        "r": one.rank,
        "lora_alpha": one.alpha,
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
    """Inject the adapter stored in `folder`, ours or PEFT's, into a reduced model without one, and return the model.

    The head's bias is read where its file is there. Raises InputError, naming the folder, for files that are missing,
    broken, or of another model.
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
    if lora_layers(model):
        raise ValueError("this model has LoRA layers already; merge them, or load the backbone again")


def _peft_names(layers: dict[str, LoRALinear]) -> dict[str, nn.Parameter]:
    """Every A and B under the name it has in PEFT's adapter file."""
    return {
        f"{PEFT_PREFIX}{path}.{name}.weight": getattr(layer, name)
        for path, layer in layers.items()
        for name in ("lora_A", "lora_B")
    }


def _fits(parameter: torch.Tensor | None, tensor: torch.Tensor | None) -> bool:
    return parameter is not None and tensor is not None and parameter.shape == tensor.shape


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, layer)
