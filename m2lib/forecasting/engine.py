"""The fast way to run a model forward for forecasting: bare matrix products around a preallocated KV cache.

The same function as the transformers model (tests compare them token by token), arranged for speed:

- adapters are merged, and q, k and v are one product;
- each prompt is run alone, so no pad is ever computed, and with logits for its last token only;
- the cache is allocated ahead and contiguous, and heads that share keys attend in one product, without repeating them;
- rows leave the batch when they are done.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import linear, rms_norm, silu
from transformers import PreTrainedModel

from m2lib.forecasting.protocol import cache_columns
from m2lib.model.attention import causal_attention
from m2lib.model.lora import LoRALinear


@dataclass
class _Layer:
    """The matrices of one block, in the model's dtype."""

    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    out: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    down: torch.Tensor
    norms: tuple[torch.Tensor, torch.Tensor]


class BareModel:
    """A Llama- or Qwen2-shaped model as bare matrices, with its LoRA adapters, if it has any, merged into copies."""

    def __init__(self, model: PreTrainedModel):
        config, body = model.config, model.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        self.embedding, self.norm, self.head = body.embed_tokens.weight, body.norm.weight, model.get_output_embeddings()
        self.rotary = body.rotary_emb
        self.layers = [_bare(layer) for layer in body.layers]

    def positions(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of the rotary embedding, (count, 1, width) each."""
        places = torch.arange(count, device=self.embedding.device)[None]
        return tuple(part[0, :, None] for part in self.rotary(self.embedding, places))

    def forward(self, tokens: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: Callable) -> torch.Tensor:
        """Final hidden states (n, d) of tokens (n,) at the positions that cos and sin (n, 1, width) belong to.

        attend(layer's number, q, k, v), each (n, heads of its own, width), returns (n, heads, width).
        """
        x = self.embedding[tokens]
        sizes = [self.heads, self.kv_heads, self.kv_heads]
        for number, layer in enumerate(self.layers):
            h = rms_norm(x, x.shape[1:], layer.norms[0], self.eps)
            q, k, v = linear(h, layer.qkv, layer.qkv_bias).view(len(x), -1, self.width).split(sizes, 1)
            mixed = attend(number, _rotated(q, cos, sin), _rotated(k, cos, sin), v)
            x = x + linear(mixed.reshape(x.shape), layer.out)
            h = rms_norm(x, x.shape[1:], layer.norms[1], self.eps)
            x = x + linear(silu(linear(h, layer.gate)).mul_(linear(h, layer.up)), layer.down)
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (n, 13) of final hidden states (n, d)."""
        return self.head(rms_norm(x, x.shape[1:], self.norm, self.eps))


class Engine:
    """Rows that are decoded together, one for each sample of each prompt, and their KV cache.

    logits: float32 (rows, 13), of the next token. Row i * samples + j is sample j of prompt i. A prompt ends in the
    same column for all rows, so that each step fills one column.
    """

    def __init__(self, model: PreTrainedModel, prompts: list[list[int]], samples: int = 1):
        self.decoder = decoder = BareModel(model)
        device, dtype = decoder.embedding.device, decoder.embedding.dtype
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.filled = int(lengths.max())
        rows, columns = len(prompts) * samples, cache_columns(self.filled + 1)
        shape = rows * decoder.kv_heads, columns, decoder.width
        self.keys, self.values = (
            [torch.zeros(shape, device=device, dtype=dtype) for _ in decoder.layers] for _ in range(2)
        )
        self.position = lengths.repeat_interleave(samples).to(device)
        pads = torch.arange(columns, device=device) < self.filled - self.position[:, None]
        ahead = torch.arange(columns, device=device) >= self.filled
        self.mask = torch.zeros(rows, 1, columns, device=device, dtype=dtype)
        self.mask.masked_fill_((pads | ahead)[:, None], float("-inf"))
        self.cos, self.sin = decoder.positions(columns)
        last = [self._prefill(prompt, slice(i * samples, (i + 1) * samples)) for i, prompt in enumerate(prompts)]
        self.logits = decoder.logits(torch.stack(last)).repeat_interleave(samples, 0)

    def _prefill(self, prompt: list[int], rows: slice) -> torch.Tensor:
        """Run a prompt, put its keys and values into its rows, and return the last hidden state (d,)."""
        decoder, place = self.decoder, slice(self.filled - len(prompt), self.filled)

        def attend(number, q, k, v):
            for cache, new in ((self.keys[number], k), (self.values[number], v)):
                cache.view(-1, decoder.kv_heads, *cache.shape[1:])[rows, :, place] = new.transpose(0, 1)
            q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
            return causal_attention(q, k, v, decoder.width**-0.5)[0].transpose(0, 1)

        tokens = torch.tensor(prompt, device=self.mask.device)
        return decoder.forward(tokens, self.cos[: len(prompt)], self.sin[: len(prompt)], attend)[-1]

    def step(self, tokens: torch.Tensor) -> None:
        """Take one more token (rows,) each, and compute the next logits."""
        decoder, column = self.decoder, self.filled
        if column == self.mask.shape[2]:
            self._widen(cache_columns(column + 1))
        self.mask[:, :, column] = 0
        rows, kv, width = len(tokens), decoder.kv_heads, decoder.width

        def attend(number, q, k, v):
            keys, values = self.keys[number], self.values[number]
            keys[:, column], values[:, column] = k.reshape(-1, width), v.reshape(-1, width)
            grouped = q.reshape(rows * kv, -1, width) * width**-0.5  # the heads that share keys, as if more queries
            scores = torch.bmm(grouped, keys.transpose(1, 2)).view(rows, -1, self.mask.shape[2]).add_(self.mask)
            weights = torch.softmax(scores, -1).view(rows * kv, -1, self.mask.shape[2])
            return torch.bmm(weights, values)

        x = decoder.forward(tokens, self.cos[self.position], self.sin[self.position], attend)
        self.logits = decoder.logits(x)
        self.position, self.filled = self.position + 1, column + 1

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these (their numbers, ascending)."""
        self.position, self.logits, self.mask = self.position[rows], self.logits[rows], self.mask[rows]
        kv = self.decoder.kv_heads
        for caches in (self.keys, self.values):
            for number, cache in enumerate(caches):
                caches[number] = cache.view(-1, kv, *cache.shape[1:])[rows].view(-1, *cache.shape[1:])

    def _widen(self, columns: int) -> None:
        more = columns - self.mask.shape[2]
        self.cos, self.sin = self.decoder.positions(columns)
        self.mask = torch.nn.functional.pad(self.mask, (0, more), value=float("-inf"))
        for caches in (self.keys, self.values):
            for number, cache in enumerate(caches):
                caches[number] = torch.nn.functional.pad(cache, (0, 0, 0, more))


def _bare(layer) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [(one.base if isinstance(one, LoRALinear) else one).bias for one in inputs]
    return _Layer(
        qkv=torch.cat([_merged(one) for one in inputs]),
        qkv_bias=None if biases[0] is None else torch.cat(biases),
        out=_merged(attention.o_proj),
        gate=_merged(mlp.gate_proj),
        up=_merged(mlp.up_proj),
        down=_merged(mlp.down_proj),
        norms=(layer.input_layernorm.weight, layer.post_attention_layernorm.weight),
    )


def _merged(layer) -> torch.Tensor:
    """The layer's weight, an adapter added, rounded once to the weight's dtype."""
    return layer.merged_weight() if isinstance(layer, LoRALinear) else layer.weight


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x (n, heads, width), whose halves are the two coordinates of each rotated pair."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
