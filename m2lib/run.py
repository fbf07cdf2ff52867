"""The one way to run an experiment: train, forecast, score, and record on the way."""

import hashlib
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2lib.codec import CODEC_VERSION, encode, to_integers
from m2lib.data import SeriesSet, load_series, split_ids
from m2lib.experiments import EXPERIMENTS, Experiment, series_ids
from m2lib.files import InputError, out_dir, write_atomic
from m2lib.forecast import DECODE_VERSION, DecodeConfig, forecast, read_back
from m2lib.metrics import series_mae
from m2lib.processes import Processes, join_processes
from m2lib.profiles import Profile, active_profile
from m2lib.results import Result, describe_device, fingerprint, load_result, provenance, result_path, save_result
from m2lib.vocabulary import text_to_ids

if TYPE_CHECKING:
    from m2lib.backbones import Backbone


def adapter_path(profile: Profile | str, name: str) -> Path:
    """The folder of a trained experiment's adapter, beside its record."""
    return result_path(profile, name).with_suffix("")


def adapter_hash(folder: Path) -> str:
    """16 hex digits of a hash of an adapter's files; empty where there are none."""
    files = sorted(path for path in folder.glob("*") if path.suffix in (".json", ".safetensors"))
    content = b"".join(path.name.encode() + path.read_bytes() for path in files)
    return hashlib.sha256(content).hexdigest()[:16] if files else ""


