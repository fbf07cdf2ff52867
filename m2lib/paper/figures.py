"""The figures of the paper, from records and published numbers alone: each public function draws one of a profile."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from transformers import PretrainedConfig

from m2lib import model, study
from m2lib.accounting import CONVENTIONS, Shape
from m2lib.paper import drawings, errors, numbers, plots
from m2lib.paper.errors import LENGTHS, LOG_VAR, START, finished_record
from m2lib.paper.plots import COLOURS, WIDTH
from m2lib.series import VARIABLES, best_and_worst, crps_fair, ranks, series_mae, to_integers

_QWEN = "published: Qwen2.5-0.5B"
# Colours as in `plots`, and markers for those who cannot tell them apart, of who draws samples.
_LOOKS = {"untuned": ("#7F7F7F", "s"), "final": ("#009E73", "o"), "best": ("#0072B2", "D"), LOG_VAR: ("#E69F00", "^")}
# The same in changed worlds, beside forecasters without a language model.
_IN_WORLDS = {"mean": ("#7F7F7F", "|"), "analogue": ("#CC79A7", "s"), "log-VAR(9)": _LOOKS[LOG_VAR]}
_IN_WORLDS |= {"system fitted": (COLOURS["error"], "x"), "LM final": _LOOKS["final"], "LM best": _LOOKS["best"]}
# Trials that say what pretraining is worth.
_CONTROLS = {"trial/small": "small model, random weights", "trial/shuffled": "shuffled weights"}
# Where names stand beside their points, in points of print, if there is no room on the right.
_OFFSETS = dict.fromkeys(("analogue", "last period", "LM untuned", "LM best"), (-6, 0))
_OFFSETS |= {"LM final": (-6, -5), "AutoTheta": (-6, -12), "log-VAR(3)": (6, 5), "log-VAR(9)": (12, -2)}


def fig1_architecture(_: study.Profile) -> Figure:
    return drawings.architecture(_qwen(), len(model.SYMBOLS), "Qwen2.5-0.5B-Instruct, reduced")


def fig2_lora_layer(_: study.Profile) -> Figure:
    return drawings.lora_layer(_qwen().hidden_size, _qwen().hidden_size, rank=2, alpha=2)


def fig3_encoding(_: study.Profile) -> Figure:
    series = errors.data()
    return drawings.encoding(series.trajectories[1, :2], float(series.scales[1]), title="series 1")


def fig4_baseline_forecasts(profile: study.Profile) -> Figure:
    return _forecasts({"": finished_record(profile, "baseline-constrained")}, study.EXPERIMENTS["baseline"].featured)


def fig5_baseline_errors(profile: study.Profile) -> Figure:
    runs = _runs(profile, "baseline", "baseline-constrained")
    shown = {f"{name}, ours": runs["ours", name] for name in ("baseline", "baseline-constrained")}
    shown[_QWEN] = runs["published", "baseline"]
    return _error_panels({title: plots.error_groups(maes) for title, maes in shown.items()})


def fig6_forecasts(profile: study.Profile) -> Figure:
    records = {"untuned": "baseline-constrained", "tuned": "default-warm"}
    shown = {title: finished_record(profile, name) for title, name in records.items()}
    return _forecasts(shown, study.EXPERIMENTS["default"].featured)


def fig7_reduced_validation(profile: study.Profile) -> Figure:
    runs, panels = _runs(profile, "baseline", "default", "baseline-constrained", "default-warm"), {}
    for who, before, after, title, sizes in (
        ("ours", "baseline", "default", "default, ours", profile),
        ("ours", "baseline-constrained", "default-warm", "default-warm, ours", profile),
        ("published", "baseline", "default", _QWEN, study.PROFILES["report"]),
    ):
        chosen, train = runs[who, "default"].index, study.EXPERIMENTS[after].training(sizes)
        pair = {"untuned": runs[who, before][chosen], "tuned": runs[who, after][chosen]}
        panels[f"{title}: {train['steps']:,} steps, rank {train['rank']}"] = pair
    return _error_panels(panels)


def fig8_search(profile: study.Profile) -> Figure:
    table = errors.error_table(errors.finished_records(profile, *study.SEARCH))
    return _search(profile, errors.runs(errors.on_five(table)))


def fig8_second(profile: study.Profile) -> Figure:
    runs = _runs(profile, *study.SEARCH, *study.SECOND)
    return _search(profile, {run: maes for run, maes in runs.items() if len(maes) == 20})


def context_lengths(profile: study.Profile) -> Figure:
    names = {f"{length} tokens": f"context/{length}" for length in LENGTHS}
    table = errors.error_table(errors.finished_records(profile, study.SEARCH[0], *names.values()))
    runs, titles = errors.runs(errors.on_five(table)), _titles(profile).items()
    return _error_panels({title: {n: runs[who, name] for n, name in names.items()} for who, title in titles})


def fig9_final(profile: study.Profile) -> Figure:
    before = errors.untuned_like_final(profile).name
    runs = _runs(profile, before, "final")
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, 4.5), height_ratios=(5, 1.6), sharex=True)
    for (scatter, box), (who, title) in zip(axes.T, _titles(profile).items(), strict=True):
        pair = {"untuned": runs[who, before if who == "ours" else "untuned"], "final": runs[who, "final"]}
        plots.plot_before_after(scatter, pair["untuned"], pair["final"], title, COLOURS[who])
        plots.plot_errors(box, pair, "", COLOURS[who])
    for ax in axes[0]:
        ax.set_ylim(axes[0, 0].get_xlim())
    return figure


def final_forecasts(profile: study.Profile) -> Figure:
    return _beside_untuned(profile, "final")


def best_forecasts(profile: study.Profile) -> Figure:
    return _beside_untuned(profile, "best")


def final_learning(profile: study.Profile) -> Figure:
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.6))
    record = finished_record(profile, "final")
    plots.plot_learning(left, right, record.loss_curve, record.evaluations)
    return figure


def fan_charts(profile: study.Profile) -> Figure:
    """An easy, a typical and the worst series by CRPS: a column each, a row for each variable."""
    found, series = errors.sampled(profile), errors.data()
    crps = found.by_series(crps_fair, found.shown).sort_values(kind="stable")
    levels, start, context = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975), 50, found.contexts.shape[1]
    figure, axes = plt.subplots(2, 3, figsize=(WIDTH, 3.8), sharex=True)
    for place, (variable, name) in product(range(3), enumerate(VARIABLES)):
        ax, i = axes[variable, place], crps.index[(len(crps) // 5, len(crps) // 2, -1)[place]]
        row = found.ids.index(i)
        quantiles = np.quantile(found.samples[found.shown][row, ..., variable], levels, axis=0)
        past, truth = found.contexts[row, start:, variable], found.truths[row, :, variable]
        fan = series.time[start:context], past, series.time[context:], dict(zip(levels, quantiles, strict=True))
        plots.plot_fan(ax, *fan, truth, COLOURS[name])
        ax.set(title=f"series {i}: CRPS {crps[i]:.1f}" * (variable == 0), xlabel=plots.MODEL_TIME * variable)
    for ax, name, corner in zip(axes[:, 0], VARIABLES, ("upper", "lower"), strict=True):
        ax.set_ylabel(f"{name} (scaled units)")
        figure.legend(*ax.get_legend_handles_labels(), loc=f"outside right {corner}")
    return figure


def reliability(profile: study.Profile) -> Figure:
    """What the bands hold, and where the truth ranks among the samples of each forecaster.

    The bands of m right samples lie a little too far in: one of level t holds t (m - 1) / (m + 1) on average.
    """
    found = errors.sampled(profile)
    m = found.records[found.shown].protocol.n_samples
    layout = [["bands", "untuned", "final"], ["bands", "best", LOG_VAR]]
    figure, axes = plt.subplot_mosaic(layout, figsize=(WIDTH, 3.7), width_ratios=(2.1, 1, 1))
    bands = axes.pop("bands")
    bands.plot([0, 1], [0, 1], color="0.4", lw=1)
    bands.plot([0, 1], [0, (m - 1) / (m + 1)], "--", color="0.4", lw=1, label=f"{m} right samples")
    for who, ax in axes.items():
        (colour, marker), rng = _LOOKS[who], np.random.default_rng(0)
        held = found.held(who, np.arange(1, 20) / 20)
        bands.plot(held.keys(), held.values(), f"{marker}-", color=colour, ms=5, label=errors.short(who))
        drawn = np.ravel([ranks(*pair, rng) for pair in zip(found.samples[who], found.truths, strict=True)])
        # The 49 ranks of 48 samples make 7 bins of 7.
        ax.hist(drawn, 7, (-0.5, m + 0.5), weights=np.full(len(drawn), 1 / len(drawn)), color=colour, rwidth=0.94)
        ax.axhline(1 / 7, color="0.25", lw=1, ls="--")
        ax.set(title=errors.short(who), xlabel="rank of the truth", ylabel="true values")
    bands.set(xlabel="level of the band", ylabel="true values that it holds", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    bands.legend(loc="lower right")
    for axis in (bands.xaxis, bands.yaxis, *(ax.yaxis for ax in axes.values())):
        axis.set_major_formatter("{x:.0%}")
    return figure


def trust(profile: study.Profile) -> Figure:
    """Does the spread know about the error? Series by series, and for those that a forecaster is surest of.

    The spread is the mean distance of a sample from the median: where the samples are right, the median's MAE.
    """
    found = errors.sampled(profile)
    figure, (*scatter, kept) = plt.subplots(1, 3, figsize=(WIDTH, 2.7), gridspec_kw={"wspace": 0.08})
    for ax, who in zip(scatter, (found.shown, LOG_VAR), strict=True):
        spread = found.by_series(lambda samples, _: np.abs(samples - np.median(samples, axis=0)).mean(), who)
        table = pd.DataFrame({"spread": spread, "error": found.by_series(errors.median_mae, who)})
        colour, marker = _LOOKS[who]
        seen = table.clip(lower=0.1)  # a logarithmic axis has no 0
        ax.loglog(seen["spread"], seen["error"], marker, ms=5, mec="none", color=colour, alpha=0.7)
        ax.axline((1, 1), (2, 2), color="0.4", lw=1)
        ends = 0.7 * seen.min(axis=None), 1.4 * seen.max(axis=None)
        ax.set(xlim=ends, ylim=ends, aspect="equal", title=errors.short(who))
        ax.set(xlabel="spread of the samples\n(scaled units)", ylabel="MAE of their median\n(scaled units)")
        for order, style in (("spread", "-"), ("error", "--")):
            surest = table.sort_values(order, kind="stable")["error"].expanding().mean()
            kept.plot(np.arange(1, 51) / 50, surest, style, color=colour, label=errors.short(who) * (style == "-"))
    kept.set(
        xlabel="series kept, the surest first", ylabel="their mean MAE (scaled units)", xlim=(0, 1), ylim=(0, None)
    )
    kept.xaxis.set_major_formatter("{x:.0%}")
    kept.set_xticks((0, 0.5, 1))
    kept.legend(loc="upper left")
    return figure


def sample_counts(profile: study.Profile) -> Figure:
    """The error of the median of n samples, each n drawn anew 20 times, beside the greedy forecast's."""
    found, counts = errors.sampled(profile), (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
    figure, ax = plt.subplots(figsize=(4.6, 2.6))
    for who in ("final", "best"):
        (colour, marker), rng, samples, means = _LOOKS[who], np.random.default_rng(0), found.samples[who], []
        for n in counts:
            drawn = [rng.permutation(48)[:n] for _ in range(20 if n < 48 else 1)]
            medians = [np.median(samples[:, chosen], axis=1) for chosen in drawn]
            means.append(np.mean([series_mae(median, found.truths) for median in medians]))
        ax.semilogx(counts, means, f"{marker}-", base=2, color=colour, ms=5, label=f"{who}, median")
        greedy = np.mean(list(finished_record(profile, who).maes().values()))
        ax.axhline(greedy, ls="--", color=colour, lw=1.2, label=f"{who}, greedy")
    ax.set_xticks(counts, map(str, counts))
    ax.set(xlabel="samples", ylabel="mean MAE (scaled units)", ylim=(0, None))
    ax.legend(loc="center", ncols=2)  # between the curves
    return figure


def more_per_flop(profile: study.Profile) -> Figure:
    """Validation loss, and the MAE, against training FLOPs by the rules, up to the budget."""
    records = errors.finished_records(profile, START, *study.ARMS, "best", "final")
    found = errors.milestones(records["best"])
    way, end = found.iloc[:-1], found.iloc[-1]
    figure, (loss, mae) = plt.subplots(1, 2, figsize=(WIDTH, 3.8))
    for ax, what, colour in ((loss, "loss", "C0"), (mae, "mae_mean", "C0"), (mae, "mae_median", "C1")):
        name = "the long run, " + what.removeprefix("mae_")
        ax.loglog(end["flops"], end[what], "o", color=colour, label=name)
        ax.plot(way["flops"], way[what], "o", mfc="white", color=colour, label="on its way, at the full rate")
    flops = np.geomspace(way["flops"].min(), profile.budget)
    law = errors.power_law(way["flops"], way["loss"], flops)  # that of the MAE is so wide that it says nothing
    loss.plot(flops, law["there"], color="C0", lw=1, ls="--", label="power law through these, 95%")
    loss.fill_between(flops, *law["interval there"], color="C0", alpha=0.12, lw=0)
    trials = pd.DataFrame([numbers.arm(records[name]) for name in (START, *study.ARMS)]).set_index("name")
    for ax, what in ((loss, "loss"), (mae, "mean")):
        ax.plot(trials["flops"], trials[what], ".", color="0.4", zorder=1, label="trials of 240 steps")
        for name, words in _CONTROLS.items():
            _name(ax, trials["flops"][name], trials[what][name], words)
    runs, spent = _runs(profile, "final"), records["final"].flops["training"]["coursework"]
    theirs = numbers.final_training()
    squares = ("ours", "final", spent, spent), ("published", "published final", theirs, profile.budget)
    for who, name, flops, right in squares:  # right: where the name ends, clear of other points
        mae.plot(flops, runs[who, "final"].mean(), "s", color=COLOURS[who])
        _name(mae, right, runs[who, "final"].mean(), f"{name}, on test", (-6, -10))
    for name in ("mean of the context, repeated", "nearest analogue in the context", study.TUNED):
        level = runs["validation", name].mean()
        mae.axhline(level, color=COLOURS["prey"], ls=":", lw=1)
        at, offset = (1.1e14, (3, -6)) if name.startswith("nearest") else (profile.budget, (-3, 6))
        _name(mae, at, level, errors.short(name), offset)
    for ax, what, ticks in (
        (loss, "validation loss (nats a token)", (0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.4, 2)),
        (mae, "MAE on validation (scaled units)", (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    ):
        ax.set(xlabel="training FLOPs by the rules", ylabel=what, xlim=(1e14, 1.2 * profile.budget))
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
        ax.legend(loc="lower left", fontsize="small")
    return figure


def table3_budget(_: study.Profile) -> Figure:
    """FLOPs against the budget: the training of each row of the report's Table 3, and all forecasts together."""
    bars = {}
    for kind in CONVENTIONS:
        rows = study.table_3(Shape.of(_qwen()), kind)
        bars[kind] = {f"{row}, training": training for row, (training, _) in rows.items() if training}
        bars[kind]["all forecasts"] = sum(forecasts for _, forecasts in rows.values())
    table = pd.DataFrame(bars).T.rename(lambda kind: f"{kind}\n{sum(bars[kind].values()):.3g}")
    figure, ax = plt.subplots(figsize=(WIDTH, 2.8))
    table.plot.barh(stacked=True, ax=ax, color=sns.color_palette("colorblind"), xlabel="FLOPs")
    ax.axvline(10**17, color=COLOURS["error"], lw=1.5)
    ax.text(10**17, -0.5, "the budget ", color=COLOURS["error"], ha="right", va="center")
    ax.invert_yaxis()
    ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.28), ncols=3)
    return figure


def yardstick_costs(_: study.Profile) -> Figure:
    """Mean error against seconds and FLOPs of a forecast; a line leads to the median."""
    figure, (seconds, flops) = plt.subplots(1, 2, figsize=(WIDTH, 4.6), sharey=True)
    markers = {"as counted": "o", "at least": ">", "at most": "<", "median": "_"}
    for name, row in numbers.yardstick_costs(errors.runs(errors.error_table({}))).items():
        kinds = {"published": "published", "the language model": "ours", "the system": "error"}
        kind = next((kind for begin, kind in kinds.items() if name.startswith(begin)), "prey")
        style = {"color": COLOURS[kind], "ms": 7}
        for ax, cost, bound in ((seconds, row["seconds"], None), (flops, max(1, row["flops"]), row["bound"])):
            if cost is None:
                ax.axhline(row["mean"], color=COLOURS[kind], ls="--", lw=1)
                _name(ax, 1e5, row["mean"], errors.short(name), (-1, 6))
                continue
            ax.loglog([cost, cost], [row["median"], row["mean"]], lw=1, alpha=0.6, **style)
            ax.plot(cost, row["median"], markers["median"], **style)
            ax.plot(cost, row["mean"], markers[bound or "as counted"], **style)
            _name(ax, cost, row["mean"], errors.short(name), _OFFSETS.get(errors.short(name), (6, 0)))
    seconds.set(
        xlabel="seconds of one core a series (dashed: unknown)", ylabel="mean MAE (scaled units)", xlim=(2e-8, 1e5)
    )
    flops.set(xlabel="executed FLOPs a series (1: none)", xlim=(0.5, 1e14))
    flops.yaxis.set_major_formatter("{x:g}")
    handles = [plt.Line2D([], [], color="0.3", ls="", marker=marker, label=name) for name, marker in markers.items()]
    flops.legend(handles=handles, loc="lower left")
    return figure


def changed_worlds(_: study.Profile) -> Figure:
    """Mean error of six forecasters, a row for each world."""
    found = pd.DataFrame(numbers.worlds(errors.runs(errors.error_table({})))).T.rename(columns=errors.short)
    figure, ax = plt.subplots(figsize=(WIDTH, 3.8))
    for name, (colour, marker) in _IN_WORLDS.items():
        means = found[name].map(lambda row: row["mean"])
        ax.plot(means, means.index, marker, color=colour, mfc="none", mew=2, ms=7, label=name)
    ax.set(xscale="log", xlabel="mean MAE (scaled units)")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(axis="y", color="0.9")
    ax.invert_yaxis()
    figure.legend(loc="outside right upper")
    return figure


def _qwen() -> PretrainedConfig:
    return model.backbone_config("qwen2.5-0.5b")


def _runs(profile: study.Profile, *names: str) -> errors.Runs:
    return errors.runs(errors.error_table(errors.finished_records(profile, *names)))


def _titles(profile: study.Profile) -> dict[str, str]:
    return {"ours": f"ours: {profile.backbone}", "published": _QWEN}


def _name(ax: Axes, x: float, y: float, name: str, offset: tuple[float, float] = (6, 0)) -> None:
    """Write a name beside a point, over the lines that it crosses. offset: in points; below 0, to the left or down."""
    style: dict[str, Any] = {"ha": "right" if offset[0] < 0 else "left", "va": "center", "size": "small"}
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
    ax.annotate(name, (x, y), xytext=offset, textcoords="offset points", bbox=box, **style)


def _error_panels(panels: dict[str, dict[str, pd.Series]], across: bool = False) -> Figure:
    """Panels of groups of errors by title: one below the other, with means and medians in words, or side by side."""
    rows, tall = sum(map(len, panels.values())) // (1 + across), 1 if across else len(panels)
    shape = (1, len(panels)) if across else (len(panels), 1)
    figure, axes = plt.subplots(*shape, figsize=(WIDTH, 0.34 * rows + 0.35 * tall + 0.4), sharex=True)
    for ax, (title, groups) in zip(axes, panels.items(), strict=True):
        said = "" if across else ": mean {:.1f}, median {:.1f}"
        named = {name + said.format(np.mean(maes), np.median(maes)): maes for name, maes in groups.items()}
        plots.plot_errors(ax, named, title, COLOURS["published" if title.startswith("published") else "ours"])
        ax.set_xlabel("MAE (scaled units; diamond: mean)" if across or ax is axes[-1] else "")
    if min(min(maes) for groups in panels.values() for maes in groups.values()) >= 10:
        axes[0].set_xlim(left=10)
    return figure


def _search(profile: study.Profile, runs: errors.Runs) -> Figure:
    panels = {}
    for (who, title), sizes in zip(_titles(profile).items(), (profile, study.PROFILES["report"]), strict=True):
        groups = {name: runs[who, name] for name in study.SEARCH if (who, name) in runs}
        panels[title] = {errors.label(name, sizes): maes for name, maes in groups.items()}
    return _error_panels(panels, across=True)


def _beside_untuned(profile: study.Profile, name: str) -> Figure:
    """The series at the first quartile, the median and the maximum of a run's test errors."""
    tuned = finished_record(profile, name)
    ranked = best_and_worst(tuned.maes(), worst=0)[0]
    shown = [ranked[len(ranked) // 4], ranked[len(ranked) // 2], ranked[-1]]
    return _forecasts({"untuned": errors.untuned_like_final(profile), name: tuned}, shown)


def _forecasts(records: dict[str, study.Record], shown: Sequence[int]) -> Figure:
    """A row for each record, a column for each series."""
    series, size = errors.data(), (WIDTH, 0.5 + 1.6 * len(records))
    figure, axes = plt.subplots(len(records), len(shown), figsize=size, sharex=True, squeeze=False)
    for row, (title, record) in zip(axes, records.items(), strict=True):
        for ax, i in zip(row, shown, strict=True):
            scaled = to_integers(series.trajectories[i], series.scales[i], record.protocol.rounding)
            forecast, mae = study.recorded_forecast(record, series, i), record.series[i]["mae"]
            plots.plot_forecast(ax, series.time, scaled, forecast, f"series {i}: MAE {mae:.0f}")
        row[0].set_ylabel(f"{title}\nscaled units".strip())
    for ax in axes[-1]:
        ax.set_xlabel(plots.MODEL_TIME)
    plots.forecast_legend(figure)
    return figure
