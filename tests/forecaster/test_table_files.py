"""Files of tables: what is read, what is refused and how, and that nothing is written half or over another."""

import importlib.util
import os
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from m2lib.files import InputError
from m2lib.forecaster import check_output, guess_columns, items_of, read_table, write_table

TABLE = pd.DataFrame(
    {
        "item_id": ["Å", "NL", "Å"],
        "timestamp": pd.to_datetime(["2024-01-01", "2024-01-01", "2024-01-02"]),
        "y": [1.5, 0.1, -2],
    }
)
needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="needs pyarrow")


def put(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("ending", ["csv", pytest.param("parquet", marks=needs_pyarrow)])
def test_what_is_written_is_read(tmp_path, ending):
    path = tmp_path / "new" / f"table.{ending}"
    write_table(TABLE, path)
    found = read_table(path)
    found["timestamp"] = pd.to_datetime(found["timestamp"])
    pd.testing.assert_frame_equal(found, TABLE, check_dtype=False)
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n", "\ufeffa,b\n1,2", "a,b\n1,2\n\n,\n", "a,b\n1,2,\n"])
def test_what_spreadsheets_write_is_read(tmp_path, text):
    read = read_table(put(tmp_path / "t.CSV", text))
    assert read.to_dict("list") == {"a": [1], "b": [2]}
    assert (read.dtypes == "int64").all()  # an empty row at the end would make floats of years and ids


def test_a_blank_line_counts_as_a_row(tmp_path):
    assert read_table(put(tmp_path / "t.csv", "y\n1\n\n3\n"))["y"].isna().tolist() == [False, True, False]


COMMAS = "has no commas; save the table with commas between its columns, and points in its numbers"
CELLS = "give every row as many cells as line 1, and its numbers points instead of commas"
ADVICE = "save the table as CSV in UTF-8, with a line of column names"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", f" is empty; {ADVICE}"),
        ("\n\n", f" is empty; {ADVICE}"),
        (b"\x89PNG\r\n\x1a\n\0\0", f" is not UTF-8 text (byte 0); {ADVICE}"),
        ("a,\u00e9\n1,2".encode("latin-1"), f" is not UTF-8 text (byte 2); {ADVICE}"),
        (b"a,b\n1,\0\0", f" is not text; {ADVICE}"),
        ("\ufeff1,2\n3,4\n", ", line 1: no column names; write them above the numbers"),
        ("a,a\n1,2\n", ", line 1: two columns are called 'a'; rename one"),
        ("a;b\n1;2\n", f", line 1: 'a;b' {COMMAS}"),
        ("a|b\n1|2\n", f", line 1: 'a|b' {COMMAS}"),
        ("a,b\n1,2,5\n2,3,5\n", f" is not a table (line 2: 3 cells, line 1: 2); {CELLS}"),
        ("a,b\n1,2\n\n3,4,5\n", f" is not a table (line 4: 3 cells, line 1: 2); {CELLS}"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_one_line(tmp_path, content, line):
    path = put(tmp_path / "t.csv", content)
    with pytest.raises(InputError) as error:
        read_table(path)
    assert str(error.value) == f"{path}{line}"


@pytest.mark.parametrize("text", ["a,b\n1,2\n3,4,5\n", "a,b\n1,2,3\n4,5,6\n", 'a,b\n"1,2\n', "a\n" + "9" * 200_000])
def test_rows_of_other_lengths_are_refused(tmp_path, text):
    path = put(tmp_path / "t.csv", text)
    if text.startswith("a\n"):  # a cell of any length is read
        assert len(read_table(path)) == 1
        return
    with pytest.raises(InputError, match=rf"t.csv is not a table \(.*\); {CELLS}$"):
        read_table(path)


@pytest.mark.parametrize(("name", "reason"), [("no.csv", "No such file"), ("folder", "Is a dir"), ("a.csv/b.csv", "")])
def test_where_no_file_is_that_is_said(tmp_path, name, reason):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=rf"^cannot read \S+{name} \({reason}.*\); name a .csv or .parquet file$"):
        read_table(tmp_path / name)


def test_other_endings_are_refused(tmp_path):
    for refuse in (read_table, check_output):
        with pytest.raises(
            InputError, match=r"t.xlsx does not end in .csv or .parquet; name (a table that does|it so)$"
        ):
            refuse(put(tmp_path / "t.xlsx", "y\n1"))


def test_without_pyarrow_parquet_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for refuse in (read_table, lambda path: check_output(path, force=True)):
        with pytest.raises(
            InputError, match=r"t.parquet: parquet needs pyarrow, .*: pip install pyarrow, or use .csv$"
        ):
            refuse(put(tmp_path / "t.parquet", "PAR1"))


@needs_pyarrow
def test_parquet_keeps_an_index_that_has_a_name(tmp_path):
    TABLE.set_index("timestamp").to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").columns.tolist() == ["timestamp", "item_id", "y"]
    with pytest.raises(InputError, match=r"broken.parquet is no readable parquet file \(.*\); write it anew$"):
        read_table(put(tmp_path / "broken.parquet", "PAR1"))


@needs_pyarrow
def test_parquet_of_any_names_and_index_is_read(tmp_path):
    TABLE.set_index("timestamp", drop=False).to_parquet(tmp_path / "twice.parquet")
    assert read_table(tmp_path / "twice.parquet").columns.tolist() == TABLE.columns.tolist()
    for names in (["item_id", None], ["item_id", "timestamp"], [None, "timestamp"]):
        levels = [TABLE.item_id, TABLE.timestamp]
        TABLE.set_index(pd.MultiIndex.from_arrays(levels, names=names))[["y"]].to_parquet(tmp_path / "levels.parquet")
        made = [name or f"level_{place}" for place, name in enumerate(names)]
        assert read_table(tmp_path / "levels.parquet").columns.tolist() == [*made, "y"]
    pd.DataFrame([[1.0, 2.0]]).to_parquet(tmp_path / "numbers.parquet")
    assert read_table(tmp_path / "numbers.parquet").columns.tolist() == ["0", "1"]


def test_ids_keep_their_leading_zeros(tmp_path):
    rows = [f"{name}{month:02d},{month}.5" for name in ("007,", "7, ", '"01", ') for month in range(-2, 10)]
    df = read_table(put(tmp_path / "t.csv", "\n".join(["id,month,y", *rows])))
    columns = guess_columns(df)
    assert (columns.id, columns.time, columns.targets) == ("id", "month", ("y",))
    items = items_of(df, columns)
    assert [item.name for item in items] == ["007", "7", "01"]
    assert items[0].times.tolist() == items[1].times.tolist() == list(range(-2, 10))
    written = put(tmp_path / "plain.csv", "id,y,t\n7,0.5,00:30\n10,01.5,01/02/2024\n")
    assert read_table(written).dtypes.astype(str).tolist()[:2] == ["int64", "float64"]


def test_a_drive_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr(os.path, "exists", lambda _: False)  # of Windows' Z:\\ not even the root
    with pytest.raises(InputError, match=r"^cannot write .*t.csv: there is no .*; choose another$"):
        check_output(Path("/z/t.csv"))


def test_a_file_that_stands_there_stays_without_force(tmp_path):
    path = put(tmp_path / "t.csv", "mine")
    with pytest.raises(InputError, match=r"t.csv exists; name another file, or replace it with --force$"):
        write_table(TABLE, path)
    assert path.read_bytes() == b"mine"
    write_table(TABLE, path, force=True)
    assert len(read_table(path)) == 3


def test_an_output_is_refused_before_hours_of_work(tmp_path, monkeypatch):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"folder.csv is a folder; name a file$"):
        check_output(tmp_path / "folder.csv", force=True)
    put(tmp_path / "a.csv", "y").chmod(0o755)
    with pytest.raises(InputError, match=r"a.csv is no folder that may be written to \(.*\); choose another$"):
        check_output(tmp_path / "a.csv" / "b.csv")
    check_output(tmp_path / "new" / "t.csv")

    def refuses(dir):
        raise PermissionError(13, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuses)  # root may write to any folder
    with pytest.raises(InputError, match=rf"^cannot write .*t.csv: {tmp_path} is no folder that may be written to \(P"):
        check_output(tmp_path / "new" / "t.csv")
    assert sorted(os.listdir(tmp_path)) == ["a.csv", "folder.csv"]
