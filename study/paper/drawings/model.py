"""Drawings of the model: its parts and their widths, its adapters, and where it looks in a text."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from m2lib import plots
from m2lib.accounting import Shape
from m2lib.plots import COLOURS, WIDTH

FROZEN, TRAINED = "#D6E6F2", "#FBE3B5"
_AMBER = "#D98E04"  # for lines that are too thin for the pale one


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
