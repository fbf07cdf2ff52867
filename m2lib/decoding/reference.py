"""The plain way to run a model for forecasting: through transformers, with nothing clever.

It is slow and easy to believe. The tests hold `m2lib.decoding.engine.Engine` to it, logit by logit
and token by token, and the benchmarks measure what the engine gains over it.
"""

from collections.abc import Callable

import torch
from torch.nn.utils.rnn import pad_sequence

from m2lib.model import PAD_ID


class Reference:
    """The plain way to run a model, through transformers: a left-padded batch and its own cache.

    `m2lib.decoding.engine.Engine` is compared with it. Both have the attributes and methods that
    `generate` uses.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model with the 13-token vocabulary.
    prompts : list of list of int
        Non-empty lists of ids 0-12, of mixed lengths.
    num_samples : int, optional
        Number of rows for each prompt.
    tick : callable, optional
        Called once with the number of tokens of all prompts, for a progress bar.

    Attributes
    ----------
    logits : Tensor of float32, shape (rows, 13)
        The logits of each row's next token. At first row i * num_samples + j is sample j of prompt
        i.
    mask : Tensor of int64, shape (rows, columns)
        1 where a column holds a token of the row, 0 where it holds a pad.
    cache : DynamicCache
        Keys and values, as transformers keeps them.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        prompts: list[list[int]],
        num_samples: int = 1,
        tick: Callable[[int], object] | None = None,
    ):
        from transformers import DynamicCache

        self.model = model
        self.cache = DynamicCache(config=model.config)
        # Pads on the left, so that all prompts end in the same column and the next token is the
        # next column's.
        rows = pad_sequence(
            [torch.tensor(prompt) for prompt in prompts],
            batch_first=True,
            padding_value=PAD_ID,
            padding_side="left",
        ).to(model.device)
        self.mask = (rows != PAD_ID).long()
        # Pads take no position: a prompt's first token is at 0 whatever its batch. Mask 0 0 1 1 1
        # adds up to 0 0 1 2 3, less one is -1 -1 0 1 2; nobody attends to a pad, so its position
        # may be anything, here 0.
        logits = self._forward(rows, (self.mask.cumsum(1) - 1).clamp(min=0))
        if tick:
            tick(sum(len(prompt) for prompt in prompts))
        # Each prompt was read once; now its samples get a row each, side by side:
        # prompts 0 0 0 1 1 1, not 0 1 0 1 0 1.
        self.cache.batch_repeat_interleave(num_samples)
        self.logits = logits.repeat_interleave(num_samples, 0)
        self.mask = self.mask.repeat_interleave(num_samples, 0)

    def step(self, tokens: torch.Tensor) -> None:
        """Take one more token for each row, tokens (rows,) of ids 0-12; compute the next logits."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        # A row that has n tokens, this one included, is at position n - 1.
        self.logits = self._forward(tokens[:, None], self.mask.sum(1, keepdim=True) - 1)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, numbers (kept,), ascending."""
        self.mask = self.mask[rows]
        self.logits = self.logits[rows]
        self.cache.batch_select_indices(rows)

    def _forward(self, tokens: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        """Return the logits (rows, 13) after tokens (rows, new) at positions (rows, new).

        The tokens' keys and values join the cache.
        """
        output = self.model(
            tokens,
            attention_mask=self.mask,
            position_ids=position,
            cache=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1]
