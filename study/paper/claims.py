"""What the report says and what the replication finds: a row for each of the report's findings."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy

import study
from m2lib.series.intervals import bootstrap_interval, sign_flip_p, t_interval
from study.paper import errors
from study.published import published_name

RunsByName = Mapping[str, pd.Series]
"""MAE by series id, scaled units, by experiment."""
Verdict = bool | None
Finding = tuple[str, Verdict]
"""What runs show, in words, and whether the report's finding holds by them; None: they cannot
tell."""
VERDICTS = {True: "holds", False: "does not hold", None: "not sure"}
NOT_TESTED = "not tested"
"""The verdict on a finding about longer runs than the replication has."""
WELL = 50
"""Scaled units: a series with a smaller error counts as forecast well, a twentieth of a typical
high value."""
FEW = 25
"""Series, of which Student's interval is taken; of more it is the bootstrap's."""
PROMPTED = ("context/128", "context/128-at-512", "context/512", "context/768", "context/768-at-512")
"""The experiments of the context search: each adapter with prompts of its own length, and of 512
tokens."""
ALIKE = 1 / 3
"""Two numbers are alike if the interval of their difference lies within this share of the report's
number. That the interval holds zero would not do: the fewer the series, the wider it is."""


@dataclass(frozen=True)
class Claim:
    """A finding of the report."""

    section: str
    """The report's section, such as 3.1."""
    says: str
    """The finding, in the report's numbers."""
    about: tuple[str, ...]
    """The experiments whose errors it is about."""
    finding: Callable[[RunsByName], Finding]
    """What the errors of these experiments show."""


def claims_table() -> str:
    """Return a table in Markdown with a row for each claim, as book/claims.md has it.

    Errors are MAE in scaled units, with 95% intervals. A claim is judged by runs of the report's
    length. Where the replication has only shorter ones, their numbers are shown, and the verdict is
    *not tested*.
    """
    rows = [
        "| section | the report says | its forecasts | the replication | verdict |",
        "|---|---|---|---|---|",
    ]
    for claim, theirs, ours, verdict in judged_claims():
        rows.append(f"| {claim.section} | {claim.says} | {theirs} | {ours} | {verdict} |")
    return "\n".join(rows)


class Judged(NamedTuple):
    """A claim and what the forecasts say of it."""

    claim: Claim
    theirs: str
    """What the report's own forecasts show."""
    ours: str
    """What the replication's show; empty if it has no such runs."""
    verdict: str
    """One of VERDICTS, or NOT_TESTED."""


def judged_claims() -> list[Judged]:
    """Return the verdict on each claim, as `claims_table` prints it."""
    published = published_runs()
    full_runs = replicated_runs("report")
    fifth_runs = {**full_runs, **replicated_runs("fifth")}  # which has no untuned runs of its own
    judged = []
    for claim in CLAIMS:
        theirs, _ = claim.finding(published)
        ours = ""
        verdict = NOT_TESTED
        if _has_all_series(full_runs, published, claim.about):
            ours, holds = claim.finding(full_runs)
            verdict = VERDICTS[holds]
        elif _has_all_series(fifth_runs, published, claim.about):
            ours, _ = claim.finding(fifth_runs)
            ours = f"after a fifth of the steps: {ours}"
        judged.append(Judged(claim, theirs, ours, verdict))
    return judged


def contexts_table() -> str:
    """Return a table in Markdown of the adapters of the context search, as book/claims.md has it.

    Each adapter was trained on windows of so many tokens, and has a row for each length of prompt
    that it forecasts from. Errors are mean / median MAE in scaled units, over the five series of
    the search. A cell is empty where there is no such run, and a row that would have none is left
    out.
    """
    rows = [
        "| trained on | prompted with | the report | the replication, 300 steps | 1,500 steps |",
        "|---|---|---|---|---|",
    ]
    published = published_runs()
    columns = (published, replicated_runs("fifth"), replicated_runs("report"))
    five_ids = published["context/128"].index
    for name in PROMPTED:
        # "context/128-at-512" has the lengths "128" and "512", "context/128" has "128" and "".
        length, _, prompt = name.removeprefix("context/").partition("-at-")
        cells = []
        for runs in columns:
            maes = runs[name][five_ids] if name in runs else None
            cells.append("" if maes is None else f"{maes.mean():,.0f} / {maes.median():,.0f}")
        if any(cells):
            lengths = f"{length} tokens | {prompt or length} tokens"
            rows.append(f"| {lengths} | {' | '.join(cells)} |")
    return "\n".join(rows)


def published_runs() -> RunsByName:
    """Return the report's own errors."""
    runs = errors.runs(errors.published())
    return {name: maes for (_, name), maes in runs.items()}


