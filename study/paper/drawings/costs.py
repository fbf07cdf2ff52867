"""Drawings of FLOPs: what each part of a pass costs, and what a budget can buy."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from m2lib.accounting import Breakdown, Shape, forward_flops, total
from m2lib.accounting.rules import product
from study import plots
from study.paper.drawings.model import FROZEN, TRAINED
from study.plots import COLOURS, WIDTH

TOKENS = "#E3E3E3"  # numbers that belong to tokens, and not to the model
PARTS = {
    "MLP": ("mlp",),
    "projections (q, k, v, output)": ("qkv", "output"),
    "attention (scores, mask, softmax, values)": ("scores", "mask", "softmax", "values"),
    "LoRA": ("lora",),
    "embedding, norms, positions, residuals, head": (
        "embedding",
        "norms",
        "rope",
        "residuals",
        "head",
    ),
}
"""The components of a breakdown of FLOPs in five groups, in the order in which they are drawn."""
PART_COLOURS = ("#9467BD", "#C5B0D5", "#2CA02C", "#C1272D", "#7F7F7F")


def block_products(shape: Shape, tokens: int) -> Figure:
    """Draw the nine products of one block as matrices of squares, each with its FLOPs by the rules.

    Blue squares are weights and grey ones belong to the tokens. Keys and values are drawn as wide
    as the queries, because the rules count them so. The shape should be tiny, since every number of
    a matrix is drawn.
    """
    d = shape.width
    c = shape.head_width
    heads = shape.heads
    # (rows × middle)(middle × columns), and how often
    products = {
        "queries": (tokens, d, d, 1),
        "keys": (tokens, d, d, 1),
        "values": (tokens, d, d, 1),
        f"scores, {heads} heads": (tokens, c, tokens, heads),
        f"mixed values, {heads} heads": (tokens, tokens, c, heads),
        "output": (tokens, d, d, 1),
        "gate": (tokens, d, shape.mlp, 1),
        "up": (tokens, d, shape.mlp, 1),
        "down": (tokens, shape.mlp, d, 1),
    }
    figure, axes = plt.subplots(3, 3, figsize=(10.5, 6.4))
    for ax, (name, sizes) in zip(axes.flat, products.items(), strict=True):
        rows, middle, columns, times = sizes
        second = FROZEN if times == 1 else TOKENS  # heads multiply numbers of tokens by each other
        x = _squares(ax, 0, rows, middle, TOKENS)
        ax.text(x + 0.6, 0, "×", ha="center", va="center")
        x = _squares(ax, x + 1.2, middle, columns, second)
        ax.text(x + 0.6, 0, "=", ha="center", va="center")
        _squares(ax, x + 1.2, rows, columns, "white")
        prefix = f"{times} × " if times > 1 else ""
        flops = f"{prefix}{product(rows, middle, columns)} FLOPs"
        ax.set_title(f"{name}\n({rows} × {middle})({middle} × {columns}): {flops}", loc="left")
        ax.set(aspect="equal", xlim=(-0.2, 20.4), ylim=(-3.1, 3.1))
        ax.axis("off")
    return figure


def _squares(ax: Axes, left: float, rows: int, columns: int, colour: str) -> float:
    """Draw a matrix as squares, its left edge at `left` and its middle at height 0.

    Returns its right edge.
    """
    x_edges = left + np.arange(columns + 1)
    y_edges = np.arange(rows + 1) - rows / 2
    ax.pcolormesh(
        x_edges,
        y_edges,
        np.zeros((rows, columns)),
        cmap=ListedColormap([colour]),
        edgecolors="0.35",
        linewidth=0.8,
        antialiased=True,
    )
    return left + columns


def gradient_flow() -> Figure:
    """Draw which gradients a backward pass computes in three layers.

    On the left all of their weights learn; on the right these are frozen, and only the adapters
    beside them learn. Each red arrow costs as much as a layer's forward product, and a dotted one
    is not needed. What learns is amber. The adapters' own products are thin, and not drawn.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.2))
    for ax, frozen in zip(axes, (False, True), strict=True):
        for layer in range(3):
            _draw_layer(ax, layer, frozen)
        _draw_way(ax, (6.7, 0.25), (8.2, 0.25))
        _draw_way(ax, (8.2, -0.25), (6.7, -0.25))
        ax.text(8.3, 0, "loss", va="center")
        ax.text(-2.3, 0, "input", ha="right", va="center")
        ax.set(xlim=(-3.6, 9.4), ylim=(-2.3, 1.1))
        who = "frozen layers, adapters learn: 2 products" if frozen else "all learn: 5 products"
        ax.set_title(f"{who} in the backward pass")
        ax.axis("off")
    return figure


def _draw_layer(ax: Axes, layer: int, frozen: bool) -> None:
    """Draw one of three layers, the arrow that leads into it, and the gradients that leave it."""
    x = 3 * layer
    state = "frozen" if frozen else "learns"
    box = {"boxstyle": "round", "fc": FROZEN if frozen else TRAINED, "ec": "0.35"}
    ax.text(x, 0, f"layer {layer + 1}\n{state}", ha="center", va="center", bbox=box)
    _draw_way(ax, (x - 2.2, 0.25), (x - 0.7, 0.25))
    _draw_gradient(ax, (x - 0.7, -0.25), (x - 2.2, -0.25), needed=layer > 0)  # of its input
    _draw_gradient(ax, (x, -0.55), (x, -1.3), needed=not frozen)  # of its weights
    ax.text(x, -1.5, "gradient of\nits weights", ha="center", va="top", size="small")
    if frozen:
        box = {"boxstyle": "round", "fc": TRAINED, "ec": "0.35"}
        ax.text(x, 0.78, "adapter", ha="center", va="center", size="small", bbox=box)


