from dataclasses import replace

import numpy as np
import pytest

from m2lib.decoding import DecodeConfig
from m2lib.series import split_ids
from m2lib.training import TrainConfig
from study.experiments import EXPERIMENTS, SAMPLED_AT, TEMPERATURES, series_ids
from study.profiles import PROFILES, Profile, active_profile
from study.records import load_record
from study.rules import published_maes


def test_profile_and_backbone_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("M2_PROFILE", raising=False)
    monkeypatch.delenv("M2_BACKBONE", raising=False)
    assert active_profile() == PROFILES["slice"]
    assert all(
        experiment.training(PROFILES["slice"]).get("steps", 0) <= 3
        for experiment in EXPERIMENTS.values()
    )
    monkeypatch.setenv("M2_PROFILE", "report")
    assert active_profile().backbone == "qwen2.5-0.5b"
    monkeypatch.setenv("M2_BACKBONE", "/models/x")
    assert active_profile().backbone == "/models/x"


def test_published_protocol_is_declared():
    assert EXPERIMENTS["baseline"].protocol == DecodeConfig(
        context_tokens=512,
        raw_cut=True,
        max_new_tokens=220,
        constrained=False,
        rounding="published",
    )
    assert EXPERIMENTS["baseline-constrained"].protocol.constrained
    assert all(name == experiment.name for name, experiment in EXPERIMENTS.items())


def test_featured_series_come_first():
    assert series_ids(EXPERIMENTS["baseline"], 5, 1000, published_maes) == [94, 99, 141, 19, 59]
    assert sorted(series_ids(EXPERIMENTS["baseline"], None, 1000, published_maes)) == list(
        split_ids().validation
    )
    assert series_ids(EXPERIMENTS["baseline"], 5, 40, published_maes) == list(
        split_ids(40).validation
    )
    published = series_ids(EXPERIMENTS["default"], None, 1000, published_maes)
    assert sorted(published) == list(published_maes("default"))


def test_training_is_declared_as_published_and_sized_by_the_profile():
    default = TrainConfig(**EXPERIMENTS["default"].settings(PROFILES["report"])["train"])
    assert default == TrainConfig(
        steps=5000, learning_rate=1e-5, rank=4, batch_size=2, sequence_length=512
    )
    laptop = TrainConfig(**EXPERIMENTS["default"].settings(PROFILES["laptop"])["train"])
    assert laptop == replace(default, steps=200, learning_rate=1e-3)
    assert "train" not in EXPERIMENTS["baseline"].settings(PROFILES["laptop"])
    for profile in PROFILES.values():
        trained = {name for name, experiment in EXPERIMENTS.items() if experiment.train}
        assert profile.train.keys() <= trained | {name.split("/")[0] for name in trained}


def test_a_profile_sizes_experiments_by_name_and_by_kind():
    experiment, plain = EXPERIMENTS["search/expt_3"], Profile("x", "tiny")
    sizes = {
        "train": {"search": {"steps": 7}, "search/expt_3": {"steps": 9}},
        "protocol": {"search": {"steps": 4}},
    }
    sized = experiment.at(replace(plain, **sizes))
    assert (sized.train["steps"], sized.protocol.steps) == (9, 4)
    assert experiment.at(replace(plain, train={"search": {"steps": 7}})).train["steps"] == 7
    assert experiment.at(plain) == experiment


def test_a_fifth_of_the_report_is_a_part_of_its_own_way():
    report, fifth = PROFILES["report"], PROFILES["fifth"]
    for experiment in EXPERIMENTS.values():
        if experiment.group and experiment.train:
            whole, part = experiment.training(report), experiment.training(fifth)
            assert part == whole | {"steps": whole["steps"] // 5}
            # a constant rate: the first fifth is the same, whatever comes after
            assert "decay" not in whole


def test_what_is_evaluated_on_the_way():
    assert EXPERIMENTS["final"].watch(PROFILES["laptop"]) == (10, list(range(100, 2000, 100)), True)
    assert EXPERIMENTS["trial/rank"].watch(PROFILES["laptop"]) == (10, [100, 200], False)
    assert EXPERIMENTS["best"].watch(PROFILES["laptop"])[0] == len(split_ids().validation)
    assert EXPERIMENTS["best"].watch(PROFILES["slice"]) == (0, [], False)


def test_nothing_of_the_report_is_trained_on_simulated_series():
    assert all(
        experiment.group is None for experiment in EXPERIMENTS.values() if experiment.simulated
    )


@pytest.mark.parametrize("who", SAMPLED_AT)
def test_samples_are_drawn_at_the_temperature_that_validation_chose(who):
    """The literal stands in the fingerprint of the samples' records, so it cannot be looked up
    there."""
    for split in ("validation", "test"):
        protocol = EXPERIMENTS[f"samples/{who}/{split}"].protocol
        assert (protocol.n_samples, protocol.temperature) == (48, SAMPLED_AT[who])
    names = {temperature: f"temperature/{who}/{temperature}" for temperature in TEMPERATURES}
    assert {EXPERIMENTS[name].split for name in names.values()} == {"validation"}
    crps = {
        temperature: np.mean(
            [entry["crps"] for entry in load_record("laptop", name).series.values()]
        )
        for temperature, name in names.items()
    }
    assert SAMPLED_AT[who] == min(crps, key=crps.get), crps
