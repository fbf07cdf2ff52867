from dataclasses import replace

import numpy as np
import pytest

from m2lib.forecasting.protocol import DecodeConfig
from m2lib.series.data import split_ids
from m2lib.study.experiments import EXPERIMENTS, SAMPLED_AT, TEMPERATURES, chosen, series_ids
from m2lib.study.profiles import PROFILES
from m2lib.study.records import load_record, record_path
from m2lib.study.comparisons import published_maes
from m2lib.study.selection import hard_and_easy, worst_5
from m2lib.study.runs import Plan
from m2lib.training.config import TrainConfig


def test_published_protocol_is_declared():
    assert EXPERIMENTS["baseline"].protocol == DecodeConfig(
        context_tokens=512, raw_cut=True, max_new_tokens=220, constrained=False, rounding="published"
    )
    assert EXPERIMENTS["baseline-constrained"].protocol.constrained
    assert all(name == experiment.name for name, experiment in EXPERIMENTS.items())


def test_featured_series_come_first():
    assert series_ids(EXPERIMENTS["baseline"], 5, 1000, published_maes) == [94, 99, 141, 19, 59]
    assert sorted(series_ids(EXPERIMENTS["baseline"], None, 1000, published_maes)) == list(split_ids().validation)
    assert series_ids(EXPERIMENTS["baseline"], 5, 40, published_maes) == list(split_ids(40).validation)
    published = series_ids(EXPERIMENTS["default"], None, 1000, published_maes)
    assert sorted(published) == list(published_maes("default"))


def test_reduced_validation_set_is_the_reports():
    baseline = published_maes("baseline")
    chosen = hard_and_easy(baseline)
    assert chosen == list(published_maes("default"))
    assert {68, 585, 168, 308, 982} <= set(chosen)
    untuned = [baseline[i] for i in chosen]
    assert (round(np.mean(untuned), 1), round(np.median(untuned), 1)) == (219.4, 141.7)
    assert len(hard_and_easy({1: 5.0, 2: 1.0, 3: 2.0})) == 2


def test_training_is_declared_as_published_and_sized_by_the_profile():
    default = TrainConfig(**EXPERIMENTS["default"].settings(PROFILES["report"])["train"])
    assert default == TrainConfig(steps=5000, learning_rate=1e-5, rank=4, batch_size=2, sequence_length=512)
    laptop = TrainConfig(**EXPERIMENTS["default"].settings(PROFILES["laptop"])["train"])
    assert laptop == replace(default, steps=200, learning_rate=1e-3)
    assert "train" not in EXPERIMENTS["baseline"].settings(PROFILES["laptop"])
    for profile in PROFILES.values():
        trained = {name for name, experiment in EXPERIMENTS.items() if experiment.train}
        assert profile.train.keys() <= trained | {name.split("/")[0] for name in trained}


def test_the_reports_choices_come_out():
    """Its rules, replayed on its own errors."""
    assert worst_5(published_maes("default")) == [278, 476, 559, 809, 911]
    second = [EXPERIMENTS[f"search/second_{place}"] for place in range(3)]

    def on_five(name):
        maes = published_maes(name)
        return {series: maes[series] for series in (278, 476, 559, 809, 911)}

    assert {one.adapter.chosen(on_five) for one in second} == {f"search/expt_{i}" for i in (6, 7, 8)}

    def recorded(name):
        """The published errors in the records that they would be in."""
        if not name.startswith("search/second_"):
            return on_five(name)
        maes = published_maes(EXPERIMENTS[name].adapter.chosen(on_five))
        return {series: mae for series, mae in maes.items() if series not in on_five("search/expt_6")}

    assert chosen(recorded) == "search/expt_6"
    means = {name: np.mean(list(published_maes(name).values())) for name in ("search/expt_6", "search/expt_7")}
    assert min(means, key=means.get) == "search/expt_7"  # the mean would have chosen another
    others = series_ids(second[0], None, 1000, published_maes)
    assert len(others) == 15
    assert set(others) | {278, 476, 559, 809, 911} == set(published_maes("search/expt_6"))


def test_a_fifth_of_the_report_is_a_part_of_its_own_way():
    report, fifth = PROFILES["report"], PROFILES["fifth"]
    for experiment in EXPERIMENTS.values():
        if experiment.group and experiment.train:
            whole, part = experiment.training(report), experiment.training(fifth)
            assert part == whole | {"steps": whole["steps"] // 5}
            assert "decay" not in whole  # a constant rate: the first fifth is the same, whatever comes after


def test_the_replication_forecasts_the_reports_series():
    """Its selections read published errors, and no other run has to come first."""
    five = [278, 476, 559, 809, 911]
    for profile in (PROFILES["report"], PROFILES["fifth"]):
        assert EXPERIMENTS["default"].earlier(profile) == EXPERIMENTS["context/128"].earlier(profile) == ()
        assert EXPERIMENTS["default-rest"].earlier(profile) == ("default",)
        plan = Plan(EXPERIMENTS["search/expt_0"], profile, None, "")
        assert series_ids(plan.experiment, None, 1000, plan.choosing) == five
        assert EXPERIMENTS["search/expt_0"].settings(profile)["select"] == "worst_5(default) of the report"


def test_the_laptops_context_runs_use_what_its_search_chose():
    laptop = PROFILES["laptop"]
    best = EXPERIMENTS[chosen(lambda name: load_record("laptop", name).maes())].at(laptop).train
    for length in (128, 512, 768):
        train = EXPERIMENTS[f"context/{length}"].at(laptop).train
        assert (train["learning_rate"], train["rank"]) == (best["learning_rate"], best["rank"])


@pytest.mark.parametrize("who", SAMPLED_AT)
def test_samples_are_drawn_at_the_temperature_that_validation_chose(who):
    """The literal stands in the fingerprint of the samples' records, so it cannot be looked up there."""
    for split in ("validation", "test"):
        protocol = EXPERIMENTS[f"samples/{who}/{split}"].protocol
        assert (protocol.n_samples, protocol.temperature) == (48, SAMPLED_AT[who])
    names = {temperature: f"temperature/{who}/{temperature}" for temperature in TEMPERATURES}
    assert {EXPERIMENTS[name].split for name in names.values()} == {"validation"}
    if not all(record_path("laptop", name).is_file() for name in names.values()):
        pytest.skip("its temperatures are not recorded yet")
    crps = {
        temperature: np.mean([entry["crps"] for entry in load_record("laptop", name).series.values()])
        for temperature, name in names.items()
    }
    assert SAMPLED_AT[who] == min(crps, key=crps.get), crps
