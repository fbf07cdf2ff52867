"""The numbers that the PDF prints, as tables, from records and published tables alone.

The PDF adds them up.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
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
    sum_costs,
    total,
)
from m2lib.errors import InputError
from m2lib.files import read_json
from m2lib.model import backbone_config
from m2lib.series import bootstrap_interval, crps_fair
from m2lib.series.intervals import t_interval
from study import EXPERIMENTS, REPLICATION, Profile, Record
from study.experiments import FEW_STEPS, SEEDS, few_name, few_test_name
from study.networks import TWENTIETHS, network_errors, recorded_networks
from study.paper import errors, real_tables
from study.paper.claims import judged_claims
from study.paper.errors import Runs, summary
from study.paper.samples import GREEDY, Sampled, median_mae, sampled
from study.paper.scaling import MEASURED, milestones, power_law
from study.settings import benchmark_record
from study.worlds import CHANGED, OF_USUAL_SIZE

REPORT = study.PROFILES["report"]
PROMPT = 512
"""Tokens of the report's prompts."""
NEW_TOKENS = 220
"""Tokens that it writes for a forecast, whatever they are."""
REPLICATED = {
    "fifth": (*study.SEARCH, *study.SECOND, "final"),
    "report": (
        *("baseline", "untuned-test", "default", "default-rest"),
        *study.BEST_THREE,
        *study.SECOND,
        *study.CONTEXTS,
        "context/768-rest",  # which the report does not have
        "final",
    ),
}
"""The runs of the replication that the PDF speaks of, by profile."""
ON_THE_FIVE = (*study.SEARCH, *study.CONTEXTS)
"""The runs that the report compares on the same five series."""
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
GENERAL = "language"
"""The name of the adapter `general` among the forecasters of real tables."""
RIVALS_ON_TABLES = (
    "last value",
    "last season",
    "AutoETS",
    "AutoTheta",
    "AutoARIMA",
    "ensemble",
    "untuned",
)
"""The forecasters of real tables that the PDF compares `general` with."""
DECISIVE = "prescriptions"
"""The source for judging that decides most of how `general` compares with others."""
FURTHEST_BEHIND = "prices"
"""The source for judging on which `general` is furthest behind the last value."""
SIMPLE = [f"test {name}" for name in (*series.BASELINES, study.TUNED)]
RIVAL = "residual"
"""The small network that learns from the language model's series."""
HARDENED = "residual, noise and stretched time"
"""The same with noise and stretched time in its training."""
COPIED = "nearest analogue in the context"
MEAN = "mean of the context, repeated"
FINAL_MODEL = "the language model, final adapter"
LONG_RUN = "the language model, best adapter"
ANY_TABLE = "the language model, for any table"
COMPARED = {
    "ours default": ["ours baseline"],
    "published default": ["published baseline"],
    "report default": ["report baseline"],
    "report default-rest": ["report baseline"],
    "report baseline": ["published baseline", f"validation {COPIED}"],
    "ours baseline": [f"validation {MEAN}"],
    "report context/768": ["report context/512"],
    "published search/expt_6": ["published default"],
    "report search/expt_6": ["report default"],
    "report search/expt_7": ["report search/expt_6"],
    "report search/expt_8": ["report search/expt_6"],
    "report final": [
        "report untuned-test",
        "published final",
        f"test {COPIED}",
        f"test {study.TUNED}",
    ],
    "published final": [f"test {COPIED}"],
    "ours final": [f"ours {GREEDY['untuned']}", "published final", *SIMPLE],
    "ours best": ["ours final", "published final", f"test {study.TUNED}"],
    f"test {study.TUNED}": [f"test {COPIED}"],
    "ours samples/final/test": [f"test {study.TUNED}"],
    f"test {ANY_TABLE}": [f"test {study.TUNED}"],
    "ours trial/linear-simulated": ["ours trial/small"],
    "ours trial/rank": ["ours trial/linear-simulated"],
    "ours trial/simulated": ["ours trial/rate"],
    "ours trial/tail": ["ours trial/rank"],
    "ours trial/units": ["ours trial/rate"],
}
"""Who is compared with whom, series by series; `_comparisons` adds those made in each world."""


