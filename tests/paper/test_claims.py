from m2lib.files import ROOT
from m2lib.paper import claims
from m2lib.study import EXPERIMENTS, REPLICATION


def test_the_reports_findings_hold_by_its_own_errors():
    printed = claims.published_runs()
    for _, claim, finding in claims.CLAIMS:
        found, holds = finding(printed)
        assert holds, claim
        for number in ("123.5", "69.3 and 69.0", "247.9 to 37.6", "219.4 to 81.2"):
            assert (number in claim) <= (number in found), (claim, found)


def test_a_run_without_gain_does_not_hold():
    """The findings can fail: nothing has been learned where the errors after are those before."""
    same = {name: maes * 0 + 100 for name, maes in claims.published_runs().items()}
    assert {claim for _, claim, finding in claims.CLAIMS if finding(same)[1]} == {
        "over 20 series rank 2 and rank 4 are alike: 69.3 and 69.0",
    }


def test_the_page_is_what_the_records_say():
    table = claims.claims_table()
    assert table in (ROOT / "book" / "claims.md").read_text(encoding="utf-8")
    assert len(table.splitlines()) > 4


def test_the_page_says_the_steps_that_are_run():
    page = (ROOT / "book" / "claims.md").read_text(encoding="utf-8")
    for name, row in (("search/expt_0", "nine settings"), ("context/128", "three contexts"), ("final", "final")):
        report, fifth = (EXPERIMENTS[name].training(REPLICATION[profile])["steps"] for profile in ("report", "fifth"))
        each = " each" * (name != "final")
        assert f"| steps: {row} | {report:,}{each} | {fifth:,}{each} |" in page
