"""The drawings of lectures and paper: each shows what its config, codec or accountant says."""

import numpy as np
import pytest
from matplotlib.colors import same_color

from m2lib.accounting import COMPONENTS, Shape, forward_flops
from m2lib.model import backbone_config
from m2lib.series import draw_systems, split_ids
from m2lib.series.equations import predator_prey
from study.paper import drawings
from study.plots import COLOURS

TINY = Shape.of(backbone_config("tiny"))


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def arrows_on(ax):
    """Return the arrows of a drawing, which matplotlib holds as texts without words."""
    return [text for text in ax.texts if not text.get_text()]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        (
            "qwen2.5-0.5b",
            (
                "24 × transformer block",
                "embedding\n13 × 896",
                "896 → 14·64\n+ bias",
                "896 → 2·64",
                "896 → 4864",
            ),
        ),
        ("smollm2-135m", ("30 × transformer block", "576 → 9·64")),
    ],
)
def test_architecture_shows_its_shapes(name, parts):
    figure = drawings.architecture(Shape.of(backbone_config(name)), name)

    shown = "\n".join(texts(figure))
    for part in parts:
        assert part in shown


def test_an_arrow_comes_from_the_box_below_in_its_column_or_from_all(ax):
    # From the bottom up. `None` leaves a box out, and the arrow goes through.
    rows = [["a"], ["b", "c"], ["d", None], ["e"]]

    drawings.model._flow(ax, "", rows)

    name_at = {text.get_position(): text.get_text() for text in ax.texts if text.get_text()}
    drawn = {name_at[arrow.xyann] + name_at[arrow.xy] for arrow in arrows_on(ax)}
    assert drawn == {"ab", "ac", "bd", "de", "ce"}


def test_an_arrow_leads_to_each_character_that_has_weight(ax):
    drawings.looks_back(ax, "7;7,7", [0.2, 0.5, 0.0, 0.1, 0.2])

    arrows = arrows_on(ax)
    widths = np.array([arrow.arrow_patch.get_linewidth() for arrow in arrows])
    assert [round(arrow.xy[0]) for arrow in arrows] == [0, 1, 3]
    assert np.allclose(widths / widths[1], [0.4, 1, 0.2])


@pytest.mark.parametrize(("period", "said"), [(2, ["period: 2 steps"]), (None, [])])
def test_an_autocorrelation_has_a_mark_if_there_is_a_period(ax, period, said):
    drawings.autocorrelation(ax, np.array([1, -0.5, 0.8]), period)

    assert [text.get_text() for text in ax.texts] == said


def test_what_comes_later_is_grey_and_unmarked(ax):
    weights = np.array([0.1, 0.6, 0.3, 0.0, 0.0])

    drawings.marked_text(ax, "95,43", weights, looking=2, per_line=3)

    colours = [text.get_color() for text in ax.texts]
    assert colours == ["black", "white", "black", "0.7", "0.7"]

    *marked, frame = ax.patches
    darkness = [1 - np.mean(patch.get_facecolor()[:3]) for patch in marked]
    assert np.argsort(darkness).tolist() == [0, 2, 1]
    assert frame.get_x() == 1.5  # around the third character


def test_a_marked_text_goes_on_in_the_next_line(ax):
    drawings.marked_text(ax, "95,43", np.zeros(5), looking=2, per_line=3)
    assert [text.get_position() for text in ax.texts[2:4]] == [(2, 0), (0, -1)]


def test_lora_layer_counts_its_parameters():
    title = drawings.lora_layer(896, rank=2).axes[0].get_title()
    assert title == "A LoRA layer: 3,584 trained parameters beside 802,816 frozen ones"


def test_the_nullclines_cross_where_nothing_changes(ax, data):
    system = draw_systems(1000, seed=0)[94]

    drawings.phase_plane(ax, system, data.trajectories[94])

    lines = {line.get_label(): line.get_data() for line in ax.lines}
    parabola = lines["prey neither grow nor shrink"]
    prey_at_rest = lines["predators neither grow nor shrink"][0][0]
    predators_at_rest = np.interp(prey_at_rest, *parabola)
    at_rest = np.array([prey_at_rest, predators_at_rest])
    assert np.allclose(predator_prey(0, at_rest, *system[:6]), 0, atol=1e-5)

    _, top = lines["top of the parabola"]
    assert np.isclose(top[0], parabola[1].max(), rtol=1e-3)


