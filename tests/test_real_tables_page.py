"""What the README and the book say of `general` on real tables is what the records have.

Most of it stands on the book's page on real tables.
"""

import numpy as np
import pytest

from benchmarks import candidates, hours, trials
from benchmarks.forecasters import UNTUNED
from benchmarks.textbook import ENSEMBLE, ENSEMBLED
from m2lib.files import read_json
from m2lib.forecaster.adapters import GENERAL
from pages import sentences_of, text_of
from study.paper.errors import (
    REFERENCE,
    geometric_mean,
    relative_errors,
    table_errors,
    table_summary,
)
from study.paper.textbook import (
    FIRST_READING,
    LAST_SEASON,
    SECOND_READING,
    by_source,
    compared,
    errors_by_series,
    held,
    judged_rows,
    ratios,
)
from study.settings import results_dir

README = sentences_of("README.md")
RESULTS = sentences_of("book/results.md")
PAGE = sentences_of("book/real_tables.md")

JUDGED = judged_rows()
"""A row for each source that judges and each forecaster, with the errors of all its forecasts."""
ERRORS = errors_by_series(JUDGED)
LOSSES = errors_by_series(JUDGED, "loss")
LAST_VALUE = "last value"
CALLED = {
    GENERAL: "`general`",
    LAST_SEASON: "the last season",
    LAST_VALUE: "the last value",
    UNTUNED: "the untuned model",
    ENSEMBLE: "the median of AutoETS, AutoTheta and AutoARIMA",
}
"""What the page calls a forecaster; it has all others by their own names."""


def recorded(file):
    """Return the rows of a recorded benchmark."""
    return read_json(results_dir() / file)["rows"]


def over_series(errors, first, second):
    """Return the ratio of two forecasters' errors, where each series counts once."""
    return compared(errors, first, second).over_series


def in_words(ratio):
    """Return how the pages write a ratio and its interval."""
    return f"{ratio.ratio:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"


def relative_to_last_season(errors):
    """Return the geometric mean of each forecaster's errors in units of the last season's."""
    return geometric_mean(errors.div(errors[LAST_SEASON], axis=0))


# The series of a textbook, in the README and on the page of results.


@pytest.mark.parametrize("name", ERRORS.columns)
def test_the_readme_has_a_row_for_each_forecaster(name):
    error = f"{relative_to_last_season(ERRORS)[name]:.2f}"
    if name == GENERAL:
        to_last_season = over_series(ERRORS, GENERAL, LAST_SEASON)
        interval = f"95% interval {to_last_season.low:.2f} to {to_last_season.high:.2f}"
        assert f"| **`general`** | **{error}** ({interval}) |" in README
    elif name == LAST_SEASON:
        assert "| the last season | 1 |" in README
    else:
        called = CALLED.get(name, name).replace(
            "untuned model", "untuned model, before any training"
        )
        assert f"| {called} | {error} |" in README


@pytest.mark.parametrize("name", [*ENSEMBLED, ENSEMBLE, GENERAL, UNTUNED])
@pytest.mark.parametrize("page", ["README.md", "book/real_tables.md"])
def test_the_seconds_of_a_forecast_are_those_of_the_record(page, name):
    rows = [row for row in JUDGED if row["forecaster"] == name]
    forecasts = sum(len(row["mase"]) for row in rows)
    seconds = sum(row["seconds"] for row in rows) / forecasts

    called = CALLED.get(name, name)
    lines = text_of(page).replace("**", "").splitlines()
    rows_of_it = [line for line in lines if line.startswith(f"| {called}")]
    assert any(row.endswith(f"| {seconds:.2g} |") for row in rows_of_it)


def test_the_readme_tells_how_far_general_is_behind_the_median_of_three_methods():
    to_median = in_words(over_series(ERRORS, GENERAL, ENSEMBLE))
    sentence = (
        f"On {len(ERRORS)} real series the error of `general` is {to_median} times that of this "
        "median."
    )
    assert sentence in README


def test_results_has_the_errors_on_the_textbooks_series():
    error = f"{relative_to_last_season(ERRORS)[GENERAL]:.2f}"
    to_last_season = over_series(ERRORS, GENERAL, LAST_SEASON)

    assert f"{len(ERRORS)} series of seven" in RESULTS
    assert f" is {error} of the error of repeating the last season" in RESULTS
    assert f"{to_last_season.low:.2f} to {to_last_season.high:.2f})" in RESULTS


