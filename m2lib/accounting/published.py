"""The report's own FLOP accountant, which departs from the rules in seven places.

It is kept so that the report's Table 3 comes out to the last digit; `m2lib.accounting.flops` is the
one to use. What no departure mentions is counted as the rules (`m2lib.accounting.rules`) have it.

The report has adapters on q and v only. What they would cost elsewhere is our extension, in the
manner of departure 2: an adapter on k sits in each head at width c, as on q and v; one on o, gate,
up or down has the projection's own widths, d_in -> d_out; and adding its output costs N d_out.
"""

from m2lib.accounting.rules import coursework_pass, product
from m2lib.accounting.shape import (
    PROJECTIONS,
    TARGETS,
    Breakdown,
    Shape,
    Targets,
    assembled,
    total,
)

DEPARTURES = {
    1: "heads map their own c numbers to c, not all d to c",
    2: "LoRA sits in each head at width c; adding it costs 2 c N a head, at rank 0 too",
    3: "SiLU is counted on d numbers, not on the MLP's H; RMSNorm has no gain",
    4: "the scale of the scores costs N N + 10 a head",
    5: "a training step costs batch + 2 forward passes, not 3 x batch",
    6: "a cached step re-runs most of the model on all N tokens",
    7: "N stays at the prompt's length while 220 tokens are decoded",
}
"""The seven departures in words, by their numbers; `departure_costs` gives each in FLOPs."""


def departure_costs(shape: Shape, tokens: int, *, rank: int) -> dict[int, int]:
    """Return the FLOPs that each departure adds to the rules' count.

    A number is negative where the report charges too little.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of the pass, of each window and of the prompt.
    rank : int
        Rank of the adapters on q and v; 0 is the model without adapters.

    Returns
    -------
    dict of int to int
        FLOPs by the number of the departure. 1 to 4 are added to a forward pass of `tokens` tokens,
        5 to a training step of two windows, 6 and 7 to the steps of a forecast of 220 tokens.
    """
    published = published_pass(shape, tokens, tokens, rank)
    rules = coursework_pass(shape, tokens, tokens, rank)
    extra = {part: published[part] - rules[part] for part in rules}

    # The cached steps are one fewer than the new tokens, because the prefill, a forward pass, gives
    # the first. They are counted as published; by the rules, but all at the prompt's length; and by
    # the rules, each with one key more than the one before.
    steps = 220 - 1
    as_published = steps * total(published_pass(shape, 1, tokens, rank))
    fixed_length = steps * total(coursework_pass(shape, 1, tokens, rank))
    growing_length = 0
    for step in range(1, steps + 1):
        growing_length += total(coursework_pass(shape, 1, tokens + step, rank))

    return {
        1: extra["qkv"],
        2: extra["lora"],
        3: extra["norms"] + extra["mlp"],
        4: extra["scores"],
        5: (4 - 6) * total(published),  # a batch of 2 is charged 4 passes, where the rules charge 6
        6: as_published - fixed_length,
        7: fixed_length - growing_length,
    }


def published_pass(
    shape: Shape, tokens: int, keys: int, rank: int, targets: Targets = TARGETS
) -> Breakdown:
    """Count the FLOPs of a pass over N = `keys` tokens as published, by component.

    Only q, k, v, the scores, their scale, the final norm and the head are of `tokens` tokens
    instead. In a forward pass these are all N (departures 1 to 4). A decoding step after the first,
    whichever it is, runs the model on the N tokens of the prompt with one query (departures 6
    and 7). A number in brackets in the code is that of a departure.
    """
    n = keys  # N of the departures
    m = tokens  # the queries
    d = shape.width
    h = shape.heads
    c = shape.head_width
    H = shape.mlp
    norm = 3 * d + 11  # (3): one token's, without the gain; by the rules 4 * d + 11

    # (2): At rank 0, A and B cost nothing, but what q's and v's would give is added all the same.
    lora = 0
    for name in targets if rank else TARGETS:
        if PROJECTIONS[name] == "qkv":  # an adapter in each head
            adapters = h
            d_in, d_out = c, c
        else:
            adapters = 1
            d_in, d_out = shape.projections[name]
        lora += adapters * (product(n, d_in, rank) + product(n, rank, d_out) + n * d_out)

    layer = {
        "norms": 2 * n * norm,
        # (1): Biases are counted in every model, because the report's has them.
        "qkv": h * 3 * (product(m, c, c) + m * c),
        "lora": lora,
        "scores": h * (product(m, c, n) + m * n + 10),  # (4): 10 is the square root in the scale
        "mlp": 2 * product(n, d, H) + 13 * n * d + n * H + product(n, H, d),  # (3): 13 n d
    }
    once = {
        "norms": m * norm,
        "head": product(m, d, shape.vocabulary) + m * shape.vocabulary,
    }
    departing = assembled(layer, once, shape.layers)

    # (6): The other components, 0 so far, cost what the rules charge for the whole text, even if
    # there is only one query.
    rules = coursework_pass(shape, n, n, rank, targets)
    return {part: departing[part] or rules[part] for part in rules}
