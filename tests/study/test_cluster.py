"""Experiments as jobs of their own: their order, a job that is stopped, and a budget that they share."""

import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
import torch

from m2lib import cli
from m2lib.accounting import Shape
from m2lib.files import InputError
from m2lib.model import backbone_config
from m2lib.study import cluster
from m2lib.study.costs import budget_of
from m2lib.study.cluster import AT_ONCE, submit, unfinished
from m2lib.study.costs import estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS
from m2lib.study.profiles import Profile
from m2lib.study.records import load_record, record_path
from m2lib.study.runs import run
from m2lib.study.runs import adapter_path

SMALL = Profile(
    "laptop",
    "tiny",
    series=2,
    batch_size=2,
    live=False,
    train={"default": {"steps": 300, "sequence_length": 64}},
    protocol={name: {"max_new_tokens": 20} for name in ("baseline", "default", "untuned-test")},
    checkpoint_every=1000,
    watched=0,
)

on_submitit = pytest.mark.usefixtures("jobs")


@pytest.fixture(autouse=True)
def settings(store, recipe_file, monkeypatch):
    monkeypatch.setenv("M2_DATA", str(recipe_file))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of the jobs; the same here, so that they compute the same
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def jobs():
    """Skips where there is no submitit, or nothing that it could warn a job by."""
    pytest.importorskip("submitit")
    if not hasattr(signal, "SIGUSR2"):
        pytest.skip("submitit needs a Unix")


def test_what_is_needed_comes_first(data):
    wanted = ["search/second_1", "final"]
    left = unfinished(wanted, SMALL, data)
    assert set(left) == {"baseline", "default", *(f"search/expt_{i}" for i in range(9)), *wanted}
    for name, experiment in EXPERIMENTS.items():
        assert all(list(EXPERIMENTS).index(one) < list(EXPERIMENTS).index(name) for one in experiment.earlier(SMALL))
    run("baseline", SMALL, data=data)
    assert unfinished(["baseline", "default"], SMALL, data) == ["default"]
    assert unfinished(["baseline"], SMALL, data) == []


class Executor:
    """Instead of submitit's: takes down what it is asked, and has no job done before it is asked twice."""

    def __init__(self):
        self.asked, self.parameters = [], {}

    def update_parameters(self, **parameters):
        self.parameters |= parameters

    def submit(self, job):
        running = [other for other in self.asked if other.looks < 2]
        self.asked.append(Job(str(len(self.asked)), job.name, dict(self.parameters), len(running)))
        return self.asked[-1]


class Job:
    def __init__(self, job_id, name, parameters, running):
        self.job_id, self.name, self.parameters, self.running, self.looks = job_id, name, parameters, running, 0

    def done(self):
        self.looks += 1
        return self.looks > 2

    def exception(self):
        return None


@pytest.fixture
def executor(monkeypatch):
    executor = Executor()
    monkeypatch.setattr(cluster, "_executor", lambda *_: executor)
    monkeypatch.setattr(cluster.time, "sleep", lambda _: None)
    return executor


def test_slurm_is_told_the_order(executor):
    jobs = dict(submit(["search/second_0"], "slurm", {}, SMALL))
    assert list(jobs) == ["baseline", "default", *(f"search/expt_{i}" for i in range(9)), "search/second_0"]
    for name, job in jobs.items():
        needed = [f"afterok:{jobs[earlier].job_id}" for earlier in EXPERIMENTS[name].earlier(SMALL)]
        asked = job.parameters["slurm_additional_parameters"]
        assert sorted(asked["dependency"].split(",")) == sorted([*needed, "singleton"])
        assert (job.parameters["name"], asked["kill-on-invalid-dep"]) == (f"laptop-{name}", "yes")
        assert job.looks == 0  # nothing waits for a queue


