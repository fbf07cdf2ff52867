"""The commands for one's own tables: `m2 forecast`, `m2 evaluate`, `m2 finetune`, `m2 export`."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter, Token
from cyclopts.types import PositiveFloat
from cyclopts.validators import Number

import m2lib  # a wing is loaded by the command that uses it: help does not wait for torch
from m2lib.errors import InputError, warn
from m2lib.files import short_hash, write_atomic, write_json

if TYPE_CHECKING:
    import pandas as pd

    from m2lib.forecaster import Columns, Evaluation, Forecaster, Item


def _whole(_: Any, tokens: Sequence[Token]) -> int:
    """Read a whole number; cyclopts itself would make 2.5 into 2."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{text} is no whole number") from error


Whole = Annotated[int, Parameter(converter=_whole)]
Count = Annotated[Whole, Parameter(validator=Number(gt=0))]
CountOrZero = Annotated[Whole, Parameter(validator=Number(gte=0))]
Seed = Annotated[Whole, Parameter(validator=Number(gte=0, lt=2**32))]
Flag = Annotated[bool, Parameter(show_default=False)]
Level = Annotated[float, Parameter(validator=Number(gt=0, lt=1))]
# `--levels 0.1 0.9`: an option takes all words up to the next option.
Words = Parameter(consume_multiple=1, show_default=False)


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
    """The column that says which series a row belongs to. By default it is guessed, and printed."""
    time: str | None = None
    """The column of time stamps. By default it is guessed, and printed."""
    target: Annotated[tuple[str, ...], Words] = ()
    """The columns to forecast, one to eight. By default they are guessed, and printed: a price may
    be among them."""
    season: Count | None = None
    """How many steps a season has; 1 for none. By default it is the calendar's: 12 months, 7 days.
    It is taken out before the forecast, and put back."""
    skip: Flag = False
    """Leave out unfit series, and list them. By default one unfit series stops the command."""
    fill: Literal["linear", "last", "zero"] | None = None
    """How to fill gaps inside a series, empty cells as well as missing rows. By default a series
    with gaps is unfit."""
    adapter: str | None = None
    """An adapter: a folder, `general` (the default) or `none` for the untuned model. With another
    language model than smollm2-135m the default is none."""
    backbone: str | None = None
    """The language model. By default it is the adapter's, else that of M2_BACKBONE, else
    smollm2-135m."""

    def read(self, kept_back: int = 0) -> tuple[Columns, list[Item]]:
        """Read the table's columns and series, and say what is read.

        Each series has to have a context and `kept_back` more steps.
        """
        if not self.file.exists():  # asked before the forecaster is loaded, which takes seconds
            raise InputError(f"there is no file {self.file}")
        df = m2lib.forecaster.read_table(self.file, self.id)
        columns = m2lib.forecaster.guess_columns(df, self.id, self.time, self.target)
        least = m2lib.series.SHORTEST_CONTEXT + kept_back
        items = m2lib.forecaster.items_of(
            df, columns, str(self.file), least, skip=self.skip, fill=self.fill
        )
        self._say_what_is_read(df, columns, items)
        return columns, items

    def _say_what_is_read(self, df: pd.DataFrame, columns: Columns, items: list[Item]) -> None:
        """Print which columns and which times are read, and which season is taken out.

        Without a time column it also warns, if the table may have one, or if it has several series
        or guessed targets: a shop's number may be among them.
        """
        import pandas as pd

        time = "none"
        if columns.time:
            # Series begin and end at different times: the table's range is that of all of them.
            earliest = min(item.times[0] for item in items)
            latest = max(item.times[-1] for item in items)
            # An index writes 2024-01-31 where both are midnights.
            first, last = pd.Index([earliest, latest]).astype(str)
            time = f"{columns.time}, {first} to {last}"
        targets = ", ".join(columns.targets)
        has_guessed_targets = len(columns.targets) > 1 and not self.target
        if has_guessed_targets:
            targets += " (guessed; --target names them)"
        line = (
            f"{self.file}: {sum(len(item.values) for item in items)} steps of {len(items)} series; "
            f"target: {targets}; time: {time}; id: {columns.id or 'none'}"
        )
        read_columns = (columns.id, columns.time, *columns.targets)
        unread_columns = [str(name) for name in df if name not in read_columns]
        if unread_columns:
            line += f"; not read: {', '.join(unread_columns)}"
        if columns.time is None and (unread_columns or columns.id or has_guessed_targets):
            no_season = "" if self.season else ", and no season is taken out"
            warn(
                f"{self.file}: no column of dates was found, so the rows are taken to be in order, "
                f"the oldest first{no_season}; if there is such a column, name it with --time, and "
                "write its dates as 2024-01-31; if a column tells series apart, name it with --id"
            )
        print(line + self._seasons(items))

    def _seasons(self, items: list[Item]) -> str:
        """Say which season is taken out, and how; nothing if no series is long enough for it.

        If one is not taken out because the calendars of the series differ, that is said.
        """
        if self.season is None and m2lib.forecaster.calendars_differ(items):
            return "; season: none, because the calendars of its series differ (--season sets one)"
        season_lengths = m2lib.forecaster.chosen_seasons(items, self.season)
        seasons = [m2lib.series.Season.of(item.values, season_lengths) for item in items]
        # The season of a series that is too short for one has a single step.
        lengths = {len(season.factor) for season in seasons} - {1}
        if not lengths:
            return ""
        summary = m2lib.series.Season.summary(seasons)
        summary = "taken out of no series" if summary == "none" else summary
        return f"; season: {' or '.join(map(str, sorted(lengths)))} steps, {summary}"

    def load(self) -> Forecaster:
        """Load the forecaster, and print which one it is."""
        forecaster = m2lib.forecaster.Forecaster.from_pretrained(
            self.adapter, backbone=self.backbone
        )
        if forecaster.adapter:
            kind = f"adapter {forecaster.adapter.name}"
        elif forecaster.text_format:  # only a model that was trained has one
            kind = "adapter merged"
        else:
            kind = "untuned"
        print(f"language model {forecaster.backbone.name}, {kind}")
        return forecaster


