"""The seven places where the report's own accountant departs from the rules: in words, and in FLOPs."""

from m2lib.accounting.flops import forecast_flops
from m2lib.accounting.published import published_cached_step, published_pass
from m2lib.accounting.rules import coursework_pass
from m2lib.accounting.shape import TARGETS, Shape, total

# In words; `departures` gives each in FLOPs.
DEPARTURES = {
    1: "heads map their own c numbers to c, not all d to c",
    2: "LoRA sits in each head at width c; adding it costs 2 c N a head, at rank 0 too",
    3: "SiLU is counted on d numbers, not on the MLP's H; RMSNorm has no gain",
    4: "the scale of the scores costs N N + 10 a head",
    5: "a training step costs batch + 2 forward passes, not 3 x batch",
    6: "a cached step re-runs most of the model on all N tokens",
    7: "N stays at the prompt's length while 220 tokens are decoded",
}


def departure_costs(
    shape: Shape,
    tokens: int,
    *,
    rank: int,
    targets: tuple[str, ...] = TARGETS,
    batch: int = 2,
    new_tokens: int = 220,
) -> dict[int, int]:
    """What each departure adds to the rules' count, by its number: negative where the report charges too little.

    Parameters
    ----------
    shape : Shape
        The model.
    tokens : int
        Tokens of the pass, of each window and of the prompt.
    rank : int
        Rank of the adapters; 0 is the model without adapters.
    targets : tuple of str, optional
        The projections that have adapters, names of PROJECTIONS. Without adapters they change nothing.
    batch : int, optional
        Windows of a training step.
    new_tokens : int, optional
        Tokens that a forecast decodes.

    Returns
    -------
    dict of int to int
        FLOPs by the number of the departure. 1 to 4 are added to a forward pass of `tokens` tokens, 5 to a training
        step, 6 and 7 to the steps of a forecast.
    """
    published = published_pass(shape, tokens, rank, targets)
    rules = coursework_pass(shape, tokens, tokens, rank, targets)
    extra = {part: published[part] - rules[part] for part in rules}
    # The cached steps by the rules, all at the prompt's length, and as they are, each with one key more than the last.
    # They are one fewer than the new tokens: the prefill, a forward pass, gives the first.
    steps = new_tokens - 1
    fixed = steps * total(coursework_pass(shape, 1, tokens, rank, targets))
    growing = total(forecast_flops(shape, tokens, new_tokens, rank=rank, targets=targets)) - total(rules)
    return {
        1: extra["qkv"],
        2: extra["lora"],
        3: extra["norms"] + extra["mlp"],
        4: extra["scores"],
        5: (batch + 2 - 3 * batch) * total(published),  # a batch of 2 is charged 4 passes, where the rules charge 6
        6: steps * total(published_cached_step(shape, tokens, rank, targets)) - fixed,
        7: fixed - growing,
    }
