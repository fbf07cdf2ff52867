"""The adapter in the package, and what its card says of it, come from the records."""

import json
from dataclasses import replace

import pytest

from benchmarks import candidates, package
from m2lib.forecaster.adapters import FACTS_FILE, GENERAL_FOLDER, read_format
from m2lib.series.intervals import Ratio
from study import adapter_path


def test_the_package_carries_the_candidate_that_was_chosen(tmp_path):
    candidates.write_candidate(tmp_path, candidates.CHOSEN)
    for file in tmp_path.iterdir():
        assert (GENERAL_FOLDER / file.name).read_bytes() == file.read_bytes()


def test_the_runs_that_it_averages_are_the_last_of_its_trainings():
    last_first = [training.name for training in package.trainings()]
    last_trainings = last_first[: len(package.RUNS)]
    assert last_trainings == list(reversed(package.RUNS))


def test_it_has_the_format_of_its_last_run_but_for_the_spread():
    last_run = adapter_path("laptop", package.RUNS[-1])
    text_format = read_format(GENERAL_FOLDER)
    assert replace(text_format, spread=1.0) == read_format(last_run)
    assert text_format.spread == candidates.SPREAD


@pytest.fixture(scope="module")
def facts():
    """Return what the package says of its adapter, from which the card is made."""
    return json.loads((GENERAL_FOLDER / FACTS_FILE).read_text(encoding="utf-8"))


def test_its_facts_are_those_of_the_records(facts):
    assert facts == package.facts()


def test_it_is_better_than_the_untuned_model_and_than_the_last_season(facts):
    errors = {name: row[package.ERROR] for name, row in facts["errors"].items()}
    assert errors["this adapter"] < errors["the last season"]
    assert errors["this adapter"] < errors["the untuned model"]


def ratio_between(low, high):
    """Return a ratio of errors with a 95% interval."""
    return Ratio(ratio=(low * high) ** 0.5, low=low, high=high, p=0.5)


def test_the_card_says_who_is_surely_behind_and_who_ahead():
    ratios = {
        "a": ratio_between(0.5, 0.9),
        "b": ratio_between(1.1, 1.2),
        "c": ratio_between(0.9, 1.1),
        "d": None,  # too few series to compare with
    }
    assert package.told_apart(ratios) == (
        "this adapter is surely ahead of a; it is surely behind b; "
        "and it cannot be told apart from c"
    )


def test_the_card_says_that_no_difference_is_sure():
    assert package.told_apart({"c": ratio_between(0.9, 1.1)}) == "no difference is sure"
