"""What the figures and numbers are made of.

That is one table of all errors, sampled forecasts, and the way from FLOPs to errors.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import linregress
from scipy.stats import t as student

import study
from m2lib import series
from m2lib.files import ROOT, InputError, read_json
from m2lib.series.intervals import Ratio, error_ratio
from study import Profile, Record
from study.settings import benchmark_record
from study.worlds import WORLDS

LENGTHS = (128, 512, 768)
"""Tokens of context that the report compares."""
START = "trial/rate"
"""The trial whose settings each of `study.ARMS` changes."""
GREEDY = {"untuned": "untuned-test-constrained", "final": "final", "best": "best"}
"""For each model whose samples are shown, the experiment that forecasts the test series with it
greedily."""
LOG_VAR = f"log-VAR({study.ORDER}), bootstrap"
"""The competitor without a language model, of the order that the validation series chose."""
TABLE_ERRORS = "tables.json"
NAIVE = "last period"
"""On real tables: the calendar's season, repeated; without a season it is the last value."""
REFERENCE = "last value or period"
"""On real tables: which of the two erred less on a source before its first test origin. Errors are
in its units."""
MEASURED = ("loss", "mae_mean", "mae_median")
"""What milestones measure."""
SHORT = {
    "mean of the context, repeated": "context mean",
    "nearest analogue in the context": "analogue",
    "the last period, repeated": "last period",
    "the system, fitted": "system fitted",
    "the system, fitted with the file's integrator": "fitted, file's integrator",
    "the language model, untuned": "LM untuned",
    "the language model, final adapter": "LM final",
    "the language model, best adapter": "LM best",
    "the language model, for any table": "LM general",
    "published: Qwen2.5-0.5B, untuned": "published, untuned",
    "published: Qwen2.5-0.5B, final adapter": "published, final",
}
"""Names for figures; other forecasters are called by what stands before the comma."""
Runs = dict[tuple[str, str], pd.Series]
"""MAE by series id, by who and experiment."""

data = cache(series.load_series)


def shown_profile() -> Profile:
    """Return the profile whose records are shown.

    It is the active one, or the laptop's if the active one keeps no records.
    """
    active = study.active_profile()
    return study.PROFILES["laptop"] if active.live else active


def finished_record(profile: Profile, name: str) -> Record:
    """Return the record of a run that came to its end.

    If there is none, the InputError that is raised names the command that makes it.
    """
    record = study.load_record(profile, name, data())
    if record.status != "done":
        path = study.record_path(profile, name)
        raise InputError(
            f"{path} is not finished; "
            f"`M2_PROFILE={profile.name} python -m study run {name}` goes on with it"
        )
    return record


def finished_records(profile: Profile, *names: str) -> dict[str, Record]:
    """Return the records of several runs by name, each of which has come to its end."""
    return {name: finished_record(profile, name) for name in names}


def untuned_like_final(profile: Profile) -> Record:
    """Return the untuned model's record on the test series, decoded as the final model is.

    The replication has one such record, at the profile `report`, however long its final run is.
    """
    constrained = study.protocol_at(study.EXPERIMENTS["final"], profile).constrained
    name = "untuned-test-constrained" if constrained else "untuned-test"
    at = study.REPLICATION["report"] if profile.as_reported else profile
    return finished_record(at, name)


def records_on_test(profile: Profile) -> dict[str, Record]:
    """Return the records on test before and after the final training, by experiment."""
    untuned = untuned_like_final(profile)
    return {untuned.name: untuned, "final": finished_record(profile, "final")}


def label(name: str, profile: Profile) -> str:
    """Return what an experiment sets: a length of context, or else a rate and a rank."""
    training = study.trained_with(name, profile)
    if name.startswith("context/"):
        return f"{training.sequence_length} tokens"
    return f"rate {training.learning_rate:g}, rank {training.rank}"


def error_table(records: dict[str, Record]) -> pd.DataFrame:
    """Return the errors of records, of the yardsticks and of the report, a row for each series.

    who: `ours`, `published`, or of a yardstick the set that it forecasts: a split, or a world by
    its name. experiment: of a yardstick the forecaster's name. mae and crps: scaled units. A run
    that asks an adapter about the other 15 hard series counts to the run that trained it, as in the
    published errors: search/second_0 to search/expt_7, for example.
    """
    rows: list[dict[str, Any]] = []
    for name, record in records.items():
        run = {
            "who": "ours",
            "experiment": _trained(record, records),
            "split": study.EXPERIMENTS[name].split,
        }
        for i, entry in record.series.items():
            rows.append(run | {"series": i, "mae": entry["mae"], "crps": entry.get("crps")})
    for where in ("validation", "test", *WORLDS):
        for name, maes in study.recorded_yardsticks(where).items():
            yardstick = {"who": where, "experiment": name, "split": where}
            for i, mae in maes.items():
                rows.append(yardstick | {"series": i, "mae": mae, "crps": None})
    columns = ("who", "experiment", "split", "series", "mae", "crps")
    return pd.concat([pd.DataFrame(rows, columns=columns), published()], ignore_index=True)


