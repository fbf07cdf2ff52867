"""What runs cost: an experiment before it starts, and the steps, losses and forecasts it has computed."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from m2lib import training
from m2lib.accounting import (
    CONVENTIONS,
    PROJECTIONS,
    TARGETS,
    Breakdown,
    Shape,
    cached_step_flops,
    forecast_flops,
    forward_flops,
    total,
    train_step_flops,
)
from m2lib.forecasting import LONGEST_STEP, DecodeConfig, step_columns
from m2lib.model import PAD_ID, backbone_config
from m2lib.series import CONTEXT_STEPS, FORECAST_STEPS
from m2lib.study.experiments import EXPERIMENTS, Experiment, experiment_named
from m2lib.study.profiles import PROFILES, Profile
from m2lib.study.report_tables import chosen_by

Costs = dict[str, int]
"""FLOPs by convention."""


def costs_of(count: Callable[..., Breakdown], times: int = 1) -> Costs:
    """So many times what `count(convention=...)` gives, under each convention."""
    return {convention: times * total(count(convention=convention)) for convention in CONVENTIONS}


def sum_costs(*costs: Costs) -> Costs:
    """0 for none."""
    return {convention: sum(cost[convention] for cost in costs) for convention in CONVENTIONS}


def step_costs(shape: Shape, batch: np.ndarray, rank: int, targets: tuple[str, ...] = TARGETS) -> Costs:
    """A training step on a batch (windows, length) of token ids.

    By the rules each window counts at its own length; as executed at the longest one's; as published at the full one.
    """
    lengths = (batch != PAD_ID).sum(1).tolist()

    def step(tokens: int, windows: int, convention: str) -> int:
        adapted = partial(train_step_flops, shape, rank=rank, targets=targets)
        return total(adapted(tokens, batch=windows, convention=convention))

    return {
        "coursework": sum(step(tokens, 1, "coursework") for tokens in lengths),
        "published": step(batch.shape[1], len(batch), "published"),
        "executed": step(max(lengths), len(batch), "executed"),
    }


def loss_costs(shape: Shape, windows: np.ndarray, rank: int, targets: tuple[str, ...] = TARGETS) -> Costs:
    """The loss of windows (n, length), one by one, each at its own length. As published, validation loss is free."""
    lengths = (windows != PAD_ID).sum(1).tolist()
    forward = partial(forward_flops, shape, rank=rank, targets=targets)
    return sum_costs(*(costs_of(partial(forward, n)) for n in lengths)) | {"published": 0}


def series_costs(
    shape: Shape, entry: Mapping[str, Any], protocol: DecodeConfig, rank: int, targets: tuple[str, ...] = TARGETS
) -> Costs:
    """The forecast of one series, or its samples, which share a prefill; from its entry in a record.

    By the rules its own tokens count; as executed, adapters are merged, and each step attends to all columns of its
    batch's cache; as published always the whole context counts, and all the tokens that may come.
    """
    prompt, samples = entry["prompt_tokens"], protocol.n_samples
    new, passes = (np.atleast_1d(entry[key]).tolist() for key in ("new_tokens", "passes"))
    adapted = partial(forecast_flops, shape, rank=rank, targets=targets)
    prefill = total(adapted(prompt, 1))
    alone = [total(adapted(prompt, max(1, tokens))) for tokens in new]
    published = protocol.context_tokens or prompt, protocol.max_new_tokens
    widths = Counter(
        step_columns(entry["padded_tokens"], step, samples) for count in passes for step in range(1, count + 1)
    )
    steps = [
        count * total(cached_step_flops(shape, columns, convention="executed")) for columns, count in widths.items()
    ]
    return {
        "coursework": sum(alone) - (samples - 1) * prefill,
        "published": total(adapted(*published, samples=samples, convention="published")),
        "executed": total(forecast_flops(shape, prompt, 1, convention="executed")) + sum(steps),
    }


def adapter_of_experiment(
    experiment: Experiment, profile: Profile, adapter: str | None = None
) -> tuple[int, tuple[str, ...]]:
    """Rank and targets an experiment forecasts at, rank 0 if untuned; `adapter`: whose, where earlier results choose.

    While they are not known it is the largest rank it may be, on all the targets that it may have.
    """
    names = [adapter] if adapter else experiment.adapter.names if experiment.adapter else ()
    sources = [experiment] if experiment.train else [EXPERIMENTS[name] for name in names]
    configs = [training.TrainConfig(**source.training(profile)) for source in sources]
    targets = tuple(name for name in PROJECTIONS if any(name in config.targets for config in configs))
    return max((config.rank for config in configs), default=0), targets or TARGETS


def experiment_sizes(name: str, profile: Profile) -> dict[str, Any]:
    """What decides an experiment's cost: rank, batch, steps, tokens of a window and of a prompt at most, samples of a
    series and the tokens of each at most, and the number of series that are forecast; the adapters' targets where they
    are not the report's. Raises InputError for an unknown name."""
    experiment = experiment_named(name).at(profile)
    protocol = experiment.protocol
    prompt = protocol.context_tokens or CONTEXT_STEPS * LONGEST_STEP
    config = training.TrainConfig(**experiment.train) if experiment.train else None
    rank, targets = adapter_of_experiment(experiment, profile)
    sizes = {
        "rank": rank,
        "batch": config.batch_size if config else 1,
        "steps": config.steps if config else 0,
        "length": config.sequence_length if config else prompt,
        "prompt": prompt,
        "samples": protocol.n_samples,
        "new_tokens": protocol.steps * LONGEST_STEP if protocol.constrained else protocol.max_new_tokens,
        "forecasts": min(experiment.forecasts, profile.series or experiment.forecasts),
    }
    return sizes | ({"targets": targets} if targets != TARGETS else {})


