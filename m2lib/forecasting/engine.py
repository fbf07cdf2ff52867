"""The fast way to run a model forward for forecasting: bare matrix products around a preallocated KV cache.

The same function as the transformers model (tests compare it with `m2lib.forecasting.reference.Reference`, token by
token), arranged for speed:

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
from m2lib.model import LoRALinear, causal_attention

# attend(layer's number, q, k, v): how tokens look at each other. It is the one part of a block that differs between
# the pass over a prompt and a step, so `BareModel.forward` is handed it; its docstring gives the shapes.
_Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass
class _Layer:
    """The matrices of one block, in the model's dtype, each (d_out, d_in) as `linear` takes them."""

    qkv: torch.Tensor
    """The projections of queries, keys and values, one below the other, d_out = (heads + 2 kv_heads) * width."""
    qkv_bias: torch.Tensor | None
    """Their biases in that order, where the model has any (Qwen2 has, Llama has none)."""
    out: torch.Tensor
    """The projection of what the heads found."""
    gate: torch.Tensor
    """The MLP's branch that SiLU acts on."""
    up: torch.Tensor
    """The MLP's other branch, which the gate multiplies."""
    down: torch.Tensor
    """The MLP's way back to d."""
    norms: tuple[torch.Tensor, torch.Tensor]
    """Weights (d,) of the RMS norms before attention and before the MLP."""


class BareModel:
    """A Llama- or Qwen2-shaped model as bare matrices, with its LoRA adapters, if it has any, merged into copies.

    Parameters
    ----------
    model : PreTrainedModel
        Read and left as it is; matrices without an adapter are shared with it, not copied, but for q, k and v.

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
        The blocks' matrices.
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
            Sines likewise.

        References
        ----------
        .. [1] Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", Neurocomputing, 2024.
        """
        places = torch.arange(count, device=self.embedding.device)[None]
        # The rotary module takes the embedding for its dtype and device only.
        return tuple(part[0, :, None] for part in self.rotary(self.embedding, places))

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
        sizes = [self.heads, self.kv_heads, self.kv_heads]
        for number, layer in enumerate(self.layers):
            h = rms_norm(x, x.shape[1:], layer.norms[0], self.eps)
            # One product gives (n, (heads + 2 kv_heads) * width); seen as (n, heads + 2 kv_heads, width) it is split.
            q, k, v = linear(h, layer.qkv, layer.qkv_bias).view(len(x), -1, self.width).split(sizes, 1)
            mixed = attend(number, _rotated(q, cos, sin), _rotated(k, cos, sin), v)
            x = x + linear(mixed.reshape(x.shape), layer.out)
            h = rms_norm(x, x.shape[1:], layer.norms[1], self.eps)
            x = x + linear(silu(linear(h, layer.gate)).mul_(linear(h, layer.up)), layer.down)
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


