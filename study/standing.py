"""What there is of a run already: its record, its trained adapter, or the steps of a longer run."""

from dataclasses import replace

from m2lib.errors import InputError
from m2lib.model import adapter_hash
from m2lib.series import SeriesSet
from study.experiments import experiment_named
from study.profiles import Profile
from study.records import Plan, Record, adapter_path, load_record, record_path, run_command


def record_of(
    plan: Plan, profile: Profile, data: SeriesSet, reforecast: bool = False
) -> Record | None:
    """Return the record of this very run, or None if it has not begun.

    With `reforecast` it is enough that the record's training is the plan's. Raises InputError if
    there is a record of another plan, or one that cannot be read; at a live profile such a record
    counts as none.
    """
    path = record_path(profile, plan.name)
    if not path.exists():
        return None
    try:
        record = load_record(profile, plan.name, data)
        has_same_training = record.plan.forecasting_as(plan) == plan
        difference = record.plan.difference(plan)
        if difference and not (reforecast and has_same_training):
            remedy = (
                "--reforecast` forecasts again" if has_same_training else "--fresh` replaces it"
            )
            raise InputError(
                f"{path} is of another run: its {difference}; "
                f"`{run_command(profile, plan.name)} {remedy}"
            )
    except InputError:
        if profile.live:
            return None
        raise
    return record


def finished_record_of(plan: Plan, profile: Profile, data: SeriesSet) -> Record | None:
    """Return the record of this very run, or None if it is not finished; raises as `record_of`."""
    record = record_of(plan, profile, data)
    return record if record and record.status == "done" else None


def has_trained_adapter(record: Record, profile: Profile) -> bool:
    """Return whether the training of a record is finished and its adapter is still in its folder.

    At rank 0 there is never an adapter, because all weights have trained, and they are not kept.
    """
    config = record.training
    if not config or not config.rank or len(record.loss_curve) < config.steps:
        return False
    # Of a run that was killed before it had saved its adapter, both hashes are empty.
    return (
        record.adapter != "" and adapter_hash(adapter_path(profile, record.name)) == record.adapter
    )


def longer_run(plan: Plan, profile: Profile) -> Record | None:
    """Return the record of a longer run that has already taken the training steps of a plan.

    It must have kept the adapter of the last of them, and have been trained in the same way up to
    there: from the same weights, on the same windows, at the same learning rates. None if there is
    no such run.
    """
    name = experiment_named(plan.name).part_of
    training = plan.training
    if not (name and training and adapter_hash(adapter_path(profile, name, training.steps))):
        return None
    if not record_path(profile, name).is_file():  # it was deleted, and its adapters were left
        return None
    longer = load_record(profile, name)
    # An adapter is kept before the record of its step is saved. A run that was killed between the
    # two, or that began anew beside the adapters of an earlier one, has no such step yet.
    if len(longer.loss_curve) < training.steps:
        return None
    longer_training = longer.training
    if not longer_training:
        return None
    rates = [training.rate(step) for step in range(training.steps)]
    longer_rates = [longer_training.rate(step) for step in range(training.steps)]
    if rates != longer_rates:
        return None
    shortened = replace(
        longer.plan, name=plan.name, training=replace(longer_training, steps=training.steps)
    )
    return longer if shortened.forecasting_as(plan) == plan else None


def check_start(plan: Plan, profile: Profile) -> None:
    """Raise InputError if the adapter of the earlier run, on which a run builds, is gone."""
    folder = adapter_path(profile, plan.start)
    if plan.start and adapter_hash(folder) != plan.start_adapter:
        raise InputError(
            f"{folder} is gone, or is not the adapter that its record names; "
            f"`{run_command(profile, plan.start)} --fresh` makes both anew"
        )
