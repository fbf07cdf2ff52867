"""The report's drawings: architecture, LoRA layer and encoding, from a config or the codec itself;
and forecasts."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from m2lib import plots
from m2lib.accounting import Breakdown, Shape, forward_flops, total
from m2lib.accounting.shape import product
from m2lib.model import SEMICOLON_ID, SYMBOLS, text_to_ids
from m2lib.plots import COLOURS, WIDTH
from m2lib.series import FORECAST_STEPS, VARIABLES, SeriesSet, encode, to_integers
from m2lib.series.data import Split, predator_prey
from m2lib.training import make_windows
from study import PROFILES, Record, recorded_forecast
from study.paper import errors

FROZEN, TRAINED = "#D6E6F2", "#FBE3B5"
_AMBER = "#D98E04"  # for lines that are too thin for the pale one
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
    d = shape.width
    hidden = shape.mlp
    h = shape.heads
    kv = shape.kv_heads
    c = shape.head_width
    embedding = f"embedding\n{shape.vocabulary} × {d}"
    head = f"LM head {d} → {shape.vocabulary}\n+ trained bias"
    blocks = f"{shape.layers} × transformer block\n{d} → {d}"
    norm = f"RMSNorm\n{d}"
    parts = {"query + LoRA": h, "key": kv, "value + LoRA": kv}
    bias = "\n+ bias" if shape.qkv_bias else ""
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
    frozen = f"W, frozen\n{width} → {width}"
    down = f"A, LoRA\n{width} → {rank}"
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


def descents(
    loss: Callable[[np.ndarray], np.ndarray], paths: Mapping[str, Sequence[float]]
) -> Figure:
    """Draw gradient descent in one weight, a panel for each path of weights, on the loss curve."""
    figure, axes = plt.subplots(1, len(paths), figsize=(3.6 * len(paths), 3), sharey=True)
    weights_of_all = np.concatenate([np.array(path) for path in paths.values()])
    line = np.linspace(weights_of_all.min() - 0.3, weights_of_all.max() + 0.3, 200)
    for ax, (title, path) in zip(axes, paths.items(), strict=True):
        weights = np.array(path)
        ax.plot(line, loss(line), color="0.8")
        ax.plot(weights, loss(weights), "o-", color=plots.COLOURS["prey"], ms=4, lw=1)
        ax.plot(weights[:1], loss(weights[:1]), "o", color=plots.COLOURS["error"], label="start")
        ax.set(title=title, xlabel="weight w")
    axes[0].set_ylabel("loss (squared error)")
    axes[0].legend()
    return figure


def token_costs(text: str, costs: np.ndarray, start: int, end: int) -> Figure:
    """Draw what some tokens of a text cost a model, in nats, each above its token.

    costs holds the cost of every token but the first; tokens start to end - 1 are drawn.
    """
    figure, ax = plt.subplots(figsize=(9, 2.8))
    places = range(end - start)
    colours = [plots.COLOURS["prey"] if text[i].isdigit() else "0.5" for i in range(start, end)]
    ax.bar(places, costs[start - 1 : end - 1], color=colours)
    ax.axhline(np.log(len(SYMBOLS)), color="0.4", ls="--", lw=1)
    ax.text(len(places) - 0.4, np.log(len(SYMBOLS)), "knowing nothing", ha="right", va="bottom")
    ax.set_xticks(places, text[start:end])
    ax.set(xlabel="true token", ylabel="cost (nats)")
    ax.margins(x=0.01)
    return figure


def thin_matrices(rank: int, width: int = 896) -> Figure:
    """Draw a square W beside the thin B and A of an adapter of some rank, all to one scale."""
    figure, ax = plt.subplots(figsize=(10, 3.9))
    for name, left, columns, rows, colour in (
        ("W", 0, width, width, "0.85"),
        ("B", width + 120, rank, width, plots.COLOURS["predator"]),
        ("A", width + 180 + rank, width, rank, plots.COLOURS["prey"]),
    ):
        ax.add_patch(plt.Rectangle((left, -rows), columns, rows, color=colour))
        ax.text(left + columns / 2, 25, f"{name}: {rows} × {columns}", ha="center")
    trained, frozen = 2 * rank * width, width**2
    share = f"{trained:,} trained beside {frozen:,} frozen, {trained / frozen:.1%}"
    ax.set_title(f"rank {rank}: {share}")
    ax.set(xlim=(-10, 2 * width + 640), ylim=(-width - 10, 90), aspect="equal")
    ax.axis("off")
    return figure


def windows(series: SeriesSet, shown: int, length: int) -> Figure:
    """Draw a series over the tokens of its text, and below it the training windows cut from it."""
    values, scale = series.trajectories[shown], series.scales[shown]
    text = np.array(text_to_ids(encode(values, scale)))
    # the token at which each step begins
    starts = np.array([0, *np.flatnonzero(text[:-1] == SEMICOLON_ID) + 1])
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(11, 4.6), sharex=True, height_ratios=(3, 2)
    )
    plots.plot_series(above, starts, to_integers(values, scale), lw=1.4)
    above.axvspan(starts[-FORECAST_STEPS], len(text), color="0.95", lw=0)
    above.set(ylabel="scaled units", title=f"series {shown}, cut into windows")
    above.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    # A text whose tokens are their own places, from 1 on because a pad is 0: its windows say where
    # they begin.
    for row, window in enumerate(make_windows([list(range(1, len(text) + 1))], length)):
        start, filled = window[0] - 1, np.count_nonzero(window)
        below.barh(row, filled, left=start, color=TRAINED, ec="0.35")
        pads = length - filled
        below.barh(row, pads, left=start + filled, color="white", ec="0.35", hatch="///")
        below.text(start + 6, row, f"from {start}", va="center", size="small")
    below.axvline(len(text), color="0.5", ls="--", lw=1)
    below.invert_yaxis()
    what = "token of the text (grey: the last 20 steps; hatched: pads)"
    below.set(yticks=[], ylabel=f"windows of {length}", xlabel=what)
    return figure


def thin_path(W: np.ndarray, A: np.ndarray, B: np.ndarray) -> Figure:
    """Draw what two thin matrices of rank 1 do to the points of a circle, in four panels.

    W (2, 2), A (1, 2) and B (2, 1). The points x have a colour each, which they keep as the number
    A x, as the point B A x, and as the point W x + B A x.
    """
    angles = np.linspace(0, 2 * np.pi, 49)[:-1]
    x = np.stack([np.cos(angles), np.sin(angles)])  # (2, points)
    one = (A @ x)[0]  # a number for each point
    two = B @ A @ x
    frozen = W @ x
    colours = plt.get_cmap("hsv")(angles / (2 * np.pi))

    figure, (start, middle, end, together) = plt.subplots(1, 4, figsize=(11, 3.1))
    start.scatter(*x, c=colours, s=22)
    start.set(title="x: two numbers", xlabel="first feature", ylabel="second feature")
    middle.axhline(0, color="0.8", lw=1)
    middle.scatter(one, np.zeros_like(one), c=colours, s=22)
    middle.set(title="A x: one number", xlabel="the number", yticks=[])
    end.scatter(*two, c=colours, s=22)
    end.set(title="B A x: along one line", xlabel="first feature")
    together.scatter(*frozen, color="0.85", s=14, label="W x")
    together.scatter(*(frozen + two), c=colours, s=22, label="W x + B A x")
    together.set(title="W x (grey), with B A x added", xlabel="first feature")
    reach = 1.1 * np.abs(np.stack([x, two, frozen, frozen + two])).max()
    for ax in (start, middle, end, together):
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    return figure


def matrices(panels: Mapping[str, np.ndarray]) -> Figure:
    """Draw matrices side by side as squares of colour, by title, on one scale about 0."""
    largest = max(np.abs(matrix).max() for matrix in panels.values())
    figure, axes = plt.subplots(1, len(panels), figsize=(1.75 * len(panels), 2.3))
    for ax, (title, matrix) in zip(axes, panels.items(), strict=True):
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize="small")
    figure.colorbar(image, ax=axes, label="entry (no unit)", shrink=0.8)
    return figure


def learning(
    time: np.ndarray,
    scaled: np.ndarray,
    ahead: Mapping[int, np.ndarray],
    errors: Mapping[int, float],
) -> Figure:
    """Draw one series with its forecast after each of some training steps, a panel for each.

    time (steps,) and scaled (steps, 2), whose last steps are the forecast's; `ahead` holds the
    forecasts (horizon, 2) and `errors` their mean absolute errors, both by training step.
    """
    size = (2.75 * len(ahead), 3.3)
    figure, axes = plt.subplots(1, len(ahead), figsize=size, sharex=True, sharey=True)
    for ax, (step, forecast) in zip(axes, ahead.items(), strict=True):
        title = (
            f"after {step} steps: error {errors[step]:.0f}"
            if step
            else (f"untuned: error {errors[step]:.0f}")
        )
        plots.plot_forecast(ax, time[-SHOWN_STEPS:], scaled[-SHOWN_STEPS:], forecast, title)
        ax.set_xlabel(plots.MODEL_TIME)
    axes[0].set_ylabel("scaled units")
    plots.forecast_legend(figure)
    return figure


def loss_and_error(
    losses: Sequence[float],
    watched: Mapping[int, float],
    errors: Mapping[int, np.ndarray],
    yardsticks: Mapping[str, np.ndarray],
) -> Figure:
    """Draw how the loss falls in a training, and what becomes of the errors of forecasts.

    losses: of each step's series, in nats a token. watched: the loss on other series, by training
    step. errors: of the forecasts of these series, in scaled units, by training step. yardsticks:
    the errors of forecasts without a model, by name.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    steps = np.arange(1, len(losses) + 1)
    left.plot(steps, losses, ".", color="0.6", label="the step's own series")
    left.plot(*_line(watched), "o-", color=plots.COLOURS["predator"], label="watched series")
    left.set(xlabel="training step", ylabel="loss (nats a token)")
    left.legend()
    for name, mark, of in (("mean", "D-", np.mean), ("median", "o-", np.median)):
        by_step = {step: float(of(each)) for step, each in errors.items()}
        right.plot(*_line(by_step), mark, color=plots.COLOURS["ours"], label=f"the model, {name}")
    styles = ("--", ":", "-.", (0, (1, 3)))
    for (name, each), style in zip(yardsticks.items(), styles, strict=False):
        right.axhline(each.mean(), color="0.35", ls=style, lw=1.2, label=f"{name}, mean")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    right.set(xlabel="training step", ylabel="error (scaled units)", ylim=(0, None))
    return figure


