"""The benchmark of waiting threads: its table stands in the book."""

from benchmarks.threads import NEIGHBOURS, threads_table, typical
from m2lib.files import ROOT, read_json
from pages import text_of


def test_a_turn_that_was_given_up_leaves_no_typical_time():
    assert typical([1.0, 3.0, 2.0]) == 2.0
    assert typical([1.0, None, 2.0]) is None


def test_the_page_on_speed_has_the_measured_table():
    rows = read_json(ROOT / "benchmarks" / "results" / "threads.json")["rows"]

    assert {row["neighbour"] for row in rows} == set(NEIGHBOURS)
    assert threads_table(rows) in text_of("book/speed.md")
