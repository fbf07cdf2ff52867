"""The report's own FLOP accountant, which its Table 3 follows, and the seven places where it
departs from the rules.

Kept so that its numbers come out to the last digit; `m2lib.accounting.flops` is the one to use.
What no departure mentions is as the rules (`m2lib.accounting.rules`) have it.

The report has adapters on q and v only. What they would cost elsewhere is ours, in the manner of
departure 2: on k in each head at width c, as on q and v; on o, gate, up and down at the
projection's own widths, d_in -> d_out; and adding it costs N d_out.
"""

from m2lib.accounting.rules import coursework_pass
from m2lib.accounting.shape import (
    PROJECTIONS,
    TARGETS,
    Breakdown,
    Shape,
    Targets,
    assembled,
    product,
    total,
)

# In words; `departure_costs` gives each in FLOPs.
DEPARTURES = {
    1: "heads map their own c numbers to c, not all d to c",
    2: "LoRA sits in each head at width c; adding it costs 2 c N a head, at rank 0 too",
    3: "SiLU is counted on d numbers, not on the MLP's H; RMSNorm has no gain",
    4: "the scale of the scores costs N N + 10 a head",
    5: "a training step costs batch + 2 forward passes, not 3 x batch",
    6: "a cached step re-runs most of the model on all N tokens",
    7: "N stays at the prompt's length while 220 tokens are decoded",
}


def departure_costs(shape: Shape, tokens: int, *, rank: int) -> dict[int, int]:
    """What each departure adds to the rules' count, by its number: negative where the report
    charges too little.

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
    published, rules = (
        count(shape, tokens, tokens, rank) for count in (published_pass, coursework_pass)
    )
    extra = {part: published[part] - rules[part] for part in rules}
    # The cached steps as published, by the rules but all at the prompt's length, and each with one
    # key more than the last. They are one fewer than the new tokens: the prefill, a forward pass,
    # gives the first.
    steps = 220 - 1
    whole = steps * total(published_pass(shape, 1, tokens, rank))
    fixed = steps * total(coursework_pass(shape, 1, tokens, rank))
    growing = sum(
        total(coursework_pass(shape, 1, tokens + step, rank)) for step in range(1, steps + 1)
    )
    return {
        1: extra["qkv"],
        2: extra["lora"],
        3: extra["norms"] + extra["mlp"],
        4: extra["scores"],
        5: (4 - 6) * total(published),  # a batch of 2 is charged 4 passes, where the rules charge 6
        6: whole - fixed,
        7: fixed - growing,
    }


def published_pass(
    shape: Shape, tokens: int, keys: int, rank: int, targets: Targets = TARGETS
) -> Breakdown:
    """A pass over N = `keys` tokens, but q, k, v, scores, scale, final norm and head of `tokens` of
    them.

    In a forward pass all of them are queries (departures 1 to 4). A decoding step after the first,
    whichever it is, runs the model on the N tokens of the prompt with one query (departures 6 and
    7).
    """
    n, m, d, h, c = keys, tokens, shape.width, shape.heads, shape.head_width
    norm = 3 * d + 11  # (3): one token's, without the gain; by the rules 4 * d + 11
    adapters = [  # (2): how many, and from what width to what: on q, k and v one in each head
        (h, c, c) if PROJECTIONS[name] == "qkv" else (1, *shape.projections[name])
        for name in (targets if rank else TARGETS)
    ]
    layer = {
        "norms": 2 * n * norm,
        "qkv": h
        * 3
        * (product(m, c, c) + m * c),  # (1); biases in every model, for the report's has them
        # (2): at rank 0 A and B cost nothing, and what they would give is added all the same
        "lora": sum(
            i * (product(n, d_in, rank) + product(n, rank, d_out) + n * d_out)
            for i, d_in, d_out in adapters
        ),
        "scores": h * (product(m, c, n) + m * n + 10),  # (4): 10 is the square root in the scale
        "mlp": 2 * product(n, d, shape.mlp)
        + 13 * n * d
        + n * shape.mlp
        + product(n, shape.mlp, d),  # (3)
    }
    once = {"norms": m * norm, "head": product(m, d, shape.vocabulary) + m * shape.vocabulary}
    departing = assembled(layer, once, shape.layers)
    # (6): all else is what the rules have for the whole text, of one query too.
    rules = coursework_pass(shape, n, n, rank, targets)
    return rules | {part: flops for part, flops in departing.items() if flops}
