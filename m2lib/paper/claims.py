"""What the report says, and what the replication finds: a row for each of the report's findings."""

from collections.abc import Callable, Mapping

import numpy as np

from m2lib import study
from m2lib.paper.panels import LENGTHS
from m2lib.series import bootstrap_interval, load_series, summarise
from m2lib.study import Maes

Runs = Mapping[str, Maes]
"""Errors of experiments, published or ours, by name."""
Finding = Callable[[Runs], tuple[str, bool]]
"""Says what runs show, and whether the claim holds by them. Raises KeyError for a run that is not there."""

BEST_RATE = study.SEARCH[6:]
"""The settings with the highest rate, at ranks 2, 4 and 8."""
WELL = 50
"""Scaled units: a series with a smaller error counts as forecast well, a twentieth of a typical high value."""


def claims_table() -> str:
    """`claims` in Markdown, as book/claims.md has it."""
    head = "| section | the report says | printed | ours | |\n|---|---|---|---|---|"
    return "\n".join([head, *(f"| {' | '.join(row.values())} |" for row in claims())])


def claims() -> list[dict[str, str]]:
    """A row for each claim: `section` of the report, `claim`, `printed`, `ours`, `verdict`.

    Errors are MAE in scaled units, intervals 95% bootstrap intervals. A claim whose runs are not finished is left out.
    """
    printed, ours, rows = published_runs(), replicated_runs(), []
    for section, claim, finding in CLAIMS:
        try:
            found, holds = finding(ours)
        except KeyError:
            continue
        verdict = "holds" if holds else "does not hold"
        said = finding(printed)[0]
        rows.append({"section": section, "claim": claim, "printed": said, "ours": found, "verdict": verdict})
    return rows


def published_runs() -> Runs:
    """The report's own errors."""
    names = ("baseline", "untuned", "default", "final", *(f"context/{length}" for length in LENGTHS), *study.SEARCH)
    runs = {name: study.published_maes(name) for name in names}
    return runs | {"default at a fifth": runs["default"]}


def replicated_runs() -> Runs:
    """Our errors, under the names of the published ones; of runs that are finished."""
    runs = {"untuned": _errors("fifth", "untuned-test"), "default at a fifth": _errors("fifth", "default")}
    runs["default"] = _errors("report", "default")
    names = ("baseline", "final", *(f"context/{length}" for length in LENGTHS), *study.SEARCH)
    runs |= {name: _errors("fifth", name) for name in names}
    for place, second in enumerate(study.SECOND):  # whose series belong to the setting that went on
        first = study.AdapterOf(study.SEARCH, place).chosen(study.chosen_by)
        runs[first] = runs[first] | _errors("fifth", second) if runs[first] else {}
    return {name: maes for name, maes in runs.items() if maes}


def _errors(profile: str, name: str) -> Maes:
    """The errors of a run of the replication; none where it is not finished."""
    if not study.record_path(study.REPLICATION[profile], name).exists():
        return {}
    record = study.load_record(study.REPLICATION[profile], name, load_series())
    return record.maes() if record.status == "done" else {}


def _untuned_mean(runs: Runs) -> tuple[str, bool]:
    mean, (low, high) = _mean(runs["baseline"]), bootstrap_interval(runs["baseline"].values())
    return f"{mean:.1f} ({low:.1f} to {high:.1f})", low <= _mean(study.published_maes("baseline")) <= high


def _untuned_median(runs: Runs) -> tuple[str, bool]:
    median, (low, high) = _median(runs["baseline"]), bootstrap_interval(runs["baseline"].values(), np.median)
    return f"{median:.1f} ({low:.1f} to {high:.1f})", low <= _median(study.published_maes("baseline")) <= high


def _half_well(runs: Runs) -> tuple[str, bool]:
    errors = runs["baseline"].values()
    well = sum(error < WELL for error in errors)
    return f"{well} of {len(errors)} below {WELL}", 0.4 < well / len(errors) < 0.6


