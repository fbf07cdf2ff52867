"""What a user calls: how a forecaster is loaded, and how it takes tables and arrays.

Whatever cannot be forecast is refused by one line, before the work begins.
"""

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from utilsforecast.evaluation import evaluate as utilsforecast_evaluate
from utilsforecast.losses import mae

from m2lib.errors import InputError
from m2lib.forecaster import (
    Columns,
    Forecaster,
    Item,
    Sampling,
    View,
    evaluate,
    finetune,
    format_for,
    items_of,
)
from m2lib.forecaster.adapters import GENERAL_FOLDER, read_views
from m2lib.forecaster.forecaster import in_parts
from m2lib.model import INT8, devices, inject_lora, load_backbone, save_adapter
from m2lib.model.devices import DTYPES
from m2lib.series import STUDY, TABLES, TextFormat

NAMELESS = {"id_column": None, "timestamp_column": None}
"""The arguments for a table that is one series, without a column of ids or of times."""


def waves(steps=40, variables=1):
    """Return noisy waves around 50, from 17 to 83, of shape (steps, variables)."""
    rng = np.random.default_rng(0)
    phases = np.arange(steps)[:, None] / 3 + np.arange(variables)
    return 50 + 30 * np.sin(phases) + rng.normal(0, 1, (steps, variables))


@pytest.fixture
def sales():
    """Return a table of two daily series: b of 40 days and a of 30, their rows mixed."""
    frames = []
    for name, steps in (("b", 40), ("a", 30)):
        days = pd.date_range("2024-01-01", periods=steps)
        target = waves(steps)[:, 0]
        frames.append(pd.DataFrame({"item_id": name, "timestamp": days, "target": target}))
    return pd.concat(frames).sort_values("timestamp", kind="stable")


@pytest.fixture
def two_targets(sales):
    """Return the table of sales with a second column of numbers, `other`."""
    return sales.assign(other=100 - sales.target)


def values_of(table, name, *targets):
    """Return one series of a table, (steps, variables)."""
    return table.loc[table.item_id == name, list(targets)].to_numpy()


def test_a_table_in_a_table_out(untuned, sales):
    ahead = untuned.predict_df(sales, 4, quantile_levels=[0.1, 0.5, 0.9], num_samples=5)

    names = ["item_id", "timestamp", "target_name", "predictions", "0.1", "0.5", "0.9"]
    assert list(ahead.columns) == names
    assert ahead.item_id.tolist() == ["b"] * 4 + ["a"] * 4
    first_of_b, first_of_a = ahead.timestamp.iloc[[0, 4]]
    assert first_of_b == pd.Timestamp("2024-02-10")
    assert first_of_a == pd.Timestamp("2024-01-31")


def test_levels_are_in_order_and_the_point_forecast_is_the_median(untuned, sales):
    ahead = untuned.predict_df(sales, 4, quantile_levels=[0.1, 0.5, 0.9], num_samples=5)
    assert (ahead["0.1"] <= ahead["0.5"]).all()
    assert (ahead["0.5"] <= ahead["0.9"]).all()
    assert np.allclose(ahead.predictions, ahead["0.5"])


def test_levels_are_called_by_the_numbers_that_are_meant(untuned, sales):
    tenths = np.arange(0.1, 1, 0.1)  # the third is 0.30000000000000004
    for levels in (tenths, tenths.astype(np.float32), torch.from_numpy(tenths).float()):
        ahead = untuned.predict_df(sales, 2, quantile_levels=levels, num_samples=2)
        assert list(ahead.columns[-9:]) == [f"0.{tenth}" for tenth in range(1, 10)]


def test_levels_0_and_1_are_the_smallest_and_the_largest_sample(untuned, sales):
    ahead = untuned.predict_df(sales, 4, quantile_levels=[0, 1], num_samples=3, return_samples=True)
    samples = ahead[["sample_0", "sample_1", "sample_2"]]
    assert ahead["0"].tolist() == samples.min(axis=1).tolist()
    assert ahead["1"].tolist() == samples.max(axis=1).tolist()


