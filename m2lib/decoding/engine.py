"""The fast way to run a model forward for forecasting: bare matrix products around a preallocated
KV cache.

The same function as the transformers model (tests compare it with
`m2lib.decoding.reference.Reference`, token by token), arranged for speed:

- adapters are merged, q, k and v are one product, and weights lie as the processor's kernels read them;
- each prompt is run alone, so no pad is ever computed, and with logits for its last token only;
- a prompt's keys and values are kept once for all its samples, which attend to them in one product;
- the cache is allocated ahead and contiguous, and heads that share keys attend in one product, without repeating them;
- rows leave the batch when they are done.

`BareModel` is the model's matrices, `Engine` the rows that are decoded and their cache.
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import NamedTuple

import torch
from torch.nn.functional import linear, pad, rms_norm, silu

from m2lib.model import causal_attention

# attend(layer's number, q, k, v): how tokens look at each other. It is the one part of a block that
# differs between the pass over a prompt and a step, so `BareModel.forward` is handed it; its
# docstring gives the shapes.
_Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
# Keys and values of some columns, each (entries, columns, width), for each layer. An entry is what
# one key/value head keeps of one prompt or one row; `Engine` says in which order they stand.
_Cache = list[tuple[torch.Tensor, torch.Tensor]]
GROWTH = 64  # columns (tokens) by which a cache grows


def product_with(
    weight: torch.Tensor, bias: torch.Tensor | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A frozen linear layer, weight (d_out, d_in), as a function x (n, d_in) -> (n, d_out), without
    gradients.

    On a CPU in bfloat16 oneDNN's kernels read a matrix in blocks, and `linear` puts it into blocks
    anew in each call: with 16 rows that is half of the time, with 50 a fifth. Here it is done once,
    by the operators that `torch.compile` puts in the place of `linear`. They are not part of
    torch's public interface: where they are missing, the product is the plain one. The numbers are
    the same to the bit.
    """
    operators = torch.ops.mkldnn
    needed = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    here = weight.device.type == "cpu" and weight.dtype == torch.bfloat16
    if not (
        here
        and all(hasattr(operators, name) for name in needed)
        and operators._is_mkldnn_bf16_supported()
    ):
        return partial(linear, weight=weight, bias=bias)
    packed = operators._reorder_linear_weight(weight.detach())
    return lambda x: operators._linear_pointwise(x, packed, bias, "none", [], "")


