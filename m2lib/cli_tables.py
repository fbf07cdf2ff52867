"""The commands for tables of one's own: `m2 forecast`, `m2 evaluate`, `m2 finetune`, `m2 export`."""

from __future__ import annotations  # naming a class of the forecaster's does not load it

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from m2lib import forecaster
from m2lib.cli_values import number, path, whole
from m2lib.files import write_atomic
from m2lib.study.provenance import provenance

LEVELS = (0.1, 0.5, 0.9)
EVALUATION = (
    *("horizon", "adapter", "samples", "temperature", "seed"),
    *("origins", "stride", "leave_out", "season", "finetune"),
)
"""What decides an evaluation, as the options are called."""
SHOWN_ROWS = 40
SHOWN_PANELS = 6


_positive, _whole = whole(1, 10**6), whole(0, 2**32 - 1)
_number = number(lambda value: 0 < value < 1e6, "a number above 0")
_level = number(lambda value: 0 < value < 1, "a number between 0 and 1")


def add_table_commands(groups: Any) -> None:
    """Add the four commands to the subparsers of `m2`."""
    forecast = groups.add_parser("forecast", help="forecast the series of a table: CSV or parquet")
    _add_table(forecast)
    _add_model(forecast)
    forecast.add_argument("--levels", type=_level, nargs="+", default=LEVELS, help="quantiles (0.1 0.5 0.9)")
    forecast.add_argument("--output", type=path, help="where to write the forecasts, .csv or .parquet")
    forecast.add_argument("--plot", type=path, help="where to draw the first six, .png or .svg")
    forecast.add_argument("--force", action="store_true", help="replace files that are there")
    forecast.set_defaults(command=_plainly(_forecast))

    evaluate = groups.add_parser("evaluate", help="is it worth it? forecasts of a table's past, beside simple ones")
    _add_table(evaluate)
    _add_model(evaluate)
    evaluate.add_argument("--origins", type=_positive, default=1, help="moments to forecast from, of each series (1)")
    evaluate.add_argument("--stride", type=_positive, help="steps from one to the next (the horizon)")
    evaluate.add_argument("--leave-out", type=_whole, default=0, help="last steps of each series not to look at (0)")
    evaluate.add_argument("--season", type=_positive, help="steps of the season (found in each series)")
    evaluate.add_argument("--finetune", type=_positive, help="steps of training before each origin, on what was known")
    evaluate.add_argument("--output", type=path, help="where to keep the errors, .json")
    evaluate.add_argument("--force", action="store_true", help="replace a file that is there")
    evaluate.set_defaults(command=_plainly(_evaluate))

    finetune = groups.add_parser("finetune", help="train an adapter on a table's series")
    _add_table(finetune)
    _add_source(finetune)
    finetune.add_argument("--steps", type=_positive, default=200, help="training steps (200)")
    finetune.add_argument("--rate", type=_number, help="learning rate (0.004; 0.001 to go on from an adapter)")
    finetune.add_argument("--rank", type=_positive, default=4, help="of a new adapter (4)")
    finetune.add_argument("--batch", type=_positive, default=1, help="windows a step (1)")
    finetune.add_argument("--seed", type=_whole, default=0, help="of the windows and a new adapter's start (0)")
    finetune.add_argument("--output", type=path, required=True, help="the new adapter's folder")
    finetune.add_argument("--force", action="store_true", help="replace the adapter that it holds")
    finetune.set_defaults(command=_plainly(_finetune))

    export = groups.add_parser("export", help="write a model folder that plain transformers loads")
    export.add_argument("adapter", help="an adapter's folder, or an experiment's name")
    export.add_argument("output", type=path, help="the folder to make")
    export.add_argument("--backbone", help="the language model (the adapter's)")
    export.add_argument("--force", action="store_true", help="replace what the folder holds")
    export.set_defaults(command=_export)