def test_a_split_is_drawn_with_its_number_of_series():
    shown = texts(drawings.splits(split_ids()))
    assert [text for text in shown if "50 series" in text] == [
        "validation split\n50 series",
        "test split\n50 series",
    ]


def test_nothing_comes_back_from_the_test_series():
    figure = drawings.splits(split_ids())

    # The splits stand at 0 (training), 1 (validation) and 2 (test).
    between_splits = []
    for arrow in arrows_on(figure.axes[0]):
        start, start_height = arrow.xyann
        end, end_height = arrow.xy
        if start_height == end_height:
            between_splits.append((round(start), round(end)))
    assert sorted(between_splits) == [(0, 1), (1, 0), (1, 2)]


def test_encoding_shows_every_token(data):
    first, second = drawings.encoding(data, (1, 2)).axes

    cells = {cell.get_text().get_text() for cell in first.tables[0].get_celld().values()}
    assert {"337", "3.37"} <= cells
    # Each text with its ids in Qwen's vocabulary and in the reduced one.
    assert {"3 3 7 ,", "18 18 22 11", "4 4 8 11"} <= cells
    assert {"3 4 8 ;", "18 19 23 26", "4 5 9 12"} <= cells
    assert second.get_title(loc="left").startswith("series 2")


def test_a_drawn_block_has_the_products_that_the_accountant_counts():
    shape = Shape(layers=1, width=4, heads=2, kv_heads=2, mlp=6)
    tokens = 3

    drawn = 0
    for ax in drawings.block_products(shape, tokens).axes:
        # A title ends in "(3 × 4)(4 × 4): 84 FLOPs", or where there are two heads in
        # "(3 × 2)(2 × 3): 2 × 27 FLOPs".
        _, flops = ax.get_title(loc="left").split(": ")
        factors = flops.removesuffix(" FLOPs").split(" × ")
        drawn += np.prod([int(factor) for factor in factors])

    counted = forward_flops(shape, tokens)
    products = sum(counted[part] for part in ("qkv", "scores", "values", "output", "mlp"))
    # The accountant also counts operations which are no products.
    dividing_scores = shape.heads * tokens * tokens
    between_products_of_mlp = 14 * tokens * shape.mlp  # SiLU takes 13, and gate times up 1
    assert drawn == products - dividing_scores - between_products_of_mlp


def test_as_many_arrows_are_red_as_the_title_says_products():
    for ax in drawings.gradient_flow().axes:
        arrows = [text.arrow_patch for text in ax.texts if getattr(text, "arrow_patch", None)]
        red = [arrow for arrow in arrows if same_color(arrow.get_edgecolor(), COLOURS["error"])]
        assert f"{len(red)} products" in ax.get_title()


def test_groups_of_components_leave_none_out():
    grouped = [component for group in drawings.PARTS.values() for component in group]
    assert sorted(grouped) == sorted(COMPONENTS)


def test_shares_of_flops_fill_the_bar():
    cost = forward_flops(TINY, 16, rank=2)
    ax = drawings.flop_shares({"a text": cost}).axes[0]
    widths = [bar.get_width() for bars in ax.containers for bar in bars]
    assert np.isclose(sum(widths), 1)


def test_the_areas_of_flops_per_token_reach_up_to_the_whole_cost():
    lengths = (16, 32)

    figure = drawings.flops_per_token({"toy": TINY, "again": TINY}, lengths, rank=2)

    topmost_area = figure.axes[0].collections[-1]
    heights = topmost_area.get_paths()[0].vertices[:, 1]
    per_token = [sum(forward_flops(TINY, n, rank=2).values()) / n for n in lengths]
    assert np.isclose(heights.max(), max(per_token))


def test_a_ladder_has_its_rungs_where_the_costs_are():
    ax = drawings.cost_ladder({"a": 10, "b": 1e6}).axes[0]
    assert ax.lines[0].get_xdata().tolist() == [10, 1e6]
    assert [text.get_text() for text in ax.texts] == ["10", "1e+06"]
