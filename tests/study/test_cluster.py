"""Experiments as jobs of their own: their order, a job that is stopped, and a budget that they
share."""

import signal
import sys
import time
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
import torch

from m2lib.accounting import Shape, sum_costs
from m2lib.files import InputError
from m2lib.model import backbone_config
from study import cli
from study.costs import budget_of, estimate, workload
from study.experiments import EXPERIMENTS
from study.plans import earlier
from study.profiles import Profile
from study.records import adapter_path, load_record, record_path
from study.runs import run

SMALL = Profile(
    "laptop", "tiny", most_series=2, batch_size=2,
    train={"default": {"steps": 200, "sequence_length": 64}},
    protocol={name: {"max_new_tokens": 20} for name in ("baseline", "default", "untuned-test")},
    checkpoint_every=20, watched=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def settings(store, recipe_file, monkeypatch):
    monkeypatch.setenv("M2_DATA", str(recipe_file))
    # of the jobs; the same here, so that they compute the same
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def submitit():
    if not hasattr(signal, "SIGUSR2"):
        pytest.skip("submitit needs a Unix")
    return pytest.importorskip("submitit")


@pytest.fixture
def submit(submitit):
    from study.cluster import submit

    return submit


@pytest.fixture
def asked(submitit, monkeypatch):
    """What Slurm was told of each job."""
    asked = {}

    def take(executor, job, name, profile):
        asked[name] = dict(executor._executor.parameters)
        return submitit.SlurmJob(executor.folder, job_id=str(len(asked)))

    monkeypatch.setattr("submitit.slurm.slurm.SlurmExecutor.affinity", lambda *_: 1)
    monkeypatch.setattr(submitit.AutoExecutor, "submit", take)
    return asked


def test_what_is_needed_comes_first_and_what_is_finished_does_not_come(submit, asked, data):
    for name, experiment in EXPERIMENTS.items():
        assert all(
            list(EXPERIMENTS).index(one) < list(EXPERIMENTS).index(name)
            for one in earlier(experiment, SMALL)
        )
    run("baseline", SMALL, data=data)
    assert [name for name, _ in submit(["default", "baseline"], "slurm", {}, SMALL)] == ["default"]
    assert list(submit(["baseline"], "slurm", {}, SMALL)) == []


def test_slurm_is_told_the_order(submit, asked):
    jobs = dict(submit(["search/second_0"], "slurm", {"gpus_per_node": 1}, SMALL))
    assert list(jobs) == [
        "baseline",
        "default",
        *(f"search/expt_{i}" for i in range(9)),
        "search/second_0",
    ]
    for name, parameters in asked.items():
        needed = [f"afterok:{jobs[one].job_id}" for one in earlier(EXPERIMENTS[name], SMALL)]
        more = parameters["additional_parameters"]
        assert sorted(more["dependency"].split(",")) == sorted([*needed, "singleton"])
        assert (parameters["job_name"], parameters["gpus_per_node"]) == (f"laptop-{name}", 1)
        assert (more["kill-on-invalid-dep"], more["requeue"]) == ("yes", True)


def until(job, true):
    """Wait for what a record will say of a job."""
    while True:
        with suppress(InputError):  # there is no record yet
            if true():
                return
        assert not job.done(), job.stdout()
        time.sleep(0.01)


def test_in_order_and_stopped_and_queued_again_they_end_as_alone(submit, data):
    """The second job starts when the first has its record; in its training it is warned as before a
    time limit."""
    adapter = adapter_path(SMALL, "default") / "adapter_model.safetensors"
    steps = SMALL.train["default"]["steps"]
    for name, job in submit(["default"], "local", {}, SMALL):
        if name == "default":
            assert load_record(SMALL, "baseline").status == "done"
            until(job, lambda: len(load_record(SMALL, "default").loss_curve) > 1)
            psutil.Process(int(job.job_id)).children()[0].send_signal(signal.SIGUSR2)
    record = load_record(SMALL, "default")
    trained = adapter.read_bytes()
    assert job.stdout().count("Starting with JobEnvironment") == 2
    assert record.status == "done"
    assert record.steps_run >= steps  # those after its last checkpoint were taken again
    assert list(submit(["default"], "local", {}, SMALL)) == []
    alone = run("default", SMALL, data=data, fresh=True)
    assert (alone.loss_curve, alone.maes(), adapter.read_bytes()) == (
        record.loss_curve,
        record.maes(),
        trained,
    )


def test_a_job_that_fails_says_where_its_log_is(submit, data):
    """The second one is refused: the budget is enough for either, and not for both."""
    names = ["baseline", "untuned-test"]
    shape = Shape.of(backbone_config("tiny"))
    tight = replace(
        SMALL,
        budget=max(
            sum_costs(*estimate(workload(EXPERIMENTS[name], SMALL), shape).values())["coursework"]
            for name in names
        ),
    )
    with pytest.raises(InputError, match=r"job \d+ failed; its log is /"):
        list(submit(names, "local", {}, tight))
    assert not record_path(tight, "untuned-test").exists()
    assert 0 < budget_of(tight).spent <= tight.budget


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--cluster", "local", "--cluster-option", "slurm_purtition=gpu"],
            "Unknown argument 'purtition' for",
        ),
        (["--cluster", "local", "--cluster-option", "timeout_min=soon"], "timeout_min"),
        (["--cluster", "local", "--fresh"], "--fresh and --reforecast run here, without --cluster"),
    ],
)
def test_an_option_that_cannot_be_is_one_line(submitit, words, message, capsys):
    assert cli.main(["run", "baseline", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_without_submitit_one_line_says_what_brings_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "submitit", None)
    monkeypatch.delitem(sys.modules, "study.cluster", raising=False)
    assert cli.main(["run", "--all", "--cluster", "local"]) == 1
    assert "`pip install submitit` brings it" in capsys.readouterr().err
