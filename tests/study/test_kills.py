"""A run that is killed before one of its file operations, and gone on with."""

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

SMALL = Profile(
    "laptop", "tiny", most_series=3, batch_size=2,
    train={"default-warm": {"steps": 4, "sequence_length": 64}},
    protocol={"default-warm": {"constrained": False, "max_new_tokens": 20}},
    checkpoint_every=1, watched=1,
)  # fmt: skip
NAME = "default-warm"
CHANGING = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "os.link",
    "os.symlink",
    "os.truncate",
}
APART = {"seconds": 0, "train_seconds": 0, "evaluation_seconds": 0, "steps_run": 0, "run": ""}

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process outright"
)


def settle(folder):
    torch.set_num_threads(1)
    os.environ |= {"M2_RESULTS": str(folder / "results"), "M2_OUT": str(folder / "build")}
    os.environ |= {"M2_DTYPE": "float32", "M2_DEVICE": "cpu"}


def run_until(folder, data, fresh, kill_at, report=None):
    """Run the experiment, and die just before the `kill_at`-th operation that changes a file.

    Counted are operations below the folder; with 0 the run ends by itself.
    """
    settle(folder)
    seen = []

    def watch(event, arguments):
        writing = (
            event == "open"
            and arguments[2]
            and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        )
        if (writing or event in CHANGING) and str(folder) in str(arguments[0]):
            seen.append(event)
            if len(seen) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run(NAME, SMALL, data=data, fresh=fresh)
    if report:
        report.write_text(str(len(seen)), encoding="utf-8")


@pytest.mark.parametrize("fresh", [False, True])
def test_killed_before_a_file_operation_it_ends_as_unbroken(data, tmp_path, monkeypatch, fresh):
    # Each process writes all of the training series as text first, so a few are enough.
    data = SeriesSet(data.trajectories[:40], data.time, "forty")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["study.runs", "scipy"])

    def start(*arguments):
        child = context.Process(target=run_until, args=arguments)
        child.start()
        child.join(60)
        return child.exitcode

    whole = tmp_path / "whole"
    report = tmp_path / "operations"
    if fresh:
        assert start(whole, data, False, 0) == 0
        shutil.copytree(whole, tmp_path / "before")
    assert start(whole, data, fresh, 0, report) == 0
    most = int(report.read_text(encoding="utf-8"))
    monkeypatch.setenv("M2_RESULTS", str(whole / "results"))
    unbroken = load_record(SMALL, NAME)
    # From the first operation to the last, at even distances, and at other places each time that
    # the number of operations changes.
    for kill_at in np.linspace(1, most, 6).round().astype(int).tolist():
        print(f"killed before operation {kill_at} of {most}")
        folder = tmp_path / str(kill_at)
        if fresh:
            shutil.copytree(tmp_path / "before", folder)
        assert start(folder, data, fresh, kill_at) == -signal.SIGKILL
        monkeypatch.setenv("M2_RESULTS", str(folder / "results"))
        if fresh:  # whatever happens, a record stands, and none of its spending is forgotten
            assert load_record(SMALL, NAME, data).spent()["coursework"] > 0
        assert start(folder, data, False, 0) == 0
        resumed = load_record(SMALL, NAME, data)
        assert replace(resumed, **APART, flops=unbroken.flops) == replace(unbroken, **APART)
        assert adapter_hash(adapter_path(SMALL, NAME)) == resumed.adapter
        once = unbroken.flops["training"]["coursework"] // unbroken.steps_run
        assert resumed.flops["training"]["coursework"] == resumed.steps_run * once >= 4 * once
        assert resumed.flops["reserved"] == dict.fromkeys(resumed.flops["reserved"], 0)
