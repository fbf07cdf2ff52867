"""The figures of the paper, drawn from records and published numbers alone.

Each public function draws one figure of a profile: what the report shows, of any profile that has
its records, and what goes beyond the report, of the laptop's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

import study
from m2lib.accounting import CONVENTIONS
from m2lib.series import VARIABLES, crps_fair, ranks, series_mae
from study import Profile, Record, plots
from study.paper import drawings, errors, numbers, samples
from study.paper.errors import finished_record, recorded_runs
from study.paper.samples import LOG_VAR, Sampled, median_mae
from study.paper.scaling import milestones, power_law
from study.plots import COLOURS, WIDTH

_QWEN = "published: Qwen2.5-0.5B"
_BEST = "#0072B2"  # the colour of the long run
# By who draws samples: a colour as in `plots`, and a marker for readers who see no colours.
_LOOKS = {
    "untuned": ("#7F7F7F", "s"),
    "final": (COLOURS["ours"], "o"),
    "best": (_BEST, "D"),
    LOG_VAR: ("#E69F00", "^"),
}
# By forecaster in changed worlds; who also draws samples looks as above.
_IN_WORLDS = {
    "context mean": ("#7F7F7F", "|"),
    "analogue": ("#CC79A7", "s"),
    errors.short(study.TUNED): _LOOKS[LOG_VAR],
    "system fitted": (COLOURS["error"], "X"),
    "LM final": _LOOKS["final"],
    "LM best": _LOOKS["best"],
    "LM general": ("#56B4E9", "P"),
}
# What is drawn with a mark of its own against training FLOPs: the two trials that say what
# pretraining is worth, and the final run.
_KINDS = {
    "trial/small": "small model, random weights",
    "trial/shuffled": "shuffled weights",
    "final": "final, on test",
}
# How each kind is drawn: a colour, which is a run's own in all figures, and a marker.
_KIND_LOOKS = {
    "the long run, on its way": (_BEST, "o"),
    "the long run, its end": (_BEST, "D"),
    "trials of 240 steps": ("#56B4E9", "s"),
    "shuffled weights": ("#D55E00", "P"),
    "small model, random weights": ("#CC79A7", "v"),
    "final, on test": (COLOURS["ours"], "X"),
    "published final, on test": (COLOURS["published"], "^"),
}
# What is drawn against training FLOPs.
_MEASURED = {
    "loss": "validation loss (nats a token)",
    "mean": "mean MAE (scaled units)",
    "median": "median MAE (scaled units)",
}
# The line styles of forecasts without a language model.
_LINE_STYLES = {
    "mean of the context, repeated": ":",
    "nearest analogue in the context": "--",
    study.TUNED: "-",
}
# Forecasts that learn from no other series: their names in figures and their line styles.
_WITHOUT_TRAINING = {
    "nearest analogue in the context": ("nearest analogue", "--"),
    study.TUNED: ("regression", "-."),
    "the system, fitted": ("fitted system", ":"),
}


def fig1_architecture(_: Profile) -> Figure:
    """Draw the report's model."""
    return drawings.architecture(numbers.report_shape(), "Qwen2.5-0.5B-Instruct, reduced")


def fig2_lora_layer(_: Profile) -> Figure:
    """Draw a LoRA layer of the report's model."""
    return drawings.lora_layer(numbers.report_shape().width, rank=2)


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


def fig8_second(profile: Profile) -> Figure:
    """Draw the errors of the search's second round, beside the report's."""
    runs = recorded_runs(profile, *study.BEST_THREE, *study.SECOND)
    return _setting_panels(profile, runs, study.BEST_THREE, study.BEST_THREE[0])


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