def test_utilsforecast_reads_what_comes_out(untuned, sales):
    known = sales.groupby("item_id").head(27)
    ahead = untuned.predict_df(known, 3, num_samples=3)
    beside_truth = ahead.merge(sales, on=["item_id", "timestamp"])
    assert len(beside_truth) == 6  # of each series three steps

    scores = utilsforecast_evaluate(
        beside_truth,
        metrics=[mae],
        models=["predictions"],
        id_col="item_id",
        time_col="timestamp",
        target_col="target",
    )
    errors = (beside_truth.predictions - beside_truth.target).abs()
    expected = errors.groupby(beside_truth.item_id).mean().to_dict()
    assert scores.set_index("item_id").predictions.to_dict() == pytest.approx(expected)


@pytest.mark.filterwarnings("ignore:of a series longer")  # eight variables leave 25 steps of room
@pytest.mark.parametrize("variables", [1, 3, 8])
def test_several_variables_and_negative_values_are_forecast(untuned, variables):
    targets = [f"v{number}" for number in range(variables)]
    table = pd.DataFrame(waves(30, variables) - 60, columns=targets)

    ahead = untuned.predict_df(table, 2, target=targets, num_samples=3, **NAMELESS)
    assert ahead.target_name.tolist() == np.repeat(targets, 2).tolist()
    assert ahead.timestamp.tolist() == [30, 31] * variables
    assert np.isfinite(ahead.predictions).all()


def test_samples_and_their_mean_follow_the_columns_where_they_are_asked_for(untuned, sales):
    options = {"quantile_levels": [0.1, 0.9], "num_samples": 3}
    plain = untuned.predict_df(sales, 4, **options)
    ahead = untuned.predict_df(sales, 4, return_samples=True, **options)

    assert list(ahead.columns) == [*plain.columns, "mean", "sample_0", "sample_1", "sample_2"]
    assert ahead[plain.columns].equals(plain)


def test_point_forecast_and_mean_are_those_of_the_samples(untuned, sales):
    ahead = untuned.predict_df(sales, 4, num_samples=3, return_samples=True)
    samples = ahead[["sample_0", "sample_1", "sample_2"]]
    assert ahead.predictions.tolist() == samples.median(axis=1).tolist()
    assert ahead["mean"].to_numpy() == pytest.approx(samples.mean(axis=1).to_numpy())


def test_the_samples_of_a_table_are_those_of_its_series(untuned, sales):
    sampled = {"num_samples": 3, "temperature": 0.3, "seed": 4, "batch_size": 1}
    ahead = untuned.predict_df(sales, 4, return_samples=True, **sampled)
    of_table = ahead.loc[ahead.item_id == "b", ["sample_0", "sample_1", "sample_2"]]

    values = [values_of(sales, name, "target") for name in ("b", "a")]
    # The table's calendar says 7 days.
    of_b, _ = untuned.sample(values, 4, Sampling(**sampled), season=7)
    assert of_table.to_numpy().T.tolist() == of_b.physical[..., 0].tolist()


def test_a_table_and_its_arrays_give_one_forecast(untuned, two_targets):
    options = {"quantile_levels": [0.1, 0.9], "num_samples": 4, "seed": 7}
    ahead = untuned.predict_df(two_targets, 3, target=["target", "other"], **options)

    arrays = [values_of(two_targets, name, "target", "other").T for name in ("b", "a")]
    # The table's calendar says 7 days.
    quantiles, medians = untuned.predict_quantiles(arrays, 3, season=7, **options)
    # Tensors are of float32, the table is not.
    assert ahead.predictions.to_numpy() == pytest.approx(medians.numpy().ravel(), rel=1e-6)
    in_rows = quantiles.numpy().reshape(-1, 2)
    assert ahead[["0.1", "0.9"]].to_numpy() == pytest.approx(in_rows, rel=1e-6)


