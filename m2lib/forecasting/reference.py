"""The simple way to run a model."""

import inspect

import torch
from transformers import DynamicCache, PreTrainedModel

from m2lib.model.vocabulary import PAD_ID


class Reference:
    """The simple way to run a model, through transformers: a left-padded batch and its own cache.

    What `decode.Engine` is measured against; the attributes and methods that `generate` uses are the same.
    """

    def __init__(self, model: PreTrainedModel, prompts: list[list[int]], samples: int = 1):
        self.model, self.cache = model, DynamicCache(config=model.config)
        width = max(len(prompt) for prompt in prompts)
        rows = [[PAD_ID] * (width - len(prompt)) + prompt for prompt in prompts]
        self.mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        # Pads take no position: a prompt's first token is at 0 whatever its batch.
        self._forward(torch.tensor(rows, device=model.device), (self.mask.cumsum(1) - 1).clamp(min=0))
        self.cache.batch_repeat_interleave(samples)
        self.logits, self.mask = (x.repeat_interleave(samples, 0) for x in (self.logits, self.mask))

    def step(self, tokens: torch.Tensor) -> None:
        """Take one more token (rows,) each, and compute the next logits."""
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self._forward(tokens[:, None], self.mask.sum(1, keepdim=True) - 1)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these."""
        self.mask, self.logits = self.mask[rows], self.logits[rows]
        self.cache.batch_select_indices(rows)

    def _forward(self, tokens: torch.Tensor, position: torch.Tensor) -> None:
        passed = {"attention_mask": self.mask, "position_ids": position, cache_argument(self.model): self.cache}
        self.logits = self.model(tokens, **passed, use_cache=True, logits_to_keep=1).logits[:, -1]


def cache_argument(model: PreTrainedModel) -> str:
    """What the model calls its KV cache: transformers 5.24 renamed the argument."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
