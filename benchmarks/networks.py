"""`python -m benchmarks.networks` trains small networks on the series a language model learns from.

Each kind of network learns from 3, 10, ... of the 900 training series, and from the 5,152 simulated
series of the language model's best run. How many steps it reads is chosen, and its training stopped
early, on the validation series. With that chosen, it is trained once more for each further seed,
which draws other series, too. Only then are the test series forecast, and those of other worlds.
Writes networks.json beside the recorded runs, row by row; a row that is there is not made again.
"""

import argparse
import time
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from benchmarks.command import one_line
from benchmarks.yardsticks import sets
from m2lib.files import read_json, write_json
from m2lib.provenance import provenance
from m2lib.series import (
    CONTEXT_STEPS,
    SeriesSet,
    load_series,
    quantile_losses,
    series_mae,
    split_ids,
    to_integers,
)
from m2lib.series.data import draw_systems, simulate_systems
from study.networks import (
    RECORD,
    TWENTIETHS,
    Network,
    NetworkConfig,
    Trained,
    num_weights,
    point_forecast,
    quantile_forecast,
    train_network,
)
from study.selections import few_of
from study.settings import results_dir
from study.windows import simulation_seed

COUNTS = (3, 10, 30, 100, 300, 900, 5152)
"""From how many series a network learns."""
SEEDS = (0, 1, 2)
"""The seeds of weights, batches and series."""
CONTEXTS = (24, 36, 50)
"""The numbers of steps that a network may read."""
LONG = 4000
"""Training steps on 900 series or more; on fewer the early stopping ends it long before."""


@dataclass(frozen=True)
class Contestant:
    """A network that takes part, with the settings of `config` but for what is chosen."""

    name: str
    config: NetworkConfig
    contexts: tuple[int, ...] = CONTEXTS
    """The numbers of steps that it may read."""
    counts: tuple[int, ...] = COUNTS
    """From how many series it learns."""


CONTESTANTS = (
    Contestant("residual", NetworkConfig()),
    Contestant(
        "residual, noise and stretched time",
        NetworkConfig(noise=0.2, stretch=2.0),
        (24,),
        (900, 5152),
    ),
    Contestant("linear", NetworkConfig("linear", learning_rate=1e-2)),
    Contestant("residual, quantiles", NetworkConfig(levels=TWENTIETHS), counts=(900, 5152)),
    Contestant("recurrent", NetworkConfig("recurrent", width=128, learning_rate=3e-3), (36,)),
)


def series_of(count: int, seed: int, data: SeriesSet) -> np.ndarray:
    """Return what a network learns from: series (count, 100, 2) in scaled units.

    Up to 900 they are training series, and the same ones for a language model of that seed. Beyond
    they are simulated, as in each step of `best`.
    """
    train_ids = split_ids(len(data)).train
    if count <= len(train_ids):
        ids = few_of(train_ids, count, seed)
        return to_integers(data.trajectories[ids], data.scales[ids])
    return _simulated(count, seed)


@cache
def _simulated(count: int, seed: int) -> np.ndarray:
    systems = [draw_systems(1, simulation_seed(step, seed)) for step in range(count)]
    simulated = simulate_systems(np.concatenate(systems), f"the series of `best`, seed {seed}")
    return to_integers(simulated.trajectories, simulated.scales)


def train_all(
    contestant: Contestant, count: int, data: SeriesSet
) -> tuple[dict[int, float], list[Trained]]:
    """Choose how many steps a contestant reads, and train it with each seed.

    Returns
    -------
    tried : dict of int to float
        By the steps that it reads, the lowest mean error over the validation series, with seed 0.
    trained : list of Trained
        One for each of SEEDS.
    """
    ids = list(split_ids(len(data)).validation)
    validation = to_integers(data.trajectories[ids], data.scales[ids])
    steps = LONG if count >= 900 else contestant.config.steps
    config = replace(contestant.config, steps=steps)
    candidates = {}
    for context in contestant.contexts:
        candidate = replace(config, context=context)
        candidates[context] = train_network(candidate, series_of(count, 0, data), validation)
    tried = {context: candidate.error for context, candidate in candidates.items()}
    chosen = min(tried, key=lambda context: tried[context])
    trained = [candidates[chosen]]
    for seed in SEEDS[1:]:
        another = replace(config, context=chosen, seed=seed)
        trained.append(train_network(another, series_of(count, seed, data), validation))
    return tried, trained


def measured(networks: list[Network], series: SeriesSet, ids: list[int]) -> dict[str, Any]:
    """Return the errors of networks on series of a set, of each alone and of all together.

    If they write quantiles, these are scored, too, those of all together.
    """
    integers = to_integers(series.trajectories[ids], series.scales[ids])
    contexts, truth = integers[:, :CONTEXT_STEPS], integers[:, CONTEXT_STEPS:]
    start = time.process_time()
    together = point_forecast(networks, contexts)
    seconds = (time.process_time() - start) / len(ids)
    parts = {"ensemble": together}
    for network in networks:
        parts[str(network.config.seed)] = point_forecast([network], contexts)
    maes = {}
    for name, forecasts in parts.items():
        maes[name] = dict(zip(ids, series_mae(forecasts, truth).round(3).tolist(), strict=True))
    scores: dict[str, Any] = {"maes": maes, "seconds": seconds}
    levels = networks[0].config.levels
    if len(levels) > 1:
        quantiles = quantile_forecast(networks, contexts)
        losses = quantile_losses(quantiles, truth, levels).mean(axis=(0, 2, 3))
        scores["crps"] = dict(zip(ids, (2 * losses).round(3).tolist(), strict=True))
        low, high = (quantiles[levels.index(level)] for level in (0.1, 0.9))
        scores["held"] = float(((low <= truth) & (truth <= high)).mean())
        scores["width"] = float((high - low).mean())
    return scores


def record_networks(names: list[str]) -> None:
    """Train all contestants, or those that are named, and write networks.json."""
    path = results_dir() / RECORD
    data = load_series()
    old = read_json(path)["rows"] if path.exists() else []
    rows = {(row["name"], row["count"]): row for row in old}
    series_sets = sets()
    places = [(contestant, count) for contestant in CONTESTANTS for count in contestant.counts]
    for contestant, count in tqdm(places, desc="networks"):
        place = contestant.name, count
        if place in rows or (names and contestant.name not in names):
            continue
        tried, trained = train_all(contestant, count, data)
        networks = [one.network for one in trained]
        rows[place] = {
            "name": contestant.name,
            "count": count,
            "config": asdict(networks[0].config),
            "weights": num_weights(networks[0]),
            "tried": {context: round(error, 3) for context, error in tried.items()},
            "validation": [round(one.error, 3) for one in trained],
            "seconds": [round(one.seconds, 1) for one in trained],
            "flops": trained[0].flops,
            "sets": {
                name: measured(networks, series, list(ids))
                for name, (series, ids) in series_sets.items()
            },
        }
        record = provenance(torch.device("cpu")) | {"data": data.fingerprint}
        write_json(path, record | {"rows": list(rows.values())})
        maes = rows[place]["sets"]["test"]["maes"]
        errors = [f"{np.mean(list(one.values())):.1f}" for one in maes.values()]
        print(f"{contestant.name}, {count}: test {errors}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="contestants; default: all")
    options = parser.parse_args()
    with one_line():
        record_networks(options.names)
