"""What the report says, and what the replication finds: a row for each of the report's findings."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from m2lib import study
from m2lib.paper import errors
from m2lib.series import bootstrap_interval

Runs = dict[str, pd.Series]
"""MAE by series id, by experiment, published or ours; `default at a fifth` is the first adapter in fewer steps."""
Finding = Callable[[Runs], tuple[str, bool]]
"""Says what runs show, and whether the claim holds by them. Raises KeyError for a run that is not there."""
BEST_RATE = study.SEARCH[6:]
"""The settings with the highest rate, at ranks 2, 4 and 8."""
WELL = 50
"""Scaled units: a series with a smaller error counts as forecast well, a twentieth of a typical high value."""


def claims_table() -> str:
    """A row of Markdown for each claim, as book/claims.md has it, with MAE in scaled units and 95% intervals.

    A claim whose runs are not finished is left out.
    """
    rows = ["| section | the report says | printed | ours | |", "|---|---|---|---|---|"]
    printed, ours = published_runs(), replicated_runs()
    for section, claim, finding in CLAIMS:
        try:
            found, holds = finding(ours)
        except KeyError:
            continue
        verdict = "holds" if holds else "does not hold"
        rows.append(f"| {section} | {claim} | {finding(printed)[0]} | {found} | {verdict} |")
    return "\n".join(rows)


def published_runs() -> Runs:
    """The report's own errors."""
    runs = {name: maes for (_, name), maes in errors.runs(errors.published()).items()}
    return runs | {"default at a fifth": runs["default"]}


def replicated_runs() -> Runs:
    """Our errors, under the names of the published ones; of runs that are finished."""
    fifth, report = (_ours(profile) for profile in study.REPLICATION.values())
    default = {"default at a fifth": fifth.get("default"), "default": report.get("default")}
    runs = fifth | {"untuned": fifth.get("untuned-test")} | default
    return {name: maes for name, maes in runs.items() if maes is not None}


def _ours(profile: study.Profile) -> Runs:
    done = [name for name, record in study.all_records(profile).items() if record.status == "done"]
    return {name: maes for (who, name), maes in errors.recorded_runs(profile, *done).items() if who == "ours"}


def _untuned(of: Callable[..., float], runs: Runs) -> tuple[str, bool]:
    low, high = bootstrap_interval(runs["baseline"], of)
    return f"{of(runs['baseline']):.1f} ({low:.1f} to {high:.1f})", low <= of(published_runs()["baseline"]) <= high


def _half_well(runs: Runs) -> tuple[str, bool]:
    well = runs["baseline"] < WELL
    return f"{well.sum()} of {len(well)} below {WELL}", 0.4 < well.mean() < 0.6


def _default_median(runs: Runs) -> tuple[str, bool]:
    before, after = runs["baseline"][runs["default"].index].median(), runs["default"].median()
    return f"{before:.1f} to {after:.1f}", after < before / 2


def _highest_rate(runs: Runs) -> tuple[str, bool]:
    five = runs[study.SEARCH[0]].index
    best = pd.Series({name: runs[name][five].mean() for name in study.SEARCH}).nsmallest(3)
    shown = ", ".join(f"{name.removeprefix('search/expt_')} ({mean:.0f})" for name, mean in best.items())
    return shown, set(best.index) == set(BEST_RATE)


def _ranks_alike(runs: Runs) -> tuple[str, bool]:
    rank_2, rank_4 = (_twenty(runs, name) for name in BEST_RATE[:2])
    low, high = bootstrap_interval(rank_2 - rank_4)
    return f"{rank_2.mean():.1f} and {rank_4.mean():.1f}, apart by {low:.1f} to {high:.1f}", low <= 0 <= high


def _fewer_steps(runs: Runs) -> tuple[str, bool]:
    return _fall(runs["default at a fifth"], _twenty(runs, BEST_RATE[0]))


def _longer_is_better(runs: Runs) -> tuple[str, bool]:
    maes = [runs[f"context/{length}"][runs["context/128"].index] for length in errors.LENGTHS]
    means, medians = [each.mean() for each in maes], [each.median() for each in maes]
    shown = (" / ".join(f"{number:,.0f}" for number in numbers) for numbers in (means, medians))
    return ", medians ".join(shown), means[0] > means[1] > means[2]


def _fall(before: pd.Series, after: pd.Series) -> tuple[str, bool]:
    """From before to after, on the series of after: by how much, and whether surely."""
    before = before[after.index]
    low, high = bootstrap_interval(before - after)
    shown = f"{before.mean():.1f} to {after.mean():.1f}, by {low:.1f} to {high:.1f}"
    return f"{shown}; median {before.median():.1f} to {after.median():.1f}", low > 0


def _twenty(runs: Runs, name: str) -> pd.Series:
    """A setting's errors on the twenty series of both rounds."""
    return runs[name][published_runs()[name].index]


CLAIMS: tuple[tuple[str, str, Finding], ...] = (
    ("2.2", "untuned, the mean error over 50 validation series is 123.5", partial(_untuned, np.mean)),
    ("2.2", "untuned, the median is about 50", partial(_untuned, np.median)),
    ("2.2", "untuned, half of the series are forecast well", _half_well),
    (
        "3.1",
        "the first adapter lowers the mean over 25 series from 219.4 to 81.2",
        lambda runs: _fall(runs["baseline"], runs["default"]),
    ),
    ("3.1", "it more than halves the median", _default_median),
    ("3.2", "of nine settings, 6, 7 and 8 are best: those of the highest rate", _highest_rate),
    ("3.2", "over 20 series rank 2 and rank 4 are alike: 69.3 and 69.0", _ranks_alike),
    ("3.2", "the chosen setting errs less than the first adapter, in fewer steps", _fewer_steps),
    ("3.2", "128, 512 and 768 tokens of context have 2,203, 364 and 273", _longer_is_better),
    (
        "3.3",
        "the final adapter lowers the test error from 247.9 to 37.6",
        lambda runs: _fall(runs["untuned"], runs["final"]),
    ),
)
