"""The figures of the paper, from records and published numbers alone: each public function draws
one of a profile.

What the report shows is drawn of any profile that has its records; what goes beyond the report, of
the laptop's.
"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

import study
from m2lib import plots
from m2lib.accounting import CONVENTIONS
from m2lib.plots import COLOURS, WIDTH
from m2lib.series import VARIABLES, best_and_worst, crps_fair, ranks, series_mae
from study import Profile, Record
from study.paper import drawings, errors, numbers
from study.paper.errors import LOG_VAR, START, finished_record, recorded_runs

_QWEN = "published: Qwen2.5-0.5B"
# Colours as in `plots`, and markers for those who cannot tell them apart, of who draws samples.
_LOOKS = {
    "untuned": ("#7F7F7F", "s"),
    "final": ("#009E73", "o"),
    "best": ("#0072B2", "D"),
    LOG_VAR: ("#E69F00", "^"),
}
# The same in changed worlds, beside forecasters without a language model.
_IN_WORLDS = {
    "context mean": ("#7F7F7F", "|"),
    "analogue": ("#CC79A7", "s"),
    "log-VAR(9)": _LOOKS[LOG_VAR],
}
_IN_WORLDS |= {
    "system fitted": (COLOURS["error"], "X"),
    "LM final": _LOOKS["final"],
    "LM best": _LOOKS["best"],
}
_IN_WORLDS |= {"LM general": ("#56B4E9", "P")}
# Trials that say what pretraining is worth.
_CONTROLS = {"trial/small": "small model, random weights", "trial/shuffled": "shuffled weights"}
_CONTROLS |= {"final": "final, on test"}
# What is drawn against training FLOPs, and the lines of forecasts without a language model.
_MEASURED = {
    "loss": "validation loss (nats a token)",
    **{of: f"{of} MAE (scaled units)" for of in ("mean", "median")},
}
_LEVELS = {
    "mean of the context, repeated": ":",
    "nearest analogue in the context": "--",
    study.TUNED: "-",
}


def fig1_architecture(_: Profile) -> Figure:
    return drawings.architecture(numbers.report_shape(), "Qwen2.5-0.5B-Instruct, reduced")


def fig2_lora_layer(_: Profile) -> Figure:
    return drawings.lora_layer(numbers.report_shape().width, rank=2)


def fig3_encoding(_: Profile) -> Figure:
    return drawings.encoding(errors.data(), (1, 2))


def fig4_baseline_forecasts(profile: Profile) -> Figure:
    record = finished_record(profile, "baseline")
    return drawings.forecasts(
        {_row("untuned", record): record}, study.EXPERIMENTS["baseline"].featured
    )


def fig5_baseline_errors(profile: Profile) -> Figure:
    runs = recorded_runs(profile, "baseline", "baseline-constrained")
    sibling = study.REPLICATION["report"]
    shown = {
        _QWEN: runs["published", "baseline"],
        f"replication: {sibling.backbone}": recorded_runs(sibling, "baseline")["ours", "baseline"],
        f"{profile.backbone}, the report's protocol": runs["ours", "baseline"],
        f"{profile.backbone}, with a grammar": runs["ours", "baseline-constrained"],
    }
    return _error_panels({title: plots.error_groups(maes) for title, maes in shown.items()})


def fig6_forecasts(profile: Profile) -> Figure:
    return _before_and_after(
        finished_record(profile, "baseline"), "tuned", finished_record(profile, "default")
    )


def fig7_reduced_validation(profile: Profile) -> Figure:
    runs = recorded_runs(profile, "baseline", "default")
    panels = {}
    for who, title, sizes in _sides(profile):
        tuned = runs[who, "default"]
        steps = study.trained_with("default", sizes).steps
        panels[f"{title}; {steps:,} steps"] = {
            "untuned": runs[who, "baseline"][tuned.index],
            "tuned": tuned,
        }
    return _error_panels(panels)


def fig8_search(profile: Profile) -> Figure:
    return _compared(profile, recorded_runs(profile, *study.SEARCH), study.SEARCH, study.SEARCH[0])


def fig8_second(profile: Profile) -> Figure:
    runs = recorded_runs(profile, *study.SEARCH, *study.SECOND)
    return _compared(profile, runs, study.SEARCH[6:], study.SEARCH[6])


def context_lengths(profile: Profile) -> Figure:
    return _compared(
        profile, recorded_runs(profile, *numbers.CONTEXTS), numbers.CONTEXTS, "context/512"
    )


def fig9_final(profile: Profile) -> Figure:
    records = errors.records_on_test(profile)
    runs = errors.runs(errors.error_table(records))
    untuned, _ = records
    runs["ours", "untuned"] = runs["ours", untuned]
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 4.5), height_ratios=(5, 1.6), sharex=True)
    for (scatter, box), (who, title, _) in zip(axes.T, _sides(profile), strict=True):
        pair = {name: runs[who, name] for name in ("untuned", "final")}
        plots.plot_before_after(scatter, pair["untuned"], pair["final"], title, COLOURS[who])
        plots.plot_errors(box, pair, "", COLOURS[who])
    for ax in axes[0]:
        ax.set_ylim(ax.get_xlim())
        ax.tick_params(labelbottom=True)
    return figure


def final_forecasts(profile: Profile) -> Figure:
    return _before_and_after(
        errors.untuned_like_final(profile), "final", finished_record(profile, "final")
    )


def best_forecasts(profile: Profile) -> Figure:
    return _before_and_after(
        errors.untuned_like_final(profile), "with the adapter", finished_record(profile, "best")
    )


def final_learning(profile: Profile) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.6))
    record = finished_record(profile, "final")
    plots.plot_learning(left, right, record.loss_curve, record.evaluations)
    return figure


def fan_charts(profile: Profile) -> Figure:
    """An easy, a typical and the worst series by CRPS: a column each, a row for each variable."""
    found = errors.sampled(profile)
    time = errors.data().time
    crps = found.by_series(crps_fair, found.shown).sort_values(kind="stable")
    levels = 0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 3.8), sharex=True)
    for column, i in zip(axes.T, crps.index[[len(crps) // 5, len(crps) // 2, -1]], strict=True):
        row = found.ids.index(i)
        quantiles = np.quantile(found.samples[found.shown][row], levels, axis=0)
        for variable, (ax, name) in enumerate(zip(column, VARIABLES, strict=True)):
            past = found.contexts[row, 50:, variable]
            truth = found.truths[row, :, variable]
            bands = dict(zip(levels, quantiles[..., variable], strict=True))
            plots.plot_fan(ax, time[50:80], past, time[80:], bands, truth, COLOURS[name])
        column[0].set_title(f"series {i}: CRPS {crps[i]:.1f}")
        column[-1].set_xlabel(plots.MODEL_TIME)
    for ax, name, corner in zip(axes[:, 0], VARIABLES, ("upper", "lower"), strict=True):
        ax.set_ylabel(f"{name} (scaled units)")
        figure.legend(*ax.get_legend_handles_labels(), loc=f"outside right {corner}")
    return figure


def reliability(profile: Profile) -> Figure:
    """What the bands hold, and where the truth ranks among the samples of each forecaster.

    The bands of m right samples lie a little too far in: one of level t holds t (m - 1) / (m + 1)
    on average.
    """
    found = errors.sampled(profile)
    m = found.samples[found.shown].shape[1]
    layout = [["bands", "untuned", "final"], ["bands", "best", LOG_VAR]]
    figure, axes = plt.subplot_mosaic(layout, figsize=(WIDTH, 3.7), width_ratios=(2.1, 1, 1))
    bands = axes.pop("bands")
    bands.plot([0, 1], [0, 1], color="0.4", lw=1)
    bands.plot([0, 1], [0, (m - 1) / (m + 1)], "--", color="0.4", lw=1, label=f"{m} right samples")
    for who, ax in axes.items():
        (colour, marker), samples = _LOOKS[who], np.moveaxis(found.samples[who], 1, 0)
        held = found.held(who, np.arange(1, 20) / 20)
        bands.plot(
            held.keys(), held.values(), f"{marker}-", color=colour, ms=5, label=errors.short(who)
        )
        drawn = ranks(samples, found.truths, np.random.default_rng(0)).ravel()
        # The 49 ranks of 48 samples make 7 bins of 7.
        ax.hist(
            drawn,
            7,
            (-0.5, m + 0.5),
            weights=np.full(len(drawn), 1 / len(drawn)),
            color=colour,
            rwidth=0.94,
        )
        ax.axhline(1 / 7, color="0.25", lw=1, ls="--")
        ax.set(title=errors.short(who), xlabel="rank of the truth", ylabel="true values")
    bands.set(
        xlabel="level of the band",
        ylabel="true values that it holds",
        xlim=(0, 1),
        ylim=(0, 1),
        aspect="equal",
    )
    bands.legend(loc="lower right")
    plt.setp(
        (bands.xaxis, bands.yaxis, *(ax.yaxis for ax in axes.values())), major_formatter="{x:.0%}"
    )
    return figure


def trust(profile: Profile) -> Figure:
    """Does the spread know about the error? Series by series, and for those that a forecaster is
    surest of.

    The spread is the mean distance of a sample from the median: where the samples are right, the
    median's MAE.
    """
    found = errors.sampled(profile)
    figure, (*scatter, means, medians) = plt.subplots(
        1, 4, figsize=(WIDTH, 2.6), width_ratios=(1.3, 1.3, 1, 1)
    )
    for ax, who in zip(scatter, (found.shown, LOG_VAR), strict=True):
        spread = found.by_series(
            lambda samples, _: np.abs(samples - np.median(samples, axis=0)).mean(), who
        )
        table = pd.DataFrame({"spread": spread, "error": found.by_series(errors.median_mae, who)})
        colour, marker = _LOOKS[who]
        # There is no logarithm of 0.
        ax.loglog(
            "spread",
            "error",
            marker,
            data=table.clip(lower=0.1),
            ms=4,
            mec="none",
            color=colour,
            alpha=0.7,
        )
        ax.axline((1, 1), (2, 2), color="0.4", lw=1)
        ax.set(xlim=(0.07, 500), ylim=(0.07, 500), aspect="equal", title=errors.short(who))
        ax.set(xlabel="spread of the samples\n(scaled units)")
        for order, style in (("spread", "-"), ("error", "--")):
            surest = table.sort_values(order, kind="stable")["error"].expanding()
            kept = np.arange(1, 51) / 50
            label = errors.short(who) if style == "-" else ""
            means.plot(kept, surest.mean(), style, color=colour, label=label)
            medians.plot(kept, surest.median(), style, color=colour)
    scatter[0].set_ylabel("MAE of their median\n(scaled units)")
    for ax, of in ((means, "mean"), (medians, "median")):
        ax.set(xlabel="series kept,\nthe surest first", ylabel=f"their {of} MAE\n(scaled units)")
        ax.set(xlim=(0, 1), ylim=(0, None))
        ax.xaxis.set_major_formatter("{x:.0%}")
    plots.legend_below(figure, (means,))
    return figure


def sample_counts(profile: Profile) -> Figure:
    """The error of the median of n samples, each n drawn anew 20 times, beside the greedy
    forecast's."""
    found = errors.sampled(profile)
    counts = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 2.4))
    for who in ("final", "best"):
        (colour, marker), rng, samples = _LOOKS[who], np.random.default_rng(0), found.samples[who]
        drawn = [[samples[:, rng.permutation(48)[:n]] for _ in range(20)] for n in counts]
        # by draw and series
        maes = [series_mae(np.median(each, axis=2), found.truths) for each in drawn]
        greedy = [*finished_record(profile, who).maes().values()]
        for ax, of in ((axes[0], np.mean), (axes[1], np.median)):
            mean = [of(each, axis=1).mean() for each in maes]
            ax.semilogx(
                counts,
                mean,
                f"{marker}-",
                base=2,
                color=colour,
                ms=5,
                label=f"{who}, median of samples",
            )
            ax.axhline(of(greedy), ls="--", color=colour, lw=1.2, label=f"{who}, greedy")
            ax.set(xlabel="samples", ylabel=f"{of.__name__} MAE (scaled units)")
            ax.set_xticks(counts, map(str, counts))
    plt.setp(axes, ylim=(0, None))
    plots.legend_below(figure, axes[:1])
    return figure


