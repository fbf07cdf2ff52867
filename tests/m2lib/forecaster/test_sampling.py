"""What a sampler keeps, refuses and says, and how it writes a context and reads its forecasts."""

import copy
import pickle
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from m2lib.decoding import forecasts
from m2lib.decoding.bare_model import BareModel
from m2lib.errors import InputError
from m2lib.forecaster import Sampler, Sampling, View, format_for, sampling
from m2lib.forecaster.views import Seen
from m2lib.model import ids_to_text, inject_lora, load_backbone, merge_lora, text_to_ids
from m2lib.series import STUDY, TABLES, Season, TextFormat, Trend


def waves(steps=40, variables=1):
    """Return noisy waves around 50, from 17 to 83, of shape (steps, variables)."""
    rng = np.random.default_rng(0)
    phases = np.arange(steps)[:, None] / 3 + np.arange(variables)
    return 50 + 30 * np.sin(phases) + rng.normal(0, 1, (steps, variables))


WAVE = waves()


def load_own():
    """Return a sampler whose model no other test has, for one variable without negative values."""
    return Sampler(load_backbone("tiny", device="cpu", dtype="float32"), TextFormat(1))


@pytest.fixture
def own():
    """Return a sampler whose model a test may change."""
    return load_own()


@pytest.fixture
def for_tables(own):
    """Return a sampler in the text format of adapters for any table."""
    return replace(own, text_format=TABLES)


# What a sampler keeps: the model's matrices, merged with an adapter and packed.


@pytest.fixture
def packed(note_calls):
    """Return a list to which each model is added whose matrices are made."""
    return note_calls(BareModel, "__init__", lambda call: call.model)


def texts_of(sampler):
    """Return what a sampler writes after a wave."""
    (forecast,) = sampler.sample([WAVE], 3, Sampling(4))
    return forecast.texts


def test_matrices_are_made_once_for_a_forecaster(own, packed):
    first = texts_of(own)
    assert texts_of(own) == first
    assert packed == [own.backbone.model]


@pytest.mark.parametrize(
    "make_copy",
    [
        pytest.param(replace, id="with fields replaced"),
        pytest.param(copy.deepcopy, id="deep"),
        pytest.param(lambda sampler: pickle.loads(pickle.dumps(sampler)), id="pickled"),
    ],
)
def test_a_copy_makes_its_own_matrices(own, packed, make_copy):
    texts = texts_of(own)
    other = make_copy(own)
    assert texts_of(other) == texts
    assert packed == [own.backbone.model, other.backbone.model]


