"""The tables of the case file are those that the records give."""

import re

import numpy as np
import pytest

from m2lib.accounting import CONVENTIONS, Shape, total, train_step_flops
from m2lib.files import ROOT
from m2lib.model import backbone_config, text_to_ids
from m2lib.series import encode, load_series, paired_gain, split_ids, summarise
from m2lib.training import make_windows
from study import (
    EXPERIMENTS,
    PROFILES,
    REPLICATION,
    SEARCH,
    SECOND,
    published_maes,
    trained_with,
)
from study.paper import finished_record, finished_records
from study.paper.errors import LENGTHS

PAGE = (ROOT / "book" / "case_file.md").read_text(encoding="utf-8")
REPORT, REPLICA = PROFILES["report"], REPLICATION["fifth"]
FIVE = (278, 476, 559, 809, 911)
SETTINGS = dict(enumerate(SEARCH))


def table(title):
    """The rows of the table below a title in bold, without its head."""
    (below,) = re.findall(rf"\*\*{title}\*\*.*?\n\n(\|.*?)\n\n", PAGE + "\n\n", re.S)
    _, _, *rows = below.splitlines()
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in rows]


def replicated(*names):
    errors = {}
    for name in names:
        errors |= finished_record(REPLICA, name).maes()
    return errors


def called(number):
    trained = trained_with(SETTINGS[number], REPLICA)
    rate = f"{trained.learning_rate:.5f}".rstrip("0")
    return f"{number}: rate {rate}, rank {trained.rank}"


def mean_and_median(errors):
    found = summarise(errors)
    return [f"{found.mean:,.1f}", f"{found.median:,.1f}"]


@pytest.fixture(scope="module")
def first_round():
    return {number: replicated(name) for number, name in SETTINGS.items()}


@pytest.fixture(scope="module")
def published():
    return {number: published_maes(name) for number, name in SETTINGS.items()}


@pytest.fixture(scope="module")
def finalists(published):
    """The report's three settings of the second round, best first."""
    means = {number: np.mean([maes[i] for i in FIVE]) for number, maes in published.items()}
    return sorted(means, key=means.get)[:3]


@pytest.fixture(scope="module")
def second_round(finalists):
    """The replication's errors of these three on the twenty hard series."""
    return {
        number: replicated(SETTINGS[number], name)
        for number, name in zip(finalists, SECOND, strict=True)
    }


def test_the_librarys_rules_choose_what_the_lecture_chooses(finalists):
    untuned, default = published_maes("baseline"), published_maes("default")
    twenty = sorted(untuned, key=untuned.get)[-20:]
    assert EXPERIMENTS[SEARCH[0]].select.rule(default) == list(FIVE)
    assert sum(EXPERIMENTS[name].forecasts for name in (*SEARCH, *SECOND)) == 90

    def on_the_five(name):
        return {i: published_maes(name)[i] for i in FIVE}

    for name, number in zip(SECOND, finalists, strict=True):
        fifteen = EXPERIMENTS[name].select.rule(untuned, default)
        assert sorted(fifteen) == sorted(set(twenty) - set(FIVE))
        assert EXPERIMENTS[name].adapter.chosen(on_the_five) == SETTINGS[number]


def test_where_and_in_which_dtype():
    contexts = [f"context/{length}" for length in LENGTHS]
    records = finished_records(REPLICA, *SEARCH, *SECOND, *contexts, "context/768-rest")
    assert {record.dtype for record in records.values() if record.training} == {"bfloat16"}
    assert {record.forecast_dtype or record.dtype for record in records.values()} == {"float32"}
    (torch,) = {record.versions["torch"] for record in records.values()}
    assert f"torch {torch}" in PAGE
    for record in records.values():
        for device in record.device.split("; "):
            assert re.fullmatch(r"cpu: (Intel Xeon|AMD EPYC), [12] threads", device)
    amd = {name for name, record in records.items() if "AMD" in record.device}
    sentence = re.search(r"in part also on an AMD\s+EPYC:(.*?)\.\s", PAGE, re.S)[1]
    assert set(re.findall(r"`([^`]+)`", sentence)) == amd


def test_the_replications_first_round(first_round):
    expected = []
    for number, maes in first_round.items():
        errors = [maes[i] for i in FIVE]
        each = [f"{error:,.1f}" for error in errors]
        expected.append([called(number), *each, *mean_and_median(errors)])
    assert table("The replication's first round") == expected


