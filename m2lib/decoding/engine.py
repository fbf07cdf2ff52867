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

    columns: int | None
    """The columns of `Engine.shared` that hold their tokens; None: all that there are."""
    shared_entries: slice
    """Their entries in `Engine.shared`."""
    row_entries: slice
    """The entries of their rows."""

    def per_shared(self, x: torch.Tensor) -> torch.Tensor:
        """Return the group's part of x, a view with one matrix for each entry that its rows share.

        x is (entries of all rows, heads / kv_heads, n). The view is (shared entries, rows of a
        prompt * heads / kv_heads, n): in the example of `Engine`, with 6 heads, (12, 2, n) becomes
        (6, 4, n), because entries 0 and 1 both attend to entry 0 of `shared`, 2 and 3 to entry 1.
        """
        shared = self.shared_entries.stop - self.shared_entries.start
        return x[self.row_entries].view(shared, -1, x.shape[2])


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

    Each step fills one column for all rows. Empty columns hold zeros, and `mask` gives them minus
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
    shared : list of (Tensor, Tensor)
        For each layer the keys, already rotated, and values of the prompts' columns.
    own : list of (Tensor, Tensor)
        The same for the columns of the rows' new tokens; with one sample for each prompt it is
        `shared` itself.
    mask : Tensor, shape (prompts, 1, columns)
        Added to the scores of a prompt's rows: 0 where a column holds a token, else minus infinity.
        The axis of length 1 stands for all rows and heads.
    position : Tensor of int64, shape (rows,)
        The position of each row's next token, and so the number of tokens it has taken.
    filled : int
        The column of the next token, for all rows.
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
        Neighbouring prompts that have equally many rows, and equally many columns of `shared`, and
        where their entries are. Of prompts of similar lengths there is at first a single group.
    prompt_columns : list of int or None
        The columns of `shared` that each prompt needs; None: all, which grow where `own` is the
        same cache.
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
        device = self.bare.embedding.device
        entries = len(prompts) * self.bare.kv_heads
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        longest = max(len(prompt) for prompt in prompts)

        if num_samples == 1:
            # New tokens go into the prompts' own columns, so there is room for one at least.
            self.growth = GROWTH
            columns = cache_columns(longest + 1)
            self.shared = self.own = self.bare.cache(entries, columns)
            self.prompt_columns: list[int | None] = [None] * len(prompts)
            self.filled = longest
        else:
            # New tokens go into columns of their own, which follow those of the prompts.
            self.growth = OWN_GROWTH
            self.prompt_columns = [cache_columns(len(prompt)) for prompt in prompts]
            self.filled = cache_columns(longest)
            self.shared = self.bare.cache(entries, self.filled)
            self.own = self.bare.cache(entries * num_samples, self.growth)
            columns = self.filled + self.growth

        # Minus infinity, and not a large negative number: the softmax makes it a weight of exactly
        # zero, so a column that is empty changes nothing. No row is masked throughout, which would
        # be 0 / 0.
        empty = torch.arange(columns, device=device) >= lengths[:, None]
        mask = torch.zeros_like(empty, dtype=self.bare.embedding.dtype)
        self.mask = mask.masked_fill_(empty, float("-inf"))[:, None]

        self.cos, self.sin = self.bare.positions(columns)
        hidden = []
        for number, prompt in enumerate(prompts):
            hidden.append(self._prefill(prompt, number))
            if tick:
                tick(len(prompt))
        # A prompt's samples lie side by side: 0 0 1 1 (`repeat` would give 0 1 0 1).
        prompt_of_row = torch.arange(len(prompts), device=device).repeat_interleave(num_samples)
        self._arrange(prompt_of_row, [num_samples] * len(prompts))
        self.position = lengths[prompt_of_row]
        self.logits = self.bare.logits(torch.stack(hidden))[prompt_of_row]

    def _prefill(self, prompt: list[int], number: int) -> torch.Tensor:
        """Run a prompt, fill its entries of the cache, and return its last hidden state (d,)."""
        length = len(prompt)
        kv_heads = self.bare.kv_heads
        entries = slice(number * kv_heads, (number + 1) * kv_heads)

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """Attend over the whole prompt at once: each of n tokens to itself and those before."""
            # Nothing is read from the cache: (n, heads, width) -> (1, heads, n, width), and back.
            q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
            keys, values = self.shared[layer]
            keys[entries, :, :length] = k[0].transpose(1, 2)
            values[entries, :length] = v[0]
            out = causal_attention(q, k, v, self.bare.width**-0.5, trains=False)
            return out[0].transpose(0, 1)

        tokens = torch.tensor(prompt, device=self.mask.device)
        return self.bare.forward(tokens, self.cos[:length], self.sin[:length], attend)[-1]

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

        kv_heads = self.bare.kv_heads
        self.groups: list[_Group] = []
        first_prompt = 0
        first_entry = 0
        # Counts 2 2 2 1, with columns 64 64 128 128, are three groups: of two prompts, of one, and
        # of one.
        for (count, columns), members in groupby(zip(counts, self.prompt_columns, strict=True)):
            last_prompt = first_prompt + len(list(members))
            last_entry = first_entry + (last_prompt - first_prompt) * kv_heads * count
            group = _Group(
                columns=columns,
                shared_entries=slice(first_prompt * kv_heads, last_prompt * kv_heads),
                row_entries=slice(first_entry, last_entry),
            )
            self.groups.append(group)
            first_prompt = last_prompt
            first_entry = last_entry

    def step(self, tokens: torch.Tensor) -> None:
        """Take one more token for each row, tokens (rows,) of ids 0-12; compute the next logits."""
        if self.filled == self.mask.shape[2]:
            self._grow()
        self.mask[:, :, self.filled] = 0  # before attending, because a token attends to itself too

        bare = self.bare
        entries = len(self.order)
        columns = self.mask.shape[2]
        shared_columns = self.shared[0][1].shape[1]
        # The column of the new token, counted from the end (-1 is the last), because `own` may have
        # fewer columns than the mask.
        column = self.filled - columns
        row_of_entry = self.order // bare.kv_heads  # in the example 0 1 0 1 0 1 2 3 2 3 2 3
        mask = self.mask[self.prompt_of_row[row_of_entry]]  # that of each entry's prompt
        # Of a shorter prompt's rows the columns that no product fills stay minus infinity.
        scores = self.mask.new_full((entries, bare.heads // bare.kv_heads, columns), float("-inf"))

        def attend(layer: int, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
            """Attend from one token in each row to its prompt, its own earlier tokens and itself.

            Returns (rows * kv_heads, heads / kv_heads, width), in the order of q (rows, heads,
            width).
            """
            # Heads that share keys are treated as further queries of one head, so the keys are
            # never repeated; and so are samples. 2 prompts, 2 samples, 6 heads, 3 key/value heads:
            # q (4, 6, w) becomes (12, 2, w), one pair of heads for each entry of `own`, and (6, 4,
            # w), two pairs for each of the 6 entries of `shared`.
            q, k, v = (
                x.reshape(entries, -1, bare.width).index_select(0, self.order) for x in (q, k, v)
            )
            q *= bare.width**-0.5
            shared_keys, shared_values = self.shared[layer]
            keys, values = self.own[layer]
            keys[:, :, column] = k[:, 0]
            values[:, column] = v[:, 0]

            # All allocated columns are computed, filled or not, and the mask takes out those that
            # are not. Where samples share a prompt, they are at most 63 of the prompt (GROWTH - 1)
            # and 15 of a row's own; else every row has as many columns as the longest prompt needs.
            # In return the shapes of the products stay the same for as many steps.
            if self.own is not self.shared:
                scores[:, :, shared_columns:] = torch.bmm(q, keys)
            for group in self.groups:
                # A copy, and not `out=`: into a part of a tensor PyTorch multiplies entry by entry.
                group.per_shared(scores)[:, :, : group.columns] = torch.bmm(
                    group.per_shared(q), shared_keys[group.shared_entries, :, : group.columns]
                )

            weights = torch.softmax(scores.add_(mask), -1)
            mixed = torch.empty_like(q)
            for group in self.groups:
                group.per_shared(mixed)[:] = torch.bmm(
                    group.per_shared(weights)[:, :, : group.columns],
                    shared_values[group.shared_entries, : group.columns],
                )
            if self.own is not self.shared:
                mixed += torch.bmm(weights[:, :, shared_columns:], values)
            return mixed.index_select(0, self.entry)

        x = bare.forward(tokens, self.cos[self.position], self.sin[self.position], attend)
        self.logits = bare.logits(x)
        self.position = self.position + 1
        self.filled += 1

    def _grow(self) -> None:
        """Add `growth` empty columns to `own`, the mask and the rotary embedding."""
        # `pad` counts axes from the last one, a pair (before, after) each. The columns are the last
        # axis of mask and keys. Those of the values come before the width, to which nothing is
        # added.
        columns = (0, self.growth)
        width = (0, 0)
        self.mask = pad(self.mask, columns, value=float("-inf"))
        for layer, (keys, values) in enumerate(self.own):
            self.own[layer] = (pad(keys, columns), pad(values, (*width, *columns)))
        self.cos, self.sin = self.bare.positions(self.mask.shape[2])

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these, numbers (kept,), ascending; and prompts that have no row left.

        The rows' own columns are copied, but the prompts' only where a prompt leaves.
        """
        self.position = self.position[rows]
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
        self.prompt_columns = [self.prompt_columns[prompt] for prompt in prompts.tolist()]
        self._arrange(prompt_of_row, counts.tolist())
        # In the new order of entries, the example's become 1 3 5 6 7 8 9 10 11.
        old_entries = old_entries[self.order]
        _replace(self.own, lambda tensor: tensor.index_select(0, old_entries))

        if len(prompts) < len(self.mask):
            self.mask = self.mask[prompts]
            if self.shared is not self.own:
                shared_entries = self._heads(prompts)
                _replace(self.shared, lambda tensor: tensor.index_select(0, shared_entries))


def _replace(cache: Cache, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Replace each tensor by `change(tensor)`, in place.

    It goes layer by layer, so that there are never two whole caches in memory.
    """
    for layer, (keys, values) in enumerate(cache):
        cache[layer] = (change(keys), change(values))


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