def _plainly(command: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """A command whose warnings are a line each, without the line of code that they come from."""

    def run(arguments: argparse.Namespace) -> None:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            command(arguments)

    return run


def _add_table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", type=path, help="a .csv or .parquet file, a row for each step of each series")
    parser.add_argument("--horizon", type=_positive, required=True, help="steps to forecast")
    parser.add_argument("--id", help="the column that says whose a row is (guessed, and said)")
    parser.add_argument("--time", help="the column that says when (guessed, and said)")
    parser.add_argument("--target", nargs="+", default=(), help="the columns to forecast (guessed, and said)")


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--adapter", help="an adapter's folder, or an experiment's name such as final (none: untuned)")
    parser.add_argument("--backbone", help="the language model (the adapter's, M2_BACKBONE, or the small one)")


def _add_model(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument("--samples", type=_positive, default=20, help="forecasts drawn of each series (20)")
    parser.add_argument("--temperature", type=_number, default=0.7, help="of the drawing (0.7)")
    parser.add_argument("--seed", type=_whole, default=0, help="of the drawing (0)")


def _read(arguments: argparse.Namespace, least: int) -> tuple[forecaster.Columns, list[forecaster.Item], Any]:
    """The table's columns, series and rows; what was guessed is printed."""
    df, where = forecaster.read_table(arguments.table), str(arguments.table)
    columns = forecaster.guess_columns(df, arguments.id, arguments.time, arguments.target, where)
    items = forecaster.items_of(df, columns, where, least)
    stamps = f"time {columns.time}" if columns.time else "no time stamps: steps are numbered"
    whose = f"series by {columns.id}" if columns.id else "one series"
    lengths = sorted(len(item.values) for item in items)
    steps = f"{lengths[0]} steps" if lengths[0] == lengths[-1] else f"{lengths[0]} to {lengths[-1]} steps"
    print(f"{where}: target {', '.join(columns.targets)}; {stamps}; {whose}; {len(items)} of {steps}")
    return columns, items, df


def _loaded(arguments: argparse.Namespace) -> forecaster.Forecaster:
    return forecaster.Forecaster.from_pretrained(arguments.adapter, backbone=arguments.backbone)


def _sampling(arguments: argparse.Namespace) -> dict[str, Any]:
    return {"num_samples": arguments.samples, "temperature": arguments.temperature, "seed": arguments.seed}


def _forecast(arguments: argparse.Namespace) -> None:
    if arguments.output:
        forecaster.check_output(arguments.output, arguments.force)
    if arguments.plot:
        forecaster.check_output(arguments.plot, arguments.force, (".png", ".svg"))
    columns, items, _ = _read(arguments, least=forecaster.SHORTEST)
    model, levels = _loaded(arguments), tuple(sorted(set(arguments.levels)))
    made = model.predict_items(items, columns, arguments.horizon, levels, **_sampling(arguments))
    if arguments.output:
        forecaster.write_table(made, arguments.output, arguments.force)
        print(arguments.output)
    else:
        shown = made.head(SHOWN_ROWS).to_string(index=False, float_format=lambda value: f"{value:.6g}")
        print(shown + f"\n... {len(made)} rows; --output F.csv writes them all" * (len(made) > SHOWN_ROWS))
    if arguments.plot:
        _draw(items, columns, made, levels, arguments.plot)
        print(arguments.plot)


def _draw(
    items: list[forecaster.Item], columns: forecaster.Columns, made: Any, levels: tuple[float, ...], file: Path
) -> None:
    """Fan charts of the first series, one for each variable, six at most."""
    import matplotlib.pyplot as plt

    from m2lib.paper import plots

    plots.use_style()
    panels = [(item, place) for item in items for place in range(len(columns.targets))][:SHOWN_PANELS]
    fig, axes = plt.subplots(len(panels), 1, figsize=(8, 2.6 * len(panels)), squeeze=False)
    horizon = len(made) // (len(items) * len(columns.targets))
    stamps = columns.time or "timestamp"
    for row, (ax, (item, place)) in enumerate(zip(axes[:, 0], panels, strict=True)):
        part = made.iloc[row * horizon : (row + 1) * horizon]
        past = slice(max(0, len(item.times) - 5 * horizon), None)
        quantiles = {level: part[str(level)].to_numpy() for level in levels}
        plots.plot_fan(ax, item.times[past], item.values[past, place], part[stamps].to_numpy(), quantiles)
        whose = f"{item.name}: " if columns.id else ""
        ax.set(title=f"{whose}{columns.targets[place]}", ylabel=columns.targets[place], xlabel=stamps)
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            text.set_parse_math(False)  # a $ in a name is a dollar
    axes[0, 0].legend(loc="best")
    plots.save_figure(fig, file.stem, file.parent, file.suffix.removeprefix("."))
    plt.close(fig)


def _evaluate(arguments: argparse.Namespace) -> None:
    if arguments.output:
        forecaster.check_output(arguments.output, arguments.force, (".json",))
    columns, items, _ = _read(arguments, least=forecaster.SHORTEST + arguments.horizon + arguments.leave_out)
    kept = [len(item.values) - arguments.leave_out for item in items]
    items = [replace(item, times=item.times[:n], values=item.values[:n]) for item, n in zip(items, kept, strict=True)]
    model, refit = _loaded(arguments), None
    if arguments.finetune:
        refit = forecaster.refitter(model, arguments.horizon, arguments.finetune, seed=arguments.seed)
    rolling = {"origins": arguments.origins, "stride": arguments.stride, "season": arguments.season}
    found = forecaster.evaluate(model, items, arguments.horizon, **rolling, **_sampling(arguments), refit=refit)
    if arguments.output:
        _keep(arguments, columns, model, found)
    made = f"{len(found.origins)} forecast{'s' * (len(found.origins) > 1)} of {arguments.horizon} steps"
    print(f"{made}; MAE in the table's units, and in units of each")
    print("context's scale (1000 is its size); gains in these, above 0 where the language model is better")
    print(found.table().to_string())
    if short := forecaster.baselines_for(arguments.season).keys() - found.errors.keys():
        print(f"left out, as a context is too short for it: {', '.join(sorted(short))}")
    if found.coverage is not None:
        print(f"CRPS {found.crps:.4g}; the 80% band holds {found.coverage:.0%} of the true values")
    print(found.verdict)
    if arguments.output:
        print(arguments.output)


def _keep(
    arguments: argparse.Namespace,
    columns: forecaster.Columns,
    model: forecaster.Forecaster,
    found: forecaster.Evaluation,
) -> None:
    """Write what an evaluation found and what decided it; without an adapter the text format follows from the table."""
    backbone = model.backbone
    record = {
        "table": {"file": arguments.table.name, "sha256": sha256(arguments.table.read_bytes()).hexdigest()[:16]},
        "columns": asdict(columns),
        "settings": {name: getattr(arguments, name) for name in EVALUATION},
        "text_format": model.text_format and model.text_format.settings(),
        "backbone": {"id": backbone.name, "weight_hash": backbone.weight_hash, "dtype": backbone.dtype},
        **provenance(backbone.device),
        **found.record(),
    }
    write_atomic(arguments.output, (json.dumps(record, indent=1) + "\n").encode())


def _finetune(arguments: argparse.Namespace) -> None:
    columns, _, df = _read(arguments, least=forecaster.SHORTEST + 2 * arguments.horizon)
    model = _loaded(arguments)
    try:
        model.fit(
            df,
            prediction_length=arguments.horizon,
            output_dir=arguments.output,
            id_column=columns.id,
            timestamp_column=columns.time,
            target=columns.targets,
            num_steps=arguments.steps,
            learning_rate=arguments.rate,
            rank=arguments.rank,
            batch_size=arguments.batch,
            seed=arguments.seed,
            force=arguments.force,
        )
    except KeyboardInterrupt:
        print("\nthe same command goes on from the last checkpoint", file=sys.stderr)
        raise


def _export(arguments: argparse.Namespace) -> None:
    folder = forecaster.adapter_folder(arguments.adapter)
    base, shape = arguments.backbone or forecaster.base_of(folder), forecaster.read_format(folder)
    print(forecaster.export(base, arguments.output, adapter=folder, text_format=shape, force=arguments.force))