def replicated_runs(profile: str) -> RunsByName:
    """Return the errors of the replication's finished runs at a profile.

    They have the names of the published ones, which call the untuned model on test `untuned`.
    """
    replication = study.REPLICATION[profile]
    records = study.all_records(replication)
    finished_names = [name for name, record in records.items() if record.status == "done"]
    runs = {}
    for (who, name), maes in errors.recorded_runs(replication, *finished_names).items():
        if who == "ours":
            runs[published_name(name)] = maes
    return runs


def _has_all_series(runs: RunsByName, published: RunsByName, names: tuple[str, ...]) -> bool:
    """Return whether runs have forecast all series that the report asked some experiments about.

    Of a setting that went on to the search's second round these are 20, and a run of the first
    round alone has five of them.
    """
    for name in names:
        if name not in runs or not published[name].index.isin(runs[name].index).all():
            return False
    return True


def _untuned(statistic: Callable[..., Any], runs: RunsByName) -> Finding:
    """Find a mean or median of the untuned errors, and how far it lies from the report's.

    The distance is taken series by series.
    """
    our_maes = runs["baseline"]
    their_maes = published_runs()["baseline"]
    number = statistic(their_maes)
    text = f"{statistic(our_maes):.1f}"
    if our_maes.equals(their_maes):
        return text, True

    def difference(first: np.ndarray, second: np.ndarray, axis: int = -1) -> Any:
        return statistic(first, axis=axis) - statistic(second, axis=axis)

    # In the order of the ids, as in `paired_gain`, because the bootstrap's seed draws places.
    in_order = our_maes.sort_index()
    pairs = (in_order.to_numpy(), their_maes[in_order.index].to_numpy())
    low, high = _paired_interval(pairs, difference)
    text += f", {difference(*pairs):+.1f} ({low:+.1f} to {high:+.1f}) from the report's"
    return text, _is_small_beside(low, high, number)


