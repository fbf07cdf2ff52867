"""What the hardware computes in a forward and in a backward pass: the `executed` convention.

`m2lib.accounting.flops` says what it counts. A component that is no product (norms, softmax, ...) counts 0, and so does
the embedding, which is looked up. The tests compare with `torch.utils.flop_counter.FlopCounterMode`, to the last FLOP.
"""

from m2lib.accounting.shape import Breakdown, Shape, assembled


def executed_pass(shape: Shape, tokens: int, keys: int, rank: int, head_tokens: int) -> Breakdown:
    """One forward pass as computed: products only, at 2 m n p.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens that pass through the model: the prompt's, or 1 in a cached step.
    keys : int
        Keys that each token attends over.
    rank : int
        Rank of the adapters on q and v; 0 is the model without adapters.
    head_tokens : int
        Tokens whose logits are computed: all in training, the last in a prefill.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    n, d, k = tokens, shape.width, shape.kv_width
    layer = {
        "qkv": 2 * n * d * (d + 2 * k),  # q is d wide, keys and values only k
        "lora": 2 * n * rank * (d + d) + 2 * n * rank * (d + k),  # on q and on v
        "scores": 2 * n * keys * d,  # a head: (n x c)(c x keys), and h c = d
        "values": 2 * n * keys * d,  # a head: (n x keys)(keys x c)
        "output": 2 * n * d * d,
        "mlp": 3 * 2 * n * d * shape.mlp,  # gate, up, down
    }
    return assembled(layer, {"head": 2 * head_tokens * d * shape.vocabulary}, shape.layers)


def executed_backward(shape: Shape, tokens: int, rank: int) -> Breakdown:
    """The gradients of one window of `tokens` tokens, as computed.

    Frozen layers need the gradient of their input only, so each costs its forward pass once; LoRA's factors and the
    attention products need two. Nothing trains below layer 0's adapters, so what would lead further down is not
    computed: there the gradients of the inputs of q, k, v and A, and of the keys.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of the window.
    rank : int
        Rank of the adapters on q and v; at 0 only the head's bias trains, and no product is needed.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    n, d, k = tokens, shape.width, shape.kv_width
    forward = executed_pass(shape, n, n, rank, head_tokens=n)
    twice = ("lora", "scores", "values")  # a gradient for each of the two factors; else for the input alone
    backward = {part: flops * (2 if part in twice else 1) for part, flops in forward.items()}
    # In layer 0, and there only, three gradients would lead to the embedding alone, which is frozen:
    backward["qkv"] -= 2 * n * d * (d + 2 * k)  # of the input, by way of the weights of q, k and v
    backward["lora"] -= 2 * 2 * n * d * rank  # of the input, by way of A: once for q, once for v
    backward["scores"] -= 2 * n * n * d  # of the keys, for k has no adapter; q and v have, so theirs are needed
    if not rank:  # only the head's bias trains: nothing flows back at all
        return dict.fromkeys(backward, 0)
    return backward
