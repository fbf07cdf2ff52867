"""Drawings of FLOPs: what each part of a pass costs, and what a budget can buy."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from m2lib import plots
from m2lib.accounting import Breakdown, Shape, forward_flops, total
from m2lib.accounting.shape import product
from m2lib.plots import COLOURS, WIDTH
from study.paper.drawings.model import FROZEN, TRAINED

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
PART_COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#009E73", "#7F7F7F")


def block_products(shape: Shape, tokens: int) -> Figure:
    """Draw the nine products of one block as matrices of squares, each with its FLOPs by the rules.

    Blue squares are weights and grey ones belong to the tokens. Keys and values are drawn as wide
    as the queries, because the rules count them so. The shape should be tiny, since every number of
    a matrix is drawn.
    """
    n, d, c, h, inner = tokens, shape.width, shape.head_width, shape.heads, shape.mlp
    products = {
        "queries": (n, d, d, 1),
        "keys": (n, d, d, 1),
        "values": (n, d, d, 1),
        f"scores, {h} heads": (n, c, n, h),
        f"mixed values, {h} heads": (n, n, c, h),
        "output": (n, d, d, 1),
        "gate": (n, d, inner, 1),
        "up": (n, d, inner, 1),
        "down": (n, inner, d, 1),
    }
    figure, axes = plt.subplots(3, 3, figsize=(10.5, 6.4))
    for ax, (name, (rows, middle, columns, times)) in zip(axes.flat, products.items(), strict=True):
        second = FROZEN if times == 1 else TOKENS  # heads multiply numbers of tokens by each other
        x = _squares(ax, 0, rows, middle, TOKENS)
        ax.text(x + 0.6, 0, "×", ha="center", va="center")
        x = _squares(ax, x + 1.2, middle, columns, second)
        ax.text(x + 0.6, 0, "=", ha="center", va="center")
        _squares(ax, x + 1.2, rows, columns, "white")
        often = f"{times} × " if times > 1 else ""
        flops = f"{often}{product(rows, middle, columns)} FLOPs"
        ax.set_title(f"{name}\n({rows} × {middle})({middle} × {columns}): {flops}", loc="left")
        ax.set(aspect="equal", xlim=(-0.2, 20.4), ylim=(-3.1, 3.1))
        ax.axis("off")
    return figure


def gradient_flow() -> Figure:
    """Draw which gradients a backward pass computes in three layers: where all of their weights
    learn, and where they are frozen and only the adapters beside them learn.

    Each red arrow costs as much as a layer's forward product, and a dotted one is not needed. What
    learns is amber. The adapters' own products are thin, and not drawn.
    """
    figure, axes = plt.subplots(1, 2, figsize=(12, 3.2))
    for ax, frozen in zip(axes, (False, True), strict=True):
        for layer in range(3):
            x = 3 * layer
            needed = {"input": layer > 0, "weights": not frozen}
            what = "frozen" if frozen else "learns"
            box = {"boxstyle": "round", "fc": FROZEN if frozen else TRAINED, "ec": "0.35"}
            ax.text(x, 0, f"layer {layer + 1}\n{what}", ha="center", va="center", bbox=box)
            _way(ax, (x - 2.2, 0.25), (x - 0.7, 0.25), "0.25")
            _way(ax, (x - 0.7, -0.25), (x - 2.2, -0.25), _gradient(needed["input"]))
            _way(ax, (x, -0.55), (x, -1.3), _gradient(needed["weights"]))
            ax.text(x, -1.5, "gradient of\nits weights", ha="center", va="top", size="small")
            if frozen:
                box = {"boxstyle": "round", "fc": TRAINED, "ec": "0.35"}
                ax.text(x, 0.78, "adapter", ha="center", va="center", size="small", bbox=box)
        _way(ax, (6.7, 0.25), (8.2, 0.25), "0.25")
        _way(ax, (8.2, -0.25), (6.7, -0.25), "0.25")
        ax.text(8.3, 0, "loss", va="center")
        ax.text(-2.3, 0, "input", ha="right", va="center")
        ax.set(xlim=(-3.6, 9.4), ylim=(-2.3, 1.1))
        said = "frozen layers, adapters learn: 2 products" if frozen else "all learn: 5 products"
        ax.set_title(f"{said} in the backward pass")
        ax.axis("off")
    return figure


def flops_per_token(shapes: Mapping[str, Shape], lengths: Sequence[int], rank: int) -> Figure:
    """Draw the FLOPs by the rules that a forward pass spends on a token, by the text's length, with
    a panel for each model and an area for each group of components."""
    figure, axes = plt.subplots(1, len(shapes), figsize=(12, 4.2), sharex=True)
    for ax, (name, shape) in zip(axes, shapes.items(), strict=True):
        table = _grouped({length: forward_flops(shape, length, rank=rank) for length in lengths})
        table.div(table.index, axis=0).plot.area(
            ax=ax, linewidth=0, color=PART_COLOURS, stacked=True, legend=False, title=name
        )
        ax.set(xlabel="tokens in the text (log scale)", ylabel="FLOPs per token")
        ax.set_xscale("log", base=2)
        ax.xaxis.set_major_formatter("{x:g}")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def flop_shares(costs: Mapping[str, Breakdown]) -> Figure:
    """Draw a bar for each breakdown of FLOPs, divided into the shares of the groups of
    components."""
    table = _grouped(costs)
    shares = table.div(table.sum(axis=1), axis=0)[::-1]
    shares.index = [f"{name}\n{total(costs[name]):.3g} FLOPs" for name in shares.index]
    figure, ax = plt.subplots(figsize=(11, 1.6 + 0.55 * len(costs)))
    shares.plot.barh(
        ax=ax, width=0.6, xlim=(0, 1), xlabel="share of the FLOPs", color=PART_COLOURS,
        stacked=True, legend=False,
    )  # fmt: skip
    for bars in ax.containers:
        words = [f"{bar.get_width():.0%}" if bar.get_width() > 0.04 else "" for bar in bars]
        ax.bar_label(bars, words, label_type="center", color="white", size="small")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def cost_ladder(costs: Mapping[str, float]) -> Figure:
    """Draw costs in FLOPs as rungs on a logarithmic axis, in the order given, from the top down."""
    figure, ax = plt.subplots(figsize=(10, 0.8 + 0.36 * len(costs)))
    places = range(len(costs))
    ax.hlines(places, 1, list(costs.values()), color=COLOURS["ours"], lw=1.2)
    ax.plot(list(costs.values()), places, "o", color=COLOURS["ours"])
    for place, flops in zip(places, costs.values(), strict=True):
        ax.annotate(f"{flops:.2g}", (flops, place), (8, 0), textcoords="offset points", va="center")
    ax.set_yticks(places, list(costs))
    ax.set(xscale="log", xlim=(1, 1e19), xlabel="FLOPs (log scale)")
    ax.invert_yaxis()
    return figure


def budget_lines(
    prices: Mapping[str, tuple[float, float]], budget: float, bought: tuple[int, int]
) -> Figure:
    """What a budget can buy, in training steps and forecasts: a line for each price list, by name,
    and a point for what was bought."""
    figure, ax = plt.subplots(figsize=(WIDTH, 3.6))
    colours = (plots.COLOURS[name] for name in ("prey", "published", "ours"))
    for (name, (step, forecast)), colour in zip(prices.items(), colours, strict=True):
        ax.plot([budget / step, 0], [0, budget / forecast], color=colour, label=name)
    ax.plot(*bought, "o", color=plots.COLOURS["error"])
    line = {"arrowstyle": "-", "color": "0.5"}
    above = bought[0], 2 * bought[1]
    ax.annotate("what the report bought", bought, above, ha="center", arrowprops=line)
    ax.set(xlabel="training steps (two windows of 512 tokens)", ylabel="forecasts (220 tokens)")
    ax.set(xlim=(0, None), ylim=(0, 5 * bought[1]))
    plots.legend_below(figure, [ax])
    return figure


def _squares(ax: Axes, left: float, rows: int, columns: int, colour: str) -> float:
    """A matrix as squares, its left edge at `left` and its middle at height 0; its right edge is
    returned."""
    across, up = left + np.arange(columns + 1), np.arange(rows + 1) - rows / 2
    fill, cells = ListedColormap([colour]), np.zeros((rows, columns))
    ax.pcolormesh(across, up, cells, cmap=fill, edgecolors="0.35", linewidth=0.8, antialiased=True)
    return left + columns


def _gradient(needed: bool) -> str:
    """The colour of a gradient's arrow, by whether the gradient is needed."""
    return COLOURS["error"] if needed else "0.7"


def _way(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str) -> None:
    """An arrow between two points, dotted where its colour says that it is not needed."""
    line = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=line | {"ls": ":" if colour == "0.7" else "-"})


def _grouped(costs: Mapping[Any, Breakdown]) -> pd.DataFrame:
    """Breakdowns of FLOPs (rows) by the groups of PARTS (columns)."""
    table = pd.DataFrame(costs).T
    return pd.DataFrame({name: table[list(parts)].sum(axis=1) for name, parts in PARTS.items()})
