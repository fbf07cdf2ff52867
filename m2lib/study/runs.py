"""The one way to run an experiment: find out what is to be run, begin its record or go on with it, train, forecast."""

import hashlib
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm.auto import tqdm

from m2lib import model, settings
from m2lib.accounting import Shape
from m2lib.decoding import forecast
from m2lib.files import InputError, write_atomic
from m2lib.series import FORMAT_FILE, TABLES, SeriesSet, encode, generate_series, load_series, split_ids, to_integers
from m2lib.study import costs
from m2lib.study.experiments import EXPERIMENTS, experiment_named
from m2lib.study.plans import Plan, finished, resolve, stored, unfinished
from m2lib.study.profiles import Profile, active_profile
from m2lib.study.provenance import describe_device, provenance
from m2lib.study.records import Entry, Record, entry_of, hold, record_path, save_record
from m2lib.training import (
    Source,
    TrainConfig,
    TrainLog,
    made_up_windows,
    make_windows,
    saved_step,
    train,
    window_loss,
)

WATCHED_SEED = 10**6  # of the made-up series that a run is watched on


def run(name: str, profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False) -> Record:
    """Load an experiment's finished record, or run it, with a checkpoint every so many steps and after each batch.

    profile: default the active one. data: default `load_series()`. fresh: run again even where there is a record.
    An interrupted run goes on where it stopped, in the dtype that it began in: to the bit as an unbroken one would on
    the same machine with as many threads, on another but for rounding. A record made from other weights, data or
    settings is replaced only if `fresh`, or if the profile is live; a copy is kept in `M2_OUT`. An experiment that
    builds on an earlier one runs that too, if it has no record. Raises InputError before anything is computed where
    the record cannot be written, or the budget does not allow for the run.
    """
    profile, data = profile or active_profile(), load_series() if data is None else data
    for earlier in experiment_named(name).earlier(profile):
        run(earlier, profile, data=data)
    plan = resolve(name, profile, data)
    if record := None if fresh else finished(plan):  # which needs no lock, and no folder that can be written to
        return record
    with hold(plan.profile, name):
        if record := None if fresh else finished(plan):  # again: another process may have come to the end meanwhile
            return record
        progress = begin(plan, fresh)
        progress.announce()
        try:
            progress.train_and_forecast()
        except BaseException:
            progress.end("aborted")
            raise
    return progress.record


def run_all(
    profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False, beyond: bool = False
) -> Iterator[Record]:
    """Run the report's experiments in their order, as `run` does: finished ones are loaded, one begun goes on.

    beyond: also what goes beyond the report. Yields each record. The progress is counted in FLOPs as executed, at their
    most, of those that are not only loaded.
    """
    profile = profile or active_profile()
    data = load_series() if data is None else data
    shape = Shape.of(model.backbone_config(profile.backbone))
    names = [name for name, experiment in EXPERIMENTS.items() if experiment.group or beyond]
    left = names if fresh else unfinished(names, profile, data)
    flops = {name: costs.at_most(EXPERIMENTS[name], profile, shape)["executed"] for name in left}
    with tqdm(total=sum(flops.values()), unit="FLOP", unit_scale=True, disable=profile.live) as bar:
        for place, name in enumerate(names, 1):
            bar.set_description(f"{place} of {len(names)}: {name}")
            record = run(name, profile, data=data, fresh=fresh)
            bar.update(flops.get(name, 0))
            yield record


