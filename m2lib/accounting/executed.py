"""What the hardware computes."""

from m2lib.accounting.shape import Breakdown, Shape, assembled


def executed_pass(shape: Shape, tokens: int, keys: int, rank: int, head_tokens: int) -> Breakdown:
    """One forward pass as computed: products only, at 2 m n p; the head on `head_tokens` of the tokens."""
    n, d, k = tokens, shape.width, shape.kv_width
    layer = {
        "qkv": 2 * n * d * (d + 2 * k),
        "lora": 2 * n * rank * (d + d) + 2 * n * rank * (d + k),  # on q and on v
        "scores": 2 * n * keys * d,
        "values": 2 * n * keys * d,
        "output": 2 * n * d * d,
        "mlp": 3 * 2 * n * d * shape.mlp,
    }
    return assembled(layer, {"head": 2 * head_tokens * d * shape.vocabulary}, shape.layers)


def executed_backward(shape: Shape, tokens: int, rank: int) -> Breakdown:
    """The gradients of one window of `tokens` tokens, as computed.

    Frozen layers need the gradient of their input only, so each costs its forward pass once; LoRA's factors and the
    attention products need two. Nothing trains below layer 0's adapters, so what would lead further down is not
    computed: there the gradients of the inputs of q, k, v and A, and of the keys.
    """
    n, d, k = tokens, shape.width, shape.kv_width
    forward = executed_pass(shape, n, n, rank, head_tokens=n)
    twice = ("lora", "scores", "values")
    backward = {part: flops * (2 if part in twice else 1) for part, flops in forward.items()}
    backward["qkv"] -= 2 * n * d * (d + 2 * k)
    backward["lora"] -= 2 * 2 * n * d * rank
    backward["scores"] -= 2 * n * n * d
    if not rank:  # only the head's bias trains: nothing flows back at all
        return dict.fromkeys(backward, 0)
    return backward
