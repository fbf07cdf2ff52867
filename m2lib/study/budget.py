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
from m2lib.study.records import NEW, Record, load_record, record_path, save_record


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
    """By those of them that are running now."""

    @property
    def left(self) -> int:
        """What a further run may take."""
        return self.limit - self.spent - self.reserved


def all_records(profile: Profile, replaced: str | None = None) -> dict[str, Record]:
    """The profile's records, by the name that each is stored under.

    Where an experiment is run afresh, that is NAME and NAME.new, or the new one alone once it is done, for it counts
    what the old one had spent. Raises InputError for one that cannot be read, unless its experiment is about to be
    replaced, or live.
    """
    found = {}
    for name in EXPERIMENTS:
        for stored in (name, name + NEW):
            if os.path.lexists(record_path(profile, stored)):
                try:
                    found[stored] = load_record(profile, stored)
                except InputError:
                    if not profile.live and name != replaced:
                        raise
        if name + NEW in found and found[name + NEW].status == "done":
            found.pop(name, None)
    return found


def budget_of(profile: Profile, asking: str | None = None) -> Budget:
    """What the records say is spent, and what running experiments have reserved.

    asking: the experiment that wants to spend; its own reservation, of which a killed run leaves some, is not counted.
    """
    convention = profile.budget_convention
    running = {
        record.name
        for record in _charged(profile, asking)
        if record.flops["reserved"][convention] and record.name != asking and in_progress(profile, record.name)
    }
    # Read again: a run that came to its end since the first reading reserves nothing any more, but it has spent.
    charged = _charged(profile, asking)
    return Budget(
        profile.budget,
        convention,
        spent=sum(record.spent()[convention] for record in charged),
        reserved=sum(record.flops["reserved"][convention] for record in charged if record.name in running),
    )


def _charged(profile: Profile, asking: str | None) -> list[Record]:
    """The records that the budget pays for: those in the report's Table 3."""
    return [record for record in all_records(profile, asking).values() if EXPERIMENTS[record.name].group]


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
    """Let no other process run an experiment, whichever of its records are written.

    Raises InputError where another process runs it.
    """
    path = record_path(profile, name)
    with _held(path, 1, f"{path} is being made by another process; wait for it, or stop it first"):
        yield


def in_progress(profile: Profile, name: str) -> bool:
    """Whether a process, this one or another, runs an experiment now."""
    try:
        with _lock(record_path(profile, name)).acquire(timeout=0):
            return False
    except (Timeout, OSError):
        return True


def reserve(profile: Profile, shape: Shape, record: Record, needed: Costs, stored: str) -> None:
    """Store a record, under that name, with what its run may still spend reserved in it.

    Raises BudgetExceeded before anything in the store is changed. To be called under `hold`.
    """
    experiment, folder = EXPERIMENTS[record.name], record_path(profile, "budget").parent
    too_long = f"{folder}: another process has held the budget for a minute; is it stopped?"
    with _held(record_path(profile, "budget"), 60, too_long):  # or two runs might both take the last of it
        if experiment.group:
            _refuse_excess(profile, experiment, shape, needed)
        save_record(profile, record.reserving(needed), stored)


def _refuse_excess(profile: Profile, experiment: Experiment, shape: Shape, needed: Costs) -> None:
    budget = budget_of(profile, experiment.name)
    if needed[budget.convention] <= budget.left:
        return
    steps = affordable_steps(budget, experiment, profile, shape) if experiment.train else None
    raise BudgetExceeded(
        f"{experiment.name} may need {needed[budget.convention]:.3g} FLOPs ({budget.convention}), but "
        f"{budget.left:.3g} of profile {profile.name}'s {budget.limit:.3g} are left"
        + (f", enough for {steps} of its steps with its forecasts" if steps is not None else "")
    )


@contextmanager
def _held(path: Path, seconds: float, otherwise: str) -> Iterator[None]:
    """Hold the lock of a record, which the system lets go of when its process ends, however that ends.

    Raises InputError, saying `otherwise`, where another process still holds it after so many seconds.
    """
    lock = _lock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=seconds)
    except Timeout as error:
        raise InputError(otherwise) from error
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or first_line(error)}") from error
    try:
        yield
    finally:
        lock.release()


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.stem}.lock"))