def _default_mean(runs: Runs) -> tuple[str, bool]:
    return _fall(_same(runs["baseline"], runs["default"]), runs["default"])


def _default_median(runs: Runs) -> tuple[str, bool]:
    before, after = _median(_same(runs["baseline"], runs["default"])), _median(runs["default"])
    return f"{before:.1f} to {after:.1f}", after < before / 2


def _highest_rate(runs: Runs) -> tuple[str, bool]:
    five = runs[study.SEARCH[0]]
    means = {name: _mean(_same(runs[name], five)) for name in study.SEARCH}
    best = sorted(means, key=means.__getitem__)[:3]
    shown = ", ".join(f"{name.removeprefix('search/expt_')} ({means[name]:.0f})" for name in best)
    return shown, set(best) == set(BEST_RATE)


def _ranks_alike(runs: Runs) -> tuple[str, bool]:
    low_rank, high_rank = (_twenty(runs, name) for name in BEST_RATE[:2])
    low, high = _gain(low_rank, high_rank)
    shown = f"{_mean(low_rank):.1f} and {_mean(high_rank):.1f}, apart by {low:.1f} to {high:.1f}"
    return shown, low <= 0 <= high


def _fewer_steps(runs: Runs) -> tuple[str, bool]:
    found = _twenty(runs, BEST_RATE[0])
    return _fall(_same(runs["default at a fifth"], found), found)


def _longer_is_better(runs: Runs) -> tuple[str, bool]:
    of = [_same(runs[f"context/{length}"], runs["context/128"]) for length in LENGTHS]
    means, medians = [_mean(maes) for maes in of], [_median(maes) for maes in of]
    shown = (" / ".join(f"{number:,.0f}" for number in numbers) for numbers in (means, medians))
    return ", medians ".join(shown), means[0] > means[1] > means[2]


def _test_mean(runs: Runs) -> tuple[str, bool]:
    return _fall(runs["untuned"], runs["final"])


def _fall(before: Maes, after: Maes) -> tuple[str, bool]:
    low, high = _gain(before, after)
    means = f"{_mean(before):.1f} to {_mean(after):.1f}, by {low:.1f} to {high:.1f}"
    return f"{means}; median {_median(before):.1f} to {_median(after):.1f}", low > 0


def _gain(before: Maes, after: Maes) -> tuple[float, float]:
    """The interval of the mean of before less after, series by series."""
    return bootstrap_interval(before[series] - after[series] for series in after)


def _same(maes: Maes, series: Maes) -> Maes:
    return {i: maes[i] for i in series}


def _twenty(runs: Runs, name: str) -> Maes:
    """A setting's errors on the twenty series of both rounds."""
    return _same(runs[name], study.published_maes(name))


def _mean(maes: Maes) -> float:
    return summarise(maes.values()).mean


def _median(maes: Maes) -> float:
    return summarise(maes.values()).median


CLAIMS: tuple[tuple[str, str, Finding], ...] = (
    ("2.2", "untuned, the mean error over 50 validation series is 123.5", _untuned_mean),
    ("2.2", "untuned, the median is about 50", _untuned_median),
    ("2.2", "untuned, half of the series are forecast well", _half_well),
    ("3.1", "the first adapter lowers the mean over 25 series from 219.4 to 81.2", _default_mean),
    ("3.1", "it more than halves the median", _default_median),
    ("3.2", "of nine settings, 6, 7 and 8 are best: those of the highest rate", _highest_rate),
    ("3.2", "over 20 series rank 2 and rank 4 are alike: 69.3 and 69.0", _ranks_alike),
    ("3.2", "the chosen setting errs less than the first adapter, in fewer steps", _fewer_steps),
    ("3.2", "128, 512 and 768 tokens of context have 2,203, 364 and 273", _longer_is_better),
    ("3.3", "the final adapter lowers the test error from 247.9 to 37.6", _test_mean),
)
