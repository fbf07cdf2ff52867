"""More accuracy per FLOP: what was tried at equal FLOPs, and error against FLOPs, in numbers and in a figure."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from m2lib import study
from m2lib.accounting import Shape
from m2lib.model import backbone_config
from m2lib.paper import plots
from m2lib.series import paired_gain, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

START = "trial/rate"
"""The recorded run that the arms go on from."""
CONTROLS = {"trial/small": "small model, random weights", "trial/shuffled": "shuffled weights"}
"""Arms that say what pretraining is worth, and their names in the figure."""
YARDSTICKS = {
    "mean of the context, repeated": "mean of the context",
    "nearest analogue in the context": "nearest analogue",
    study.TUNED: "log-VAR(9)",
}
"""The forecasts without a language model that are drawn as lines, and their names there."""
MEASURED = {"loss": "loss", "mae_mean": "mean MAE", "mae_median": "median MAE"}
"""What a milestone measures, as it is called here."""


def learned(best: study.Record) -> tuple[list[study.Milestone], study.Milestone]:
    """Where a long run stood on its way, at the full rate, and where it ended, when the rate had cooled down."""
    *way, end = study.milestones(best)
    return way, end


def laws(way: Sequence[study.Milestone]) -> dict[str, study.PowerLaw]:
    """The power law of each measure through milestones, by its name in MEASURED."""
    flops = [milestone.flops for milestone in way]
    return {name: study.fit_power_law(flops, [getattr(milestone, name) for milestone in way]) for name in MEASURED}


def arm(name: str, record: study.Record) -> dict[str, Any]:
    """A trial's row: what it was, what it cost, and what it came to on the validation series."""
    loss = record.evaluations[-1]["loss"] if record.evaluations else None
    summary = summarise(record.maes().values())
    return {
        "name": name,
        "about": study.EXPERIMENTS[name].about.removeprefix("trial: "),
        "steps": len(record.loss_curve),
        "flops": record.flops["training"]["coursework"],
        "seconds": record.train_seconds - record.evaluation_seconds,
        "loss": loss,
        "mean": summary.mean,
        "median": summary.median,
    }


def published_final() -> dict[str, float]:
    """The report's final adapter: FLOPs of its training by the rules, and its errors on test."""
    training, _ = study.table_3(Shape.of(backbone_config("qwen2.5-0.5b")), "coursework")["final"]
    summary = summarise(study.published_maes("final").values())
    return {"flops": training, "mean": summary.mean, "median": summary.median}


def numbers(
    best: dict[str, study.Record], others: dict[str, study.Maes], arms: dict[str, study.Record], budget: float
) -> dict[str, Any]:
    """What the section says in numbers.

    best: the long run's record under `greedy`, that of its samples under `sampled`, on test.
    others: errors on the same series, by whose they are.
    """
    way, end = learned(best["greedy"])
    maes = {how: record.maes() for how, record in best.items()}
    return {
        "arms": [arm(name, record) for name, record in arms.items()],
        "way": [asdict(milestone) for milestone in way],
        "end": asdict(end),
        "untrained loss": best["greedy"].evaluations[0]["loss"],
        "discarded": best["greedy"].flops["discarded"]["coursework"],
        "laws": {
            name: {
                "exponent": law.exponent,
                "exponent interval": law.exponent_interval,
                "at the budget": law.at(budget),
                "interval there": law.interval(budget),
            }
            for name, law in laws(way).items()
        },
        "gains": {
            how: {name: paired_gain(found, theirs) for name, theirs in others.items()} for how, found in maes.items()
        },
        "protocols": {how: record.config["decode"] for how, record in best.items()},
        "published training": published_final()["flops"],
        "recipe": {key: best["greedy"].training[key] for key in ("steps", "learning_rate", "rank")}
        | {"hours": best["greedy"].seconds / 3600},
    }


