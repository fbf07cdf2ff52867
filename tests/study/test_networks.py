"""The small networks: what they read, what they write, and that they learn."""

import numpy as np
import pytest
import torch

from m2lib.series import CONTEXT_STEPS, series_mae, split_ids, to_integers
from study.networks import (
    TWENTIETHS,
    Network,
    NetworkConfig,
    Windows,
    num_weights,
    point_forecast,
    quantile_forecast,
    train_network,
    training_flops,
)

KINDS = ("residual", "recurrent", "linear")
SMALL = {"context": 24, "width": 32, "blocks": 1, "batch_size": 32}


def of(kind, **settings):
    """Return the settings of a small network of a kind."""
    return NetworkConfig(kind, **(SMALL | settings))


@pytest.fixture(scope="module")
def units(data):
    """Return training and validation series in scaled units."""
    split = split_ids(len(data))
    parts = []
    for ids in (list(split.train)[:30], list(split.validation)[:20]):
        parts.append(to_integers(data.trajectories[ids], data.scales[ids]))
    return parts


@pytest.mark.parametrize("kind", KINDS)
def test_before_it_learns_a_network_repeats_the_last_value(kind, units):
    contexts = units[0][:, :CONTEXT_STEPS]
    forecasts = point_forecast([Network(of(kind))], contexts)
    assert forecasts.shape == (30, 20, 2)
    assert np.allclose(forecasts, contexts[:, -1:], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_learns(kind, units):
    train, validation = units
    trained = train_network(of(kind, steps=200, learning_rate=3e-3), train, validation)
    truth = validation[:, CONTEXT_STEPS:]
    last = validation[:, CONTEXT_STEPS - 1 : CONTEXT_STEPS]
    # Measured, with four seeds: 0.50 to 0.65 of the last value's error.
    assert trained.error < 0.8 * series_mae(last, truth).mean()
    # The weights that are kept are those of the best look.
    forecasts = point_forecast([trained.network], validation[:, :CONTEXT_STEPS])
    assert series_mae(forecasts, truth).mean() == pytest.approx(trained.error)


def test_the_same_seed_gives_the_same_network(units):
    first, second, other = (
        train_network(of("residual", steps=20, seed=seed), *units) for seed in (0, 0, 1)
    )
    assert first.errors == second.errors
    assert first.errors != other.errors


def test_only_the_steps_that_it_reads_matter(units):
    network = Network(of("residual"))
    torch.nn.init.normal_(network.head.weight)
    contexts = units[0][:, :CONTEXT_STEPS]
    changed = contexts.copy()
    changed[:, : CONTEXT_STEPS - 24] = 7
    assert np.array_equal(point_forecast([network], contexts), point_forecast([network], changed))


def test_quantiles_ascend_and_those_of_several_networks_are_averaged_as_logarithms(units):
    contexts = units[0][:, :CONTEXT_STEPS]
    networks = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = Network(of("residual", levels=TWENTIETHS))
        torch.nn.init.normal_(network.head.weight, std=0.05)
        networks.append(network)
    quantiles = quantile_forecast(networks, contexts)
    assert quantiles.shape == (19, 30, 20, 2)
    assert (np.diff(quantiles, axis=0) >= 0).all()
    medians = [Network(of("residual")) for _ in networks]
    for seed, median in enumerate(medians):
        torch.manual_seed(seed)
        torch.nn.init.normal_(median.head.weight, std=0.05)
    alone = [np.log1p(point_forecast([median], contexts)) for median in medians]
    together = np.log1p(point_forecast(medians, contexts))
    positive = np.minimum(*alone) > 0  # none has been raised to zero
    assert np.allclose(together[positive], np.mean(alone, axis=0)[positive], atol=1e-4)


def test_a_window_is_a_piece_of_a_series(units):
    ramp = np.expm1(np.linspace(1, 6, 100))[None, :, None].repeat(2, axis=2)
    step = 5 / 99  # of the logarithms, from one time to the next
    windows = Windows(ramp, of("residual"))
    context, to_come = windows.draw(torch.Generator().manual_seed(0))
    whole = torch.cat([context, to_come], dim=1)
    assert whole.shape == (32, 44, 2)
    assert torch.allclose(whole.diff(dim=1), torch.tensor(step), atol=1e-4)
    starts = ((whole[:, 0, 0] - 1) / step).round()
    assert starts.min() >= 0
    assert starts.max() <= 56


def test_time_is_stretched_within_the_series(units):
    ramp = np.expm1(np.linspace(1, 6, 100))[None, :, None].repeat(2, axis=2)
    step = 5 / 99
    for context in (24, 50):
        windows = Windows(ramp, of("residual", context=context, stretch=2.0))
        whole = torch.cat(windows.draw(torch.Generator().manual_seed(0)), dim=1)
        steps = whole.diff(dim=1)
        # In one window all steps are as long as each other: none lies beyond the series.
        assert torch.allclose(steps, steps[:, :1], atol=1e-3)
        factors = steps[:, 0, 0] / step
        assert factors.min() < 0.7
        assert 1.3 < factors.max() <= 99 / (context + 19) + 1e-3


def test_noise_is_on_the_context_alone(units):
    clean = Windows(units[0], of("residual"))
    noisy = Windows(units[0], of("residual", noise=0.2))
    context, to_come = clean.draw(torch.Generator().manual_seed(0))
    noisy_context, same = noisy.draw(torch.Generator().manual_seed(0))
    assert torch.equal(to_come, same)
    assert not torch.allclose(context, noisy_context, atol=0.05)


def test_flops_are_six_for_each_use_of_a_weight():
    residual = Network(of("residual", steps=10))
    assert training_flops(residual) == 6 * 10 * 32 * num_weights(residual)
    recurrent = Network(of("recurrent", steps=10))
    head = 33 * 40
    uses = 24 * (num_weights(recurrent) - head) + head
    assert training_flops(recurrent) == 6 * 10 * 32 * uses


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="no network is of the kind 'wavelet'"):
        Network(NetworkConfig("wavelet"))
