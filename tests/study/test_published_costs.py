"""The report's FLOPs: its own accountant and the declared experiments give what it prints."""

from dataclasses import replace

import pytest

from m2lib.accounting import (
    CONVENTIONS,
    DEPARTURES,
    Shape,
    departure_costs,
    forecast_flops,
    forward_flops,
    total,
    train_step_flops,
)
from m2lib.model import backbone_config
from study.costs import budget_of, estimate, table_3, workload
from study.experiments import EXPERIMENTS
from study.profiles import REPORT
from study.published import published_statements, published_table_3
from study.records import Record, load_record, save_record

QWEN = Shape.of(backbone_config("qwen2.5-0.5b"))
TINY = Shape.of(backbone_config("tiny"))


def test_the_published_accountant_gives_every_integer_of_the_report():
    forward = total(forward_flops(QWEN, 512, convention="published"))
    forecast = total(forecast_flops(QWEN, 512, 220, convention="published"))
    two_tokens = total(forecast_flops(QWEN, 512, 2, convention="published"))
    assert forward == 369_176_060_704
    assert forecast == 77_827_484_760_937
    assert two_tokens - forward == 353_690_907_307  # the step that gives the second token


@pytest.mark.parametrize(
    ("rank", "flops"), [(2, 1_477_318_052_992), (4, 1_478_019_943_552), (8, 1_479_423_724_672)]
)
def test_the_published_accountant_gives_the_reports_training_steps(rank, flops):
    assert total(train_step_flops(QWEN, 512, rank=rank, convention="published")) == flops


@pytest.mark.parametrize(
    ("shape", "tokens", "rank"),
    [
        pytest.param(QWEN, 512, 0, id="qwen2.5-0.5b without adapters"),
        pytest.param(TINY, 30, 3, id="tiny at rank 3"),
    ],
)
def test_the_departures_explain_the_whole_difference_to_the_rules(shape, tokens, rank):
    extra = departure_costs(shape, tokens, rank=rank)
    assert extra.keys() == DEPARTURES.keys()

    def difference(count, *sizes):
        """Return by how much the published count exceeds that of the rules."""
        published = count(shape, *sizes, rank=rank, convention="published")
        by_the_rules = count(shape, *sizes, rank=rank, convention="coursework")
        return total(published) - total(by_the_rules)

    of_a_pass = extra[1] + extra[2] + extra[3] + extra[4]
    assert difference(forward_flops, tokens) == of_a_pass
    # By the rules a step of two windows costs six forward passes.
    assert difference(train_step_flops, tokens) == 6 * of_a_pass + extra[5]
    assert difference(forecast_flops, tokens, 220) == of_a_pass + extra[6] + extra[7]


def test_each_row_of_table_3_follows_from_the_declarations():
    published = published_table_3()
    rows = table_3(QWEN, "published")
    assert rows.keys() == published.keys() - {"all"}
    for name, (training, forecasts) in rows.items():
        counted = [f"{flops:.2e}" for flops in (training, forecasts, training + forecasts)]
        printed = [f"{flops:.2e}" for flops in published[name]]
        assert counted == printed, name


def test_the_sum_of_table_3_follows_from_the_declarations():
    _, _, printed = published_table_3()["all"]
    spent = sum(sum(row) for row in table_3(QWEN, "published").values())
    assert f"{spent:.2e}" == f"{printed:.2e}" == "9.99e+16"


def test_the_reports_experiments_forecast_280_series():
    reported = [experiment for experiment in EXPERIMENTS.values() if experiment.group]
    assert sum(experiment.num_forecasts for experiment in reported) == 280


def test_the_baseline_takes_the_share_of_the_budget_that_the_report_prints():
    _, forecasts = table_3(QWEN, "published")["baseline"]
    assert f"{forecasts / 10**17:.2%}" == "3.89%"


def test_the_share_spent_before_the_final_run_is_not_what_the_report_prints():
    """It prints 69.43%, which follows from no accountant that gives its table."""
    rows = table_3(QWEN, "published")
    before = sum(sum(row) for name, row in rows.items() if name != "final")
    assert f"{before / 10**17:.2%}" == "69.40%"
    assert published_statements()["share of the budget spent before the final run"] == 0.6943


def reported_costs(name):
    """Return the costs of an experiment with the adapter that the report's errors choose."""
    return estimate(workload(EXPERIMENTS[name], REPORT), QWEN)


def test_the_budget_leaves_the_final_run_as_many_steps_as_the_report_took(tmp_path, monkeypatch):
    """It could have taken 15,442, and took 15,400."""
    some_plan = load_record("laptop", "baseline").plan
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    assert budget_of(REPORT).left == 10**17

    for name, experiment in EXPERIMENTS.items():
        if experiment.group not in (None, "final"):
            plan = replace(
                some_plan, name=name, profile=REPORT.name, backbone=REPORT.backbone, series=()
            )
            record = Record(plan, dtype="float32", batch_size=25, status="done")
            record.flops |= reported_costs(name)
            save_record(REPORT, record)
    budget = budget_of(REPORT)
    assert f"{budget.spent / REPORT.budget:.2%}" == "69.40%"

    final = reported_costs("final")
    untuned = reported_costs("untuned-test")
    forecasts = final["forecasts"]["published"] + untuned["forecasts"]["published"]
    for_training = budget.left - forecasts
    assert for_training * 15_400 // final["training"]["published"] == 15_442


def test_under_the_rules_the_report_is_over_budget():
    training = {}
    forecasts = {}
    for convention in CONVENTIONS:
        rows = table_3(QWEN, convention).values()
        training[convention] = sum(row[0] for row in rows)
        forecasts[convention] = sum(row[1] for row in rows)
    assert f"{training['coursework']:.3g}" == "1.35e+17"
    assert f"{training['executed']:.2g}" == "8.5e+16"
    # For its forecasts, on the other hand, it charges more than a hundred times what they cost.
    assert f"{forecasts['coursework']:.2g}" == "1.7e+14"
    assert f"{forecasts['published']:.3g}" == "2.17e+16"
