"""Drawings of series: the system behind them, the splits, their text, and its windows."""

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2lib.model import SEMICOLON_ID, text_to_ids
from m2lib.series import FORECAST_STEPS, VARIABLES, SeriesSet, encode, to_integers
from m2lib.series.data import Split
from m2lib.series.equations import predator_prey
from m2lib.training import make_windows
from study import plots
from study.paper.drawings.model import TRAINED
from study.plots import COLOURS, WIDTH


def phase_plane(ax: Axes, system: np.ndarray, course: np.ndarray) -> None:
    """Draw a predator-prey system in the plane of prey and predators.

    The flow of its equations is grey. On the blue parabola the prey neither grow nor shrink, and a
    triangle marks its top; on the orange line the predators neither grow nor shrink. The course of
    one series, from its dot on, is dark.

    system : the six parameters in the order of `RECIPE`; what comes after them is not used.
    course : (steps, 2), in physical units.
    """
    parameters = system[:6]
    growth, attack, mortality, handling, conversion, capacity = parameters
    most_prey, most_predators = (1.1 * course.max(axis=0)).tolist()
    prey = np.linspace(0, most_prey, 200)
    predators = np.linspace(0, most_predators, 200)
    grid = np.stack(np.broadcast_arrays(prey, predators[:, None]))  # (2, predators, prey)
    prey_rates, predator_rates = predator_prey(0, grid, *parameters)
    ax.streamplot(
        prey, predators, prey_rates, predator_rates, color="0.82", density=0.7, linewidth=0.7
    )

    def parabola(x: np.ndarray) -> np.ndarray:
        return growth / attack * (1 - x / capacity) * (1 + handling * x)

    blue = COLOURS["prey"]
    ax.plot(prey, parabola(prey), color=blue, lw=1.6, label="prey neither grow nor shrink")
    top = (capacity - 1 / handling) / 2
    if top > 0:
        ax.plot(top, parabola(top), "v", color=blue, ms=9, label="top of the parabola")
    predator_nullcline = mortality / (conversion * attack - mortality * handling)
    ax.axvline(
        predator_nullcline,
        color=COLOURS["predator"],
        lw=1.6,
        label="predators neither grow nor shrink",
    )
    ax.plot(*course.T, color="0.25", lw=1, label="one series, from its dot on")
    ax.plot(*course[0], "o", color="0.25", ms=5)
    ax.set(xlim=(0, most_prey), ylim=(0, most_predators))
    ax.set(xlabel="prey (physical units)", ylabel="predators (physical units)")


def splits(split: Split) -> Figure:
    """Draw who reads which split: what goes from one to the next, and that nothing comes back."""
    uses = {
        "train": "learned from",
        "validation": "settings are\nchosen on these",
        "test": "opened last:\nnothing is chosen here",
    }
    # where an arrow begins and ends, its height, and what it carries
    moves = (
        (0.2, 0.68, 0.1, "trained models"),
        (0.68, 0.2, -0.15, "settings"),
        (1.32, 1.64, 0, "the choice"),
    )
    box = {"boxstyle": "round", "fc": "0.95", "ec": "0.35"}
    arrow = {"arrowstyle": "-|>", "color": "0.25"}
    figure, ax = plt.subplots(figsize=(9, 2.6))
    for x, (name, use) in enumerate(uses.items()):
        count = len(getattr(split, name))
        ax.text(x, 1, f"{name} split\n{count} series", ha="center", va="center", bbox=box)
        ax.text(x, 0, use, ha="center", va="center", bbox=box)
        ax.annotate("", (x, 0.3), (x, 0.72), arrowprops=arrow)
    for begin, end, y, label in moves:
        ax.annotate("", (end, y), (begin, y), arrowprops=arrow)
        ax.text((begin + end) / 2, y + 0.04, label, ha="center")
    ax.set(xlim=(-0.4, 2.4), ylim=(-0.4, 1.35))
    ax.axis("off")
    return figure


def encoding(data: SeriesSet, shown: Sequence[int]) -> Figure:
    """Draw figure 3: what the codec makes of the first two steps of each series, in a table."""
    heads = (
        "step, variable",
        "value",
        "÷ scale × 10",
        "2 decimals",
        "written",
        "tokens",
        "Qwen's ids",
        "reduced",
    )
    figure, axes = plt.subplots(len(shown), figsize=(WIDTH, 1.45 * len(shown)))
    for ax, series in zip(axes, shown, strict=True):
        scale = float(data.scales[series])
        rows = _encoded_rows(data.trajectories[series, :2], scale)
        table = ax.table(
            rows, colLabels=heads, bbox=(0, 0, 1, 1), cellLoc="right", edges="horizontal"
        )
        table.auto_set_font_size(False)
        table.set_fontsize(9.5)
        table.auto_set_column_width(range(len(heads)))
        ax.set_title(f"series {series}: scale {scale:.4f}", loc="left")
        ax.axis("off")
    return figure


