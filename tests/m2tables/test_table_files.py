"""Files that hold tables are read, and written whole; what is no table is refused in one line."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from m2lib.errors import InputError
from m2tables.table_files import check_output, read_table, write_table

needs_pyarrow = pytest.mark.skipif(
    importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow"
)


DAYS = pd.date_range("2024-01-01", periods=12)
TWO_SERIES = pd.DataFrame(
    {"item_id": ["B"] * 12 + ["A"] * 12, "timestamp": [*DAYS, *DAYS], "target": range(24)}
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
@pytest.mark.parametrize(
    ("table", "names"),
    [
        (TWO_SERIES.set_index("timestamp"), ["timestamp", "item_id", "target"]),
        (pd.DataFrame({7: range(12)}, index=DAYS), ["timestamp", "7"]),
        (TWO_SERIES[3:], ["item_id", "timestamp", "target"]),
    ],
    ids=["an index with a name", "dates without one, and a number as name", "numbers of rows"],
)
def test_an_index_of_parquet_becomes_a_column_unless_it_numbers_rows(tmp_path, table, names):
    table.to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").columns.tolist() == names


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a,b\r\n1,2\r\n", id="line ends of Windows"),
        pytest.param("\ufeffa,b\n1,2", id="a byte order mark"),
        pytest.param("a,b\n\n1,2\n\n", id="empty lines"),
        pytest.param("a,b\n1,2,\n", id="a comma after the last cell"),
        pytest.param("a, b\n1, 2", id="blanks after commas"),
        pytest.param("a ,b \n1 ,2 ", id="blanks before commas"),
        pytest.param("a,b\n1,2\n,\n,\n", id="rows of empty cells at the end"),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, text):
    path = write_file(tmp_path / "t.CSV", text)
    assert read_table(path).to_dict("list") == {"a": [1], "b": [2]}


@pytest.mark.parametrize(
    ("cells", "read"),
    [
        (["1", "2.5", "-3e2"], [1, 2.5, -300]),
        (["1", "NA", ""], [1, None, None]),
        (["7", "A", "7"], ["7", "A", "7"]),
        (["007", "7", "NA"], ["007", "7", None]),  # a code, though no number but one has zeros
        (["1,5", "2", "3"], ["1,5", "2", "3"]),
        (["16.893273273273273", "0.1", "0"], [16.893273273273273, 0.1, 0]),
    ],
    ids=str,
)
def test_columns_are_numbers_or_text_as_a_whole(tmp_path, cells, read):
    lines = ["row,cell", *(f'{row},"{cell}"' for row, cell in enumerate(cells))]
    column = read_table(write_file(tmp_path / "t.csv", "\n".join(lines))).cell
    assert column.astype(object).where(column.notna(), None).tolist() == read


def test_ids_are_text_and_na_is_one(tmp_path):
    path = write_file(tmp_path / "t.csv", "Id,y\n7,1\nNA,2\n8,3\n")
    assert read_table(path).Id.tolist() == ["7", "NA", "8"]


def test_the_ids_that_are_named_are_text(tmp_path):
    path = write_file(tmp_path / "t.csv", "sku,y\n1.10,1\n1.1,2\nNA,3\n1E2,4\n")
    assert read_table(path, id="sku").sku.tolist() == ["1.10", "1.1", "NA", "1E2"]


def test_a_column_called_inf_has_a_name(tmp_path):
    path = write_file(tmp_path / "t.csv", "year,inf\n2020,1.5\n")
    assert read_table(path).columns.tolist() == ["year", "inf"]


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
            "rows have more cells than line 1 has names, .*",
            id="more cells in every line",
        ),
    ],
)
def test_a_csv_file_that_is_no_table_is_refused_in_one_line(tmp_path, content, problem):
    path = write_file(tmp_path / "t.csv", content)
    message = rf"^cannot read .*t.csv as a table \({problem}\); {ADVICE}$"
    with pytest.raises(InputError, match=message):
        read_table(path)


@pytest.mark.parametrize("units", ["5", "5,5", "5\n2024-01-02;5,5"])
@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_cells_between_other_marks_are_refused(tmp_path, mark, units):
    path = write_file(tmp_path / "t.csv", f"day{mark}units\n2024-01-01{mark}{units}\n")
    with pytest.raises(InputError, match="parts its cells; save it anew with commas"):
        read_table(path)


def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path):
    message = rf"^cannot read .*t.csv as a table \(No such file or directory\); {ADVICE}$"
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "t.csv")


@pytest.mark.parametrize("content", ["PAR1", PICTURE, "a,b\n1,2\n"], ids=repr)
def test_a_parquet_file_that_is_no_table_is_refused_in_one_line(tmp_path, content):
    path = write_file(tmp_path / "t.parquet", content)
    with pytest.raises(InputError, match=rf"^cannot read .*t.parquet as a table \(.*\); {ADVICE}$"):
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


def test_an_output_that_is_a_folder_is_refused_even_with_force(tmp_path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(InputError, match=r"t.csv is a folder; name a file$"):
        check_output(tmp_path / "t.csv", force=True)


def test_an_output_of_parquet_is_refused_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setattr("m2tables.table_files.find_spec", lambda name: None)
    message = r"parquet needs pyarrow, .*: pip install pyarrow, or use .csv$"
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / "t.parquet")
    assert list(tmp_path.iterdir()) == []
