"""The numbers of the recorded study, as the PDF and the README print them: from records and published tables alone."""

from math import fsum

import numpy as np

from m2lib.accounting.shape import CONVENTIONS, Shape
from m2lib.model.vocabulary import SYMBOLS
from m2lib.paper import panels
from m2lib.series.baselines import baseline_maes
from m2lib.series.data import load_series, split_ids
from m2lib.series.metrics import bootstrap_interval, paired_gain, summarise
from m2lib.study.costs import table_3
from m2lib.study.experiments import EXPERIMENTS, SEARCH, TRIALS, chosen
from m2lib.study.profiles import PROFILES, Profile
from m2lib.study.records import Record
from m2lib.study.report_tables import published_maes

NEEDED = (
    "baseline-constrained",
    "default-rest",
    "default-warm",
    "untuned-test-constrained",
    "final-sampled",
    "context/768-rest",
)
REPORT = PROFILES["report"]


def numbers(profile: Profile) -> dict:
    """All that the PDF prints and that no record holds as it stands: summaries, intervals, FLOPs, yardsticks.

    Raises InputError where the record of one of the report's experiments, or of NEEDED, is missing or not finished.
    """
    results = {
        name: panels.finished(profile, name) for name in EXPERIMENTS if EXPERIMENTS[name].group or name in NEEDED
    }
    others = panels.found(profile, *(name for name in EXPERIMENTS if name not in results))
    series = load_series()
    yardsticks = {
        split: baseline_maes(series, getattr(split_ids(len(series)), split)) for split in ("validation", "test")
    }
    return {
        "study": _study(profile, results, others),
        "errors": {name: _errors(results[name].maes()) for name in ("baseline", "baseline-constrained")},
        "published": _published(),
        "rest": _rest(results),
        "search": _search(profile),
        "context": [_context(results[f"context/{length}"]) for length in panels.LENGTHS],
        "twenty of 768": {
            "ours": _errors(results["context/768"].maes() | results["context/768-rest"].maes()),
            "published": _errors(published_maes("context/768")),
        },
        "final": _final(profile, results["final"], results["final-sampled"], yardsticks["test"]),
        "yardsticks": {
            split: [{"name": name} | _errors(maes) for name, maes in forecasts.items()]
            for split, forecasts in yardsticks.items()
        },
        "table3": _table_3(),
        "model": _model(),
        "trials": [_trial(name, one) for name, one in (results | others).items() if name in ("default-warm", *TRIALS)],
        "records": [
            {"name": name, "commit": one.commit, "seconds": one.seconds, "flops": one.spent()["coursework"]}
            for name, one in (results | others).items()
        ],
    }


def results_table(found: dict) -> str:
    """The README's table of test errors, from `numbers`."""
    rows = [f"| {row['name']} | {row['mean']:.1f} | | {row['median']:.1f} | |" for row in found["yardsticks"]["test"]]
    ours = f"ours: {found['study']['backbone']}"
    how = "median of {samples} samples at temperature {temperature}".format(**found["final"])
    names = {
        "published untuned": "published: Qwen2.5-0.5B, untuned",
        "published final": "published: Qwen2.5-0.5B, final adapter",
        "untuned-test": f"{ours}, untuned, the report's protocol",
        "untuned": f"{ours}, untuned, decoded as the final model is",
        "final": f"**{ours}, final adapter**",
        "sampled": f"**{ours}, final adapter, {how}**",
    }
    for kind, name in names.items():
        errors = found["final"]["errors"][kind]
        mean, median = ("{:.1f} to {:.1f}".format(*errors[f"{of} interval"]) for of in ("mean", "median"))
        rows.append(f"| {name} | {errors['mean']:.1f} | {mean} | {errors['median']:.1f} | {median} |")
    head = "| forecast of the 50 test series | mean | 95% interval | median | 95% interval |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def _errors(maes: dict[int, float]) -> dict:
    summary = summarise(maes.values())
    return {"n": summary.n, "mean": summary.mean, "median": summary.median, "worst": max(maes.values())}


def _study(profile: Profile, results: dict[str, Record], others: dict[str, Record]) -> dict:
    charged = [one for name, one in results.items() if EXPERIMENTS[name].group]
    everything = [*results.values(), *others.values()]
    published = sum(training for training, _ in table_3(_shape(REPORT), "coursework").values())
    final = results["final"]
    processor, _, threads = final.device.split(": ")[-1].rpartition(", ")
    sums = {
        name: {
            "runs": len(runs),
            "hours": fsum(one.seconds for one in runs) / 3600,
            "flops": sum(one.spent()["coursework"] for one in runs),
        }
        for name, runs in (("charged", charged), ("all", everything))
    }
    return sums | {
        "backbone": final.backbone["id"],
        "processor": processor,
        "threads": threads,
        "share of the budget": sums["charged"]["flops"] / profile.budget,
        "share of the training published": sums["charged"]["flops"] / published,
        "share of all": sums["all"]["flops"] / published,
    }