@Parameter(name="*")
@dataclass(frozen=True)
class Sampling:
    """How forecasts are sampled."""

    samples: Count = 20
    """How many forecasts to draw for each series."""
    temperature: PositiveFloat | None = None
    """How freely they are drawn: a lower one gives narrower bands. By default 0.7, but 1 for a
    series that is mostly zero. Leave it so, unless you have checked the bands on your table."""
    seed: Seed = 0
    """The seed of the drawing: the same seed gives the same forecasts."""
    context_length: Count | None = None
    """How many of the last steps of each series to read. Fewer take less time. By default as many
    as fit."""

    def for_forecaster(self) -> m2lib.forecaster.Sampling:
        """Return these settings as a forecaster takes them."""
        return m2lib.forecaster.Sampling(
            num_samples=self.samples,
            temperature=self.temperature,
            seed=self.seed,
            context_length=self.context_length,
        )


def forecast(
    task: Task,
    *,
    sampling: Sampling = Sampling(),
    levels: Annotated[tuple[Level, ...], Words] = (0.1, 0.5, 0.9),
    output: Path | None = None,
    plot: Path | None = None,
    with_samples: Flag = False,
    force: Flag = False,
) -> None:
    """Forecast the series of a table, a CSV or parquet file.

    Parameters
    ----------
    levels
        The quantiles to write. Below 0.9, for example, the truth should lie 9 times in 10. By
        default 0.1 0.5 0.9.
    output
        Where to write the forecasts: a .csv file, with ten significant digits, or a .parquet file,
        with all of them. By default they are printed.
    plot
        Where to draw the first six curves (one for each target of each series): .png or .svg.
    with_samples
        Also write the samples and their mean, which totals need.
    force
        Replace existing files.
    """
    if output:
        _check_output(task, output, force, (".csv", ".parquet"))
    if plot:
        m2lib.forecaster.check_output(plot, force, (".png", ".svg"))
    columns, items = task.read()
    forecaster = task.load()
    seasons = m2lib.forecaster.chosen_seasons(items, task.season)
    items = forecaster.readable(
        items, task.horizon, seasons, skip=task.skip, context_length=sampling.context_length
    )
    parts = forecaster.predict_items(
        items,
        columns,
        task.horizon,
        levels,
        seasons,
        sampling.for_forecaster(),
        return_samples=with_samples,
    )
    table, interruption = _join_finished(parts)
    if interruption:
        num_finished = len(table) // (task.horizon * len(columns.targets))
        missing_names = ", ".join(str(item.name) for item in items[num_finished:])
        print(
            f"stopped after {num_finished} of {len(items)} series; missing: {missing_names}",
            file=sys.stderr,
        )
        items = items[:num_finished]
    if output:
        text_columns = (columns.written_id, columns.written_time, "target_name")
        numbers = [name for name in table if name not in text_columns]
        m2lib.forecaster.write_table(table, output, rounded=numbers)
        print(output)
    else:
        print(table.to_string(index=False, max_rows=40, float_format=_format_number))
        print(f"{len(table)} rows; --output F.csv writes them all")
    if plot:
        # The picture is a file alone. In a notebook, `!m2` inherits the notebook's way to show one,
        # which matplotlib may not find here.
        os.environ["MPLBACKEND"] = "agg"
        import matplotlib.pyplot as plt

        m2lib.forecaster.plot_items(items, columns, table)
        picture = io.BytesIO()
        plt.savefig(picture, format=plot.suffix[1:].lower(), dpi=200)
        write_atomic(plot, picture.getvalue())
        print(plot)
    if interruption:
        raise interruption


