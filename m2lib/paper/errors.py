"""What the figures and numbers are made of: one table of errors, sampled forecasts, and error against FLOPs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import linregress
from scipy.stats import t as student

from m2lib import series, study
from m2lib.files import InputError, repository
from m2lib.series.worlds import WORLDS

COLUMNS = ["who", "experiment", "split", "series", "mae", "crps"]
LENGTHS = (128, 512, 768)
"""Tokens of context that the report compares."""
START = "trial/rate"
"""The recorded run that the trials of `study.ARMS` go on from."""
GREEDY = {"untuned": "untuned-test-constrained", "final": "final", "best": "best"}
"""The experiments that forecast the test series greedily, by whose samples stand beside."""
LOG_VAR = f"log-VAR({study.ORDER}), bootstrap"
"""The competitor without a language model, of the order that the validation series chose."""
LEVELS = (0.5, 0.8, 0.95)
SHORT = {
    "mean of the context, repeated": "mean",
    "nearest analogue in the context": "analogue",
    "the last period, repeated": "last period",
    "the system, fitted": "system fitted",
    "the system, fitted with the file's integrator": "fitted, file's integrator",
    "the language model, untuned": "LM untuned",
    "the language model, final adapter": "LM final",
    "the language model, best adapter": "LM best",
    "published: Qwen2.5-0.5B, untuned": "published, untuned",
    "published: Qwen2.5-0.5B, final adapter": "published, final",
}
"""Names for figures; other forecasters are called by what stands before the comma."""
Runs = dict[tuple[str, str], pd.Series]
"""MAE by series id: of ours and the published runs by who and experiment, of yardsticks by split and forecaster."""

data = cache(series.load_series)


def shown_profile() -> study.Profile:
    """The profile whose records are shown: the active one, or the laptop's where the active one keeps no records."""
    return study.PROFILES["laptop"] if study.active_profile().live else study.active_profile()


def finished_record(profile: study.Profile, name: str) -> study.Record:
    """A record of a run that came to its end. Raises InputError where there is none, naming what to run."""
    record = study.load_record(profile, name, data())
    if record.status != "done":
        path = study.record_path(profile, name)
        raise InputError(f"{path} is not finished; `M2_PROFILE={profile.name} m2 run {name}` goes on with it")
    return record


def finished_records(profile: study.Profile, *names: str) -> dict[str, study.Record]:
    """The same of several, by name."""
    return {name: finished_record(profile, name) for name in names}


def untuned_like_final(profile: study.Profile) -> study.Record:
    """The untuned model's record on the test series, decoded as the final model is."""
    constrained = study.EXPERIMENTS["final"].at(profile).protocol.constrained
    return finished_record(profile, "untuned-test" + "-constrained" * constrained)


def label(name: str, profile: study.Profile) -> str:
    """The settings of an experiment of the search."""
    train = study.EXPERIMENTS[name].training(profile)
    return f"rate {train['learning_rate']:g}, rank {train['rank']}"


def error_table(records: dict[str, study.Record]) -> pd.DataFrame:
    """The errors of records, of the report and of the yardsticks, a row a series, with COLUMNS.

    who: ours, published or yardstick. experiment: of a yardstick the forecaster's name. split: of a yardstick also the
    name of a world. mae and crps: scaled units. A run that only asks an adapter about further series counts to the run
    that trained it, as in the published errors: search/second_0 to search/expt_6, for example.
    """
    rows = [
        ("ours", _trained(record, records), study.EXPERIMENTS[name].split, i, entry["mae"], entry.get("crps"))
        for name, record in records.items()
        for i, entry in record.series.items()
    ]
    rows += [
        ("yardstick", name, where, i, mae, None)
        for where in ("validation", "test", *WORLDS)
        for name, maes in study.recorded_yardsticks(where).items()
        for i, mae in maes.items()
    ]
    return pd.concat([pd.DataFrame(rows, columns=COLUMNS), published()], ignore_index=True)


def published() -> pd.DataFrame:
    """The report's own errors, in the same columns but the last."""
    path = repository("report", "published", "series_mae.csv")
    table = pd.read_csv(path, float_precision="round_trip").rename(columns={"series_id": "series"})
    return table.sort_values("series", kind="stable").assign(who="published")


def _trained(record: study.Record, records: dict[str, study.Record]) -> str:
    """The experiment that a record's errors count to."""
    experiment = study.EXPERIMENTS[record.name]
    if not experiment.adapter or experiment.select != study.EXPERIMENTS[study.SECOND[0]].select:
        return record.name
    deciding = study.deciding_errors(study.PROFILES[record.profile], lambda name: records[name].maes())
    return experiment.adapter.chosen(deciding)


def runs(table: pd.DataFrame) -> Runs:
    """The errors of a table, run by run."""
    whose = table["who"].where(table["who"] != "yardstick", table["split"])
    return {run: part.set_index("series")["mae"] for run, part in table.groupby([whose, "experiment"], sort=False)}