class Engine:
    """Rows that are decoded together, one for each sample of each prompt, and their KV cache.

    The cache is two tensors a layer, keys and values, with three axes: (rows * kv_heads, columns, width).

    The first index counts prompts, then samples, then key/value heads: row * kv_heads + head, where row
    i * samples + j is sample j of prompt i. With 2 prompts, 2 samples each, and 3 key/value heads::

        index     0  1  2    3  4  5    6  7  8    9 10 11
        prompt    0  0  0    0  0  0    1  1  1    1  1  1
        sample    0  0  0    1  1  1    0  0  0    1  1  1
        row       0  0  0    1  1  1    2  2  2    3  3  3
        kv head   0  1  2    0  1  2    0  1  2    0  1  2

    The second index is the column, one for each token. All prompts end in the same column, so that each step fills one
    column for all rows; a shorter prompt starts further right. Prompts of 5 and 3 tokens (a, b), then two steps (+)::

        column              0  1  2  3  4  5  6  7 ... 63
        rows of prompt 0    a  a  a  a  a  +  +
        rows of prompt 1          b  b  b  +  +
        position there            0  1  2  3  4

    A token's position, by which it is rotated, counts from its own prompt's first token and is not its column. Empty
    columns hold zeros, and `mask` holds them at minus infinity.

    When rows leave, those behind them move up, and only `generate` knows whose they are.

    Parameters
    ----------
    model : PreTrainedModel
        A Llama- or Qwen2-shaped model with the 13-token vocabulary; it is left as it is.
    prompts : list of list of int
        Non-empty lists of ids 0-12, of mixed lengths.
    samples : int, optional
        Rows for each prompt, which is read once for all of them.

    Attributes
    ----------
    logits : Tensor of float32, shape (rows, 13)
        Of each row's next token.
    keys, values : list of Tensor, shape (rows * kv_heads, columns, width)
        The cache, a tensor a layer; keys are rotated already.
    mask : Tensor, shape (rows, 1, columns)
        What is added to the scores: 0 where a column holds a token of the row, else minus infinity. The axis of
        length 1 stands for all heads.
    position : Tensor of int64, shape (rows,)
        Of each row's next token, and so the number of tokens it has taken.
    filled : int
        The column of the next token, for all rows.
    cos, sin : Tensor, shape (columns, 1, width)
        The rotary embedding of as many positions; a token's position is never beyond its column.
    decoder : BareModel
        The model's matrices.

    References
    ----------
    .. [1] Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
       EMNLP, 2023. (Heads that share keys and values.)
    """

    def __init__(self, model: PreTrainedModel, prompts: list[list[int]], samples: int = 1):
        self.decoder = decoder = BareModel(model)
        device, dtype = decoder.embedding.device, decoder.embedding.dtype
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        self.filled = int(lengths.max())
        rows, columns = len(prompts) * samples, cache_columns(self.filled + 1)  # with room for one more token
        shape = rows * decoder.kv_heads, columns, decoder.width
        # Zeros, not `torch.empty`: a masked column counts with weight 0, but 0 * nan would still be nan.
        self.keys, self.values = (
            [torch.zeros(shape, device=device, dtype=dtype) for _ in decoder.layers] for _ in range(2)
        )
        # A prompt's samples lie side by side: lengths 5, 3 become 5 5 3 3 (`repeat` would give 5 3 5 3).
        self.position = lengths.repeat_interleave(samples).to(device)
        pads = torch.arange(columns, device=device) < self.filled - self.position[:, None]
        ahead = torch.arange(columns, device=device) >= self.filled
        # Prompts of 5 and 3 tokens: the second one's rows have pads in columns 0 and 1; for both, 5 to 63 lie ahead.
        # Minus infinity, and not a large negative number: the softmax makes it a weight of exactly zero, so a column
        # that is not the row's own changes nothing. No row is masked throughout, which would be 0 / 0.
        self.mask = torch.zeros(rows, 1, columns, device=device, dtype=dtype)
        self.mask.masked_fill_((pads | ahead)[:, None], float("-inf"))
        self.cos, self.sin = decoder.positions(columns)
        last = [self._prefill(prompt, slice(i * samples, (i + 1) * samples)) for i, prompt in enumerate(prompts)]
        self.logits = decoder.logits(torch.stack(last)).repeat_interleave(samples, 0)

    def _prefill(self, prompt: list[int], rows: slice) -> torch.Tensor:
        """Run a prompt, put its keys and values into its rows, and return the last hidden state (d,)."""
        decoder, place = self.decoder, slice(self.filled - len(prompt), self.filled)

        def attend(number: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """The whole prompt at once, each token looking at itself and those before it: n tokens of one row."""
            for cache, new in ((self.keys[number], k), (self.values[number], v)):
                # Seen as (rows, kv_heads, columns, width), the cache takes (kv_heads, n, width) into all samples' rows.
                cache.view(-1, decoder.kv_heads, *cache.shape[1:])[rows, :, place] = new.transpose(0, 1)
            # Nothing is read from the cache: (n, heads, width) -> (1, heads, n, width), and back.
            q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
            return causal_attention(q, k, v, decoder.width**-0.5)[0].transpose(0, 1)

        tokens = torch.tensor(prompt, device=self.mask.device)
        return decoder.forward(tokens, self.cos[: len(prompt)], self.sin[: len(prompt)], attend)[-1]

    def step(self, tokens: torch.Tensor) -> None:
        """Take one more token for each row, and compute the next logits.

        Parameters
        ----------
        tokens : Tensor of int64, shape (rows,)
            Ids 0-12.
        """
        decoder, column = self.decoder, self.filled
        if column == self.mask.shape[2]:
            self._widen(cache_columns(column + 1))
        self.mask[:, :, column] = 0  # before attending: a token looks at itself too
        rows, kv, width = len(tokens), decoder.kv_heads, decoder.width

        def attend(number: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """One token in each row, looking at all columns of its row's cache, its own included.

            Parameters
            ----------
            number : int
                The layer's.
            q : Tensor, shape (rows, heads, width)
                One query a head.
            k, v : Tensor, shape (rows, kv_heads, width)
                Of the new tokens.

            Returns
            -------
            Tensor, shape (rows * kv_heads, heads / kv_heads, width)
                In the order of q.
            """
            keys, values = self.keys[number], self.values[number]
            keys[:, column], values[:, column] = k.reshape(-1, width), v.reshape(-1, width)
            # Heads that share keys stand as if they were more queries of one head, so the keys are never repeated.
            # 2 rows, 6 heads, 3 key/value heads: q (2, 6, w) becomes (6, 2, w), one pair of heads beside each of the
            # cache's 6 entries; the scores (6, 2, columns) are seen as (2, 6, columns) while each row's mask is added.
            #
            # All allocated columns are computed, filled or not: at most 63 too many (GROWTH - 1), which the mask takes
            # out. In return whole tensors go into the products, and their shapes stay the same for 64 steps.
            grouped = q.reshape(rows * kv, -1, width) * width**-0.5
            scores = torch.bmm(grouped, keys.transpose(1, 2)).view(rows, -1, self.mask.shape[2]).add_(self.mask)
            weights = torch.softmax(scores, -1).view(rows * kv, -1, self.mask.shape[2])
            return torch.bmm(weights, values)

        x = decoder.forward(tokens, self.cos[self.position], self.sin[self.position], attend)
        self.logits = decoder.logits(x)
        self.position, self.filled = self.position + 1, column + 1

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, which copies what is left of the cache.

        Parameters
        ----------
        rows : Tensor of int64, shape (kept,)
            Their numbers, ascending.
        """
        self.position, self.logits, self.mask = self.position[rows], self.logits[rows], self.mask[rows]
        kv = self.decoder.kv_heads
        for caches in (self.keys, self.values):
            for number, cache in enumerate(caches):
                # As (rows, kv_heads, columns, width) for the choice, and back. Layer by layer, so that at no time
                # there are two whole caches.
                caches[number] = cache.view(-1, kv, *cache.shape[1:])[rows].view(-1, *cache.shape[1:])

    def _widen(self, columns: int) -> None:
        """Enlarge cache, mask and positions to so many columns: zeros that are masked."""
        more = columns - self.mask.shape[2]
        self.cos, self.sin = self.decoder.positions(columns)
        # `pad` counts axes from the last one, a pair (before, after) each: (0, more) lengthens the mask's columns,
        # (0, 0, 0, more) leaves the cache's width alone and lengthens its columns.
        self.mask = torch.nn.functional.pad(self.mask, (0, more), value=float("-inf"))
        for caches in (self.keys, self.values):
            for number, cache in enumerate(caches):
                caches[number] = torch.nn.functional.pad(cache, (0, 0, 0, more))


def _bare(layer: torch.nn.Module) -> _Layer:
    """The matrices of a transformers block."""
    attention, mlp = layer.self_attn, layer.mlp
    inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [(projection.base if isinstance(projection, LoRALinear) else projection).bias for projection in inputs]
    return _Layer(
        qkv=torch.cat([_merged(projection) for projection in inputs]),
        qkv_bias=None if biases[0] is None else torch.cat(biases),
        out=_merged(attention.o_proj),
        gate=_merged(mlp.gate_proj),
        up=_merged(mlp.up_proj),
        down=_merged(mlp.down_proj),
        norms=(layer.input_layernorm.weight, layer.post_attention_layernorm.weight),
    )


def _merged(layer: torch.nn.Linear | LoRALinear) -> torch.Tensor:
    """The layer's weight, an adapter added, rounded once to the weight's dtype."""
    return layer.merged_weight() if isinstance(layer, LoRALinear) else layer.weight


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x (n, heads, width), whose halves are the two coordinates of each rotated pair."""
    # Coordinates i and i + width / 2 are a pair (a, b), turned to (a cos - b sin, b cos + a sin).
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin
