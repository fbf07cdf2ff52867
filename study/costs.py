"""What runs cost: an estimate before they start, what they have computed, and what they leave of
the budget."""

import math
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
from study.plans import Watch, protocol_at, start_of, training_at, watch_at
from study.profiles import REPORT, Profile
from study.published import published_deciding_maes
from study.records import Record, load_record, record_path


def loss_costs(
    shape: Shape,
    windows: np.ndarray | list[np.ndarray],
    *,
    rank: int = 0,
    targets: tuple[str, ...] = TARGETS,
) -> Costs:
    """Return what the loss of windows of token ids costs, each at its own length.

    As published, validation loss is free.
    """
    forward = partial(costs_of, accounting.forward_flops, shape, rank=rank, targets=targets)
    losses = []
    for window in windows:
        tokens = int((window != PAD_ID).sum())
        losses.append(forward(tokens))
    return sum_costs(*losses) | {"published": 0}


def series_costs(
    shape: Shape,
    entry: Mapping[str, Any],
    protocol: DecodeConfig,
    *,
    rank: int = 0,
    targets: tuple[str, ...] = TARGETS,
) -> Costs:
    """Return what the forecast of one series cost, by its entry in a record.

    If it was sampled, its samples shared a prefill. By the rules, only the tokens of this series
    count. As published, what the protocol allows counts, in prompt and new tokens, whatever was
    read and written. As executed, adapters are merged, and each step attends to all columns that
    the engine computes for its row.
    """
    prompt = entry["prompt_tokens"]
    samples = protocol.n_samples
    new_tokens = np.atleast_1d(entry["new_tokens"]).tolist()  # one number a sample
    passes = np.atleast_1d(entry["passes"]).tolist()
    adapted = partial(costs_of, accounting.forecast_flops, shape, rank=rank, targets=targets)

    # By the rules: the costs of the samples alone, each with its own prefill, less all prefills but
    # one.
    sample_costs = [adapted(prompt, tokens) for tokens in new_tokens]
    samples_total = sum_costs(*sample_costs)
    prefill = adapted(prompt, 1)

    # As published: the most that may be read and written, prompt and new tokens.
    published_costs = adapted(
        protocol.context_tokens or prompt, protocol.max_new_tokens, samples=samples
    )

    # As executed: `widths` counts the steps that attend to so many columns, for example {130: 4}.
    widths = Counter[int]()
    for count in passes:
        for step in range(1, count + 1):
            widths[step_columns(prompt, entry["padded_tokens"], step, samples)] += 1
    executed_costs = costs_of(accounting.forecast_flops, shape, prompt, 1)
    for columns, repeats in widths.items():
        steps = costs_of(accounting.cached_step_flops, shape, columns, repeats=repeats)
        executed_costs = sum_costs(executed_costs, steps)
    return {
        "coursework": samples_total["coursework"] - (samples - 1) * prefill["coursework"],
        "published": published_costs["published"],
        "executed": executed_costs["executed"],
    }


@dataclass(frozen=True)
class Workload:
    """What decides the cost of a run."""

    targets: tuple[str, ...]
    """The projections that have adapters."""
    rank: int
    """The rank of the adapters; 0: none."""
    batch: int
    """Windows in a training step."""
    steps: int
    """Training steps."""
    length: int
    """Tokens of a window, or of a prompt if nothing is trained."""
    prompt: int
    """Tokens of a prompt, at most."""
    samples: int
    """Forecasts of each series, which share a prefill."""
    new_tokens: int
    """Tokens of a forecast, at most."""
    num_forecasts: int
    """Series that are forecast."""
    watch: Watch
    """What is evaluated while it trains."""

    @property
    def adapter(self) -> dict[str, Any]:
        """Targets and rank, as the functions of `m2lib.accounting` take them."""
        return {"targets": self.targets, "rank": self.rank}


def workload(experiment: Experiment, profile: Profile, start: str = "") -> Workload:
    """Return what decides the cost of an experiment at a profile.

    start: the experiment whose adapter it uses, if that is known; by default the one that the
    report chose, if the profile takes the report's choices, else the first of those that may be
    chosen.
    """
    training = training_at(experiment, profile)
    protocol = protocol_at(experiment, profile)
    adapter_training = training
    if experiment.adapter and not training:
        if not start and profile.as_reported:
            start = start_of(experiment, published_deciding_maes)
        trained_experiment = EXPERIMENTS[start or experiment.adapter.names[0]]
        adapter_training = training_at(trained_experiment, profile)
    targets = TARGETS
    rank = 0
    if adapter_training:
        targets = adapter_training.targets
        rank = adapter_training.rank
    prompt = protocol.context_tokens or CONTEXT_STEPS * STUDY.longest_step
    new_tokens = protocol.max_new_tokens
    if protocol.constrained:
        new_tokens = protocol.steps * STUDY.longest_step
    num_forecasts = experiment.num_forecasts
    if profile.most_series:
        num_forecasts = min(num_forecasts, profile.most_series)
    return Workload(
        targets=targets,
        rank=rank,
        batch=training.batch_size if training else 1,
        steps=training.steps if training else 0,
        length=training.sequence_length if training else prompt,
        prompt=prompt,
        samples=protocol.n_samples,
        new_tokens=new_tokens,
        num_forecasts=num_forecasts,
        watch=watch_at(experiment, profile),
    )


