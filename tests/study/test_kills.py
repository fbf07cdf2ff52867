"""A run that is killed just before one of its file operations: it goes on, and nothing is lost."""

import multiprocessing
import os
import shutil
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from m2lib.model import adapter_hash
from m2lib.series import SeriesSet
from study.profiles import Profile
from study.records import adapter_path, load_record
from study.runs import run

NAME = "default-warm"
STEPS = 4
SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=3,
    batch_size=2,
    train={NAME: {"steps": STEPS, "sequence_length": 64}},
    protocol={NAME: {"constrained": False, "max_new_tokens": 20}},
    checkpoint_every=1,
    watched=1,
)
CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "os.link",
    "os.symlink",
    "os.truncate",
}
"""The events of Python's audit hooks that change a file, beside those that open one to write."""
MAY_DIFFER = {
    "seconds": 0,
    "train_seconds": 0,
    "evaluation_seconds": 0,
    "steps_run": 0,
    "run": "",
}
"""What may differ between a run that was killed and an unbroken one, set to the same."""

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process outright"
)


def run_until(folder, data, fresh, kill_at, report=None):
    """Run the experiment, and die just before the `kill_at`-th operation that changes a file.

    Operations on files below the folder are counted, and their number is written into `report` at
    the end. With a `kill_at` of 0 the run comes to its end. This is what a process of its own does.
    """
    torch.set_num_threads(1)
    os.environ["M2_RESULTS"] = str(folder / "results")
    os.environ["M2_OUT"] = str(folder / "build")
    os.environ["M2_DTYPE"] = "float32"
    os.environ["M2_DEVICE"] = "cpu"
    operations = 0

    def watch(event, arguments):
        nonlocal operations
        changes = event in CHANGES
        if event == "open":
            _, _, flags = arguments
            changes = bool(flags and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        if changes and str(folder) in str(arguments[0]):
            operations += 1
            if operations == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run(NAME, SMALL, data=data, fresh=fresh)
    if report:
        report.write_text(str(operations), encoding="utf-8")


@pytest.mark.parametrize("fresh", [False, True], ids=["first run", "run that replaces a record"])
def test_a_run_that_is_killed_and_gone_on_with_ends_as_an_unbroken_one(
    data, tmp_path, monkeypatch, fresh
):
    # Each process writes all of the training series as text first, so a few are enough.
    data = SeriesSet(data.trajectories[:40], data.time, "forty")
    # The system libraries of macOS, which numpy and torch compute with, may crash after a fork.
    method = "spawn" if sys.platform == "darwin" else "forkserver"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(["study.runs", "scipy"])

    def exit_status(*arguments):
        """Run the experiment in a process of its own, and return its exit status."""
        process = context.Process(target=run_until, args=arguments)
        process.start()
        process.join(600)  # so long only if it hangs
        return process.exitcode

    # An unbroken run says how many operations there are, and what a run ends with.
    whole = tmp_path / "whole"
    report = tmp_path / "operations"
    if fresh:
        assert exit_status(whole, data, False, 0) == 0
        shutil.copytree(whole, tmp_path / "before")
    assert exit_status(whole, data, fresh, 0, report) == 0
    operations = int(report.read_text(encoding="utf-8"))
    monkeypatch.setenv("M2_RESULTS", str(whole / "results"))
    unbroken = load_record(SMALL, NAME)
    flops_of_step = unbroken.flops["training"]["coursework"] // unbroken.steps_run

    # From the first operation to the last, at even distances, and at other places each time that
    # the number of operations changes.
    for kill_at in np.linspace(1, operations, 6).round().astype(int).tolist():
        print(f"killed before operation {kill_at} of {operations}")
        folder = tmp_path / str(kill_at)
        if fresh:
            shutil.copytree(tmp_path / "before", folder)
        assert exit_status(folder, data, fresh, kill_at) == -signal.SIGKILL
        monkeypatch.setenv("M2_RESULTS", str(folder / "results"))
        if fresh:  # whatever happens, a record stands, and none of its spending is forgotten
            assert load_record(SMALL, NAME, data).spent()["coursework"] > 0

        assert exit_status(folder, data, False, 0) == 0
        resumed = load_record(SMALL, NAME, data)
        same_flops = MAY_DIFFER | {"flops": unbroken.flops}
        assert replace(resumed, **same_flops) == replace(unbroken, **same_flops)
        assert adapter_hash(adapter_path(SMALL, NAME)) == resumed.adapter

        # Each step that was computed is paid for, those that were taken again twice.
        assert resumed.steps_run >= STEPS
        assert resumed.flops["training"]["coursework"] == resumed.steps_run * flops_of_step
        assert set(resumed.flops["reserved"].values()) == {0}
