"""The budget's rules, term by term: what a forward pass costs in the `coursework` convention.

`m2lib.accounting.flops` lists the prices. In the comments n is the number of tokens, d the model's
width, c a head's, H the MLP's.
"""

from dataclasses import replace

from m2lib.accounting.shape import TARGETS, Breakdown, Shape, Targets, assembled, product


def coursework_pass(
    shape: Shape, tokens: int, keys: int, rank: int, targets: Targets = TARGETS
) -> Breakdown:
    """One forward pass by the rules, of `tokens` tokens (1 in a cached step) that each attend over
    `keys` keys."""
    n, d, c, r = tokens, shape.width, shape.head_width, rank
    pairs = shape.heads * n * keys  # scores, over all heads
    norm = n * (
        4 * d + 11
    )  # squares and their mean 2d, + eps 1, sqrt 10; divided d, times the gain d
    sizes = replace(
        shape, kv_heads=shape.heads
    ).projections  # k and v at full width d, as if not grouped
    widths = [sizes[name] for name in targets if r]
    layer = {
        "norms": 2 * norm,  # before attention and before the MLP
        "qkv": 3
        * (
            product(n, d, d) + n * d * shape.qkv_bias
        ),  # k and v at full width d, as if not grouped; biases
        # By default on q and v, both d to d: A, B, scale, sum.
        "lora": sum(
            product(n, d_in, r) + product(n, r, d_out) + 2 * n * d_out for d_in, d_out in widths
        ),
        "rope": 2 * n * d,  # positions are added to q and to k
        "scores": shape.heads * product(n, c, keys)
        + pairs,  # a head: (n x c)(c x keys); and divided by sqrt(c)
        "mask": pairs,  # added to each score
        "softmax": shape.heads
        * n
        * (12 * keys - 1),  # a row of 3: exp 3 * 10, the sum 2, the divisions 3, is 35
        "values": shape.heads * product(n, keys, c),  # a head: (n x keys)(keys x c)
        "output": product(n, d, d),  # the heads' results side by side, (n x d)(d x d)
        "residuals": 2 * n * d,  # x + attention, x + MLP
        # Gate and up: two of (n x d)(d x H). SiLU of the gate, x / (1 + exp(-x)): negation 1, exp
        # 10, addition 1, division 1, is 13 for each of n H numbers. Gate times up: 1 each. Down: (n
        # x H)(H x d).
        "mlp": 2 * product(n, d, shape.mlp)
        + 13 * n * shape.mlp
        + n * shape.mlp
        + product(n, shape.mlp, d),
    }
    once = {
        "embedding": product(n, shape.vocabulary, d),  # as a product with one-hot rows
        "norms": norm,  # after the last layer
        "head": product(n, d, shape.vocabulary) + n * shape.vocabulary,  # logits, and their biases
    }
    return assembled(layer, once, shape.layers)
