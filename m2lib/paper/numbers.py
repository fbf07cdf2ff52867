"""The numbers of the recorded study, as the PDF and the README print them: from records and published tables alone."""

from math import fsum

import numpy as np

from m2lib.accounting import CONVENTIONS, Shape, cached_step_flops, forecast_flops, forward_flops, total
from m2lib.files import InputError
from m2lib.model import SYMBOLS, backbone_config
from m2lib.paper import more_per_flop, panels, uncertainty, yardstick_panels
from m2lib.series import baseline_maes, bootstrap_interval, load_series, paired_gain, split_ids, summarise
from m2lib.study import (
    ARMS,
    EXPERIMENTS,
    PROFILES,
    SAMPLED_AT,
    SEARCH,
    STATISTICAL,
    TEMPERATURES,
    TRIALS,
    TUNED,
    Profile,
    Record,
    published_maes,
    published_statements,
    published_table_3,
    recorded_yardsticks,
    table_3,
)

NEEDED = (
    "baseline-constrained",
    "default-rest",
    "default-warm",
    "untuned-test-constrained",
    "final-sampled",
    "context/768-rest",
    "best",
    *(f"samples/{who}/{split}" for who in SAMPLED_AT for split in ("validation", "test")),
    *(f"temperature/{who}/{temperature}" for who in SAMPLED_AT for temperature in TEMPERATURES),
)
REPORT_PROFILE = PROFILES["report"]


def numbers(profile: Profile) -> dict:
    """All that the PDF prints and that no record holds as it stands: summaries, intervals, FLOPs, yardsticks.

    Raises InputError where the record of one of the report's experiments, or of NEEDED, is missing or not finished.
    """
    records = {
        name: panels.finished_record(profile, name) for name in EXPERIMENTS if EXPERIMENTS[name].group or name in NEEDED
    }
    others = panels.finished_records(profile, *(name for name in EXPERIMENTS if name not in records))
    everything = records | others
    series = load_series()
    if records["final"].data["fingerprint"] != series.fingerprint:
        raise InputError(f"{series.source} holds other series than the records are about; leave M2_DATA out")
    yardsticks = {
        split: baseline_maes(series, getattr(split_ids(len(series)), split)) for split in ("validation", "test")
    }
    return {
        "study": _study(profile, records, others),
        "errors": {name: _errors(records[name].maes()) for name in ("baseline", "baseline-constrained")},
        "published": _published(),
        "rest": _rest(records),
        "search": _search(profile),
        "steps": {
            name: EXPERIMENTS[name].training(REPORT_PROFILE)["steps"] for name in ("search/expt_6", "context/512")
        },
        "context": [_context(records[f"context/{length}"]) for length in panels.LENGTHS],
        "twenty of 768": {
            "ours": _errors(records["context/768"].maes() | records["context/768-rest"].maes()),
            "published": _errors(published_maes("context/768")),
        },
        "final": _final(profile, records["final"], records["final-sampled"], yardsticks["test"]),
        "yardsticks": {
            split: [{"name": name} | _errors(maes) for name, maes in forecasts.items()]
            for split, forecasts in yardsticks.items()
        },
        "recorded yardsticks": _recorded_yardsticks(),
        "yardstick costs": yardstick_panels.costs(),
        "worlds": yardstick_panels.worlds(),
        "uncertainty": uncertainty.numbers(
            panels.sampled(profile),
            panels.sampled(profile, "validation"),
            {name: record for name, record in everything.items() if name.startswith("temperature/")},
        ),
        "more per flop": _more_per_flop(profile, everything, yardsticks["test"]),
        "table3": _table_3(),
        "model": _model(),
        "trials": [_trial(name, record) for name, record in everything.items() if name in ("default-warm", *TRIALS)],
        "records": [
            {"name": name, "commit": run.commit, "seconds": run.seconds, "flops": run.spent()["coursework"]}
            for name, run in everything.items()
        ],
    }


