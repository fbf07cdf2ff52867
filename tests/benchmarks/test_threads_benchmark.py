"""The benchmark of waiting threads: its table stands in the book."""

import os
import subprocess
import sys

from benchmarks.threads import NEIGHBOURS, threads_table, typical
from m2lib.files import ROOT, read_json
from m2lib.threads import LOOKS, SAID_BY_THE_USER
from pages import text_of

SHOW_AFTER_IMPORT = """
import os, sys
import benchmarks
print(os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules)
"""


def test_in_every_benchmark_waiting_threads_sleep_as_soon_as_for_a_user():
    others = {name: value for name, value in os.environ.items() if name not in SAID_BY_THE_USER}

    finished = subprocess.run(
        [sys.executable, "-c", SHOW_AFTER_IMPORT],
        cwd=ROOT,
        env=others,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )

    # It has to be said before torch is loaded.
    assert finished.stdout.strip() == f"{LOOKS} False"


def test_a_turn_that_was_given_up_leaves_no_typical_time():
    assert typical([1.0, 3.0, 2.0]) == 2.0
    assert typical([1.0, None, 2.0]) is None


def test_the_page_on_speed_has_the_measured_table():
    rows = read_json(ROOT / "benchmarks" / "results" / "threads.json")["rows"]

    assert {row["neighbour"] for row in rows} == set(NEIGHBOURS)
    assert threads_table(rows) in text_of("book/speed.md")
