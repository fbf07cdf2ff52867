"""The whole `m2` command: `m2 forecast` and `m2 evaluate`, beside those of `m2lib.cli`."""

from __future__ import annotations

import io
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

import m2tables  # its names are loaded when first used: help does not wait for torch
from m2lib.cli import Count, Flag, app, run_app
from m2lib.errors import InputError, warn
from m2lib.files import write_atomic

if TYPE_CHECKING:  # help waits for neither pandas nor torch
    import pandas as pd

    from m2tables import Columns, Forecaster, Item

Level = Annotated[float, Parameter(validator=Number(gt=0, lt=1))]
# `--levels 0.1 0.9`: an option takes all words up to the next option.
Words = Parameter(consume_multiple=1, show_default=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status, as `m2lib.cli.run_app` gives it."""
    return run_app(app, argv, "nothing was written")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Task:
    """Which table, how far ahead, and who forecasts."""

    file: Path = field(kw_only=False)
    """A .csv or .parquet file with a row for each step of each series. Give it first, because an
    option that takes several words, such as --target, would take it for one of them."""
    horizon: Count
    """How many steps to forecast."""
    id: str | None = None
    """The column that says which series a row belongs to. By default item_id, unique_id, id or
    series, if there is one."""
    time: str | None = None
    """The column of time stamps. By default the first with a usual name, such as timestamp or
    date."""
    target: Annotated[tuple[str, ...], Words] = ()
    """The columns to forecast, one to eight. By default target, y or value, else the only column of
    numbers."""
    season: Count | None = None
    """How many steps a season has; 1 for none. By default it is the calendar's: 12 months, 7
    days."""
    fill: Literal["linear", "last", "zero"] | None = None
    """How to fill gaps inside a series, empty cells as well as missing rows. By default they are
    refused."""
    time_format: str | None = None
    """The form of time stamps that are neither ISO dates, nor periods, nor whole numbers, such as
    %d/%m/%Y."""
    model: str = "network"
    """Who forecasts: network, the small network of the package; language, the language model,
    which takes seconds a series; or the folder of an adapter for tables."""

    def read(self) -> tuple[Columns, list[Item]]:
        """Read the table's columns and series, and say what is read."""
        if not self.file.exists():
            raise InputError(f"there is no file {self.file}")
        df = m2tables.read_table(self.file, self.id)
        columns = m2tables.columns_of(df, self.id, self.time, self.target)
        items = m2tables.items_of(
            df,
            columns,
            str(self.file),
            season=self.season,
            fill=self.fill,
            time_format=self.time_format,
        )
        self._say_what_is_read(df, columns, items)
        return columns, items

    def _say_what_is_read(self, df: pd.DataFrame, columns: Columns, items: list[Item]) -> None:
        """Print which columns are read, from when to when, and which season the series have."""
        time = "none, so the rows are taken to be in order"
        if columns.time:
            # Series begin and end at different times: the table's range is that of all of them.
            first = min(item.times[0] for item in items)
            last = max(item.times[-1] for item in items)
            time = f"{columns.time}, {_moment(first)} to {_moment(last)}"
        parts = [
            f"{self.file}: {sum(len(item.values) for item in items)} steps of {len(items)} series",
            f"target: {', '.join(map(str, columns.targets))}",
            f"time: {time}",
            f"id: {columns.id or 'none'}",
            f"season: {self._season(items)}",
        ]
        read = (columns.id, columns.time, *columns.targets)
        unread = [str(name) for name in df if name not in read]
        if unread:
            parts.append(f"not read: {', '.join(unread)}")
        print("; ".join(parts), file=sys.stderr)

        unusual = defaultdict(list)
        for item in items:
            unusual[item.remark].append(str(item.name))
        for remark, names in unusual.items():
            if remark:
                warn(f"{self.file}: {remark}: {', '.join(names)}; forecast nonetheless")

    def _season(self, items: list[Item]) -> str:
        """Say how long the season is, or why there is none."""
        lengths = sorted({item.season for item in items})
        if lengths != [1]:
            return f"{' or '.join(map(str, lengths))} steps"
        if self.season:
            return "none, as --season says"
        return "none, because the calendar knows none of such time stamps (--season sets one)"

    def load(self) -> Forecaster:
        """Load the forecaster, and print which one it is."""
        forecaster = m2tables.Forecaster.from_pretrained(self.model)
        print(f"forecaster: {forecaster.model}", file=sys.stderr)
        return forecaster

    def check_output(self, path: Path | None, force: bool, endings: tuple[str, ...]) -> None:
        """Refuse an output that cannot be written, or that would take the place of the table."""
        if path is None:
            return
        if path.exists() and self.file.exists() and path.samefile(self.file):
            raise InputError(f"{path} is the table itself; name another file")
        m2tables.check_output(path, force, endings)


def _moment(time: object) -> str:
    """Write a time stamp, without the hours of midnight."""
    return str(time).removesuffix(" 00:00:00")


def forecast(
    task: Task,
    *,
    levels: Annotated[tuple[Level, ...], Words] = (0.1, 0.5, 0.9),
    output: Path | None = None,
    plot: Path | None = None,
    force: Flag = False,
) -> None:
    """Forecast the series of a table, a CSV or parquet file.

    Parameters
    ----------
    levels
        The quantiles to write; the network has those from 0.025 to 0.975. Below 0.9, for example,
        the truth should lie 9 times in 10. By default 0.1 0.5 0.9.
    output
        Where to write the forecasts: a .csv file, with ten significant digits, or a .parquet file,
        with all of them. By default they are printed, as CSV where a file or another program takes
        what is printed.
    plot
        Where to draw the first six curves (one for each target of each series): .png or .svg.
    force
        Replace existing files.
    """
    task.check_output(output, force, (".csv", ".parquet"))
    task.check_output(plot, force, (".png", ".svg"))
    columns, items = task.read()
    table = task.load().predict_items(items, columns, task.horizon, levels)
    text_columns = (columns.written_id, columns.written_time, "target_name")
    numbers = [name for name in table if name not in text_columns]
    if output:
        m2tables.write_table(table, output, numbers)
        print(output)
    elif sys.stdout.isatty():
        print(table.to_string(index=False, max_rows=40, float_format=_format_number))
        print(f"{len(table)} rows; --output F.csv writes them all")
    else:
        print(m2tables.csv_of(table, numbers), end="")
    if plot:
        _draw(items, columns, table, plot)
        print(plot)


def _format_number(number: float) -> str:
    """Format a number in six digits, as the terminal shows it.

    A number of a million or more has all digits before its point, and two after it.
    """
    return f"{number:.6g}" if abs(number) < 1e6 else f"{number:.2f}"


def _draw(items: list[Item], columns: Columns, table: pd.DataFrame, path: Path) -> None:
    """Draw forecasts into a file."""
    # In a notebook, `!m2` inherits the notebook's way to show a picture, which matplotlib may not
    # find here.
    os.environ["MPLBACKEND"] = "agg"
    from matplotlib import pyplot as plt

    m2tables.plot_items(items, columns, table)
    picture = io.BytesIO()
    plt.savefig(picture, format=path.suffix[1:].lower(), dpi=200)
    write_atomic(path, picture.getvalue())


def evaluate(
    task: Task, *, origins: Count = 1, output: Path | None = None, force: Flag = False
) -> None:
    """Is it worth it? Forecast a table's past, and compare with simple forecasts.

    AutoETS, AutoTheta, AutoARIMA and their median are among them if statsforecast is installed
    (pip install statsforecast).

    Parameters
    ----------
    origins
        How many moments of each series' past to forecast from, one horizon apart. With one, or with
        fewer than six forecasts in all, no difference can be shown to be more than chance.
    output
        Where to write all forecasts beside the truth: .csv or .parquet.
    force
        Replace an existing file.
    """
    from m2tables.evaluation import evaluate as compare

    task.check_output(output, force, (".csv", ".parquet"))
    columns, items = task.read()
    model = task.load().model
    found = compare(model, items, columns, task.horizon, origins)
    print(
        f"forecasts of {task.horizon} steps: {len(found.origins)}; errors as MASE: 1 is the mean "
        "change from season to season, or else from step to step"
    )
    print(found.table().to_string())
    print(f"our 80% band holds {found.coverage:.0%} of the true values")
    print(found.verdict)
    if output:
        m2tables.write_table(found.forecasts, output)
        print(output)


for command in (forecast, evaluate):
    app.command(command, group="Your own tables", help_epilogue="")
app.help = (
    "Forecast tables of time series. Begin with `m2 evaluate FILE --horizon STEPS --origins 6`, "
    "which says how well that goes on your table."
)
