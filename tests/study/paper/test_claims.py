from statistics import mean

import numpy as np
import pandas as pd
import pytest

from m2lib.files import ROOT, read_json
from study import REPLICATION, load_record, trained_with
from study.paper import claims

PAGE = (ROOT / "book" / "claims.md").read_text(encoding="utf-8")


def claim(start):
    (found,) = (claim for claim in claims.CLAIMS if claim.says.startswith(start))
    return found


def test_a_claim_is_about_runs_that_the_report_has():
    for claim in claims.CLAIMS:
        assert set(claim.about) <= claims.published_runs().keys(), claim.says


def test_what_the_reports_own_errors_say_of_its_findings():
    printed = claims.published_runs()
    shown, verdicts = zip(*(claim.finding(printed) for claim in claims.CLAIMS), strict=True)
    # By Student's interval one of the falls is not sure even there.
    assert verdicts == (True, True, True, True, True, True, True, None, True, True)
    numbers = (
        "123.5",
        "50.7",
        "24 of 50",
        "219.4 to 81.2,",
        "141.7 to 53.8",
        "7 (124,",
        "69.3 and 69.0,",
    )
    numbers += ("95.4 to 69.3,", "2,204 / 364 / 273, medians 360 / 225 / 231", "247.9 to 37.6,")
    for number, said in zip(numbers, shown, strict=True):
        assert said.startswith(number)


def test_a_run_without_gain_does_not_hold():
    """The findings can fail: nothing has been learned where the errors after are those before."""
    same = {name: maes * 0 + 100 for name, maes in claims.published_runs().items()}
    holding = {claim.says for claim in claims.CLAIMS if claim.finding(same)[1]}
    assert holding == {"over 20 series rank 2 and rank 4 are alike: 69.3 and 69.0"}
    final = claim("the final adapter").finding
    noise = pd.Series(np.resize([-50, 50], len(same["final"])), same["final"].index)
    verdicts = [
        final(same | {"final": same["final"] + off})[1] for off in (noise - 40, noise, noise + 40)
    ]
    assert [claims.VERDICTS[holds] for holds in verdicts] == ["holds", "not sure", "does not hold"]


def test_alike_is_a_small_difference_and_not_a_wide_interval():
    untuned = claim("untuned, the mean").finding
    theirs = claims.published_runs()["baseline"]
    noise = pd.Series(np.resize([-1, 1], len(theirs)), theirs.index)
    for ours, holds in (
        (theirs + 5 * noise + 1, True),
        (theirs + 300 * noise + 1, None),
        (theirs + 60 + noise, False),
    ):
        shown, verdict = untuned({"baseline": ours})
        assert verdict is holds
        assert shown.startswith(f"{ours.mean():.1f}, {(ours - theirs).mean():+.1f} (")


def test_a_verdict_that_hangs_on_one_series_says_so():
    same = {name: maes * 0 + 100 for name, maes in claims.published_runs().items()}
    better = same["default"] - 10 - np.arange(len(same["default"])) % 3
    runaway = better.copy()
    runaway.iloc[3] = 5000
    fall = claim("the first adapter").finding
    assert fall(same | {"default": better})[1]
    shown, holds = fall(same | {"default": runaway})
    assert holds is None
    assert f"this hangs on series {runaway.index[3]}: without it, *holds*" in shown


def test_no_verdict_rests_on_a_run_that_is_shorter_than_the_finding(monkeypatch):
    def rows():
        cells = [row.strip("| ").split(" | ") for row in claims.claims_table().splitlines()[2:]]
        return {says: verdict for _, says, _, _, verdict in cells}

    real = claims.replicated_runs
    whole = claims.published_runs()
    final = "the final adapter lowers the test error from 247.9 to 37.6"
    monkeypatch.setattr(
        claims, "replicated_runs", lambda profile: whole if profile == "report" else {}
    )
    assert rows()[final] == "holds"
    monkeypatch.setattr(
        claims, "replicated_runs", lambda profile: whole if profile == "fifth" else {}
    )
    assert set(rows().values()) == {"not tested"}
    monkeypatch.setattr(claims, "replicated_runs", real)
    for name in ("final", "default"):
        steps = trained_with(name, REPLICATION["report"]).steps
        for made in real("report").keys() & {name}:
            assert load_record(REPLICATION["report"], made).training.steps == steps


def test_the_page_is_what_the_records_say():
    table = claims.claims_table()
    assert table in PAGE, (
        "put into book/claims.md what this prints: "
        "python -c 'from study.paper import claims; print(claims.claims_table())'"
    )
    assert len(table.splitlines()) > 4


def test_the_page_says_the_steps_that_are_run():
    for name, row in (
        ("search/expt_0", "nine settings"),
        ("context/128", "three contexts"),
        ("final", "final"),
    ):
        report, fifth = (
            trained_with(name, REPLICATION[profile]).steps for profile in ("report", "fifth")
        )
        each = " each" * (name != "final")
        assert f"| steps: {row} | {report:,}{each} | {fifth:,}{each} |" in PAGE


def test_what_the_page_says_of_the_context_of_128_tokens_is_so():
    said = " ".join(PAGE.split())
    full, fifth = (
        load_record(REPLICATION[profile], "context/128") for profile in ("report", "fifth")
    )
    prompted = load_record(REPLICATION["report"], "context/128-at-512")
    published = claims.published_runs()["context/128"].to_dict()
    assert (full.training.steps, fifth.training.steps) == (1500, 300)
    assert full.maes().keys() == prompted.maes().keys() == published.keys()
    (mean, median), *others = (
        (f"{np.mean([*maes.values()]):,.0f}", f"{np.median([*maes.values()]):,.0f}")
        for maes in (full.maes(), fifth.maes(), published, prompted.maes())
    )
    assert f"it has {mean} in the mean and {median} in the median" in said
    assert "it had {} and {} after 300 steps".format(*others[0]) in said
    assert "the report has {} and {}".format(*others[1]) in said
    assert "ours of 128 tokens has {} and {}".format(*others[2]) in said
    for maes in (full.maes(), fifth.maes(), published, prompted.maes()):
        assert max(maes.values()) > sum(maes.values()) / 2


def test_what_the_page_says_of_precision_is_so():
    """Of the earlier bfloat16 forecasts, and of those in float32 that the records hold now."""
    record = read_json(ROOT / "report" / "results" / "precision.json")
    rows = record["records"]
    by_run = {f"{row['profile']}/{row['run']}": row for row in rows}
    untuned = by_run["report/baseline"]
    first = by_run["report/default"]
    final = by_run["fifth/final"]
    assert first["differing"] == first["of"]
    said = " ".join(PAGE.split())
    assert f"{untuned['differing']} of the untuned model's {untuned['of']} validation" in said
    assert (
        f"all {first['of']} of the first adapter's, and {final['differing']} of the final" in said
    )
    searched = [row for run, row in by_run.items() if run.startswith(("fifth/s", "fifth/c"))]
    assert len(searched) == 16
    assert all(row["differing"] == row["of"] for row in searched)
    assert "forecasts of the two searches differ without exception" in said
    for when in ("before", "after"):
        assert f"to {final[when]['mean']:.1f} / {final[when]['median']:.1f}" in said
    (again,) = record["again"]
    assert f"wrote {again['differing']} of the {again['of']} validation forecasts diff" in said
    recorded = load_record(REPLICATION["report"], "baseline").maes()
    assert untuned["after"]["mean"] == pytest.approx(mean(recorded.values()))