@pytest.mark.parametrize("page", [README, RESULTS], ids=["README.md", "results.md"])
def test_who_is_surely_ahead_on_the_textbooks_series_and_who_behind(page):
    behind_general = []
    ahead_of_general = []
    for name in ERRORS.columns.drop(GENERAL):
        ratio = over_series(ERRORS, GENERAL, name)
        if ratio.high < 1:
            behind_general.append(name)
        if ratio.low > 1:
            ahead_of_general.append(name)

    assert behind_general == [LAST_VALUE, LAST_SEASON, UNTUNED]
    assert ahead_of_general == [ENSEMBLE]
    sentence = (
        "surely ahead of the last value, the last season and the untuned model, and surely behind "
        "the median of AutoETS, AutoTheta and AutoARIMA"
    )
    assert sentence in page


def test_the_readme_tells_what_the_bands_hold():
    prisons = [row for row in JUDGED if row["source"] == "prisons"]
    sentence = (
        f"80% bands hold {held(JUDGED, GENERAL):.0%} of the true values, "
        f"on the prisons they hold {held(prisons, GENERAL):.0%}."
    )
    assert sentence in README


# The series that judge, on the page of their own.


@pytest.mark.parametrize("name", ERRORS.columns)
def test_the_page_has_a_row_for_each_forecaster(name):
    error = relative_to_last_season(ERRORS)[name]
    loss = relative_to_last_season(LOSSES)[name]
    if name == GENERAL:
        beside_general = " | |"  # two empty cells
    else:
        comparison = compared(ERRORS, GENERAL, name)
        better_on = f"{comparison.better} of {comparison.count}"
        beside_general = f" {in_words(comparison.over_series)} | {better_on} |"

    row = f"| {CALLED.get(name, name)} | {error:.2f} |{beside_general}"
    row += f" {loss:.2f} | {held(JUDGED, name):.0%} |"
    assert row in PAGE


def test_the_page_begins_with_the_two_ratios_that_decide():
    to_last_season = in_words(over_series(ERRORS, GENERAL, LAST_SEASON))
    to_median = in_words(over_series(ERRORS, GENERAL, ENSEMBLE))
    sentence = (
        f"On {len(ERRORS)} series of seven sources the error of `general` is {to_last_season} "
        f"times that of repeating the last season, and {to_median} times that of the median of "
        "AutoETS, AutoTheta and AutoARIMA"
    )
    assert sentence in PAGE


@pytest.mark.parametrize("name", [*ENSEMBLED, ENSEMBLE, LAST_VALUE])
def test_the_page_has_the_losses_and_what_is_left_without_the_prescriptions(name):
    without = [errors.drop("prescriptions") for errors in (ERRORS, LOSSES)]
    ratios = [over_series(errors, GENERAL, name) for errors in (LOSSES, *without)]
    cells = " | ".join(in_words(ratio) for ratio in ratios)
    assert f"| {CALLED.get(name, name)} | {cells} |" in PAGE


def test_two_pages_tell_how_much_lower_the_error_of_the_median_of_three_methods_is():
    lower_by = 1 - over_series(ERRORS, ENSEMBLE, GENERAL).ratio
    assert round(lower_by, 1) == 0.1
    assert "its error was a tenth lower." in sentences_of("book/tables.md")
    assert "its error is surely lower than that of `general`, by a tenth." in PAGE


def test_the_page_tells_what_one_source_decides():
    without = ERRORS.drop("prescriptions")
    to_last_value = over_series(without, GENERAL, LAST_VALUE)
    assert to_last_value.low < 1 < to_last_value.high
    assert over_series(without, GENERAL, "AutoETS").low > 1
    assert over_series(without, GENERAL, "AutoARIMA").low > 1
    sentence = (
        "Without them `general` is no longer surely ahead of the last value. And it is surely "
        "behind two more methods, AutoETS and AutoARIMA"
    )
    assert sentence in PAGE


def test_the_verdict_on_autoets_hangs_on_three_series():
    assert over_series(ERRORS, GENERAL, "AutoETS").low < 1
    ratio = over_series(ERRORS.drop("air"), GENERAL, "AutoETS")
    assert len(ERRORS.loc["air"]) == 3
    assert ratio.low > 1
    assert f"`general` has {in_words(ratio)} times the error of AutoETS, and this interval" in PAGE


