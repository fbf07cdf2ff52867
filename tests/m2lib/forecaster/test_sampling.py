"""What a sampler keeps, refuses and says, and how it reads and writes a context."""

import copy
import pickle
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from m2lib.decoding import forecasts
from m2lib.decoding.engine import BareModel
from m2lib.files import InputError
from m2lib.forecaster import Forecaster, Sampler, View
from m2lib.forecaster import sampling as module
from m2lib.forecaster.views import Seen
from m2lib.model import ids_to_text, inject_lora, load_backbone, merge_lora, text_to_ids
from m2lib.series import STUDY, TABLES, Season, TextFormat, Trend

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
        BareModel,
        "__init__",
        lambda self, model, int8=False: models.append(model) or real(self, model, int8),
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
        (
            [WAVE],
            {"season": 0},
            "season is 0; give its number of steps, a whole one, or 1 where there is none",
        ),
        ([WAVE], {"season": -3}, "season is -3; "),
        ([WAVE], {"batch_size": 0}, "batch_size is 0; give 1 or more, or leave it out"),
        ([WAVE], {"context_length": 9}, "context_length is 9; give 10 steps or more, or"),
        ([WAVE], {"temperature": float("nan")}, "temperature is nan; give 0, or more to sample"),
        ([WAVE], {"num_samples": 0}, "num_samples is 0; give 1 or more"),
    ],
)
def test_an_argument_out_of_range_is_refused_in_one_line(own, values, settings, line):
    with pytest.raises(InputError, match=line) as error:
        own.sample(values, 3, **settings)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="prediction_length is 0; give 1 or more steps"):
        own.sample([WAVE], 0)


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
    with pytest.warns(UserWarning, match="103 steps are more than the 102 that fill half a"):
        tuned.sample([WAVE], 103, num_samples=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned.sample([WAVE], 102, num_samples=1)
        own.sample([WAVE], 103, num_samples=1)  # no adapter, nothing learned


def test_work_of_minutes_is_said_first(own, monkeypatch):
    monkeypatch.setattr(module, "SHORT_WORK", 0)
    monkeypatch.setattr(module, "LONG_WORK", 0)
    for count, what in ((1, "this series"), (2, "these 2 series")):
        with pytest.warns(UserWarning, match=f"^{what} will take some 0 minutes here; fewer"):
            own.sample([WAVE] * count, 3, num_samples=1)
    monkeypatch.setattr(module, "LONG_WORK", 1e9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.sample([WAVE], 3, num_samples=1)


WITHOUT_TREND = (View(trend=True),)


def test_a_trend_is_taken_out_and_goes_on(own):
    own = replace(own, text_format=TABLES)
    steps = np.arange(60.0)[:, None]
    growing = 100 + 5 * steps + np.random.default_rng(0).normal(0, 3, (60, 1))
    (made,) = own.sample([growing], 12, num_samples=4, views=WITHOUT_TREND)
    slope = Trend.of(growing).slope
    assert slope == pytest.approx([5.0], rel=0.05)
    flat = growing + slope * steps[::-1]
    (same,) = own.sample([flat], 12, num_samples=4)
    assert made.texts == same.texts
    assert made.physical == pytest.approx(same.physical + slope * np.arange(1, 13)[:, None])
    (left,) = own.sample([growing], 12, num_samples=4)
    assert left.texts != made.texts


def test_season_and_trend_come_out_together_and_go_back_in(own):
    own = replace(own, text_format=TABLES)
    pattern = np.array([0.5, 1.5, 1.2, 0.8])
    noise = np.random.default_rng(0).normal(0, 1, 88)
    level = 200 + 3 * np.arange(88) + noise
    values = (level * np.resize(pattern, 88))[:, None]
    context, truth = values[:80], values[80:]
    (made,) = own.sample([context], 8, num_samples=30, season=4, views=WITHOUT_TREND)
    # The random model knows nothing, but where it says the last level, season and trend are right.
    season = Season.of(context, 4)
    read = season.without(context)
    trend = Trend.of(read, 4)
    at_last = np.repeat(made.scaling.start, 8, axis=0)
    lowest = trend.without(read).min()
    expected = (lowest + trend.slope * np.arange(1, 9)) * season.factor[np.arange(80, 88) % 4, 0]
    assert made.scaling.physical(at_last)[:, 0] == pytest.approx(expected)
    assert expected == pytest.approx(truth[:, 0], rel=0.05)


def test_a_falling_series_may_need_another_format_without_its_trend(tiny):
    falling = np.linspace(100, 1, 60)[:, None] + np.random.default_rng(0).normal(0, 0.1, (60, 1))
    (made,) = Sampler(tiny).sample([falling], 6, num_samples=2, views=WITHOUT_TREND)
    assert made.physical.min() >= 0


def test_samples_are_shared_out_among_readings(own):
    own = replace(own, text_format=replace(TABLES, spread=2.0))
    pattern = np.resize([0.5, 1.5, 1.2, 0.8], 80)
    values = (np.linspace(100, 300, 80) * pattern)[:, None]
    values += np.random.default_rng(0).normal(0, 1, values.shape)
    views = (View(20, trend=True), View(), View(40, season=False))
    options = {"season": 4, "batch_size": 8}
    (made,) = own.sample([values], 3, num_samples=5, views=views, **options)
    # Five samples: two, two and one.
    assert made.physical.shape == (5, 3, 1)
    for first, number in ((0, 0), (2, 1), (4, 2)):
        most_steps = own.readable_steps(TABLES.of(1), 3)
        seen = Seen.of(values, Season.of(values, 4), views[number], most_steps)
        scaling = seen.back(TABLES.of(1).reading(seen.context), 3)
        alone = scaling.physical(made.values[first])
        assert made.scaling.physical(made.values)[first] == pytest.approx(alone)
    assert [len(Seen.of(values, Season.of(values, 4), one, 999).context) for one in views] == [
        24,  # six seasons
        80,
        40,
    ]
    # The spread moves all samples away from the median of all.
    plain = made.scaling.physical(made.values)
    middle = np.median(plain, axis=0)
    assert made.physical == pytest.approx(np.maximum(middle + 2 * (plain - middle), 0))

    # Without a word the forecaster's own views count, and one sample has the first of them.
    kept = replace(own, views=views)
    (same,) = kept.sample([values], 3, num_samples=5, **options)
    assert same.texts == made.texts
    (greedy,) = kept.sample([values], 3, num_samples=1, **options)
    (first,) = own.sample([values], 3, num_samples=1, views=views[:1], **options)
    assert greedy.texts == first.texts


def test_a_season_that_the_window_cannot_show_is_taken_out(own):
    values = np.resize([1.0, 2.0, 4.0, 3.0, 9.0], 80)[:, None] + np.arange(80.0)[:, None]
    season = Season.of(values, 5)
    left_in = Seen.of(values, season, View(season=False), 15)
    assert np.array_equal(left_in.context, values[-15:])
    taken_out = Seen.of(values, season, View(season=False), 14)
    assert np.array_equal(taken_out.context, season.without(values)[-14:])


def test_of_a_day_and_a_week_six_days_are_shown():
    values = np.random.default_rng(0).uniform(1, 9, (70, 1))
    week = Season.of(values, (3, 21))
    assert len(Seen.of(values, week, View(10), 70).context) == 18
    sloping = Seen.of(values, week, View(trend=True), 70)
    assert np.array_equal(sloping.trend.slope, Trend.of(week.without(values), 3).slope)


def test_each_series_has_the_longest_of_several_seasons(own):
    week = np.resize(np.random.default_rng(0).uniform(1, 9, 21), 70)[:, None]
    day = week[:60]
    both = own.sample([week, day], 3, num_samples=1, season=(3, 21))
    alone = [
        own.sample([week], 3, num_samples=1, season=21),
        own.sample([day], 3, num_samples=1, season=3),
    ]
    for one, (same,) in zip(both, alone, strict=True):
        assert np.array_equal(one.scaling.scale, same.scaling.scale)


def test_an_integrators_undershoot_fits_a_format_without_negative_numbers(tiny):
    forecaster = Forecaster(tiny, STUDY)
    series = np.abs(np.sin(np.arange(40)))[:, None].repeat(2, axis=1)
    series[7] = -6.7e-8
    assert forecaster.checked_format([series]) == STUDY
    series[7] = -0.1
    with pytest.raises(InputError, match="series 0 does not fit the adapter's text format"):
        forecaster.checked_format([series])


def test_a_view_that_leaves_nothing_leaves_it_in(own):
    own = replace(own, text_format=TABLES)
    closed = np.concatenate([WAVE[:30], np.full((30, 1), 7.0)])
    few = Seen.of(closed, Season.none(1), View(20), 256)
    assert np.array_equal(few.context, closed)
    line = np.arange(60.0)[:, None] + 5
    straight = Seen.of(line, Season.none(1), View(trend=True), 256)
    assert np.array_equal(straight.context, line)
    assert straight.trend.slope == 0


def test_zeros_are_forecast_as_zeros(own, monkeypatch):
    """Of a model that always writes the context's smallest integer."""
    own = replace(own, text_format=TABLES)
    counts = np.random.default_rng(0).poisson(0.3, 60).astype(float)[:, None]
    night = np.maximum(0, np.sin(np.arange(72) / 12 * np.pi))[:, None]

    def repeat_the_smallest(model, prompts, config, *rest, **options):
        text = ids_to_text(prompts[0])
        smallest = min(text.split(";")[:-1], key=int)
        ids = text_to_ids(f"{smallest};" * config.steps)
        return [[ids] * config.n_samples], [[0] * config.n_samples]

    monkeypatch.setattr(forecasts, "generate", repeat_the_smallest)
    (made,) = own.sample([counts], 7, season=7)
    assert (made.physical == 0).all()
    (made,) = own.sample([counts + 5.3], 7)
    assert (made.physical == 5.3).all()
    (made,) = own.sample([night], 24, season=24)
    assert made.physical.min() == 0


def test_a_forecaster_takes_the_same_options(own):
    forecaster = Forecaster(own.backbone, TABLES)
    assert repr(forecaster) == "Forecaster(tiny, adapter: none, float32 on cpu)"
    options = {"num_samples": 4, "context_length": 25, "views": WITHOUT_TREND, "season": 4}
    rising = WAVE + 5 * np.arange(40.0)[:, None]
    _, median = forecaster.predict_quantiles(rising[:, 0], 3, **options)
    (made,) = forecaster.sample([rising], 3, **options)
    assert median[0].numpy() == pytest.approx(np.median(made.physical, axis=0)[:, 0], rel=1e-6)
    with pytest.raises(InputError, match="there is no series to forecast"):
        forecaster.predict_quantiles([], 3)
    table = pd.DataFrame({"target": WAVE[:, 0]})
    columns = {"id_column": None, "timestamp_column": None}
    with pytest.raises(InputError, match="season is 0; give its number of steps"):
        forecaster.predict_df(table, prediction_length=3, season=0, **columns)
