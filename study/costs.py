"""What runs cost: an experiment before it starts, what it has computed, and what the budget leaves
for it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from m2lib import accounting
from m2lib.accounting import TARGETS, Costs, Shape, costs_of, sum_costs
from m2lib.decoding import DecodeConfig, step_columns
from m2lib.files import read_json
from m2lib.model import PAD_ID
from m2lib.series import CONTEXT_STEPS, FORECAST_STEPS, STUDY
from study.experiments import EXPERIMENTS, Experiment
from study.profiles import REPORT, Profile
from study.records import Record, load_record, record_path
from study.rules import chosen_by


def loss_costs(shape: Shape, windows: np.ndarray | list[np.ndarray], **adapter: Any) -> Costs:
    """The loss of windows of token ids, one by one, each at its own length. As published,
    validation loss is free."""
    lengths = (int((window != PAD_ID).sum()) for window in windows)
    losses = (costs_of(accounting.forward_flops, shape, tokens, **adapter) for tokens in lengths)
    return sum_costs(*losses) | {"published": 0}


def series_costs(
    shape: Shape, entry: Mapping[str, Any], protocol: DecodeConfig, **adapter: Any
) -> Costs:
    """The forecast of one series, or its samples, which share a prefill; from its entry in a
    record.

    By the rules its own tokens count; as executed, adapters are merged, and each step attends to
    all columns of its batch's cache; as published always the whole context counts, and all the
    tokens that may come.
    """
    prompt, samples = entry["prompt_tokens"], protocol.n_samples
    new, passes = (np.atleast_1d(entry[key]).tolist() for key in ("new_tokens", "passes"))
    adapted = partial(costs_of, accounting.forecast_flops, shape, **adapter)
    alone, prefill = (
        sum_costs(*(adapted(prompt, max(1, tokens)) for tokens in new)),
        adapted(prompt, 1),
    )
    most = adapted(protocol.context_tokens or prompt, protocol.max_new_tokens, samples=samples)
    widths = Counter(
        step_columns(entry["padded_tokens"], step, samples)
        for count in passes
        for step in range(1, count + 1)
    )
    steps = (
        costs_of(accounting.cached_step_flops, shape, columns, times=n)
        for columns, n in widths.items()
    )
    merged = sum_costs(costs_of(accounting.forecast_flops, shape, prompt, 1), *steps)
    return {
        "coursework": alone["coursework"] - (samples - 1) * prefill["coursework"],
        "published": most["published"],
        "executed": merged["executed"],
    }


def adapter_shape(
    experiment: Experiment, profile: Profile, adapter: str | None = None
) -> dict[str, Any]:
    """Targets and rank an experiment forecasts at, rank 0 if untuned.

    adapter: whose, where earlier results choose; while they are not known, it is the first that
    they may choose.
    """
    source = (
        EXPERIMENTS[adapter or experiment.adapter.names[0]] if experiment.adapter else experiment
    )
    config = source.config(profile)
    return (
        {"targets": config.targets, "rank": config.rank}
        if config
        else {"targets": TARGETS, "rank": 0}
    )


def experiment_sizes(
    experiment: Experiment, profile: Profile, adapter: str | None = None
) -> dict[str, Any]:
    """What decides an experiment's cost: its adapter's targets and rank, batch, steps, tokens of a
    window and of a prompt at most, samples of a series and the tokens of each at most, and the
    number of series that are forecast.

    adapter: see `adapter_shape`.
    """
    protocol, train = experiment.at(profile).protocol, experiment.config(profile)
    prompt = protocol.context_tokens or CONTEXT_STEPS * STUDY.longest_step
    return {
        **adapter_shape(experiment, profile, adapter),
        "batch": train.batch_size if train else 1,
        "steps": train.steps if train else 0,
        "length": train.sequence_length if train else prompt,
        "prompt": prompt,
        "samples": protocol.n_samples,
        "new_tokens": protocol.steps * STUDY.longest_step
        if protocol.constrained
        else protocol.max_new_tokens,
        "forecasts": min(experiment.forecasts, profile.series or experiment.forecasts),
    }


def estimate(
    experiment: Experiment,
    profile: Profile,
    shape: Shape,
    steps: int = 0,
    series: int = 0,
    adapter: str | None = None,
) -> dict[str, Costs]:
    """What an experiment will cost at most, by `training`, `evaluation` and `forecasts`.

    shape: of its backbone. steps, series: training steps and forecasts that are done already.
    adapter: see `adapter_shape`.
    """
    sizes, adapted = (
        experiment_sizes(experiment, profile, adapter),
        adapter_shape(experiment, profile, adapter),
    )
    length, ahead = sizes["length"], (shape, sizes["prompt"], sizes["new_tokens"])
    forecast = partial(
        costs_of, accounting.forecast_flops, *ahead, samples=sizes["samples"], **adapted
    )
    # One evaluation before the first step, one after the last, and those on the way.
    series_watched, after, forecast_too = experiment.watch(profile)
    watched = series_watched * (2 + sum(step > steps for step in after)) if experiment.train else 0
    # A window begins every length / 2 tokens, so a series of n tokens has at most 2 n / length of
    # them, rounded up, which -(-a // b) does: 100 steps of 10 tokens in windows of 512 give -(-2000
    # // 512) = 4. (A real series has some 800 tokens, and `make_windows` makes 2 or 3 of them.)
    windows = watched * -(-2 * (CONTEXT_STEPS + FORECAST_STEPS) * STUDY.longest_step // length)
    losses = costs_of(accounting.forward_flops, shape, length, times=windows, **adapted) | {
        "published": 0
    }
    left = max(0, sizes["steps"] - steps)
    return {
        "training": costs_of(
            accounting.train_step_flops, shape, length, times=left, batch=sizes["batch"], **adapted
        ),
        "evaluation": sum_costs(losses, forecast(times=watched * forecast_too)),
        "forecasts": forecast(times=max(0, sizes["forecasts"] - series)),
    }


def table_3(shape: Shape, convention: str) -> dict[str, tuple[int, int]]:
    """The report's Table 3, from the experiments as declared: training and forecast FLOPs of each
    of its rows.

    The adapters that the search takes further are those that the published errors choose.
    """
    rows = dict[str, tuple[int, int]]()
    for experiment in EXPERIMENTS.values():
        if experiment.group:
            adapter = experiment.adapter.chosen(chosen_by) if experiment.adapter else None
            costs = estimate(experiment, REPORT, shape, adapter=adapter)
            training, forecasts = rows.get(experiment.group, (0, 0))
            training, forecasts = (
                training + costs["training"][convention],
                forecasts + costs["forecasts"][convention],
            )
            rows[experiment.group] = training, forecasts
    return rows


@dataclass(frozen=True)
class Budget:
    """The state of a profile's budget, in FLOPs of its convention."""

    spent: int
    """By the records of all experiments in the report's Table 3, those no longer kept among
    them."""
    reserved: int
    """By those of them that are running, or were killed: what they may still spend."""
    left: int
    """What a further run may take."""


