"""The FLOP accountant: what forward passes, training steps and forecasts cost, component by component.

Three conventions, all exact integers:

- `coursework`: the budget's rules, applied to what the model does. Add, subtract, multiply, divide, abs 1; exp, log,
  sqrt 10; a product (m x n)(n x p) costs m p (2n - 1). Grouped-query attention counts as full multi-head attention; the
  backward pass costs twice the forward pass; looking up and computing positions is free, adding them is not.
- `executed`: what the hardware computes, as `torch.utils.flop_counter.FlopCounterMode` counts it: products only, at
  2 m n p, heads grouped, only the gradients that are needed, the head only where its logits are used. Attention counts
  over all pairs of tokens, as the plain kernel computes it; kernels that know of the causal mask skip part of it.
- `published`: the report's own accountant, with its seven departures from the rules (`m2lib.flops_published`).

A breakdown is an ordered dict of FLOPs by component, in the order of the forward pass; its sum is the total.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from m2lib.files import InputError

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONVENTIONS = ("coursework", "published", "executed")
COMPONENTS = (
    *("embedding", "norms", "qkv", "lora", "rope", "scores", "mask", "softmax", "values", "output", "residuals", "mlp"),
    "head",
)
Breakdown = dict[str, int]


@dataclass(frozen=True)
class Shape:
    """What of a Llama- or Qwen2-shaped model decides its cost: layers, width d, heads (of width d / heads), key/value
    heads, MLP width, vocabulary, and whether q, k and v have biases."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    mlp: int
    vocabulary: int = 13
    qkv_bias: bool = False

    def __post_init__(self):
        if min(self.layers, self.width, self.heads, self.kv_heads, self.mlp, self.vocabulary) < 1:
            raise ValueError("a shape's sizes must be positive")
        if self.width % self.heads or self.heads % self.kv_heads:
            raise ValueError("heads must divide the width, and key/value heads the heads")

    @classmethod
    def of(cls, config: "PretrainedConfig", vocabulary: int = 13) -> "Shape":
        """The shape of a transformers config, with the vocabulary reduced.

        Raises InputError for a model that has other parts than Llama's and Qwen2's.
        """
        unlike = config.model_type not in ("llama", "qwen2") or getattr(config, "mlp_bias", False)
        if unlike or (config.model_type == "llama" and config.attention_bias):
            raise InputError(f"cannot count the FLOPs of this {config.model_type} model: it has parts Llama has not")
        head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        if head_width * config.num_attention_heads != config.hidden_size:
            raise InputError(f"cannot count FLOPs of heads of width {head_width} in a model of {config.hidden_size}")
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            mlp=config.intermediate_size,
            vocabulary=vocabulary,
            qkv_bias=config.model_type == "qwen2",
        )

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_width


def total(breakdown: Breakdown) -> int:
    return sum(breakdown.values())


def added(*breakdowns: Breakdown) -> Breakdown:
    """Component by component."""
    return {part: sum(one[part] for one in breakdowns) for part in breakdowns[0]}


def times(count: int, breakdown: Breakdown) -> Breakdown:
    return {part: count * flops for part, flops in breakdown.items()}


def product(m: int, n: int, p: int) -> int:
    """(m x n)(n x p) by the rules: every entry is n multiplications and n - 1 additions."""
    return m * p * (2 * n - 1)


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


def forward_flops(shape: Shape, tokens: int, *, rank: int = 0, convention: str = "coursework") -> Breakdown:
    """A forward pass of `tokens` tokens with logits at each; rank 0 is the model without adapters."""
    _check(convention, tokens=tokens)
    if convention == "published":
        from m2lib import flops_published

        return flops_published.forward(shape, tokens, rank)
    if convention == "executed":
        return executed_pass(shape, tokens, tokens, rank, head_tokens=tokens)
    return coursework_pass(shape, tokens, tokens, rank)


def train_step_flops(
    shape: Shape, tokens: int, *, rank: int, batch: int = 2, convention: str = "coursework"
) -> Breakdown:
    """One optimiser step on `batch` windows of `tokens` tokens; the optimiser's own arithmetic is not counted."""
    _check(convention, tokens=tokens, batch=batch)
    forward = forward_flops(shape, tokens, rank=rank, convention=convention)
    if convention == "published":
        return times(batch + 2, forward)
    if convention == "executed":
        return times(batch, added(forward, executed_backward(shape, tokens, rank)))
    return times(3 * batch, forward)


def decode_step_flops(shape: Shape, keys: int, *, rank: int = 0, convention: str = "coursework") -> Breakdown:
    """One more token by way of a KV cache, attending over `keys` keys, its own included.

    `published` charges its step at a fixed length, so there `keys` is the prompt's length, whichever step it is.
    """
    _check(convention, keys=keys)
    if convention == "published":
        from m2lib import flops_published

        return flops_published.decode_step(shape, keys, rank)
    if convention == "executed":
        return executed_pass(shape, 1, keys, rank, head_tokens=1)
    return coursework_pass(shape, 1, keys, rank)


def forecast_flops(
    shape: Shape, prompt: int, new_tokens: int, *, rank: int = 0, samples: int = 1, convention: str = "coursework"
) -> Breakdown:
    """A forecast: a prefill of `prompt` tokens gives the first new token, a cached step each of the others.

    samples: forecasts of `new_tokens` each that share the prefill.
    """
    _check(convention, prompt=prompt, new_tokens=new_tokens, samples=samples)
    if convention == "executed":
        prefill = executed_pass(shape, prompt, prompt, rank, head_tokens=1)
    else:
        prefill = forward_flops(shape, prompt, rank=rank, convention=convention)
    return added(prefill, times(samples, _steps(shape, prompt, new_tokens - 1, rank, convention)))


def _steps(shape: Shape, prompt: int, count: int, rank: int, convention: str) -> Breakdown:
    """The `count` cached steps that follow a prompt: with prompt + 1, ..., prompt + count keys."""
    if convention == "published":
        return times(count, decode_step_flops(shape, prompt, rank=rank, convention=convention))
    first, last = (decode_step_flops(shape, prompt + i, rank=rank, convention=convention) for i in (1, count))
    # Every component is affine in the number of keys, so the sum is that of an arithmetic progression.
    return {part: count * (first[part] + last[part]) // 2 for part in first} if count else times(0, first)


def assembled(layer: Breakdown, once: Breakdown, layers: int) -> Breakdown:
    return {part: layers * layer.get(part, 0) + once.get(part, 0) for part in COMPONENTS}


def _check(convention: str, **sizes: int) -> None:
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown convention {convention!r}: choose one of {', '.join(CONVENTIONS)}")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
