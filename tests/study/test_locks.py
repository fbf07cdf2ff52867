"""Processes side by side: one at a time runs an experiment, and one at a time takes of the
budget."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from m2lib.errors import InputError
from study import records
from study.profiles import Profile
from study.records import hold, in_progress
from study.runs import Run, run

SMALL = Profile("laptop", backbone="tiny", most_series=3, batch_size=2)

pytestmark = pytest.mark.usefixtures("store")


def test_an_experiment_that_another_process_runs_is_refused(data):
    refused = pytest.raises(InputError, match=r"another process works on baseline in")
    with hold(SMALL, "baseline"), refused:
        run("baseline", SMALL, data=data, fresh=True)


def test_where_no_record_can_be_written_a_run_does_not_begin(data, store):
    (store / "results").write_text("no folder", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot write into .* is no folder, or read-only"):
        run("baseline", SMALL, data=data)


def test_where_nothing_can_be_written_an_experiment_may_be_running(monkeypatch):
    """So `status` goes on with its list in a folder that belongs to somebody else."""
    monkeypatch.setattr("m2lib.files.os.access", lambda *_, **__: False)
    assert in_progress(SMALL, "baseline")


def test_a_live_run_waits_for_another(data, monkeypatch):
    live = replace(SMALL, name="slice", live=True)
    is_held = threading.Event()
    is_asked_for = threading.Event()

    def ask_for(*arguments):
        is_asked_for.set()
        return hold(*arguments)

    def hold_for_a_while():
        with hold(live, "baseline"):
            is_held.set()
            assert is_asked_for.wait(60)
            time.sleep(1.5)  # a run that is not live is refused after one second

    monkeypatch.setattr(records, "hold", ask_for)
    with ThreadPoolExecutor() as pool:
        holding = pool.submit(hold_for_a_while)
        assert is_held.wait(60)
        assert run("baseline", live, data=data).status == "done"
        holding.result()


def test_one_process_at_a_time_reserves_its_part_of_the_budget(data, note_calls):
    """Two that began together would otherwise both take what is left."""
    budget_is_locked = note_calls(Run, "reserve", lambda _: in_progress(SMALL, "budget"))
    run("baseline", SMALL, data=data)
    assert budget_is_locked == [True]
    assert not in_progress(SMALL, "budget")
