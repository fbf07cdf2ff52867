"""The report's findings are judged by errors, and book/claims.md says what came out."""

from functools import partial
from statistics import mean, median

import numpy as np
import pandas as pd
import pytest

from m2lib.files import ROOT, read_json
from m2lib.series import load_series, to_integers
from m2lib.series.intervals import bootstrap_interval, t_interval
from pages import sentences_of, text_of
from study import BEST_THREE, REPLICATION, SEARCH, all_records, load_record, trained_with
from study.paper import claims

WHOLE = REPLICATION["report"]
FIFTH = REPLICATION["fifth"]
RUNAWAY = 278
"""The series whose forecasts run away in four of the nine settings, after a fifth of the steps."""

PAGE = text_of("book/claims.md")
PROSE = sentences_of("book/claims.md")
PAPER = sentences_of("report/main.typ")

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


NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def test_the_paper_and_the_page_count_the_verdicts():
    _, _, *rows = claims.claims_table().splitlines()
    verdicts = [row.strip("| ").rsplit(" | ", 1)[1] for row in rows]
    assert "does not hold" not in verdicts  # the paper would have to say so
    words = {name: NUMBER_WORDS[verdicts.count(name)] for name in set(verdicts)}

    assert f"judges {NUMBER_WORDS[len(rows)]} findings of the report one by one." in PAPER
    abstract = (
        f"{words['holds'].capitalize()} hold so far, of {words['not sure']} we are not sure, and "
        f"{words['not tested']} waits for runs of the report's length."
    )
    assert abstract in PAPER
    discussion = (
        f"Of {words['not sure']} we are not sure, and {words['not tested']} waits for runs of the "
        "report's length."
    )
    assert f"`book/claims.md` judges {NUMBER_WORDS[len(rows)]} of them" in PAPER
    assert discussion in PAPER
    summary = (
        f"This page judges {NUMBER_WORDS[len(rows)]} findings of the report. "
        f"{words['holds'].capitalize()} hold, of {words['not sure']} we are not sure, and "
        f"{words['not tested']} has not been tested."
    )
    assert summary in PROSE


def test_the_page_is_what_the_records_say():
    table = claims.claims_table()
    assert table in PAGE, (
        "put into book/claims.md what this prints: "
        "python -c 'from study.paper import claims; print(claims.claims_table())'"
    )
    assert len(table.splitlines()) > 4


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("default", "first adapter | {whole} | {whole}, and 1,000 as well"),
        (
            "search/expt_0",
            "nine settings | {whole} each | {fifth} each, and settings 6 to 8 {whole} as well",
        ),
        ("context/128", "three contexts | {whole} each | {whole} each, and {fifth} as well"),
        ("final", "final | {whole} | {whole}, and {fifth} as well"),
    ],
)
def test_the_page_says_the_steps_that_are_run(name, row):
    whole = f"{trained_with(name, WHOLE).steps:,}"
    fifth = f"{trained_with(name, FIFTH).steps:,}"
    assert f"| steps: {row.format(whole=whole, fifth=fifth)} |" in PAGE


def test_one_run_of_the_reports_length_was_trained_on_weights_in_float32():
    in_float32 = []
    for name, record in all_records(WHOLE).items():
        if record.training and record.dtype == "float32":
            in_float32.append(name)
    assert in_float32 == ["context/128"]
    assert "(beside weights in float32 in one run, that of 1,500 steps with 128 tokens" in PROSE


def listed(items):
    return f"{', '.join(items[:-1])} and {items[-1]}"


def test_settings_6_to_8_alone_have_all_of_their_steps():
    of_search = [name for name in claims.replicated_runs("report") if name in SEARCH]
    assert of_search == list(BEST_THREE)
    for name in of_search:
        assert load_record(WHOLE, name).training.steps == 3150


def test_the_page_says_what_the_three_ranks_have():
    runs = claims.replicated_runs("report")
    maes = pd.DataFrame({name: runs[name] for name in BEST_THREE})
    ranks = [load_record(WHOLE, name).plan.training.rank for name in BEST_THREE]
    errors = []
    for name, rank in zip(BEST_THREE, ranks, strict=True):
        errors.append(f"{maes[name].mean():.1f} / {maes[name].median():.1f} (rank {rank})")
    falls = []
    for name in BEST_THREE[:2]:
        fall = maes[name] - maes["search/expt_8"]
        low, high = t_interval(fall)
        assert low < 0 < high
        falls.append(f"{fall.mean():.1f} ({low:.1f} to {high:.1f})")
    losses = [f"{load_record(WHOLE, name).evaluations[-1]['loss']:.3f}" for name in BEST_THREE]

    assert len(maes.dropna()) == 20
    assert f"they have {listed(errors)} over the 20 series" in PROSE
    assert f"From rank 2 to rank 8 the mean falls by {falls[0]}," in PROSE
    assert f"from rank 4 to rank 8 by {falls[1]}." in PROSE
    assert losses == sorted(losses, reverse=True)
    assert f"falls steadily with the rank: it is {listed(losses)}." in PROSE
    rank_of = dict(zip(BEST_THREE, ranks, strict=True))
    chosen = rank_of[maes.median().idxmin()]
    assert f"By the same rule the replication would choose rank {chosen}." in PROSE


def test_ranks_4_and_8_were_trained_separately_for_each_length():
    losses = []
    for name in ("search/expt_7", "search/expt_8"):
        for profile in (FIFTH, WHOLE):
            by_step = {one["step"]: one["loss"] for one in load_record(profile, name).evaluations}
            losses.append(f"{by_step[500]:.3f}")
    rank_4 = f"{losses[0]} and {losses[1]} with rank 4"
    rank_8 = f"{losses[2]} and {losses[3]} with rank 8"
    assert f"their losses on the validation windows are {rank_4}, and {rank_8}." in PROSE


def test_with_all_of_their_steps_settings_6_to_8_have_no_runaway():
    before = [f"{load_record(FIFTH, name).maes()[RUNAWAY]:,.0f}" for name in BEST_THREE]
    after = [f"{load_record(WHOLE, name).maes()[RUNAWAY]:.0f}" for name in BEST_THREE]
    steps = f"was {listed(before)} after 630 steps, and after 3,150 it is {listed(after)}."
    assert steps in PROSE


def test_the_page_has_the_errors_of_all_adapters_of_the_context_search():
    table = claims.contexts_table()
    assert table in PAGE, (
        "put into book/claims.md what this prints: "
        "python -c 'from study.paper import claims; print(claims.contexts_table())'"
    )


@pytest.mark.parametrize("name", ["context/128", "context/512", "context/768"])
def test_the_three_contexts_have_all_of_their_steps(name):
    assert load_record(WHOLE, name).training.steps == 1500
    assert load_record(FIFTH, name).training.steps == 300


@pytest.mark.parametrize("runs", [claims.published_runs, partial(claims.replicated_runs, "report")])
def test_neither_study_is_sure_that_the_chosen_setting_beats_the_first_adapter(runs):
    maes = runs()
    chosen = maes["search/expt_6"]
    low, high = t_interval(maes["default"][chosen.index] - chosen)
    assert low < 0 < high
    assert "Both intervals include zero, so neither study is sure of it." in PAPER


def test_the_paper_tells_what_the_reports_rates_have_without_one_series(published):
    others = pd.DataFrame({name: published[name] for name in SEARCH}).dropna().drop(RUNAWAY)
    means = others.mean().to_numpy().reshape(3, 3)  # rates down, ranks across
    _, middle, highest = means
    sentence = (
        f"the three settings of the middle rate have means of {middle.min():.0f} to "
        f"{middle.max():.0f}, and those of the highest rate {highest.min():.0f} to "
        f"{highest.max():.0f}."
    )
    assert sentence in PAPER


@pytest.fixture(scope="module")
def untuned():
    """Return the errors of the replication's untuned model on all 50 validation series."""
    return pd.Series(load_record(WHOLE, "baseline").maes()).sort_index()


@pytest.fixture(scope="module")
def with_the_first_adapter(untuned):
    """Return those of its first adapter, in the same order."""
    both = load_record(WHOLE, "default").maes() | load_record(WHOLE, "default-rest").maes()
    return pd.Series(both)[untuned.index]