def estimate(
    work: Workload, shape: Shape, steps_done: int = 0, forecasts_done: int = 0
) -> dict[str, Costs]:
    """Return what the rest of a run will cost at most: training, evaluation and forecasts.

    shape: that of its backbone. steps_done, forecasts_done: how many training steps it has already
    taken, and how many series it has already forecast.
    """
    forecast = partial(
        costs_of,
        accounting.forecast_flops,
        shape,
        work.prompt,
        work.new_tokens,
        samples=work.samples,
        **work.adapter,
    )
    # One evaluation before the first step, one after the last, and those on the way, as far as they
    # are still to come.
    evaluations = 0
    if work.steps > steps_done:
        before = 1 if steps_done == 0 else 0
        between = sum(step > steps_done for step in work.watch.after)
        after = 1
        evaluations = before + between + after
    num_watched = work.watch.num_series * evaluations
    # A window begins every length / 2 tokens, so a series of n tokens has at most 2 n / length of
    # them, rounded up: 100 steps of 10 tokens have 2000 / 512, so 4. (A real series has some 800
    # tokens, from which `make_windows` makes 2 or 3 windows.)
    tokens = (CONTEXT_STEPS + FORECAST_STEPS) * STUDY.longest_step
    windows = num_watched * math.ceil(2 * tokens / work.length)
    losses = costs_of(accounting.forward_flops, shape, work.length, repeats=windows, **work.adapter)
    steps_left = max(0, work.steps - steps_done)
    training = costs_of(
        accounting.train_step_flops,
        shape,
        work.length,
        repeats=steps_left,
        batch=work.batch,
        **work.adapter,
    )
    watched_forecasts = forecast(repeats=num_watched if work.watch.also_forecast else 0)
    forecasts_left = max(0, work.num_forecasts - forecasts_done)
    return {
        "training": training,
        "evaluation": sum_costs(losses | {"published": 0}, watched_forecasts),
        "forecasts": forecast(repeats=forecasts_left),
    }


def table_3(shape: Shape, convention: str) -> dict[str, tuple[int, int]]:
    """Return the report's Table 3: the training and forecast FLOPs of each of its rows.

    They are those of the experiments as declared. The published errors choose the adapters that go
    on to the search's second round.
    """
    rows = dict[str, tuple[int, int]]()
    for experiment in EXPERIMENTS.values():
        if not experiment.group:
            continue
        work = workload(experiment, REPORT)
        costs = estimate(work, shape)
        training, forecasts = rows.get(experiment.group, (0, 0))
        training += costs["training"][convention]
        forecasts += costs["forecasts"][convention]
        rows[experiment.group] = training, forecasts
    return rows


@dataclass(frozen=True)
class Budget:
    """The state of a profile's budget, in FLOPs of its convention."""

    spent: int
    """What the records of all experiments in the report's Table 3 have spent, records no longer
    kept included."""
    reserved: int
    """What those that are running or were killed may still spend."""
    left: int
    """What a further run may spend."""


def all_records(profile: Profile, but: str | None = None) -> dict[str, Record]:
    """Return the profile's records by name, except (`but`) that of one experiment.

    Raises InputError for a record that cannot be read.
    """
    records = {}
    for name in EXPERIMENTS:
        if name != but and record_path(profile, name).exists():
            records[name] = load_record(profile, name)
    return records


def removed(profile: Profile) -> list[dict[str, Any]]:
    """Return what the records that are no longer kept had cost, a row for each group of them.

    A row has the `group`, a row of the report's Table 3 or None beyond the report; the `records`,
    and the last `commit` that holds them; and `forecasts`, `seconds`, and `flops` as in a record.
    """
    path = record_path(profile, "removed")
    return read_json(path) if path.exists() else []


def budget_of(profile: Profile, but: str | None = None) -> Budget:
    """Return the state of a profile's budget by its records, except (`but`) one experiment's.

    An experiment that is running counts with the most that it may cost.
    """
    convention = profile.budget_convention
    spent = 0
    reserved = 0
    for name, record in all_records(profile, but).items():
        if EXPERIMENTS[name].group:
            spent += record.spent()[convention]
            reserved += record.flops["reserved"][convention]
    for row in removed(profile):
        if row["group"]:
            spent += sum_costs(*row["flops"].values())[convention]
    return Budget(spent, reserved, left=profile.budget - spent - reserved)
