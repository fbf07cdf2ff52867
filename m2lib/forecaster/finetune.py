"""Fine-tuning on a reader's own table: what it will cost, an adapter folder with its card, before and after."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from m2lib.files import InputError, write_atomic
from m2lib.forecaster.evaluation import MODEL, evaluate
from m2lib.forecaster.export import CARD_FILE, FACTS_FILE, model_card
from m2lib.forecaster.sampling import SAMPLES, WINDOW, Sampler
from m2lib.forecaster.tables import Item, check_folder
from m2lib.model import (
    ALL_TARGETS,
    CONFIG_FILE,
    Backbone,
    adapter_settings,
    load_adapter,
    load_backbone,
    save_adapter,
)
from m2lib.series import FORMAT_FILE, TextFormat

if TYPE_CHECKING:
    from m2lib.training import TrainConfig, TrainLog

Kind = TypeVar("Kind", bound=Sampler)
MOST_ASKED = 50  # series that are forecast before and after
NEW_RATE, FURTHER_RATE = 4e-3, 1e-3  # peak rates: of a new adapter, and to go on from one


def finetune(
    forecaster: Kind,
    items: Sequence[Item],
    targets: Sequence[str],
    prediction_length: int,
    output_dir: str | Path,
    *,
    force: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
    **how: Any,
) -> Kind:
    """Train an adapter on series, all but their last `prediction_length` steps, and see what it was worth.

    `Forecaster.fit` says what the arguments are.
    """
    folder = Path(output_dir).expanduser()
    if (folder / CONFIG_FILE).exists() and not force:
        raise InputError(f"{folder} holds an adapter already; name another folder, or give --force (force=True)")
    check_folder(folder)
    seen = [item.values[:-prediction_length] for item in items]
    text_format = forecaster.format_of(seen, [item.name for item in items])
    config = _config(forecaster, **how)
    training = _training(forecaster, seen, text_format, prediction_length, config)
    backbone = training.backbone

    asked = list(items)
    if len(items) > MOST_ASKED:
        drawn = np.random.default_rng(config.seed).choice(len(items), MOST_ASKED, replace=False)
        asked = [items[place] for place in sorted(drawn)]
    many = "the series is" if len(items) == 1 else f"{len(asked)} of {len(items)} series are"
    say(f"{training.announcement()}; before and after, {many} forecast")
    before = evaluate(replace(forecaster, text_format=text_format), asked, prediction_length, seed=config.seed)
    decides = repr([backbone.weight_hash, text_format, prediction_length, str(forecaster.adapter)]).encode()
    name = hashlib.sha256(decides + b"".join(series.tobytes() for series in seen)).hexdigest()[:16]
    checkpoints = folder / f"checkpoints-{name}"
    log = training.run(checkpoints, progress)
    tuned = replace(forecaster, backbone=backbone, text_format=text_format, adapter=folder)
    after = evaluate(tuned, asked, prediction_length, seed=config.seed)

    spent = sum(training.flops(training.windows(step), "coursework") for step in range(config.steps))
    start = forecaster.adapter.name if forecaster.adapter else "the base"
    ours = {"MAE": after.mae, "CRPS": after.crps}
    errors = {f"this adapter (median of {SAMPLES} samples)": ours, "before": {"MAE": before.mae, "CRPS": before.crps}}
    errors |= {name: {"MAE": float(maes.mean())} for name, maes in after.errors.items() if name != MODEL}
    facts = {
        "data": f"{len(items)} series of {', '.join(targets)}, {sum(map(len, seen))} steps in all",
        "recipe": {"start": start, **asdict(config), "targets": ", ".join(config.targets)},
        "flops": spent,
        "measured": f"the last {prediction_length} steps of {len(asked)} series, which were kept back; table's units",
        "errors": errors,
    }
    (folder / CONFIG_FILE).unlink(missing_ok=True)  # no old weights are ever read in the new format
    write_atomic(folder / FORMAT_FILE, text_format.text().encode())
    write_atomic(folder / FACTS_FILE, (json.dumps(facts, indent=1) + "\n").encode())
    write_atomic(folder / CARD_FILE, model_card(backbone.name, text_format, facts, horizon=prediction_length).encode())
    save_adapter(backbone.model, folder, backbone.loaded_by)
    shutil.rmtree(checkpoints, ignore_errors=True)
    say(f"{log.step} steps, {_duration(log.seconds)}, {spent:.3g} FLOPs by the rules: {folder}")
    say(f"MAE of the last {prediction_length} steps: {before.mae:.4g} before, {after.mae:.4g} after")
    say(after.verdict)
    return tuned


def refitter(forecaster: Sampler, horizon: int, steps: int, seed: int = 0) -> Callable[[Sequence[np.ndarray]], Sampler]:
    """What fine-tunes a forecaster anew for each origin of an evaluation, on what was known then; nothing is kept."""
    config = _config(forecaster, num_steps=steps, seed=seed)

    def _refit(contexts: Sequence[np.ndarray]) -> Sampler:
        text_format = forecaster.format_of(contexts)
        training = _training(forecaster, contexts, text_format, horizon, config)
        with TemporaryDirectory() as checkpoints:
            training.run(Path(checkpoints))
        return replace(forecaster, backbone=training.backbone, text_format=text_format)

    return _refit


@dataclass(frozen=True)
class _Training:
    """A training that has not begun: of which model, on which windows, and how."""

    backbone: Backbone
    windows: Callable[[int], np.ndarray]
    config: "TrainConfig"

    def flops(self, batch: np.ndarray, convention: str) -> int:
        """What a step on a batch of windows costs."""
        from m2lib.training import step_flops

        return step_flops(self.backbone.model, batch, self.config, convention)

    def announcement(self) -> str:
        """What it will cost, in words: FLOPs by the rules, and the time, which a forward pass foretells."""
        from m2lib.accounting import Shape, forward_flops, total
        from m2lib.training import window_loss

        model, batch, steps = self.backbone.model, self.windows(0), self.config.steps
        rows = torch.from_numpy(batch).to(self.backbone.device)
        with torch.inference_mode():
            window_loss(model, rows)  # the first pass warms up
            began = time.perf_counter()
            window_loss(model, rows)
            seconds = time.perf_counter() - began
        # A step takes as much longer than a forward pass as it computes more.
        forward = len(batch) * total(forward_flops(Shape.of(model.config), batch.shape[1], convention="executed"))
        duration = _duration(steps * seconds * self.flops(batch, "executed") / forward)
        cost = f"{steps * self.flops(batch, 'coursework'):.2g} FLOPs by the rules"
        return f"{steps} steps of {batch.size} tokens: {cost}, some {duration} here"

    def run(self, checkpoints: Path, progress: bool = True) -> "TrainLog":
        """Train, or go on from the folder's checkpoints."""
        from m2lib.training import train

        return train(self.backbone.model, self.windows, self.config, checkpoints, progress=progress)