def test_the_replications_second_round(second_round):
    expected = [
        [called(number), *mean_and_median(maes.values())] for number, maes in second_round.items()
    ]
    assert table("The replication's second round") == expected


def test_the_gains_of_the_lowest_median(published, finalists, second_round):
    of_report = {
        number: {i: published_maes(SETTINGS[number])[i] for i in second_round[number]}
        for number in finalists
    }
    cases = {
        "the report, all twenty": (of_report, ()),
        "the replication, all twenty": (second_round, ()),
        "the replication without 278": (second_round, (278,)),
        "the replication, the fifteen": (second_round, FIVE),
    }
    expected = []
    for case, (errors, left_out) in cases.items():
        medians = {number: summarise(maes.values()).median for number, maes in errors.items()}
        best = min(medians, key=medians.get)
        kept = {
            number: {i: error for i, error in maes.items() if i not in left_out}
            for number, maes in errors.items()
        }
        for number in finalists:
            if number == best:
                continue
            gain = paired_gain(kept[best], kept[number])
            numbers = (gain["mean"], *gain["mean interval"])
            expected.append([case, f"{best} over {number}", *(f"{n:,.1f}" for n in numbers)])
    assert table("Gains with intervals") == expected


def test_leaving_one_of_the_five_out(first_round):
    expected = []
    for out in FIVE:
        means = {
            number: np.mean([maes[i] for i in FIVE if i != out])
            for number, maes in first_round.items()
        }
        expected.append([str(out), called(min(means, key=means.get))])
    assert table("Leaving one of the five out") == expected


def test_how_the_training_series_fall_into_windows():
    series = load_series()
    ids = [text_to_ids(encode(series.trajectories[i], series.scales[i])) for i in split_ids().train]
    tokens_a_step = np.mean([len(one) for one in ids]) / 100
    expected = []
    for length in LENGTHS:
        windows = make_windows(ids, length)
        pads = np.mean(windows == 0)
        steps = length / tokens_a_step
        expected.append([str(length), f"{steps:.1f}", f"{len(windows):,}", f"{pads:.1%}"])
    assert table("Windows") == expected


def test_the_cost_of_a_step():
    expected = []
    for model in ("qwen2.5-0.5b", "smollm2-135m"):
        shape = Shape.of(backbone_config(model))
        for kind in CONVENTIONS:
            short, middle, long = (
                total(train_step_flops(shape, n, rank=2, batch=2, convention=kind)) for n in LENGTHS
            )
            changes = short / middle, long / middle, long / middle / 1.5
            expected.append(
                [model, kind, f"{middle:.3g}", *(f"{change - 1:+.0%}" for change in changes)]
            )
    assert table("The cost of a step") == expected


def test_what_the_replications_steps_have_cost():
    costs = {}
    for length in LENGTHS:
        record = finished_record(REPLICA, f"context/{length}")
        spent = record.flops["training"]
        costs[length] = [spent[kind] / len(record.loss_curve) for kind in CONVENTIONS]
    expected = []
    for length, found in costs.items():
        changes = [cost / beside - 1 for cost, beside in zip(found, costs[512], strict=True)]
        expected.append(
            [str(length), *(f"{cost:.3g}" for cost in found), *(f"{c:+.0%}" for c in changes)]
        )
    assert table("What the replication's steps have cost") == expected


def test_equal_and_unequal_steps():
    expected = []
    for who, profile in (("the replication", REPLICA), ("the report", REPORT)):
        for name in ("context/512", "search/expt_6", "context/768"):
            maes = published_maes(name) if profile is REPORT else replicated(name)
            trained = trained_with(name, profile)
            sizes = [str(trained.sequence_length), f"{trained.steps:,}"]
            expected.append([who, *sizes, *mean_and_median([maes[i] for i in FIVE])])
    assert table("Equal and unequal steps") == expected


def test_all_twenty_series():
    columns = {
        ("the replication", "768"): replicated("context/768", "context/768-rest"),
        # the second run of the second round took this setting on
        ("the replication", "512"): replicated("search/expt_6", "search/second_1"),
        ("the report", "768"): published_maes("context/768"),
        ("the report", "512"): published_maes("search/expt_6"),
    }
    assert {frozenset(maes) for maes in columns.values()} == {
        frozenset(columns["the report", "768"])
    }
    expected = [[*who, *mean_and_median(maes.values())] for who, maes in columns.items()]
    assert table("All twenty series") == expected