def all_records(profile: Profile, but: str | None = None) -> dict[str, Record]:
    """The profile's records by name, but that of one experiment. Raises InputError for one that
    cannot be read."""
    names = (name for name in EXPERIMENTS if name != but and record_path(profile, name).exists())
    return {name: load_record(profile, name) for name in names}


def removed(profile: Profile) -> list[dict[str, Any]]:
    """What records that are no longer kept had cost: a row for each group of the report's Table 3,
    None beyond it.

    A row has the `records`, the last `commit` that holds them, `forecasts`, `seconds`, and `flops`
    as in a record.
    """
    path = record_path(profile, "removed")
    return read_json(path) if path.exists() else []


def budget_of(profile: Profile, but: str | None = None) -> Budget:
    """What the records say is spent, a running one at the most that it may cost; without the one of
    an experiment."""
    charged = [
        record for record in all_records(profile, but).values() if EXPERIMENTS[record.name].group
    ]
    convention = profile.budget_convention
    spent = sum(record.spent()[convention] for record in charged)
    spent += sum(
        kind[convention]
        for row in removed(profile)
        if row["group"]
        for kind in row["flops"].values()
    )
    reserved = sum(record.flops["reserved"][convention] for record in charged)
    return Budget(spent, reserved, left=profile.budget - spent - reserved)
