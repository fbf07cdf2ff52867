"""LoRA: low-rank adapters beside frozen linear layers.

`inject_lora` puts adapters into a model, `merge_lora` adds them into its weights. The layer itself
is `LoRALinear`.
"""

from typing import Any

import torch
from torch import nn

from m2lib.model.vocabulary import ReducedHead

ALL_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The projections of a block: those of its attention, then those of its feed-forward layer.

They are `m2lib.accounting.PROJECTIONS`, and a test compares the two, because neither wing imports
the other.
"""
TARGETS = ("q_proj", "v_proj")  # the report puts adapters on these two


class LoRALinear(nn.Module):
    """A linear layer with an adapter: y = W x + (alpha / r) B A x [1]_.

    W (and its bias) is frozen, A (r, d_in) and B (d_out, r) are trained in float32. A starts as
    kaiming normal, B as zero, so that at first the layer is exactly the frozen one. The factors are
    cast to the input's dtype where they are used, and gradients arrive in float32.

    Parameters
    ----------
    base : nn.Linear
        The layer with W, d_in -> d_out. It is frozen and becomes part of this one.
    rank : int
        r, at least 1.
    alpha : float
        B A is multiplied by alpha / r.
    generator : torch.Generator, optional
        A generator on the CPU for A's first values. Default: PyTorch's global one.

    References
    ----------
    .. [1] Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """

    def __init__(
        self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.rank = rank
        self.alpha = alpha
        device = base.weight.device
        # A is drawn on the CPU, so that a seed gives the same adapter on every device. `linear`
        # makes the gain 1: the standard deviation is 1 / sqrt(d_in), and A x is about as large as
        # the entries of x.
        draw_on = "meta" if device.type == "meta" else "cpu"
        start = torch.empty(rank, base.in_features, device=draw_on)
        nn.init.kaiming_normal_(start, nonlinearity="linear", generator=generator)
        self.lora_A = nn.Parameter(start.to(device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the frozen layer's output and the adapter's: (..., d_in) -> (..., d_out)."""
        down = nn.functional.linear(x, self.lora_A.to(x.dtype))
        # Each token has only r numbers here, so scaling is cheaper than after B has made d_out of
        # them.
        scaled = self.alpha / self.rank * down
        return self.base(x) + nn.functional.linear(scaled, self.lora_B.to(x.dtype))

    @property
    def bias(self) -> torch.Tensor | None:
        """The bias of the frozen layer, None where it has none."""
        return self.base.bias

    @property
    @torch.no_grad()
    def weight(self) -> torch.Tensor:
        """The weight (d_out, d_in) of a plain linear layer that computes the same.

        That is W + (alpha / r) B A: the sum in float32, rounded once to W's dtype.
        """
        update = self.alpha / self.rank * self.lora_B @ self.lora_A
        return (self.base.weight.float() + update).to(self.base.weight.dtype)


def inject_lora(
    model: nn.Module,
    rank: int,
    alpha: float | None = None,
    *,
    targets: tuple[str, ...] = TARGETS,
    generator: torch.Generator | None = None,
) -> nn.Module:
    """Replace every linear layer named in `targets` by a `LoRALinear`, in place.

    Afterwards A, B and the head's bias are all that trains.

    Parameters
    ----------
    model : PreTrainedModel
        A model with a reduced vocabulary and without adapters.
    rank : int
        The rank of every adapter.
    alpha : float, optional
        Default: the rank, so that the adapter's factor is 1.
    targets : tuple of str, optional
        The last parts of the paths of the layers to adapt: `q_proj` names, among others,
        `model.layers.0.self_attn.q_proj`. Default: `q_proj` and `v_proj`, as in the report;
        `ALL_TARGETS` are all seven.
    generator : torch.Generator, optional
        A generator on the CPU for the first values of every A. Default: PyTorch's global one.

    Returns
    -------
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        If the model already has adapters, if its vocabulary is not reduced, or if one of these
        names is that of no linear layer.
    """
    if lora_layers(model):  # one inside another is never meant
        raise ValueError(
            "this model has LoRA layers already; merge them, or load the backbone again"
        )
    if model.get_output_embeddings().bias is None:  # the reduced head has one, which trains, too
        raise ValueError("this model has its whole vocabulary; call reduce_vocabulary on it first")
    # All layers are listed before any is replaced, because `named_modules` would go on to list the
    # frozen layer within an adapter, such as ...q_proj.base.
    layers = {}
    for path, layer in model.named_modules():
        is_linear = isinstance(layer, nn.Linear) and not isinstance(layer, ReducedHead)
        if is_linear and path.split(".")[-1] in targets:
            layers[path] = layer
    adapted = {path.split(".")[-1] for path in layers}
    missing = [name for name in targets if name not in adapted]
    if missing or not targets:
        raise ValueError(f"this model has no linear layers named {' or '.join(missing)}")

    # The model is frozen before A and B come in, because these are new parameters, which require
    # gradients by default.
    model.requires_grad_(False)
    if alpha is None:
        alpha = rank
    for path, layer in layers.items():
        model.set_submodule(path, LoRALinear(layer, rank, alpha, generator))
    model.get_output_embeddings().bias.requires_grad_(True)
    return model


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """Return the model's adapters from the lowest layer up, by path.

    A path is for example `model.layers.0.self_attn.q_proj`.
    """
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def adapter_settings(model: nn.Module) -> dict[str, Any]:
    """Return the `rank`, `alpha` and `targets` of a model's adapters.

    The targets are in the order of `ALL_TARGETS`. ValueError for a model without adapters.
    """
    layers = lora_layers(model)
    if not layers:
        raise ValueError("this model has no adapters")
    adapted = {path.split(".")[-1] for path in layers}
    first = next(iter(layers.values()))  # all have the same rank and alpha
    return {
        "rank": first.rank,
        "alpha": first.alpha,
        "targets": tuple(name for name in ALL_TARGETS if name in adapted),
    }


@torch.no_grad()
def merge_lora(model: nn.Module) -> nn.Module:
    """Add every adapter to the weight beside it, and remove the adapter, in place.

    The model, which is returned, then computes the same function at the base model's cost. In
    bfloat16 the sum is rounded to the weight's precision.
    """
    for path, layer in lora_layers(model).items():
        layer.base.weight.copy_(layer.weight)
        model.set_submodule(path, layer.base)
    return model


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's trainable parameters by name: `model.layers.0.self_attn.q_proj.lora_A`."""
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def train_everything(model: nn.Module) -> nn.Module:
    """Make every weight of a model trainable, in place, and return the model.

    Raises ValueError unless the model is in float32, because bfloat16 would lose small updates.
    """
    if model.dtype != torch.float32:
        raise ValueError(f"all weights can train in float32 only, not in {model.dtype}")
    return model.requires_grad_(True)
