from dataclasses import replace

import numpy as np
import pytest

from m2lib.decoding import DecodeConfig
from m2lib.files import InputError
from m2lib.series import split_ids
from m2lib.training import TrainConfig
from study.experiments import EXPERIMENTS, SAMPLED_AT, TEMPERATURES
from study.plans import Watch, protocol_at, series_ids_of, trained_with, training_at, watch_at
from study.profiles import PROFILES, Profile, active_profile
from study.records import load_record
from study.rules import published_maes

WHOLE = Profile("x", "tiny")
"""It replaces nothing."""


def test_profile_and_backbone_come_from_the_environment(monkeypatch):
    monkeypatch.delenv("M2_PROFILE", raising=False)
    monkeypatch.delenv("M2_BACKBONE", raising=False)
    assert active_profile() == PROFILES["slice"]
    long = [
        name
        for name, experiment in EXPERIMENTS.items()
        if experiment.training and training_at(experiment, PROFILES["slice"]).steps > 3
    ]
    assert not long, "give each of these two steps in SLICE of study/profiles.py"
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
    baseline = EXPERIMENTS["baseline"]
    five = replace(WHOLE, most_series=5)
    assert series_ids_of(baseline, five, 1000, published_maes) == (94, 99, 141, 19, 59)
    every = series_ids_of(baseline, WHOLE, 1000, published_maes)
    assert sorted(every) == list(split_ids().validation)
    assert list(series_ids_of(baseline, five, 40, published_maes)) == list(split_ids(40).validation)
    published = series_ids_of(EXPERIMENTS["default"], WHOLE, 1000, published_maes)
    assert sorted(published) == list(published_maes("default"))


def test_training_is_declared_as_published_and_sized_by_the_profile():
    default = trained_with("default", PROFILES["report"])
    assert default == TrainConfig(
        steps=5000, learning_rate=1e-5, rank=4, batch_size=2, sequence_length=512
    )
    laptop = trained_with("default", PROFILES["laptop"])
    assert laptop == replace(default, steps=200, learning_rate=1e-3)
    assert training_at(EXPERIMENTS["baseline"], PROFILES["laptop"]) is None
    with pytest.raises(InputError, match="baseline trains nothing"):
        trained_with("baseline", PROFILES["laptop"])
    trained = {name for name, experiment in EXPERIMENTS.items() if experiment.training}
    for profile in PROFILES.values():
        assert profile.train.keys() <= trained | {name.split("/")[0] for name in trained}


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_every_experiment_can_be_resolved_at_every_profile(profile):
    for experiment in EXPERIMENTS.values():
        training_at(experiment, profile)
        protocol_at(experiment, profile)
        watch_at(experiment, profile)


def test_a_misspelt_setting_is_refused():
    misspelt = replace(WHOLE, train={"default": {"step": 3}}, protocol={"default": {"step": 3}})
    for resolve in (training_at, protocol_at):
        with pytest.raises((TypeError, ValueError), match="step"):
            resolve(EXPERIMENTS["default"], misspelt)


def test_a_profile_sizes_experiments_by_name_and_by_kind():
    experiment = EXPERIMENTS["search/expt_3"]
    sizes = {
        "train": {"search": {"steps": 7}, "search/expt_3": {"steps": 9}},
        "protocol": {"search": {"steps": 4}},
    }
    sized = replace(WHOLE, **sizes)
    assert training_at(experiment, sized) == replace(experiment.training, steps=9)
    assert protocol_at(experiment, sized) == replace(experiment.protocol, steps=4)
    by_kind = replace(WHOLE, train={"search": {"steps": 7}})
    assert training_at(experiment, by_kind).steps == 7
    assert training_at(experiment, WHOLE) == experiment.training


def test_a_fifth_of_the_report_is_a_part_of_its_own_way():
    report = PROFILES["report"]
    fifth = PROFILES["fifth"]
    for experiment in EXPERIMENTS.values():
        if experiment.group and experiment.training:
            whole, part = (training_at(experiment, profile) for profile in (report, fifth))
            assert part == replace(whole, steps=whole.steps // 5)
            # a constant rate: the first fifth is the same, whatever comes after
            assert whole.decay == "constant"


def test_a_part_of_a_longer_run_is_its_first_steps_and_is_kept():
    report = PROFILES["report"]
    parts = [experiment for experiment in EXPERIMENTS.values() if experiment.part_of]
    assert {part.name for part in parts} == {"search/expt_1", "search/expt_6", "context/512"}
    for part in parts:
        short = trained_with(part.name, report)
        long = trained_with(part.part_of, report)
        assert replace(long, steps=short.steps) == short
        assert short.steps in EXPERIMENTS[part.part_of].marks


def test_what_is_evaluated_on_the_way():
    def watched(name, profile):
        return watch_at(EXPERIMENTS[name], PROFILES[profile])

    assert watched("final", "laptop") == Watch(10, tuple(range(100, 2000, 100)), True)
    assert watched("trial/rank", "laptop") == Watch(10, (100, 200), False)
    assert watched("best", "laptop").num_series == len(split_ids().validation)
    assert watched("best", "slice") == Watch(0, (), False)


def test_nothing_of_the_report_is_trained_on_simulated_series():
    assert all(
        experiment.group is None
        for experiment in EXPERIMENTS.values()
        if experiment.simulated_from_recipe
    )


@pytest.mark.parametrize("who", SAMPLED_AT)
def test_samples_are_drawn_at_the_temperature_that_validation_chose(who):
    """The temperature stands in the plans of the samples' records, so it cannot be looked up
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
