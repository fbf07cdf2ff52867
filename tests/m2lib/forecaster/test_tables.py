"""Tables: series are taken out and gaps filled.

Whatever is wrong with a table is refused by one line that names the first fault and its remedy.
"""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from example_tables import B_ALONE, COLUMNS, DAYS, TWO_SERIES, WAVE
from m2lib.errors import InputError
from m2lib.forecaster import Columns, guess_columns, items_of


def test_a_column_that_forecasts_have_too_is_no_id_and_no_time():
    table = TWO_SERIES.rename(columns={"item_id": "truth", "timestamp": "cutoff"})
    message = "a table of forecasts has a column '{}' of its own; rename yours$"
    with pytest.raises(InputError, match=message.format("truth")):
        items_of(table, Columns("truth", "cutoff", ("target",)))
    with pytest.raises(InputError, match=message.format("cutoff")):
        items_of(table, Columns(None, "cutoff", ("target",)))


@pytest.mark.skipif(find_spec("pyarrow") is None, reason="needs pyarrow")
def test_a_table_whose_columns_are_arrows_is_read_as_one_of_numpys():
    table = TWO_SERIES.assign(step=[*range(12), *range(12)])
    arrows = table.convert_dtypes(dtype_backend="pyarrow")
    for columns in (COLUMNS, Columns("item_id", "step", ("target",))):
        assert guess_columns(arrows) == guess_columns(table)
        expected = items_of(table, columns)
        for item, like_it in zip(items_of(arrows, columns), expected, strict=True):
            assert item.name == like_it.name
            assert item.times.equals(like_it.times)
            assert np.array_equal(item.values, like_it.values)


def test_what_is_no_number_is_an_empty_cell_in_arrows_columns_too():
    pyarrow = pytest.importorskip("pyarrow")
    numbers = pyarrow.array([*range(5), np.nan, *range(6, 12)], pyarrow.float64())
    table = pd.DataFrame({"y": pd.arrays.ArrowExtensionArray(numbers)})
    with pytest.warns(UserWarning, match=r"steps that were filled \(linear\): 1"):
        (item,) = items_of(table, Columns(None, None, ("y",)), fill="linear")
    assert item.values[:, 0].tolist() == [*range(12)]


@pytest.mark.parametrize("time", ["t", None])
@given(ids=st.permutations([0] * 12 + [1] * 11 + [2] * 10))
def test_rows_of_several_series_may_be_mixed(time, ids):
    """Series n has 12 - n steps, with the values 100 n + step² and the same below zero."""
    ids = pd.Series(ids)
    steps = ids.groupby(ids).cumcount()
    values = 100 * ids + steps**2
    table = pd.DataFrame({"id": ids, "t": steps, "v": values, "w": -values})
    table.index = table.index // 2  # rows may have the same index

    items = items_of(table, Columns("id", time, ("v", "w")))

    assert [item.name for item in items] == ids.unique().tolist()
    for item in items:
        expected_steps = list(range(12 - item.name))
        expected_values = [100 * item.name + step**2 for step in expected_steps]
        assert type(item.name) is int
        assert item.times.tolist() == expected_steps
        assert item.values.dtype == np.float64
        assert item.values[:, 0].tolist() == expected_values
        assert item.values[:, 1].tolist() == [-value for value in expected_values]


@pytest.mark.parametrize(
    "cells",
    [
        pytest.param([1, 2], id="whole numbers"),
        pytest.param(["1", " 2.5"], id="text"),
        pytest.param([-1e100, 1e-300], id="huge and tiny"),
        pytest.param(pd.array([1, 2], dtype="Int8"), id="a type of pandas"),
    ],
)
def test_numbers_of_any_type_are_read(cells):
    column = pd.Series(cells).repeat(5)  # a series has ten steps or more
    (item,) = items_of(pd.DataFrame({"y": column}), Columns(None, None, ("y",)))
    assert item.values[::5, 0].tolist() == [float(cell) for cell in cells]


def changed(column, index, value):
    """Return the two series with another value in one cell."""
    table = TWO_SERIES.astype({column: object})
    table.loc[index, column] = value
    return table


