"""Causal attention in blocks of queries, for training on a CPU, and for all work on a Mac's `mps`.

In training on a CPU it takes a fraction of the time of PyTorch's fused kernel. Its products are
plain matrix products, which run near the processor's peak; a block of queries sees no further than
its last key, so little of the causal triangle's empty half is computed; and the heads that share
keys and values multiply them together. `causal_attention` is the function itself, and
`blocked_attention` makes a transformers model use it for a while.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

BLOCK = 128  # queries at a time: smaller wastes less of the triangle, larger multiplies faster
# PyTorch's own kernels without cuDNN's. On an H100 PyTorch prefers that one, but it is planned anew
# for each number of tokens, which may take half a second, and few of our texts are equally long.
KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


class BlockedAttention(torch.autograd.Function):
    """Causal attention softmax(q k^T) v, `BLOCK` queries at a time.

    The gradient reuses the attention weights of the forward pass.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend, and keep the weights of every block for `backward`.

        q are the queries, scaled already, of all the query heads that share keys and values:
        (entries, group, tokens, width). Batch and key/value heads are one axis here, the entries;
        keys k and values v are (entries, tokens, width). Returns for each query the mean of the
        values up to its own position, weighted by the softmax.
        """
        group, tokens, width = q.shape[1:]
        # A block sees the keys from the first to its own last one. At 300 tokens the blocks are
        #   queries   0-127, keys 0-127
        #   queries 128-255, keys 0-255
        #   queries 256-299, keys 0-299
        # Only among a block's own keys, the last columns of its scores, are there any ahead of a
        # query. `ahead` sets these to -inf, so that their weight is exp(-inf) = 0. For a block of
        # three queries it is
        #   0 -inf -inf
        #   0    0 -inf
        #   0    0    0
        # At 512 tokens this computes 128 (128 + 256 + 384 + 512) scores, which is 62.5% of the
        # square; the triangle that is needed is half of it. The group's blocks stand one below the
        # other in one product: with three heads it has 384 rows.
        ahead = torch.full((BLOCK, BLOCK), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
        out = torch.empty_like(q)
        all_weights = []
        for start in range(0, tokens, BLOCK):
            end = min(start + BLOCK, tokens)
            size = end - start  # BLOCK, except in the last block
            queries = q[:, :, start:end].flatten(1, 2)
            scores = torch.bmm(queries, k[:, :end].transpose(1, 2))
            own_scores = scores.view(-1, group, size, end)[..., start:]
            own_scores.add_(ahead[:size, :size])
            weights = torch.softmax(scores, -1)
            all_weights.append(weights)
            out[:, :, start:end] = torch.bmm(weights, v[:, :end]).view(-1, group, size, width)
        ctx.save_for_backward(q, k, v, out, *all_weights)
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of the loss by queries, keys and values; zero where not asked for.

        A row's sum of weight times gradient is computed as one product of `gradient` and `out`, as
        in [1]_.

        References
        ----------
        .. [1] Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with
           IO-Awareness", NeurIPS 2022.
        """
        q, k, v, out, *all_weights = ctx.saved_tensors
        # Each block of queries fills its own rows of dq, once. A key or a value is seen by its own
        # block and by all later ones, and its gradient is the sum over them: in float32, because
        # bfloat16 would round each to 8 bits. The sum over the group's heads is part of the
        # products.
        dq = torch.zeros_like(q)
        dk = torch.zeros_like(k, dtype=torch.float32)
        dv = torch.zeros_like(v, dtype=torch.float32)
        # One query: weights w = softmax(s), out = sum_j w_j v_j, and the loss reaches w_j as g_j =
        # gradient . v_j. From dw_j / ds_i = w_j ([i = j] - w_i) follows dloss / ds_i = w_i (g_i -
        # sum_j w_j g_j), and sum_j w_j g_j = gradient . sum_j w_j v_j = gradient . out: one number
        # a query, for all blocks at once.
        mean = (gradient * out).sum(-1, keepdim=True)
        # Where no adapter lies below queries, keys or values, autograd would throw their gradient
        # away: with adapters on q_proj and v_proj only, that of the keys in the model's first
        # layer.
        for_q, for_k, for_v = ctx.needs_input_grad
        for weights, start in zip(all_weights, range(0, q.shape[2], BLOCK), strict=True):
            end = weights.shape[2]  # a block sees the keys up to its own last one
            dout = gradient[:, :, start:end].flatten(1, 2)
            if for_v:
                dv[:, :end] += torch.bmm(weights.transpose(1, 2), dout)
            if for_q or for_k:
                dscores = torch.bmm(dout, v[:, :end].transpose(1, 2))
                dscores.sub_(mean[:, :, start:end].flatten(1, 2)).mul_(weights)
            if for_q:
                block = dq[:, :, start:end]
                block.copy_(torch.bmm(dscores, k[:, :end]).view(block.shape))
            if for_k:
                queries = q[:, :, start:end].flatten(1, 2)
                dk[:, :end] += torch.bmm(dscores.transpose(1, 2), queries)
        return dq, dk.to(k.dtype), dv.to(v.dtype)


