"""The numbers that the PDF prints, as tables, from records and published tables alone."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

import study
from m2lib import series
from m2lib.accounting import Shape, forecast_flops, sum_costs, total
from m2lib.errors import InputError
from m2lib.model import backbone_config
from m2lib.series import bootstrap_interval, crps_fair
from m2lib.series.intervals import t_interval
from study import EXPERIMENTS, Profile, Record
from study.experiments import FEW_STEPS, SEEDS, few_name, few_test_name
from study.networks import TWENTIETHS, network_errors, recorded_networks
from study.paper import errors, real_tables
from study.paper.claims import judged_claims
from study.paper.errors import Runs, summary
from study.paper.samples import GREEDY, LOG_VAR, Sampled, median_mae, sampled
from study.worlds import CHANGED, OF_USUAL_SIZE

REPORT = study.PROFILES["report"]
PROMPT = 512
"""Tokens of the report's prompts."""
NEW_TOKENS = 220
"""Tokens that it writes for a forecast, whatever they are."""
RUNS = (
    *("baseline", "default", "default-warm", "untuned-test", "untuned-test-constrained"),
    *("final", "final-sampled", "best", "samples/final/test", "samples/best/test"),
    *dict.fromkeys((*study.FINAL_TRIALS, *study.ARMS)),
)
"""The runs of the language model whose errors the PDF and the pages print."""
REPLICATED = ("untuned-test", "final")
"""Those of the replication."""
PUBLISHED = {
    "published: Qwen2.5-0.5B, untuned": "untuned",
    "published: Qwen2.5-0.5B, final adapter": "final",
}
"""The report's runs on the test series, by what they are called among the yardsticks."""
GENERAL = "language"
"""The name of the adapter `general` among the forecasters of real tables."""
RIVAL = "residual"
"""The small network that learns from the language model's series."""
HARDENED = "residual, noise and stretched time"
"""The same with noise and stretched time in its training."""
COPIED = "nearest analogue in the context"
FINAL_MODEL = "the language model, final adapter"
LONG_RUN = "the language model, best adapter"
COMPARED = {
    "ours default": ["ours baseline"],
    "ours final": [f"ours {GREEDY['untuned']}", f"test {study.TUNED}"],
    "ours best": ["ours final", f"test {study.TUNED}"],
    "report final": ["report untuned-test", f"test {COPIED}"],
    "published final": [f"test {COPIED}"],
    "ours trial/linear-simulated": ["ours trial/small"],
    "ours trial/simulated": ["ours trial/rate"],
}
"""Who is compared with whom, series by series."""


def numbers(profile: Profile) -> dict[str, Any]:
    """Return all that the PDF prints and that no record holds as it stands.

    These are errors, intervals, FLOPs and yardsticks. Raises InputError where a record is missing
    or not finished, or M2_DATA holds other series than theirs.
    """
    records = errors.finished_records(profile, *RUNS)
    if records["final"].plan.data != errors.data().fingerprint:
        raise InputError(
            f"{errors.data().source} holds other series than the records are about; unset M2_DATA"
        )
    replica = errors.finished_records(study.REPLICATION["report"], *REPLICATED)
    replicated = errors.error_table(replica).query("who == 'ours'").assign(who="report")
    table = pd.concat([errors.error_table(records), replicated])
    return {
        "records": {name: run_row(record) for name, record in records.items()},
        "trials for the final run": study.FINAL_TRIALS,
        "trials at equal FLOPs": (study.START, *study.ARMS),
        "changed worlds": CHANGED,
        "reported steps": study.trained_with("final", REPORT).steps,
        "errors": _errors(table),
        "gains": _gains(errors.runs(table)),
        "networks": networks(profile),
        "linear map": min(_linear_means()),
        "few series": few_series(profile),
        "network worlds": _network_worlds(),
        "network bands": _network_bands(profile),
        "lost": {who: _lost_worlds(who) for who in (FINAL_MODEL, LONG_RUN)},
        "regression leads": sum(map(_regression_leads, CHANGED)),
        "uncertainty": _uncertainty(profile),
        "real tables": _real_table_ratios(),
        "costs": yardstick_costs(),
        "spent": _spent(profile),
        "verdicts": Counter(row.verdict for row in judged_claims()),
        "accountant": _accountant(),
    }


