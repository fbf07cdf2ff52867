"""Files that hold tables: .csv and .parquet files are read, and written whole or not at all."""

import re
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype, is_integer_dtype

from m2lib.errors import InputError, first_line, quoted, warn
from m2lib.files import check_folder, write_atomic
from m2lib.forecaster.columns import IDS, TIMES

# Significant digits of a forecast in a .csv file. The model writes numbers of two to six digits
# within the range of what it reads, so most of a float's 17 say nothing. But a series may lie far
# from zero: at a level of 100,000 times its range, ten digits still show a 100,000th of the range.
DIGITS = 10


def read_table(path: str | Path, id: str | None = None) -> pd.DataFrame:
    """Read the table in a .csv or .parquet file.

    Ids of a .csv file stay text, because 007 would become the number 7. `id` names their column,
    where it has none of the usual names. An index of a .parquet file becomes a column, unless it
    only numbers the rows. InputError for a file that cannot be read, or that is no table.
    """
    ending = Path(path).suffix.lower()
    if ending in (".xlsx", ".xls", ".ods"):
        raise InputError(
            f"{path} is a workbook, which is not read; save its sheet as CSV UTF-8, with dates "
            "such as 2024-01-31 and no mark for thousands"
        )
    try:
        if ending == ".parquet":
            df = _with_index(pd.read_parquet(path))
            df.columns = df.columns.map(str)  # shops 1 and 2, side by side, were numbers
            return df
        return _read_csv(path, id)
    except (OSError, ValueError, ImportError, pd.errors.ParserWarning) as error:
        problem = getattr(error, "strerror", None) or first_line(error).rstrip(".")
        if isinstance(error, ImportError):  # pandas names the remedy in a further line only
            problem = "parquet needs pyarrow, which is missing or too old: pip install -U pyarrow"
        if isinstance(error, pd.errors.ParserWarning):  # pandas speaks of its own arguments
            problem = (
                "a line has more cells than line 1 has names, as where 1.5 is written 1,5, or "
                "where semicolons part the cells; save it anew after "
                'pd.read_csv(file, sep=";", decimal=","), or with thousands="," in place of '
                "decimal where 1,200 is twelve hundred; a title above the names has to go"
            )
        raise InputError(
            f"cannot read {path} as a table ({problem}); give a .csv file in UTF-8, with names in "
            "line 1 and commas between its cells, or a .parquet file"
        ) from error


def _with_index(df: pd.DataFrame) -> pd.DataFrame:
    """Turn an index that says more than the rows' numbers into a column or several."""
    index = df.index
    is_nameless = not any(index.names)
    if is_nameless and is_integer_dtype(index):
        return df
    # An index of dates without a name gets a usual one, if it is free.
    if is_nameless and isinstance(index, pd.DatetimeIndex | pd.PeriodIndex) and TIMES[0] not in df:
        df = df.rename_axis(TIMES[0])
    # After `df.index = df["date"]` there are two of that name, which `guess_columns` refuses.
    return df.reset_index(allow_duplicates=True)


def _read_csv(path: str | Path, id: str | None) -> pd.DataFrame:
    """Read the table in a .csv file; ValueError or pandas' ParserWarning where there is none."""
    names = pd.read_csv(path, nrows=0, skipinitialspace=True).columns
    numbers = pd.to_numeric(names, errors="coerce")
    if np.isfinite(numbers).any():  # a column called `inf` has a name
        raise ValueError(
            "its first line holds numbers, not names alone; where years or shops stand side by "
            "side, a column each, df.melt makes rows of them"
        )
    # A name may have a comma, as in `day;sales, net`.
    marks = "[;\t|]" if len(names) == 1 else "[;\t]"
    if mark := re.search(marks, names[0]):
        raise ValueError(
            f"{mark[0]!r} parts its cells; save it anew after pd.read_csv(file, sep={mark[0]!r}), "
            'and give it decimal="," as well where 1.5 is written 1,5'
        )
    as_text = {name: str for name in names if name == id or name.lower() in IDS}
    with warnings.catch_warnings():
        # Where a row has more cells than there are names, as when 1.5 is written 1,5, pandas warns
        # and drops the rest.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        # The file is read as a whole: by default pandas types a large one part by part, and so a
        # shop 7 would be a number in one part and a text in another, which makes two series of it.
        df = pd.read_csv(
            path, index_col=False, dtype=as_text, skipinitialspace=True, low_memory=False
        )
    if as_text:  # once more, because NA, which pandas takes for an empty cell, may be Namibia
        ids = pd.read_csv(
            path,
            index_col=False,
            usecols=list(as_text),
            dtype=str,
            keep_default_na=False,
            na_values=[""],
            skipinitialspace=True,
        )
        df[list(as_text)] = ids[list(as_text)]
    _warn_of_thousands(path, df)
    return df


def _warn_of_thousands(path: str | Path, df: pd.DataFrame) -> None:
    """Warn of columns whose points seem to mark thousands: 950 and 1.012, which is read as 1.012.

    They do if some cells have no point, and all others have one before three last digits. Where
    all numbers are above a thousand this cannot be seen, and only the unit changes.
    """
    fractions = [name for name in df if is_float_dtype(df[name]) and _has_thousandths(df[name])]
    if not fractions:
        return
    texts = pd.read_csv(path, usecols=fractions, index_col=False, dtype=str, skipinitialspace=True)
    for name in fractions:
        cells = texts[name].dropna().str.strip()
        pointed = cells[cells.str.contains(".", regex=False)]
        thousands = pointed.str.fullmatch(r"-?[1-9]\d{0,2}\.\d{3}")
        if 0 < len(pointed) < len(cells) and thousands.all():
            warn(
                f"{path}, column {quoted(name)}: {pointed.iloc[0]} is read as a number below 1000; "
                "if its point marks thousands, save the file anew after "
                'pd.read_csv(file, thousands=".", decimal=",", dtype={"day": str}), with the name '
                "of your column of dates in place of day"
            )


def _has_thousandths(numbers: pd.Series) -> bool:
    """Return whether all numbers are below 1000 and have at most three digits after the point."""
    thousandths = 1000 * numbers.dropna()
    below = thousandths.abs() < 1e6
    # 1.013 * 1000 is 1012.9999999999999.
    return bool((below & np.isclose(thousandths, thousandths.round(), rtol=1e-9, atol=0)).all())


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
        shorter = {name: frame[name].map(_shortened) for name in rounded}
        content = frame.assign(**shorter).to_csv(index=False).encode()
    write_atomic(path, content)


def _shortened(number: float) -> float:
    """Round a number to `DIGITS` significant digits: 16.893273273273273 to 16.89327327."""
    return float(f"{number:.{DIGITS}g}")