def more_per_flop(profile: Profile) -> Figure:
    """Validation loss, and mean and median MAE, against training FLOPs by the rules, up to the
    budget."""
    points = _trained_points(profile)
    way = errors.milestones(finished_record(profile, "best"))[:-1]
    runs = recorded_runs(profile)
    flops = np.geomspace(way["flops"].min(), profile.budget)
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.9))
    for ax, (what, title) in zip(axes, _MEASURED.items(), strict=True):
        sns.scatterplot(
            points, x="flops", y=what, hue="kind", style="kind", s=45, ax=ax, legend=ax is axes[1]
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
    # that of the MAE is so wide that it says nothing
    law = errors.power_law(way["flops"], way["loss"], flops)
    axes[0].fill_between(flops, *law["interval there"], color="C0", alpha=0.12, lw=0)
    axes[0].plot(flops, law["there"], "--", color="C0", lw=1, label="power law, 95%")
    for ax, of in ((axes[1], np.mean), (axes[2], np.median)):
        for name, style in _LEVELS.items():
            ax.axhline(
                of(runs["validation", name]), ls=style, color="0.4", lw=1, label=errors.short(name)
            )
    axes[1].legend_.remove()
    plots.legend_below(figure, axes[:2])
    return figure


def table3_budget(_: Profile) -> Figure:
    """FLOPs spent by the report's experiments, in percent of the budget: each row begins where the
    last one ended."""
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.6), sharex=True, sharey=True)
    look = {
        "stacked": True,
        "width": 0.8,
        "legend": False,
        "color": [COLOURS["prey"], COLOURS["predator"]],
    }
    for ax, kind in zip(axes, CONVENTIONS, strict=True):
        costs = pd.DataFrame(
            study.table_3(numbers.report_shape(), kind), ["training", "forecasts"]
        ).T
        shares = 100 * costs / study.PROFILES["report"].budget
        spent = shares.sum(axis=1).cumsum()
        shares.plot.barh(
            ax=ax, left=spent.shift(fill_value=0), xlabel="spent so far\n(% of the budget)", **look
        )
        ax.vlines(spent[:-1], range(len(spent) - 1), range(1, len(spent)), color="0.5", lw=1)
        ax.axvline(100, color=COLOURS["error"], label="the budget")
        ax.set(xlim=(0, 150), ylim=(len(spent) - 0.4, -0.6), title=f"{kind}: {spent.iloc[-1]:.1f}%")
    plots.legend_below(figure, axes[:1])
    return figure


