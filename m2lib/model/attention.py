"""Causal attention in blocks of queries, for training on a CPU, where it beats PyTorch's fused
kernel by a factor.

Its products are plain matrix products, which run near the processor's peak; a block of queries sees
no further than its last key, so little of the causal triangle's empty half is computed; and the
heads that share keys and values multiply them together. `causal_attention` is the function itself,
`blocked_attention` makes a transformers model use it for a while.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.functional import scaled_dot_product_attention

BLOCK = 128  # queries at a time: smaller wastes less of the triangle, larger multiplies faster


class BlockedAttention(torch.autograd.Function):
    """Causal attention softmax(q k^T) v, BLOCK queries at a time; the gradient reuses the forward's
    weights."""

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend, and keep the weights of every block for `backward`.

        q are the queries, scaled already, of all the query heads that share keys and values:
        (entries, group, tokens, width). Batch and key/value heads are one axis here, the entries;
        keys k and values v are (entries, tokens, width). Returns for each query the mean of the
        values up to its own position, weighted by the softmax.
        """
        group, tokens, width = q.shape[1:]
        out, weights = torch.empty_like(q), []
        # A block sees the keys from the first to its own last one. At 300 tokens the blocks are
        #   queries   0-127, keys 0-127;   queries 128-255, keys 0-255;   queries 256-299, keys 0-299.
        # Only among a block's own keys, the last columns of its scores, are there any ahead of a query. `ahead` sets
        # these to -inf, so that their weight is exp(-inf) = 0. For a block of three queries it is
        #   0 -inf -inf
        #   0    0 -inf
        #   0    0    0
        # At 512 tokens this computes 128 (128 + 256 + 384 + 512) scores, 62.5% of the square; half of it is needed.
        # The group's blocks stand one below the other in one product: with three heads it has 384 rows.
        ahead = torch.full((BLOCK, BLOCK), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
        for start in range(0, tokens, BLOCK):
            end = min(start + BLOCK, tokens)
            scores = torch.bmm(q[:, :, start:end].flatten(1, 2), k[:, :end].transpose(1, 2))
            scores.view(-1, group, end - start, end)[..., start:].add_(
                ahead[: end - start, : end - start]
            )
            weights.append(torch.softmax(scores, -1))
            out[:, :, start:end] = torch.bmm(weights[-1], v[:, :end]).view(
                -1, group, end - start, width
            )
        ctx.save_for_backward(q, k, v, out, *weights)
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradient of the loss with respect to queries, keys and values; zero where nobody asks
        for it.

        That a row's sum of weight times gradient is one product of `gradient` and `out` is used in
        [1]_.

        References
        ----------
        .. [1] Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with
           IO-Awareness", NeurIPS 2022.
        """
        q, k, v, out, *weights = ctx.saved_tensors
        # Each block of queries fills its own rows of dq, once. A key or a value is seen by its own
        # block and by all later ones, and its gradient is the sum over them: in float32, because
        # bfloat16 would round each to 8 bits. The sum over the group's heads is part of the
        # products.
        dq = torch.zeros_like(q)
        dk, dv = (torch.zeros_like(x, dtype=torch.float32) for x in (k, v))
        # One query: weights w = softmax(s), out = sum_j w_j v_j, and the loss reaches w_j as g_j =
        # gradient . v_j. From dw_j / ds_i = w_j ([i = j] - w_i) follows dloss / ds_i = w_i (g_i -
        # sum_j w_j g_j), and sum_j w_j g_j = gradient . sum_j w_j v_j = gradient . out: one number
        # a query, for all blocks at once.
        mean = (gradient * out).sum(-1, keepdim=True)
        # Where no adapter lies below queries, keys or values, autograd would throw their gradient
        # away: with adapters on q_proj and v_proj only, that of the keys in the model's first
        # layer.
        for_q, for_k, for_v = ctx.needs_input_grad
        for block, start in zip(weights, range(0, q.shape[2], BLOCK), strict=True):
            end = block.shape[2]  # a block sees the keys up to its own last one
            inner = gradient[:, :, start:end].flatten(1, 2)
            if for_v:
                dv[:, :end] += torch.bmm(block.transpose(1, 2), inner)
            if for_q or for_k:
                dscores = torch.bmm(inner, v[:, :end].transpose(1, 2))
                dscores.sub_(mean[:, :, start:end].flatten(1, 2)).mul_(block)
            if for_q:
                dq[:, :, start:end] = torch.bmm(dscores, k[:, :end]).view(dq[:, :, start:end].shape)
            if for_k:
                dk[:, :end] += torch.bmm(dscores.transpose(1, 2), q[:, :, start:end].flatten(1, 2))
        return dq, dk.to(k.dtype), dv.to(v.dtype)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention softmax(scale q k^T) v, with grouped heads: several query heads may share
    keys and values [1]_.

    Parameters
    ----------
    q : Tensor of float, shape (B, heads, tokens, width)
        Queries.
    k, v : Tensor of float, shape (B, key/value heads, tokens, width)
        Keys and values; the number of key/value heads divides that of the heads.
    scale : float
        Factor of the scores, as a rule 1 / sqrt(width).

    Returns
    -------
    Tensor of float, shape (B, heads, tokens, width)
        In blocks on a CPU; from PyTorch's fused kernel elsewhere, where that is better.

    References
    ----------
    .. [1] Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
       Checkpoints", EMNLP 2023.
    """
    if q.device.type != "cpu":  # the fused kernels of other devices are better
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    batch, heads, tokens, width = q.shape
    # Neighbouring query heads share a key/value head: of 6 heads and 2 key/value heads, 0 1 2 and 3
    # 4 5.
    k, v = (x.reshape(-1, tokens, width) for x in (k, v))
    q = (q * scale).reshape(len(k), -1, tokens, width)
    return BlockedAttention.apply(q, k, v).view(batch, heads, tokens, width)


def _for_transformers(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: object,
    scaling: float,
    **_: object,
) -> tuple[Tensor, None]:
    """`causal_attention` as transformers calls and expects it: tokens before heads, and no weights
    to show.

    The mask is not read: pads stand on the right, and no token attends to what comes after it.
    """
    return causal_attention(query, key, value, scaling).transpose(1, 2), None


@contextmanager
def blocked_attention(model: nn.Module) -> Iterator[None]:
    """Let a model attend by `causal_attention` while the `with` block runs.

    It must be called without a cache, with pads only on the right.
    """
    from transformers import AttentionInterface

    before = model.config._attn_implementation  # put back at the end, also after an error
    AttentionInterface.register("blocked", _for_transformers)
    model.set_attn_implementation("blocked")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
