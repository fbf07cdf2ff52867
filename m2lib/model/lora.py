"""LoRA: low-rank adapters beside frozen linear layers.

`inject_lora` puts adapters into a model, `merge_lora` adds them into its weights. The layer itself is `LoRALinear`.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from m2lib.accounting import PROJECTIONS, TARGETS
from m2lib.model.reduction import ReducedHead

# The linear layers of a block, in the order of the forward pass: any of them may have an adapter.
ALL_TARGETS = tuple(PROJECTIONS)


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
    refuse_nesting(model)
    head_bias = head_bias_of(model)
    # Found first, replaced after: an adapter's frozen layer, ...q_proj.base, would itself be met on the way.
    found = linear_layers(model, targets)
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


def refuse_nesting(model: PreTrainedModel) -> None:
    """See that a model has no adapters: one inside another is never meant.

    Parameters
    ----------
    model : PreTrainedModel
        Any.

    Raises
    ------
    ValueError
        Where it has some.
    """
    if lora_layers(model):
        raise ValueError("this model has LoRA layers already; merge them, or load the backbone again")


def head_bias_of(model: PreTrainedModel) -> nn.Parameter:
    """The bias of a reduced model's head, which trains with the adapters.

    Parameters
    ----------
    model : PreTrainedModel
        With a reduced vocabulary.

    Returns
    -------
    nn.Parameter
        (13,): itself, not a copy.

    Raises
    ------
    ValueError
        Where the model is not reduced.
    """
    bias = model.get_output_embeddings().bias
    if bias is None:
        raise ValueError("this model's vocabulary is not reduced: its head has no bias to train")
    return bias


def linear_layers(model: PreTrainedModel, targets: tuple[str, ...]) -> dict[str, nn.Linear]:
    """The layers that adapters of these names would be put around; the head is none of them.

    Parameters
    ----------
    model : PreTrainedModel
        Any.
    targets : tuple of str
        Last parts of the layers' paths.

    Returns
    -------
    dict of str to nn.Linear
        By path.

    Raises
    ------
    ValueError
        Where there are none.
    """
    found = {
        path: layer
        for path, layer in model.named_modules()
        if path.split(".")[-1] in targets and isinstance(layer, nn.Linear) and not isinstance(layer, ReducedHead)
    }
    if not found:
        raise ValueError(f"this model has no linear layers named {' or '.join(targets)}")
    return found


def _replace(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put a layer at a path of the model, in place of what is there."""
    parent, _, name = path.rpartition(".")  # "model.layers.0.self_attn" and "q_proj"
    setattr(model.get_submodule(parent), name, layer)
