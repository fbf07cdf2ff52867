"""One plot style, the report's plot types, and the one way a figure is saved."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.ticker import LogLocator, NullFormatter

from m2lib.files import write_atomic
from m2lib.series import CONTEXT_STEPS, VARIABLES, best_and_worst
from m2lib.settings import out_dir

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from m2lib.study import Record

# Okabe & Ito's palette, which colour-blind readers can tell apart.
COLOURS = {"prey": "#0072B2", "predator": "#E69F00", "error": "#C1272D", "ours": "#009E73", "published": "#7F7F7F"}
# Where FLOPs go, from what grows with the model to what grows with the text, and the rest; colours as above.
FLOP_GROUPS = {
    "MLP": (("mlp",), "#0072B2"),
    "projections (q, k, v, output)": (("qkv", "output"), "#56B4E9"),
    "attention (scores, mask, softmax, values)": (("scores", "mask", "softmax", "values"), "#E69F00"),
    "LoRA": (("lora",), "#009E73"),
    "embedding, norms, positions, residuals, head": (("embedding", "norms", "rope", "residuals", "head"), "#7F7F7F"),
}
MODEL_TIME = "time (model units)"
WIDTH = 7.6
"""Inches. A figure of this width, printed across a page of report/main.pdf, has no text below 7 pt."""


def use_style() -> None:
    """Set the project's plot style for this Python process."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85)
    plt.rcParams.update(
        {
            "figure.dpi": 100,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "legend.frameon": False,
        }
    )


def save_figure(figure: "Figure", name: str, folder: Path | None = None, kind: str = "png") -> Path:
    """Write a figure as `<name>.<kind>`, whole or not at all, and return the path.

    folder: default build/figures. kind: `png` (200 dpi), or `svg`, whose bytes are the same for the same figure.
    """
    buffer = io.BytesIO()
    with plt.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            buffer, format=kind, dpi=200, bbox_inches="tight", metadata={"Date": None} if kind == "svg" else None
        )
    content = buffer.getvalue()
    # Clip paths are named by a hash of coordinates whose last bits, the layout solver's, differ from run to run.
    for number, clip in enumerate(re.findall(rb'<clipPath id="(\w+)"', content)):
        content = content.replace(clip, b"clip%d" % number)
    path = (folder or out_dir() / "figures") / f"{name}.{kind}"
    write_atomic(path, content)
    return path


def plot_series(ax: "Axes", time: np.ndarray, values: np.ndarray, **line: Any) -> None:
    """Both variables of one series: time (steps,), values (steps, 2); `line` goes to matplotlib's plot."""
    for variable, name in enumerate(VARIABLES):
        ax.plot(time, values[:, variable], color=COLOURS[name], label=name, **line)


def plot_forecast(ax: "Axes", time: np.ndarray, series: np.ndarray, forecast: np.ndarray, title: str) -> None:
    """Context and truth solid, forecast dotted, the difference between them filled red.

    time (100,); series (100, 2) and forecast (20, 2) in the same units.
    """
    ax.axvspan(float(time[CONTEXT_STEPS]), float(time[-1]), color="0.95", lw=0)
    plot_series(ax, time, series, lw=1.4)
    ahead = time[CONTEXT_STEPS:]
    for variable, name in enumerate(VARIABLES):
        truth = series[CONTEXT_STEPS:, variable]
        ax.fill_between(ahead, truth, forecast[:, variable], color=COLOURS["error"], alpha=0.3, lw=0)
        ax.plot(ahead, forecast[:, variable], ":", color=COLOURS[name], lw=2.2)
    ax.set_title(title)
    ax.margins(x=0)


