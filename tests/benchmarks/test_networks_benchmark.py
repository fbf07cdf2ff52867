"""The small networks learn from the language model's series, and their record is whole."""

import numpy as np
import pytest

from benchmarks.networks import measured, series_of
from m2lib.series import CONTEXT_STEPS, generate_series, series_mae, split_ids, to_integers
from study.networks import (
    Network,
    NetworkConfig,
    network_errors,
    num_weights,
    point_forecast,
    recorded_networks,
    training_flops,
)
from study.selections import few_of

ROWS = recorded_networks()


def config_of(row):
    """Return the settings of a recorded row."""
    return NetworkConfig(**(row["config"] | {"levels": tuple(row["config"]["levels"])}))


def test_up_to_900_they_are_training_series(data):
    train = split_ids(len(data)).train
    ids = few_of(train, 10, seed=2)
    assert set(ids) < set(train)
    assert np.array_equal(
        series_of(10, 2, data), to_integers(data.trajectories[ids], data.scales[ids])
    )


def test_beyond_they_are_those_of_the_long_run(data):
    series = series_of(901, 0, data)
    assert len(series) == 901
    for step in (0, 900):
        simulated = generate_series(1, 1 + step)
        expected = to_integers(simulated.trajectories, simulated.scales)
        assert np.array_equal(series[step], expected[0])


def test_errors_are_of_each_network_and_of_all_together(data):
    ids = [19, 59, 64]
    networks = [Network(NetworkConfig(width=16, blocks=1, seed=seed)) for seed in (0, 1)]
    maes = measured(networks, data, ids)["maes"]
    assert maes.keys() == {"ensemble", "0", "1"}
    units = to_integers(data.trajectories[ids], data.scales[ids])
    forecasts = point_forecast(networks, units[:, :CONTEXT_STEPS])
    errors = series_mae(forecasts, units[:, CONTEXT_STEPS:])
    assert list(maes["ensemble"].values()) == pytest.approx(errors, abs=1e-3)


@pytest.mark.parametrize("place", ROWS, ids=str)
def test_a_recorded_row_is_whole(place, data):
    row = ROWS[place]
    network = Network(config_of(row))
    assert row["weights"] == num_weights(network)
    assert row["flops"] == training_flops(network)
    # What it reads is what the validation series chose.
    assert min(row["tried"], key=row["tried"].get) == str(row["config"]["context"])
    split = split_ids(len(data))
    for who in ("ensemble", 0, 1, 2):
        assert set(network_errors(*place, "test", who)) == set(split.test)
        assert set(network_errors(*place, "validation", who)) == set(split.validation)
    if len(row["config"]["levels"]) == 1:  # seed 0's lowest error is that of the weights kept
        kept = np.mean(list(network_errors(*place, "validation", 0).values()))
        assert kept == pytest.approx(row["validation"][0], abs=2e-3)
