"""What a step learns from: windows of tokens, which of them a step reads, and their loss."""

from collections.abc import Callable

import numpy as np
import torch
from transformers import PreTrainedModel

from m2lib.model import COMMA_ID, PAD_ID, blocked_attention
from m2lib.training.config import TrainConfig

Source = np.ndarray | Callable[[int], np.ndarray]
"""What a run learns from: all its windows, int64 (n, length), or what gives those of a step, without end."""


def make_windows(texts: list[list[int]], length: int) -> np.ndarray:
    """Cut token ids of whole texts into windows that overlap by half: int64 (windows, length), text after text.

    A window starts every length // 2 tokens, until one reaches the text's end; a short last one is padded on the right.
    """
    # A text of 1100 tokens and windows of 512: range(0, 844, 256) starts them at 0, 256, 512 and 768, and the last
    # holds 332 tokens and 180 pads. One of 1024: range(0, 768, 256), because the window from 512 ends with the text,
    # and one from 768 would only repeat its second half. One of 200: max(1, -56) leaves the start 0.
    windows = []
    for ids in texts:
        for start in range(0, max(1, len(ids) - length // 2), length // 2):
            piece = ids[start : start + length]
            windows.append(piece + [PAD_ID] * (length - len(piece)))
    return np.array(windows, dtype=np.int64).reshape(-1, length)


def batch_of(step: int, windows: Source, config: TrainConfig) -> np.ndarray:
    """The windows (batch_size, length) of one step; each epoch is a fresh permutation, so the step says it all.

    Fewer rows where there are fewer windows than that.
    """
    if callable(windows):
        return windows(step)
    # Five windows, two a step: an epoch has 5 // 2 = 2 steps, and one window waits for another epoch. Step 3 is
    # divmod(3, 2) = epoch 1, place 1: the third and fourth of epoch 1's permutation, which seed and epoch decide.
    size = min(config.batch_size, len(windows))
    epoch, place = divmod(step, len(windows) // size)
    order = np.random.default_rng([config.seed, epoch]).permutation(len(windows))
    return windows[order[place * size : (place + 1) * size]]


def loss_weights(windows: torch.Tensor, tail_weight: float = 1.0, units_weight: float = 1.0) -> torch.Tensor:
    """How much each predicted token of windows (B, length) weighs in the loss: float32 (B, length - 1).

    Column i is the weight of the token in column i + 1, which is predicted from columns 0 to i; 0 for a pad.
    tail_weight: of a window's last token, against 1 for the first that is predicted; linear between. units_weight: a
    factor for a number's last digit, the one that a digit does not follow.
    """
    # One row, at tail_weight 3 and units_weight 1/4. Nothing predicts column 0, so a token's weight stands one column
    # earlier in what is returned than the token in its window; here it stands below its token.
    #   token                1     2     ,     3     ;   pad   pad
    #   place                      0   1/3   2/3     1   4/3   5/3    column / (5 tokens - 2): 1 at the last one
    #   1 + (3 - 1) place          1   5/3   7/3     3     0     0    and nothing for pads
    #   digit              yes   yes    no   yes    no    no    no
    #   a last digit        no   yes    no   yes    no    no     ?    a digit, and the column after it is none
    #   weight                   1/4   5/3  7/12     3     0     0
    # What follows a window's very last column is not known: its weight is left as it is. A window of two tokens
    # predicts one, whose place clamp makes 0 / 1 and not 0 / 0.
    kept = windows != PAD_ID
    place = torch.arange(windows.shape[1] - 1, device=windows.device) / (kept.sum(1, keepdim=True) - 2).clamp(min=1)
    weights = kept[:, 1:] * (1 + (tail_weight - 1) * place)
    digit = kept & (windows < COMMA_ID)  # ids 1 to 10; a pad is 0
    weights[:, :-1] *= torch.where(digit[:, 1:-1] & ~digit[:, 2:], units_weight, 1.0)
    return weights


def window_loss(
    model: PreTrainedModel, windows: torch.Tensor, tail_weight: float = 1.0, units_weight: float = 1.0
) -> torch.Tensor:
    """The mean next-token cross-entropy over windows (B, length), weighed as `loss_weights` says; nats a token.

    Pads count nowhere: columns that hold only pads are not computed, and causal attention never sees those on the
    right.
    """
    windows = windows[:, : int((windows != PAD_ID).sum(1).max())]
    weights = loss_weights(windows, tail_weight, units_weight)
    with blocked_attention(model):
        logits = model(windows, use_cache=False).logits
    # Column i's logits predict the token in column i + 1. `cross_entropy` wants the 13 classes on axis 1.
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), windows[:, 1:], reduction="none")
    return (losses * weights).sum() / weights.sum()