def numbers(profile: Profile) -> dict[str, Any]:
    """Return all that the PDF prints and that no record holds as it stands.

    These are errors, intervals, FLOPs and yardsticks. Raises InputError where a record is missing
    or not finished, or M2_DATA holds other series than theirs.
    """
    records = errors.finished_records(profile, *_names_in_the_paper())
    if records["final"].plan.data != errors.data().fingerprint:
        raise InputError(
            f"{errors.data().source} holds other series than the records are about; unset M2_DATA"
        )
    replicas = {}
    for who, names in REPLICATED.items():
        replicas[who] = errors.finished_records(REPLICATION[who], *names)
    table = _all_errors(records, replicas)
    runs = errors.runs(table)
    # The five series on which settings are compared.
    five_ids = runs["published", "context/512"].index
    setting_rows = table[table["experiment"].isin(ON_THE_FIVE)]
    rows_of_five = setting_rows[setting_rows["series"].isin(five_ids)]
    our_rows = table[table["who"] == "ours"]
    crps = our_rows.groupby("experiment")["crps"].mean().dropna()
    reported_names = ("default", *ON_THE_FIVE, "final")
    model = backbone_config(REPORT.backbone)
    cached_step = cached_step_flops(report_shape(), PROMPT, convention="published")
    return {
        "records": _run_rows(records),
        "trials at equal FLOPs": (study.START, *study.ARMS),
        "trials for the final run": study.FINAL_TRIALS,
        "changed worlds": CHANGED,
        "removed": study.removed(profile),
        "replicated": {who: _run_rows(replica) for who, replica in replicas.items()},
        "reported": {name: _reported(name) for name in reported_names},
        "errors": _errors(table),
        "five": _errors(rows_of_five),
        "crps": crps.to_dict(),
        "gains": _gains(runs),
        "networks": networks(profile),
        "linear map": min(_linear_means()),
        "few series": few_series(profile),
        "lost": {who: _lost_worlds(who) for who in (FINAL_MODEL, LONG_RUN)},
        "regression leads": sum(map(_regression_leads, CHANGED)),
        "spent": _spent(profile),
        "verdicts": Counter(row.verdict for row in judged_claims()),
        "real tables": _real_table_ratios(),
        "network worlds": _network_worlds(),
        "network bands": _network_bands(profile),
        "first round": {
            "published": _winners(runs, "published"),
            "fifth": _winners(runs, "fifth"),
        },
        "precision": _precision(),
        "featured": _featured(replicas["report"]),
        "textbook": _real_tables(),
        "costs": yardstick_costs(),
        "uncertainty": _uncertainty(profile),
        "best": _best(records["best"], profile.budget),
        "table3": _table_3(),
        "printed": study.published_statements(),
        "accountant": _accountant(),
        "a cached step as published": total(cached_step),
        "a cache saves by the rules": _cost_ratio_without_cache(),
        "model": {size: getattr(model, size) for size in SIZES},
    }


def _names_in_the_paper() -> list[str]:
    """Return the experiments of ours that the paper is about, its trials last, as it lists them.

    What learns from a few series is no part of the paper, and of the searches it has the
    replication's.
    """
    names = []
    for name in EXPERIMENTS:
        is_elsewhere = name.startswith(("search/", "context/", "few/"))
        if not is_elsewhere:
            names.append(name)
    return sorted(names, key=lambda name: name.startswith("trial/"))


def _all_errors(records: dict[str, Record], replicas: dict[str, dict[str, Record]]) -> pd.DataFrame:
    """Return the table of errors, and below it those of replicas, whose names stand in `who`."""
    tables = [errors.error_table(records)]
    for who, replica in replicas.items():
        errors_of_runs = errors.error_table(replica).query("who == 'ours'")
        tables.append(errors_of_runs.assign(who=who))
    return pd.concat(tables)


def _run_rows(records: dict[str, Record]) -> dict[str, dict[str, Any]]:
    """Return the `run_row` of each of some records, by name."""
    return {name: run_row(record) for name, record in records.items()}


