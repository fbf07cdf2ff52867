"""The figures of the paper, drawn from records and published numbers alone.

Each public function draws one figure of a profile: what the report shows, of any profile that has
its records, and what goes beyond the report, of the laptop's.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import study
from m2lib.accounting import CONVENTIONS
from study import Profile, Record, plots
from study.paper import drawings, errors, numbers
from study.paper.errors import finished_record, recorded_runs
from study.plots import COLOURS, WIDTH

_QWEN = "published: Qwen2.5-0.5B"
_BEST = "#0072B2"  # the colour of the long run
# Forecasts that learn from no other series: their names in figures and their line styles.
_WITHOUT_TRAINING = {
    "nearest analogue in the context": ("nearest analogue", "--"),
    study.TUNED: ("regression", "-."),
    "the system, fitted": ("fitted system", ":"),
}


def fig3_encoding(_: Profile) -> Figure:
    """Draw how two series are encoded."""
    return drawings.encoding(errors.data(), (1, 2))


def fig4_baseline_forecasts(profile: Profile) -> Figure:
    """Draw forecasts of the untuned model."""
    record = finished_record(profile, "baseline")
    featured = study.EXPERIMENTS["baseline"].featured
    return drawings.forecasts({_row_title("untuned", record): record}, featured)


def fig5_baseline_errors(profile: Profile) -> Figure:
    """Draw the errors of the untuned model: published, replicated, and ours in two protocols."""
    runs = recorded_runs(profile, "baseline", "baseline-constrained")
    replication = study.REPLICATION["report"]
    replicated = recorded_runs(replication, "baseline")
    maes_by_title = {
        _QWEN: runs["published", "baseline"],
        f"replication: {replication.backbone}": replicated["ours", "baseline"],
        f"{profile.backbone}, the report's protocol": runs["ours", "baseline"],
        f"{profile.backbone}, with a grammar": runs["ours", "baseline-constrained"],
    }
    panels = {}
    for title, maes in maes_by_title.items():
        panels[title] = plots.error_groups(maes)
    return _error_panels(panels)


def fig6_forecasts(profile: Profile) -> Figure:
    """Draw forecasts before and after the first adapter's training."""
    untuned = finished_record(profile, "baseline")
    tuned = finished_record(profile, "default")
    return _forecasts_before_and_after(untuned, "tuned", tuned)


def fig7_reduced_validation(profile: Profile) -> Figure:
    """Draw the errors before and after the first adapter's training, beside the report's."""
    runs = recorded_runs(profile, "baseline", "default")
    panels = {}
    for side in _sides(profile):
        tuned = runs[side.who, "default"]
        untuned = runs[side.who, "baseline"][tuned.index]
        steps = study.trained_with("default", side.profile).steps
        panels[f"{side.title}; {steps:,} steps"] = {"untuned": untuned, "tuned": tuned}
    return _error_panels(panels)


def fig8_search(profile: Profile) -> Figure:
    """Draw the errors of the search's first round, beside the report's."""
    runs = recorded_runs(profile, *study.SEARCH)
    return _setting_panels(profile, runs, study.SEARCH, study.SEARCH[0])


def context_lengths(profile: Profile) -> Figure:
    """Draw the errors with contexts of three lengths, beside the report's."""
    runs = recorded_runs(profile, *study.CONTEXTS)
    return _setting_panels(profile, runs, study.CONTEXTS, "context/512")


def fig9_final(profile: Profile) -> Figure:
    """Draw the errors on test before and after the final training, beside the report's."""
    records = errors.records_on_test(profile)
    runs = errors.runs(errors.error_table(records))
    name_of_untuned, _ = records  # the names of the two records, in their order
    runs["ours", "untuned"] = runs["ours", name_of_untuned]
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 4.5), height_ratios=(5, 1.6), sharex=True)
    for (scatter, box), side in zip(axes.T, _sides(profile), strict=True):
        before = runs[side.who, "untuned"]
        after = runs[side.who, "final"]
        colour = COLOURS[side.who]
        plots.plot_before_after(scatter, before, after, side.title, colour)
        plots.plot_errors(box, {"untuned": before, "final": after}, "", colour)
    for ax in axes[0]:
        ax.set_ylim(ax.get_xlim())
        ax.tick_params(labelbottom=True)
    return figure


