"""Tables: columns are told by their names, series are taken out, and gaps filled.

Whatever is wrong with a table is refused by one line that says where, and what to do.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from m2lib.errors import InputError
from m2tables import arrays
from m2tables.tables import Columns, columns_of, future_times, items_of

DAYS = pd.date_range("2024-01-01", periods=12)
WAVE = np.sin(np.arange(12.0))
TWO_SERIES = pd.DataFrame(
    {"item_id": ["B"] * 12 + ["A"] * 12, "timestamp": [*DAYS, *DAYS], "target": [*WAVE, *-WAVE]}
)
COLUMNS = Columns("item_id", "timestamp", ("target",))
ONE = Columns(None, None, ("y",))

without_a_warning = pytest.mark.filterwarnings("error")


def series_of(stamps, **options):
    """Return the series 0, 1, 2, ... of a table with these time stamps."""
    table = pd.DataFrame({"ds": stamps, "y": np.arange(float(len(stamps)))})
    (item,) = items_of(table, Columns(None, "ds", ("y",)), **options)
    return item


def changed(column, index, value):
    """Return the two series with another value in one cell."""
    table = TWO_SERIES.astype({column: object})
    table.loc[index, column] = value
    return table


# Which column is which.


@pytest.mark.parametrize(
    ("names", "columns"),
    [
        (["item_id", "timestamp", "target"], COLUMNS),
        (["unique_id", "DS", "Y"], Columns("unique_id", "DS", ("Y",))),
        (["series", "year", "gdp"], Columns("series", "year", ("gdp",))),
        (["shop", "day", "sold"], Columns(None, "day", ("sold",))),
    ],
)
def test_columns_are_told_by_their_names(names, columns):
    assert columns_of(TWO_SERIES.set_axis(names, axis=1)) == columns


def test_what_is_given_stands():
    table = TWO_SERIES.assign(id="x", date=0, y=1.0, z=2.0)
    columns = columns_of(table, id="id", time="date", targets=["z", "y"])
    assert columns == Columns("id", "date", ("z", "y"))
    assert columns_of(table, targets=["timestamp"]).time == "date"


def test_numbers_of_rows_are_neither_an_id_nor_a_target():
    table = pd.DataFrame({"id": range(12), "Unnamed: 0": range(12), "month": 1, "sold": WAVE})
    assert columns_of(table) == Columns(None, "month", ("sold",))


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        pytest.param(pd.DataFrame({"hare": WAVE, "lynx": WAVE}), "'hare, lynx'", id="two"),
        pytest.param(pd.DataFrame({"day": DAYS, "open": True}), "no column of numbers", id="none"),
    ],
)
def test_a_target_that_is_not_told_by_its_name_has_to_be_named(table, problem):
    with pytest.raises(InputError, match=f"{problem}.*--target"):
        columns_of(table)


@pytest.mark.parametrize(
    ("times", "problem"),
    [
        ({"Datum": DAYS}, "'Datum' holds dates; .*--time"),
        ({"week ending": DAYS.strftime("%d/%m/%Y")}, "'week ending' holds dates; .*--time"),
        ({"Zeit": DAYS.strftime("%Y-%m")}, "'Zeit' holds dates; .*--time"),
        ({"Year": DAYS.year, "Month": DAYS.month}, "several columns, 'Year, Month'; make one"),
    ],
    ids=str,
)
def test_time_that_is_not_told_by_a_name_has_to_be_named(times, problem):
    table = pd.DataFrame(times | {"sold": np.arange(len(DAYS))})
    with pytest.raises(InputError, match=problem):
        columns_of(table)
    name = next(iter(times))
    assert columns_of(table, time=name, targets=["sold"]) == Columns(None, name, ("sold",))


@pytest.mark.parametrize("name", TWO_SERIES.columns)
def test_two_columns_of_one_name_are_refused(name):
    table = pd.concat([TWO_SERIES, TWO_SERIES[[name]]], axis=1)
    for read in (columns_of, lambda table: items_of(table, COLUMNS)):
        with pytest.raises(InputError, match=f"several columns are called '{name}'; rename"):
            read(table)


@pytest.mark.parametrize(
    ("table", "columns", "problem"),
    [
        (TWO_SERIES, replace(COLUMNS, id="shop"), "'shop' is none of 'item_id, timestamp, target'"),
        (TWO_SERIES, replace(COLUMNS, time="target"), "'target' is named twice"),
        (TWO_SERIES, replace(COLUMNS, targets=()), "0 targets; name 1 to 8"),
        (TWO_SERIES, replace(COLUMNS, targets=tuple("abcdefghi")), "9 targets; name 1 to 8"),
        (TWO_SERIES[:0], COLUMNS, "no rows"),
        (TWO_SERIES.set_index("timestamp"), replace(COLUMNS, time=None), "reset_index"),
        (
            TWO_SERIES.rename(columns={"item_id": "truth"}),
            replace(COLUMNS, id="truth"),
            "columns of its own .* 'truth, timestamp'; rename yours",
        ),
        (WAVE, COLUMNS, "is a ndarray; give a pandas DataFrame"),
    ],
)
def test_columns_that_cannot_be_are_refused(table, columns, problem):
    with pytest.raises(InputError, match=f"^t.csv.*{problem}"):
        items_of(table, columns, "t.csv")


@pytest.mark.parametrize(
    "option", [{"fill": "mean"}, {"season": 0}, {"season": 2.5}, {"time_format": "ISO8601"}]
)
def test_options_that_are_none_are_refused(option):
    with pytest.raises(InputError, match=f"^{next(iter(option))} is"):
        items_of(TWO_SERIES, COLUMNS, **option)


# Series and their values.


@pytest.mark.parametrize("time", ["t", None])
@given(ids=st.permutations([0] * 12 + [1] * 11 + [2] * 10))
def test_rows_of_several_series_may_be_mixed(time, ids):
    """Series n has 12 - n steps, with the values 100 n + step² and the same below zero."""
    ids = pd.Series(ids)
    steps = ids.groupby(ids).cumcount()
    values = 100.0 * ids + steps**2
    times = steps + ids  # all series end at 11
    table = pd.DataFrame({"id": ids, "t": times, "v": values, "w": -values})
    table.index = table.index // 2  # rows may have the same index

    items = items_of(table, Columns("id", time, ("v", "w")))

    assert [item.name for item in items] == ids.unique().tolist()
    for item in items:
        assert type(item.name) is int
        first = item.name if time else 0
        assert item.times.tolist() == list(range(first, first + 12 - item.name))
        expected = [100 * item.name + step**2 for step in range(12 - item.name)]
        assert item.values.dtype == np.float64
        assert item.values.tolist() == [[value, -value] for value in expected]


@pytest.mark.parametrize(
    "cells", [[1, 2], ["1", " 2.5"], [-1e100, 1e-300], pd.array([1, 2], dtype="Int8")], ids=str
)
def test_numbers_of_any_type_are_read(cells):
    (item,) = items_of(pd.DataFrame({"y": cells}), ONE)
    assert item.values[:, 0].tolist() == [float(cell) for cell in cells]


@without_a_warning
@pytest.mark.parametrize(
    ("values", "remark"),
    [
        (WAVE, ""),
        (np.zeros(12), "constant"),
        (WAVE[:9], "fewer than 10 steps"),
        ([3.5], "a single step, which shows no spread"),
    ],
    ids=str,
)
def test_short_and_constant_series_are_taken_with_a_remark(values, remark):
    (item,) = items_of(pd.DataFrame({"y": values}), ONE)
    assert item.values[:, 0].tolist() == list(values)
    assert item.remark == remark


def test_a_season_that_is_too_long_for_a_series_is_remarked():
    (item,) = items_of(pd.DataFrame({"y": WAVE}), ONE, season=7)
    assert item.remark == "fewer than two seasons of 7 steps"


def test_a_series_without_any_value_is_left_out():
    table = TWO_SERIES.assign(target=TWO_SERIES.target.where(TWO_SERIES.item_id == "B"))
    with pytest.warns(UserWarning, match="^t.csv: series without any value: 'A'; they are left"):
        (item,) = items_of(table, COLUMNS, "t.csv")
    assert item.name == "B"
    with pytest.raises(InputError, match=r"^t.csv: series without any value: 'B, A'; add values"):
        items_of(TWO_SERIES.assign(target=np.nan), COLUMNS, "t.csv")


def test_rows_are_sorted_by_time_and_this_is_said():
    table = pd.concat([TWO_SERIES[:12].sample(frac=1, random_state=0), TWO_SERIES[12:]])
    with pytest.warns(UserWarning, match="^t.csv: the rows of 1 of 2 series were sorted by time$"):
        items = items_of(table, COLUMNS, "t.csv")
    for item, expected in zip(items, items_of(TWO_SERIES, COLUMNS), strict=True):
        assert item.times.equals(expected.times)
        assert item.values.tolist() == expected.values.tolist()


def test_series_that_end_at_different_times_are_warned_of():
    with pytest.warns(UserWarning, match="end at different times, from 2024-01-03 .* 2024-01-12"):
        items = items_of(TWO_SERIES[:15], COLUMNS)
    assert [len(item.values) for item in items] == [12, 3]


def test_a_single_date_has_the_spacing_of_the_other_series():
    with pytest.warns(UserWarning, match="end at different times"):
        _, alone = items_of(TWO_SERIES[:13], COLUMNS)
    assert future_times(alone, 2).tolist() == DAYS[1:3].tolist()
    with pytest.raises(InputError, match="a single date shows no spacing"):
        items_of(TWO_SERIES[:1], COLUMNS)


# Gaps.


@without_a_warning
def test_empty_rows_at_both_ends_of_a_series_are_dropped():
    table = TWO_SERIES.assign(target=[np.nan, *WAVE[1:10], np.nan, np.nan] * 2)
    for item in items_of(table, COLUMNS):
        assert item.times.equals(DAYS[1:10])
        assert item.values[:, 0].tolist() == WAVE[1:10].tolist()


@pytest.mark.parametrize(
    ("fill", "steps_2_to_6"),
    [("linear", [2, 3, 4, 5, 6]), ("last", [2, 2, 2, 5, 5]), ("zero", [2, 0, 0, 5, 0])],
)
def test_gaps_are_filled_as_the_user_says(fill, steps_2_to_6):
    # Of 1, 2, ..., 12 the third is an empty cell, and the fourth and the sixth have no row.
    table = TWO_SERIES.assign(target=[*range(1, 13), *range(1, 13)]).astype({"target": float})
    table.loc[2, "target"] = np.nan
    with pytest.warns(UserWarning, match=rf"^the table: steps that were filled \({fill}\): 3$"):
        with_gaps, whole = items_of(table.drop(index=[3, 5]), COLUMNS, fill=fill)
    assert with_gaps.times.equals(whole.times)
    assert with_gaps.values[1:6, 0].tolist() == steps_2_to_6
    assert with_gaps.values[6:, 0].tolist() == [7, 8, 9, 10, 11, 12]
    assert whole.values[:, 0].tolist() == list(range(1, 13))


def test_a_column_that_ends_earlier_than_another_is_not_filled_at_its_end():
    table = pd.DataFrame({"a": WAVE, "b": [*WAVE[:11], np.nan]})
    with pytest.raises(InputError, match=r"row 12, column 'b': an empty cell; fill it \(--fill"):
        items_of(table, Columns(None, None, ("a", "b")), fill="last")


# Messages count rows from 1: index 2 is row 3.
@pytest.mark.parametrize(
    ("table", "fault"),
    [
        (changed("target", 2, "x"), "series 'B', row 3, column 'target': 'x' is no finite number"),
        (changed("target", 2, "$1,183"), "row 3, column 'target': '\\$1,183' .* write it as 1234"),
        (changed("target", 3, -np.inf), "row 4, column 'target': '-inf' is no finite number"),
        (TWO_SERIES.assign(target=True), "row 1, column 'target': 'True' is no finite number"),
        (changed("target", 13, " "), r"series 'A', row 14, column 'target': an empty .*; fill="),
        (changed("item_id", 7, None), "row 8, column 'item_id': an empty cell"),
        (changed("timestamp", 20, None), "series 'A', row 21, column 'timestamp': an empty cell"),
        (
            TWO_SERIES.drop(index=16),
            r"'A', row 17, column 'timestamp': 2024-01-06 .* follows 2024-01-04 .*\(--fill linear",
        ),
        (
            changed("timestamp", 5, DAYS[0]),
            "series 'B', row 6, column 'timestamp': 2024-01-01 00:00:00 stands twice; .*--id",
        ),
        (
            changed("timestamp", 23, DAYS[11] + pd.Timedelta("2h1s")),
            "'A', row 24, column 'timestamp': 2024-01-12 02:00:01 follows .*; resample",
        ),
    ],
    ids=lambda value: value[-30:] if isinstance(value, str) else "",
)
def test_a_fault_is_named_by_file_series_row_and_column(table, fault):
    with pytest.raises(InputError, match=f"^sales.csv, .*{fault}"):
        items_of(table, COLUMNS, "sales.csv")


def test_what_has_no_spacing_cannot_be_filled():
    between = DAYS[4] + pd.Timedelta(hours=12, seconds=1)
    with pytest.raises(InputError, match="unlike the other rows; resample"):
        items_of(changed("timestamp", 4, between), COLUMNS, fill="zero")


def test_holidays_are_gaps_among_business_days():
    days = pd.bdate_range("2024-01-01", periods=20)
    with pytest.raises(InputError, match=r"row 9, .* business days, .*holidays, are missing; fill"):
        series_of(days.delete(8))
    with pytest.warns(UserWarning, match=r"filled \(linear\): 1"):
        item = series_of(days.delete(8), fill="linear")
    assert item.times.equals(days)
    assert item.season == 5
    assert item.values[7:10, 0].tolist() == [7, 7.5, 8]


# Arrays, which have no table.


@pytest.mark.parametrize(
    ("context", "shapes"),
    [
        ([1, 2, 3], [(3, 1)]),
        (np.ones(5), [(5, 1)]),
        (np.ones((2, 5)), [(5, 1), (5, 1)]),
        (np.ones((1, 3, 5)), [(5, 3)]),
        ([[1, 2], np.ones(5), np.ones((1, 4))], [(2, 1), (5, 1), (4, 1)]),
        (torch.ones(4), [(4, 1)]),
        ([torch.ones(2, 4, requires_grad=True)], [(4, 2)]),
        (pd.Series([1, 2, 3], index=[5, 6, 7]), [(3, 1)]),
    ],
    ids=lambda value: "",
)
def test_arrays_are_one_series_or_several(context, shapes):
    series = arrays.series_of(context)
    assert [values.shape for values in series] == shapes
    assert all(values.dtype == np.float64 for values in series)


def test_variables_of_an_array_become_columns():
    (values,) = arrays.series_of(np.array([[[1, 2, 3], [4, 5, 6]]]))
    assert values.tolist() == [[1, 4], [2, 5], [3, 6]]


@pytest.mark.parametrize(
    ("context", "problem"),
    [
        (TWO_SERIES, "a DataFrame.*predict_df"),
        ([{"target": WAVE, "future_covariates": {}}], "covariates are not used"),
        ([WAVE, np.ones((9, 5))], r"series 1 has the shape \(9, 5\).* up to 8 variables"),
        ([[]], r"series 0 has the shape \(1, 0\)"),
        ([1, np.nan, np.inf], "series 0 is not finite at 2 of its steps, the first of which is 1"),
        (np.ma.masked_equal([1, 2, 3], 2), "not finite at 1 of its steps"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_arrays_that_are_no_series_are_refused(context, problem):
    with pytest.raises(InputError, match=problem):
        arrays.series_of(context)
