"""Nothing is left on the CPU when a model computes on a card.

No card is needed to find out: tensors that claim to lie on the meta device stand in for those on a
card, and are computed on the CPU.
"""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from m2lib.decoding.engine import Engine
from m2lib.decoding.generation import DecodeConfig, generate
from m2lib.decoding.reference import Reference
from m2lib.forecaster import Forecaster, Sampling
from m2lib.model.adapter_files import load_adapter, save_adapter
from m2lib.model.lora import inject_lora, trainable
from m2lib.model.vocabulary import text_to_ids
from m2lib.training.config import TrainConfig
from m2lib.training.loop import train
from m2lib.training.windows import make_windows


class OnCard(torch.Tensor):
    """A tensor that says it is on the meta device, and holds its numbers on the CPU."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls, held.shape, held.stride(), held.storage_offset(), dtype=held.dtype, device="meta"
        )

    def __init__(self, held):
        self.held = held

    def tolist(self):
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(f"{func} outside of `Card`")


class Card(TorchDispatchMode):
    """Run every operation as a card would: only on what lies there, and its results lie there too.

    An AssertionError names what an operation on the card has left on the CPU.
    """

    MOVES = (torch.ops.aten.to, torch.ops.aten._to_copy, torch.ops.aten.copy_)
    """The operations that may read from one place and write to the other."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        runs_on_card = any(isinstance(x, OnCard) for x in given)
        on_cpu = [x.shape for x in given if _is_on_cpu(x)]
        if runs_on_card and on_cpu and func.overloadpacket not in self.MOVES:
            raise AssertionError(f"{func} on a card, with {on_cpu} on the CPU")

        result = func(*tree_map(_held, args), **tree_map(_held, kwargs))

        # A result lies where the call says, else where its arguments do.
        devices = [x.type for x in given if isinstance(x, torch.device)]
        stays_on_card = "meta" in devices if devices else runs_on_card
        if not stays_on_card:
            return result
        result = tree_map(_on_card, result)
        if not runs_on_card:
            return result
        return return_and_correct_aliasing(func, args, kwargs, result)


def _is_on_cpu(x):
    """Return whether an argument is a tensor on the CPU that a card could not take from there.

    A card takes a single number, as in `x * torch.tensor(2.0)`.
    """
    return isinstance(x, torch.Tensor) and not isinstance(x, OnCard) and x.dim() > 0


def _held(x):
    """Return an argument as the CPU needs it to compute."""
    if isinstance(x, OnCard):
        return x.held
    if isinstance(x, torch.device):
        return torch.device("cpu")
    return x


def _on_card(x):
    """Return a result as it lies on the card."""
    return OnCard(x) if isinstance(x, torch.Tensor) else x


@pytest.fixture
def card(tiny, monkeypatch):
    """Return `tiny` on a card, which is there while the test runs."""
    # `torch.tensor` does not tell a mode what it makes on the meta device, so it makes it here and
    # then moves it.
    tensor = torch.tensor

    def tensor_then_moved(data, device="cpu", **options):
        return tensor(data, **options).to(device)

    monkeypatch.setattr(torch, "tensor", tensor_then_moved)
    with Card():
        yield copy.deepcopy(tiny.model).to("meta")


PROMPTS = [text_to_ids(text) for text in ("952,87;1000,91;", "7,8;", "1,2;3,4;5,6;")]
GREEDY = DecodeConfig(steps=3, max_new_tokens=9)
SAMPLED = DecodeConfig(steps=9, max_new_tokens=90, n_samples=2, temperature=1.0, constrained=True)


@pytest.mark.parametrize("engine", [Engine, Reference])
@pytest.mark.parametrize(
    "config", [pytest.param(GREEDY, id="greedy"), pytest.param(SAMPLED, id="sampled")]
)
def test_a_card_writes_what_the_cpu_writes(card, tiny, config, engine):
    def written_by(model):
        generator = torch.Generator().manual_seed(0)
        return generate(model, PROMPTS, config, generator, engine)

    assert written_by(card) == written_by(tiny.model)


@pytest.mark.parametrize(
    "recompute",
    [pytest.param("0", id="activations kept"), pytest.param("1", id="activations recomputed")],
)
def test_a_card_trains_what_the_cpu_trains(card, tiny, recompute, tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RECOMPUTE", recompute)
    windows = make_windows(PROMPTS, 16)
    config = TrainConfig(
        steps=3, learning_rate=1e-2, rank=2, sequence_length=16, clip_norm=1, tail_weight=2
    )
    cpu = copy.deepcopy(tiny.model)

    card_log = train(card, windows, config, tmp_path / "card", progress=False)
    cpu_log = train(cpu, windows, config, tmp_path / "cpu", progress=False)

    assert card_log.losses == pytest.approx(cpu_log.losses, abs=1e-5)
    on_cpu = trainable(cpu)
    for name, parameter in trainable(card).items():
        assert torch.allclose(parameter.detach().cpu(), on_cpu[name], atol=1e-5)


class Killed(Exception):
    """What stops a run between two of its steps."""


def test_a_run_that_was_killed_on_a_card_ends_as_an_unbroken_one(card, tiny, tmp_path):
    """The stand-in adds up as the CPU does. On a real card sums may differ from run to run."""
    windows = make_windows(PROMPTS, 16)
    config = TrainConfig(steps=4, learning_rate=1e-2, rank=2, sequence_length=16)

    def kill(log, _):
        if log.step == 3:
            raise Killed

    def run(model, folder, on_checkpoint=None):
        return train(
            model,
            windows,
            config,
            tmp_path / folder,
            checkpoint_every=1,
            on_checkpoint=on_checkpoint,
            progress=False,
        )

    unbroken = run(card, "unbroken")
    killed, resumed = (copy.deepcopy(tiny.model).to("meta") for _ in range(2))
    with pytest.raises(Killed):
        run(killed, "broken", kill)

    assert run(resumed, "broken").losses == unbroken.losses
    expected = trainable(card)
    for name, parameter in trainable(resumed).items():
        assert torch.equal(parameter.detach().cpu(), expected[name].detach().cpu())


def test_an_adapter_goes_from_a_card_into_a_file_and_back(card, tiny, tmp_path):
    inject_lora(card, rank=2, generator=torch.Generator().manual_seed(0))
    save_adapter(card, tmp_path, "tiny")
    another = copy.deepcopy(tiny.model).to("meta")

    load_adapter(another, tmp_path)

    expected = trainable(card)
    for name, parameter in trainable(another).items():
        assert parameter.device.type == "meta"
        assert torch.equal(parameter.detach().cpu(), expected[name].detach().cpu())


def test_a_card_forecasts_series_as_the_cpu_does(card, tiny):
    series = [np.arange(30.0)[:, None] % 7 + 1, np.arange(50.0)[:, None] % 5 + 1]

    def texts_by(backbone):
        forecasts = Forecaster(backbone, progress=False).sample(series, 3, Sampling(4))
        return [forecast.texts for forecast in forecasts]

    assert texts_by(replace(tiny, model=card)) == texts_by(tiny)


def test_what_is_left_on_the_cpu_is_found(card):
    tokens = torch.tensor([[1, 2, 3]])

    message = r"on a card, with \[torch.Size\(\[1, 3\]\)\] on the CPU"
    with pytest.raises(AssertionError, match=message):
        card(tokens)

    assert card(tokens.to("meta")).logits.device.type == "meta"