def _training(
    forecaster: Sampler, seen: Sequence[np.ndarray], text_format: TextFormat, horizon: int, config: "TrainConfig"
) -> _Training:
    """The training of a forecaster on series; its language model and adapter are loaded anew."""
    from m2lib.training import cut_windows

    context = forecaster.window(text_format, horizon)
    windows = cut_windows(seen, text_format, horizon, context, config.batch_size, config.seed)
    backbone = forecaster.backbone
    fresh = load_backbone(backbone.loaded_by, device=str(backbone.device), dtype=backbone.dtype)
    if forecaster.adapter:
        load_adapter(fresh.model, forecaster.adapter)
    return _Training(fresh, windows, config)


def _config(
    forecaster: Sampler, num_steps: int = 200, learning_rate: float | None = None, rank: int = 4, **more: Any
) -> "TrainConfig":
    """How to train: a new adapter of this rank on all layers, or the one to start from as it is."""
    from m2lib.training import TrainConfig

    if rank < 1:
        raise InputError(f"rank is {rank}; give one of at least 1")
    adapter: dict[str, Any] = {"rank": rank, "targets": ALL_TARGETS}
    if forecaster.adapter:
        adapter = dict(zip(("rank", "alpha", "targets"), adapter_settings(forecaster.backbone.model), strict=True))
    rate = learning_rate if learning_rate is not None else FURTHER_RATE if forecaster.adapter else NEW_RATE
    schedule = {"warmup": 0.05, "decay": "cosine", "clip_norm": 1.0, "sequence_length": WINDOW, "batch_size": 1}
    return TrainConfig(num_steps, rate, **(adapter | schedule | more))


def _duration(seconds: float) -> str:
    """In seconds up to two minutes, then in minutes."""
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
