"""The forecast protocol, and the loop that writes forecasts token by token, whichever engine runs
the model.

An engine, `m2lib.decoding.engine.Engine` or the plain `m2lib.decoding.reference.Reference`, knows
nothing but rows of tokens: it offers `logits`, takes one more token for each row with `step`, and
drops rows with `keep`. The loop knows what the rows are for: it chooses the tokens, notes which
samples are done, and says which rows may leave.
"""

from dataclasses import dataclass

import torch

from m2lib.decoding.engine import BareModel, Engine
from m2lib.model import COMMA_ID, PAD_ID, SEMICOLON_ID, SYMBOLS
from m2lib.series import FORECAST_STEPS, ROUNDINGS, STUDY, TextFormat

DECODE_VERSION = (
    2  # stands in every record: raise it when the same model, contexts and config give other tokens
)
LEAVE_AT = 0.8  # rows that are done leave when no more than this share still writes: each leaving copies the cache


@dataclass(frozen=True)
class DecodeConfig:
    """The forecast protocol: what of a context is read, how tokens are chosen, and when it ends.

    It is kept in the record of each experiment. The defaults read the whole context and write one
    greedy forecast.
    """

    context_tokens: int | None = None
    """Prompt length in tokens, the last ones of the context kept; None keeps the whole context."""
    raw_cut: bool = False
    """Cut to exactly `context_tokens`, mid-step if it so falls, as the report did; else at the next
    step boundary."""
    max_new_tokens: int = 220
    """Tokens generated at most for one forecast. 220, the report's number, holds 20 steps even of
    the longest kind."""
    steps: int = FORECAST_STEPS
    """Decoding stops after so many semicolons, one of which ends each step."""
    constrained: bool = False
    """Mask the logits so that every step is `d{1,4},d{1,4};`, see `m2lib.decoding.StepGrammar`."""
    temperature: float = 0.0
    """0 is greedy, the likeliest token each time; else tokens are sampled from softmax(logits /
    temperature)."""
    n_samples: int = 1
    """Sampled forecasts per series, sharing one prefill (the pass that reads the prompt)."""
    rounding: str = "nearest"
    """Rounding of prompt and truth, `nearest` or `published`, see
    `m2lib.series.codec.to_integers`."""

    def __post_init__(self) -> None:
        """Raise ValueError for a protocol that cannot be followed, such as greedy samples, which
        would all be one."""
        if (
            min(self.steps, self.n_samples, self.max_new_tokens) < 1
            or (self.context_tokens or 1) < 1
        ):
            raise ValueError(
                "steps, n_samples, max_new_tokens and context_tokens must be at least 1"
            )
        if self.temperature < 0:
            raise ValueError(f"temperature is {self.temperature}; give 0, or more to sample")
        if self.n_samples > 1 and self.temperature == 0:
            raise ValueError(
                "greedy decoding gives one forecast: set a temperature for n_samples > 1"
            )
        if self.rounding not in ROUNDINGS:
            raise ValueError(f"rounding is {self.rounding!r}; it may be {' or '.join(ROUNDINGS)}")

    @classmethod
    def as_published(cls, context_tokens: int = 512) -> "DecodeConfig":
        """The report's protocol: the last N tokens cut raw, 220 new tokens, greedy, unconstrained,
        its rounding."""
        return cls(context_tokens=context_tokens, raw_cut=True, rounding="published")


