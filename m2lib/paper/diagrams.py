"""The report's drawings, made from a model's config or the codec itself: architecture, LoRA layer, encoding steps."""

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyBboxPatch

from m2lib.model import SYMBOLS, text_to_ids
from m2lib.paper.plots import WIDTH
from m2lib.series import VARIABLES, encode, to_integers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from transformers import PretrainedConfig

FROZEN, TRAINED, PLAIN, TOKEN = "#D6E6F2", "#FBE3B5", "#F2F2F2", "#E3F1EA"
SIZE = 8.8
"""Of the text in a box, points."""
Point = tuple[float, float]
LINE = {"arrowstyle": "-|>", "color": "0.25", "lw": 1.1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 10}


def architecture(config: "PretrainedConfig", vocabulary: int, name: str) -> "Figure":
    """Figure 1: the model, one transformer block and its MLP, with the shapes of `config`; vocabulary: its tokens."""
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 5), width_ratios=(1.8, 3.8, 2))
    _model(axes[0], config, vocabulary)
    _block(axes[1], config)
    _mlp(axes[2], config)
    figure.suptitle(f"{name}: features per token; blue is frozen, amber holds trained parameters", fontsize=9.5)
    return figure


def _model(ax: "Axes", config: "PretrainedConfig", vocabulary: int) -> None:
    d = config.hidden_size
    _canvas(ax, "model", 12)
    rows = [
        (1, "token ids", PLAIN),
        (3, f"embedding\n{vocabulary:,} × {d}", FROZEN),
        (6, f"{config.num_hidden_layers} × transformer block\n{d} → {d}", FROZEN),
        (8.6, f"RMSNorm\n{d}", FROZEN),
        (10.8, f"LM head {d} → {vocabulary:,}\n+ trained bias", TRAINED),
    ]
    _column(ax, 4.75, rows, width=10.6)
    _arrow(ax, (4.75, 11.35), (4.75, 12.1))
    ax.text(4.75, 12.2, "logits", ha="center", va="bottom", fontsize=SIZE)


def _block(ax: "Axes", config: "PretrainedConfig") -> None:
    d, h, kv = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
    bias = "\n+ bias" if config.model_type == "qwen2" or getattr(config, "attention_bias", False) else ""
    c = getattr(config, "head_dim", None) or d // h
    _canvas(ax, "transformer block", 12)
    _box(ax, (5, 1.5), f"RMSNorm {d}", FROZEN, 4)
    for x, text, colour in (
        (1.5, f"query + LoRA\n{d} → {h}·{c}{bias}", TRAINED),
        (5, f"key\n{d} → {kv}·{c}{bias}", FROZEN),
        (8.5, f"value + LoRA\n{d} → {kv}·{c}{bias}", TRAINED),
    ):
        _box(ax, (x, 3.2), text, colour, 3.2)
        _arrow(ax, (5, 1.85), (x, 3.2 - _height(text) / 2))
    for x in (1.5, 5):
        _box(ax, (x, 4.75), "RoPE", PLAIN, 1.8)
        _arrow(ax, (x, 3.2 + _height(text) / 2), (x, 4.4))
    _box(ax, (5, 6.1), f"causal attention\n{h} query heads share {kv} key-value heads", FROZEN, 8.6)
    for x, bottom in ((1.5, 5.1), (5, 5.1), (8.5, 3.2 + _height(text) / 2)):
        _arrow(ax, (x, bottom), (x, 5.6))
    _box(ax, (5, 7.6), f"output {h}·{c} → {d}", FROZEN, 4)
    _arrow(ax, (5, 6.6), (5, 7.25))
    _sum(ax, (5, 8.6))
    _arrow(ax, (5, 7.95), (5, 8.35))
    _box(ax, (5, 9.6), f"RMSNorm {d}", FROZEN, 4)
    _arrow(ax, (5, 8.85), (5, 9.25))
    _box(ax, (5, 10.8), f"MLP {d} → {d}", FROZEN, 4)
    _arrow(ax, (5, 9.95), (5, 10.45))
    _sum(ax, (5, 11.8))
    _arrow(ax, (5, 11.15), (5, 11.55))
    _arrow(ax, (5, 12.05), (5, 12.7))
    _arrow(ax, (5, 0.3), (5, 1.15))
    _bypass(ax, 0.6, 8.6)
    _bypass(ax, 9.05, 11.8)


def _mlp(ax: "Axes", config: "PretrainedConfig") -> None:
    d, hidden = config.hidden_size, config.intermediate_size
    _canvas(ax, "MLP", 12)
    for x, text in ((2.2, "gate"), (7.6, "up")):
        _box(ax, (x, 3.6), f"{text}\n{d} → {hidden}", FROZEN, 5)
        _arrow(ax, (5, 1.2), (x, 3.05))
    _box(ax, (2.2, 5.6), "SiLU", PLAIN, 3.2)
    _arrow(ax, (2.2, 4.15), (2.2, 5.25))
    _sum(ax, (5, 7.4), "×")
    _arrow(ax, (2.2, 5.95), (4.4, 7.3))
    _arrow(ax, (7.6, 4.15), (5.6, 7.3))
    _box(ax, (5, 9.3), f"down\n{hidden} → {d}", FROZEN, 5.2)
    _arrow(ax, (5, 7.65), (5, 8.75))
    _arrow(ax, (5, 9.85), (5, 11.2))
    _arrow(ax, (5, 0.3), (5, 1.2))
    note = "the branches are\nmultiplied; SiLU acts\non the gate alone"
    ax.text(5, 11.4, note, fontsize=SIZE, color="0.35", ha="center")


