"""The budget: what the records of a profile have spent, and which run it still allows."""

from dataclasses import replace

import numpy as np
import pytest

from m2lib.accounting import CONVENTIONS
from m2lib.errors import InputError
from m2lib.files import write_json
from m2lib.series import SeriesSet
from study.costs import all_records, budget_of
from study.plans import plan_run
from study.profiles import Profile
from study.records import record_path, save_record
from study.runs import Run, run
from study.selections import hard_and_easy

SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=3,
    batch_size=2,
    train={"default": {"steps": 4}},
    checkpoint_every=1,
    watched=0,
)

pytestmark = pytest.mark.usefixtures("store")


@pytest.fixture(scope="module")
def finished(data, stored_below, tmp_path_factory):
    """Return two finished records by name: one of the report's, and one beyond the report."""
    with stored_below(tmp_path_factory.mktemp("finished")):
        names = ("baseline", "baseline-constrained")
        return {name: run(name, SMALL, data=data) for name in names}


def test_the_budget_counts_the_reports_experiments_alone(finished):
    for record in finished.values():
        save_record(SMALL, record)

    spent = finished["baseline"].spent()["coursework"]
    budget = budget_of(SMALL)
    assert budget.spent == spent > 0
    assert budget.reserved == 0
    assert budget.left == 10**17 - spent


def test_the_budget_counts_by_the_convention_of_its_profile(finished):
    baseline = finished["baseline"]
    save_record(SMALL, baseline)
    published = replace(SMALL, budget_convention="published")
    assert budget_of(published).spent == baseline.flops["forecasts"]["published"]


def test_an_unfinished_run_counts_with_what_it_may_still_spend(finished):
    """Even if it was killed, for it may go on."""
    baseline = finished["baseline"]
    flops = baseline.flops | {"reserved": dict.fromkeys(CONVENTIONS, 7)}
    save_record(SMALL, replace(baseline, status="running", flops=flops))

    spent = baseline.spent()["coursework"]
    budget = budget_of(SMALL)
    assert budget.spent == spent
    assert budget.reserved == 7
    assert budget.left == 10**17 - spent - 7


def test_one_experiment_can_be_left_out_of_the_count(finished):
    save_record(SMALL, finished["baseline"])
    assert budget_of(SMALL, but="baseline").left == 10**17


def test_records_that_are_no_longer_kept_count_by_what_they_had_cost():
    cost = {"forecasts": dict.fromkeys(CONVENTIONS, 5), "training": dict.fromkeys(CONVENTIONS, 2)}
    rows = [{"group": "baseline", "flops": cost}, {"group": None, "flops": cost}]
    write_json(record_path(SMALL, "removed"), rows)
    assert budget_of(SMALL).spent == 7  # of the report's experiments alone


def test_a_record_that_is_deleted_is_not_counted(finished):
    save_record(SMALL, finished["baseline"])
    record_path(SMALL, "baseline").unlink()
    assert budget_of(SMALL).spent == 0


def test_a_record_that_cannot_be_read_stops_the_count(finished):
    save_record(SMALL, finished["baseline"])
    record_path(SMALL, "baseline").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"baseline.json is not a run record"):
        all_records(SMALL)
    assert all_records(SMALL, but="baseline") == {}


def test_a_run_reserves_as_many_forecasts_as_its_plan_has(data, store):
    """An experiment declares fifty, the report's test split; of 2000 series it has a hundred."""
    twice = SeriesSet(np.concatenate([data.trajectories] * 2), data.time, "two thousand")
    whole = replace(SMALL, most_series=None)
    for series, count in ((data, 50), (twice, 100)):
        plan = plan_run("untuned-test", whole, series)
        assert Run(plan, whole, series, None, False).work.num_forecasts == count


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        pytest.param("baseline-constrained", SMALL, id="an experiment beyond the report"),
        pytest.param("baseline", replace(SMALL, live=True), id="a live run"),
    ],
)
def test_what_is_not_charged_runs_without_a_budget(name, profile, data):
    assert run(name, replace(profile, budget=0), data=data).status == "done"


def test_a_run_beyond_the_budget_changes_nothing(data, store, most_flops):
    baseline = run("baseline", SMALL, data=data)
    chosen = hard_and_easy(baseline.maes())
    most = most_flops("default", SMALL, num_forecasts=len(chosen))
    needed = baseline.spent()["coursework"] + most["coursework"]
    before = {path: path.read_bytes() for path in store.rglob("*.json")}

    too_little = replace(SMALL, budget=needed - 1)
    message = r"default may need .* FLOPs \(coursework\), but .* are left"
    with pytest.raises(InputError, match=message):
        run("default", too_little, data=data)
    assert {path: path.read_bytes() for path in store.rglob("*.json")} == before

    enough = replace(SMALL, budget=needed)
    assert run("default", enough, data=data).status == "done"