def test_over_all_fifty_series_the_first_adapter_lowers_the_mean_and_not_the_median(
    untuned, with_the_first_adapter
):
    falls = untuned - with_the_first_adapter
    low, high = bootstrap_interval(falls)
    after = f"{with_the_first_adapter.mean():.1f} / {with_the_first_adapter.median():.1f}"
    better = f"{(falls > 0).sum()} series are forecast better and {(falls < 0).sum()} worse."

    assert len(falls) == 50
    assert claims._surely_positive(falls)
    assert with_the_first_adapter.median() > untuned.median()
    before = f"{untuned.mean():.1f} / {untuned.median():.1f}"
    assert f"from {before} to {after} (mean / median)." in PROSE
    assert f"The mean falls by {falls.mean():.1f} ({low:.1f} to {high:.1f}), which is sure" in PROSE
    assert f"to {after}. The mean falls by {falls.mean():.1f} ({low:.1f} to {high:.1f}," in PAPER
    assert better in PROSE
    assert better in PAPER


def test_the_two_untuned_models_err_on_much_the_same_series(published, untuned):
    correlation = untuned.corr(published["baseline"], method="spearman")
    sentence = f"the rank correlation of their errors is {correlation:.2f}."
    assert sentence in PROSE
    assert sentence in PAPER


def test_the_adapter_of_512_tokens_gains_from_further_steps_in_four_of_five_series():
    before = load_record(FIFTH, "context/512").maes()
    after = load_record(WHOLE, "context/512").maes()
    assert before.keys() == after.keys()
    assert sum(after[i] < before[i] for i in before) == 4
    assert "512 tokens gained in four of the five series" in PROSE


def context_maes(length, profile):
    """Return the errors of an adapter of the context search, in the order of the series."""
    maes = load_record(profile, f"context/{length}").maes()
    return pd.Series({series: maes[series] for series in sorted(maes)})


def test_at_the_end_768_tokens_are_behind_512_but_not_surely():
    behind = context_maes(768, WHOLE) - context_maes(512, WHOLE)
    low, high = t_interval(behind)
    assert (behind > 0).sum() == 3
    assert "in three of the five series 512 tokens have the lower error" in PROSE
    difference = f"is {behind.mean():.0f}, and its interval contains zero (Student's, {low:.0f} to"
    assert f"{difference} {high:.0f})." in PROSE
    assert low < 0 < high


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


def test_the_reports_own_step_from_512_to_768_tokens_is_not_sure(published):
    five = pd.DataFrame({name: published[name] for name in ("context/512", "context/768")})
    falls = (five["context/512"] - five["context/768"]).dropna()
    low, high = t_interval(falls)
    assert len(falls) == 5
    assert low < 0 < high
    sentence = f"its mean falls by {falls.mean():.0f} (Student's, {low:.0f} to {high:.0f})."
    assert sentence in PROSE


def test_after_300_steps_768_tokens_were_ahead_of_512_on_all_five_series():
    early = {length: context_maes(length, FIFTH) for length in (128, 512, 768)}
    assert (early[768] < early[512]).all()
    assert early[128].mean() > early[512].mean() > early[768].mean()
    assert "768 tokens had the lower error in all five series" in PROSE
    assert "768 tokens had had the lower error on all five" in PAPER


def test_the_adapter_of_768_tokens_loses_in_four_while_its_loss_falls():
    assert (context_maes(768, WHOLE) > context_maes(768, FIFTH)).sum() == 4
    assert "that of 768 tokens lost in four" in PROSE
    early = load_record(FIFTH, "context/768").evaluations[-1]["loss"]
    late = load_record(WHOLE, "context/768").evaluations[-1]["loss"]
    assert f"from {early:.3f} nats a token to {late:.3f}." in PROSE


def test_the_adapter_of_768_tokens_lets_the_prey_rise_too_high_in_four_of_five_series():
    data = load_series()
    higher = 0
    for series, entry in load_record(WHOLE, "context/768").series.items():
        prey = [int(step.split(",")[0]) for step in entry["text"].split(";")[:20]]
        truth = to_integers(data.truths[series], data.scales[series])
        higher += max(prey) > truth[:, 0].max()
    assert higher == 4
    assert "In four of the five the prey rise higher in its forecasts than in truth." in PROSE


def test_prompted_with_512_tokens_the_adapter_of_768_is_better_but_behind_that_of_512():
    prompted_otherwise = context_maes("768-at-512", WHOLE)
    for statistic in (pd.Series.mean, pd.Series.median):
        between = statistic(prompted_otherwise)
        assert statistic(context_maes(512, WHOLE)) < between
        assert between < statistic(context_maes(768, WHOLE))


