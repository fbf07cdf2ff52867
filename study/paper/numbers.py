"""The numbers that the PDF prints, as tables: from records and published tables alone. The PDF adds
them up."""

from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

import study
from m2lib import series
from m2lib.accounting import (
    CONVENTIONS,
    Shape,
    cached_step_flops,
    forecast_flops,
    forward_flops,
    total,
)
from m2lib.files import ROOT, InputError, read_json
from m2lib.model import backbone_config
from m2lib.series import bootstrap_interval, crps_fair
from m2lib.series.intervals import error_ratio
from study import EXPERIMENTS, REPLICATION, Profile, Record
from study.paper import errors
from study.paper.errors import GREEDY, Runs, Sampled, median_mae, summary

REPORT = study.PROFILES["report"]
CONTEXTS = tuple(f"context/{length}" for length in errors.LENGTHS)
COMPARISONS = (*study.SEARCH, *study.SECOND, *CONTEXTS, "context/768-rest")
"""The runs of the report's searches, and of a replication alone."""
REPLICATED = {
    "fifth": (*COMPARISONS, "final"),
    "report": ("baseline", "untuned-test", "default", "default-rest"),
}
"""The runs of the replication that the PDF speaks of, by profile."""
SETTINGS = (*study.SEARCH, *CONTEXTS)
"""The runs that the report compares on the same series."""
SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)
TRAINED_WITH = ("learning_rate", "rank", "sequence_length", "batch_size")
PUBLISHED = {
    "published: Qwen2.5-0.5B, untuned": "untuned",
    "published: Qwen2.5-0.5B, final adapter": "final",
}
"""The report's runs on the test series, by what they are called among the yardsticks."""
SIMPLE = [f"test {name}" for name in (*series.BASELINES, study.TUNED)]
COMPARED = {
    **{f"{who} default": [f"{who} baseline"] for who in ("ours", "published", "report")},
    "report default-rest": ["report baseline"],
    "report baseline": ["published baseline"],
    "fifth context/768": ["fifth context/512"],
    "replication final": ["replication untuned-test", "published final"],
    "ours final": [f"ours {GREEDY['untuned']}", "published final", *SIMPLE],
    "ours best": ["ours final", "published final", f"test {study.TUNED}"],
}
"""Who is compared with whom, series by series."""


def numbers(profile: Profile) -> dict[str, Any]:
    """All that the PDF prints and that no record holds as it stands: errors, intervals, FLOPs,
    yardsticks.

    Raises InputError where a record is missing or not finished, or M2_DATA holds other series than
    theirs.
    """
    # Without what is made for tables, which is no part of the paper; its own trials last, as it
    # lists them.
    names = (
        name for name, one in EXPERIMENTS.items() if not one.synthetic and name not in COMPARISONS
    )
    records = errors.finished_records(
        profile, *sorted(names, key=lambda name: name.startswith("trial/"))
    )
    if records["final"].plan.data != errors.data().fingerprint:
        raise InputError(
            f"{errors.data().source} holds other series than the records are about; "
            "leave M2_DATA out"
        )
    replicas = {
        who: errors.finished_records(REPLICATION[who], *names) for who, names in REPLICATED.items()
    }
    end = fullest_final()
    ending = errors.records_on_test(end)
    all_replicas = replicas | {"replication": ending}
    theirs = (
        errors.error_table(found).query("who == 'ours'").assign(who=who)
        for who, found in all_replicas.items()
    )
    table = pd.concat([errors.error_table(records), *theirs])
    # The five series on which settings are compared.
    five = table.loc[table["experiment"] == "context/512", ["who", "series"]]
    way = errors.milestones(records["best"])
    # The series that figure 6 shows: at the first quartile, the median and the maximum.
    ranked = series.best_and_worst(replicas["report"]["default"].maes(), worst=0)[0]
    shown = ranked[len(ranked) // 4], ranked[len(ranked) // 2], ranked[-1]
    return {
        "records": {name: run_row(record) for name, record in records.items()},
        "removed": study.removed(profile),
        "replicated": {
            who: {name: run_row(one) for name, one in found.items()}
            for who, found in replicas.items()
        },
        "at the end": {
            "profile": end.name,
            "records": {name: run_row(one) for name, one in ending.items()},
        },
        "reported": {name: _reported(name) for name in ("default", *SETTINGS, "final")},
        "errors": _errors(table),
        "five": _errors(table[table["experiment"].isin(SETTINGS)].merge(five)),
        "crps": table.groupby("experiment")["crps"].mean().dropna().to_dict(),
        "gains": _gains(errors.runs(table)),
        "first round": {
            who: _first_rounds(errors.runs(table), who) for who in ("published", "fifth")
        },
        "precision": _precision(),
        "featured": {
            "fig4": _featured(replicas["report"], "baseline", EXPERIMENTS["baseline"].featured),
            "fig6 untuned": _featured(replicas["report"], "baseline", shown),
            "fig6 tuned": _featured(replicas["report"], "default", shown),
        },
        "tables": _tables(),
        "costs": yardstick_costs(),
        "uncertainty": _uncertainty(profile),
        "best": {
            "way": way.to_dict("records"),
            "laws": {
                what: errors.power_law(way["flops"][:-1], way[what][:-1], profile.budget)
                for what in errors.MEASURED
            },
            "untrained loss": records["best"].evaluations[0]["loss"],
            "discarded": records["best"].flops["discarded"]["coursework"],
        },
        "table3": _table_3(),
        "printed": study.published_statements(),
        "accountant": _accountant(),
        "a cached step as published": total(
            cached_step_flops(report_shape(), 512, convention="published")
        ),
        "a cache saves by the rules": _cache_saves(),
        "model": {size: getattr(backbone_config(REPORT.backbone), size) for size in SIZES},
    }


def fullest_final() -> Profile:
    """The profile of the replication's longest final run: all of the report's steps if it is
    finished, else a fifth."""
    whole = REPLICATION["report"]
    done = (
        study.record_path(whole, "final").is_file()
        and study.load_record(whole, "final").status == "done"
    )
    return whole if done else REPLICATION["fifth"]


def run_row(record: Record) -> dict[str, Any]:
    """What a run was and what it took, by the rules: `flops` and `seconds` of its training, and
    those of all."""
    return {
        "about": EXPERIMENTS[record.name].about.removeprefix("trial: "),
        "group": EXPERIMENTS[record.name].group,
        "backbone": record.plan.backbone,
        "device": record.device,
        "dtype": record.dtype,
        "forecast dtype": record.forecast_dtype or record.dtype,
        "commit": record.commit,
        "steps": len(record.loss_curve),
        "flops": record.flops["training"]["coursework"],
        "seconds": record.train_seconds - record.evaluation_seconds,
        "loss": record.evaluations[-1]["loss"] if record.evaluations else None,
        "all flops": record.spent()["coursework"],
        "all seconds": record.seconds,
        "forecasts": len(record.series),
        "samples": record.protocol.n_samples,
        "temperature": record.protocol.temperature,
    } | {setting: getattr(record.training, setting, None) for setting in TRAINED_WITH}


def _reported(name: str) -> dict[str, Any]:
    """What the report trained an experiment with."""
    training = asdict(study.trained_with(name, REPORT))
    return {of: training[of] for of in ("steps", "learning_rate", "rank", "sequence_length")}


def yardstick_costs() -> dict[str, dict[str, Any]]:
    """Seconds of one core and executed FLOPs a series, by forecaster, published ones included.

    How long a published forecast took nobody has said. Its FLOPs are those of a prompt of 512
    tokens and 220 new ones, with the keys and values kept.
    """
    flops = total(forecast_flops(report_shape(), 512, 220, convention="executed"))
    rows = study.recorded_rows("test") | {name: {"flops": flops} for name in PUBLISHED}
    return {
        name: {cost: row.get(cost) for cost in ("seconds", "flops", "bound")}
        for name, row in rows.items()
    }


def _errors(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """A summary of each run by who and experiment, of a language model's on test with 95%
    intervals.

    A mean may hang on one series: so which is the worst is said, and what the mean is without it.
    """
    found: dict[str, dict[str, Any]] = {}
    for (who, name), run in table.groupby(["who", "experiment"], sort=False):
        maes = run.set_index("series")["mae"]
        worst = maes.idxmax()
        row = summary(maes) | {
            "worst series": int(worst),
            "mean without it": maes.drop(worst).mean(),
        }
        row["quartiles"] = maes.quantile([0.25, 0.75]).tolist()
        if who != "test" and (run["split"] == "test").all():
            row["mean interval"] = bootstrap_interval(run["mae"])
            row["median interval"] = bootstrap_interval(run["mae"], np.median)
        found.setdefault(who, {})[name] = row
    return found


def _gains(runs: Runs) -> dict[str, dict[str, Any]]:
    """How much better runs are than others on the series of both, by their names; `theirs` are the
    others' errors."""
    found: dict[str, dict[str, Any]] = {name: {} for name in COMPARED}
    named = {" ".join(run): maes for run, maes in runs.items()}
    for name, gains in found.items():
        for other in COMPARED[name]:
            theirs = named[other].reindex(named[name].index).dropna()
            ours = named[name][theirs.index]
            gains[other] = {"theirs": summary(theirs), "worse": int((ours > theirs).sum())}
            gains[other] |= series.paired_gain(dict(ours), dict(theirs))
    return found


def _first_rounds(runs: Runs, who: str) -> list[str]:
    """The settings with the lowest mean of the five series, and of any four of them; each once."""
    asked = runs["published", "context/512"].index
    five = pd.DataFrame({name: runs[who, name] for name in study.SEARCH}).loc[asked]
    return sorted(
        {five.mean().idxmin()} | {five.drop(left_out).mean().idxmin() for left_out in asked}
    )


def _precision() -> dict[str, Any]:
    """What the replication's forecasts were in bfloat16 and are in float32, by run."""
    rows = read_json(ROOT / "report" / "results" / "precision.json")["records"]
    return {f"{row['profile']} {row['run']}": row for row in rows}


def _featured(records: dict[str, Record], name: str, shown: Iterable[int]) -> list[dict[str, Any]]:
    """Errors of the series whose forecasts are drawn of a run, beside the report's."""
    maes = records[name].maes()
    report = study.published_maes(name)
    return [{"series": i, "mae": maes[i], "published": report[i]} for i in shown]


def _tables() -> dict[str, Any]:
    """Real tables: how `general` compares with others on the sources for judging, and errors on
    those for choosing."""
    table = errors.table_errors()
    judging, choosing = (
        errors.relative_errors(table[table["split"] == split]).dropna(axis="columns")
        for split in ("test", "validation")
    )
    rivals = judging.columns.drop("general")
    return {
        "sources": len(judging),
        "ratios": {name: asdict(error_ratio(judging["general"], judging[name])) for name in rivals},
        "validation": np.exp(np.log(choosing.div(choosing[errors.NAIVE], axis=0)).mean()).to_dict(),
    }


def _uncertainty(profile: Profile) -> dict[str, Any]:
    """What the samples come to, and what they cost. The temperatures were tried on the validation
    series."""
    test = errors.sampled(profile)
    validation = errors.sampled(profile, "validation")
    crps = {name: test.by_series(crps_fair, name) for name in test.samples}
    shown = test.records[test.shown]
    best = crps[test.shown]
    greedy = errors.finished_record(profile, GREEDY[test.shown]).maes()
    forecast = partial(forecast_flops, report_shape(), 512, 220, rank=2)
    return {
        "samples": shown.protocol.n_samples,
        "shown": test.shown,
        "rows": {name: _sampled(test, validation, name) for name in test.samples},
        "gains": {
            who: series.paired_gain(dict(best), dict(crps[who]))
            for who in crps
            if who != test.shown
        },
        "below greedy": series.paired_gain(dict(best), greedy),
        "flops": shown.flops["forecasts"],
        "one greedy forecast as published": total(forecast(convention="published")),
        "samples by the rules": total(forecast(samples=shown.protocol.n_samples)),
    }


def _sampled(test: Sampled, validation: Sampled, name: str) -> dict[str, Any]:
    crps = test.by_series(crps_fair, name)
    factor = validation.factor(name)
    losses = test.by_series(series.quantile_loss, name)
    return {
        "of medians": summary(test.by_series(median_mae, name)),
        "crps": crps.mean(),
        "crps interval": bootstrap_interval(crps),
        "weighted quantile loss": series.weighted_quantile_loss(losses, list(test.truths)),
        "held": list(test.held(name).values()),
        "width": test.by_series(lambda samples, _: series.sharpness(samples, 0.8), name).mean(),
        "factor": factor,
        "held when stretched": list(test.held(name, factor=factor).values()),
    }


def _table_3() -> dict[str, dict[str, Any]]:
    """FLOPs of training and forecasts by row, under each convention and as printed; `all` is the
    sum."""
    tables: dict[str, dict[str, Any]] = {
        kind: study.table_3(report_shape(), kind) for kind in CONVENTIONS
    }
    for table in tables.values():
        table["all"] = tuple(map(sum, zip(*table.values(), strict=True)))
    return tables | {"printed": study.published_table_3()}


def _accountant() -> dict[str, float]:
    """What the report's own accountant charges, where its text prints it and no table holds it.

    The report cuts off where it prints: 210 passes are 210.8, and by these 210 it has divided its
    forecast.
    """
    one_pass = total(forward_flops(report_shape(), 512, convention="published"))
    forecast = total(forecast_flops(report_shape(), 512, 220, convention="published"))
    return {
        "passes per forecast": forecast / one_pass,
        "FLOPs per generated token": forecast / int(forecast / one_pass),
        "speed-up of decoding by a KV cache": 220 * one_pass / forecast,
    }


def _cache_saves() -> float:
    """By the rules, how many times as much a forecast would cost if no keys and values were
    kept."""
    again = sum(total(forward_flops(report_shape(), 512 + new, rank=2)) for new in range(220))
    return again / total(forecast_flops(report_shape(), 512, 220, rank=2))


def report_shape() -> Shape:
    """The report's model, as it is counted and drawn."""
    return Shape.of(backbone_config(REPORT.backbone))