def forecast_legend(figure: "Figure") -> None:
    """The legend that goes with `plot_forecast`, once for all its axes, below them."""
    handles = [plt.Line2D([], [], color=COLOURS[name], label=f"{name}, context and truth") for name in VARIABLES]
    handles += [
        plt.Line2D([], [], color="0.3", ls=":", lw=2.2, label="forecast"),
        plt.Rectangle((0, 0), 1, 1, color=COLOURS["error"], alpha=0.3, lw=0, label="difference"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)


def plot_fan(
    ax: "Axes",
    time: np.ndarray,
    past: np.ndarray,
    ahead: np.ndarray,
    quantiles: dict[float, np.ndarray],
    truth: np.ndarray | None = None,
    colour: str = COLOURS["ours"],
) -> None:
    """A fan chart of one variable: its past and, where it is known, its true course; bands of quantiles; the median.

    time and past (steps,); ahead, each of the quantiles, and truth (horizon,). The quantiles are given by level, each
    level t with its partner 1 - t: 0.1 and 0.9 make the 80% band.
    """
    ax.plot(time, past, color="0.25", lw=1.2, label="past and truth" if truth is not None else "past")
    levels = sorted(quantiles)
    pairs = list(zip(levels, levels[::-1], strict=True))[: len(levels) // 2]  # from the widest band to the narrowest
    for (low, high), shade in zip(pairs, sns.light_palette(colour, len(pairs) + 2)[1:-1], strict=True):
        label = f"{100 * (high - low):.0f}% band"
        ax.fill_between(ahead, quantiles[low], quantiles[high], color=shade, lw=0, label=label)
    if len(levels) % 2:  # the middle one has no partner
        middle = levels[len(levels) // 2]
        label = "median" if middle == 0.5 else f"quantile {middle:g}"
        ax.plot(ahead, quantiles[middle], color=colour, lw=1.8, label=label)
    if truth is not None:
        ax.plot([time[-1], *ahead], [past[-1], *truth], color="0.25", lw=1.2)
    ax.margins(x=0)


def name_point(ax: "Axes", x: float, y: float, name: str, offset: tuple[float, float] = (6, 0)) -> None:
    """Write a name beside a point, over the lines that it crosses. offset: in points; below 0, to the left or down."""
    ax.annotate(
        name,
        (x, y),
        xytext=offset,
        textcoords="offset points",
        ha="right" if offset[0] < 0 else "left",
        va="center",
        size="small",
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )


def error_groups(maes: dict[int, float], worst: int = 20) -> dict[str, list[float]]:
    """Per-series errors in the report's three groups: all, the best, and the `worst` worst."""
    best, bad = best_and_worst(maes, min(worst, len(maes) - 1))
    parts = {f"all {len(maes)}": list(maes), f"best {len(best)}": best}
    if bad:
        parts[f"worst {len(bad)}"] = bad
    return {label: [maes[series] for series in ids] for label, ids in parts.items()}


def plot_error_groups(ax: "Axes", groups: dict[str, list[float]], title: str, colour: str, values: bool = True) -> None:
    """Per-series MAE of each group as dots, with its quartile box, median line and mean diamond.

    values: write mean and median beside each group's name. The axis is logarithmic above 1 and linear below, since an
    error can be 0.
    """
    rng = np.random.default_rng(0)  # spreads the dots, so that equal errors do not hide each other
    for row, errors in enumerate(groups.values()):
        errors = np.asarray(errors)
        ax.scatter(errors, row + rng.uniform(-0.22, 0.22, len(errors)), s=10, color=colour, alpha=0.55, lw=0)
        ax.boxplot(
            errors,
            positions=[row],
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            medianprops={"color": "black", "lw": 1.8},
        )
        ax.plot(errors.mean(), row, "D", color="black", ms=4)
    summaries = [f": mean {np.mean(e):.1f}, median {np.median(e):.1f}" * values for e in groups.values()]
    labels = [label + summary for label, summary in zip(groups, summaries, strict=True)]
    ax.set_yticks(range(len(groups)), labels)
    ax.invert_yaxis()
    ax.set_xscale("symlog", linthresh=1)
    largest = max(max(errors) for errors in groups.values())
    ax.set_xlim(0, max(1.3 * largest, ax.get_xlim()[1]))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("MAE (scaled units; diamond: mean)")
    ax.set_title(title)


def plot_learning(loss_ax: "Axes", mae_ax: "Axes", result: "Record") -> None:
    """The training of a recorded run: its losses (20-step mean, and on validation windows), and the MAE on the way."""
    losses = np.asarray(result.loss_curve)
    window = min(20, len(losses))
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    loss_ax.plot(
        np.arange(window, len(losses) + 1), smooth, color=COLOURS["prey"], label=f"training ({window}-step mean)"
    )
    steps = [entry["step"] for entry in result.evaluations]
    loss_ax.plot(steps, [e["loss"] for e in result.evaluations], "o-", color=COLOURS["predator"], label="validation")
    loss_ax.set(xlabel="optimiser step", ylabel="loss (nats per token)")
    forecast = [entry for entry in result.evaluations if "mae_mean" in entry]  # not every profile forecasts on the way
    for key, marker, colour in (("mae_mean", "D", COLOURS["error"]), ("mae_median", "o", COLOURS["ours"])):
        at, values = [entry["step"] for entry in forecast], [entry[key] for entry in forecast]
        mae_ax.plot(at, values, f"{marker}-", color=colour, label=key.removeprefix("mae_"))
    mae_ax.set(xlabel="optimiser step", ylabel="forecast MAE (scaled units)", yscale="log")
    mae_ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    mae_ax.yaxis.set_major_formatter("{x:g}")
    mae_ax.yaxis.set_minor_formatter(NullFormatter())
    for ax in (loss_ax, mae_ax):
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)  # above the curves, which fill the axes


def plot_before_after(
    ax: "Axes", before: dict[int, float], after: dict[int, float], title: str, colour: str = COLOURS["ours"]
) -> None:
    """Per-series MAE before (x) and after (y) training; below the diagonal a series is forecast better than before."""
    ids = sorted(before.keys() & after.keys())
    x, y = ([errors[i] for i in ids] for errors in (before, after))
    ax.scatter(x, y, s=22, color=colour, alpha=0.7, lw=0)
    largest = 1.3 * max(*x, *y)
    ax.axline((0, 0), (1, 1), color="0.4", lw=1)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_yscale("symlog", linthresh=1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    ax.set(xlim=(0, largest), ylim=(0, largest), title=title, aspect="equal")
    ax.set_xlabel("MAE untuned (scaled units)")
    ax.set_ylabel("MAE tuned (scaled units)")


def plot_flop_shares(ax: "Axes", breakdowns: dict[str, dict[str, int]]) -> None:
    """One horizontal bar for each breakdown of FLOPs: which share of it each group of components has."""
    left = np.zeros(len(breakdowns))
    totals = np.array([sum(breakdown.values()) for breakdown in breakdowns.values()], dtype=float)
    for label, (parts, colour) in FLOP_GROUPS.items():
        shares = np.array([sum(breakdown[part] for part in parts) for breakdown in breakdowns.values()]) / totals
        ax.barh(range(len(breakdowns)), shares, left=left, color=colour, label=label, height=0.6)
        for row, share in enumerate(shares):
            if share > 0.04:
                ax.text(
                    left[row] + share / 2, row, f"{share:.0%}", ha="center", va="center", color="white", size="small"
                )
        left += shares
    ax.set_yticks(
        range(len(breakdowns)), [f"{label}\n{flops:.3g} FLOPs" for label, flops in zip(breakdowns, totals, strict=True)]
    )
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the FLOPs")
    ax.xaxis.set_major_formatter("{x:.0%}")


def plot_flops_by_length(ax: "Axes", breakdowns: dict[int, dict[str, int]], title: str) -> None:
    """FLOPs a token against the number of tokens, stacked by group: breakdowns by number of tokens."""
    lengths = np.array(list(breakdowns))
    stacked = [
        [sum(breakdown[part] for part in parts) / length for length, breakdown in breakdowns.items()]
        for parts, _ in FLOP_GROUPS.values()
    ]
    ax.stackplot(lengths, stacked, labels=FLOP_GROUPS, colors=[colour for _, colour in FLOP_GROUPS.values()])
    ax.set(xlabel="tokens in the sequence", ylabel="FLOPs per token", title=title)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter("{x:g}")
    ax.margins(x=0)


def plot_budget(ax: "Axes", tables: dict[str, dict[str, tuple[int, int]]], limit: int) -> None:
    """For each label one bar of FLOPs against the limit: its rows' training stacked, and all forecasts together."""
    colours = sns.color_palette("colorblind", 10)
    rows = list(next(iter(tables.values())))
    left = np.zeros(len(tables))
    parts = [(f"{row}, training", [table[row][0] for table in tables.values()]) for row in rows]
    parts.append(("all forecasts", [sum(forecasts for _, forecasts in table.values()) for table in tables.values()]))
    for i, (label, flops) in enumerate(part for part in parts if any(part[1])):
        ax.barh(range(len(tables)), flops, left=left, color=colours[i], label=label, height=0.55)
        left += flops
    ax.axvline(limit, color=COLOURS["error"], lw=1.5)
    ax.text(limit, -0.5, "the budget ", color=COLOURS["error"], ha="right", va="center")
    ax.set_yticks(range(len(tables)), [f"{label}\n{flops:.3g}" for label, flops in zip(tables, left, strict=True)])
    ax.invert_yaxis()
    ax.set_xlabel("FLOPs")
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.28), ncols=3)


def plot_growth(axes: Sequence["Axes"], growth: dict[str, dict[str, float]]) -> None:
    """Three axes: seconds per forecast against context length, series decoded together, and samples of one series."""
    labels = {
        "context": "context length (tokens)",
        "batch": "series decoded together",
        "samples": "samples of one series",
    }
    for ax, (what, label) in zip(axes, labels.items(), strict=True):
        sizes = [int(size) for size in growth[what]]
        ax.plot(sizes, list(growth[what].values()), "o-", color=COLOURS["ours"])
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.set(xlabel=label, ylabel="seconds per series", ylim=(0, None))


def plot_curves(ax: "Axes", curves: dict[str, list[float]]) -> None:
    """Training losses (nats a token) of several runs over their steps."""
    styles = (("ours", "-", 2.5), ("error", "--", 1.2), ("prey", ":", 1.2))  # so that equal curves can be told apart
    for (label, losses), (colour, line, width) in zip(curves.items(), styles, strict=False):
        ax.plot(range(1, len(losses) + 1), losses, line, color=COLOURS[colour], label=label, lw=width)
    ax.set(xlabel="optimiser step", ylabel="loss (nats per token)")
    ax.legend()
