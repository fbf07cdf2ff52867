"""What a run computes, step by step into its record: training, evaluations, forecasts, and what they cost."""

import hashlib
import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2lib.accounting.shape import Shape
from m2lib.files import InputError, out_dir
from m2lib.forecasting.forecasts import Forecast, forecast
from m2lib.model.vocabulary import text_to_ids
from m2lib.series.codec import encode, to_integers
from m2lib.series.data import SeriesSet, split_ids
from m2lib.series.metrics import crps_fair, series_mae
from m2lib.study.costs import Costs, loss_costs, series_costs, step_costs, sum_costs
from m2lib.study.experiments import Experiment
from m2lib.study.profiles import Profile
from m2lib.study.records import Record, record_path, save_record
from m2lib.training.processes import Processes

if TYPE_CHECKING:
    from m2lib.model.backbones import Backbone


def adapter_path(profile: Profile | str, name: str) -> Path:
    """The folder of a trained experiment's adapter, beside its record."""
    return record_path(profile, name).with_suffix("")


def adapter_hash(folder: Path) -> str:
    """16 hex digits of a hash of an adapter's files; empty where there are none."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    content = b"".join(path.name.encode() + path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()[:16] if files else ""


@dataclass
class RunInProgress:
    """What a run computes, step by step into its record."""

    experiment: Experiment
    profile: Profile
    data: SeriesSet
    backbone: "Backbone"
    result: Record
    processes: Processes
    shape: Shape
    limit: Costs = field(default_factory=sum_costs)  # what the record may come to have spent

    def save(self) -> None:
        """Write the record; what is left of the limit stays reserved."""
        spent = self.result.spent()
        self.result.flops["reserved"] = {kind: max(0, flops - spent[kind]) for kind, flops in self.limit.items()}
        if self.processes.lead:
            save_record(self.profile, self.result)

    def spend(self, kind: str, *costs: Costs) -> None:
        self.result.flops[kind] = sum_costs(self.result.flops[kind], *costs)

    def train(self, fresh: bool) -> None:
        """Train the experiment's adapter into the backbone, going on from its checkpoints, and store it."""
        from m2lib.model.lora import save_adapter
        from m2lib.training.loop import TrainConfig, batch_of, train

        result, profile = self.result, self.profile
        config = TrainConfig(**result.config["train"])
        result.training, result.seed = asdict(config), config.seed
        name = (result.profile, result.backbone["id"], result.backbone["dtype"], result.name, result.fingerprint)
        checkpoints = out_dir() / "checkpoints" / "-".join(name).replace("/", "_")
        with self.processes.lead_first():
            if fresh and checkpoints.exists():
                shutil.rmtree(checkpoints)

        def record(log, steps=()):
            result.loss_curve, result.evaluations = log.losses, log.evaluations
            result.seconds = round(result.seconds + log.seconds - result.train_seconds, 2)
            result.train_seconds = round(log.seconds, 2)
            result.evaluation_seconds = round(log.evaluation_seconds, 2)
            result.steps_run += len(steps)
            batches = (batch_of(step, train_windows, config) for step in steps)
            self.spend("training", *(step_costs(self.shape, batch, config.rank) for batch in batches))
            self.save()

        split = split_ids(len(self.data))
        watched = list(split.validation[:: -(-len(split.validation) // max(1, profile.watched))])
        train_windows, watched_windows = (self._windows(ids, config.sequence_length) for ids in (split.train, watched))
        log = train(
            self.backbone.model,
            train_windows,
            config,
            checkpoints,
            checkpoint_every=profile.checkpoint_every,
            on_checkpoint=record,
            evaluate=(lambda: self._watch(watched, watched_windows)) if profile.watched else None,
            evaluate_every=profile.evaluate_every,
            processes=self.processes,
            recompute=os.environ.get("M2_RECOMPUTE", "") not in ("", "0"),
            progress=not profile.live and self.processes.lead,
        )
        record(log)
        if self.processes.lead:
            folder = adapter_path(profile, result.name)
            save_adapter(self.backbone.model, folder, self.backbone.name)
            result.adapter = adapter_hash(folder)

    def load_adapter(self, source: str) -> None:
        """Put the adapter of an earlier experiment into the backbone."""
        from m2lib.model.lora import load_adapter

        folder = adapter_path(self.profile, source)
        if adapter_hash(folder) != self.result.adapter:
            again = f"m2 run {source} --fresh"
            raise InputError(f"{folder} is not the adapter that its record names; `{again}` makes both anew")
        load_adapter(self.backbone.model, folder)

    def forecast(self, ids: list[int]) -> None:
        """Forecast the series that the record lacks, saving it after each batch."""
        from tqdm.auto import tqdm

        result, size = self.result, max(1, self.profile.batch_size // self.experiment.decode.n_samples)
        result.series = {series: result.series[series] for series in ids if series in result.series}
        left = [series for series in ids if series not in result.series]
        started, before = time.perf_counter(), result.seconds
        done, live = len(ids) - len(left), self.profile.live
        with tqdm(total=len(ids), initial=done, desc=result.name, unit="series", leave=None, disable=live) as bar:
            for start in range(0, len(left), size):
                batch = left[start : start + size]
                entries = self._evaluate(batch)
                result.series |= entries
                self.spend("forecasts", *self._costs(entries))
                result.seconds = round(before + time.perf_counter() - started, 2)
                self.save()
                bar.update(len(batch))

    def _watch(self, ids: list[int], windows: np.ndarray) -> dict:
        """Validation loss (nats a token, mean over windows), and MAE (scaled units) where the profile forecasts too."""
        import torch

        from m2lib.training.loop import window_loss

        rows = torch.from_numpy(windows).to(self.backbone.device)[:, None]
        measured = {"loss": float(np.mean([window_loss(self.backbone.model, row).item() for row in rows]))}
        if self.experiment.watched(self.profile):
            entries = self._evaluate(ids)
            maes = [entry["mae"] for entry in entries.values()]
            measured |= {"mae_mean": float(np.mean(maes)), "mae_median": float(np.median(maes))}
            self.spend("evaluation", *self._costs(entries))
        self.spend("evaluation", loss_costs(self.shape, windows, self.rank))
        return measured

    @property
    def rank(self) -> int:
        """Of the adapter that is in the backbone; 0 for none."""
        from m2lib.model.lora import lora_layers

        return next((layer.rank for layer in lora_layers(self.backbone.model).values()), 0)

    def _costs(self, entries: dict[int, dict]) -> list[Costs]:
        return [series_costs(self.shape, entry, self.experiment.decode, self.rank) for entry in entries.values()]

    def _windows(self, ids: list[int], length: int) -> np.ndarray:
        from m2lib.training.loop import make_windows

        rounding = self.experiment.decode.rounding
        texts = [encode(self.data.trajectories[i], self.data.scales[i], rounding, i) for i in ids]
        return make_windows([text_to_ids(text) for text in texts], length)

    def _evaluate(self, ids: list[int]) -> dict[int, dict]:
        """The record's `series` entries of one batch."""
        data, config = self.data, self.experiment.decode
        forecasts = forecast(self.backbone, data.contexts[ids], config, batch_size=len(ids), ids=ids)
        truths = to_integers(data.truths[ids], data.scales[ids], config.rounding)
        return {series: _entry(one, truth) for series, one, truth in zip(ids, forecasts, truths, strict=True)}


def _entry(one: Forecast, truth: np.ndarray) -> dict:
    """What a record keeps of a forecast: single values of a greedy one, lists over the samples of a sampled one."""
    entry = {"mae": float(series_mae(one.point, truth)), "repairs": sum(one.repairs)}
    tokens = {"prompt_tokens": one.prompt_tokens, "padded_tokens": one.padded_tokens}
    if len(one.texts) == 1:
        return entry | {"text": one.texts[0]} | tokens | {"new_tokens": one.new_tokens[0], "passes": one.passes[0]}
    samples = {"texts": list(one.texts), "new_tokens": list(one.new_tokens), "passes": list(one.passes)}
    return entry | {"crps": crps_fair(one.values, truth)} | tokens | samples
