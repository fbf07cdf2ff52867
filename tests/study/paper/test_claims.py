"""The report's findings are judged by errors."""

import numpy as np
import pandas as pd
import pytest

from study import REPLICATION, load_record, trained_with
from study.paper import claims

WHOLE = REPLICATION["report"]

# How the report's own errors are put into words, and whether the finding holds by them: one for
# each claim, in their order.
IN_THE_REPORT = (
    ("123.5", True),
    ("50.7", True),
    ("24 of 50", True),
    ("219.4 to 81.2,", True),
    ("141.7 to 53.8", True),
    ("7 (124,", True),
    ("69.3 and 69.0,", True),
    ("95.4 to 69.3,", None),  # by Student's interval this fall is not sure even there
    ("2,204 / 364 / 273, medians 360 / 225 / 231", None),  # five series make no fall sure
    ("247.9 to 37.6,", True),
)


@pytest.fixture(scope="module")
def published():
    """Return the report's own errors."""
    return claims.published_runs()


@pytest.fixture(scope="module")
def unlearned(published):
    """Return runs in which nothing is learned: every error is 100, before and after."""
    return {name: pd.Series(100.0, index=maes.index) for name, maes in published.items()}


def claim_beginning(words):
    """Return the claim that begins with these words."""
    (claim,) = [claim for claim in claims.CLAIMS if claim.says.startswith(words)]
    return claim


def alternating(maes):
    """Return -1 and 1 by turns, one for each series of a run."""
    return pd.Series(np.resize([-1, 1], len(maes)), index=maes.index)


def test_a_claim_is_about_runs_that_the_report_has(published):
    for claim in claims.CLAIMS:
        assert set(claim.about) <= published.keys(), claim.says


def test_what_the_reports_own_errors_say_of_its_findings(published):
    for claim, (begins, verdict) in zip(claims.CLAIMS, IN_THE_REPORT, strict=True):
        shown, holds = claim.finding(published)

        assert shown.startswith(begins)
        assert holds == verdict, claim.says


def test_where_nothing_is_learned_no_finding_holds_but_that_two_ranks_are_alike(unlearned):
    holding = {claim.says for claim in claims.CLAIMS if claim.finding(unlearned)[1]}
    assert holding == {"over 20 series rank 2 and rank 4 are alike: 69.3 and 69.0"}


@pytest.mark.parametrize(
    ("change", "verdict"), [(-40, "holds"), (0, "not sure"), (40, "does not hold")]
)
def test_the_verdict_on_a_fall_follows_the_mean_change(unlearned, change, verdict):
    """Half of the series change by 50 more than the mean, and half by 50 less."""
    before = unlearned["final"]
    after = before + change + 50 * alternating(before)

    _, holds = claim_beginning("the final adapter").finding(unlearned | {"final": after})
    assert claims.VERDICTS[holds] == verdict


@pytest.mark.parametrize(
    ("spread", "shift", "verdict"),
    [
        pytest.param(5, 1, True, id="a small difference"),
        pytest.param(300, 1, None, id="a wide interval around a small difference"),
        pytest.param(1, 60, False, id="a large difference"),
        pytest.param(1, 40, True, id="a little less than a third"),
        pytest.param(1, -42, False, id="a little more than a third, and below"),
    ],
)
def test_alike_is_a_small_difference_and_not_a_wide_interval(published, spread, shift, verdict):
    theirs = published["baseline"]
    ours = theirs + spread * alternating(theirs) + shift

    shown, holds = claim_beginning("untuned, the mean").finding({"baseline": ours})

    assert holds is verdict
    assert shown.startswith(f"{ours.mean():.1f}, {(ours - theirs).mean():+.1f} (")


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.4, "holds"), (0.5, "not sure"), (0.6, "does not hold")]
)
def test_a_median_is_halved_if_the_interval_of_the_ratio_lies_below_a_half(
    unlearned, share, verdict
):
    before = unlearned["default"]
    after = share * before + alternating(before)
    _, holds = claim_beginning("it more than halves").finding(unlearned | {"default": after})
    assert claims.VERDICTS[holds] == verdict