def train_a_step(model, fused=False):
    """Change a model's weights in place."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, fused=fused)
    logits = model(torch.tensor([[1, 2, 3]])).logits
    logits.logsumexp(-1).sum().backward()
    optimizer.step()


def load_state(model):
    """Copy other weights into a model."""
    state = {name: tensor + 0.1 for name, tensor in model.state_dict().items()}
    model.load_state_dict(state)


def put_adapter_in(model, seed=1):
    """Put an adapter of random weights into a model."""
    generator = torch.Generator().manual_seed(seed)
    inject_lora(model, 2, generator=generator)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:  # in a new adapter B is 0, and changes nothing
                parameter.normal_(generator=generator)


@pytest.mark.parametrize(
    "change",
    [
        train_a_step,
        # PyTorch counts the changes of a weight, but not those by a fused optimiser.
        pytest.param(partial(train_a_step, fused=True), id="train_a_step, fused"),
        load_state,
        put_adapter_in,
    ],
)
def test_no_forecast_is_made_by_matrices_out_of_date(own, packed, change):
    own.backbone.model.requires_grad_(True)
    before = texts_of(own)
    change(own.backbone.model)
    after = texts_of(own)
    assert after != before
    assert after == texts_of(replace(own))  # which keeps nothing

    # The new matrices are kept again: they were made for `before`, for `after` and for the copy.
    texts_of(own)
    assert len(packed) == 3


def test_matrices_follow_their_model_to_another_dtype(own, packed):
    texts_of(own)
    own.backbone.model.to(torch.bfloat16)
    texts_of(own)
    assert own._bare().embedding.dtype == torch.bfloat16
    assert len(packed) == 2


def test_one_adapter_may_take_the_place_of_another(own):
    model = own.backbone.model
    put_adapter_in(model)
    before = texts_of(own)

    # The first goes into the weights. The second may even have its place in memory.
    merge_lora(model)
    put_adapter_in(model, seed=2)
    after = texts_of(own)
    assert after != before
    assert after == texts_of(replace(own))


def test_weights_of_inference_mode_are_never_kept(packed):
    with torch.inference_mode():  # PyTorch counts no changes of weights that are made in it
        sampler = load_own()
    assert texts_of(sampler) == texts_of(sampler)
    assert len(packed) == 2


def test_a_seed_may_be_one_of_numpys_whole_numbers(own):
    (expected,) = own.sample([WAVE], 3, Sampling(seed=3))
    (forecast,) = own.sample([WAVE], 3, Sampling(seed=np.int64(3)))
    assert forecast.texts == expected.texts


# What it refuses.


@pytest.mark.parametrize(
    ("values", "settings", "message"),
    [
        ([], {}, "there is no series to forecast; give at least one"),
        ([WAVE], {"prediction_length": 0}, "prediction_length is 0; give a whole number"),
        (
            [WAVE],
            {"season": 0},
            "season is 0; give its number of steps, a whole one, or 1 where there is none",
        ),
    ],
)
def test_an_argument_out_of_range_is_refused_in_one_line(own, values, settings, message, refusal):
    arguments = {"prediction_length": 3} | settings
    assert message in refusal(own.sample, values, **arguments)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0; give a whole number of 1 or more"),
        ({"context_length": 9}, "context_length is 9; give a whole number of 10 or more"),
        ({"seed": None}, "seed is None; give a whole number of 0 or more"),
        (
            {"temperature": float("nan")},
            "temperature is nan; give a number above 0, or ask for one",
        ),
        ({"temperature": -1, "num_samples": 1}, "temperature is -1; give a number above 0"),
        ({"num_samples": 0}, "num_samples is 0; give a whole number of 1 or more"),
    ],
)
def test_a_sampling_out_of_range_is_refused_where_it_is_made(settings, message):
    with pytest.raises(InputError, match=message):
        Sampling(**settings)


def test_a_series_that_does_not_fit_the_format_is_named_by_its_number(tiny):
    never_negative = np.ones((20, 2))
    from_minus_one = np.arange(-1.0, 19.0).reshape(10, 2)
    with pytest.raises(InputError, match="series 1 does not fit"):
        Sampler(tiny, STUDY).sample([never_negative, from_minus_one], 2)


@pytest.mark.parametrize("text_format", [None, TextFormat(2)])
def test_series_of_different_numbers_of_variables_are_refused(tiny, text_format):
    two_variables = np.arange(40.0).reshape(20, 2)
    message = (
        r"^series 1 has another number of variables than the first one \(1, not 2\); forecast them"
    )
    with pytest.raises(InputError, match=message):
        Sampler(tiny, text_format).sample([two_variables, np.arange(20.0)[:, None]], 2)


def test_an_integrators_undershoot_fits_a_format_without_negative_numbers(tiny):
    sampler = Sampler(tiny, STUDY)
    variable = np.abs(np.sin(np.arange(40)))
    series = np.stack([variable, variable], axis=1)
    series[7] = -6.7e-8
    assert sampler.checked_format([series]) == STUDY

    series[7] = -0.1
    with pytest.raises(InputError, match="series 0 does not fit the adapter's text format"):
        sampler.checked_format([series])


def test_where_all_numbers_are_tiny_a_negative_one_is_no_undershoot(own):
    currents = 1e-8 * WAVE  # from 1.7e-7 to 8.3e-7, in amperes
    assert own.checked_format([currents]) == own.text_format
    with pytest.raises(InputError, match="series 0 does not fit the adapter's text format"):
        own.checked_format([currents - 5e-7])


# What it says.


def test_a_sampler_is_shown_in_one_line(own, tmp_path):
    assert repr(own) == "Sampler(tiny, adapter: none, float32 on cpu)"
    tuned = replace(own, adapter=tmp_path / "mine")
    assert repr(tuned) == "Sampler(tiny, adapter: mine, float32 on cpu)"


def test_the_oldest_steps_drop_out_and_this_is_said(tiny):
    long = waves(500)
    # 204 steps of five tokens fill the 1024 tokens that are read at most.
    message = "of a series longer than the model's window the last 204 steps are read"
    with pytest.warns(UserWarning, match=message):
        (whole,) = Sampler(tiny).sample([long], 2, Sampling(1))
    (kept,) = Sampler(tiny).sample([long[-204:]], 2, Sampling(1))
    assert whole.texts == kept.texts

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is said of steps that were not asked for
        (asked_for,) = Sampler(tiny).sample([long], 2, Sampling(1, context_length=204))
    assert asked_for.texts == kept.texts


def test_steps_that_an_adapter_has_not_learned_are_warned_of(own, tmp_path):
    tuned = replace(own, adapter=tmp_path)
    # 204 steps of five tokens fill a window of 1024.
    message = "103 steps are more than half a training window of `general` holds, which is 102;"
    with pytest.warns(UserWarning, match=message):
        tuned.sample([WAVE], 103, Sampling(1))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned.sample([WAVE], 102, Sampling(1))
        own.sample([WAVE], 103, Sampling(1))  # there is no adapter, and nothing was learned


@pytest.mark.parametrize(("count", "what"), [(1, "this series"), (2, "these 2 series")])
def test_work_of_minutes_is_warned_of(own, monkeypatch, count, what):
    monkeypatch.setattr(sampling, "SHORT_WORK", 0)
    monkeypatch.setattr(sampling, "LONG_WORK", 0)
    with pytest.warns(UserWarning, match=f"^{what} will take some 0 minutes here; fewer"):
        own.sample([WAVE] * count, 3, Sampling(1))


def test_work_that_is_measured_to_be_short_is_not_warned_of(own, monkeypatch):
    monkeypatch.setattr(sampling, "SHORT_WORK", 0)
    monkeypatch.setattr(sampling, "LONG_WORK", 1e9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.sample([WAVE], 3, Sampling(1))


# How a context is written, and its forecasts are read.


def test_where_zero_is_near_it_stays_zero():
    assert format_for([waves()]) == TextFormat(1, percentile=100)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(1000 + waves(), id="far above zero"),
        pytest.param(waves() - 60, id="partly below zero"),
    ],
)
def test_where_zero_is_far_or_crossed_numbers_start_below_the_smallest(values):
    assert format_for([values]) == TextFormat(1, percentile=100, offset=0.3)


def test_zero_stays_zero_up_to_a_smallest_of_half_of_the_largest():
    assert format_for([np.array([[50.0], [100.0]])]).offset == 0
    assert format_for([np.array([[51.0], [100.0]])]).offset == 0.3


def test_as_many_steps_can_be_forecast_as_leave_room_for_ten(own):
    positions = own.backbone.model.config.max_position_embeddings
    most = positions // 5 - 10  # a step takes five tokens
    assert own.readable_steps(TextFormat(1), most) == 10
    with pytest.raises(InputError, match="ask for fewer"):
        own.readable_steps(TextFormat(1), most + 1)


def test_several_variables_are_scaled_each_by_itself():
    assert format_for([waves(variables=3)]).separate


def test_less_of_the_past_is_read_where_this_is_asked_for(own):
    (short,) = own.sample([WAVE], 3, Sampling(1, context_length=15))
    (same,) = own.sample([WAVE[-15:]], 3, Sampling(1))
    assert short.texts == same.texts
    assert short.prompt_tokens == same.prompt_tokens

    (whole,) = own.sample([WAVE], 3, Sampling(1, context_length=500))
    assert whole.prompt_tokens > short.prompt_tokens


def test_no_more_of_the_past_is_read_than_the_window_holds(own):
    window = own.readable_steps(TextFormat(1), 3)
    assert own.readable_steps(TextFormat(1), 3, context_length=window + 1) == window


def test_a_season_is_taken_out_and_put_back(tiny):
    series = waves() * np.resize([1.0, 1.2, 0.9, 1.1], 40)[:, None]
    season = Season.of(series, 4)
    (seasonal,) = Sampler(tiny).sample([series], 5, season=4)
    (level,) = Sampler(tiny).sample([season.without(series)], 5)

    assert seasonal.texts == level.texts
    ahead = np.arange(40, 45) % 4  # the place of each step ahead within its season
    assert np.allclose(seasonal.physical, level.physical * season.factor[ahead])
    assert not np.allclose(seasonal.physical, level.physical)


def test_a_season_comes_from_the_whole_series_whatever_is_read_of_it(own):
    season = np.resize([1.0, 2.0, 4.0, 3.0], 43)[:, None]
    growing = season * np.linspace(10, 20, 43)[:, None]
    # Ten steps are fewer than the three seasons from which one is estimated.
    (forecast,) = own.sample([growing[:40]], 3, Sampling(1, context_length=10), season=4)

    levels = forecast.scaling.scale[:, 0] / season[40:, 0]
    assert levels == pytest.approx(np.full(3, levels[0]), rel=0.01)


def test_each_series_has_the_longest_of_several_seasons(own):
    week = np.random.default_rng(0).uniform(1, 9, 21)
    long = np.resize(week, 70)[:, None]
    short = long[:60]  # fewer than three weeks
    with_week, with_day = own.sample([long, short], 3, Sampling(1), season=(3, 21))

    (week_alone,) = own.sample([long], 3, Sampling(1), season=21)
    assert np.array_equal(with_week.scaling.scale, week_alone.scaling.scale)
    (day_alone,) = own.sample([short], 3, Sampling(1), season=3)
    assert np.array_equal(with_day.scaling.scale, day_alone.scaling.scale)


WITHOUT_TREND = (View(trend=True),)
"""The views of a sampler that takes a trend out."""


def test_a_trend_is_taken_out_and_goes_on(for_tables):
    steps = np.arange(60.0)[:, None]
    noise = np.random.default_rng(0).normal(0, 3, (60, 1))
    growing = 100 + 5 * steps + noise
    slope = Trend.of(growing).slope
    assert slope == pytest.approx([5.0], rel=0.05)
    flat = growing + slope * steps[::-1]  # the last step stays where it is

    (rising,) = for_tables.sample([growing], 12, Sampling(4), views=WITHOUT_TREND)
    (level,) = for_tables.sample([flat], 12, Sampling(4))
    assert rising.texts == level.texts
    ahead = np.arange(1, 13)[:, None]
    assert rising.physical == pytest.approx(level.physical + slope * ahead)

    (trend_left_in,) = for_tables.sample([growing], 12, Sampling(4))
    assert trend_left_in.texts != rising.texts


def test_season_and_trend_come_out_together_and_go_back_in(for_tables):
    pattern = np.resize([0.5, 1.5, 1.2, 0.8], 88)
    noise = np.random.default_rng(0).normal(0, 1, 88)
    level = 200 + 3 * np.arange(88) + noise
    values = (level * pattern)[:, None]
    context = values[:80]
    truth = values[80:]
    (forecast,) = for_tables.sample([context], 8, Sampling(30), season=4, views=WITHOUT_TREND)

    # The random model knows nothing. But without season and trend all values are nearly the same.
    # So where it repeats the smallest, season and trend make the right forecast of it.
    season = Season.of(context, 4)
    unseasonal = season.without(context)
    trend = Trend.of(unseasonal, 4)
    smallest = trend.without(unseasonal).min()
    levels = smallest + trend.slope * np.arange(1, 9)
    factors = season.factor[np.arange(80, 88) % 4, 0]
    expected = levels * factors
    repeated = np.repeat(forecast.scaling.start, 8, axis=0)
    assert forecast.scaling.physical(repeated)[:, 0] == pytest.approx(expected)
    assert expected == pytest.approx(truth[:, 0], rel=0.05)


def test_a_falling_series_may_need_another_format_without_its_trend(tiny):
    noise = np.random.default_rng(0).normal(0, 0.01, (60, 1))
    falling = np.linspace(100, 1, 60)[:, None] + noise
    (forecast,) = Sampler(tiny).sample([falling], 6, Sampling(2), views=WITHOUT_TREND)
    assert forecast.physical.min() >= 0

    level = Trend.of(falling).without(falling)
    assert format_for([level]) != format_for([falling])
    (of_level,) = Sampler(tiny).sample([level], 6, Sampling(2))
    assert forecast.texts == of_level.texts


@pytest.fixture
def temperatures(note_calls):
    """Return a list to which each sampling adds the list of its series' temperatures."""
    return note_calls(sampling, "forecast", lambda call: call.temperatures)


