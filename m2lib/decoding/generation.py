"""The forecast protocol, and the loop that writes forecasts token by token, on any engine.

An engine, `m2lib.decoding.engine.Engine` or the plain `m2lib.decoding.reference.Reference`, knows
nothing but rows of tokens: it offers `logits`, takes one more token for each row with `step`, and
drops rows with `keep`. The loop knows what the rows are for: it chooses the tokens, notes which
samples are done, and says which rows may leave.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from m2lib.decoding.bare_model import BareModel
from m2lib.decoding.engine import Engine
from m2lib.errors import InputError, check_count
from m2lib.model import COMMA_ID, PAD_ID, SEMICOLON_ID, SYMBOLS
from m2lib.series import FORECAST_STEPS, ROUNDINGS, STUDY, TextFormat

DECODE_VERSION = 2
"""The version of the decoding, which stands in every record.

Raise it when the same model, contexts and config give other tokens than before, or samples of
another distribution. Which random numbers they are drawn with does not count.
"""
# Finished rows leave the batch together, once at most this share of its rows still writes, because
# the cache is copied each time that any leave.
LEAVE_AT = 0.8


@dataclass(frozen=True)
class DecodeConfig:
    """The forecast protocol: how much context is read, how tokens are chosen, and when to stop.

    It is stored in the record of each experiment. The defaults read the whole context and write one
    greedy forecast. A protocol that makes no sense raises InputError.
    """

    context_tokens: int | None = None
    """Length of the prompt, which is the end of the context; None reads the whole context."""
    raw_cut: bool = False
    """Whether the prompt has exactly `context_tokens`, as in the report, even if it then begins
    within a step; otherwise it begins at the next step boundary."""
    max_new_tokens: int = 220
    """Largest number of tokens generated for one forecast. 220, the report's number, is enough for
    20 steps of the study's text format, each of which has at most 10 tokens."""
    steps: int = FORECAST_STEPS
    """Number of steps. Each ends with a semicolon, so decoding stops after as many semicolons."""
    constrained: bool = False
    """Whether the logits are masked so that every step is one of the text format, in the study's
    `d{1,4},d{1,4};`, see `m2lib.decoding.StepGrammar`."""
    temperature: float = 0.0
    """At 0 decoding is greedy and takes the likeliest token each time; above 0 tokens are sampled
    from softmax(logits / temperature)."""
    n_samples: int = 1
    """Number of forecasts of each series, which share one prefill (the pass that reads the
    prompt)."""
    rounding: str = "nearest"
    """Rounding of prompt and truth, `nearest` or `published`, see
    `m2lib.series.codec.to_integers`."""

    def __post_init__(self) -> None:
        """Raise InputError for a protocol that makes no sense.

        For example, several greedy samples of a series would all be the same.
        """
        for name in ("steps", "n_samples", "max_new_tokens"):
            check_count(name, getattr(self, name))
        if self.context_tokens is not None:
            check_count("context_tokens", self.context_tokens)
        if not 0 <= self.temperature < math.inf:  # nan fails too
            raise InputError(f"temperature is {self.temperature}; give 0, or more to sample")
        if self.n_samples > 1 and self.temperature == 0:
            raise InputError(
                "at temperature 0 all samples are the same; give a temperature above 0, or ask for "
                "one sample"
            )
        if self.rounding not in ROUNDINGS:
            raise InputError(f"rounding is {self.rounding!r}; it may be {' or '.join(ROUNDINGS)}")

    @classmethod
    def as_published(cls, context_tokens: int = 512) -> "DecodeConfig":
        """Return the report's protocol.

        It has a raw cut and the report's rounding, and writes up to 220 new tokens, greedily and
        unconstrained.
        """
        return cls(context_tokens=context_tokens, raw_cut=True, rounding="published")


