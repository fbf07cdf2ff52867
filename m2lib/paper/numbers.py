"""The numbers of the recorded study, as the PDF prints them: from records and published tables alone."""

from functools import partial
from math import fsum
from typing import Any

import numpy as np
import pandas as pd

from m2lib import series, study
from m2lib.accounting import CONVENTIONS, Shape, cached_step_flops, forecast_flops, forward_flops, total
from m2lib.files import InputError
from m2lib.model import SYMBOLS, backbone_config
from m2lib.paper import errors
from m2lib.paper.errors import LENGTHS, LOG_VAR, START, Runs, Sampled, median_mae, summary
from m2lib.series.worlds import WORLDS
from m2lib.study import EXPERIMENTS, Record

REPORT = study.PROFILES["report"]
WHO = ("ours", "published")


def numbers(profile: study.Profile) -> dict[str, Any]:
    """All that the PDF prints and that no record holds as it stands: summaries, intervals, FLOPs, yardsticks.

    Raises InputError where a record is missing or not finished, or M2_DATA holds other series than theirs.
    """
    # Trials last, as the paper lists them.
    records = errors.finished_records(profile, *sorted(EXPERIMENTS, key=lambda name: name.startswith("trial/")))
    if records["final"].data["fingerprint"] != errors.data().fingerprint:
        raise InputError(f"{errors.data().source} holds other series than the records are about; leave M2_DATA out")
    table = errors.error_table(records)
    runs, five = errors.runs(table), errors.runs(errors.on_five(table))
    first, default, rest = runs["published", "baseline"], runs["published", "default"], runs["ours", "default-rest"]
    before = runs["ours", "baseline"][rest.index]
    published = {"baseline": first, "default": default, "baseline of default": first[default.index]}
    return {
        "study": _study(profile, records),
        "errors": {name: summary(runs["ours", name]) for name in ("baseline", "baseline-constrained")},
        "published": {name: summary(maes) for name, maes in published.items()},
        "rest": {"before": summary(before), "after": summary(rest), "worse": int((rest > before).sum())},
        "search": _search(profile, runs, five),
        "steps": {name: EXPERIMENTS[name].training(REPORT)["steps"] for name in ("search/expt_6", "context/512")},
        "context": [_context(records[f"context/{length}"], five) for length in LENGTHS],
        "twenty of 768": {who: summary(runs[who, "context/768"]) for who in WHO},
        "final": _final(profile, records, runs),
        "yardsticks": {
            split: [{"name": name} | summary(runs[split, name]) for name in series.BASELINES]
            for split in ("validation", "test")
        },
        "recorded yardsticks": _recorded_yardsticks(runs),
        "yardstick costs": yardstick_costs(runs),
        "worlds": worlds(runs),
        "uncertainty": _uncertainty(profile, records, runs),
        "more per flop": _more_per_flop(profile, records, runs),
        "table3": _table_3(),
        "model": _model(),
        "trials": [_trial(records[name]) | summary(runs["ours", name]) for name in ("default-warm", *study.TRIALS)],
        "records": [
            {"name": name, "commit": run.commit, "seconds": run.seconds, "flops": run.spent()["coursework"]}
            for name, run in records.items()
        ],
    }


def yardstick_costs(runs: Runs) -> dict[str, dict[str, Any]]:
    """Errors on test, and seconds of one core and executed FLOPs a series, by forecaster, published ones included.

    How long a published forecast took nobody has said. Its FLOPs are those of a prompt of 512 tokens and 220 new ones,
    with the keys and values kept.
    """
    found = {}
    for name, row in study.recorded_rows("test").items():
        found[name] = _mean_and_median(runs["test", name]) | {
            key: row.get(key) for key in ("seconds", "flops", "bound")
        }
    flops = total(forecast_flops(_shape(), 512, 220, convention="executed"))
    for name, words in (("untuned", "untuned"), ("final", "final adapter")):
        errors_of = _mean_and_median(runs["published", name])
        found[f"published: Qwen2.5-0.5B, {words}"] = errors_of | {"seconds": None, "flops": flops, "bound": None}
    return found


