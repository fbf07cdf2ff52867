"""A run that is killed before any one of its file operations, and processes that want the same run at once."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import replace

import pytest
import torch

from m2lib import training
from m2lib.files import InputError
from m2lib.study.profiles import Profile
from m2lib.study.records import load_record
from m2lib.study.runs import run
from m2lib.study.runs import adapter_hash, adapter_path

SMALL = Profile(
    "laptop",
    "tiny",
    series=3,
    batch_size=2,
    live=False,
    train={"default-warm": {"steps": 4, "sequence_length": 64}},
    protocol={"default-warm": {"constrained": False, "max_new_tokens": 20}},
    checkpoint_every=1,
    watched=1,
)
NAME = "default-warm"
CHANGING = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate"}
APART = {"seconds": 0, "train_seconds": 0, "evaluation_seconds": 0, "steps_run": 0, "flops": {}, "run": ""}

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system cannot kill a process outright")


@pytest.fixture(scope="module")
def context():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["m2lib.training.loop", "m2lib.study.runs", "m2lib.forecasting.generation", "scipy"])
    return context


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes that are killed: a run goes on only where it was begun."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settle(folder):
    torch.set_num_threads(1)
    os.environ |= {"M2_RESULTS": str(folder / "results"), "M2_OUT": str(folder / "build")}
    os.environ |= {"M2_DTYPE": "float32", "M2_DEVICE": "cpu"}


def run_until(folder, data, fresh, kill_at, report=None):
    """Run the experiment; die just before the so-many-th operation that changes a file below the folder."""
    settle(folder)
    seen = []

    def watch(event, arguments):
        writing = event == "open" and arguments[2] and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if (writing or event in CHANGING) and str(folder) in str(arguments[0]):
            seen.append(event)
            if len(seen) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    run(NAME, SMALL, data=data, fresh=fresh)
    if report:
        report.write_text(str(len(seen)), encoding="utf-8")


@pytest.fixture(scope="module")
def finished(context, data, tmp_path_factory):
    """A folder with the finished run, and how many file operations it took, at first and afresh."""
    folder = tmp_path_factory.mktemp("finished")
    report = tmp_path_factory.mktemp("report") / "operations"
    operations = {}
    for fresh in (False, True):
        child = context.Process(target=run_until, args=(folder, data, fresh, 0, report))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        operations[fresh] = int(report.read_text(encoding="utf-8"))
    return folder, operations


def kill_and_resume(context, data, tmp_path, monkeypatch, finished, fresh, kill_at):
    """What is left by a run that is killed there, and what a second run makes of it."""
    if fresh:
        shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    child = context.Process(target=run_until, args=(tmp_path, data, fresh, kill_at))
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    for name, folder in (("M2_RESULTS", "results"), ("M2_OUT", "build")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("M2_DTYPE", "float32")
    monkeypatch.setenv("M2_DEVICE", "cpu")
    if fresh:  # whatever happens, a record stands, and none of its spending is forgotten
        assert load_record(SMALL, NAME, data).spent()["coursework"] > 0
    resumed = run(NAME, SMALL, data=data)
    monkeypatch.setenv("M2_RESULTS", str(finished[0] / "results"))
    unbroken = load_record(SMALL, NAME)
    monkeypatch.setenv("M2_RESULTS", str(tmp_path / "results"))
    assert replace(resumed, **APART) == replace(unbroken, **APART)
    assert load_record(SMALL, NAME, data) == resumed
    assert adapter_hash(adapter_path(SMALL, NAME)) == resumed.adapter
    assert resumed.steps_run >= 4
    once = unbroken.flops["training"]["coursework"] // unbroken.steps_run
    assert resumed.flops["training"]["coursework"] == resumed.steps_run * once
    assert resumed.flops["reserved"] == dict.fromkeys(resumed.flops["reserved"], 0)
    # What a killed write left is swept when a run begins; where the finished record still stood, none did.
    assert resumed.run == unbroken.run or not list(tmp_path.rglob(".*.tmp"))


@pytest.mark.parametrize("fresh", [False, True])
def test_killed_before_a_file_operation(context, data, tmp_path, monkeypatch, finished, fresh):
    most = finished[1][fresh]
    for number, kill_at in enumerate(sorted(random.sample(range(1, most + 1), 3))):
        print(f"killed before operation {kill_at} of {most}")
        kill_and_resume(context, data, tmp_path / str(number), monkeypatch, finished, fresh, kill_at)


@pytest.mark.fuzz
@pytest.mark.parametrize("fresh", [False, True])
def test_killed_before_every_file_operation(context, data, tmp_path, monkeypatch, finished, fresh):
    most = finished[1][fresh]
    print(f"{most} operations")
    for kill_at in range(1, most + 1):
        kill_and_resume(context, data, tmp_path / str(kill_at), monkeypatch, finished, fresh, kill_at)


def ask(folder, data, number, delay):
    """One of several processes; how many training steps it computed, and how it ended, go into a file of its own."""
    settle(folder)
    time.sleep(delay)
    computed, real = [], training.loop.window_loss

    def window_loss(model, *arguments):
        computed.append(torch.is_grad_enabled())
        return real(model, *arguments)

    training.loop.window_loss = window_loss
    try:
        outcome = run(NAME, SMALL, data=data).status
    except InputError as error:
        outcome = str(error)
    (folder / f"process-{number}.json").write_text(json.dumps([outcome, sum(computed)]), encoding="utf-8")


def ask_together(context, data, folder, monkeypatch, count):
    folder.mkdir()
    delays = [random.uniform(0, 1.5) for _ in range(count)]
    children = [context.Process(target=ask, args=(folder, data, i, delay)) for i, delay in enumerate(delays)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    ends = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("process-*.json"))]
    assert len(ends) == count, delays
    monkeypatch.setenv("M2_RESULTS", str(folder / "results"))
    record = load_record(SMALL, NAME, data)
    assert (record.status, len(record.series), len(record.loss_curve)) == ("done", 3, 4), (delays, ends)
    assert record.steps_run == sum(steps for _, steps in ends) == 4, (delays, ends)
    assert sum(steps > 0 for _, steps in ends) == 1, (delays, ends)
    told = [outcome for outcome, _ in ends if outcome != "done"]
    assert all("is being made by another process; wait for it" in outcome for outcome in told), ends


def test_of_several_processes_one_computes(context, data, tmp_path, monkeypatch):
    ask_together(context, data, tmp_path / "four", monkeypatch, 4)


@pytest.mark.fuzz
def test_of_several_processes_one_computes_each_time(context, data, tmp_path, monkeypatch):
    for number in range(20):
        ask_together(context, data, tmp_path / str(number), monkeypatch, (2, 4, 8)[number % 3])
