"""The commands for tables of one's own: `m2 forecast`, `m2 evaluate`, `m2 finetune`, `m2
export`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveFloat, PositiveInt, UInt32
from cyclopts.validators import Number

import m2lib  # a wing is loaded by the command that uses it: help does not wait for torch
from m2lib.files import InputError, short_hash, write_json

if TYPE_CHECKING:
    from m2lib.forecaster import Columns, Forecaster, Item

Flag = Annotated[bool, Parameter(show_default=False)]
Level = Annotated[float, Parameter(validator=Number(gt=0, lt=1))]
Words = Parameter(
    consume_multiple=1, show_default=False
)  # `--levels 0.1 0.9`: all words up to the next option


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Task:
    """Which table, how far ahead, and who forecasts."""

    file: Path = field(kw_only=False)
    """A .csv or .parquet file, a row for each step of each series."""
    horizon: PositiveInt
    """Steps to forecast."""
    id: str | None = None
    """The column that says whose a row is (guessed, and said)."""
    time: str | None = None
    """The column that says when (guessed, and said)."""
    target: Annotated[tuple[str, ...], Words] = ()
    """The columns to forecast (guessed, and said)."""
    season: PositiveInt | None = None
    """Steps of the season, taken out before a forecast and put back; 1: none (the calendar's, if it
    has one)."""
    adapter: str | None = None
    """An adapter's folder, an experiment's name such as final, or none: untuned (general, for any
    table)."""
    backbone: str | None = None
    """The language model (the adapter's, M2_BACKBONE, or the small one)."""

    def read(self, kept_back: int = 0) -> tuple[Columns, list[Item]]:
        """The table's columns and series, of a context and so many steps at least; what was guessed
        is printed."""
        if not self.file.exists():  # asked before the forecaster is loaded, which takes seconds
            raise InputError(f"there is no file {self.file}")
        df, where = m2lib.forecaster.read_table(self.file, self.id), str(self.file)
        columns = m2lib.forecaster.guess_columns(df, self.id, self.time, self.target)
        items = m2lib.forecaster.items_of(df, columns, where, m2lib.series.SHORTEST + kept_back)
        season = self.season or m2lib.forecaster.calendar_season(items)
        ends = items[0].times[:0].append([item.times[[0, -1]] for item in items])
        time = (
            columns.time
            and f"{columns.time}, {' to '.join(ends[[ends.argmin(), ends.argmax()]].astype(str))}"
        )
        taken = 1 < season <= max(len(item.values) for item in items) // m2lib.series.seasons.ENOUGH
        guessed = f"target: {', '.join(columns.targets)}; time: {time or 'none'}; id: {columns.id or 'none'}"
        print(
            f"{where}: {len(df)} steps of {len(items)} series; {guessed}"
            + f"; season: {season} steps" * taken
        )
        return columns, items

    def load(self) -> Forecaster:
        """The forecaster; which one is printed."""
        made = m2lib.forecaster.Forecaster.from_pretrained(self.adapter, backbone=self.backbone)
        kind = (
            f"adapter {made.adapter.name}"
            if made.adapter
            else "adapter merged"
            if made.text_format
            else "untuned"
        )
        print(f"language model {made.backbone.name}, {kind}")
        return made


@Parameter(name="*")
@dataclass(frozen=True)
class Drawing:
    """How samples are drawn."""

    samples: PositiveInt = 20
    """Forecasts drawn of each series."""
    temperature: PositiveFloat = 0.7
    """How bold the drawing is: lower is narrower."""
    seed: UInt32 = 0
    """What makes the drawing repeatable."""

    def options(self) -> dict[str, Any]:
        """The same, as the forecaster's methods call them."""
        return {"num_samples": self.samples, "temperature": self.temperature, "seed": self.seed}


def forecast(
    task: Task,
    *,
    drawing: Drawing = Drawing(),
    levels: Annotated[tuple[Level, ...], Words] = (0.1, 0.5, 0.9),
    output: Path | None = None,
    plot: Path | None = None,
    force: Flag = False,
) -> None:
    """Forecast the series of a table: CSV or parquet.

    Parameters
    ----------
    levels
        Quantiles (0.1 0.5 0.9).
    output
        Where to write the forecasts, .csv or .parquet.
    plot
        Where to draw the first six, .png or .svg.
    force
        Replace files that are there.
    """
    if output:
        m2lib.forecaster.check_output(output, force)
    if plot:
        m2lib.forecaster.check_output(plot, force, (".png", ".svg"))
    columns, items = task.read()
    made = task.load().predict_items(
        items, columns, task.horizon, levels, task.season, **drawing.options()
    )
    if output:
        m2lib.forecaster.write_table(made, output)
        print(output)
    else:
        print(made.to_string(index=False, max_rows=40, float_format="{:.6g}".format))
        print(f"{len(made)} rows; --output F.csv writes them all")
    if plot:
        _draw(items, columns, made, task, levels, plot)
        print(plot)


def _draw(
    items: list[Item],
    columns: Columns,
    made: Any,
    task: Task,
    levels: tuple[float, ...],
    file: Path,
) -> None:
    """Fan charts of the first series, one for each variable, six at most."""
    import matplotlib.pyplot as plt

    from m2lib.paper import plots

    plots.use_style()
    plt.rcParams["text.parse_math"] = False  # a $ in a name is a dollar
    panels = [(item, place) for item in items for place in range(len(columns.targets))][:6]
    fig, axes = plt.subplots(len(panels), 1, figsize=(8, 2.6 * len(panels)), squeeze=False)
    horizon, stamps = task.horizon, columns.time or "timestamp"
    for row, (ax, (item, place)) in enumerate(zip(axes[:, 0], panels, strict=True)):
        past, ahead = slice(-5 * horizon, None), made[row * horizon : (row + 1) * horizon]
        quantiles = {level: ahead[str(level)].to_numpy() for level in levels}
        plots.plot_fan(
            ax, item.times[past], item.values[past, place], ahead[stamps].to_numpy(), quantiles
        )
        ax.set(title=f"{item.name}: {columns.targets[place]}", xlabel=stamps)
    axes[0, 0].legend()
    plots.save_figure(fig, file.stem, file.parent, file.suffix.removeprefix("."))


def evaluate(
    task: Task,
    *,
    drawing: Drawing = Drawing(),
    origins: PositiveInt = 1,
    stride: PositiveInt | None = None,
    leave_out: NonNegativeInt = 0,
    period: PositiveInt | None = None,
    finetune: PositiveInt | None = None,
    output: Path | None = None,
    force: Flag = False,
) -> None:
    """Is it worth it? Forecasts of a table's past, beside simple ones.

    Parameters
    ----------
    origins
        Moments to forecast from, of each series.
    stride
        Steps from one to the next (the horizon).
    leave_out
        Last steps of each series not to look at.
    period
        Steps that the simple forecast of the last period repeats (the season's; else found in each
        series).
    finetune
        Steps of training before each origin, on what was known.
    output
        Where to keep the errors, .json.
    force
        Replace a file that is there.
    """
    if output:
        m2lib.forecaster.check_output(output, force, (".json",))
    columns, items = task.read(task.horizon + leave_out)
    model, refit = task.load(), None
    if finetune:
        from m2lib.forecaster.finetune import refitter

        refit = refitter(model, task.horizon, finetune, seed=drawing.seed)
    rolling = {
        "origins": origins,
        "stride": stride,
        "leave_out": leave_out,
        "season": task.season,
        "period": period,
    }
    found = m2lib.forecaster.evaluate(
        model, items, task.horizon, **rolling, **drawing.options(), refit=refit
    )
    if output:
        from m2lib.study.provenance import provenance

        backbone, adapter = model.backbone, task.adapter or (model.adapter and model.adapter.name)
        asked = {"horizon": task.horizon, "adapter": adapter, **asdict(drawing)}
        record = {
            "table": {"file": task.file.name, "sha256": short_hash(task.file.read_bytes())},
            "columns": asdict(columns),
            "settings": {
                **asked,
                **rolling,
                "season": found.season,
                "period": found.period,
                "finetune": finetune,
            },
            "text_format": model.text_format
            and model.text_format.settings(),  # without an adapter, the table's
            "backbone": {
                "id": backbone.name,
                "weight_hash": backbone.weight_hash,
                "dtype": backbone.dtype,
            },
            **provenance(backbone.device),
            **found.record(),
        }
        write_json(output, record)
    print(
        f"the last period is {f'{found.period} steps' if found.period else 'found in each series'} (--period)"
    )
    count, units = (
        len(found.errors),
        "MAE and CRPS in the table's units, all else in thousandths of a scale",
    )
    print(f"forecasts of {task.horizon} steps: {count}; {units}\n{found.table().to_string()}")
    if found.coverage is not None:
        print(f"CRPS {found.crps:.4g}; the 80% band holds {found.coverage:.0%} of the true values")
    print(found.verdict)
    if output:
        print(output)


def finetune(
    task: Task,
    *,
    steps: PositiveInt = 200,
    rate: PositiveFloat | None = None,
    rank: PositiveInt | None = None,
    batch: PositiveInt = 1,
    seed: UInt32 = 0,
    output: Path,
    force: Flag = False,
) -> None:
    """Train an adapter on a table's series.

    Parameters
    ----------
    steps
        Training steps.
    rate
        Learning rate (0.004; 0.0003 to go on from an adapter).
    rank
        Of a new adapter (4); one to go on from keeps its own.
    batch
        Windows a step.
    seed
        Of the windows and a new adapter's start.
    output
        The new adapter's folder.
    force
        Replace the adapter that it holds.
    """
    from m2lib.forecaster.finetune import finetune as tune

    columns, items = task.read(2 * task.horizon)
    model = task.load()
    how: dict[str, Any] = {
        "num_steps": steps,
        "learning_rate": rate,
        "rank": rank,
        "batch_size": batch,
        "seed": seed,
    }
    tune(
        model, items, columns.targets, task.horizon, output, season=task.season, force=force, **how
    )


def export(
    adapter: str, output: Path, /, *, backbone: str | None = None, force: Flag = False
) -> None:
    """Write a model folder that plain transformers loads.

    Parameters
    ----------
    adapter
        An adapter's folder, or an experiment's name.
    output
        The folder to make.
    backbone
        The language model (the adapter's).
    force
        Replace what the folder holds.
    """
    print(
        m2lib.forecaster.export(
            m2lib.forecaster.adapter_folder(adapter), output, backbone=backbone, force=force
        )
    )
