"""report/numbers.json holds what the records give."""

import json
from dataclasses import replace

import pytest

from study import REPLICATION, load_record
from study.paper import errors, numbers
from study.records import save_record


def leaves(value, path=""):
    """Yield the path and the number or text of everything in a nested value."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, value
        return
    for name, item in items:
        yield from leaves(item, f"{path}/{name}")


def test_the_numbers_are_those_of_the_records(printed_numbers):
    # As JSON, because numbers.json turns tuples into lists and keys into texts.
    computed = json.dumps(numbers.numbers(errors.shown_profile()), allow_nan=False)

    now = dict(leaves(json.loads(computed)))
    then = dict(leaves(printed_numbers))

    assert then.keys() == now.keys(), "run `make figures`"
    for path, value in now.items():
        # The last bits of fits and means depend on the processor.
        same = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        assert then[path] == same, f"{path}: run `make figures`"


@pytest.mark.parametrize(("status", "shown"), [("running", "fifth"), ("done", "report")])
def test_the_longest_final_run_is_the_whole_one_once_it_is_done(
    status, shown, tmp_path, monkeypatch
):
    fifth = load_record(REPLICATION["fifth"], "final")
    whole = replace(fifth, plan=replace(fifth.plan, profile="report"), status=status)
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    assert numbers.fullest_final() == REPLICATION["fifth"]  # there is no whole one yet

    save_record(REPLICATION["report"], whole)
    assert numbers.fullest_final() == REPLICATION[shown]