def run_row(record: Record) -> dict[str, Any]:
    """Return what a run was and what it took, its FLOPs by the rules.

    `flops` and `seconds` are those of its training, `all flops` and `all seconds` those of the run.
    In records older than the field `evaluation_seconds`, `seconds` include the evaluations.
    """
    experiment = EXPERIMENTS[record.name]
    row = {
        "about": experiment.about.removeprefix("trial: "),
        "group": experiment.group,
        "backbone": record.plan.backbone,
        "device": record.device,
        "dtype": record.dtype,
        "forecast dtype": record.forecast_dtype or record.dtype,
        "commit": record.commit,
        "steps": len(record.loss_curve),
        "flops": record.flops["training"]["coursework"],
        "executed": record.flops["training"]["executed"],
        "seconds": record.train_seconds - record.evaluation_seconds,
        "loss before": record.evaluations[0]["loss"] if record.evaluations else None,
        "loss": record.evaluations[-1]["loss"] if record.evaluations else None,
        "all flops": record.spent()["coursework"],
        "all seconds": record.seconds,
        "forecasts": len(record.series),
        "samples": record.protocol.n_samples,
        "temperature": record.protocol.temperature,
    }
    for setting in TRAINED_WITH:
        row[setting] = getattr(record.training, setting, None)  # None if it trained nothing
    return row


def _reported(name: str) -> dict[str, Any]:
    """Return what the report trained an experiment with."""
    training = study.trained_with(name, REPORT)
    return {
        "steps": training.steps,
        "learning_rate": training.learning_rate,
        "rank": training.rank,
        "sequence_length": training.sequence_length,
    }


def yardstick_costs() -> dict[str, dict[str, Any]]:
    """Return the seconds of one core and executed FLOPs of a series, by forecaster.

    The published ones are among them. How long their forecasts took nobody has said. Their FLOPs
    are those of a prompt of 512 tokens and 220 new ones, with the keys and values kept.
    """
    flops = total(forecast_flops(report_shape(), PROMPT, NEW_TOKENS, convention="executed"))
    costs = {}
    for name, row in study.recorded_rows("test").items():
        costs[name] = {
            "seconds": row.get("seconds"),
            "flops": row.get("flops"),
            "bound": row.get("bound"),
        }
    for name in PUBLISHED:
        costs[name] = {"seconds": None, "flops": flops, "bound": None}
    return costs


