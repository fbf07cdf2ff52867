"""The budget's rules."""

from m2lib.accounting.shape import Breakdown, Shape, assembled, product


def coursework_pass(shape: Shape, tokens: int, keys: int, rank: int) -> Breakdown:
    """One forward pass of `tokens` tokens, each attending over `keys` keys, by the rules."""
    n, d, c, r = tokens, shape.width, shape.head_width, rank
    pairs = shape.heads * n * keys  # scores, over all heads
    norm = n * (4 * d + 11)  # squares and their mean 2d, + eps 1, sqrt 10; divided d, times the gain d
    adapter = product(n, d, r) + product(n, r, d) + 2 * n * d  # A, then B, the scale, the sum
    layer = {
        "norms": 2 * norm,
        "qkv": 3 * (product(n, d, d) + n * d * shape.qkv_bias),
        "lora": 2 * adapter if r else 0,
        "rope": 2 * n * d,
        "scores": shape.heads * product(n, c, keys) + pairs,  # and divided by sqrt(c)
        "mask": pairs,
        "softmax": shape.heads * n * (12 * keys - 1),  # exp 10, the sum, the division
        "values": shape.heads * product(n, keys, c),
        "output": product(n, d, d),
        "residuals": 2 * n * d,
        "mlp": 2 * product(n, d, shape.mlp) + 13 * n * shape.mlp + n * shape.mlp + product(n, shape.mlp, d),
    }
    once = {
        "embedding": product(n, shape.vocabulary, d),  # as a product with one-hot rows
        "norms": norm,
        "head": product(n, d, shape.vocabulary) + n * shape.vocabulary,
    }
    return assembled(layer, once, shape.layers)
