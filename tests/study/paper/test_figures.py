"""The figures, against the records that they are drawn from."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color

from m2lib.accounting import COMPONENTS, Shape, forward_flops
from m2lib.model import backbone_config
from m2lib.plots import COLOURS
from m2lib.series import draw_systems, split_ids
from m2lib.series.data import predator_prey
from study import ARMS, PROFILES, REPLICATION, published_maes, recorded_yardsticks
from study.paper import drawings, errors, figures, numbers, pdf
from study.worlds import WORLDS

LAPTOP = PROFILES["laptop"]
FIFTH = REPLICATION["fifth"]
WHOLE = REPLICATION["report"]


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_no_model_is_loaded_for_a_figure(monkeypatch, tmp_path):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    for name in ("fig1_architecture", "fig5_baseline_errors", "table3_budget"):
        pdf.show(name)
        assert (tmp_path / "figures" / f"{name}.png").is_file()


def test_architecture_shows_its_shapes():
    blocks = (
        "24 × transformer block",
        "embedding\n13 × 896",
        "896 → 14·64\n+ bias",
        "896 → 2·64",
        "896 → 4864",
    )
    for name, parts in (
        ("qwen2.5-0.5b", blocks),
        ("smollm2-135m", ("30 × transformer block", "576 → 9·64")),
    ):
        shown = "\n".join(texts(drawings.architecture(Shape.of(backbone_config(name)), name)))
        assert [part for part in parts if part not in shown] == []


def test_an_arrow_comes_from_the_box_below_in_its_column_or_from_all():
    ax = plt.subplots()[1]
    drawings.model._flow(ax, "", [["a"], ["b", "c"], ["d", None], ["e"]])
    places = {text.get_text(): text.get_position() for text in ax.texts if text.get_text()}
    names = {place: name for name, place in places.items()}
    arrows = {names[arrow.xyann] + names[arrow.xy] for arrow in ax.texts if not arrow.get_text()}
    assert arrows == {"ab", "ac", "bd", "de", "ce"}


def test_the_nullclines_cross_where_nothing_changes():
    system, data = draw_systems(1000, seed=0)[94], errors.data()
    ax = plt.subplots()[1]
    drawings.phase_plane(ax, system, data.trajectories[94])
    lines = {line.get_label(): line.get_data() for line in ax.lines}
    rest = lines["predators neither grow nor shrink"][0][0]
    level = np.interp(rest, *lines["prey neither grow nor shrink"])
    assert np.allclose(predator_prey(0, np.array([rest, level]), *system[:6]), 0, atol=1e-5)
    parabola = lines["prey neither grow nor shrink"][1]
    assert np.isclose(lines["top of the parabola"][1][0], parabola.max(), rtol=1e-3)


def test_nothing_comes_back_from_the_test_series():
    figure = drawings.splits(split_ids())
    assert [text for text in texts(figure) if "50 series" in text] == [
        "validation split\n50 series",
        "test split\n50 series",
    ]
    arrows = [text for text in figure.axes[0].texts if not text.get_text()]
    across = [(round(a.xyann[0]), round(a.xy[0])) for a in arrows if a.xyann[1] == a.xy[1]]
    assert sorted(across) == [(0, 1), (1, 0), (1, 2)]


def test_an_arrow_leads_to_each_character_that_has_weight():
    ax = plt.subplots()[1]
    drawings.looks_back(ax, "7;7,7", [0.2, 0.5, 0.0, 0.1, 0.2])
    arrows = [text for text in ax.texts if not text.get_text()]
    assert [round(arrow.xy[0]) for arrow in arrows] == [0, 1, 3]
    widths = [arrow.arrow_patch.get_linewidth() for arrow in arrows]
    assert np.allclose(np.divide(widths, widths[1]), [0.4, 1, 0.2])


def test_what_comes_later_is_grey_and_unmarked():
    ax = plt.subplots()[1]
    weights = np.array([0.1, 0.6, 0.3, 0.0, 0.0])
    drawings.marked_text(ax, "95,43", weights, looking=2, per_line=3)
    colours = [text.get_color() for text in ax.texts]
    assert colours == ["black", "white", "black", "0.7", "0.7"]
    *marked, frame = ax.patches
    darkness = [1 - np.mean(patch.get_facecolor()[:3]) for patch in marked]
    assert np.argsort(darkness).tolist() == [0, 2, 1]
    assert frame.get_x() == 1.5
    assert [text.get_position() for text in ax.texts[2:4]] == [(2, 0), (0, -1)]


def test_lora_layer_counts_its_parameters():
    figure = drawings.lora_layer(896, rank=2)
    assert (
        figure.axes[0].get_title()
        == "A LoRA layer: 3,584 trained parameters beside 802,816 frozen ones"
    )


def test_a_drawn_block_has_the_products_that_the_accountant_counts():
    tiny = Shape(layers=1, width=4, heads=2, kv_heads=2, mlp=6)
    axes = drawings.block_products(tiny, tokens=3).axes
    said = [ax.get_title(loc="left").split(": ")[1].removesuffix(" FLOPs") for ax in axes]
    drawn = [np.prod([int(number) for number in text.split(" × ")]) for text in said]
    counted = forward_flops(tiny, 3)
    # By the rules there are the division of the scores, and what stands between the MLP's products.
    small = {"scores": 2 * 3 * 3, "mlp": 14 * 3 * 6}
    products = ("qkv", "scores", "values", "output", "mlp")
    assert sum(drawn) == sum(counted[part] - small.get(part, 0) for part in products)


def test_as_many_arrows_are_red_as_the_title_says_products():
    for ax in drawings.gradient_flow().axes:
        arrows = [text.arrow_patch for text in ax.texts if getattr(text, "arrow_patch", None)]
        red = [arrow for arrow in arrows if same_color(arrow.get_edgecolor(), COLOURS["error"])]
        assert f"{len(red)} products" in ax.get_title()


def test_groups_of_components_leave_none_out():
    assert sorted(sum(drawings.PARTS.values(), ())) == sorted(COMPONENTS)
    shape = Shape.of(backbone_config("tiny"))
    cost = forward_flops(shape, 16, rank=2)
    ax = drawings.flop_shares({"a text": cost}).axes[0]
    widths = [bar.get_width() for bars in ax.containers for bar in bars]
    assert np.isclose(sum(widths), 1)
    lengths = (16, 32)
    areas = drawings.flops_per_token({"toy": shape, "again": shape}, lengths, rank=2).axes[0]
    top = areas.collections[-1].get_paths()[0].vertices[:, 1].max()
    costs = [sum(forward_flops(shape, n, rank=2).values()) / n for n in lengths]
    assert np.isclose(top, max(costs))


def test_a_ladder_has_its_rungs_where_the_costs_are():
    ax = drawings.cost_ladder({"a": 10, "b": 1e6}).axes[0]
    assert ax.lines[0].get_xdata().tolist() == [10, 1e6]
    assert [text.get_text() for text in ax.texts] == ["10", "1e+06"]


def test_encoding_shows_every_token(data):
    first, second = drawings.encoding(data, (1, 2)).axes
    cells = {cell.get_text().get_text() for cell in first.tables[0].get_celld().values()}
    assert {
        "337",
        "3.37",
        "3 3 7 ,",
        "18 18 22 11",
        "4 4 8 11",
        "3 4 8 ;",
        "18 19 23 26",
        "4 5 9 12",
    } <= cells
    assert second.get_title(loc="left").startswith("series 2")


def test_a_figure_of_the_report_is_of_any_profile_and_says_whose():
    ours, replicated = (figures.fig4_baseline_forecasts(profile) for profile in (LAPTOP, WHOLE))
    assert [figure.get_suptitle() for figure in (ours, replicated)] == [
        "smollm2-135m",
        "qwen2.5-coder-0.5b",
    ]
    maes = errors.finished_record(WHOLE, "baseline").maes()
    archive = published_maes("baseline")
    titles = [ax.get_title() for ax in replicated.axes]
    assert titles == [
        f"series {i}: MAE {maes[i]:.0f}\nthe report's: {archive[i]:.0f}" for i in (94, 99, 141)
    ]
    assert [ax.get_title() for ax in ours.axes] == [
        "series 94: MAE 485",
        "series 99: MAE 108",
        "series 141: MAE 322",
    ]
    assert pdf.draw("fig4_baseline_forecasts").get_suptitle() == "qwen2.5-coder-0.5b"


def test_what_is_compared_are_the_same_series():
    ours, report = figures.context_lengths(FIFTH).axes
    assert [label.get_text() for label in ours.get_yticklabels()] == [
        "128 tokens",
        "512 tokens",
        "768 tokens",
    ]
    *lines, means, medians = report.lines
    assert len(lines) == 5
    assert means.get_xdata() == pytest.approx([2203.9, 363.7, 273.3], abs=0.06)
    assert medians.get_xdata() == pytest.approx([359.9, 224.8, 231.3], abs=0.06)


def test_a_row_of_the_budget_begins_where_the_last_one_ended():
    for ax, total in zip(figures.table3_budget(LAPTOP).axes, (135, 99.9, 84.8), strict=True):
        training, forecasts = ax.containers
        ends = [bar.get_x() + bar.get_width() for bar in forecasts]
        assert [bar.get_x() for bar in training] == pytest.approx([0, *ends[:-1]])
        assert ends[-1] == pytest.approx(total, rel=0.005)
        assert ax.get_title().endswith(f": {ends[-1]:.1f}%")


def test_the_curve_of_the_surest_ends_at_the_error_of_all():
    *_, means, medians = figures.trust(LAPTOP).axes
    found = errors.sampled(LAPTOP)
    for who, place in ((found.shown, 0), (errors.LOG_VAR, 2)):
        maes = found.by_series(errors.median_mae, who)
        for ax, error in ((means, maes.mean()), (medians, maes.median())):
            lines = ax.lines[place : place + 2]
            assert [line.get_ydata()[-1] for line in lines] == pytest.approx([error] * 2)
            # the dashed one knows the errors in advance
            assert lines[1].get_ydata()[0] == maes.min()


def test_ranks_and_bands_are_shares():
    bands, *histograms = figures.reliability(LAPTOP).axes
    for ax in histograms:
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)
    ours = next(line for line in bands.lines if line.get_label() == "best")
    found = errors.sampled(LAPTOP).held("best")
    assert ours.get_ydata()[list(np.round(ours.get_xdata(), 2)).index(0.8)] == pytest.approx(
        found[0.8]
    )


def test_the_median_of_all_samples_is_that_of_the_record():
    recorded = list(errors.finished_record(LAPTOP, "samples/best/test").maes().values())
    for ax, of in zip(figures.sample_counts(LAPTOP).axes, (np.mean, np.median), strict=True):
        best = next(line for line in ax.lines if line.get_label() == "best, median of samples")
        assert best.get_ydata()[-1] == pytest.approx(of(recorded))
        assert best.get_ydata()[0] > best.get_ydata()[-1]


def test_trainings_are_drawn_at_what_they_came_to():
    loss, mean, median = figures.more_per_flop(LAPTOP).axes
    found = figures._trained_points(LAPTOP)
    best = errors.finished_record(LAPTOP, "best")
    (end,) = found[found["kind"] == "the long run, its end"].to_dict("records")
    assert [end[key] for key in ("loss", "mean", "median")] == [
        best.evaluations[-1][key] for key in errors.MEASURED
    ]
    # the first, and all but two controls
    assert found["kind"].value_counts()["trials of 240 steps"] == len(ARMS) - 1
    final = errors.finished_record(LAPTOP, "final").maes().values()
    assert found.set_index("kind").loc["final, on test", "median"] == np.median(list(final))
    for ax, what in ((loss, "loss"), (mean, "mean"), (median, "median")):
        drawn = sorted(ax.collections[0].get_offsets()[:, 1].compressed())
        assert drawn == pytest.approx(sorted(found[what].dropna()))


def test_every_forecaster_has_a_row_with_its_errors():
    error, _, flops = figures.yardstick_costs(LAPTOP).axes
    names = [label.get_text() for label in error.get_yticklabels()]
    assert sorted(names) == sorted(map(errors.short, numbers.yardstick_costs()))
    means, medians = error.lines
    assert list(means.get_xdata()) == sorted(means.get_xdata(), reverse=True)
    here = names.index("log-VAR(9)")
    assert (round(means.get_xdata()[here], 1), round(medians.get_xdata()[here], 1)) == (32.5, 8.5)
    at_least = next(line for line in flops.lines if line.get_label() == "at least")
    assert np.isfinite(at_least.get_xdata().astype(float)).sum() == 2


def test_each_world_has_the_errors_of_its_forecasters():
    table = errors.error_table({})
    for ax, of in zip(figures.changed_worlds(LAPTOP).axes, ("mean", "median"), strict=True):
        found = errors.by_world(table, of)
        assert {line.get_label() for line in ax.lines} > {
            "context mean",
            "log-VAR(9)",
            "LM best",
            "LM general",
        }
        for line in ax.lines:
            assert list(line.get_ydata()) == list(found.index) == list(WORLDS)
            # no logarithm of 0
            assert list(line.get_xdata()) == list(found[line.get_label()].clip(lower=0.1))


def test_worlds_hold_only_who_forecast_all_of_them():
    table = errors.error_table({})
    newcomer = table[table["who"] == "as trained"].assign(experiment="a newcomer")
    found = errors.by_world(pd.concat([table, newcomer]), "median")
    assert list(found.index) == list(WORLDS)
    for world in found.index:
        assert list(found) == [errors.short(name) for name in recorded_yardsticks(world)]