def run(name: str, profile: Profile | None = None, *, data: SeriesSet | None = None, fresh: bool = False) -> Result:
    """Load an experiment's finished record, or run it, with a checkpoint every so many steps and after each batch.

    profile: default the active one. data: default `load_series()`. fresh: run again even where there is a record.
    An interrupted run goes on where it stopped, on the same device and in the same dtype. A record made from other
    weights, data or settings is replaced only if `fresh`, or if the profile is live. An experiment that builds on an
    earlier one runs that too, if it has no record. Where a launcher started several processes they train together; the
    lead alone writes and forecasts, the others return an unfinished result. Raises InputError before anything is
    computed where the record cannot be written.
    """
    from m2lib.backbones import load_backbone, weight_hash

    if name not in EXPERIMENTS:
        raise InputError(f"unknown experiment {name!r}: choose one of {', '.join(EXPERIMENTS)}")
    experiment = EXPERIMENTS[name]
    profile = profile or active_profile()
    data = load_series() if data is None else data
    processes = join_processes()
    decisive = {
        "settings": experiment.settings(profile),
        "series": profile.series,
        "weights": weight_hash(profile.backbone),
        "data": data.fingerprint,
        "version": [CODEC_VERSION, DECODE_VERSION],
    }
    if experiment.adapter:
        decisive["adapter"] = run(experiment.adapter, profile, data=data).adapter
    result = None if fresh else _stored(profile, name, decisive)
    if result and result.status == "done":
        return result

    backbone = load_backbone(profile.backbone)
    if result and (result.backbone["dtype"], result.device) != (backbone.dtype, describe_device(backbone.device)):
        raise InputError(
            f"{result_path(profile, name)} was begun in {result.backbone['dtype']} on {result.device}; go on there "
            f"(M2_DTYPE, M2_DEVICE), or `m2 run {name} --fresh` starts again"
        )
    result = result or Result(
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
    result.status = "running"
    work = _Work(experiment, profile, data, backbone, result, processes)
    path = result_path(profile, name)
    # A folder that cannot be written to fails here, not after minutes of work. With `fresh` the old record stands
    # until there is something to put in its place.
    replaces = fresh and path.exists()
    if not replaces:
        work.save()
    elif processes.lead:
        write_atomic(path, path.read_bytes())
    try:
        if experiment.train:
            work.train(fresh)
        if not processes.lead:
            return result
        if experiment.adapter:
            work.load_adapter()
        earlier = run(experiment.select[0], profile, data=data).maes() if experiment.select else None
        work.forecast(series_ids(experiment, profile.series, len(data), earlier))
    except BaseException:
        result.status = "aborted"
        if result.series or result.loss_curve or not replaces:
            work.save()
        raise
    result.status = "done"
    work.save()
    return result


@dataclass
class _Work:
    """What a run computes, step by step into its record."""

    experiment: Experiment
    profile: Profile
    data: SeriesSet
    backbone: "Backbone"
    result: Result
    processes: Processes

    def save(self) -> None:
        if self.processes.lead:
            save_result(self.profile, self.result)

    def train(self, fresh: bool) -> None:
        """Train the experiment's adapter into the backbone, going on from its checkpoints, and store it."""
        from m2lib.lora import save_adapter
        from m2lib.train import TrainConfig, train

        result, profile = self.result, self.profile
        config = TrainConfig(**result.config["train"])
        result.training, result.seed = asdict(config), config.seed
        name = (result.profile, result.backbone["id"], result.backbone["dtype"], result.name, result.fingerprint)
        checkpoints = out_dir() / "checkpoints" / "-".join(name)
        with self.processes.lead_first():
            if fresh and checkpoints.exists():
                shutil.rmtree(checkpoints)

        def record(log, steps=()):
            result.loss_curve, result.evaluations = log.losses, log.evaluations
            result.seconds = round(result.seconds + log.seconds - result.train_seconds, 2)
            result.train_seconds = round(log.seconds, 2)
            result.steps_run += len(steps)
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
            progress=not profile.live and self.processes.lead,
        )
        record(log)
        if self.processes.lead:
            folder = adapter_path(profile, result.name)
            save_adapter(self.backbone.model, folder, self.backbone.name)
            result.adapter = adapter_hash(folder)

    def load_adapter(self) -> None:
        """Put the adapter of the experiment that this one builds on into the backbone."""
        from m2lib.lora import load_adapter

        folder = adapter_path(self.profile, self.experiment.adapter)
        if adapter_hash(folder) != self.result.adapter:
            again = f"m2 run {self.experiment.adapter} --fresh"
            raise InputError(f"{folder} is not the adapter that its record names; `{again}` makes both anew")
        load_adapter(self.backbone.model, folder)

    def forecast(self, ids: list[int]) -> None:
        """Forecast the series that the record lacks, saving it after each batch."""
        from tqdm.auto import tqdm

        result, size = self.result, self.profile.batch_size
        result.series = {series: result.series[series] for series in ids if series in result.series}
        left = [series for series in ids if series not in result.series]
        started, before = time.perf_counter(), result.seconds
        done, live = len(ids) - len(left), self.profile.live
        with tqdm(total=len(ids), initial=done, desc=result.name, unit="series", disable=live) as bar:
            for start in range(0, len(left), size):
                batch = left[start : start + size]
                result.series |= self._evaluate(batch)
                result.seconds = round(before + time.perf_counter() - started, 2)
                self.save()
                bar.update(len(batch))

    def _watch(self, ids: list[int], windows: np.ndarray) -> dict:
        """Validation loss (nats a token, mean over windows), and MAE (scaled units) where the profile forecasts too."""
        import torch

        from m2lib.train import window_loss

        rows = torch.from_numpy(windows).to(self.backbone.device)[:, None]
        measured = {"loss": float(np.mean([window_loss(self.backbone.model, row).item() for row in rows]))}
        if self.profile.watched_forecasts:
            maes = [entry["mae"] for entry in self._evaluate(ids).values()]
            measured |= {"mae_mean": float(np.mean(maes)), "mae_median": float(np.median(maes))}
        return measured

    def _windows(self, ids: list[int], length: int) -> np.ndarray:
        from m2lib.train import make_windows

        rounding = self.experiment.decode.rounding
        texts = [encode(self.data.trajectories[i], self.data.scales[i], rounding, i) for i in ids]
        return make_windows([text_to_ids(text) for text in texts], length)

    def _evaluate(self, ids: list[int]) -> dict[int, dict]:
        """The record's `series` entries of one batch."""
        data, config = self.data, self.experiment.decode
        forecasts = forecast(self.backbone, data.contexts[ids], config, batch_size=len(ids), ids=ids)
        truths = to_integers(data.truths[ids], data.scales[ids], config.rounding)
        return {
            series: {
                "mae": float(series_mae(one.values[0], truth)),
                "repairs": one.repairs[0],
                "text": one.texts[0],
                "prompt_tokens": one.prompt_tokens,
                "padded_tokens": one.padded_tokens,
                "new_tokens": one.new_tokens,
            }
            for series, one, truth in zip(ids, forecasts, truths, strict=True)
        }


def recorded_forecast(result: Result, data: SeriesSet, series: int) -> np.ndarray:
    """The forecast that a record holds as text: int64 (20, 2), scaled units."""
    config = DecodeConfig(**result.config["decode"])
    return read_back(result.series[series]["text"], data.contexts[series], data.scales[series], config).values


def _stored(profile: Profile, name: str, decisive: dict) -> Result | None:
    """The stored record of the same run; None where there is none, or a live profile's is another's.

    Raises InputError where going on would overwrite the record of another run.
    """
    if not result_path(profile, name).exists():
        return None
    try:
        stored = load_result(profile, name)
    except InputError as error:
        if profile.live:
            return None
        raise InputError(f"{error}; `m2 run {name} --fresh` replaces it") from error
    if stored.fingerprint == fingerprint(decisive):
        return stored
    if profile.live:
        return None
    was = {
        "settings": stored.config,
        "weights": stored.backbone["weight_hash"],
        "data": stored.data["fingerprint"],
        "adapter": stored.adapter,
    }
    different = [part for part in was if part in decisive and fingerprint(was[part]) != fingerprint(decisive[part])]
    raise InputError(
        f"{result_path(profile, name)} was recorded with other {' and '.join(different) or 'sizes or code versions'}; "
        f"`m2 run {name} --fresh` replaces it"
    )
