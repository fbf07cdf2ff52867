"""What decides a cost, the shape of a model; and what a cost is, a breakdown of FLOPs by component.

A breakdown is an ordered dict of FLOPs by component, in the order of the forward pass; its sum is
the total. All counts are exact integers.
"""

from dataclasses import dataclass
from typing import Any

COMPONENTS = (
    "embedding", "norms", "qkv", "lora", "rope", "scores", "mask", "softmax", "values", "output", "residuals", "mlp",
    "head",
)  # in the order of the forward pass  # fmt: skip
# The linear layers of a block that may have adapters, in the order of the forward pass, and the
# component that counts their frozen part.
PROJECTIONS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "qkv"),
    "o_proj": "output",
    **dict.fromkeys(("gate_proj", "up_proj", "down_proj"), "mlp"),
}
Targets = tuple[str, ...]  # those that have adapters, of PROJECTIONS
TARGETS: Targets = ("q_proj", "v_proj")  # those that have adapters in the report
Breakdown = dict[str, int]  # FLOPs by component, in the order of COMPONENTS


@dataclass(frozen=True)
class Shape:
    """What of a Llama- or Qwen2-shaped model decides its cost."""

    layers: int
    """Number of blocks, each attention and an MLP."""
    width: int
    """Numbers a token is made of between the layers, d."""
    heads: int
    """Query heads of a layer, each of width d / heads."""
    kv_heads: int
    """Key/value heads of a layer, of the same width; fewer than `heads` where queries share
    them."""
    mlp: int
    """Inner width of the MLP, H."""
    vocabulary: int = 13
    """Number of tokens the model knows; 13 is the reduced vocabulary."""
    qkv_bias: bool = False
    """Whether q, k and v have biases."""

    @classmethod
    def of(cls, config: Any) -> "Shape":
        """The shape of a transformers config, which is Llama's or Qwen2's: `m2lib.model` refuses
        all others."""
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            mlp=config.intermediate_size,
            qkv_bias=config.model_type
            == "qwen2",  # Qwen2's q, k and v always have biases; no setting says so
        )

    @property
    def head_width(self) -> int:
        """Width of a head, c = d / heads: 64 in both of the project's backbones."""
        return self.width // self.heads

    @property
    def kv_width(self) -> int:
        """Width of all keys of a token, which is also that of all its values: 128 in Qwen2.5-0.5B,
        2 heads of 64."""
        return self.kv_heads * self.head_width

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """What the linear layers of a block take and give: (d_in, d_out) for all of PROJECTIONS, in
        their order."""
        d, k, mlp = self.width, self.kv_width, self.mlp
        return dict(
            zip(
                PROJECTIONS,
                ((d, d), (d, k), (d, k), (d, d), (d, mlp), (d, mlp), (mlp, d)),
                strict=True,
            )
        )


def total(breakdown: Breakdown) -> int:
    """All components of a breakdown together, in FLOPs."""
    return sum(breakdown.values())


def added(*breakdowns: Breakdown) -> Breakdown:
    """The sum of breakdowns, component by component; all have the same components."""
    return {part: sum(breakdown[part] for breakdown in breakdowns) for part in breakdowns[0]}


def times(count: int, breakdown: Breakdown) -> Breakdown:
    """A breakdown `count` times."""
    return {part: count * flops for part, flops in breakdown.items()}


def product(m: int, n: int, p: int) -> int:
    """(m x n)(n x p) by the rules: every entry is n multiplications and n - 1 additions.

    (2 x 3)(3 x 4) has 8 entries of 3 + 2, which is 40 FLOPs. Where n is 0 there is nothing to
    compute.
    """
    return m * p * max(0, 2 * n - 1)


def assembled(layer: Breakdown, once: Breakdown, layers: int) -> Breakdown:
    """A whole model's breakdown, from one layer's and from what stands outside the layers.

    A component may be in both: with 24 layers the norms are 24 times the layer's two, and the one
    at the end. One that is in neither is 0.
    """
    return {part: layers * layer.get(part, 0) + once.get(part, 0) for part in COMPONENTS}
