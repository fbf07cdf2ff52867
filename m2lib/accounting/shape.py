"""What decides a cost: the shape of a model, and breakdowns of FLOPs by component."""

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


def assembled(layer: Breakdown, once: Breakdown, layers: int) -> Breakdown:
    return {part: layers * layer.get(part, 0) + once.get(part, 0) for part in COMPONENTS}