def yardstick_costs(_: Profile) -> Figure:
    """Error on test, and seconds and FLOPs of a forecast: a row for each forecaster, by mean
    error."""
    maes = study.recorded_yardsticks("test")
    maes |= {name: study.published_maes(run) for name, run in numbers.PUBLISHED.items()}
    rows = {
        errors.short(name): cost | errors.summary(maes[name])
        for name, cost in numbers.yardstick_costs().items()
    }
    table = pd.DataFrame(rows).T.sort_values("mean", ascending=False)
    names = table.index
    figure, (error, seconds, flops) = plt.subplots(1, 3, figsize=(WIDTH, 4.2), sharey=True)
    error.hlines(names, table["median"], table["mean"], color="0.7")
    error.plot(table["mean"], names, "D", color=COLOURS["error"], label="mean")
    error.plot(table["median"], names, "o", color=COLOURS["ours"], label="median")
    seconds.plot(table["seconds"], names, "s", color=COLOURS["prey"])
    for bound, marker in (("exactly", "s"), ("at least", ">"), ("at most", "<")):
        counted = table["flops"].clip(lower=1).where(table["bound"].fillna("exactly") == bound)
        flops.plot(counted, names, marker, color=COLOURS["prey"], label=bound)
    labels = (
        "MAE (scaled units)",
        "seconds of one core\na series (none: unknown)",
        "executed FLOPs\na series (1: none)",
    )
    for ax, label in zip((error, seconds, flops), labels, strict=True):
        ax.set(xscale="log", xlabel=label)
        ax.grid(axis="y", lw=0.5)
    error.invert_yaxis()
    note = "AutoARIMA: without season and logarithms. "
    note += "LM: greedy, but LM general by the median of 16 samples."
    figure.suptitle(note, size="small")
    plots.legend_below(figure, (error, flops))
    return figure