def _trained(record: Record, records: dict[str, Record]) -> str:
    """Return the experiment that a record's errors count to."""
    experiment = study.EXPERIMENTS[record.name]
    second_round = study.EXPERIMENTS[study.SECOND[0]].select
    if not experiment.adapter or experiment.select != second_round:
        return record.name
    if study.PROFILES[record.profile].as_reported:
        return experiment.adapter.chosen(study.published_deciding_maes)
    return experiment.adapter.chosen(lambda name: records[name].maes())


def published() -> pd.DataFrame:
    """Return the report's own errors, in the columns of `error_table` but the last."""
    path = ROOT / "report" / "published" / "series_mae.csv"
    table = pd.read_csv(path, float_precision="round_trip")
    table = table.rename(columns={"series_id": "series"})
    return table.sort_values("series", kind="stable").assign(who="published")


def table_errors(path: Path | None = None) -> pd.DataFrame:
    """Return the record of the benchmark of real tables, a row for each source and forecaster.

    Without a path it is read from `M2_RESULTS` if that holds such a record, else the committed one.
    """
    return pd.DataFrame(read_json(path or benchmark_record(TABLE_ERRORS))["rows"])


def relative_errors(
    table: pd.DataFrame, measure: str = "mase", reference: str = REFERENCE
) -> pd.DataFrame:
    """Return the mean `mase` or `loss` of each forecaster (columns) on each source (rows).

    It is given in units of the reference's.
    """
    with_means = table.assign(mean=table[measure].map(np.mean))
    means = with_means.pivot_table("mean", "source", "forecaster", sort=False)
    return means.div(means[reference], axis=0)