# What messages say of a fault, and how to mend it.
NO_NUMBER = "is no finite number; correct it, or leave the cell empty if its value is missing"
MARKED_NUMBER = (
    "is no finite number; write it as 1200.5 or -1200.5, without a mark for thousands, % or a "
    "currency "
    '(pd.read_csv reads 1,200.50 with thousands=",", and 12,5 with decimal=",")'
)
EMPTY = "an empty cell; fill it (--fill linear, last or zero; fill=), or drop the row"
NO_DATE = "is no date of the years 1700 to 2200, or not written as the first; write 2024-01-31"
UNEVEN = (
    "unlike the rows before; fill gaps (--fill linear, last or zero; fill=), or resample; "
    "write 2024-01-31 and not 240131, 31012024 or 2024.01, months by their first or last day, "
    "years as 2024"
)
TWICE = (
    "stands twice; drop a row, name the column that tells series apart (--id) or another one of "
    "time stamps (--time), or, where clocks were turned back, write offsets from UTC; of two "
    "columns that belong together, such as year and month or shop and product, make one"
)

# Messages count rows from 1: index 2 is row 3.
EACH_UNFIT_SERIES = pytest.mark.parametrize(
    ("table", "unfit", "fault"),
    [
        pytest.param(
            changed("target", 2, "x"),
            "B",
            f"row 3, column 'target': 'x' {NO_NUMBER}",
            id="no number",
        ),
        pytest.param(
            changed("target", 2, "$1,183.59"),
            "B",
            f"row 3, column 'target': '$1,183.59' {MARKED_NUMBER}",
            id="a price",
        ),
        pytest.param(
            changed("target", 2, "1\u202f183,59"),
            "B",
            rf"row 3, column 'target': '1\u202f183,59' {MARKED_NUMBER}",
            id="thousands marked by a narrow blank",
        ),
        pytest.param(
            changed("target", 2, "\u22123.5"),
            "B",
            f"row 3, column 'target': '\u22123.5' {MARKED_NUMBER}",
            id="a minus sign that is no hyphen",
        ),
        pytest.param(
            changed("target", 3, -np.inf),
            "B",
            f"row 4, column 'target': '-inf' {NO_NUMBER}",
            id="infinite",
        ),
        pytest.param(
            changed("target", 3, np.nan),
            "B",
            f"row 4, column 'target': {EMPTY}",
            id="an empty cell",
        ),
        pytest.param(
            changed("target", 13, " "),
            "A",
            f"row 14, column 'target': {EMPTY}",
            id="a blank cell",
        ),
        pytest.param(
            changed("timestamp", 20, "?"),
            "A",
            f"row 21, column 'timestamp': '?' {NO_DATE}",
            id="no date",
        ),
        pytest.param(
            changed("timestamp", 20, "2024-W21"),
            "A",
            f"row 21, column 'timestamp': '2024-W21' {NO_DATE}: "
            "pd.to_datetime(weeks + '-1', format='%G-W%V-%u') gives the Mondays",
            id="a week",
        ),
        pytest.param(
            changed("timestamp", 20, None),
            "A",
            "row 21, column 'timestamp': an empty cell; write its time stamp, or drop the row",
            id="an empty date",
        ),
        pytest.param(
            TWO_SERIES.drop(index=16),
            "A",
            "row 17, column 'timestamp': "
            f"2024-01-06 00:00:00 follows 2024-01-04 00:00:00, {UNEVEN}",
            id="a missing day",
        ),
        pytest.param(
            TWO_SERIES.drop(index=16)[::-1],
            "A",
            f"row 7, column 'timestamp': 2024-01-06 00:00:00 follows 2024-01-04 00:00:00, {UNEVEN}",
            id="a missing day, the last first",
        ),
        pytest.param(
            changed("timestamp", 5, DAYS[0]),
            "B",
            f"row 6, column 'timestamp': '2024-01-01 00:00:00' {TWICE}",
            id="a day that stands twice",
        ),
        pytest.param(
            TWO_SERIES[:21],
            "A",
            "row 13: the series has 9 steps, fewer than 10; bring more, or drop it",
            id="too short",
        ),
        pytest.param(
            TWO_SERIES.assign(target=[*[5.5] * 12, *WAVE]),
            "B",
            "row 1, column 'target': the series is 5.5 throughout; "
            "drop it, or name other columns (--target)",
            id="constant",
        ),
    ],
)


@pytest.mark.parametrize("table", [WAVE, "sales.csv"])
def test_what_is_no_dataframe_is_refused_with_what_makes_one(table):
    message = f"^the table is a {type(table).__name__}; give a pandas DataFrame"
    with pytest.raises(InputError, match=message):
        items_of(table, COLUMNS)


