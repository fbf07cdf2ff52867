"""Fan charts: each variable of each series has an axis, with its past, its bands and its median."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection, PolyCollection

from m2lib.errors import InputError
from m2tables import Forecaster, plot_forecasts

matplotlib.use("Agg")

LEVELS = {"quantile_levels": [0.9, 0.1, 0.5, 0.25, 0.75]}


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster.from_pretrained()


@pytest.fixture(autouse=True)
def close_figures():
    """Close what a test has drawn."""
    yield
    plt.close("all")


def sales_of(*shops):
    """Return forty days of sales of some shops, and another column, which mirrors them."""
    days = pd.date_range("2024-01-01", periods=40)
    sold = 50 + 30 * np.sin(np.arange(40) / 3)
    tables = [
        pd.DataFrame({"item_id": shop, "timestamp": days, "target": sold, "other": 100 - sold})
        for shop in shops
    ]
    return pd.concat(tables, ignore_index=True)


TWO_SHOPS = sales_of("a", "b")


@pytest.fixture(scope="module")
def ahead(forecaster):
    """Return forecasts of four steps of both variables of two shops, a row for each."""
    return forecaster.predict_df(TWO_SHOPS, 4, target=["target", "other"], **LEVELS)


def assert_band_lies_between(band, low, high):
    """Assert that a band reaches from the least lower quantile to the largest upper one."""
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == low.min()
    assert heights.max() == high.max()


def test_each_variable_of_each_series_has_an_axis(ahead):
    axes = plot_forecasts(TWO_SHOPS, ahead)
    assert [ax.get_title() for ax in axes] == ["a", "a", "b", "b"]
    assert [ax.get_ylabel() for ax in axes] == ["target", "other", "target", "other"]
    assert {ax.get_xlabel() for ax in axes} == {"timestamp"}


def test_an_axis_shows_the_past_of_five_horizons_and_the_median(ahead):
    axes = plot_forecasts(TWO_SHOPS, ahead)
    past, median = axes[1].lines  # of the variable `other` of series a
    assert past.get_ydata().tolist() == TWO_SHOPS.other[20:40].tolist()
    assert median.get_ydata().tolist() == ahead.predictions[4:8].tolist()


def test_a_band_lies_between_two_levels_and_the_widest_is_drawn_first(ahead):
    axes = plot_forecasts(TWO_SHOPS, ahead)
    wide, narrow = axes[1].findobj(PolyCollection)
    steps = ahead[4:8]  # of the variable `other` of series a
    assert_band_lies_between(wide, steps["0.1"], steps["0.9"])
    assert_band_lies_between(narrow, steps["0.25"], steps["0.75"])


def test_levels_are_paired_by_their_size_and_not_by_their_names(forecaster):
    table = sales_of("a")
    ahead = forecaster.predict_df(table, 4, quantile_levels=[0.1, 0.5, 0.9])
    ahead = ahead.rename(columns={"0.1": "1e-05", "0.9": "0.99999"})
    (ax,) = plot_forecasts(table, ahead)
    (band,) = ax.findobj(PolyCollection)
    assert_band_lies_between(band, ahead["1e-05"], ahead["0.99999"])


def test_a_single_step_has_bars_in_the_place_of_bands_and_a_mark(forecaster):
    table = sales_of("a")
    ahead = forecaster.predict_df(table, 1, **LEVELS)
    (ax,) = plot_forecasts(table, ahead)
    wide, narrow = ax.findobj(LineCollection)
    assert_band_lies_between(wide, ahead["0.1"], ahead["0.9"])
    assert_band_lies_between(narrow, ahead["0.25"], ahead["0.75"])
    assert ax.lines[-1].get_marker() == "o"


def test_the_legend_names_the_bands_by_their_share(ahead):
    axes = plot_forecasts(TWO_SHOPS, ahead)
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["past", "80% band", "50% band", "median"]


def test_a_column_that_is_called_by_a_number_is_no_level(ahead):
    numbers = {"item_id": 0, "timestamp": 1}
    columns = {"id_column": 0, "timestamp_column": 1}
    axes = plot_forecasts(
        TWO_SHOPS.rename(columns=numbers), ahead.rename(columns=numbers), **columns
    )
    assert [ax.get_title() for ax in axes] == ["a", "a", "b", "b"]


def test_there_are_at_most_so_many_axes(ahead):
    assert len(plot_forecasts(TWO_SHOPS, ahead, most=3)) == 3
    with pytest.raises(InputError, match=r"^most is 0; give a whole number of 1 or more"):
        plot_forecasts(TWO_SHOPS, ahead, most=0)


def test_some_of_the_forecasts_are_drawn_alone(ahead):
    axes = plot_forecasts(TWO_SHOPS, ahead[8:])
    assert [ax.get_title() for ax in axes] == ["b", "b"]


def test_a_table_without_ids_and_times_is_drawn(forecaster):
    table = sales_of("a")[["target"]]
    columns = {"id_column": None, "timestamp_column": None}
    ahead = forecaster.predict_df(table, 4, **LEVELS, **columns)

    (ax,) = plot_forecasts(table, ahead, **columns)
    _, median = ax.lines
    assert median.get_xdata().tolist() == [40, 41, 42, 43]


def test_a_dollar_in_a_name_begins_no_formula(forecaster, tmp_path):
    table = sales_of("a").rename(columns={"target": "US$ a_b$"})
    ahead = forecaster.predict_df(table, 4, target="US$ a_b$", **LEVELS)

    (ax,) = plot_forecasts(table, ahead)
    assert ax.get_ylabel() == "US$ a_b$"
    ax.figure.savefig(tmp_path / "ahead.png")  # where a formula would fail


def test_forecasts_of_other_series_are_refused(forecaster):
    table = sales_of("a")
    ahead = forecaster.predict_df(table, 4, **LEVELS)
    with pytest.raises(InputError, match="none of the forecasts is of these series; give them"):
        plot_forecasts(table, ahead.assign(item_id="b"))


@pytest.mark.filterwarnings("ignore:the table. steps that were filled")
def test_a_table_with_gaps_is_drawn_as_it_was_filled(forecaster):
    table = sales_of("a")
    table.loc[38, "target"] = np.nan
    ahead = forecaster.predict_df(table, 4, **LEVELS, fill="zero")
    (ax,) = plot_forecasts(table, ahead, fill="zero")
    assert ax.lines[0].get_ydata().min() == 0


@pytest.mark.parametrize(
    "stamps",
    [
        pytest.param(pd.date_range("2024-01-01", periods=44, tz="Europe/Paris"), id="in a zone"),
        pytest.param(pd.period_range("2024-01-01", periods=44, freq="D"), id="periods"),
        pytest.param(pd.Index(range(1990, 2034)), id="years"),
    ],
)
def test_a_part_of_a_forecast_is_drawn_at_its_own_time(forecaster, stamps):
    table = sales_of("a").assign(timestamp=stamps[:40])
    ahead = forecaster.predict_df(table, 4, **LEVELS)

    (whole,) = plot_forecasts(table, ahead)
    (part,) = plot_forecasts(table, ahead[2:])

    past, median = whole.lines
    times = median.get_xdata()
    assert len(times) == 4
    assert times[0] > past.get_xdata()[-1]
    _, median_of_part = part.lines
    assert list(median_of_part.get_xdata()) == list(times[2:])