def _format_number(number: float) -> str:
    """Format a number in six digits, as the terminal shows it.

    A number of a million or more has all digits before its point, and two after it.
    """
    return f"{number:.6g}" if abs(number) < 1e6 else f"{number:.2f}"


def _check_output(task: Task, output: Path, force: bool, endings: tuple[str, ...]) -> None:
    """Refuse an output that cannot be written, or that would take the place of the table itself."""
    if output.exists() and task.file.exists() and output.samefile(task.file):
        raise InputError(f"{output} is the table itself; name another file")
    m2lib.forecaster.check_output(output, force, endings)


def _join_finished(parts: Iterable[pd.DataFrame]) -> tuple[pd.DataFrame, BaseException | None]:
    """Join the parts of a table that are finished; also return what stopped the work, or None.

    Ctrl-C may stop it, a lack of memory (for which torch raises a RuntimeError), or a series that
    cannot be read after all. If that happens before the first part is finished, there is nothing to
    keep, and the exception is raised.
    """
    import pandas as pd

    finished_parts: list[pd.DataFrame] = []
    interruption = None
    try:
        for part in parts:
            finished_parts.append(part)
    except (KeyboardInterrupt, MemoryError, RuntimeError, InputError) as error:
        if not finished_parts:
            raise
        interruption = error
    return pd.concat(finished_parts, ignore_index=True), interruption


def evaluate(
    task: Task,
    *,
    sampling: Sampling = Sampling(),
    origins: Count = 1,
    stride: Count | None = None,
    leave_out: CountOrZero = 0,
    period: Count | None = None,
    finetune: Count | None = None,
    output: Path | None = None,
    force: Flag = False,
) -> None:
    """Is it worth it? Forecast a table's past, and compare with simple forecasts and AutoETS.

    AutoETS is among them only if statsforecast is installed (pip install statsforecast).

    Parameters
    ----------
    origins
        How many moments of each series' past to forecast from. With one, or with fewer than six
        forecasts in all, no difference can be shown to be more than chance. To show that the model
        is behind takes eight.
    stride
        Steps from one moment to the next. By default the horizon.
    leave_out
        How many steps at the end of each series to ignore.
    period
        How many steps the simple forecast "last period" repeats; if it is 7, the printout calls it
        "7 steps ago". By default the season, or else what it finds in each series.
    finetune
        Train for this many steps before each moment, on what was known by then; try 20.
    output
        Where to write all forecasts, .csv or .parquet; or the errors and settings, .json.
    force
        Replace an existing file.
    """
    if output:
        _check_output(task, output, force, (".csv", ".parquet", ".json"))
    columns, items = task.read(task.horizon + leave_out)
    # The file is hashed now, because it may change during the work.
    table = {"file": task.file.name, "sha256": short_hash(task.file.read_bytes())}
    forecaster = task.load()
    refit = None
    if finetune:
        from m2lib.forecaster.finetune import refitter

        refit = refitter(forecaster, task.horizon, finetune, sampling.for_forecaster())
    evaluation = m2lib.forecaster.evaluate(
        forecaster,
        items,
        task.horizon,
        origins=origins,
        stride=stride,
        leave_out=leave_out,
        season=task.season,
        period=period,
        refit=refit,
        sampling=sampling.for_forecaster(),
        columns=columns,
    )
    num_missing = origins * len(items) - len(evaluation.errors)
    if num_missing > 0:
        warn(
            f"{num_missing} of the {origins * len(items)} forecasts asked for (--origins) are "
            "missing, because their series are too short, or constant up to then"
        )
    _print_evaluation(evaluation, task.horizon)
    if output and output.suffix.lower() == ".json":
        rolling = {
            "origins": origins,
            "stride": stride,
            "leave_out": leave_out,
            "finetune": finetune,
        }
        record = _record(task, sampling, rolling, table, columns, items, forecaster, evaluation)
        write_json(output, record)
    elif output:
        m2lib.forecaster.write_table(evaluation.forecasts, output)
    if output:
        print(output)