def test_a_series_that_is_mostly_zero_is_sampled_at_temperature_1(own, temperatures):
    seldom = np.tile([0.0, 0.0, 3.0], 20)[:, None]
    own.sample([seldom, WAVE], 2, Sampling(num_samples=2))
    assert len(seldom) > len(WAVE), "shorter ones come first"
    assert temperatures == [[0.7, 1.0]]


def test_the_temperature_is_that_of_the_steps_that_are_read(own, temperatures):
    launched = np.append(np.zeros(30), np.arange(1.0, 21))[:, None]
    own.sample([launched], 2, Sampling(2))
    own.sample([launched], 2, Sampling(2, context_length=25))
    assert temperatures == [[1.0], [0.7]]


def test_the_zeros_of_a_season_do_not_raise_the_temperature(own, temperatures):
    hours = np.arange(96)
    days = np.maximum(0, np.sin(hours / 12 * np.pi) - 0.5)  # zero in two hours of three
    brighter_each_day = days * np.linspace(1, 2, 96)
    for season in (1, 24):
        own.sample([brighter_each_day[:, None]], 2, Sampling(2), season=season)
    assert temperatures == [[1.0], [0.7]]


def test_a_temperature_that_is_given_holds_for_series_that_are_mostly_zero():
    assert Sampling(temperature=0.5).temperature_for(np.zeros((10, 1))) == 0.5


