"""What a step learns from: windows of tokens, which of them a step reads, and their loss."""

from collections.abc import Callable

import numpy as np
import torch
from transformers import PreTrainedModel

from m2lib.model import COMMA_ID, PAD_ID, blocked_attention
from m2lib.training.config import TrainConfig

Source = np.ndarray | Callable[[int], np.ndarray]
"""What a run learns from: all its windows, or what gives those of a step, without end."""


def make_windows(texts: list[list[int]], length: int) -> np.ndarray:
    """Cut each text into windows that overlap by half: one every length // 2 tokens, until one reaches the text's end.

    Parameters
    ----------
    texts : list of list of int
        Token ids of whole series.
    length : int
        Tokens a window; even.

    Returns
    -------
    ndarray of int64, shape (windows, length)
        Token ids, text after text; a short last window is padded on the right.
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
    """The windows of one step: each epoch is a fresh permutation, so the step says it all.

    Parameters
    ----------
    step : int
        From 0.
    windows : ndarray of int64, shape (n, length), or callable
        All that there are; or a function of the step that gives its windows, (batch_size, length), itself.
    config : TrainConfig
        Its batch_size and seed are read.

    Returns
    -------
    ndarray of int64, shape (batch_size, length)
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
    """How much each predicted token weighs in the loss.

    Parameters
    ----------
    windows : Tensor of int64, shape (B, length)
        Token ids, pads on the right.
    tail_weight : float, optional
        Of a window's last token that is no pad, against 1 for the first that is predicted; linear between.
    units_weight : float, optional
        Factor for a number's last digit, the one that a digit does not follow.

    Returns
    -------
    Tensor of float32, shape (B, length - 1)
        Column i is the weight of the token in column i + 1, which is predicted from columns 0 to i; 0 for a pad.
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
    model: PreTrainedModel,
    windows: torch.Tensor,
    tail_weight: float = 1.0,
    units_weight: float = 1.0,
) -> torch.Tensor:
    """The mean next-token cross-entropy over every position of windows; pads count nowhere.

    Columns that hold only pads are not computed; pads on the right of causal attention are never attended to.

    Parameters
    ----------
    model : PreTrainedModel
        With a reduced vocabulary.
    windows : Tensor of int64, shape (B, length)
        Token ids on the model's device, pads on the right.
    tail_weight, units_weight : float, optional
        As in `loss_weights`; at 1 the mean is the plain one.

    Returns
    -------
    Tensor of float32, shape ()
        In nats a token.
    """
    windows = windows[:, : padded_length(windows)]
    weights = loss_weights(windows, tail_weight, units_weight)
    with blocked_attention(model):
        logits = model(windows, use_cache=False).logits
    # Column i's logits predict the token in column i + 1. `cross_entropy` wants the 13 classes on axis 1.
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), windows[:, 1:], reduction="none")
    return (losses * weights).sum() / weights.sum()


def padded_length(windows: np.ndarray | torch.Tensor) -> int:
    """How many columns of windows are computed.

    Parameters
    ----------
    windows : ndarray or Tensor of int64, shape (B, length)
        Token ids, pads on the right.

    Returns
    -------
    int
        The length of the longest window without its pads.
    """
    return int((windows != PAD_ID).sum(1).max())
