"""The fast way to run a model forward for forecasting: bare matrix products around a preallocated KV cache.

The same function as the transformers model (tests compare it with `m2lib.forecasting.reference.Reference`, token by
token), arranged for speed:

- adapters are merged, and q, k and v are one product;
- each prompt is run alone, so no pad is ever computed, and with logits for its last token only;
- a prompt's keys and values are kept once for all its samples, which attend to them in one product;
- the cache is allocated ahead and contiguous, and heads that share keys attend in one product, without repeating them;
- rows leave the batch when they are done.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby

import torch
from torch.nn.functional import pad
from transformers import PreTrainedModel

from m2lib.forecasting.bare_model import BareModel
from m2lib.forecasting.protocol import cache_columns
from m2lib.model import causal_attention


class _Cache:
    """Keys and values of some columns: tensors (entries, columns, width), one of each a layer.

    An entry is what one key/value head keeps of one prompt or one row; `Engine` says in which order they stand.
    """

    def __init__(self, decoder: BareModel, entries: int, columns: int):
        shape = entries, columns, decoder.width
        # Zeros, not `torch.empty`: a masked column counts with weight 0, but 0 * nan would still be nan.
        self.keys, self.values = ([decoder.embedding.new_zeros(shape) for _ in decoder.layers] for _ in range(2))

    @property
    def columns(self) -> int:
        """How many are allocated."""
        return self.keys[0].shape[1]

    def change(self, how: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Put `how(tensor)` in each tensor's place: layer by layer, so that at no time there are two whole caches."""
        for tensors in (self.keys, self.values):
            for number, tensor in enumerate(tensors):
                tensors[number] = how(tensor)