class StepGrammar:
    """The grammar of a text format's steps, such as `d{1,4},d{1,4};`, as a finite-state machine.

    A model that may choose only what the grammar allows writes text that always parses. A state says what has been
    written of the present step. With two variables of four digits there are ten, numbered 5 * variable (0 prey, 1
    predator) + digits of that variable so far::

        state   written so far   may come next   a digit leads to   the separator leads to
          0                      digit                  1
          1     d                digit or ,             2                     5
          2     dd               digit or ,             3                     5
          3     ddd              digit or ,             4                     5
          4     dddd             ,                                            5
          5     ...,             digit                  6
          6     ...,d            digit or ;             7                     0
          7     ...,dd           digit or ;             8                     0
          8     ...,ddd          digit or ;             9                     0
          9     ...,dddd         ;                                            0

    `allowed` (states, 13) says which token ids may come next in each state, `following` to which
    state each leads, and `state` (samples,) is the present one of each row that is decoded. A
    prompt ends on a step boundary, so every row starts in state 0. When rows leave the batch,
    `generate` keeps the states of the others.
    """

    def __init__(self, samples: int, device: torch.device, text_format: TextFormat = STUDY):
        variables, width = text_format.variables, text_format.digits + 1  # states of a variable
        allowed = torch.zeros(variables, width, len(SYMBOLS), dtype=torch.bool)
        digits = slice(PAD_ID + 1, COMMA_ID)  # ids 1-10 stand between the pad and the comma
        # Digits until there are all, and from the first digit on the separator: of the last
        # variable the semicolon.
        allowed[:, :-1, digits] = True
        allowed[:-1, 1:, COMMA_ID] = True
        allowed[-1, 1:, SEMICOLON_ID] = True
        state = torch.arange(variables * width)[:, None]
        # A separator leads to the next variable's first state; the semicolon, after the last
        # variable, to state 0.
        following = ((state // width + 1) * width % len(state)).repeat(1, len(SYMBOLS))
        following[:, digits] = (state + 1) % len(state)
        self.allowed, self.following = allowed.flatten(0, 1).to(device), following.to(device)
        self.state = torch.zeros(samples, dtype=torch.long, device=device)

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """The logits (samples, 13), with minus infinity, probability zero, for each token that the
        grammar forbids."""
        return logits.masked_fill(~self.allowed[self.state], float("-inf"))

    def advance(self, token: torch.Tensor) -> None:
        """Move on by the tokens chosen, one id a row; where the pads of rows that are done lead
        does not matter."""
        self.state = self.following[self.state, token]


def generate(
    model: torch.nn.Module | BareModel,
    prompts: list[list[int]],
    config: DecodeConfig,
    generator: torch.Generator | None = None,
    engine: type = Engine,
    text_format: TextFormat = STUDY,
) -> tuple[list[list[list[int]]], list[list[int]]]:
    """New token ids for each prompt and each of its samples, from one prefill per prompt and a KV
    cache.

    A sample ends with its `steps`-th semicolon, before its first pad, or after `max_new_tokens`;
    the loop ends when every sample has.

    Parameters
    ----------
    model : PreTrainedModel or BareModel
        A causal language model with the 13-token vocabulary; it is left as it was. Where several
        batches follow each other, a `BareModel` made of it once saves merging and packing its
        weights for each.
    prompts : list of list of int
        Non-empty lists of ids 0-12, of mixed lengths.
    config : DecodeConfig
        The protocol; `n_samples` says how many samples each prompt has. Prompts come already cut.
    generator : torch.Generator, optional
        On the CPU, for sampling (default: torch's own).
    engine : type, optional
        What runs the model, `Engine` or `Reference`.
    text_format : TextFormat, optional
        Of the prompts, for the grammar.

    Returns
    -------
    new : list of list of list of int
        For each prompt and sample the ids, from 1 to 12.
    passes : list of list of int
        For each prompt and sample how many one-token passes followed the prefill, those included
        that its row ran after its end, while it waited to leave.
    """
    n = config.n_samples
    with torch.inference_mode():
        running = engine(model, prompts, n)
        device, count = running.logits.device, len(running.logits)
        grammar = StepGrammar(count, device, text_format) if config.constrained else None
        # Sample i * n + j is the j-th of prompt i, from the first token to the last. At first it is row i * n + j of
        # the engine; as rows leave, the others move up, and `live` says whose they are. 2 prompts, 2 samples each,
        # and sample 1 has left:
        #     row       0  1  2
        #     live      0  2  3      row 1 belongs to sample 2, which is sample 0 of prompt 1
        # Indexed by row are live and left, and in each turn logits, draws and tokens, as is all that the engine and the
        # grammar keep: these shrink together. Indexed by sample are written and passes: these never do.
        live = torch.arange(count, device=device)  # the samples that the engine's rows belong to
        left = torch.full(
            (count,), config.steps, device=device
        )  # the steps that each row may still write
        written: list[list[int]] = [[] for _ in range(count)]
        passes = torch.zeros(count, dtype=torch.long, device=device)
        for length in range(1, config.max_new_tokens + 1):
            # 1. Choose a token for each row; rows that are done, and have not left yet, get pads.
            logits = grammar.mask(running.logits) if grammar else running.logits
            # One draw for each sample, whether its row is still there or not: who has left changes
            # nothing.
            draws = (
                torch.rand(count, generator=generator).to(device)[live]
                if config.temperature
                else None
            )
            tokens = _choose(logits, config.temperature, draws).masked_fill(left == 0, PAD_ID)

            # 2. Note what was written, and which rows end with it.
            for sample, token in zip(live.tolist(), tokens.tolist(), strict=True):
                if token != PAD_ID:
                    written[sample].append(token)
            left = (left - (tokens == SEMICOLON_ID).long()).masked_fill(tokens == PAD_ID, 0)

            # 3. Stop if no row goes on, or let those that are done leave, once they are enough to
            # be worth a copy of the cache. Of 10 rows none leaves while 9 still write; when 8 do,
            # two leave.
            rows = left.nonzero()[:, 0]  # the numbers of those that go on, ascending
            if not len(rows) or length == config.max_new_tokens:
                break
            if len(rows) <= LEAVE_AT * len(live):
                running.keep(rows)
                tokens, left, live = tokens[rows], left[rows], live[rows]
                if grammar:
                    grammar.state = grammar.state[rows]

            # 4. Run grammar and model one token further, for every row that is still there, done or
            # not.
            if grammar:
                grammar.advance(tokens)
            passes[live] += 1
            running.step(tokens)
    return [written[i : i + n] for i in range(0, count, n)], passes.view(-1, n).tolist()


def _choose(logits: torch.Tensor, temperature: float, draws: torch.Tensor | None) -> torch.Tensor:
    """The likeliest token of each row, or the one where the distribution function passes the row's
    draw in [0, 1)."""
    if draws is None:
        return logits.argmax(-1)
    # Ids of probabilities 0.2, 0.5, 0.3 share out [0, 1) at 0.2, 0.7 and 1.0. A draw of 0.65 has
    # one of these at or below it, so the id is 1, as for every draw from 0.2 to just under 0.7:
    # half of them. An id of probability 0 has no draws of its own. The division makes the last
    # bound exactly 1, above every draw, whatever the sum's rounding.
    cumulative = (logits.float() / temperature).softmax(-1).cumsum(-1)
    return (cumulative / cumulative[:, -1:] <= draws[:, None]).sum(-1)