def changed_worlds(_: Profile) -> Figure:
    """Mean and median error of seven forecasters, a row for each world."""
    table = errors.error_table({})
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.8), sharex=True, sharey=True)
    for ax, of in zip(axes, ("mean", "median"), strict=True):
        found = errors.by_world(table, of).clip(lower=0.1)
        for name, (colour, marker) in _IN_WORLDS.items():
            ax.plot(
                found[name], found.index, marker, color=colour, mfc="none", mew=2, ms=7, label=name
            )
        ax.set(xscale="log", xlabel=f"{of} MAE (scaled units)")
        ax.grid(axis="y", color="0.9")
    axes[0].invert_yaxis()
    plots.legend_below(figure, axes[:1])
    return figure


def real_tables(_: Profile) -> Figure:
    """The last stretch of the first series of each source of real tables, by the adapter for any
    table."""
    rows = errors.table_errors().query("split == 'test' and forecaster == 'general'")
    figure, axes = plt.subplots(2, 5, figsize=(WIDTH, 3.6))
    for ax, source, shown in zip(axes.flat, rows["source"], rows["shown"], strict=True):
        past, truth, deciles = (np.array(shown[name]) for name in ("context", "truth", "deciles"))
        low, middle, high = deciles.reshape(9, -1)[[0, 4, 8]]
        steps = np.arange(1 - len(past), 1)
        ahead = np.arange(1, len(truth) + 1)
        plots.plot_fan(ax, steps, past, ahead, {0.1: low, 0.5: middle, 0.9: high}, truth)
        # Each has a unit of its own.
        ax.set(title=source, yticks=[], xlabel="step" if ax in axes[1] else "")
    plots.legend_below(figure, axes.flat[:1])
    return figure