def _paired_interval(
    pairs: tuple[np.ndarray, np.ndarray], statistic: Callable[..., Any]
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of a statistic of two samples, resampled together."""
    resampled = scipy.stats.bootstrap(
        pairs,
        statistic,
        paired=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    interval = resampled.confidence_interval
    return float(interval.low), float(interval.high)


def _is_small_beside(low: float, high: float, number: float) -> Verdict:
    """Say whether a difference is small beside a number, by its interval."""
    if max(abs(low), abs(high)) < ALIKE * number:
        return True
    return None if low <= 0 <= high else False


def _half_well(runs: RunsByName) -> Finding:
    """Find whether about half of the series are forecast well."""
    well = runs["baseline"] < WELL
    return f"{well.sum()} of {len(well)} below {WELL}", bool(0.4 < well.mean() < 0.6)


def _median_halved(earlier: str, later: str, runs: RunsByName) -> Finding:
    """Find whether a median falls to less than half.

    The interval is that of the ratio, resampled series by series.
    """
    after = _errors_on_report_series(runs, later)
    before = runs[earlier][after.index]

    def ratio(first: np.ndarray, second: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.median(first, axis=axis) / np.median(second, axis=axis)

    pairs = (after.to_numpy(), before.to_numpy())
    low, high = _paired_interval(pairs, ratio)
    text = f"{before.median():.1f} to {after.median():.1f}, "
    text += f"{ratio(*pairs):.2f} of it ({low:.2f} to {high:.2f})"
    if low <= 0.5 <= high:
        return text, None
    return text, high < 0.5


def _highest_rate(runs: RunsByName) -> Finding:
    """Find whether the three best settings by mean are 6, 7 and 8, those of the highest rate."""
    by_setting = {setting: runs[name] for setting, name in enumerate(study.SEARCH)}
    maes = pd.DataFrame(by_setting).dropna()
    medians = maes.median()
    best_means = maes.mean().nsmallest(3)
    parts = []
    for setting, mean in best_means.items():
        parts.append(f"{setting} ({mean:.0f}, median {medians[setting]:.0f})")
    return ", ".join(parts), set(best_means.index) == {6, 7, 8}


def _ranks_alike(runs: RunsByName) -> Finding:
    """Find whether rank 2 and rank 4 have about the same error at the highest rate."""
    rank_2 = _errors_on_report_series(runs, "search/expt_6")
    rank_4 = _errors_on_report_series(runs, "search/expt_7")
    number = published_runs()["search/expt_6"].mean()

    def verdict(differences: pd.Series) -> Verdict:
        return _is_small_beside(*t_interval(differences), number)

    differences = rank_2 - rank_4
    low, high = t_interval(differences)
    text = f"{rank_2.mean():.1f} and {rank_4.mean():.1f}, apart by {low:.1f} to {high:.1f}"
    text += f"; medians {rank_2.median():.1f} and {rank_4.median():.1f}"
    return text + _name_decisive_series(differences, verdict), verdict(differences)


def _longer_is_better(runs: RunsByName) -> Finding:
    """Find whether each longer context surely has a lower mean error than the one before."""
    maes = pd.DataFrame({name: runs[name] for name in study.CONTEXTS}).dropna()
    means = " / ".join(f"{mean:,.0f}" for mean in maes.mean())
    medians = " / ".join(f"{median:,.0f}" for median in maes.median())
    verdicts = []
    for shorter, longer in pairwise(study.CONTEXTS):
        verdicts.append(_surely_positive(maes[shorter] - maes[longer]))
    text = f"{means}, medians {medians}"
    if False in verdicts:  # one step surely goes the other way
        return text, False
    return text, None if None in verdicts else True


def _fall(earlier: str, later: str, runs: RunsByName) -> Finding:
    """Find by how much the mean falls from an earlier run to a later one, and whether surely.

    The series are the later one's.
    """
    after = _errors_on_report_series(runs, later)
    before = runs[earlier][after.index]
    falls = before - after
    low, high = _interval(falls)
    text = f"{before.mean():.1f} to {after.mean():.1f}, by {low:.1f} to {high:.1f}, "
    text += f"lower in {(falls > 0).sum()} of {len(falls)}; "
    text += f"median {before.median():.1f} to {after.median():.1f}"
    return text + _name_decisive_series(falls, _surely_positive), _surely_positive(falls)


def _interval(differences: pd.Series) -> tuple[float, float]:
    """Return the 95% interval of a mean.

    Of a few series it is Student's, because a bootstrap would make it too narrow.
    """
    return t_interval(differences) if len(differences) <= FEW else bootstrap_interval(differences)


def _surely_positive(differences: pd.Series) -> Verdict:
    """Say whether the mean lies above zero, by its interval and by the sign-flip test.

    It is None if one of them cannot tell.
    """
    low, high = _interval(differences)
    if low <= 0 <= high or sign_flip_p(differences) >= 0.05:
        return None
    return low > 0


def _name_decisive_series(differences: pd.Series, verdict: Callable[[pd.Series], Verdict]) -> str:
    """Say which series the verdict hangs on: those without any one of which it would be another."""
    with_all = verdict(differences)
    decisive: dict[Verdict, list[str]] = {}
    for series in differences.index:
        without_it = verdict(differences.drop(series))
        if without_it != with_all:
            decisive.setdefault(without_it, []).append(str(series))
    text = ""
    for without_it, series in decisive.items():
        *all_but_last, last = series
        if not all_but_last:
            text += f" (this hangs on series {last}: without it, *{VERDICTS[without_it]}*)"
        else:
            names = f"{', '.join(all_but_last)} or {last}"
            text += f" (without any one of {names}: *{VERDICTS[without_it]}*)"
    return text


def _errors_on_report_series(runs: RunsByName, name: str) -> pd.Series:
    """Return a run's errors on the report's series, which of a setting are those of both rounds."""
    return runs[name][published_runs()[name].index]


CLAIMS = (
    Claim(
        "2.2",
        "untuned, the mean error over 50 validation series is 123.5",
        about=("baseline",),
        finding=partial(_untuned, np.mean),
    ),
    Claim(
        "2.2",
        "untuned, the median is about 50",
        about=("baseline",),
        finding=partial(_untuned, np.median),
    ),
    Claim(
        "2.2",
        "untuned, half of the series are forecast well",
        about=("baseline",),
        finding=_half_well,
    ),
    Claim(
        "3.1",
        "the first adapter lowers the mean over 25 series from 219.4 to 81.2",
        about=("baseline", "default"),
        finding=partial(_fall, "baseline", "default"),
    ),
    Claim(
        "3.1",
        "it more than halves the median",
        about=("baseline", "default"),
        finding=partial(_median_halved, "baseline", "default"),
    ),
    Claim(
        "3.2",
        "of nine settings, 6, 7 and 8 are best: those of the highest rate",
        about=study.SEARCH,
        finding=_highest_rate,
    ),
    Claim(
        "3.2",
        "over 20 series rank 2 and rank 4 are alike: 69.3 and 69.0",
        about=study.SEARCH[6:8],
        finding=_ranks_alike,
    ),
    Claim(
        "3.2",
        "the chosen setting errs less than the first adapter, in fewer steps",
        about=("default", "search/expt_6"),
        finding=partial(_fall, "default", "search/expt_6"),
    ),
    Claim(
        "3.2",
        "128, 512 and 768 tokens of context have 2,203, 364 and 273",
        about=study.CONTEXTS,
        finding=_longer_is_better,
    ),
    Claim(
        "3.3",
        "the final adapter lowers the test error from 247.9 to 37.6",
        about=("untuned", "final"),
        finding=partial(_fall, "untuned", "final"),
    ),
)
