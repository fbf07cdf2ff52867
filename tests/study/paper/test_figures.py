"""The figures, against the records that they are drawn from."""

import numpy as np
import pandas as pd
import pytest

from study import ARMS, PROFILES, REPLICATION, published_maes, recorded_yardsticks
from study.paper import errors, figures, numbers, pdf, samples
from study.worlds import WORLDS

LAPTOP = PROFILES["laptop"]
WHOLE = REPLICATION["report"]


def line_labelled(ax, label):
    """Return the first of an axes' lines that has this label."""
    return next(line for line in ax.lines if line.get_label() == label)


def test_no_model_is_loaded_for_a_figure(monkeypatch, tmp_path):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    for name in ("fig1_architecture", "fig5_baseline_errors", "table3_budget"):
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


def test_the_curve_of_the_surest_ends_at_the_error_of_all(sampled_on_test):
    *_, means, medians = figures.trust(LAPTOP).axes

    # A forecaster has two lines: by its spread, and dashed, as if it knew its errors in advance.
    for who, place in ((sampled_on_test.shown, 0), (samples.LOG_VAR, 2)):
        maes = sampled_on_test.by_series(samples.median_mae, who)
        for ax, error_of_all in ((means, maes.mean()), (medians, maes.median())):
            by_spread = ax.lines[place].get_ydata()
            dashed = ax.lines[place + 1].get_ydata()
            assert by_spread[-1] == pytest.approx(error_of_all)
            assert dashed[-1] == pytest.approx(error_of_all)
            assert dashed[0] == maes.min()


def test_ranks_and_bands_are_shares(sampled_on_test):
    bands, *histograms = figures.reliability(LAPTOP).axes

    for ax in histograms:
        assert sum(bar.get_height() for bar in ax.patches) == pytest.approx(1)

    best = line_labelled(bands, "best")
    levels = np.round(best.get_xdata(), 2)
    (held_at_80,) = best.get_ydata()[levels == 0.8]
    assert held_at_80 == pytest.approx(sampled_on_test.held("best")[0.8])


def test_the_median_of_all_samples_is_that_of_the_record():
    recorded = list(errors.finished_record(LAPTOP, "samples/best/test").maes().values())

    axes = figures.sample_counts(LAPTOP).axes

    for ax, statistic in zip(axes, (np.mean, np.median), strict=True):
        by_count = line_labelled(ax, "best, median of samples").get_ydata()
        assert by_count[-1] == pytest.approx(statistic(recorded))
        assert by_count[0] > by_count[-1]


@pytest.fixture(scope="module")
def trained_points():
    """Return what trainings came to, as `more_per_flop` draws it."""
    return figures._trained_points(LAPTOP)


def test_the_long_run_ends_at_its_last_evaluation(trained_points):
    (end,) = trained_points[trained_points["kind"] == "the long run, its end"].to_dict("records")

    recorded = errors.finished_record(LAPTOP, "best").evaluations[-1]
    assert end["loss"] == recorded["loss"]
    assert end["mean"] == recorded["mae_mean"]
    assert end["median"] == recorded["mae_median"]


def test_trials_are_the_first_and_its_arms_but_for_two_controls(trained_points):
    assert trained_points["kind"].value_counts()["trials of 240 steps"] == 1 + len(ARMS) - 2


def test_the_final_run_is_drawn_at_its_errors_on_test(trained_points):
    maes = errors.finished_record(LAPTOP, "final").maes()
    by_kind = trained_points.set_index("kind")
    assert by_kind.loc["final, on test", "median"] == np.median(list(maes.values()))


def test_trainings_are_drawn_at_what_they_came_to(trained_points):
    axes = figures.more_per_flop(LAPTOP).axes
    for ax, measure in zip(axes, ("loss", "mean", "median"), strict=True):
        heights = ax.collections[0].get_offsets()[:, 1].compressed()
        expected = trained_points[measure].dropna()
        assert sorted(heights) == pytest.approx(sorted(expected))


def test_every_forecaster_has_a_row_with_its_errors():
    error, _, flops = figures.yardstick_costs(LAPTOP).axes
    names = [label.get_text() for label in error.get_yticklabels()]
    means, medians = error.lines

    assert sorted(names) == sorted(map(errors.short, numbers.yardstick_costs()))
    assert list(means.get_xdata()) == sorted(means.get_xdata(), reverse=True)

    row = names.index("log-VAR(9)")  # 32.5 and 8.5, as in the first table of book/results.md
    assert round(means.get_xdata()[row], 1) == 32.5
    assert round(medians.get_xdata()[row], 1) == 8.5

    lower_bounds = line_labelled(flops, "at least").get_xdata().astype(float)
    assert np.isfinite(lower_bounds).sum() == 2


def test_each_world_has_the_errors_of_its_forecasters():
    table = errors.error_table({})

    axes = figures.changed_worlds(LAPTOP).axes

    for ax, statistic in zip(axes, ("mean", "median"), strict=True):
        names = {line.get_label() for line in ax.lines}
        assert names > {"context mean", "log-VAR(9)", "LM best", "LM general"}

        by_world = errors.by_world(table, statistic)
        for line in ax.lines:
            maes = by_world[line.get_label()].clip(lower=0.1)  # there is no logarithm of 0
            assert list(line.get_ydata()) == list(by_world.index) == list(WORLDS)
            assert list(line.get_xdata()) == list(maes)


def test_worlds_hold_only_who_forecast_all_of_them():
    table = errors.error_table({})
    newcomer = table[table["who"] == "as trained"].assign(experiment="a newcomer")

    by_world = errors.by_world(pd.concat([table, newcomer]), "median")

    assert list(by_world.index) == list(WORLDS)
    for world in WORLDS:
        assert list(by_world) == [errors.short(name) for name in recorded_yardsticks(world)]
