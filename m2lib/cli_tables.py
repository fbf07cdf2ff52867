"""The commands for tables of one's own: `m2 forecast`, `m2 evaluate`, `m2 finetune`, `m2 export`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveFloat, PositiveInt, UInt32
from cyclopts.validators import Number

import m2lib  # a wing is loaded by the command that uses it: help does not wait for torch
from m2lib.files import write_atomic

if TYPE_CHECKING:
    from m2lib.forecaster import Columns, Forecaster, Item

SHOWN_ROWS = 40
SHOWN_PANELS = 6
Flag = Annotated[bool, Parameter(show_default=False)]
Level = Annotated[float, Parameter(validator=Number(gt=0, lt=1))]
Words = Parameter(consume_multiple=1, show_default=False)  # `--levels 0.1 0.9`: all words up to the next option


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
    adapter: str | None = None
    """An adapter's folder, an experiment's name such as final, or none: untuned (general, for any table)."""
    backbone: str | None = None
    """The language model (the adapter's, M2_BACKBONE, or the small one)."""

    def read(self, least: int) -> tuple[Columns, list[Item]]:
        """The table's columns and series; what was guessed is printed."""
        df, where = m2lib.forecaster.read_table(self.file, self.id), str(self.file)
        columns = m2lib.forecaster.guess_columns(df, self.id, self.time, self.target, where)
        items = m2lib.forecaster.items_of(df, columns, where, least)
        stamps = f"time {columns.time}" if columns.time else "no time stamps: steps are numbered"
        whose = f"series by {columns.id}" if columns.id else "one series"
        lengths = sorted(len(item.values) for item in items)
        steps = f"{lengths[0]} steps" if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]} steps"
        print(f"{where}: target {', '.join(columns.targets)}; {stamps}; {whose}; {len(items)} of {steps}")
        return columns, items

    def load(self) -> Forecaster:
        """The forecaster; which one is printed."""
        made = m2lib.forecaster.Forecaster.from_pretrained(self.adapter, backbone=self.backbone)
        print(f"language model {made.backbone.name}, {f'adapter {made.adapter.name}' if made.adapter else 'untuned'}")
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
    columns, items = task.read(least=m2lib.series.SHORTEST)
    levels = tuple(sorted(set(levels)))
    made = task.load().predict_items(items, columns, task.horizon, levels, **drawing.options())
    if output:
        m2lib.forecaster.write_table(made, output, force)
        print(output)
    else:
        shown = made.head(SHOWN_ROWS).to_string(index=False, float_format=lambda value: f"{value:.6g}")
        print(shown + f"\n... {len(made)} rows; --output F.csv writes them all" * (len(made) > SHOWN_ROWS))
    if plot:
        _draw(items, columns, made, task, levels, plot)
        print(plot)


def _draw(items: list[Item], columns: Columns, made: Any, task: Task, levels: tuple[float, ...], file: Path) -> None:
    """Fan charts of the first series, one for each variable, six at most."""
    import matplotlib.pyplot as plt

    from m2lib.paper import plots

    plots.use_style()
    plt.rcParams["text.parse_math"] = False  # a $ in a name is a dollar
    panels = [(item, place) for item in items for place in range(len(columns.targets))][:SHOWN_PANELS]
    fig, axes = plt.subplots(len(panels), 1, figsize=(8, 2.6 * len(panels)), squeeze=False)
    horizon, stamps = task.horizon, columns.time or "timestamp"
    for row, (ax, (item, place)) in enumerate(zip(axes[:, 0], panels, strict=True)):
        past, ahead = slice(-5 * horizon, None), made[row * horizon : (row + 1) * horizon]
        quantiles = {level: ahead[str(level)].to_numpy() for level in levels}
        plots.plot_fan(ax, item.times[past], item.values[past, place], ahead[stamps].to_numpy(), quantiles)
        ax.set(title=f"{item.name}: {columns.targets[place]}", xlabel=stamps)
    axes[0, 0].legend(loc="best")
    plots.save_figure(fig, file.stem, file.parent, file.suffix.removeprefix("."))
    plt.close(fig)


