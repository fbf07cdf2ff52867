"""The fast way to run a model forward: bare matrix products around a preallocated KV cache.

It computes the same function as the transformers model (tests compare it with
`m2lib.decoding.reference.Reference`, token by token), but is arranged for speed:

- adapters are merged, q, k and v are one product, and weights and keys lie in memory as the
  processor's kernels read them (`m2lib.decoding.bare_model`);
- each prompt runs alone, so no pad is ever computed, and only its last token gets logits;
- a prompt's keys and values are kept once for all its samples, which attend to them in one product;
- the cache is allocated ahead and contiguous, and heads that share keys attend in one product,
  without repeating them;
- rows leave the batch when they are done.
"""

from collections.abc import Callable
from itertools import groupby
from typing import NamedTuple

import torch
from torch.nn.functional import pad

from m2lib.decoding.bare_model import BareModel, Cache
from m2lib.model import causal_attention

GROWTH = 64  # columns (tokens) by which a cache grows that holds prompts
# Columns by which a cache grows that holds only the rows' own tokens. There are so many rows that
# empty columns cost more than the copies that an early growth takes.
OWN_GROWTH = 16


class _Group(NamedTuple):
    """Neighbouring prompts with equally many rows and columns, so that one product serves them."""

    shared: Cache
    """Keys and values of the prompts, a view of theirs in `Engine.shared`. With one sample for each
    prompt the rows' own have these, too, and here are no columns."""
    entries: slice
    """The entries of their rows in `Engine.own`."""
    mask: torch.Tensor
    """(entries of `shared`, 1, columns), the prompts' and then the rows' own: 0 where a column
    holds a token, else minus infinity. Added to scores."""

    @property
    def columns(self) -> int:
        """The columns of each prompt."""
        return _columns(self.shared)

    def attend(
        self, layer: int, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """Attend from one token in each row to its prompt, its own earlier tokens and itself.

        Of the rows' entries q is (entries, heads / kv_heads, width), already scaled, and keys
        (entries, width, own columns) and values (entries, own columns, width) are the own ones.
        Returns the shape of q.
        """
        # All allocated columns are computed, filled or not, and the mask takes out those that are
        # not. Where samples share a prompt, they are at most 63 of the prompt (GROWTH - 1) and 15
        # of a row's own; else every row has as many columns as the longest prompt needs. In return
        # the shapes of the products stay the same for as many steps.
        own_scores = torch.bmm(q, keys)
        if not self.columns:
            weights = torch.softmax(own_scores.add_(self.mask), -1)
            return torch.bmm(weights, values)

        # All rows of a prompt and all heads that share its keys are queries of one product, so the
        # keys are never repeated. In the example of `Engine`, with 6 heads, q (12, 2, width)
        # becomes (6, 4, width), because entries 0 and 1 both attend to entry 0 of `shared`, 2 and 3
        # to entry 1.
        shared_keys, shared_values = self.shared[layer]
        queries = q.view(len(shared_keys), -1, q.shape[2])
        shared_scores = torch.bmm(queries, shared_keys)
        own_scores = own_scores.view(*queries.shape[:2], -1)
        scores = torch.cat((shared_scores, own_scores), -1)
        weights = torch.softmax(scores.add_(self.mask), -1)
        mixed = torch.bmm(weights[:, :, : self.columns], shared_values).view(q.shape)
        own_weights = weights[:, :, self.columns :].reshape(*q.shape[:2], -1)
        return mixed.add_(torch.bmm(own_weights, values))


class Engine:
    """Rows that are decoded together, one for each sample of each prompt, and their KV cache.

    Row i * num_samples + j is sample j of prompt i. A prompt's keys and values are kept once; its
    rows share them, and each has only the columns of its own new tokens beside them. Prompts of 5
    and 3 tokens (a, b), 2 samples each, after two steps (+)::

        column       0  1  2  3  4 ... 63    64 65 ... 79
        prompt 0     a  a  a  a  a           +  +             row 0
                                             +  +             row 1
        prompt 1     b  b  b                 +  +             row 2
                                             +  +             row 3

    A step attends to both parts at once: their scores stand side by side, under one softmax. With
    one sample for each prompt there is nothing to share, and one cache holds both::

        column       0  1  2  3  4  5  6 ... 63
        row 0        a  a  a  a  a  +  +
        row 1        b  b  b        +  +

    Each step fills one column for all rows. Empty columns hold zeros, and a mask gives them minus
    infinity. A token's position, by which it is rotated, counts from its prompt's first token. For
    a prompt's token that is its column, for a later one it is not.

    In memory keys are (entries, width, columns), and values (entries, columns, width). Entries are
    ordered by prompt, then key/value head, then sample, so that all queries that read the same keys
    of a prompt are neighbours, and one product serves them all. With 2 prompts, 2 samples each, and
    3 key/value heads the entries of `own`, and those of `shared` that they attend to, are::

        own          0  1    2  3    4  5    6  7    8  9   10 11
        prompt       0  0    0  0    0  0    1  1    1  1    1  1
        kv head      0  0    1  1    2  2    0  0    1  1    2  2
        sample       0  1    0  1    0  1    0  1    0  1    0  1
        row          0  1    0  1    0  1    2  3    2  3    2  3
        shared       0  0    1  1    2  2    3  3    4  4    5  5

    When rows leave, those behind them move up, and only `generate` knows which sample each of them
    is. A prompt leaves with its last row.

    Parameters
    ----------
    model : PreTrainedModel or BareModel
        A Llama- or Qwen2-shaped model with the 13-token vocabulary, which is left as it is; or its
        matrices, which several engines may share.
    prompts : list of list of int
        Non-empty lists of ids 0-12, of mixed lengths.
    num_samples : int, optional
        Number of rows for each prompt, which is read once for all of them.
    tick : callable, optional
        Called after each prompt with the number of its tokens, for a progress bar.

    Attributes
    ----------
    logits : Tensor of float32, shape (rows, 13)
        The logits of each row's next token.
    shared : list of Cache
        The keys, already rotated, and values of the prompts: a cache for neighbouring prompts that
        need equally many columns. With one sample for each prompt it has no columns.
    cache_of_prompt : list of int
        The number in `shared` of each prompt's cache; ascending.
    own : Cache
        The same for the rows' new tokens; with one sample for each prompt it has the prompts'
        tokens, too.
    lengths : Tensor of int64, shape (prompts,)
        The number of tokens of each prompt.
    first_own : int
        The column of `own` in which each row's first new token is.
    taken : int
        The number of tokens that each row has taken.
    growth : int
        The columns by which `own` grows where it is full.
    cos, sin : Tensor, shape (columns, 1, width)
        The rotary embedding of as many positions; a token's position is never beyond its column.
    prompt_of_row : Tensor of int64, shape (rows,)
        The prompt that each row continues, numbered among those that are left; ascending.
    order, entry : Tensor of int64, shape (rows * kv_heads,)
        `order` lists row * kv_heads + head for each entry of the rows. `entry` is its inverse: the
        entry of each row and head.
    groups : list of _Group
        Neighbouring prompts that have equally many rows, and equally many columns of `shared`. Of
        prompts of similar lengths there is at first a single group.
    bare : BareModel
        The model's matrices.

    References
    ----------
    .. [1] Ainslie et al., "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head
       Checkpoints", EMNLP, 2023. (Heads share keys and values.)
    .. [2] Juravsky et al., "Hydragen: High-Throughput LLM Inference with Shared Prefixes", 2024.
       (So do samples.)
    """

    def __init__(
        self,
        model: torch.nn.Module | BareModel,
        prompts: list[list[int]],
        num_samples: int = 1,
        tick: Callable[[int], object] | None = None,
    ):
        self.bare = model if isinstance(model, BareModel) else BareModel(model)
        kv_heads = self.bare.kv_heads
        self.lengths = torch.tensor([len(prompt) for prompt in prompts], device=self.device)
        longest = max(len(prompt) for prompt in prompts)
        self.taken = 0

        if num_samples == 1:
            # New tokens go into the prompts' own columns, so there is room for one at least.
            self.growth = GROWTH
            self.first_own = longest
            columns = [0] * len(prompts)
            self.own = self.bare.cache(len(prompts) * kv_heads, cache_columns(longest + 1))
        else:
            # New tokens go into columns of their own, which follow those of the prompts.
            self.growth = OWN_GROWTH
            self.first_own = 0
            columns = [cache_columns(len(prompt)) for prompt in prompts]
            self.own = self.bare.cache(len(prompts) * kv_heads * num_samples, self.growth)
        self.shared = []
        self.cache_of_prompt = []
        for number, (width, members) in enumerate(groupby(columns)):
            count = len(list(members))
            self.shared.append(self.bare.cache(count * kv_heads, width))
            self.cache_of_prompt += [number] * count

        self.cos, self.sin = self.bare.positions(max(columns) + _columns(self.own))
        hidden = []
        for number, prompt in enumerate(prompts):
            hidden.append(self._prefill(prompt, number))
            if tick:
                tick(len(prompt))
        # A prompt's samples lie side by side: 0 0 1 1 (`repeat` would give 0 1 0 1).
        prompt_of_row = torch.arange(len(prompts), device=self.device)
        self._arrange(prompt_of_row.repeat_interleave(num_samples), [num_samples] * len(prompts))
        self.logits = self.bare.logits(torch.stack(hidden))[self.prompt_of_row]

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.bare.embedding.device

    def _prefill(self, prompt: list[int], number: int) -> torch.Tensor:
        """Run a prompt, fill its entries of the cache, and return its last hidden state (d,)."""
        length = len(prompt)
        kv_heads = self.bare.kv_heads
        if self.first_own:  # a single sample, whose cache holds the prompt, too
            cache, place = self.own, number
        else:
            cache, place = self.shared[self.cache_of_prompt[number]], self._place(number)
        entries = slice(place * kv_heads, (place + 1) * kv_heads)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """Attend over the whole prompt at once: each of n tokens to itself and those before."""
            # Nothing is read from the cache: (n, heads, width) -> (1, heads, n, width), and back.
            q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
            keys, values = cache[layer]
            keys[entries, :, :length] = k[0].transpose(1, 2)
            values[entries, :length] = v[0]
            out = causal_attention(q, k, v, self.bare.width**-0.5, trains=False)
            return out[0].transpose(0, 1)

        tokens = torch.tensor(prompt, device=self.device)
        return self.bare.forward(tokens, self.cos[:length], self.sin[:length], attend)[-1]

    def _place(self, prompt: int) -> int:
        """Return the number of a prompt within its cache in `shared`."""
        return prompt - self.cache_of_prompt.index(self.cache_of_prompt[prompt])

    def _heads(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return number * kv_heads + head for every head of some rows or prompts."""
        # With 3 key/value heads, 0 2 become 0 1 2 6 7 8.
        kv_heads = self.bare.kv_heads
        heads = torch.arange(kv_heads, device=numbers.device)
        return (numbers[:, None] * kv_heads + heads).flatten()

    def _arrange(self, prompt_of_row: torch.Tensor, counts: list[int]) -> None:
        """Set `prompt_of_row`, `order`, `entry` and `groups` for the rows as they now are.

        `prompt_of_row` (rows,) is the prompt that each row continues, and `counts` has the number
        of rows of each prompt.
        """
        self.prompt_of_row = prompt_of_row
        # Sorted by prompt and head; a stable sort leaves the rows of each in their order. In the
        # example of the class rows 0 1 2 3 have prompts 0 0 1 1, so `_heads` gives, row by row,
        # 0 1 2, 0 1 2, 3 4 5, 3 4 5. The zeros are in places 0 and 3, the ones in 1 and 4, and so
        # `order` is 0 3 1 4 2 5 6 9 7 10 8 11: entry 1 is row 1, head 0. The argsort of a
        # permutation is its inverse: `entry` is 0 2 4 1 3 5 6 8 10 7 9 11.
        self.order = self._heads(prompt_of_row).argsort(stable=True)
        self.entry = self.order.argsort()

        # Counts 2 2 2 1, in caches 0 0 1 1, are three groups: of two prompts, of one, and of one.
        kv_heads = self.bare.kv_heads
        self.groups: list[_Group] = []
        first_prompt = 0
        first_entry = 0
        for (number, count), members in groupby(zip(self.cache_of_prompt, counts, strict=True)):
            num_prompts = len(list(members))
            last_prompt = first_prompt + num_prompts
            last_entry = first_entry + num_prompts * kv_heads * count
            first_shared = self._place(first_prompt) * kv_heads
            shared = slice(first_shared, first_shared + num_prompts * kv_heads)
            group = _Group(
                shared=[(keys[shared], values[shared]) for keys, values in self.shared[number]],
                entries=slice(first_entry, last_entry),
                mask=self._mask(first_prompt, last_prompt),
            )
            self.groups.append(group)
            first_prompt = last_prompt
            first_entry = last_entry

    def _mask(self, first_prompt: int, last_prompt: int) -> torch.Tensor:
        """Return the mask of neighbouring prompts in one cache, see `_Group`."""
        shared_columns = _columns(self.shared[self.cache_of_prompt[first_prompt]])
        first_new = shared_columns + self.first_own
        columns = torch.arange(shared_columns + _columns(self.own), device=self.device)
        lengths = self.lengths[first_prompt:last_prompt, None]
        # Empty are a prompt's pads, and what no token has been written to yet.
        empty = (columns >= lengths) & (columns < first_new) | (columns >= first_new + self.taken)
        # Minus infinity, and not a large negative number: the softmax makes it a weight of exactly
        # zero, so a column that is empty changes nothing. No row is masked throughout, which would
        # be 0 / 0.
        mask = torch.zeros_like(empty, dtype=self.bare.embedding.dtype)
        mask = mask.masked_fill_(empty, float("-inf"))
        return mask[:, None].repeat_interleave(self.bare.kv_heads, 0)

    def step(self, tokens: torch.Tensor) -> None:
        """Take one more token for each row, tokens (rows,) of ids 0-12; compute the next logits."""
        column = self.first_own + self.taken
        if column == _columns(self.own):
            self._grow()
        for group in self.groups:  # before attending, because a token attends to itself too
            group.mask[:, :, group.columns + column] = 0
        bare = self.bare
        entries = len(self.order)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """Attend from one token in each row to its prompt, its own earlier tokens and itself.

            Returns (rows * kv_heads, heads / kv_heads, width), in the order of q (rows, heads,
            width).
            """
            # Heads that share keys are treated as further queries of one head. 2 prompts, 2
            # samples, 6 heads, 3 key/value heads: q (4, 6, w) becomes (12, 2, w), one pair of heads
            # for each entry of `own`.
            q, k, v = (
                x.reshape(entries, -1, bare.width).index_select(0, self.order) for x in (q, k, v)
            )
            q *= bare.width**-0.5
            keys, values = self.own[layer]
            keys[:, :, column] = k[:, 0]
            values[:, column] = v[:, 0]
            parts = []
            for group in self.groups:
                rows = group.entries
                parts.append(group.attend(layer, q[rows], keys[rows], values[rows]))
            return torch.cat(parts).index_select(0, self.entry)

        position = self.lengths[self.prompt_of_row] + self.taken
        x = bare.forward(tokens, self.cos[position], self.sin[position], attend)
        self.logits = bare.logits(x)
        self.taken += 1

    def _grow(self) -> None:
        """Add `growth` empty columns to `own`, the masks and the rotary embedding."""
        # `pad` counts axes from the last one, a pair (before, after) each. The columns are the last
        # axis of masks and keys. Those of the values come before the width, to which nothing is
        # added.
        columns = (0, self.growth)
        width = (0, 0)
        for layer, (keys, values) in enumerate(self.own):
            self.own[layer] = (pad(keys, columns), pad(values, (*width, *columns)))
        self.groups = [
            group._replace(mask=pad(group.mask, columns, value=float("-inf")))
            for group in self.groups
        ]
        self.cos, self.sin = self.bare.positions(len(self.cos) + self.growth)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, numbers (kept,), ascending; and prompts that have no row left.

        The rows' own columns are copied, but the prompts' only where a prompt leaves.
        """
        self.logits = self.logits[rows]

        # In the example above rows 1 2 3 stay. Their entries in `own`, row by row and head by head,
        # are 1 3 5, 6 8 10 and 7 9 11. They have to be read before `_arrange`, which sets `entry`
        # and `order` anew.
        old_entries = self.entry[self._heads(rows)]
        # If the rows that stay have prompts 0 2 2 5, then prompts are 0 2 5, the rows' prompts are
        # renumbered 0 1 1 2, and counts are 1 2 1.
        prompts, prompt_of_row, counts = self.prompt_of_row[rows].unique_consecutive(
            return_inverse=True, return_counts=True
        )
        if len(prompts) < len(self.lengths):
            self._keep_prompts(prompts)
        self._arrange(prompt_of_row, counts.tolist())
        # In the new order of entries, the example's become 1 3 5 6 7 8 9 10 11.
        old_entries = old_entries[self.order]
        _keep_entries(self.own, old_entries)

    def _keep_prompts(self, prompts: torch.Tensor) -> None:
        """Drop all prompts but these, numbers (kept,), ascending."""
        self.lengths = self.lengths[prompts]
        self.groups = []  # views of the caches, which would keep them in memory
        staying: dict[int, list[int]] = {}
        for prompt in prompts.tolist():
            number = self.cache_of_prompt[prompt]
            staying.setdefault(number, []).append(self._place(prompt))
        for number, places in staying.items():
            if len(places) < self.cache_of_prompt.count(number):
                entries = self._heads(torch.tensor(places, device=self.device))
                _keep_entries(self.shared[number], entries)
        self.shared = [self.shared[number] for number in staying]
        self.cache_of_prompt = [new for new, places in enumerate(staying.values()) for _ in places]


def _columns(cache: Cache) -> int:
    """Return the number of columns that a cache has in each layer."""
    _, values = cache[0]
    return values.shape[1]


def _keep_entries(cache: Cache, entries: torch.Tensor) -> None:
    """Drop all entries of a cache but these, numbers (kept,), in their order.

    It goes layer by layer, so that there are never two whole caches in memory.
    """
    for layer, (keys, values) in enumerate(cache):
        cache[layer] = (keys.index_select(0, entries), values.index_select(0, entries))


def cache_columns(filled: int, growth: int = GROWTH) -> int:
    """Return the number of columns that a KV cache allocates for `filled` tokens.

    Attention computes all of them. The pads of shorter prompts count as tokens. The number is
    rounded up to a multiple of `growth`.
    """
    # A ceiling: // rounds down, so the negative of a negated division rounds up. 65 tokens: -65 //
    # 64 = -2, so two times 64, 128 columns. 64 tokens: -64 // 64 = -1, so 64 columns and none to
    # spare.
    return -(-filled // growth) * growth


def step_columns(prompt: int, longest: int, step: int, num_samples: int) -> int:
    """Return the columns that a row attends to in a step, its prompt's and its own.

    `prompt` is the length in tokens of the row's prompt, `longest` that of the longest prompt in
    its batch. `step` is the number of tokens that the row has taken after its prompt, this step's
    included. With one sample for each prompt a row attends to all columns of the batch's cache.
    Several samples share their own prompt's columns, and have a cache of their own for the others.
    Prompts of 5 and 3 tokens, second step, as in the pictures of `Engine`: with two samples each a
    row attends to 64 + 16 columns, with one sample to 64.
    """
    if num_samples == 1:
        return cache_columns(longest + step)
    return cache_columns(prompt) + cache_columns(step, OWN_GROWTH)
