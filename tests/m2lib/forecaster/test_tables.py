"""Tables: files read and written, columns guessed, series taken out, and the first fault named with
its remedy."""

import importlib.util
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2lib.files import InputError
from m2lib.forecaster import (
    Columns,
    Item,
    check_output,
    guess_columns,
    items_of,
    read_table,
    write_table,
)
from m2lib.forecaster.tables import future_times

CALENDARS = (
    "D",
    "h",
    "15min",
    "36h",
    "3D",
    "W-WED",
    "2W-SUN",
    "B",
    "MS",
    "ME",
    "QS",
    "QE",
    "YS",
    "YE",
    "2ME",
)
DAYS = pd.date_range("2024-01-01", periods=12)
WAVE = np.sin(np.arange(12.0))
LONG = pd.DataFrame(
    {"item_id": ["B"] * 12 + ["A"] * 12, "timestamp": [*DAYS] * 2, "target": [*WAVE, *-WAVE]}
)
COLUMNS = Columns("item_id", "timestamp", ("target",))
SKY = pd.DataFrame({"date": DAYS, "sky": ["sun", "rain"] * 6, "month": 1, "sold": WAVE})
needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow"
)


def put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("ending", ["csv", pytest.param("parquet", marks=needs_pyarrow)])
def test_what_is_written_is_read(tmp_path, ending):
    path = tmp_path / "new" / f"table.{ending}"
    write_table(LONG, path)
    found = read_table(path)
    found["timestamp"] = pd.to_datetime(found["timestamp"])
    pd.testing.assert_frame_equal(found, LONG, check_dtype=False)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@needs_pyarrow
def test_parquet_keeps_an_index_that_has_a_name(tmp_path):
    LONG.set_index("timestamp").to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").columns.tolist() == ["timestamp", "item_id", "target"]


@needs_pyarrow
def test_parquet_keeps_an_index_of_dates_that_has_no_name(tmp_path):
    path = tmp_path / "t.parquet"
    LONG[:12].set_index(DAYS)[["target"]].to_parquet(path)
    df = read_table(path)
    assert guess_columns(df) == Columns(None, "timestamp", ("target",))
    assert df.timestamp.tolist() == DAYS.tolist()
    LONG[:12].set_index(DAYS).to_parquet(path)  # the name is taken
    assert read_table(path).columns.tolist() == ["index", "item_id", "timestamp", "target"]
    LONG[3:].to_parquet(path)  # the rows' numbers say nothing
    assert read_table(path).columns.tolist() == ["item_id", "timestamp", "target"]


