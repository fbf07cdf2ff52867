import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from m2lib.accounting import CONVENTIONS, Shape, sum_costs
from m2lib.files import InputError
from m2lib.model import backbone_config
from study.costs import all_records, budget_of, estimate, workload
from study.experiments import EXPERIMENTS
from study.profiles import Profile
from study.records import hold, in_progress, record_path, save_record
from study.runs import Run, run

TINY = Shape.of(backbone_config("tiny"))
SMALL = Profile(
    "laptop",
    "tiny",
    most_series=3,
    batch_size=2,
    train={"default": {"steps": 4}},
    checkpoint_every=1,
    watched=0,
)

pytestmark = pytest.mark.usefixtures("store")


def cost_of(name):
    return sum_costs(*estimate(workload(EXPERIMENTS[name], SMALL), TINY).values())["coursework"]


def test_spending_is_a_sum_over_the_records_a_running_one_at_its_most(data):
    """Whether it is running or was killed: it may go on."""
    done = run("baseline", SMALL, data=data)
    run("baseline-constrained", SMALL, data=data)
    whole = budget_of(SMALL)
    spent = done.spent()["coursework"]
    assert whole.spent == spent > 0  # the other goes beyond the report
    assert (whole.left, whole.reserved) == (10**17 - spent, 0)
    published = budget_of(replace(SMALL, budget_convention="published"))
    assert published.spent == done.flops["forecasts"]["published"]
    running = replace(
        done, status="running", flops=done.flops | {"reserved": dict.fromkeys(CONVENTIONS, 7)}
    )
    save_record(SMALL, running)
    assert (budget_of(SMALL).spent, budget_of(SMALL).reserved, budget_of(SMALL).left) == (
        spent,
        7,
        10**17 - spent - 7,
    )
    assert budget_of(SMALL, but="baseline").left == 10**17
    record_path(SMALL, "baseline").unlink()
    assert budget_of(SMALL).spent == 0


def test_a_run_beyond_the_budget_changes_nothing(data, store):
    spent = run("baseline", SMALL, data=data).spent()["coursework"]
    before = {path: path.read_bytes() for path in store.rglob("*.json")}
    poor = replace(SMALL, budget=spent + cost_of("default") - 1)
    with pytest.raises(
        InputError, match=r"default may need .* FLOPs \(coursework\), but .* are left"
    ):
        run("default", poor, data=data)
    assert {path: path.read_bytes() for path in store.rglob("*.json")} == before
    assert run("default", replace(poor, budget=poor.budget + 1), data=data).status == "done"


def test_a_record_that_cannot_be_read_stops_the_count(data):
    run("baseline", SMALL, data=data)
    record_path(SMALL, "baseline").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"baseline.json is not a run record"):
        all_records(SMALL)
    assert all_records(SMALL, but="baseline") == {}


def test_one_process_at_a_time_runs_an_experiment(data):
    with (
        hold(SMALL, "baseline"),
        pytest.raises(InputError, match=r"another process is at baseline in"),
    ):
        run("baseline", SMALL, data=data, fresh=True)


def test_one_process_at_a_time_reserves(data, monkeypatch):
    """Two that begin together would both take what is left."""
    alone = []
    real = Run.reserve
    monkeypatch.setattr(
        Run, "reserve", lambda this: alone.append(in_progress(SMALL, "budget")) or real(this)
    )
    run("baseline", SMALL, data=data)
    assert alone == [True]
    assert not in_progress(SMALL, "budget")


def test_a_live_run_waits_for_another(data):
    live = replace(SMALL, name="slice", live=True)
    begun = threading.Event()

    def hold_for_a_while():
        with hold(live, "baseline"):
            begun.set()
            time.sleep(1.5)  # longer than what is refused at once

    with ThreadPoolExecutor() as pool:
        pool.submit(hold_for_a_while)
        begun.wait()
        assert run("baseline", live, data=data).status == "done"