def run_row(record: Record) -> dict[str, Any]:
    """Return what a run was and what it took, its FLOPs by the rules.

    `flops` and `seconds` are those of its training, `all flops` those of the run, and `way` has the
    evaluations that forecast series. In records older than the field `evaluation_seconds`,
    `seconds` include the evaluations.
    """
    return {
        "about": EXPERIMENTS[record.name].about.removeprefix("trial: "),
        "steps": len(record.loss_curve),
        "flops": record.flops["training"]["coursework"],
        "executed": record.flops["training"]["executed"],
        "seconds": record.train_seconds - record.evaluation_seconds,
        "loss": record.evaluations[-1]["loss"] if record.evaluations else None,
        "way": [row for row in record.evaluations if "mae_mean" in row],
        "all flops": record.spent()["coursework"],
        # None if it trained nothing
        "learning_rate": getattr(record.training, "learning_rate", None),
        "rank": getattr(record.training, "rank", None),
        "sequence_length": getattr(record.training, "sequence_length", None),
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

    Those on test have 95% intervals.
    """
    summaries: dict[str, dict[str, Any]] = {}
    for (who, name), run in table.groupby(["who", "experiment"], sort=False):
        maes = run.set_index("series")["mae"]
        row = summary(maes)
        row["mean without worst"] = maes.drop(maes.idxmax()).mean()
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
    for name, other_names in COMPARED.items():
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
                for who in (FINAL_MODEL, LONG_RUN, "samples")
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
    """Return runs, hours and FLOPs by the rules, of the language model and of the replication."""
    replicas = []
    for replication in study.REPLICATION.values():
        replicas += _finished(replication)
    return {
        "laptop": _total(_finished(profile), study.removed(profile)),
        "replication": _total(replicas, []),
    }


def _total(records: list[Record], removed: list[dict[str, Any]]) -> dict[str, float]:
    """Return the runs, hours and FLOPs by the rules of records, and of those no longer kept."""
    flops = [record.spent()["coursework"] for record in records]
    flops += [sum_costs(*row["flops"].values())["coursework"] for row in removed]
    seconds = [record.seconds for record in records] + [row["seconds"] for row in removed]
    return {
        "runs": len(records) + sum(len(row["records"]) for row in removed),
        "hours": sum(seconds) / 3600,
        "flops": sum(flops),
    }


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
        "network / general, by source": judged[GENERAL]["network / it"]["mase"]["over_sources"],
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


def _gain(our_maes: pd.Series, their_maes: pd.Series) -> dict[str, Any]:
    """Return how much better a run is than another, on the series of both.

    `t interval` is Student's interval of the mean, and `share of three` the share that the three
    largest gains have in the sum of all.
    """
    theirs = their_maes.reindex(our_maes.index).dropna()
    ours = our_maes[theirs.index]
    gains = theirs - ours
    return series.paired_gain(dict(ours), dict(theirs)) | {
        "theirs": summary(theirs),
        "t interval": t_interval(gains),
        "share of three": gains.nlargest(3).sum() / gains.sum(),
    }


def _uncertainty(profile: Profile) -> dict[str, Any]:
    """Return the scores of the samples by forecaster, and the long run's gain over the regression's
    in CRPS.
    """
    test = sampled(profile)
    crps = {name: dict(test.by_series(crps_fair, name)) for name in ("best", LOG_VAR)}
    return {
        "samples": test.records["best"].protocol.n_samples,
        "rows": {name: _sampled(test, name) for name in test.samples},
        "gain": series.paired_gain(crps["best"], crps[LOG_VAR]),
    }


def _sampled(test: Sampled, name: str) -> dict[str, Any]:
    """Return the scores of a forecaster's samples, and what its bands hold."""
    return {
        "of medians": summary(test.by_series(median_mae, name)),
        "crps": test.by_series(crps_fair, name).mean(),
        "held": list(test.held(name).values()),
        "80% band held": bootstrap_interval(test.by_series(_band_coverage, name)),
        "width": test.by_series(_band_width, name).mean(),
    }


def _band_coverage(samples: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of a series' true values that the samples' 80% band holds."""
    return series.coverage(samples, truth, 0.8)


def _band_width(samples: np.ndarray, _: np.ndarray) -> float:
    """Return the width of the samples' 80% band."""
    return series.sharpness(samples, 0.8)


def _accountant() -> dict[str, float]:
    """Return the FLOPs of the report's experiments: those of their training by the `rules`, and all
    by its own accountant (`published`).
    """
    by_rules = study.table_3(report_shape(), "coursework")
    published = study.table_3(report_shape(), "published")
    return {
        "rules": sum(training for training, _ in by_rules.values()),
        "published": sum(map(sum, published.values())),
    }


def report_shape() -> Shape:
    """Return the shape of the report's model, as it is counted and drawn."""
    return Shape.of(backbone_config(REPORT.backbone))
