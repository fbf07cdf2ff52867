"""Fine-tuning on a reader's own table: what it will cost, an adapter folder with its card, before and after."""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from m2lib import settings
from m2lib.accounting import Shape, total, train_step_flops
from m2lib.files import InputError, remove, user_path, write_atomic
from m2lib.forecaster.adapters import FORMAT_FILE, format_text
from m2lib.forecaster.cells import SHORTEST
from m2lib.forecaster.evaluation import MODEL, Evaluation, evaluate
from m2lib.forecaster.export import CARD_FILE, CardFacts, model_card
from m2lib.forecaster.sampling import SAMPLES, WINDOW, Sampler, format_for
from m2lib.forecaster.table_files import check_folder
from m2lib.forecaster.tables import Columns, Item, items_of
from m2lib.forecaster.windows import cutter

if TYPE_CHECKING:
    import pandas as pd

    from m2lib.model import Backbone
    from m2lib.training import TrainConfig, TrainLog

Kind = TypeVar("Kind", bound=Sampler)
NEW_RATE, FURTHER_RATE = 4e-3, 1e-3  # peak rates: of a new adapter, and to go on from one


def finetune(
    forecaster: Kind,
    df: "pd.DataFrame",
    *,
    prediction_length: int,
    output_dir: str | Path,
    id_column: str | None = "item_id",
    timestamp_column: str | None = "timestamp",
    target: str | Sequence[str] = "target",
    num_steps: int = 200,
    learning_rate: float | None = None,
    rank: int = 4,
    batch_size: int = 1,
    seed: int = 0,
    force: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
) -> Kind:
    """Train an adapter on a table's series, all but their last `prediction_length` steps, and see what it was worth.

    A forecaster with an adapter goes on from it, in its text format; one without gets a new adapter on all seven linear
    layers. Each step reads windows cut at random from the series, scaled as a forecast from there would be. Ctrl-C
    keeps a checkpoint, and the same call goes on from there.

    Parameters
    ----------
    forecaster : Sampler
        What to start from; it is used up, as its model is trained in place.
    df : DataFrame
        A row for each step of each series.
    prediction_length : int
        Steps to forecast, and to keep back of each series.
    output_dir : str or Path
        The folder of the new adapter: PEFT's files, the head's bias, the text format and a model card.
    id_column : str, optional
        As in `Forecaster.predict_df`.
    timestamp_column : str, optional
        Likewise.
    target : str or sequence of str, optional
        Likewise.
    num_steps : int, optional
        Optimiser steps.
    learning_rate : float, optional
        Peak rate. Default: 0.004 for a new adapter, 0.001 to go on from one.
    rank : int, optional
        Of a new adapter.
    batch_size : int, optional
        Windows a step.
    seed : int, optional
        Of the windows and of a new adapter's start.
    force : bool, optional
        Replace an adapter that the folder holds.
    say : callable, optional
        Gets each line that a user should read: what it will cost, before it starts; before and after, at the end.
    progress : bool, optional
        Show a bar.

    Returns
    -------
    Sampler
        With the new adapter.

    Raises
    ------
    InputError
        For a table that is unfit, and a folder that holds an adapter or cannot be written to, before anything is done.
    """
    from m2lib.model import save_adapter
    from m2lib.model.adapter_files import CONFIG_FILE

    targets = (target,) if isinstance(target, str) else tuple(target)
    items = items_of(df, Columns(id_column, timestamp_column, targets), least=SHORTEST + 2 * prediction_length)
    folder = _checked(user_path(str(output_dir), "the output"), force)
    seen, start = [item.values[:-prediction_length] for item in items], forecaster.adapter
    _, shape = forecaster.contexts(seen, prediction_length, [item.name for item in items], targets)
    config = _config(forecaster, num_steps, learning_rate, rank, batch_size, seed)
    read = forecaster.window(shape, prediction_length)
    windows = cutter(seen, shape, prediction_length, read, config.batch_size, seed)

    backbone = _without_adapter(forecaster)
    many = f"{len(items)} series are" if len(items) > 1 else "the series is"
    say(f"{announcement(backbone, windows, config)}; before and after, {many} forecast")
    before = evaluate(type(forecaster)(forecaster.backbone, shape, start), items, prediction_length, seed=seed)
    content = repr([backbone.weight_hash, shape, prediction_length, str(start)]).encode() + b"".join(
        series.tobytes() for series in seen
    )
    checkpoints = folder / f"checkpoints-{hashlib.sha256(content).hexdigest()[:16]}"
    log = _trained(backbone, windows, config, checkpoints, start, progress)
    tuned = type(forecaster)(backbone, shape, folder)
    after = evaluate(tuned, items, prediction_length, seed=seed)

    spent = sum(_step_flops(backbone, windows(step), config, "coursework") for step in range(num_steps))
    facts = _facts(items, targets, prediction_length, config, start, spent, before, after)
    remove(folder / CONFIG_FILE)  # no old weights are ever read in the new format
    write_atomic(folder / FORMAT_FILE, format_text(shape).encode())
    write_atomic(folder / CARD_FILE, model_card(backbone.name, shape, facts, horizon=prediction_length).encode())
    save_adapter(backbone.model, folder, backbone.loaded_by)
    shutil.rmtree(checkpoints, ignore_errors=True)
    say(f"{log.step} steps, {_duration(log.seconds)}, {spent:.3g} FLOPs by the rules: {folder}")
    say(f"MAE of the last {prediction_length} steps: {before.mae:.4g} before, {after.mae:.4g} after")
    say(after.verdict)
    return tuned