@pytest.mark.parametrize(
    "text", ["a,b\r\n1,2\r\n", "\ufeffa,b\n1,2", "a,b\n\n1,2\n\n", "a,b\n1,2,\n", "a, b\n1, 2"]
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    assert read_table(put(tmp_path / "t.CSV", text)).to_dict("list") == {"a": [1], "b": [2]}


def test_ids_are_text_and_keep_their_zeros(tmp_path):
    rows = [
        f"{name},{month:02d},{month}.5" for name in ("007", "7", '"01"') for month in range(1, 12)
    ]
    df = read_table(put(tmp_path / "t.csv", "\n".join(["Id,month,y", *rows])))
    items = items_of(df, guess_columns(df))
    assert [item.name for item in items] == ["007", "7", "01"]
    assert items[0].times.tolist() == list(range(1, 12))
    file = put(tmp_path / "t.csv", "shop,y\n007,1\nNA,2\n,3\n")
    assert read_table(file, id="shop").fillna("none").shop.tolist() == ["007", "NA", "none"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "No columns to parse from file"),
        (
            b"\x89PNG\r\n\x1a\n\0\0",
            "'utf-8' codec can't decode byte 0x89 in position 0: invalid start byte",
        ),
        ("1,2\n3,4\n", "its first line holds numbers, not names alone"),
        ("2024-01-01,5\n2024-01-02,7\n", "its first line holds numbers, not names alone"),
        ("a,b\n1,2\n3,4,5\n", "Error tokenizing data. C error: Expected 2 fields in line 3, saw 3"),
        (
            "a,b\n1,2,3\n4,5,6\n",
            "a line has more cells than line 1 has names, as where 1.5 is written 1,5, or .*",
        ),
        (None, "No such file or directory"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, content, problem):
    path = tmp_path / "t.csv" if content is None else put(tmp_path / "t.csv", content)
    advice = (
        "give a .csv file in UTF-8, with names in line 1 and commas between its cells, "
        "or a .parquet file"
    )
    with pytest.raises(
        InputError, match=rf"^cannot read .*t.csv as a table \({problem}\); {advice}$"
    ):
        read_table(path)
    with pytest.raises(InputError, match=rf"^cannot read .*t.parquet as a table \(.*\); {advice}$"):
        read_table(put(tmp_path / "t.parquet", content or "PAR1"))


def test_an_output_is_refused_before_hours_of_work(tmp_path, monkeypatch):
    path = put(tmp_path / "t.csv", "mine")
    with pytest.raises(
        InputError, match=r"t.csv exists; name another file, or replace it with --force$"
    ):
        check_output(path)
    check_output(path, force=True)
    with pytest.raises(InputError, match=r"t.xlsx does not end in .csv or .parquet; name it so$"):
        check_output(tmp_path / "t.xlsx")
    with pytest.raises(
        InputError, match=r"^cannot write into .*new: .*t.csv is no folder, or read-only; choose an"
    ):
        check_output(path / "new" / "t.csv")  # in a file's place, as in a folder that is read-only
    monkeypatch.setattr("m2lib.forecaster.tables.find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"parquet needs pyarrow, .*: pip install pyarrow, or use .csv$"
    ):
        check_output(tmp_path / "t.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (LONG, COLUMNS),
        (LONG.set_axis(["unique_id", "DS", "Y"], axis=1), Columns("unique_id", "DS", ("Y",))),
        (
            LONG.set_axis(["country", "when", "gdp"], axis=1).astype({"when": str}),
            Columns("country", "when", ("gdp",)),
        ),
        # the rows' numbers
        (
            LONG[:12].assign(item_id=range(12)),
            Columns(None, "timestamp", ("target",)),
        ),
        (
            LONG.set_axis(["Unnamed: 0", "time", "hare"], axis=1)[:12],
            Columns(None, "time", ("hare",)),
        ),
        (
            pd.DataFrame({"year": range(12), "hare": WAVE, "lynx": WAVE}),
            Columns(None, "year", ("hare", "lynx")),
        ),
        (SKY.assign(promotion=[True, False] * 6), Columns(None, "date", ("sold",))),
        (
            SKY.assign(date=["T1", "T2"] * 6).rename(columns={"date": "team"}),
            Columns("team", "month", ("sold",)),
        ),
        (pd.DataFrame({"sold": ["1", "2", "x"] * 4}), Columns(None, None, ("sold",))),
        (
            SKY.rename(columns={"date": "sold_on", "month": "week"}),
            Columns(None, "sold_on", ("sold",)),
        ),
        (
            pd.DataFrame({"index": range(12), "date": DAYS, "sold": WAVE}),
            Columns(None, "date", ("sold",)),
        ),
        (
            pd.DataFrame({"sold": WAVE, "period": range(202401, 202413)}),
            Columns(None, "period", ("sold",)),
        ),
        (
            pd.DataFrame({"product": range(202401, 202413), "sold_on": DAYS, "y": WAVE}),
            Columns(None, "sold_on", ("y",)),
        ),
        (
            pd.DataFrame({"quarter": [f"{1990 + i}Q1" for i in range(12)], "gdp": WAVE}),
            Columns(None, "quarter", ("gdp",)),
        ),
    ],
)
def test_columns_are_guessed(table, columns):
    assert guess_columns(table) == columns


def test_what_is_given_stands():
    table = LONG.assign(shop=["B"] * 24, y=WAVE.tolist() * 2)
    assert guess_columns(table, id="shop", targets=["y", "target"]) == Columns(
        "shop", "timestamp", ("y", "target")
    )
    assert guess_columns(table, time="y") == Columns("item_id", "y", ("target",))


@given(st.permutations([0] * 12 + [1] * 11 + [2] * 10))
def test_rows_may_be_interleaved(whose):
    steps = pd.Series(whose).groupby(whose).cumcount()
    values = 100 * np.array(whose) + steps**2
    df = pd.DataFrame({"id": whose, "t": steps, "v": values, "w": -values}).set_axis(
        np.arange(33) // 2
    )
    for time in ("t", None):
        items = items_of(df, Columns("id", time, ("v", "w")))
        assert [item.name for item in items] == list(dict.fromkeys(whose))
        for item in items:
            assert type(item.name) is int
            assert item.values.dtype == np.float64
            assert item.values[:, 0].tolist() == [
                100 * item.name + step**2 for step in range(12 - item.name)
            ]
            assert item.values[:, 1].tolist() == (-item.values[:, 0]).tolist()
            assert item.times.tolist() == list(range(12 - item.name))


