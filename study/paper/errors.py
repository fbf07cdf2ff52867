"""What the figures and numbers are made of: one table of errors, sampled forecasts, and error
against FLOPs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
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
from study.worlds import WORLDS

LENGTHS = (128, 512, 768)
"""Tokens of context that the report compares."""
START = "trial/rate"
"""The recorded run that the trials of `study.ARMS` go on from."""
GREEDY = {"untuned": "untuned-test-constrained", "final": "final", "best": "best"}
"""The experiments that forecast the test series greedily, by whose samples stand beside."""
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
    """The profile whose records are shown: the active one, or the laptop's where the active one
    keeps no records."""
    active = study.active_profile()
    return study.PROFILES["laptop"] if active.live else active


def finished_record(profile: Profile, name: str) -> Record:
    """A record of a run that came to its end. Raises InputError where there is none, naming what to
    run."""
    record = study.load_record(profile, name, data())
    if record.status != "done":
        path = study.record_path(profile, name)
        raise InputError(
            f"{path} is not finished; "
            f"`M2_PROFILE={profile.name} python -m study run {name}` goes on with it"
        )
    return record


def finished_records(profile: Profile, *names: str) -> dict[str, Record]:
    """The same of several, by name."""
    return {name: finished_record(profile, name) for name in names}


def untuned_like_final(profile: Profile) -> Record:
    """The untuned model's record on the test series, decoded as the final model is.

    The replication's is of the profile `report`, however long its final run is.
    """
    constrained = study.protocol_at(study.EXPERIMENTS["final"], profile).constrained
    name = "untuned-test-constrained" if constrained else "untuned-test"
    at = study.REPLICATION["report"] if profile.as_reported else profile
    return finished_record(at, name)


def records_on_test(profile: Profile) -> dict[str, Record]:
    """The records on the test series before and after the final training, by experiment."""
    untuned = untuned_like_final(profile)
    return {untuned.name: untuned, "final": finished_record(profile, "final")}


def label(name: str, profile: Profile) -> str:
    """What an experiment of the search, or of the context's length, sets."""
    training = study.trained_with(name, profile)
    if name.startswith("context/"):
        return f"{training.sequence_length} tokens"
    return f"rate {training.learning_rate:g}, rank {training.rank}"


def error_table(records: dict[str, Record]) -> pd.DataFrame:
    """The errors of records, of the report and of the yardsticks, a row a series.

    who: `ours`, `published`, or of a yardstick the set that it forecasts: a split, or a world by
    its name. experiment: of a yardstick the forecaster's name. mae and crps: scaled units. A run
    that only asks an adapter about further series counts to the run that trained it, as in the
    published errors: search/second_0 to search/expt_6, for example.
    """
    rows = [
        (
            "ours",
            _trained(record, records),
            study.EXPERIMENTS[name].split,
            i,
            entry["mae"],
            entry.get("crps"),
        )
        for name, record in records.items()
        for i, entry in record.series.items()
    ]
    rows += [
        (where, name, where, i, mae, None)
        for where in ("validation", "test", *WORLDS)
        for name, maes in study.recorded_yardsticks(where).items()
        for i, mae in maes.items()
    ]
    columns = "who", "experiment", "split", "series", "mae", "crps"
    return pd.concat([pd.DataFrame(rows, columns=columns), published()], ignore_index=True)


def published() -> pd.DataFrame:
    """The report's own errors, in the same columns but the last."""
    path = ROOT / "report" / "published" / "series_mae.csv"
    table = pd.read_csv(path, float_precision="round_trip").rename(columns={"series_id": "series"})
    return table.sort_values("series", kind="stable").assign(who="published")


def table_errors(path: Path | None = None) -> pd.DataFrame:
    """The record of the benchmark of real tables, a row for each source and forecaster; default:
    the committed one."""
    return pd.DataFrame(read_json(path or ROOT / "report" / "results" / TABLE_ERRORS)["rows"])


def relative_errors(
    table: pd.DataFrame, measure: str = "mase", reference: str = REFERENCE
) -> pd.DataFrame:
    """The mean `mase` or `loss` of each forecaster (columns) on each source (rows), in units of the
    reference's."""
    means = table.assign(mean=table[measure].map(np.mean)).pivot_table(
        "mean", "source", "forecaster", sort=False
    )
    return means.div(means[reference], axis=0)


def table_summary(table: pd.DataFrame, split: str) -> pd.DataFrame:
    """By forecaster: geometric means over a split's sources of both relative errors, and what the
    80% band holds."""
    part = table[table["split"] == split]
    found = pd.DataFrame(
        {name: np.exp(np.log(relative_errors(part, name)).mean()) for name in ("mase", "loss")}
    )
    found["80% band holds"] = (
        part.assign(held=part["held"].map(np.mean)).groupby("forecaster")["held"].mean()
    )
    return found.sort_values("mase")


def table_ratios(table: pd.DataFrame, split: str, ours: str = "general") -> dict[str, Ratio]:
    """How many times as large the error of `ours` is as each other forecaster's, over the sources
    of a split.

    Only forecasters that have been asked about every source are compared. No correction is made for
    the number of comparisons.
    """
    errors = relative_errors(table[table["split"] == split]).dropna(axis="columns")
    rivals = errors.columns.drop(ours)
    return {name: error_ratio(errors[ours], errors[name]) for name in rivals}