def test_two_columns_that_tell_series_apart_have_to_be_joined():
    two = replace(COLUMNS, id=["shop", "product"])
    with pytest.raises(InputError, match="'shop, product' are several columns; join them"):
        items_of(TWO_SERIES, two)
    two = replace(COLUMNS, time=["year", "month"])
    with pytest.raises(InputError, match=r"'year, month' are several .* as timestamp_column"):
        items_of(TWO_SERIES, two)


@pytest.mark.parametrize("parts", [tuple, list])
def test_an_id_of_several_parts_has_to_be_joined(parts):
    ids = [parts([name, 1]) for name in TWO_SERIES["item_id"]]
    table = TWO_SERIES.assign(item_id=pd.Series(ids, dtype=object))
    with pytest.raises(InputError, match=r"row 1, column 'item_id': the id .* has several parts"):
        items_of(table, COLUMNS)


@EACH_UNFIT_SERIES
def test_a_fault_is_named_by_file_row_and_column(table, unfit, fault):
    with pytest.raises(InputError) as error:
        items_of(table, COLUMNS, "sales.csv")
    way_out = f"--skip leaves series '{unfit}' out (skip=True)"
    assert str(error.value) == f"sales.csv, {fault}; {way_out}"


@EACH_UNFIT_SERIES
def test_skip_leaves_out_the_unfit_series_and_says_why(table, unfit, fault):
    with pytest.warns(UserWarning, match="is left out|sorted by time") as warned:
        (left,) = items_of(table, COLUMNS, "sales.csv", skip=True)
    assert str(warned[0].message) == f"series '{unfit}' is left out: sales.csv, {fault}"
    assert {left.name} == {"A", "B"} - {unfit}
    assert len(left.values) == 12


def test_a_series_of_which_one_column_is_constant_is_refused():
    table = B_ALONE.assign(stock=7.0)
    with pytest.raises(InputError, match="row 1, column 'stock': the series is 7 throughout"):
        items_of(table, replace(COLUMNS, targets=("target", "stock")))


def test_a_row_without_an_id_is_refused():
    with pytest.raises(InputError) as error:
        items_of(changed("item_id", 7, None), COLUMNS, "sales.csv")
    # It is of no series that could be left out.
    assert str(error.value) == (
        "sales.csv, row 8, column 'item_id': an empty cell (NA reads as one, unless --id names the "
        "column); write the series' id"
    )


def test_two_series_of_one_id_are_refused():
    with pytest.raises(InputError) as error:
        items_of(TWO_SERIES.assign(item_id="A"), COLUMNS, "sales.csv")
    assert str(error.value) == (
        f"sales.csv, row 13, column 'timestamp': '2024-01-01 00:00:00' {TWICE}; "
        "--skip leaves series 'A' out (skip=True)"
    )


def test_a_table_of_which_every_series_is_unfit_is_refused():
    constant = TWO_SERIES.assign(target=1.0)
    message = r"^t.csv: every series is unfit, so none is left; correct"
    with (
        pytest.warns(UserWarning, match="is left out"),
        pytest.raises(InputError, match=message),
    ):
        items_of(constant, COLUMNS, "t.csv", skip=True)


@pytest.mark.parametrize("skip", [False, True])
def test_nothing_can_be_left_out_of_a_table_without_ids(skip):
    constant = pd.DataFrame({"y": np.ones(12)})
    with pytest.raises(InputError, match=r"^t.csv, row 1, column 'y': .* \(--target\)$"):
        items_of(constant, Columns(None, None, ("y",)), "t.csv", skip=skip)


def test_rows_are_sorted_by_time_and_this_is_said():
    shuffled = B_ALONE.sample(frac=1, random_state=0)
    table = pd.concat([shuffled, TWO_SERIES[12:]])

    message = "^t.csv: the rows of 1 of 2 series were sorted by time$"
    with pytest.warns(UserWarning, match=message):
        items = items_of(table, COLUMNS, "t.csv")

    for item, expected in zip(items, items_of(TWO_SERIES, COLUMNS), strict=True):
        assert item.times.equals(expected.times)
        assert item.values.tolist() == expected.values.tolist()


