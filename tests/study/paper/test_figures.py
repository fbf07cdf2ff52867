"""The figures, against the records that they are drawn from."""

import numpy as np
import pytest

from study import PROFILES, REPLICATION, published_maes, recorded_yardsticks
from study.paper import errors, figures, pdf

LAPTOP = PROFILES["laptop"]
WHOLE = REPLICATION["report"]


def line_labelled(ax, label):
    """Return the first of an axes' lines that has this label."""
    return next(line for line in ax.lines if line.get_label() == label)


def test_no_model_is_loaded_for_a_figure(monkeypatch, tmp_path):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    for name in ("fig3_encoding", "fig5_baseline_errors", "table3_budget"):
        pdf.show(name)
        assert (tmp_path / "figures" / f"{name}.png").is_file()


def test_a_figure_of_the_report_is_drawn_from_the_laptops_records():
    figure = figures.fig4_baseline_forecasts(LAPTOP)
    assert figure.get_suptitle() == "smollm2-135m"
    assert [ax.get_title() for ax in figure.axes] == [
        "series 94: MAE 485",
        "series 99: MAE 108",
        "series 141: MAE 322",
    ]


def test_a_figure_of_the_replication_has_the_reports_errors_beside_its_own():
    figure = figures.fig4_baseline_forecasts(WHOLE)

    ours = errors.finished_record(WHOLE, "baseline").maes()
    theirs = published_maes("baseline")
    titles = []
    for series in (94, 99, 141):
        titles.append(
            f"series {series}: MAE {ours[series]:.0f}\nthe report's: {theirs[series]:.0f}"
        )
    assert figure.get_suptitle() == "qwen2.5-coder-0.5b"
    assert [ax.get_title() for ax in figure.axes] == titles


def test_what_is_compared_are_the_same_series():
    ours, report = figures.context_lengths(WHOLE).axes
    *series, means, medians = report.lines

    assert [label.get_text() for label in ours.get_yticklabels()] == [
        "128 tokens",
        "512 tokens",
        "768 tokens",
    ]
    # The report has asked the adapter of 768 tokens about 20 series, and the others about five.
    assert len(series) == 5
    assert means.get_xdata() == pytest.approx([2203.9, 363.7, 273.3], abs=0.06)
    assert medians.get_xdata() == pytest.approx([359.9, 224.8, 231.3], abs=0.06)


def test_a_row_of_the_budget_begins_where_the_last_one_ended():
    # What is spent at the end, in percent, by each of the conventions.
    totals = (135, 99.9, 84.8)
    for ax, total in zip(figures.table3_budget(LAPTOP).axes, totals, strict=True):
        training, forecasts = ax.containers
        ends = [bar.get_x() + bar.get_width() for bar in forecasts]

        assert [bar.get_x() for bar in training] == pytest.approx([0, *ends[:-1]])
        assert ends[-1] == pytest.approx(total, rel=0.005)
        assert ax.get_title().endswith(f": {ends[-1]:.1f}%")


def test_network_and_language_model_are_drawn_at_their_mean_errors_over_seeds(printed_numbers):
    for ax, split in zip(figures.rival(LAPTOP).axes, ("validation", "test"), strict=True):
        network = next(line for line in ax.lines if line.get_marker() == "o")
        assert list(network.get_xdata()) == [3, 10, 30, 100, 300, 900, 5152]
        for count, mean in zip(network.get_xdata(), network.get_ydata(), strict=True):
            single = printed_numbers["networks"][str(int(count))]["single"][split]
            assert mean == pytest.approx(np.mean(single))

        language = next(line for line in ax.lines if line.get_marker() == "D")
        recorded = recorded_yardsticks(split)["the language model, best adapter"]
        assert language.get_ydata()[-1] == pytest.approx(np.mean([*recorded.values()]))