class _Block:
    """The linear layers of a transformers block as products, adapters merged into copies, and its
    norms' weights (d,).

    `qkv` gives queries, keys and values side by side, (heads + 2 kv_heads) * width of them, with
    biases where the model has them (Qwen2 has, Llama has none).
    """

    def __init__(self, layer: torch.nn.Module):
        attention, mlp = layer.self_attn, layer.mlp
        inputs = (attention.q_proj, attention.k_proj, attention.v_proj)
        bias = None if attention.q_proj.bias is None else torch.cat([it.bias for it in inputs])
        # The weight of a layer with an adapter is that of both.
        self.qkv = product_with(torch.cat([it.weight for it in inputs]), bias)
        self.out, self.gate, self.up, self.down = (
            product_with(it.weight)
            for it in (attention.o_proj, mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        )
        self.norms = layer.input_layernorm.weight, layer.post_attention_layernorm.weight


class BareModel:
    """A Llama- or Qwen2-shaped transformers model as bare matrices: the same function, without the
    modules around it.

    The model is read and left as it is. How tokens look at each other is left to the caller. Query
    head h reads key/value head h // (heads // kv_heads), and d = heads * width.
    """

    def __init__(self, model: torch.nn.Module):
        config, body = model.config, model.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.width = config.hidden_size // self.heads
        self.embedding, self.norm, self.head = (
            body.embed_tokens.weight,
            body.norm.weight,
            model.get_output_embeddings(),
        )
        self.eps, self.rotary = config.rms_norm_eps, body.rotary_emb
        self.blocks = [_Block(layer) for layer in body.layers]

    def positions(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The rotary embedding of the first positions: cosines and sines (count, 1, width), for all
        heads the same.

        The sines are negative for the first half of the width: see `_rotated`.

        References
        ----------
        .. [1] Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding",
           Neurocomputing, 2024.
        """
        places = torch.arange(count, device=self.embedding.device)[None]
        # The rotary module takes the embedding for its dtype and device only.
        cos, sin = (part[0, :, None] for part in self.rotary(self.embedding, places))
        first, second = sin.chunk(2, -1)
        return cos, torch.cat((-first, second), -1)

    def forward(
        self, tokens: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, attend: _Attend
    ) -> torch.Tensor:
        """Final hidden states (n, d), before the final norm, of n tokens: of one prompt, or of one
        token a row.

        Which of the two it is, and where earlier tokens' keys and values are, only `attend` knows.

        Parameters
        ----------
        tokens : Tensor of int64, shape (n,)
            Ids 0-12.
        cos, sin : Tensor, shape (n, 1, width)
            Of the tokens' positions.
        attend : callable
            attend(layer's number, q, k, v) with q (n, heads, width), k and v (n, kv_heads, width).
            Returns what each token's heads found, n * heads * width numbers in the order of q.
        """
        x = self.embedding[tokens]
        turned, sizes = self.heads + self.kv_heads, [self.heads, self.kv_heads]
        for number, block in enumerate(self.blocks):
            h = rms_norm(x, x.shape[1:], block.norms[0], self.eps)
            # One product gives (n, (heads + 2 kv_heads) * width); seen as (n, heads + 2 kv_heads,
            # width) it is split, and all but the values are rotated.
            qkv = block.qkv(h).view(len(x), -1, self.width)
            q, k = _rotated(qkv[:, :turned], cos, sin).split(sizes, 1)
            mixed = attend(number, q, k, qkv[:, turned:])
            x = x + block.out(mixed.reshape(x.shape))
            h = rms_norm(x, x.shape[1:], block.norms[1], self.eps)
            x = x + block.down(silu(block.gate(h)).mul_(block.up(h)))
        return x

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """The next token's logits (n, 13), float32, after the final norm and the head, from final
        hidden states."""
        return self.head(rms_norm(x, x.shape[1:], self.norm, self.eps))

    def cache(self, entries: int, columns: int) -> _Cache:
        """Room for keys and values."""
        # Zeros, not `torch.empty`: a masked column counts with weight 0, but 0 * nan would still be
        # nan.
        shape, zeros = (entries, columns, self.width), self.embedding.new_zeros
        return [(zeros(shape), zeros(shape)) for _ in self.blocks]


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x (n, heads, width), whose halves are the two coordinates of each rotated
    pair."""
    # Coordinates i and i + width / 2 are a pair (a, b), turned to (a cos - b sin, b cos + a sin).
    # Rolled by half the width, each stands in the other's place; the minus is in the sines already.
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


class _Run(NamedTuple):
    """Neighbouring prompts that have equally many rows."""

    prompts: slice
    """Of those that are left."""
    held: slice
    """Their entries in the prompts' cache."""
    rows: slice
    """Their rows' entries."""

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Of x (entries of all rows, heads / kv_heads, n) these rows' part, as one matrix for each
        entry held."""
        return x[self.rows].view(self.held.stop - self.held.start, -1, x.shape[2])


class Engine:
    """Rows that are decoded together, one for each sample of each prompt, and their KV cache.

    Row i * samples + j is sample j of prompt i. A prompt's keys and values are kept once; its rows share them, and each
    has only the columns of its own new tokens beside them. Prompts of 5 and 3 tokens (a, b), 2 samples each, after two
    steps (+)::

        column       0  1  2  3  4 ... 63    64 65 ... 127
        prompt 0     a  a  a  a  a           +  +             row 0
                                             +  +             row 1
        prompt 1     b  b  b                 +  +             row 2
                                             +  +             row 3

    A step attends to both parts at once: their scores stand side by side, under one softmax. With one sample for each
    prompt there is nothing to share, and one cache holds both::

        column       0  1  2  3  4  5  6 ... 63
        row 0        a  a  a  a  a  +  +
        row 1        b  b  b        +  +

    Each step fills one column for all rows. Empty columns hold zeros, and `mask` holds them at
    minus infinity. A token's position, by which it is rotated, counts from its prompt's first
    token: it is the column of a prompt's token, and not that of a later one.

    In memory a cache is tensors (entries, columns, width). Entries count prompts, then key/value heads, then samples:
    so all queries that read the same keys of a prompt are neighbours, and one product serves them all. With 2 prompts,
    2 samples each, and 3 key/value heads the entries of `own`, and those of `shared` that they attend to, are::

        own          0  1    2  3    4  5    6  7    8  9   10 11
        prompt       0  0    0  0    0  0    1  1    1  1    1  1
        kv head      0  0    1  1    2  2    0  0    1  1    2  2
        sample       0  1    0  1    0  1    0  1    0  1    0  1
        row          0  1    0  1    0  1    2  3    2  3    2  3
        shared       0  0    1  1    2  2    3  3    4  4    5  5

    When rows leave, those behind them move up, and only `generate` knows whose they are. A prompt
    leaves with its last row.

    Parameters
    ----------
    model : PreTrainedModel or BareModel
        A Llama- or Qwen2-shaped model with the 13-token vocabulary; it is left as it is. Or its
        matrices, which several engines may share.
    prompts : list of list of int
        Non-empty lists of ids 0-12, of mixed lengths.
    samples : int, optional
        Rows for each prompt, which is read once for all of them.

    Attributes
    ----------
    logits : Tensor of float32, shape (rows, 13)
        Of each row's next token.
    shared : list of (Tensor, Tensor)
        Keys, rotated already, and values of the prompts' columns, for each layer.
    own : list of (Tensor, Tensor)
        Of the columns of the rows' new tokens; `shared` itself with one sample for each prompt.
    mask : Tensor, shape (prompts, 1, columns)
        What is added to the scores of a prompt's rows: 0 where a column holds a token, else minus
        infinity. The axis of length 1 stands for all rows and heads.
    position : Tensor of int64, shape (rows,)
        Of each row's next token, and so the number of tokens it has taken.
    filled : int
        The column of the next token, for all rows.
    cos, sin : Tensor, shape (columns, 1, width)
        The rotary embedding of as many positions; a token's position is never beyond its column.
    prompt : Tensor of int64, shape (rows,)
        Which of the prompts, of those that are left, each row continues; ascending.
    order, entry : Tensor of int64, shape (rows * kv_heads,)
        `order` lists row * kv_heads + head for each entry of the rows; `entry` is the way back: the
        entry of each row and head.
    runs : list of _Run
        Neighbouring prompts that have equally many rows, and where their entries are; at first a
        single run.
    bare : BareModel
        The model's matrices.

    References
    ----------
    .. [1] Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
       Checkpoints", EMNLP, 2023. (Heads that share keys and values.)
    .. [2] Juravsky et al., "Hydragen: High-Throughput LLM Inference with Shared Prefixes", 2024.
       (Samples that do.)
    """

    def __init__(
        self, model: torch.nn.Module | BareModel, prompts: list[list[int]], samples: int = 1
    ):
        self.bare = bare = model if isinstance(model, BareModel) else BareModel(model)
        device, entries = bare.embedding.device, len(prompts) * bare.kv_heads
        lengths = torch.tensor([*map(len, prompts)], device=device)
        self.filled = max(map(len, prompts))
        columns = cache_columns(
            self.filled + (samples == 1)
        )  # one sample writes into the same columns
        self.shared = self.own = bare.cache(entries, columns)
        if samples > 1:
            self.own, self.filled = bare.cache(entries * samples, GROWTH), columns
            columns += GROWTH
        # Minus infinity, and not a large negative number: the softmax makes it a weight of exactly
        # zero, so a column that is empty changes nothing. No row is masked throughout, which would
        # be 0 / 0.
        empty = torch.arange(columns, device=device) >= lengths[:, None]
        self.mask = torch.zeros_like(empty, dtype=bare.embedding.dtype).masked_fill_(
            empty, float("-inf")
        )[:, None]
        self.cos, self.sin = bare.positions(columns)
        last = [self._prefill(prompt, number) for number, prompt in enumerate(prompts)]
        # A prompt's samples lie side by side: 0 0 1 1 (`repeat` would give 0 1 0 1).
        numbers = torch.arange(len(prompts), device=device).repeat_interleave(samples)
        self._arrange(numbers, [samples] * len(prompts))
        self.position, self.logits = lengths[numbers], bare.logits(torch.stack(last))[numbers]

    def _prefill(self, prompt: list[int], number: int) -> torch.Tensor:
        """Run prompt `number`, put its keys and values into its entries, and return the last hidden
        state (d,)."""
        bare, length = self.bare, len(prompt)
        held = slice(number * bare.kv_heads, (number + 1) * bare.kv_heads)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """The whole prompt at once, each token looking at itself and those before it: n tokens
            of one row."""
            # Nothing is read from the cache: (n, heads, width) -> (1, heads, n, width), and back.
            q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
            keys, values = self.shared[layer]
            keys[held, :length], values[held, :length] = k[0], v[0]
            return causal_attention(q, k, v, bare.width**-0.5)[0].transpose(0, 1)

        tokens = torch.tensor(prompt, device=self.mask.device)
        return bare.forward(tokens, self.cos[:length], self.sin[:length], attend)[-1]

    def _heads(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers of rows or prompts, times their key/value heads: with 3 of these, 0 2 become 0 1
        2 6 7 8."""
        kv = self.bare.kv_heads
        return (numbers[:, None] * kv + torch.arange(kv, device=numbers.device)).flatten()

    def _arrange(self, prompt: torch.Tensor, counts: list[int]) -> None:
        """Note which prompt each row continues, and how many rows each prompt has: where all
        entries stand."""
        self.prompt, self.runs = prompt, []
        # By prompt and head; a stable sort leaves the rows of each in their order.
        self.order = self._heads(prompt).argsort(stable=True)
        self.entry = self.order.argsort()
        kv, first, start = self.bare.kv_heads, 0, 0
        for count, run in groupby(counts):  # 2 2 2 1 are a run of three prompts and a run of one
            last = first + len(list(run))
            end = start + (last - first) * kv * count
            self.runs.append(
                _Run(slice(first, last), slice(first * kv, last * kv), slice(start, end))
            )
            first, start = last, end

    def step(self, tokens: torch.Tensor) -> None:
        """Take one more token for each row, tokens (rows,) of ids 0-12, and compute the next
        logits."""
        bare, shared, own = self.bare, self.shared, self.own
        if (
            self.filled == self.mask.shape[2]
        ):  # no column is left: `own`, mask and positions get `GROWTH` more
            # `pad` counts axes from the last one, a pair (before, after) each: (0, more) lengthens
            # the mask's columns, (0, 0, 0, more) leaves the cache's width alone and lengthens its
            # columns, by zeros.
            self.mask = pad(self.mask, (0, GROWTH), value=float("-inf"))
            _change(own, lambda tensor: pad(tensor, (0, 0, 0, GROWTH)))
            self.cos, self.sin = bare.positions(self.mask.shape[2])
        self.mask[:, :, self.filled] = 0  # before attending: a token looks at itself too
        entries, columns, split = len(self.order), self.mask.shape[2], shared[0][0].shape[1]
        scores = self.mask.new_empty(entries, bare.heads // bare.kv_heads, columns)
        column = (
            self.filled - columns
        )  # counted from the end, -1 the last: `own` may have fewer than the mask

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """One token in each row, looking at all columns of its prompt and at all of its own,
            the new one included.

            Returns (rows * kv_heads, heads / kv_heads, width), in the order of q (rows, heads,
            width).
            """
            # Heads that share keys stand as if they were more queries of one head, so the keys are
            # never repeated; and so do samples. 2 prompts, 2 samples, 6 heads, 3 key/value heads: q
            # (4, 6, w) becomes (12, 2, w), one pair of heads beside each entry of `own`, and (6, 4,
            # w), two pairs beside each of the 6 entries of `shared`.
            q, k, v = (
                x.reshape(entries, -1, bare.width).index_select(0, self.order) for x in (q, k, v)
            )
            q *= bare.width**-0.5
            (old_keys, old_values), (keys, values) = shared[layer], own[layer]
            keys[:, column], values[:, column] = k[:, 0], v[:, 0]
            # All allocated columns are computed, filled or not: in each cache at most 63 too many
            # (GROWTH - 1), which the mask takes out. In return whole tensors go into the products,
            # and their shapes stay the same for 64 steps.
            if own is not shared:
                torch.bmm(q, keys.transpose(1, 2), out=scores[:, :, split:])
            for run in self.runs:
                torch.bmm(
                    run.of(q), old_keys[run.held].transpose(1, 2), out=run.of(scores)[:, :, :split]
                )
                mask = self.mask[run.prompts]
                scores[run.rows].view(len(mask), -1, columns).add_(mask)
            weights, mixed = torch.softmax(scores, -1), torch.empty_like(q)
            for run in self.runs:
                torch.bmm(run.of(weights)[:, :, :split], old_values[run.held], out=run.of(mixed))
            if own is not shared:
                mixed += torch.bmm(weights[:, :, split:], values)
            return mixed.index_select(0, self.entry)

        x = bare.forward(tokens, self.cos[self.position], self.sin[self.position], attend)
        self.logits = bare.logits(x)
        self.position, self.filled = self.position + 1, self.filled + 1

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, numbers (kept,), ascending; and the prompts that have none left.

        The rows' own columns are copied, the prompts' only where one leaves.
        """
        self.position, self.logits, kept = (
            self.position[rows],
            self.logits[rows],
            self.entry[self._heads(rows)],
        )
        prompts, prompt, counts = self.prompt[rows].unique_consecutive(
            return_inverse=True, return_counts=True
        )
        self._arrange(prompt, counts.tolist())
        kept = kept[self.order]
        _change(self.own, lambda tensor: tensor.index_select(0, kept))
        if len(prompts) < len(self.mask):
            self.mask, held = self.mask[prompts], self._heads(prompts)
            if self.shared is not self.own:
                _change(self.shared, lambda tensor: tensor.index_select(0, held))


def _change(cache: _Cache, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Put `how(tensor)` in each tensor's place: layer by layer, so that at no time there are two
    whole caches."""
    for layer, (keys, values) in enumerate(cache):
        cache[layer] = how(keys), how(values)


def cache_columns(filled: int) -> int:
    """How many columns a KV cache of `filled` tokens is allocated, and its attention computes.

    The pads of shorter prompts count as tokens. The number is rounded up to a multiple of `GROWTH`.
    """
    # A ceiling: // rounds down, so the negative of a negated division rounds up. 65 tokens: -65 //
    # 64 = -2, so two times 64, 128 columns. 64 tokens: -64 // 64 = -1, so 64 columns and none to
    # spare.
    return -(-filled // GROWTH) * GROWTH


def step_columns(longest: int, step: int, samples: int) -> int:
    """How many columns each row attends to in a step, its prompt's and its own.

    `longest` are the tokens of the batch's longest prompt, `step` those that the row has taken
    after its prompt, that of the step included. Several samples share the prompt's columns, and
    have a cache of their own for the others.
    """
    return (
        cache_columns(longest + step)
        if samples == 1
        else cache_columns(longest) + cache_columns(step)
    )
