"""The training loss: next-token cross-entropy over windows, weighed by place and digit."""

from typing import TYPE_CHECKING

import torch

from m2lib.model import COMMA_ID, PAD_ID, blocked_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def loss_weights(
    windows: torch.Tensor, tail_weight: float = 1.0, units_weight: float = 1.0
) -> torch.Tensor:
    """Return each predicted token's weight in the loss: (B, length) -> float32 (B, length - 1).

    Column i is the weight of the token in column i + 1, which is predicted from columns 0 to i; it
    is 0 for a pad. The first predicted token weighs 1, a window's last one `tail_weight`, and those
    between lie on a straight line. `units_weight` is a factor for a number's last digit, the one
    that no digit follows.
    """
    # One row, at tail_weight 3 and units_weight 1/4. Nothing predicts column 0, so a token's weight
    # stands one column earlier in the result than the token in its window; here it stands below it.
    #   token              1    2    ,    3    ;  pad  pad
    #   place                   0  1/3  2/3    1  4/3  5/3   column / (5 tokens - 2): the last has 1
    #   1 + (3 - 1) place       1  5/3  7/3    3    0    0   0 for pads
    #   digit            yes  yes   no  yes   no   no   no
    #   last digit        no  yes   no  yes   no   no    ?   a digit before a column without one
    #   weight                1/4  5/3 7/12    3    0    0
    # What follows a window's very last column is not known, so its weight is left as it is. A
    # window of two tokens predicts one; the clamp makes its place 0 / 1 instead of 0 / 0.
    real = windows != PAD_ID
    columns = torch.arange(windows.shape[1] - 1, device=windows.device)
    place = columns / (real.sum(1, keepdim=True) - 2).clamp(min=1)
    weights = real[:, 1:] * (1 + (tail_weight - 1) * place)
    digit = real & (windows < COMMA_ID)  # ids 1 to 10; a pad is 0
    last_digit = digit[:, 1:-1] & ~digit[:, 2:]
    weights[:, :-1] *= torch.where(last_digit, units_weight, 1.0)
    return weights


def window_loss(
    model: "PreTrainedModel",
    windows: torch.Tensor,
    tail_weight: float = 1.0,
    units_weight: float = 1.0,
) -> torch.Tensor:
    """Return the mean next-token cross-entropy over windows (B, length), in nats.

    The tokens are weighted by `loss_weights`. Pads have no effect: columns of pads alone are not
    computed, and the causal attention of a token never reaches the pads on its right.
    """
    longest = int((windows != PAD_ID).sum(1).max())
    windows = windows[:, :longest]
    weights = loss_weights(windows, tail_weight, units_weight)
    with blocked_attention(model):
        logits = model(windows, use_cache=False).logits
    # Column i's logits predict the token in column i + 1. `cross_entropy` wants the 13 classes on
    # axis 1.
    predicted = logits[:, :-1].transpose(1, 2)
    losses = torch.nn.functional.cross_entropy(predicted, windows[:, 1:], reduction="none")
    return (losses * weights).sum() / weights.sum()