def lora_layer(d_in: int, d_out: int, rank: int, alpha: float) -> "Figure":
    """Figure 2: a frozen linear layer with its low-rank adapter, y = W x + (alpha / r) B A x."""
    figure, ax = plt.subplots(figsize=(5.8, 2.7))
    ax.set(xlim=(0, 15), ylim=(0.8, 7.2))
    ax.axis("off")
    ax.set_title(f"A LoRA layer: {rank * (d_in + d_out):,} trained parameters beside {d_in * d_out:,} frozen ones")
    _box(ax, (1.2, 4), f"x\n{d_in}", PLAIN, 1.6)
    _box(ax, (6.6, 6.2), f"W, frozen\n{d_in} → {d_out}", FROZEN, 5.6)
    _box(ax, (4.6, 1.8), f"A\n{d_in} → {rank}", TRAINED, 2.6)
    _box(ax, (8.4, 1.8), f"B, starts at 0\n{rank} → {d_out}", TRAINED, 3.2)
    _box(ax, (11.6, 1.8), f"× α/r\n= {alpha / rank:g}", PLAIN, 1.8)
    _sum(ax, (12.4, 4))
    _box(ax, (14, 4), f"y\n{d_out}", PLAIN, 1.4)
    for start, end in (
        ((2.0, 4.2), (3.8, 6.2)),
        ((2.0, 3.8), (3.3, 1.8)),
        ((5.9, 1.8), (6.8, 1.8)),
        ((10.0, 1.8), (10.7, 1.8)),
        ((9.4, 6.2), (12.25, 4.25)),
        ((11.7, 2.35), (12.3, 3.75)),
        ((12.65, 4), (13.3, 4)),
    ):
        _arrow(ax, start, end)
    return figure


def encoding(values: np.ndarray, scale: float, title: str) -> "Figure":
    """Figure 3: the codec at work on values (steps, 2) in physical units: scaled, rounded, written, tokenised."""
    figure, ax = plt.subplots(figsize=(WIDTH, 1 + 0.55 * len(values)))
    rows = 2 * len(values)
    ax.set(xlim=(0, 22), ylim=(rows + 0.4, -1.6))
    ax.axis("off")
    ax.set_title(title, loc="left")
    heads = ("step, variable", "value", f"÷ {scale:.4f} × 10", "2 decimals", "written", "text and token ids")
    places = (0, 3.6, 5.7, 9.2, 11.9, 14.2)
    for x, head in zip(places, heads, strict=True):
        ax.text(x, -0.9, head, color="0.35", fontsize=9.5)
    scaled, integers = values / scale * 10, to_integers(values, scale)
    for step in range(len(values)):
        for variable, name in enumerate(VARIABLES):
            y = 2 * step + variable + 0.15
            number = int(integers[step, variable])
            cells = (
                f"{step}, {name}",
                f"{values[step, variable]:.4f}",
                f"{scaled[step, variable]:.5f}",
                f"{number / 100:.2f}",
                f"{number}",
            )
            for x, text in zip(places, cells, strict=False):
                ax.text(x, y, text, va="center", family="monospace", fontsize=10)
        ids = text_to_ids(encode(values[step : step + 1], scale))
        for place, i in enumerate(ids):
            x = places[5] + 0.9 * place
            ax.add_patch(plt.Rectangle((x, 2 * step - 0.25), 0.78, 1.7, fc=TOKEN, ec="0.6", lw=0.8))
            ax.text(x + 0.39, 2 * step + 0.2, SYMBOLS[i], ha="center", va="center", family="monospace", fontsize=11)
            ax.text(x + 0.39, 2 * step + 1.05, i, ha="center", va="center", color="0.4", fontsize=8.6)
    return figure


def _canvas(ax: "Axes", title: str, height: float) -> None:
    ax.set(xlim=(-0.8, 10.3), ylim=(0, height + 1))
    ax.axis("off")
    ax.set_title(title)


def _box(ax: "Axes", centre: Point, text: str, colour: str, width: float) -> None:
    height = _height(text)
    x, y = centre
    style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.12", "fc": colour, "ec": "0.35", "lw": 0.9}
    ax.add_patch(FancyBboxPatch((x - width / 2, y - height / 2), width, height, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=SIZE)


def _height(text: str) -> float:
    return 0.3 + 0.4 * len(text.splitlines())


def _arrow(ax: "Axes", start: Point, end: Point) -> None:
    ax.annotate("", xy=end, xytext=start, arrowprops=LINE)


def _sum(ax: "Axes", centre: Point, sign: str = "+") -> None:
    ax.plot(*centre, "o", ms=15, mfc="white", mec="0.25")
    ax.text(centre[0], centre[1], sign, ha="center", va="center", fontsize=12)


def _column(ax: "Axes", x: float, rows: list[tuple[float, str, str]], width: float) -> None:
    for (y, text, colour), following in zip(rows, [*rows[1:], None], strict=True):
        _box(ax, (x, y), text, colour, width)
        if following:
            _arrow(ax, (x, y + _height(text) / 2), (x, following[0] - _height(following[1]) / 2))


def _bypass(ax: "Axes", start: float, end: float) -> None:
    """The residual connection, around the left of what it skips."""
    ax.plot([5, -0.6, -0.6], [start, start, end], color="0.25", lw=1.1, clip_on=False)
    _arrow(ax, (-0.6, end), (4.72, end))
