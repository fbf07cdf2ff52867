"""The `m2` command: the study's commands, and how every command ends.

The commands for one's own tables are in `cli_tables`.
"""

import json
import os
import sys
import warnings
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter
from cyclopts.types import NonNegativeInt, PositiveInt, UInt32
from tqdm import tqdm

import m2lib  # a wing is loaded by the command that uses it: help does not wait for torch
from m2lib import cli_tables, settings
from m2lib.cli_tables import Flag
from m2lib.files import InputError, first_line, repository

app = App(
    name="m2",
    help="Forecast series written as text with a small language model: a table's, or the study's.",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,  # `main` says what Ctrl-C stops
)
data = App(name="data", help="Write or check the data set.", group="The study", help_epilogue="")

# Out of memory, torch raises a RuntimeError with one of these in its message.
NO_ROOM = ("out of memory", "allocate memory")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status.

    0: it is done; 1: it could not be done, and one line says why; 2: the command line is none, and
    one line says why; 130: Ctrl-C. A fault of the program is a traceback.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # What a terminal cannot show is escaped, as on stderr: on an ASCII one \u20ac is a euro.
        sys.stdout.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
        try:
            app(argv, exit_on_error=False, print_error=False, result_action="return_value")
            sys.stdout.flush()
            return 0
        except BrokenPipeError:
            # Whoever reads the output, such as `head`, has seen enough. Python would flush stdout
            # once more when it ends, and complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (CycloptsError, InputError, OSError, MemoryError, RuntimeError) as error:
            no_room = any(words in str(error) for words in NO_ROOM)
            if isinstance(error, RuntimeError) and not no_room:
                raise
            status = 2 if isinstance(error, CycloptsError) else 1
            message = f"error: {first_line(error)}"
        except KeyboardInterrupt:
            status = 130
            message = (
                "\nstopped; `m2 run` and `m2 finetune` go on from the last checkpoint or batch"
            )
    print(message, file=sys.stderr)
    return status


@data.command
def generate(
    path: Path | None = None, /, *, n: PositiveInt = 1000, seed: UInt32 = 0, force: Flag = False
) -> None:
    """Write the data set as an HDF5 file.

    Parameters
    ----------
    path
        The file (data/lotka_volterra_data.h5).
    n
        Number of series.
    seed
        The recipe's seed; 0 gives the real data set.
    force
        Replace an existing file.
    """
    path = path or m2lib.series.DEFAULT_FILE
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
        The file (M2_DATA, data/lotka_volterra_data.h5, or generated).
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
    """Download and convert a backbone, once.

    Parameters
    ----------
    name
        The backbone (the active profile's).
    """
    name = name or m2lib.study.active_profile().backbone
    weights = m2lib.model.fetch_backbone(name) or "random weights, nothing to fetch"
    print(f"backbone {name}: {weights}")


def run(
    *names: str,
    every: Annotated[Flag, Parameter(name="--all")] = False,
    beyond: Flag = False,
    fresh: Flag = False,
    reforecast: Flag = False,
    cluster: Literal["slurm", "local"] | None = None,
    cluster_option: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
) -> None:
    """Run experiments, or load their finished records.

    Parameters
    ----------
    names
        For example baseline or default-warm.
    every
        All of the report's experiments that are not finished yet.
    beyond
        With --all: also those that go beyond the report.
    fresh
        Run again even where there is a record.
    reforecast
        Keep the training of finished records, and forecast again.
    cluster
        Make each experiment a job of its own, there.
    cluster_option
        KEY=VALUE of its jobs, as submitit names it: timeout_min=600, gpus_per_node=1,
        slurm_partition=gpu.
    """
    if every == bool(names) or (beyond and not every):
        raise InputError(
            "name the experiments to run, or give --all (and --beyond); `m2 status` lists them"
        )
    if fresh and reforecast:
        raise InputError(
            "--fresh trains and forecasts anew, --reforecast keeps the training; give one of them"
        )
    if (fresh or reforecast) and cluster:  # a job that is queued again would begin once more
        raise InputError(
            "--fresh and --reforecast run here, without --cluster; "
            "a record that is moved away is made anew there too"
        )
    for name in names:  # all of them before the first is run
        m2lib.study.experiment_named(name)
    if every:
        experiments = m2lib.study.EXPERIMENTS.items()
        # An experiment beyond the report is in none of its groups.
        names = tuple(name for name, declared in experiments if declared.group or beyond)
    profile = m2lib.study.active_profile()
    if cluster:
        try:
            from m2lib.study.cluster import submit
        except ImportError as error:
            raise InputError(
                "submitit is not installed; `pip install submitit` brings it"
            ) from error
        job_options: dict[str, int | str] = {}
        for option in cluster_option:  # KEY=VALUE
            key, _, value = option.partition("=")
            job_options[key] = int(value) if value.isdecimal() else value
        for name, job in submit(names, cluster, job_options, profile):
            print(f"{name}: job {job.job_id}, its log is {job.paths.stdout}", flush=True)
        return
    for name in tqdm(names, unit="experiment", leave=None, disable=not every or profile.live):
        record = m2lib.study.run(name, profile, fresh=fresh, reforecast=reforecast)
        tqdm.write(f"{name}: {_standing(profile, record)}")
        tqdm.write(str(m2lib.study.record_path(profile, name)))


def _standing(profile: "m2lib.study.Profile", record: "m2lib.study.Record") -> str:
    """How far an experiment is, in a line: status, time, training steps and errors."""
    state: str = record.status
    if state == "running" and not m2lib.study.in_progress(profile, record.name):
        state = f"stopped (`m2 run {record.name}` goes on)"
    parts = [state, f"{record.seconds:.0f} s"]
    if "train" in record.config:
        parts.append(f"{len(record.loss_curve)} of {record.config['train']['steps']} steps")
    if record.series:
        errors = m2lib.series.summarise(record.maes().values())
        parts.append(f"MAE {errors}, {record.repairs} repairs")
    else:
        parts.append("no forecasts")
    return ", ".join(parts)