@pytest.mark.parametrize(
    ("zeros", "temperature"),
    [pytest.param(5, 0.7, id="half of the days"), pytest.param(6, 1.0, id="more than half")],
)
def test_one_of_several_variables_that_is_mostly_zero_raises_the_temperature(zeros, temperature):
    seldom = np.append(np.zeros(zeros), np.ones(10 - zeros))
    both = np.stack([np.ones(10), seldom], axis=1)
    assert Sampling().temperature_for(both) == temperature


def test_a_single_sample_is_greedy_whatever_the_series(own):
    seldom = np.tile([0.0, 0.0, 3.0], 10)[:, None]
    texts = []
    for seed in (0, 1):
        (forecast,) = own.sample([seldom], 2, Sampling(num_samples=1, seed=seed))
        texts.append(forecast.texts)
    assert texts[0] == texts[1]


@pytest.fixture
def writes_the_smallest(for_tables, monkeypatch):
    """Return a sampler whose model always writes the smallest integer that it has read."""

    def generate(model, prompts, config, *rest, **options):
        text = ids_to_text(prompts[0])
        smallest = min(text.split(";")[:-1], key=int)
        ids = text_to_ids(f"{smallest};" * config.steps)
        passes = [[0] * config.n_samples]
        return [[ids] * config.n_samples], passes

    monkeypatch.setattr(forecasts, "generate", generate)
    return for_tables


