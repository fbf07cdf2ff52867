"""The plots that notebooks and paper share: what they draw, and how they are saved."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from study import plots, published_maes


def test_the_last_bits_of_a_layout_do_not_change_an_svg(tmp_path):
    saved = []
    for nudge in (0.0, 1e-12):
        figure = plt.figure(layout="none")
        ax = figure.add_axes((0.1 + nudge, 0.1, 0.8, 0.8))
        ax.scatter([0, 1], [0, 1])
        path = plots.save_figure(figure, "nudged", folder=tmp_path, kind="svg")
        saved.append(path.read_text(encoding="utf-8"))

    assert "clip-path" in saved[0]  # what is named by a hash of coordinates
    assert saved[0] == saved[1]


def test_error_groups_are_the_reports():
    groups = plots.error_groups(published_maes("baseline"))
    means = {label: round(np.mean(maes), 1) for label, maes in groups.items()}
    assert means == {"all 50": 123.5, "best 30": 28.3, "worst 20": 266.2}


def test_of_few_series_the_worst_group_is_two_fifths():
    groups = plots.error_groups({1: 5.0, 2: 1.0, 3: 4.0, 4: 2.0, 5: 3.0})
    assert groups == {"all 5": [1, 2, 3, 4, 5], "best 3": [1, 2, 3], "worst 2": [4, 5]}


def test_every_error_is_inside_the_axis():
    _, axes = plt.subplots(2, sharex=True)
    for ax, maes in zip(axes, ([1.0, 5000.0], [0.0, 3.0]), strict=True):
        plots.plot_errors(ax, {"a": maes}, "title", "grey")

    left, right = axes[0].get_xlim()
    assert left == 0
    assert right > 5000  # though the axes share their limits, and the second was drawn last


@pytest.mark.parametrize("maes", [[1.0, 5000.0], [0.0, 3.0]])
def test_a_diamond_stands_at_the_mean_whatever_the_scale_of_the_axis(ax, maes):
    plots.plot_errors(ax, {"a": maes}, "title", "grey")
    (diamond,) = [line for line in ax.lines if line.get_marker() == "D"]
    assert diamond.get_xdata() == [np.mean(maes)]


def test_forecast_is_drawn_after_the_context(data, ax):
    series = data.trajectories[94]
    forecast = series[80:] + 1

    plots.plot_forecast(ax, data.time, series, forecast, "series 94")

    prey, predators = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert prey.get_xdata()[0] == predators.get_xdata()[0] == data.time[80]
    assert np.array_equal(predators.get_ydata(), forecast[:, 1])


def test_learning_is_shown_where_nothing_was_forecast_on_the_way():
    _, (left, right) = plt.subplots(1, 2)
    evaluations = [{"step": 0, "loss": 2.1}, {"step": 2, "loss": 1.1}]

    plots.plot_learning(left, right, [2.0, 1.0], evaluations)

    assert left.lines[1].get_ydata().tolist() == [2.1, 1.1]
    assert all(len(line.get_ydata()) == 0 for line in right.lines)


@pytest.mark.parametrize(
    ("levels", "pairs", "middle"),
    [
        pytest.param(
            (0.1, 0.25, 0.5, 0.75, 0.9), [(0.1, 0.9), (0.25, 0.75)], ["median"], id="the usual five"
        ),
        pytest.param((0.05, 0.95), [(0.05, 0.95)], [], id="a band alone"),
        pytest.param((0.8, 0.9, 0.95), [(0.8, 0.95)], ["quantile 0.9"], id="no median"),
    ],
)
def test_a_fan_pairs_its_quantiles_around_the_middle(levels, pairs, middle, ax):
    past = np.arange(5.0)
    ahead = np.array([5.0, 6.0])
    truth = np.array([0.4, 0.9])
    # The order in which they are given does not matter.
    quantiles = {level: np.array([level, 2 * level]) for level in sorted(levels, reverse=True)}

    plots.plot_fan(ax, past, past, ahead, quantiles, truth)

    bands = []
    for band in ax.collections:
        heights = band.get_paths()[0].vertices[:, 1]
        bands.append((heights.min(), heights.max()))
    assert bands == [(low, 2 * high) for low, high in pairs]

    # Before and behind the middle one come the past and the truth, which goes on from there.
    first, *between, last = ax.lines
    assert first.get_label() == "past and truth"
    assert [line.get_label() for line in between] == middle
    assert last.get_ydata().tolist() == [4, 0.4, 0.9]


def test_a_slider_has_a_picture_for_each_value_and_asks_no_other_machine():
    def draw(width):
        return plt.figure(figsize=(width, 1))

    slider = plots.moving(draw, [1, 2, 3], "inches", "An empty figure.").data

    (frames,) = re.findall('data-frames="([^"]*)"', slider)
    pictures = frames.split()
    assert len(set(pictures)) == 3
    assert 'max="2"' in slider
    assert f'<img src="{pictures[0]}" alt="An empty figure."' in slider
    assert "http" not in slider
    assert not plt.get_fignums()