def final_forecasts(profile: Profile) -> Figure:
    """Draw forecasts on test before and after the final training."""
    untuned = errors.untuned_like_final(profile)
    return _forecasts_before_and_after(untuned, "final", finished_record(profile, "final"))


def best_forecasts(profile: Profile) -> Figure:
    """Draw forecasts on test before and after the long run."""
    untuned = errors.untuned_like_final(profile)
    return _forecasts_before_and_after(
        untuned, "with the adapter", finished_record(profile, "best")
    )


def final_learning(profile: Profile) -> Figure:
    """Draw how the loss and the errors fell in the final training."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.6))
    record = finished_record(profile, "final")
    plots.plot_learning(left, right, record.loss_curve, record.evaluations)
    return figure


def rival(profile: Profile) -> Figure:
    """Draw the mean error against the number of series learned from, on both splits.

    The lines join means over seeds, and a bar the best and the worst seed.
    """
    points = _errors_by_count(profile)
    looks = ((COLOURS["ours"], "o"), (_BEST, "D"))
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharey=True)
    for ax, (split, points_of_split) in zip(axes, points.groupby("split", sort=False), strict=True):
        for (who, seeds), (colour, marker) in zip(
            points_of_split.groupby("learner", sort=False), looks, strict=True
        ):
            # Not by seaborn, which averages logarithms where an axis is logarithmic.
            of_seeds = seeds.groupby("series")["mean"]
            means = of_seeds.mean()
            bars = (means - of_seeds.min(), of_seeds.max() - means)
            ax.errorbar(means.index, means, bars, fmt=f"{marker}-", color=colour, ms=5, label=who)
        for name, (label, style) in _WITHOUT_TRAINING.items():
            level = np.mean([*study.recorded_yardsticks(split)[name].values()])
            ax.axhline(level, ls=style, color="0.4", lw=1, label=label)
        ax.set(xscale="log", yscale="log", xlabel="series learned from", title=f"{split} series")
        ax.minorticks_off()
        counts = sorted(points["series"].unique())
        ax.set_xticks(counts, [f"{count:,}" for count in counts])
        ax.set_yticks((1, 2, 5, 10, 20, 50, 100, 200), (1, 2, 5, 10, 20, 50, 100, 200))
    axes[0].set_ylabel("mean MAE (scaled units)")
    plots.legend_below(figure, axes[:1])
    return figure


def _errors_by_count(profile: Profile) -> pd.DataFrame:
    """Return `split`, `learner`, `series` (how many it learned from) and `mean` error.

    There is one row for each seed.
    """
    rows: list[tuple[str, str, int, float]] = []
    for count, row in numbers.networks(profile).items():
        for split, means in row["single"].items():
            rows += [(split, "the small network", int(count), mean) for mean in means]
    for count, row in numbers.few_series(profile).items():
        by_seed = [tested["validation"] for tested in row["test"]] or [row["validation"]["mean"]]
        rows += [("validation", "the language model", int(count), mean) for mean in by_seed]
        for tested in row["test"]:
            rows.append(("test", "the language model", int(count), tested["mean"]))
    for split in ("validation", "test"):
        recorded = study.recorded_yardsticks(split)
        for learned_from, name in ((900, numbers.FINAL_MODEL), (5152, numbers.LONG_RUN)):
            mean = float(np.mean([*recorded[name].values()]))
            rows.append((split, "the language model", learned_from, mean))
    return pd.DataFrame(rows, columns=("split", "learner", "series", "mean"))


def table3_budget(_: Profile) -> Figure:
    """Draw the FLOPs that the report's experiments spent, in percent of the budget.

    Each row begins where the last one ended.
    """
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.6), sharex=True, sharey=True)
    for ax, kind in zip(axes, CONVENTIONS, strict=True):
        rows = study.table_3(numbers.report_shape(), kind)
        costs = pd.DataFrame(rows, ["training", "forecasts"]).T
        shares = 100 * costs / study.PROFILES["report"].budget
        cumulative_shares = shares.sum(axis=1).cumsum()
        shares.plot.barh(
            ax=ax,
            left=cumulative_shares.shift(fill_value=0),
            xlabel="spent so far\n(% of the budget)",
            stacked=True,
            width=0.8,
            legend=False,
            color=[COLOURS["prey"], COLOURS["predator"]],
        )
        # Where a row ends, a line leads down to the next.
        ends = cumulative_shares[:-1]
        rows_above = np.arange(len(ends))
        ax.vlines(ends, rows_above, rows_above + 1, color="0.5", lw=1)
        ax.axvline(100, color=COLOURS["error"], label="the budget")
        ax.set(
            xlim=(0, 150),
            ylim=(len(cumulative_shares) - 0.4, -0.6),
            title=f"{kind}: {cumulative_shares.iloc[-1]:.1f}%",
        )
    plots.legend_below(figure, axes[:1])
    return figure


def _row_title(title: str, record: Record) -> str:
    """Return the title of a row of forecasts, which names the replication if they are its."""
    return f"replication, {title}" if study.PROFILES[record.profile].as_reported else title


@dataclass(frozen=True)
class _Side:
    """The runs of one study, where ours or the replication's stand beside the report's."""

    who: str
    """`ours` or `published`, as in the table of errors."""
    title: str
    """Whose they are, in a figure's words."""
    profile: Profile
    """What says how they were trained."""


