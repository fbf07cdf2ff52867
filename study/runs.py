"""The one way to run an experiment: plan it, begin its record or go on with it, train, forecast."""

import math
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from tqdm.auto import tqdm

from m2lib import model, settings, training
from m2lib.accounting import Costs, Shape, sum_costs
from m2lib.decoding import DecodeConfig, forecast
from m2lib.errors import InputError
from m2lib.model import Backbone, adapter_hash
from m2lib.provenance import provenance
from m2lib.series import (
    SeriesSet,
    load_series,
    split_ids,
    summarise,
    to_integers,
)
from m2lib.training import TrainConfig, TrainLog, train, window_loss
from study import costs, records
from study.experiments import experiment_named
from study.plans import earlier, plan_run
from study.profiles import Profile, active_profile
from study.records import (
    Entry,
    Plan,
    Record,
    adapter_path,
    check_start,
    finished_record_of,
    has_trained_adapter,
    load_record,
    record_of,
    record_path,
    save_record,
)
from study.settings import out_dir
from study.windows import training_windows, watched_windows


def run(
    name: str,
    profile: Profile | None = None,
    *,
    data: SeriesSet | None = None,
    fresh: bool = False,
) -> Record:
    """Load an experiment's finished record, or run the experiment and record it.

    If it needs earlier experiments, those without a finished record are run first. A run is saved
    every so many training steps and after each batch of forecasts, so one that was interrupted goes
    on where it stopped, in the dtype in which it began. On the same machine with as many threads
    its numbers are those of an unbroken run, bit for bit; on another machine they are the same but
    for rounding.

    Parameters
    ----------
    name : str
        The experiment's name.
    profile : Profile, optional
        Default: the active one.
    data : SeriesSet, optional
        Default: `load_series()`.
    fresh : bool, optional
        Whether to run again even if there is a record. Only then, or at a live profile, is a record
        of another plan replaced; unless the profile is live, a copy of it is kept in `M2_OUT`.

    Returns
    -------
    Record
        The finished record.

    Raises
    ------
    InputError
        Before the run begins, if its record cannot be written or is of another plan, if another
        process holds it, if the adapter that it needs is gone, or if the budget does not allow for
        it. Experiments that this one needs run first.
    """
    profile = profile or active_profile()
    data = load_series() if data is None else data
    for earlier_name in earlier(experiment_named(name), profile):
        run(earlier_name, profile, data=data)
    plan = plan_run(name, profile, data)
    if not fresh:
        # This takes no lock, so that it works where nothing can be written.
        finished_record = finished_record_of(plan, profile, data)
        if finished_record:
            return finished_record
    wait = 600 if profile.live else 1  # seconds; a live run is short
    with records.hold(profile, name, wait):
        old_record = None if fresh else record_of(plan, profile, data)
        if old_record and old_record.status == "done":
            return old_record  # another process finished it while this one waited for the lock
        is_trained = old_record is not None and has_trained_adapter(old_record, profile)
        if not is_trained:
            check_start(plan, profile)  # before any record is changed
        planned_run = Run(plan, profile, data, old_record, is_trained)
        planned_run.begin()
        planned_run.train_and_forecast()
    return planned_run.record


def starting_dtype(plan: Plan, profile: Profile, old: Record | None, is_trained: bool) -> str:
    """Return the dtype of what is left to do: of the training, or of the forecasts alone.

    A run with a record goes on in the dtype in which it began or, if only forecasts are left, in
    that which the record names for them. A new one that trains all weights does so in float32. One
    that trains nothing takes the dtype that the profile prescribes for forecasts, if it prescribes
    one. All others take `M2_DTYPE`, else float32 where a lecture shows them (`Profile.live`), and
    `fastest_dtype` where they are recorded.
    """
    config = plan.training
    if old and (not config or is_trained):  # only forecasts are left
        return old.forecast_dtype or old.dtype
    if old:
        return old.dtype
    if config and not config.rank:  # all weights train
        return "float32"
    prescribed = "" if config else profile.forecast_dtype
    if prescribed:
        return prescribed
    if profile.live:
        return model.chosen_dtype()
    return model.fastest_dtype(model.chosen_device())


def load_model(plan: Plan, profile: Profile, dtype: str) -> Backbone:
    """Load a plan's language model, without an adapter."""
    weights = experiment_named(plan.name).backbone or profile.backbone
    backbone = model.load_backbone(weights, dtype=dtype)
    if plan.shuffled:
        model.shuffle_weights(backbone.model)
    return backbone


