"""The report's own FLOP accountant, which its Table 3 follows, with its seven departures from the rules.

Kept so that its numbers come out to the last digit; `m2lib.accounting.flops` is the one to use. Each departure is
numbered, and `m2lib.accounting.departures.DEPARTURES` says it in words. What is not mentioned is as the rules
(`m2lib.accounting.rules`) have it.

The report has adapters on q and v only. What they would cost elsewhere is ours, in the manner of departure 2: on k in
each head at width c, as on q and v; on o, gate, up and down at the projection's own widths, d_in -> d_out; and adding
it costs N d_out.
"""

from m2lib.accounting.shape import PROJECTIONS, TARGETS, Breakdown, Shape, assembled, product


def published_pass(shape: Shape, tokens: int, rank: int, targets: tuple[str, ...] = TARGETS) -> Breakdown:
    """A forward pass of N = `tokens` tokens (departures 1 to 4).

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of the text, N.
    rank : int
        Rank of the adapters; 0 is the model without adapters.
    targets : tuple of str, optional
        The projections that have adapters, names of PROJECTIONS. Without adapters they change nothing.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    return _pass(shape, tokens, queries=tokens, rank=rank, targets=targets)


def published_cached_step(shape: Shape, prompt: int, rank: int, targets: tuple[str, ...] = TARGETS) -> Breakdown:
    """A decoding step after the first, whichever it is (departures 6 and 7): all N tokens, but one query.

    Parameters
    ----------
    shape : Shape
        The model.
    prompt : int
        Tokens of the prompt, N.
    rank : int
        Rank of the adapters; 0 is the model without adapters.
    targets : tuple of str, optional
        The projections that have adapters, names of PROJECTIONS. Without adapters they change nothing.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    return _pass(shape, prompt, queries=1, rank=rank, targets=targets)


def _pass(shape: Shape, tokens: int, queries: int, rank: int, targets: tuple[str, ...]) -> Breakdown:
    """All of the model on `tokens` tokens, but q, k, v, scores, scale, final norm and head on `queries` of them."""
    n, m, d, h, c = tokens, queries, shape.width, shape.heads, shape.head_width
    norm = 3 * d + 11  # (3): one token's, without the gain; by the rules 4 * d + 11
    adapters = [  # (2): how many, and from what width to what: on q, k and v one in each head
        (h, c, c) if PROJECTIONS[name] == "qkv" else (1, *shape.projections[name])
        for name in (targets if rank else TARGETS)
    ]
    low_rank = [i * (product(n, d_in, rank) + product(n, rank, d_out)) for i, d_in, d_out in adapters] if rank else []
    layer = {
        "norms": 2 * n * norm,
        "qkv": h * 3 * (product(m, c, c) + m * c),  # (1); biases in every model, for the report's has them
        "lora": sum(low_rank) + sum(i * n * d_out for i, _, d_out in adapters),  # (2): the sums without adapters too
        "rope": h * 2 * n * c,
        "scores": h * (product(m, c, n) + m * n + 10),  # (4): 10 is the square root in the scale
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
