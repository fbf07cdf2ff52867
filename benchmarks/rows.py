"""Rows of a benchmark's record: one for each source and forecaster, of which a command adds some.

A row says of what it is (the source and a hash of its values, the forecaster and all that decides
its forecasts) and then what was measured. What a record has already is not measured again.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.sources import Source
from m2lib.errors import InputError
from m2lib.files import read_json, short_hash, write_json
from m2lib.provenance import provenance
from study.paper.textbook import by_source, summary
from study.settings import results_dir

Row = dict[str, Any]


@contextmanager
def one_line() -> Iterator[None]:
    """End the program with one line, and not with a traceback, for an error that its user can mend.

    Such are an InputError, and a package that is not installed.
    """
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:  # such as "No module named 'tsdata'"
        advice = "`pip install -c constraints.txt -e '.[yardsticks]'` brings what benchmarks need"
        sys.exit(f"error: {error}; {advice}")


def place_of(source: Source, split: str) -> Row:
    """Return what a row says of its source: name, split, and a hash of the values."""
    values = np.concatenate(source.series())
    return {"source": source.name, "split": split, "values": short_hash(values.tobytes())}


def named(sources: Sequence[Source], names: Sequence[str], what: str) -> list[Source]:
    """Return the sources with some names, in the order of these; without names, all of them.

    InputError, which says `what` the sources are for, names one that is none of them.
    """
    if not names:
        return list(sources)
    by_name = {source.name: source for source in sources}
    for name in names:
        if name not in by_name:
            raise InputError(f"no source {name} is for {what}; there are {'; '.join(by_name)}")
    return [by_name[name] for name in names]


def is_of(row: Row, key: Row) -> bool:
    """Return whether a row has all fields of a key, which are a row's first.

    A key without views is of the plain one (`benchmarks.forecasters.model_key`), so a row that
    names others is not of it.
    """
    return key.items() <= row.items() and row.get("views") == key.get("views")


def has_all(rows: Sequence[Row], keys: Iterable[Row]) -> bool:
    """Return whether there is a row for each of some keys."""
    return all(_has(rows, key) for key in keys)


def _has(rows: Sequence[Row], key: Row) -> bool:
    """Return whether there is a row for a key."""
    return any(is_of(row, key) for row in rows)


def replaced(rows: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return the rows with new ones in the places of those of the same source and forecaster."""
    places = {(row["source"], row["forecaster"]) for row in new}
    other_rows = [row for row in rows if (row["source"], row["forecaster"]) not in places]
    return [*other_rows, *new]


def recorded_rows(path: Path) -> list[Row]:
    """Return the rows of a record; none of one that does not exist yet."""
    return read_json(path)["rows"] if path.exists() else []


def write_rows(path: Path, rows: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Write a record with new rows, print a line for each of these, and return all rows."""
    rows = replaced(rows, new)
    if new:
        write_json(path, provenance(torch.device("cpu")) | {"rows": rows})
    for row in new:
        error = f"MASE {np.mean(row['mase']):.3f}"
        print(f"{row['source']}: {row['forecaster']}, {error}, {row['seconds']} s", flush=True)
    return rows


def record_sources(
    path: Path,
    sources: Sequence[Source],
    new_rows: Callable[[Source, Sequence[Row]], list[Row]],
) -> None:
    """Bring the record at `path` up to date, and write it after each source.

    `new_rows` takes a source and the recorded rows, and measures what they lack of it.
    """
    rows = recorded_rows(path)
    for source in sources:
        rows = write_rows(path, rows, new_rows(source, rows))


def record_parser(description: str | None, record: str) -> argparse.ArgumentParser:
    """Return a command's parser, which knows where the record is and which sources are asked."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sources", nargs="*", default=[], metavar="NAME", help="measure these (default: all)"
    )
    parser.add_argument(
        "--path",
        type=Path,
        default=results_dir() / record,
        help=f"default: report/results/{record}",
    )
    return parser


def show(rows: Sequence[Row], reference: str, ours: str) -> None:
    """Print the errors of rows relative to a reference's: over all sources, and on each.

    Without rows of the reference and of ours there is nothing to compare with.
    """
    forecasters = {row["forecaster"] for row in rows}
    if reference not in forecasters or ours not in forecasters:
        print(f"no summary, because it wants rows of {reference} and {ours}")
        return
    for table in (summary(rows, reference, ours), by_source(rows, reference)):
        print(table.to_string(float_format="{:.3f}".format), flush=True)
