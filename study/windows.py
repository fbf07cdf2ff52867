"""The windows of token ids that a run trains on, and those on which its loss is watched."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from m2lib import model
from m2lib.series import SeriesSet, encode, generate_series, split_ids
from m2lib.training import TrainConfig, Windows, make_windows
from study.records import Plan
from study.selections import few_of


def training_windows(plan: Plan, data: SeriesSet, config: TrainConfig) -> Windows:
    """Return the windows that a run trains on, or the function that gives those of a step."""
    if plan.learns_from == "the training split":
        ids: Sequence[int] = split_ids(len(data)).train
        if plan.training_series:
            ids = few_of(ids, plan.training_series, config.seed)
        return _windows_of(data, ids, config, plan.protocol.rounding)
    return partial(_simulated_windows, config, plan.protocol.rounding)


def watched_windows(
    plan: Plan, data: SeriesSet, ids: list[int], config: TrainConfig
) -> list[np.ndarray]:
    """Return the windows of these validation series."""
    return list(_windows_of(data, ids, config, plan.protocol.rounding))


def simulation_seed(step: int, seed: int) -> int:
    """Return the seed of the systems that a step of simulated series trains on.

    Step 5 of a run of seed 2 has 2,000,006. No step has 0, which is the seed of the data set.
    """
    return 1 + step + 10**6 * seed


def _simulated_windows(config: TrainConfig, rounding: str, step: int) -> np.ndarray:
    """Return a step's windows, one of each of `batch_size` systems, simulated for this step.

    No other step trains on these systems, and the data set has none of them.
    """
    seed = simulation_seed(step, config.seed)
    simulated = generate_series(config.batch_size, seed)
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(len(simulated)):
        windows = _windows_of(simulated, [i], config, rounding)
        rows.append(windows[rng.integers(len(windows))])
    return np.stack(rows)


def _windows_of(
    data: SeriesSet, ids: Sequence[int], config: TrainConfig, rounding: str
) -> np.ndarray:
    """Return the training windows of some series, as token ids."""
    texts = [encode(data.trajectories[i], data.scales[i], rounding, i) for i in ids]
    return make_windows([model.text_to_ids(text) for text in texts], config.sequence_length)
