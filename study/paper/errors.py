"""One table of all errors: those of records, of the yardsticks and of the report."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

import study
from m2lib import series
from m2lib.errors import InputError
from m2lib.files import ROOT
from study import Profile, Record
from study.records import load_finished
from study.worlds import WORLDS

SHORT = {
    "mean of the context, repeated": "context mean",
    "nearest analogue in the context": "analogue",
    "the last period, repeated": "last period",
    "the small network, for any table": "network for tables",
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
"""Gives the data set, which a process reads or simulates once."""


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
    return load_finished(profile, name, data())


def finished_records(profile: Profile, *names: str) -> dict[str, Record]:
    """Return the records of several runs by name, each of which has come to its end."""
    return {name: finished_record(profile, name) for name in names}


def untuned_like_final(profile: Profile) -> Record:
    """Return the untuned model's record on the test series, decoded as the final model is."""
    constrained = study.protocol_at(study.EXPERIMENTS["final"], profile).constrained
    name = "untuned-test-constrained" if constrained else "untuned-test"
    return finished_record(profile, name)


def records_on_test(profile: Profile) -> dict[str, Record]:
    """Return the records on test before and after the final training, by experiment."""
    untuned = untuned_like_final(profile)
    return {untuned.name: untuned, "final": finished_record(profile, "final")}


def label(name: str, profile: Profile) -> str:
    """Return what an experiment sets: a length of context, or else a rate and a rank."""
    training = study.trained_with(name, profile)
    if name.startswith("context/"):
        return f"{training.sequence_length} tokens"
    rate = np.format_float_positional(training.learning_rate)  # 0.00001, and not 1e-05
    return f"rate {rate}, rank {training.rank}"


def error_table(records: dict[str, Record]) -> pd.DataFrame:
    """Return the errors of records, of the yardsticks and of the report, a row for each series.

    who: `ours`, `published`, or of a yardstick the set that it forecasts: a split, or a world by
    its name. experiment: of a yardstick the forecaster's name. mae: scaled units. A run
    that asks an adapter about the other 15 hard series counts to the run that trained it, as in the
    published errors: search/second_0 to search/expt_7, for example. Raises InputError for a split
    or a world on which no yardstick is recorded.
    """
    rows: list[dict[str, Any]] = []
    for name, record in records.items():
        run = {
            "who": "ours",
            "experiment": _trained(record, records),
            "split": study.EXPERIMENTS[name].split,
        }
        for i, entry in record.series.items():
            rows.append(run | {"series": i, "mae": entry["mae"]})
    for where in ("validation", "test", *WORLDS):
        yardsticks = study.recorded_yardsticks(where)
        if not yardsticks:
            raise InputError(
                f"no yardstick has forecast {where}; "
                "`python -m benchmarks.yardsticks` measures them"
            )
        for name, maes in yardsticks.items():
            yardstick = {"who": where, "experiment": name, "split": where}
            for i, mae in maes.items():
                rows.append(yardstick | {"series": i, "mae": mae})
    columns = ("who", "experiment", "split", "series", "mae")
    recorded = pd.DataFrame(rows, columns=columns)
    return pd.concat([recorded, published()], ignore_index=True)


def _trained(record: Record, records: dict[str, Record]) -> str:
    """Return the experiment that a record's errors count to.

    It is the record's own, but a run that asks an adapter about the other 15 hard series counts to
    the run that trained this adapter.
    """
    experiment = study.EXPERIMENTS[record.name]
    other_15_hard = study.EXPERIMENTS[study.SECOND[0]].select
    if not experiment.adapter or experiment.select != other_15_hard:
        return record.name
    # The replication asked the adapters that were best in the report, ours those of its own search.
    if study.PROFILES[record.profile].as_reported:
        return experiment.adapter.chosen(study.published_deciding_maes)
    return experiment.adapter.chosen(lambda name: records[name].maes())


def published() -> pd.DataFrame:
    """Return the report's own errors, in the columns of `error_table`."""
    path = ROOT / "report" / "published" / "series_mae.csv"
    table = pd.read_csv(path, float_precision="round_trip")
    table = table.rename(columns={"series_id": "series"})
    return table.sort_values("series", kind="stable").assign(who="published")


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
    ranked, _ = series.best_and_worst(maes, worst=0)  # all of them, by ascending error
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