def _encoded_rows(values: np.ndarray, scale: float) -> list[list[str]]:
    """Return the row of each of some values (steps, 2): scaled, rounded, written and tokenised."""
    names = [f"{step}, {name}" for step in range(len(values)) for name in VARIABLES]
    integers = to_integers(values, scale).ravel()
    texts = re.findall(r"\d+[,;]", encode(values, scale))  # "337,348;" is "337," and "348;"
    rows = []
    for name, value, integer, text in zip(names, values.ravel(), integers, texts, strict=True):
        # Qwen's vocabulary begins with ASCII from "!" on, so that "3" is 51 - 33 = 18.
        qwen_ids = [str(ord(symbol) - 33) for symbol in text]
        ids = map(str, text_to_ids(text))
        row = [
            name,
            f"{value:.4f}",
            f"{value / scale * 10:.5f}",
            f"{integer / 100:.2f}",
            str(integer),
            " ".join(text),
            " ".join(qwen_ids),
            " ".join(ids),
        ]
        rows.append(row)
    return rows


def windows(series: SeriesSet, shown: int, length: int) -> Figure:
    """Draw a series over the tokens of its text, and below it the training windows cut from it."""
    values = series.trajectories[shown]
    scale = series.scales[shown]
    text = np.array(text_to_ids(encode(values, scale)))
    # A step begins at the first token, and after each semicolon but the last.
    semicolons = np.flatnonzero(text[:-1] == SEMICOLON_ID)
    starts = np.array([0, *(semicolons + 1)])

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(11, 4.6), sharex=True, height_ratios=(3, 2)
    )
    plots.plot_series(above, starts, to_integers(values, scale), lw=1.4)
    above.axvspan(starts[-FORECAST_STEPS], len(text), color="0.95", lw=0)
    above.set(ylabel="scaled units", title=f"series {shown}, cut into windows")
    above.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)

    # A text whose tokens are their own places, from 1 on because a pad is 0: its windows say where
    # they begin.
    places = list(range(1, len(text) + 1))
    for row, window in enumerate(make_windows([places], length)):
        start = window[0] - 1
        num_tokens = np.count_nonzero(window)
        num_pads = length - num_tokens
        below.barh(row, num_tokens, left=start, color=TRAINED, ec="0.35")
        below.barh(row, num_pads, left=start + num_tokens, color="white", ec="0.35", hatch="///")
        below.text(start + 6, row, f"from {start}", va="center", size="small")
    below.axvline(len(text), color="0.5", ls="--", lw=1)
    below.invert_yaxis()
    below.set(
        xlabel="token of the text (grey: the last 20 steps; hatched: pads)",
        ylabel=f"windows of {length}",
        yticks=[],
    )
    return figure


def one_system(worlds: Mapping[str, SeriesSet], shown: int) -> Figure:
    """Draw the same system in each of ten worlds, with the last 20 steps shaded."""
    figure, axes = plt.subplots(2, 5, figsize=(12, 4), sharex=True)
    for ax, (name, world) in zip(axes.flat, worlds.items(), strict=True):
        plots.plot_series(ax, np.arange(100), world.trajectories[shown], lw=1)
        ax.axvspan(80, 99, color="0.93", lw=0, zorder=0)
        ax.set(title=name, ylim=(0, None))
    plt.setp(axes[1], xlabel="step")
    plt.setp(axes[:, 0], ylabel="physical units")
    plots.legend_below(figure, axes.flat)
    return figure


def autocorrelation(ax: Axes, by_lag: np.ndarray, period: int | None) -> None:
    """Draw the autocorrelation of a series by lag, and mark the lag that is taken for its period.

    by_lag : (lags,). period : in steps; None if no period was found.
    """
    ax.plot(by_lag, color=COLOURS["prey"])
    ax.axhline(0, color="0.6", lw=1)
    if period is not None:
        ax.plot(period, by_lag[period], "o", color=COLOURS["error"])
        ax.text(period, by_lag[period] + 0.1, f"period: {period} steps", ha="center")
    ax.set(xlabel="lag (steps)", ylabel="autocorrelation", ylim=(-1, 1.1))
