from statistics import mean

import numpy as np
import pandas as pd

from m2lib.files import ROOT
from m2lib.paper import claims
from m2lib.study import EXPERIMENTS, REPLICATION, load_record

PAGE = (ROOT / "book" / "claims.md").read_text(encoding="utf-8")


def test_the_reports_findings_hold_by_its_own_errors():
    printed = claims.published_runs()
    found, holds = zip(*(finding(printed) for _, _, finding in claims.CLAIMS), strict=True)
    assert all(holds)
    numbers = ("123.5 (", "50.7 (", "24 of 50", "219.4 to 81.2,", "141.7 to 53.8", "7 (124), 6 (134)", "69.3 and 69.0,")
    numbers += ("95.4 to 69.3,", "2,204 / 364 / 273, medians 360 / 225 / 231", "247.9 to 37.6,")
    for number, said in zip(numbers, found, strict=True):
        assert said.startswith(number)


def test_a_run_without_gain_does_not_hold():
    """The findings can fail: nothing has been learned where the errors after are those before."""
    same = {name: maes * 0 + 100 for name, maes in claims.published_runs().items()}
    assert {claim for _, claim, finding in claims.CLAIMS if finding(same)[1]} == {
        "over 20 series rank 2 and rank 4 are alike: 69.3 and 69.0",
    }
    final = claims.CLAIMS[-1][-1]
    noise = pd.Series(np.resize([-50, 50], len(same["final"])), same["final"].index)
    verdicts = [final(same | {"final": same["final"] + off})[1] for off in (noise - 40, noise, noise + 40)]
    assert [claims.VERDICTS[holds] for holds in verdicts] == ["holds", "not sure", "does not hold"]


def test_the_page_is_what_the_records_say():
    table = claims.claims_table()
    assert table in PAGE
    assert len(table.splitlines()) > 4


def test_the_page_says_the_steps_that_are_run():
    for name, row in (("search/expt_0", "nine settings"), ("context/128", "three contexts"), ("final", "final")):
        report, fifth = (EXPERIMENTS[name].training(REPLICATION[profile])["steps"] for profile in ("report", "fifth"))
        each = " each" * (name != "final")
        assert f"| steps: {row} | {report:,}{each} | {fifth:,}{each} |" in PAGE


def test_what_the_page_says_of_the_two_processors_is_so():
    first, again = (load_record(profile, "baseline").maes() for profile in REPLICATION.values())
    said = " ".join(PAGE.split())
    assert sum(first[i] != again[i] for i in first) == 13
    assert f"The means are {mean(first.values()):.1f} and {mean(again.values()):.1f}" in said
    assert f"error is {first[236]:.0f} on one and {again[236]:.0f} on the other" in said
