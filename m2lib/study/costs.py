"""What runs cost: an experiment before it starts, what it has computed, and what the budget leaves for it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from m2lib import accounting
from m2lib.accounting import CONVENTIONS, TARGETS, Breakdown, Shape, total
from m2lib.decoding import DecodeConfig, step_columns
from m2lib.files import InputError
from m2lib.model import PAD_ID, backbone_config
from m2lib.series import CONTEXT_STEPS, FORECAST_STEPS, STUDY
from m2lib.study.experiments import EXPERIMENTS, Experiment, experiment_named
from m2lib.study.profiles import PROFILES, Profile
from m2lib.study.records import Record, load_record, record_path
from m2lib.study.selection import chosen_by
from m2lib.training import TrainConfig

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
    lengths, windows = (batch != PAD_ID).sum(1).tolist(), len(batch)
    step = partial(accounting.train_step_flops, shape, rank=rank, targets=targets)
    return {
        "coursework": sum(total(step(tokens, batch=1)) for tokens in lengths),
        "published": total(step(batch.shape[1], batch=windows, convention="published")),
        "executed": total(step(max(lengths), batch=windows, convention="executed")),
    }


def loss_costs(shape: Shape, windows: np.ndarray, rank: int, targets: tuple[str, ...] = TARGETS) -> Costs:
    """The loss of windows (n, length), one by one, each at its own length. As published, validation loss is free."""
    lengths = (windows != PAD_ID).sum(1).tolist()
    forward = partial(accounting.forward_flops, shape, rank=rank, targets=targets)
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
    adapted = partial(accounting.forecast_flops, shape, rank=rank, targets=targets)
    alone = [total(adapted(prompt, max(1, tokens))) for tokens in new]
    published = protocol.context_tokens or prompt, protocol.max_new_tokens
    widths = Counter(
        step_columns(entry["padded_tokens"], step, samples) for count in passes for step in range(1, count + 1)
    )
    steps = [
        n * total(accounting.cached_step_flops(shape, columns, convention="executed")) for columns, n in widths.items()
    ]
    return {
        "coursework": sum(alone) - (samples - 1) * total(adapted(prompt, 1)),
        "published": total(adapted(*published, samples=samples, convention="published")),
        "executed": total(accounting.forecast_flops(shape, prompt, 1, convention="executed")) + sum(steps),
    }


def adapter_of_experiment(
    experiment: Experiment, profile: Profile, adapter: str | None = None
) -> tuple[int, tuple[str, ...]]:
    """Rank and targets an experiment forecasts at, rank 0 if untuned; `adapter`: whose, where earlier results choose.

    While they are not known it is the largest rank it may be, on all the targets that it may have.
    """
    names = [adapter] if adapter else experiment.adapter.names if experiment.adapter else ()
    sources = [experiment] if experiment.train else [EXPERIMENTS[name] for name in names]
    configs = [TrainConfig(**source.training(profile)) for source in sources]
    targets = tuple(name for name in accounting.PROJECTIONS if any(name in config.targets for config in configs))
    return max((config.rank for config in configs), default=0), targets or TARGETS


def experiment_sizes(name: str, profile: Profile) -> dict[str, Any]:
    """What decides an experiment's cost: rank, batch, steps, tokens of a window and of a prompt at most, samples of a
    series and the tokens of each at most, and the number of series that are forecast; the adapters' targets where they
    are not the report's. Raises InputError for an unknown name."""
    experiment = experiment_named(name).at(profile)
    protocol = experiment.protocol
    prompt = protocol.context_tokens or CONTEXT_STEPS * STUDY.longest_step
    config = TrainConfig(**experiment.train) if experiment.train else None
    rank, targets = adapter_of_experiment(experiment, profile)
    sizes = {
        "rank": rank,
        "batch": config.batch_size if config else 1,
        "steps": config.steps if config else 0,
        "length": config.sequence_length if config else prompt,
        "prompt": prompt,
        "samples": protocol.n_samples,
        "new_tokens": protocol.steps * STUDY.longest_step if protocol.constrained else protocol.max_new_tokens,
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
    adapted: dict[str, Any] = {"rank": rank, "targets": targets}
    sizes = experiment_sizes(experiment.name, profile)
    length, left = sizes["length"], max(0, sizes["steps"] - steps)
    forecast = partial(
        accounting.forecast_flops, shape, sizes["prompt"], sizes["new_tokens"], samples=sizes["samples"], **adapted
    )
    evaluation = sum_costs()
    if experiment.train:
        # One evaluation before the first step, one after the last, and those on the way.
        watch = experiment.watch(profile)
        watched = watch.series * (2 + sum(step > steps for step in watch.after))
        # A window begins every length / 2 tokens, so a series of n tokens has at most 2 n / length of them, rounded up,
        # which -(-a // b) does: 100 steps of 10 tokens in windows of 512 give -(-2000 // 512) = 4. (A real series has
        # some 800 tokens, and `make_windows` makes 2 or 3 of them.)
        windows = watched * -(-2 * (CONTEXT_STEPS + FORECAST_STEPS) * STUDY.longest_step // length)
        losses = costs_of(partial(accounting.forward_flops, shape, length, **adapted), windows) | {"published": 0}
        evaluation = sum_costs(losses, costs_of(forecast, watched * watch.forecasts))
    step = partial(accounting.train_step_flops, shape, length, batch=sizes["batch"], **adapted)
    return {
        "training": costs_of(step, left),
        "evaluation": evaluation,
        "forecasts": costs_of(forecast, max(0, sizes["forecasts"] - series)),
    }


def at_most(experiment: Experiment, profile: Profile, shape: Shape, **done: Any) -> Costs:
    """The sum of what `estimate` says."""
    return sum_costs(*estimate(experiment, profile, shape, **done).values())


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
            more = costs["training"][convention], costs["forecasts"][convention]
            rows[experiment.group] = training + more[0], forecasts + more[1]
    return rows


@dataclass(frozen=True)
class Budget:
    """The state of a profile's budget, in FLOPs of its convention."""

    limit: int
    """What the profile allows."""
    convention: str
    """The convention of `m2lib.accounting` that it is counted in."""
    spent: int
    """By the records of all experiments in the report's Table 3."""
    reserved: int
    """By those of them that are running, or were killed: what they may still spend."""

    @property
    def left(self) -> int:
        """What a further run may take."""
        return self.limit - self.spent - self.reserved


def all_records(profile: Profile, but: str | None = None) -> dict[str, Record]:
    """The profile's records by name, but that of one experiment. Raises InputError for one that cannot be read."""
    names = (name for name in EXPERIMENTS if name != but and record_path(profile, name).exists())
    return {name: load_record(profile, name) for name in names}


def budget_of(profile: Profile, asking: Record | None = None) -> Budget:
    """What the records say is spent, a running one at the most that it may cost.

    asking: a record that is to be stored, in place of the one that stands there.
    """
    records = [*all_records(profile, but=asking.name).values(), asking] if asking else all_records(profile).values()
    charged = [record for record in records if EXPERIMENTS[record.name].group]
    spent = sum_costs(*(record.spent() for record in charged))
    reserved = sum_costs(*(record.flops["reserved"] for record in charged))
    convention = profile.budget_convention
    return Budget(profile.budget, convention, spent[convention], reserved[convention])


def affordable_steps(
    budget: Budget, experiment: Experiment, profile: Profile, shape: Shape, beside: tuple[str, ...] = ()
) -> int:
    """How many of an experiment's training steps the budget still pays for, with its forecasts kept back.

    beside: other experiments that are kept back whole (for the report's final run, the untuned model's forecasts).
    """
    own = estimate(experiment, profile, shape)
    others = [cost for name in beside for cost in estimate(EXPERIMENTS[name], profile, shape).values()]
    kept = sum_costs(own["evaluation"], own["forecasts"], *others)[budget.convention]
    step = own["training"][budget.convention] // experiment.training(profile)["steps"]
    return max(0, (budget.left - kept) // step)


def refuse_excess(profile: Profile, record: Record, shape: Shape, needed: Costs) -> None:
    """Raise InputError where a run, whose record says what it has spent, needs more than is left."""
    experiment, budget = EXPERIMENTS[record.name], budget_of(profile, asking=record)
    need = needed[budget.convention]
    if need <= budget.left:
        return
    steps = affordable_steps(budget, experiment, profile, shape) if experiment.train else None
    raise InputError(
        f"{record.name} may need {need:.3g} FLOPs ({budget.convention}), but {budget.left:.3g} of profile "
        f"{profile.name}'s {budget.limit:.3g} are left"
        + (f", enough for {steps} of its steps with its forecasts" if steps is not None else "")
    )
