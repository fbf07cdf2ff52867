"""The experiments as they are declared: the report's as published, and what those beyond it rest
on."""

import re

import numpy as np
import pytest

from m2lib.decoding import DecodeConfig
from m2lib.files import ROOT
from study import experiments
from study.experiments import EXPERIMENTS, SAMPLED_AT, TEMPERATURES
from study.records import load_record

REPORTED = [experiment for experiment in EXPERIMENTS.values() if experiment.group]


def test_no_two_experiments_share_a_name():
    assert len(EXPERIMENTS) == len(experiments._ALL)


def test_the_published_protocol_is_declared():
    assert EXPERIMENTS["baseline"].protocol == DecodeConfig(
        context_tokens=512,
        raw_cut=True,
        max_new_tokens=220,
        constrained=False,
        rounding="published",
    )
    assert EXPERIMENTS["baseline-constrained"].protocol.constrained


def test_the_search_is_declared_as_published():
    searched = [EXPERIMENTS[f"search/expt_{i}"].training for i in (5, 6, 7)]
    pairs = [(training.learning_rate, training.rank) for training in searched]
    assert pairs == [(5e-5, 8), (1e-4, 2), (1e-4, 4)]


def test_the_reports_experiments_take_as_many_steps_as_published():
    trained = [experiment.training for experiment in REPORTED if experiment.training]
    assert sum(training.steps for training in trained) == 53_250


@pytest.mark.parametrize("page", ["reference.md", "results.md"])
def test_pages_say_how_many_experiments_are_the_reports(page):
    text = (ROOT / "book" / page).read_text(encoding="utf-8")
    counts = re.findall(r"the report's\s+(\d+)\s+experiments", text)
    assert counts
    assert set(counts) == {str(len(REPORTED))}


def test_nothing_of_the_report_is_trained_on_simulated_series():
    for experiment in REPORTED:
        assert not experiment.simulated_from_recipe, experiment.name


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("who", SAMPLED_AT)
def test_samples_are_drawn_as_declared(who, split):
    protocol = EXPERIMENTS[f"samples/{who}/{split}"].protocol
    assert protocol.n_samples == 48
    assert protocol.temperature == SAMPLED_AT[who]


@pytest.mark.parametrize("who", SAMPLED_AT)
def test_the_declared_temperature_is_the_one_that_validation_chose(who):
    """It stands in the plans of the samples' records, so it cannot be looked up there."""
    crps = {}
    for temperature in TEMPERATURES:
        name = f"temperature/{who}/{temperature}"
        assert EXPERIMENTS[name].split == "validation"
        entries = load_record("laptop", name).series.values()
        crps[temperature] = np.mean([entry["crps"] for entry in entries])
    assert SAMPLED_AT[who] == min(crps, key=crps.get), crps
