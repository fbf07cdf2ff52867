"""The report's drawings: architecture, LoRA layer and encoding, from a config or the codec itself;
and forecasts."""

import re
from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from m2lib import plots
from m2lib.accounting import Shape
from m2lib.model import SEMICOLON_ID, SYMBOLS, text_to_ids
from m2lib.plots import WIDTH
from m2lib.series import FORECAST_STEPS, VARIABLES, SeriesSet, encode, to_integers
from m2lib.training import make_windows
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
    errors: Mapping[int, float],
    yardsticks: Mapping[str, float],
) -> Figure:
    """Draw how the loss falls in a training, and with it the mean error of forecasts.

    losses: of each step's series, in nats a token. watched: the loss on other series, by training
    step. errors: the mean error of forecasts in scaled units, by training step. yardsticks: the
    mean errors of forecasts without a model, by name.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.4))
    steps = np.arange(1, len(losses) + 1)
    left.plot(steps, losses, ".", color="0.6", label="the step's own series")
    left.plot(*_line(watched), "o-", color=plots.COLOURS["predator"], label="watched series")
    left.set(xlabel="training step", ylabel="loss (nats a token)")
    left.legend()
    right.plot(*_line(errors), "o-", color=plots.COLOURS["ours"], label="the model")
    styles = ("--", ":", "-.", (0, (1, 3)))
    for (name, error), style in zip(yardsticks.items(), styles, strict=False):
        right.axhline(error, color="0.35", ls=style, lw=1.2, label=name)
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    right.set(xlabel="training step", ylabel="mean error (scaled units)", ylim=(0, None))
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