def test_the_page_has_a_row_for_each_source():
    forecasters = (GENERAL, "AutoETS", "AutoTheta", "AutoARIMA", ENSEMBLE, UNTUNED, LAST_VALUE)
    for source, line in by_source(JUDGED, LAST_SEASON).iterrows():
        errors = " | ".join(f"{line[name]:.2f}" for name in forecasters)
        own_rows = [row for row in JUDGED if row["source"] == source]
        share = held(own_rows, GENERAL)
        assert f"| {source} | {line['series']:.0f} | {errors} | {share:.0%} |" in PAGE


@pytest.mark.parametrize("name", [UNTUNED, LAST_SEASON, ENSEMBLE])
def test_the_page_tells_the_ratios_if_each_source_counts_once(name):
    ratio = compared(ERRORS, GENERAL, name).over_sources
    words = f"{CALLED[name]} ({ratio.ratio:.2f}, {ratio.low:.2f} to {ratio.high:.2f})"
    assert words in PAGE


@pytest.mark.parametrize(
    ("name", "beginning"),
    [
        (GENERAL, "its error is"),
        ("AutoETS", "That of AutoETS is"),
        (ENSEMBLE, "that of the median"),
    ],
)
def test_the_page_has_the_better_of_two_repetitions_on_each_source(name, beginning):
    repetitions = ERRORS[[LAST_VALUE, LAST_SEASON]]
    # The mean of a source's series, in the place of each of them.
    means = np.exp(np.log(repetitions).groupby("source").transform("mean"))
    last_value_is_better = means[LAST_VALUE] < means[LAST_SEASON]
    better = repetitions[LAST_VALUE].where(last_value_is_better, repetitions[LAST_SEASON])

    ratio = over_series(ERRORS[[name]].assign(better=better), name, "better")
    assert f"{beginning} {in_words(ratio)}" in PAGE


@pytest.mark.parametrize(
    ("file", "error_then", "change_since"),
    [
        pytest.param(
            FIRST_READING,
            "Their mean had {ratio:.2f} times the error of the last season "
            "({low:.2f} to {high:.2f})",
            "{ratio:.2f} times that of the first reading's adapter ({low:.2f} to {high:.2f};",
            id="first reading",
        ),
        pytest.param(
            SECOND_READING,
            "general-shown and general-again: {ratio:.2f} times ({low:.2f} to {high:.2f})",
            "{ratio:.2f} times that of the second's ({low:.2f} to {high:.2f})",
            id="second reading",
        ),
    ],
)
def test_the_page_has_the_earlier_readings(file, error_then, change_since):
    # A reading kept the rows of the adapter of its time, which was called `general` as well.
    earlier = recorded(file)
    last_season = [row for row in JUDGED if row["forecaster"] == LAST_SEASON]
    now = [row | {"forecaster": "now"} for row in JUDGED if row["forecaster"] == GENERAL]

    ratio = over_series(errors_by_series([*earlier, *last_season]), GENERAL, LAST_SEASON)
    assert error_then.format(**vars(ratio)) in PAGE

    ratio = over_series(errors_by_series([*earlier, *now]), "now", GENERAL)
    assert change_since.format(**vars(ratio)) in PAGE


# What was chosen with the help of other series.


def test_the_page_has_the_trial_that_was_chosen():
    errors = errors_by_series(recorded(trials.TRIAL_RECORD))
    ratio = over_series(errors, trials.CHOSEN, trials.ONE_VIEW)
    row = f"| **the three of these** | {ratio.ratio:.2f} | {ratio.low:.2f} to {ratio.high:.2f} |"
    assert row in PAGE


@pytest.fixture(scope="module")
def tables_and_pairs():
    """Return the candidates' rows on tables, and those on prey and predators."""
    return candidates.parted(recorded(candidates.RECORD))


def test_the_page_has_the_first_four_candidates(tables_and_pairs):
    rows, _ = tables_and_pairs
    errors = errors_by_series(rows)
    first_four = list(candidates.CANDIDATES)[:4]  # what there was when the first one was chosen
    for name in first_four:
        if name == candidates.BEFORE:
            beside_before = "1 | | |"
        else:
            comparison = compared(errors, name, candidates.BEFORE)
            beside_before = (
                f"{in_words(comparison.over_series)} | {in_words(comparison.over_sources)} | "
                f"{comparison.better} of {comparison.count} |"
            )
        assert f"| {name} | {beside_before} {held(rows, name):.0%} |" in PAGE