def _line(values: Mapping[int, float]) -> tuple[list[int], list[float]]:
    """What matplotlib's `plot` wants of values by step: the steps, and the values."""
    return list(values), list(values.values())


def losses_when_cut(losses: Mapping[str, Mapping[int, float]]) -> Figure:
    """Draw the loss of adapters, by name, that keep fewer and fewer directions, by their number."""
    figure, ax = plt.subplots(figsize=(7, 3.4))
    for (name, by_rank), marker in zip(losses.items(), "oDs", strict=False):
        ranks = sorted(by_rank)
        ax.plot(ranks, [by_rank[rank] for rank in ranks], f"{marker}-", ms=5, label=name)
    ax.set_xscale("symlog", base=2, linthresh=1)
    ticks = sorted({rank for by_rank in losses.values() for rank in by_rank})
    ax.set_xticks(ticks, ticks)
    ax.set(xlabel="directions kept (rank)", ylabel="loss on series 94 (nats a token)")
    ax.legend()
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
        values = data.trajectories[series, :2]
        scale = float(data.scales[series])
        rows = []
        integers = to_integers(values, scale)
        texts = re.findall(r"\d+[,;]", encode(values, scale))
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


def autocorrelation(ax: Axes, by_lag: np.ndarray, period: int) -> None:
    """The autocorrelation of a series by lag in steps, and the lag that is taken for its period."""
    ax.plot(by_lag, color=plots.COLOURS["prey"])
    ax.axhline(0, color="0.6", lw=1)
    ax.plot(period, by_lag[period], "o", color=plots.COLOURS["error"])
    ax.text(period, by_lag[period] + 0.1, f"period: {period} steps", ha="center")
    ax.set(xlabel="lag (steps)", ylabel="autocorrelation", ylim=(-1, 1.1))