def results_table(found: dict) -> str:
    """The README's table of test errors, from `numbers`."""
    yardsticks = found["yardsticks"]["test"] + found["recorded yardsticks"]
    rows = [f"| {row['name']} | {row['mean']:.1f} | | {row['median']:.1f} | |" for row in yardsticks]
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
    shown = {name: found["final"]["errors"][kind] for kind, name in names.items()}
    long_run, more = f"{ours}, the long run (notebook 13)", found["more per flop"]
    how = "median of {n_samples} samples at temperature {temperature}".format(**more["protocols"]["sampled"])
    shown[f"**{long_run}**"] = more["errors"]["greedy"]
    shown[f"**{long_run}, {how}**"] = more["errors"]["sampled"]
    for name, errors in shown.items():
        mean, median = ("{:.1f} to {:.1f}".format(*errors[f"{of} interval"]) for of in ("mean", "median"))
        rows.append(f"| {name} | {errors['mean']:.1f} | {mean} | {errors['median']:.1f} | {median} |")
    head = "| forecast of the 50 test series | mean | 95% interval | median | 95% interval |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def _recorded_yardsticks() -> list[dict]:
    """Test errors of some that only a record has: among them the statistical model that is best on validation."""
    on_validation = {name: np.mean(list(maes.values())) for name, maes in recorded_yardsticks("validation").items()}
    best = min(STATISTICAL, key=lambda name: on_validation[name])
    shown = {
        "the last period, repeated": "the last period, repeated",
        TUNED: TUNED,
        best: f"{best} of statsforecast, each variable alone",
        "the system, fitted": "the equations known, their parameters fitted to the context",
        "the system, fitted with the file's integrator": "the same, with the data's own integrator",
    }
    test = recorded_yardsticks("test")
    return [{"name": words} | _errors(test[name]) for name, words in shown.items()]


def _errors(maes: dict[int, float]) -> dict:
    summary = summarise(maes.values())
    return {"n": summary.n, "mean": summary.mean, "median": summary.median, "worst": max(maes.values())}


