"""The forecast protocol: what decides which tokens a given model writes after given contexts.

A protocol says how much of a context the model reads, how it chooses its tokens, and when it stops. It is a frozen
`DecodeConfig`, and is kept in the record of each experiment. The constants beside it belong to how the model is run:
`LONGEST_STEP` follows from the text format, `GROWTH` and `LEAVE_AT` decide what a forecast costs and not what it says.
Nothing here needs torch.
"""

from dataclasses import dataclass

from m2lib.series import FORECAST_STEPS, ROUNDINGS

DECODE_VERSION = 2  # stands in every record: raise it when the same model, contexts and config give other tokens
LONGEST_STEP = 10  # tokens of `dddd,dddd;`
GROWTH = 64  # columns (tokens) by which a KV cache grows
LEAVE_AT = 0.8  # rows that are done leave when no more than this share still writes: each leaving copies the cache


@dataclass(frozen=True)
class DecodeConfig:
    """The forecast protocol. Its defaults read the whole context and write one greedy forecast."""

    context_tokens: int | None = None
    """Prompt length in tokens, the last ones of the context kept; None keeps the whole context."""
    raw_cut: bool = False
    """Cut to exactly `context_tokens`, mid-step if it so falls, as the report did; else at the next step boundary."""
    max_new_tokens: int = 220
    """Tokens generated at most for one forecast. 220, the report's number, holds 20 steps even of the longest kind."""
    steps: int = FORECAST_STEPS
    """Decoding stops after so many semicolons, one of which ends each step."""
    constrained: bool = False
    """Mask the logits so that every step is `d{1,4},d{1,4};`, see `m2lib.decoding.StepGrammar`."""
    temperature: float = 0.0
    """0 is greedy, the likeliest token each time; else tokens are sampled from softmax(logits / temperature)."""
    n_samples: int = 1
    """Sampled forecasts per series, sharing one prefill (the pass that reads the prompt)."""
    rounding: str = "nearest"
    """Rounding of prompt and truth, `nearest` or `published`, see `m2lib.series.codec.to_integers`."""

    def __post_init__(self) -> None:
        """Raise ValueError, with what would be needed, for settings that contradict each other."""
        if self.raw_cut and self.context_tokens is None:
            raise ValueError("raw_cut needs context_tokens")
        if min(self.steps, self.max_new_tokens, self.n_samples) < 1 or self.temperature < 0:
            raise ValueError("steps, max_new_tokens and n_samples must be at least 1, temperature at least 0")
        if self.n_samples > 1 and self.temperature == 0:
            raise ValueError("greedy decoding gives one forecast: set a temperature for n_samples > 1")
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}")

    @classmethod
    def as_published(cls, context_tokens: int = 512) -> "DecodeConfig":
        """The report's protocol: the last N tokens cut raw, 220 new tokens, greedy, unconstrained, its rounding."""
        return cls(context_tokens=context_tokens, raw_cut=True, rounding="published")


def cache_columns(filled: int) -> int:
    """How many columns a KV cache of `filled` tokens is allocated, and its attention computes.

    The pads of shorter prompts count as tokens. The number is rounded up to a multiple of `GROWTH`.
    """
    # A ceiling: // rounds down, so the negative of a negated division rounds up. 65 tokens: -65 // 64 = -2, so two
    # times 64, 128 columns. 64 tokens: -64 // 64 = -1, so 64 columns and none to spare.
    return -(-filled // GROWTH) * GROWTH


def step_columns(longest: int, step: int, samples: int) -> int:
    """How many columns each row attends to in a step, its prompt's and its own.

    `longest` are the tokens of the batch's longest prompt, `step` those that the row has taken after its prompt, that
    of the step included. Several samples share the prompt's columns, and have a cache of their own for the others.
    """
    return cache_columns(longest + step) if samples == 1 else cache_columns(longest) + cache_columns(step)
