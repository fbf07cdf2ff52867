from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from m2lib.accounting.flops import forward_flops
from m2lib.accounting.shape import COMPONENTS, Shape
from m2lib.model.backbones import backbone_config
from m2lib.paper import diagrams, plots
from m2lib.study.selection import published_maes


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_figures_are_saved_under_build(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    figure, _ = plt.subplots()
    path = plots.save_figure(figure, "empty")
    assert path == tmp_path / "figures" / "empty.png"
    assert plt.imread(path).shape[2] == 4


def test_the_last_bits_of_a_layout_do_not_change_an_svg(tmp_path):
    saved = []
    for nudge in (0.0, 1e-12):
        figure = plt.figure(layout="none")
        ax = figure.add_axes((0.1 + nudge, 0.1, 0.8, 0.8))
        ax.scatter([0, 1], [0, 1])
        saved.append(plots.save_figure(figure, "nudged", folder=tmp_path, kind="svg").read_text(encoding="utf-8"))
    assert "clip-path" in saved[0]
    assert saved[0] == saved[1]


def test_architecture_shows_the_shapes_of_its_config():
    figure = diagrams.architecture(backbone_config("qwen2.5-0.5b"), 13, "Qwen")
    shown = "\n".join(texts(figure))
    assert len(figure.axes) == 3
    for part in (
        "24 × transformer block",
        "embedding\n13 × 896",
        "896 → 14·64\n+ bias",
        "896 → 2·64",
        "896 → 4864",
        "896 → 13",
    ):
        assert part in shown
    assert "30 × transformer block" in "\n".join(texts(diagrams.architecture(backbone_config("smollm2-135m"), 13, "S")))


def test_lora_layer_counts_its_parameters():
    figure = diagrams.lora_layer(896, 128, rank=2, alpha=4)
    assert figure.axes[0].get_title() == "A LoRA layer: 2,048 trained parameters beside 114,688 frozen ones"
    assert "× α/r\n= 2" in texts(figure)


def test_encoding_shows_every_token(data):
    figure = diagrams.encoding(data.trajectories[1, :2], data.scales[1], "series 1")
    shown = texts(figure)
    assert "".join(text for text in shown if text in set("0123456789,;") and len(text) == 1).count(";") == 2
    assert {"337", "348", "374", "285", "3.37"} <= set(shown)


def test_error_groups_are_the_reports():
    groups = plots.error_groups(published_maes("baseline"))
    assert {label: round(np.mean(errors), 1) for label, errors in groups.items()} == {
        "all 50": 123.5,
        "best 30": 28.3,
        "worst 20": 266.2,
    }
    assert list(plots.error_groups({1: 5.0})) == ["all 1", "best 1"]
    assert list(plots.error_groups({1: 5.0, 2: 1.0, 3: 2.0})) == ["all 3", "best 1", "worst 2"]


def test_every_error_is_inside_the_axis():
    _, axes = plt.subplots(2, sharex=True)
    small, large = {"a": [0.0, 3.0]}, {"a": [1.0, 5000.0]}
    for ax, groups in zip(axes, (large, small), strict=True):
        plots.plot_error_groups(ax, groups, "title", "grey")
    left, right = axes[0].get_xlim()
    assert left == 0
    assert right > 5000


def test_forecast_is_drawn_after_the_context(data):
    _, ax = plt.subplots()
    forecast = data.trajectories[94, 80:] + 1
    plots.plot_forecast(ax, data.time, data.trajectories[94], forecast, "series 94")
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata()[0] for line in dotted] == [data.time[80]] * 2
    assert np.array_equal(dotted[1].get_ydata(), forecast[:, 1])


def test_a_quantile_that_is_not_the_median_is_not_called_so():
    _, ax = plt.subplots()
    plots.plot_fan(ax, np.arange(2), np.ones(2), np.array([2]), {level: np.ones(1) for level in (0.8, 0.9, 0.95)})
    assert [line.get_label() for line in ax.lines][1:] == ["quantile 0.9"]


def test_learning_is_shown_where_nothing_was_forecast_on_the_way():
    _, (left, right) = plt.subplots(1, 2)
    run = SimpleNamespace(loss_curve=[2.0, 1.0], evaluations=[{"step": 0, "loss": 2.1}, {"step": 2, "loss": 1.1}])
    plots.plot_learning(left, right, run)
    assert left.lines[1].get_ydata().tolist() == [2.1, 1.1]
    assert all(len(line.get_ydata()) == 0 for line in right.lines)


@pytest.mark.parametrize("levels", [(0.1, 0.25, 0.5, 0.75, 0.9), (0.05, 0.95)])
def test_a_fan_pairs_its_quantiles_around_the_median(levels):
    _, ax = plt.subplots()
    past, ahead = np.arange(5.0), np.array([5.0, 6.0])
    quantiles = {level: np.array([level, 2 * level]) for level in sorted(levels, reverse=True)}
    plots.plot_fan(ax, past, past, ahead, quantiles, truth=np.array([0.4, 0.9]))
    bands = {band.get_label(): band.get_paths()[0].vertices for band in ax.collections}
    assert list(bands) == (["80% band", "50% band"] if len(levels) == 5 else ["90% band"])
    for (label, corners), low in zip(bands.items(), levels, strict=False):
        assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((low, 2 * (1 - low))), label
    medians = [line.get_ydata().tolist() for line in ax.lines if line.get_label() == "median"]
    assert medians == ([[0.5, 1.0]] if len(levels) == 5 else [])
    assert ax.lines[-1].get_ydata().tolist() == [4, 0.4, 0.9]  # the truth goes on from the past


def test_flop_shares_add_up_to_one():
    shape = Shape.of(backbone_config("qwen2.5-0.5b"))
    _, ax = plt.subplots()
    plots.plot_flop_shares(ax, {"a": forward_flops(shape, 64), "b": forward_flops(shape, 4096, rank=4)})
    ends = [bar.get_x() + bar.get_width() for bar in ax.patches]
    assert ends[-2:] == pytest.approx([1, 1])
    grouped = [part for parts, _ in plots.FLOP_GROUPS.values() for part in parts]
    assert sorted(grouped) == sorted(COMPONENTS)


def test_budget_bars_end_at_their_totals():
    _, ax = plt.subplots()
    tables = {"x": {"one": (3, 1), "two": (4, 2)}, "y": {"one": (0, 0), "two": (9, 5)}}
    plots.plot_budget(ax, tables, limit=12)
    ends = {round(bar.get_y() + bar.get_height() / 2): bar.get_x() + bar.get_width() for bar in ax.patches}
    assert ends == {0: 10, 1: 14}


def test_growth_and_curves_are_labelled():
    _, axes = plt.subplots(1, 3)
    plots.plot_growth(
        axes, {"context": {"128": 0.1, "256": 0.2}, "batch": {"1": 1.0}, "samples": {"1": 0.5, "64": 3.0}}
    )
    assert axes[0].get_ylabel() == "seconds per series"
    assert all(ax.get_xlabel() for ax in axes)
    _, ax = plt.subplots()
    plots.plot_curves(ax, {"ours": [1.0, 0.9], "plain": [1.0, 0.91]})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["ours", "plain"]