def _study(profile: Profile, records: dict[str, Record], others: dict[str, Record]) -> dict:
    charged = [run for name, run in records.items() if EXPERIMENTS[name].group]
    everything = [*records.values(), *others.values()]
    published = sum(training for training, _ in table_3(_shape(REPORT_PROFILE), "coursework").values())
    final = records["final"]
    processor, _, threads = final.device.split(": ")[-1].rpartition(", ")
    sums = {
        name: {
            "runs": len(runs),
            "hours": fsum(run.seconds for run in runs) / 3600,
            "flops": sum(run.spent()["coursework"] for run in runs),
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


def _rest(records: dict[str, Record]) -> dict:
    """The series that the first adapter was not chosen by, before and after it."""
    before, after = records["baseline"].maes(), records["default-rest"].maes()
    worse = sum(after[series] > before[series] for series in after)
    return {"before": _errors({series: before[series] for series in after}), "after": _errors(after), "worse": worse}


def _search(profile: Profile) -> dict:
    five, twenty = panels.search_maes(profile), panels.search_maes(profile, second=True)
    theirs = panels.published_search(), panels.published_search(second=True)
    best, published = (
        min(maes, key=lambda name: (summarise(maes[name].values()).median, name)) for maes in (twenty, theirs[1])
    )
    rows = [{"ours": _setting(name, profile, five, twenty)} for name in SEARCH]
    return {
        "rows": [
            row | {"published": _setting(name, REPORT_PROFILE, *theirs)} for row, name in zip(rows, SEARCH, strict=True)
        ],
        "chosen": panels.label(best, profile),
        "published": panels.label(published, REPORT_PROFILE),
    }


def _setting(name: str, profile: Profile, five: dict, twenty: dict) -> dict:
    train = EXPERIMENTS[name].training(profile)
    second = _errors(twenty[name]) if name in twenty else None
    return {"rate": train["learning_rate"], "rank": train["rank"], "five": _errors(five[name]), "twenty": second}


def _context(record: Record) -> dict:
    steps = len(record.loss_curve)
    length = record.training["sequence_length"]
    five = published_maes("context/128")
    published = published_maes(record.name)
    return {
        "length": length,
        "ours": _errors(record.maes()),
        "published": _errors({series: published[series] for series in five}),
        "step": record.flops["training"]["coursework"] / steps,
        "seconds": (record.train_seconds - record.evaluation_seconds) / steps,
    }


def _trial(name: str, record: Record) -> dict:
    about = EXPERIMENTS[name].about.removeprefix("trial: ")
    if name not in TRIALS:
        train = record.training
        windows = f"{train['batch_size']} windows of {train['sequence_length']} tokens"
        about = f"{name}: {windows} a step, rate {train['learning_rate']:g}"
    return {"about": about, "steps": len(record.loss_curve), "minutes": record.seconds / 60} | _errors(record.maes())


def _final(profile: Profile, final: Record, sampled: Record, yardsticks: dict) -> dict:
    untuned = panels.untuned_like_final(profile).maes()
    kinds = {"untuned": untuned, "final": final.maes(), "sampled": sampled.maes()}
    kinds["untuned-test"] = panels.finished_record(profile, "untuned-test").maes()
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


def _more_per_flop(profile: Profile, records: dict[str, Record], yardsticks: dict) -> dict:
    others = {"final": records["final"].maes(), "published final": published_maes("final")} | yardsticks
    others[TUNED] = recorded_yardsticks("test")[TUNED]
    best = {"greedy": records["best"], "sampled": records["samples/best/test"]}
    arms = {name: records[name] for name in (more_per_flop.START, *ARMS) if name in records}
    errors = {how: _errors(record.maes()) | _intervals(record.maes()) for how, record in best.items()}
    return more_per_flop.numbers(best, others, arms, profile.budget) | {"errors": errors}


def _table_3() -> dict:
    tables = {kind: table_3(_shape(REPORT_PROFILE), kind) for kind in CONVENTIONS}
    rows = list(tables["published"])
    for table in tables.values():
        table["all"] = (sum(table[row][0] for row in rows), sum(table[row][1] for row in rows))
    spent, printed = tables["published"]["all"], published_table_3()
    before_final = (sum(spent) - sum(tables["published"]["final"])) / REPORT_PROFILE.budget
    return {
        "rows": [
            {"row": row, "printed": printed[row]} | {kind: list(tables[kind][row]) for kind in CONVENTIONS}
            for row in (*rows, "all")
        ],
        "statements": _statements(sum(tables["published"]["baseline"]) / REPORT_PROFILE.budget, before_final),
        "before final": before_final,
        "forecasts": sum(experiment.forecasts for experiment in EXPERIMENTS.values() if experiment.group),
        "share of forecasts": spent[1] / sum(spent),
    }


def _statements(baseline: float, before_final: float) -> list[dict]:
    """What the report prints about FLOPs in its text, and what its own accountant gives; two shares of the budget."""
    shape = _shape(REPORT_PROFILE)
    one_pass = total(forward_flops(shape, 512, convention="published"))
    computed = {
        "share of the budget for the baseline": baseline,
        "share of the budget spent before the final run": before_final,
        "passes per forecast": total(forecast_flops(shape, 512, 220, convention="published")) / one_pass,
        "FLOPs per generated token": total(cached_step_flops(shape, 512, convention="published")),
    }
    printed = published_statements()
    return [{"what": what, "printed": printed[what], "computed": found} for what, found in computed.items()]


def _model() -> dict:
    """Sizes of the report's model, from its config."""
    config = backbone_config(REPORT_PROFILE.backbone)
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
    return Shape.of(backbone_config(profile.backbone))
