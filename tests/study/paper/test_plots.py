import re

import matplotlib.pyplot as plt
import numpy as np
import pytest

from m2lib import plots
from study import published_maes


@pytest.fixture
def ax():
    return plt.subplots()[1]


def test_the_last_bits_of_a_layout_do_not_change_an_svg(tmp_path):
    saved = []
    for nudge in (0.0, 1e-12):
        figure = plt.figure(layout="none")
        ax = figure.add_axes((0.1 + nudge, 0.1, 0.8, 0.8))
        ax.scatter([0, 1], [0, 1])
        saved.append(
            plots.save_figure(figure, "nudged", folder=tmp_path, kind="svg").read_text(
                encoding="utf-8"
            )
        )
    assert "clip-path" in saved[0]
    assert saved[0] == saved[1]


def test_error_groups_are_the_reports():
    groups = plots.error_groups(published_maes("baseline"))
    means = {label: round(np.mean(maes), 1) for label, maes in groups.items()}
    assert means == {"all 50": 123.5, "best 30": 28.3, "worst 20": 266.2}
    few = plots.error_groups({1: 5.0, 2: 1.0, 3: 4.0, 4: 2.0, 5: 3.0})
    assert few == {"all 5": [1, 2, 3, 4, 5], "best 3": [1, 2, 3], "worst 2": [4, 5]}


def test_every_error_is_inside_the_axis_and_means_are_means():
    _, axes = plt.subplots(2, sharex=True)
    for ax, maes in zip(axes, ([1.0, 5000.0], [0.0, 3.0]), strict=True):
        plots.plot_errors(ax, {"a": maes}, "title", "grey")
        (diamond,) = (line for line in ax.lines if line.get_marker() == "D")
        assert diamond.get_xdata() == [np.mean(maes)]  # whatever the scale of the axis
    left, right = axes[0].get_xlim()
    assert left == 0
    assert right > 5000


def test_forecast_is_drawn_after_the_context(data, ax):
    forecast = data.trajectories[94, 80:] + 1
    plots.plot_forecast(ax, data.time, data.trajectories[94], forecast, "series 94")
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [data.time[80]] * 2
    assert np.array_equal(dotted[1].get_ydata(), forecast[:, 1])


def test_learning_is_shown_where_nothing_was_forecast_on_the_way():
    _, (left, right) = plt.subplots(1, 2)
    plots.plot_learning(
        left, right, [2.0, 1.0], [{"step": 0, "loss": 2.1}, {"step": 2, "loss": 1.1}]
    )
    assert left.lines[1].get_ydata().tolist() == [2.1, 1.1]
    assert all(len(line.get_ydata()) == 0 for line in right.lines)


@pytest.mark.parametrize("levels", [(0.1, 0.25, 0.5, 0.75, 0.9), (0.05, 0.95), (0.8, 0.9, 0.95)])
def test_a_fan_pairs_its_quantiles_around_the_middle(levels, ax):
    past = np.arange(5.0)
    ahead = np.array([5.0, 6.0])
    quantiles = {level: np.array([level, 2 * level]) for level in sorted(levels, reverse=True)}
    plots.plot_fan(ax, past, past, ahead, quantiles, truth=np.array([0.4, 0.9]))
    bands = [band.get_paths()[0].vertices[:, 1] for band in ax.collections]
    pairs = list(zip(levels, levels[::-1], strict=True))[: len(levels) // 2]
    assert [(band.min(), band.max()) for band in bands] == [(low, 2 * high) for low, high in pairs]
    middle = {5: "median", 2: "past and truth", 3: "quantile 0.9"}[len(levels)]
    assert [line.get_label() for line in ax.lines][:-1][-1] == middle
    assert ax.lines[-1].get_ydata().tolist() == [4, 0.4, 0.9]  # the truth goes on from the past


def test_a_slider_has_a_picture_for_each_value_and_asks_no_other_machine():
    shown = plots.moving(
        lambda width: plt.figure(figsize=(width, 1)), [1, 2, 3], "inches", "An empty figure."
    ).data
    (frames,) = re.findall('data-frames="([^"]*)"', shown)
    assert len(set(frames.split())) == 3
    assert f'<img src="{frames.split()[0]}" alt="An empty figure."' in shown
    assert 'max="2"' in shown
    assert "http" not in shown
    assert not plt.get_fignums()
