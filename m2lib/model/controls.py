"""What a sceptic puts in the place of a pretrained model: its weights shuffled, or a model that trains from nothing."""

import torch
from transformers import PreTrainedModel

SHUFFLE_SEED = 0


@torch.no_grad()
def shuffle_weights(model: PreTrainedModel, seed: int = SHUFFLE_SEED) -> PreTrainedModel:
    """Shuffle the entries of each weight matrix, in place: all sizes stay, and what was learned is gone.

    Mean, spread and outliers of every matrix are those of the pretrained one. Vectors (norms, biases) are left alone.

    Parameters
    ----------
    model : PreTrainedModel
        With a reduced vocabulary, so that the kept rows of embedding and head are shuffled among themselves.
    seed : int, optional
        Of the permutations, which are drawn on the CPU and so the same on every device.

    Returns
    -------
    PreTrainedModel
        The same model.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return model


def train_everything(model: PreTrainedModel) -> PreTrainedModel:
    """Let every weight of a model train, in place; without adapters.

    Parameters
    ----------
    model : PreTrainedModel
        In float32: in bfloat16 small training steps would be lost.

    Returns
    -------
    PreTrainedModel
        The same model.

    Raises
    ------
    ValueError
        For a model in another dtype.
    """
    if model.dtype != torch.float32:
        raise ValueError(f"all weights can train in float32 only, not in {model.dtype}")
    return model.requires_grad_(True)
