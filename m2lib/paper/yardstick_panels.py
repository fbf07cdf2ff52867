"""All forecasters beside each other: accuracy against cost, and what other worlds do to it, from records alone."""

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from matplotlib.colors import LogNorm

from m2lib import study
from m2lib.accounting import Shape, forecast_flops, total
from m2lib.model import backbone_config
from m2lib.paper import plots
from m2lib.series import FITS, WORLDS, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHORT = {
    "last value, repeated": "last value",
    "mean of the context, repeated": "mean",
    "the last period, repeated": "last period",
    "nearest analogue in the context": "analogue",
    "log-VAR(3), fitted to the context": "log-VAR(3)",
    study.TUNED: "log-VAR(9)",
    "the system, fitted": "system fitted",
    "the system, fitted with the file's integrator": "fitted, file's integrator",
    "the language model, untuned": "LM untuned",
    "the language model, final adapter": "LM final",
    "the language model, best adapter": "LM best",
    "published: Qwen2.5-0.5B, untuned": "published, untuned",
    "published: Qwen2.5-0.5B, final adapter": "published, final",
}
"""Names for figures; other forecasters are called as they are."""
LEFT = -6, 0
OFFSETS = dict.fromkeys(("analogue", "last period", "LM untuned", "LM best"), LEFT)
OFFSETS |= {"LM final": (-6, -5), "AutoTheta": (-6, -12), "log-VAR(3)": (6, 5), "log-VAR(9)": (12, -2)}
"""Where names stand beside their points, in points of print, if there is no room on the right."""
MARKERS = {None: "o", "at least": ">", "at most": "<"}
NOTES = {None: "as counted", "at least": "at least", "at most": "at most"}


def short(forecaster: str) -> str:
    return SHORT.get(forecaster, forecaster)


def costs() -> dict[str, dict[str, Any]]:
    """Errors on test, and seconds of one core and executed FLOPs a series, by forecaster, published ones included.

    How long a published forecast took nobody has said. Its FLOPs are those of a prompt of 512 tokens and 220 new ones,
    with the keys and values kept.
    """
    found = {
        name: _errors(row["maes"]) | {"seconds": row["seconds"], "flops": row["flops"], "bound": row.get("bound")}
        for name, row in study.recorded_rows("test").items()
    }
    flops = total(forecast_flops(Shape.of(backbone_config("qwen2.5-0.5b")), 512, 220, convention="executed"))
    published = {"untuned": "untuned", "final": "final adapter"}
    return found | {
        f"published: Qwen2.5-0.5B, {words}": _errors(study.published_maes(name))
        | {"seconds": None, "flops": flops, "bound": None}
        for name, words in published.items()
    }


def worlds() -> dict[str, dict[str, dict[str, Any]]]:
    """Mean and median error of each forecaster in each world; those that all worlds have been forecast by."""
    rows = {world: study.recorded_yardsticks(world) for world in WORLDS}
    names = [name for name in next(iter(rows.values())) if all(name in found for found in rows.values())]
    return {world: {name: _errors(found[name]) for name in names} for world, found in rows.items()}


def yardstick_costs(_: study.Profile) -> "Figure":
    found = costs()
    fig, (seconds, flops) = plt.subplots(1, 2, figsize=(plots.WIDTH, 4.6), sharey=True)
    for name, row in found.items():
        if row["seconds"] is None:
            seconds.axhline(row["mean"], color=_colour(name), ls="--", lw=1)
            up = name.endswith("untuned")  # each where other names leave room
            style = {"size": "small", "ha": "right", "va": "bottom" if up else "top", "textcoords": "offset points"}
            seconds.annotate(short(name), (1e4, row["mean"]), xytext=(0, 2 if up else -2), **style)
        else:
            _point(seconds, row["seconds"], name, row, marker="o")
        _point(flops, max(1, row["flops"]), name, row, MARKERS[row["bound"]])
    seconds.set(xscale="log", yscale="log", xlabel="seconds of one core a series", ylabel="mean MAE (scaled units)")
    seconds.set(xlim=(2e-8, 1e4))
    flops.set(xscale="log", xlabel="executed FLOPs a series", xlim=(0.5, 1e14))
    powers = range(2, 15, 2)
    flops.set_xticks([1, *(10.0**power for power in powers)], ["0", *(f"$10^{{{power}}}$" for power in powers)])
    for ax in (seconds, flops):
        ax.minorticks_off()
        ax.yaxis.set_major_formatter("{x:g}")
    unknown = plt.Line2D([], [], color=plots.COLOURS["published"], ls="--", lw=1, label="time not published")
    seconds.legend(handles=[unknown], loc="lower left")
    handles = [plt.Line2D([], [], color="0.3", ls="", marker=MARKERS[key], label=NOTES[key]) for key in MARKERS]
    handles.append(plt.Line2D([], [], color="0.3", marker="_", lw=1, label="median"))
    flops.legend(handles=handles, loc="lower left")
    return fig


def changed_worlds(_: study.Profile) -> "Figure":
    found = worlds()
    names = list(next(iter(found.values())))
    means = np.array([[errors[name]["mean"] for name in names] for errors in found.values()])
    fig, ax = plt.subplots(figsize=(plots.WIDTH, 4.6))
    text = [
        [f"{_brief(errors[name]['mean'])}\n{_brief(errors[name]['median'])}" for name in names]
        for errors in found.values()
    ]
    sns.heatmap(
        means,
        ax=ax,
        norm=LogNorm(1, 1000),
        cmap="RdYlBu_r",
        annot=text,
        annot_kws={"size": "small"},
        fmt="",
        xticklabels=[short(name) for name in names],
        yticklabels=list(found),
        linewidths=1,
        cbar_kws={"label": "mean MAE (scaled units)", "format": "{x:g}", "pad": 0.01},
    )
    best = means.argmin(axis=1)
    for cell in ax.texts:
        column, row = (int(place) for place in cell.get_position())
        cell.set_weight("bold" if column == best[row] else "normal")
    ax.set_xticklabels(ax.get_xticklabels(), rotation=35, ha="right")
    ax.tick_params(length=0)
    return fig


FIGURES = (yardstick_costs, changed_worlds)


def _errors(maes: study.Maes) -> dict[str, Any]:
    summary = summarise(maes.values())
    return {"mean": summary.mean, "median": summary.median}


def _brief(error: float) -> str:
    return f"{error:.0f}" if error >= 10 else f"{error:.1f}"


def _colour(name: str) -> str:
    if name.startswith("published"):
        return plots.COLOURS["published"]
    if name.startswith("the language model"):
        return plots.COLOURS["ours"]
    return plots.COLOURS["error" if name in FITS else "prey"]


def _point(ax: "Axes", x: float, name: str, row: dict[str, Any], marker: str) -> None:
    """A forecaster at its mean error, with a line down or up to its median."""
    ax.plot([x, x], [row["median"], row["mean"]], color=_colour(name), lw=1, alpha=0.6)
    ax.plot(x, row["median"], "_", color=_colour(name), ms=7)
    ax.plot(x, row["mean"], marker, color=_colour(name), ms=7)
    plots.name_point(ax, x, row["mean"], short(name), OFFSETS.get(short(name), (6, 0)))