def _errors(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return a summary of each run, by who and experiment.

    A mean may hang on one series: so which is the worst is said, and what the mean is without it.
    Those on test have 95% intervals.
    """
    summaries: dict[str, dict[str, Any]] = {}
    for (who, name), run in table.groupby(["who", "experiment"], sort=False):
        maes = run.set_index("series")["mae"]
        worst = maes.idxmax()
        row = summary(maes)
        row["worst series"] = int(worst)
        row["mean without it"] = maes.drop(worst).mean()
        row["quartiles"] = maes.quantile([0.25, 0.75]).tolist()
        if (run["split"] == "test").all():
            row |= _on_test(run["mae"])
        summaries.setdefault(who, {})[name] = row
    return summaries


def _gains(runs: Runs) -> dict[str, dict[str, Any]]:
    """Return how much better runs are than others, on the series of both, by their names.

    `theirs` are the others' errors.
    """
    maes_by_name = {" ".join(run): maes for run, maes in runs.items()}  # "ours final", for example
    gains: dict[str, dict[str, Any]] = {}
    for name, other_names in _comparisons().items():
        gains[name] = {}
        for other_name in other_names:
            gains[name][other_name] = _gain(maes_by_name[name], maes_by_name[other_name])
    return gains


def networks(profile: Profile) -> dict[str, dict[str, Any]]:
    """Return what small networks reach that learn from as many series, by how many these are.

    Their errors are those of three networks together on the test series, and `beside` says how much
    better they are than other forecasters. `single` has the mean errors of each by itself, which
    has seen no more than so many series, by split. `alone` is the gain of the first of them, which
    of 5,152 series has the long run's very own.
    """
    rows = recorded_networks()
    others = dict(study.recorded_yardsticks("test"))
    others["samples"] = errors.finished_record(profile, "samples/best/test").maes()
    described = {}
    for count in sorted(count for name, count in rows if name == RIVAL):
        maes = network_errors(RIVAL, count, "test")
        row = rows[RIVAL, count]
        single = {}
        for split in ("validation", "test"):
            single[split] = [network_errors(RIVAL, count, split, seed) for seed in range(3)]
        described[str(count)] = _on_test(pd.Series(maes)) | {
            "validation": summary(network_errors(RIVAL, count, "validation")),
            "single": {split: [*map(_mean, by_seed)] for split, by_seed in single.items()},
            "alone": {
                who: series.paired_gain(single["test"][0], others[who])
                for who in (FINAL_MODEL, LONG_RUN, "samples")
            },
            "beside": {
                who: series.paired_gain(maes, others[who])
                for who in (FINAL_MODEL, LONG_RUN, "samples", COPIED, study.TUNED)
            },
            "seconds": float(np.mean(row["seconds"])),
            "forecast seconds": row["sets"]["test"]["seconds"],
            "flops": row["flops"],
            "weights": row["weights"],
        }
    return described


def _linear_means() -> list[float]:
    """Return the mean validation errors of networks without a hidden layer."""
    counts = [count for name, count in recorded_networks() if name == "linear"]
    return [_mean(network_errors("linear", count, "validation")) for count in counts]


def few_series(profile: Profile) -> dict[str, dict[str, Any]]:
    """Return what the language model reaches with a few series, by how many these are.

    `steps` are those of the lowest mean error over the validation series, which is in `validation`.
    `test` has the errors on the test series by seed, with that mean, and with the gain of the one
    network that learned from the same series.
    """
    described = {}
    for count, tried in FEW_STEPS.items():
        by_steps = {}
        for steps in tried:
            by_steps[steps] = errors.finished_record(profile, few_name(count, steps)).maes()
        chosen = min(tried, key=lambda steps: _mean(by_steps[steps]))
        tested = []
        for seed in SEEDS.get(count, ()):
            maes = errors.finished_record(profile, few_test_name(count, seed)).maes()
            network = network_errors(RIVAL, count, "test", seed)
            before = errors.finished_record(profile, few_name(count, 720, seed)).maes()
            row = summary(maes) | {"validation": _mean(before)}
            tested.append(row | {"gain": series.paired_gain(network, maes)})
        described[str(count)] = {
            "steps": chosen,
            "validation": summary(by_steps[chosen]),
            "test": tested,
        }
    return described


def _network_worlds() -> dict[str, dict[str, Any]]:
    """Return what the networks of the long run's series reach in each world.

    `gain` is the plain network's over the long run.
    """
    described = {}
    for world in OF_USUAL_SIZE:
        plain = network_errors(RIVAL, 5152, world)
        long_run = study.recorded_yardsticks(world)[LONG_RUN]
        described[world] = {
            "plain": summary(plain),
            "hardened": summary(network_errors(HARDENED, 5152, world)),
            "gain": series.paired_gain(plain, long_run),
        }
    return described


def _lost_worlds(who: str) -> dict[str, int]:
    """Return in how many changed worlds the nearest analogue has a lower mean error than `who`.

    `surely` counts those in which the 95% interval of the difference excludes zero.
    """
    counts = {"worlds": 0, "surely": 0}
    for world in CHANGED:
        recorded = study.recorded_yardsticks(world)
        gain = series.paired_gain(recorded[COPIED], recorded[who])
        counts["worlds"] += gain["mean"] > 0
        counts["surely"] += gain["mean interval"][0] > 0
    return counts


def _regression_leads(world: str) -> bool:
    """Return whether the regression has the lowest mean error of the simple forecasts in a world.

    They are those that need neither other series nor the equations.
    """
    recorded = study.recorded_yardsticks(world)
    simple = (*series.BASELINES, "the last period, repeated")
    return _mean(recorded[study.TUNED]) < min(_mean(recorded[name]) for name in simple)


def _spent(profile: Profile) -> dict[str, dict[str, float]]:
    """Return the runs, hours and FLOPs by the rules of all finished records.

    `reported` are the laptop's runs of the report's experiments, and `laptop` all of its runs.
    Records that are no longer kept count.
    """
    spent = {name: {"runs": 0, "hours": 0.0, "flops": 0} for name in ("reported", "laptop")}
    spent["replication"] = {"runs": 0, "hours": 0.0, "flops": 0}

    def add(name: str, runs: int, seconds: float, flops: int) -> None:
        spent[name]["runs"] += runs
        spent[name]["hours"] += seconds / 3600
        spent[name]["flops"] += flops

    rows = []
    for record in _finished(profile):
        group = EXPERIMENTS[record.name].group
        rows.append((group, 1, record.seconds, record.spent()["coursework"]))
    for row in study.removed(profile):
        flops = sum_costs(*row["flops"].values())["coursework"]
        rows.append((row["group"], len(row["records"]), row["seconds"], flops))
    for group, *costs in rows:
        add("laptop", *costs)
        if group:
            add("reported", *costs)
    for replication in study.REPLICATION.values():
        for record in _finished(replication):
            add("replication", 1, record.seconds, record.spent()["coursework"])
    return spent


def _finished(profile: Profile) -> list[Record]:
    """Return the records of all runs of a profile that have come to their end."""
    records = study.all_records(profile).values()
    return [record for record in records if record.status == "done"]


def _real_table_ratios() -> dict[str, Any]:
    """Return what is recorded of `general` and of the network on the real series that judge.

    Ratios of errors (MASE) over the series: `general / last season`, for example.
    """
    judged = real_tables.judged()

    def ratio(who: str, key: str) -> dict[str, float]:
        return judged[who][key]["mase"]["over_series"]

    return {
        "series": judged[GENERAL]["network / it"]["mase"]["count"],
        "general / last season": ratio(GENERAL, "it / last season"),
        "network / last season": ratio("network", "it / last season"),
        "network / general": ratio(GENERAL, "network / it"),
        "network / ensemble": ratio("ensemble", "network / it"),
    }


def _mean(maes: dict[int, float]) -> float:
    """Return the mean of errors by series."""
    return float(np.mean([*maes.values()]))


def _on_test(maes: pd.Series) -> dict[str, Any]:
    """Return the summary of errors on the test series, with 95% intervals."""
    return summary(maes) | {
        "mean interval": bootstrap_interval(maes),
        "median interval": bootstrap_interval(maes, np.median),
    }


def _network_bands(profile: Profile) -> dict[str, dict[str, Any]]:
    """Return how sure small networks are that write quantiles, by the number of their series.

    `crps` is twice the mean quantile loss at the levels 0.05 to 0.95, and `theirs` the same of the
    long run's samples; `held` and `width` are those of the 80% band.
    """
    test = sampled(profile, "test")
    theirs = {}
    for series_id, samples, truth in zip(test.ids, test.samples["best"], test.truths, strict=True):
        quantiles = np.quantile(samples, TWENTIETHS, axis=0)
        losses = series.quantile_losses(quantiles, truth, TWENTIETHS)
        theirs[series_id] = float(2 * losses.mean())
    described = {}
    for (name, count), row in recorded_networks().items():
        if name == f"{RIVAL}, quantiles":
            scores = row["sets"]["test"]
            crps = {int(series_id): score for series_id, score in scores["crps"].items()}
            described[str(count)] = {
                "crps": float(np.mean(list(crps.values()))),
                "theirs": float(np.mean(list(theirs.values()))),
                "gain": series.paired_gain(crps, theirs),
                "held": scores["held"],
                "width": scores["width"],
            }
    return described


def _comparisons() -> dict[str, list[str]]:
    """Return who is compared with whom, those of COMPARED first, then those in each world."""
    comparisons = dict(COMPARED)
    for world in OF_USUAL_SIZE:
        comparisons[f"{world} {ANY_TABLE}"] = [f"{world} {study.TUNED}"]
    for world in OF_USUAL_SIZE:
        comparisons[f"{world} {FINAL_MODEL}"] = [f"{world} {COPIED}"]
    for world in OF_USUAL_SIZE:
        comparisons[f"{world} {LONG_RUN}"] = [f"{world} {COPIED}", f"{world} {MEAN}"]
    return comparisons


def _gain(our_maes: pd.Series, their_maes: pd.Series) -> dict[str, Any]:
    """Return how much better a run is than another, on the series of both."""
    theirs = their_maes.reindex(our_maes.index).dropna()
    ours = our_maes[theirs.index]
    row: dict[str, Any] = {"theirs": summary(theirs), "worse": int((ours > theirs).sum())}
    row |= series.paired_gain(dict(ours), dict(theirs))
    return row | _gain_robustness(theirs - ours)


def _gain_robustness(gains: pd.Series) -> dict[str, Any]:
    """Return what a mean gain hangs on, and what a stricter interval says of it.

    `t interval` is Student's interval of the mean. `largest share` is the share that the largest
    gain of a series has in the sum of all, and `share of three` that of the three largest.
    `without three` is the mean without these three, with its bootstrap interval.
    """
    largest_first = gains.sort_values(ascending=False)
    total_gain = gains.sum()
    gains_without_three = largest_first.iloc[3:]
    return {
        "t interval": t_interval(gains),
        "largest share": largest_first.iloc[0] / total_gain,
        "share of three": largest_first.iloc[:3].sum() / total_gain,
        "without three": {
            "mean": gains_without_three.mean(),
            "mean interval": bootstrap_interval(gains_without_three.sort_index()),
        },
    }


def _winners(runs: Runs, who: str) -> list[str]:
    """Return the settings with the lowest mean over the five series, or over any four of them.

    Each is named once.
    """
    five_ids = runs["published", "context/512"].index
    maes = pd.DataFrame({name: runs[who, name] for name in study.SEARCH}).loc[five_ids]
    winners = {maes.mean().idxmin()}
    for left_out in five_ids:
        winners.add(maes.drop(left_out).mean().idxmin())
    return sorted(winners)


def _precision() -> dict[str, Any]:
    """Return what the replication's forecasts were in bfloat16 and are in float32, by run."""
    rows = read_json(benchmark_record("precision.json"))["records"]
    return {f"{row['profile']} {row['run']}": row for row in rows}


def _featured(records: dict[str, Record]) -> dict[str, list[dict[str, Any]]]:
    """Return the errors of the series that figures 4 and 6 show, by figure."""
    series_ids = errors.quartile_median_worst(records["default"].maes())
    return {
        "fig4": _beside_published(records["baseline"], EXPERIMENTS["baseline"].featured),
        "fig6 untuned": _beside_published(records["baseline"], series_ids),
        "fig6 tuned": _beside_published(records["default"], series_ids),
    }


def _beside_published(record: Record, series_ids: Iterable[int]) -> list[dict[str, Any]]:
    """Return a record's errors of some series, each beside the report's."""
    maes = record.maes()
    published = study.published_maes(record.name)
    return [{"series": i, "mae": maes[i], "published": published[i]} for i in series_ids]


def _real_tables() -> dict[str, Any]:
    """Return how `general` compares with others on the real series for judging."""
    judged = real_tables.judged()
    table = real_tables.errors_by_series(judged)
    losses = real_tables.errors_by_series(judged, "loss")
    prices = table.loc[[FURTHEST_BEHIND]]
    return {
        "sources": table.index.unique("source").size,
        "series": len(table),
        "ratios": _ratios(table),
        "losses": _ratios(losses),
        f"without {DECISIVE}": _ratios(table.drop(DECISIVE)),
        f"losses without {DECISIVE}": _ratios(losses.drop(DECISIVE)),
        FURTHEST_BEHIND: asdict(real_tables.compared(prices, GENERAL, real_tables.LAST_VALUE)),
        "held": real_tables.held(judged[GENERAL]),
    }


def _ratios(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return how many times as large the error of `general` is as each rival's."""
    ratios = {}
    for rival in RIVALS_ON_TABLES:
        ratios[rival] = asdict(real_tables.compared(table, GENERAL, rival).over_series)
    return ratios


def _uncertainty(profile: Profile) -> dict[str, Any]:
    """Return what the samples come to, and what they cost.

    The temperatures were tried on the validation series.
    """
    test = sampled(profile)
    validation = sampled(profile, "validation")
    crps = {name: dict(test.by_series(crps_fair, name)) for name in test.samples}
    shown_crps = crps[test.shown]
    other_names = [name for name in crps if name != test.shown]
    greedy = errors.finished_record(profile, GREEDY[test.shown]).maes()
    shown_record = test.records[test.shown]
    n_samples = shown_record.protocol.n_samples
    one_forecast = forecast_flops(
        report_shape(), PROMPT, NEW_TOKENS, rank=2, convention="published"
    )
    all_samples = forecast_flops(report_shape(), PROMPT, NEW_TOKENS, rank=2, samples=n_samples)
    return {
        "samples": n_samples,
        "shown": test.shown,
        "rows": {name: _sampled(test, validation, name) for name in test.samples},
        "gains": {name: series.paired_gain(shown_crps, crps[name]) for name in other_names},
        "below greedy": series.paired_gain(shown_crps, greedy),
        "flops": shown_record.flops["forecasts"],
        "one greedy forecast as published": total(one_forecast),
        "samples by the rules": total(all_samples),
    }


def _sampled(test: Sampled, validation: Sampled, name: str) -> dict[str, Any]:
    """Return the scores of a forecaster's samples, and how well its bands hold what they should.

    The factor that stretches its bands comes from the validation series.
    """
    crps = test.by_series(crps_fair, name)
    factor = validation.factor(name)
    losses = test.by_series(series.quantile_loss, name)
    return {
        "of medians": summary(test.by_series(median_mae, name)),
        "crps": crps.mean(),
        "crps interval": bootstrap_interval(crps),
        "weighted quantile loss": series.weighted_quantile_loss(losses, list(test.truths)),
        "held": list(test.held(name).values()),
        "80% band held": bootstrap_interval(test.by_series(_band_coverage, name)),
        "width": test.by_series(_band_width, name).mean(),
        "factor": factor,
        "held when stretched": list(test.held(name, factor=factor).values()),
    }


def _band_coverage(samples: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of a series' true values that the samples' 80% band holds."""
    return series.coverage(samples, truth, 0.8)


def _band_width(samples: np.ndarray, _: np.ndarray) -> float:
    """Return the width of the samples' 80% band."""
    return series.sharpness(samples, 0.8)


def _best(record: Record, budget: int) -> dict[str, Any]:
    """Return what the long run came to on its way, and what power laws say of the whole budget."""
    milestone_table = milestones(record)
    before_end = milestone_table[:-1]
    laws = {}
    for measure in MEASURED:
        laws[measure] = power_law(before_end["flops"], before_end[measure], budget)
    return {
        "way": milestone_table.to_dict("records"),
        "laws": laws,
        "discarded": record.flops["discarded"]["coursework"],
    }


def _table_3() -> dict[str, dict[str, Any]]:
    """Return FLOPs of training and forecasts by row, under each convention and as printed.

    The row `all` is the sum of the others.
    """
    tables: dict[str, dict[str, Any]] = {}
    for kind in CONVENTIONS:
        rows = study.table_3(report_shape(), kind)
        training = sum(row[0] for row in rows.values())
        forecasts = sum(row[1] for row in rows.values())
        tables[kind] = rows | {"all": (training, forecasts)}
    tables["printed"] = study.published_table_3()
    return tables


def _accountant() -> dict[str, float]:
    """Return what the report's accountant charges where its text, and no table, prints it.

    The report truncates: it prints 210.8 passes as 210, and by these 210 it then divides its
    forecast.
    """
    one_pass = total(forward_flops(report_shape(), PROMPT, convention="published"))
    forecast = total(forecast_flops(report_shape(), PROMPT, NEW_TOKENS, convention="published"))
    return {
        "passes per forecast": forecast / one_pass,
        "FLOPs per generated token": forecast / int(forecast / one_pass),
        "speed-up of decoding by a KV cache": NEW_TOKENS * one_pass / forecast,
    }


def _cost_ratio_without_cache() -> float:
    """Return how many times as much a forecast would cost if no keys and values were kept.

    It is counted by the rules.
    """
    shape = report_shape()
    without_cache = sum(
        total(forward_flops(shape, PROMPT + num_new, rank=2)) for num_new in range(NEW_TOKENS)
    )
    return without_cache / total(forecast_flops(shape, PROMPT, NEW_TOKENS, rank=2))


def report_shape() -> Shape:
    """Return the shape of the report's model, as it is counted and drawn."""
    return Shape.of(backbone_config(REPORT.backbone))
