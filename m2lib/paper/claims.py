"""What the report says, and what the replication finds: a row for each of the report's findings."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from m2lib import study
from m2lib.paper import errors
from m2lib.series import bootstrap_interval, paired_gain

RunsByName = dict[str, pd.Series]
"""MAE by series id, by experiment, published or ours; `default at a fifth` is the first adapter in fewer steps, and
`untuned, again` the baseline on the machine that forecast with all of them."""
VERDICTS = {True: "holds", False: "does not hold", None: "not sure"}
AGAIN = "untuned, again"
WELL = 50
"""Scaled units: a series with a smaller error counts as forecast well, a twentieth of a typical high value."""


def claims_table() -> str:
    """A row of Markdown for each claim, as book/claims.md has it, with MAE in scaled units and 95% intervals.

    A claim whose runs are not finished is left out.
    """
    rows = ["| section | the report says | its forecasts | ours | verdict |", "|---|---|---|---|---|"]
    printed, ours = published_runs(), replicated_runs()
    for section, claim, finding in CLAIMS:
        try:
            found, holds = finding(ours)
        except KeyError:
            continue
        rows.append(f"| {section} | {claim} | {finding(printed)[0]} | {found} | {VERDICTS[holds]} |")
    return "\n".join(rows)


def published_runs() -> RunsByName:
    """The report's own errors."""
    runs = {name: maes for (_, name), maes in errors.runs(errors.published()).items()}
    return runs | {"default at a fifth": runs["default"], AGAIN: runs["baseline"]}


def replicated_runs() -> RunsByName:
    """Our errors, under the names of the published ones; of runs that are finished."""
    fifth = _ours(study.REPLICATION["fifth"], {"default": "default at a fifth", "untuned-test": "untuned"})
    return fifth | _ours(study.REPLICATION["report"], {"baseline": AGAIN})


def _ours(profile: study.Profile, called: dict[str, str]) -> RunsByName:
    done = [name for name, record in study.all_records(profile).items() if record.status == "done"]
    runs = errors.recorded_runs(profile, *done)
    return {called.get(name, name): maes for (who, name), maes in runs.items() if who == "ours"}


def _untuned(of: Callable[..., float], runs: RunsByName) -> tuple[str, bool]:
    low, high = bootstrap_interval(runs["baseline"], of)
    return f"{of(runs['baseline']):.1f} ({low:.1f} to {high:.1f})", low <= of(published_runs()["baseline"]) <= high


def _half_well(runs: RunsByName) -> tuple[str, bool]:
    well = runs["baseline"] < WELL
    return f"{well.sum()} of {len(well)} below {WELL}", 0.4 < well.mean() < 0.6


def _default_median(runs: RunsByName) -> tuple[str, bool]:
    before, after = pd.DataFrame({"before": runs[AGAIN], "after": runs["default"]}).dropna().median()
    return f"{before:.1f} to {after:.1f}", after < before / 2


def _highest_rate(runs: RunsByName) -> tuple[str, bool]:
    five = pd.DataFrame({setting: runs[name] for setting, name in enumerate(study.SEARCH)}).dropna()
    best = five.mean().nsmallest(3)
    return ", ".join(f"{setting} ({mean:.0f})" for setting, mean in best.items()), set(best.index) == {6, 7, 8}


def _ranks_alike(runs: RunsByName) -> tuple[str, bool]:
    rank_2, rank_4 = (_asked(runs, name) for name in study.SEARCH[6:8])
    low, high = bootstrap_interval(rank_2 - rank_4)
    return f"{rank_2.mean():.1f} and {rank_4.mean():.1f}, apart by {low:.1f} to {high:.1f}", low <= 0 <= high


def _longer_is_better(runs: RunsByName) -> tuple[str, bool]:
    five = pd.DataFrame({length: runs[f"context/{length}"] for length in errors.LENGTHS}).dropna()
    means, medians = (" / ".join(five.agg(of).map("{:,.0f}".format)) for of in ("mean", "median"))
    return f"{means}, medians {medians}", five.mean().diff()[1:].lt(0).all()


def _fall(earlier: str, later: str, runs: RunsByName) -> tuple[str, bool | None]:
    """From an earlier run to a later one, on the later one's series: by how much, and whether surely."""
    after = _asked(runs, later)
    before = runs[earlier][after.index]
    gain = paired_gain(after.to_dict(), before.to_dict())
    (low, high), (old, new) = gain["mean interval"], (before.mean(), after.mean())
    shown = f"{old:.1f} to {new:.1f}, by {low:.1f} to {high:.1f}, lower in {gain['better']} of {len(after)}"
    return f"{shown}; median {before.median():.1f} to {after.median():.1f}", None if low <= 0 <= high else low > 0


def _asked(runs: RunsByName, name: str) -> pd.Series:
    """A run's errors on the report's series, which of a setting are those of both rounds."""
    return runs[name][published_runs()[name].index]


CLAIMS: tuple[tuple[str, str, Callable[[RunsByName], tuple[str, bool | None]]], ...] = (
    ("2.2", "untuned, the mean error over 50 validation series is 123.5", partial(_untuned, np.mean)),
    ("2.2", "untuned, the median is about 50", partial(_untuned, np.median)),
    ("2.2", "untuned, half of the series are forecast well", _half_well),
    (
        "3.1",
        "the first adapter lowers the mean over 25 series from 219.4 to 81.2",
        partial(_fall, AGAIN, "default"),
    ),
    ("3.1", "it more than halves the median", _default_median),
    ("3.2", "of nine settings, 6, 7 and 8 are best: those of the highest rate", _highest_rate),
    ("3.2", "over 20 series rank 2 and rank 4 are alike: 69.3 and 69.0", _ranks_alike),
    (
        "3.2",
        "the chosen setting errs less than the first adapter, in fewer steps",
        partial(_fall, "default at a fifth", "search/expt_6"),
    ),
    ("3.2", "128, 512 and 768 tokens of context have 2,203, 364 and 273", _longer_is_better),
    ("3.3", "the final adapter lowers the test error from 247.9 to 37.6", partial(_fall, "untuned", "final")),
)
"""Section and claim of the report; and what says what runs show, and whether it holds by them (None: it is not sure).
That raises KeyError for a missing run."""
