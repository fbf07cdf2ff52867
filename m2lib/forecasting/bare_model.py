"""A transformers model as bare matrices: the same function, without the modules around it.

Adapters are merged, q, k and v are one product, weights lie as the machine's kernels read them, and how tokens look at
each other is left to the caller.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import rms_norm, silu
from transformers import PreTrainedModel

from m2lib.model import LoRALinear, product_with

# attend(layer's number, q, k, v): how tokens look at each other. It is the one part of a block that differs between
# the pass over a prompt and a step, so `BareModel.forward` is handed it; its docstring gives the shapes.
_Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
# A linear layer as a function, x (n, d_in) -> (n, d_out).
_Product = Callable[[torch.Tensor], torch.Tensor]


@dataclass
class _Layer:
    """The linear layers of one block as products, and its norms, in the model's dtype."""

    qkv: _Product
    """Queries, keys and values side by side, d_out = (heads + 2 kv_heads) * width, with biases where the model has
    them (Qwen2 has, Llama has none)."""
    out: _Product
    """The projection of what the heads found."""
    gate: _Product
    """The MLP's branch that SiLU acts on."""
    up: _Product
    """The MLP's other branch, which the gate multiplies."""
    down: _Product
    """The MLP's way back to d."""
    norms: tuple[torch.Tensor, torch.Tensor]
    """Weights (d,) of the RMS norms before attention and before the MLP."""


class BareModel:
    """A Llama- or Qwen2-shaped model as bare matrices, with its LoRA adapters, if it has any, merged into copies.

    Parameters
    ----------
    model : PreTrainedModel
        Read and left as it is. Its matrices are shared where `product_with` keeps them as they are and they have no
        adapter, but for q, k and v.

    Attributes
    ----------
    heads, kv_heads : int
        Query heads, and the key/value heads that they share: query head h reads key/value head
        h // (heads // kv_heads).
    width : int
        Of a head; d = heads * width.
    eps : float
        What the RMS norms add to the mean square.
    embedding : Tensor, shape (13, d)
        Of the tokens.
    norm : Tensor, shape (d,)
        Weight of the final norm.
    head : Module
        From hidden states to logits.
    rotary : Module
        The model's own angles of the rotary embedding.
    layers : list of _Layer
        The blocks.
    """

    def __init__(self, model: PreTrainedModel):
        config, body = model.config, model.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.hidden_size // self.heads
        self.embedding, self.norm, self.head = body.embed_tokens.weight, body.norm.weight, model.get_output_embeddings()
        self.eps, self.rotary = config.rms_norm_eps, body.rotary_emb
        self.layers = [_bare(layer) for layer in body.layers]

    def positions(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The rotary embedding of the first positions.

        Parameters
        ----------
        count : int
            Positions, from 0 on.

        Returns
        -------
        cos : Tensor, shape (count, 1, width)
            Cosines of the angles; the axis of length 1 stands for all heads.
        sin : Tensor, shape (count, 1, width)
            Sines likewise, negative for the first half of the width: see `_rotated`.

        References
        ----------
        .. [1] Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", Neurocomputing, 2024.
        """
        places = torch.arange(count, device=self.embedding.device)[None]
        # The rotary module takes the embedding for its dtype and device only.
        cos, sin = (part[0, :, None] for part in self.rotary(self.embedding, places))
        first, second = sin.chunk(2, -1)
        return cos, torch.cat((-first, second), -1)

    def forward(self, tokens: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: _Attend) -> torch.Tensor:
        """Final hidden states of tokens: of one prompt, or of one token in each of many rows.

        Which of the two it is, and where earlier tokens' keys and values are, only `attend` knows.

        Parameters
        ----------
        tokens : Tensor of int64, shape (n,)
            Ids 0-12.
        cos, sin : Tensor, shape (n, 1, width)
            Of the tokens' positions.
        attend : callable
            attend(layer's number, q, k, v) with q (n, heads, width), k and v (n, kv_heads, width). Returns what each
            token's heads found, n * heads * width numbers in the order of q.

        Returns
        -------
        Tensor, shape (n, d)
            In the model's dtype, before the final norm.
        """
        x = self.embedding[tokens]
        turned, sizes = self.heads + self.kv_heads, [self.heads, self.kv_heads]
        for number, layer in enumerate(self.layers):
            h = rms_norm(x, x.shape[1:], layer.norms[0], self.eps)
            # One product gives (n, (heads + 2 kv_heads) * width); seen as (n, heads + 2 kv_heads, width) it is split,
            # and all but the values are rotated.
            qkv = layer.qkv(h).view(len(x), -1, self.width)
            q, k = _rotated(qkv[:, :turned], cos, sin).split(sizes, 1)
            mixed = attend(number, q, k, qkv[:, turned:])
            x = x + layer.out(mixed.reshape(x.shape))
            h = rms_norm(x, x.shape[1:], layer.norms[1], self.eps)
            x = x + layer.down(silu(layer.gate(h)).mul_(layer.up(h)))
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The next token's logits.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Final hidden states, as `forward` returns them.

        Returns
        -------
        Tensor of float32, shape (n, 13)
            After the final norm and the head.
        """
        return self.head(rms_norm(x, x.shape[1:], self.norm, self.eps))


def _bare(layer: torch.nn.Module) -> _Layer:
    """The products of a transformers block."""
    attention, mlp = layer.self_attn, layer.mlp
    inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [(projection.base if isinstance(projection, LoRALinear) else projection).bias for projection in inputs]
    return _Layer(
        qkv=product_with(torch.cat([_merged(it) for it in inputs]), None if biases[0] is None else torch.cat(biases)),
        out=product_with(_merged(attention.o_proj)),
        gate=product_with(_merged(mlp.gate_proj)),
        up=product_with(_merged(mlp.up_proj)),
        down=product_with(_merged(mlp.down_proj)),
        norms=(layer.input_layernorm.weight, layer.post_attention_layernorm.weight),
    )


def _merged(layer: torch.nn.Linear | LoRALinear) -> torch.Tensor:
    """The layer's weight, an adapter added, rounded once to the weight's dtype."""
    return layer.merged_weight() if isinstance(layer, LoRALinear) else layer.weight


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x (n, heads, width), whose halves are the two coordinates of each rotated pair."""
    # Coordinates i and i + width / 2 are a pair (a, b), turned to (a cos - b sin, b cos + a sin). Rolled by half the
    # width, each stands in the other's place; the minus is in the sines already.
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin
