"""One plot style, the plots that notebooks and paper share, and the one way to save them."""

import base64
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from m2lib.files import write_atomic
from m2lib.series import VARIABLES, best_and_worst
from study.settings import out_dir

# Okabe & Ito's palette, which colour-blind readers can tell apart.
COLOURS = {
    "prey": "#0072B2",
    "predator": "#E69F00",
    "error": "#C1272D",
    "ours": "#009E73",
    "published": "#7F7F7F",
    "training": "#4D4D4D",
    "validation": "#9467BD",
}
MODEL_TIME = "time (model units)"
WIDTH = 7.6
"""Inches. A figure of this width, printed across a page of report/main.pdf, has no text below 7
pt."""


def use_style() -> None:
    """Set the project's plot style for this Python process."""
    rc_params = {
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "axes.titlesize": "medium",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "axes.formatter.min_exponent": 4,  # 1000 and not ten to the third
    }
    sns.set_theme(context="notebook", style="ticks", font_scale=0.85, rc=rc_params)


def save_figure(figure: Figure, name: str, folder: Path | None = None, kind: str = "png") -> Path:
    """Write a figure as `<name>.<kind>`, whole or not at all, and return the path.

    By default `folder` is figures/ in the folder of `M2_OUT`. `kind` is `png`, which has 200 dpi,
    or `svg`, whose bytes are the same for the same figure.
    """
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    with plt.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format=kind, dpi=200, bbox_inches="tight", metadata=metadata)
    content = buffer.getvalue()
    # Clip paths are named by a hash of coordinates whose last bits, the layout solver's, differ
    # from run to run.
    for number, clip in enumerate(re.findall(rb'<clipPath id="(\w+)"', content)):
        content = content.replace(clip, b"clip%d" % number)
    path = (folder or out_dir() / "figures") / f"{name}.{kind}"
    write_atomic(path, content)
    return path


def moving(draw: Callable[[Any], Figure], values: Sequence[Any], name: str, text: str) -> Any:
    """Make a slider that shows one picture for each value.

    It needs no kernel and no network. Where a page runs no scripts, it shows the first picture.

    Parameters
    ----------
    draw : callable
        Makes the figure of one value. Figures are closed once they are drawn.
    values : sequence
        What `draw` is called with, in the slider's order.
    name : str
        What the slider changes; it stands before it.
    text : str
        The alternative text of all pictures.

    Returns
    -------
    IPython.display.HTML
        The slider and its pictures, which a notebook shows.
    """
    from IPython.display import HTML  # of a notebook, where alone there are sliders

    frames = []
    for value in values:
        figure = draw(value)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=70)
        plt.close(figure)
        content = base64.b64encode(buffer.getvalue()).decode()
        frames.append(f"data:image/png;base64,{content}")
    move = "this.nextElementSibling.src = this.dataset.frames.split(' ')[this.value]"
    slider = f'<input type="range" value="0" max="{len(frames) - 1}" '
    slider += f'data-frames="{" ".join(frames)}" oninput="{move}">'
    picture = f'<img src="{frames[0]}" alt="{text}" style="display: block; max-width: 100%">'
    return HTML(f"<label>{name} {slider}{picture}</label>")


def plot_series(ax: Axes, time: np.ndarray, values: np.ndarray, **line: Any) -> None:
    """Draw both variables of one series: time (steps,), values (steps, 2).

    `line` goes to matplotlib's plot.
    """
    for variable, name in enumerate(VARIABLES):
        ax.plot(time, values[:, variable], color=COLOURS[name], label=name, **line)


def plot_forecast(
    ax: Axes, time: np.ndarray, series: np.ndarray, forecast: np.ndarray, title: str
) -> None:
    """Draw context and truth solid, the forecast dotted, and the difference of the two filled red.

    time (steps,); series (steps, 2), whose last steps are the forecast's, and forecast (horizon, 2)
    in the same units.
    """
    forecast_time = time[-len(forecast) :]
    ax.axvspan(float(forecast_time[0]), float(forecast_time[-1]), color="0.95", lw=0)
    plot_series(ax, time, series, lw=1.4)
    truths = series[-len(forecast) :]
    for name, truth, values in zip(VARIABLES, truths.T, forecast.T, strict=True):
        ax.fill_between(
            forecast_time,
            truth,
            values,
            color=COLOURS["error"],
            alpha=0.3,
            lw=0,
            label="difference",
        )
        ax.plot(forecast_time, values, ":", color=COLOURS[name], lw=2.2, label=f"{name}, forecast")
    ax.set_title(title)
    ax.margins(x=0)


def forecast_legend(figure: Figure) -> None:
    """Draw the legend that goes with `plot_forecast`, once for all its axes, below them."""
    legend_below(figure, figure.axes[-1:])


def legend_below(figure: Figure, axes: Iterable[Axes]) -> None:
    """Draw one legend of what several axes show, below them, with one entry for each name.

    Six entries or fewer stand in one row, more in three columns.
    """
    handle_by_label: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        handle_by_label |= dict(zip(labels, handles, strict=True))
    figure.legend(
        handle_by_label.values(),
        handle_by_label,
        loc="outside lower center",
        ncols=len(handle_by_label) if len(handle_by_label) <= 6 else 3,
    )


def plot_fan(
    ax: Axes,
    time: np.ndarray,
    past: np.ndarray,
    ahead: np.ndarray,
    quantiles: dict[float, np.ndarray],
    truth: np.ndarray | None = None,
    colour: str = COLOURS["ours"],
) -> None:
    """Draw a fan chart of one variable: its past, bands of quantiles, and the median.

    Where the true course is known, it is drawn as well. time and past (steps,); ahead, each of the
    quantiles, and truth (horizon,). The quantiles are given by level, each level t with its partner
    1 - t: 0.1 and 0.9 make the 80% band.
    """
    label = "past" if truth is None else "past and truth"
    ax.plot(time, past, color="0.25", lw=1.2, label=label)
    levels = sorted(quantiles)
    half = len(levels) // 2
    shades = sns.light_palette(colour, half + 2)[1:-1]
    # from the widest band to the narrowest
    for low, high, shade in zip(levels, levels[::-1], shades, strict=False):
        label = f"{100 * (high - low):.0f}% band"
        ax.fill_between(ahead, quantiles[low], quantiles[high], color=shade, lw=0, label=label)
    if len(levels) % 2:  # the middle one has no partner
        middle = levels[half]
        label = "median" if middle == 0.5 else f"quantile {middle:g}"
        ax.plot(ahead, quantiles[middle], color=colour, lw=1.8, label=label)
    if truth is not None:
        # It begins at the last step of the past, so that there is no gap between the two.
        truth_time = [time[-1], *ahead]
        truth_values = [past[-1], *truth]
        ax.plot(truth_time, truth_values, color="0.25", lw=1.2)
    ax.margins(x=0)


def error_groups(maes: pd.Series | dict[int, float]) -> dict[str, list[float]]:
    """Return the errors in the report's three groups: all, the best, and the worst two fifths.

    Of the report's 50 series the worst are 20.
    """
    errors = pd.Series(maes).to_dict()
    best, worst = best_and_worst(errors)
    ids_by_label = {
        f"all {len(errors)}": best + worst,
        f"best {len(best)}": best,
        f"worst {len(worst)}": worst,
    }
    groups = {}
    for label, ids in ids_by_label.items():
        groups[label] = [errors[series] for series in ids]
    return groups