def short(forecaster: str) -> str:
    """A forecaster's name in figures."""
    return SHORT.get(forecaster, forecaster.split(",")[0])


def on_five(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the five series on which the search's settings are compared; ours and the report's are different."""
    asked = table[table["experiment"] == study.SEARCH[0]]
    return table.merge(asked[["who", "series"]])


def summary(maes: pd.Series) -> dict[str, Any]:
    """How many errors, their mean and median, and the worst."""
    return {"n": len(maes), "mean": maes.mean(), "median": maes.median(), "worst": maes.max()}


@dataclass(frozen=True)
class Sampled:
    """Sampled forecasts of the series of a split, the log-VAR's beside those of the language model."""

    records: dict[str, study.Record]
    """Of the language model's samples, by whose they are: `untuned`, `final`, `best`."""
    ids: list[int]
    """The series."""
    contexts: np.ndarray
    """Scaled units, (n, 80, 2)."""
    truths: np.ndarray
    """Scaled units, (n, 20, 2)."""
    samples: dict[str, np.ndarray]
    """Scaled units, (n, n_samples, 20, 2), by forecaster."""

    @classmethod
    def of(cls, records: dict[str, study.Record]) -> "Sampled":
        """Read from records that are all of the same series; the log-VAR gets as many samples as they have."""
        known, record = data(), next(iter(records.values()))
        ids, m = sorted(record.series), record.protocol.n_samples
        contexts, truths = (series.to_integers(part[ids], known.scales[ids]) for part in (known.contexts, known.truths))
        samples = {
            who: np.stack([study.recorded_samples(record, known, i) for i in ids]) for who, record in records.items()
        }
        samples[LOG_VAR] = series.log_var_paths(contexts, m, np.random.default_rng(0), order=study.ORDER)
        return cls(records, ids, contexts, truths, samples)

    @property
    def shown(self) -> str:
        """Whose forecasts are drawn: the last of the language model's."""
        return list(self.records)[-1]

    def by_series(self, score: Callable[..., float], name: str) -> pd.Series:
        """A score of a forecaster's samples, which takes samples and truth, by series id."""
        pairs = zip(self.samples[name], self.truths, strict=True)
        return pd.Series([float(score(*pair)) for pair in pairs], self.ids)

    def held(self, name: str, levels: Sequence[float] = LEVELS, factor: float = 1) -> dict[float, float]:
        """The share of true values in the bands of a forecaster, by level, its samples stretched by a factor."""

        def share(samples: np.ndarray, truth: np.ndarray, level: float) -> float:
            return series.coverage(series.stretched(samples, factor), truth, level)

        return {level: self.by_series(partial(share, level=level), name).mean() for level in levels}

    def factor(self, name: str, level: float = 0.8) -> float:
        """By how much a forecaster's samples must be stretched for a band to hold its share of these true values."""
        pairs = zip(self.samples[name], self.truths, strict=True)
        needed = np.concatenate([series.stretch_needed(*pair, level).ravel() for pair in pairs])
        return float(series.conformal(needed, level))


def sampled(profile: study.Profile, split: str = "test") -> Sampled:
    """The recorded samples of a split's series."""
    return Sampled.of({who: finished_record(profile, f"samples/{who}/{split}") for who in GREEDY})


def median_mae(samples: np.ndarray, truth: np.ndarray) -> float:
    """The MAE of the samples' median."""
    return float(series.series_mae(np.median(samples, axis=0), truth))


def milestones(record: study.Record) -> pd.DataFrame:
    """Where a training stood: `step`, `flops` by the rules until then, `loss`, `mae_mean`, `mae_median`.

    These are the evaluations that forecast series, without that of the untuned model; the last is the training's end.
    """
    total, steps = record.flops["training"]["coursework"], len(record.loss_curve)
    found = pd.DataFrame(record.evaluations).dropna().query("step > 0")
    found.insert(1, "flops", [total * step / steps for step in found["step"].tolist()])
    return found


def power_law(x: Any, y: Any, at: Any) -> dict[str, Any]:
    """The straight line through logarithms, by least squares: its exponent, y at other x, and 95% intervals of both.

    The interval at x is that of one more y, and so widens with the distance from the points.
    """
    log_x, log_y = np.log(x), np.log(y)
    slope, about_x, distance = linregress(log_x, log_y).slope, log_x - log_x.mean(), np.log(at) - log_x.mean()
    squares, left_over = float(np.sum(about_x**2)), log_y - log_y.mean() - slope * about_x
    scatter = student.ppf(0.975, len(log_x) - 2) * np.sqrt(np.sum(left_over**2) / (len(log_x) - 2))
    there = np.exp(log_y.mean() + slope * distance)
    width = scatter * (1 + 1 / len(log_x) + distance**2 / squares) ** 0.5
    return {
        "exponent": slope,
        "exponent interval": (slope - scatter / np.sqrt(squares), slope + scatter / np.sqrt(squares)),
        "there": there,
        "interval there": (there * np.exp(-width), there * np.exp(width)),
    }
