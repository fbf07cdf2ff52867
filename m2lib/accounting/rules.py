"""The budget's rules, term by term: what a forward pass costs in the `coursework` convention.

Add, subtract, multiply, divide and abs cost 1; exp, log and sqrt cost 10; a product (m x n)(n x p)
costs m p (2n - 1). Grouped-query attention counts as full multi-head attention. Positions cost
nothing to look up or to compute, but to add them does.

In the code and its comments, n is the number of tokens, d the model's width, c a head's, H the
MLP's inner width and r the rank of the adapters.
"""

from dataclasses import replace

from m2lib.accounting.shape import TARGETS, Breakdown, Shape, Targets, assembled


def product(m: int, n: int, p: int) -> int:
    """Count the FLOPs of (m x n)(n x p) by the rules: an entry is n products and n - 1 additions.

    (2 x 3)(3 x 4) has 8 entries of 3 + 2 FLOPs each, which makes 40. Where n is 0 there is nothing
    to compute, so the cost is 0.
    """
    return m * p * max(0, 2 * n - 1)


def coursework_pass(
    shape: Shape, tokens: int, keys: int, rank: int, targets: Targets = TARGETS
) -> Breakdown:
    """Count the FLOPs of one forward pass by the rules, by component.

    Each of the `tokens` tokens (1 in a cached step) attends over `keys` keys.
    """
    n = tokens
    d = shape.width
    c = shape.head_width
    r = rank
    H = shape.mlp
    pairs = shape.heads * n * keys  # of a query and a key, over all heads; each pair has a score
    # A token's norm: its squares and their mean 2d, + eps 1, sqrt 10; divided by it d, times the
    # gain d.
    norm = n * (4 * d + 11)

    # LoRA: A is (n x d_in)(d_in x r), B is (n x r)(r x d_out), and the n d_out results are scaled
    # and added. By default this is on q and v, which are both d to d: the rules take k and v at the
    # full width d, as if their heads were not grouped.
    widths = replace(shape, kv_heads=shape.heads).projections
    lora = 0
    if rank:
        for name in targets:
            d_in, d_out = widths[name]
            lora += product(n, d_in, r) + product(n, r, d_out) + 2 * n * d_out

    layer = {
        "norms": 2 * norm,  # before attention and before the MLP
        # q, k and v, all at the full width d; and their biases, where the model has them.
        "qkv": 3 * product(n, d, d) + (3 * n * d if shape.qkv_bias else 0),
        "lora": lora,
        "rope": 2 * n * d,  # positions are added to q and to k
        # A head: (n x c)(c x keys); then each score is divided by sqrt(c).
        "scores": shape.heads * product(n, c, keys) + pairs,
        "mask": pairs,  # added to each score
        # A row of 3 scores: exp 3 * 10, their sum 2, the divisions 3, which makes 35.
        "softmax": shape.heads * n * (12 * keys - 1),
        "values": shape.heads * product(n, keys, c),  # a head: (n x keys)(keys x c)
        "output": product(n, d, d),  # the heads' results side by side, (n x d)(d x d)
        "residuals": 2 * n * d,  # x + attention, x + MLP
        # Gate and up: two of (n x d)(d x H). SiLU of the gate, x / (1 + exp(-x)): negation 1,
        # exp 10, addition 1, division 1 make 13 for each of n H numbers. Gate times up: 1 each.
        # Down: (n x H)(H x d).
        "mlp": 2 * product(n, d, H) + 13 * n * H + n * H + product(n, H, d),
    }
    once = {
        "embedding": product(n, shape.vocabulary, d),  # as a product with one-hot rows
        "norms": norm,  # after the last layer
        "head": product(n, d, shape.vocabulary) + n * shape.vocabulary,  # logits, and their biases
    }
    return assembled(layer, once, shape.layers)
