"""The recorded study: the figures that notebooks and the PDF share, drawn from records and published numbers alone."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from m2lib.files import InputError
from m2lib.model.vocabulary import SYMBOLS
from m2lib.paper import diagrams, plots
from m2lib.series import codec
from m2lib.series.data import load_series
from m2lib.series.metrics import best_and_worst
from m2lib.study.experiments import EXPERIMENTS, SEARCH, SECOND, adapter_of
from m2lib.study.profiles import PROFILES, Profile, active_profile
from m2lib.study.records import Record, load_record, record_path
from m2lib.study.report_tables import published_maes
from m2lib.study.runs import recorded_forecast

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QWEN = "published: Qwen2.5-0.5B"
LENGTHS = (128, 512, 768)


def study() -> Profile:
    """The profile whose records are shown: the active one, or the laptop's where the active one keeps no records."""
    return PROFILES["laptop"] if active_profile().live else active_profile()


def show(name: str) -> "Figure":
    """Draw a figure of the report from the study's records and save it under build/figures.

    Raises InputError for an unknown name, or where a record that it needs is missing.
    """
    figure = draw(name)
    plots.save_figure(figure, name)
    return figure


def draw(name: str) -> "Figure":
    if name not in FIGURES:
        raise InputError(f"the report has no figure {name!r}; it has {', '.join(FIGURES)}")
    plots.use_style()
    return FIGURES[name](study())


def finished(profile: Profile, name: str) -> Record:
    """A record of a run that came to its end. Raises InputError where there is none, naming what to run."""
    result = load_record(profile, name)
    if result.status != "done":
        path = record_path(profile, name)
        raise InputError(f"{path} is not finished; `M2_PROFILE={profile.name} m2 run {name}` goes on with it")
    return result


def found(profile: Profile, *names: str) -> dict[str, Record]:
    """The finished records of these experiments; those that go beyond the report may be missing."""
    there = (name for name in names if EXPERIMENTS[name].group or record_path(profile, name).exists())
    return {name: finished(profile, name) for name in there}


def search_maes(profile: Profile, second: bool = False) -> dict[str, dict[int, float]]:
    """Per-series errors of the search's nine settings on the five hardest series, or of its best three on 20."""
    five = {name: finished(profile, name).maes() for name in SEARCH}
    if not second:
        return five
    best = {adapter_of(EXPERIMENTS[name], five.get): finished(profile, name).maes() for name in SECOND}
    return {name: five[name] | best[name] for name in SEARCH if name in best}


def untuned_like_final(profile: Profile) -> Record:
    """The untuned model's record on the test series, decoded as the final model is, if there is such a one."""
    decode = finished(profile, "final").config["decode"]
    results = found(profile, "untuned-test", "untuned-test-constrained").values()
    return next((one for one in results if one.config["decode"] == decode), next(iter(results)))


def published_search(second: bool = False) -> dict[str, dict[int, float]]:
    """The same, as published."""
    if second:
        return {name: maes for name in SEARCH if len(maes := published_maes(name)) == 20}
    five = published_maes("search/expt_0").keys()
    return {name: {series: published_maes(name)[series] for series in five} for name in SEARCH}


def label(name: str, profile: Profile) -> str:
    """The settings of an experiment of the search."""
    train = EXPERIMENTS[name].at(profile).train
    return f"rate {train['learning_rate']:g}, rank {train['rank']}"


@cache
def _series():
    return load_series()


def fig1_architecture(_: Profile) -> "Figure":
    return diagrams.architecture(_qwen(), len(SYMBOLS), "Qwen2.5-0.5B-Instruct, reduced")


def fig2_lora_layer(_: Profile) -> "Figure":
    width = _qwen().hidden_size
    return diagrams.lora_layer(width, width, rank=2, alpha=2)


def fig3_encoding(_: Profile) -> "Figure":
    return diagrams.encoding(_series().trajectories[1, :2], _series().scales[1], title="series 1")


def fig4_baseline_forecasts(profile: Profile) -> "Figure":
    results = found(profile, "baseline", "baseline-constrained")
    return _forecasts({"": results.popitem()[1]}, EXPERIMENTS["baseline"].featured)


def fig5_baseline_errors(profile: Profile) -> "Figure":
    results = found(profile, "baseline", "baseline-constrained")
    panels = {f"{name}, ours": plots.error_groups(result.maes()) for name, result in results.items()}
    return _error_panels(panels | {QWEN: plots.error_groups(published_maes("baseline"))})


def fig6_forecasts(profile: Profile) -> "Figure":
    tuned = found(profile, "default", "default-warm").popitem()[1]
    before = found(profile, "baseline", "baseline-constrained").popitem()[1]
    shown = [series for series in EXPERIMENTS["default"].featured if series in tuned.series]
    return _forecasts({"untuned": before, "tuned": tuned}, shown)


def fig7_reduced_validation(profile: Profile) -> "Figure":
    results = found(profile, "default", "default-warm", "baseline", "baseline-constrained")
    chosen = sorted(results["default"].series)
    panels = {}
    for name, before in (("default", "baseline"), ("default-warm", "baseline-constrained")):
        if name in results and before in results:
            steps, rank = (results[name].config["train"][key] for key in ("steps", "rank"))
            title = f"{name}, ours: {steps:,} steps, rank {rank}"
            panels[title] = _before_after(results[before].maes(), results[name].maes(), chosen)
    published = _before_after(published_maes("baseline"), published_maes("default"), published_maes("default"))
    return _error_panels(panels | {f"{QWEN}, 5,000 steps, rank 4": published})


def fig8_search(profile: Profile) -> "Figure":
    return _search_panels(profile, second=False)


def fig8_second(profile: Profile) -> "Figure":
    return _search_panels(profile, second=True)


def context_lengths(profile: Profile) -> "Figure":
    names = {f"{length} tokens": f"context/{length}" for length in LENGTHS}
    ours = {length: list(finished(profile, name).maes().values()) for length, name in names.items()}
    five = published_maes("context/128").keys()
    theirs = {length: [published_maes(name)[series] for series in five] for length, name in names.items()}
    return _error_panels({_who(profile): ours, QWEN: theirs})


def fig9_final(profile: Profile) -> "Figure":
    final, untuned = finished(profile, "final").maes(), untuned_like_final(profile).maes()
    fig, axes = plt.subplots(2, 2, figsize=(9.6, 7), height_ratios=(5, 2.4))
    pairs = {_who(profile): (untuned, final), QWEN: (published_maes("untuned"), published_maes("final"))}
    for column, (who, (before, after)) in zip(axes.T, pairs.items(), strict=True):
        plots.plot_before_after(column[0], before, after, who, _colour(who))
        groups = {"untuned": list(before.values()), "final": list(after.values())}
        plots.plot_error_groups(column[1], groups, "", _colour(who))
    largest = max(max(before.values()) for before, _ in pairs.values())
    for ax in axes[0]:
        ax.set(xlim=(0, 1.3 * largest), ylim=(0, 1.3 * largest))
    for ax in axes[1]:
        ax.set_xlim(0, 1.3 * largest)
    return fig


def final_forecasts(profile: Profile) -> "Figure":
    final, untuned = finished(profile, "final"), untuned_like_final(profile)
    ranked = best_and_worst(final.maes(), worst=0)[0]
    shown = [ranked[len(ranked) // 4], ranked[len(ranked) // 2], ranked[-1]]
    return _forecasts({"untuned": untuned, "final": final}, shown)


def final_learning(profile: Profile) -> "Figure":
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4))
    plots.plot_learning(left, right, finished(profile, "final"))
    return fig


def table3_budget(_: Profile) -> "Figure":
    from m2lib.accounting.shape import CONVENTIONS, Shape
    from m2lib.study.costs import table_3

    fig, ax = plt.subplots(figsize=(9, 3.8))
    tables = {convention: table_3(Shape.of(_qwen()), convention) for convention in CONVENTIONS}
    plots.plot_budget(ax, tables, PROFILES["report"].budget)
    return fig


FIGURES: dict[str, Callable[[Profile], "Figure"]] = {
    function.__name__: function
    for function in (
        fig1_architecture,
        fig2_lora_layer,
        fig3_encoding,
        fig4_baseline_forecasts,
        fig5_baseline_errors,
        fig6_forecasts,
        fig7_reduced_validation,
        fig8_search,
        fig8_second,
        context_lengths,
        fig9_final,
        final_forecasts,
        final_learning,
        table3_budget,
    )
}


def _qwen():
    from m2lib.model.backbones import backbone_config

    return backbone_config("qwen2.5-0.5b")


def _who(profile: Profile) -> str:
    return f"ours: {profile.backbone}"


def _colour(who: str) -> str:
    return plots.COLOURS["published" if who.startswith("published") else "ours"]


def _before_after(before: dict, after: dict, series: list[int]) -> dict[str, list[float]]:
    return {"untuned": [before[i] for i in series], "tuned": [after[i] for i in series]}


def _error_panels(panels: dict[str, dict[str, list[float]]]) -> "Figure":
    """One panel below the other, by title, each of groups of errors."""
    rows = sum(len(groups) for groups in panels.values())
    fig, axes = plt.subplots(len(panels), 1, figsize=(8, 0.75 * rows + 0.6), sharex=True)
    for ax, (title, groups) in zip(axes, panels.items(), strict=True):
        plots.plot_error_groups(ax, groups, title, _colour(title))
    _zoom(axes[0], [errors for groups in panels.values() for errors in groups.values()])
    for ax in axes[:-1]:
        ax.set_xlabel("")
    return fig


def _search_panels(profile: Profile, second: bool) -> "Figure":
    who = {_who(profile): (profile, search_maes(profile, second)), QWEN: (PROFILES["report"], published_search(second))}
    fig, axes = plt.subplots(1, 2, figsize=(9.6, 2.4 if second else 4.4), sharex=True)
    for ax, (title, (sizes, maes)) in zip(axes, who.items(), strict=True):
        groups = {label(name, sizes): list(errors.values()) for name, errors in maes.items()}
        plots.plot_error_groups(ax, groups, title, _colour(title), values=False)
    _zoom(axes[0], [errors.values() for _, maes in who.values() for errors in maes.values()])
    return fig


def _zoom(shared: "Axes", groups) -> None:
    """Begin an error axis at 10 where no error is below."""
    if min(map(min, groups)) >= 10:
        shared.set_xlim(left=10)


def _forecasts(results: dict[str, Record], shown: list[int]) -> "Figure":
    """A row for each record, a column for each series."""
    series = _series()
    fig, axes = plt.subplots(
        len(results), len(shown), figsize=(3.2 * len(shown), 0.5 + 2.4 * len(results)), sharex=True, squeeze=False
    )
    for row, (title, result) in zip(axes, results.items(), strict=True):
        rounding = result.config["decode"]["rounding"]
        for ax, i in zip(row, shown, strict=True):
            scaled = codec.to_integers(series.trajectories[i], series.scales[i], rounding)
            forecast, mae = recorded_forecast(result, series, i), result.series[i]["mae"]
            plots.plot_forecast(ax, series.time, scaled, forecast, f"series {i}: MAE {mae:.0f}")
        row[0].set_ylabel(f"{title}\nscaled units" if title else "scaled units")
    for ax in axes[-1]:
        ax.set_xlabel(plots.MODEL_TIME)
    plots.forecast_legend(fig)
    return fig
