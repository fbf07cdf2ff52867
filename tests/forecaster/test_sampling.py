"""What a sampler keeps, refuses and says, and how it reads and writes a context."""

import copy
import pickle
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from m2lib.decoding.engine import BareModel
from m2lib.forecaster import Sampler
from m2lib.forecaster import sampling as module
from m2lib.model import inject_lora, load_backbone, merge_lora
from m2lib.series import TextFormat

WAVE = 50 + 30 * np.sin(np.arange(40.0) / 3)[:, None]


@pytest.fixture
def own():
    """A forecaster whose model no other test has."""
    return Sampler(load_backbone("tiny", device="cpu", dtype="float32"), TextFormat(1))


@pytest.fixture
def built(monkeypatch):
    """The models whose matrices were made, in order."""
    models, real = [], BareModel.__init__
    monkeypatch.setattr(
        BareModel, "__init__", lambda self, model: models.append(model) or real(self, model)
    )
    return models


def texts(sampler):
    return sampler.sample([WAVE], 3, num_samples=4)[0].texts


def test_matrices_are_made_once_for_a_forecaster(own, built):
    first = texts(own)
    assert texts(own) == first
    assert built == [own.backbone.model]
    for other in (replace(own), copy.deepcopy(own), pickle.loads(pickle.dumps(own))):
        assert texts(other) == first
    assert len(built) == 4  # a copy makes its own, and none travels with a pickle


def train_a_step(model, fused=False):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, fused=fused)
    model(torch.tensor([[1, 2, 3]])).logits.logsumexp(-1).sum().backward()
    optimizer.step()


def load_state(model):
    state = {name: tensor + 0.1 for name, tensor in model.state_dict().items()}
    model.load_state_dict(state)


def other_adapter(model):
    """One goes into the weights; a second takes its place, and perhaps its place in memory."""
    merge_lora(model)
    adapted(model, seed=2)


def adapted(model, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inject_lora(model, 2, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(generator=generator)


@pytest.mark.parametrize(
    "change", [train_a_step, partial(train_a_step, fused=True), load_state, adapted]
)
def test_no_forecast_is_made_by_matrices_out_of_date(own, built, change):
    own.backbone.model.requires_grad_(True)
    before = texts(own)
    change(own.backbone.model)
    after = texts(own)
    assert after != before
    assert after == texts(replace(own))  # which has nothing kept
    texts(own)
    assert len(built) == 3


def test_matrices_follow_their_model_to_another_dtype(own, built):
    texts(own)
    own.backbone.model.to(torch.bfloat16)
    texts(own)
    assert own._bare().embedding.dtype == torch.bfloat16
    assert len(built) == 2


def test_one_adapter_after_another(own):
    adapted(own.backbone.model)
    before = texts(own)
    other_adapter(own.backbone.model)
    assert texts(own) == texts(replace(own)) != before


def test_weights_of_inference_mode_are_never_kept(built):
    with torch.inference_mode():
        sampler = Sampler(load_backbone("tiny", device="cpu", dtype="float32"), TextFormat(1))
    assert texts(sampler) == texts(sampler)
    assert len(built) == 2


@pytest.mark.parametrize(
    ("values", "settings", "line"),
    [
        ([], {}, "there is no series to forecast; give at least one"),
        ([WAVE], {"season": 0}, "season is 0; give its number of steps, or 1 where there is none"),
        ([WAVE], {"season": -3}, "season is -3; "),
        ([WAVE], {"batch_size": 0}, "batch_size is 0; give 1 or more, or leave it out"),
        ([WAVE], {"context_length": 9}, "context_length is 9; give 10 steps or more, or"),
        ([WAVE], {"temperature": float("nan")}, "temperature is nan; give 0, or more to sample"),
    ],
)
def test_an_argument_out_of_range_is_refused_in_one_line(own, values, settings, line):
    with pytest.raises(ValueError, match=line) as error:
        own.sample(values, 3, **settings)
    assert "\n" not in str(error.value)


def test_less_of_the_past_is_read_where_this_is_asked_for(own):
    (short,) = own.sample([WAVE], 3, num_samples=1, context_length=15)
    (same,) = own.sample([WAVE[-15:]], 3, num_samples=1)
    assert short.texts == same.texts
    (whole,) = own.sample([WAVE], 3, num_samples=1, context_length=500)
    assert whole.prompt_tokens > short.prompt_tokens == same.prompt_tokens


def test_a_season_comes_from_the_whole_series_whatever_is_read_of_it(own):
    season = np.resize([1.0, 2.0, 4.0, 3.0], 43)[:, None]
    growing = season * np.linspace(10, 20, 43)[:, None]
    made = own.sample([growing[:40]], 3, num_samples=1, context_length=10, season=4)
    assert made[0].scaling.scale[:, 0] / season[40:, 0] == pytest.approx(
        np.full(3, made[0].scaling.scale[0, 0]), rel=0.01
    )


def test_a_forecaster_is_shown_in_one_line(own, tmp_path):
    assert repr(own) == "Sampler(tiny, adapter: none, float32 on cpu)"
    tuned = replace(own, adapter=tmp_path / "mine")
    assert repr(tuned) == "Sampler(tiny, adapter: mine, float32 on cpu)"


def test_what_an_adapter_has_not_learned_is_said_first(own, tmp_path):
    tuned = replace(own, adapter=tmp_path)
    with pytest.warns(UserWarning, match="103 steps are more than the 102 that the adapter has"):
        tuned.sample([WAVE], 103, num_samples=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned.sample([WAVE], 102, num_samples=1)
        own.sample([WAVE], 103, num_samples=1)  # no adapter, nothing learned


def test_work_of_minutes_is_said_first(own, monkeypatch):
    monkeypatch.setattr(module, "SHORT_WORK", 0)
    monkeypatch.setattr(module, "LONG_WORK", 0)
    with pytest.warns(UserWarning, match="this will take some 0 minutes here; fewer series"):
        own.sample([WAVE], 3, num_samples=1)
    monkeypatch.setattr(module, "LONG_WORK", 1e9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.sample([WAVE], 3, num_samples=1)
