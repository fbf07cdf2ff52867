"""Forecasts from a language model: encode the contexts, decode token by token in left-padded batches, read back."""

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m2lib.codec import FORECAST_STEPS, ROUNDINGS, Decoded, decode, encode, scale_of, to_integers, unscale
from m2lib.vocabulary import COMMA_ID, PAD_ID, SEMICOLON_ID, SYMBOLS, ids_to_text, text_to_ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from m2lib.backbones import Backbone

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
    def published(cls, context_tokens: int = 512) -> "DecodeConfig":
        """The report's protocol: the last N tokens cut raw, 220 new tokens, greedy, unconstrained, its rounding."""
        return cls(context_tokens=context_tokens, raw_cut=True, rounding="published")


@dataclass(frozen=True)
class Forecast:
    """The forecast of one series.

    texts: n_samples generated texts. values: int64 (n_samples, steps, 2), scaled units. repairs: per text, see
    `codec.decode`. scale: physical value of scaled 1000. prompt_tokens: how many were read. new_tokens: how many were
    generated, per text. padded_tokens: the longest prompt of its batch, whose cache all share. passes: how many tokens
    were computed after the prefill, per text, those computed while waiting to leave included.
    """

    texts: tuple[str, ...]
    values: np.ndarray
    repairs: tuple[int, ...]
    scale: float
    prompt_tokens: int
    new_tokens: tuple[int, ...]
    padded_tokens: int
    passes: tuple[int, ...]

    @property
    def point(self) -> np.ndarray:
        """(steps, 2), scaled units: the one forecast, or the median of several at each step (LLMTIME's choice)."""
        return point_forecast(self.values)

    @property
    def physical(self) -> np.ndarray:
        """float64 (n_samples, steps, 2), physical units."""
        return unscale(self.values, self.scale)


def forecast(
    backbone: "Backbone",
    contexts: np.ndarray,
    config: DecodeConfig,
    *,
    batch_size: int = 10,
    seed: int = 0,
    ids: list[int] | None = None,
) -> list[Forecast]:
    """Forecast the steps that follow each context.

    contexts: (n, steps, 2) in physical units. batch_size: contexts decoded together. seed: of the sampling. ids: the
    series' names in errors (default: rows of `contexts`). In float32 greedy forecasts do not depend on the batch; in
    bfloat16 its size can tip the balance between two nearly equal tokens, after which a forecast goes another way.
    Raises InputError for a context that cannot be encoded, naming series and step.
    """
    import torch

    contexts = np.asarray(contexts)
    scales = scale_of(contexts)
    prompts = [
        cut_prompt(text_to_ids(encode(context, scale, config.rounding, series)), config)
        for series, context, scale in zip(ids or range(len(contexts)), contexts, scales, strict=True)
    ]
    generator = torch.Generator().manual_seed(seed)
    forecasts = []
    for start in range(0, len(prompts), batch_size):
        batch = slice(start, start + batch_size)
        generated, passes = generate(backbone.model, prompts[batch], config, generator)
        longest = max(len(prompt) for prompt in prompts[batch])
        for prompt, context, scale, samples, steps in zip(
            prompts[batch], contexts[batch], scales[batch], generated, passes, strict=True
        ):
            texts = tuple(ids_to_text(ids) for ids in samples)
            read = [read_back(text, context, scale, config) for text in texts]
            forecasts.append(
                Forecast(
                    texts,
                    values=np.stack([one.values for one in read]),
                    repairs=tuple(one.repairs for one in read),
                    scale=float(scale),
                    prompt_tokens=len(prompt),
                    new_tokens=tuple(len(ids) for ids in samples),
                    padded_tokens=longest,
                    passes=tuple(steps),
                )
            )
    return forecasts


def point_forecast(values: np.ndarray) -> np.ndarray:
    """One forecast (steps, 2) of samples (n, steps, 2): the sample itself if it is the only one, else their median."""
    return values[0] if len(values) == 1 else np.median(values, axis=0)


def read_back(text: str, context: np.ndarray, scale: float, config: DecodeConfig) -> Decoded:
    """Decode a generated text; what is missing at its start repeats the last step of `context` (steps, 2)."""
    last = to_integers(context[-1:], scale, config.rounding)[0].tolist()
    return decode(text, config.steps, last)


def cut_prompt(ids: list[int], config: DecodeConfig) -> list[int]:
    """The prompt: the last `context_tokens` of a context's ids, from a step boundary on unless `raw_cut`."""
    if config.context_tokens is None or len(ids) <= config.context_tokens:
        return ids
    kept = ids[-config.context_tokens :]
    if config.raw_cut or ids[-config.context_tokens - 1] == SEMICOLON_ID:
        return kept
    return kept[kept.index(SEMICOLON_ID) + 1 :]


