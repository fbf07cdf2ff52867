"""Experiments as jobs, one each, in the order that they need.

They run on a Slurm cluster, or in processes of this machine.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from submitit import AutoExecutor, Job
from submitit.helpers import Checkpointable

from m2lib.errors import InputError, first_line
from m2lib.series import load_series
from study.experiments import EXPERIMENTS
from study.plans import earlier, plan_run
from study.profiles import Profile
from study.records import finished_record_of
from study.runs import run
from study.settings import out_dir

# The log holds what the progress bar prints: a line a minute of it, not ten a second.
DEFAULTS = {
    "timeout_min": 240,
    "stderr_to_stdout": True,
    "slurm_setup": ["export TQDM_MININTERVAL=60"],
}


class ExperimentJob(Checkpointable):
    """What a job does: run one experiment.

    Queued again, it does the same, and the run goes on from its checkpoint.
    """

    def __call__(self, name: str, profile: Profile) -> None:
        """Run it."""
        run(name, profile)


def _with_earlier(names: Collection[str], profile: Profile) -> set[str]:
    """Return the names of experiments, and of all that these build on."""
    wanted_names = set(names)
    for name in reversed(EXPERIMENTS):  # they are declared in the order that they need
        if name in wanted_names:
            wanted_names.update(earlier(EXPERIMENTS[name], profile))
    return wanted_names


def _waiting_for(job_ids: Collection[str]) -> dict[str, Any]:
    """Return Slurm's parameters of a job that begins once others have succeeded."""
    # `singleton`: a job waits for others of its name, so that giving the command twice does no
    # harm.
    dependencies = ["singleton"]
    dependencies += [f"afterok:{job_id}" for job_id in job_ids]
    return {
        "dependency": ",".join(dependencies),
        "kill-on-invalid-dep": "yes",
        "requeue": True,
    }


def submit(
    names: Collection[str], cluster: str, options: Mapping[str, Any], profile: Profile
) -> Iterator[tuple[str, "Job[None]"]]:
    """Submit a job for each experiment that is not finished yet, and for those that it builds on.

    cluster: `slurm` or `local`. options: parameters of submitit's AutoExecutor. Yields each
    experiment's name and job. Slurm starts a job once those that it needs have succeeded; on this
    machine one runs after the other. Raises InputError for an option that submitit does not take,
    if the cluster refuses a job, if a job on this machine fails and, as `run` does, if the record
    there is that of another run.
    """
    jobs = dict[str, Job[None]]()
    data = load_series()
    wanted_names = _with_earlier(names, profile)
    try:
        # A job that comes to its time limit is queued again; submitit would give up after three
        # times.
        executor = AutoExecutor(
            out_dir() / "jobs", cluster=cluster, **{f"{cluster}_max_num_timeout": 1000}
        )
        executor.update_parameters(**DEFAULTS | dict(options))
        for name in EXPERIMENTS:
            if name not in wanted_names:
                continue
            earlier_names = earlier(EXPERIMENTS[name], profile)
            job_ids = [
                jobs[earlier_name].job_id for earlier_name in earlier_names if earlier_name in jobs
            ]
            # What builds on a job cannot be looked at, for its series are still to be chosen.
            if not job_ids and finished_record_of(plan_run(name, profile, data), profile, data):
                continue
            executor.update_parameters(
                name=f"{profile.name}-{name}", slurm_additional_parameters=_waiting_for(job_ids)
            )
            job = executor.submit(ExperimentJob(), name, profile)
            jobs[name] = job
            yield name, job
            if cluster == "local" and job.exception():
                raise InputError(f"job {job.job_id} failed; its log is {job.paths.stdout}")
    except InputError:
        raise
    except (AssertionError, NameError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"--cluster {cluster}: {first_line(error)}") from error