def begin(plan: Plan, fresh: bool) -> "RunInProgress":
    """Load the model, and take up the record that this run has begun, or make one; nothing is written yet."""
    old = stored(plan, fresh)
    if old and not fresh:
        backbone = plan.load_backbone(old.backbone["dtype"])
        record = replace(old, status="running")
        if (device := describe_device(backbone.device)) not in record.device.split("; "):
            record.device += f"; {device}"
        return RunInProgress(plan, backbone, record, new=False)
    backbone = plan.load_backbone()
    record = Record(
        name=plan.experiment.name,
        profile=plan.profile.name,
        fingerprint=plan.fingerprint,
        config=plan.decisive["settings"],
        backbone={"id": backbone.name, "weight_hash": backbone.weight_hash, "dtype": backbone.dtype},
        batch_size=plan.profile.batch_size,
        data={"fingerprint": plan.data.fingerprint, "series": len(plan.data)},
        adapter=plan.decisive.get("adapter", ""),
        run=secrets.token_hex(8),
        **provenance(backbone.device),
    )
    if old and not plan.profile.live:
        record.flops["discarded"] = old.spent()
    return RunInProgress(plan, backbone, record, new=True)


@dataclass
class RunInProgress:
    """A plan that is being carried out on a loaded model, and the record that it writes."""

    plan: Plan
    """What is to be run."""
    backbone: model.Backbone
    record: Record
    """What has been computed so far; saved at every checkpoint and after each batch of forecasts."""
    new: bool
    """Whether the run begins, and does not go on."""

    @property
    def shape(self) -> Shape:
        """Of the model, for the accountant."""
        return Shape.of(self.backbone.model.config)

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's own checkpoints."""
        record = self.record
        name = "-".join((record.profile, record.backbone["id"], record.name, record.run))
        return settings.out_dir() / "checkpoints" / name.replace("/", "_")

    @property
    def adapter(self) -> tuple[int, tuple[str, ...]]:
        """Rank and targets of the adapter that it trains or uses; rank 0 for none."""
        return costs.adapter_of_experiment(self.plan.experiment, self.plan.profile, self.plan.source)

    def announce(self) -> None:
        """Store the record, which says from now on what the run may cost at most; an old one is kept aside.

        Raises InputError where the budget does not allow for it; nothing has been changed then.
        """
        plan, record = self.plan, self.record
        # Training goes on from a checkpoint, which may be older than the record, or gone.
        done = {"steps": saved_step(self.checkpoints), "series": len(record.series), "adapter": plan.source}
        needed = costs.at_most(plan.experiment, plan.profile, self.shape, **done)
        record.flops["reserved"] = costs.sum_costs()
        if plan.experiment.group and not plan.profile.live:
            costs.refuse_excess(plan.profile, record, self.shape, needed)
        record.flops["reserved"] = needed
        path = record_path(plan.profile, record.name)
        if self.new and path.exists() and not plan.profile.live:
            tqdm.write(f"the record before is now {keep_aside(path)}")
        self.store()  # in the old record's place, whose spending it counts: killed anywhere here, none is forgotten
        if self.new:
            shutil.rmtree(adapter_path(plan.profile, record.name), ignore_errors=True)

    def train_and_forecast(self) -> None:
        """Do all that the plan asks for and the record lacks."""
        plan = self.plan
        if plan.experiment.train:
            self.train_adapter()
        if plan.source:
            self.take_adapter(plan.source)
        self.forecast_series(plan.ids)
        self.end("done")

    def store(self) -> None:
        """Write the record."""
        save_record(self.plan.profile, self.record)

    def end(self, status: Literal["done", "aborted"]) -> None:
        """Write the record for the last time: nothing more will be spent."""
        self.record.status, self.record.flops["reserved"] = status, costs.sum_costs()
        self.store()
        if status == "done":
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def charge(self, kind: str, *spent: costs.Costs) -> None:
        """Count costs as spent on `training`, `evaluation` or `forecasts`; so much less may still be."""
        flops, more = self.record.flops, costs.sum_costs(*spent)
        flops[kind] = costs.sum_costs(flops[kind], more)
        flops["reserved"] = {name: max(0, most - more[name]) for name, most in flops["reserved"].items()}

    def train_adapter(self) -> None:
        """Train the experiment's adapter into the backbone, going on from its checkpoints, and store it."""
        plan, record, profile = self.plan, self.record, self.plan.profile
        config = TrainConfig(**record.config["train"])
        record.training, record.seed = asdict(config) | {"targets": list(config.targets)}, config.seed
        watch, validation = plan.experiment.watch(profile), split_ids(len(plan.data)).validation
        # Every so-many-th validation series: of 50, watched 10, each fifth. -(-a // b) is a / b rounded up.
        watched = list(validation[:: -(-len(validation) // max(1, watch.series))])
        source, watched_windows = self._made_up(config, len(watched)) or self._of_the_study(config, watched)
        log = train(
            self.backbone.model,
            source,
            config,
            self.checkpoints,
            checkpoint_every=profile.checkpoint_every,
            on_checkpoint=self._note,
            evaluate=partial(self._evaluation, watched, watched_windows) if watch.series else None,
            evaluate_after=watch.after,
            recompute=settings.read("M2_RECOMPUTE") == "1",
            progress=not profile.live,
            flops_of=lambda batch: costs.step_costs(self.shape, batch, *self.adapter)["executed"],
        )
        self._note(log)
        if config.rank:  # where all weights train, the record and its forecasts are kept alone
            folder = adapter_path(profile, record.name)
            model.save_adapter(self.backbone.model, folder, self.backbone.name)
            if (made_up := plan.experiment.made_up) is not None:
                written_as = replace(TABLES, digits=made_up.get("digits", TABLES.digits))
                write_atomic(folder / FORMAT_FILE, written_as.text().encode())
            record.adapter = adapter_hash(folder)

    def take_adapter(self, source: str) -> None:
        """Put the adapter of an earlier experiment into the backbone."""
        folder = adapter_path(self.plan.profile, source)
        if adapter_hash(folder) != self.record.adapter:
            again = f"m2 run {source} --fresh"
            raise InputError(f"{folder} is not the adapter that its record names; `{again}` makes both anew")
        model.load_adapter(self.backbone.model, folder)

    def forecast_series(self, ids: list[int]) -> None:
        """Forecast the series that the record lacks, saving it after each batch."""
        record, profile = self.record, self.plan.profile
        size = max(1, profile.batch_size // self.plan.experiment.protocol.n_samples)
        record.series = {series: record.series[series] for series in ids if series in record.series}
        left = [series for series in ids if series not in record.series]
        started, before = time.perf_counter(), record.seconds
        done, live = len(ids) - len(left), profile.live
        with tqdm(total=len(ids), initial=done, desc=record.name, unit="series", leave=None, disable=live) as bar:
            for start in range(0, len(left), size):
                entries = self._entries(left[start : start + size])
                record.series |= entries
                self.charge("forecasts", *self._costs(entries))
                record.seconds = round(before + time.perf_counter() - started, 2)
                self.store()
                bar.update(len(entries))

    def _note(self, log: TrainLog, batches: Sequence[np.ndarray] = ()) -> None:
        """Record how far the training is, and what these steps cost."""
        record = self.record
        record.loss_curve, record.evaluations = log.losses, log.evaluations
        record.seconds = round(record.seconds + log.seconds - record.train_seconds, 2)
        record.train_seconds = round(log.seconds, 2)
        record.evaluation_seconds = round(log.evaluation_seconds, 2)
        record.steps_run += len(batches)
        self.charge("training", *(costs.step_costs(self.shape, batch, *self.adapter) for batch in batches))
        self.store()

    def _evaluation(self, ids: list[int], windows: np.ndarray) -> dict[str, float]:
        """Validation loss (nats a token, mean over windows), and MAE (scaled units) where the profile forecasts too."""
        rows = torch.from_numpy(windows).to(self.backbone.device)[:, None]
        measured = {"loss": float(np.mean([window_loss(self.backbone.model, row).item() for row in rows]))}
        if self.plan.experiment.watch(self.plan.profile).forecasts:
            entries = self._entries(ids)
            maes = [entry["mae"] for entry in entries.values()]
            measured |= {"mae_mean": float(np.mean(maes)), "mae_median": float(np.median(maes))}
            self.charge("evaluation", *self._costs(entries))
        self.charge("evaluation", costs.loss_costs(self.shape, windows, *self.adapter))
        return measured

    def _costs(self, entries: dict[int, Entry]) -> list[costs.Costs]:
        protocol = self.plan.experiment.protocol
        return [costs.series_costs(self.shape, entry, protocol, *self.adapter) for entry in entries.values()]

    def _of_the_study(self, config: TrainConfig, watched: list[int]) -> tuple[Source, np.ndarray]:
        """Windows to train on, of the training split or simulated; and those of the validation series watched."""
        data, length = self.plan.data, config.sequence_length
        source: Source = partial(self._simulated, config)
        if not self.plan.experiment.simulated:
            source = self._windows(data, split_ids(len(data)).train, length)
        return source, self._windows(data, watched, length)

    def _made_up(self, config: TrainConfig, watched: int) -> tuple[Source, np.ndarray] | None:
        """The same where they are of made-up series: watched are the first windows of steps that no training has."""
        if self.plan.experiment.made_up is None:
            return None
        source, unseen = (
            made_up_windows(config.sequence_length, seed, **self.plan.experiment.made_up)
            for seed in (config.seed, WATCHED_SEED)
        )
        first = [unseen(step)[0] for step in range(watched)]
        return source, make_windows([row[row != model.PAD_ID].tolist() for row in first], config.sequence_length)

    def _simulated(self, config: TrainConfig, step: int) -> np.ndarray:
        """The windows of a step: one of each of batch_size systems that no other step has, nor the data set."""
        seed = simulation_seed(step, config.seed)
        drawn, choose = generate_series(config.batch_size, seed), np.random.default_rng(seed)
        each = [self._windows(drawn, [i], config.sequence_length) for i in range(len(drawn))]
        return np.stack([cut[choose.integers(len(cut))] for cut in each])

    def _windows(self, data: SeriesSet, ids: Sequence[int], length: int) -> np.ndarray:
        rounding = self.plan.experiment.protocol.rounding
        texts = [encode(data.trajectories[i], float(data.scales[i]), rounding, i) for i in ids]
        return make_windows([model.text_to_ids(text) for text in texts], length)

    def _entries(self, ids: list[int]) -> dict[int, Entry]:
        """The record's `series` entries of one batch."""
        data, protocol = self.plan.data, self.plan.experiment.protocol
        forecasts = forecast(self.backbone, data.contexts[ids], protocol, batch_size=len(ids), ids=ids)
        truths = to_integers(data.truths[ids], data.scales[ids], protocol.rounding)
        return {series: entry_of(ahead, truth) for series, ahead, truth in zip(ids, forecasts, truths, strict=True)}


def adapter_path(profile: Profile | str, name: str) -> Path:
    """The folder of a trained experiment's adapter, beside its record."""
    return record_path(profile, name).with_suffix("")


def adapter_hash(folder: Path) -> str:
    """16 hex digits of a hash of an adapter's files; empty where there are none."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    content = b"".join(path.name.encode() + path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()[:16] if files else ""


def keep_aside(path: Path) -> Path:
    """Copy a record that a new run replaces, and its adapter, into `M2_OUT`; the record's new place."""
    aside = settings.out_dir() / "replaced" / time.strftime("%Y%m%d-%H%M%S") / path.parent.name
    aside.mkdir(parents=True, exist_ok=True)
    if (adapter := path.with_suffix("")).is_dir():
        shutil.copytree(adapter, aside / adapter.name, dirs_exist_ok=True)
    return Path(shutil.copy2(path, aside))


def simulation_seed(step: int, seed: int) -> int:
    """Of the systems that a step trains on, where they are simulated. Seed 0 makes the data set: no step has it."""
    return 1 + step + 10**6 * seed
