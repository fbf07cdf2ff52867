"""Drawings of the model: its parts and their widths, its adapters, and where it looks in a text."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from m2lib.accounting import Shape
from study.plots import COLOURS, WIDTH

FROZEN = "#D6E6F2"
TRAINED = "#FBE3B5"
_AMBER = "#D98E04"  # for what is trained, where the pale colour would be too thin to see
_PLAIN = "#F2F2F2"  # boxes that hold no parameters


def architecture(shape: Shape, name: str) -> Figure:
    """Draw figure 1: the model, one transformer block and its MLP, with their widths."""
    d = shape.width
    embedding = f"embedding\n{shape.vocabulary} × {d}"
    blocks = f"{shape.layers} × transformer block\n{d} → {d}"
    norm = f"RMSNorm\n{d}"
    head = f"LM head {d} → {shape.vocabulary}\n+ trained bias"

    figure, (left, middle, right) = plt.subplots(
        1, 3, figsize=(WIDTH, 5.4), width_ratios=(1.9, 3.8, 2.2)
    )
    _flow(left, "model", [["token ids"], [embedding], [blocks], [norm], [head], ["logits"]])
    _draw_block(middle, shape)
    _draw_mlp(right, shape)
    figure.suptitle(
        f"{name}: features per token; blue is frozen, amber holds trained parameters", fontsize=9.5
    )
    return figure


def _draw_block(ax: Axes, shape: Shape) -> None:
    """Draw a transformer block, with the two ways round its parts that lead to the sums."""
    d = shape.width
    bias = "\n+ bias" if shape.qkv_bias else ""
    heads = {"query + LoRA": shape.heads, "key": shape.kv_heads, "value + LoRA": shape.kv_heads}
    projections = []
    for name, count in heads.items():
        projections.append(f"{name}\n{d} → {count}·{shape.head_width}{bias}")
    norm = f"RMSNorm\n{d}"
    attention = (
        f"causal attention\n{shape.heads} query heads share {shape.kv_heads} key-value heads"
    )
    output = f"output\n{shape.heads}·{shape.head_width} → {d}"
    mlp = f"MLP\n{d} → {d}"

    rows: list[Sequence[str | None]] = [
        ["x"],
        [norm],
        projections,
        ["RoPE", "RoPE", None],  # values are not rotated
        [attention],
        [output],
        ["+"],
        [norm],
        [mlp],
        ["+ "],  # a box is known by its text, and this is not the first sum
    ]
    boxes = _flow(ax, "transformer block", rows)
    _arrow(ax, boxes["x"], boxes["+"], aside=-0.6)
    _arrow(ax, boxes["+"], boxes["+ "], aside=-1.1, lift=0.38)


def _draw_mlp(ax: Axes, shape: Shape) -> None:
    """Draw the MLP of a block: what its gate lets through of what it has widened."""
    gate = f"gate\n{shape.width} → {shape.mlp}"
    up = f"up\n{shape.width} → {shape.mlp}"
    down = f"down\n{shape.mlp} → {shape.width}"
    _flow(ax, "MLP", [["x"], [gate, up], ["SiLU", None], ["× (multiplied)"], [down]])


def lora_layer(width: int, rank: int) -> Figure:
    """Draw figure 2: a frozen square layer beside its low-rank adapter.

    The layer gives y = W x + (alpha / r) B A x, and alpha is r.
    """
    frozen = f"W, frozen\n{width} → {width}"
    down = f"A, LoRA\n{width} → {rank}"
    up = f"B, LoRA, starts at 0\n{rank} → {width}"
    rows: list[Sequence[str | None]] = [
        [f"x: {width}"],
        [frozen, down],
        [None, up],
        [None, "× α/r = 1"],
        ["+"],
        [f"y: {width}"],
    ]
    trained = f"{2 * rank * width:,} trained parameters"
    figure, ax = plt.subplots(figsize=(5.8, 3.4))
    _flow(ax, f"A LoRA layer: {trained} beside {width**2:,} frozen ones", rows)
    return figure


def thin_matrices(rank: int) -> Figure:
    """Draw a square W beside the thin B and A of an adapter of some rank, all to one scale."""
    width = 896  # of Qwen2.5-0.5B
    figure, ax = plt.subplots(figsize=(10, 3.9))
    # name, left edge, columns, rows, colour
    matrices_drawn = (
        ("W", 0, width, width, FROZEN),
        ("B", width + 120, rank, width, _AMBER),
        ("A", width + 180 + rank, width, rank, _AMBER),
    )
    for name, left, columns, rows, colour in matrices_drawn:
        ax.add_patch(Rectangle((left, -rows), columns, rows, color=colour))
        ax.text(left + columns / 2, 25, f"{name}: {rows} × {columns}", ha="center")
    trained = 2 * rank * width
    frozen = width**2
    share = f"{trained:,} trained beside {frozen:,} frozen, {trained / frozen:.1%}"
    ax.set_title(f"rank {rank}: {share}")
    ax.set(xlim=(-10, 2 * width + 640), ylim=(-width - 10, 90), aspect="equal")
    ax.axis("off")
    return figure


def thin_path(W: np.ndarray, A: np.ndarray, B: np.ndarray) -> Figure:
    """Draw what two thin matrices of rank 1 do to the points of a circle, in four panels.

    W (2, 2), A (1, 2) and B (2, 1). The points x have a colour each, which they keep as the number
    A x, as the point B A x, and as the point W x + B A x, to which a thin line leads from W x.
    """
    angles = np.linspace(0, 2 * np.pi, 49)[:-1]
    colours = plt.get_cmap("hsv")(angles / (2 * np.pi))
    x = np.stack([np.cos(angles), np.sin(angles)])  # (2, points)
    numbers = (A @ x)[0]  # one for each point
    y_adapter = B @ A @ x
    y_frozen = W @ x

    figure, (start, middle, end, sum_ax) = plt.subplots(1, 4, figsize=(11, 3.1))
    start.scatter(*x, c=colours, s=22)
    start.set(title="x: two numbers", xlabel="first feature", ylabel="second feature")
    middle.axhline(0, color="0.8", lw=1)
    middle.scatter(numbers, np.zeros_like(numbers), c=colours, s=22)
    middle.set(title="A x: one number", xlabel="the number", yticks=[])
    end.scatter(*y_adapter, c=colours, s=22)
    end.set(title="B A x: along one line", xlabel="first feature")
    moves = np.stack([y_frozen, y_frozen + y_adapter], axis=1)  # (2, start and end, points)
    sum_ax.plot(*moves, color="0.85", lw=0.8, zorder=0)
    sum_ax.scatter(*y_frozen, color="0.85", s=14, label="W x")
    sum_ax.scatter(*(y_frozen + y_adapter), c=colours, s=22, label="W x + B A x")
    sum_ax.set(title="W x (grey), with B A x added", xlabel="first feature")

    all_points = np.stack([x, y_adapter, y_frozen, y_frozen + y_adapter])
    reach = 1.1 * np.abs(all_points).max()
    for ax in (start, middle, end, sum_ax):
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    return figure


def matrices(panels: Mapping[str, np.ndarray]) -> Figure:
    """Draw matrices side by side as squares of colour, by title, on one scale about 0."""
    largest = max(np.abs(matrix).max() for matrix in panels.values())
    figure, axes = plt.subplots(1, len(panels), figsize=(1.4 * len(panels), 1.9))
    for ax, (title, matrix) in zip(axes, panels.items(), strict=True):
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-largest, vmax=largest)
        ax.set(xticks=[], yticks=[])
        ax.set_title(title, fontsize="small")
    figure.colorbar(image, ax=axes, label="entry (no unit)", shrink=0.8)
    return figure


def looks_back(ax: Axes, characters: str, weights: Sequence[float]) -> None:
    """Draw how the last character of a text looks at those before it.

    The thicker an arrow, the more weight.

    weights : one for each character, itself included; they sum to 1 and stand below it.
    """
    last = len(characters) - 1
    for place, (character, weight) in enumerate(zip(characters, weights, strict=True)):
        colour = TRAINED if place == last else FROZEN
        box = {"boxstyle": "round", "fc": colour, "ec": "0.35"}
        ax.text(place, 0, character, ha="center", va="center", size=16, bbox=box, zorder=3)
        ax.text(place, -0.4, f"{weight:.2f}", ha="center", va="center", size=11)
        if place < last and weight > 0.01:
            # A long arrow bends less, so that all rise to about the same height.
            bend = 1.2 / (last - place + 1)
            arrow = {
                "arrowstyle": "-|>",
                "connectionstyle": f"arc3,rad={bend}",
                "color": "0.25",
                "lw": 7 * weight,
                "mutation_scale": 10 + 15 * weight,  # of the head, which a thick line would hide
                "shrinkA": 8,
                "shrinkB": 8,
            }
            ax.annotate("", (place + 0.06, 0.12), (last - 0.06, 0.12), arrowprops=arrow)
    ax.set(xlim=(-0.5, last + 0.5), ylim=(-0.6, 0.9))
    ax.axis("off")


def marked_text(
    ax: Axes, characters: str, weights: np.ndarray, looking: int, per_line: int = 96
) -> None:
    """Draw a text, one character of it boxed, and purple on the others by their attention weight.

    weights : (characters,), what the boxed character gives to each, 0 to 1. Those after it, which
        it cannot see, are grey.
    looking : the place of the boxed character.
    """
    for place, character in enumerate(characters):
        line, column = divmod(place, per_line)
        corner = (column - 0.5, -line - 0.45)
        colour = "0.7"
        if place <= looking:
            weight = float(weights[place])
            colour = "white" if weight > 0.5 else "black"
            shade = plt.get_cmap("Purples")(0.9 * weight)
            ax.add_patch(Rectangle(corner, 1, 0.9, fc=shade, lw=0, zorder=0))
        if place == looking:
            ax.add_patch(Rectangle(corner, 1, 0.9, fc="none", ec=COLOURS["error"], lw=2))
        ax.text(
            column, -line, character, color=colour, ha="center", va="center", family="monospace"
        )
    last_line = len(characters) // per_line
    ax.set(xlim=(-1, per_line), ylim=(-last_line - 0.6, 0.6))
    ax.axis("off")


def _flow(ax: Axes, title: str, rows: Sequence[Sequence[str | None]]) -> dict[str, Text]:
    """Draw rows of boxes from the bottom up, with arrows from one row to the next.

    If two rows are equally long, a box has an arrow from the one below it; otherwise it has arrows
    from all of them. None leaves a box out, and the arrow goes through. Returns the boxes by text.
    """
    boxes: dict[str, Text] = {}
    row_below: list[Text] = []
    heights = [_lines_after_first(row) for row in rows]
    for place, row in enumerate(rows):
        # The heights are added, so that all gaps between rows are alike.
        y = place * 0.8 + sum(heights[:place]) * 0.4 + heights[place] * 0.2
        this_row: list[Text] = []
        for column, text in enumerate(row):
            if text is None:
                this_row.append(row_below[column])
                continue
            x = column - (len(row) - 1) / 2
            box_style = {"boxstyle": "round", "fc": _box_colour(text), "ec": "0.35", "lw": 0.9}
            box = ax.text(x, y, text, ha="center", va="center", size=8.8, bbox=box_style)
            starts = [row_below[column]] if len(row) == len(row_below) else row_below
            for start in starts:
                _arrow(ax, start, box)
            boxes[text] = box
            this_row.append(box)
        row_below = this_row
    half = max(map(len, rows)) / 2
    ax.set(title=title, xlim=(-half, half), ylim=(-0.4, y + 0.4))
    ax.axis("off")
    return boxes


def _lines_after_first(row: Sequence[str | None]) -> int:
    """Return how many lines the tallest text of a row has after its first: 1 for "MLP\\n9 → 9"."""
    return max(text.count("\n") for text in row if text)


def _box_colour(text: str) -> str:
    """Return the colour of a box: amber for trained parameters, blue for frozen ones, else grey.

    What has parameters says so in further lines, such as their numbers of features.
    """
    if "LoRA" in text or "trained" in text:
        return TRAINED
    return FROZEN if "\n" in text else _PLAIN


def _arrow(ax: Axes, start: Text, end: Text, aside: float = 0, lift: float = 0) -> None:
    """Draw an arrow from the edge of one box to that of another.

    aside: how far it goes round, in its own lengths. lift: how far above the middle of its first
    box it begins; 0: at that box's edge.
    """
    x, y = start.get_position()
    arrow = {
        "arrowstyle": "-|>",
        "color": "0.25",
        "lw": 1.1,
        "shrinkA": 0,
        "shrinkB": 0,
        "mutation_scale": 10,
        "connectionstyle": f"bar,fraction={aside}",
        "patchA": None if lift else start.get_bbox_patch(),
        "patchB": end.get_bbox_patch(),
    }
    ax.annotate("", end.get_position(), (x, y + lift), arrowprops=arrow)
