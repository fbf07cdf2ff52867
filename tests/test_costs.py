from dataclasses import replace

import numpy as np
import pytest

from m2lib.backbones import backbone_config
from m2lib.budget import affordable_steps, state
from m2lib.codec import encode
from m2lib.costs import adapter_rank, estimate, loss_costs, series_costs, step_costs, sum_costs
from m2lib.data import split_ids
from m2lib.experiments import EXPERIMENTS, adapter_of, worst_5
from m2lib.flops import CONVENTIONS, Shape, forecast_flops, forward_flops, total, train_step_flops
from m2lib.forecast import DecodeConfig
from m2lib.profiles import PROFILES, Profile
from m2lib.results import Result, published_maes, save_result
from m2lib.run import run
from m2lib.train import TrainConfig, batch_of, make_windows
from m2lib.vocabulary import text_to_ids

REPORT = PROFILES["report"]
QWEN = Shape.of(backbone_config("qwen2.5-0.5b"))
TINY = Shape.of(backbone_config("tiny"))


def declared_costs(name):
    """With the adapters that the published errors choose."""
    experiment = EXPERIMENTS[name]
    return estimate(experiment, REPORT, QWEN, adapter=adapter_of(experiment, searched))


def searched(name):
    """The published errors of a setting of the search on the five series that all were asked about."""
    maes = published_maes(name)
    return {series: maes[series] for series in worst_5(published_maes("default"))}


def declared(name, convention="published"):
    return {kind: costs[convention] for kind, costs in declared_costs(name).items()}


def test_published_accountant_gives_every_integer_of_the_report():
    P = {"convention": "published"}
    assert total(forward_flops(QWEN, 512, **P)) == 369_176_060_704
    assert total(forecast_flops(QWEN, 512, 220, **P)) == 77_827_484_760_937
    assert total(forecast_flops(QWEN, 512, 2, **P)) - total(forward_flops(QWEN, 512, **P)) == 353_690_907_307
    steps = [total(train_step_flops(QWEN, 512, rank=rank, **P)) for rank in (2, 4, 8)]
    assert steps == [1_477_318_052_992, 1_478_019_943_552, 1_479_423_724_672]


def test_table_3_follows_from_the_declarations(table_3):
    rows = {}
    for experiment in EXPERIMENTS.values():
        if experiment.group:
            costs = declared(experiment.name)
            assert costs["evaluation"] == 0
            row = rows.setdefault(experiment.group, [0, 0])
            row[0] += costs["training"]
            row[1] += costs["forecasts"]
    assert {name: [f"{x:.2e}" for x in (*row, sum(row))] for name, row in rows.items()} == {
        name: [f"{float(x):.2e}" for x in row] for name, row in table_3.items() if name != "all"
    }
    spent = sum(map(sum, rows.values()))
    assert f"{spent:.2e}" == "9.99e+16" == f"{table_3['all'][2]:.2e}"
    assert sum(EXPERIMENTS[name].forecasts for name in EXPERIMENTS if EXPERIMENTS[name].group) == 280
    assert f"{rows['baseline'][1] / 10**17:.2%}" == "3.89%"


