"""How threads wait is said before torch is loaded, and never against the user's will."""

import os
import subprocess
import sys

import pytest

from m2lib.files import ROOT
from m2lib.threads import LOOKS, SAID_BY_THE_USER

SHOW_AFTER_IMPORT = """
import os, sys
import {package}
print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("package", "said_by_the_user", "after_import"),
    [
        pytest.param("m2lib", {}, f"{LOOKS} None False", id="nothing"),
        pytest.param("m2lib", {"OMP_WAIT_POLICY": "ACTIVE"}, "None ACTIVE False", id="a policy"),
        pytest.param("m2lib", {"GOMP_SPINCOUNT": "7"}, "7 None False", id="a number of looks"),
        # Its modules load torch before they load m2lib.
        pytest.param("benchmarks", {}, f"{LOOKS} None False", id="nothing, in a benchmark"),
    ],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_how_they_wait(
    package, said_by_the_user, after_import
):
    # Without the variables of this process, in which m2lib has been imported already.
    others = {name: value for name, value in os.environ.items() if name not in SAID_BY_THE_USER}

    finished = subprocess.run(
        [sys.executable, "-c", SHOW_AFTER_IMPORT.format(package=package)],
        cwd=ROOT,
        env=others | said_by_the_user,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )

    assert finished.stdout.strip() == after_import
