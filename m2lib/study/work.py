"""A run in progress: training, evaluations and forecasts, step by step into its record, with what they cost."""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from m2lib import model, settings, training
from m2lib.accounting import TARGETS, Shape
from m2lib.files import InputError
from m2lib.forecasting import DECODE_VERSION, Forecast, forecast
from m2lib.model import text_to_ids
from m2lib.series import (
    CODEC_VERSION,
    SeriesSet,
    crps_fair,
    encode,
    generate_series,
    series_mae,
    split_ids,
    to_integers,
)
from m2lib.settings import out_dir
from m2lib.study.costs import Costs, estimate, loss_costs, series_costs, step_costs, sum_costs
from m2lib.study.experiments import Experiment
from m2lib.study.profiles import Profile
from m2lib.study.records import Entry, Record, fingerprint, load_record, record_path, save_record
from m2lib.study.report_tables import deciding_errors
from m2lib.study.selection import Maes


def adapter_path(profile: Profile | str, name: str) -> Path:
    """The folder of a trained experiment's adapter, beside its record."""
    return record_path(profile, name).with_suffix("")


def keep_aside(profile: Profile, name: str) -> Path | None:
    """Copy a record that a new run replaces, and its adapter, into `M2_OUT`; the copy's place, None for no record."""
    path, adapter = record_path(profile, name), adapter_path(profile, name)
    if not path.exists() or profile.live:
        return None
    aside = out_dir() / "replaced" / time.strftime("%Y%m%d-%H%M%S") / path.parent.name
    try:
        aside.mkdir(parents=True, exist_ok=True)
        if adapter.is_dir():
            shutil.copytree(adapter, aside / adapter.name, dirs_exist_ok=True)
        return Path(shutil.copy2(path, aside))
    except OSError as error:
        raise InputError(f"cannot keep {path} in {aside}: {error.strerror or error}; free space there") from error


def simulation_seed(step: int, seed: int) -> int:
    """Of the systems that a step trains on, where they are simulated. Seed 0 makes the data set: no step has it."""
    return 1 + step + 10**6 * seed


