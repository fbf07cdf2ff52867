"""What the hardware computes in a forward and in a backward pass: the `executed` convention.

`m2lib.accounting.flops` says what it counts. A component that is no product (norms, softmax, ...) counts 0, and so does
the embedding, which is looked up. The tests compare with `torch.utils.flop_counter.FlopCounterMode`, to the last FLOP.
"""

from m2lib.accounting.shape import PROJECTIONS, TARGETS, Breakdown, Shape, assembled


def executed_pass(
    shape: Shape, tokens: int, keys: int, rank: int, head_tokens: int, targets: tuple[str, ...] = TARGETS
) -> Breakdown:
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
        Rank of the adapters; 0 is the model without adapters.
    head_tokens : int
        Tokens whose logits are computed: all in training, the last in a prefill.
    targets : tuple of str, optional
        The projections that have adapters, names of PROJECTIONS. Without adapters they change nothing.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    n, d, k = tokens, shape.width, shape.kv_width
    layer = {
        "qkv": 2 * n * d * (d + 2 * k),  # q is d wide, keys and values only k
        "lora": sum(2 * n * rank * sum(shape.projections[name]) for name in targets),  # d_in + d_out numbers a rank
        "scores": 2 * n * keys * d,  # a head: (n x c)(c x keys), and h c = d
        "values": 2 * n * keys * d,  # a head: (n x keys)(keys x c)
        "output": 2 * n * d * d,
        "mlp": 3 * 2 * n * d * shape.mlp,  # gate, up, down
    }
    return assembled(layer, {"head": 2 * head_tokens * d * shape.vocabulary}, shape.layers)


def executed_backward(shape: Shape, tokens: int, rank: int, targets: tuple[str, ...] = TARGETS) -> Breakdown:
    """The gradients of one window of `tokens` tokens, as computed.

    A product of two factors that both need their gradients costs its forward pass twice. With adapters the layers are
    frozen and need the gradient of their input only, so each costs its forward pass once. Nothing trains below layer
    0's adapters, so what would lead further down is not computed: there no product needs a gradient of what no adapter
    has changed.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of the window.
    rank : int
        Rank of the adapters; 0: there are none, and all weights train.
    targets : tuple of str, optional
        The projections that have adapters, names of PROJECTIONS.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    n, square = tokens, 2 * tokens * tokens * shape.width
    forward = executed_pass(shape, n, n, rank, head_tokens=n, targets=targets)
    if not rank:  # the embedding trains too, so that all that comes after it needs its gradients
        return {part: 2 * flops for part, flops in forward.items()}
    twice = ("lora", "scores", "values")  # a gradient for each of the two factors; else for the input alone
    backward = {part: flops * (2 if part in twice else 1) for part, flops in forward.items()}
    # In layer 0, and there only, a number needs a gradient if an adapter of that layer comes before it. With q and v:
    # the queries, the values, the scores and all after them do; the keys and the block's input do not.
    q, k, v, o, gate, up, _ = (name in targets for name in PROJECTIONS)
    scores = q or k
    heads = scores or v  # what the heads found, which o reads
    middle = heads or o  # what stands between attention and the MLP, which gate and up read
    inner = middle or gate or up  # gate times up, which down reads
    inputs = (False, False, False, heads, middle, middle, inner)  # q, k and v read the embedding, which is frozen
    for (name, (d_in, d_out)), needed in zip(shape.projections.items(), inputs, strict=True):
        if not needed:  # neither by way of the frozen weight, nor by way of A
            backward[PROJECTIONS[name]] -= 2 * n * d_in * d_out
            backward["lora"] -= 2 * n * d_in * rank * (name in targets)
    backward["scores"] -= square * ((not q) + (not k))  # scores are queries times keys
    backward["values"] -= square * ((not scores) + (not v))  # what the heads found is scores, after softmax, times v
    return backward
