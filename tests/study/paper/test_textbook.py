"""Errors on the textbook's series count each series once, whatever its number of forecasts."""

import pytest

from m2lib.errors import InputError
from study.paper.textbook import LEAST_ERROR, by_source, compared, errors_by_series, summary


def row_of(source, forecaster, errors, series=None):
    """Return a recorded row; without other numbers, each error is that of a series of its own."""
    return {
        "source": source,
        "forecaster": forecaster,
        "series": series or list(range(len(errors))),
        "mase": errors,
        "held": [0.8] * len(errors),
        "seconds": 1.0,
    }


ROWS = [
    row_of("many", "ours", [1.0, 2.0, 4.0]),
    row_of("many", "theirs", [2.0, 4.0, 8.0]),
    # Two series: the first is forecast twice, and the second once, without any error.
    row_of("few", "ours", [1.0, 3.0, 0.0], series=[0, 0, 1]),
    row_of("few", "theirs", [1.0, 1.0, 0.0], series=[0, 0, 1]),
]
ERRORS = errors_by_series(ROWS)


def test_the_error_of_a_series_is_the_mean_over_its_forecasts():
    assert ERRORS["ours"].tolist() == [1, 2, 4, 2, LEAST_ERROR]


def test_without_rows_the_command_that_measures_them_is_named():
    message = r"textbook\.json has no rows .*; `python -m benchmarks\.textbook` measures them"
    with pytest.raises(InputError, match=message):
        errors_by_series([])


def test_over_series_each_series_counts_once():
    comparison = compared(ERRORS, "ours", "theirs")
    # Ours is half as large on the three series of `many`, twice as large on the first of `few`,
    # and as good on the second.
    assert comparison.over_series.ratio == pytest.approx((0.5**3 * 2 * 1) ** (1 / 5))
    assert comparison.better == 3
    assert comparison.count == 5


def test_over_sources_each_source_counts_once():
    comparison = compared(ERRORS, "ours", "theirs")
    ratio_on_few = (2 * 1) ** 0.5
    assert comparison.over_sources.ratio == pytest.approx((0.5 * ratio_on_few) ** 0.5)


def test_one_source_alone_has_no_ratio_over_sources():
    comparison = compared(ERRORS.loc[["many"]], "ours", "theirs")
    assert comparison.over_sources is None


def test_by_source_errors_are_in_units_of_a_reference():
    table = by_source(ROWS, "theirs")
    assert table.loc["few", "ours"] == pytest.approx(2**0.5)


def test_a_summary_has_the_geometric_mean_of_relative_errors():
    rows = [
        row_of("whole", "last season", [1.0, 2.0]),
        row_of("whole", "general", [1.0, 1.0]),
    ]
    table = summary(rows, reference="last season", ours="general")
    assert table.loc["general", "error"] == pytest.approx(0.5**0.5)