def fan_charts(profile: Profile) -> Figure:
    """Draw an easy, a typical and the worst series by CRPS: a column each, a row a variable."""
    sampled = samples.sampled(profile)
    crps = sampled.by_series(crps_fair, sampled.shown).sort_values(kind="stable")
    places = [len(crps) // 5, len(crps) // 2, -1]  # among the series, by ascending CRPS
    easy_typical_worst = crps.index[places]
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 3.8), sharex=True)
    for column, series in zip(axes.T, easy_typical_worst, strict=True):
        _draw_fans(column, sampled, series)
        column[0].set_title(f"series {series}: CRPS {crps[series]:.1f}")
        column[-1].set_xlabel(plots.MODEL_TIME)
    for ax, name, corner in zip(axes[:, 0], VARIABLES, ("upper", "lower"), strict=True):
        ax.set_ylabel(f"{name} (scaled units)")
        figure.legend(*ax.get_legend_handles_labels(), loc=f"outside right {corner}")
    return figure


def _draw_fans(column: Sequence[Axes], sampled: Sampled, series: int) -> None:
    """Draw the last 30 steps of a series' context, and its fan: one axes for each variable."""
    time = errors.data().time
    levels = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
    row = sampled.ids.index(series)
    quantiles = np.quantile(sampled.samples[sampled.shown][row], levels, axis=0)  # (7, 20, 2)
    for variable, name in enumerate(VARIABLES):
        past = sampled.contexts[row, 50:, variable]
        truth = sampled.truths[row, :, variable]
        bands = dict(zip(levels, quantiles[..., variable], strict=True))
        past_time = time[50:80]
        time_ahead = time[80:]
        plots.plot_fan(column[variable], past_time, past, time_ahead, bands, truth, COLOURS[name])


def reliability(profile: Profile) -> Figure:
    """Draw what the bands hold, and where the truth ranks among the samples of each forecaster.

    The bands of m right samples lie a little too far in: one of level t holds t (m - 1) / (m + 1)
    on average.
    """
    sampled = samples.sampled(profile)
    m = sampled.samples[sampled.shown].shape[1]
    layout = [["bands", "untuned", "final"], ["bands", "best", LOG_VAR]]
    figure, axes = plt.subplot_mosaic(layout, figsize=(WIDTH, 3.7), width_ratios=(2.1, 1, 1))
    bands = axes.pop("bands")
    held_on_average = (m - 1) / (m + 1)
    bands.plot([0, 1], [0, 1], color="0.4", lw=1)
    bands.plot([0, 1], [0, held_on_average], "--", color="0.4", lw=1, label=f"{m} right samples")
    for who, ax in axes.items():
        colour, marker = _LOOKS[who]
        held = sampled.held(who, np.arange(1, 20) / 20)
        bands.plot(
            held.keys(), held.values(), f"{marker}-", color=colour, ms=5, label=errors.short(who)
        )
        _draw_ranks(ax, sampled, who)
    histograms = list(axes.values())
    tallest = max(ax.get_ylim()[1] for ax in histograms)
    plt.setp(histograms, ylim=(0, tallest))
    bands.set(
        xlabel="level of the band",
        ylabel="true values that it holds",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
    )
    bands.legend(loc="lower right")
    shares = [bands.xaxis, bands.yaxis]
    shares += [ax.yaxis for ax in histograms]
    plt.setp(shares, major_formatter="{x:.0%}")
    return figure


def _draw_ranks(ax: Axes, sampled: Sampled, who: str) -> None:
    """Draw the ranks of the truth among a forecaster's samples, in 7 bins.

    Beside 48 samples there are 49 ranks, so a bin has 7 of them.
    """
    by_sample = np.moveaxis(sampled.samples[who], 1, 0)  # (m, n, 20, 2)
    truth_ranks = ranks(by_sample, sampled.truths, np.random.default_rng(0)).ravel()
    colour, _ = _LOOKS[who]
    ax.hist(
        truth_ranks,
        bins=7,
        range=(-0.5, len(by_sample) + 0.5),
        weights=np.full(len(truth_ranks), 1 / len(truth_ranks)),
        color=colour,
        rwidth=0.94,
    )
    ax.axhline(1 / 7, color="0.25", lw=1, ls="--")
    ax.set(title=errors.short(who), xlabel="rank of the truth", ylabel="true values")