def worlds(runs: Runs) -> dict[str, dict[str, dict[str, Any]]]:
    """Mean and median error of each forecaster in each world; those that all worlds have been forecast by."""
    names = [name for name in study.recorded_rows("test") if all((world, name) in runs for world in WORLDS)]
    return {world: {name: _mean_and_median(runs[world, name]) for name in names} for world in WORLDS}


def arm(record: Record) -> dict[str, Any]:
    """A trial's row: what it was, what it cost, and what it came to on the validation series."""
    return {
        "name": record.name,
        "about": EXPERIMENTS[record.name].about.removeprefix("trial: "),
        "steps": len(record.loss_curve),
        "flops": record.flops["training"]["coursework"],
        "seconds": record.train_seconds - record.evaluation_seconds,
        "loss": record.evaluations[-1]["loss"] if record.evaluations else None,
    } | _mean_and_median(pd.Series(record.maes()))


def final_training() -> int:
    """FLOPs of the training of the report's final adapter, by the rules."""
    return study.table_3(_shape(), "coursework")["final"][0]


def _mean_and_median(maes: pd.Series) -> dict[str, Any]:
    return {"mean": maes.mean(), "median": maes.median()}


def _with_intervals(maes: pd.Series) -> dict[str, Any]:
    intervals = {f"{of.__name__} interval": series.bootstrap_interval(maes, of) for of in (np.mean, np.median)}
    return summary(maes) | intervals


def _gain(ours: pd.Series, theirs: pd.Series) -> dict[str, Any]:
    return series.paired_gain(ours.to_dict(), theirs.to_dict())


def _recipe(record: Record) -> dict[str, Any]:
    return {key: record.training[key] for key in ("steps", "learning_rate", "rank")}