def in_blocks(device: torch.device, trains: bool) -> bool:
    """Return whether attention is computed in blocks on a device, or else by PyTorch's own kernel.

    On a CPU the blocks are faster in training, and PyTorch's kernel is faster without gradients. On
    a Mac's `mps` that kernel cannot be trusted: before torch 2.14 a token in bfloat16 may see some
    that follow it (https://github.com/pytorch/pytorch/issues/195910), and in torch 2.6 heads cannot
    share keys. On all other devices PyTorch's kernel is the better one.
    """
    return device.type == "mps" or (device.type == "cpu" and trains)


def causal_attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, trains: bool = True
) -> Tensor:
    """Compute causal attention softmax(scale q k^T) v; query heads may share keys and values [1]_.

    Parameters
    ----------
    q : Tensor of float, shape (B, heads, tokens, width)
        Queries.
    k, v : Tensor of float, shape (B, key/value heads, tokens, width)
        Keys and values; the number of key/value heads divides that of the heads.
    scale : float
        The factor of the scores, usually 1 / sqrt(width).
    trains : bool, optional
        Whether it is a part of training, where gradients are kept.

    Returns
    -------
    Tensor of float, shape (B, heads, tokens, width)
        Computed in blocks or by PyTorch's own kernel, as `in_blocks` says.

    References
    ----------
    .. [1] Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
       Checkpoints", EMNLP 2023.
    """
    if not in_blocks(q.device, trains):
        # The switch between kernels is the whole process's, and on a CPU threads share the work.
        with nullcontext() if q.device.type == "cpu" else sdpa_kernel(KERNELS):
            return scaled_dot_product_attention(
                q, k, v, is_causal=True, scale=scale, enable_gqa=True
            )
    batch, heads, tokens, width = q.shape
    # Neighbouring query heads share a key/value head: of 6 heads and 2 key/value heads, 0 1 2 share
    # one and 3 4 5 the other.
    k = k.reshape(-1, tokens, width)
    v = v.reshape(-1, tokens, width)
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
    """Compute `causal_attention` in transformers' form: tokens before heads, no weights.

    The mask is not read, because pads stand on the right and no token attends to what follows it.
    """
    return causal_attention(query, key, value, scaling).transpose(1, 2), None


@contextmanager
def blocked_attention(model: nn.Module) -> Iterator[None]:
    """Let a model attend by `causal_attention` while the `with` block runs.

    Within it the model may be called only without a cache, and with pads only on the right.
    """
    from transformers import AttentionInterface

    previous = model.config._attn_implementation
    AttentionInterface.register("blocked", _for_transformers)
    model.set_attn_implementation("blocked")
    try:
        yield
    finally:
        model.set_attn_implementation(previous)
