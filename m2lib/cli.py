"""The `m2` command: the data set, the models, what they cost, and how every command ends.

`m2tables.cli` adds the commands for one's own tables; those of the study, which is not part of the
installed package, are `python -m study`.
"""

import errno
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import (
    App,
    CycloptsError,
    MissingArgumentError,
    Parameter,
    Token,
    UnusedCliTokensError,
)
from cyclopts.validators import Number

import m2lib  # a wing is loaded by the command that uses it: help does not wait for torch
from m2lib import settings
from m2lib.errors import InputError, first_line


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

Convention = Literal["coursework", "published", "executed"]
Several = Annotated[Whole, Parameter(validator=Number(gte=3))]  # series, one for each split

app = App(
    name="m2",
    help="The data set, the language models, and what they cost.",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # `run_app` says what Ctrl-C stops
)
data = App(name="data", help="Write or check the data set.", group="The model", help_epilogue="")

NO_ROOM = ("out of memory", "allocate memory")  # what torch says of memory that has run out


def run_app(commands: App, argv: Sequence[str] | None, after_ctrl_c: str) -> int:
    """Run one of the commands and return its exit status.

    0: it is done; 1: it could not be done, and one line says why; 2: there is no such command, and
    one line says why; 130: Ctrl-C, and `after_ctrl_c` says how to go on. Only a fault of the
    program ends in a traceback.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # What a terminal cannot show is escaped, as on stderr: on an ASCII one \u20ac is a euro.
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            commands(argv, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
            return 0
        except (CycloptsError, InputError, OSError, MemoryError, RuntimeError) as error:
            if _reader_has_gone(error):
                # Python would flush stdout once more when it ends, and complain.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 0
            if isinstance(error, RuntimeError) and not _is_out_of_memory(error):
                raise
            status = 2 if isinstance(error, CycloptsError) else 1
            message = f"error: {_explained(error, sys.argv if argv is None else argv)}"
        except KeyboardInterrupt:
            status = 130
            message = f"\nstopped; {after_ctrl_c}"
    print(message, file=sys.stderr)
    return status


def _explained(error: Exception, arguments: Sequence[str]) -> str:
    """Return one line that says why a command failed, and what to do where we know it."""
    problem = first_line(error)
    if isinstance(error, UnusedCliTokensError):
        words = " ".join(error.unused_tokens or ())
        problem = (
            f"more words than the command takes: {words}; put a name with blanks into quotation "
            "marks"
        )
        if "--id" in arguments or "--time" in arguments:
            problem += ", and make one column of two for --id or --time"
    elif isinstance(error, MissingArgumentError) and " --file " in problem:
        problem += " Give the table's file first, before all options."
    elif _is_out_of_memory(error) and not isinstance(error, InputError):
        problem = (
            f"not enough memory ({problem}); fewer samples, a shorter context or, to train, "
            "M2_RECOMPUTE=1 takes less"
        )
    return problem


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory has run out.

    PyTorch reports it by a RuntimeError whose message has one of the phrases in `NO_ROOM`.
    """
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_ROOM)


def _reader_has_gone(error: Exception) -> bool:
    """Return whether whoever reads the output, such as `head`, has seen enough and closed it.

    On Windows that may be an EINVAL, which names no file as that of a file does
    (https://github.com/python/cpython/issues/79935).
    """
    if isinstance(error, OSError) and sys.platform == "win32" and error.filename is None:
        return error.errno in (errno.EPIPE, errno.EINVAL)
    return isinstance(error, BrokenPipeError)


@data.command
def generate(
    path: Path | None = None, /, *, n: Several = 1000, seed: Seed = 0, force: Flag = False
) -> None:
    """Write the data set as an HDF5 file.

    Parameters
    ----------
    path
        The file. By default data/lotka_volterra_data.h5.
    n
        Number of series, at least one for each split.
    seed
        The recipe's seed; 0 gives the real data set.
    force
        Replace an existing file.
    """
    path = path or m2lib.series.DEFAULT_FILE
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it")
    if path.exists() and not force:
        raise InputError(f"{path} is there already; --force replaces it")
    series_set = m2lib.series.generate_series(n, seed)
    m2lib.series.write_series(series_set, path)
    print(f"{path}: {len(series_set)} series, fingerprint {series_set.fingerprint}")


@data.command
def check(path: Path | None = None, /) -> None:
    """Validate the data in use and compare them with the recipe.

    Parameters
    ----------
    path
        The file. By default that of M2_DATA, else data/lotka_volterra_data.h5; without either the
        data are made from the recipe.
    """
    series_set = m2lib.series.load_series(path)
    split = vars(m2lib.series.split_ids(len(series_set)))
    sizes = ", ".join(f"{len(ids)} {part}" for part, ids in split.items())
    if series_set.fingerprint == m2lib.series.generate_series().fingerprint:
        verdict = "every encoded value equal"
    else:
        verdict = "another data set: published numbers do not apply to it"
    print(f"data         {series_set.source}")
    print(f"series       {len(series_set)}: {sizes}")
    print(f"fingerprint  {series_set.fingerprint}")
    print(f"recipe       {verdict}")


