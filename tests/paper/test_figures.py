"""The figures, against the records that they are drawn from."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest

from m2lib.files import InputError
from m2lib.model import backbone_config
from m2lib.paper import drawings, errors, figures, numbers, pdf
from m2lib.study import PROFILES, recorded_yardsticks

LAPTOP = PROFILES["laptop"]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def test_a_figure_is_named_and_needs_its_records(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no figure 'fig0'; it has best_forecasts,"):
        pdf.draw("fig0")
    monkeypatch.setenv("M2_PROFILE", "report")
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    with pytest.raises(InputError, match=r"no record .*final\.json; `M2_PROFILE=report m2 run final` makes it"):
        pdf.draw("final_learning")


def test_no_model_is_loaded_for_a_figure(monkeypatch, tmp_path):
    from m2lib.model import backbones

    monkeypatch.setenv("M2_OUT", str(tmp_path))
    monkeypatch.setattr(backbones, "load_backbone", None)
    for name in ("fig1_architecture", "fig5_baseline_errors", "table3_budget"):
        pdf.show(name)
        assert (tmp_path / "figures" / f"{name}.png").is_file()


def test_architecture_shows_the_shapes_of_its_config():
    figure = drawings.architecture(backbone_config("qwen2.5-0.5b"), 13, "Qwen")
    shown = "\n".join(texts(figure))
    assert len(figure.axes) == 3
    parts = (
        "24 × transformer block",
        "embedding\n13 × 896",
        "896 → 14·64\n+ bias",
        "896 → 2·64",
        "896 → 4864",
        "896 → 13",
    )
    assert [part for part in parts if part not in shown] == []
    assert "30 × transformer block" in "\n".join(texts(drawings.architecture(backbone_config("smollm2-135m"), 13, "S")))


def test_an_arrow_comes_from_the_box_below_in_its_column_or_from_all():
    ax = plt.subplots()[1]
    drawings._flow(ax, "", [["a"], ["b", "c"], ["d", None], ["e"]])
    places = {text.get_text(): text.get_position() for text in ax.texts if text.get_text()}
    names = {place: name for name, place in places.items()}
    arrows = {names[arrow.xyann] + names[arrow.xy] for arrow in ax.texts if not arrow.get_text()}
    assert arrows == {"ab", "ac", "bd", "de", "ce"}


def test_lora_layer_counts_its_parameters():
    figure = drawings.lora_layer(896, 128, rank=2, alpha=4)
    assert figure.axes[0].get_title() == "A LoRA layer: 2,048 trained parameters beside 114,688 frozen ones"
    assert "× α/r = 2" in texts(figure)


def test_encoding_shows_every_token(data):
    figure = drawings.encoding(data.trajectories[1, :2], data.scales[1], "series 1")
    cells = {cell.get_text().get_text() for cell in figure.axes[0].tables[0].get_celld().values()}
    assert {"337", "3.37", "3 3 7 ,", "4 4 8 11", "3 4 8 ;", "4 5 9 12"} <= cells


def test_bars_of_the_budget_end_at_their_totals():
    (ax,) = figures.table3_budget(LAPTOP).axes
    ends = {}
    for bar in ax.patches:
        ends[bar.get_y()] = max(ends.get(bar.get_y(), 0), bar.get_x() + bar.get_width())
    said = [float(label.get_text().split("\n")[1]) for label in ax.get_yticklabels()]
    assert [ends[y] for y in sorted(ends)] == pytest.approx(said, rel=0.005)


def test_the_curve_of_the_surest_ends_at_the_mean_of_all():
    *_, kept = figures.trust(LAPTOP).axes
    found = errors.sampled(LAPTOP)
    for who, lines in ((found.shown, kept.lines[:2]), (errors.LOG_VAR, kept.lines[2:])):
        maes = found.by_series(errors.median_mae, who)
        assert [line.get_ydata()[-1] for line in lines] == pytest.approx([maes.mean()] * 2)
        assert lines[1].get_ydata()[0] == maes.min()  # the dashed one knows the errors in advance


def test_ranks_and_bands_are_shares():
    bands, *histograms = figures.reliability(LAPTOP).axes
    for ax in histograms:
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)
    ours = next(line for line in bands.lines if line.get_label() == "best")
    found = errors.sampled(LAPTOP).held("best")
    assert ours.get_ydata()[list(np.round(ours.get_xdata(), 2)).index(0.8)] == pytest.approx(found[0.8])


def test_the_median_of_all_samples_is_that_of_the_record():
    (ax,) = figures.sample_counts(LAPTOP).axes
    best = next(line for line in ax.lines if line.get_label() == "best, median")
    recorded = errors.finished_record(LAPTOP, "samples/best/test").maes().values()
    assert best.get_ydata()[-1] == pytest.approx(np.mean(list(recorded)))
    assert best.get_ydata()[0] > best.get_ydata()[-1]


def test_the_long_run_is_drawn_from_its_milestones():
    loss, mae = figures.more_per_flop(LAPTOP).axes
    found = errors.milestones(errors.finished_record(LAPTOP, "best"))
    hollow = [line for line in mae.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_ydata().tolist() for line in hollow] == [
        found[of][:-1].tolist() for of in ("mae_mean", "mae_median")
    ]
    assert {"mean", "analogue", "log-VAR(9)"} <= {text.get_text() for text in mae.texts}
    assert "shuffled weights" in {text.get_text() for text in loss.texts}


def test_every_forecaster_is_named_at_its_errors():
    for ax in figures.yardstick_costs(LAPTOP).axes:
        assert {text.get_text() for text in ax.texts} == {
            errors.short(name) for name in numbers.yardstick_costs(runs())
        }


def test_each_world_has_the_mean_errors_of_its_forecasters():
    ax, found = figures.changed_worlds(LAPTOP).axes[0], numbers.worlds(runs())
    shown = {line.get_label(): list(zip(line.get_ydata(), line.get_xdata(), strict=True)) for line in ax.lines}
    assert {"mean", "log-VAR(9)", "LM best"} <= shown.keys()
    for name in found["as trained"]:
        if errors.short(name) in shown:
            assert shown[errors.short(name)] == [(world, row[name]["mean"]) for world, row in found.items()]


def runs():
    return errors.runs(errors.error_table({}))


def test_worlds_hold_only_who_forecast_all_of_them():
    found = runs() | {("as trained", "a newcomer"): next(iter(runs().values()))}
    for world, rows in numbers.worlds(found).items():
        assert list(rows) == list(recorded_yardsticks(world))