def test_on_this_machine_few_run_at_a_time_and_in_order(executor):
    jobs = dict(submit(["search/second_0"], "local", {}, SMALL))
    assert max(job.running for job in jobs.values()) == AT_ONCE - 1
    assert [jobs[name].running for name in ("baseline", "default", "search/expt_0", "search/second_0")] == [0] * 4
    assert all(job.done() for job in jobs.values())


def until(job, true):
    """Wait for what a record will say of a job."""
    while True:
        with suppress(InputError):  # there is no record yet
            if true():
                return
        assert not job.done(), job.stdout()
        time.sleep(0.01)


@on_submitit
def test_in_order_and_stopped_and_queued_again_they_end_as_alone(data):
    """The second job starts when the first has its record; in its training it is warned as before a time limit."""
    adapter, steps = adapter_path(SMALL, "default") / "adapter_model.safetensors", SMALL.train["default"]["steps"]
    for name, job in submit(["default"], "local", {}, SMALL):
        if name == "default":
            assert load_record(SMALL, "baseline").status == "done"
            until(job, lambda: load_record(SMALL, "default").loss_curve)
            psutil.Process(int(job.job_id)).children()[0].send_signal(signal.SIGUSR2)
            until(job, lambda: load_record(SMALL, "default").status == "aborted")
            assert 1 < len(load_record(SMALL, "default").loss_curve) < steps  # it kept what it had come to
    record, trained = load_record(SMALL, "default"), adapter.read_bytes()
    assert job.stdout().count("Starting with JobEnvironment") == 2
    assert (record.status, record.steps_run) == ("done", steps)
    assert list(submit(["default"], "local", {}, SMALL)) == []
    alone = run("default", SMALL, data=data, fresh=True)
    assert (alone.loss_curve, alone.maes(), adapter.read_bytes()) == (record.loss_curve, record.maes(), trained)


def test_only_the_first_signal_stops_a_run():
    """The second, which comes when Slurm takes the job away, must not cut its last step in half."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    received = cluster._stop_at(signal.SIGTERM)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert received == [signal.SIGTERM] * 2
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@on_submitit
def test_two_at_once_do_not_pass_the_budget_together(data):
    """It is enough for either: one is done, the other refused before it spends anything."""
    names = ["baseline", "untuned-test"]
    shape = Shape.of(backbone_config("tiny"))
    needs = [sum_costs(*estimate(EXPERIMENTS[name], SMALL, shape).values())["coursework"] for name in names]
    tight = replace(SMALL, budget=max(needs))
    with pytest.raises(InputError, match=r"(baseline|untuned-test) failed: .*may need .* FLOPs .*; its log is /"):
        list(submit(names, "local", {}, tight))
    done = [name for name in names if record_path(tight, name).exists()]
    assert [load_record(tight, name).status for name in done] == ["done"]
    assert 0 < budget_of(tight).spent <= tight.budget


@on_submitit
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["local", "--cluster-option", "slurm_purtition=gpu"], "Unknown argument 'purtition' for executor 'slurm'"),
        (["local", "--cluster-option", "timeout_min=soon"], "timeout_min"),
        (["local", "--cluster-option", "slurm_time=1-0"], "give the time limit as timeout_min=MINUTES"),
        (["local", "--fresh"], "--fresh runs here, without --cluster"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(words, message, capsys):
    assert cli.main(["run", "baseline", "--cluster", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_option_of_no_cluster_is_refused(capsys):
    assert cli.main(["run", "baseline", "--cluster-option", "timeout_min=5"]) == 1
    assert "name it with --cluster" in capsys.readouterr().err


def test_without_submitit_one_line_says_what_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert cli.main(["run", "--all", "--cluster", "local"]) == 1
    assert "`pip install submitit` brings it" in capsys.readouterr().err


def test_an_option_without_a_value(capsys):
    assert cli.main(["run", "baseline", "--cluster", "local", "--cluster-option", "timeout_min"]) == 1
    assert "timeout_min is not KEY=VALUE" in capsys.readouterr().err
