"""The report's own FLOP accountant, which its Table 3 follows, with its seven departures from the rules.

Kept so that its numbers come out to the last digit; `m2lib.flops` is the one to use. Each departure is numbered, and
`DEPARTURES` says it in words. What is not mentioned is as the rules have it.
"""

from m2lib.flops import Breakdown, Shape, assembled, coursework_pass, forecast_flops, product, total

# In words; `departures` gives each in FLOPs.
DEPARTURES = {
    1: "heads map their own c numbers to c, not all d to c",
    2: "LoRA sits in each head at width c; adding it costs 2 c N a head, at rank 0 too",
    3: "SiLU is counted on d numbers, not on the MLP's H; RMSNorm has no gain",
    4: "the scale of the scores costs N N + 10 a head",
    5: "a training step costs batch + 2 forward passes, not 3 x batch",
    6: "a cached step re-runs most of the model on all N tokens",
    7: "N stays at the prompt's length while 220 tokens are decoded",
}


def forward(shape: Shape, tokens: int, rank: int) -> Breakdown:
    """A forward pass of N = `tokens` tokens (departures 1 to 4)."""
    return _pass(shape, tokens, queries=tokens, rank=rank)


def decode_step(shape: Shape, prompt: int, rank: int) -> Breakdown:
    """A decoding step after the first, whichever it is (departures 6 and 7): all N tokens, but one query."""
    return _pass(shape, prompt, queries=1, rank=rank)


def _pass(shape: Shape, tokens: int, queries: int, rank: int) -> Breakdown:
    """All of the model on `tokens` tokens, but q, k, v, scores, scale, final norm and head on `queries` of them."""
    n, m, d, h, c = tokens, queries, shape.width, shape.heads, shape.head_width
    norm = 3 * d + 11  # (3)
    adapter = product(n, c, rank) + product(n, rank, c) if rank else 0
    layer = {
        "norms": 2 * n * norm,
        "qkv": h * 3 * (product(m, c, c) + m * c),  # (1)
        "lora": h * (2 * adapter + 2 * n * c),  # (2)
        "rope": h * 2 * n * c,
        "scores": h * (product(m, c, n) + m * n + 10),  # (4)
        "mask": h * n * n,  # (6): the whole square, as softmax and values
        "softmax": h * n * (12 * n - 1),
        "values": h * product(n, n, c),
        "output": product(n, d, d),
        "residuals": 2 * n * d,
        "mlp": 2 * product(n, d, shape.mlp) + 13 * n * d + n * shape.mlp + product(n, shape.mlp, d),  # (3)
    }
    once = {
        "embedding": product(n, shape.vocabulary, d),
        "norms": m * norm,
        "head": product(m, d, shape.vocabulary) + m * shape.vocabulary,
    }
    return assembled(layer, once, shape.layers)


def departures(shape: Shape, tokens: int, *, rank: int, batch: int = 2, new_tokens: int = 220) -> dict[int, int]:
    """What each departure adds to the rules' count, by its number: negative where the report charges too little.

    1 to 4: to a forward pass of `tokens` tokens; 5: to a training step; 6 and 7: to the steps of a forecast.
    """
    published, rules = forward(shape, tokens, rank), coursework_pass(shape, tokens, tokens, rank)
    extra = {part: published[part] - rules[part] for part in rules}
    steps = new_tokens - 1
    fixed = steps * total(coursework_pass(shape, 1, tokens, rank))
    growing = total(forecast_flops(shape, tokens, new_tokens, rank=rank)) - total(rules)
    return {
        1: extra["qkv"],
        2: extra["lora"],
        3: extra["norms"] + extra["mlp"],
        4: extra["scores"],
        5: (batch + 2 - 3 * batch) * total(published),
        6: steps * total(decode_step(shape, tokens, rank)) - fixed,
        7: fixed - growing,
    }
