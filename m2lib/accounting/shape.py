"""The shape of a model, which decides a cost, and a breakdown of FLOPs, which states one.

A breakdown is an ordered dict of FLOPs by component, in the order of the forward pass; its sum is
the total. All counts are exact integers.
"""

from dataclasses import dataclass
from typing import Any

COMPONENTS = (
    "embedding",
    "norms",
    "qkv",
    "lora",
    "rope",
    "scores",
    "mask",
    "softmax",
    "values",
    "output",
    "residuals",
    "mlp",
    "head",
)
"""The components of a breakdown, in the order of the forward pass."""
PROJECTIONS = {
    "q_proj": "qkv",
    "k_proj": "qkv",
    "v_proj": "qkv",
    "o_proj": "output",
    "gate_proj": "mlp",
    "up_proj": "mlp",
    "down_proj": "mlp",
}
"""The linear layers of a block that may have adapters, in the order of the forward pass, each with
the component that counts its frozen part."""
Targets = tuple[str, ...]  # the projections that have adapters, by their names in PROJECTIONS
TARGETS: Targets = ("q_proj", "v_proj")  # the ones that have adapters in the report
Breakdown = dict[str, int]  # FLOPs by component, in the order of COMPONENTS


@dataclass(frozen=True)
class Shape:
    """The sizes of a Llama- or Qwen2-shaped model that decide its cost."""

    layers: int
    """Number of blocks, each attention and an MLP."""
    width: int
    """Width of the model, d: how many numbers stand for a token between the layers."""
    heads: int
    """Query heads of a layer, each of width d / heads."""
    kv_heads: int
    """Key/value heads of a layer, of the same width; fewer than `heads` if queries share them."""
    mlp: int
    """Inner width of the MLP, H."""
    vocabulary: int = 13
    """Number of tokens the model knows; 13 is the reduced vocabulary."""
    qkv_bias: bool = False
    """Whether q, k and v have biases."""

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """Return the shape that a transformers config describes, with the reduced vocabulary.

        The config is Llama's or Qwen2's, because `m2lib.model` refuses all others. Its vocabulary
        is not read: `dataclasses.replace(shape, vocabulary=config.vocab_size)` has all tokens.
        """
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            mlp=config.intermediate_size,
            # Qwen2's q, k and v always have biases, although no setting of its config says so.
            qkv_bias=config.model_type == "qwen2",
        )

    @property
    def head_width(self) -> int:
        """Width of a head, c = d / heads: 64 in SmolLM2-135M and in Qwen2.5-0.5B."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Width of a token's keys over all heads, and of its values: 2 * 64 in Qwen2.5-0.5B."""
        return self.kv_heads * self.head_width

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """The widths (d_in, d_out) of a block's linear layers, in the order of PROJECTIONS."""
        return {
            "q_proj": (self.width, self.width),
            "k_proj": (self.width, self.kv_width),
            "v_proj": (self.width, self.kv_width),
            "o_proj": (self.width, self.width),
            "gate_proj": (self.width, self.mlp),
            "up_proj": (self.width, self.mlp),
            "down_proj": (self.mlp, self.width),
        }


def total(breakdown: Breakdown) -> int:
    """Return the sum of a breakdown's components, in FLOPs."""
    return sum(breakdown.values())


def added(*breakdowns: Breakdown) -> Breakdown:
    """Return the sum of breakdowns, component by component; all have the same components."""
    summed = dict(breakdowns[0])
    for breakdown in breakdowns[1:]:
        summed = {part: summed[part] + breakdown[part] for part in summed}
    return summed


def times(count: int, breakdown: Breakdown) -> Breakdown:
    """Multiply a breakdown by `count`."""
    return {part: count * flops for part, flops in breakdown.items()}


def assembled(layer: Breakdown, once: Breakdown, layers: int) -> Breakdown:
    """Assemble a whole model's breakdown from one layer's and that of the parts outside the layers.

    A component may be in both: with 24 layers, "norms" holds 24 times the layer's two norms and
    once the norm at the end. A component that is in neither is 0.
    """
    return {part: layers * layer.get(part, 0) + once.get(part, 0) for part in COMPONENTS}
