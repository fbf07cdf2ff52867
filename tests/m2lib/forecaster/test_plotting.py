import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection

from m2lib.files import InputError
from m2lib.forecaster import Forecaster, plot_forecasts

LEVELS = {"quantile_levels": [0.9, 0.1, 0.5, 0.25, 0.75], "num_samples": 5}


@pytest.fixture(autouse=True)
def closed():
    import matplotlib.pyplot as plt

    yield
    plt.close("all")


def sales(names="ab", steps=40):
    wave = 50 + 30 * np.sin(np.arange(steps) / 3)
    days = pd.date_range("2024-01-01", periods=steps)
    frames = [pd.DataFrame({"item_id": name, "timestamp": days, "target": wave}) for name in names]
    return pd.concat(frames).assign(other=lambda frame: 100 - frame.target)


def test_levels_pair_by_their_size(tiny):
    table = sales("a")
    levels = [1e-5, 0.5, 1 - 1e-5]
    ahead = Forecaster(tiny).predict_df(table, 4, quantile_levels=levels, num_samples=5)
    (ax,) = plot_forecasts(table, ahead)
    (band,) = ax.findobj(PolyCollection)
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == (ahead["1e-05"].min(), ahead["0.99999"].max())


def test_each_variable_of_each_series_has_an_axis(tiny):
    table = sales()
    ahead = Forecaster(tiny).predict_df(table, 4, target=["target", "other"], **LEVELS)
    axes = plot_forecasts(table, ahead)
    assert [ax.get_title() for ax in axes] == ["a", "a", "b", "b"]
    assert [ax.get_ylabel() for ax in axes] == ["target", "other"] * 2
    assert {ax.get_xlabel() for ax in axes} == {"timestamp"}
    past, median = axes[1].lines
    assert past.get_ydata().tolist() == table.other[:40].tolist()[-20:]
    assert median.get_ydata().tolist() == ahead.predictions[4:8].tolist()
    wide, narrow = axes[1].findobj(PolyCollection)
    for band, low, high in ((wide, "0.1", "0.9"), (narrow, "0.25", "0.75")):
        heights = band.get_paths()[0].vertices[:, 1]
        assert (heights.min(), heights.max()) == (ahead[low][4:8].min(), ahead[high][4:8].max())
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["past", "80% band", "50% band", "median"]
    assert len(plot_forecasts(table, ahead, most=3)) == 3
    assert [ax.get_title() for ax in plot_forecasts(table, ahead[8:])] == ["b", "b"]


def test_a_table_without_ids_and_times_is_drawn_and_a_dollar_is_one(tiny, tmp_path):
    table = sales("a").rename(columns={"target": "US$ a_b$"})[["US$ a_b$"]]
    columns = {"id_column": None, "timestamp_column": None}
    ahead = Forecaster(tiny).predict_df(table, 4, target="US$ a_b$", **LEVELS, **columns)
    (ax,) = plot_forecasts(table, ahead, **columns)
    assert ax.get_ylabel() == "US$ a_b$"
    assert ax.lines[1].get_xdata().tolist() == [40, 41, 42, 43]
    ax.figure.savefig(tmp_path / "ahead.png")


def test_forecasts_of_other_series_are_refused(tiny):
    table = sales("a")
    ahead = Forecaster(tiny).predict_df(table, 4, **LEVELS).assign(item_id="b")
    with pytest.raises(InputError, match="none of the forecasts is of these series; give them"):
        plot_forecasts(table, ahead)


def test_a_table_with_gaps_and_unfit_series_is_drawn(tiny):
    gaps = sales()
    gaps.iloc[5, 2] = np.nan  # the column `target` of series a
    gaps.iloc[45, 2] = np.inf
    options = {"skip": True, "fill": "linear"}
    with pytest.warns(UserWarning, match="'b' is left out"):
        ahead = Forecaster(tiny).predict_df(gaps, 4, **LEVELS, **options)
    with pytest.warns(UserWarning, match="'b' is left out"):
        (ax,) = plot_forecasts(gaps, ahead, **options)
    assert ax.get_title() == "a"


@pytest.mark.parametrize(
    "stamps",
    [
        pd.date_range("2024-01-01", periods=44, tz="Europe/Paris"),
        pd.period_range("2024-01-01", periods=44, freq="D"),
        pd.date_range("2021-01-01", periods=44, freq="MS").strftime("%Y%m").astype(int),
        pd.Index(range(202390, 202434)),  # numbers, of which the last are no months
    ],
)
def test_a_part_of_a_forecast_is_drawn_at_its_own_time(tiny, stamps):
    table = sales("a").assign(timestamp=stamps[:40])
    ahead = Forecaster(tiny).predict_df(table, 4, **LEVELS)
    (whole,) = plot_forecasts(table, ahead)
    (part,) = plot_forecasts(table, ahead[2:])
    times = whole.lines[1].get_xdata()
    assert len(times) == 4
    assert list(part.lines[1].get_xdata()) == list(times[2:])
    assert times[0] > whole.lines[0].get_xdata()[-1]
