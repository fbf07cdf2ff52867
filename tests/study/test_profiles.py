"""Profiles: which one is active, and what each makes of the declared experiments."""

from dataclasses import replace

import pytest

from study.experiments import EXPERIMENTS
from study.plans import protocol_at, training_at, watch_at
from study.profiles import PROFILES, active_profile


def test_without_a_setting_the_slice_is_active(monkeypatch):
    monkeypatch.delenv("M2_PROFILE", raising=False)
    monkeypatch.delenv("M2_BACKBONE", raising=False)
    assert active_profile() == PROFILES["slice"]


def test_profile_and_backbone_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("M2_PROFILE", "report")
    monkeypatch.delenv("M2_BACKBONE", raising=False)
    assert active_profile().backbone == "qwen2.5-0.5b"
    monkeypatch.setenv("M2_BACKBONE", "/models/x")
    assert active_profile().backbone == "/models/x"


def test_no_experiment_of_the_slice_takes_more_than_three_steps():
    too_long = []
    for name, experiment in EXPERIMENTS.items():
        training = training_at(experiment, PROFILES["slice"])
        if training and training.steps > 3:
            too_long.append(name)
    assert not too_long, "give each of these fewer steps in SLICE of study/profiles.py"


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_a_profile_sizes_the_training_of_experiments_that_train(profile):
    trained = {name for name, experiment in EXPERIMENTS.items() if experiment.training}
    kinds = {name.split("/")[0] for name in trained}
    assert profile.train.keys() <= trained | kinds


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_experiment_can_be_resolved_at_every_profile(profile):
    for experiment in EXPERIMENTS.values():
        training_at(experiment, profile)
        protocol_at(experiment, profile)
        watch_at(experiment, profile)


def test_a_fifth_of_the_report_is_the_first_part_of_its_own_way():
    for experiment in EXPERIMENTS.values():
        if experiment.group and experiment.training:
            whole = training_at(experiment, PROFILES["report"])
            fifth = training_at(experiment, PROFILES["fifth"])
            assert fifth == replace(whole, steps=whole.steps // 5)
            # At a constant rate the first fifth is the same, whatever comes after.
            assert whole.decay == "constant"
