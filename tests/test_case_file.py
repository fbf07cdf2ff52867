"""The tables of the case file are those that the records give."""

import re

import numpy as np
import pytest

from m2lib.accounting import CONVENTIONS, Shape, total, train_step_flops
from m2lib.model import backbone_config, text_to_ids
from m2lib.series import encode, load_series, paired_gain, split_ids, summarise
from m2lib.training import make_windows
from pages import cells_of, text_of
from study import (
    CONTEXTS,
    EXPERIMENTS,
    LENGTHS,
    PROFILES,
    REPLICATION,
    SEARCH,
    SECOND,
    published_maes,
    trained_with,
)
from study.paper import finished_record

PAGE = text_of("book/case_file.md")
REPORT = PROFILES["report"]
FIFTH = REPLICATION["fifth"]
WHOLE = REPLICATION["report"]

FIVE = (278, 476, 559, 809, 911)
"""The series on which the report's first adapter erred most."""
SETTINGS = dict(enumerate(SEARCH))
"""The nine settings of rate and rank: the experiment that tries each, by its number."""


def table(title):
    """Return the rows of the table below a title in bold, without its head."""
    (below,) = re.findall(rf"\*\*{title}\*\*.*?\n\n(\|.*?)\n\n", PAGE + "\n\n", re.S)
    _, _, *rows = below.splitlines()
    return [cells_of(row) for row in rows]


def replicated(*names, profile=WHOLE):
    """Return the replication's errors by series, those of several runs together."""
    errors = {}
    for name in names:
        errors |= finished_record(profile, name).maes()
    return errors


def profile_of(name):
    """Return the profile at which the page shows a run.

    The nine settings are compared after a fifth of the report's steps, and the lengths after all.
    """
    return FIFTH if name.startswith("search/") else WHOLE


def rate_and_rank(training):
    rate = f"{training.learning_rate:.5f}".rstrip("0")
    return f"rate {rate}, rank {training.rank}"


def called(number):
    """Return what the tables call a setting."""
    return f"{number}: {rate_and_rank(trained_with(SETTINGS[number], FIFTH))}"


def mean_and_median(errors):
    summary = summarise(errors)
    return [f"{summary.mean:,.1f}", f"{summary.median:,.1f}"]


@pytest.fixture(scope="module")
def first_round():
    """Return the replication's errors on the five series, by setting."""
    return {number: replicated(name, profile=FIFTH) for number, name in SETTINGS.items()}


@pytest.fixture(scope="module")
def published():
    """Return the report's errors, by setting."""
    return {number: published_maes(name) for number, name in SETTINGS.items()}


@pytest.fixture(scope="module")
def finalists(published):
    """Return the report's three settings of the second round, best first."""
    means = {}
    for number, maes in published.items():
        means[number] = np.mean([maes[series] for series in FIVE])
    return sorted(means, key=means.get)[:3]


@pytest.fixture(scope="module")
def second_round(finalists):
    """Return the replication's errors of these three on the twenty hard series."""
    errors = {}
    for number, name in zip(finalists, SECOND, strict=True):
        errors[number] = replicated(SETTINGS[number], name, profile=FIFTH)
    return errors


def test_the_runs_of_both_lectures_are_listed():
    listed = set(re.findall(r"^\| `([\w/-]+)` \|", PAGE, re.M))
    assert {*SEARCH, *SECOND, *CONTEXTS} <= listed


def test_the_runs_are_listed_as_they_were_run():
    for row in re.findall(r"^\| `.*$", PAGE, re.M):
        name, what_for, tokens, report_steps, replica_steps, series, hours = cells_of(row)
        name = name.strip("`")
        record = finished_record(profile_of(name), name)

        assert series == str(len(record.series))
        assert hours == f"{record.seconds / 3600:.2f}"
        assert tokens == str(record.protocol.context_tokens)
        if record.plan.start:  # it takes on an adapter, and trains nothing
            assert what_for == f"the adapter of `{record.plan.start}`"
            assert report_steps == replica_steps == "–"
        else:
            training = record.training
            assert what_for == rate_and_rank(training)
            assert tokens == str(training.sequence_length)
            assert report_steps == str(trained_with(name, REPORT).steps)
            assert replica_steps == str(training.steps)
            assert training.steps == len(record.loss_curve)