def draw(best: study.Record, final: study.Record, arms: dict[str, study.Record], budget: float) -> "Figure":
    """Validation loss, and the MAE, against training FLOPs by the rules, on logarithmic axes, up to the budget."""
    way, end = learned(best)
    lines = study.recorded_yardsticks("validation")
    figure, (loss, mae) = plt.subplots(1, 2, figsize=(plots.WIDTH, 3.8))
    _curve(loss, "loss", way, end, "C0")
    _law(loss, laws(way)["loss"], way[0].flops, budget)
    _curve(mae, "mae_mean", way, end, "C0")
    _curve(mae, "mae_median", way, end, "C1")
    for name, record in arms.items():
        row = arm(name, record)
        style = {"marker": "D" if name in CONTROLS else ".", "color": "0.4", "ls": "", "zorder": 1}
        loss.plot(row["flops"], row["loss"], **style)
        mae.plot(row["flops"], row["mean"], **style)
        if name in CONTROLS:
            for ax, key in ((loss, "loss"), (mae, "mean")):
                plots.name_point(ax, row["flops"], row[key], CONTROLS[name])
    levels = {words: float(np.mean(list(lines[name].values()))) for name, words in YARDSTICKS.items()}
    for words, level in levels.items():
        mae.axhline(level, color=plots.COLOURS["prey"], ls=":", lw=1)
        lowest = level == min(levels.values())  # its name stands below the line, off the others' and off the points
        x, ha, va = (1.1e14, "left", "top") if lowest else (budget, "right", "bottom")
        mae.text(x, level, words, size="small", ha=ha, va=va, color=plots.COLOURS["prey"])
    ours = {"flops": final.flops["training"]["coursework"], "mean": summarise(final.maes().values()).mean}
    for words, point, colour in (("final", ours, "ours"), ("published final", published_final(), "published")):
        mae.plot(point["flops"], point["mean"], "s", color=plots.COLOURS[colour])
        plots.name_point(mae, point["flops"], point["mean"], words, (-6, -5))
    loss.set(ylabel="validation loss (nats a token)")
    mae.set(ylabel="MAE (scaled units)\non validation; squares: on test")
    for ax, ticks in ((loss, (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.3, 1.7)), (mae, (1, 2, 5, 10, 20, 50, 100, 200, 400))):
        ax.set(xscale="log", yscale="log", xlabel="training FLOPs by the rules", xlim=(1e14, 1.2 * budget))
        ax.minorticks_off()
        ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.set_ylim(ticks[0], 1.3 * ticks[-1])
    _legend(loss, {"C0": "the long run"}, "power law through these, 95%")
    _legend(mae, {"C0": "the long run, mean", "C1": "median"})
    return figure


def _curve(ax: "Axes", name: str, way: Sequence[study.Milestone], end: study.Milestone, colour: str) -> None:
    """Milestones, hollow, and where the run ended, filled."""
    points = [(milestone.flops, getattr(milestone, name)) for milestone in way]
    ax.plot(*zip(*points, strict=True), "o", mfc="white", color=colour)
    ax.plot(end.flops, getattr(end, name), "o", color=colour)


def _law(ax: "Axes", law: study.PowerLaw, start: float, budget: float) -> None:
    """A power law with its interval, up to the budget. That of the MAE is so wide that it says nothing."""
    flops = np.geomspace(start, budget, 60)
    low, high = zip(*map(law.interval, flops), strict=True)
    ax.fill_between(flops, low, high, color="C0", alpha=0.12, lw=0)
    ax.plot(flops, [law.at(x) for x in flops], color="C0", lw=1, ls="--", zorder=1)


def _legend(ax: "Axes", colours: dict[str, str], law: str = "") -> None:
    line = plt.Line2D
    handles = [line([], [], color=colour, marker="o", ls="", label=words) for colour, words in colours.items()]
    handles += [
        line([], [], color="0.3", marker="o", mfc="white", ls="", label="on its way, at the full rate"),
        *([line([], [], color="0.3", ls="--", lw=1, label=law)] if law else []),
        line([], [], color="0.4", marker=".", ls="", label="trials of 240 steps"),
        *([] if law else [line([], [], color="0.3", marker="s", ls="", label="mean on test")]),
    ]
    ax.legend(handles=handles, loc="lower left", fontsize="small")