@pytest.mark.parametrize(
    "cells", [[1, 2], ["1", " 2.5"], [-1e100, 1e-300], pd.array([1, 2], dtype="Int8")]
)
def test_numbers_of_any_type_are_read(cells):
    (item,) = items_of(pd.DataFrame({"y": pd.Series(cells).repeat(5)}), Columns(None, None, ("y",)))
    assert item.values[::5, 0].tolist() == [float(cell) for cell in cells]


def series_of(stamps):
    df = pd.DataFrame({"ds": stamps, "y": np.arange(len(stamps))})
    return items_of(df, Columns(None, "ds", ("y",)), "t.csv", least=3)[0]


@given(
    st.sampled_from(CALENDARS),
    st.dates(pd.Timestamp("1900-01-01").date(), pd.Timestamp("2100-01-01").date()),
    st.integers(10, 40),
    st.booleans(),
)
def test_a_calendar_is_found_and_continued(calendar, start, steps, as_text):
    whole = pd.date_range(start, periods=steps + 7, freq=calendar)
    series = series_of(whole[:steps].astype(str) if as_text else whole[:steps])
    assert series.times.tolist() == whole[:steps].tolist()
    assert future_times(series, 7).tolist() == whole[steps:].tolist()
    cut = Item("series", series.times[:-3], series.values[:-3])
    assert future_times(cut, 3).equals(series.times[-3:])


@pytest.mark.parametrize(
    ("numbers", "ahead"),
    [
        (range(1845, 1860), [1860, 1861]),
        (np.arange(250, 255, dtype=np.uint8), [255, 256]),
        (pd.array(range(10), dtype="Int64"), [10, 11]),
        (pd.Series(range(10), dtype=object), [10, 11]),
        (np.linspace(0, 2, 11), [2.2, 2.4]),
    ],
)
def test_numbers_are_times_too(numbers, ahead):
    after = future_times(series_of(numbers), 2)
    assert after.tolist() == pytest.approx(ahead)
    assert after.dtype == np.asarray(ahead).dtype


def change(column, row, value):
    table = LONG.astype({column: object})
    table.loc[row, column] = value
    return table


UNEVEN = (
    "unlike the rows before; fill gaps (--fill linear, last or zero; fill=), or resample; "
    "write 2024-01-31, months by their first or last day"
)
TWICE = (
    "stands twice; drop a row, name the column that tells series apart (--id), "
    "or, where clocks were turned back, write offsets from UTC; of two columns that "
    "belong together, such as year and month, make one"
)
NO_DATE = "is no date, or not written as the first; write 2024-01-31"
NO_NUMBER = "is no finite number; correct it"
EMPTY = "an empty cell; fill it (--fill linear, last or zero; fill=), or drop the row"
OTHERS = "drop it, or name other columns (--target)"


