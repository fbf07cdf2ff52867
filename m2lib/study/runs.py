"""The one way to run an experiment: train, forecast, score, and record on the way."""

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
from tqdm.auto import tqdm

from m2lib.accounting.shape import Shape
from m2lib.files import InputError
from m2lib.forecasting.forecasts import point_forecast, read_back
from m2lib.forecasting.protocol import DECODE_VERSION, DecodeConfig
from m2lib.series.codec import CODEC_VERSION
from m2lib.series.data import SeriesSet, load_series
from m2lib.study.budget import reservation
from m2lib.study.costs import estimate, sum_costs
from m2lib.study.experiments import EXPERIMENTS, Maes, adapter_of, experiment_named, series_ids
from m2lib.study.profiles import Profile, active_profile
from m2lib.study.provenance import describe_device, provenance
from m2lib.study.records import Record, fingerprint, load_record, record_path, save_record
from m2lib.study.work import RunInProgress
from m2lib.training.processes import join_processes


def run(name: str, profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False) -> Record:
    """Load an experiment's finished record, or run it, with a checkpoint every so many steps and after each batch.

    profile: default the active one. data: default `load_series()`. fresh: run again even where there is a record.
    An interrupted run goes on where it stopped, on the same device and in the same dtype. A record made from other
    weights, data or settings is replaced only if `fresh`, or if the profile is live. An experiment that builds on an
    earlier one runs that too, if it has no record. Where a launcher started several processes they train together; the
    lead alone writes and forecasts, the others return an unfinished result. Raises InputError before anything is
    computed where the record cannot be written.
    """
    from m2lib.model.backbones import load_backbone, weight_hash

    profile = profile or active_profile()
    experiment = experiment_named(name).at(profile)
    data = load_series() if data is None else data
    processes = join_processes()
    for earlier in experiment.earlier():
        run(earlier, profile, data=data)
    if not (processes.lead or experiment.train):
        return Record(name, profile.name, "", {}, {}, {}, profile.batch_size)

    def maes(earlier: str) -> Maes:
        return load_record(profile, earlier).maes()

    decisive = {
        "settings": experiment.settings(profile),
        "series": profile.series,
        "weights": weight_hash(profile.backbone),
        "data": data.fingerprint,
        "version": [CODEC_VERSION, DECODE_VERSION],
    }
    source = adapter_of(experiment, maes)
    if source:
        decisive["adapter"] = load_record(profile, source).adapter
    found = _stored(profile, name, decisive, fresh)
    result = found if found and found.fingerprint == fingerprint(decisive) and not fresh else None
    if result and result.status == "done":
        return result

    backbone = load_backbone(profile.backbone)
    if result and (result.backbone["dtype"], result.device) != (backbone.dtype, describe_device(backbone.device)):
        raise InputError(
            f"{record_path(profile, name)} was begun in {result.backbone['dtype']} on {result.device}; go on there "
            f"(M2_DTYPE, M2_DEVICE), or `m2 run {name} --fresh` starts again"
        )
    result = result or Record(
        name=name,
        profile=profile.name,
        fingerprint=fingerprint(decisive),
        config=decisive["settings"],
        backbone={"id": backbone.name, "weight_hash": backbone.weight_hash, "dtype": backbone.dtype},
        batch_size=profile.batch_size,
        data={"fingerprint": data.fingerprint, "series": len(data)},
        adapter=decisive.get("adapter", ""),
        **provenance(backbone.device),
    )
    if found and found is not result:
        result.flops["discarded"] = found.spent()
    result.status = "running"
    # With `fresh` the old record stands until there is something to put in its place.
    standing = found if fresh and found else result
    shape = Shape.of(backbone.model.config)
    work = RunInProgress(experiment, profile, data, backbone, result, processes, shape)
    done = {"steps": len(result.loss_curve), "series": len(result.series)}
    needed = sum_costs(*estimate(experiment, profile, shape, **done, adapter=source).values())
    # A folder that cannot be written to fails here, as does a run beyond the budget, not after minutes of work.
    with reservation(profile, experiment, shape, standing, needed) if processes.lead else nullcontext():
        work.limit = sum_costs(result.spent(), needed)
        try:
            if experiment.train:
                work.train(fresh)
            if not processes.lead:
                processes.meet()
                return result
            if source:
                work.load_adapter(source)
            work.forecast(series_ids(experiment, profile.series, len(data), maes))
        except BaseException:
            result.status = "aborted"
            standing.flops["reserved"] = work.limit = sum_costs()
            if result.series or result.loss_curve:
                work.save()
            elif processes.lead:
                save_record(profile, standing)
            raise
        result.status, work.limit = "done", sum_costs()
        work.save()
    if experiment.train:  # the others go on when the record is there, so that all see the same ones finished
        processes.meet()
    return result


def run_all(
    profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False, beyond: bool = False
) -> Iterator[Record]:
    """Run the report's experiments in their order, as `run` does: finished ones are loaded, one begun goes on.

    beyond: also what goes beyond the report. Yields each result. The progress is counted in FLOPs as executed, at their
    most, of those that are not only loaded.
    """
    from m2lib.model.backbones import backbone_config

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
            result = run(name, profile, data=data, fresh=fresh)
            if lead and path.read_bytes() == before:
                bar.total -= cost
            else:
                bar.update(cost)
            yield result


def recorded_forecast(result: Record, data: SeriesSet, series: int) -> np.ndarray:
    """The forecast that a record holds as text, or the median of its samples: (20, 2), scaled units."""
    config, entry = DecodeConfig(**result.config["decode"]), result.series[series]
    texts = entry["texts"] if "texts" in entry else [entry["text"]]
    read = [read_back(text, data.contexts[series], data.scales[series], config).values for text in texts]
    return point_forecast(np.stack(read))


def _stored(profile: Profile, name: str, decisive: dict, fresh: bool) -> Record | None:
    """The stored record, None where there is none that can be read.

    Raises InputError where going on would overwrite the record of another run, which only `fresh` and a live profile
    allow.
    """
    path = record_path(profile, name)
    if not path.exists():
        return None
    try:
        stored = load_record(profile, name)
    except InputError as error:
        if fresh or profile.live:
            return None
        raise InputError(f"{error}; `m2 run {name} --fresh` replaces it") from error
    if fresh or profile.live or stored.fingerprint == fingerprint(decisive):
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
