"""The FLOP accountant: what forward passes, training steps and forecasts cost, by component.

It counts by three conventions, in exact integers:

- `coursework` applies the budget's rules to what the model does: the prices are those of
  `m2lib.accounting.rules`, and the backward pass costs twice the forward pass.
- `executed` is what the hardware computes, as `torch.utils.flop_counter.FlopCounterMode` counts it:
  products only, at 2 m n p, with heads grouped, only the gradients that are needed, and the head
  only where its logits are used. Attention counts over all pairs of tokens, as the plain kernel
  computes it; kernels that know of the causal mask skip part of it.
- `published` is the report's own accountant, with its seven departures from the rules
  (`m2lib.accounting.published`).

The functions return breakdowns, FLOPs by component; `m2lib.accounting.shape` defines and sums them.
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
    """Count the FLOPs of a forward pass that computes logits at each token.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of the text.
    rank : int, optional
        Rank of the adapters; 0 is the model without adapters.
    targets : tuple of str, optional
        The projections that have adapters, names of PROJECTIONS. Default: q and v, as in the
        report; `tuple(PROJECTIONS)` are all seven. Without adapters they change nothing.
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
    """Count the FLOPs of one training step, without the optimiser's own arithmetic.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of each window.
    rank : int
        Rank of the adapters; at 0 there are none, and all weights train.
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
        backward = executed_backward(shape, tokens, rank, targets)
        return times(batch, added(forward, backward))
    return times(3 * batch, forward)  # for each window forward 1, backward 2


def cached_step_flops(
    shape: Shape,
    keys: int,
    *,
    rank: int = 0,
    targets: Targets = TARGETS,
    convention: str = "coursework",
) -> Breakdown:
    """Count the FLOPs of one more token by way of a KV cache.

    Parameters
    ----------
    shape : Shape
        The model.
    keys : int
        Keys that the token attends over, its own included. `published` charges every step at the
        prompt's length, so with that convention `keys` is the length of the prompt.
    rank, targets, convention : int, tuple of str, str, optional
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
    """Count the FLOPs of a forecast.

    A prefill of the prompt gives the first new token, and a cached step each of the others.

    Parameters
    ----------
    shape : Shape
        The model.
    prompt : int
        Tokens of the prompt.
    new_tokens : int
        Number of tokens decoded after the prompt. The first comes with the prefill, so a forecast
        of none, which ended at once, costs as much as one of a single token.
    rank, targets : int, tuple of str, optional
        As in `forward_flops`.
    samples : int, optional
        Number of forecasts, of `new_tokens` tokens each, that share the prefill.
    convention : {"coursework", "published", "executed"}, optional
        How to count.

    Returns
    -------
    Breakdown
        FLOPs by component.
    """
    one_pass = PASSES[convention]
    prefill = one_pass(shape, prompt, prompt, rank, targets)

    steps = max(0, new_tokens - 1)
    if convention == "published":  # every step has the prompt's number of keys (departure 7)
        first_keys = prompt
        last_keys = prompt
    else:
        first_keys = prompt + 1
        last_keys = prompt + steps
    first = one_pass(shape, 1, first_keys, rank, targets)
    last = one_pass(shape, 1, last_keys, rank, targets)
    # Every component is affine in the number of keys, so the sum is that of an arithmetic
    # progression: the number of steps times the mean of the first and the last. Three steps at 10,
    # 12 and 14 FLOPs: 3 * (10 + 14) // 2 = 36.
    all_steps = {part: steps * (first[part] + last[part]) // 2 for part in first}

    if convention == "executed":
        prefill["head"] = first["head"]  # of a prompt only the last token's logits are computed
    return added(prefill, times(samples, all_steps))


def executed_pass(
    shape: Shape, tokens: int, keys: int, rank: int, targets: Targets = TARGETS
) -> Breakdown:
    """Count the FLOPs of one pass as executed, by component: products only, at 2 m n p.

    Each of the `tokens` tokens (1 in a cached step) attends over `keys` keys. Components that are
    no product (norms, softmax, ...) count 0, and so does the embedding, which is looked up.
    """
    n = tokens
    d = shape.width
    k = shape.kv_width

    lora = 0
    for name in targets:
        d_in, d_out = shape.projections[name]
        lora += 2 * n * rank * (d_in + d_out)  # A: (n x d_in)(d_in x r), B: (n x r)(r x d_out)

    layer = {
        "qkv": 2 * n * d * (d + 2 * k),  # q is d wide, keys and values only k
        "lora": lora,
        "scores": 2 * n * keys * d,  # a head: (n x c)(c x keys), and h c = d
        "values": 2 * n * keys * d,  # a head: (n x keys)(keys x c)
        "output": 2 * n * d * d,
        "mlp": 3 * 2 * n * d * shape.mlp,  # gate, up, down
    }
    once = {"head": 2 * n * d * shape.vocabulary}
    return assembled(layer, once, shape.layers)


PASSES: dict[str, Callable[..., Breakdown]] = {
    "coursework": coursework_pass,
    "published": published_pass,
    "executed": executed_pass,
}
"""The function that counts a pass by each convention, called as `executed_pass` is."""
CONVENTIONS = tuple(PASSES)  # the ways of counting; the first is the default
Costs = dict[str, int]
"""FLOPs by convention."""

# For each projection of a block, the others through which its input comes.
UPSTREAM: dict[str, Targets] = {
    "q_proj": (),
    "k_proj": (),
    "v_proj": (),
    "o_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_proj": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "up_proj": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "down_proj": ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"),
}


def executed_backward(shape: Shape, tokens: int, rank: int, targets: Targets) -> Breakdown:
    """Count the FLOPs of the gradients of one window of `tokens` tokens as executed, by component.

    A product of two factors that both need their gradients costs its forward pass twice. With
    adapters the layers are frozen and need the gradient of their input only, so each costs its
    forward pass once. Nothing trains below layer 0's adapters, so gradients stop there: in layer 0
    no product computes the gradient of a factor that no adapter has changed.
    """
    forward = executed_pass(shape, tokens, tokens, rank, targets)
    if not rank:  # the embedding trains too, so everything after it needs both its gradients
        return times(2, forward)

    # First every layer as if adapters lay below it. The frozen layers need a gradient for their
    # input alone; these products need one for each of their two factors.
    backward = dict(forward)
    for part in ("lora", "scores", "values"):
        backward[part] = 2 * forward[part]

    # Then what layer 0 saves: there a number needs its gradient only if an adapter of that layer
    # comes before it. With adapters on q and v, the queries, the values, the scores and all that
    # comes after them need theirs; the keys and the block's input do not.
    adapted = set(targets)
    for name, upstream in UPSTREAM.items():
        if adapted.isdisjoint(upstream):
            # Its input needs no gradient, neither through the frozen weight nor through A.
            d_in, d_out = shape.projections[name]
            backward[PROJECTIONS[name]] -= 2 * tokens * d_in * d_out
            if name in adapted:
                backward["lora"] -= 2 * tokens * d_in * rank

    # The scores are queries times keys, and what the heads give is the scores, after softmax, times
    # the values. Each gradient of one of these factors costs one product over all pairs of tokens.
    one_product = 2 * tokens * tokens * shape.width
    if "q_proj" not in adapted:
        backward["scores"] -= one_product
    if "k_proj" not in adapted:
        backward["scores"] -= one_product
    if adapted.isdisjoint(("q_proj", "k_proj")):  # the scores need no gradient either
        backward["values"] -= one_product
    if "v_proj" not in adapted:
        backward["values"] -= one_product
    return backward


def costs_of(
    count: Callable[..., Breakdown],
    *sizes: Any,
    repeats: int = 1,
    rank: int = 0,
    targets: Targets = TARGETS,
    batch: int | None = None,
    samples: int | None = None,
) -> Costs:
    """Count the FLOPs of `repeats` passes, steps or forecasts under each convention.

    Parameters
    ----------
    count : callable
        A function of this module that returns a breakdown, such as `forecast_flops`.
    *sizes : Shape and int
        What `count` takes by position.
    repeats : int, optional
        The number by which the cost is multiplied.
    rank, targets : int, tuple of str, optional
        As in `forward_flops`, with the same defaults for every `count`.
    batch : int, optional
        Windows of a training step; only `train_step_flops` takes it.
    samples : int, optional
        Samples of a forecast; only `forecast_flops` takes it.

    Returns
    -------
    dict of str to int
        FLOPs by convention.
    """
    options: dict[str, Any] = {"rank": rank, "targets": targets}
    if batch is not None:
        options["batch"] = batch
    if samples is not None:
        options["samples"] = samples

    costs = {}
    for convention in CONVENTIONS:
        costs[convention] = repeats * total(count(*sizes, **options, convention=convention))
    return costs


def sum_costs(*costs: Costs) -> Costs:
    """Sum costs, convention by convention; without any costs the sums are 0."""
    summed = dict.fromkeys(CONVENTIONS, 0)
    for cost in costs:
        for convention in CONVENTIONS:
            summed[convention] += cost[convention]
    return summed