@pytest.mark.parametrize(("well", "holds"), [(20, False), (21, True), (29, True), (30, False)])
def test_half_of_fifty_is_more_than_twenty_and_less_than_thirty(well, holds):
    maes = pd.Series([10.0] * well + [100.0] * (50 - well))
    shown, found = claim_beginning("untuned, half").finding({"baseline": maes})
    assert shown == f"{well} of 50 below 50"
    assert found is holds


def test_five_series_cannot_make_a_fall_sure():
    """By the sign-flip test, whatever the interval says: p is 2 / 2**5 at least."""
    assert claims._surely_positive(pd.Series([10.0, 11, 12, 13, 14])) is None
    assert claims._surely_positive(pd.Series([10.0, 11, 12, 13, 14, 15])) is True


def test_a_verdict_that_hangs_on_one_series_says_so(unlearned):
    fall = claim_beginning("the first adapter").finding
    before = unlearned["default"]
    better = before - 10 - np.arange(len(before)) % 3
    runaway = better.copy()
    runaway.iloc[3] = 5000

    _, holds_without_runaway = fall(unlearned | {"default": better})
    shown, holds = fall(unlearned | {"default": runaway})

    assert holds_without_runaway
    assert holds is None
    assert f"this hangs on series {runaway.index[3]}: without it, *holds*" in shown


def verdicts_if_replicated_at(profile, runs, monkeypatch):
    """Return the verdict on each finding, if the replication had these runs at one profile alone.

    They come by the finding's words.
    """
    monkeypatch.setattr(claims, "replicated_runs", lambda asked: runs if asked == profile else {})
    _, _, *rows = claims.claims_table().splitlines()
    verdicts = {}
    for row in rows:
        _, says, _, _, verdict = row.strip("| ").split(" | ")
        verdicts[says] = verdict
    return verdicts


def test_runs_of_the_reports_length_decide_a_verdict(published, monkeypatch):
    verdicts = verdicts_if_replicated_at("report", published, monkeypatch)
    assert verdicts["the final adapter lowers the test error from 247.9 to 37.6"] == "holds"


def test_a_run_of_some_of_the_series_decides_nothing(published, monkeypatch):
    """A setting's first round has five series, and the second asks it about fifteen more."""
    chosen = published["search/expt_6"]
    first_round = chosen[published["search/expt_0"].index]
    runs = published | {"search/expt_6": first_round}
    verdicts = verdicts_if_replicated_at("report", runs, monkeypatch)
    says = "the chosen setting errs less than the first adapter, in fewer steps"
    assert verdicts[says] == "not tested"


def test_runs_of_a_fifth_of_the_length_decide_none(published, monkeypatch):
    verdicts = verdicts_if_replicated_at("fifth", published, monkeypatch)
    assert set(verdicts.values()) == {"not tested"}


def test_replicated_runs_that_count_as_whole_have_the_reports_steps():
    recorded = claims.replicated_runs("report").keys()
    assert "default" in recorded
    for name in recorded & {"final", "default"}:
        steps = trained_with(name, WHOLE).steps
        assert load_record(WHOLE, name).training.steps == steps


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        pytest.param((20, 20), "holds", id="each longer one is surely better"),
        pytest.param((20, 0), "not sure", id="the second step changes nothing"),
        pytest.param((20, -20), "does not hold", id="the second step is surely a loss"),
    ],
)
def test_an_order_holds_if_each_of_its_steps_is_a_fall(gains, verdict):
    """Ten series, whose errors change by about as much from each length to the next."""
    scatter = pd.Series(np.resize([-1.0, 1.0], 10))
    first, second = gains
    runs = {
        "context/128": 100 + scatter,
        "context/512": 100 - first - scatter,
        "context/768": 100 - first - second + scatter,
    }
    _, holds = claim_beginning("128, 512 and 768").finding(runs)
    assert claims.VERDICTS[holds] == verdict
