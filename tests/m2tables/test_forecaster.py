"""A table in, a table out; arrays in, arrays out; and nothing is lost on the way."""

import numpy as np
import pandas as pd
import pytest
import torch

from m2lib.errors import InputError
from m2tables import Forecaster

NAMELESS = {"id_column": None, "timestamp_column": None}
"""The arguments for a table that is one series, without a column of ids or of times."""


@pytest.fixture(scope="module")
def network():
    return Forecaster.from_pretrained()


def waves(steps=40, variables=1):
    """Return noisy waves around 50, of shape (steps, variables)."""
    rng = np.random.default_rng(0)
    phases = np.arange(steps)[:, None] / 3 + np.arange(variables)
    return 50 + 30 * np.sin(phases) + rng.normal(0, 1, (steps, variables))


@pytest.fixture
def sales():
    """Return a table of two daily series: b of 40 days and a of 30, their rows mixed."""
    frames = []
    for name, steps in (("b", 40), ("a", 30)):
        days = pd.date_range("2024-01-01", periods=steps)
        frames.append(
            pd.DataFrame({"item_id": name, "timestamp": days, "target": waves(steps)[:, 0]})
        )
    return pd.concat(frames).sort_values("timestamp", kind="stable")


@pytest.mark.filterwarnings("ignore:the table. the series end")
class TestTables:
    def test_a_table_in_a_table_out(self, network, sales):
        ahead = network.predict_df(sales, 4, quantile_levels=[0.1, 0.5, 0.9])
        names = ["item_id", "timestamp", "target_name", "predictions", "0.1", "0.5", "0.9"]
        assert list(ahead.columns) == names
        assert ahead.item_id.tolist() == ["b"] * 4 + ["a"] * 4
        first_of_b, first_of_a = ahead.timestamp.iloc[[0, 4]]
        assert first_of_b == pd.Timestamp("2024-02-10")
        assert first_of_a == pd.Timestamp("2024-01-31")

    def test_levels_ascend_and_the_point_forecast_is_the_median(self, network, sales):
        ahead = network.predict_df(sales, 4, quantile_levels=[0.1, 0.5, 0.9])
        assert (ahead["0.1"] <= ahead["0.5"]).all()
        assert (ahead["0.5"] <= ahead["0.9"]).all()
        assert ahead.predictions.tolist() == ahead["0.5"].tolist()

    def test_levels_are_called_by_the_numbers_that_are_meant(self, network, sales):
        tenths = np.arange(0.1, 1, 0.1)  # the third is 0.30000000000000004
        for levels in (tenths, torch.from_numpy(tenths)):
            ahead = network.predict_df(sales, 2, quantile_levels=levels)
            assert list(ahead.columns[-9:]) == [f"0.{tenth}" for tenth in range(1, 10)]

    def test_a_table_is_left_as_it_was(self, network, sales):
        table = sales.copy()
        network.predict_df(sales, 2)
        pd.testing.assert_frame_equal(sales, table)

    def test_a_series_alone_has_the_forecast_that_it_has_among_others(self, network, sales):
        together = network.predict_df(sales, 3)
        alone = network.predict_df(sales[sales.item_id == "a"], 3)
        of_a = together[together.item_id == "a"].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_a, alone, rtol=1e-4)

    def test_the_calendars_season_counts_unless_another_is_given(self, network, sales):
        by_calendar = network.predict_df(sales, 7)
        weekly = network.predict_df(sales, 7, season=7)
        none = network.predict_df(sales, 7, season=1)
        pd.testing.assert_frame_equal(by_calendar, weekly)
        assert not np.allclose(by_calendar.predictions, none.predictions)

    def test_what_never_changes_and_what_is_short_is_forecast_with_the_others(self, network, sales):
        days = pd.date_range("2024-01-01", periods=40)
        zero = pd.DataFrame({"item_id": "zero", "timestamp": days, "target": 0.0})
        short = pd.DataFrame({"item_id": "short", "timestamp": days[:3], "target": [1.0, 2.0, 4.0]})
        ahead = network.predict_df(pd.concat([sales, zero, short]), 2)
        assert ahead.item_id.tolist() == ["b", "b", "a", "a", "zero", "zero", "short", "short"]
        assert np.isfinite(ahead.predictions).all()
        assert (ahead.loc[ahead.item_id == "zero", "predictions"] == 0).all()

    def test_evaluate_keeps_the_tables_column_names(self, network, sales):
        renamed = sales.rename(columns={"item_id": "shop", "timestamp": "day", "target": "sold"})
        found = network.evaluate(
            renamed, 3, id_column="shop", timestamp_column="day", target="sold", rivals={}
        )
        assert list(found.forecasts.columns[:3]) == ["shop", "day", "target_name"]


@pytest.mark.parametrize("variables", [1, 3, 8])
def test_several_targets_are_forecast(network, variables):
    targets = [f"v{number}" for number in range(variables)]
    table = pd.DataFrame(waves(30, variables) - 60, columns=targets)
    ahead = network.predict_df(table, 2, target=targets, **NAMELESS)
    assert ahead.target_name.tolist() == np.repeat(targets, 2).tolist()
    assert ahead.timestamp.tolist() == [30, 31] * variables
    assert (ahead.predictions < 0).any()


def test_a_table_and_its_arrays_give_one_forecast(network):
    table = pd.DataFrame(waves(30, 2), columns=["x", "y"])
    ahead = network.predict_df(table, 3, quantile_levels=[0.1, 0.9], target=["x", "y"], **NAMELESS)
    quantiles, medians = network.predict_quantiles([table.to_numpy().T], 3, [0.1, 0.9])
    assert ahead.predictions.to_numpy() == pytest.approx(medians.numpy().ravel(), rel=1e-5)
    in_rows = quantiles.numpy().reshape(-1, 2)
    assert ahead[["0.1", "0.9"]].to_numpy() == pytest.approx(in_rows, rel=1e-5)


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
def test_quantiles_have_the_shapes_of_chronos(network, context, shape):
    quantiles, mean = network.predict_quantiles(context, 3, [0.2, 0.8])
    assert quantiles.shape == (*shape, 3, 2)
    assert mean.shape == (*shape, 3)


@pytest.mark.parametrize(
    ("context", "arguments", "message"),
    [
        ([1.0, np.nan, 2.0], {}, "series 0 is not finite at 1 of its steps, the first of which"),
        ([[1.0, 2.0], [[1.0], [2.0]]], {}, "series 1 has 2 variables, and series 0 has 1"),
        ([], {}, "context holds no series"),
        (pd.DataFrame({"y": SHORT}), {}, "context is a DataFrame"),
        ([{"target": SHORT}], {}, "covariates are not used"),
        (SHORT, {"prediction_length": 0}, "prediction_length is 0; give a whole number of 1"),
        (SHORT, {"prediction_length": 2.0}, "prediction_length is 2.0"),
        (SHORT, {"quantile_levels": [10, 90]}, "quantile_levels are"),
        (SHORT, {"quantile_levels": [0.01]}, "the network writes quantiles from 0.025 to 0.975"),
    ],
)
def test_what_cannot_be_forecast_is_refused_in_one_line(network, context, arguments, message):
    with pytest.raises(InputError) as error:
        network.predict_quantiles(context, **{"prediction_length": 2, **arguments})
    assert message in str(error.value)


def test_a_source_that_is_no_forecaster_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no adapter for tables \(text_format.json is miss"):
        Forecaster.from_pretrained(tmp_path)