def fitted(ax: Axes, time: np.ndarray, series: np.ndarray, course: np.ndarray) -> None:
    """A series as dots and a fitted course as lines, (steps, 2) in scaled units, the last 20 steps
    shaded."""
    for k, name in enumerate(VARIABLES):
        colour = plots.COLOURS[name]
        ax.plot(time, series[:, k], ".", ms=4, color=colour, label=name)
        ax.plot(time, course[:, k], color=colour, label=f"{name}, fit")
    ax.axvspan(float(time[-20]), float(time[-1]), color="0.93", lw=0, zorder=0)
    ax.margins(x=0)
    ax.set(xlabel=plots.MODEL_TIME)


def one_system(worlds: Mapping[str, SeriesSet], shown: int) -> Figure:
    """The same system in each of ten worlds, the last 20 steps shaded."""
    figure, axes = plt.subplots(2, 5, figsize=(12, 4), sharex=True)
    for ax, (name, world) in zip(axes.flat, worlds.items(), strict=True):
        plots.plot_series(ax, np.arange(100), world.trajectories[shown], lw=1)
        ax.axvspan(80, 99, color="0.93", lw=0, zorder=0)
        ax.set(title=name, ylim=(0, None))
    plt.setp(axes[1], xlabel="step")
    plt.setp(axes[:, 0], ylabel="physical units")
    plots.legend_below(figure, axes.flat)
    return figure


