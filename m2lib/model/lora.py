"""LoRA: low-rank adapters beside frozen linear layers.

`inject_lora` puts adapters into a model, `merge_lora` adds them into its weights. The layer itself
is `LoRALinear`.
"""

from typing import Any

import torch
from torch import nn

from m2lib.model.vocabulary import ReducedHead

ALL_TARGETS = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)  # all that a block has
TARGETS = ("q_proj", "v_proj")  # the report's


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
        Of A's first values, on the CPU. Default: PyTorch's global one.

    References
    ----------
    .. [1] Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
    """

    def __init__(
        self, base: nn.Linear, rank: int, alpha: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.rank, self.alpha = rank, alpha
        device = base.weight.device
        start = torch.empty(
            rank, base.in_features, device="meta" if device.type == "meta" else "cpu"
        )
        # Drawn on the CPU, so that a seed gives the same adapter on every device. `linear` makes
        # the gain 1: the standard deviation is 1 / sqrt(d_in), and A x is about as large as the
        # entries of x.
        nn.init.kaiming_normal_(start, nonlinearity="linear", generator=generator)
        self.lora_A = nn.Parameter(start.to(device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The frozen layer's output plus the adapter's: (..., d_in) -> (..., d_out), in x's
        dtype."""
        down = nn.functional.linear(x, self.lora_A.to(x.dtype))
        # The factor meets the r numbers of a token here, not the d_out that B makes of them.
        return self.base(x) + nn.functional.linear(
            self.alpha / self.rank * down, self.lora_B.to(x.dtype)
        )

    @property
    def bias(self) -> torch.Tensor | None:
        """The frozen layer's."""
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
    nn.Module
        The same model.

    Raises
    ------
    ValueError
        Where the model has adapters already, or no linear layer of these names.
    """
    if lora_layers(model):  # one inside another is never meant
        raise ValueError(
            "this model has LoRA layers already; merge them, or load the backbone again"
        )
    # Found first, replaced after: an adapter's frozen layer, ...q_proj.base, would itself be met on
    # the way.
    found = {
        path: layer
        for path, layer in model.named_modules()
        if path.split(".")[-1] in targets
        and isinstance(layer, nn.Linear)
        and not isinstance(layer, ReducedHead)
    }
    if not found:
        raise ValueError(f"this model has no linear layers named {' or '.join(targets)}")
    model.requires_grad_(
        False
    )  # first: the A's and B's that come in next want a gradient by default
    for path, layer in found.items():
        model.set_submodule(
            path, LoRALinear(layer, rank, rank if alpha is None else alpha, generator)
        )
    model.get_output_embeddings().bias.requires_grad_(True)
    return model


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The model's adapters by path, such as `model.layers.0.self_attn.q_proj`, from the lowest
    layer up."""
    return {path: layer for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}


def adapter_settings(model: nn.Module) -> dict[str, Any]:
    """`rank`, `alpha` and `targets` of a model's adapters: `inject_lora` gives all of them one rank
    and one alpha."""
    layers = lora_layers(model)
    first, adapted = next(iter(layers.values())), {path.split(".")[-1] for path in layers}
    return {
        "rank": first.rank,
        "alpha": first.alpha,
        "targets": tuple(name for name in ALL_TARGETS if name in adapted),
    }


@torch.no_grad()
def merge_lora(model: nn.Module) -> nn.Module:
    """Add every adapter into its frozen weight and remove it, in place: the same function, at the
    base model's cost.

    In bfloat16 the sum is rounded to the weight's precision.
    """
    for path, layer in lora_layers(model).items():
        layer.base.weight.copy_(layer.weight)
        model.set_submodule(path, layer.base)
    return model


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """What trains in a model: by name, such as `model.layers.0.self_attn.q_proj.lora_A`, the
    parameters themselves."""
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def train_everything(model: nn.Module) -> nn.Module:
    """Let every weight of a model train, in place, without adapters; ValueError unless it is in
    float32.

    In bfloat16 small training steps would be lost.
    """
    if model.dtype != torch.float32:
        raise ValueError(f"all weights can train in float32 only, not in {model.dtype}")
    return model.requires_grad_(True)
