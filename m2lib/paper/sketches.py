"""Drawings for the lectures, made from the library's own rules: KV cache, grammar, windows, who reads which split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.patches import FancyBboxPatch

from m2lib.forecasting import StepGrammar
from m2lib.model import PAD_ID, SEMICOLON_ID, SYMBOLS, text_to_ids
from m2lib.paper.diagrams import FROZEN, LINE, PLAIN, TRAINED, Point, _arrow
from m2lib.paper.plots import plot_series
from m2lib.series import CONTEXT_STEPS, FORECAST_STEPS, VARIABLES, encode, split_ids, to_integers
from m2lib.study import EXPERIMENTS
from m2lib.training import make_windows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Edges = dict[tuple[int, int], list[str]]
"""Tokens by the state that they leave and the state that they lead to."""
SMALL: dict[str, Any] = {"va": "bottom", "family": "monospace", "fontsize": 9.5, "color": "0.35"}


def kv_cache(prompt: str = "952,1034;", written: str = "948,") -> "Figure":
    """A prompt and the tokens written after it, pass by pass: whose keys and values are computed, and whose are kept.

    Left without a cache, where each pass reads everything from the start; right with one.
    """
    figure, axes = plt.subplots(1, 2, figsize=(13, 1.6 + 0.55 * len(written)))
    for ax, cached, name in zip(axes, (False, True), ("without a cache", "with a cache"), strict=True):
        counts = [len(_computed(len(prompt), number, cached)) for number in range(len(written))]
        _passes(ax, prompt, written, cached)
        ax.set_title(f"{name}: {' + '.join(map(str, counts))} = {sum(counts)} keys a layer and head")
    colours = {"computed in this pass": TRAINED, "kept from an earlier pass": FROZEN}
    handles = [plt.Rectangle((0, 0), 1, 1, fc=colour, ec="0.5", label=label) for label, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _passes(ax: "Axes", prompt: str, written: str, cached: bool) -> None:
    """One row a pass, one column a token; the last token written is read by no pass."""
    tokens, mono = prompt + written[:-1], SMALL | {"fontsize": 11, "color": "black", "va": "center"}
    _canvas(ax, (-3.6, len(tokens) + 3.4), (len(written) + 0.1, -1.1))
    ax.text(len(tokens) + 0.5, -0.45, "gives", va="center", color="0.35", fontsize=9.5)
    for column, token in enumerate(tokens):
        ax.text(column + 0.5, -0.45, token, ha="center", **mono)
    for number, token in enumerate(written):
        y, computed = number + 0.5, _computed(len(prompt), number, cached)
        ax.text(-0.3, y, f"pass {number}" if number else "prompt", ha="right", va="center", fontsize=9.5)
        for column in range(computed.stop):
            colour = TRAINED if column in computed else FROZEN
            ax.add_patch(plt.Rectangle((column + 0.05, y - 0.42), 0.9, 0.84, fc=colour, ec="0.5", lw=0.7))
        _arrow(ax, (computed.stop + 0.1, y), (len(tokens) + 0.6, y))
        ax.text(len(tokens) + 0.9, y, token, **mono)


def _computed(prompt: int, number: int, cached: bool) -> range:
    """The columns whose keys and values pass `number` computes; pass 0 reads the prompt of so many tokens."""
    end = prompt + number
    return range(end - 1 if cached and number else 0, end)


def grammar() -> "Figure":
    """The finite-state machine of a well-formed step: its states, and where each token leads that is allowed there."""
    edges, rows = _machine()
    places = {state: (2.6 * x, -3.4 * y) for y, row in enumerate(rows) for x, state in enumerate(row)}
    written = _written(edges, rows)
    figure, ax = plt.subplots(figsize=(11, 5))
    _canvas(ax, (-2.4, 12.2), (-3.4 * len(rows) + 0.9, 1.6))
    ax.set_title("One step, token by token; what is not drawn is not allowed", loc="left")
    for row, following, name in zip(rows, [*rows[1:], rows[0]], VARIABLES, strict=True):
        for state in row:
            x, y = places[state]
            ax.plot(x, y, "o", ms=27, mfc=FROZEN if state else TRAINED, mec="0.35")
            ax.text(x, y, str(state), ha="center", va="center", fontsize=11)
            aside = 0.25 if state == row[0] else 0  # an arrow comes from above
            ax.text(x - aside, y + 0.65, written[state], ha="right" if aside else "center", **SMALL)
        ax.text(12, places[row[0]][1], name, rotation=-90, ha="center", va="center", color="0.35")
        _by_digits(ax, edges, places, row)
        _by_separator(ax, edges, places, row, following[0])
    return figure


def _machine() -> tuple[Edges, list[list[int]]]:
    """The transitions of `StepGrammar`, and its states in rows: each starts after a separator and goes on by digits."""
    rules = StepGrammar(1, torch.device("cpu"))
    edges: Edges = {}
    for state, token in rules.allowed.nonzero().tolist():
        edges.setdefault((state, int(rules.following[state, token])), []).append(SYMBOLS[token])
    rows: list[list[int]] = []
    digit, start = PAD_ID + 1, int(rules.state[0])
    while not rows or start != rows[0][0]:
        row = [start]
        while rules.allowed[row[-1], digit]:
            row.append(int(rules.following[row[-1], digit]))
        rows.append(row)
        start = next(following for state, following in edges if state == row[-1])  # a full number has one way on
    return edges, rows


def _written(edges: Edges, rows: list[list[int]]) -> dict[int, str]:
    """What has been written of the present step in each state, as the grammar's own table says it."""
    texts: dict[int, str] = {}
    start = ""
    for row, after in zip(rows, [*rows[1:], rows[0]], strict=True):
        texts |= {state: start + "d" * digits for digits, state in enumerate(row)}
        start = f"...{edges[row[-1], after[0]][0]}"
    return texts | {rows[0][0]: "nothing yet"}