def trust(profile: Profile) -> Figure:
    """Draw whether the spread predicts the error: series by series, and for the surest of them.

    The spread is the mean distance of a sample from the samples' median. If the samples are right,
    it is the MAE that this median may be expected to have. Solid lines keep the series of the
    smallest spreads. Dashed ones keep those of the smallest errors, which no forecaster can know:
    no order can do better.
    """
    sampled = samples.sampled(profile)
    figure, (ours, log_var, means, medians) = plt.subplots(
        1, 4, figsize=(WIDTH, 2.6), width_ratios=(1.3, 1.3, 1, 1)
    )
    for ax, who in ((ours, sampled.shown), (log_var, LOG_VAR)):
        spread_and_error = pd.DataFrame(
            {
                "spread": sampled.by_series(_spread, who),
                "error": sampled.by_series(median_mae, who),
            }
        )
        _draw_spread(ax, spread_and_error, who)
        for order, style in (("spread", "-"), ("error", "--")):
            maes = spread_and_error.sort_values(order, kind="stable")["error"]
            surest = maes.expanding()  # the first, the first two, the first three ...
            kept_shares = np.arange(1, len(maes) + 1) / len(maes)
            colour, _ = _LOOKS[who]
            label = errors.short(who) if style == "-" else ""
            means.plot(kept_shares, surest.mean(), style, color=colour, label=label)
            medians.plot(kept_shares, surest.median(), style, color=colour)
    ours.set_ylabel("MAE of their median\n(scaled units)")
    for ax, statistic in ((means, "mean"), (medians, "median")):
        ax.set(
            xlabel="series kept,\nthe surest first",
            ylabel=f"their {statistic} MAE\n(scaled units)",
            xlim=(0, 1),
            ylim=(0, None),
        )
        ax.xaxis.set_major_formatter("{x:.0%}")
    plots.legend_below(figure, (means,))
    return figure


def _spread(samples: np.ndarray, _: np.ndarray) -> float:
    """Return the mean distance of samples (m, 20, 2) from their median."""
    return float(np.abs(samples - np.median(samples, axis=0)).mean())


def _draw_spread(ax: Axes, spread_and_error: pd.DataFrame, who: str) -> None:
    """Draw a point for each series at the spread of its samples and the error of their median."""
    colour, marker = _LOOKS[who]
    ax.loglog(
        "spread",
        "error",
        marker,
        data=spread_and_error.clip(lower=0.1),  # there is no logarithm of 0
        ms=4,
        mec="none",
        color=colour,
        alpha=0.7,
    )
    ax.axline((1, 1), (2, 2), color="0.4", lw=1)
    ax.set(xlim=(0.07, 500), ylim=(0.07, 500), aspect="equal", title=errors.short(who))
    ax.set_xlabel("spread of the samples\n(scaled units)")


def sample_counts(profile: Profile) -> Figure:
    """Draw the error of the median of n samples, averaged over 20 draws of these n.

    The greedy forecast's error is beside it.
    """
    sampled = samples.sampled(profile)
    counts = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
    figure, (means, medians) = plt.subplots(1, 2, figsize=(WIDTH, 2.4))
    for who in ("final", "best"):
        colour, marker = _LOOKS[who]
        maes = _maes_of_medians(sampled, who, counts)
        greedy = list(finished_record(profile, who).maes().values())
        for ax, statistic in ((means, np.mean), (medians, np.median)):
            by_count = statistic(maes, axis=2).mean(axis=1)
            label = f"{who}, median of samples"
            ax.semilogx(counts, by_count, f"{marker}-", base=2, color=colour, ms=5, label=label)
            ax.axhline(statistic(greedy), ls="--", color=colour, lw=1.2, label=f"{who}, greedy")
            ax.set(xlabel="samples", ylabel=f"{statistic.__name__} MAE (scaled units)")
            ax.set_xticks(counts, map(str, counts))
    plt.setp((means, medians), ylim=(0, None))
    plots.legend_below(figure, (means,))
    return figure


