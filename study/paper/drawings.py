"""The report's drawings: architecture, LoRA layer and encoding, from a config or the codec itself;
and forecasts."""

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from m2lib import plots
from m2lib.accounting import Shape
from m2lib.model import text_to_ids
from m2lib.plots import WIDTH
from m2lib.series import VARIABLES, SeriesSet, encode, to_integers
from study import PROFILES, Record, recorded_forecast
from study.paper import errors

FROZEN, TRAINED = "#D6E6F2", "#FBE3B5"
_AMBER = "#D98E04"  # for lines that are too thin for the pale one
SHOWN_STEPS = 60  # the last of a series, where forecasts are small


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