def test_the_librarys_rule_chooses_the_five_series_that_the_lecture_chooses():
    rule = EXPERIMENTS[SEARCH[0]].select.rule
    assert rule(published_maes("default")) == list(FIVE)


def test_the_librarys_rule_chooses_the_fifteen_series_that_the_lecture_chooses():
    untuned = published_maes("baseline")
    worst_twenty = sorted(untuned, key=untuned.get)[-20:]
    fifteen = set(worst_twenty) - set(FIVE)
    for name in SECOND:
        rule = EXPERIMENTS[name].select.rule
        assert sorted(rule(untuned, published_maes("default"))) == sorted(fifteen)


def test_the_librarys_rule_chooses_the_three_settings_that_the_lecture_chooses(finalists):
    def on_the_five(name):
        maes = published_maes(name)
        return {series: maes[series] for series in FIVE}

    for name, number in zip(SECOND, finalists, strict=True):
        assert EXPERIMENTS[name].adapter.chosen(on_the_five) == SETTINGS[number]


def test_the_search_makes_ninety_forecasts():
    # Nine settings by five series, and three by fifteen.
    assert sum(EXPERIMENTS[name].num_forecasts for name in (*SEARCH, *SECOND)) == 90


@pytest.fixture(scope="module")
def all_records():
    names = (*SEARCH, *SECOND, *CONTEXTS, "context/768-rest")
    return {name: finished_record(profile_of(name), name) for name in names}


def test_all_was_forecast_in_float32_and_all_but_one_trained_in_bfloat16(all_records):
    forecast_in = {record.forecast_dtype or record.dtype for record in all_records.values()}
    assert forecast_in == {"float32"}

    otherwise = []
    for name, record in all_records.items():
        if record.training and record.dtype != "bfloat16":
            otherwise.append((name, record.dtype))
    assert otherwise == [("context/128", "float32")]
    assert "all but `context/128` were trained in bfloat16" in PAGE


def test_all_was_run_with_the_torch_that_the_page_names(all_records):
    (torch,) = {record.versions["torch"] for record in all_records.values()}
    assert f"torch {torch}" in PAGE


def test_the_runs_on_another_processor_are_those_that_the_page_names(all_records):
    on_amd = set()
    for name, record in all_records.items():
        for device in record.device.split("; "):
            assert re.fullmatch(r"cpu: (Intel Xeon|AMD EPYC), [12] threads", device)
        if "AMD" in record.device:
            on_amd.add(name)

    sentence = re.search(r"in part also on an AMD\s+EPYC:(.*?)\.\s", PAGE, re.S)[1]
    assert set(re.findall(r"`([^`]+)`", sentence)) == on_amd


def test_the_replications_first_round(first_round):
    expected = []
    for number, maes in first_round.items():
        errors = [maes[series] for series in FIVE]
        by_series = [f"{error:,.1f}" for error in errors]
        expected.append([called(number), *by_series, *mean_and_median(errors)])
    assert table("The replication's first round") == expected


def test_the_replications_second_round(second_round):
    expected = []
    for number, maes in second_round.items():
        expected.append([called(number), *mean_and_median(maes.values())])
    assert table("The replication's second round") == expected


