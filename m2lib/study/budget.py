"""The FLOP budget: the sum over a profile's records, against its limit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from filelock import FileLock, Timeout

from m2lib import training
from m2lib.accounting import Shape, total, train_step_flops
from m2lib.files import InputError, first_line
from m2lib.study.costs import Costs, estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS, Experiment
from m2lib.study.profiles import Profile
from m2lib.study.records import Record, load_record, record_path


class BudgetExceeded(InputError):
    """A run would pass its profile's budget."""


@dataclass(frozen=True)
class Budget:
    """The state of a profile's budget, in FLOPs of its convention."""

    limit: int
    """What the profile allows."""
    convention: str
    """The convention of `m2lib.accounting` that it is counted in."""
    spent: int
    """By the records of all experiments in the report's Table 3."""
    reserved: int
    """By those of them that are not finished: what they may still spend."""

    @property
    def left(self) -> int:
        """What a further run may take."""
        return self.limit - self.spent - self.reserved


def all_records(profile: Profile, replaced: str | None = None) -> dict[str, Record]:
    """The profile's records by name.

    Raises InputError for one that cannot be read, unless its experiment is about to be replaced, or live.
    """
    found = {}
    for name in EXPERIMENTS:
        if os.path.lexists(record_path(profile, name)):
            try:
                found[name] = load_record(profile, name)
            except InputError:
                if not profile.live and name != replaced:
                    raise
    return found


def budget_of(profile: Profile, asking: str | None = None) -> Budget:
    """What the records say is spent, and what unfinished ones may still spend.

    asking: the experiment that wants to spend; what it has reserved itself, if it was killed, is not counted.
    """
    charged = [record for record in all_records(profile, asking).values() if EXPERIMENTS[record.name].group]
    return Budget(
        profile.budget,
        convention := profile.budget_convention,
        spent=sum(record.spent()[convention] for record in charged),
        reserved=sum(record.flops["reserved"][convention] for record in charged if record.name != asking),
    )


def affordable_steps(
    budget: Budget, experiment: Experiment, profile: Profile, shape: Shape, beside: tuple[str, ...] = ()
) -> int:
    """How many of an experiment's training steps the budget still pays for, with its forecasts kept back.

    beside: other experiments that are kept back whole (for the report's final run, the untuned model's forecasts).
    """
    config = training.TrainConfig(**experiment.training(profile))
    adapted = partial(train_step_flops, shape, rank=config.rank, targets=config.targets)
    step = adapted(config.sequence_length, batch=config.batch_size, convention=budget.convention)
    kept = [estimate(EXPERIMENTS[name], profile, shape) for name in beside]
    kept.append(estimate(experiment, profile, shape) | {"training": sum_costs()})
    free = budget.left - sum(costs[budget.convention] for estimated in kept for costs in estimated.values())
    return max(0, free // total(step))


@contextmanager
def hold(profile: Profile, name: str) -> Iterator[None]:
    """Let no other process run an experiment: the lock goes when its process ends, however that ends.

    Raises InputError where another process runs it, or its folder cannot be written to.
    """
    path = record_path(profile, name)
    lock = _lock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=1)
    except Timeout as error:
        raise InputError(f"{path} is being made by another process; wait for it, or stop it first") from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or first_line(error)}") from error
    try:
        yield
    finally:
        lock.release()


def in_progress(profile: Profile, name: str) -> bool:
    """Whether a process, this one or another, runs an experiment now."""
    try:
        with _lock(record_path(profile, name)).acquire(timeout=0):
            return False
    except (Timeout, OSError):
        return True


def refuse_excess(profile: Profile, experiment: Experiment, shape: Shape, needed: Costs) -> None:
    """Raise BudgetExceeded where a run needs more than is left; nothing has been changed then."""
    if not experiment.group:
        return
    budget = budget_of(profile, experiment.name)
    if needed[budget.convention] <= budget.left:
        return
    steps = affordable_steps(budget, experiment, profile, shape) if experiment.train else None
    raise BudgetExceeded(
        f"{experiment.name} may need {needed[budget.convention]:.3g} FLOPs ({budget.convention}), but "
        f"{budget.left:.3g} of profile {profile.name}'s {budget.limit:.3g} are left"
        + (f", enough for {steps} of its steps with its forecasts" if steps is not None else "")
    )


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.stem}.lock"))
