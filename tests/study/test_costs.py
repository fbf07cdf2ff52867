from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from m2lib.accounting import sum_costs
from m2lib.accounting.flops import (
    CONVENTIONS,
    cached_step_flops,
    forecast_flops,
    forward_flops,
    train_step_flops,
)
from m2lib.accounting.published import DEPARTURES, departure_costs
from m2lib.accounting.shape import PROJECTIONS, TARGETS, Shape, total
from m2lib.decoding import DecodeConfig, Engine, generate
from m2lib.model import backbone_config, text_to_ids
from m2lib.series import encode, split_ids
from m2lib.training import TrainConfig, batch_of, make_windows, step_costs
from study import (
    EXPERIMENTS,
    PROFILES,
    Profile,
    Record,
    load_record,
    published_statements,
    published_table_3,
    run,
    table_3,
    training_at,
)
from study.costs import (
    budget_of,
    estimate,
    loss_costs,
    series_costs,
    workload,
)  # fmt: skip
from study.records import save_record

REPORT = PROFILES["report"]
QWEN = Shape.of(backbone_config("qwen2.5-0.5b"))
TINY = Shape.of(backbone_config("tiny"))


def declared_costs(name):
    """With the adapters that the published errors choose."""
    chosen = {f"search/second_{place}": f"search/expt_{i}" for place, i in enumerate((6, 7, 8))}
    return estimate(workload(EXPERIMENTS[name], REPORT, chosen.get(name, "")), QWEN)


def test_published_accountant_gives_every_integer_of_the_report():
    P = {"convention": "published"}
    assert total(forward_flops(QWEN, 512, **P)) == 369_176_060_704
    assert total(forecast_flops(QWEN, 512, 220, **P)) == 77_827_484_760_937
    assert (
        total(forecast_flops(QWEN, 512, 2, **P)) - total(forward_flops(QWEN, 512, **P))
        == 353_690_907_307
    )
    steps = [total(train_step_flops(QWEN, 512, rank=rank, **P)) for rank in (2, 4, 8)]
    assert steps == [1_477_318_052_992, 1_478_019_943_552, 1_479_423_724_672]


def test_table_3_follows_from_the_declarations():
    rows = table_3(QWEN, "published")
    assert {name: [f"{flops:.2e}" for flops in (*row, sum(row))] for name, row in rows.items()} == {
        name: [f"{flops:.2e}" for flops in row]
        for name, row in published_table_3().items()
        if name != "all"
    }
    spent = sum(map(sum, rows.values()))
    assert f"{spent:.2e}" == "9.99e+16" == f"{published_table_3()['all'][2]:.2e}"
    assert sum(one.forecasts for one in EXPERIMENTS.values() if one.group) == 280
    assert f"{rows['baseline'][1] / 10**17:.2%}" == "3.89%"


def test_a_share_that_the_report_prints_otherwise():
    """It follows from no accountant that gives its table."""
    before = sum(sum(row) for name, row in table_3(QWEN, "published").items() if name != "final")
    assert f"{before / 10**17:.2%}" == "69.40%"
    assert published_statements()["share of the budget spent before the final run"] == 0.6943


def test_departures_explain_the_whole_difference():
    for shape, tokens, rank in ((QWEN, 512, 0), (TINY, 30, 3)):
        extra = departure_costs(shape, tokens, rank=rank)
        assert extra.keys() == DEPARTURES.keys()
        sizes = {
            convention: [
                total(forward_flops(shape, tokens, rank=rank, convention=convention)),
                total(train_step_flops(shape, tokens, rank=rank, convention=convention)),
                total(forecast_flops(shape, tokens, 220, rank=rank, convention=convention)),
            ]
            for convention in ("published", "coursework")
        }
        forward, step, forecast = (
            a - b for a, b in zip(sizes["published"], sizes["coursework"], strict=True)
        )
        once = extra[1] + extra[2] + extra[3] + extra[4]
        assert (forward, step, forecast) == (once, 6 * once + extra[5], once + extra[6] + extra[7])


def test_steps_left_for_the_final_run(tmp_path, monkeypatch):
    some_plan = load_record("laptop", "baseline").plan
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    assert budget_of(REPORT).left == 10**17
    before = [one for one in EXPERIMENTS.values() if one.group not in (None, "final")]
    for experiment in before:
        planned = replace(some_plan, name=experiment.name)
        result = Record(planned, dtype="float32", batch_size=25, status="done")
        result.flops |= declared_costs(experiment.name)
        save_record(REPORT, result)
    budget = budget_of(REPORT)
    assert f"{budget.spent / REPORT.budget:.2%}" == "69.40%"
    final = declared_costs("final")
    untuned = declared_costs("untuned-test")
    forecasts = final["forecasts"]["published"] + untuned["forecasts"]["published"]
    assert (budget.left - forecasts) * 15_400 // final["training"]["published"] == 15_442


