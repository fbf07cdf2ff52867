import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from m2lib.paper import calibration_plots as plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


def test_reliability_is_drawn_beside_what_right_samples_hold(ax):
    plots.plot_reliability(ax, {"final": {0.5: 0.4, 0.8: 0.7}}, samples=12)
    diagonal, right, ours = ax.lines
    assert list(diagonal.get_ydata()) == [0, 1]
    assert right.get_ydata()[1] == pytest.approx(11 / 13)
    assert (list(ours.get_xdata()), list(ours.get_ydata())) == ([0.5, 0.8], [0.4, 0.7])
    assert ours.get_color() == plots.look_of("final")[0] != plots.look_of("log-VAR(3), bootstrap")[0]


@pytest.mark.parametrize(("samples", "bins"), [(48, 7), (12, 13), (4, 5)])
def test_every_rank_has_its_bin(samples, bins, ax):
    plots.plot_ranks(ax, np.arange(samples + 1), samples, "final")
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([1 / bins] * bins)
    plots.plot_ranks(ax, np.array([[samples, samples], [0, samples]]), samples, "final")
    assert [bar.get_height() for bar in ax.patches[bins:]] == [0.25, *[0] * (bins - 2), 0.75]


def test_the_risk_curve_keeps_the_surest_first(ax):
    errors, spreads = np.array([3.0, 1, 8]), np.array([2.0, 5, 1])
    assert plots.risk_curve(spreads, errors).tolist() == [8, 5.5, 4]
    plots.plot_risk(ax, {"final": spreads}, {"final": errors})
    assert [line.get_ydata().tolist() for line in ax.lines] == [[8, 5.5, 4], [1, 2, 4]]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["final"]


def test_no_series_falls_off_a_logarithmic_axis(ax):
    plots.plot_trust(ax, np.array([0.0, 50]), np.array([3.0, 400]), "final")
    low, high = ax.get_xlim()
    assert low < 0.1 < 400 < high
    assert ax.collections[0].get_offsets().tolist() == [[0.1, 3], [50, 400]]


def test_counts_are_beside_the_greedy_forecast(ax):
    plots.plot_counts(ax, {"final": {1: 30.0, 2: 25.0, 48: 20.0}}, {"final": 24.0})
    median, greedy = ax.lines
    assert median.get_ydata().tolist() == [30, 25, 20]
    assert set(greedy.get_ydata()) == {24.0}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "48"]
