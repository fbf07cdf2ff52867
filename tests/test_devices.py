"""Nothing is left on the CPU when a model computes on a card, found without one: the meta device
stands in for it."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

from m2lib.decoding.engine import Engine
from m2lib.decoding.generation import DecodeConfig, generate
from m2lib.decoding.reference import Reference
from m2lib.model.lora import trainable
from m2lib.model.vocabulary import text_to_ids
from m2lib.training.config import TrainConfig
from m2lib.training.loop import train
from m2lib.training.windows import make_windows


class OnCard(torch.Tensor):
    """A tensor that says it is on the meta device, and computes on the CPU all the same."""

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
    """Runs every operation as a card would: only on what lies there, and what it makes lies there
    too."""

    MOVES = (torch.ops.aten.to, torch.ops.aten._to_copy, torch.ops.aten.copy_)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = tree_leaves((args, kwargs or {}))
        there = any(isinstance(x, OnCard) for x in given)
        # A card takes a single number from the CPU, as in `x * torch.tensor(2.0)`.
        left = [
            x.shape
            for x in given
            if isinstance(x, torch.Tensor) and not isinstance(x, OnCard) and x.dim()
        ]
        if there and left and func.overloadpacket not in self.MOVES:
            raise AssertionError(f"{func} on a card, with {left} on the CPU")
        places = [x.type for x in given if isinstance(x, torch.device)]
        out = func(*tree_map(_here, args), **tree_map(_here, kwargs or {}))
        if ("meta" not in places) if places else not there:
            return out
        out = tree_map(lambda x: OnCard(x) if isinstance(x, torch.Tensor) else x, out)
        return return_and_correct_aliasing(func, args, kwargs or {}, out) if there else out


def _here(x):
    """An argument as the CPU needs it."""
    return (
        x.held
        if isinstance(x, OnCard)
        else torch.device("cpu")
        if isinstance(x, torch.device)
        else x
    )


@pytest.fixture
def card(tiny, monkeypatch):
    """`tiny` on a card, while the test runs."""
    tensor = torch.tensor  # it does not tell a mode what it makes on the meta device
    monkeypatch.setattr(
        torch, "tensor", lambda data, device="cpu", **kind: tensor(data, **kind).to(device)
    )
    with Card():
        yield copy.deepcopy(tiny.model).to("meta")


PROMPTS = [text_to_ids(text) for text in ("952,87;1000,91;", "7,8;", "1,2;3,4;5,6;")]
SAMPLED = DecodeConfig(steps=9, max_new_tokens=90, n_samples=2, temperature=1.0, constrained=True)


@pytest.mark.parametrize("engine", [Engine, Reference])
@pytest.mark.parametrize("config", [DecodeConfig(steps=3, max_new_tokens=9), SAMPLED])
def test_a_card_writes_what_the_cpu_writes(card, tiny, config, engine):
    written = generate(card, PROMPTS, config, torch.Generator().manual_seed(0), engine)
    assert written == generate(
        tiny.model, PROMPTS, config, torch.Generator().manual_seed(0), engine
    )


@pytest.mark.parametrize("recompute", ["0", "1"])
def test_a_card_trains_what_the_cpu_trains(card, tiny, recompute, tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RECOMPUTE", recompute)
    windows = make_windows(PROMPTS, 16)
    config = TrainConfig(
        steps=3, learning_rate=1e-2, rank=2, sequence_length=16, clip_norm=1, tail_weight=2
    )
    models = {"card": card, "cpu": copy.deepcopy(tiny.model)}
    logs = {
        place: train(model, windows, config, tmp_path / place, progress=False)
        for place, model in models.items()
    }
    assert logs["card"].losses == pytest.approx(logs["cpu"].losses, abs=1e-5)
    for name, parameter in trainable(card).items():
        assert torch.allclose(parameter.detach().cpu(), trainable(models["cpu"])[name], atol=1e-5)


def test_what_is_left_on_the_cpu_is_found(card):
    tokens = torch.tensor([[1, 2, 3]])
    with pytest.raises(
        AssertionError, match=r"on a card, with \[torch.Size\(\[1, 3\]\)\] on the CPU"
    ):
        card(tokens)
    assert card(tokens.to("meta")).logits.device.type == "meta"