def test_under_the_rules_the_report_is_over_budget():
    tables = {convention: table_3(QWEN, convention).values() for convention in CONVENTIONS}
    training, forecasts = (
        {name: sum(row[i] for row in rows) for name, rows in tables.items()} for i in (0, 1)
    )
    assert f"{training['coursework']:.3g}" == "1.35e+17"
    assert f"{training['executed']:.2g}" == "8.5e+16"
    assert (f"{forecasts['coursework']:.2g}", f"{forecasts['published']:.3g}") == (
        "1.7e+14",
        "2.17e+16",
    )


def test_a_step_by_each_convention():
    batch = np.array([[1] * 20, [1] * 12 + [0] * 8])
    costs = step_costs(TINY, batch, rank=2)

    def step(tokens, batch, convention):
        return total(train_step_flops(TINY, tokens, rank=2, batch=batch, convention=convention))

    assert costs["coursework"] == step(20, 1, "coursework") + step(12, 1, "coursework")
    assert (costs["published"], costs["executed"]) == (
        step(20, 2, "published"),
        step(20, 2, "executed"),
    )
    losses = loss_costs(TINY, batch, rank=2)
    assert losses["published"] == 0
    assert losses["executed"] == sum(
        total(forward_flops(TINY, tokens, rank=2, convention="executed")) for tokens in (20, 12)
    )


def test_a_forecast_by_each_convention():
    entry = {"prompt_tokens": 30, "padded_tokens": 40, "new_tokens": 9, "passes": 11}
    costs = series_costs(TINY, entry, DecodeConfig.as_published(context_tokens=64), rank=0)
    assert costs == {
        "coursework": total(forecast_flops(TINY, 30, 9)),
        "published": total(forecast_flops(TINY, 64, 220, convention="published")),
        # adapters merged, its own prompt alone, and a cache of 40 + 1, ..., 40 + 11 tokens,
        # allocated by 64
        "executed": total(forecast_flops(TINY, 30, 1, convention="executed"))
        + 11 * total(cached_step_flops(TINY, 64, convention="executed")),
    }


def test_samples_share_their_prefill():
    entry = {
        "prompt_tokens": 30,
        "padded_tokens": 40,
        "new_tokens": [9, 9, 5],
        "passes": [8, 8, 70],
    }
    sampled = DecodeConfig(constrained=True, temperature=1.0, n_samples=3)
    costs = series_costs(TINY, entry, sampled, rank=2)
    prefill = total(forecast_flops(TINY, 30, 1, rank=2))
    assert costs["coursework"] == (
        total(forecast_flops(TINY, 30, 9, rank=2, samples=2))
        + total(forecast_flops(TINY, 30, 5, rank=2))
        - prefill
    )
    # Beside the prompt's 64 columns a row has 16 of its own, and 16 more after each 16 steps. The
    # first 16 steps of each row are 8, 8 and 16; all further ones are of the third sample.
    executed = total(forecast_flops(TINY, 30, 1, convention="executed"))
    for columns, steps in ((80, 32), (96, 16), (112, 16), (128, 16), (144, 6)):
        executed += steps * total(cached_step_flops(TINY, columns, convention="executed"))
    assert costs["executed"] == executed
    assert costs["published"] == total(
        forecast_flops(TINY, 30, 220, rank=2, samples=3, convention="published")
    )


@pytest.mark.parametrize("samples", [1, 3])
def test_executed_steps_are_those_that_the_machine_counts(tiny, samples):
    """Over a growth of the cache, and as rows leave one after the other."""
    prompts = [[1] * 9, [2, 11, 3, 12] * 18]  # of one and of two times 64 columns
    steps = []
    protocol = DecodeConfig(constrained=True, steps=8, temperature=3.0, n_samples=samples)

    class Counted(Engine):
        def step(self, tokens):
            with FlopCounterMode(display=False) as counter:
                super().step(tokens)
            steps.append(counter.get_total_flops())

    _, passes = generate(tiny.model, prompts, protocol, torch.Generator().manual_seed(0), Counted)
    every = [count for counts in passes for count in counts]
    expected = 0
    assert 64 < max(every) > min(every)
    for prompt, counts in zip(prompts, passes, strict=True):
        entry = {
            "prompt_tokens": len(prompt),
            "padded_tokens": 72,
            "new_tokens": counts,
            "passes": counts,
        }
        expected += series_costs(TINY, entry, protocol, rank=0)["executed"]
        expected -= total(forecast_flops(TINY, len(prompt), 1, convention="executed"))
    assert sum(steps) == expected


