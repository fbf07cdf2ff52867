"""Files of tables: CSV and parquet read and written, with one line for whatever is wrong with them."""

import csv
import importlib.util
import io
import os
import re
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from m2lib.files import InputError, first_line, quoted, user_path, write_atomic

PADDED = r" *-?0\d+ *"
"""A cell that would lose a zero if it were read as a number."""
_PADDED_CELL = re.compile(rf'(?:^|[,"]){PADDED}(?=[",\r\n]|\Z)', re.MULTILINE)


def read_table(path: Path) -> pd.DataFrame:
    """The table in a file.

    Parameters
    ----------
    path : Path
        A .csv (UTF-8, commas, names in the first line) or .parquet file; `~` is the home folder.

    Returns
    -------
    pd.DataFrame
        What it holds, of the types that pandas gives it; in CSV, columns with cells like 007 are text.

    Raises
    ------
    InputError
        In one line, where no file can be read there, it is no table, or two columns have one name.
    """
    path = user_path(str(path), "the table")
    try:
        with path.open("rb") as file:
            read = _read_parquet if _is_parquet(path) else _read_csv
            return read(file.read(), str(path))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); name a .csv or .parquet file") from error


def check_output(path: Path, force: bool = False, endings: Sequence[str] = (".csv", ".parquet")) -> None:
    """See that a file can be written, before hours are spent on what it will hold.

    Parameters
    ----------
    path : Path
        Where to.
    force : bool, optional
        Whether a file that stands there may be replaced.
    endings : sequence of str, optional
        What its name may end in.

    Raises
    ------
    InputError
        For another ending, a file that exists, and a folder that cannot be written to.
    """
    path = user_path(str(path), "the output")
    if path.suffix.lower() not in endings:
        raise InputError(f"{path} does not end in {' or '.join(endings)}; name it so")
    if path.suffix.lower() == ".parquet":
        _is_parquet(path)  # which needs a library
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; name a file")
    if os.path.exists(path) and not force:
        raise InputError(f"{path} exists; name another file, or replace it with --force")
    check_folder(path)


def check_folder(path: Path) -> None:
    """See that a file may be made at a path, and the folders on the way; nothing is left there.

    Parameters
    ----------
    path : Path
        The file's.

    Raises
    ------
    InputError
        Naming what is in the way: a file, or a folder that is read-only.
    """
    folder = next((above for above in path.absolute().parents if os.path.exists(above)), None)
    if folder is None:  # as on Windows, where a drive may be missing
        raise InputError(f"cannot write {path}: there is no {path.absolute().anchor}; choose another")
    try:  # os.access says yes to root even where nothing can be written, and to all on Windows
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        problem = f"{folder} is no folder that may be written to ({error.strerror})"
        raise InputError(f"cannot write {path}: {problem}; choose another") from error


def write_table(frame: pd.DataFrame, path: Path, force: bool = False) -> None:
    """Write a table, whole or not at all.

    Parameters
    ----------
    frame : pd.DataFrame
        The table; its index is not written.
    path : Path
        A .csv or .parquet file.
    force : bool, optional
        Whether a file that stands there may be replaced.

    Raises
    ------
    InputError
        As of `check_output`, and where the disk is full.
    """
    check_output(path, force)
    path = user_path(str(path), "the output")
    content = frame.to_parquet(index=False) if _is_parquet(path) else frame.to_csv(index=False).encode()
    write_atomic(path, content)


def fault(problem: str, where: str, row: Any = None, column: str | None = None) -> InputError:
    """What is wrong with a table, and where.

    Parameters
    ----------
    problem : str
        What is wrong, and what to do.
    where : str
        The table's name; of a path that ends in .csv the line is given too.
    row : int, optional
        Of the table, from 0.
    column : str, optional
        Of the table.

    Returns
    -------
    InputError
        Such as `sales.csv, row 7 (line 8), column 'y': ...` for row 6; people count from 1.
    """
    line = f" (line {row + 2})" if row is not None and where.lower().endswith(".csv") else ""
    rows = [] if row is None else [f"row {row + 1}{line}"]
    columns = [] if column is None else [f"column {quoted(str(column))}"]
    return InputError(f"{', '.join([where, *rows, *columns])}: {problem}")