def _maes_of_medians(sampled: Sampled, who: str, counts: tuple[int, ...]) -> np.ndarray:
    """Return the MAE of the median of n of a forecaster's samples: (counts, draws, series)."""
    rng = np.random.default_rng(0)
    all_samples = sampled.samples[who]  # (n, m, 20, 2)
    maes = []
    for count in counts:
        by_draw = []
        for _ in range(20):
            places = rng.permutation(all_samples.shape[1])[:count]
            subset = all_samples[:, places]
            by_draw.append(series_mae(np.median(subset, axis=1), sampled.truths))
        maes.append(by_draw)
    return np.array(maes)


def more_per_flop(profile: Profile) -> Figure:
    """Draw validation loss, and mean and median MAE, against training FLOPs by the rules.

    The axis ends at about the budget.
    """
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.9))
    losses, means, medians = axes
    points = _trained_points(profile)
    colours = {kind: colour for kind, (colour, _) in _KIND_LOOKS.items()}
    markers = {kind: marker for kind, (_, marker) in _KIND_LOOKS.items()}
    for ax, (measure, title) in zip(axes, _MEASURED.items(), strict=True):
        sns.scatterplot(
            points,
            x="flops",
            y=measure,
            hue="kind",
            style="kind",
            palette=colours,
            markers=markers,
            s=45,
            ax=ax,
            legend=ax is means,
        )
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="training FLOPs\nby the rules",
            ylabel=title,
            xlim=(1e14, 2e17),
        )
        ax.minorticks_off()
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
    # The interval of the MAE's law is so wide that it says nothing.
    milestone_table = milestones(finished_record(profile, "best"))[:-1]
    flops = np.geomspace(milestone_table["flops"].min(), profile.budget)
    law = power_law(milestone_table["flops"], milestone_table["loss"], flops)
    colour = colours["the long run, on its way"]
    losses.fill_between(flops, *law["interval there"], color=colour, alpha=0.12, lw=0)
    losses.plot(flops, law["there"], "--", color=colour, lw=1, label="power law, 95%")
    runs = recorded_runs(profile)
    for ax, statistic in ((means, np.mean), (medians, np.median)):
        for name, style in _LINE_STYLES.items():
            level = statistic(runs["validation", name])
            ax.axhline(level, ls=style, color="0.4", lw=1, label=errors.short(name))
    means.legend_.remove()
    plots.legend_below(figure, (losses, means))
    return figure


def _trained_points(profile: Profile) -> pd.DataFrame:
    """Return what trainings came to: `kind`, `flops`, `loss`, `mean` and `median`."""
    milestone_table = milestones(finished_record(profile, "best"))
    milestone_table = milestone_table.rename(columns={"mae_mean": "mean", "mae_median": "median"})
    milestone_table["kind"] = "the long run, on its way"
    milestone_table.loc[milestone_table.index[-1], "kind"] = "the long run, its end"

    points = []
    trained_names = (study.START, *study.ARMS, "final")
    for name, record in errors.finished_records(profile, *trained_names).items():
        point = {
            "kind": _KINDS.get(name, "trials of 240 steps"),
            # The final run's loss is of other series than its errors.
            "loss": None if name == "final" else record.evaluations[-1]["loss"],
            "flops": record.flops["training"]["coursework"],
        }
        points.append(point | errors.summary(record.maes()))
    flops, _ = study.table_3(numbers.report_shape(), "coursework")["final"]
    published = {"kind": "published final, on test", "flops": flops}
    points.append(published | errors.summary(study.published_maes("final")))
    return pd.concat([milestone_table, pd.DataFrame(points)], ignore_index=True)