def _sides(profile: Profile) -> tuple[_Side, _Side]:
    """Return the runs of a profile, and the report's."""
    whose = "replication" if profile.as_reported else "ours"
    ours = _Side("ours", f"{whose}: {profile.backbone}", profile)
    return ours, _Side("published", _QWEN, study.PROFILES["report"])


def _error_panels(panels: dict[str, dict[str, pd.Series]]) -> Figure:
    """Draw groups of errors by title, one below the other, with means and medians in words."""
    rows = sum(len(groups) for groups in panels.values())
    height = 0.34 * rows + 0.35 * len(panels) + 0.4
    figure, axes = plt.subplots(len(panels), figsize=(WIDTH, height), sharex=True)
    for ax, (title, groups) in zip(axes, panels.items(), strict=True):
        named = {}
        for name, maes in groups.items():
            statistics = f"mean {np.mean(maes):.1f}, median {np.median(maes):.1f}"
            named[f"{name}: {statistics}"] = maes
        colour = COLOURS["published" if title.startswith(_QWEN) else "ours"]
        plots.plot_errors(ax, named, title, colour)
        ax.label_outer()
    return figure


def _setting_panels(
    profile: Profile, runs: errors.Runs, names: tuple[str, ...], reference: str
) -> Figure:
    """Draw errors at several settings beside the published ones.

    The series are those that one of the settings, `reference`, was asked about.
    """
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 1 + 0.3 * len(names)), sharex=True)
    for ax, side in zip(axes, _sides(profile), strict=True):
        same_series = runs[side.who, reference].index
        settings = {}
        for name in names:
            settings[errors.label(name, side.profile)] = runs[side.who, name][same_series]
        plots.plot_settings(ax, pd.DataFrame(settings), side.title, COLOURS[side.who])
    return figure


def _forecasts_before_and_after(untuned: Record, title: str, tuned: Record) -> Figure:
    """Draw the forecasts of three series, before and after a training.

    They are those at the first quartile, the median and the maximum of the tuned model's errors.
    """
    series_ids = errors.quartile_median_worst(tuned.maes())
    records = {_row_title("untuned", untuned): untuned, _row_title(title, tuned): tuned}
    return drawings.forecasts(records, series_ids)