@dataclass
class _Run:
    """Neighbouring prompts that have equally many rows."""

    prompts: slice
    """Of those that are left."""
    held: slice
    """Their entries in the prompts' cache."""
    rows: slice
    """Their rows' entries."""

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Of x (entries of all rows, heads / kv_heads, n) these rows' part, as one matrix for each entry held."""
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

    Each step fills one column for all rows. Empty columns hold zeros, and `mask` holds them at minus infinity. A
    token's position, by which it is rotated, counts from its prompt's first token: it is the column of a prompt's
    token, and not that of a later one.

    In memory a cache is tensors (entries, columns, width). Entries count prompts, then key/value heads, then samples:
    so all queries that read the same keys of a prompt are neighbours, and one product serves them all. With 2 prompts,
    2 samples each, and 3 key/value heads the entries of `own`, and those of `shared` that they attend to, are::

        own          0  1    2  3    4  5    6  7    8  9   10 11
        prompt       0  0    0  0    0  0    1  1    1  1    1  1
        kv head      0  0    1  1    2  2    0  0    1  1    2  2
        sample       0  1    0  1    0  1    0  1    0  1    0  1
        row          0  1    0  1    0  1    2  3    2  3    2  3
        shared       0  0    1  1    2  2    3  3    4  4    5  5

    When rows leave, those behind them move up, and only `generate` knows whose they are. A prompt leaves with its last
    row.

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
    shared : _Cache
        The prompts' columns; keys are rotated already.
    own : _Cache
        The columns of the rows' new tokens; `shared` itself with one sample for each prompt.
    mask : Tensor, shape (prompts, 1, columns)
        What is added to the scores of a prompt's rows: 0 where a column holds a token, else minus infinity. The axis of
        length 1 stands for all rows and heads.
    position : Tensor of int64, shape (rows,)
        Of each row's next token, and so the number of tokens it has taken.
    filled : int
        The column of the next token, for all rows.
    cos, sin : Tensor, shape (columns, 1, width)
        The rotary embedding of as many positions; a token's position is never beyond its column.
    prompt : Tensor of int64, shape (rows,)
        Which of the prompts, of those that are left, each row continues; ascending.
    order, entry : Tensor of int64, shape (rows * kv_heads,)
        `order` lists row * kv_heads + head for each entry of the rows; `entry` is the way back: the entry of each row
        and head.
    runs : list of _Run
        Neighbouring prompts that have equally many rows, and where their entries are; at first a single run.
    decoder : BareModel
        The model's matrices.

    References
    ----------
    .. [1] Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints",
       EMNLP, 2023. (Heads that share keys and values.)
    .. [2] Juravsky et al., "Hydragen: High-Throughput LLM Inference with Shared Prefixes", 2024. (Samples that do.)
    """

    def __init__(self, model: PreTrainedModel, prompts: list[list[int]], samples: int = 1):
        self.decoder = decoder = BareModel(model)
        device, entries = decoder.embedding.device, len(prompts) * decoder.kv_heads
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        self.filled = max(len(prompt) for prompt in prompts)
        if samples == 1:
            self.shared = self.own = _Cache(decoder, entries, cache_columns(self.filled + 1))  # with room for one more
            columns = self.own.columns
        else:
            self.shared = _Cache(decoder, entries, cache_columns(self.filled))
            self.own, self.filled = _Cache(decoder, entries * samples, cache_columns(1)), self.shared.columns
            columns = self.shared.columns + self.own.columns
        # Minus infinity, and not a large negative number: the softmax makes it a weight of exactly zero, so a column
        # that is empty changes nothing. No row is masked throughout, which would be 0 / 0.
        empty = torch.arange(columns, device=device) >= lengths[:, None]
        self.mask = torch.zeros_like(empty, dtype=decoder.embedding.dtype).masked_fill_(empty, float("-inf"))[:, None]
        self.cos, self.sin = decoder.positions(columns)
        last = [self._prefill(prompt, number) for number, prompt in enumerate(prompts)]
        # A prompt's samples lie side by side: 0 0 1 1 (`repeat` would give 0 1 0 1).
        numbers = torch.arange(len(prompts), device=device).repeat_interleave(samples)
        self._arrange(numbers, [samples] * len(prompts))
        self.position, self.logits = lengths[numbers], decoder.logits(torch.stack(last))[numbers]

    def _prefill(self, prompt: list[int], number: int) -> torch.Tensor:
        """Run prompt `number`, put its keys and values into its entries, and return the last hidden state (d,)."""
        decoder, length = self.decoder, len(prompt)
        held = slice(number * decoder.kv_heads, (number + 1) * decoder.kv_heads)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """The whole prompt at once, each token looking at itself and those before it: n tokens of one row."""
            # Nothing is read from the cache: (n, heads, width) -> (1, heads, n, width), and back.
            q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
            self.shared.keys[layer][held, :length], self.shared.values[layer][held, :length] = k[0], v[0]
            return causal_attention(q, k, v, decoder.width**-0.5)[0].transpose(0, 1)

        tokens = torch.tensor(prompt, device=self.mask.device)
        return decoder.forward(tokens, self.cos[:length], self.sin[:length], attend)[-1]

    def _heads(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers of rows or prompts, times their key/value heads: with 3 of these, 0 2 become 0 1 2 6 7 8."""
        kv = self.decoder.kv_heads
        return (numbers[:, None] * kv + torch.arange(kv, device=numbers.device)).flatten()

    def _arrange(self, prompt: torch.Tensor, counts: list[int]) -> None:
        """Note which prompt each row continues, and how many rows each prompt has: where all entries stand."""
        self.prompt, self.runs = prompt, []
        # By prompt and head; a stable sort leaves the rows of each in their order.
        self.order = self._heads(prompt).argsort(stable=True)
        self.entry = self.order.argsort()
        kv, first, start = self.decoder.kv_heads, 0, 0
        for count, run in groupby(counts):  # 2 2 2 1 are a run of three prompts and a run of one
            last = first + len(list(run))
            end = start + (last - first) * kv * count
            self.runs.append(_Run(slice(first, last), slice(first * kv, last * kv), slice(start, end)))
            first, start = last, end

    def step(self, tokens: torch.Tensor) -> None:
        """Take one more token for each row, and compute the next logits.

        Parameters
        ----------
        tokens : Tensor of int64, shape (rows,)
            Ids 0-12.
        """
        decoder, width, shared, own = self.decoder, self.decoder.width, self.shared, self.own
        if self.filled == self.mask.shape[2]:
            self._widen()
        self.mask[:, :, self.filled] = 0  # before attending: a token looks at itself too
        entries, columns = len(self.order), self.mask.shape[2]
        scores = self.mask.new_empty(entries, decoder.heads // decoder.kv_heads, columns)
        column = self.filled - columns  # counted from the end, -1 the last, which is right in either layout

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """One token in each row, looking at all columns of its prompt and at all of its own, the new one included.

            Parameters
            ----------
            layer : int
                Its number.
            q : Tensor, shape (rows, heads, width)
                One query a head.
            k, v : Tensor, shape (rows, kv_heads, width)
                Of the new tokens.

            Returns
            -------
            Tensor, shape (rows * kv_heads, heads / kv_heads, width)
                In the order of q.
            """
            # Heads that share keys stand as if they were more queries of one head, so the keys are never repeated; and
            # so do samples. 2 prompts, 2 samples, 6 heads, 3 key/value heads: q (4, 6, w) becomes (12, 2, w), one pair
            # of heads beside each entry of `own`, and (6, 4, w), two pairs beside each of the 6 entries of `shared`.
            q, k, v = (x.reshape(entries, -1, width).index_select(0, self.order) for x in (q, k, v))
            q *= width**-0.5
            own.keys[layer][:, column], own.values[layer][:, column] = k[:, 0], v[:, 0]
            # All allocated columns are computed, filled or not: in each cache at most 63 too many (GROWTH - 1), which
            # the mask takes out. In return whole tensors go into the products, and their shapes stay the same for 64
            # steps.
            if own is not shared:
                torch.bmm(q, own.keys[layer].transpose(1, 2), out=scores[:, :, shared.columns :])
            for run in self.runs:
                keys, mask = shared.keys[layer][run.held], self.mask[run.prompts]
                torch.bmm(run.of(q), keys.transpose(1, 2), out=run.of(scores)[:, :, : shared.columns])
                scores[run.rows].view(len(mask), -1, columns).add_(mask)
            weights, mixed = torch.softmax(scores, -1), torch.empty_like(q)
            for run in self.runs:
                torch.bmm(run.of(weights)[:, :, : shared.columns], shared.values[layer][run.held], out=run.of(mixed))
            if own is not shared:
                mixed += torch.bmm(weights[:, :, shared.columns :], own.values[layer])
            return mixed.index_select(0, self.entry)

        x = decoder.forward(tokens, self.cos[self.position], self.sin[self.position], attend)
        self.logits = decoder.logits(x)
        self.position, self.filled = self.position + 1, self.filled + 1

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, and the prompts that have none left.

        The rows' own columns are copied, the prompts' only where one leaves.

        Parameters
        ----------
        rows : Tensor of int64, shape (kept,)
            Their numbers, ascending.
        """
        self.position, self.logits, kept = self.position[rows], self.logits[rows], self.entry[self._heads(rows)]
        prompts, prompt, counts = self.prompt[rows].unique_consecutive(return_inverse=True, return_counts=True)
        self._arrange(prompt, counts.tolist())
        kept = kept[self.order]
        self.own.change(lambda tensor: tensor.index_select(0, kept))
        if len(prompts) == len(self.mask):
            return
        self.mask, held = self.mask[prompts], self._heads(prompts)
        if self.shared is not self.own:
            self.shared.change(lambda tensor: tensor.index_select(0, held))

    def _widen(self) -> None:
        """Enlarge `own` by `GROWTH` columns, zeros that are masked, and with it mask and positions."""
        more = cache_columns(self.own.columns + 1) - self.own.columns
        # `pad` counts axes from the last one, a pair (before, after) each: (0, more) lengthens the mask's columns,
        # (0, 0, 0, more) leaves the cache's width alone and lengthens its columns.
        self.mask = pad(self.mask, (0, more), value=float("-inf"))
        self.own.change(lambda tensor: pad(tensor, (0, 0, 0, more)))
        self.cos, self.sin = self.decoder.positions(self.mask.shape[2])
