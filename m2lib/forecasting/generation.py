"""The decode loop."""

import torch
from transformers import PreTrainedModel

from m2lib.forecasting.engine import Engine
from m2lib.forecasting.grammar import StepGrammar
from m2lib.forecasting.protocol import LEAVE_AT, DecodeConfig
from m2lib.model.vocabulary import PAD_ID, SEMICOLON_ID


def generate(
    model: PreTrainedModel,
    prompts: list[list[int]],
    config: DecodeConfig,
    generator: torch.Generator | None = None,
    engine: type = Engine,
) -> tuple[list[list[list[int]]], list[list[int]]]:
    """New token ids for each prompt and each of its samples, from one prefill per prompt and a KV cache.

    prompts: non-empty lists of ids 0-12, of mixed lengths. A sample ends with its `steps`-th semicolon, before its
    first pad, or after `max_new_tokens`; the loop ends when every sample has. generator: on the CPU, for sampling.
    engine: what runs the model, `decode.Engine` by default, or `Reference`.
    Returns for each prompt and sample the ids, and how many one-token passes followed the prefill.
    """
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


def _choose(logits: torch.Tensor, temperature: float, draws: torch.Tensor | None) -> torch.Tensor:
    """The likeliest token of each row, or the one where the distribution function passes the row's draw in [0, 1)."""
    if temperature == 0:
        return logits.argmax(-1)
    cumulative = (logits.float() / temperature).softmax(-1).cumsum(-1)
    return (cumulative / cumulative[:, -1:] <= draws[:, None]).sum(-1)


def _until_pad(ids: list[int]) -> list[int]:
    return ids[: ids.index(PAD_ID)] if PAD_ID in ids else ids