def _study(profile: study.Profile, records: dict[str, Record]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    charged = [run for name, run in records.items() if EXPERIMENTS[name].group]
    for name, runs in (("charged", charged), ("all", records.values())):
        hours, flops = fsum(run.seconds for run in runs) / 3600, sum(run.spent()["coursework"] for run in runs)
        found[name] = {"runs": len(runs), "hours": hours, "flops": flops}
    published = sum(training for training, _ in study.table_3(_shape(), "coursework").values())
    processor, _, threads = records["final"].device.split(": ")[-1].rpartition(", ")
    return found | {
        "backbone": records["final"].backbone["id"],
        "processor": processor,
        "threads": threads,
        "share of the budget": found["charged"]["flops"] / profile.budget,
        "share of the training published": found["charged"]["flops"] / published,
        "share of all": found["all"]["flops"] / published,
    }


def _search(profile: study.Profile, runs: Runs, five: Runs) -> dict[str, Any]:
    """The nine settings on five series, the best three on twenty, and the choice between these."""
    found: dict[str, Any] = {"rows": [{} for _ in study.SEARCH]}
    for who, key, sizes in (("ours", "chosen", profile), ("published", "published", REPORT)):
        twenty = {name: runs[who, name] for name in study.SEARCH if len(runs[who, name]) == 20}
        for row, name in zip(found["rows"], study.SEARCH, strict=True):
            train = EXPERIMENTS[name].training(sizes)
            row[who] = {"rate": train["learning_rate"], "rank": train["rank"], "five": summary(five[who, name])}
            row[who]["twenty"] = summary(twenty[name]) if name in twenty else None
        found[key] = errors.label(min(twenty, key=lambda name: (twenty[name].median(), name)), sizes)
    return found


def _context(record: Record, five: Runs) -> dict[str, Any]:
    steps, flops = len(record.loss_curve), record.flops["training"]["coursework"]
    seconds = (record.train_seconds - record.evaluation_seconds) / steps
    row = {"length": record.training["sequence_length"]} | {who: summary(five[who, record.name]) for who in WHO}
    return row | {"step": flops / steps, "seconds": seconds}


def _final(profile: study.Profile, records: dict[str, Record], runs: Runs) -> dict[str, Any]:
    record, drawn = records["final"], records["final-sampled"].protocol
    kinds = {"untuned": errors.untuned_like_final(profile).name, "sampled": "final-sampled"}
    maes = {kind: runs["ours", kinds.get(kind, kind)] for kind in ("untuned", "final", "sampled", "untuned-test")}
    maes |= {f"published {name}": runs["published", name] for name in ("untuned", "final")}
    others = {name: runs["test", name] for name in series.BASELINES} | {"published final": maes["published final"]}
    return {
        "errors": {name: _with_intervals(each) for name, each in maes.items()},
        "samples": drawn.n_samples,
        "temperature": drawn.temperature,
        "crps": _mean_crps(records["final-sampled"]),
        "better": int((maes["final"] < maes["untuned"][maes["final"].index]).sum()),
        "gains": {name: _gain(maes["final"], theirs) for name, theirs in others.items()},
        "recipe": _recipe(record) | {"minutes": record.seconds / 60, "flops": record.spent()["coursework"]},
    }


def _mean_crps(record: Record) -> float:
    return float(np.mean([entry["crps"] for entry in record.series.values()]))


def _recorded_yardsticks(runs: Runs) -> list[dict[str, Any]]:
    """Test errors of some that only a record has: among them the statistical model that is best on validation."""
    best = min(study.STATISTICAL, key=lambda name: runs["validation", name].mean())
    shown = {
        "the last period, repeated": "the last period, repeated",
        study.TUNED: study.TUNED,
        best: f"{best} of statsforecast, each variable alone",
        "the system, fitted": "the equations known, their parameters fitted to the context",
        "the system, fitted with the file's integrator": "the same, with the data's own integrator",
    }
    return [{"name": words} | summary(runs["test", name]) for name, words in shown.items()]


def _uncertainty(profile: study.Profile, records: dict[str, Record], runs: Runs) -> dict[str, Any]:
    """What the samples come to, and what they cost. The temperatures were tried on the validation series."""
    test, validation = errors.sampled(profile), errors.sampled(profile, "validation")
    crps = {name: test.by_series(series.crps_fair, name) for name in test.samples}
    greedy = {who: runs["ours", name] for who, name in errors.GREEDY.items()}
    best, shown = crps[test.shown], test.records[test.shown]
    temperatures = {who: [f"temperature/{who}/{tried}" for tried in study.TEMPERATURES] for who in study.SAMPLED_AT}
    forecast = partial(forecast_flops, _shape(), 512, 220, rank=2)
    return {
        "samples": shown.protocol.n_samples,
        "shown": test.shown,
        "rows": [_sampled(test, validation, name, crps[name], greedy.get(name)) for name in test.samples],
        "temperatures": [
            {"name": who, "tried": list(study.TEMPERATURES), "crps": [_mean_crps(records[name]) for name in names]}
            for who, names in temperatures.items()
        ],
        "gains": {name: _gain(best, theirs) for name, theirs in crps.items() if name != test.shown},
        "below greedy": _gain(best, greedy[test.shown]),
        "cost": {
            "flops": shown.flops["forecasts"],
            "share of the budget": shown.flops["forecasts"]["coursework"] / profile.budget,
            "seconds": shown.seconds,
            "one greedy forecast as published": total(forecast(convention="published")),
            "samples by the rules": total(forecast(samples=shown.protocol.n_samples)),
        },
    }


def _sampled(
    test: Sampled, validation: Sampled, name: str, crps: pd.Series, greedy: pd.Series | None
) -> dict[str, Any]:
    factor, medians = validation.factor(name), test.by_series(median_mae, name)
    return {
        "name": name,
        "temperature": None if name == LOG_VAR else test.records[name].protocol.temperature,
        "greedy": None if greedy is None else greedy.mean(),
        "greedy median": None if greedy is None else greedy.median(),
        "median of samples": medians.mean(),
        "median of samples, median": medians.median(),
        "crps": crps.mean(),
        "crps interval": series.bootstrap_interval(crps),
        "weighted quantile loss": series.weighted_quantile_loss(
            test.by_series(series.quantile_loss, name), list(test.truths)
        ),
        "held": list(test.held(name).values()),
        "width": test.by_series(lambda samples, _: series.sharpness(samples, 0.8), name).mean(),
        "factor": factor,
        "held when stretched": list(test.held(name, factor=factor).values()),
    }


def _more_per_flop(profile: study.Profile, records: dict[str, Record], runs: Runs) -> dict[str, Any]:
    best, names = records["best"], {"greedy": "best", "sampled": "samples/best/test"}
    found, laws = errors.milestones(best), {}
    for measured in ("loss", "mae_mean", "mae_median"):
        law = errors.power_law(found["flops"][:-1], found[measured][:-1], profile.budget)
        laws[measured] = {"at the budget" if key == "there" else key: value for key, value in law.items()}
    others = {"final": runs["ours", "final"], "published final": runs["published", "final"]}
    others |= {name: runs["test", name] for name in (*series.BASELINES, study.TUNED)}
    *way, end = found.to_dict("records")
    return {
        "arms": [arm(records[name]) for name in (START, *study.ARMS)],
        "way": way,
        "end": end,
        "untrained loss": best.evaluations[0]["loss"],
        "discarded": best.flops["discarded"]["coursework"],
        "laws": laws,
        "gains": {
            how: {who: _gain(runs["ours", name], theirs) for who, theirs in others.items()}
            for how, name in names.items()
        },
        "protocols": {how: records[name].config["decode"] for how, name in names.items()},
        "published training": final_training(),
        "recipe": _recipe(best) | {"hours": best.seconds / 3600},
        "errors": {how: _with_intervals(runs["ours", name]) for how, name in names.items()},
    }


def _table_3() -> dict[str, Any]:
    tables: dict[str, dict[str, Any]] = {kind: study.table_3(_shape(), kind) for kind in CONVENTIONS}
    for table in tables.values():
        table["all"] = tuple(map(sum, zip(*table.values(), strict=True)))
    published, printed, stated = tables["published"], study.published_table_3(), study.published_statements()
    before_final = (sum(published["all"]) - sum(published["final"])) / REPORT.budget
    one_pass = total(forward_flops(_shape(), 512, convention="published"))
    computed = {
        "share of the budget for the baseline": sum(published["baseline"]) / REPORT.budget,
        "share of the budget spent before the final run": before_final,
        "passes per forecast": total(forecast_flops(_shape(), 512, 220, convention="published")) / one_pass,
        "FLOPs per generated token": total(cached_step_flops(_shape(), 512, convention="published")),
    }
    return {
        "rows": [
            {"row": row, "printed": printed[row]} | {kind: tables[kind][row] for kind in CONVENTIONS}
            for row in published
        ],
        "statements": [{"what": what, "printed": stated[what], "computed": found} for what, found in computed.items()],
        "before final": before_final,
        "forecasts": sum(experiment.forecasts for experiment in EXPERIMENTS.values() if experiment.group),
        "share of forecasts": published["all"][1] / sum(published["all"]),
    }


def _model() -> dict[str, int]:
    """Sizes of the report's model, from its config."""
    config, symbols = backbone_config(REPORT.backbone), len(SYMBOLS)
    width, values = config.hidden_size, config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    return {
        "vocabulary": config.vocab_size,
        "blocks": config.num_hidden_layers,
        "head": config.vocab_size * width,
        "reduced head": symbols * width + symbols,
        "trained": config.num_hidden_layers * 2 * (width + width + width + values) + symbols,
    }


def _trial(record: Record) -> dict[str, Any]:
    about = EXPERIMENTS[record.name].about.removeprefix("trial: ")
    if record.name not in study.TRIALS:
        windows = "{batch_size} windows of {sequence_length} tokens a step, rate {learning_rate:g}"
        about = f"{record.name}: {windows.format(**record.training)}"
    return {"about": about, "steps": len(record.loss_curve), "minutes": record.seconds / 60}


def _shape() -> Shape:
    return Shape.of(backbone_config(REPORT.backbone))