def block_weights(shape: Shape, rank: int, adapted: Sequence[str]) -> Figure:
    """The seven weight matrices of a transformer block, drawn to scale: d_in wide, d_out high.

    Those named in `adapted` have the two matrices of an adapter along their edges, to scale too.
    """
    figure, ax = plt.subplots(figsize=(9.6, 3.2))
    gap, left = 170, 0
    for name, (d_in, d_out) in shape.projections.items():
        ax.add_patch(Rectangle((left, 0), d_in, d_out, fc=FROZEN, ec="0.5", lw=0.6))
        if name in adapted:
            a = Rectangle((left, -40 - rank), d_in, rank, fc=_AMBER, ec=_AMBER)
            b = Rectangle((left + d_in + 25, 0), rank, d_out, fc=_AMBER, ec=_AMBER)
            ax.add_patch(a)
            ax.add_patch(b)
        label = f"{name.removesuffix('_proj')}\n{d_in} → {d_out}"
        ax.text(left + d_in / 2, -130, label, ha="center", va="top", size=8.8)
        left += d_in + gap
    ax.set(xlim=(-20, left), ylim=(-420, shape.mlp + 20), aspect="equal")
    ax.axis("off")
    return figure


def errors_by_source(relative: pd.DataFrame, pair: Sequence[str]) -> Figure:
    """Two forecasters' relative errors on each source of real series, joined by a bar.

    `relative` holds errors in units of the repetition's, sources by forecasters. The source on
    which the first of the pair does best by comparison stands at the top.
    """
    first, second = (relative[name] for name in pair)
    order = (first / second).sort_values(ascending=False).index
    figure, ax = plt.subplots(figsize=(8, 3.6))
    ax.axvline(1, color="0.5", lw=1)
    places = range(len(order))
    ax.hlines(places, first[order], second[order], color="0.8", lw=3, zorder=1)
    ax.scatter(first[order], places, color=plots.COLOURS["ours"], label=pair[0], zorder=2)
    ax.scatter(second[order], places, color="0.3", marker="s", label=pair[1], zorder=2)
    ax.set_yticks(places, order)
    ax.set(xscale="log", xlabel="error (the repetition's is 1)")
    ticks = (0.4, 0.6, 0.8, 1, 1.5)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    ax.legend(loc="upper left")
    return figure


def forecasts(records: Mapping[str, Record], shown: Sequence[int]) -> Figure:
    """Figures 4 and 6: a row for each record, a column for each series; the report's error where it
    asked the same."""
    series = errors.data()
    report = errors.runs(errors.published())
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


def phase_plane(ax: Axes, system: np.ndarray, course: np.ndarray) -> None:
    """Draw a predator-prey system in the plane of prey and predators.

    The flow of its equations is grey. On the blue parabola the prey neither grow nor shrink, and a
    triangle marks its top; on the orange line the predators neither grow nor shrink. The course of
    one series, from its dot on, is dark.

    system : the six parameters in the order of `RECIPE`; what comes after them is not used.
    course : (steps, 2), in physical units.
    """
    growth, attack, mortality, handling, conversion, capacity = parameters = system[:6]
    wide, high = (1.1 * course.max(axis=0)).tolist()
    prey, predators = np.linspace(0, wide, 200), np.linspace(0, high, 200)
    grid = np.stack(np.broadcast_arrays(prey, predators[:, None]))
    across, up = predator_prey(0, grid, *parameters)
    ax.streamplot(prey, predators, across, up, color="0.82", density=0.7, linewidth=0.7)

    def parabola(x: np.ndarray) -> np.ndarray:
        return growth / attack * (1 - x / capacity) * (1 + handling * x)

    blue, top = COLOURS["prey"], (capacity - 1 / handling) / 2
    ax.plot(prey, parabola(prey), color=blue, lw=1.6, label="prey neither grow nor shrink")
    if top > 0:
        ax.plot(top, parabola(top), "v", color=blue, ms=9, label="top of the parabola")
    rest = mortality / (conversion * attack - mortality * handling)
    ax.axvline(rest, color=COLOURS["predator"], lw=1.6, label="predators neither grow nor shrink")
    ax.plot(*course.T, color="0.25", lw=1, label="one series, from its dot on")
    ax.plot(*course[0], "o", color="0.25", ms=5)
    ax.set(xlim=(0, wide), ylim=(0, high))
    ax.set(xlabel="prey (physical units)", ylabel="predators (physical units)")