def test_the_gains_of_the_lowest_median(published, finalists, second_round):
    report = {}
    for number in finalists:
        report[number] = {series: published[number][series] for series in second_round[number]}
    cases = (
        # where, errors by setting, series that are left out
        ("the report, all twenty", report, ()),
        ("the replication, all twenty", second_round, ()),
        ("the replication without 278", second_round, (278,)),
        ("the replication, the fifteen", second_round, FIVE),
    )

    expected = []
    for where, errors, left_out in cases:
        # The best is that of all twenty series, whichever are left out.
        medians = {number: summarise(maes.values()).median for number, maes in errors.items()}
        best = min(medians, key=medians.get)
        kept = {}
        for number, maes in errors.items():
            kept[number] = {i: error for i, error in maes.items() if i not in left_out}
        for number in finalists:
            if number != best:
                gain = paired_gain(kept[best], kept[number])
                low, high = gain["mean interval"]
                numbers = [f"{value:,.1f}" for value in (gain["mean"], low, high)]
                expected.append([where, f"{best} over {number}", *numbers])
    assert table("Gains with intervals") == expected


def test_leaving_one_of_the_five_out(first_round):
    expected = []
    for left_out in FIVE:
        means = {}
        for number, maes in first_round.items():
            means[number] = np.mean([maes[series] for series in FIVE if series != left_out])
        expected.append([str(left_out), called(min(means, key=means.get))])
    assert table("Leaving one of the five out") == expected


def test_how_the_training_series_fall_into_windows():
    series = load_series()
    texts = [encode(series.trajectories[i], series.scales[i]) for i in split_ids().train]
    token_ids = [text_to_ids(text) for text in texts]
    tokens_a_step = np.mean([len(ids) for ids in token_ids]) / 100

    expected = []
    for length in LENGTHS:
        windows = make_windows(token_ids, length)
        steps = length / tokens_a_step
        pads = np.mean(windows == 0)
        expected.append([str(length), f"{steps:.1f}", f"{len(windows):,}", f"{pads:.1%}"])
    assert table("Windows") == expected


def test_the_cost_of_a_step():
    expected = []
    for model in ("qwen2.5-0.5b", "smollm2-135m"):
        shape = Shape.of(backbone_config(model))
        for kind in CONVENTIONS:
            flops = {}
            for length in LENGTHS:
                step = train_step_flops(shape, length, rank=2, batch=2, convention=kind)
                flops[length] = total(step)
            short = flops[128] / flops[512]
            long = flops[768] / flops[512]
            long_a_token = long / (768 / 512)
            changes = [f"{ratio - 1:+.0%}" for ratio in (short, long, long_a_token)]
            expected.append([model, kind, f"{flops[512]:.3g}", *changes])
    assert table("The cost of a step") == expected


def test_what_the_replications_steps_have_cost():
    costs = {}
    for length in LENGTHS:
        record = finished_record(WHOLE, f"context/{length}")
        flops = record.flops["training"]
        costs[length] = {kind: flops[kind] / len(record.loss_curve) for kind in CONVENTIONS}

    expected = []
    for length, by_convention in costs.items():
        flops = [f"{cost:.3g}" for cost in by_convention.values()]
        changes = []
        for kind, cost in by_convention.items():
            changes.append(f"{cost / costs[512][kind] - 1:+.0%}")
        expected.append([str(length), *flops, *changes])
    assert table("What the replication's steps have cost") == expected


def test_equal_and_unequal_steps():
    names = ("context/512", "search/expt_6", "context/768")
    studies = (("the replication", WHOLE, replicated), ("the report", REPORT, published_maes))

    expected = []
    for who, profile, maes_of in studies:
        for name in names:
            training = trained_with(name, profile)
            maes = maes_of(name)
            sizes = [str(training.sequence_length), f"{training.steps:,}"]
            on_the_five = [maes[series] for series in FIVE]
            expected.append([who, *sizes, *mean_and_median(on_the_five)])
    assert table("Equal and unequal steps") == expected


def test_all_twenty_series():
    rows = (
        ("the replication", "768", replicated("context/768", "context/768-rest")),
        # The second run of the second round took this setting on.
        ("the replication", "512", replicated("search/expt_6", "search/second_1")),
        ("the report", "768", published_maes("context/768")),
        ("the report", "512", published_maes("search/expt_6")),
    )

    expected = []
    for who, tokens, maes in rows:
        assert maes.keys() == published_maes("context/768").keys()
        expected.append([who, tokens, *mean_and_median(maes.values())])
    assert table("All twenty series") == expected
