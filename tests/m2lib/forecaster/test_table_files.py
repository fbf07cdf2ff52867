"""Files that hold tables are read, and written whole; what is no table is refused in one line."""

import importlib.util
import re
import warnings
from pathlib import Path

import pandas as pd
import pytest

from example_tables import B_ALONE, DAYS, TWO_SERIES
from m2lib.errors import InputError
from m2lib.forecaster import (
    Columns,
    check_output,
    guess_columns,
    items_of,
    read_table,
    write_table,
)

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow"
)


def write_file(path, content):
    """Write text or bytes into a file, and return its path."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("ending", ["csv", pytest.param("parquet", marks=needs_pyarrow)])
def test_what_is_written_is_read(tmp_path, ending):
    path = tmp_path / "new" / f"table.{ending}"
    write_table(TWO_SERIES, str(path))  # a plain text is as good as a Path, as in `read_table`

    table = read_table(path)
    table["timestamp"] = pd.to_datetime(table["timestamp"])
    pd.testing.assert_frame_equal(table, TWO_SERIES, check_dtype=False)

    # No scratch file is left beside it.
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["csv", pytest.param("parquet", marks=needs_pyarrow)])
def test_a_table_that_cannot_be_written_leaves_the_file_before(tmp_path, monkeypatch, ending):
    def fail(*_):
        raise OSError(28, "No space left on device")

    path = write_file(tmp_path / f"table.{ending}", "mine")
    monkeypatch.setattr("m2lib.files.os.fsync", fail)

    with pytest.raises(InputError, match=r"cannot write .*table\.\w+: No space left on device"):
        write_table(TWO_SERIES, path)

    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


FULL = [0.0, 16.893273273273273, 1234567890.25, -2e-12 / 3]
FORECASTS = pd.DataFrame({"year": FULL, "predictions": FULL})


def test_a_csv_file_has_ten_digits_in_the_columns_that_are_rounded(tmp_path):
    path = tmp_path / "t.csv"
    write_table(FORECASTS, path, rounded=["predictions"])
    assert path.read_text(encoding="utf-8").split() == [
        "year,predictions",
        "0.0,0.0",
        "16.893273273273273,16.89327327",
        "1234567890.25,1234567890.0",
        "-6.666666666666667e-13,-6.666666667e-13",
    ]


@needs_pyarrow
def test_a_parquet_file_has_all_digits(tmp_path):
    path = tmp_path / "t.parquet"
    write_table(FORECASTS, path, rounded=["predictions"])
    assert read_table(path).predictions.tolist() == FULL


@needs_pyarrow
def test_parquet_keeps_an_index_that_has_a_name(tmp_path):
    path = tmp_path / "t.parquet"
    TWO_SERIES.set_index("timestamp").to_parquet(path)
    assert read_table(path).columns.tolist() == ["timestamp", "item_id", "target"]


@needs_pyarrow
def test_parquet_keeps_an_index_of_dates_that_has_no_name(tmp_path):
    path = tmp_path / "t.parquet"
    B_ALONE.set_index(DAYS)[["target"]].to_parquet(path)

    table = read_table(path)
    assert guess_columns(table) == Columns(None, "timestamp", ("target",))
    assert table.timestamp.tolist() == DAYS.tolist()


@needs_pyarrow
def test_an_index_of_dates_is_called_index_where_another_column_is_called_timestamp(tmp_path):
    path = tmp_path / "t.parquet"
    B_ALONE.set_index(DAYS).to_parquet(path)
    assert read_table(path).columns.tolist() == ["index", "item_id", "timestamp", "target"]


@needs_pyarrow
def test_an_index_that_is_called_as_a_column_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    table = B_ALONE.copy()
    table.index = table["timestamp"]
    table.to_parquet(path)
    with pytest.raises(InputError, match="several columns are called 'timestamp'; rename all but"):
        guess_columns(read_table(path))


@needs_pyarrow
def test_numbers_that_name_columns_of_parquet_become_text(tmp_path):
    """As where the shops 7 and 8 were put side by side by `df.pivot`."""
    path = tmp_path / "t.parquet"
    pd.DataFrame({7: range(12), 8: range(12)}, index=DAYS).to_parquet(path)
    assert guess_columns(read_table(path)) == Columns(None, "timestamp", ("7", "8"))


@needs_pyarrow
def test_an_index_of_row_numbers_is_dropped(tmp_path):
    path = tmp_path / "t.parquet"
    TWO_SERIES[3:].to_parquet(path)  # the index is 3, 4, ...
    assert read_table(path).columns.tolist() == ["item_id", "timestamp", "target"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a,b\r\n1,2\r\n", id="line ends of Windows"),
        pytest.param("\ufeffa,b\n1,2", id="a byte order mark"),
        pytest.param("a,b\n\n1,2\n\n", id="empty lines"),
        pytest.param("a,b\n1,2,\n", id="a comma after the last cell"),
        pytest.param("a, b\n1, 2", id="blanks after commas"),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    path = write_file(tmp_path / "t.CSV", text)
    assert read_table(path).to_dict("list") == {"a": [1], "b": [2]}


def test_ids_are_text_and_keep_their_zeros(tmp_path):
    rows = ["Id,month,y"]
    for name in ("007", "7", '"01"'):
        rows += [f"{name},{month:02d},{month}.5" for month in range(1, 12)]
    table = read_table(write_file(tmp_path / "t.csv", "\n".join(rows)))

    items = items_of(table, guess_columns(table))
    assert [item.name for item in items] == ["007", "7", "01"]

    # Other columns lose their zeros: month 01 is the number 1.
    assert items[0].times.tolist() == list(range(1, 12))


def test_a_column_called_inf_has_a_name(tmp_path):
    path = write_file(tmp_path / "t.csv", "year,inf\n2020,1.5\n")
    assert read_table(path).columns.tolist() == ["year", "inf"]


def test_a_long_file_is_typed_as_a_whole(tmp_path):
    """By itself pandas reads it in parts, in the first of which a shop 7 would be a number."""
    lines = ["shop,sold", *["7,1"] * 400_000, *["A,1"] * 400_000]
    table = read_table(write_file(tmp_path / "t.csv", "\n".join(lines)))
    assert set(table.shop) == {"7", "A"}


def test_na_is_an_id_and_an_empty_cell_is_none(tmp_path):
    path = write_file(tmp_path / "t.csv", "shop,y\n007,1\nNA,2\n,3\n")
    shops = read_table(path, id="shop").shop
    assert shops.fillna("none").tolist() == ["007", "NA", "none"]


ADVICE = (
    "give a .csv file in UTF-8, with names in line 1 and commas between its cells, "
    "or a .parquet file"
)
"""What every refusal of a file that is no table ends with."""
PICTURE = b"\x89PNG\r\n\x1a\n\0\0"
NUMBERS_IN_LINE_1 = (
    "its first line holds numbers, not names alone; where years or shops stand side by side, "
    "a column each, df.melt makes rows of them"
)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("", "No columns to parse from file", id="an empty file"),
        pytest.param(
            PICTURE,
            "'utf-8' codec can't decode byte 0x89 in position 0: invalid start byte",
            id="a picture",
        ),
        pytest.param("1,2\n3,4\n", NUMBERS_IN_LINE_1, id="no line of names"),
        pytest.param(
            "2024-01-01,5\n2024-01-02,7\n", NUMBERS_IN_LINE_1, id="no line of names, but dates"
        ),
        pytest.param("country,2020,2021\nChad,1,2\n", NUMBERS_IN_LINE_1, id="years side by side"),
        pytest.param(
            "a,b\n1,2\n3,4,5\n",
            "Error tokenizing data. C error: Expected 2 fields in line 3, saw 3",
            id="more cells in one line",
        ),
        pytest.param(
            "a,b\n1,2,3\n4,5,6\n",
            "a line has more cells than line 1 has names, as where 1.5 is written 1,5, or .*",
            id="more cells in every line",
        ),
    ],
)
def test_a_csv_file_that_is_no_table_is_refused_in_one_line(tmp_path, content, problem):
    path = write_file(tmp_path / "t.csv", content)
    message = rf"^cannot read .*t.csv as a table \({problem}\); {ADVICE}$"
    with pytest.raises(InputError, match=message):
        read_table(path)


@pytest.mark.parametrize("mark", [";", "\t"])
@pytest.mark.parametrize("number", ["5", "1,5"])
def test_cells_between_semicolons_or_tabs_are_refused_with_the_remedy(tmp_path, mark, number):
    path = write_file(tmp_path / "t.csv", f"day{mark}units\n01.02.2024{mark}{number}\n")
    with pytest.raises(InputError) as refused:
        read_table(path)
    message = str(refused.value)
    assert f"{mark!r} parts its cells" in message
    assert f"pd.read_csv(file, sep={mark!r})" in message
    assert 'decimal="," as well where 1.5 is written 1,5' in message


def test_semicolons_are_seen_where_a_name_has_a_comma(tmp_path):
    path = write_file(tmp_path / "t.csv", "day;sales, net\n01.02.2024;1234,5\n")
    with pytest.raises(InputError, match="';' parts its cells"):
        read_table(path)


def test_points_that_seem_to_mark_thousands_are_warned_of(tmp_path):
    rows = "month,sales\n2024-01,950\n2024-02,1.012\n2024-03,1.280\n"
    path = write_file(tmp_path / "t.csv", rows)
    with pytest.warns(UserWarning, match="column 'sales': 1.012 is read as a number below 1000"):
        read_table(path)


@pytest.mark.parametrize("cells", [("950", "1.5"), ("0.125", "1"), ("1.012", "1.280")], ids=str)
def test_fractions_are_not_taken_for_thousands(tmp_path, cells):
    path = write_file(tmp_path / "t.csv", "\n".join(["sales", *cells]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_table(path).sales.tolist() == [float(cell) for cell in cells]


def test_what_is_advised_where_points_mark_thousands_keeps_dates(tmp_path):
    path = write_file(tmp_path / "t.csv", "day,sales\n01.02.2024,950\n02.02.2024,1.012\n")
    with pytest.warns(UserWarning, match="if its point marks thousands") as warned:
        read_table(path)
    advice = re.search(r"pd\.read_csv\(.*\)", str(warned[0].message))[0]

    table = eval(advice, {"pd": pd, "file": path})

    assert table.to_dict("list") == {"day": ["01.02.2024", "02.02.2024"], "sales": [950, 1012]}


def test_a_workbook_is_refused_as_one(tmp_path):
    path = write_file(tmp_path / "t.XLSX", "PK")
    with pytest.raises(InputError, match=r"t.XLSX is a workbook.*; save its sheet as CSV UTF-8"):
        read_table(path)


def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path):
    message = rf"^cannot read .*t.csv as a table \(No such file or directory\); {ADVICE}$"
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("PAR1", id="cut off after its first bytes"),
        pytest.param(PICTURE, id="a picture"),
        pytest.param("a,b\n1,2\n", id="text, as in a .csv file"),
    ],
)
def test_a_parquet_file_that_is_no_table_is_refused_in_one_line(tmp_path, content):
    path = write_file(tmp_path / "t.parquet", content)
    message = rf"^cannot read .*t.parquet as a table \(.*\); {ADVICE}$"
    with pytest.raises(InputError, match=message):
        read_table(path)


def test_a_parquet_file_is_refused_without_pyarrow(tmp_path, monkeypatch):
    def find_no_engine(path):
        raise ImportError("Unable to find a usable engine; tried using: 'pyarrow'.\nA suitable")

    monkeypatch.setattr(pd, "read_parquet", find_no_engine)
    needed = "parquet needs pyarrow, which is missing or too old: pip install -U pyarrow"
    with pytest.raises(InputError, match=rf"t.parquet as a table \({needed}\); {ADVICE}$"):
        read_table(tmp_path / "t.parquet")


# An output is checked before the work begins, which may take hours.


def test_an_output_that_exists_is_refused_unless_it_may_be_replaced(tmp_path):
    path = write_file(tmp_path / "t.csv", "mine")

    check_output(path, force=True)
    message = r"t.csv exists; name another file, or replace it with --force$"
    with pytest.raises(InputError, match=message):
        check_output(path)

    assert list(tmp_path.iterdir()) == [path]


def test_an_output_that_another_program_has_open_is_refused_even_with_force(tmp_path, monkeypatch):
    path = write_file(tmp_path / "t.csv", "mine")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        message = r"t.csv cannot be replaced \(Permission denied\); close it in other programs"
        with pytest.raises(InputError, match=message):
            check_output(path, force=True)

    assert path.read_bytes() == b"mine"


def test_an_output_of_another_ending_is_refused(tmp_path):
    message = r"t.xlsx does not end in .csv or .parquet; name it so$"
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / "t.xlsx")
    assert list(tmp_path.iterdir()) == []


def test_an_output_in_a_folder_that_cannot_be_made_is_refused(tmp_path):
    # A file is in the folder's place. A folder that is read-only is refused in the same words.
    file = write_file(tmp_path / "t.csv", "mine")
    message = r"^cannot write into .*new: .*t.csv is no folder, or read-only; choose an"
    with pytest.raises(InputError, match=message):
        check_output(file / "new" / "t.csv")
    assert list(tmp_path.iterdir()) == [file]


def test_an_output_on_a_drive_that_is_not_there_is_refused(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", lambda path: False)
        patched.setattr(Path, "is_dir", lambda path: False)
        with pytest.raises(InputError, match="is no folder, or read-only; choose another folder"):
            check_output(Path("results", "t.csv"))


def test_an_output_that_is_a_folder_is_refused_even_with_force(tmp_path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(InputError, match=r"t.csv is a folder; name a file$"):
        check_output(tmp_path / "t.csv", force=True)


def test_an_output_of_parquet_is_refused_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr("m2lib.forecaster.table_files.find_spec", lambda name: None)
    message = r"parquet needs pyarrow, .*: pip install pyarrow, or use .csv$"
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []
