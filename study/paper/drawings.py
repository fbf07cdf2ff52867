"""The report's drawings: architecture, LoRA layer and encoding, from a config or the codec itself;
and forecasts."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.text import Text

from m2lib import plots
from m2lib.accounting import Breakdown, Shape, forward_flops, total
from m2lib.accounting.shape import product
from m2lib.model import text_to_ids
from m2lib.plots import COLOURS, WIDTH
from m2lib.series import VARIABLES, SeriesSet, encode, to_integers
from study import PROFILES, Record, recorded_forecast
from study.paper import errors

FROZEN, TRAINED = "#D6E6F2", "#FBE3B5"
TOKENS = "#E3E3E3"  # numbers that belong to tokens, and not to the model
SHOWN_STEPS = 60  # the last of a series, where forecasts are small
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


def architecture(shape: Shape, name: str) -> Figure:
    """Figure 1: the model, one transformer block and its MLP, with their widths."""
    d, hidden, h, kv, c = shape.width, shape.mlp, shape.heads, shape.kv_heads, shape.head_width
    embedding, head = (
        f"embedding\n{shape.vocabulary} × {d}",
        f"LM head {d} → {shape.vocabulary}\n+ trained bias",
    )
    blocks, norm = f"{shape.layers} × transformer block\n{d} → {d}", f"RMSNorm\n{d}"
    parts, bias = (
        {"query + LoRA": h, "key": kv, "value + LoRA": kv},
        "\n+ bias" if shape.qkv_bias else "",
    )
    inputs = [f"{part}\n{d} → {n}·{c}{bias}" for part, n in parts.items()]
    attention = f"causal attention\n{h} query heads share {kv} key-value heads"
    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(WIDTH, 5.4), width_ratios=(1.9, 3.8, 2.2)
    )
    _flow(left, "model", [["token ids"], [embedding], [blocks], [norm], [head], ["logits"]])
    lower = (
        ("x",),
        (norm,),
        inputs,
        ("RoPE", "RoPE", None),
        (attention,),
        (f"output\n{h}·{c} → {d}",),
    )
    drawn = _flow(
        middle, "transformer block", (*lower, ("+",), (norm,), (f"MLP\n{d} → {d}",), ("+ ",))
    )
    _arrow(middle, drawn["x"], drawn["+"], aside=-0.6)
    _arrow(middle, drawn["+"], drawn["+ "], aside=-1.1, lift=0.38)
    gates = [f"gate\n{d} → {hidden}", f"up\n{d} → {hidden}"]
    _flow(
        right, "MLP", [["x"], gates, ["SiLU", None], ["× (multiplied)"], [f"down\n{hidden} → {d}"]]
    )
    figure.suptitle(
        f"{name}: features per token; blue is frozen, amber holds trained parameters", fontsize=9.5
    )
    return figure


def lora_layer(width: int, rank: int) -> Figure:
    """Figure 2: a frozen square layer with its low-rank adapter, y = W x + (alpha / r) B A x, where
    alpha is r."""
    frozen, down = f"W, frozen\n{width} → {width}", f"A, LoRA\n{width} → {rank}"
    up = f"B, LoRA, starts at 0\n{rank} → {width}"
    rows = (
        (f"x: {width}",),
        (frozen, down),
        (None, up),
        (None, "× α/r = 1"),
        ("+",),
        (f"y: {width}",),
    )
    figure, ax = plt.subplots(figsize=(5.8, 3.4))
    _flow(
        ax,
        f"A LoRA layer: {2 * rank * width:,} trained parameters beside {width**2:,} frozen ones",
        rows,
    )
    return figure


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


def encoding(data: SeriesSet, shown: Sequence[int]) -> Figure:
    """Figure 3: the codec at work on two steps of each series: scaled, rounded, written,
    tokenised."""
    heads = [
        "step, variable",
        "value",
        "÷ scale × 10",
        "2 decimals",
        "written",
        "tokens",
        "Qwen's ids",
        "reduced",
    ]
    figure, axes = plt.subplots(len(shown), figsize=(WIDTH, 1.45 * len(shown)))
    names = [f"{step}, {name}" for step in range(2) for name in VARIABLES]
    for ax, series in zip(axes, shown, strict=True):
        values, scale, rows = data.trajectories[series, :2], float(data.scales[series]), []
        integers, texts = to_integers(values, scale), re.findall(r"\d+[,;]", encode(values, scale))
        for name, value, integer, text in zip(
            names, values.ravel(), integers.ravel(), texts, strict=True
        ):
            numbers = (
                f"{value:.4f}",
                f"{value / scale * 10:.5f}",
                f"{integer / 100:.2f}",
                str(integer),
            )
            # its vocabulary begins with ASCII from "!" on
            qwen = [ord(symbol) - 33 for symbol in text]
            rows.append(
                [
                    name,
                    *numbers,
                    *(" ".join(map(str, ids)) for ids in (text, qwen, text_to_ids(text))),
                ]
            )
        table = ax.table(
            rows, colLabels=heads, bbox=(0, 0, 1, 1), cellLoc="right", edges="horizontal"
        )
        table.auto_set_font_size(False)
        table.set_fontsize(9.5)
        table.auto_set_column_width(range(len(heads)))
        ax.set_title(f"series {series}: scale {scale:.4f}", loc="left")
        ax.axis("off")
    return figure


def forecasts(records: Mapping[str, Record], shown: Sequence[int]) -> Figure:
    """Figures 4 and 6: a row for each record, a column for each series; the report's error where it
    asked the same."""
    series, report = errors.data(), errors.runs(errors.published())
    size = WIDTH, 0.7 + 1.7 * len(records)
    figure, axes = plt.subplots(len(records), len(shown), figsize=size, sharex=True, squeeze=False)
    for row, (title, record) in zip(axes, records.items(), strict=True):
        archive = (
            report.get(("published", record.name)) if PROFILES[record.profile].as_reported else None
        )
        for ax, i in zip(row, shown, strict=True):
            said = f"series {i}: MAE {record.series[i]['mae']:.0f}"
            said += "" if archive is None else f"\nthe report's: {archive[i]:.0f}"
            scaled = to_integers(series.trajectories[i], series.scales[i], record.protocol.rounding)
            made = recorded_forecast(record, series, i)
            plots.plot_forecast(ax, series.time[-SHOWN_STEPS:], scaled[-SHOWN_STEPS:], made, said)
        row[0].set_ylabel(f"{title}\n(scaled units)")
    figure.suptitle(record.plan.backbone, fontsize="medium")  # that of all
    plt.setp(axes[-1], xlabel=plots.MODEL_TIME)
    plots.forecast_legend(figure)
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


def _flow(ax: Axes, title: str, rows: Sequence[Sequence[str | None]]) -> dict[str, Text]:
    """Boxes in rows from the bottom up, each with an arrow from those below: of its column, or all,
    where one is alone.

    None: nothing there, and the arrow goes through. What names LoRA or is trained is amber.
    """
    drawn: dict[str, Text] = {}
    below: list[Text] = []
    tall = [max(text.count("\n") for text in row if text) for row in rows]  # lines after the first
    for place, row in enumerate(rows):
        boxes: list[Text] = []
        # so that all gaps between rows are alike
        y = place * 0.8 + sum(tall[:place]) * 0.4 + tall[place] * 0.2
        for column, text in enumerate(row):
            if text is None:
                boxes.append(below[column])
                continue
            colour = (
                TRAINED
                if "LoRA" in text or "trained" in text
                else FROZEN
                if "\n" in text
                else "#F2F2F2"
            )
            style = {"boxstyle": "round", "fc": colour, "ec": "0.35", "lw": 0.9}
            x = column - (len(row) - 1) / 2
            drawn[text] = ax.text(x, y, text, ha="center", va="center", size=8.8, bbox=style)
            boxes.append(drawn[text])
            for start in below if len(row) != len(below) else below[column : column + 1]:
                _arrow(ax, start, drawn[text])
        below = boxes
    wide = max(map(len, rows)) / 2
    ax.set(title=title, xlim=(-wide, wide), ylim=(-0.4, y + 0.4))
    ax.axis("off")
    return drawn


def _arrow(ax: Axes, start: Text, end: Text, aside: float = 0, lift: float = 0) -> None:
    """From the edge of a box, or from so far above it, to that of another; aside: how far round, in
    its own lengths."""
    line = {
        "arrowstyle": "-|>",
        "color": "0.25",
        "lw": 1.1,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 10,
    }
    (x, y), edge = start.get_position(), None if lift else start.get_bbox_patch()
    way = {
        "patchA": edge,
        "patchB": end.get_bbox_patch(),
        "connectionstyle": f"bar,fraction={aside}",
    }
    ax.annotate("", end.get_position(), (x, y + lift), arrowprops=line | way)
