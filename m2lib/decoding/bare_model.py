"""A transformers model as bare matrices: what the fast decoding computes with.

Adapters are merged, q, k and v are one product, and the weights lie in memory as the processor's
kernels read them. Attention is left to the caller, `m2lib.decoding.engine`, which knows where the
keys and values of earlier tokens are.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn.functional import linear, rms_norm, silu

Product = Callable[[torch.Tensor], torch.Tensor]
"""A linear layer as a function, x (n, d_in) -> (n, d_out), of x's dtype."""

Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Attention, attend(layer, q, k, v) with the layer's number.

It is the one part of a block that differs between the pass over a prompt and a step, so
`BareModel.forward` takes it as an argument; the shapes are in its docstring.
"""

Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""For each layer keys (entries, width, columns) and values (entries, columns, width).

An entry is what one key/value head keeps of one prompt or one row; the docstring of
`m2lib.decoding.engine.Engine` shows their order. Keys lie transposed, because the products with
queries then read them as they lie, and take half to two thirds of the time.
"""


class _Block:
    """The linear layers of a transformers block as products, and the weights (d,) of its norms.

    Adapters are merged into copies. `qkv` gives queries, keys and values side by side, (heads + 2
    kv_heads) * width numbers a token, with biases where the model has them (Qwen2 has, Llama has
    none).
    """

    def __init__(self, layer: torch.nn.Module):
        attention = layer.self_attn
        inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
        bias = None
        if attention.q_proj.bias is not None:
            bias = torch.cat([projection.bias for projection in inputs])
        # The `weight` of a layer with an adapter is the merged one, see `LoRALinear.weight`.
        self.qkv = _product(torch.cat([projection.weight for projection in inputs]), bias)
        self.out = _product(attention.o_proj.weight)
        self.gate = _product(layer.mlp.gate_proj.weight)
        self.up = _product(layer.mlp.up_proj.weight)
        self.down = _product(layer.mlp.down_proj.weight)
        self.attention_norm = layer.input_layernorm.weight
        self.mlp_norm = layer.post_attention_layernorm.weight


class BareModel:
    """A Llama- or Qwen2-shaped transformers model as bare matrices that compute the same function.

    The model is read and left as it is. Attention is the caller's part. Query head h reads
    key/value head h // (heads // kv_heads), and d = heads * width.

    Adapters are merged into copies, so the matrices go out of date when the model's weights change.

    Parameters
    ----------
    model : PreTrainedModel
        The model.
    """

    def __init__(self, model: torch.nn.Module):
        config = model.config
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.width = config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.max_positions = config.max_position_embeddings  # of prompt and forecast together

        self.embedding = model.model.embed_tokens.weight
        self.rotary = model.model.rotary_emb
        self.blocks = [_Block(layer) for layer in model.model.layers]
        self.norm = model.model.norm.weight
        self.head = model.get_output_embeddings()

    def positions(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the rotary embedding [1]_ of the first `count` positions, the same for all heads.

        It is cosines and sines, each (count, 1, width). The sines are negated in the first half of
        the width, as `_rotated` wants them.

        References
        ----------
        .. [1] Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding",
           Neurocomputing, 2024.
        """
        positions = torch.arange(count, device=self.embedding.device)[None]
        # The rotary module reads only dtype and device of the embedding. It returns (1, count,
        # width) each, and [0, :, None] makes that (count, 1, width).
        cos, sin = self.rotary(self.embedding, positions)
        first, second = sin[0, :, None].chunk(2, -1)
        return cos[0, :, None], torch.cat((-first, second), -1)

    def forward(
        self, tokens: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: Attend
    ) -> torch.Tensor:
        """Return the final hidden states (n, d) of n tokens, before the final norm.

        The tokens are those of one prompt, or one for each row. Only `attend` knows which, and
        where the keys and values of earlier tokens are.

        Parameters
        ----------
        tokens : Tensor of int64, shape (n,)
            Ids 0-12.
        cos, sin : Tensor, shape (n, 1, width)
            The rotary embedding of the tokens' positions.
        attend : callable
            attend(layer, q, k, v) with the layer's number, q (n, heads, width), k and v (n,
            kv_heads, width). It returns the heads' outputs, n * heads * width numbers in the order
            of q.
        """
        rotated_heads = self.heads + self.kv_heads
        x = self.embedding[tokens]
        for layer, block in enumerate(self.blocks):
            h = rms_norm(x, x.shape[1:], block.attention_norm, self.eps)
            # One product gives (n, (heads + 2 kv_heads) * width). Viewed as (n, heads + 2 kv_heads,
            # width) it is q, k and v side by side, of which q and k are rotated.
            qkv = block.qkv(h).view(len(x), -1, self.width)
            qk = _rotated(qkv[:, :rotated_heads], cos, sin)
            q, k = qk.split([self.heads, self.kv_heads], 1)
            v = qkv[:, rotated_heads:]
            x = x + block.out(attend(layer, q, k, v).reshape(x.shape))

            h = rms_norm(x, x.shape[1:], block.mlp_norm, self.eps)
            x = x + block.down(silu(block.gate(h)).mul_(block.up(h)))
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Return the next token's logits (n, 13), float32, from the final hidden states (n, d).

        That is the final norm and then the head.
        """
        return self.head(rms_norm(x, x.shape[1:], self.norm, self.eps))

    def cache(self, entries: int, columns: int) -> Cache:
        """Return an empty cache.

        Each layer has keys (entries, width, columns) and values (entries, columns, width).
        """
        # Zeros, not `torch.empty`: a masked column has weight 0, but 0 * nan would still be nan.
        return [
            (
                self.embedding.new_zeros(entries, self.width, columns),
                self.embedding.new_zeros(entries, columns, self.width),
            )
            for _ in self.blocks
        ]


def _product(weight: torch.Tensor, bias: torch.Tensor | None = None) -> Product:
    """Return a linear layer with weights (d_out, d_in) as a function.

    On a CPU, `linear` in bfloat16 rearranges the weights into oneDNN's blocks in each call: with 16
    rows that is half of the time, with 50 a fifth. Here it is done once, by the operators that
    `torch.compile` puts in the place of `linear`. The numbers are the same to the bit.
    """
    if weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and _can_pack():
        operators = torch.ops.mkldnn
        packed = operators._reorder_linear_weight(weight.detach())
        # The last three arguments are for an activation of the outputs, and there is none.
        return lambda x: operators._linear_pointwise(x, packed, bias, "none", [], "")
    return partial(linear, weight=weight, bias=bias)


def _can_pack() -> bool:
    """Return whether this torch has the operators for packed weights, and this processor bfloat16.

    They are not part of torch's public interface, and may be missing.
    """
    operators = torch.ops.mkldnn
    needed = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(operators, name) for name in needed):
        return False
    return operators._is_mkldnn_bf16_supported()


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Apply rotary positions to x (n, heads, width)."""
    # Coordinates i and i + width / 2 are a pair (a, b), turned to (a cos - b sin, b cos + a sin).
    # Rolled by half the width, each stands in the other's place; the minus is in the sines already.
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin
