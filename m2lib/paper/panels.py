"""The recorded study: the figures that notebooks and the PDF share, drawn from records and published numbers alone."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from m2lib import study
from m2lib.accounting import CONVENTIONS, Shape
from m2lib.files import InputError
from m2lib.model import SYMBOLS, backbone_config
from m2lib.paper import diagrams, more_per_flop, plots, uncertainty, yardstick_panels
from m2lib.series import SeriesSet, best_and_worst, load_series, to_integers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from transformers import PretrainedConfig

FIGURES: dict[str, Callable[[study.Profile], "Figure"]] = {}
"""What draws each figure from a profile's records, by the figure's name, in the order of the report."""
QWEN = "published: Qwen2.5-0.5B"
LENGTHS = (128, 512, 768)


def _figure(draw: Callable[[study.Profile], "Figure"]) -> Callable[[study.Profile], "Figure"]:
    FIGURES[draw.__name__] = draw
    return draw


def shown_profile() -> study.Profile:
    """The profile whose records are shown: the active one, or the laptop's where the active one keeps no records."""
    return study.PROFILES["laptop"] if study.active_profile().live else study.active_profile()


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
    return FIGURES[name](shown_profile())


def finished_record(profile: study.Profile, name: str) -> study.Record:
    """A record of a run that came to its end. Raises InputError where there is none, naming what to run."""
    record = study.load_record(profile, name, _series())
    if record.status != "done":
        path = study.record_path(profile, name)
        raise InputError(f"{path} is not finished; `M2_PROFILE={profile.name} m2 run {name}` goes on with it")
    return record


def finished_records(profile: study.Profile, *names: str) -> dict[str, study.Record]:
    """The finished records of these experiments; those that go beyond the report may be missing, or still be made."""
    found = {}
    for name in names:
        if study.EXPERIMENTS[name].group:
            found[name] = finished_record(profile, name)
        elif study.record_path(profile, name).exists():
            record = study.load_record(profile, name, _series())
            found |= {name: record} if record.status == "done" else {}
    return found


def first_recorded(profile: study.Profile, *names: str) -> study.Record:
    """Of these experiments, in order of preference, the first that has a finished record."""
    records = finished_records(profile, *names)
    return next(records[name] for name in names if name in records)


def search_maes(profile: study.Profile, second: bool = False) -> dict[str, dict[int, float]]:
    """Per-series errors of the search's nine settings on the five hardest series, or of its best three on 20."""
    five = {name: finished_record(profile, name).maes() for name in study.SEARCH}
    if not second:
        return five
    deciding = study.deciding_errors(profile, five.__getitem__)
    best = {
        study.AdapterOf(study.SEARCH, place).chosen(deciding): finished_record(profile, name).maes()
        for place, name in enumerate(study.SECOND)
    }
    return {name: five[name] | best[name] for name in study.SEARCH if name in best}


def untuned_like_final(profile: study.Profile) -> study.Record:
    """The untuned model's record on the test series, decoded as the final model is, if there is such a one."""
    protocol = finished_record(profile, "final").config["decode"]
    records = finished_records(profile, "untuned-test", "untuned-test-constrained")
    alike = (record for record in records.values() if record.config["decode"] == protocol)
    return next(alike, records["untuned-test"])


def published_search(second: bool = False) -> dict[str, dict[int, float]]:
    """The same, as published."""
    if second:
        return {name: maes for name in study.SEARCH if len(maes := study.published_maes(name)) == 20}
    five = study.published_maes("search/expt_0").keys()
    return {name: {series: study.published_maes(name)[series] for series in five} for name in study.SEARCH}


def label(name: str, profile: study.Profile) -> str:
    """The settings of an experiment of the search."""
    train = study.EXPERIMENTS[name].training(profile)
    return f"rate {train['learning_rate']:g}, rank {train['rank']}"


@cache
def _series() -> SeriesSet:
    return load_series()


@_figure
def fig1_architecture(_: study.Profile) -> "Figure":
    return diagrams.architecture(_qwen(), len(SYMBOLS), "Qwen2.5-0.5B-Instruct, reduced")


@_figure
def fig2_lora_layer(_: study.Profile) -> "Figure":
    width = _qwen().hidden_size
    return diagrams.lora_layer(width, width, rank=2, alpha=2)


@_figure
def fig3_encoding(_: study.Profile) -> "Figure":
    return diagrams.encoding(_series().trajectories[1, :2], float(_series().scales[1]), title="series 1")


@_figure
def fig4_baseline_forecasts(profile: study.Profile) -> "Figure":
    record = first_recorded(profile, "baseline-constrained", "baseline")
    return _forecasts({"": record}, study.EXPERIMENTS["baseline"].featured)


@_figure
def fig5_baseline_errors(profile: study.Profile) -> "Figure":
    records = finished_records(profile, "baseline", "baseline-constrained")
    panels = {f"{name}, ours": plots.error_groups(record.maes()) for name, record in records.items()}
    return _error_panels(panels | {QWEN: plots.error_groups(study.published_maes("baseline"))})


@_figure
def fig6_forecasts(profile: study.Profile) -> "Figure":
    tuned = first_recorded(profile, "default-warm", "default")
    before = first_recorded(profile, "baseline-constrained", "baseline")
    shown = [series for series in study.EXPERIMENTS["default"].featured if series in tuned.series]
    return _forecasts({"untuned": before, "tuned": tuned}, shown)


@_figure
def fig7_reduced_validation(profile: study.Profile) -> "Figure":
    records = finished_records(profile, "default", "default-warm", "baseline", "baseline-constrained")
    chosen = sorted(records["default"].series)
    panels = {}
    for name, before in (("default", "baseline"), ("default-warm", "baseline-constrained")):
        if name in records and before in records:
            steps, rank = (records[name].config["train"][key] for key in ("steps", "rank"))
            title = f"{name}, ours: {steps:,} steps, rank {rank}"
            panels[title] = _before_after(records[before].maes(), records[name].maes(), chosen)
    published = _before_after(
        study.published_maes("baseline"), study.published_maes("default"), study.published_maes("default")
    )
    return _error_panels(panels | {f"{QWEN}, 5,000 steps, rank 4": published})


@_figure
def fig8_search(profile: study.Profile) -> "Figure":
    return _search_panels(profile, second=False)


@_figure
def fig8_second(profile: study.Profile) -> "Figure":
    return _search_panels(profile, second=True)


@_figure
def context_lengths(profile: study.Profile) -> "Figure":
    names = {f"{length} tokens": f"context/{length}" for length in LENGTHS}
    ours = {length: list(finished_record(profile, name).maes().values()) for length, name in names.items()}
    five = study.published_maes("context/128").keys()
    theirs = {length: [study.published_maes(name)[series] for series in five] for length, name in names.items()}
    return _error_panels({_who(profile): ours, QWEN: theirs})


@_figure
def fig9_final(profile: study.Profile) -> "Figure":
    final, untuned = finished_record(profile, "final").maes(), untuned_like_final(profile).maes()
    fig, axes = plt.subplots(2, 2, figsize=(plots.WIDTH, 4.5), height_ratios=(5, 1.6))
    pairs = {_who(profile): (untuned, final), QWEN: (study.published_maes("untuned"), study.published_maes("final"))}
    for column, (who, (before, after)) in zip(axes.T, pairs.items(), strict=True):
        plots.plot_before_after(column[0], before, after, who, _colour(who))
        groups = {"untuned": list(before.values()), "final": list(after.values())}
        plots.plot_error_groups(column[1], groups, "", _colour(who), values=False)
    largest = max(max(before.values()) for before, _ in pairs.values())
    for ax in axes[0]:
        ax.set(xlim=(0, 1.3 * largest), ylim=(0, 1.3 * largest))
    for ax in axes[1]:
        ax.set_xlim(0, 1.3 * largest)
    return fig


@_figure
def final_forecasts(profile: study.Profile) -> "Figure":
    return _beside_untuned(profile, "final")


@_figure
def best_forecasts(profile: study.Profile) -> "Figure":
    return _beside_untuned(profile, "best")


def _beside_untuned(profile: study.Profile, name: str) -> "Figure":
    """The series at the first quartile, the median and the maximum of a run's test errors."""
    tuned, untuned = finished_record(profile, name), untuned_like_final(profile)
    ranked = best_and_worst(tuned.maes(), worst=0)[0]
    shown = [ranked[len(ranked) // 4], ranked[len(ranked) // 2], ranked[-1]]
    return _forecasts({"untuned": untuned, name: tuned}, shown)


@_figure
def final_learning(profile: study.Profile) -> "Figure":
    fig, (left, right) = plt.subplots(1, 2, figsize=(plots.WIDTH, 2.6))
    plots.plot_learning(left, right, finished_record(profile, "final"))
    return fig


def sampled(profile: study.Profile, split: str = "test") -> uncertainty.Sampled:
    """The recorded samples of a split's series."""
    records = {who: finished_record(profile, f"samples/{who}/{split}") for who in uncertainty.GREEDY}
    greedy = uncertainty.GREEDY if split == "test" else {}
    maes = {who: finished_record(profile, name).maes() for who, name in greedy.items()}
    return uncertainty.Sampled.of(records, maes, _series())


def _of_samples(draw: Callable[[uncertainty.Sampled], "Figure"]) -> Callable[[study.Profile], "Figure"]:
    return lambda profile: draw(sampled(profile))


FIGURES |= {draw.__name__: _of_samples(draw) for draw in uncertainty.FIGURES}
FIGURES |= {draw.__name__: draw for draw in yardstick_panels.FIGURES}


def _of_long_run(profile: study.Profile) -> "Figure":
    best, final = finished_record(profile, "best"), finished_record(profile, "final")
    arms = finished_records(profile, more_per_flop.START, *study.ARMS)
    return more_per_flop.draw(best, final, arms, profile.budget)


FIGURES["more_per_flop"] = _of_long_run


@_figure
def table3_budget(_: study.Profile) -> "Figure":
    fig, ax = plt.subplots(figsize=(plots.WIDTH, 2.8))
    tables = {convention: study.table_3(Shape.of(_qwen()), convention) for convention in CONVENTIONS}
    plots.plot_budget(ax, tables, study.PROFILES["report"].budget)
    return fig


def _qwen() -> "PretrainedConfig":
    return backbone_config("qwen2.5-0.5b")


def _who(profile: study.Profile) -> str:
    return f"ours: {profile.backbone}"


def _colour(who: str) -> str:
    return plots.COLOURS["published" if who.startswith("published") else "ours"]


def _before_after(before: study.Maes, after: study.Maes, series: Iterable[int]) -> dict[str, list[float]]:
    return {"untuned": [before[i] for i in series], "tuned": [after[i] for i in series]}


def _error_panels(panels: dict[str, dict[str, list[float]]]) -> "Figure":
    """One panel below the other, by title, each of groups of errors."""
    rows = sum(len(groups) for groups in panels.values())
    fig, axes = plt.subplots(len(panels), 1, figsize=(plots.WIDTH, 0.34 * rows + 0.35 * len(panels) + 0.4), sharex=True)
    for ax, (title, groups) in zip(axes, panels.items(), strict=True):
        plots.plot_error_groups(ax, groups, title, _colour(title))
    _zoom(axes[0], [errors for groups in panels.values() for errors in groups.values()])
    for ax in axes[:-1]:
        ax.set_xlabel("")
    return fig


def _search_panels(profile: study.Profile, second: bool) -> "Figure":
    who = {
        _who(profile): (profile, search_maes(profile, second)),
        QWEN: (study.PROFILES["report"], published_search(second)),
    }
    fig, axes = plt.subplots(1, 2, figsize=(plots.WIDTH, 1.6 if second else 3.2), sharex=True)
    for ax, (title, (sizes, maes)) in zip(axes, who.items(), strict=True):
        groups = {label(name, sizes): list(errors.values()) for name, errors in maes.items()}
        plots.plot_error_groups(ax, groups, title, _colour(title), values=False)
    _zoom(axes[0], [errors.values() for _, maes in who.values() for errors in maes.values()])
    return fig


def _zoom(shared: "Axes", groups: Iterable[Iterable[float]]) -> None:
    """Begin an error axis at 10 where no error is below."""
    if min(map(min, groups)) >= 10:
        shared.set_xlim(left=10)


def _forecasts(records: dict[str, study.Record], shown: Sequence[int]) -> "Figure":
    """A row for each record, a column for each series."""
    series = _series()
    fig, axes = plt.subplots(
        len(records), len(shown), figsize=(plots.WIDTH, 0.5 + 1.6 * len(records)), sharex=True, squeeze=False
    )
    for row, (title, record) in zip(axes, records.items(), strict=True):
        rounding = record.config["decode"]["rounding"]
        for ax, i in zip(row, shown, strict=True):
            scaled = to_integers(series.trajectories[i], series.scales[i], rounding)
            forecast, mae = study.recorded_forecast(record, series, i), record.series[i]["mae"]
            plots.plot_forecast(ax, series.time, scaled, forecast, f"series {i}: MAE {mae:.0f}")
        row[0].set_ylabel(f"{title}\nscaled units" if title else "scaled units")
    for ax in axes[-1]:
        ax.set_xlabel(plots.MODEL_TIME)
    plots.forecast_legend(fig)
    return fig
