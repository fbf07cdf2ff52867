"""The report's drawings: architecture, LoRA layer and encoding, from a config or the codec itself;
and forecasts."""

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from m2lib import plots
from m2lib.accounting import Shape
from m2lib.model import text_to_ids
from m2lib.plots import COLOURS, WIDTH
from m2lib.series import VARIABLES, SeriesSet, encode, to_integers
from m2lib.series.data import Split, predator_prey
from study import PROFILES, Record, recorded_forecast
from study.paper import errors

FROZEN, TRAINED = "#D6E6F2", "#FBE3B5"
SHOWN_STEPS = 60  # the last of a series, where forecasts are small


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