class StepGrammar:
    """The grammar of a text format's steps, such as `d{1,4},d{1,4};`, as a finite-state machine.

    A model that may choose only what the grammar allows writes text that always parses. A state
    says what has been written of the present step. Two variables of four digits have ten states,
    numbered 5 * variable (0 prey, 1 predator) + digits of that variable so far::

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

    `allowed` (states, 13) says which token ids may come next in each state, `following` (states,
    13) which state each of them leads to, and `state` (rows,) is the present state of each row.
    A prompt ends on a step boundary, so every row starts in state 0. When rows leave the batch,
    `generate` keeps the states of the others.
    """

    def __init__(self, num_rows: int, device: torch.device, text_format: TextFormat = STUDY):
        variables = text_format.variables
        width = text_format.digits + 1  # states of a variable: 0, 1, ... digits so far
        digits = slice(PAD_ID + 1, COMMA_ID)  # ids 1-10 stand between the pad and the comma

        # A digit is allowed until the variable has all its digits. Its separator is allowed once it
        # has a digit: a comma, or the semicolon if the variable is the last.
        allowed = torch.zeros(variables, width, len(SYMBOLS), dtype=torch.bool)
        allowed[:, :-1, digits] = True
        allowed[:-1, 1:, COMMA_ID] = True
        allowed[-1, 1:, SEMICOLON_ID] = True

        # A digit leads to the next state. A separator leads to the next variable's first state, or
        # from the last variable to state 0. Of the ten states above, 0 to 4 belong to variable 0
        # and lead to (0 + 1) * 5 = 5; 5 to 9 belong to variable 1 and lead to (1 + 1) * 5 % 10 = 0.
        states = torch.arange(variables * width)[:, None]
        after_separator = (states // width + 1) * width % len(states)
        following = after_separator.repeat(1, len(SYMBOLS))
        following[:, digits] = (states + 1) % len(states)

        self.allowed = allowed.flatten(0, 1).to(device)
        self.following = following.to(device)
        self.state = torch.zeros(num_rows, dtype=torch.long, device=device)

    def mask(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits (rows, 13), minus infinity for each token that the grammar forbids."""
        return logits.masked_fill(~self.allowed[self.state], float("-inf"))

    def advance(self, token: torch.Tensor) -> None:
        """Move to the states that the chosen tokens (rows,) lead to, one id for each row.

        It does not matter where a pad leads, because a row that gets one is done.
        """
        self.state = self.following[self.state, token]


def generate(
    model: torch.nn.Module | BareModel,
    prompts: list[list[int]],
    config: DecodeConfig,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    engine: type = Engine,
    text_format: TextFormat = STUDY,
    tick: Callable[[int], object] | None = None,
) -> tuple[list[list[list[int]]], list[list[int]]]:
    """Generate new token ids for each prompt and sample, from one prefill per prompt.

    A sample ends with its `steps`-th semicolon, before its first pad, or after `max_new_tokens`;
    the loop ends when all samples have ended.

    Parameters
    ----------
    model : PreTrainedModel or BareModel
        A causal language model with the 13-token vocabulary; it is left as it was. For several
        batches pass one `BareModel`, so that the weights are merged and packed only once.
    prompts : list of list of int
        Non-empty lists of ids 0-12, of mixed lengths.
    config : DecodeConfig
        The protocol; each prompt has `n_samples` samples. The prompts are not cut again.
    generator : torch.Generator or sequence of torch.Generator, optional
        For sampling, on the CPU: one for all prompts (default: torch's own), or one for each, whose
        samples then do not depend on the other prompts.
    engine : type, optional
        The class that runs the model, `Engine` or `Reference`.
    text_format : TextFormat, optional
        The format of the prompts, for the grammar.
    tick : callable, optional
        Called with the number of tokens that the model has just run, prompt by prompt and then pass
        by pass, for a progress bar.

    Returns
    -------
    new : list of list of list of int
        The generated ids, from 1 to 12, of each prompt and sample.
    passes : list of list of int
        The number of one-token passes after the prefill, of each prompt and sample. It includes
        those that a row ran after its end, while it waited to leave.
    """
    n = config.n_samples
    with torch.inference_mode():
        rows = engine(model, prompts, n, tick)  # reads the prompts; has a row for each sample
        device = rows.logits.device
        count = len(rows.logits)
        grammar = StepGrammar(count, device, text_format) if config.constrained else None
        # Sample i * n + j is the j-th of prompt i, from the first token to the last. At first it is
        # also row i * n + j of the batch. As rows leave, the others move up, and `sample_of_row`
        # says which sample each of them is. Of 2 prompts with 2 samples each, sample 1 has left:
        #     row              0  1  2
        #     sample_of_row    0  2  3      row 1 is sample 2, which is the first of prompt 1
        # `written` and `passes` are indexed by sample, and never shrink. Indexed by row are
        # sample_of_row, steps_to_go, logits, draws, tokens, and what `rows` and the grammar keep;
        # these shrink together.
        sample_of_row = torch.arange(count, device=device)
        steps_to_go = torch.full((count,), config.steps, device=device)  # 0: the row is done
        written: list[list[int]] = [[] for _ in range(count)]
        passes = torch.zeros(count, dtype=torch.long, device=device)
        # At these bounds the likeliest token is certain, or all are equally likely. Far beyond them
        # float32 overflows, and every sample would be empty.
        temperature = min(max(config.temperature, 1e-30), 1e30)
        generators = generator if isinstance(generator, Sequence) else [generator] * len(prompts)

        for length in range(1, config.max_new_tokens + 1):
            # 1. Choose a token for each row; rows that are done, and have not left yet, get pads.
            logits = grammar.mask(rows.logits) if grammar else rows.logits
            draws = None
            if config.temperature > 0:
                # One draw for each sample, whether its row is still there or not, so that the order
                # in which rows leave changes nothing.
                draws = torch.cat([torch.rand(n, generator=one) for one in generators])
                draws = draws.to(device)[sample_of_row]
            tokens = _choose(logits, temperature, draws)
            tokens = tokens.masked_fill(steps_to_go == 0, PAD_ID)

            # 2. Note what was written, and which rows end with it: a semicolon ends a step, a pad
            # the whole sample.
            for sample, token in zip(sample_of_row.tolist(), tokens.tolist(), strict=True):
                if token != PAD_ID:
                    written[sample].append(token)
            steps_to_go = steps_to_go - (tokens == SEMICOLON_ID).long()
            steps_to_go = steps_to_go.masked_fill(tokens == PAD_ID, 0)

            # 3. Stop if no row goes on. Otherwise let finished rows leave, once there are enough of
            # them to be worth a copy of the cache: of 10 rows none leaves while 9 still write, and
            # two leave when 8 do.
            unfinished_rows = steps_to_go.nonzero()[:, 0]  # the numbers of these rows, ascending
            if len(unfinished_rows) == 0 or length == config.max_new_tokens:
                break
            if len(unfinished_rows) <= LEAVE_AT * len(sample_of_row):
                rows.keep(unfinished_rows)
                tokens = tokens[unfinished_rows]
                steps_to_go = steps_to_go[unfinished_rows]
                sample_of_row = sample_of_row[unfinished_rows]
                if grammar:
                    grammar.state = grammar.state[unfinished_rows]

            # 4. Run grammar and model one token further, for every row that is still there, done or
            # not.
            if grammar:
                grammar.advance(tokens)
            passes[sample_of_row] += 1
            rows.step(tokens)
            if tick:
                tick(len(tokens))
    new = [written[first : first + n] for first in range(0, count, n)]
    return new, passes.view(-1, n).tolist()


def _choose(logits: torch.Tensor, temperature: float, draws: torch.Tensor | None) -> torch.Tensor:
    """Choose the token of each row: the likeliest, or one sampled by the row's draw in [0, 1).

    The temperature is read only if there are draws. A draw is turned into a token by inverting the
    cumulative distribution function.
    """
    if draws is None:
        return logits.argmax(-1)
    # Three ids with the probabilities 0.2, 0.5 and 0.3 have the cumulative bounds 0.2, 0.7 and 1.0.
    # A draw of 0.65 has one bound at or below it, so it gives id 1, as does every draw from 0.2 to
    # just under 0.7, which is half of them. No draw gives an id of probability 0. The division
    # makes the last bound exactly 1, above every draw, however the sum was rounded.
    cumulative = (logits.float() / temperature).softmax(-1).cumsum(-1)
    return (cumulative / cumulative[:, -1:] <= draws[:, None]).sum(-1)