def _row(title: str, record: Record) -> str:
    """The title of a row of forecasts, which says of the replication's that they are not ours."""
    return f"replication, {title}" if study.PROFILES[record.profile].as_reported else title


def _sides(profile: Profile) -> tuple[tuple[str, str, Profile], ...]:
    """The runs of a profile and the report's: who, a title, and the profile that says how they were
    trained."""
    ours = "replication" if profile.as_reported else "ours"
    return ("ours", f"{ours}: {profile.backbone}", profile), (
        "published",
        _QWEN,
        study.PROFILES["report"],
    )


def _trained_points(profile: Profile) -> pd.DataFrame:
    """What trainings came to: `kind`, `flops`, `loss`, `mean` and `median`."""
    way = errors.milestones(finished_record(profile, "best")).assign(
        kind="the long run, on its way"
    )
    way.loc[way.index[-1], "kind"] = "the long run, its end"
    points = [
        {"kind": _CONTROLS.get(name, "trials of 240 steps"), "loss": record.evaluations[-1]["loss"]}
        | {"flops": record.flops["training"]["coursework"]}
        | errors.summary(record.maes())
        for name, record in errors.finished_records(profile, START, *study.ARMS, "final").items()
    ]
    points[-1]["loss"] = None  # on other series than its errors
    flops, _ = study.table_3(numbers.report_shape(), "coursework")["final"]
    points.append(
        {"kind": "published final, on test", "flops": flops}
        | errors.summary(study.published_maes("final"))
    )
    return pd.concat(
        [way.rename(columns=lambda name: name.removeprefix("mae_")), pd.DataFrame(points)],
        ignore_index=True,
    )


def _error_panels(panels: dict[str, dict[str, pd.Series]]) -> Figure:
    """Panels of groups of errors by title, one below the other, with means and medians in words."""
    rows = sum(map(len, panels.values()))
    figure, axes = plt.subplots(
        len(panels), figsize=(WIDTH, 0.34 * rows + 0.35 * len(panels) + 0.4), sharex=True
    )
    for ax, (title, groups) in zip(axes, panels.items(), strict=True):
        named = {
            f"{name}: mean {np.mean(maes):.1f}, median {np.median(maes):.1f}": maes
            for name, maes in groups.items()
        }
        plots.plot_errors(
            ax, named, title, COLOURS["published" if "published" in title else "ours"]
        )
        ax.label_outer()
    return figure


def _compared(profile: Profile, runs: errors.Runs, names: tuple[str, ...], asked: str) -> Figure:
    """Errors at several settings beside the published ones, of the series that one of them was
    asked about."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 1 + 0.3 * len(names)), sharex=True)
    for ax, (who, title, sizes) in zip(axes, _sides(profile), strict=True):
        same = runs[who, asked].index
        settings = {errors.label(name, sizes): runs[who, name][same] for name in names}
        plots.plot_settings(ax, pd.DataFrame(settings), title, COLOURS[who])
    return figure


def _before_and_after(untuned: Record, title: str, tuned: Record) -> Figure:
    """Forecasts of the series at the first quartile, the median and the maximum of the tuned
    model's errors."""
    ranked = best_and_worst(tuned.maes(), worst=0)[0]
    shown = ranked[len(ranked) // 4], ranked[len(ranked) // 2], ranked[-1]
    return drawings.forecasts({_row("untuned", untuned): untuned, _row(title, tuned): tuned}, shown)
