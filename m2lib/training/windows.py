"""What a step learns from: windows of tokens, which of them a step reads, and their loss."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from m2lib.files import InputError
from m2lib.model import COMMA_ID, PAD_ID, blocked_attention, text_to_ids
from m2lib.series import SHORTEST, TABLES, TextFormat
from m2lib.series.synthetic import draw_series, dynamics
from m2lib.training.config import TrainConfig

Endless = Callable[[int], np.ndarray]
"""Gives the windows of a step, int64 (n, length)."""
Source = np.ndarray | Endless
"""What a run learns from: all its windows, or those of each step."""
TRIES = 100  # cuts of a window that are tried before a table counts as flat
SHARES = (
    0.55,
    0.2,
    0.08,
    0.07,
    0.025,
    0.025,
    0.025,
    0.025,
)  # of made-up series with 1, 2, ... 8 variables


def make_windows(texts: list[list[int]], length: int) -> np.ndarray:
    """Cut token ids of whole texts into windows that overlap by half: int64 (windows, length), text
    after text.

    A window starts every length // 2 tokens, until one reaches the text's end; a short last one is
    padded on the right.
    """
    # A text of 1100 tokens and windows of 512: range(0, 844, 256) starts them at 0, 256, 512 and
    # 768, and the last holds 332 tokens and 180 pads. One of 1024: range(0, 768, 256), because the
    # window from 512 ends with the text, and one from 768 would only repeat its second half. One of
    # 200: max(1, -56) leaves the start 0.
    starts = (
        (ids, start)
        for ids in texts
        for start in range(0, max(1, len(ids) - length // 2), length // 2)
    )
    return _padded([ids[start : start + length] for ids, start in starts], length)


def cut_windows(
    values: Sequence[np.ndarray],
    text_format: TextFormat,
    horizon: int,
    context: int,
    batch_size: int = 1,
    seed: int = 0,
) -> Endless:
    """Windows that are cut at random from series (steps, variables) for each step, batch_size of
    them.

    Each ends anywhere in a series, and holds `context` steps at most before its last `horizon`.
    """
    # Series are drawn in proportion to the ends that they have, so that every window is as likely
    # as any other.
    ends = np.array([len(series) - SHORTEST - horizon + 1 for series in values])

    def _window(rng: np.random.Generator) -> list[int]:
        for _ in range(TRIES):
            place = rng.choice(len(values), p=ends / ends.sum())
            end = SHORTEST + horizon + rng.integers(ends[place])
            if ids := _written(
                values[place][max(0, end - context - horizon) : end], horizon, text_format
            ):
                return ids
        raise InputError(
            f"{TRIES} stretches of the table, drawn at random, are all flat; there is nothing to learn"
        )

    def _windows(step: int) -> np.ndarray:
        rng = np.random.default_rng([seed, step])
        return _padded([_window(rng) for _ in range(batch_size)])

    return _windows


def made_up_windows(
    tokens: int, seed: int, text_format: TextFormat = TABLES, without: str = "", pairs: float = 0.0
) -> Endless:
    """Windows of made-up series, drawn anew for each step, of one to eight variables or as many as
    the format has.

    tokens: of a step, in all its windows; eight variables want 640. without: a family left out.
    pairs: the share of steps that hold one long series of prey and predators instead.
    """

    # A step's series have one length, drawn evenly on a logarithmic scale, and there are as many as
    # have room. Of one variable and three digits a step of a series has 4 tokens, and 1024 tokens
    # hold 256 steps: one series of 129 to 256 steps, two of 86 to 128, up to twelve of 20. Only
    # numbers with fewer digits leave pads.
    def _windows(step: int) -> np.ndarray:
        rng = np.random.default_rng([seed, step])
        pair = (
            pairs > 0 and rng.random() < pairs
        )  # not drawn where none are asked for: a seed keeps its series
        written_as = text_format.of(2 if pair else int(rng.choice(len(SHARES), p=SHARES)) + 1)
        most = tokens // written_as.longest_step
        steps = int(
            np.exp(rng.uniform(np.log(most // 2 + 1 if pair else 2 * SHORTEST), np.log(most + 1)))
        )
        rows: list[list[int]] = []
        while len(rows) < most // steps:
            series = (
                dynamics(rng, steps)
                if pair
                else draw_series(rng, steps, written_as.variables, without)
            )
            if ids := _written(series, int(rng.integers(1, steps - SHORTEST + 1)), written_as):
                rows.append(ids)
        return _padded(rows)

    return _windows


def _written(values: np.ndarray, horizon: int, text_format: TextFormat) -> list[int] | None:
    """The token ids of a series, scaled as a forecast of its last `horizon` steps would be; None if
    it has no scale.

    What lies beyond the text's range is written as the nearest number that there is.
    """
    scaling = text_format.scaling(values[:-horizon])
    if not scaling.exists:
        return None
    lowest, highest = scaling.physical(np.array([[0], [text_format.largest]]))
    return text_to_ids(text_format.encode(np.clip(values, lowest, highest), scaling))


def _padded(rows: list[list[int]], width: int = 0) -> np.ndarray:
    """Rows of token ids as windows, int64 (rows, width, or length of the longest), pads on the
    right."""
    width = width or max(map(len, rows))
    return np.array([row + [PAD_ID] * (width - len(row)) for row in rows], dtype=np.int64)


def batch_of(step: int, windows: Source, config: TrainConfig) -> np.ndarray:
    """The windows (batch_size, length) of one step; each epoch is a fresh permutation, so the step
    says it all.

    Fewer rows where there are fewer windows than that.
    """
    if callable(windows):
        return windows(step)
    # Five windows, two a step: an epoch has 5 // 2 = 2 steps, and one window waits for another
    # epoch. Step 3 is divmod(3, 2) = epoch 1, place 1: the third and fourth of epoch 1's
    # permutation, which seed and epoch decide.
    size = min(config.batch_size, len(windows))
    epoch, place = divmod(step, len(windows) // size)
    order = np.random.default_rng([config.seed, epoch]).permutation(len(windows))
    return windows[order[place * size : (place + 1) * size]]


def loss_weights(
    windows: torch.Tensor, tail_weight: float = 1.0, units_weight: float = 1.0
) -> torch.Tensor:
    """How much each predicted token of windows (B, length) weighs in the loss: float32 (B, length -
    1).

    Column i is the weight of the token in column i + 1, which is predicted from columns 0 to i; 0
    for a pad. tail_weight: of a window's last token, against 1 for the first that is predicted;
    linear between. units_weight: a factor for a number's last digit, the one that a digit does not
    follow.
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
    place = torch.arange(windows.shape[1] - 1, device=windows.device) / (
        kept.sum(1, keepdim=True) - 2
    ).clamp(min=1)
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
    """The mean next-token cross-entropy over windows (B, length), weighed as `loss_weights` says;
    nats a token.

    Pads count nowhere: columns that hold only pads are not computed, and causal attention never
    sees those on the right.
    """
    windows = windows[:, : int((windows != PAD_ID).sum(1).max())]
    weights = loss_weights(windows, tail_weight, units_weight)
    with blocked_attention(model):
        logits = model(windows, use_cache=False).logits
    # Column i's logits predict the token in column i + 1. `cross_entropy` wants the 13 classes on
    # axis 1.
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), windows[:, 1:], reduction="none"
    )
    return (losses * weights).sum() / weights.sum()