@pytest.fixture(scope="module")
def maes_of_128_tokens():
    """Return the errors of the adapters that were trained on 128 tokens."""
    return {
        "1,500 steps": load_record(WHOLE, "context/128").maes(),
        "300 steps": load_record(FIFTH, "context/128").maes(),
        "prompted with 512": load_record(WHOLE, "context/128-at-512").maes(),
    }


def test_the_adapter_of_128_tokens_gains_nothing_from_further_steps(maes_of_128_tokens):
    before = maes_of_128_tokens["300 steps"].values()
    after = maes_of_128_tokens["1,500 steps"].values()
    assert mean(after) > mean(before)
    assert median(after) == pytest.approx(median(before), rel=0.05)


def test_prompted_with_512_tokens_its_mean_is_lower_and_its_median_is_not(maes_of_128_tokens):
    own = maes_of_128_tokens["1,500 steps"]
    longer = maes_of_128_tokens["prompted with 512"]
    assert own.keys() == longer.keys()
    assert mean(longer.values()) < mean(own.values())
    assert median(own.values()) < median(longer.values()) < 1.1 * median(own.values())


def test_most_of_each_mean_at_128_tokens_comes_from_one_series(maes_of_128_tokens):
    for whose, maes in maes_of_128_tokens.items():
        assert max(maes.values()) > sum(maes.values()) / 2, whose


@pytest.fixture(scope="module")
def precision():
    """Return what the forecasts in bfloat16 were, and how many differ in float32."""
    return read_json(ROOT / "report" / "results" / "precision.json")


@pytest.fixture(scope="module")
def precision_by_run(precision):
    return {f"{row['profile']}/{row['run']}": row for row in precision["records"]}


def test_the_page_counts_the_forecasts_that_float32_writes_differently(precision_by_run):
    untuned = precision_by_run["report/baseline"]
    first = precision_by_run["report/default"]
    final = precision_by_run["fifth/final"]

    assert first["differing"] == first["of"]
    assert f"{untuned['differing']} of the untuned model's {untuned['of']} validation" in PROSE
    counts = f"all {first['of']} of the first adapter's, and {final['differing']} of the final"
    assert counts in PROSE


def test_all_forecasts_of_the_two_searches_differ_as_the_page_says(precision_by_run):
    searches = ("fifth/s", "fifth/c")  # search/... and context/...
    rows = [row for run, row in precision_by_run.items() if run.startswith(searches)]

    assert len(rows) == 16
    assert all(row["differing"] == row["of"] for row in rows)
    assert "forecasts of the two searches differ without exception" in PROSE


@pytest.mark.parametrize(
    "when", [pytest.param("before", id="in bfloat16"), pytest.param("after", id="in float32")]
)
def test_the_page_says_what_the_test_errors_are(precision_by_run, when):
    untuned = precision_by_run["report/untuned-test"][when]
    final = precision_by_run["fifth/final"][when]
    fall = f"{untuned['mean']:.1f} / {untuned['median']:.1f} to {final['mean']:.1f}"
    assert f"from {fall} / {final['median']:.1f}" in PROSE


def test_the_page_says_how_many_forecasts_another_processor_writes_differently(precision):
    (again,) = precision["again"]
    assert f"wrote {again['differing']} of the {again['of']} validation forecasts diff" in PROSE


def test_errors_in_float32_are_those_of_the_records(precision_by_run):
    for run, row in precision_by_run.items():
        profile, _, name = run.partition("/")
        recorded = load_record(REPLICATION[profile], name).maes()
        assert row["of"] == len(recorded), run
        assert row["after"]["mean"] == pytest.approx(mean(recorded.values())), run


def test_the_page_says_what_four_settings_come_to_without_their_runaway():
    five = list(load_record(FIFTH, "search/expt_0").maes())
    by_setting = {}
    for number in range(9):
        name = f"search/expt_{number}"
        maes = pd.Series(load_record(FIFTH, name).maes())[five]
        if maes[RUNAWAY] >= 10_000:
            by_setting[name] = maes
    errors = pd.DataFrame(by_setting)  # series down, settings across
    others = errors.drop(RUNAWAY)

    def span(values):
        return f"{values.min():,.0f} to {values.max():,.0f}"

    assert len(by_setting) == 4
    sentence = (
        f"Without it the four means of the other series are {span(others.mean())} instead of "
        f"{span(errors.mean())}, and the medians {span(others.median())} instead of "
        f"{span(errors.median())}."
    )
    assert sentence in PROSE
