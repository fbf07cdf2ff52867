"""Experiments as jobs: one each, in the order that they need, on a Slurm cluster or in processes of this machine."""

import signal
import sys
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m2lib.files import InputError, first_line
from m2lib.series import SeriesSet, load_series
from m2lib.settings import out_dir
from m2lib.study.experiments import EXPERIMENTS
from m2lib.study.profiles import Profile
from m2lib.study.runs import is_finished, run

if TYPE_CHECKING:
    import submitit

AT_ONCE = 2
"""How many jobs run on this machine at a time: they share its cores and its memory."""
# The log holds what the progress bar prints: a line a minute of it, not ten a second.
DEFAULTS = {"timeout_min": 240, "stderr_to_stdout": True, "slurm_setup": ["export TQDM_MININTERVAL=60"]}
RESTARTS = 1000
"""How often a job that comes to its time limit is queued again; submitit would give up after three times."""


@dataclass(frozen=True)
class ExperimentJob:
    """What a job does: run one experiment, and when its time is up keep a checkpoint and queue up again.

    Slurm warns by SIGUSR2 before the limit; submitit's handler, which finds `checkpoint` here, asks for the requeue.
    SIGTERM stops the run too, but then Slurm itself queues it again (`scontrol requeue`) or does not (`scancel`).
    """

    name: str
    profile: Profile

    def __call__(self) -> None:
        import submitit

        warning = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
        queue_again: Any = signal.getsignal(warning)
        received = _stop_at(warning, signal.SIGTERM)
        try:
            run(self.name, self.profile)
        except KeyboardInterrupt:
            if warning in received:
                queue_again(warning, None)  # which ends this process
            sys.exit(f"{self.name} is stopped; it goes on from the last checkpoint or batch")

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """What is to be done after a requeue: the same, for the run goes on from its own checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit(
    names: Collection[str], cluster: str, options: Mapping[str, Any], profile: Profile
) -> Iterator[tuple[str, "submitit.Job[None]"]]:
    """Submit a job for each of the experiments, and of those that they build on, that is not finished yet.

    cluster: `slurm` or `local`. options: parameters of submitit's AutoExecutor. Yields each experiment's name and job.
    Slurm starts a job once those that it needs have succeeded. Processes of this machine have no queue: here `submit`
    itself waits, and comes to an end when all are done. Raises InputError for an option that cannot be, for what the
    cluster refuses, and for a job of this machine that failed.
    """
    executor, jobs = _executor(cluster, options), dict[str, "submitit.Job[None]"]()
    for name in unfinished(names, profile, load_series()):
        needed = {earlier: jobs[earlier] for earlier in EXPERIMENTS[name].earlier(profile) if earlier in jobs}
        if cluster == "local":
            _wait(jobs, needed, AT_ONCE - 1)
        executor.update_parameters(name=f"{profile.name}-{name}", slurm_additional_parameters=_order(needed))
        try:
            jobs[name] = executor.submit(ExperimentJob(name, profile))
        except RuntimeError as error:
            raise InputError(f"{cluster} did not take {name}: {first_line(error)}") from error
        yield name, jobs[name]
    if cluster == "local":
        _wait(jobs, jobs, 0)


def unfinished(names: Collection[str], profile: Profile, data: SeriesSet) -> list[str]:
    """The experiments that lack a finished record, of those named and those that they build on; what is needed first.

    Raises InputError for a record of another run, as `run` does.
    """
    wanted, left = set(names), list[str]()
    for name in reversed(EXPERIMENTS):  # which are declared in their order
        if name in wanted:
            wanted.update(EXPERIMENTS[name].earlier(profile))
    for name in EXPERIMENTS:
        # What builds on an unfinished one cannot be looked at, for its series are still to be chosen.
        needs = set(left) & set(EXPERIMENTS[name].earlier(profile))
        if name in wanted and (needs or not is_finished(name, profile, data)):
            left.append(name)
    return left


def _executor(cluster: str, options: Mapping[str, Any]) -> "submitit.AutoExecutor":
    try:
        import submitit
    except ImportError as error:
        raise InputError("submitit is not installed; `pip install submitit` brings it") from error
    if "slurm_time" in options:  # submitit, which counts timeouts, must know it as a number
        raise InputError("--cluster-option slurm_time: give the time limit as timeout_min=MINUTES")
    try:
        executor = submitit.AutoExecutor(
            out_dir() / "jobs", cluster=cluster, **{f"{cluster}_max_num_timeout": RESTARTS}
        )
        executor.update_parameters(**DEFAULTS | dict(options))
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"--cluster {cluster}: {first_line(error)}") from error
    return executor


def _order(needed: Mapping[str, "submitit.Job[None]"]) -> dict[str, Any]:
    """For Slurm: after the jobs that are needed, never if one of them fails, and requeued when a node fails.

    `singleton` makes a job wait for others of its name, so that giving the command twice does no harm.
    """
    after = ["singleton", *(f"afterok:{job.job_id}" for job in needed.values())]
    return {"dependency": ",".join(after), "kill-on-invalid-dep": "yes", "requeue": True}


def _wait(jobs: Mapping[str, "submitit.Job[None]"], needed: Mapping[str, "submitit.Job[None]"], most: int) -> None:
    """Wait until the needed jobs are done, which raises InputError if one failed, and at most so many are running."""
    while sum(not job.done() for job in jobs.values()) > most or not all(job.done() for job in needed.values()):
        time.sleep(0.1)
    for name, job in needed.items():
        if job.exception():
            log = job.paths.stdout
            reason = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            raise InputError(f"{name} failed: {reason}; its log is {log}")


def _stop_at(*signals: signal.Signals) -> list[int]:
    """From now on the first of these signals does what Ctrl-C does; the list holds all that have come."""
    received: list[int] = []

    def stop(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:
            signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the job with Ctrl-C ignored
    for each in signals:
        signal.signal(each, stop)
    return received
