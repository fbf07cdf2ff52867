"""The numbers of the README and of the book's front page are those of the records.

The README's programs run and print what stands below them. What is said of real tables there is
checked in `test_real_tables_page.py`.
"""

import re

import numpy as np
import pytest

from m2lib.files import ROOT, read_json
from m2lib.forecaster.adapters import GENERAL_FOLDER
from pages import execute, programs_of, rows_of_forecasts, sentences_of, text_of
from study import EXPERIMENTS, TUNED
from study.networks import network_errors
from study.paper.errors import by_world, error_table
from study.paper.pdf import REPORT_FOLDER
from study.paper.textbook import pictured_rows
from study.worlds import CHANGED

README = text_of("README.md")
SENTENCES = sentences_of("README.md")
FRONT_PAGE = sentences_of("book/index.md")
NUMBERS = read_json(REPORT_FOLDER / "numbers.json")
"""The numbers that `study.paper` makes of the records."""
ERRORS = NUMBERS["errors"]
COPYING = "nearest analogue in the context"
KNOWN_EQUATIONS = "the system, fitted"
STEPS_OF_THE_REPORT = EXPERIMENTS["final"].training.steps
STEPS_OF_THE_LONG_RUN = EXPERIMENTS["best"].training.steps


def test_the_table_has_the_errors_of_the_records():
    rounded = [
        ERRORS["ours"]["untuned-test-constrained"],
        ERRORS["published"]["untuned"],
        ERRORS["published"]["final"],
        ERRORS["report"]["untuned-test"],
        ERRORS["report"]["final"],
        ERRORS["test"][COPYING],
        ERRORS["test"][TUNED],
        ERRORS["ours"]["best"],
        ERRORS["ours"]["samples/best/test"],
        NUMBERS["networks"]["900"],
    ]
    expected = [[f"{errors['mean']:.0f}", f"{errors['median']:.0f}"] for errors in rounded]
    # Where the equations are known, the errors are so small that they have a decimal place.
    known = ERRORS["test"][KNOWN_EQUATIONS]
    expected.append([f"{known['mean']:.1f}", f"{known['median']:.1f}"])

    shown = []
    for row in rows_of_forecasts("README.md"):
        _, _, mean, median, _ = row.split("|")
        shown.append([mean.strip(" *"), median.strip(" *")])  # ours stands in bold type

    assert shown == expected


def test_the_table_tells_how_long_the_replication_was_trained():
    assert NUMBERS["replicated"]["report"]["final"]["steps"] == STEPS_OF_THE_REPORT
    label = f"the replication, after all of the report's {STEPS_OF_THE_REPORT:,} steps"
    assert label in "".join(rows_of_forecasts("README.md"))


def test_the_readme_begins_with_what_the_night_gained():
    untuned = ERRORS["ours"]["untuned-test-constrained"]["mean"]
    best = ERRORS["ours"]["best"]["mean"]
    assert f"takes the mean error of our model from {untuned:.0f} to {best:.0f}." in SENTENCES


def test_the_readme_says_what_a_small_network_reaches():
    single = [
        np.mean([*network_errors("residual", 900, "test", seed).values()]) for seed in range(3)
    ]
    assert {f"{mean:.0f}" for mean in single} == {"6"}
    assert "a small network that has never seen a word is at 6 after a minute" in SENTENCES
    together = NUMBERS["networks"]["900"]
    assert f"three of them together are at {together['mean']:.0f}." in SENTENCES
    assert 40 < together["seconds"] < 75


def test_the_readme_tells_which_forecast_the_reports_untuned_mean_hangs_on():
    untuned = ERRORS["published"]["untuned"]
    sentence = (
        f"has an error of {untuned['worst']:,.0f}. Without it the model's untuned mean is "
        f"{untuned['mean without it']:.0f} and not {untuned['mean']:.0f}."
    )
    assert sentence in SENTENCES


def test_the_readme_tells_what_the_replications_lead_over_copying_is_owed_to():
    lead = NUMBERS["gains"]["report final"][f"test {COPYING}"]
    share = f"for the most part ({lead['share of three']:.0%}) owed to three of the 50 series"
    assert f"lead of {lead['mean']:.0f} over copying the past is {share}." in SENTENCES


def test_the_readme_tells_how_many_series_the_long_run_learned_from():
    # A step of that run takes one fresh series.
    assert f"learned in that night from {STEPS_OF_THE_LONG_RUN:,} fresh series" in SENTENCES


def test_the_front_page_tells_what_the_night_gained():
    untuned = ERRORS["ours"]["untuned-test-constrained"]
    best = ERRORS["ours"]["best"]

    mean_falls = f"error falls from {untuned['mean']:.0f} to {best['mean']:.0f} scaled units"
    median_falls = f"its median from {untuned['median']:.0f} to {best['median']:.0f}"
    series = f"learned for a night, from {STEPS_OF_THE_LONG_RUN:,} fresh series"
    assert mean_falls in FRONT_PAGE
    assert median_falls in FRONT_PAGE
    assert series in FRONT_PAGE