class Run:
    """A planned run with its model, and the record that it writes.

    Most methods change the record in memory. It is saved in four places, so that a kill loses no
    more than what was done since the last of them:

    - `begin`, once the budget has been reserved;
    - `_note`, each time that the training has a checkpoint;
    - `forecast_series`, after each batch;
    - `train_and_forecast`, when all is done.
    """

    def __init__(
        self,
        plan: Plan,
        profile: Profile,
        data: SeriesSet,
        old: Record | None,
        is_trained: bool,
    ) -> None:
        """Load the model, and take up the old record of this very run, or make a new one.

        `is_trained` says that the old record's training has ended, and its adapter is there.
        """
        self.plan = plan
        self.profile = profile
        self.data = data
        self.experiment = experiment_named(plan.name)
        # As many forecasts as are planned: an experiment declares those of the report's data set.
        workload = costs.workload(self.experiment, profile, plan.start)
        self.work = replace(workload, num_forecasts=len(plan.series))
        self.folder = adapter_path(profile, plan.name)
        self.is_trained = is_trained
        self.backbone = load_model(plan, profile, starting_dtype(plan, profile, old, is_trained))
        self.shape = Shape.of(self.backbone.model.config)
        self.is_new = not old
        setup = provenance(self.backbone.device)
        self.record = old or Record(
            plan=plan,
            dtype=self.backbone.dtype,
            batch_size=profile.batch_size,
            adapter=plan.start_adapter,
            forecast_dtype=profile.forecast_dtype,
            run=secrets.token_hex(8),
            **setup,
        )
        self.device = setup["device"]
        self._note_device()
        own_name = "-".join((plan.profile, plan.backbone, plan.name, self.record.run))
        self.checkpoints = out_dir() / "checkpoints" / own_name.replace("/", "_")

    def _note_device(self) -> None:
        """Add this machine to the devices of the record, unless it is the last of them already."""
        if self.record.device.split("; ")[-1] != self.device:
            self.record.device += f"; {self.device}"

    def begin(self) -> None:
        """Store the record, and keep aside the one that it replaces.

        An adapter whose record is gone is kept aside, too, because a new run deletes it. The record
        says from now on what the run may cost at most. Raises InputError if the budget does not
        allow for that, before any record is changed.
        """
        profile = self.profile
        record = self.record
        path = record_path(profile, record.name)
        # Somebody may have moved a record away and left its adapter.
        is_there = path.exists() or self.folder.is_dir()
        replaces = self.is_new and is_there and not profile.live
        record.status = "running"
        if replaces:
            # If it is gone or cannot be read, nobody knows what it had spent.
            with suppress(InputError):
                record.flops["discarded"] = load_record(profile, record.name).spent()
        # Runs reserve one after the other, so that no two of them take the same FLOPs.
        with records.hold(profile, "budget", 60):
            self.reserve()
            if replaces:
                records.keep_aside(path)
            # The new record replaces the old one, whose FLOPs it counts, in one step. Wherever this
            # is killed, there is one record, and nothing that was spent is forgotten.
            save_record(profile, record)
        if self.is_new:
            shutil.rmtree(self.folder, ignore_errors=True)

    def reserve(self) -> None:
        """Say in the record what the run may still cost.

        Raises InputError if the budget does not allow for it.
        """
        profile = self.profile
        record = self.record
        # Training goes on from a checkpoint, which may be older than the record, or gone.
        steps_done = self.work.steps if self.is_trained else training.saved_step(self.checkpoints)
        most_costs = costs.estimate(self.work, self.shape, steps_done, len(record.series))
        record.flops["reserved"] = sum_costs(*most_costs.values())
        if profile.live or not self.experiment.group:
            return
        convention = profile.budget_convention
        flops_needed = record.flops["reserved"][convention]
        left_by_others = costs.budget_of(profile, but=record.name).left
        flops_left = left_by_others - record.spent()[convention]
        if flops_needed > flops_left:
            raise InputError(
                f"{record.name} may need {flops_needed:.3g} FLOPs ({convention}), "
                f"but {flops_left:.3g} of profile {profile.name}'s "
                f"{profile.budget:.3g} are left; `python -m study budget` shows where they went"
            )

    def train_and_forecast(self) -> None:
        """Do whatever the plan asks for and the record does not have yet."""
        config = self.plan.training
        if self.is_trained:
            model.load_adapter(self.backbone.model, self.folder)
        elif self.plan.start:  # the earlier run, on whose adapter this one builds
            model.load_adapter(self.backbone.model, adapter_path(self.profile, self.plan.start))
        if config and not self.is_trained:
            self.train_weights(config)
            # The profile may prescribe another dtype for forecasts, in which the model is then
            # loaded anew. At rank 0 it stays, because the trained weights are only in memory.
            dtype = self.record.forecast_dtype
            if config.rank and dtype not in ("", self.backbone.dtype):
                self.backbone = load_model(self.plan, self.profile, dtype)
                model.load_adapter(self.backbone.model, self.folder)
        self.forecast_series()
        self.record.status = "done"
        self.record.flops["reserved"] = sum_costs()  # nothing more will be spent
        save_record(self.profile, self.record)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def charge(self, kind: str, *spent: Costs) -> None:
        """Count costs as spent, and no longer as reserved.

        kind: `training`, `evaluation` or `forecasts`.
        """
        flops = self.record.flops
        for convention, cost in sum_costs(*spent).items():
            flops[kind][convention] += cost
            flops["reserved"][convention] = max(0, flops["reserved"][convention] - cost)

    def train_weights(self, config: TrainConfig) -> None:
        """Train the backbone's adapter, from the last checkpoint on, and store it.

        At rank 0 all of the backbone's weights train instead, and are not stored.
        """
        train(
            self.backbone.model,
            training_windows(self.plan, self.data, config),
            config,
            self.checkpoints,
            checkpoint_every=self.profile.checkpoint_every,
            on_checkpoint=self._note,
            evaluate=self._evaluator(config),
            evaluate_after=self.work.watch.after,
            progress=not self.profile.live,
        )
        if config.rank:  # at rank 0 all weights have trained; they are not kept, only the record is
            self._store_adapter()

    def _store_adapter(self) -> None:
        """Store the adapter that was trained, and note its hash in the record."""
        record = self.record
        model.save_adapter(self.backbone.model, self.folder, self.backbone.loaded_by)
        adapter = adapter_hash(self.folder)
        if record.adapter != adapter:
            record.adapter = adapter
            record.series = {}  # forecasts of an adapter that is gone do not count

    def forecast_series(self) -> None:
        """Forecast the series that the record does not have yet, and save it after each batch."""
        record = self.record
        profile = self.profile
        record.batch_size = profile.batch_size
        size = max(1, profile.batch_size // self.plan.protocol.n_samples)
        ids_left = [i for i in self.plan.series if i not in record.series]
        start_time = time.perf_counter() - record.seconds  # as if it had never been interrupted
        batches = tqdm(
            range(0, len(ids_left), size),
            record.name,
            unit="batch",
            leave=None,
            disable=profile.live or settings.bars_are_off(),
        )
        for start in batches:
            record.series |= self._forecast_batch("forecasts", ids_left[start : start + size])
            record.seconds = round(time.perf_counter() - start_time, 2)
            save_record(profile, record)

    def _evaluator(self, config: TrainConfig) -> Callable[[], dict[str, float]] | None:
        """Return the function that evaluates the adapter while it trains.

        It is None if the profile watches no series.
        """
        watch = self.work.watch
        if not watch.num_series:
            return None
        validation = split_ids(len(self.data)).validation
        # The watched series are spread evenly: of 50, every fifth if 10 are watched.
        stride = math.ceil(len(validation) / watch.num_series)
        watched_ids = list(validation[::stride])
        watched = watched_windows(self.plan, self.data, watched_ids, config)
        return partial(self._evaluation, watched_ids, watched, watch.also_forecast)

    def _note(self, log: TrainLog, step_costs: Sequence[Costs]) -> None:
        """Record how far the training has come, and what the steps since the last note cost."""
        record = self.record
        record.loss_curve = log.losses
        record.evaluations = log.evaluations
        new_seconds = log.seconds - record.train_seconds
        record.seconds = round(record.seconds + new_seconds, 2)
        record.train_seconds = round(log.seconds, 2)
        record.evaluation_seconds = round(log.evaluation_seconds, 2)
        record.steps_run += len(step_costs)
        self.charge("training", *step_costs)
        save_record(self.profile, record)

    def _evaluation(
        self, ids: list[int], watched: list[np.ndarray], forecasts: bool
    ) -> dict[str, float]:
        """Return the loss of the watched windows, and the MAE if the series are also forecast.

        The loss is the mean over the windows, in nats a token; the MAE is in scaled units. What the
        two cost is charged as evaluation.
        """
        losses = []
        with torch.no_grad():
            for window in watched:
                row = torch.from_numpy(window[None]).to(self.backbone.device)
                losses.append(window_loss(self.backbone.model, row).item())
        evaluation = {"loss": float(np.mean(losses))}
        self.charge("evaluation", costs.loss_costs(self.shape, watched, **self.work.adapter))
        if forecasts:
            entries = self._forecast_batch("evaluation", ids)
            errors = summarise(entry["mae"] for entry in entries.values())
            evaluation |= {"mae_mean": errors.mean, "mae_median": errors.median}
        return evaluation

    def _forecast_batch(self, kind: str, ids: list[int]) -> dict[int, Entry]:
        """Forecast one batch, charge its costs, and return its entries of the record's `series`."""
        protocol = self.plan.protocol
        entries = forecast_entries(self.backbone, self.data, ids, protocol)
        series_costs = [
            costs.series_costs(self.shape, entry, protocol, **self.work.adapter)
            for entry in entries.values()
        ]
        self.charge(kind, *series_costs)
        return entries


def forecast_entries(
    backbone: Backbone, data: SeriesSet, ids: list[int], protocol: DecodeConfig
) -> dict[int, Entry]:
    """Forecast some series in one batch, and return the entries of a record, by series id."""
    forecasts = forecast(backbone, data.contexts[ids], protocol, batch_size=len(ids), ids=ids)
    truths = to_integers(data.truths[ids], data.scales[ids], protocol.rounding)
    entries = {}
    for series_id, ahead, truth in zip(ids, forecasts, truths, strict=True):
        entries[series_id] = records.entry_of(ahead, truth)
    return entries