def test_steps_left_for_the_final_run(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    assert state(REPORT).left == 10**17
    before = [one for one in EXPERIMENTS.values() if one.group not in (None, "final")]
    for experiment in before:
        result = Result(experiment.name, "report", "f", {}, {}, {}, 25, status="done")
        result.flops |= declared_costs(experiment.name)
        save_result(REPORT, result)
    budget = state(REPORT)
    assert f"{budget.spent / budget.limit:.2%}" == "69.40%"
    assert affordable_steps(budget, EXPERIMENTS["final"], REPORT, QWEN, beside=("untuned-test",)) == 15_442


def test_under_the_rules_the_report_is_over_budget():
    training, forecasts = (
        {kind: sum(declared(one.name, kind)[part] for one in EXPERIMENTS.values() if one.group) for kind in CONVENTIONS}
        for part in ("training", "forecasts")
    )
    assert f"{training['coursework']:.3g}" == "1.35e+17"
    assert f"{training['executed']:.2g}" == "8.5e+16"
    assert (f"{forecasts['coursework']:.2g}", f"{forecasts['published']:.3g}") == ("1.7e+14", "2.17e+16")


def test_a_step_by_each_convention():
    batch = np.array([[1] * 20, [1] * 12 + [0] * 8])
    costs = step_costs(TINY, batch, rank=2)

    def step(tokens, batch, convention):
        return total(train_step_flops(TINY, tokens, rank=2, batch=batch, convention=convention))

    assert costs["coursework"] == step(20, 1, "coursework") + step(12, 1, "coursework")
    assert (costs["published"], costs["executed"]) == (step(20, 2, "published"), step(20, 2, "executed"))
    losses = loss_costs(TINY, batch, rank=2)
    assert losses["published"] == 0
    assert losses["executed"] == sum(
        total(forward_flops(TINY, tokens, rank=2, convention="executed")) for tokens in (20, 12)
    )


def test_a_forecast_by_each_convention():
    entry = {"prompt_tokens": 30, "padded_tokens": 40, "new_tokens": 9, "passes": 11}
    costs = series_costs(TINY, entry, DecodeConfig.published(context_tokens=64), rank=0)
    assert costs == {
        "coursework": total(forecast_flops(TINY, 30, 9)),
        "published": total(forecast_flops(TINY, 64, 220, convention="published")),
        "executed": total(forecast_flops(TINY, 40, 12, convention="executed")),
    }


def test_estimates_shrink_as_work_is_done():
    default = EXPERIMENTS["default"]
    whole = estimate(default, REPORT, QWEN)
    half = estimate(default, REPORT, QWEN, steps=2500, series=20)
    assert half["training"]["published"] * 2 == whole["training"]["published"]
    assert half["forecasts"]["published"] * 5 == whole["forecasts"]["published"]
    assert half["evaluation"]["coursework"] < whole["evaluation"]["coursework"]
    done = estimate(default, REPORT, QWEN, steps=5000, series=25)
    assert sum_costs(done["training"], done["forecasts"]) == sum_costs()


def test_ranks():
    ranks = {name: adapter_rank(EXPERIMENTS[name], REPORT) for name in EXPERIMENTS}
    assert (ranks["baseline"], ranks["default"], ranks["default-rest"], ranks["search/expt_7"]) == (0, 4, 4, 4)
    assert ranks["search/second_0"] == 8  # the largest it may be
    assert adapter_rank(EXPERIMENTS["search/second_0"], REPORT, "search/expt_6") == 2


def test_a_run_spends_what_it_computed(data, tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("M2_OUT", str(tmp_path / "build"))
    monkeypatch.setenv("M2_DEVICE", "cpu")
    small = Profile(
        "laptop", "tiny", series=3, batch_size=2, live=False, train={"default-warm": {"steps": 3}}, watched=2,
        watched_forecasts=True,
    )  # fmt: skip
    experiment = EXPERIMENTS["default-warm"]
    result = run("default-warm", small, data=data)
    config = TrainConfig(**experiment.settings(small)["train"])
    texts = [text_to_ids(encode(data.trajectories[i], data.scales[i])) for i in split_ids().train]
    windows = make_windows(texts, config.sequence_length)
    steps = [step_costs(TINY, batch_of(step, windows, config), config.rank) for step in range(3)]
    assert result.flops["training"] == sum_costs(*steps)
    entries = [series_costs(TINY, entry, experiment.decode, config.rank) for entry in result.series.values()]
    assert result.flops["forecasts"] == sum_costs(*entries)
    assert result.flops["reserved"] == result.flops["discarded"] == sum_costs()
    most = estimate(experiment, small, TINY)
    for kind in ("training", "evaluation", "forecasts"):
        for convention in CONVENTIONS:
            assert 0 < result.flops[kind][convention] <= most[kind][convention], (kind, convention)


@pytest.fixture
def table_3():
    """The report's Table 3: training, inference, total."""
    from m2lib.results import published_table_3

    return published_table_3()


def test_declared_sizes_are_those_of_the_report():
    by_mean = replace(EXPERIMENTS["search/second_0"]).earlier()
    assert by_mean[:2] == ("baseline", "default")
    assert by_mean[2:] == tuple(f"search/expt_{i}" for i in range(9))
    rates = [EXPERIMENTS[f"search/expt_{i}"].train for i in range(9)]
    assert [(train["learning_rate"], train["rank"]) for train in rates[5:8]] == [(5e-5, 8), (1e-4, 2), (1e-4, 4)]
    assert sum(one.train["steps"] for one in EXPERIMENTS.values() if one.group and one.train) == 53_250