def _draw_gradient(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], needed: bool
) -> None:
    """Draw the arrow of a gradient: red if it is needed, else dotted and grey."""
    if needed:
        _draw_way(ax, start, end, COLOURS["error"])
    else:
        _draw_way(ax, start, end, "0.7", style=":")


def _draw_way(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str = "0.25",
    style: str = "-",
) -> None:
    """Draw an arrow between two points."""
    arrow = {
        "arrowstyle": "-|>",
        "color": colour,
        "ls": style,
        "lw": 1.6,
        "shrinkA": 0,
        "shrinkB": 0,
    }
    ax.annotate("", end, start, arrowprops=arrow)


def flops_per_token(shapes: Mapping[str, Shape], lengths: Sequence[int], rank: int) -> Figure:
    """Draw the FLOPs that a forward pass spends on a token, by the rules and by the text's length.

    There is a panel for each model, and in it an area for each group of components.
    """
    figure, axes = plt.subplots(1, len(shapes), figsize=(12, 4.2), sharex=True)
    for ax, (name, shape) in zip(axes, shapes.items(), strict=True):
        costs = {length: forward_flops(shape, length, rank=rank) for length in lengths}
        table = _grouped(costs)
        per_token = table.div(table.index, axis=0)
        per_token.plot.area(
            ax=ax, linewidth=0, color=PART_COLOURS, stacked=True, legend=False, title=name
        )
        ax.set(xlabel="tokens in the text (log scale)", ylabel="FLOPs per token")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def flop_shares(costs: Mapping[str, Breakdown]) -> Figure:
    """Draw breakdowns of FLOPs as bars, which are divided into the shares of the groups."""
    table = _grouped(costs)
    shares = table.div(table.sum(axis=1), axis=0)[::-1]
    shares.index = [f"{name}\n{total(costs[name]):.3g} FLOPs" for name in shares.index]
    figure, ax = plt.subplots(figsize=(11, 1.6 + 0.55 * len(costs)))
    shares.plot.barh(
        ax=ax,
        width=0.6,
        xlim=(0, 1),
        xlabel="share of the FLOPs",
        color=PART_COLOURS,
        stacked=True,
        legend=False,
    )
    for bars in ax.containers:
        labels = []
        for bar in bars:
            share = bar.get_width()
            labels.append(f"{share:.0%}" if share > 0.04 else "")  # else there is no room
        ax.bar_label(bars, labels, label_type="center", color="black", size="small")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _grouped(costs: Mapping[Any, Breakdown]) -> pd.DataFrame:
    """Return breakdowns of FLOPs (rows) by the groups of PARTS (columns)."""
    components = pd.DataFrame(costs).T
    groups = {name: components[list(parts)].sum(axis=1) for name, parts in PARTS.items()}
    return pd.DataFrame(groups)


def cost_ladder(costs: Mapping[str, float]) -> Figure:
    """Draw costs in FLOPs as rungs on a logarithmic axis, in the order given, from the top down."""
    figure, ax = plt.subplots(figsize=(10, 0.8 + 0.36 * len(costs)))
    places = range(len(costs))
    flops = list(costs.values())
    ax.hlines(places, 1, flops, color=COLOURS["ours"], lw=1.2)
    ax.plot(flops, places, "o", color=COLOURS["ours"])
    for place, cost in enumerate(flops):
        label = f"{cost:,.0f}" if cost < 1e6 else f"{cost:.2g}"
        ax.annotate(label, (cost, place), (8, 0), textcoords="offset points", va="center")
    ax.set_yticks(places, list(costs))
    ax.set(xscale="log", xlim=(1, 1e19), xlabel="FLOPs (log scale)")
    ax.invert_yaxis()
    return figure


def budget_lines(
    prices: Mapping[str, tuple[float, float]], budget: float, bought: tuple[int, int]
) -> Figure:
    """Draw what a budget can buy in training steps and forecasts, and a point for what was bought.

    prices: by name of a price list, the FLOPs of a training step and of a forecast; there is a line
    for each list. bought: training steps and forecasts.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
    looks = (("black", "-"), (COLOURS["published"], "-"), ("black", "--"))
    for (name, (step, forecast)), (colour, style) in zip(prices.items(), looks, strict=True):
        ax.plot([budget / step, 0], [0, budget / forecast], style, color=colour, label=name)
    ax.plot(*bought, "o", color=COLOURS["error"])
    steps, forecasts = bought
    line = {"arrowstyle": "-", "color": "0.5"}
    above = (steps, 2 * forecasts)
    ax.annotate("what the report bought", bought, above, ha="center", arrowprops=line)
    ax.set(xlabel="training steps (two windows of 512 tokens)", ylabel="forecasts (220 tokens)")
    ax.set(xlim=(0, None), ylim=(0, 5 * forecasts))
    plots.legend_below(figure, [ax])
    return figure
