"""The report's drawings, made from a model's config or the codec itself: architecture, LoRA layer, encoding steps."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from transformers import PretrainedConfig

from m2lib.model import text_to_ids
from m2lib.paper.plots import WIDTH
from m2lib.series import VARIABLES, encode, to_integers

FROZEN, TRAINED = "#D6E6F2", "#FBE3B5"


def architecture(config: PretrainedConfig, vocabulary: int, name: str) -> Figure:
    """Figure 1: the model, one transformer block and its MLP, with the shapes of `config`; vocabulary: its tokens."""
    d, hidden = config.hidden_size, config.intermediate_size
    h, kv = config.num_attention_heads, config.num_key_value_heads
    c = getattr(config, "head_dim", None) or d // h
    bias = "\n+ bias" if config.model_type == "qwen2" or getattr(config, "attention_bias", False) else ""
    blocks, norm = f"{config.num_hidden_layers} × transformer block\n{d} → {d}", f"RMSNorm\n{d}"
    head = f"LM head {d} → {vocabulary:,}\n+ trained bias"
    parts = {"query + LoRA": h, "key": kv, "value + LoRA": kv}
    inputs = [f"{part}\n{d} → {n}·{c}{bias}" for part, n in parts.items()]
    attention = f"causal attention\n{h} query heads share {kv} key-value heads"
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(WIDTH, 5.4), width_ratios=(1.9, 3.8, 2.2))
    _flow(left, "model", [["token ids"], [f"embedding\n{vocabulary:,} × {d}"], [blocks], [norm], [head], ["logits"]])
    lower = ("x",), (norm,), inputs, ("RoPE", "RoPE", None), (attention,), (f"output\n{h}·{c} → {d}",)
    drawn = _flow(middle, "transformer block", (*lower, ("+",), (norm,), (f"MLP\n{d} → {d}",), ("+ ",)))
    _arrow(middle, drawn["x"], drawn["+"], aside=-0.6)
    _arrow(middle, drawn["+"], drawn["+ "], aside=-0.9)
    gates = [f"gate\n{d} → {hidden}", f"up\n{d} → {hidden}"]
    _flow(right, "MLP", [["x"], gates, ["SiLU", None], ["× (multiplied)"], [f"down\n{hidden} → {d}"]])
    figure.suptitle(f"{name}: features per token; blue is frozen, amber holds trained parameters", fontsize=9.5)
    return figure


def lora_layer(d_in: int, d_out: int, rank: int, alpha: float) -> Figure:
    """Figure 2: a frozen linear layer with its low-rank adapter, y = W x + (alpha / r) B A x."""
    frozen, scale = f"W, frozen\n{d_in} → {d_out}", f"× α/r = {alpha / rank:g}"
    trained = f"A, LoRA\n{d_in} → {rank}", f"B, LoRA, starts at 0\n{rank} → {d_out}"
    figure, ax = plt.subplots(figsize=(5.8, 3.4))
    title = f"A LoRA layer: {rank * (d_in + d_out):,} trained parameters beside {d_in * d_out:,} frozen ones"
    _flow(ax, title, [[f"x: {d_in}"], [frozen, trained[0]], [None, trained[1]], [None, scale], ["+"], [f"y: {d_out}"]])
    return figure


def encoding(values: np.ndarray, scale: float, title: str) -> Figure:
    """Figure 3: the codec at work on values (steps, 2) in physical units: scaled, rounded, written, tokenised."""
    rows = []
    for step, (value, integers) in enumerate(zip(values, to_integers(values, scale), strict=True)):
        texts = encode(value[None], scale).replace(",", ", ").split()  # 337, 348;
        for name, x, integer, text in zip(VARIABLES, value, integers, texts, strict=True):
            scaled, ids = f"{x / scale * 10:.5f}", " ".join(map(str, text_to_ids(text)))
            rows.append([f"{step}, {name}", f"{x:.4f}", scaled, f"{integer / 100:.2f}", integer, " ".join(text), ids])
    heads = ["step, variable", "value", f"÷ {scale:.4f} × 10", "2 decimals", "written", "tokens", "token ids"]
    figure, ax = plt.subplots(figsize=(WIDTH, 0.5 + 0.27 * len(rows)))
    table = ax.table(rows, colLabels=heads, bbox=(0, 0, 1, 1), cellLoc="right", edges="horizontal")
    table.set_fontsize(9.5)
    table.auto_set_column_width(range(len(heads)))
    ax.set_title(title, loc="left")
    ax.axis("off")
    return figure


def _flow(ax: Axes, title: str, rows: Sequence[Sequence[str | None]]) -> dict[str, Text]:
    """Boxes in rows from the bottom up, each with an arrow from those below: of its column, or all, where one is alone.

    None: nothing there, and the arrow goes through. What names LoRA or is trained is amber.
    """
    drawn: dict[str, Text] = {}
    below: list[Text] = []
    for y, row in enumerate(rows):
        boxes: list[Text] = []
        for column, text in enumerate(row):
            if text is None:
                boxes.append(below[column])
                continue
            colour = TRAINED if "LoRA" in text or "trained" in text else FROZEN if "\n" in text else "#F2F2F2"
            style = {"boxstyle": "round", "fc": colour, "ec": "0.35", "lw": 0.9}
            x = column - (len(row) - 1) / 2
            drawn[text] = ax.text(x, y, text, ha="center", va="center", size=8.8, bbox=style)
            boxes.append(drawn[text])
            for start in below if len(row) != len(below) else below[column : column + 1]:
                _arrow(ax, start, drawn[text])
        below = boxes
    wide = max(map(len, rows)) / 2
    ax.set(title=title, xlim=(-wide, wide), ylim=(-0.4, len(rows) - 0.6))
    ax.axis("off")
    return drawn


def _arrow(ax: Axes, start: Text, end: Text, aside: float = 0) -> None:
    """From the edge of a box to that of another; aside: how far it goes round, in its own lengths."""
    line = {"arrowstyle": "-|>", "color": "0.25", "lw": 1.1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 10}
    line |= {
        "patchA": start.get_bbox_patch(),
        "patchB": end.get_bbox_patch(),
        "connectionstyle": f"bar,fraction={aside}",
    }
    ax.annotate("", end.get_position(), start.get_position(), arrowprops=line)