def splits(split: Split) -> Figure:
    """Draw who reads which split: what goes from one to the next, and that nothing comes back."""
    uses = {
        "train": "learned from",
        "validation": "settings are\nchosen on these",
        "test": "opened last:\nnothing is chosen here",
    }
    moves = (
        (0.2, 0.68, 0.1, "trained models"),
        (0.68, 0.2, -0.15, "settings"),
        (1.32, 1.64, 0, "the choice"),
    )
    box = {"boxstyle": "round", "fc": "0.95", "ec": "0.35"}
    arrow = {"arrowstyle": "-|>", "color": "0.25"}
    figure, ax = plt.subplots(figsize=(9, 2.6))
    for x, (name, use) in enumerate(uses.items()):
        said = f"{name} split\n{len(getattr(split, name))} series"
        ax.text(x, 1, said, ha="center", va="center", bbox=box)
        ax.text(x, 0, use, ha="center", va="center", bbox=box)
        ax.annotate("", (x, 0.3), (x, 0.72), arrowprops=arrow)
    for begin, end, y, what in moves:
        ax.annotate("", (end, y), (begin, y), arrowprops=arrow)
        ax.text((begin + end) / 2, y + 0.04, what, ha="center")
    ax.set(xlim=(-0.4, 2.4), ylim=(-0.4, 1.35))
    ax.axis("off")
    return figure


def looks_back(ax: Axes, characters: str, weights: Sequence[float]) -> None:
    """Draw how the last character of a text looks at those before it: the thicker an arrow, the
    more weight.

    weights : one for each character, itself included; they sum to 1 and stand below it.
    """
    last = len(characters) - 1
    for place, (character, weight) in enumerate(zip(characters, weights, strict=True)):
        box = {"boxstyle": "round", "fc": TRAINED if place == last else FROZEN, "ec": "0.35"}
        ax.text(place, 0, character, ha="center", va="center", size=16, bbox=box, zorder=3)
        ax.text(place, -0.4, f"{weight:.2f}", ha="center", va="center", size=11)
        if place < last and weight > 0.01:
            # A long arrow bends less, so that all rise to about the same height.
            bend = f"arc3,rad={1.2 / (last - place + 1)}"
            line = {"arrowstyle": "-|>", "connectionstyle": bend, "color": "0.25", "lw": 7 * weight}
            ends = (place + 0.06, 0.12), (last - 0.06, 0.12)
            ax.annotate("", *ends, arrowprops=line | {"shrinkA": 8, "shrinkB": 8})
    ax.set(xlim=(-0.5, last + 0.5), ylim=(-0.6, 0.9))
    ax.axis("off")


def marked_text(
    ax: Axes, characters: str, weights: np.ndarray, looking: int, per_line: int = 96
) -> None:
    """Draw a text whose character number `looking` is boxed, and on the others the blue of their
    attention weight.

    weights : (characters,), what the boxed character gives to each, 0 to 1. Those after it, which
        it cannot see, are grey.
    """
    for place, character in enumerate(characters):
        line, column = divmod(place, per_line)
        seen = place <= looking
        colour = ("white" if weights[place] > 0.5 else "black") if seen else "0.7"
        ax.text(
            column, -line, character, color=colour, ha="center", va="center", family="monospace"
        )
        if seen:
            shade = plt.get_cmap("Blues")(0.9 * float(weights[place]))
            ax.add_patch(
                plt.Rectangle((column - 0.5, -line - 0.45), 1, 0.9, fc=shade, lw=0, zorder=0)
            )
    line, column = divmod(looking, per_line)
    frame = plt.Rectangle(
        (column - 0.5, -line - 0.45), 1, 0.9, fc="none", ec=COLOURS["error"], lw=2
    )
    ax.add_patch(frame)
    ax.set(xlim=(-1, per_line), ylim=(-(len(characters) // per_line) - 0.6, 0.6))
    ax.axis("off")


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