@pytest.mark.parametrize(
    ("table", "row", "column", "problem", "series"),
    [
        (change("target", 2, "x"), 3, "target", f"'x' {NO_NUMBER}", "B"),
        (change("target", 3, np.nan), 4, "target", EMPTY, "B"),
        (change("target", 13, " "), 14, "target", EMPTY, "A"),
        (change("target", 3, -np.inf), 4, "target", f"'-inf' {NO_NUMBER}", "B"),
        (change("timestamp", 20, "?"), 21, "timestamp", f"'?' {NO_DATE}", "A"),
        (change("timestamp", 20, None), 21, "timestamp", f"'None' {NO_DATE}", "A"),
        (
            change("item_id", 7, None),
            8,
            "item_id",
            "an empty cell (NA reads as one, unless --id names the column); say whose row it is",
            None,
        ),
        (
            LONG.drop(index=16),
            17,
            "timestamp",
            f"2024-01-06 00:00:00 follows 2024-01-04 00:00:00, {UNEVEN}",
            "A",
        ),
        (
            LONG.drop(index=16)[::-1],
            7,
            "timestamp",
            f"2024-01-06 00:00:00 follows 2024-01-04 00:00:00, {UNEVEN}",
            "A",
        ),
        (
            LONG.assign(item_id="A"),
            13,
            "timestamp",
            f"'2024-01-01 00:00:00' {TWICE}",
            "A",
        ),
        (
            change("timestamp", 5, DAYS[0]),
            6,
            "timestamp",
            f"'2024-01-01 00:00:00' {TWICE}",
            "B",
        ),
        (
            LONG[:21],
            13,
            None,
            "the series has 9 steps, fewer than 10; bring more, or drop it",
            "A",
        ),
        (
            LONG.assign(target=[*[5.5] * 12, *WAVE]),
            1,
            "target",
            f"the series is 5.5 throughout; {OTHERS}",
            "B",
        ),
    ],
)
def test_a_fault_is_named_by_file_row_and_column(table, row, column, problem, series):
    """And its series is left out, if that is asked for, with the same words."""
    place = f"sales.csv, row {row}{f', column {column!r}' if column else ''}: {problem}"
    way_out = f"; --skip leaves series {series!r} out (skip=True)" if series else ""
    with pytest.raises(InputError) as error:
        items_of(table, COLUMNS, "sales.csv")
    assert str(error.value) == f"{place}{way_out}"

    if series and table.item_id.nunique() > 1:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            (left,) = items_of(table, COLUMNS, "sales.csv", skip=True)
        assert str(warned[0].message) == f"series {series!r} is left out: {place}"
        assert left.name == {"A": "B", "B": "A"}[series]
        assert len(left.values) == 12


def test_a_table_of_which_every_series_is_unfit_is_refused():
    with (
        pytest.warns(UserWarning, match="is left out"),
        pytest.raises(InputError, match=r"^t.csv: every series is unfit, so none is left; correct"),
    ):
        items_of(LONG.assign(target=1.0), COLUMNS, "t.csv", skip=True)
    # a table without ids has no other series, so that nothing can be left out
    for skip in (False, True):
        with pytest.raises(InputError, match=r"^t.csv, row 1, column 'y': .* \(--target\)$"):
            items_of(
                pd.DataFrame({"y": np.ones(12)}), Columns(None, None, ("y",)), "t.csv", skip=skip
            )


def test_rows_are_sorted_by_time_and_this_is_said():
    mixed = LONG.sample(frac=1, random_state=0)
    mixed = pd.concat([mixed[mixed.item_id == "B"], LONG[12:]])
    said = "^t.csv: the rows of 1 of 2 series were sorted by time$"
    with pytest.warns(UserWarning, match=said):
        items = items_of(mixed, COLUMNS, "t.csv")
    for item, expected in zip(items, items_of(LONG, COLUMNS), strict=True):
        assert item.times.equals(expected.times)
        assert item.values.tolist() == expected.values.tolist()


def filled(table, fill, said, columns=COLUMNS):
    with pytest.warns(
        UserWarning, match=rf"^the table: steps that were filled \({fill}\): {said}$"
    ):
        return items_of(table, columns, fill=fill)


@pytest.mark.parametrize(
    ("fill", "made"),
    [("linear", [2, 3, 4, 5, 6]), ("last", [2, 2, 2, 5, 5]), ("zero", [2, 0, 0, 5, 0])],
)
def test_gaps_are_filled_as_the_user_says(fill, made):
    # Of 1, 2, ..., 12 the third is an empty cell; the fourth and the sixth have no row.
    table = LONG.assign(target=[*range(1, 13)] * 2).astype({"target": float})
    table.loc[2, "target"] = np.nan
    gaps, whole = filled(table.drop(index=[3, 5]), fill, 3)
    assert gaps.values[1:6, 0].tolist() == made
    assert gaps.times.equals(whole.times)
    assert np.delete(gaps.values[:, 0], [2, 3, 5]).tolist() == [1, 2, 5, 7, 8, 9, 10, 11, 12]
    assert whole.values[:, 0].tolist() == list(range(1, 13))


def test_an_empty_cell_is_filled_without_time_stamps_too():
    table = pd.DataFrame({"a": [*range(11), None, 12.0], "b": [0, None, None, *range(3, 13)]})
    (item,) = filled(table, "linear", 3, Columns(None, None, ("a", "b")))
    assert item.values.tolist() == [[step, step] for step in range(13)]


