"""The FLOP budget: what a profile's records have spent, a fold over them, against its limit."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from m2lib.accounting.flops import train_step_flops
from m2lib.accounting.shape import Shape, total
from m2lib.files import InputError, first_line
from m2lib.study.costs import Costs, estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS, Experiment
from m2lib.study.profiles import Profile
from m2lib.study.records import Record, load_record, record_path, save_record


class BudgetExceeded(InputError):
    """A run would pass its profile's budget."""


@dataclass(frozen=True)
class Budget:
    """The state of a profile's budget, in FLOPs of its convention.

    spent: by the records of all experiments in the report's Table 3. reserved: by those of them that are running now.
    """

    limit: int
    convention: str
    spent: int
    reserved: int

    @property
    def left(self) -> int:
        return self.limit - self.spent - self.reserved


def records(profile: Profile, replaced: str | None = None) -> dict[str, Record]:
    """The profile's records, by experiment.

    Raises InputError for one that cannot be read, unless it is about to be replaced, or live.
    """
    found = {}
    for name in EXPERIMENTS:
        if record_path(profile, name).exists():
            try:
                found[name] = load_record(profile, name)
            except InputError:
                if not profile.live and name != replaced:
                    raise
    return found


def state(profile: Profile, replaced: str | None = None) -> Budget:
    """What the records say is spent, and what running experiments have reserved; arguments as of `records`."""
    charged = {name: result for name, result in records(profile, replaced).items() if EXPERIMENTS[name].group}
    convention = profile.budget_convention
    running = [
        result
        for name, result in charged.items()
        if result.flops["reserved"][convention] and _is_held(_lock(record_path(profile, name)))
    ]
    return Budget(
        profile.budget,
        convention,
        spent=sum(result.spent()[convention] for result in charged.values()),
        reserved=sum(result.flops["reserved"][convention] for result in running),
    )


def affordable_steps(
    budget: Budget, experiment: Experiment, profile: Profile, shape: Shape, beside: tuple[str, ...] = ()
) -> int:
    """How many of an experiment's training steps the budget still pays for, with its forecasts kept back.

    beside: other experiments that are kept back whole (for the report's final run, the untuned model's forecasts).
    """
    from m2lib.training.loop import TrainConfig

    config = TrainConfig(**experiment.at(profile).train)
    step = train_step_flops(
        shape, config.sequence_length, rank=config.rank, batch=config.batch_size, convention=budget.convention
    )
    kept = [estimate(EXPERIMENTS[name], profile, shape) for name in beside]
    kept.append(estimate(experiment, profile, shape) | {"training": sum_costs()})
    free = budget.left - sum(costs[budget.convention] for one in kept for costs in one.values())
    return max(0, free // total(step))


@contextmanager
def reservation(
    profile: Profile, experiment: Experiment, shape: Shape, standing: Record, needed: Costs
) -> Iterator[None]:
    """Hold an experiment's record while it runs, with what it may still spend reserved in it.

    standing: the record as it is to lie in the store at first. Raises BudgetExceeded, or InputError where another
    process runs the same experiment, before anything in the store is changed.
    """
    path = record_path(profile, experiment.name)
    with ExitStack() as held:
        if not _acquire(_lock(path), held, seconds=1):
            raise InputError(f"{path} is being made by another process; wait for it, or stop it first")
        with ExitStack() as serialised:  # so that two runs do not both take the last of the budget
            if not _acquire(_lock(record_path(profile, "budget")), serialised, seconds=60):
                raise InputError(f"{path.parent}: another process has held the budget for a minute; is it stopped?")
            if experiment.group:
                _refuse_excess(profile, experiment, shape, needed)
            standing.flops["reserved"] = dict(needed)
            save_record(profile, standing)
        yield


def _refuse_excess(profile: Profile, experiment: Experiment, shape: Shape, needed: Costs) -> None:
    budget = state(profile, replaced=experiment.name)
    if needed[budget.convention] <= budget.left:
        return
    steps = affordable_steps(budget, experiment, profile, shape) if experiment.train else None
    raise BudgetExceeded(
        f"{experiment.name} may need {needed[budget.convention]:.3g} FLOPs ({budget.convention}), but "
        f"{budget.left:.3g} of profile {profile.name}'s {budget.limit:.3g} are left"
        + (f", enough for {steps} of its steps with its forecasts" if steps is not None else "")
    )


def _lock(path: Path) -> FileLock:
    """The lock of a record. The system lets go of it when its process ends, however that ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error
    return FileLock(path.with_name(f".{path.stem}.lock"))


def _acquire(lock: FileLock, held: ExitStack, seconds: float) -> bool:
    try:
        held.enter_context(lock.acquire(timeout=seconds))
    except Timeout:
        return False
    except OSError as error:
        raise InputError(f"cannot write {lock.lock_file}: {error.strerror or first_line(error)}") from error
    return True


def _is_held(lock: FileLock) -> bool:
    with ExitStack() as held:
        return not _acquire(lock, held, seconds=0)
