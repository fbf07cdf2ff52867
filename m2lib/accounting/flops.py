"""The FLOP accountant: what forward passes, training steps and forecasts cost, component by
component.

Three conventions, all exact integers:

- `coursework`: the budget's rules, applied to what the model does. Add, subtract, multiply, divide, abs 1; exp, log,
  sqrt 10; a product (m x n)(n x p) costs m p (2n - 1). Grouped-query attention counts as full
  multi-head attention; the backward pass costs twice the forward pass; looking up and computing
  positions is free, adding them is not.
- `executed`: what the hardware computes, as `torch.utils.flop_counter.FlopCounterMode` counts it: products only, at
  2 m n p, heads grouped, only the gradients that are needed, the head only where its logits are
  used. Attention counts over all pairs of tokens, as the plain kernel computes it; kernels that
  know of the causal mask skip part of it.
- `published`: the report's own accountant, with its seven departures from the rules (`m2lib.accounting.published`).

All functions return breakdowns, FLOPs by component; `m2lib.accounting.shape` says what they are and
sums them.
"""

from collections.abc import Callable
from typing import Any

from m2lib.accounting.published import published_pass
from m2lib.accounting.rules import coursework_pass
from m2lib.accounting.shape import (
    PROJECTIONS,
    TARGETS,
    Breakdown,
    Shape,
    Targets,
    added,
    assembled,
    times,
    total,
)


def forward_flops(
    shape: Shape,
    tokens: int,
    *,
    rank: int = 0,
    targets: Targets = TARGETS,
    convention: str = "coursework",
) -> Breakdown:
    """A forward pass, with logits at each token.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of the text.
    rank : int, optional
        Rank of the adapters; 0 is the model without adapters.
    targets : tuple of str, optional
        The projections that have adapters, names of PROJECTIONS. Without adapters they change
        nothing.
    convention : {"coursework", "published", "executed"}, optional
        How to count.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    return PASSES[convention](shape, tokens, tokens, rank, targets)


def train_step_flops(
    shape: Shape,
    tokens: int,
    *,
    rank: int,
    targets: Targets = TARGETS,
    batch: int = 2,
    convention: str = "coursework",
) -> Breakdown:
    """One optimiser step; the optimiser's own arithmetic is not counted.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of each window.
    rank : int
        Rank of the adapters; 0: there are none, and all weights train.
    targets : tuple of str, optional
        As in `forward_flops`.
    batch : int, optional
        Windows in the step.
    convention : {"coursework", "published", "executed"}, optional
        How to count.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    forward = PASSES[convention](shape, tokens, tokens, rank, targets)
    if convention == "published":
        return times(batch + 2, forward)  # departure 5
    if convention == "executed":
        return times(batch, added(forward, executed_backward(shape, tokens, rank, targets)))
    return times(3 * batch, forward)  # a window: forward 1, backward 2