def _trained(record: Record, records: dict[str, Record]) -> str:
    """The experiment that a record's errors count to."""
    experiment = study.EXPERIMENTS[record.name]
    if not experiment.adapter or experiment.select != study.EXPERIMENTS[study.SECOND[0]].select:
        return record.name
    if study.PROFILES[record.profile].as_reported:
        return experiment.adapter.chosen(study.chosen_by)
    return experiment.adapter.chosen(lambda name: records[name].maes())


def runs(table: pd.DataFrame) -> Runs:
    """The errors of a table, run by run."""
    return {
        run: part.set_index("series")["mae"]
        for run, part in table.groupby(["who", "experiment"], sort=False)
    }


def recorded_runs(profile: Profile, *names: str) -> Runs:
    """The errors of a profile's experiments, and of all that they are compared with."""
    return runs(error_table(finished_records(profile, *names)))


def by_world(table: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """`mean` or `median` error of each forecaster (columns) in each world (rows); of those that
    have forecast all."""
    found = table.pivot_table("mae", "who", "experiment", statistic, sort=False).loc[list(WORLDS)]
    return found.dropna(axis="columns").rename(columns=short).rename_axis(index=None, columns=None)


def short(forecaster: str) -> str:
    """A forecaster's name in figures."""
    return SHORT.get(forecaster, forecaster.split(",")[0])


def summary(errors: pd.Series | dict[int, float]) -> dict[str, Any]:
    """How many errors, their mean and median, and the worst."""
    maes = pd.Series(errors)
    return {"n": len(maes), "mean": maes.mean(), "median": maes.median(), "worst": maes.max()}


@dataclass(frozen=True)
class Sampled:
    """Sampled forecasts of the series of a split, the log-VAR's beside those of the language
    model."""

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
        """Read from records that are all of the same series; the log-VAR gets as many samples as
        they have."""
        known, (record, *_) = data(), records.values()
        ids = sorted(record.series)
        m = record.protocol.n_samples
        contexts, truths = (
            series.to_integers(part[ids], known.scales[ids])
            for part in (known.contexts, known.truths)
        )
        samples = {
            who: np.stack([study.recorded_samples(record, known, i) for i in ids])
            for who, record in records.items()
        }
        samples[LOG_VAR] = series.log_var_paths(
            contexts, m, np.random.default_rng(0), order=study.ORDER
        )
        return cls(records, ids, contexts, truths, samples)

    @property
    def shown(self) -> str:
        """Whose forecasts are drawn: the last of the language model's."""
        return list(self.records)[-1]

    def by_series(self, score: Callable[..., float], name: str) -> pd.Series:
        """A score of a forecaster's samples, which takes samples and truth, by series id."""
        return pd.Series(map(score, self.samples[name], self.truths), self.ids)

    def held(
        self, name: str, levels: Iterable[float] = (0.5, 0.8, 0.95), factor: float = 1
    ) -> dict[float, float]:
        """The share of true values in the bands of a forecaster, by level, its samples stretched by
        a factor."""
        bands = [np.maximum(series.stretched(samples, factor), 0) for samples in self.samples[name]]
        inside = {
            level: map(partial(series.coverage, level=level), bands, self.truths)
            for level in levels
        }
        return {level: float(np.mean(list(shares))) for level, shares in inside.items()}

    def factor(self, name: str) -> float:
        """By how much a forecaster's samples must be stretched for the 80% band to hold 80% of
        these true values."""
        needed = series.stretch_needed(np.moveaxis(self.samples[name], 1, 0), self.truths, 0.8)
        return float(series.conformal(needed.ravel(), 0.8))


def sampled(profile: Profile, split: str = "test") -> Sampled:
    """The recorded samples of a split's series."""
    return Sampled.of({who: finished_record(profile, f"samples/{who}/{split}") for who in GREEDY})


def median_mae(samples: np.ndarray, truth: np.ndarray) -> float:
    """The MAE of the samples' median."""
    return float(series.series_mae(np.median(samples, axis=0), truth))


def milestones(record: Record) -> pd.DataFrame:
    """Where a training stood: `step`, `flops` by the rules until then, `loss`, `mae_mean`,
    `mae_median`.

    These are the evaluations that forecast series, without that of the untuned model; the last is
    the training's end.
    """
    total = record.flops["training"]["coursework"]
    steps = len(record.loss_curve)
    found = pd.DataFrame(record.evaluations).dropna().query("step > 0")
    found.insert(1, "flops", [total * step / steps for step in found["step"].tolist()])
    return found


def power_law(x: Any, y: Any, at: Any) -> dict[str, Any]:
    """The straight line through logarithms, by least squares: its exponent, y at other x, and 95%
    intervals of both.

    The interval at x is that of one more y, and so widens with the distance from the points.
    """
    log_x, log_y, log_at = map(np.log, (x, y, at))
    fit = linregress(log_x, log_y)
    n = len(log_x)
    squares = float(np.sum((log_x - np.mean(log_x)) ** 2))
    distance = log_at - np.mean(log_x)
    error = student.ppf(0.975, n - 2) * fit.stderr
    there = np.exp(fit.intercept + fit.slope * log_at)
    width = error * np.sqrt(squares * (1 + 1 / n) + distance**2)
    return {
        "exponent": fit.slope,
        "exponent interval": (fit.slope - error, fit.slope + error),
        "there": there,
        "interval there": (there * np.exp(-width), there * np.exp(width)),
    }
