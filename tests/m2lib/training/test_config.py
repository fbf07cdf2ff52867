"""The settings of a training run: which are refused, and the learning rate that they give."""

import math
from dataclasses import replace

import pytest

from m2lib.training import TrainConfig

CONFIG = TrainConfig(steps=10, learning_rate=1.0, rank=1, warmup=0.2, decay="cosine")


def rates_of(config):
    """Return the learning rate of each step."""
    return [round(config.rate(step), 3) for step in range(config.steps)]


def test_a_cosines_rates_by_hand():
    # Two steps of warm-up, and then (1 + cos(k pi / 8)) / 2 for k from 0 to 7.
    assert rates_of(CONFIG) == [0.5, 1.0, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038]


def test_a_cooldowns_rates_by_hand():
    # It falls over the last fifth, which is two steps: (10 - 8) / 2, and (10 - 9) / 2.
    config = replace(CONFIG, decay="cooldown")
    assert rates_of(config) == [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.5]


def test_the_steps_of_a_warm_up_are_rounded():
    config = TrainConfig(steps=18, learning_rate=1.0, rank=1, warmup=0.1)
    assert rates_of(config)[:3] == [0.5, 1.0, 1.0]  # 1.8 steps are two


def test_by_default_the_rate_is_constant():
    config = TrainConfig(steps=5, learning_rate=0.1, rank=1)
    assert {config.rate(step) for step in range(5)} == {0.1}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("steps", 0),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("tail_weight", math.inf),
        ("seed", -1),
        ("warmup", 1.0),
        ("alpha", 0.0),
        ("clip_norm", 0.0),
        ("decay", "linear"),
        ("sequence_length", 1),  # a window of one token has none to predict
        ("step", 3),  # there is no such setting
    ],
)
def test_a_setting_that_cannot_be_trained_with_is_refused(setting, value):
    with pytest.raises(ValueError, match=setting):
        replace(CONFIG, **{setting: value})


def test_the_reports_targets_are_the_default():
    assert CONFIG.targets == ("q_proj", "v_proj")


def test_targets_are_kept_in_one_order():
    from_json = TrainConfig(1, 1e-3, 2, targets=["down_proj", "q_proj", "k_proj"])
    assert from_json.targets == ("q_proj", "k_proj", "down_proj")
    assert from_json == replace(from_json, targets=("k_proj", "down_proj", "q_proj"))


@pytest.mark.parametrize(
    "targets",
    [
        (),
        ("w_proj",),
        ("q_proj", "w_proj"),
        ["q_proj", "q_proj"],
        "q_proj",
    ],
    ids=repr,
)
def test_targets_that_are_unknown_repeated_or_none_are_refused(targets):
    with pytest.raises(ValueError, match="targets"):
        replace(CONFIG, targets=targets)
