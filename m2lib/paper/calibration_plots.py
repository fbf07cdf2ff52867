"""Plot types for forecasts that say how sure they are: what their bands hold, where the truth ranks, whom to trust."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import PercentFormatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours as in `plots`, markers for those who cannot tell them apart.
LOOKS = {"untuned": ("#7F7F7F", "s"), "final": ("#009E73", "o"), "best": ("#0072B2", "D"), "log-VAR": ("#E69F00", "^")}


def look_of(name: str) -> tuple[str, str]:
    """Colour and marker of a forecaster, by how its name begins."""
    return next((look for begin, look in LOOKS.items() if name.startswith(begin)), ("0.25", "o"))


def plot_reliability(ax: "Axes", held: dict[str, dict[float, float]], samples: int) -> None:
    """Of each forecaster the share of true values that its bands hold, against the share that they should hold.

    held: shares by level, by the forecaster's name. samples: how many the bands are of; a few right ones lie too close
    together (of m a band of level t holds t (m - 1) / (m + 1) on average), which is the dashed line.
    """
    ax.plot([0, 1], [0, 1], color="0.4", lw=1)
    ax.plot([0, 1], [0, (samples - 1) / (samples + 1)], "--", color="0.4", lw=1, label=f"{samples} right samples")
    for name, shares in held.items():
        colour, marker = look_of(name)
        ax.plot(list(shares), list(shares.values()), f"{marker}-", color=colour, ms=5, label=name.split(",")[0])
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="level of the band", ylabel="true values that it holds", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.legend(loc="lower right")


def plot_ranks(ax: "Axes", ranks: np.ndarray, samples: int, name: str) -> None:
    """Histogram of the rank of the truth, 0 to `samples`, among the samples; right samples fill it evenly."""
    bins = max(count for count in range(1, 14) if (samples + 1) % count == 0)  # 49 ranks: 7 bins of 7
    shares = np.bincount(np.ravel(ranks) * bins // (samples + 1), minlength=bins) / np.size(ranks)
    ax.bar(np.arange(bins) + 0.5, shares, width=0.94, color=look_of(name)[0])
    ax.axhline(1 / bins, color="0.25", lw=1, ls="--")
    ax.set_xticks([0, bins], ["below all", "above all"], fontsize="small")
    below, above = ax.get_xticklabels()
    below.set_horizontalalignment("left")
    above.set_horizontalalignment("right")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(title=name, xlim=(0, bins), xlabel="rank of the truth", ylabel="true values")


def plot_trust(ax: "Axes", spreads: np.ndarray, errors: np.ndarray, name: str) -> None:
    """Error against spread, a dot a series, both (series,) in scaled units; on the line they are equal."""
    colour, marker = look_of(name)
    spreads, errors = (np.maximum(values, 0.1) for values in (spreads, errors))  # a logarithmic axis has no 0
    ax.scatter(spreads, errors, s=22, marker=marker, color=colour, alpha=0.7, lw=0)
    ax.axline((1, 1), (2, 2), color="0.4", lw=1)
    low, high = 0.7 * min(spreads.min(), errors.min()), 1.4 * max(spreads.max(), errors.max())
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal", title=name)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    ax.set(xlabel="spread of the samples\n(scaled units)", ylabel="MAE of their median\n(scaled units)")


def plot_risk(ax: "Axes", spreads: dict[str, np.ndarray], errors: dict[str, np.ndarray]) -> None:
    """Of each forecaster the mean error of the series that it is surest of, against how many of them are kept.

    spreads and errors (series,), by the forecaster's name. Dashed: if it knew its errors in advance.
    """
    for name in spreads:
        colour, _ = look_of(name)
        for order, style in ((spreads[name], "-"), (errors[name], "--")):
            kept = risk_curve(order, errors[name])
            ax.plot(
                np.arange(1, len(kept) + 1) / len(kept),
                kept,
                style,
                color=colour,
                label=name.split(",")[0] * (style == "-"),
            )
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel="series kept, the surest first", ylabel="their mean MAE (scaled units)", xlim=(0, 1), ylim=(0, None))
    ax.legend(loc="upper left")


def risk_curve(order: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """The mean error of the first 1, 2, ... series, (series,), when they are sorted by `order`."""
    return np.cumsum(errors[np.argsort(order, kind="stable")]) / np.arange(1, len(errors) + 1)


def plot_counts(ax: "Axes", curves: dict[str, dict[int, float]], greedy: dict[str, float]) -> None:
    """The error of the median of n samples against n, by the forecaster's name; dashed, its greedy forecast's."""
    for name, errors in curves.items():
        colour, marker = look_of(name)
        ax.plot(list(errors), list(errors.values()), f"{marker}-", color=colour, ms=5, label=f"{name}, median")
        ax.axhline(greedy[name], ls="--", color=colour, lw=1.2, label=f"{name}, greedy")
    counts = sorted({count for errors in curves.values() for count in errors})
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [str(count) for count in counts])
    ax.minorticks_off()
    ax.set(xlabel="samples", ylabel="mean MAE (scaled units)", ylim=(0, None))
    ax.legend(loc="center", ncols=2)  # between the curves