def estimate(
    experiment: Experiment,
    profile: Profile,
    shape: Shape,
    *,
    steps: int = 0,
    series: int = 0,
    adapter: str | None = None,
) -> dict[str, Costs]:
    """What an experiment will cost at most, by `training`, `evaluation` and `forecasts`.

    shape: of the profile's backbone. steps, series: training steps and forecasts that are done already. adapter: see
    `adapter_of_experiment`.
    """
    if experiment.backbone:
        shape = Shape.of(backbone_config(experiment.backbone))
    rank, targets = adapter_of_experiment(experiment, profile, adapter)
    sizes = experiment_sizes(experiment.name, profile)
    length, left = sizes["length"], max(0, sizes["steps"] - steps)
    forecast = partial(
        forecast_flops,
        shape,
        sizes["prompt"],
        sizes["new_tokens"],
        rank=rank,
        targets=targets,
        samples=sizes["samples"],
    )
    evaluation = sum_costs()
    if experiment.train:
        # One evaluation before the first step, one after the last, and those on the way.
        watch = experiment.watch(profile)
        watched = watch.series * (2 + sum(step > steps for step in watch.after))
        # A window begins every length / 2 tokens, so a series of n tokens has at most 2 n / length of them, rounded up,
        # which -(-a // b) does: 100 steps of 10 tokens in windows of 512 give -(-2000 // 512) = 4. (A real series has
        # some 800 tokens, and `make_windows` makes 2 or 3 of them.)
        windows = watched * -(-2 * (CONTEXT_STEPS + FORECAST_STEPS) * LONGEST_STEP // length)
        losses = costs_of(partial(forward_flops, shape, length, rank=rank, targets=targets), windows) | {"published": 0}
        evaluation = sum_costs(losses, costs_of(forecast, watched * watch.forecasts))
    step = partial(train_step_flops, shape, length, rank=rank, targets=targets, batch=sizes["batch"])
    return {
        "training": costs_of(step, left),
        "evaluation": evaluation,
        "forecasts": costs_of(forecast, max(0, sizes["forecasts"] - series)),
    }


def table_3(shape: Shape, convention: str) -> dict[str, tuple[int, int]]:
    """The report's Table 3, from the experiments as declared: training and forecast FLOPs of each of its rows.

    The adapters that the search takes further are those that the published errors choose.
    """
    report, rows = PROFILES["report"], dict[str, tuple[int, int]]()
    for experiment in EXPERIMENTS.values():
        if experiment.group:
            adapter = experiment.adapter.chosen(chosen_by) if experiment.adapter else None
            costs = estimate(experiment, report, shape, adapter=adapter)
            training, forecasts = rows.get(experiment.group, (0, 0))
            rows[experiment.group] = (
                training + costs["training"][convention],
                forecasts + costs["forecasts"][convention],
            )
    return rows
