"""Fine-tuning on a reader's own table: what it will cost, an adapter folder with its card, before
and after."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from transformers import PreTrainedModel

from m2lib.accounting import Shape
from m2lib.files import InputError, short_hash, write_atomic, write_json
from m2lib.forecaster.evaluation import MODEL, evaluate
from m2lib.forecaster.export import CARD_FILE, FACTS_FILE, model_card
from m2lib.forecaster.sampling import SAMPLES, WINDOW, Sampler
from m2lib.forecaster.tables import Item, calendar_season, check_folder
from m2lib.model import (
    ALL_TARGETS,
    CONFIG_FILE,
    adapter_hash,
    adapter_settings,
    load_adapter,
    load_backbone,
    save_adapter,
)
from m2lib.series import FORMAT_FILE, Season, TextFormat
from m2lib.training import COSINE, Endless, TrainConfig, cut_windows, step_costs, train, window_loss

Kind = TypeVar("Kind", bound=Sampler)
MOST_ASKED = 50  # series that are forecast before and after
NEW_RANK = 4
NEW_RATE, FURTHER_RATE = 4e-3, 3e-4  # peak rates: of a new adapter, and to go on from one
PASSES_A_STEP = (
    2.5  # how much longer a step takes than a forward pass: frozen weights have no gradients
)


def finetune(
    forecaster: Kind,
    items: Sequence[Item],
    targets: Sequence[str],
    prediction_length: int,
    output_dir: str | Path,
    *,
    season: int | None = None,
    force: bool = False,
    say: Callable[[str], None] = print,
    progress: bool = True,
    **how: Any,
) -> Kind:
    """Train an adapter on series, all but their last `prediction_length` steps, and see what it was
    worth.

    `Forecaster.fit` says what the arguments are.
    """
    folder = Path(output_dir).expanduser()
    if (folder / CONFIG_FILE).exists() and not force:
        raise InputError(
            f"{folder} holds an adapter already; name another folder, or give --force (force=True)"
        )
    check_folder(folder)
    config = _config(forecaster, **how)
    season = season or calendar_season(items)
    known = [item.values[:-prediction_length] for item in items]
    seen = [Season.of(one, season).without(one) for one in known]
    text_format = forecaster.format_of(seen, [item.name for item in items])
    tuned, windows = _begun(forecaster, seen, text_format, prediction_length, config)
    backbone = tuned.backbone

    drawn = np.random.default_rng(config.seed).choice(
        len(items), min(MOST_ASKED, len(items)), replace=False
    )
    asked = [items[place] for place in sorted(drawn)]
    say(
        f"{_cost(backbone.model, windows(0), config)}; forecast before and after: {len(asked)} of {len(items)} series"
    )
    scored = partial(
        evaluate, items=asked, horizon=prediction_length, season=season, seed=config.seed
    )
    before = scored(replace(forecaster, text_format=text_format))
    # Checkpoints are this run's own, so they are filed under all that decides it. The adapter that
    # it goes on from is known by its content, for another one may lie in the same folder by then.
    start_hash = adapter_hash(forecaster.adapter) if forecaster.adapter else ""
    decides = repr(
        [backbone.weight_hash, text_format, prediction_length, start_hash, config]
    ).encode()
    name = short_hash(decides + b"".join(series.tobytes() for series in seen))
    checkpoints = folder / f"checkpoints-{name}"
    log = train(backbone.model, windows, config, checkpoints, progress=progress)
    tuned = replace(tuned, adapter=folder)
    after = scored(tuned)

    spent = sum(_by_rules(backbone.model, windows(step), config) for step in range(config.steps))
    scores = {f"this adapter (median of {SAMPLES} samples)": after, "before": before}
    errors = {said: {"MAE": score.mae, "CRPS": score.crps} for said, score in scores.items()}
    errors |= {name: {"MAE": mae} for name, mae in after.errors.drop(columns=MODEL).mean().items()}
    start = forecaster.adapter.name if forecaster.adapter else "the base"
    facts = {
        "data": f"{len(items)} series of {', '.join(targets)}, {sum(map(len, seen))} steps in all",
        "recipe": {
            "start": start,
            "season": season,
            **asdict(config),
            "targets": ", ".join(config.targets),
        },
        "flops": spent,
        "measured": f"the last {prediction_length} steps of {len(asked)} series, which were kept back; table's units",
        "errors": errors,
    }
    card = model_card(backbone.name, text_format, facts, horizon=prediction_length)
    (folder / CONFIG_FILE).unlink(missing_ok=True)  # no old weights are ever read in the new format
    write_json(folder / FORMAT_FILE, text_format.settings())
    write_json(folder / FACTS_FILE, facts)
    write_atomic(folder / CARD_FILE, card.encode())
    save_adapter(backbone.model, folder, backbone.loaded_by)
    shutil.rmtree(checkpoints, ignore_errors=True)
    say(f"{log.step} steps, {log.seconds:.0f} s, {spent:.3g} FLOPs by the rules: {folder}")
    say(
        f"MAE of the last {prediction_length} steps: {before.mae:.4g} before, {after.mae:.4g} after"
    )
    say(after.verdict)
    return tuned


def refitter(
    forecaster: Sampler, horizon: int, steps: int, seed: int = 0
) -> Callable[[Sequence[np.ndarray]], Sampler]:
    """What fine-tunes a forecaster anew for each origin of an evaluation, on what was known then;
    nothing is kept."""
    config = _config(forecaster, num_steps=steps, seed=seed)

    def _refit(contexts: Sequence[np.ndarray]) -> Sampler:
        tuned, windows = _begun(
            forecaster, contexts, forecaster.format_of(contexts), horizon, config
        )
        with TemporaryDirectory() as checkpoints:
            train(tuned.backbone.model, windows, config, Path(checkpoints))
        return tuned

    return _refit


def _config(
    start: Sampler,
    num_steps: int = 200,
    learning_rate: float | None = None,
    rank: int | None = None,
    **more: int,
) -> TrainConfig:
    """How to train: a new adapter of this rank on all layers, or the one to start from as it is."""
    if start.adapter:
        if rank is not None:
            raise InputError(
                f"the adapter to start from has a rank of its own: leave out rank {rank}, or take none"
            )
        rate, adapter = FURTHER_RATE, adapter_settings(start.backbone.model)
    else:
        rate, adapter = (
            NEW_RATE,
            {"rank": NEW_RANK if rank is None else rank, "targets": ALL_TARGETS},
        )
        if adapter["rank"] < 1:
            raise InputError(f"rank is {rank}; give one of at least 1")
    if unknown := more.keys() - {"batch_size", "seed"}:
        raise InputError(
            f"fit has no {unknown.pop()}; it has num_steps, learning_rate, rank, batch_size and seed"
        )
    schedule = {**COSINE, "sequence_length": WINDOW, "batch_size": 1}
    return TrainConfig(
        num_steps, rate if learning_rate is None else learning_rate, **(adapter | schedule | more)
    )


def _begun(
    forecaster: Kind,
    seen: Sequence[np.ndarray],
    text_format: TextFormat,
    horizon: int,
    config: TrainConfig,
) -> tuple[Kind, Endless]:
    """A forecaster as it is to be trained, its language model and adapter loaded anew; and what it
    reads."""
    context, old = forecaster.window(text_format, horizon), forecaster.backbone
    windows = cut_windows(seen, text_format, horizon, context, config.batch_size, config.seed)
    backbone = load_backbone(old.loaded_by, device=str(old.device), dtype=old.dtype)
    if forecaster.adapter:
        load_adapter(backbone.model, forecaster.adapter)
    return replace(forecaster, backbone=backbone, text_format=text_format), windows


def _cost(model: PreTrainedModel, batch: np.ndarray, config: TrainConfig) -> str:
    """What a training will cost, in words: FLOPs by the rules, and the time, which a forward pass
    foretells."""
    rows = torch.from_numpy(batch).to(model.device)
    with torch.inference_mode():
        window_loss(model, rows).item()  # the first pass warms up; `item` waits for a graphics card
        began = time.perf_counter()
        window_loss(model, rows).item()
        seconds = time.perf_counter() - began
    flops, left = (
        config.steps * _by_rules(model, batch, config),
        config.steps * PASSES_A_STEP * seconds,
    )
    return f"{config.steps} steps of {batch.size} tokens: {flops:.2g} FLOPs by the rules, some {left:.0f} s here"


def _by_rules(model: PreTrainedModel, batch: np.ndarray, config: TrainConfig) -> int:
    """FLOPs of a step, by the rules."""
    return step_costs(Shape.of(model.config), batch, rank=config.rank, targets=config.targets)[
        "coursework"
    ]