def test_estimates_shrink_as_work_is_done():
    default = workload(EXPERIMENTS["default"], REPORT)
    whole = estimate(default, QWEN)
    half = estimate(default, QWEN, steps_done=2500, forecasts_done=20)
    assert half["training"]["published"] * 2 == whole["training"]["published"]
    assert half["forecasts"]["published"] * 5 == whole["forecasts"]["published"]
    assert half["evaluation"]["coursework"] < whole["evaluation"]["coursework"]
    done = estimate(default, QWEN, steps_done=5000, forecasts_done=25)
    assert sum_costs(*done.values()) == sum_costs()


def test_ranks():
    ranks = {name: workload(EXPERIMENTS[name], REPORT).rank for name in EXPERIMENTS}
    assert (ranks["baseline"], ranks["default"], ranks["default-rest"], ranks["search/expt_7"]) == (
        0,
        4,
        4,
        4,
    )
    assert ranks["search/second_0"] == 2  # of the first that it may be
    sixth = workload(EXPERIMENTS["search/second_0"], REPORT, "search/expt_6")
    assert sixth.adapter == {"rank": 2, "targets": TARGETS}


def test_an_adapters_targets_decide_its_costs(monkeypatch):
    everywhere = TrainConfig(1, 1e-3, 2, targets=list(PROJECTIONS)).targets
    rank = 2
    default = EXPERIMENTS["default"]
    training = replace(default.training, targets=everywhere[::-1], rank=rank)
    wide = replace(default, name="wide", training=training)
    monkeypatch.setitem(EXPERIMENTS, "wide", wide)
    work = workload(wide, REPORT)
    assert work == replace(workload(default, REPORT), rank=2, targets=everywhere)
    adapter = {"rank": rank, "targets": everywhere}
    costs = estimate(work, TINY)
    assert workload(EXPERIMENTS["default-rest"], REPORT, "wide").adapter == adapter
    for convention in CONVENTIONS:
        kind = adapter | {"convention": convention}
        assert costs["training"][convention] == 5000 * total(train_step_flops(TINY, 512, **kind))
        assert costs["forecasts"][convention] == 25 * total(forecast_flops(TINY, 512, 220, **kind))
    entry = {"prompt_tokens": 30, "padded_tokens": 40, "new_tokens": 9, "passes": 11}
    kinds = (adapter, {"rank": rank, "targets": TARGETS})
    costs, merged = (series_costs(TINY, entry, DecodeConfig(), **kind) for kind in kinds)
    assert costs["coursework"] == total(forecast_flops(TINY, 30, 9, **adapter))
    assert costs["published"] == total(
        forecast_flops(TINY, 30, 220, convention="published", **adapter)
    )
    assert costs["executed"] == merged["executed"]


@pytest.mark.parametrize("settings", [{}, {"targets": list(PROJECTIONS)}])
def test_a_run_spends_what_it_computed(data, store, settings):
    small = Profile(
        "laptop", "tiny", most_series=3, batch_size=2, live=False,
        train={"default-warm": {"steps": 3} | settings},
        watched=2, watched_forecasts=("default-warm",),
    )  # fmt: skip
    experiment = EXPERIMENTS["default-warm"]
    result = run("default-warm", small, data=data)
    config = training_at(experiment, small)
    texts = [text_to_ids(encode(data.trajectories[i], data.scales[i])) for i in split_ids().train]
    windows = make_windows(texts, config.sequence_length)
    adapter = {"rank": config.rank, "targets": config.targets}
    steps = [step_costs(TINY, batch_of(step, windows, config), **adapter) for step in range(3)]
    assert result.flops["training"] == sum_costs(*steps)
    entries = [
        series_costs(TINY, entry, experiment.protocol, **adapter)
        for entry in result.series.values()
    ]
    assert result.flops["forecasts"] == sum_costs(*entries)
    assert result.training.targets == config.targets == tuple(settings.get("targets", TARGETS))
    assert result.flops["reserved"] == result.flops["discarded"] == sum_costs()
    most = estimate(workload(experiment, small), TINY)
    for kind in ("training", "evaluation", "forecasts"):
        for convention in CONVENTIONS:
            assert 0 < result.flops[kind][convention] <= most[kind][convention], (kind, convention)


def test_declared_sizes_are_those_of_the_report():
    searched = [EXPERIMENTS[f"search/expt_{i}"].training for i in range(9)]
    assert [(training.learning_rate, training.rank) for training in searched[5:8]] == [
        (5e-5, 8),
        (1e-4, 2),
        (1e-4, 4),
    ]
    charged = [one.training for one in EXPERIMENTS.values() if one.group and one.training]
    assert sum(training.steps for training in charged) == 53_250