def table_summary(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return both relative errors and what the 80% band holds, by forecaster (rows).

    The errors are geometric means over the sources of a split.
    """
    part = table[table["split"] == split]
    summaries = pd.DataFrame(
        {
            "mase": geometric_mean(relative_errors(part, "mase")),
            "loss": geometric_mean(relative_errors(part, "loss")),
        }
    )
    shares = part.assign(held=part["held"].map(np.mean))
    summaries["80% band holds"] = shares.groupby("forecaster")["held"].mean()
    return summaries.sort_values("mase")


def geometric_mean(relative: pd.DataFrame) -> pd.Series:
    """Return the geometric mean of each column."""
    return np.exp(np.log(relative).mean())


def table_ratios(table: pd.DataFrame, split: str, ours: str = "general") -> dict[str, Ratio]:
    """Return how many times as large the error of `ours` is as each other forecaster's.

    The ratios are over the sources of a split. Only forecasters that have been asked about every
    source are compared. No correction is made for the number of comparisons.
    """
    errors = relative_errors(table[table["split"] == split]).dropna(axis="columns")
    rivals = errors.columns.drop(ours)
    return {name: error_ratio(errors[ours], errors[name]) for name in rivals}


def runs(table: pd.DataFrame) -> Runs:
    """Return the errors of a table, run by run."""
    by_run = table.groupby(["who", "experiment"], sort=False)
    return {run: rows.set_index("series")["mae"] for run, rows in by_run}


def recorded_runs(profile: Profile, *names: str) -> Runs:
    """Return the errors of a profile's experiments, and of all that they are compared with."""
    return runs(error_table(finished_records(profile, *names)))


def by_world(table: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """Return the `mean` or `median` error of each forecaster (columns) in each world (rows).

    Forecasters that have not forecast all worlds are left out.
    """
    everywhere = table.pivot_table("mae", "who", "experiment", statistic, sort=False)
    worlds = everywhere.loc[list(WORLDS)].dropna(axis="columns")
    return worlds.rename(columns=short).rename_axis(index=None, columns=None)


def short(forecaster: str) -> str:
    """Return a forecaster's name in figures."""
    return SHORT.get(forecaster, forecaster.split(",")[0])


def quartile_median_worst(maes: dict[int, float]) -> tuple[int, int, int]:
    """Return the series at the first quartile, the median and the maximum of the errors."""
    ranked, _ = series.best_and_worst(maes, worst=0)
    return ranked[len(ranked) // 4], ranked[len(ranked) // 2], ranked[-1]


def summary(errors: pd.Series | dict[int, float]) -> dict[str, Any]:
    """Return how many errors there are, their mean and median, and the worst."""
    maes = pd.Series(errors)
    return {
        "n": len(maes),
        "mean": maes.mean(),
        "median": maes.median(),
        "worst": maes.max(),
    }


@dataclass(frozen=True)
class Sampled:
    """Sampled forecasts of a split's series: the language model's, and beside them log-VAR's."""

    records: dict[str, Record]
    """The language model's samples, by whose they are: `untuned`, `final`, `best`."""
    ids: list[int]
    """The series."""
    contexts: np.ndarray
    """Scaled units, (n, 80, 2)."""
    truths: np.ndarray
    """Scaled units, (n, 20, 2)."""
    samples: dict[str, np.ndarray]
    """Scaled units, (n, n_samples, 20, 2), by forecaster."""

    @classmethod
    def of(cls, records: dict[str, Record]) -> "Sampled":
        """Read the samples of records, all of which are of the same series.

        The log-VAR draws as many samples as they have.
        """
        known = data()
        first = next(iter(records.values()))
        ids = sorted(first.series)
        scales = known.scales[ids]
        contexts = series.to_integers(known.contexts[ids], scales)
        truths = series.to_integers(known.truths[ids], scales)
        samples = {}
        for who, record in records.items():
            samples[who] = np.stack([study.recorded_samples(record, known, i) for i in ids])
        samples[LOG_VAR] = series.log_var_paths(
            contexts, first.protocol.n_samples, np.random.default_rng(0), order=study.ORDER
        )
        return cls(records, ids, contexts, truths, samples)

    @property
    def shown(self) -> str:
        """Whose forecasts are drawn: the last of the language model's."""
        return list(self.records)[-1]

    def by_series(self, score: Callable[..., float], name: str) -> pd.Series:
        """Return the score of a forecaster's samples for each series, by its id.

        score: takes the samples and the truth of a series.
        """
        return pd.Series(map(score, self.samples[name], self.truths), self.ids)

    def held(
        self, name: str, levels: Iterable[float] = (0.5, 0.8, 0.95), factor: float = 1
    ) -> dict[float, float]:
        """Return the share of true values in the bands of a forecaster, by level.

        Its samples are stretched by a factor first.
        """
        stretched = [
            np.maximum(series.stretched(samples, factor), 0) for samples in self.samples[name]
        ]
        shares = {}
        for level in levels:
            by_series = [
                series.coverage(samples, truth, level)
                for samples, truth in zip(stretched, self.truths, strict=True)
            ]
            shares[level] = float(np.mean(by_series))
        return shares

    def factor(self, name: str) -> float:
        """Return by how much a forecaster's samples must be stretched to hold what they should.

        Stretched by this factor, their 80% band holds 80% of these true values.
        """
        samples = np.moveaxis(self.samples[name], 1, 0)
        needed = series.stretch_needed(samples, self.truths, 0.8)
        return float(series.conformal(needed.ravel(), 0.8))


def sampled(profile: Profile, split: str = "test") -> Sampled:
    """Return the recorded samples of a split's series."""
    records = {who: finished_record(profile, f"samples/{who}/{split}") for who in GREEDY}
    return Sampled.of(records)


def median_mae(samples: np.ndarray, truth: np.ndarray) -> float:
    """Return the MAE of the samples' median."""
    return float(series.series_mae(np.median(samples, axis=0), truth))


def milestones(record: Record) -> pd.DataFrame:
    """Return where a training stood: `step`, `flops`, `loss`, `mae_mean` and `mae_median`.

    The FLOPs are those until then, by the rules. The rows are the evaluations that forecast series,
    without that of the untuned model; the last is the training's end.
    """
    evaluations = pd.DataFrame(record.evaluations).dropna().query("step > 0")
    total = record.flops["training"]["coursework"]
    steps = len(record.loss_curve)
    flops = [total * step / steps for step in evaluations["step"].tolist()]
    evaluations.insert(1, "flops", flops)
    return evaluations


def power_law(x: Any, y: Any, at: Any) -> dict[str, Any]:
    """Return the power law through points: its exponent, y at other x, and 95% intervals of both.

    It is the straight line through logarithms, by least squares. The interval of y at an x is that
    of one more point, and so widens with the distance from the others.
    """
    log_x = np.log(x)
    log_at = np.log(at)
    fit = linregress(log_x, np.log(y))
    n = len(log_x)
    exponent_error = student.ppf(0.975, n - 2) * fit.stderr
    squares = float(np.sum((log_x - np.mean(log_x)) ** 2))
    distance = log_at - np.mean(log_x)
    width = exponent_error * np.sqrt(squares * (1 + 1 / n) + distance**2)
    there = np.exp(fit.intercept + fit.slope * log_at)
    return {
        "exponent": fit.slope,
        "exponent interval": (fit.slope - exponent_error, fit.slope + exponent_error),
        "there": there,
        "interval there": (there * np.exp(-width), there * np.exp(width)),
    }