def test_a_shorter_context_gives_the_forecast_of_a_shorter_table(untuned, two_targets):
    options = {"target": ["target", "other"], "num_samples": 3, "season": 1}
    ahead = untuned.predict_df(two_targets, 4, context_length=15, **options)

    shorter_table = two_targets.groupby("item_id").tail(15)
    b_first = shorter_table.sort_values("item_id", ascending=False, kind="stable")
    pd.testing.assert_frame_equal(ahead, untuned.predict_df(b_first, 4, **options))


SHORT = waves(30)[:, 0]
LONG = waves(40)[:, 0]


@pytest.mark.parametrize(
    ("context", "shape"),
    [
        pytest.param([torch.tensor(SHORT), torch.tensor(LONG)], (2,), id="a list of series"),
        pytest.param(SHORT, (1,), id="one series"),
        pytest.param(np.stack([SHORT, SHORT[::-1]]), (2,), id="an array of series"),
        pytest.param([waves(30, 2).T], (1, 2), id="a series of two variables"),
        pytest.param(
            torch.tensor(SHORT, requires_grad=True).bfloat16(), (1,), id="what NumPy does not read"
        ),
    ],
)
def test_quantiles_have_the_shapes_of_chronos(untuned, context, shape):
    quantiles, mean = untuned.predict_quantiles(context, 3, [0.2, 0.8], num_samples=4)
    assert quantiles.shape == (*shape, 3, 2)
    assert mean.shape == (*shape, 3)


def test_predict_quantiles_hands_its_options_on_to_the_sampling(untuned):
    forecaster = replace(untuned, text_format=TABLES)
    rising = waves() + 5 * np.arange(40)[:, None]
    sampled = {"num_samples": 4, "temperature": 0.3, "seed": 4, "context_length": 25}
    shown = {"views": (View(trend=True),), "season": 4}

    _, median = forecaster.predict_quantiles(rising[:, 0], 3, **sampled, **shown)
    (forecast,) = forecaster.sample([rising], 3, Sampling(**sampled), **shown)
    expected = np.median(forecast.physical, axis=0)[:, 0]
    assert median[0].numpy() == pytest.approx(expected, rel=1e-6)


def test_what_is_given_is_left_as_it_was(untuned, sales):
    table = sales.copy()
    untuned.predict_df(sales, 2, num_samples=2)  # whose calendar has a season of 7 days
    pd.testing.assert_frame_equal(sales, table)

    series = LONG.copy()
    untuned.predict_quantiles(series, 2, num_samples=2, season=7)
    assert np.array_equal(series, LONG)


def test_each_series_has_to_have_an_id_where_ids_are_given(untuned):
    series = np.arange(20.0)
    with pytest.raises(InputError, match="there are 1 ids and 2 series; give an id for each"):
        untuned.predict_quantiles([series, series], 3, ids=["a"])


def test_a_dict_that_holds_a_target_alone_is_taken_as_chronos_takes_it(untuned):
    quantiles, mean = untuned.predict_quantiles([{"target": LONG}], 2, num_samples=2)
    assert quantiles.shape == (1, 2, 9)
    assert mean.shape == (1, 2)


@pytest.mark.parametrize("kind", [np.array, pd.Series])
def test_series_of_unequal_lengths_may_stand_in_an_array_of_objects(untuned, kind):
    series = [waves(12)[:, 0], waves(15)[:, 0]]
    expected, _ = untuned.predict_quantiles(series, 2, num_samples=2)
    quantiles, _ = untuned.predict_quantiles(kind(series, dtype=object), 2, num_samples=2)
    assert torch.equal(quantiles, expected)


def test_a_dataframe_is_not_read_row_by_row(untuned):
    wide = pd.DataFrame(waves(40, 12))  # 12 series of 40 steps
    with pytest.raises(InputError, match=r"^context is a DataFrame, of which each row would be"):
        untuned.predict_quantiles(wide, 2)