def adapter_hash(folder: Path) -> str:
    """16 hex digits of a hash of an adapter's files; empty where there are none."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    content = b"".join(path.name.encode() + path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()[:16] if files else ""


@dataclass(frozen=True)
class Plan:
    """What is to be run: all that decides a run's numbers, before a model is loaded."""

    experiment: Experiment
    """With the profile's sizes."""
    profile: Profile
    data: SeriesSet
    weights: str
    """The backbone's weight hash."""
    source: str | None = None
    """The experiment whose adapter is used."""
    adapter: str = ""
    """The hash of that adapter's files."""

    @property
    def decisive(self) -> dict[str, Any]:
        """All that decides the run's numbers; records are told apart by its hash, so its form never changes."""
        decisive = {
            "settings": self.experiment.settings(self.profile),
            "series": self.profile.series,
            "weights": self.weights,
            "data": self.data.fingerprint,
            "version": [CODEC_VERSION, DECODE_VERSION],
        }
        return decisive | ({"adapter": self.adapter} if self.source else {})

    @property
    def fingerprint(self) -> str:
        """Of the run's record."""
        return fingerprint(self.decisive)

    def load_backbone(self, dtype: str | None = None) -> model.Backbone:
        """The language model that the experiment starts from.

        dtype: of a run that goes on. Default: float32 where all weights train, else as `model.load_backbone` has it.
        """
        train = self.experiment.train
        dtype = dtype or ("float32" if train and not train["rank"] else None)
        backbone = model.load_backbone(self.experiment.backbone or self.profile.backbone, dtype=dtype)
        if self.experiment.shuffled:
            model.shuffle_weights(backbone.model)
        return backbone

    def maes(self, name: str) -> Maes:
        """The recorded errors of another experiment at the same profile."""
        return load_record(self.profile, name, self.data).maes()

    def choosing(self, name: str) -> Maes:
        """The errors by which series and adapters are chosen."""
        return deciding_errors(self.profile, self.maes)(name)


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
    limit: Costs = field(default_factory=sum_costs)
    """What the record may come to have spent; what is left of it is reserved in the record's file."""

    @property
    def shape(self) -> Shape:
        """Of the model, for the accountant."""
        return Shape.of(self.backbone.model.config)

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's own checkpoints."""
        record = self.record
        name = "-".join((record.profile, record.backbone["id"], record.name, record.run))
        return out_dir() / "checkpoints" / name.replace("/", "_")

    def needed(self) -> Costs:
        """What it may still spend."""
        plan = self.plan
        # Training goes on from a checkpoint, which may be older than the record, or gone.
        done = {"steps": training.saved_step(self.checkpoints), "series": len(self.record.series)}
        return sum_costs(*estimate(plan.experiment, plan.profile, self.shape, **done, adapter=plan.source).values())

    def store(self) -> None:
        """Write the record; what is left of the limit stays reserved."""
        spent = self.record.spent()
        left = {kind: max(0, flops - spent[kind]) for kind, flops in self.limit.items()}
        save_record(self.plan.profile, self.record.reserving(left))

    def end(self, status: Literal["done", "aborted"]) -> None:
        """Write the record for the last time, with nothing reserved."""
        self.record.status, self.limit = status, sum_costs()
        self.store()
        if status == "done":
            shutil.rmtree(self.checkpoints, ignore_errors=True)

    def charge(self, kind: str, *costs: Costs) -> None:
        """Add costs to what the record has spent on `training`, `evaluation` or `forecasts`."""
        self.record.flops[kind] = sum_costs(self.record.flops[kind], *costs)

    def train_adapter(self) -> None:
        """Train the experiment's adapter into the backbone, going on from its checkpoints, and store it."""
        plan, record, profile = self.plan, self.record, self.plan.profile
        config = training.TrainConfig(**record.config["train"])
        record.training, record.seed = asdict(config) | {"targets": list(config.targets)}, config.seed

        def note(log: "training.TrainLog", steps: Sequence[int] = ()) -> None:
            record.loss_curve, record.evaluations = log.losses, log.evaluations
            record.seconds = round(record.seconds + log.seconds - record.train_seconds, 2)
            record.train_seconds = round(log.seconds, 2)
            record.evaluation_seconds = round(log.evaluation_seconds, 2)
            record.steps_run += len(steps)
            batches = (training.batch_of(step, windows, config) for step in steps)
            costs = (step_costs(self.shape, batch, config.rank, config.targets) for batch in batches)
            self.charge("training", *costs)
            self.store()

        split = split_ids(len(plan.data))
        # Every so-many-th validation series: of 50, watched 10, each fifth. -(-a // b) is a / b rounded up.
        watch = plan.experiment.watch(profile)
        watched = split.validation[:: -(-len(split.validation) // max(1, watch.series))]
        windows: training.Source = (
            self._simulated(config)
            if plan.experiment.simulated
            else self._windows(plan.data, split.train, config.sequence_length)
        )
        watched_windows = self._windows(plan.data, watched, config.sequence_length)
        log = training.train(
            self.backbone.model,
            windows,
            config,
            self.checkpoints,
            checkpoint_every=profile.checkpoint_every,
            on_checkpoint=note,
            evaluate=(lambda: self._evaluation(list(watched), watched_windows)) if watch.series else None,
            evaluate_after=watch.after,
            recompute=settings.read("M2_RECOMPUTE") == "1",
            progress=not profile.live,
            flops_of=lambda batch: step_costs(self.shape, batch, config.rank, config.targets)["executed"],
        )
        note(log)
        if config.rank:  # where all weights train, the record and its forecasts are kept alone
            folder = adapter_path(profile, record.name)
            model.save_adapter(self.backbone.model, folder, self.backbone.name)
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
                batch = left[start : start + size]
                entries = self._entries(batch)
                record.series |= entries
                self.charge("forecasts", *self._costs(entries))
                record.seconds = round(before + time.perf_counter() - started, 2)
                self.store()
                bar.update(len(batch))

    def _evaluation(self, ids: list[int], windows: np.ndarray) -> dict[str, float]:
        """Validation loss (nats a token, mean over windows), and MAE (scaled units) where the profile forecasts too."""
        import torch

        rows = torch.from_numpy(windows).to(self.backbone.device)[:, None]
        measured = {"loss": float(np.mean([training.window_loss(self.backbone.model, row).item() for row in rows]))}
        if self.plan.experiment.watch(self.plan.profile).forecasts:
            entries = self._entries(ids)
            maes = [entry["mae"] for entry in entries.values()]
            measured |= {"mae_mean": float(np.mean(maes)), "mae_median": float(np.median(maes))}
            self.charge("evaluation", *self._costs(entries))
        self.charge("evaluation", loss_costs(self.shape, windows, *self._adapter))
        return measured

    @property
    def _adapter(self) -> tuple[int, tuple[str, ...]]:
        """Rank and targets of the adapter that is in the backbone; rank 0 for none."""
        if not model.lora_layers(self.backbone.model):
            return 0, TARGETS
        rank, _, targets = model.adapter_settings(self.backbone.model)
        return rank, targets

    def _costs(self, entries: dict[int, Entry]) -> list[Costs]:
        protocol = self.plan.experiment.protocol
        return [series_costs(self.shape, entry, protocol, *self._adapter) for entry in entries.values()]

    def _simulated(self, config: "training.TrainConfig") -> Callable[[int], np.ndarray]:
        """Gives the windows of a step: one of each of batch_size systems that no other step has, nor the data set."""

        def windows(step: int) -> np.ndarray:
            seed = simulation_seed(step, config.seed)
            drawn, choose = generate_series(config.batch_size, seed), np.random.default_rng(seed)
            each = [self._windows(drawn, [i], config.sequence_length) for i in range(len(drawn))]
            return np.stack([cut[choose.integers(len(cut))] for cut in each])

        return windows

    def _windows(self, data: SeriesSet, ids: Sequence[int], length: int) -> np.ndarray:
        rounding = self.plan.experiment.protocol.rounding
        texts = [encode(data.trajectories[i], float(data.scales[i]), rounding, i) for i in ids]
        return training.make_windows([text_to_ids(text) for text in texts], length)

    def _entries(self, ids: list[int]) -> dict[int, Entry]:
        """The record's `series` entries of one batch."""
        data, protocol = self.plan.data, self.plan.experiment.protocol
        forecasts = forecast(self.backbone, data.contexts[ids], protocol, batch_size=len(ids), ids=ids)
        truths = to_integers(data.truths[ids], data.scales[ids], protocol.rounding)
        return {series: _entry(ahead, truth) for series, ahead, truth in zip(ids, forecasts, truths, strict=True)}


def _entry(ahead: Forecast, truth: np.ndarray) -> Entry:
    """What a record keeps of a forecast: single values of a greedy one, lists over the samples of a sampled one."""
    entry: Entry = {
        "mae": float(series_mae(ahead.point, truth)),
        "repairs": sum(ahead.repairs),
        "prompt_tokens": ahead.prompt_tokens,
        "padded_tokens": ahead.padded_tokens,
        "new_tokens": list(ahead.new_tokens),
        "passes": list(ahead.passes),
    }
    if len(ahead.texts) == 1:
        return entry | {"text": ahead.texts[0], "new_tokens": ahead.new_tokens[0], "passes": ahead.passes[0]}
    return entry | {"texts": list(ahead.texts), "crps": crps_fair(ahead.values, truth)}