def refitter(
    forecaster: Kind,
    horizon: int,
    steps: int,
    *,
    learning_rate: float | None = None,
    rank: int = 4,
    seed: int = 0,
) -> Callable[[Sequence[np.ndarray]], Kind]:
    """What fine-tunes a forecaster anew for each origin of an evaluation, on what was known then.

    Parameters
    ----------
    forecaster : Sampler
        What each training starts from.
    horizon : int
        Steps to forecast.
    steps : int
        Optimiser steps of each.
    learning_rate : float, optional
        As in `finetune`.
    rank : int, optional
        Likewise.
    seed : int, optional
        Likewise.

    Returns
    -------
    callable
        Takes contexts, each (steps, variables) in physical units, and gives a forecaster; nothing of it is kept.
    """
    from m2lib.model import load_backbone

    backbone, start = forecaster.backbone, forecaster.adapter
    config = _config(forecaster, steps, learning_rate, rank, 1, seed)

    def _refit(contexts: Sequence[np.ndarray]) -> Kind:
        shape = forecaster.text_format or format_for(contexts)
        fresh = load_backbone(backbone.loaded_by, device=str(backbone.device), dtype=backbone.dtype)
        with TemporaryDirectory() as checkpoints:
            windows = cutter(contexts, shape, horizon, forecaster.window(shape, horizon), 1, seed)
            _trained(fresh, windows, config, Path(checkpoints), start)
        return type(forecaster)(fresh, shape, start)

    return _refit


def announcement(backbone: "Backbone", windows: Callable[[int], np.ndarray], config: "TrainConfig") -> str:
    """What a training will cost, in words, before it starts.

    Parameters
    ----------
    backbone : Backbone
        Without an adapter. A forward pass of one step is timed on it.
    windows : callable
        From `cutter`.
    config : TrainConfig
        How it will train.

    Returns
    -------
    str
        FLOPs by the rules, and the time: a step takes as much longer than a forward pass as it computes more.
    """
    import torch

    from m2lib.accounting import forward_flops
    from m2lib.training import window_loss

    batch = windows(0)
    rows = torch.from_numpy(batch).to(backbone.device)
    with torch.inference_mode():
        window_loss(backbone.model, rows)  # the first pass warms up
        began = time.perf_counter()
        window_loss(backbone.model, rows)
        seconds = time.perf_counter() - began
    forward = len(batch) * total(forward_flops(Shape.of(backbone.model.config), batch.shape[1], convention="executed"))
    training = config.steps * seconds * _step_flops(backbone, batch, config, "executed") / forward
    flops = config.steps * _step_flops(backbone, batch, config, "coursework")
    about = f"{flops:.2g} FLOPs by the rules, some {_duration(training)} here"
    return f"{config.steps} steps of {batch.size} tokens: {about}"