def evaluate(
    task: Task,
    *,
    drawing: Drawing = Drawing(),
    origins: PositiveInt = 1,
    stride: PositiveInt | None = None,
    leave_out: NonNegativeInt = 0,
    season: PositiveInt | None = None,
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
    season
        Steps of the season (the calendar's; else found in each series).
    finetune
        Steps of training before each origin, on what was known.
    output
        Where to keep the errors, .json.
    force
        Replace a file that is there.
    """
    if output:
        m2lib.forecaster.check_output(output, force, (".json",))
    columns, items = task.read(least=m2lib.series.SHORTEST + task.horizon + leave_out)
    kept = [len(item.values) - leave_out for item in items]
    items = [replace(item, times=item.times[:n], values=item.values[:n]) for item, n in zip(items, kept, strict=True)]
    model, refit = task.load(), None
    if finetune:
        refit = m2lib.forecaster.refitter(model, task.horizon, finetune, seed=drawing.seed)
    season = season or m2lib.forecaster.calendar_season(items[0])
    print(f"the season is {season} steps" if season else "the season is found in each series", "(--season)")
    rolling = {"origins": origins, "stride": stride, "season": season}
    found = m2lib.forecaster.evaluate(model, items, task.horizon, **rolling, **drawing.options(), refit=refit)
    if output:
        from m2lib.study.provenance import provenance

        backbone = model.backbone
        more = {"leave_out": leave_out, "finetune": finetune}
        record = {
            "table": {"file": task.file.name, "sha256": sha256(task.file.read_bytes()).hexdigest()[:16]},
            "columns": asdict(columns),
            "settings": {
                "horizon": task.horizon,
                "adapter": task.adapter or (model.adapter and model.adapter.name),
                **asdict(drawing),
                **rolling,
                **more,
            },
            "text_format": model.text_format and model.text_format.settings(),  # without an adapter, the table's
            "backbone": {"id": backbone.name, "weight_hash": backbone.weight_hash, "dtype": backbone.dtype},
            **provenance(backbone.device),
            **found.record(),
        }
        write_atomic(output, (json.dumps(record, indent=1) + "\n").encode())
    made = f"{len(found.origins)} forecast{'s' * (len(found.origins) > 1)} of {task.horizon} steps"
    print(f"{made}; MAE in the table's units, and in units of each")
    print("context's scale (1000 is its size); gains in these, above 0 where the language model is better")
    print(found.table().to_string())
    if short := m2lib.forecaster.baselines_for(season).keys() - found.errors.keys():
        print(f"left out, as a context is too short for it: {', '.join(sorted(short))}")
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
    rank: PositiveInt = 4,
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
        Learning rate (0.004; 0.001 to go on from an adapter).
    rank
        Of a new adapter.
    batch
        Windows a step.
    seed
        Of the windows and a new adapter's start.
    output
        The new adapter's folder.
    force
        Replace the adapter that it holds.
    """
    columns, items = task.read(least=m2lib.series.SHORTEST + 2 * task.horizon)
    model = task.load()
    how: dict[str, Any] = {"num_steps": steps, "learning_rate": rate, "rank": rank, "batch_size": batch, "seed": seed}
    try:
        m2lib.forecaster.finetune(model, items, columns.targets, task.horizon, output, force=force, **how)
    except KeyboardInterrupt:
        print("\nthe same command goes on from the last checkpoint", file=sys.stderr)
        raise


def export(adapter: str, output: Path, /, *, backbone: str | None = None, force: Flag = False) -> None:
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
    folder = m2lib.forecaster.adapter_folder(adapter)
    base, shape = backbone or m2lib.forecaster.base_of(folder), m2lib.forecaster.read_format(folder)
    print(m2lib.forecaster.export(base, output, adapter=folder, text_format=shape, force=force))