def cached_step_flops(
    shape: Shape,
    keys: int,
    *,
    rank: int = 0,
    targets: Targets = TARGETS,
    convention: str = "coursework",
) -> Breakdown:
    """One more token by way of a KV cache.

    Parameters
    ----------
    shape : Shape
        The model.
    keys : int
        Keys that the token attends over, its own included. `published` charges its step at a fixed
        length, so there `keys` is the prompt's length, whichever step it is.
    rank, targets, convention : int, tuple of str, str
        As in `forward_flops`.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    return PASSES[convention](shape, 1, keys, rank, targets)


def forecast_flops(
    shape: Shape,
    prompt: int,
    new_tokens: int,
    *,
    rank: int = 0,
    targets: Targets = TARGETS,
    samples: int = 1,
    convention: str = "coursework",
) -> Breakdown:
    """A forecast: a prefill of the prompt gives the first new token, a cached step each of the
    others.

    Parameters
    ----------
    shape : Shape
        The model.
    prompt : int
        Tokens of the prompt.
    new_tokens : int
        Tokens decoded after it, one at least.
    rank, targets : int, tuple of str
        As in `forward_flops`.
    samples : int, optional
        Forecasts of `new_tokens` each that share the prefill.
    convention : {"coursework", "published", "executed"}, optional
        How to count.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    one_pass, count = PASSES[convention], new_tokens - 1
    prefill = one_pass(shape, prompt, prompt, rank, targets)
    # The steps have prompt + 1, ..., prompt + count keys; as published all have the prompt's
    # (departure 7).
    ends = (prompt, prompt) if convention == "published" else (prompt + 1, prompt + count)
    first, last = (one_pass(shape, 1, keys, rank, targets) for keys in ends)
    if convention == "executed":
        prefill["head"] = first["head"]  # of a prompt only the last token's logits are computed
    # Every component is affine in the number of keys, so the sum is that of an arithmetic
    # progression: the number of steps times the mean of the first and the last. Three steps at 10,
    # 12 and 14 FLOPs: 3 * (10 + 14) // 2 = 36.
    steps = {part: count * (first[part] + last[part]) // 2 for part in first}
    return added(prefill, times(samples, steps))


def executed_pass(
    shape: Shape, tokens: int, keys: int, rank: int, targets: Targets = TARGETS
) -> Breakdown:
    """One pass of `tokens` tokens (1 in a cached step) over `keys` keys as computed: products only,
    at 2 m n p.

    Components that are no product (norms, softmax, ...) count 0, and so does the embedding, which
    is looked up.
    """
    n, d, k = tokens, shape.width, shape.kv_width
    layer = {
        "qkv": 2 * n * d * (d + 2 * k),  # q is d wide, keys and values only k
        "lora": sum(
            2 * n * rank * sum(shape.projections[name]) for name in targets
        ),  # d_in + d_out numbers a rank
        "scores": 2 * n * keys * d,  # a head: (n x c)(c x keys), and h c = d
        "values": 2 * n * keys * d,  # a head: (n x keys)(keys x c)
        "output": 2 * n * d * d,
        "mlp": 3 * 2 * n * d * shape.mlp,  # gate, up, down
    }
    return assembled(layer, {"head": 2 * n * d * shape.vocabulary}, shape.layers)


PASSES: dict[str, Callable[..., Breakdown]] = {
    "coursework": coursework_pass,
    "published": published_pass,
    "executed": executed_pass,
}
"""What counts a pass, by convention: of a shape, so many tokens, keys, a rank and targets."""
CONVENTIONS = tuple(PASSES)  # the ways of counting; the first is the default
Costs = dict[str, int]
"""FLOPs by convention."""


def executed_backward(shape: Shape, tokens: int, rank: int, targets: Targets) -> Breakdown:
    """The gradients of one window of `tokens` tokens, as computed.

    A product of two factors that both need their gradients costs its forward pass twice. With
    adapters the layers are frozen and need the gradient of their input only, so each costs its
    forward pass once. Nothing trains below layer 0's adapters, so what would lead further down is
    not computed: there no product needs a gradient of what no adapter has changed.
    """
    n, square = tokens, 2 * tokens * tokens * shape.width
    forward = executed_pass(shape, n, n, rank, targets)
    if not rank:  # the embedding trains too, so that all that comes after it needs its gradients
        return times(2, forward)
    # A gradient for the input alone; in these, for each of the two factors.
    backward = forward | {part: 2 * forward[part] for part in ("lora", "scores", "values")}
    # In layer 0, and there only, a number needs a gradient if an adapter of that layer comes before
    # it. With q and v: the queries, the values, the scores and all after them do; the keys and the
    # block's input do not.
    order, still = (
        tuple(PROJECTIONS),
        set(targets).isdisjoint,
    )  # still: none of these projections has an adapter
    # So many projections come before the input of each: none before that of q, k and v, the
    # embedding, which is frozen; q, k and v before o's; o too before gate's and up's; all others
    # before down's.
    for name, before in zip(order, (0, 0, 0, 3, 4, 4, 6), strict=True):
        if still(
            order[:before]
        ):  # no gradient, neither by way of the frozen weight, nor by way of A
            d_in, d_out = shape.projections[name]
            backward[PROJECTIONS[name]] -= 2 * n * d_in * d_out
            backward["lora"] -= 2 * n * d_in * rank * (name in targets)
    backward["scores"] -= square * (
        still(["q_proj"]) + still(["k_proj"])
    )  # scores are queries times keys
    # What the heads found is the scores, after softmax, times the values.
    backward["values"] -= square * (still(["q_proj", "k_proj"]) + still(["v_proj"]))
    return backward


def costs_of(count: Callable[..., Breakdown], *sizes: Any, times: int = 1, **how: Any) -> Costs:
    """So many times what `count`, a function of this module, gives under each convention."""
    return {
        convention: times * total(count(*sizes, **how, convention=convention))
        for convention in CONVENTIONS
    }


def sum_costs(*costs: Costs) -> Costs:
    """0 for none."""
    return {convention: sum(cost[convention] for cost in costs) for convention in CONVENTIONS}