def test_the_smallest_of_counts_is_zero_in_a_forecast_too(writes_the_smallest):
    counts = np.random.default_rng(0).poisson(0.3, 60).astype(float)[:, None]
    (forecast,) = writes_the_smallest.sample([counts], 7, season=7)
    assert (forecast.physical == 0).all()


def test_the_smallest_value_comes_back_exactly(writes_the_smallest):
    values = 5.3 + np.random.default_rng(0).poisson(0.3, 60)[:, None]
    (forecast,) = writes_the_smallest.sample([values], 7)
    assert (forecast.physical == 5.3).all()


def test_nights_of_solar_power_are_zero_in_a_forecast_too(writes_the_smallest):
    hours = np.arange(72)
    sun = np.maximum(0, np.sin(hours / 12 * np.pi))
    (forecast,) = writes_the_smallest.sample([sun[:, None]], 24, season=24)
    assert forecast.physical.min() == 0


WIDE = TextFormat(1, percentile=100, offset=0.5, spread=10.0)
"""A format that moves samples far away from their median, also below zero."""
SALES = WAVE * (WAVE > 40)
"""A series that is zero at times, and never negative."""
PROFIT = WAVE - 50
"""A series that is negative at times."""


def test_a_spread_takes_no_forecast_below_zero_where_no_value_is(tiny):
    of_sales, of_profit = Sampler(tiny, WIDE).sample([SALES, PROFIT], 4, Sampling(8))
    assert of_sales.physical.min() == 0
    assert of_profit.physical.min() < PROFIT.min()


def test_each_series_is_kept_above_zero_by_itself_in_all_views(tiny):
    options = {"sampling": Sampling(8), "views": (View(), View(20))}
    of_sales, of_profit = Sampler(tiny, WIDE).sample([SALES, PROFIT], 4, **options)
    assert of_sales.physical.min() == 0
    assert of_profit.physical.min() < 0


def test_each_variable_is_kept_above_zero_by_itself(tiny):
    sampler = Sampler(tiny, replace(WIDE, variables=2))
    (forecast,) = sampler.sample([np.hstack([SALES, PROFIT])], 4, Sampling(8))
    assert forecast.physical[..., 0].min() == 0
    assert forecast.physical[..., 1].min() < 0


