"""What there is of a run already: its record, and the adapter that it trained."""

from m2lib.errors import InputError
from m2lib.model import adapter_hash
from m2lib.series import SeriesSet
from study.profiles import Profile
from study.records import Plan, Record, adapter_path, load_record, record_path, run_command


def record_of(plan: Plan, profile: Profile, data: SeriesSet) -> Record | None:
    """Return the record of this very run, or None if it has not begun.

    Raises InputError if there is a record of another plan, or one that cannot be read; at a live
    profile such a record counts as none.
    """
    path = record_path(profile, plan.name)
    if not path.exists():
        return None
    try:
        record = load_record(profile, plan.name, data)
        difference = record.plan.difference(plan)
        if difference:
            raise InputError(
                f"{path} is of another run: its {difference}; "
                f"`{run_command(profile, plan.name)} --fresh` replaces it"
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


def check_start(plan: Plan, profile: Profile) -> None:
    """Raise InputError if the adapter of the earlier run, on which a run builds, is gone."""
    folder = adapter_path(profile, plan.start)
    if plan.start and adapter_hash(folder) != plan.start_adapter:
        raise InputError(
            f"{folder} is gone, or is not the adapter that its record names; "
            f"`{run_command(profile, plan.start)} --fresh` makes both anew"
        )