def check_once(names: Sequence[str], where: str) -> None:
    """See that no two columns have one name.

    Parameters
    ----------
    names : sequence of str
        All columns' names.
    where : str
        What the error calls the table.

    Raises
    ------
    InputError
        Naming the first that comes again.
    """
    index = pd.Index(names)
    if not index.is_unique:
        name = quoted(str(index[index.duplicated()][0]))
        raise InputError(f"{where}: two columns are called {name}; rename one")


def _is_parquet(path: Path) -> bool:
    """Whether it is parquet, else CSV; InputError for other endings, and where pandas has nothing to read it with."""
    ending = path.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise InputError(f"{path} does not end in .csv or .parquet; name a table that does")
    if ending == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise InputError(f"{path}: parquet needs pyarrow, which is not installed: pip install pyarrow, or use .csv")
    return ending == ".parquet"


def _read_parquet(content: bytes, where: str) -> pd.DataFrame:
    try:
        df = pd.read_parquet(io.BytesIO(content))
    except Exception as error:  # of a damaged file pyarrow says so by exceptions of many kinds
        raise InputError(f"{where} is no readable parquet file ({first_line(error)}); write it anew") from error
    df.columns = df.columns.map(str)
    levels = [place for place, name in enumerate(df.index.names) if name in df.columns]
    df = df.reset_index(level=levels, drop=True) if levels else df
    return df.reset_index() if any(name is not None for name in df.index.names) else df


def _read_csv(content: bytes, where: str) -> pd.DataFrame:
    text = _text(content, where)
    try:
        _check_header(next(csv.reader(io.StringIO(text))), where)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are longer than the first
            # A blank line stays, as a row of empty cells: without it those below would be counted wrong.
            read = partial(pd.read_csv, index_col=False, skip_blank_lines=False, low_memory=False)
            df = read(io.StringIO(text))
            return _with_leading_zeros(df, read(io.StringIO(text), dtype=str)) if _PADDED_CELL.search(text) else df
    except (csv.Error, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        problem = _longer_row(text) or first_line(error).rstrip(".")
        advice = "give every row as many cells as line 1, and its numbers points instead of commas"
        raise InputError(f"{where} is not a table ({problem}); {advice}") from error


def _with_leading_zeros(df: pd.DataFrame, written: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns stay as they are written where a cell is like 007: 7 may be another series."""
    for name in df.columns:
        if written[name].str.fullmatch(PADDED).any():
            df[name] = written[name]
    return df


def _longer_row(text: str) -> str:
    """The first row that has more cells than line 1, in words; empty where there is none, or it cannot be read."""
    rows = csv.reader(io.StringIO(text))
    try:
        width = len(next(rows))
        return next(
            (f"line {rows.line_num}: {len(row)} cells, line 1: {width}" for row in rows if len(row) > width), ""
        )
    except csv.Error:
        return ""


def _text(content: bytes, where: str) -> str:
    """A CSV file's text, without the empty rows that spreadsheets leave at its end."""
    advice = "save the table as CSV in UTF-8, with a line of column names"
    try:
        text = content.decode("utf-8-sig").rstrip(",; \t\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not UTF-8 text (byte {error.start}); {advice}") from error
    if not text or "\0" in text:
        raise InputError(f"{where} is {'not text' if text else 'empty'}; {advice}")
    return text


def _check_header(names: list[str], where: str) -> None:
    place = f"{where}, line 1"
    if not "".join(names) or pd.to_numeric(pd.Series(names), errors="coerce").notna().all():
        raise InputError(f"{place}: no column names; write them above the numbers")
    if len(names) == 1 and set(";\t|") & set(names[0]):
        advice = "save the table with commas between its columns, and points in its numbers"
        raise InputError(f"{place}: {quoted(names[0])} has no commas; {advice}")
    check_once([name for name in names if name], place)
