"""The one way to run an experiment: resolve what is to be run, reserve what it may cost, execute it, record it."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from tqdm.auto import tqdm

from m2lib.accounting import Shape
from m2lib.files import InputError, sweep
from m2lib.model import backbone_config, weight_hash
from m2lib.series import SeriesSet, check_encodable, load_series
from m2lib.study import budget
from m2lib.study.budget import hold
from m2lib.study.costs import estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS, experiment_named, series_ids
from m2lib.study.profiles import Profile, active_profile
from m2lib.study.provenance import describe_device, provenance
from m2lib.study.records import Record, fingerprint, load_record, record_path
from m2lib.study.work import Plan, RunInProgress, adapter_path, keep_aside


def run(name: str, profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False) -> Record:
    """Load an experiment's finished record, or run it, with a checkpoint every so many steps and after each batch.

    profile: default the active one. data: default `load_series()`. fresh: run again even where there is a record.
    An interrupted run goes on where it stopped, in the dtype that it began in: to the bit as an unbroken one would on
    the same machine with as many threads, on another but for rounding. A record made from other weights, data or
    settings is replaced only if `fresh`, or if the profile is live; a copy is kept in `M2_OUT`. An experiment that
    builds on an earlier one runs that too, if it has no record. Raises InputError before anything is computed where
    the record cannot be written.
    """
    plan = resolve(name, profile or active_profile(), load_series() if data is None else data)
    if record := None if fresh else _finished(plan):  # which needs no lock, and no folder that can be written to
        return record
    with hold(plan.profile, name):
        if record := None if fresh else _finished(plan):  # again: another process may have come to the end meanwhile
            return record
        progress = _begin(plan, fresh)
        with reserve(progress):
            execute(progress)
    return progress.record


def resolve(name: str, profile: Profile, data: SeriesSet) -> Plan:
    """Find out what is to be run, from the declaration, the profile, and earlier experiments, which are run first."""
    experiment = experiment_named(name).at(profile)
    for earlier in experiment.earlier(profile):
        run(earlier, profile, data=data)
    plan = Plan(experiment, profile, data, weight_hash(experiment.backbone or profile.backbone))
    if not experiment.adapter:
        return plan
    source = experiment.adapter.chosen(plan.choosing)
    return replace(plan, source=source, adapter=load_record(profile, source).adapter)


@contextmanager
def reserve(progress: RunInProgress) -> Iterator[None]:
    """Reserve what the run may still spend; where it fails, give back what it has not spent.

    A folder that cannot be written to fails here, as does a run beyond the budget, not after minutes of work.
    """
    plan, record, needed = progress.plan, progress.record, progress.needed()
    budget.refuse_excess(plan.profile, plan.experiment, progress.shape, needed)
    if progress.new and (kept := keep_aside(plan.profile, record.name)):
        tqdm.write(f"the record before is now {kept}")
    progress.limit = sum_costs(record.spent(), needed)
    progress.store()  # in the old record's place, whose spending it counts: killed anywhere here, none is forgotten
    if progress.new:
        shutil.rmtree(adapter_path(plan.profile, record.name), ignore_errors=True)
    try:
        yield
    except BaseException:
        progress.end("aborted")
        raise


def execute(progress: RunInProgress) -> None:
    """Train, forecast, and record: all that the plan asks for and the record lacks."""
    plan = progress.plan
    ids = series_ids(plan.experiment, plan.profile.series, len(plan.data), plan.choosing)
    check_encodable(plan.data, ids)  # of the series to be forecast; those that train are encoded before training
    if plan.experiment.train:
        progress.train_adapter()
    if plan.source:
        progress.take_adapter(plan.source)
    progress.forecast_series(ids)
    progress.end("done")


def run_all(
    profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False, beyond: bool = False
) -> Iterator[Record]:
    """Run the report's experiments in their order, as `run` does: finished ones are loaded, one begun goes on.

    beyond: also what goes beyond the report. Yields each record. The progress is counted in FLOPs as executed, at their
    most, of those that are not only loaded.
    """
    profile = profile or active_profile()
    data = load_series() if data is None else data
    shape = Shape.of(backbone_config(profile.backbone))
    costs = {
        name: sum_costs(*estimate(experiment, profile, shape).values())["executed"]
        for name, experiment in EXPERIMENTS.items()
        if experiment.group or beyond
    }
    with tqdm(total=sum(costs.values()), unit="FLOP", unit_scale=True, disable=profile.live) as bar:
        for place, (name, cost) in enumerate(costs.items(), 1):
            bar.set_description(f"{place} of {len(costs)}: {name}")
            path = record_path(profile, name)
            before = path.read_bytes() if path.exists() else None
            record = run(name, profile, data=data, fresh=fresh)
            if path.read_bytes() == before:
                bar.total -= cost
            else:
                bar.update(cost)
            yield record


def is_finished(name: str, profile: Profile, data: SeriesSet) -> bool:
    """Whether `run` would only load the record; to be asked when those that it builds on are finished."""
    return _finished(resolve(name, profile, data)) is not None


def _finished(plan: Plan) -> Record | None:
    """The record of this very run, if it is done."""
    record = _stored(plan)
    return record if record and record.status == "done" and record.fingerprint == plan.fingerprint else None


def _begin(plan: Plan, fresh: bool) -> RunInProgress:
    """Load the model, and go on with the record that this run has begun, or begin one."""
    name, profile = plan.experiment.name, plan.profile
    sweep(record_path(profile, name))
    sweep(adapter_path(profile, name))
    old = _readable(plan)
    if old and old.status != "done" and old.fingerprint == plan.fingerprint and not fresh:
        backbone = plan.load_backbone(old.backbone["dtype"])
        record = replace(old, status="running", run=old.run or secrets.token_hex(8))
        if (device := describe_device(backbone.device)) not in record.device.split("; "):
            record.device += f"; {device}"
        progress = RunInProgress(plan, backbone, record.reserving(sum_costs()), new=False)
        sweep(progress.checkpoints)
        return progress
    backbone = plan.load_backbone()
    record = Record(
        name=name,
        profile=profile.name,
        fingerprint=plan.fingerprint,
        config=plan.decisive["settings"],
        backbone={"id": backbone.name, "weight_hash": backbone.weight_hash, "dtype": backbone.dtype},
        batch_size=profile.batch_size,
        data={"fingerprint": plan.data.fingerprint, "series": len(plan.data)},
        adapter=plan.adapter,
        run=secrets.token_hex(8),
        **provenance(backbone.device),
    )
    if old and not profile.live:
        record.flops["discarded"] = old.spent()
    return RunInProgress(plan, backbone, record, new=True)


def _readable(plan: Plan) -> Record | None:
    """The stored record, None where there is none that can be read."""
    try:
        return load_record(plan.profile, plan.experiment.name, plan.data)
    except InputError:
        return None


def _stored(plan: Plan) -> Record | None:
    """The experiment's record, None where there is none, or none that is worth keeping.

    Raises InputError where it is another run's, or cannot be read, and is not to be replaced without being asked.
    """
    name, decisive = plan.experiment.name, plan.decisive
    path = record_path(plan.profile, name)
    if not path.exists():
        return None
    if plan.profile.live:
        return _readable(plan)
    try:
        stored = load_record(plan.profile, name, plan.data)
    except InputError as error:
        raise InputError(f"{error}; `m2 run {name} --fresh` replaces it") from error
    if stored.fingerprint == plan.fingerprint:
        return stored
    was = {
        "settings": stored.config,
        "weights": stored.backbone["weight_hash"],
        "data": stored.data["fingerprint"],
        "adapter": stored.adapter,
    }
    different = [part for part in was if part in decisive and fingerprint(was[part]) != fingerprint(decisive[part])]
    raise InputError(
        f"{path} was recorded with other {' and '.join(different) or 'sizes or code versions'}; "
        f"`m2 run {name} --fresh` replaces it"
    )
