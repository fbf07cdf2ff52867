"""The training of the small network for tables."""

import numpy as np
import pytest
import torch

from m2tables.network import CONTEXT, HORIZON, load_network
from m2tables.synthetic import pretraining
from m2tables.synthetic.pretraining import Settings, draw_windows, record_network, train


def test_the_same_seed_draws_the_same_windows():
    first, again = draw_windows(40, seed=1), draw_windows(40, seed=1)
    other = draw_windows(40, seed=2)
    assert first.contexts.shape == (40, CONTEXT)
    assert first.futures.shape == (40, HORIZON)
    assert torch.equal(first.futures, again.futures)
    assert not torch.equal(first.futures, other.futures)


def test_a_training_lowers_the_loss_and_writes_what_can_be_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(pretraining, "HELD_OUT", 40)
    settings = Settings(windows=300, width=16, blocks=1, steps=40, batch_size=32)
    _, losses = train(draw_windows(300), settings)
    assert losses[-1] < losses[0]

    record_network(tmp_path, settings)
    network = load_network(tmp_path)
    quantiles = network.quantiles(torch.randn(2, CONTEXT), torch.tensor([1, 12]))
    assert np.isfinite(quantiles.detach().numpy()).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_trains_in_the_dtype_that_is_fastest(dtype, monkeypatch):
    monkeypatch.setenv("M2_DTYPE", dtype)
    monkeypatch.setattr(pretraining, "HELD_OUT", 4)
    used = []

    class Watched(pretraining.Network):
        def forward(self, contexts, seasons):
            distances, line = super().forward(contexts, seasons)
            if torch.is_grad_enabled():  # the loss that is watched is always of float32
                used.append(distances.dtype)
            return distances, line

    monkeypatch.setattr(pretraining, "Network", Watched)
    train(draw_windows(20), Settings(width=8, blocks=1, steps=10, batch_size=4))
    assert set(used) == {getattr(torch, dtype)}