def _print_evaluation(evaluation: Evaluation, horizon: int) -> None:
    """Print what an evaluation of forecasts of `horizon` steps found, and what it proves."""
    if evaluation.period:
        steps = f"{evaluation.period} steps"
        print(f'the last period is {steps} long (--period), and is called "{steps} ago" below')
    else:
        print("the last period is found in each series, because --period does not set it")
    print(
        f"forecasts of {horizon} steps: {len(evaluation.errors)}; MAE and CRPS in the table's "
        "units, all else as MASE: 1 is the mean change from season to season, or else from step "
        "to step; a gain above 0 means that the model is better"
    )
    print(evaluation.table().to_string())
    if evaluation.coverage is not None:
        from m2lib.forecaster.evaluation import four_digits

        print(
            f"CRPS {four_digits(evaluation.crps)}; "
            f"the 80% band holds {evaluation.coverage:.0%} of the true values"
        )
    print("by series, MASE:")
    print(evaluation.by_series().to_string(max_rows=20, float_format="{:.2f}".format))
    print(evaluation.verdict)


def _record(
    task: Task,
    sampling: Sampling,
    rolling: dict[str, int | None],
    table: dict[str, str],
    columns: Columns,
    items: list[Item],
    forecaster: Forecaster,
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Return what an evaluation was asked and what came out, ready for JSON.

    `rolling` has the options that only `m2 evaluate` takes, `table` the file's name and its hash.
    """
    from m2lib.forecaster.adapters import adapter_weights_hash
    from m2lib.forecaster.views import PLAIN
    from m2lib.provenance import provenance

    adapter = task.adapter or None
    if not adapter and forecaster.adapter:
        adapter = forecaster.adapter.name
    settings = {
        "horizon": task.horizon,
        "adapter": adapter,
        **asdict(sampling),
        **rolling,
        "skip": task.skip,
        "fill": task.fill,
        # All that are taken out. The MASE is scaled by the shortest of them, which is `season`.
        "seasons": list(m2lib.forecaster.chosen_seasons(items, task.season)),
        "season": evaluation.season,
        "period": evaluation.period,
    }
    text_format = forecaster.text_format  # None for a model that chose one for this table
    # An adapter that was tuned before each origin reads a series in one way.
    views = PLAIN if rolling["finetune"] else forecaster.views
    backbone = forecaster.backbone
    return {
        "table": table,
        "columns": asdict(columns),
        "settings": settings,
        "adapter": adapter_weights_hash(forecaster.adapter),
        "text_format": text_format.settings() if text_format else None,
        "views": [asdict(view) for view in views],
        "backbone": {
            "id": backbone.name,
            "weight_hash": backbone.weight_hash,
            "dtype": forecaster.dtype,
        },
        **provenance(backbone.device),
        **evaluation.record(),
    }


def finetune(
    task: Task,
    *,
    steps: Count | None = None,
    rate: PositiveFloat | None = None,
    rank: Count | None = None,
    batch: Count = 1,
    seed: Seed = 0,
    output: Path,
    force: Flag = False,
) -> None:
    """Train an adapter on a table's series.

    Parameters
    ----------
    steps
        Training steps. By default 20 from an adapter, because more may learn the table by heart,
        and 200 for a new one.
    rate
        The peak of the learning rate. By default 0.0003 from an adapter, 0.004 for a new one.
    rank
        The rank of a new adapter, by default 4. An adapter that is trained further keeps its own.
    batch
        How many stretches of the series are trained on in each step.
    seed
        The seed by which stretches are drawn, and a new adapter begins.
    output
        The new adapter's folder.
    force
        Replace the adapter that it holds.
    """
    from m2lib.forecaster.finetune import finetune as tune

    columns, items = task.read(2 * task.horizon)
    tune(
        task.load(),
        items,
        columns.targets,
        task.horizon,
        output,
        season=task.season,
        num_steps=steps,
        learning_rate=rate,
        rank=rank,
        batch_size=batch,
        seed=seed,
        force=force,
    )


def export(
    adapter: str, output: Path, /, *, backbone: str | None = None, force: Flag = False
) -> None:
    """Write a model folder that plain transformers loads.

    Parameters
    ----------
    adapter
        An adapter's folder, or general.
    output
        The folder to make.
    backbone
        The language model. By default the one that the adapter was trained on.
    force
        Replace an earlier export; nothing else is ever replaced.
    """
    if adapter == m2lib.forecaster.NO_ADAPTER:
        raise InputError("`none` has no adapter to merge; name an adapter's folder, or general")
    source = m2lib.forecaster.adapter_folder(adapter)
    print(m2lib.forecaster.export(source, output, backbone=backbone, force=force))