def generate(
    model: "PreTrainedModel",
    prompts: list[list[int]],
    config: DecodeConfig,
    generator: "torch.Generator | None" = None,
    engine: type | None = None,
) -> tuple[list[list[list[int]]], list[list[int]]]:
    """New token ids for each prompt and each of its samples, from one prefill per prompt and a KV cache.

    prompts: non-empty lists of ids 0-12, of mixed lengths. A sample ends with its `steps`-th semicolon, before its
    first pad, or after `max_new_tokens`; the loop ends when every sample has. generator: on the CPU, for sampling.
    engine: what runs the model, `decode.Decoding` by default, or `Reference`.
    Returns for each prompt and sample the ids, and how many one-token passes followed the prefill.
    """
    import torch

    if engine is None:
        from m2lib.decode import Decoding as engine
    n = config.n_samples
    with torch.inference_mode():
        running = engine(model, prompts, n)
        device, count = running.logits.device, len(running.logits)
        grammar = StepGrammar(count, device) if config.constrained else None
        live = torch.arange(count, device=device)  # the samples that the engine's rows belong to
        done = torch.zeros(count, dtype=torch.bool, device=device)
        semicolons = torch.zeros(count, dtype=torch.long, device=device)
        written, passes = [[] for _ in range(count)], [0] * count
        for length in range(1, config.max_new_tokens + 1):
            logits = grammar.mask(running.logits) if grammar else running.logits
            # One draw for each sample, whether its row is still there or not: who has left changes nothing.
            draws = torch.rand(count, generator=generator).to(device)[live] if config.temperature else None
            tokens = _choose(logits, config.temperature, draws).masked_fill(done, PAD_ID)
            for sample, token in zip(live.tolist(), tokens.tolist(), strict=True):
                written[sample].append(token)
            semicolons += tokens == SEMICOLON_ID
            done |= (tokens == PAD_ID) | (semicolons == config.steps)
            waiting = int((~done).sum())
            if not waiting or length == config.max_new_tokens:
                break
            if grammar:
                grammar.advance(tokens)
            if waiting <= LEAVE_AT * len(live):
                rows = (~done).nonzero()[:, 0]
                running.keep(rows)
                tokens, semicolons, done, live = tokens[rows], semicolons[rows], done[rows], live[rows]
                if grammar:
                    grammar.state = grammar.state[rows]
            for sample in live.tolist():
                passes[sample] += 1
            running.step(tokens)
    new = [_until_pad(row) for row in written]
    return [new[i : i + n] for i in range(0, count, n)], [passes[i : i + n] for i in range(0, count, n)]


class Reference:
    """The simple way to run a model, through transformers: a left-padded batch and its own cache.

    What `decode.Decoding` is measured against; the attributes and methods that `generate` uses are the same.
    """

    def __init__(self, model: "PreTrainedModel", prompts: list[list[int]], samples: int = 1):
        import torch
        from transformers import DynamicCache

        self.model, self.cache = model, DynamicCache(config=model.config)
        width = max(len(prompt) for prompt in prompts)
        rows = [[PAD_ID] * (width - len(prompt)) + prompt for prompt in prompts]
        self.mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        # Pads take no position: a prompt's first token is at 0 whatever its batch.
        self._forward(torch.tensor(rows, device=model.device), (self.mask.cumsum(1) - 1).clamp(min=0))
        self.cache.batch_repeat_interleave(samples)
        self.logits, self.mask = (x.repeat_interleave(samples, 0) for x in (self.logits, self.mask))

    def step(self, tokens: "torch.Tensor") -> None:
        """Take one more token (rows,) each, and compute the next logits."""
        import torch

        self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
        self._forward(tokens[:, None], self.mask.sum(1, keepdim=True) - 1)

    def keep(self, rows: "torch.Tensor") -> None:
        """Drop all rows but these."""
        self.mask, self.logits = self.mask[rows], self.logits[rows]
        self.cache.batch_select_indices(rows)

    def _forward(self, tokens: "torch.Tensor", position: "torch.Tensor") -> None:
        passed = {"attention_mask": self.mask, "position_ids": position, cache_argument(self.model): self.cache}
        self.logits = self.model(tokens, **passed, use_cache=True, logits_to_keep=1).logits[:, -1]


def cache_argument(model: "PreTrainedModel") -> str:
    """What the model calls its KV cache: transformers 5.24 renamed the argument."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


class StepGrammar:
    """The finite-state machine of `d{1,4},d{1,4};`, one state a sample.

    State 5 * variable + digits so far: 0-4 while the prey is written, 5-9 while the predator is. A prompt ends on a
    step boundary, so every sample starts in state 0.
    """

    def __init__(self, samples: int, device: "torch.device"):
        import torch

        allowed = torch.zeros(10, len(SYMBOLS), dtype=torch.bool)
        following = torch.zeros(10, len(SYMBOLS), dtype=torch.long)
        digit_ids = slice(PAD_ID + 1, COMMA_ID)
        for variable, separator in enumerate((COMMA_ID, SEMICOLON_ID)):
            for digits in range(5):
                state = 5 * variable + digits
                if digits < 4:
                    allowed[state, digit_ids] = True
                    following[state, digit_ids] = state + 1
                if digits > 0:
                    allowed[state, separator] = True
                    following[state, separator] = 5 * (1 - variable)
        self.allowed, self.following = allowed.to(device), following.to(device)
        self.state = torch.zeros(samples, dtype=torch.long, device=device)

    def mask(self, logits: "torch.Tensor") -> "torch.Tensor":
        """logits (samples, 13) with minus infinity where the grammar forbids the token."""
        return logits.masked_fill(~self.allowed[self.state], float("-inf"))

    def advance(self, token: "torch.Tensor") -> None:
        """Move on by the tokens (samples,) chosen. Samples that are done feed pads, which lead back to state 0."""
        self.state = self.following[self.state, token]


def cache_columns(filled: int) -> int:
    """How many columns a KV cache of `filled` tokens is allocated, and its attention computes."""
    return -(-filled // GROWTH) * GROWTH


def _choose(logits: "torch.Tensor", temperature: float, draws: "torch.Tensor | None") -> "torch.Tensor":
    """The likeliest token of each row, or the one where the distribution function passes the row's draw in [0, 1)."""
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits.float() / temperature).softmax(-1).cumsum(-1)
    return (cumulative / cumulative[:, -1:] <= draws[:, None]).sum(-1)


def _until_pad(ids: list[int]) -> list[int]:
    return ids[: ids.index(PAD_ID)] if PAD_ID in ids else ids