def _by_digits(ax: "Axes", edges: Edges, places: dict[int, Point], row: list[int]) -> None:
    for state, after in pairwise(row):
        (x, y), (end, _), tokens = places[state], places[after], edges[state, after]
        _arrow(ax, (x + 0.45, y), (end - 0.45, y))
        ax.text((x + end) / 2, y + 0.08, f"{tokens[0]} to {tokens[-1]}", ha="center", va="bottom", fontsize=9.5)


def _by_separator(ax: "Axes", edges: Edges, places: dict[int, Point], row: list[int], start: int) -> None:
    """Lines down from each state that may end its number, joined into an arrow to the start of the next number."""
    (end, goal), (_, y) = places[start], places[row[0]]
    line: dict[str, Any] = {"color": LINE["color"], "lw": LINE["lw"]}
    low = y - 1.7
    ends = [places[state][0] for state in row if (state, start) in edges]
    for x in ends:
        ax.plot([x, x], [y - 0.45, low], **line)
        ax.text(x + 0.15, y - 1.1, edges[row[-1], start][0], va="center", family="monospace", fontsize=13)
    if goal < y:  # down to the next row
        ax.plot([max(ends), end], [low, low], **line)
        _arrow(ax, (end, low), (end, goal + 0.45))
    else:  # around the left and up to the first
        ax.plot([max(ends), end - 2, end - 2], [low, low, goal], **line)
        _arrow(ax, (end - 2, goal), (end - 0.45, goal))