def status(*, check: Flag = False) -> None:
    """List what is recorded at the active profile.

    Parameters
    ----------
    check
        Compare each record's errors with the texts in it.
    """
    profile = m2lib.study.active_profile()
    series = m2lib.series.load_series() if check else None
    print(m2lib.study.record_path(profile, "*").parent)
    for name, experiment in m2lib.study.EXPERIMENTS.items():
        if m2lib.study.record_path(profile, name).exists():
            try:
                standing = _standing(profile, m2lib.study.load_record(profile, name, series))
            except InputError as error:
                standing = str(error)
        else:
            standing = f"not run: {experiment.about}"
        print(f"{name:22s} {standing}")


@Parameter(name="*")
@dataclass(frozen=True)
class Sizes:
    """The sizes that decide a cost, where no experiment is named."""

    length: PositiveInt = 512
    """Tokens of a window and of a prompt."""
    rank: NonNegativeInt = 4
    """Rank of the adapters; 0: none, and all weights train."""
    batch: PositiveInt = 2
    """Windows in a training step."""
    steps: NonNegativeInt = 1
    """Training steps."""
    new_tokens: PositiveInt = 220
    """Tokens of a forecast."""
    targets: str = "q,v"
    """Projections that have adapters, as q,v,gate."""

    def counted(self) -> dict[str, Any]:
        """All that decides the cost, by the names that the study's `experiment_sizes` gives it."""
        given = self.targets.split(",")
        projections = m2lib.accounting.PROJECTIONS  # such as q_proj
        targets = [name for name in projections if name.removesuffix("_proj") in given]
        if len(targets) != len(given):  # one is unknown or repeated
            raise InputError(
                f"--targets {self.targets} is not a choice of q,k,v,o,gate,up,down, "
                "each at most once"
            )
        return asdict(self) | {
            "prompt": self.length,
            "samples": 1,
            "forecasts": 1,
            "targets": tuple(targets),
        }


def flops(
    experiment: str | None = None,
    /,
    *,
    sizes: Sizes = Sizes(),
    backbone: str | None = None,
    convention: Literal["coursework", "published", "executed"] = "coursework",
    as_json: Annotated[Flag, Parameter(name="--json")] = False,
) -> None:
    """What an experiment costs, or a model at sizes of your own.

    Parameters
    ----------
    experiment
        Its sizes, as the report has them or as M2_PROFILE has; else those of the options.
    backbone
        The language model (M2_BACKBONE, or the profile's, or the report's qwen2.5-0.5b).
    convention
        How FLOPs are counted.
    as_json
        Print the integers as JSON.
    """
    # Without M2_PROFILE the report's sizes are meant: a slice's would say little.
    if settings.read("M2_PROFILE"):
        profile = m2lib.study.active_profile()
    else:
        profile = m2lib.study.PROFILES["report"]
    if experiment:
        declared = m2lib.study.experiment_named(experiment)
        if sizes != Sizes():
            raise InputError(
                f"{experiment} has sizes of its own; leave out its name, or the options of sizes"
            )
        counted = m2lib.study.experiment_sizes(declared, profile)
        backbone = backbone or declared.backbone
    else:
        counted = sizes.counted()
    backbone = backbone or settings.read("M2_BACKBONE") or profile.backbone
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
    import pandas as pd

    print(pd.Series(described).to_string())
    table = pd.DataFrame(costs).astype(float)
    table.loc["total"] = totals
    print(table[table.any(axis=1)].to_string(float_format="{:.4g}".format))


def budget() -> None:
    """What the active profile's records have spent, and what is left."""
    profile = m2lib.study.active_profile()
    print(m2lib.study.record_path(profile, "*").parent)
    heads = "".join(f"{convention:>14s}" for convention in m2lib.accounting.CONVENTIONS)
    print(f"{'FLOPs spent':22s}{'status':>10s}{heads}")
    for name, record in m2lib.study.all_records(profile).items():
        spent = "".join(f"{flops:14.3g}" for flops in record.spent().values())
        charged = m2lib.study.EXPERIMENTS[record.name].group
        note = "" if charged else "  beyond the report, not charged"
        print(f"{name:22s}{record.status:>10s}{spent}{note}")
    account = m2lib.study.budget_of(profile)
    share = account.spent / profile.budget
    print(
        f"charged {account.spent:.4g} of {profile.budget:.3g} ({profile.budget_convention}), "
        f"{share:.2%}; reserved by unfinished experiments {account.reserved:.3g}; "
        f"left {account.left:.4g}"
    )


def pdf(folder: Path | None = None, /) -> None:
    """Redraw the report's figures and compile its PDF, from the records.

    Parameters
    ----------
    folder
        Where to put them (report/).
    """
    print(m2lib.paper.make_pdf(folder.resolve() if folder else repository("report")))


for tables in (cli_tables.forecast, cli_tables.evaluate, cli_tables.finetune, cli_tables.export):
    app.command(tables, group="A table of your own", help_epilogue="")
for command in (run, status, budget, flops, model, pdf):
    app.command(command, group="The study", help_epilogue="")
app.command(data)
app.register_install_completion_command(group="m2", help_epilogue="")
app["--help"].group = app["--version"].group = "m2"
app.help_epilogue = (
    f"| environment variable | sets | default |\n|---|---|---|\n{settings.described()}"
)

if __name__ == "__main__":
    sys.exit(main())