# How samples are shared out among views, and series among batches.


def rising_quarters():
    """Return 80 quarters of a rising series with a season and a little noise, (steps, 1)."""
    level = np.linspace(100, 300, 80)
    pattern = np.resize([0.5, 1.5, 1.2, 0.8], 80)
    noise = np.random.default_rng(0).normal(0, 1, 80)
    return (level * pattern + noise)[:, None]


RISING_QUARTERS = rising_quarters()
VIEWS = (View(20, trend=True), View(), View(40, season=False))
FIVE = Sampling(5, batch_size=8)
GREEDY = Sampling(1, batch_size=8)


@pytest.fixture
def spreading(for_tables):
    """Return a sampler that moves its samples away from their median."""
    return replace(for_tables, text_format=replace(TABLES, spread=2.0))


def test_samples_are_shared_out_among_views(spreading):
    (forecast,) = spreading.sample([RISING_QUARTERS], 3, FIVE, season=4, views=VIEWS)
    assert forecast.physical.shape == (5, 3, 1)

    # Two samples are of the first view, two of the second and one of the third. Each is read by the
    # scaling of its own view.
    text_format = TABLES.for_variables(1)
    most_steps = spreading.readable_steps(text_format, 3)
    season = Season.of(RISING_QUARTERS, 4)
    physical = forecast.scaling.physical(forecast.values)
    for sample, view in ((0, VIEWS[0]), (2, VIEWS[1]), (4, VIEWS[2])):
        seen = Seen.of(RISING_QUARTERS, season, view, most_steps)
        scaling = seen.back(text_format.reading(seen.context), 3)
        alone = scaling.physical(forecast.values[sample])
        assert physical[sample] == pytest.approx(alone)


def test_the_spread_moves_the_samples_of_all_views_away_from_their_common_median(spreading):
    (forecast,) = spreading.sample([RISING_QUARTERS], 3, FIVE, season=4, views=VIEWS)
    drawn = forecast.scaling.physical(forecast.values)
    median = np.median(drawn, axis=0)
    moved = median + 2 * (drawn - median)
    assert forecast.physical == pytest.approx(np.maximum(moved, 0))


def test_a_forecaster_has_views_of_its_own(spreading):
    with_views = replace(spreading, views=VIEWS)
    (own_views,) = with_views.sample([RISING_QUARTERS], 3, FIVE, season=4)
    (given,) = spreading.sample([RISING_QUARTERS], 3, FIVE, season=4, views=VIEWS)
    assert own_views.texts == given.texts


def test_a_single_sample_is_of_the_first_view(spreading):
    with_views = replace(spreading, views=VIEWS)
    (greedy,) = with_views.sample([RISING_QUARTERS], 3, GREEDY, season=4)
    (first,) = spreading.sample([RISING_QUARTERS], 3, GREEDY, season=4, views=VIEWS[:1])
    assert greedy.texts == first.texts


def test_a_single_sample_of_each_view_is_drawn_at_random(for_tables):
    views = (View(), View(20))
    (one,) = for_tables.sample([WAVE], 3, Sampling(2, seed=1), views=views)
    (other,) = for_tables.sample([WAVE], 3, Sampling(2, seed=2), views=views)
    assert one.texts != other.texts


@pytest.mark.parametrize(
    ("series_that_fit", "batch_size"),
    [
        pytest.param(7, 7, id="as many series as fit"),
        pytest.param(10**6, 85, id="256 forecasts, of three samples each"),
    ],
)
def test_batches_fit_into_memory(tiny, monkeypatch, note_calls, series_that_fit, batch_size):
    # A series takes its 12 steps once, for all samples, and a step of each of three. Two layers
    # hold keys and values, of two heads of 16 numbers in 4 bytes.
    context = waves(12)
    token_bytes = 2 * 2 * 2 * 16 * 4
    series_bytes = (12 + 3) * format_for([context]).longest_step * token_bytes
    monkeypatch.setattr(sampling, "CACHE", series_that_fit * series_bytes)
    sizes = note_calls(sampling, "forecast", lambda call: call.batch_size)

    # The longest decides: with ten steps each, eight series would fit instead of seven.
    Sampler(tiny).sample([context, context[2:], context], 1, Sampling(3))
    assert sizes == [batch_size]