def items_filled(table, fill, steps, columns=COLUMNS):
    """Return a table's series with their gaps filled, after a warning of so many filled steps."""
    message = rf"^the table: steps that were filled \({fill}\): {steps}$"
    with pytest.warns(UserWarning, match=message):
        return items_of(table, columns, fill=fill)


@pytest.mark.parametrize(
    ("fill", "steps_2_to_6"),
    [
        ("linear", [2, 3, 4, 5, 6]),
        ("last", [2, 2, 2, 5, 5]),
        ("zero", [2, 0, 0, 5, 0]),
    ],
)
def test_gaps_are_filled_as_the_user_says(fill, steps_2_to_6):
    # Of 1, 2, ..., 12 the third is an empty cell, and the fourth and the sixth have no row.
    table = TWO_SERIES.assign(target=[*range(1, 13), *range(1, 13)])
    table = table.astype({"target": float})
    table.loc[2, "target"] = np.nan
    table = table.drop(index=[3, 5])

    with_gaps, whole = items_filled(table, fill, steps=3)

    assert with_gaps.values[1:6, 0].tolist() == steps_2_to_6
    assert with_gaps.times.equals(whole.times)
    known = np.delete(with_gaps.values[:, 0], [2, 3, 5])
    assert known.tolist() == [1, 2, 5, 7, 8, 9, 10, 11, 12]
    assert whole.values[:, 0].tolist() == list(range(1, 13))


def test_an_empty_cell_is_filled_without_time_stamps_too():
    table = pd.DataFrame(
        {
            "a": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, None, 12],
            "b": [0, None, None, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
        }
    )
    (item,) = items_filled(table, "linear", steps=3, columns=Columns(None, None, ("a", "b")))
    assert item.values.tolist() == [[step, step] for step in range(13)]


def test_rounded_stamps_stay_as_they_are_where_a_cell_is_filled():
    rounded = [0.0, *(step + 0.0004 for step in range(1, 12))]
    table = pd.DataFrame({"t": rounded, "y": [0, None, *range(2, 12)]})
    (item,) = items_filled(table, "linear", steps=1, columns=Columns(None, "t", ("y",)))
    assert item.times.tolist() == rounded


def test_nothing_is_filled_before_the_first_known_value():
    message = "row 1, column 'target': an empty cell before the first"
    with pytest.raises(InputError, match=message):
        items_of(changed("target", 0, None), COLUMNS, fill="last")


def test_nothing_is_filled_after_the_last_known_value():
    # Other libraries take rows of the future, for what is known of it.
    days_ahead = pd.date_range("2024-01-13", periods=2)
    future = pd.DataFrame({"item_id": "B", "timestamp": days_ahead, "target": np.nan})
    table = pd.concat([B_ALONE, future])

    message = (
        "row 13, column 'target': an empty cell before the first or after the last value of its "
        r"series; drop the row \(nothing is filled there, and no covariates of the future are "
    )
    with pytest.raises(InputError, match=message):
        items_of(table, COLUMNS, fill="zero")
    with pytest.raises(InputError, match=message):  # --fill is not advised where it does not help
        items_of(table, COLUMNS)


def test_an_empty_cell_behind_filled_rows_is_named_by_its_row_in_the_table():
    table = changed("target", 11, None)[:12].drop(index=3)
    with pytest.raises(InputError, match="row 11, column 'target': an empty cell before the first"):
        items_of(table, COLUMNS, fill="linear")


def test_an_unknown_way_to_fill_is_refused():
    with pytest.raises(InputError, match=r"^fill is 'mean'; it may be linear, last, zero or None$"):
        items_of(TWO_SERIES, COLUMNS, fill="mean")


def test_what_has_no_spacing_cannot_be_filled():
    noon = DAYS[4] + pd.Timedelta(hours=12, seconds=1)  # between the stamps of days
    message = "no spacing holds all stamps, so that nothing can be fil"
    with pytest.raises(InputError, match=message):
        items_of(changed("timestamp", 4, noon), COLUMNS, fill="zero")