def plot_errors(ax: Axes, groups: dict[str, Sequence[float]], title: str, colour: str) -> None:
    """Draw each group's MAE by series as dots, with quartile box, median line and mean diamond.

    The axis is logarithmic above 1 and linear below, since an error can be 0.
    """
    rng = np.random.default_rng(0)  # spreads the dots, so that equal errors do not hide each other
    for row, maes in enumerate(groups.values()):
        ax.scatter(
            maes, row + rng.uniform(-0.22, 0.22, len(maes)), s=10, color=colour, alpha=0.55, lw=0
        )
    ax.boxplot(
        list(groups.values()),
        positions=range(len(groups)),
        tick_labels=list(groups),
        orientation="horizontal",
        widths=0.6,
        showfliers=False,
        medianprops={"color": "black", "lw": 1.8},
        showmeans=True,
        meanprops={"marker": "D", "mfc": "black", "mec": "black", "ms": 4},
    )
    ax.set_xscale("symlog", linthresh=1)
    # Axes that share their limits keep the widest.
    largest = max(max(maes) for maes in groups.values())
    _, right_so_far = ax.get_xlim()
    ax.set_xlim(0, max(1.3 * largest, right_so_far))
    ax.set(title=title, xlabel="MAE (scaled units; diamond: mean)")
    ax.invert_yaxis()


def plot_settings(ax: Axes, table: pd.DataFrame, title: str, colour: str) -> None:
    """Draw the MAE of the same series (rows) at several settings (columns).

    There is a dot for each series, and a mark for each mean and median.
    """
    rows = range(len(table.columns))
    ax.semilogx(table.T, rows, "o", color=colour, ms=4, alpha=0.6)
    ax.plot(table.mean(), rows, "D", color="black", ms=5)
    ax.plot(table.median(), rows, "|", color="black", ms=14, mew=2)
    ax.set_yticks(rows, table.columns)
    ax.xaxis.set_major_locator(LogLocator(numticks=4))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set(
        title=title,
        xlabel="MAE (scaled units)\ndot: a series, diamond: mean,\nbar: median",
        ylim=(len(rows) - 0.5, -0.5),
    )


def plot_before_after(
    ax: Axes,
    before: dict[int, float],
    after: dict[int, float],
    title: str,
    colour: str = COLOURS["ours"],
) -> None:
    """Draw the MAE of each series before (x) and after (y) training.

    A series below the diagonal is forecast better than before.
    """
    table = pd.DataFrame({"before": before, "after": after}).dropna()
    ax.scatter(table["before"], table["after"], s=22, color=colour, alpha=0.7, lw=0)
    ax.axline((0, 0), (1, 1), color="0.4", lw=1)
    ax.set_xscale("symlog", linthresh=1)
    ax.set_yscale("symlog", linthresh=1)
    largest = 1.3 * table.max(axis=None)
    ax.set(xlim=(0, largest), ylim=(0, largest), title=title, aspect="equal")
    ax.set(xlabel="MAE untuned (scaled units)", ylabel="MAE tuned (scaled units)")


def plot_learning(
    loss_ax: Axes, mae_ax: Axes, losses: list[float], evaluations: list[dict[str, float]]
) -> None:
    """Draw a training: losses (20-step means, and on validation windows), and the MAE on the way.

    losses: nats a token, one for each step. evaluations: each has its `step` and the validation
    `loss`, and where there were forecasts on the way their `mae_mean` and `mae_median`, scaled
    units.
    """
    smooth = pd.Series(losses, range(1, len(losses) + 1)).rolling(20).mean()
    loss_ax.plot(smooth, color=COLOURS["training"], label="training (20-step mean)")
    table = pd.DataFrame(evaluations).set_index("step")
    loss_ax.plot(table["loss"], "o-", color=COLOURS["validation"], label="validation")
    # Not every profile forecasts on the way.
    maes = table.reindex(columns=["mae_mean", "mae_median"]).dropna()
    for name, marker, colour in (("mean", "D", "error"), ("median", "o", "ours")):
        mae_ax.plot(maes[f"mae_{name}"], f"{marker}-", color=COLOURS[colour], label=name)
    mae_ax.set_yscale("log")
    mae_ax.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
    plt.setp(mae_ax.yaxis, major_formatter="{x:g}", minor_formatter="{x:g}")
    for ax, what in ((loss_ax, "loss (nats per token)"), (mae_ax, "forecast MAE (scaled units)")):
        ax.set(xlabel="optimiser step", ylabel=what)
        # above the curves, which fill the axes
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
