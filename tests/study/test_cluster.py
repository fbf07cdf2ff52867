"""Experiments as jobs of their own: their order, a job that is stopped, and a shared budget."""

import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
import torch

from m2lib.errors import InputError
from study import cli
from study.costs import budget_of
from study.experiments import EXPERIMENTS
from study.plans import earlier
from study.profiles import Profile
from study.records import adapter_path, load_record, record_path
from study.runs import run

STEPS = 200
"""Training steps, so many that a job can be stopped while it trains."""
SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=2,
    batch_size=2,
    train={"default": {"steps": STEPS, "sequence_length": 64}},
    protocol={name: {"max_new_tokens": 20} for name in ("baseline", "default", "untuned-test")},
    checkpoint_every=20,
    watched=0,
)


@pytest.fixture(autouse=True)
def surroundings(store, recipe_file, monkeypatch):
    """Use one thread here and in the jobs, so that both compute the same numbers."""
    monkeypatch.setenv("M2_DATA", str(recipe_file))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def submitit():
    """Return the package that submits jobs; without it a test is skipped."""
    if not hasattr(signal, "SIGUSR2"):
        pytest.skip("submitit needs a Unix")
    return pytest.importorskip("submitit")


@pytest.fixture
def submit(submitit):
    """Return `study.cluster.submit`, which cannot be imported without submitit."""
    from study.cluster import submit

    return submit


@pytest.fixture
def told_slurm(submitit, monkeypatch):
    """Return what Slurm is told of each job, by experiment; there is no Slurm, and no job starts.

    The jobs have the ids 1, 2, ...
    """
    told = {}

    def submit_nothing(executor, job, name, profile):
        told[name] = dict(executor._executor.parameters)
        return submitit.SlurmJob(executor.folder, job_id=str(len(told)))

    # How well Slurm suits this machine: 1 is well enough, although there is none.
    monkeypatch.setattr("submitit.slurm.slurm.SlurmExecutor.affinity", lambda *_: 1)
    monkeypatch.setattr(submitit.AutoExecutor, "submit", submit_nothing)
    return told


def test_what_is_finished_is_not_submitted(submit, told_slurm, data):
    run("baseline", SMALL, data=data)
    submitted = [name for name, _ in submit(["default", "baseline"], "slurm", {}, SMALL)]
    assert submitted == ["default"]
    assert list(submit(["baseline"], "slurm", {}, SMALL)) == []


def test_what_an_experiment_needs_is_submitted_before_it(submit, told_slurm):
    submitted = [name for name, _ in submit(["search/second_0"], "slurm", {}, SMALL)]
    first_round = [f"search/expt_{i}" for i in range(9)]
    assert submitted == ["baseline", "default", *first_round, "search/second_0"]


def test_slurm_is_told_what_each_job_waits_for(submit, told_slurm):
    jobs = dict(submit(["search/second_0"], "slurm", {"gpus_per_node": 1}, SMALL))
    assert jobs.keys() == told_slurm.keys()
    for name, parameters in told_slurm.items():
        assert parameters["job_name"] == f"laptop-{name}"
        assert parameters["gpus_per_node"] == 1

        order = parameters["additional_parameters"]
        needed = [f"afterok:{jobs[other].job_id}" for other in earlier(EXPERIMENTS[name], SMALL)]
        assert sorted(order["dependency"].split(",")) == sorted([*needed, "singleton"])
        assert order["kill-on-invalid-dep"] == "yes"
        assert order["requeue"] is True


def wait_for_training(job):
    """Wait until a job has recorded more than one training step of `default`."""
    while True:
        with suppress(InputError):  # there is no record yet
            if len(load_record(SMALL, "default").loss_curve) > 1:
                return
        assert not job.done(), job.stdout()
        time.sleep(0.01)


def test_a_job_that_is_stopped_and_queued_again_ends_as_a_run_that_is_not(submit, data):
    adapter = adapter_path(SMALL, "default") / "adapter_model.safetensors"
    for name, job in submit(["default"], "local", {}, SMALL):
        if name == "default":
            # It is submitted only when the job that it needs has ended.
            assert load_record(SMALL, "baseline").status == "done"
            wait_for_training(job)
            # The job's id is that of the process which watches over it.
            process = psutil.Process(int(job.job_id)).children()[0]
            process.send_signal(signal.SIGUSR2)  # as Slurm warns before a time limit
    assert job.stdout().count("Starting with JobEnvironment") == 2
    queued = load_record(SMALL, "default")
    trained = adapter.read_bytes()
    assert queued.status == "done"
    assert queued.steps_run >= STEPS  # those after its last checkpoint were taken again
    assert list(submit(["default"], "local", {}, SMALL)) == []

    alone = run("default", SMALL, data=data, fresh=True)
    assert alone.loss_curve == queued.loss_curve
    assert alone.maes() == queued.maes()
    assert adapter.read_bytes() == trained


def test_a_job_that_fails_says_where_its_log_is(submit, most_flops):
    # The second job is refused, because the budget is enough for either, and not for both.
    names = ["baseline", "untuned-test"]
    enough_for_one = max(most_flops(name, SMALL)["coursework"] for name in names)
    tight = replace(SMALL, budget=enough_for_one)

    with pytest.raises(InputError, match=r"job \d+ failed; its log is /"):
        list(submit(names, "local", {}, tight))
    assert not record_path(tight, "untuned-test").exists()
    assert 0 < budget_of(tight).spent <= tight.budget


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            "--cluster-option slurm_purtition=gpu",
            "Unknown argument 'purtition' for",
            id="a name that submitit does not know",
        ),
        pytest.param("--cluster-option timeout_min=soon", "timeout_min", id="no number"),
        pytest.param("--cluster-option gpus_per_node", "give KEY=VALUE", id="no value"),
        pytest.param(
            "--fresh",
            "--fresh runs here, without --cluster",
            id="an option of runs here",
        ),
    ],
)
def test_an_option_that_cannot_be_is_one_line(submitit, options, message, capsys):
    line = f"run baseline --cluster local {options}"
    assert cli.main(line.split()) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_submitit_one_line_says_what_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "study.cluster", raising=False)
    assert cli.main(["run", "--all", "--cluster", "local"]) == 1
    assert "`pip install submitit` brings it" in capsys.readouterr().err
