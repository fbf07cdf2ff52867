"""The forecast protocol."""

from dataclasses import dataclass

from m2lib.series.codec import FORECAST_STEPS, ROUNDINGS

DECODE_VERSION = 2  # raise it when the same model, contexts and config give other tokens
LONGEST_STEP = 10  # tokens of `dddd,dddd;`
GROWTH = 64  # columns by which a KV cache grows
LEAVE_AT = 0.8  # rows that are done leave when no more than this share still writes: each leaving copies the cache


@dataclass(frozen=True)
class DecodeConfig:
    """The forecast protocol.

    context_tokens: prompt length in tokens, the last ones kept (None: the whole context).
    raw_cut: cut to exactly that length, mid-step if it so falls, as the report did; else at the next step boundary.
    max_new_tokens: tokens generated at most for one forecast. steps: decoding stops after so many semicolons.
    constrained: mask the logits so that every step is `d{1,4},d{1,4};`.
    temperature: 0 is greedy; else tokens are sampled from softmax(logits / temperature).
    n_samples: sampled forecasts per series, sharing one prefill. rounding: of prompt and truth, see `codec.encode`.
    """

    context_tokens: int | None = None
    raw_cut: bool = False
    max_new_tokens: int = 220
    steps: int = FORECAST_STEPS
    constrained: bool = False
    temperature: float = 0.0
    n_samples: int = 1
    rounding: str = "nearest"

    def __post_init__(self):
        if self.raw_cut and self.context_tokens is None:
            raise ValueError("raw_cut needs context_tokens")
        if self.context_tokens is not None and self.context_tokens < LONGEST_STEP:
            raise ValueError(f"context_tokens must be at least {LONGEST_STEP}, one step")
        if min(self.steps, self.max_new_tokens, self.n_samples) < 1 or self.temperature < 0:
            raise ValueError("steps, max_new_tokens and n_samples must be at least 1, temperature at least 0")
        if self.n_samples > 1 and self.temperature == 0:
            raise ValueError("greedy decoding gives one forecast: set a temperature for n_samples > 1")
        if self.constrained and self.max_new_tokens < LONGEST_STEP * self.steps:
            raise ValueError(f"{self.steps} constrained steps may need {LONGEST_STEP * self.steps} new tokens")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}")

    @classmethod
    def as_published(cls, context_tokens: int = 512) -> "DecodeConfig":
        """The report's protocol: the last N tokens cut raw, 220 new tokens, greedy, unconstrained, its rounding."""
        return cls(context_tokens=context_tokens, raw_cut=True, rounding="published")


def cache_columns(filled: int) -> int:
    """How many columns a KV cache of `filled` tokens is allocated, and its attention computes."""
    return -(-filled // GROWTH) * GROWTH
