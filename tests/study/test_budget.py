from dataclasses import replace

import pytest

from m2lib.accounting.flops import train_step_flops
from m2lib.accounting.shape import CONVENTIONS, Shape, total
from m2lib.files import InputError
from m2lib.model.backbones import backbone_config
from m2lib.study.costs import InputError, affordable_steps, all_records, budget_of, hold
from m2lib.study.costs import estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS
from m2lib.study.profiles import Profile
from m2lib.study.records import Record, load_record, record_path, save_record
from m2lib.study.runs import run

TINY = Shape.of(backbone_config("tiny"))
SMALL = Profile(
    "laptop", "tiny", series=3, batch_size=2, live=False, train={"default": {"steps": 4}}, checkpoint_every=1, watched=0
)


pytestmark = pytest.mark.usefixtures("store")


def cost_of(name, profile=SMALL):
    return sum_costs(*estimate(EXPERIMENTS[name], profile, TINY).values())[profile.budget_convention]


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_spending_is_a_fold_over_the_records(data):
    run("baseline", SMALL, data=data)
    run("baseline-constrained", SMALL, data=data)
    whole = budget_of(SMALL)
    assert whole.spent == load_record(SMALL, "baseline").spent()["coursework"] > 0  # the other goes beyond the report
    assert (whole.limit, whole.left, whole.reserved) == (10**17, 10**17 - whole.spent, 0)
    published = budget_of(replace(SMALL, budget_convention="published"))
    assert published.spent == load_record(SMALL, "baseline").flops["forecasts"]["published"]
    record_path(SMALL, "baseline").unlink()
    assert budget_of(SMALL).spent == 0


def test_a_run_beyond_the_budget_changes_nothing(data, store):
    poor = replace(SMALL, budget=cost_of("baseline") + cost_of("default") - 1)
    run("baseline", poor, data=data)
    before = files(store)
    left = budget_of(poor).left
    assert cost_of("default") <= left  # the baseline stopped early, so what it was estimated at was not all spent
    poor = replace(poor, budget=poor.budget - (left - cost_of("default")) - 1)
    steps = affordable_steps(budget_of(poor), EXPERIMENTS["default"], poor, TINY)
    assert steps == 3
    with pytest.raises(InputError, match=rf"default may need .* FLOPs \(coursework\), but .* {steps} of its steps"):
        run("default", poor, data=data)
    assert files(store) == before
    assert run("default", replace(poor, budget=poor.budget + 1), data=data).status == "done"


def test_steps_that_the_budget_affords():
    config = EXPERIMENTS["default"].settings(SMALL)["train"]
    step = total(train_step_flops(TINY, config["sequence_length"], rank=config["rank"], batch=2))
    forecasts = estimate(EXPERIMENTS["default"], SMALL, TINY)["forecasts"]["coursework"]
    for spare in (0, step - 1, step, 5 * step):
        profile = replace(SMALL, budget=forecasts + spare)
        assert affordable_steps(budget_of(profile), EXPERIMENTS["default"], profile, TINY) == spare // step
    profile = replace(SMALL, budget=forecasts + 7 * step + cost_of("baseline"))
    beside = affordable_steps(budget_of(profile), EXPERIMENTS["default"], profile, TINY, beside=("baseline",))
    assert beside == 7
    assert affordable_steps(budget_of(replace(SMALL, budget=1)), EXPERIMENTS["default"], SMALL, TINY) == 0


def test_an_unfinished_run_counts_at_its_most(data):
    """Whether it is still running or was killed: it may go on."""
    done = run("baseline", SMALL, data=data)
    save_record(SMALL, replace(done, status="running").reserving(dict.fromkeys(CONVENTIONS, 7)))
    spent = done.spent()["coursework"]
    assert (budget_of(SMALL).spent, budget_of(SMALL).reserved, budget_of(SMALL).left) == (spent, 7, 10**17 - spent - 7)
    assert budget_of(SMALL, asking="baseline").reserved == 0  # its own


def test_a_record_that_cannot_be_read_stops_the_count(data):
    run("baseline", SMALL, data=data)
    record_path(SMALL, "baseline").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"baseline.json is not a run record"):
        all_records(SMALL)
    assert all_records(SMALL, replaced="baseline") == {}
    save_record(SMALL, Record("baseline", "laptop", "f", {"decode": {}}, {}, {}, 2, flops={"training": {}}))
    with pytest.raises(InputError, match=r"flops.training: its FLOPs are not counted"):
        all_records(SMALL)


def test_one_process_at_a_time_runs_an_experiment(data):
    with hold(SMALL, "baseline"), pytest.raises(InputError, match=r"baseline.json is being made by another process"):
        run("baseline", SMALL, data=data, fresh=True)