def _published() -> dict:
    baseline = published_maes("baseline")
    default = published_maes("default")
    before = {series: baseline[series] for series in default}
    return {"baseline": _errors(baseline), "default": _errors(default), "baseline of default": _errors(before)}


def _rest(results: dict[str, Record]) -> dict:
    """The series that the first adapter was not chosen by, before and after it."""
    before, after = results["baseline"].maes(), results["default-rest"].maes()
    worse = sum(after[series] > before[series] for series in after)
    return {"before": _errors({series: before[series] for series in after}), "after": _errors(after), "worse": worse}


def _search(profile: Profile) -> dict:
    five, twenty = panels.search_maes(profile), panels.search_maes(profile, second=True)
    theirs = panels.published_search(), panels.published_search(second=True)
    best = min(theirs[1], key=lambda name: summarise(theirs[1][name].values()).median)
    rows = [{"ours": _setting(name, profile, five, twenty)} for name in SEARCH]
    return {
        "rows": [row | {"published": _setting(name, REPORT, *theirs)} for row, name in zip(rows, SEARCH, strict=True)],
        "chosen": panels.label(chosen(lambda name: panels.finished(profile, name).maes()), profile),
        "published": panels.label(best, REPORT),
    }


def _setting(name: str, profile: Profile, five: dict, twenty: dict) -> dict:
    train = EXPERIMENTS[name].at(profile).train
    second = _errors(twenty[name]) if name in twenty else None
    return {"rate": train["learning_rate"], "rank": train["rank"], "five": _errors(five[name]), "twenty": second}


def _context(result: Record) -> dict:
    steps = len(result.loss_curve)
    length = result.training["sequence_length"]
    five = published_maes("context/128")
    published = published_maes(result.name)
    return {
        "length": length,
        "ours": _errors(result.maes()),
        "published": _errors({series: published[series] for series in five}),
        "step": result.flops["training"]["coursework"] / steps,
        "seconds": (result.train_seconds - result.evaluation_seconds) / steps,
    }


def _trial(name: str, result: Record) -> dict:
    about = EXPERIMENTS[name].about.removeprefix("trial: ")
    if name not in TRIALS:
        train = result.training
        windows = f"{train['batch_size']} windows of {train['sequence_length']} tokens"
        about = f"{name}: {windows} a step, rate {train['learning_rate']:g}"
    return {"about": about, "steps": len(result.loss_curve), "minutes": result.seconds / 60} | _errors(result.maes())


def _final(profile: Profile, final: Record, sampled: Record, yardsticks: dict) -> dict:
    untuned = panels.untuned_like_final(profile).maes()
    kinds = {"untuned": untuned, "final": final.maes(), "sampled": sampled.maes()}
    kinds["untuned-test"] = panels.finished(profile, "untuned-test").maes()
    kinds |= {f"published {name}": published_maes(name) for name in ("untuned", "final")}
    recipe = {key: final.training[key] for key in ("steps", "learning_rate", "rank")}
    return {
        "errors": {name: _errors(maes) | _intervals(maes) for name, maes in kinds.items()},
        "samples": sampled.config["decode"]["n_samples"],
        "temperature": sampled.config["decode"]["temperature"],
        "crps": float(np.mean([entry["crps"] for entry in sampled.series.values()])),
        "better": sum(kinds["final"][series] < untuned[series] for series in untuned),
        "gains": {
            name: paired_gain(kinds["final"], maes)
            for name, maes in (yardsticks | {"published final": kinds["published final"]}).items()
        },
        "recipe": recipe | {"minutes": final.seconds / 60, "flops": final.spent()["coursework"]},
    }


def _intervals(maes: dict[int, float]) -> dict:
    return {f"{of.__name__} interval": bootstrap_interval(maes.values(), of) for of in (np.mean, np.median)}


def _table_3() -> dict:
    tables = {kind: table_3(_shape(REPORT), kind) for kind in CONVENTIONS}
    rows = list(tables["published"])
    for table in tables.values():
        table["all"] = tuple(sum(table[row][i] for row in rows) for i in (0, 1))
    spent = tables["published"]["all"]
    return {
        "rows": [{"row": row} | {kind: list(tables[kind][row]) for kind in CONVENTIONS} for row in (*rows, "all")],
        "before final": (sum(spent) - sum(tables["published"]["final"])) / REPORT.budget,
        "forecasts": sum(one.forecasts for one in EXPERIMENTS.values() if one.group),
        "share of forecasts": spent[1] / sum(spent),
    }


def _model() -> dict:
    """Sizes of the report's model, from its config."""
    from m2lib.model.backbones import backbone_config

    config = backbone_config(REPORT.backbone)
    width, values = config.hidden_size, config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    adapters = config.num_hidden_layers * 2 * (width + width + width + values)
    symbols = len(SYMBOLS)
    return {
        "vocabulary": config.vocab_size,
        "blocks": config.num_hidden_layers,
        "head": config.vocab_size * width,
        "reduced head": symbols * width + symbols,
        "trained": adapters + symbols,
    }


def _shape(profile: Profile) -> Shape:
    from m2lib.model.backbones import backbone_config

    return Shape.of(backbone_config(profile.backbone))