def test_what_a_mask_hides_is_not_read(untuned):
    masked = np.ma.masked_equal([*waves(12)[:, 0], 1e20], 1e20)
    with pytest.raises(InputError, match="series 0 is not finite at 1 of its steps"):
        untuned.predict_quantiles(masked, 2)


def test_columns_may_be_called_by_numbers_as_pandas_calls_them(untuned, sales):
    numbered = sales.set_axis([0, 1, 2], axis=1)
    columns = {"id_column": 0, "timestamp_column": 1, "target": 2}
    ahead = untuned.predict_df(numbered, 2, quantile_levels=[0.5], num_samples=2, **columns)
    assert ahead.columns.tolist() == [0, 1, "target_name", "predictions", "0.5"]
    assert set(ahead["target_name"]) == {2}
    assert untuned.evaluate(numbered, 2, num_samples=2, **columns).forecasts.columns[0] == 0


def test_covariates_in_a_dict_are_refused_by_name(untuned):
    inputs = [{"target": LONG, "future_covariates": {"price": np.ones(2)}}]
    with pytest.raises(InputError, match=r"^future_covariates holds covariates, which this model"):
        untuned.predict_quantiles(inputs, 2)


def test_covariates_beside_a_table_are_refused_by_name(untuned, sales):
    future = sales.assign(price=1.0)
    with pytest.raises(InputError, match=r"^future_df holds covariates, which this model cannot"):
        untuned.predict_df(sales, 2, future_df=future)


@pytest.mark.parametrize(
    ("context", "settings", "message"),
    [
        pytest.param(
            np.append(waves(12), np.nan),
            {},
            "series 0 is not finite at 1 of its steps, the first of which is 12; cut them off",
            id="a gap",
        ),
        pytest.param(np.ones(12), {}, "series 0 has no scale", id="a constant series"),
        pytest.param(
            waves(12)[:, 0],
            {"prediction_length": 2000},
            "2000 steps are more than tiny can write; ask for fewer",
            id="too far ahead",
        ),
        pytest.param(
            [waves(12)[:, 0], waves(9)[:, 0]],
            {},
            "series 1 has 9 steps, fewer than 10; bring more, or drop it",
            id="a short series",
        ),
        pytest.param(
            [waves(2, 2).T],
            {"ids": ["a"]},
            "series a has 2 steps, fewer than 10",
            id="a short series with a name",
        ),
        pytest.param(
            [np.ones((12, 20))],
            {},
            r"series 0 has 12 variables, more than 8; give it as \(variables, steps\)",
            id="a series given as (steps, variables)",
        ),
        pytest.param(
            [np.ones((1, 2, 12))],
            {},
            r"series 0 has 3 axes; give it as \(steps,\), or as \(variables, steps\)",
            id="a series of too many axes",
        ),
        pytest.param([], {}, "there is no series to forecast", id="no series"),
        pytest.param(
            waves(12)[:, 0],
            {"temperature": 0.0},
            "temperature is 0.0; give a number above 0, or ask for one sample, which is greedy",
            id="temperature 0",
        ),
    ],
)
def test_what_cannot_be_forecast_is_said_in_one_line(untuned, context, settings, message, refusal):
    arguments = {"prediction_length": 2} | settings
    assert re.search(message, refusal(untuned.predict_quantiles, context, **arguments))


@pytest.mark.parametrize(
    "levels",
    [
        pytest.param([10, 50, 90], id="percentages"),
        pytest.param([-0.1], id="a negative one"),
        pytest.param([0.5, float("nan")], id="not a number"),
        pytest.param(["0.5"], id="a text"),
    ],
)
def test_a_level_out_of_range_is_refused_before_the_work(untuned, sales, monkeypatch, levels):
    monkeypatch.setattr(Forecaster, "sample", None)
    message = r"^quantile_levels are \[.*\]; give a list of numbers between 0"
    with pytest.raises(InputError, match=message):
        untuned.predict_df(sales, 2, quantile_levels=levels)
    with pytest.raises(InputError, match=message):
        untuned.predict_quantiles(LONG, 2, quantile_levels=levels)


