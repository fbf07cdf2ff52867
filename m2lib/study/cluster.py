"""Experiments as jobs: one each, in the order that they need, on a Slurm cluster or in processes of this machine."""

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from m2lib.files import InputError, first_line
from m2lib.series import load_series
from m2lib.settings import out_dir
from m2lib.study.experiments import EXPERIMENTS
from m2lib.study.plans import unfinished
from m2lib.study.profiles import Profile
from m2lib.study.runs import run

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
    """What a job does: run one experiment. When its time is up, submitit queues it again, as `checkpoint` says."""

    name: str
    profile: Profile

    def __call__(self) -> None:
        run(self.name, self.profile)

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
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise InputError("submitit is not installed; `pip install submitit` brings it") from error
    jobs: dict[str, submitit.Job[None]] = {}
    try:
        executor = AutoExecutor(out_dir() / "jobs", cluster=cluster, **{f"{cluster}_max_num_timeout": RESTARTS})
        executor.update_parameters(**DEFAULTS | dict(options))
        for name in unfinished(names, profile, load_series()):
            needed = [jobs[earlier] for earlier in EXPERIMENTS[name].earlier(profile) if earlier in jobs]
            if cluster == "local":
                _wait(needed)
                while sum(not job.done() for job in jobs.values()) >= AT_ONCE:
                    time.sleep(0.1)
            # `singleton`: a job waits for others of its name, so that giving the command twice does no harm.
            after = ",".join(["singleton", *(f"afterok:{job.job_id}" for job in needed)])
            order = {"dependency": after, "kill-on-invalid-dep": "yes", "requeue": True}
            executor.update_parameters(name=f"{profile.name}-{name}", slurm_additional_parameters=order)
            jobs[name] = executor.submit(ExperimentJob(name, profile))
            yield name, jobs[name]
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"--cluster {cluster}: {first_line(error)}") from error
    if cluster == "local":
        _wait(jobs.values())


def _wait(jobs: "Collection[submitit.Job[None]]") -> None:
    """Until they are done. Raises InputError if one failed."""
    for job in jobs:
        if job.exception():
            log = job.paths.stdout
            reason = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            raise InputError(f"job {job.job_id} failed: {reason}; its log is {log}")