def _duration(seconds: float) -> str:
    """In seconds up to two minutes, then in minutes."""
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _trained(
    backbone: "Backbone",
    windows: Callable[[int], np.ndarray],
    config: "TrainConfig",
    checkpoints: Path,
    start: Path | None,
    progress: bool = True,
) -> "TrainLog":
    """Train a new adapter, or the one to start from, into a backbone."""
    from m2lib.training import train

    def flops_of(batch: np.ndarray) -> int:
        return _step_flops(backbone, batch, config, "executed")

    return train(
        backbone.model,
        windows,
        config,
        checkpoints,
        start=start,
        flops_of=flops_of,
        recompute=settings.read("M2_RECOMPUTE") == "1",
        progress=progress,
    )


def _checked(folder: Path, force: bool) -> Path:
    """The folder, found fit to hold a new adapter; it is made when there is something to put in."""
    from m2lib.model.adapter_files import CONFIG_FILE

    if (folder / CONFIG_FILE).exists() and not force:
        raise InputError(f"{folder} holds an adapter already; name another folder, or give --force (force=True)")
    check_folder(folder / CONFIG_FILE)
    return folder


def _config(
    forecaster: Sampler, steps: int, rate: float | None, rank: int, batch_size: int, seed: int
) -> "TrainConfig":
    """How to train: a new adapter of this rank on all layers, or the one to start from as it is."""
    from m2lib.model import ALL_TARGETS, adapter_settings
    from m2lib.training import TrainConfig

    if rank < 1 or seed < 0:
        raise InputError(f"rank is {rank} and seed {seed}; give a rank of at least 1, and a seed of at least 0")
    adapter: dict[str, Any] = {"rank": rank, "targets": ALL_TARGETS}
    if forecaster.adapter:
        adapter = dict(zip(("rank", "alpha", "targets"), adapter_settings(forecaster.backbone.model), strict=True))
    schedule: dict[str, Any] = {"warmup": 0.05, "decay": "cosine", "clip_norm": 1.0, "sequence_length": WINDOW}
    rate = (FURTHER_RATE if forecaster.adapter else NEW_RATE) if rate is None else rate
    try:
        return TrainConfig(steps=steps, learning_rate=rate, batch_size=batch_size, seed=seed, **schedule, **adapter)
    except ValueError as error:
        raise InputError(str(error)) from error


def _without_adapter(forecaster: Sampler) -> "Backbone":
    """The forecaster's language model without an adapter: itself, or loaded anew."""
    from m2lib.model import load_backbone

    backbone = forecaster.backbone
    if not forecaster.adapter:
        return backbone
    return load_backbone(backbone.loaded_by, device=str(backbone.device), dtype=backbone.dtype)


def _step_flops(backbone: "Backbone", batch: np.ndarray, config: "TrainConfig", convention: str) -> int:
    """What a training step on a batch of windows costs, each window as long as the longest."""
    count = partial(train_step_flops, Shape.of(backbone.model.config), rank=config.rank, targets=config.targets)
    return total(count(batch.shape[1], batch=len(batch), convention=convention))


def _facts(
    items: Sequence[Item],
    targets: Sequence[str],
    horizon: int,
    config: "TrainConfig",
    start: Path | None,
    flops: int,
    before: Evaluation,
    after: Evaluation,
) -> CardFacts:
    """What the adapter's card says."""
    steps = sum(len(item.values) - horizon for item in items)
    errors = {f"this adapter (median of {SAMPLES} samples)": after, "before": before}
    found = {name: {"MAE": round(one.mae, 6), "CRPS": round(one.crps, 6)} for name, one in errors.items()}
    simple = {name: {"MAE": round(float(maes.mean()), 6)} for name, maes in after.errors.items() if name != MODEL}
    recipe: dict[str, object] = {
        "steps": config.steps,
        "learning rate": config.learning_rate,
        "windows a step": config.batch_size,
    }
    recipe |= {"rank": config.rank, "targets": ", ".join(config.targets), "seed": config.seed}
    return CardFacts(
        data=f"{len(items)} series of {', '.join(targets)}, {steps} steps in all",
        recipe=recipe | ({"started from": start.name} if start else {}),
        flops=flops,
        measured=f"the last {horizon} steps of each series, which were kept back; in the table's units",
        errors=found | simple,
    )
