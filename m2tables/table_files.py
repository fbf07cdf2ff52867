"""Files that hold tables: .csv and .parquet files are read, and written whole or not at all."""

import re
import warnings
from collections.abc import Collection, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype

from m2lib.errors import InputError, first_line
from m2lib.files import check_folder, write_atomic
from m2tables.tables import IDS

# Significant digits of a forecast in a .csv file. Most of a float's 17 say nothing. But a series
# may lie far from zero: at a level of 100,000 times its range, ten digits show a 100,000th of it.
DIGITS = 10
MISSING = ("", "NA", "N/A", "#N/A", "NaN", "nan", "null", "NULL", "None")


def read_table(path: str | Path, id: str | None = None) -> pd.DataFrame:
    """Read the table in a .csv or .parquet file.

    Ids of a .csv file, in columns with a usual name or called `id`, stay text, because 007 would
    become the number 7. Its rows without any cell at the end, such as Excel writes, are dropped. An
    index of a .parquet file becomes a column, unless it only numbers the rows. InputError for a
    file that cannot be read, or that is no table.
    """
    try:
        if Path(path).suffix.lower() == ".parquet":
            return _read_parquet(path)
        return _read_csv(path, IDS if id is None else (*IDS, id.lower()))
    except (OSError, ValueError, ImportError) as error:
        problem = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        if isinstance(error, ImportError):  # pandas names the remedy in a further line only
            problem = "parquet needs pyarrow, which is missing or too old: pip install -U pyarrow"
        raise InputError(
            f"cannot read {path} as a table ({problem}); give a .csv file in UTF-8, with names in "
            "line 1 and commas between its cells, or a .parquet file"
        ) from error


def _read_parquet(path: str | Path) -> pd.DataFrame:
    """Read a .parquet file; an index without a name is called timestamp if it has dates."""
    df = pd.read_parquet(path)
    index = df.index
    if any(index.names) or not is_integer_dtype(index):
        df = df.rename_axis("timestamp") if index.names == [None] else df
        # After `df.index = df["date"]` there are two of that name, which `columns_of` refuses.
        df = df.reset_index(allow_duplicates=True)
    return df.rename(columns=str)  # shops 1 and 2, side by side, were numbers


def _read_csv(path: str | Path, ids: Collection[str]) -> pd.DataFrame:
    """Read a .csv file as text, and make numbers of the columns that hold nothing else."""
    with warnings.catch_warnings():
        # Where rows have more cells than there are names, pandas warns and drops the rest.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            df = pd.read_csv(
                path,
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                index_col=False,
                skipinitialspace=True,
            )
        except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
            with open(path, encoding="utf-8", errors="replace") as lines:
                _refuse_other_marks(lines.readline())
            if isinstance(error, pd.errors.ParserError):  # it names the line
                raise
            raise ValueError(
                "rows have more cells than line 1 has names, as where 1.5 is written 1,5 or a "
                "title stands above the names"
            ) from error
    _refuse_other_marks(",".join(df.columns))
    df.columns = df.columns.str.strip()
    is_blank = df.isna().all(axis=1).to_numpy()
    df = df[: len(df) - int(is_blank[::-1].cumprod().sum())]  # without the blank rows at the end
    if np.isfinite(pd.to_numeric(df.columns, errors="coerce")).any():  # `inf` is a name
        raise ValueError(
            "its first line holds numbers, not names alone; where years or shops stand side by "
            "side, a column each, df.melt makes rows of them"
        )
    return df.apply(_typed, ids=ids)


def _refuse_other_marks(names: str) -> None:
    """Raise ValueError where something else than a comma stands between the names of columns."""
    if "," not in names and (mark := re.search("[;\t|]", names)):
        raise ValueError(
            f"{mark[0]!r} parts its cells; save it anew with commas and decimal points"
        )


def _typed(cells: pd.Series, ids: Collection[str]) -> pd.Series:
    """Return the numbers of a column of texts, or the texts where one is no number, such as 007.

    Texts for a missing value are NaN, but not among ids, where NA may be Namibia.
    """
    cells = cells.str.strip()
    is_id = str(cells.name).lower() in ids
    cells = cells.mask(cells.isin([""] if is_id else MISSING))
    numbers = pd.to_numeric(cells, errors="coerce")
    is_code = is_id or cells.str.match(r"0\d").any()
    return cells if is_code or not numbers.notna().equals(cells.notna()) else numbers


def check_output(
    path: str | Path, force: bool = False, endings: Sequence[str] = (".csv", ".parquet")
) -> None:
    """Raise InputError for a file that cannot be written, before hours are spent on its content.

    Refused are a file with none of the `endings`, a parquet file where pyarrow is not installed, a
    folder, a file in a folder that is read-only, a file that exists, unless `force` is set, and one
    that cannot be written even so, as where another program on Windows has it open.
    """
    path = Path(path)
    if path.suffix.lower() not in endings:
        raise InputError(f"{path} does not end in {' or '.join(endings)}; name it so")
    if path.suffix.lower() == ".parquet" and not find_spec("pyarrow"):
        raise InputError(
            f"{path}: parquet needs pyarrow, which is not installed: "
            "pip install pyarrow, or use .csv"
        )
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file")
    if path.exists():
        if not force:
            raise InputError(f"{path} exists; name another file, or replace it with --force")
        try:
            path.open("r+b").close()  # Windows refuses while Excel has it open
        except OSError as error:
            raise InputError(
                f"{path} cannot be replaced ({error.strerror}); close it in other programs, or "
                "name another file"
            ) from error
    check_folder(path.parent)


def write_table(frame: pd.DataFrame, path: str | Path, rounded: Sequence[str] = ()) -> None:
    """Write a table, without its index, to a .csv or .parquet file, whole or not at all.

    In a .csv file the columns of numbers that `rounded` names have ten significant digits, and all
    others are written in full, as everything is in a .parquet file.
    """
    path = Path(path)
    if path.suffix.lower() == ".parquet":
        content = frame.to_parquet(index=False)
    else:
        content = csv_of(frame, rounded).encode()
    write_atomic(path, content)


def csv_of(frame: pd.DataFrame, rounded: Sequence[str] = ()) -> str:
    """Return a table as the text of a .csv file, some columns with ten significant digits."""
    shorter = {name: frame[name].map(_shortened) for name in rounded}
    return frame.assign(**shorter).to_csv(index=False)


def _shortened(number: float) -> float:
    """Round a number to `DIGITS` significant digits: 16.893273273273273 to 16.89327327."""
    return float(f"{number:.{DIGITS}g}")
