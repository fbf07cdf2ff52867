"""Rolling origins: nothing later is read, and errors are those of the steps that were kept back.

Errors agree with utilsforecast.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from utilsforecast.losses import mase, quantile_loss

from m2lib.errors import InputError
from m2lib.forecaster import Forecaster, Item, chosen_seasons, evaluate, rolling
from m2lib.forecaster.evaluation import MODEL, WQL
from m2lib.forecaster.rivals import ETS, baselines_for
from m2lib.forecaster.rolling import origins_of
from m2lib.forecaster.sampling import Sampler, Sampling
from m2lib.series import DECILES, Season, TextFormat, coverage, crps_fair, seasonal_naive


def item(values, name="a"):
    """Return values, (steps,) or (steps, variables), as a series whose steps are numbered."""
    values = np.asarray(values, dtype=np.float64)
    return Item(name, pd.RangeIndex(len(values)), values.reshape(len(values), -1))


def wave(steps=40):
    """Return a wave around 50, (steps,)."""
    return 50 + 30 * np.sin(np.arange(steps) / 2)


def shops(count=3, steps=40):
    """Return a table of shops with two columns of numbers, one of which has a season of a week."""
    frames = []
    for shop in range(count):
        rng = np.random.default_rng(shop)
        week = np.arange(steps) % 7
        columns = {
            "shop": f"s{shop}",
            "day": pd.date_range("2024-01-01", periods=steps),
            "sold": week + rng.gamma(5, 1, steps),
            "back": 100 * rng.gamma(5, 1, steps),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


COLUMNS = {"id_column": "shop", "timestamp_column": "day", "target": ("sold", "back")}


# Origins: the moments to forecast from, as pairs of a series' place and the steps known by then.


def test_origins_are_a_stride_apart_and_the_last_leaves_a_horizon():
    items = [item(range(30)), item(range(14)), item(range(10))]
    # Of 14 steps 8 and 11 would be known, of 10 steps 4 and 7, and a context has at least 10.
    assert origins_of(items, 3, num_origins=2, stride=3) == [(0, 24), (0, 27), (1, 11)]


def test_at_every_origin_a_least_number_of_steps_is_known():
    items = [item(range(30)), item(range(14)), item(range(10))]
    assert origins_of(items, 3, num_origins=2, stride=3, least=12) == [(0, 24), (0, 27)]


def test_origins_may_be_further_apart_than_the_horizon():
    origins = origins_of([item(range(30))], 3, num_origins=3, stride=5)
    assert origins == [(0, 17), (0, 22), (0, 27)]


def test_the_last_steps_of_a_series_may_be_left_out():
    origins = origins_of([item(range(30))], 3, num_origins=1, stride=3, leave_out=2)
    assert origins == [(0, 25)]


@pytest.mark.parametrize(
    ("leave_out", "message"),
    [
        (0, "to forecast 25 steps takes a series of 35 or more; forecast fewer steps"),
        (5, "every series is too short: to forecast 25 steps takes a series of 40 or more;"),
    ],
)
def test_series_that_are_too_short_for_any_origin_are_refused(leave_out, message):
    items = [item(range(30)), item(range(14)), item(range(10))]
    with pytest.raises(InputError, match=message):
        origins_of(items, 25, num_origins=1, stride=25, leave_out=leave_out)


# Forecasts from them.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prediction_length": 0}, "prediction_length is 0; give a whole number of 1 or more"),
        ({"origins": 0}, "origins is 0; give a whole number of 1 or more"),
        ({"stride": 0}, "stride is 0; give a whole number of 1 or more"),
        ({"period": 0}, "period is 0; give a whole number of 1 or more"),
        ({"leave_out": -1}, "leave_out is -1; give a whole number of 0 or more"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(untuned, arguments, message):
    settings = {"prediction_length": 14} | arguments
    with pytest.raises(InputError, match=f"^{message}$"):
        evaluate(untuned, [item(range(1000))], **settings)


def test_the_model_sees_what_was_known_and_nothing_later(untuned, note_calls):
    sampled_from = note_calls(Sampler, "sample", lambda call: call.values)
    evaluate(untuned, [item(wave())], 4, sampling=Sampling(3))
    (contexts,) = sampled_from
    (context,) = contexts
    assert context[:, 0].tolist() == wave()[:36].tolist()


@pytest.mark.parametrize(
    "future",
    [pytest.param(wave()[36:], id="the wave"), pytest.param(np.full(4, 1e3), id="far above it")],
)
def test_errors_are_those_of_the_steps_that_were_kept_back(untuned, future):
    known = wave()[:36]
    series = np.append(known, future)
    result = evaluate(untuned, [item(series)], 4, sampling=Sampling(3))

    expected = np.abs(future - known[-1]).mean()
    assert result.errors["last value"].item() == pytest.approx(expected)
    unit = np.abs(np.diff(known)).mean()
    assert result.mase[MODEL].item() == pytest.approx(result.mae / unit)


def test_each_moment_has_a_forecaster_of_its_own(tiny):
    forecaster = Forecaster(tiny, TextFormat(1))
    lengths = []

    def refit(contexts):
        lengths.append([len(context) for context in contexts])
        return Forecaster(tiny, TextFormat(1))

    items = [item(wave()), item(wave()[:25], "b")]
    result = evaluate(forecaster, items, 4, origins=3, sampling=Sampling(1), refit=refit)
    # The series end 12, 8 or 4 steps later. To learn from there have to be ten steps and a horizon,
    # so nothing is learned from the first 13 steps of b.
    assert lengths == [[28], [32, 17], [36, 21]]
    assert result.errors.index.tolist() == [(0, 28), (0, 32), (0, 36), (1, 17), (1, 21)]

    # These forecasters have learned nothing, so they forecast what the one alone does.
    alone = evaluate(forecaster, items, 4, origins=3, sampling=Sampling(1))
    expected = alone.errors.loc[result.errors.index, MODEL]
    assert result.errors[MODEL].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("first_day", "is_warned_of"),
    [
        pytest.param("2024-01-01", False, id="both end together"),
        pytest.param("2020-01-01", True, id="one ends four years earlier"),
    ],
)
def test_a_training_that_may_read_later_values_is_warned_of(
    untuned, recwarn, first_day, is_warned_of
):
    items = []
    for name, start in (("a", "2024-01-01"), ("b", first_day)):
        days = pd.date_range(start, periods=40)
        items.append(replace(item(wave(), name), times=days))
    options = {"sampling": Sampling(1), "auto_ets": False}
    evaluate(untuned, items, 4, refit=lambda contexts: untuned, **options)
    evaluate(untuned, items, 4, **options)  # without a training nothing later is read

    message = "the series end at different times, so a training may read values of one series from"
    said = [str(warning.message) for warning in recwarn if message in str(warning.message)]
    assert len(said) == is_warned_of


def test_what_is_learned_from_is_without_its_season(untuned):
    seasonal = np.resize([1.0, 2.0, 4.0, 3.0], 40) * np.linspace(10, 20, 40)
    learned = []

    def refit(contexts):
        learned.extend(contexts)
        return untuned

    evaluate(untuned, [item(seasonal)], 4, season=4, sampling=Sampling(1), refit=refit)
    known = seasonal[:36, None]
    (context,) = learned
    assert np.array_equal(context, Season.of(known, 4).without(known))


def test_what_is_evaluated_is_what_forecasts(untuned):
    """Also where a season hides what would choose another text format.

    The lowest month is below half of the highest, and without the season no month is.
    """
    year = np.array([100, 40, 60, 80, 120, 90, 70, 50, 110, 95, 65, 85.0])
    values = np.tile(year, 6) * np.linspace(1, 1.1, 72)
    months = Item("a", pd.date_range("2020-01-01", periods=72, freq="MS"), values[:, None])

    (ahead,) = untuned.sample([values[:-12, None]], 12, season=12)
    errors = np.abs(np.median(ahead.physical, axis=0) - values[-12:, None])
    assert evaluate(untuned, [months], 12).mae == pytest.approx(errors.mean())


def test_what_is_kept_back_may_be_negative(untuned):
    profit = item([*(np.arange(40) % 7), 1, -0.5, 2, 3])
    assert np.isfinite(evaluate(untuned, [profit], 4, sampling=Sampling(2)).mae)


def test_less_of_a_series_may_be_read(untuned):
    settings = {"num_samples": 3, "season": 1, **COLUMNS}
    result = untuned.evaluate(shops(), 4, context_length=15, auto_ets=False, **settings)

    last_known = shops().groupby("shop").head(36).groupby("shop").tail(15)
    ahead = untuned.predict_df(last_known, 4, **settings)
    assert result.forecasts.predictions.tolist() == ahead.predictions.tolist()


def test_a_series_that_does_not_fit_the_adapter_is_named(tiny):
    items = [item(wave()), item(wave() - 60, "profit")]
    with pytest.raises(InputError, match=r"^series profit does not fit the adapter's text"):
        evaluate(Forecaster(tiny, TextFormat(1)), items, 4, origins=2, sampling=Sampling(1))


def test_too_short_a_context_length_is_refused_before_any_training(tiny):
    with pytest.raises(InputError, match="context_length is 0; give a whole number of 10"):
        evaluate(
            Forecaster(tiny, TextFormat(1)),
            [item(wave())],
            4,
            sampling=Sampling(context_length=0),
            refit=lambda _: pytest.fail("trained"),
        )


# Seasons.


@pytest.mark.parametrize(
    ("freq", "season"),
    [
        ("D", 7),
        ("2D", 1),  # no week is a whole number of them
    ],
)
def test_the_calendar_says_the_season(untuned, freq, season):
    values = np.arange(60.0)[:, None] % 5
    dated = Item("a", pd.date_range("2020-01-01", periods=60, freq=freq), values)
    shortest, *_ = chosen_seasons([dated, dated], None)
    assert shortest == season

    errors = evaluate(untuned, [dated], 2, sampling=Sampling(1)).errors
    assert ("last period" if season == 1 else f"{season} steps ago") in errors

    # Numbered steps have no season, so beside them nothing has.
    assert chosen_seasons([dated, item(values)], None) == (1,)


def test_a_season_that_is_given_goes_before_the_calendars():
    days = Item("a", pd.date_range("2020-01-01", periods=60), np.arange(60.0)[:, None] % 5)
    assert chosen_seasons([days], 9) == (9,)
    assert chosen_seasons([days], [30, 9]) == (9, 30)


@pytest.fixture
def ets_seasons(monkeypatch):
    """Return a list to which each season is added that AutoETS, which does nothing, is told of."""
    seasons = []

    def forecasts(contexts, horizon, season):
        seasons.append(season)
        return {}

    monkeypatch.setattr(rolling, "ets_forecasts", forecasts)
    return seasons


@pytest.fixture
def hours():
    """Return a series of 800 hours, in which a week repeats itself and a day does not."""
    week = 10 + np.random.default_rng(0).random(168)
    values = np.resize(week, 800)
    times = pd.date_range("2024-01-01", periods=800, freq="h")
    return Item("a", times, values[:, None])


@pytest.mark.filterwarnings("ignore:of a series longer")
def test_where_there_are_a_day_and_a_week_the_week_is_repeated(untuned, hours, ets_seasons):
    result = evaluate(untuned, [hours], 24, origins=3, sampling=Sampling(1), auto_ets=True)
    assert result.season == 24
    assert result.period == 168
    assert result.errors["168 steps ago"].max() == pytest.approx(0, abs=1e-9)
    assert ets_seasons == [24]  # it takes no longer one


@pytest.mark.filterwarnings("ignore:of a series longer")
def test_of_a_day_and_a_week_the_day_is_the_unit(untuned, hours):
    result = evaluate(untuned, [hours], 24, sampling=Sampling(1), auto_ets=False)
    known = hours.values[:-24, 0]
    unit = np.abs(known[24:] - known[:-24]).mean()
    assert result.forecasts["mase_unit"].tolist() == pytest.approx([unit] * 24)


@pytest.mark.filterwarnings("ignore:of a series longer")
def test_the_day_is_repeated_where_a_context_has_fewer_than_three_weeks(
    untuned, hours, ets_seasons
):
    # At the first moment 496 hours are known, and three weeks have 504.
    result = evaluate(
        untuned, [hours], 24, origins=2, stride=280, sampling=Sampling(1), auto_ets=True
    )
    assert result.season == 24
    assert result.period == 24
    assert ets_seasons == [24]


# What is left out.


def test_an_evaluation_does_without_a_baseline_that_a_context_is_too_short_for(untuned):
    message = "left out, as a context is too short for it: nearest analogue"
    with pytest.warns(UserWarning, match=message):
        result = evaluate(untuned, [item(wave(15))], 5, sampling=Sampling(2), auto_ets=False)
    assert {*result.errors} == {"last value", "mean", "last period", "log-VAR(3)", MODEL}


def test_where_a_context_is_shorter_than_the_season_the_period_is_found(untuned):
    values = wave(40)
    weeks = Item("a", pd.date_range("2024-01-07", periods=40, freq="W"), values[:, None])
    result = evaluate(untuned, [weeks], 4, sampling=Sampling(1), auto_ets=False)

    assert chosen_seasons([weeks], None) == (52,)
    assert result.period is None
    found = seasonal_naive(values[None, :36, None], 4)[0]
    rows = result.forecasts
    assert rows["last period"].to_numpy() == pytest.approx(found[:, 0])


def test_a_context_as_long_as_the_season_repeats_it(untuned):
    weeks = pd.date_range("2024-01-07", periods=56, freq="W")
    year = Item("a", weeks, wave(56)[:, None])
    result = evaluate(untuned, [year], 4, sampling=Sampling(1), auto_ets=False)
    assert result.period == 52


def test_steps_that_are_left_out_count_for_the_shortest_series(untuned):
    message = "the series has 15 steps, fewer than 16"
    with pytest.raises(InputError, match=message):
        untuned.evaluate(shops(1, steps=15), 4, leave_out=2, **COLUMNS)


def test_a_moment_with_a_flat_context_is_left_out(untuned):
    late = np.concatenate([np.zeros(33), wave(7)])  # nothing is sold for 33 steps
    items = [item(wave()), item(late, "late")]
    message = "forecasts left out, as what is read never changes or is mostly 0: 2"
    with pytest.warns(UserWarning, match=message):
        result = evaluate(untuned, items, 4, origins=3, sampling=Sampling(1))

    assert result.errors.index.tolist() == [(0, 28), (0, 32), (0, 36), (1, 36)]
    assert result.record()["origins"][-1] == {"item": 1, "steps": 36}


@pytest.mark.parametrize(
    "text_format",
    [pytest.param(None, id="format chosen"), pytest.param(TextFormat(1), id="format given")],
)
def test_where_every_context_is_flat_there_is_nothing_to_forecast_from(tiny, text_format):
    flat = item(np.append(np.full(36, 5.0), wave(4)))
    message = "there is nothing to forecast from: what is read never"
    with pytest.raises(InputError, match=message):
        evaluate(Forecaster(tiny, text_format), [flat], 4, sampling=Sampling(1))


def evaluated_origins(tiny, items):
    """Return the origins at which series with a season of two steps are evaluated.

    One more has to be left out, with a warning.
    """
    forecaster = Forecaster(tiny, TextFormat(1, percentile=100, offset=0.3))
    sampling = Sampling(1, context_length=30)
    with pytest.warns(UserWarning, match="left out, as what is read never changes or .*: 1$"):
        result = evaluate(forecaster, items, 4, season=2, sampling=sampling, auto_ets=False)
    return result.errors.index.tolist()


def test_a_moment_at_which_nothing_is_left_without_the_season_is_left_out(tiny):
    # The level falls early, and then each season is exactly like the last; in one of the two series
    # noise follows.
    regular = np.resize([8.0, 24.0], 84)
    regular[:20] *= 2
    noise = 8 + np.random.default_rng(0).uniform(0, 9, 40)
    noisy = np.concatenate([regular, noise])
    assert evaluated_origins(tiny, [item(noisy), item(regular)]) == [(0, 120)]


def test_where_a_seasonal_series_stands_still_its_moment_is_left_out(tiny):
    # Where it stands still, it goes from 32 to 11 and back once the season before is taken out.
    closed = np.concatenate([np.resize([8.0, 24.0], 60), np.full(34, 16.0)])
    assert evaluated_origins(tiny, [item(closed), item(wave(94))]) == [(1, 90)]


def test_a_long_series_of_zeros_that_ends_in_a_wave_has_an_error(tiny):
    late = item(np.concatenate([np.zeros(2000), wave(304)]))
    forecaster = Forecaster(tiny, TextFormat(1))
    with pytest.warns(UserWarning, match="longer than the model's window") as caught:
        result = evaluate(forecaster, [late, item(wave(304))], 4, sampling=Sampling(1))

    assert not any("left out" in str(warning.message) for warning in caught)
    assert result.mase.index.tolist() == [(0, 2300), (1, 300)]
    assert np.isfinite(result.mase[MODEL]).all()


# Simple forecasts, and the measures.


@pytest.mark.filterwarnings("ignore:left out, as a context is too short")
def test_crps_and_coverage_are_those_of_the_samples(untuned):
    values = 50 + 30 * np.sin(np.arange(15))
    result = evaluate(untuned, [item(values)], 5, sampling=Sampling(20), auto_ets=False)

    (ahead,) = untuned.sample([values[:10, None]], 5, Sampling(20))
    truth = values[10:, None]
    assert result.crps == pytest.approx(crps_fair(ahead.physical, truth))
    assert result.coverage == coverage(ahead.physical, truth, 0.8)
    assert 0 < result.coverage < 1


def test_a_single_sample_has_its_mae_for_a_crps_and_no_coverage(untuned):
    result = evaluate(untuned, [item(wave())], 4, sampling=Sampling(1), auto_ets=False)
    assert result.crps == result.mae
    assert result.coverage is None


def test_two_samples_are_enough_for_a_crps_and_a_coverage(untuned):
    result = evaluate(untuned, [item(wave())], 4, sampling=Sampling(2), auto_ets=False)
    # Where the truth is above both samples or below them, it is the MAE less half their distance.
    assert result.crps < result.mae
    assert result.coverage is not None


def test_without_columns_the_variables_are_numbered_from_0(untuned):
    both = item(np.stack([wave(), 100 - wave()], axis=1))
    rows = evaluate(untuned, [both], 4, sampling=Sampling(1), auto_ets=False).forecasts
    assert list(rows.columns[:3]) == ["item_id", "timestamp", "target_name"]
    assert rows["target_name"].tolist() == ["0"] * 4 + ["1"] * 4
    assert rows["truth"].tolist() == [*wave()[36:], *(100 - wave())[36:]]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.tile(np.arange(1.0, 8), 6), id="a week"),
        pytest.param(50 + 30 * np.sin(2 * np.pi * np.arange(42) / 7), id="but for rounding"),
    ],
)
def test_a_series_that_repeats_itself_is_measured_by_its_steps(untuned, values):
    days = replace(item(values), times=pd.date_range("2024-01-01", periods=42))
    result = evaluate(untuned, [days], 3, sampling=Sampling(2), auto_ets=False)
    assert result.season == 7

    step = np.abs(np.diff(values[:-3])).mean()
    assert result.forecasts["mase_unit"].tolist() == pytest.approx([step] * 3)
    scaled = result.mase["last value"].item()
    assert scaled == pytest.approx(result.errors["last value"].item() / step)
    assert result.by_series()["last value"].item() == scaled


@pytest.mark.parametrize(
    ("season", "lag"),
    [
        pytest.param(18, 18, id="two seasons of 18 steps are known"),
        pytest.param(19, 1, id="two of 19 would be 38 steps"),
    ],
)
def test_where_fewer_than_two_seasons_are_known_steps_are_the_unit(untuned, season, lag):
    values = wave()
    result = evaluate(
        untuned, [item(values)], 4, season=season, sampling=Sampling(1), auto_ets=False
    )
    known = values[:36]
    unit = np.abs(known[lag:] - known[:-lag]).mean()
    assert result.forecasts["mase_unit"].tolist() == pytest.approx([unit] * 4)


def test_a_variable_that_never_changed_does_not_count(tiny):
    late = np.append(np.full(34, 20.0), [25, 30, 35, 30, 30, 30])
    both = item(np.stack([wave(), late], axis=1))
    options = {"origins": 2, "stride": 3, "sampling": Sampling(1), "auto_ets": False}
    result = evaluate(Forecaster(tiny, TextFormat(2)), [both], 4, **options)

    def last_value_mase(series, known):
        error = np.abs(series[known : known + 4] - series[known - 1]).mean()
        return error / np.abs(np.diff(series[:known])).mean()

    # After 33 steps the second variable has not changed yet.
    first = last_value_mase(wave(), 33)
    second = (last_value_mase(wave(), 36) + last_value_mase(late, 36)) / 2
    assert result.mase["last value"].tolist() == pytest.approx([first, second])
    by_series = result.by_series()["last value"].item()
    assert by_series == pytest.approx((first + second) / 2)


# The table of all forecasts.


@pytest.fixture(scope="module")
def shops_evaluated(tiny):
    """Return the evaluation of two variables of three shops from two origins."""
    return Forecaster(tiny).evaluate(
        shops(), 4, origins=2, num_samples=5, auto_ets=False, **COLUMNS
    )


def test_all_forecasts_are_in_one_table(shops_evaluated):
    rows = shops_evaluated.forecasts
    deciles = [str(level) for level in DECILES]
    baselines = baselines_for(period=7)
    assert list(rows.columns) == [
        *("shop", "day", "target_name", "cutoff", "truth", "predictions"),
        *deciles,
        *baselines,
        "mase_unit",
    ]
    assert len(rows) == 3 * 2 * 2 * 4  # shops, origins, variables, steps
    assert rows.cutoff.unique().tolist() == [pd.Timestamp("2024-02-01"), pd.Timestamp("2024-02-05")]
    assert (rows.day - rows.cutoff).dt.days.tolist() == [1, 2, 3, 4] * 12


def test_each_forecast_stands_beside_its_truth(shops_evaluated):
    rows = shops_evaluated.forecasts
    known = shops().melt(["shop", "day"], var_name="target_name", value_name="known")

    beside_truth = rows.merge(known, on=["shop", "day", "target_name"])
    assert len(beside_truth) == len(rows)
    assert beside_truth.truth.equals(beside_truth.known)

    at_cutoffs = known.rename(columns={"day": "cutoff"})
    beside_last = rows.merge(at_cutoffs, on=["shop", "cutoff", "target_name"])
    assert beside_last.known.tolist() == rows["last value"].tolist()


def test_the_measures_are_those_of_the_table(shops_evaluated):
    rows = shops_evaluated.forecasts
    assert rows.predictions.to_numpy() == pytest.approx(rows["0.5"].to_numpy())
    errors = (rows.predictions - rows.truth).abs()
    assert errors.mean() == pytest.approx(shops_evaluated.mae)
    in_band = (rows["0.1"] <= rows.truth) & (rows.truth <= rows["0.9"])
    assert in_band.mean() == shops_evaluated.coverage


# The errors of each series are those of utilsforecast, which calls the time `ds`.


SOLD = shops().rename(columns={"day": "ds"})
LIBRARY_NAMES = {"id_col": "shop", "target_col": "truth"}


@pytest.fixture(scope="module")
def sold_evaluated(tiny):
    """Return the evaluation of one variable of three shops from two origins."""
    columns = {"id_column": "shop", "timestamp_column": "ds", "target": "sold"}
    return Forecaster(tiny).evaluate(SOLD, 4, origins=2, num_samples=5, auto_ets=False, **columns)


def test_the_scaled_errors_of_each_series_are_those_of_utilsforecast(sold_evaluated):
    by_series = sold_evaluated.by_series()
    assert by_series.index.tolist() == ["s0", "s1", "s2"]

    models = ["predictions", *sold_evaluated.errors.columns.drop(MODEL)]
    known = SOLD.rename(columns={"sold": "truth"})
    by_cutoff = mase(
        sold_evaluated.forecasts, models, seasonality=7, train_df=known, **LIBRARY_NAMES
    )
    expected = by_cutoff.groupby("shop")[models].mean().rename(columns={"predictions": MODEL})
    *forecasters, last_column = by_series.columns
    assert last_column == WQL
    pd.testing.assert_frame_equal(by_series[forecasters], expected[forecasters])

    by_item = sold_evaluated.mase.groupby("item").mean()
    assert by_item[MODEL].tolist() == pytest.approx(expected[MODEL].tolist())


def test_the_quantile_loss_of_each_series_is_that_of_utilsforecast(sold_evaluated):
    rows = sold_evaluated.forecasts
    losses = []
    for level in map(str, DECILES):
        loss = quantile_loss(rows, {level: level}, q=float(level), **LIBRARY_NAMES)
        losses.append(loss.groupby("shop")[level].mean())
    mean_loss = pd.concat(losses, axis=1).mean(axis=1)
    sizes = rows.truth.abs().groupby(rows.shop).mean()

    weighted = 2 * mean_loss / sizes
    assert sold_evaluated.by_series()[WQL].to_numpy() == pytest.approx(weighted.to_numpy())


def test_the_quantile_loss_below_zero_is_that_above_it(sold_evaluated):
    rows = sold_evaluated.forecasts
    deciles = [str(level) for level in DECILES]
    mirrored = rows.assign(truth=-rows.truth)
    mirrored[deciles] = -rows[deciles[::-1]].to_numpy()

    below_zero = replace(sold_evaluated, forecasts=mirrored).by_series()[WQL]
    assert below_zero.tolist() == pytest.approx(sold_evaluated.by_series()[WQL].tolist())


def test_the_quantile_loss_of_several_variables_is_the_mean_over_them(shops_evaluated):
    rows = shops_evaluated.forecasts
    of_each = []
    for target in COLUMNS["target"]:
        of_target = rows[rows.target_name == target].reset_index(drop=True)
        alone = replace(shops_evaluated, forecasts=of_target)
        of_each.append(alone.by_series()[WQL])

    both = shops_evaluated.by_series()[WQL]
    assert both.tolist() == pytest.approx(np.mean(of_each, axis=0).tolist())


def test_errors_stand_beside_the_names_of_their_series_in_any_order(sold_evaluated):
    names = {"s0": "c", "s1": "a", "s2": "b"}
    forecasts = sold_evaluated.forecasts.replace({"shop": names})
    renamed = replace(sold_evaluated, forecasts=forecasts)
    expected = sold_evaluated.by_series().rename(index=names)
    pd.testing.assert_frame_equal(renamed.by_series(), expected)


@pytest.mark.parametrize("name", ["loss", "size"])
def test_the_column_of_ids_may_be_called_as_what_is_measured(sold_evaluated, name):
    forecasts = sold_evaluated.forecasts.rename(columns={"shop": name})
    renamed = replace(sold_evaluated, forecasts=forecasts, id_column=name)
    expected = sold_evaluated.by_series().rename_axis(name)
    pd.testing.assert_frame_equal(renamed.by_series(), expected)


def test_the_order_of_the_tables_columns_does_not_matter(sold_evaluated):
    rows = sold_evaluated.forecasts
    backwards = replace(sold_evaluated, forecasts=rows[rows.columns[::-1]])
    pd.testing.assert_frame_equal(backwards.by_series(), sold_evaluated.by_series())


# AutoETS, which statsforecast brings. Where it is `installed`, a stand-in forecasts the season that
# it was told of.


@pytest.mark.usefixtures("installed")
def test_exponential_smoothing_stands_beside_where_it_is_installed(untuned):
    result = untuned.evaluate(shops(), 4, num_samples=2, **COLUMNS)
    assert result.forecasts[ETS].tolist() == [7.0] * 24
    assert ETS in result.by_series()
    assert ETS in result.table().index


@pytest.mark.usefixtures("installed")
def test_exponential_smoothing_may_be_left_out(untuned):
    result = untuned.evaluate(shops(), 4, auto_ets=False, num_samples=2, **COLUMNS)
    assert ETS not in result.errors


def test_exponential_smoothing_is_left_out_where_it_is_not_installed(untuned, monkeypatch):
    monkeypatch.setattr(rolling, "find_spec", lambda name: None)
    result = untuned.evaluate(shops(), 4, num_samples=2, **COLUMNS)
    assert ETS not in result.errors


def test_exponential_smoothing_itself_is_better_than_the_last_value(untuned):
    pytest.importorskip("statsforecast")
    result = untuned.evaluate(shops(), 7, num_samples=2, **COLUMNS)
    assert result.errors[ETS].mean() < result.errors["last value"].mean()


# Rivals of a user's own.


def tens(contexts, prediction_length):
    """Forecast ten for every variable and step."""
    return [np.full((prediction_length, context.shape[1]), 10.0) for context in contexts]


def test_a_rival_of_ones_own_stands_beside(untuned):
    rivals = {"ten": tens}
    result = untuned.evaluate(
        shops(), 4, origins=2, auto_ets=False, num_samples=2, rivals=rivals, **COLUMNS
    )
    rows = result.forecasts
    assert (rows["ten"] == 10.0).all()
    wrong_by = (rows["truth"] - 10.0).abs().mean()
    assert result.errors["ten"].mean() == pytest.approx(wrong_by)
    assert "ten" in result.table().index


def test_a_rival_gets_the_contexts_with_their_season(untuned):
    seen = []

    def look(contexts, prediction_length):
        seen.extend(contexts)
        return tens(contexts, prediction_length)

    values = wave(60)[:, None]
    evaluate(
        untuned,
        [Item("a", pd.RangeIndex(60), values)],
        5,
        origins=2,
        season=4,
        sampling=Sampling(1),
        auto_ets=False,
        rivals={"look": look},
    )
    assert [len(context) for context in seen] == [50, 55]
    assert np.array_equal(seen[1], values[:55])


def test_a_rivals_name_must_be_free(untuned, shops_evaluated):
    for name in (MODEL, *shops_evaluated.forecasts.columns):
        with pytest.raises(InputError) as error:
            untuned.evaluate(
                shops(), 4, auto_ets=False, num_samples=2, rivals={name: tens}, **COLUMNS
            )
        assert str(error.value) == f"'{name}' is taken; give the rival another name"
