"""`python -m benchmarks.table_network` measures the small network for tables on real series.

They are those of `benchmarks.textbook`: the series for choosing, beside AutoETS and AutoTheta, and
with `--judge` the half that judges, whose other forecasters are in textbook.json. All about the
network was chosen on the first half. The record is table_network.json, beside the recorded runs.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.rows import one_line, place_of
from benchmarks.scores import Cut, score
from benchmarks.sources import Source
from benchmarks.textbook import STATSFORECAST, cuts_of, sources_of, statistical, timed
from m2lib.files import read_json, short_hash, write_json
from m2lib.forecaster.network import FOLDER, WEIGHTS_FILE, NetworkForecaster
from m2lib.provenance import provenance
from m2lib.series import DECILES
from study.paper.textbook import CHOOSING, JUDGING, LAST_SEASON
from study.settings import results_dir

RECORD = "table_network.json"
NETWORK = "the small network"
BESIDE = (LAST_SEASON, "AutoETS", "AutoTheta")
"""The forecasters that are measured beside it on the series for choosing."""
MOST = 30
"""Forecasts of a source for choosing, at most."""


def network_deciles(
    network: NetworkForecaster, source: Source, cuts: Sequence[Cut]
) -> list[np.ndarray]:
    """Return the network's deciles (9, horizon) of each cut."""
    contexts = [context[:, None] for _, context, _ in cuts]
    seasons = [source.season] * len(cuts)
    quantiles = network.quantiles(contexts, source.horizon, seasons, DECILES)
    return list(quantiles[..., 0])


def rows_of(network: NetworkForecaster, source: Source, half: str) -> list[dict[str, Any]]:
    """Measure the network on a source, and what stands beside it there."""
    cuts = cuts_of(source, MOST if half == CHOOSING else None)
    ways = {NETWORK: partial(network_deciles, network, source, cuts)}
    if half == CHOOSING:
        for name in BESIDE:
            model = STATSFORECAST[name]
            ways[name] = partial(statistical, model, cuts, source.horizon, source.season)
    place = place_of(source, half)
    rows = []
    for name, way in ways.items():
        deciles, seconds = timed(way)
        measured = score(cuts, source.season, deciles)
        rows.append(place | {"forecaster": name} | measured | {"seconds": seconds})
    return rows


def record(half: str) -> None:
    """Measure a half, and write it into the record beside the other one."""
    path = results_dir() / RECORD
    network = NetworkForecaster()
    rows = []
    for source in sources_of(half):
        rows += rows_of(network, source, half)
    kept = read_json(path)["rows"] if path.exists() else []
    kept = [row for row in kept if row["split"] != half]
    weights = {"weights": short_hash((FOLDER / WEIGHTS_FILE).read_bytes())}
    write_json(path, provenance(torch.device("cpu")) | weights | {"rows": kept + rows})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--judge", action="store_true", help="measure the half for judging")
    with one_line():
        record(JUDGING if parser.parse_args().judge else CHOOSING)