def test_a_season_of_no_steps_is_refused(untuned, sales):
    message = "^season is 0; give its number of steps"
    with pytest.raises(InputError, match=message):
        untuned.predict_df(sales, 2, season=0, num_samples=2)
    with pytest.raises(InputError, match=message):
        untuned.predict_df(sales[["target"]], 2, season=0, num_samples=2, **NAMELESS)
    with pytest.raises(InputError, match=message):
        untuned.evaluate(sales, 2, season=0, num_samples=2)


def test_an_evaluation_is_not_tuned_for_no_steps(untuned, sales):
    with pytest.raises(InputError, match="finetune is 0; give a whole number"):
        untuned.evaluate(sales, 2, finetune=0)


def test_an_evaluation_hands_its_options_on(untuned, sales):
    sampled = {"num_samples": 2, "temperature": 0.3, "seed": 4, "batch_size": 1}
    sampled |= {"context_length": 15}
    asked = {"origins": 2, "stride": 3, "leave_out": 1, "season": 4, "period": 5}
    asked |= {"auto_ets": False}

    result = untuned.evaluate(sales, 2, **asked, **sampled)

    columns = Columns("item_id", "timestamp", ("target",))
    items = items_of(sales, columns)
    sampling = Sampling(**sampled)
    expected = evaluate(untuned, items, 2, columns=columns, sampling=sampling, **asked)
    pd.testing.assert_frame_equal(result.forecasts, expected.forecasts)


# A single weekly series among daily ones switches off the season of all of them.
CALENDARS_DIFFER = (
    "no season is taken out, because the calendars of the series differ; set season, or bring "
    "all series to one spacing"
)


@pytest.fixture(params=["predict_df", "evaluate", "fit"])
def method(request, untuned, monkeypatch):
    """Return each method that chooses the season of a table; fit trains nothing."""
    monkeypatch.setattr(finetune, "finetune", lambda *arguments, **options: None)
    return getattr(untuned, request.param)


@pytest.fixture
def options(method, tmp_path):
    """Return what a method needs beside its table and its steps, to be quick."""
    by_method = {
        "predict_df": {"num_samples": 2},
        "evaluate": {"num_samples": 2, "auto_ets": False},
        "fit": {"output_dir": tmp_path},
    }
    return by_method[method.__name__]