def model(name: str | None = None, /) -> None:
    """Download and convert a language model, once.

    Parameters
    ----------
    name
        A backbone's name, a folder or a .gguf file. By default that of M2_BACKBONE, else
        smollm2-135m.
    """
    name = m2lib.model.chosen_backbone(name)
    weights = m2lib.model.fetch_backbone(name) or "random weights, nothing to fetch"
    m2lib.model.backbone_config(name)  # refuses a model that the fast engine does not compute
    known_name = m2lib.model.backbone_id(name)
    if name.endswith(".gguf") and known_name in m2lib.model.BACKBONES:
        name = known_name  # by which it can be loaded from now on, whatever the file is called
    print(f"backbone {name}: {weights}")


@Parameter(name="*")
@dataclass(frozen=True)
class Sizes:
    """The sizes that decide a cost."""

    length: Count = 512
    """Tokens of a window and of a prompt."""
    rank: CountOrZero = 4
    """Rank of the adapters; 0: none, and all weights train."""
    batch: Count = 2
    """Windows in a training step."""
    steps: CountOrZero = 1
    """Training steps."""
    new_tokens: Count = 220
    """Tokens of a forecast."""
    targets: str = "q,v"
    """Projections that have adapters, such as q,v,gate."""

    def counted(self) -> dict[str, Any]:
        """Return all that decides the cost, by name."""
        short_names = self.targets.split(",")
        by_short_name = {name.removesuffix("_proj"): name for name in m2lib.accounting.PROJECTIONS}
        targets = [name for short, name in by_short_name.items() if short in short_names]
        if len(targets) != len(short_names):  # one is unknown or repeated
            raise InputError(
                f"--targets {self.targets} is not a choice of {','.join(by_short_name)}, "
                "each at most once"
            )
        return asdict(self) | {"prompt": self.length, "samples": 1, "targets": tuple(targets)}


def flops(
    *,
    sizes: Sizes = Sizes(),
    backbone: str | None = None,
    convention: Convention = "coursework",
    as_json: Annotated[Flag, Parameter(name="--json")] = False,
) -> None:
    """Count the FLOPs of a forward pass, a training and a forecast.

    Parameters
    ----------
    backbone
        The language model, with its vocabulary reduced to 13 tokens. By default that of
        M2_BACKBONE, else smollm2-135m.
    convention
        How FLOPs are counted.
    as_json
        Print the integers as JSON.
    """
    backbone = m2lib.model.chosen_backbone(backbone)
    print_costs(sizes.counted(), backbone, convention, as_json)


def print_costs(
    counted: Mapping[str, Any], backbone: str, convention: Convention, as_json: bool
) -> None:
    """Print what a model costs at the sizes that `Sizes.counted` names, as a table or as JSON.

    `python -m study flops` calls it, too, with the sizes of an experiment.
    """
    shape = m2lib.Shape.of(m2lib.model.backbone_config(backbone))
    rank, targets = counted["rank"], counted["targets"]
    forward = m2lib.forward_flops(
        shape, counted["length"], rank=rank, targets=targets, convention=convention
    )
    step = m2lib.train_step_flops(
        shape,
        counted["length"],
        batch=counted["batch"],
        rank=rank,
        targets=targets,
        convention=convention,
    )
    forecast = m2lib.forecast_flops(
        shape,
        counted["prompt"],
        counted["new_tokens"],
        samples=counted["samples"],
        rank=rank,
        targets=targets,
        convention=convention,
    )
    costs = {
        "forward": forward,
        "train_step": step,
        "training": m2lib.accounting.times(counted["steps"], step),
        "forecast": forecast,
    }
    totals = {name: m2lib.total(cost) for name, cost in costs.items()}
    described = {"backbone": backbone, "convention": convention, **counted}
    if as_json:
        print(json.dumps(described | totals | {"breakdown": costs}, indent=1))
        return
    for name, value in (described | {"targets": ", ".join(targets)}).items():
        print(f"{name:<12}  {value}")
    print(f"{'':<20}" + "".join(f"{name:>12}" for name in costs))
    parts = list(dict.fromkeys(part for cost in costs.values() for part in cost))
    for part in (*parts, "total"):
        row = [
            totals[name] if part == "total" else cost.get(part, 0) for name, cost in costs.items()
        ]
        if any(row):
            print(f"{part:<20}" + "".join(f"{flops:>12.4g}" for flops in row))


for command in (model, flops):
    app.command(command, group="The model", help_epilogue="")
app.command(data)
app.register_install_completion_command(group="m2", help_epilogue="")
app["--help"].group = app["--version"].group = "m2"
app.help_epilogue = settings.described(settings.SETTINGS)