@pytest.mark.parametrize(
    ("stamps", "row", "problem"),
    [
        pytest.param([*range(10), 9.5], 11, f"9.5 follows 9.0, {UNEVEN}", id="half a step"),
        pytest.param([*range(10), 10.01], 11, f"10.01 follows 9.0, {UNEVEN}", id="a bit more"),
        pytest.param(
            ["13/01/2024", "14/01/2024", "01/15/2024"],
            3,
            f"'01/15/2024' {NO_DATE}",
            id="the month first, after days first",
        ),
        pytest.param(
            ["Jan-18", "Feb-18", "Mar-18"], 1, f"'Jan-18' {NO_DATE}", id="months as in Excel"
        ),
        pytest.param(
            pd.date_range("1699-10-31", periods=12, freq="ME").astype(str),
            1,
            f"'1699-10-31' {NO_DATE}",
            id="dates before 1700",
        ),
        pytest.param(
            pd.bdate_range("2024-01-01", periods=20).delete(8),
            9,
            "2024-01-12 00:00:00 follows 2024-01-10 00:00:00",
            id="a missing business day",
        ),
        pytest.param(
            pd.date_range("2024-01-31", periods=14, freq="ME").delete(8),
            9,
            "2024-10-31 00:00:00 follows 2024-08-31",
            id="a missing month",
        ),
    ],
)
def test_the_first_stamp_that_is_wrong_is_named(stamps, row, problem):
    table = pd.DataFrame({"ds": stamps, "y": range(len(stamps))})
    with pytest.raises(InputError) as error:
        items_of(table, Columns(None, "ds", ("y",)), "t.csv", least=3)
    assert str(error.value).startswith(f"t.csv, row {row}, column 'ds': {problem}")


@pytest.mark.parametrize(
    ("table", "given", "problem"),
    [
        pytest.param(
            TWO_SERIES,
            {"id": "shop"},
            ": no column 'shop' among 'item_id, timestamp, target'; say which with id_column, ",
            id="no such id",
        ),
        pytest.param(TWO_SERIES, {"time": "ds"}, ": no column 'ds' among ", id="no such time"),
        pytest.param(
            TWO_SERIES.set_index("item_id"),
            {"id": "item_id"},
            ": no column 'item_id' among 'timestamp, target'; say which with id_column, "
            "timestamp_column and target (--id, --time, --target); the first two may be None; "
            "df.reset_index() makes a column of it",
            id="the id is the index",
        ),
        pytest.param(
            TWO_SERIES[["target"]].set_index(pd.date_range("2024", periods=len(TWO_SERIES))),
            {},
            ": its index, which holds more than the numbers of its rows, is not read; df.reset_",
            id="the time is the index",
        ),
        pytest.param(
            TWO_SERIES.set_index(["item_id", "timestamp"]),
            {},
            ": its index, which holds more than the numbers of its rows, is not read; df.reset_",
            id="id and time are the index",
        ),
        pytest.param(
            TWO_SERIES[:0],
            {},
            " has column names and no rows; add a row for each step",
            id="no rows",
        ),
        pytest.param(
            TWO_SERIES,
            {"targets": ["target", "target"]},
            ": 2 columns of numbers; name 1 to 8 of 'item_id, timestamp, target' (",
            id="one target twice",
        ),
        pytest.param(
            TWO_SERIES[["item_id"]],
            {},
            ": 0 columns of numbers; name 1 to 8 of 'item_id' (--target)",
            id="no target",
        ),
        pytest.param(
            TWO_SERIES[["item_id", "target"]].rename(columns={"item_id": "timestamp"}),
            {"id": "timestamp", "time": None},
            ": in a table of forecasts 'timestamp' would be the id and the time; rename yours",
            id="an id that is called as the time will be",
        ),
        pytest.param(
            pd.DataFrame(np.ones((12, 9)), columns=list("bcdefghij")),
            {},
            ": 9 columns of numbers; name 1 to 8 of 'b, c",
            id="too many targets",
        ),
    ],
)
def test_columns_that_cannot_be_are_refused(table, given, problem):
    with pytest.raises(InputError) as error:
        items_of(table, guess_columns(table, **given), "t.csv")
    assert str(error.value).startswith(f"t.csv{problem}")


@pytest.mark.parametrize("name", TWO_SERIES.columns)
def test_two_columns_of_one_name_are_refused(name):
    table = pd.concat([TWO_SERIES, TWO_SERIES[[name]]], axis=1)
    with pytest.raises(InputError) as error:
        items_of(table, COLUMNS, "t.csv")
    assert str(error.value) == f"t.csv: several columns are called '{name}'; rename all but one"

    with pytest.raises(InputError, match=f"^several columns are called '{name}'; rename all but"):
        guess_columns(table)
