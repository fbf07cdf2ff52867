"""The one way to run an experiment: resolve what is to be run, reserve what it may cost, execute it, record it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from tqdm.auto import tqdm

from m2lib.accounting import Shape
from m2lib.files import InputError
from m2lib.model import backbone_config, load_backbone, weight_hash
from m2lib.series import SeriesSet, load_series
from m2lib.study.budget import reservation
from m2lib.study.costs import estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS, experiment_named, series_ids
from m2lib.study.profiles import Profile, active_profile
from m2lib.study.provenance import describe_device, provenance
from m2lib.study.records import Record, fingerprint, load_record, record_path, save_record
from m2lib.study.work import Plan, RunInProgress
from m2lib.training import join_processes


def run(name: str, profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False) -> Record:
    """Load an experiment's finished record, or run it, with a checkpoint every so many steps and after each batch.

    profile: default the active one. data: default `load_series()`. fresh: run again even where there is a record.
    An interrupted run goes on where it stopped, on the same device and in the same dtype. A record made from other
    weights, data or settings is replaced only if `fresh`, or if the profile is live. An experiment that builds on an
    earlier one runs that too, if it has no record. Where a launcher started several processes they train together; the
    lead alone writes and forecasts, the others return an unfinished record. Raises InputError before anything is
    computed where the record cannot be written.
    """
    plan = resolve(name, profile or active_profile(), load_series() if data is None else data)
    if not (plan.processes.lead or plan.experiment.train):
        return Record(name, plan.profile.name, "", {}, {}, {}, plan.profile.batch_size)
    stored = _stored(plan, fresh)
    if stored and stored.status == "done" and stored.fingerprint == plan.fingerprint and not fresh:
        return stored
    progress = _begin(plan, stored, fresh)
    with reserve(progress, standing=stored if stored and fresh else progress.record):
        execute(progress, fresh)
    if plan.experiment.train:  # the others go on when the record is there, so that all see the same ones finished
        plan.processes.meet()
    return progress.record


def resolve(name: str, profile: Profile, data: SeriesSet) -> Plan:
    """Find out what is to be run, from the declaration, the profile, and earlier experiments, which are run first."""
    experiment = experiment_named(name).at(profile)
    for earlier in experiment.earlier():
        run(earlier, profile, data=data)
    plan = Plan(experiment, profile, data, join_processes(), weight_hash(profile.backbone))
    if not (experiment.adapter and plan.processes.lead):  # other processes have no part in what trains nothing
        return plan
    source = experiment.adapter.chosen(plan.maes)
    return replace(plan, source=source, adapter=load_record(profile, source).adapter)


@contextmanager
def reserve(progress: RunInProgress, standing: Record) -> Iterator[None]:
    """Hold the record, and in it what the run may still spend; where the run fails, give back what it has not spent.

    standing: the record as the store shows it until the run has something to show. A folder that cannot be written to
    fails here, as does a run beyond the budget, not after minutes of work.
    """
    plan, record, needed = progress.plan, progress.record, progress.needed()
    reserved = reservation(plan.profile, plan.experiment, progress.shape, standing, needed)
    with reserved if plan.processes.lead else nullcontext():
        progress.limit = sum_costs(record.spent(), needed)
        try:
            yield
        except BaseException:
            record.status = "aborted"
            if record.series or record.loss_curve:
                progress.end("aborted")
            elif plan.processes.lead:
                save_record(plan.profile, standing)
            raise


def execute(progress: RunInProgress, fresh: bool) -> None:
    """Train, forecast, and record: all that the plan asks for and the record lacks."""
    plan = progress.plan
    if plan.experiment.train:
        progress.train_adapter(fresh)
    if not plan.processes.lead:
        return
    if plan.source:
        progress.take_adapter(plan.source)
    progress.forecast_series(series_ids(plan.experiment, plan.profile.series, len(plan.data), plan.maes))
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
    lead = join_processes().lead
    with tqdm(total=sum(costs.values()), unit="FLOP", unit_scale=True, disable=profile.live or not lead) as bar:
        for place, (name, cost) in enumerate(costs.items(), 1):
            bar.set_description(f"{place} of {len(costs)}: {name}")
            path = record_path(profile, name)
            before = path.read_bytes() if path.exists() else None
            record = run(name, profile, data=data, fresh=fresh)
            if lead and path.read_bytes() == before:
                bar.total -= cost
            else:
                bar.update(cost)
            yield record


def _begin(plan: Plan, stored: Record | None, fresh: bool) -> RunInProgress:
    """Load the model, and go on with the stored record where it is this run's, else with a new one."""
    profile, backbone = plan.profile, load_backbone(plan.profile.backbone)
    if stored and stored.fingerprint == plan.fingerprint and not fresh:
        if (stored.backbone["dtype"], stored.device) != (backbone.dtype, describe_device(backbone.device)):
            raise InputError(
                f"{record_path(profile, stored.name)} was begun in {stored.backbone['dtype']} on {stored.device}; "
                f"go on there (M2_DTYPE, M2_DEVICE), or `m2 run {stored.name} --fresh` starts again"
            )
        return RunInProgress(plan, backbone, replace(stored, status="running").reserving(sum_costs()))
    record = Record(
        name=plan.experiment.name,
        profile=profile.name,
        fingerprint=plan.fingerprint,
        config=plan.decisive["settings"],
        backbone={"id": backbone.name, "weight_hash": backbone.weight_hash, "dtype": backbone.dtype},
        batch_size=profile.batch_size,
        data={"fingerprint": plan.data.fingerprint, "series": len(plan.data)},
        adapter=plan.adapter,
        **provenance(backbone.device),
    )
    if stored:
        record.flops["discarded"] = stored.spent()
    return RunInProgress(plan, backbone, record)


def _stored(plan: Plan, fresh: bool) -> Record | None:
    """The stored record, None where there is none that can be read.

    Raises InputError where going on would overwrite the record of another run, which only `fresh` and a live profile
    allow.
    """
    name, decisive, live = plan.experiment.name, plan.decisive, plan.profile.live
    path = record_path(plan.profile, name)
    if not path.exists():
        return None
    try:
        stored = load_record(plan.profile, name)
    except InputError as error:
        if fresh or live:
            return None
        raise InputError(f"{error}; `m2 run {name} --fresh` replaces it") from error
    if fresh or live or stored.fingerprint == plan.fingerprint:
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