def test_the_page_has_all_candidates_on_tables_and_on_prey_and_predators(tables_and_pairs):
    tables, pairs = tables_and_pairs
    on_tables = errors_by_series(tables)
    on_pairs = errors_by_series(pairs)
    for name in candidates.CANDIDATES:
        if name == candidates.SECOND:
            continue  # all others are measured by it
        label = f"**{name}**" if name == candidates.CHOSEN else name
        by_tables = in_words(over_series(on_tables, name, candidates.SECOND))
        by_pairs = in_words(over_series(on_pairs, name, candidates.SECOND))
        assert f"| {label} | {by_tables} | {by_pairs} |" in PAGE


# The season of the week.


def test_the_page_tells_what_the_season_of_the_week_gains():
    rows = recorded(hours.RECORD)
    errors = errors_by_series(rows)
    forecasts = sum(len(row["mase"]) for row in rows if row["forecaster"] == hours.WEEK)
    to_day = compared(errors, hours.WEEK, hours.DAY)
    assert f"{forecasts} forecasts of {to_day.count} hourly and half-hourly series" in PAGE

    ratio = to_day.over_series
    interval = f"(95% interval {ratio.low:.2f} to {ratio.high:.2f})"
    assert f"{ratio.ratio:.2f} times that with the day alone {interval}" in PAGE

    for repeated, what in ((hours.LAST_DAY, "the last day"), (hours.LAST_WEEK, "the last week")):
        ratio = over_series(errors, hours.WEEK, repeated)
        interval = f"({ratio.low:.2f} to {ratio.high:.2f})"
        assert f"{ratio.ratio:.2f} times that of repeating {what} {interval}" in PAGE

    shares = f"hold {held(rows, hours.WEEK):.0%} ({held(rows, hours.DAY):.0%} with the day alone)"
    assert shares in PAGE


# Fine-tuning.


def to_three_digits(error):
    """Return how the page writes an error: to three digits, or to the nearest whole number."""
    return f"{error:,.0f}" if error > 1000 else f"{error:.3g}"


def test_the_page_tells_what_fine_tuning_did():
    for table in ("electrical_equipment", "air_passengers", "electricity_daily"):
        errors, bands = [], []
        for steps in (0, 20):
            record = read_json(results_dir() / "tuned" / f"{table}-{steps}.json")
            settings = record["settings"]
            assert (settings["finetune"] or 0) == steps
            assert settings["season"] > 1
            errors.append(to_three_digits(np.mean(record["errors"]["language model"])))
            bands.append(f"{record['coverage']:.0%}")
        assert f"| {' | '.join([*errors, *bands])} |" in PAGE


# An earlier benchmark.


def test_the_page_has_the_errors_of_the_earlier_benchmark():
    table = table_errors()
    errors = table_summary(table, "test")["mase"]
    over_sources = ratios(relative_errors(table.query("split == 'test'")), GENERAL)
    called = {REFERENCE: "the repetition", UNTUNED: "the untuned model"}
    for name, error in errors.items():
        if name == GENERAL:
            row = f"| `general` | {error:.2f} | | |"
        else:
            ratio = over_sources[name]
            p = f"{ratio.p:.3f}" if ratio.p < 0.005 else f"{ratio.p:.2f}"
            row = f"| {called.get(name, name)} | {error:.2f} | {in_words(ratio)} | {p} |"
        assert row in PAGE


def test_the_page_tells_how_far_general_is_behind_on_prices():
    prices = ERRORS.loc[["prices"]]
    last_value = compared(prices, GENERAL, LAST_VALUE)

    assert last_value.better == 0
    assert last_value.count == 6
    sentence = (
        "on all six series it was worse than the last value, with "
        f"{in_words(last_value.over_series)} times its error."
    )
    assert sentence in PAGE
    assert "on the six series of prices it is worse than the last value on every one" in README


def test_the_page_tells_where_the_close_intervals_begin():
    others = ERRORS.drop("prescriptions")
    for name in ("AutoETS", "AutoARIMA"):
        low = compared(others, GENERAL, name).over_series.low
        assert f"{low:.3f}" == "1.003"
    assert "both with lower ends of 1.003." in PAGE