def windows(values: np.ndarray, scale: float, lengths: Sequence[int] = (512,), title: str = "") -> "Figure":
    """How windows of so many tokens, each beginning half a window after the one before, cover a series' text.

    values (steps, 2) in physical units. Above, the series against the token at which each step begins.
    """
    ids = text_to_ids(encode(values, scale))
    # A text whose tokens are their own places, from 1 on, since a pad is 0: the library's windows of it say where they
    # begin, and how much of each is text.
    covers = {length: make_windows([list(range(1, len(ids) + 1))], length) for length in lengths}
    heights = [3.0, *(0.6 + 0.36 * len(cover) for cover in covers.values())]
    figure, axes = plt.subplots(len(heights), 1, figsize=(11, sum(heights) + 0.4), height_ratios=heights, sharex=True)
    begins = [0, *(place + 1 for place, i in enumerate(ids[:-1]) if i == SEMICOLON_ID)]
    plot_series(axes[0], np.array(begins), to_integers(values, scale), lw=1.4)
    axes[0].axvspan(begins[CONTEXT_STEPS], len(ids), color="0.95", lw=0)
    axes[0].set(ylabel="scaled units", title=title)
    axes[0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    for ax, (length, cover) in zip(axes[1:], covers.items(), strict=True):
        _cover(ax, cover, length, len(ids))
    axes[-1].set(xlabel=f"token of the text (grey: the last {FORECAST_STEPS} steps)", xlim=(0, None))
    return figure


def _cover(ax: "Axes", cover: np.ndarray, length: int, tokens: int) -> None:
    """One bar a window: text in amber, pads in white."""
    for row, window in enumerate(cover):
        start, filled = int(window[0]) - 1, np.count_nonzero(window)
        ax.barh(row, filled, left=start, color=TRAINED, ec="0.35", lw=0.9, height=0.7)
        ax.barh(row, length - filled, left=start + filled, color="white", ec="0.35", lw=0.9, height=0.7, hatch="///")
        ax.text(start + 6, row, f"from {start}", va="center", fontsize=9)
    ax.axvline(tokens, color="0.5", ls="--", lw=1)
    ax.invert_yaxis()
    ax.set(yticks=[], ylabel=f"{len(cover)} windows\nof {length}")
    ax.spines["left"].set_visible(False)


def splits() -> "Figure":
    """Who may read which split: what learns, what chooses, and what is reported, counted over the experiments."""
    split, readers = split_ids(), _readers()
    figure, ax = plt.subplots(figsize=(13, 5.4))
    _canvas(ax, (0, 15.2), (1.7, 9))
    ax.set_title(f"Who reads which of the {sum(map(len, astuple(split)))} series", loc="left")
    train, validation, test = (f"{len(readers[name])} experiments" for name in ("train", "validation", "test"))
    aside = f"{len(readers['simulated'])} more learn from\nsimulated series, which\nbelong to no split"
    decisive = f"those whose errors decide by rule:\n{_listed(readers['decisive'])}"
    columns = (
        ("train", 2.2, f"learned from\ntraining steps of\n{train}", aside),
        ("validation", 7.6, f"chosen on\nlosses watched while training;\nforecasts of {validation}", decisive),
        (
            "test",
            13,
            f"opened at the end\nforecasts of {test};\nno choice reads their errors",
            _listed(readers["test"]),
        ),
    )
    for name, x, use, small in columns:
        colour = TRAINED if name == "test" else FROZEN
        _note(ax, (x, 8.2), f"{name} split\n{len(getattr(split, name))} series", colour, 2.9)
        _note(ax, (x, 5.4), use, PLAIN, 3.7)
        _arrow(ax, (x, 7.53), (x, 6.28))
        ax.text(x, 4.3, small, ha="center", va="top", fontsize=9, color="0.35", linespacing=1.4)
    arrows = (4.05, 5.75, 5.75, "adapters"), (5.75, 4.05, 5.05, "settings"), (9.45, 11.15, 5.4, "the choice")
    for start, end, y, text in arrows:
        _arrow(ax, (start, y), (end, y))
        ax.text((start + end) / 2, y + 0.08, text, ha="center", va="bottom", fontsize=9.5)
    _arrow(ax, (13, 2.95), (13, 2.45))
    ax.text(13, 2.35, "the errors that are reported;\nno arrow leads back", ha="center", va="top", fontsize=9.5)
    return figure


def _readers() -> dict[str, list[str]]:
    """Names of experiments: those that train on the split or on simulated series, and those that forecast the others.

    `decisive` are those whose errors decide which series or whose adapter another one uses. None of them may read the
    test split.
    """
    each = EXPERIMENTS.values()
    readers = {
        "train": [e.name for e in each if e.train and not e.simulated],
        "simulated": [e.name for e in each if e.simulated],
        "validation": [e.name for e in each if e.split == "validation"],
        "test": [e.name for e in each if e.split == "test"],
    }
    # The adapter of one experiment is no choice; the best one of several is.
    compared = [e.adapter.names for e in each if e.adapter and len(e.adapter.names) > 1]
    asked = set().union(*(e.select.reads for e in each if e.select), *compared)
    return readers | {"decisive": [name for name in EXPERIMENTS if name in asked]}


def _listed(names: list[str]) -> str:
    """Names in lines of two, those of one family (`search/...`) as one."""
    families = Counter(name.split("/")[0] for name in names)
    shown = [f"{family}/... ({count})" if count > 1 else family for family, count in families.items()]
    return "\n".join(", ".join(shown[i : i + 2]) for i in range(0, len(shown), 2))


def _canvas(ax: "Axes", x: Point, y: Point) -> None:
    ax.set(xlim=x, ylim=y)
    ax.axis("off")


def _note(ax: "Axes", centre: Point, text: str, colour: str, width: float) -> None:
    """A box of several lines."""
    height = 0.5 + 0.42 * len(text.splitlines())
    x, y = centre
    style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.12", "fc": colour, "ec": "0.35", "lw": 0.9}
    ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=9.5, linespacing=1.4)