def rival(profile: Profile) -> Figure:
    """Draw the mean error against the number of series learned from, on both splits.

    The lines join means over seeds, and a bar the best and the worst seed.
    """
    points = _errors_by_count(profile)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.3), sharey=True)
    for ax, (split, points_of_split) in zip(axes, points.groupby("split", sort=False), strict=True):
        sns.lineplot(
            points_of_split,
            x="series",
            y="mean",
            hue="learner",
            style="learner",
            palette=[COLOURS["ours"], _BEST],
            markers=["o", "D"],
            dashes=False,
            err_style="bars",
            errorbar=("pi", 100),  # from the lowest to the highest
            ax=ax,
        )
        for name, (label, style) in _WITHOUT_TRAINING.items():
            level = np.mean([*study.recorded_yardsticks(split)[name].values()])
            ax.axhline(level, ls=style, color="0.4", lw=1, label=label)
        ax.set(xscale="log", yscale="log", xlabel="series learned from", title=f"{split} series")
        ax.minorticks_off()
        counts = sorted(points["series"].unique())
        ax.set_xticks(counts, [f"{count:,}" for count in counts])
        ax.set_yticks((1, 2, 5, 10, 20, 50, 100, 200), (1, 2, 5, 10, 20, 50, 100, 200))
        ax.legend_.remove()
    axes[0].set_ylabel("mean MAE (scaled units)")
    plots.legend_below(figure, axes[:1])
    return figure


def _errors_by_count(profile: Profile) -> pd.DataFrame:
    """Return `split`, `learner`, `series` (how many it learned from) and `mean` error.

    There is one row for each seed.
    """
    rows = []
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
        for count, name in ((900, numbers.FINAL_MODEL), (5152, numbers.LONG_RUN)):
            mean = np.mean([*recorded[name].values()])
            rows.append((split, "the language model", count, mean))
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


def yardstick_costs(_: Profile) -> Figure:
    """Draw the error on test, and the seconds and FLOPs of a forecast.

    There is a row for each forecaster, by mean error.
    """
    table = _errors_and_costs()
    names = table.index
    figure, (error, seconds, flops) = plt.subplots(1, 3, figsize=(WIDTH, 4.2), sharey=True)
    error.hlines(names, table["median"], table["mean"], color="0.7")
    error.plot(table["mean"], names, "D", color=COLOURS["error"], label="mean")
    error.plot(table["median"], names, "o", color=COLOURS["ours"], label="median")
    seconds.plot(table["seconds"], names, "s", color=COLOURS["prey"])
    for bound, marker in (("exactly", "s"), ("at least", ">"), ("at most", "<")):
        is_bound = table["bound"].fillna("exactly") == bound
        bound_flops = table["flops"].clip(lower=1).where(is_bound)
        flops.plot(bound_flops, names, marker, color=COLOURS["prey"], label=bound)
    error.set_xlabel("MAE (scaled units)")
    seconds.set_xlabel("seconds of one core\na series (none: unknown)")
    flops.set_xlabel("executed FLOPs\na series (1: none)")
    for ax in (error, seconds, flops):
        ax.set_xscale("log")
        ax.grid(axis="y", lw=0.5)
    error.invert_yaxis()
    plots.legend_below(figure, (error, flops))
    return figure


def _errors_and_costs() -> pd.DataFrame:
    """Return a row for each forecaster, the worst by mean error first."""
    maes = study.recorded_yardsticks("test")
    for name, run in numbers.PUBLISHED.items():
        maes[name] = study.published_maes(run)
    rows = {}
    for name, cost in numbers.yardstick_costs().items():
        rows[errors.short(name)] = cost | errors.summary(maes[name])
    return pd.DataFrame(rows).T.sort_values("mean", ascending=False)


def changed_worlds(_: Profile) -> Figure:
    """Draw the mean and median error of some forecasters, a row for each world."""
    table = errors.error_table({})
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.8), sharex=True, sharey=True)
    for ax, statistic in zip(axes, ("mean", "median"), strict=True):
        maes = errors.by_world(table, statistic).clip(lower=0.1)  # there is no logarithm of 0
        for name, (colour, marker) in _IN_WORLDS.items():
            ax.plot(
                maes[name], maes.index, marker, color=colour, mfc="none", mew=2, ms=7, label=name
            )
        ax.set(xscale="log", xlabel=f"{statistic} MAE (scaled units)")
        ax.grid(axis="y", color="0.9")
    axes[0].invert_yaxis()
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