def test_the_front_page_tells_what_others_score():
    copying = ERRORS["test"][COPYING]
    report = ERRORS["published"]["final"]
    regression = ERRORS["test"][TUNED]
    known = ERRORS["test"][KNOWN_EQUATIONS]

    copying_scores = (
        f"past scores {copying['mean']:.0f} in the mean and {copying['median']:.0f} in the median"
    )
    report_scores = f"after its training ({report['mean']:.0f} and {report['median']:.0f})"
    regression_scores = f"scores {regression['mean']:.0f} and {regression['median']:.0f}"
    assert copying_scores in FRONT_PAGE
    assert report_scores in FRONT_PAGE
    assert regression_scores in FRONT_PAGE
    assert f"made the series is off by {known['mean']:.1f}" in FRONT_PAGE


def test_the_front_page_tells_what_the_replication_gained():
    untuned = ERRORS["report"]["untuned-test"]["mean"]
    tuned = ERRORS["report"]["final"]["mean"]
    sentence = (
        f"from {untuned:.0f} to {tuned:.0f} after all of the report's {STEPS_OF_THE_REPORT:,} steps"
    )
    assert sentence in FRONT_PAGE


def test_the_readme_tells_in_how_many_worlds_an_adapter_is_behind_copying():
    errors = error_table({})
    assert len(CHANGED) == 7
    means = by_world(errors, "mean").loc[list(CHANGED)]
    medians = by_world(errors, "median").loc[list(CHANGED)]

    assert sum(means["LM best"] > means["analogue"]) == 5
    # Lecture 11 says the same of the final adapter, and of its medians.
    assert sum(means["LM final"] > means["analogue"]) == 5
    assert sum(medians["LM final"] > medians["analogue"]) == 5

    sentence = (
        "In five of seven worlds with other noise, equations or sampling rates its mean error is "
        "above that of copying the past (over 30 series each; in four of the five a 95% interval "
        "rules out a tie)"
    )
    assert sentence in SENTENCES


def test_the_picture_of_real_tables_says_what_its_bands_hold():
    held, counted = {}, {}
    for row in pictured_rows():
        deciles = np.array(row["deciles"])
        truth = np.array(row["truth"])
        inside = (deciles[0] <= truth) & (truth <= deciles[-1])
        held[row["source"]] = int(inside.sum())
        counted[row["source"]] = len(truth)

    prisons = f"{held.pop('prisons')} of {counted.pop('prisons')} true values"
    others = f"{sum(held.values())} of {sum(counted.values())}"
    sentence = f"On the prisons the band holds {prisons}, and on the other six kinds {others}."
    assert sentence in SENTENCES


TABLE_PROGRAM, SERIES_PROGRAM, *_ = programs_of(README)


@pytest.mark.parametrize("program", [TABLE_PROGRAM, SERIES_PROGRAM], ids=["table", "series"])
def test_a_program_has_ten_lines_at_most(program):
    assert len(program.splitlines()) <= 10


def forecast_and_truth(printed):
    """Return the two arrays that the program for a series prints, (3 steps, 2 variables) each."""
    numbers = re.findall(r"[\d.]+", printed)
    return np.array(numbers, dtype=float).reshape(2, 3, 2)


def test_the_program_for_a_series_prints_what_stands_below_it(monkeypatch, capsys):
    monkeypatch.delenv("M2_DATA", raising=False)

    execute(SERIES_PROGRAM, {})

    text, numbers = capsys.readouterr().out.split("\n", 1)
    assert text.count(";") == 20

    forecast, truth = forecast_and_truth(numbers)
    assert np.abs(forecast - truth).max() < 2  # the series goes up to 5.9

    below = re.search(r"```\n\d+,.*?\n(.*?)```", README, re.DOTALL)[1]
    printed_forecast, printed_truth = forecast_and_truth(below)
    assert (printed_truth == truth).all()
    # Another processor may round in another way.
    assert np.abs(printed_forecast - forecast).max() < 1


def cells(printed):
    """Return the words of each line of a printed table."""
    return [line.split() for line in printed.splitlines()]


def test_the_program_for_a_table_prints_the_rows_that_stand_below_it(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    # One sample and one step take seconds, and show as well that the program runs.
    quick = TABLE_PROGRAM.replace("prediction_length=10", "num_samples=1, prediction_length=1")
    names = {}

    execute(quick, names)

    assert names["forecaster"].adapter == GENERAL_FOLDER
    head, *rows = cells(capsys.readouterr().out)
    below = re.search(r"```\n( +item_id.*?)```", README, re.DOTALL)[1]
    printed_head, *printed_rows = cells(below)
    assert head == printed_head
    # The row's number depends on how many steps are forecast, and the quantiles on the samples.
    series_year_and_target = slice(1, 4)
    assert [row[series_year_and_target] for row in rows] == [
        row[series_year_and_target] for row in printed_rows
    ]
