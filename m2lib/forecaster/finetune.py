"""Fine-tuning on a reader's own table: its cost, the new adapter, and errors before and after."""

import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from m2lib.accounting import Shape
from m2lib.errors import InputError, check_count, warn
from m2lib.files import check_folder, delete, short_hash, write_atomic, write_json
from m2lib.forecaster.adapters import FACTS_FILE, VIEWS_FILE
from m2lib.forecaster.cards import CARD_FILE, model_card
from m2lib.forecaster.evaluation import FEWEST_FORECASTS, MODEL, Evaluation, four_digits
from m2lib.forecaster.rolling import evaluate
from m2lib.forecaster.sampling import SAMPLES, WINDOW_TOKENS, Sampler, Sampling
from m2lib.forecaster.tables import Item, chosen_seasons
from m2lib.forecaster.views import PLAIN
from m2lib.model import (
    ALL_TARGETS,
    CONFIG_FILE,
    Backbone,
    adapter_hash,
    adapter_settings,
    load_adapter,
    load_backbone,
    save_adapter,
)
from m2lib.series import FORMAT_FILE, TextFormat, stretch_of_band, t_interval, without_season
from m2lib.training import (
    COSINE,
    Endless,
    TrainConfig,
    random_windows,
    step_costs,
    train,
    window_loss,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Kind = TypeVar("Kind", bound=Sampler)  # a `Forecaster` that is tuned gives a `Forecaster`
MOST_ASKED = 50  # series that are forecast before and after
# Forecasts sampled before and after: of few series more each, so that a difference is no accident
# of the sampling; 100 of one series, 40 of 25, 20 of 50.
FORECASTS = 1000
MOST_SAMPLES = 100
# Samples that would have to be moved further apart than this say little of what may come. After a
# training that went too far on the pelts, 8.7 held 80%, with bands that reached 254 thousand hares,
# where no year had more than 153. Then the bands stay too narrow, and this is said.
MOST_SPREAD = 4.0
TOO_NARROW = 0.6  # an 80% band that holds less than this share deserves a warning
NEW_RANK = 4
# Steps and peak rate of a new adapter, which has to learn what a series of numbers is.
NEW_STEPS = 200
NEW_RATE = 4e-3
# Those to go on from an adapter, which soon learns a table by heart.
FURTHER_STEPS = 20
FURTHER_RATE = 3e-4
# A step takes so many times as long as a forward pass: frozen weights have no gradients.
PASSES_A_STEP = 2.5


def finetune(
    forecaster: Kind,
    items: Sequence[Item],
    target_names: Sequence[str],
    prediction_length: int,
    output_dir: str | Path,
    *,
    season: int | Sequence[int] | None = None,
    num_steps: int | None = None,
    learning_rate: float | None = None,
    rank: int | None = None,
    batch_size: int = 1,
    seed: int = 0,
    force: bool = False,
    say: Callable[[str], None] = print,
    progress: bool | None = None,
) -> Kind:
    """Train an adapter on series without their last steps, and measure it on those last steps.

    `items` are the series, and `target_names` those of their variables, for the card.
    `Forecaster.fit` describes the other arguments, the result and the errors.
    """
    # 1. Refuse what cannot be done, before any work.
    folder = Path(output_dir).expanduser()
    _check_output_dir(folder, force)
    check_count("prediction_length", prediction_length)
    config = _config(forecaster, num_steps, learning_rate, rank, batch_size, seed)

    # 2. Prepare training windows from all but the last steps, without their season.
    seasons = chosen_seasons(items, season)
    training = [without_season(item.values[:-prediction_length], seasons) for item in items]
    text_format = forecaster.checked_format(training, [item.name for item in items])
    tuned, windows = _prepare(forecaster, training, text_format, prediction_length, config)
    model = tuned.backbone.model

    # 3. Forecast the last steps with what the training starts from.
    measured_items = _some_of(items, config.seed)
    num_samples = max(SAMPLES, min(MOST_SAMPLES, FORECASTS // len(measured_items)))
    flops = sum(_step_flops(model, windows(step), config) for step in range(config.steps))
    say(
        f"{_cost(model, windows(0), flops, config)}; forecast before and after: "
        f"{len(measured_items)} of {len(items)} series, {num_samples} samples of each"
    )
    measure = partial(
        evaluate,
        items=measured_items,
        prediction_length=prediction_length,
        season=seasons,
        sampling=Sampling(num_samples, seed=config.seed),
    )
    if progress is None:
        progress = forecaster.progress
    # Of the forecasts before, only the model's own are read.
    start = replace(forecaster, text_format=text_format, progress=progress)
    before = measure(start, auto_ets=False)

    # 4. Train. The checkpoints' folder is named by a hash of all that decides the numbers, so that
    # no other run goes on from them. The adapter to start from counts by its content, because by
    # then another one may be in the same folder.
    start_hash = adapter_hash(forecaster.adapter) if forecaster.adapter else ""
    decisive = [
        tuned.backbone.weight_hash,
        tuned.backbone.dtype,
        text_format,
        prediction_length,
        start_hash,
        config,
    ]
    data = b"".join(values.tobytes() for values in training)
    run_hash = short_hash(repr(decisive).encode() + data)
    checkpoints = folder / f"checkpoints-{run_hash}"
    log = train(model, windows, config, checkpoints, progress=progress)

    # 5. Forecast the same steps again, measure the spread on them, and write the adapter's folder.
    after = measure(replace(tuned, progress=progress))
    spread, coverage = _spread(after, text_format.spread)
    text_format = replace(text_format, spread=spread)
    tuned = replace(tuned, adapter=folder.absolute(), text_format=text_format)
    recipe = {
        "start": forecaster.adapter.name if forecaster.adapter else "the base",
        "season": " or ".join(map(str, seasons)),
        **asdict(config),
        "targets": ", ".join(config.targets),  # a text, as the card shows it
    }
    facts = {
        "data": (
            f"{len(items)} series of {', '.join(map(str, target_names))}, "
            f"{sum(len(values) for values in training)} steps in all"
        ),
        "recipe": recipe,
        "flops": flops,
        "measured": (
            f"the last {prediction_length} steps of {len(after.errors)} series, "
            "which were kept back; table's units"
        ),
        "errors": _errors_table(before, after, num_samples, spread, coverage),
    }
    _write(folder, tuned.backbone, text_format, facts, prediction_length)
    shutil.rmtree(checkpoints, ignore_errors=True)

    assert before.coverage is not None  # only a single sample has none
    assert after.coverage is not None
    say(f"{log.step} steps, {log.seconds:.0f} s, {flops:.3g} FLOPs by the rules: {folder}")
    say(
        f"MAE of the last {prediction_length} steps: {four_digits(before.mae)} before, "
        f"{four_digits(after.mae)} after; "
        f"the 80% band holds {before.coverage:.0%} before, {after.coverage:.0%} after"
    )
    say(_difference(before, after, len(forecaster.views)))
    say(f"spread measured on these steps: {spread:.3g}, with which the band holds {coverage:.0%}")
    say(after.verdict)
    if after.coverage < TOO_NARROW:
        # One view has narrower bands than several, however few steps were trained.
        caveat = ", unless one view alone makes them narrow" if len(forecaster.views) > 1 else ""
        warn(
            f"the adapter is too sure of itself: its 80% bands hold {after.coverage:.0%} of what "
            f"was kept back, and {coverage:.0%} with the new spread; train fewer steps{caveat}"
        )
    return tuned


def refitter(
    forecaster: Sampler,
    prediction_length: int,
    num_steps: int,
    sampling: Sampling = Sampling(),
) -> Callable[[Sequence[np.ndarray]], Sampler]:
    """Return a function for `evaluate(refit=)`: it fine-tunes a forecaster on the contexts it gets.

    Every training starts from the weights and adapter that the forecaster was loaded from, and what
    it trains is not kept on disk. `sampling` is that of the evaluation. Its seed is also that of
    the trainings, and their windows hold as many steps of context as will be read.
    """
    config = _config(forecaster, num_steps=num_steps, seed=sampling.seed)

    def _refit(contexts: Sequence[np.ndarray]) -> Sampler:
        text_format = forecaster.checked_format(contexts)
        tuned, windows = _prepare(
            forecaster, contexts, text_format, prediction_length, config, sampling.context_length
        )
        with TemporaryDirectory() as checkpoints:
            train(
                tuned.backbone.model,
                windows,
                config,
                Path(checkpoints),
                progress=forecaster.progress,
            )
        return tuned

    return _refit


def _check_output_dir(folder: Path, force: bool) -> None:
    """Raise InputError for a folder that cannot take a new adapter, or holds what it would harm."""
    holds_adapter = (folder / CONFIG_FILE).exists()
    if holds_adapter and not force:
        raise InputError(
            f"{folder} holds an adapter already; name another folder, or give --force (force=True)"
        )
    # An adapter's card is called README.md, and must not take the place of another one. Beside a
    # model an adapter would keep the model from being loaded.
    is_adapter_folder = holds_adapter or (folder / FACTS_FILE).exists()
    for name in (CARD_FILE, "config.json"):
        if (folder / name).exists() and not is_adapter_folder:
            raise InputError(f"{folder} holds a {name} that is no adapter's; name another folder")
    check_folder(folder)


def _config(
    forecaster: Sampler,
    num_steps: int | None = None,
    learning_rate: float | None = None,
    rank: int | None = None,
    batch_size: int = 1,
    seed: int = 0,
) -> TrainConfig:
    """Return the settings to train the forecaster's own adapter further, or a new one of `rank`."""
    if num_steps is None:
        num_steps = FURTHER_STEPS if forecaster.adapter else NEW_STEPS
    if learning_rate is None:
        learning_rate = FURTHER_RATE if forecaster.adapter else NEW_RATE
    check_count("num_steps", num_steps)
    check_count("batch_size", batch_size)
    check_count("seed", seed, 0)
    if not 0 < learning_rate < math.inf:  # nan fails too
        raise InputError(f"learning_rate is {learning_rate}; give a number above 0")
    if forecaster.adapter:
        if rank is not None:
            raise InputError(
                f"the adapter to start from has a rank of its own; leave out rank {rank} (--rank, "
                "rank=), or start without an adapter (--adapter none)"
            )
        adapter = adapter_settings(forecaster.backbone.model)  # rank, alpha and targets
    else:
        if rank is None:
            rank = NEW_RANK
        check_count("rank", rank)
        adapter = {"rank": rank, "targets": ALL_TARGETS}
    adapter_options: dict[str, Any] = adapter | COSINE
    return TrainConfig(
        num_steps,
        learning_rate,
        **adapter_options,
        sequence_length=WINDOW_TOKENS,
        batch_size=batch_size,
        seed=seed,
    )


def _prepare(
    forecaster: Kind,
    training: Sequence[np.ndarray],
    text_format: TextFormat,
    prediction_length: int,
    config: TrainConfig,
    context_length: int | None = None,
) -> tuple[Kind, Endless]:
    """Return the forecaster to train, with a model of its own, and the windows that it will read.

    The language model and the adapter are loaded anew, so that the given ones stay as they are.
    """
    context_steps = forecaster.readable_steps(text_format, prediction_length, context_length)
    windows = random_windows(
        training, text_format, prediction_length, context_steps, config.batch_size, config.seed
    )
    old_backbone = forecaster.backbone
    backbone = load_backbone(
        old_backbone.loaded_by, device=str(old_backbone.device), dtype=old_backbone.dtype
    )
    if forecaster.adapter:
        load_adapter(backbone.model, forecaster.adapter)
    # It learns from series as they are without their season, and so it reads them.
    tuned = replace(forecaster, backbone=backbone, text_format=text_format, views=PLAIN)
    return tuned, windows


def _some_of(items: Sequence[Item], seed: int) -> list[Item]:
    """Choose at most MOST_ASKED of the series at random, in the table's order."""
    places = np.random.default_rng(seed).choice(
        len(items), min(MOST_ASKED, len(items)), replace=False
    )
    return [items[place] for place in sorted(places)]


def _spread(after: Evaluation, spread: float) -> tuple[float, float]:
    """Return the spread with which 80% bands would have held 80%, and the share they then hold.

    The forecasts were read with the spread `spread`, and the new one is measured on them. It lies
    between 1 and `MOST_SPREAD`. But fewer than `FEWEST_FORECASTS` series may have been forecast
    well by chance, so of these it is never less than `spread`, even where that is above
    `MOST_SPREAD`.
    """
    band_and_truth = after.forecasts[["0.1", "0.5", "0.9", "truth"]].to_numpy(dtype=np.float64)
    stretches = stretch_of_band(*band_and_truth.T)

    least_spread = 1.0 if len(after.errors) >= FEWEST_FORECASTS else spread
    ideal_spread = spread * float(np.quantile(stretches, 0.8, method="inverted_cdf"))
    # Rounded up, so that the value that decides stays within its band.
    new_spread = float(max(least_spread, min(np.ceil(100 * ideal_spread) / 100, MOST_SPREAD)))
    return new_spread, float((stretches <= new_spread / spread).mean())


def _difference(before: Evaluation, after: Evaluation, views: int) -> str:
    """Say how much the training has improved the error; each series counts once.

    What a forecaster of several `views` loses or gains because the new adapter has one is in it.
    """
    gains = before.mase[MODEL] - after.mase[MODEL]
    caveat = f", and of one view instead of {views}" if views > 1 else ""
    claim = f"gain of the training{caveat}: {gains.mean():+.3f} in MASE"
    if len(gains) < FEWEST_FORECASTS:
        return (
            f"{claim}; fewer than {FEWEST_FORECASTS} forecasts prove nothing, "
            "and `m2 evaluate --finetune` makes more"
        )
    low, high = t_interval(gains)
    return f"{claim}, 95% interval {low:+.3f} to {high:+.3f}, over {len(gains)} series"


def _errors_table(
    before: Evaluation, after: Evaluation, num_samples: int, spread: float, coverage: float
) -> dict[str, dict[str, float | None]]:
    """Return the errors by forecast and measure, as the facts of an adapter hold them."""
    errors: dict[str, dict[str, float | None]] = {}
    for name, evaluation in (
        (f"this adapter (median of {num_samples} samples)", after),
        ("before", before),
    ):
        errors[name] = {
            "MAE": evaluation.mae,
            "CRPS": evaluation.crps,
            "80% band holds": evaluation.coverage,
        }
    errors[f"this adapter, with the spread {spread:.3g} measured on these steps"] = {
        "80% band holds": coverage
    }
    for name, mae in after.errors.drop(columns=MODEL).mean().items():
        errors[name] = {"MAE": mae}
    return errors


def _write(
    folder: Path,
    backbone: Backbone,
    text_format: TextFormat,
    facts: Mapping[str, Any],
    prediction_length: int,
) -> None:
    """Write the adapter's folder. PEFT's config comes last: a folder without it is no adapter."""
    card = model_card(backbone.name, text_format, facts, horizon=prediction_length)
    delete(folder / CONFIG_FILE)  # no old weights are ever read in the new format
    delete(folder / VIEWS_FILE)
    write_json(folder / FORMAT_FILE, text_format.settings())
    write_json(folder / FACTS_FILE, facts)
    write_atomic(folder / CARD_FILE, card.encode())
    save_adapter(backbone.model, folder, backbone.loaded_by)


def _cost(model: "PreTrainedModel", batch: np.ndarray, flops: int, config: TrainConfig) -> str:
    """Say what a training costs: its FLOPs, and seconds judged by a forward pass of a batch."""
    rows = torch.from_numpy(batch).to(model.device)
    with torch.inference_mode():
        window_loss(model, rows).item()  # the first pass warms up; `item` waits for a graphics card
        start = time.perf_counter()
        window_loss(model, rows).item()
        forward_seconds = time.perf_counter() - start
    # Windows differ in length, so all of them cost more or less than the first so many times.
    steps = flops / _step_flops(model, batch, config)  # of the first one's size
    tokens = round(batch.size * steps / config.steps)
    return (
        f"{config.steps} steps of {tokens} tokens: {flops:.2g} FLOPs by the rules, "
        f"some {steps * PASSES_A_STEP * forward_seconds:.0f} s here"
    )


def _step_flops(model: "PreTrainedModel", batch: np.ndarray, config: TrainConfig) -> int:
    """Return the FLOPs of a training step on a batch, by the rules."""
    shape = Shape.of(model.config)
    return step_costs(shape, batch, rank=config.rank, targets=config.targets)["coursework"]