def warnings_of_calendars(method, table, **options):
    """Return what a method that is to forecast two steps warns about calendars."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method(table, 2, **options)
    texts = [str(warning.message) for warning in caught]
    return [text for text in texts if "calendars" in text]


def test_calendars_that_differ_are_said_once(method, options, sales):
    weeks = pd.date_range("2024-01-01", periods=40, freq="W")
    weekly = pd.DataFrame({"item_id": "c", "timestamp": weeks, "target": waves()[:, 0]})
    days_and_weeks = pd.concat([sales, weekly])

    assert warnings_of_calendars(method, days_and_weeks, **options) == [CALENDARS_DIFFER]
    assert warnings_of_calendars(method, days_and_weeks, season=7, **options) == []
    assert warnings_of_calendars(method, sales, **options) == []


def test_a_training_takes_out_the_season_of_the_calendar(untuned, sales, tmp_path, monkeypatch):
    seasons = []
    monkeypatch.setattr(
        finetune, "finetune", lambda *arguments, **options: seasons.append(options["season"])
    )
    untuned.fit(sales, 2, output_dir=tmp_path)
    assert seasons == [(7,)]


@pytest.fixture
def flawed(sales):
    """Return the table of sales, in which a never changes and both series lack their sixth day."""
    sales.loc[sales.item_id == "a", "target"] = 1.0
    return sales.drop(index=5)


def test_an_unfit_series_is_refused_with_its_row_and_a_remedy(untuned, flawed):
    # The rows of b and a alternate, so row 11 is that of the seventh day of b.
    with pytest.raises(InputError, match=r"row 11, .*; --skip leaves series 'b' out \("):
        untuned.predict_df(flawed, 2, num_samples=2)


def test_an_unfit_series_is_left_out_and_a_gap_is_filled(untuned, flawed):
    with (
        pytest.warns(UserWarning, match="series 'a' is left out: .* the series is 1 throughout"),
        pytest.warns(UserWarning, match=r"steps that were filled \(linear\): 1"),
    ):
        ahead = untuned.predict_df(flawed, 2, skip=True, fill="linear", num_samples=2)
    assert ahead.item_id.tolist() == ["b", "b"]


def test_each_method_leaves_unfit_series_out_and_fills_gaps(method, options, flawed):
    with (
        pytest.warns(UserWarning, match="series 'a' is left out: .* the series is 1 throughout"),
        pytest.warns(UserWarning, match=r"steps that were filled \(linear\): 1"),
    ):
        method(flawed, 2, skip=True, fill="linear", **options)


@pytest.fixture
def reads_twenty_steps(untuned, monkeypatch):
    """Return a forecaster that reads 20 steps, in the text format of `general`."""
    monkeypatch.setattr(Forecaster, "readable_steps", lambda *_: 20)
    return replace(untuned, text_format=TABLES)


@pytest.fixture
def closed_shop(sales):
    """Return a table of one series, which has been 0 for thirty steps."""
    closed = sales[sales.item_id == "b"].assign(item_id="closed")
    closed.loc[10:, "target"] = 0.0
    return closed


def test_a_series_that_the_model_cannot_read_is_refused_before_the_work(
    reads_twenty_steps, closed_shop, sales, monkeypatch
):
    monkeypatch.setattr(Forecaster, "sample", None)
    among_others = pd.concat([closed_shop, sales])
    with pytest.raises(InputError, match=r"^series closed has no scale: .* or --skip it"):
        reads_twenty_steps.predict_df(among_others, 2, season=1)

    # Where there is no other, leaving it out is no remedy.
    with pytest.raises(InputError, match=r"^series closed has no scale: .*; drop it$"):
        reads_twenty_steps.predict_df(closed_shop, 2, season=1, skip=True)


@pytest.mark.filterwarnings("ignore:of a series longer")
def test_a_series_that_the_model_cannot_read_may_be_left_out(
    reads_twenty_steps, closed_shop, sales
):
    among_others = pd.concat([closed_shop, sales])
    with pytest.warns(UserWarning, match="^left out: series closed has no scale: what is read is"):
        ahead = reads_twenty_steps.predict_df(among_others, 2, season=1, skip=True, num_samples=2)
    assert ahead.item_id.unique().tolist() == ["b", "a"]


def test_a_series_has_to_change_in_what_is_read_of_it(tiny):
    forecaster = Forecaster(tiny, TextFormat(1, percentile=100, offset=0.3))
    values = np.append(50 + 30 * np.sin(np.arange(30)), [5.0] * 15)
    closed = Item("closed", pd.RangeIndex(45), values[:, None])

    assert forecaster.readable([closed], 4) == [closed]
    with pytest.raises(InputError, match="has no scale"):
        forecaster.readable([closed], 4, context_length=15)


def test_an_untuned_model_writes_all_fifties_of_a_table_in_one_format(tiny, note_calls):
    """The format of the whole table has no offset, because one series begins at zero."""
    rng = np.random.default_rng(0)

    def series(name, values):
        return Item(name, pd.RangeIndex(len(values)), values[:, None])

    far_from_zero = [series(f"shop {i}", rng.uniform(90, 110, 40)) for i in range(50)]
    table = [*far_from_zero, series("from zero", np.linspace(0, 1000, 40))]
    assert format_for([item.values for item in far_from_zero]).offset > 0

    offsets = note_calls(Forecaster, "sample", lambda call: call.self.text_format.offset)
    columns = Columns(None, None, ("target",))
    list(Forecaster(tiny).predict_items(table, columns, 3, sampling=Sampling(1)))
    assert offsets == [0, 0]


def test_fifty_series_are_forecast_together_and_each_fifty_has_the_next_seed():
    parts = list(in_parts(list(range(101)), seed=7))
    assert [len(series) for series, _ in parts] == [50, 50, 1]
    assert [seed for _, seed in parts] == [7, 8, 9]


@pytest.mark.filterwarnings("error")  # with `skip`, a series would be left out with a warning
@pytest.mark.parametrize("skip", [False, True])
def test_what_is_wrong_with_the_call_is_not_said_of_a_series(untuned, sales, skip):
    with pytest.raises(InputError, match=r"^context_length is 5; give a whole number of 10"):
        untuned.predict_df(sales, 2, context_length=5, skip=skip)

    too_far = r"^2000 steps are more than tiny can write; ask for fewer$"
    with pytest.raises(InputError, match=too_far):
        untuned.predict_df(sales, 2000, skip=skip)


@pytest.mark.filterwarnings("ignore:of a series longer")
@pytest.mark.parametrize(
    ("steps", "closed_for", "stuck_at", "context_length"),
    [
        pytest.param(200, 65, 0.0, 60, id="closed for longer than is asked for"),
        pytest.param(1100, 300, 0.0, None, id="closed for longer than the window"),
        pytest.param(1100, 300, 17.0, None, id="stuck at a number"),
    ],
)
def test_a_closed_shop_is_forecast_with_every_view(
    untuned, steps, closed_for, stuck_at, context_length
):
    """Also with the view that leaves the season in, because it varies only without its season."""
    general = replace(untuned, text_format=TABLES, views=read_views(GENERAL_FOLDER))
    week = np.resize([5.0, 6, 7, 8, 9, 20, 0], steps)
    sold = week * np.random.default_rng(0).uniform(1, 1.1, steps)
    sold[-closed_for:] = stuck_at
    days = pd.date_range("2020-01-01", periods=steps)
    table = pd.DataFrame({"item_id": "closed", "timestamp": days, "target": sold})

    ahead = general.predict_df(table, 2, num_samples=3, context_length=context_length)
    assert np.isfinite(ahead.predictions).all()


def test_a_series_that_the_adapters_format_does_not_fit_is_named(tiny, sales):
    tuned = Forecaster(tiny, STUDY)  # the study writes two variables, and nothing negative
    with pytest.raises(InputError, match="series b does not fit the adapter's text format"):
        tuned.predict_df(sales, 2)

    nameless = r"^the series .* \(variables: 2, negative numbers: no\); take"
    with pytest.raises(InputError, match=nameless):
        tuned.predict_df(sales[["target"]], 2, **NAMELESS)


@pytest.mark.parametrize(
    ("device", "device_map"),
    [
        pytest.param("cpu", "auto", id="auto leaves device as it is"),
        pytest.param("cuda:99", "cpu", id="device_map goes before device"),
        pytest.param(None, "cpu", id="device_map alone"),
        pytest.param(torch.device("cpu"), None, id="a device of PyTorch's"),
    ],
)
def test_the_device_may_be_named_as_chronos_names_it(device, device_map):
    forecaster = Forecaster.from_pretrained(
        "none", backbone="tiny", device=device, device_map=device_map
    )
    assert forecaster.backbone.device.type == "cpu"


def test_an_unknown_device_map_is_refused():
    with pytest.raises(InputError, match="cannot use device 'abacus'"):
        Forecaster.from_pretrained("none", backbone="tiny", device_map="abacus")


def load_tiny(**settings):
    """Return a forecaster as it is loaded by its name."""
    return Forecaster.from_pretrained("none", backbone="tiny", device="cpu", **settings)


def set_int8_rate(monkeypatch, rate):
    """Let int8 compute so many times as fast as float32 and bfloat16, which are equally fast."""
    rates = dict.fromkeys(DTYPES, 1.0) | {INT8: rate}
    monkeypatch.setattr(devices, "measured_rates", rates.copy)


@pytest.mark.parametrize(
    ("int8_rate", "fastest"),
    [pytest.param(2.0, True, id="int8 is faster"), pytest.param(0.5, False, id="int8 is slower")],
)
def test_it_forecasts_in_int8_where_that_is_fastest_or_named(monkeypatch, int8_rate, fastest):
    monkeypatch.delenv("M2_DTYPE", raising=False)
    set_int8_rate(monkeypatch, int8_rate)
    assert load_tiny().int8 is fastest
    assert "int8 on cpu" in repr(load_tiny(dtype="int8"))
    assert load_tiny(dtype=torch.int8).int8
    assert load_tiny(dtype="bfloat16").dtype == "bfloat16"


@pytest.mark.parametrize(("dtype", "int8_rate"), [("int8", 0.5), ("float32", 2.0)])
def test_the_environment_names_a_dtype_that_is_not_the_fastest(monkeypatch, dtype, int8_rate):
    set_int8_rate(monkeypatch, int8_rate)
    monkeypatch.setenv("M2_DTYPE", dtype)
    assert load_tiny().dtype == dtype


def test_int8_rounds_the_products_of_layers_and_leaves_weights_as_they_are(monkeypatch):
    set_int8_rate(monkeypatch, 0.5)
    whole = load_tiny(dtype="int8")
    plain = load_tiny(dtype="float32")
    assert whole.backbone.dtype == "float32"

    x = torch.linspace(-1, 1, whole.backbone.model.config.hidden_size)[None]
    rounded = whole._bare().blocks[0].out(x)
    exact = plain._bare().blocks[0].out(x)
    relative_error = (rounded - exact).norm() / exact.norm()
    assert 1e-4 < float(relative_error) < 0.05


def test_a_table_is_forecast_in_int8(monkeypatch, sales):
    set_int8_rate(monkeypatch, 0.5)
    assert len(load_tiny(dtype="int8").predict_df(sales, 3, num_samples=2)) == 6


def test_int8_is_refused_on_a_graphics_card():
    with pytest.raises(InputError, match="int8 is for a CPU, not for cuda"):
        Forecaster.from_pretrained("none", backbone="tiny", device="cuda", dtype="int8")


def test_int8_is_a_dtype_of_products_and_none_of_weights():
    with pytest.raises(InputError, match="'int8' is no dtype of a model's weights"):
        load_backbone("tiny", device="cpu", dtype="int8")


def test_an_adapter_is_not_given_a_text_format(tmp_path):
    model = inject_lora(load_backbone("tiny", device="cpu", dtype="float32").model, 2)
    save_adapter(model, tmp_path, "tiny")
    with pytest.raises(InputError, match="has a text format of its own"):
        Forecaster.from_pretrained(tmp_path, text_format=STUDY)


def test_a_folder_that_is_called_as_a_backbone_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "text_format.json").write_text('{"digits": 3}', encoding="utf-8")
    assert Forecaster.from_pretrained("none", backbone="tiny").text_format is None


def test_with_a_text_format_of_ones_own_the_default_is_untuned(monkeypatch):
    # `general` belongs to the default model, which is the tiny one here.
    monkeypatch.setattr("m2lib.forecaster.forecaster.DEFAULT_BACKBONE", "tiny")
    forecaster = Forecaster.from_pretrained(backbone="tiny", device="cpu", text_format=STUDY)
    assert forecaster.adapter is None
    assert forecaster.text_format == STUDY


def test_a_service_loads_a_forecaster_that_shows_no_bar():
    assert load_tiny(dtype="float32").progress
    assert not load_tiny(dtype="float32", progress=False).progress
