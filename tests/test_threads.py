"""How threads wait is said before torch is loaded, and never against the user's will."""

import os
import subprocess
import sys

import pytest

from benchmarks.threads import NEIGHBOURS, threads_table
from m2lib.files import ROOT, read_json
from m2lib.threads import LOOKS, SAID_BY_THE_USER

SHOW = """
import os, sys
import m2lib
print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("said", "then"),
    [
        ({}, f"{LOOKS} None False"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None ACTIVE False"),
        ({"GOMP_SPINCOUNT": "7"}, "7 None False"),
    ],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_how_they_wait(said, then):
    others = {name: value for name, value in os.environ.items() if name not in SAID_BY_THE_USER}
    shown = subprocess.run(
        [sys.executable, "-c", SHOW], env=others | said, capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == then


def test_the_page_has_the_measured_table():
    rows = read_json(ROOT / "benchmarks" / "results" / "threads.json")["rows"]
    page = (ROOT / "book" / "speed.md").read_text(encoding="utf-8")
    assert {row["neighbour"] for row in rows} == set(NEIGHBOURS)
    assert threads_table(rows) in page
