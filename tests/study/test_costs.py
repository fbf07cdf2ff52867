"""What runs cost: estimates before they start, and counts of what they computed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from m2lib.accounting import (
    CONVENTIONS,
    PROJECTIONS,
    TARGETS,
    Shape,
    cached_step_flops,
    forecast_flops,
    forward_flops,
    sum_costs,
    total,
    train_step_flops,
)
from m2lib.decoding import DecodeConfig, Engine, generate
from m2lib.model import PAD_ID, backbone_config, text_to_ids
from m2lib.series import encode, split_ids
from m2lib.training import batch_of, make_windows, step_costs
from study.costs import estimate, loss_costs, series_costs, workload
from study.experiments import EXPERIMENTS
from study.plans import training_at
from study.profiles import LAPTOP, REPORT, Profile
from study.runs import run

QWEN = Shape.of(backbone_config("qwen2.5-0.5b"))
TINY = Shape.of(backbone_config("tiny"))
TWO_WINDOWS = np.array([[1] * 20 + [PAD_ID] * 4, [1] * 12 + [PAD_ID] * 12])
"""Windows of 20 and of 12 tokens, padded to 24."""
GREEDY_ENTRY = {"prompt_tokens": 30, "padded_tokens": 40, "new_tokens": 9, "passes": 11}
"""What a record says of the tokens of a forecast, beside its text and errors."""


def test_a_training_step_by_each_convention():
    costs = step_costs(TINY, TWO_WINDOWS, rank=2)

    def step(tokens, batch, convention):
        return total(train_step_flops(TINY, tokens, rank=2, batch=batch, convention=convention))

    # By the rules pads are free. As published both windows are 24 tokens long, with all their pads,
    # and as executed 20: columns of pads alone are not computed.
    assert costs["coursework"] == step(20, 1, "coursework") + step(12, 1, "coursework")
    assert costs["published"] == step(24, 2, "published")
    assert costs["executed"] == step(20, 2, "executed")


def test_validation_loss_is_free_as_published_and_computed_window_by_window():
    costs = loss_costs(TINY, TWO_WINDOWS, rank=2)
    first, second = (
        total(forward_flops(TINY, tokens, rank=2, convention="executed")) for tokens in (20, 12)
    )
    assert costs["published"] == 0
    assert costs["executed"] == first + second


def test_a_forecast_by_each_convention():
    protocol = DecodeConfig.as_published(context_tokens=64)
    costs = series_costs(TINY, GREEDY_ENTRY, protocol, rank=0)

    # As executed, the prompt runs alone. The 11 steps then attend to a cache that is allocated by
    # 64 columns, of which the longest prompt of the batch takes 40, and the steps 41 to 51.
    prefill = total(forecast_flops(TINY, 30, 1, convention="executed"))
    step = total(cached_step_flops(TINY, 64, convention="executed"))
    assert costs == {
        "coursework": total(forecast_flops(TINY, 30, 9)),
        "published": total(forecast_flops(TINY, 64, 220, convention="published")),
        "executed": prefill + 11 * step,
    }


SAMPLED_ENTRY = {
    "prompt_tokens": 30,
    "padded_tokens": 40,
    "new_tokens": [9, 9, 5],
    "passes": [8, 8, 70],
}
SAMPLED = DecodeConfig(constrained=True, temperature=1.0, n_samples=3)


def test_samples_share_their_prefill():
    costs = series_costs(TINY, SAMPLED_ENTRY, SAMPLED, rank=2)

    # Each of the first two counts holds a prefill, but only one was computed.
    two_of_9_tokens = total(forecast_flops(TINY, 30, 9, rank=2, samples=2))
    one_of_5_tokens = total(forecast_flops(TINY, 30, 5, rank=2))
    prefill = total(forecast_flops(TINY, 30, 1, rank=2))
    assert costs["coursework"] == two_of_9_tokens + one_of_5_tokens - prefill

    published = forecast_flops(TINY, 30, 220, rank=2, samples=3, convention="published")
    assert costs["published"] == total(published)


def test_executed_steps_of_samples_attend_to_the_prompts_columns_and_their_own():
    costs = series_costs(TINY, SAMPLED_ENTRY, SAMPLED, rank=2)

    # Beside the prompt's 64 columns a row has 16 of its own, and 16 more after each 16 steps. The
    # first 16 steps of each row are 8, 8 and 16; all further ones are of the third sample.
    executed = total(forecast_flops(TINY, 30, 1, convention="executed"))
    for columns, steps in ((80, 32), (96, 16), (112, 16), (128, 16), (144, 6)):
        executed += steps * total(cached_step_flops(TINY, columns, convention="executed"))
    assert costs["executed"] == executed


@pytest.mark.parametrize("samples", [1, 3])
def test_executed_steps_are_those_that_the_machine_counts(tiny, samples):
    """The cache grows on the way, and rows leave it one after the other."""
    prompts = [[1] * 9, [2, 11, 3, 12] * 18]  # 9 and 72 tokens: one and two times 64 columns
    protocol = DecodeConfig(constrained=True, steps=8, temperature=3.0, n_samples=samples)
    counted = []

    class CountingEngine(Engine):
        def step(self, tokens):
            with FlopCounterMode(display=False) as counter:
                super().step(tokens)
            counted.append(counter.get_total_flops())

    generator = torch.Generator().manual_seed(0)
    _, passes = generate(tiny.model, prompts, protocol, generator, CountingEngine)
    passes_of_rows = [count for counts in passes for count in counts]
    assert 64 < max(passes_of_rows) > min(passes_of_rows)

    expected = 0
    for prompt, counts in zip(prompts, passes, strict=True):
        entry = {
            "prompt_tokens": len(prompt),
            "padded_tokens": 72,
            "new_tokens": counts,
            "passes": counts,
        }
        prefill = total(forecast_flops(TINY, len(prompt), 1, convention="executed"))
        expected += series_costs(TINY, entry, protocol, rank=0)["executed"] - prefill
    assert sum(counted) == expected


def test_estimates_shrink_as_work_is_done():
    default = workload(EXPERIMENTS["default"], REPORT)  # 5000 training steps, and 25 forecasts
    whole = estimate(default, QWEN)
    rest = estimate(default, QWEN, steps_done=2500, forecasts_done=20)
    assert rest["training"]["published"] * 2 == whole["training"]["published"]
    assert rest["forecasts"]["published"] * 5 == whole["forecasts"]["published"]
    # Of 11 evaluations, before the first step and after each 500, five are still to come.
    assert rest["evaluation"]["coursework"] * 11 == whole["evaluation"]["coursework"] * 5


def test_an_evaluation_takes_four_windows_of_each_series_at_most():
    costs = estimate(workload(EXPERIMENTS["default"], REPORT), TINY)
    # A series has 1000 tokens at most: windows of 512 begin at 0, 256, 512 and 768. Ten series are
    # watched, 11 times.
    one_window = total(forward_flops(TINY, 512, rank=4))
    assert costs["evaluation"]["coursework"] == 11 * 10 * 4 * one_window


def test_nothing_is_left_to_pay_when_all_is_done():
    default = workload(EXPERIMENTS["default"], REPORT)
    rest = estimate(default, QWEN, steps_done=5000, forecasts_done=25)
    assert sum_costs(*rest.values()) == sum_costs()  # 0 by each convention


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        pytest.param("baseline", 0, id="without an adapter"),
        pytest.param("default", 4, id="an adapter of its own"),
        pytest.param("default-rest", 4, id="another's adapter"),
        pytest.param("search/expt_7", 4, id="one of the search"),
        pytest.param("search/second_0", 4, id="the adapter that the report chose"),
    ],
)
def test_an_experiment_costs_what_the_rank_of_its_adapter_asks_for(name, rank):
    assert workload(EXPERIMENTS[name], REPORT).rank == rank


def test_while_no_errors_have_chosen_the_first_of_several_adapters_decides_the_costs():
    assert workload(EXPERIMENTS["search/second_0"], LAPTOP).rank == 2


def test_the_adapter_that_was_chosen_decides_the_costs_if_it_is_known():
    second = workload(EXPERIMENTS["search/second_0"], REPORT, "search/expt_6")
    assert second.adapter == {"rank": 2, "targets": TARGETS}


EVERY_LAYER = tuple(PROJECTIONS)
WIDE_ADAPTER = {"rank": 2, "targets": EVERY_LAYER}


@pytest.fixture
def wide(monkeypatch):
    """Declare an experiment as `default`, but with adapters of rank 2 on every linear layer."""
    default = EXPERIMENTS["default"]
    training = replace(default.training, rank=2, targets=EVERY_LAYER[::-1])
    experiment = replace(default, name="wide", training=training)
    monkeypatch.setitem(EXPERIMENTS, "wide", experiment)
    return experiment


def test_a_workload_has_the_targets_of_its_adapter_in_their_own_order(wide):
    default = workload(EXPERIMENTS["default"], REPORT)
    assert workload(wide, REPORT) == replace(default, **WIDE_ADAPTER)
    assert workload(EXPERIMENTS["default-rest"], REPORT, "wide").adapter == WIDE_ADAPTER


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_adapters_targets_decide_an_estimate(wide, convention):
    costs = estimate(workload(wide, REPORT), TINY)
    step = train_step_flops(TINY, 512, convention=convention, **WIDE_ADAPTER)
    forecast = forecast_flops(TINY, 512, 220, convention=convention, **WIDE_ADAPTER)
    assert costs["training"][convention] == 5000 * total(step)
    assert costs["forecasts"][convention] == 25 * total(forecast)


def test_without_a_limit_a_prompt_is_a_whole_context_and_a_forecast_twenty_steps():
    constrained = workload(EXPERIMENTS["baseline-constrained"], REPORT)
    assert constrained.prompt == constrained.length == 80 * 10
    assert constrained.new_tokens == 20 * 10


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_an_estimate_counts_each_sample(convention):
    costs = estimate(workload(EXPERIMENTS["samples/final/test"], REPORT), TINY)
    of_series = forecast_flops(TINY, 800, 200, rank=2, samples=48, convention=convention)
    assert costs["forecasts"][convention] == 50 * total(of_series)


def test_an_evaluation_at_a_milestone_takes_losses_and_forecasts_of_fifty_series():
    costs = estimate(workload(EXPERIMENTS["best"], REPORT), TINY)["evaluation"]
    adapter = {"rank": 4, "targets": EVERY_LAYER}
    # At the start, at five milestones and at the end. A series of 1000 tokens at most has two
    # windows of 1024. As published, losses are free.
    series = 7 * 50
    window = total(forward_flops(TINY, 1024, **adapter))
    forecast = total(forecast_flops(TINY, 800, 200, **adapter))
    published = total(forecast_flops(TINY, 800, 200, convention="published", **adapter))
    assert costs["coursework"] == series * (2 * window + forecast)
    assert costs["published"] == series * published


def test_an_adapters_targets_decide_the_costs_of_a_forecast_unless_it_is_merged():
    wide = series_costs(TINY, GREEDY_ENTRY, DecodeConfig(), **WIDE_ADAPTER)
    usual = series_costs(TINY, GREEDY_ENTRY, DecodeConfig(), rank=2, targets=TARGETS)
    published = forecast_flops(TINY, 30, 220, convention="published", **WIDE_ADAPTER)
    assert wide["coursework"] == total(forecast_flops(TINY, 30, 9, **WIDE_ADAPTER))
    assert wide["published"] == total(published)
    assert wide["executed"] == usual["executed"]  # merged


@pytest.mark.parametrize(
    ("sizes", "targets"),
    [
        pytest.param({}, TARGETS, id="the declared targets"),
        pytest.param({"targets": list(EVERY_LAYER)}, EVERY_LAYER, id="every layer"),
    ],
)
def test_a_run_spends_what_it_computed(data, store, sizes, targets):
    experiment = EXPERIMENTS["default-warm"]
    small = Profile(
        "laptop",
        backbone="tiny",
        most_series=3,
        batch_size=2,
        train={"default-warm": {"steps": 3, **sizes}},
        watched=2,
        watched_forecasts=("default-warm",),
    )
    config = training_at(experiment, small)
    record = run("default-warm", small, data=data)
    adapter = {"rank": config.rank, "targets": config.targets}
    assert record.training.targets == config.targets == targets

    texts = [encode(data.trajectories[i], data.scales[i]) for i in split_ids().train]
    windows = make_windows([text_to_ids(text) for text in texts], config.sequence_length)
    steps = [step_costs(TINY, batch_of(step, windows, config), **adapter) for step in range(3)]
    assert record.flops["training"] == sum_costs(*steps)

    forecasts = [
        series_costs(TINY, entry, experiment.protocol, **adapter)
        for entry in record.series.values()
    ]
    assert record.flops["forecasts"] == sum_costs(*forecasts)

    assert record.flops["reserved"] == sum_costs()
    assert record.flops["discarded"] == sum_costs()
    most = estimate(workload(experiment, small), TINY)
    for kind in ("training", "evaluation", "forecasts"):
        for convention in CONVENTIONS:
            spent = record.flops[kind][convention]
            assert 0 < spent <= most[kind][convention], (kind, convention)