def test_nothing_is_filled_before_or_after_what_is_known():
    future = pd.concat(
        [LONG[:12], LONG[:2].assign(timestamp=DAYS[-1] + pd.to_timedelta([1, 2], "D"))]
    )
    future.iloc[-2:, 2] = np.nan
    problem = (
        "row 13, column 'target': an empty cell before the first or after the last value of its "
        r"series; drop the row \(nothing is filled there, and no covariates of the future are "
    )
    with pytest.raises(InputError, match=problem):
        items_of(future, COLUMNS, fill="zero")
    with pytest.raises(InputError, match="row 1, column 'target': an empty cell before the first"):
        items_of(change("target", 0, None), COLUMNS, fill="last")


def test_what_cannot_be_filled_is_refused():
    with pytest.raises(InputError, match=r"^fill is 'mean'; it may be linear, last, zero or None$"):
        items_of(LONG, COLUMNS, fill="mean")
    # at noon no day has a stamp
    uneven = change("timestamp", 4, DAYS[4] + pd.Timedelta(hours=12, seconds=1))
    with pytest.raises(InputError, match="no spacing holds all stamps, so that nothing can be fil"):
        items_of(uneven, COLUMNS, fill="zero")


@pytest.mark.parametrize(
    ("stamps", "row", "problem"),
    [
        ([*range(10), 9.5], 11, f"9.5 follows 9.0, {UNEVEN}"),
        (
            ["13/01/2024", "14/01/2024", "01/15/2024"],
            3,
            f"'01/15/2024' {NO_DATE}",
        ),
        (["Jan-18", "Feb-18", "Mar-18"], 1, f"'Jan-18' {NO_DATE}"),
        (
            pd.bdate_range("2024-01-01", periods=20).delete(8),
            9,
            "2024-01-12 00:00:00 follows 2024-01-10 00:00:00",
        ),
        (
            pd.date_range("2024-01-31", periods=14, freq="ME").delete(8),
            9,
            "2024-10-31 00:00:00 follows 2024-08-31",
        ),
    ],
)
def test_the_first_stamp_that_is_wrong_is_named(stamps, row, problem):
    with pytest.raises(InputError) as error:
        series_of(stamps)
    assert str(error.value).startswith(f"t.csv, row {row}, column 'ds': {problem}")


def test_numbers_may_stand_in_any_order():
    with pytest.warns(UserWarning, match="the rows of 1 of 1 series were sorted by time"):
        series = series_of(np.array([5, 3, 4], dtype=np.uint8))
    assert series.times.tolist() == [3, 4, 5]
    assert series.values[:, 0].tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("table", "given", "problem"),
    [
        (
            LONG,
            {"id": "shop"},
            ": no column 'shop' among 'item_id, timestamp, target'; say which with id_column, ",
        ),
        (LONG, {"time": "ds"}, ": no column 'ds' among "),
        (
            LONG.set_index("item_id"),
            {"id": "item_id"},
            ": no column 'item_id' among 'timestamp, target'; say which with id_column, "
            "timestamp_column and target (--id, --time, --target); two may be None; "
            "df.reset_index() makes a column of it",
        ),
        (LONG[:0], {}, " has column names and no rows; add a row for each step"),
        (
            LONG,
            {"targets": ["target"] * 2},
            ": 2 columns of numbers; name 1 to 8 of 'item_id, timestamp, target' (",
        ),
        (LONG[["item_id"]], {}, ": 0 columns of numbers; name 1 to 8 of 'item_id' (--target)"),
        (
            pd.DataFrame(np.ones((12, 9)), columns=list("bcdefghij")),
            {},
            ": 9 columns of numbers; name 1 to 8 of 'b, c",
        ),
    ],
)
def test_columns_that_cannot_be_are_refused(table, given, problem):
    with pytest.raises(InputError) as error:
        items_of(table, guess_columns(table, **given), "t.csv")
    assert str(error.value).startswith(f"t.csv{problem}")


@pytest.mark.parametrize("name", LONG.columns)
def test_two_columns_of_one_name_are_refused(name):
    table = pd.concat([LONG, LONG[[name]]], axis=1)
    with pytest.raises(InputError) as error:
        items_of(table, COLUMNS, "t.csv")
    assert str(error.value) == f"t.csv: several columns are called '{name}'; rename all but one"
