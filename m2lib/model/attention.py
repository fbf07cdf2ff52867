"""Causal attention in blocks of queries, for training on a CPU, where it beats PyTorch's fused kernel by a factor.

Its products are plain matrix products, which run near the processor's peak; a block of queries sees no further than
its last key, so little of the causal triangle's empty half is computed.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

BLOCK = 128  # queries at a time: smaller wastes less of the triangle, larger multiplies faster


class BlockedAttention(torch.autograd.Function):
    """softmax(q k^T, causal) v for q, k, v (heads, tokens, width); the gradient reuses the forward's weights."""

    @staticmethod
    def forward(ctx, q, k, v):
        tokens = q.shape[1]
        out, weights = torch.empty_like(q), []
        ahead = torch.full((BLOCK, BLOCK), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
        for start in range(0, tokens, BLOCK):
            end = min(start + BLOCK, tokens)
            scores = torch.bmm(q[:, start:end], k[:, :end].transpose(1, 2))
            scores[:, :, start:].add_(ahead[: end - start, : end - start])
            weights.append(torch.softmax(scores, -1))
            out[:, start:end] = torch.bmm(weights[-1], v[:, :end])
        ctx.save_for_backward(q, k, v, out, *weights)
        return out

    @staticmethod
    def backward(ctx, gradient):
        q, k, v, out, *weights = ctx.saved_tensors
        dq = torch.empty_like(q)  # each block of queries fills its own; keys and values collect from several
        dk, dv = (torch.zeros_like(x, dtype=torch.float32) for x in (k, v))
        # Row i of the softmax's gradient is w (g - w . g), and w . g = sum(gradient * out).
        mean = (gradient * out).sum(-1, keepdim=True)
        for block, start in zip(weights, range(0, q.shape[1], BLOCK), strict=True):
            end = start + block.shape[1]
            inner = gradient[:, start:end]
            dv[:, :end] += torch.bmm(block.transpose(1, 2), inner)
            dscores = torch.bmm(inner, v[:, :end].transpose(1, 2)).sub_(mean[:, start:end]).mul_(block)
            dq[:, start:end] = torch.bmm(dscores, k[:, :end])
            if ctx.needs_input_grad[1]:  # nothing trains below the first block's keys
                dk[:, :end] += torch.bmm(dscores.transpose(1, 2), q[:, start:end])
        return dq, dk.to(k.dtype), dv.to(v.dtype)


def causal_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float) -> torch.Tensor:
    """q (B, heads, tokens, width), k and v (B, key/value heads, tokens, width) -> (B, heads, tokens, width)."""
    if q.device.type != "cpu":  # the fused kernels of other devices are better
        return scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True)
    batch, heads, tokens, width = q.shape
    k, v = (x.repeat_interleave(heads // x.shape[1], dim=1).reshape(-1, tokens, width) for x in (k, v))
    q = (q * scale).reshape(-1, tokens, width)
    return BlockedAttention.apply(q, k, v).view(batch, heads, tokens, width)


def _for_transformers(module, query, key, value, attention_mask, scaling, dropout=0.0, **_):
    return causal_attention(query, key, value, scaling).transpose(1, 2), None


@contextmanager
def blocked_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model on the CPU attend in blocks while the block runs: without a cache, pads only on the right."""
    if model.device.type != "cpu":
        yield
        return
    before = model.config._attn_implementation
    AttentionInterface.register("blocked", _for_transformers)
    model.set_attn_implementation("blocked")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
