"""The study's commands: `python -m study run`, and those that look at what was run."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from tqdm import tqdm

import study
from m2lib import cli, settings
from m2lib.accounting import CONVENTIONS, Costs, sum_costs
from m2lib.cli import Convention, Flag
from m2lib.errors import InputError
from m2lib.files import ROOT
from m2lib.series import SeriesSet, load_series, summarise
from study.profiles import Profile
from study.records import Record
from study.settings import SETTINGS, read

app = App(
    name="python -m study",
    help="Run the report's experiments and ours, at the size that M2_PROFILE names.",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status, as `m2lib.cli.run_app` gives it."""
    return cli.run_app(app, argv, "`python -m study run` goes on from the last checkpoint or batch")


def run(
    *names: str,
    every: Annotated[Flag, Parameter(name="--all")] = False,
    beyond: Flag = False,
    fresh: Flag = False,
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
    """
    names_beside_all = names and every
    nothing_to_run = not (names or every)
    beyond_without_all = beyond and not every
    if names_beside_all or nothing_to_run or beyond_without_all:
        raise InputError(
            "name the experiments to run, or give --all (and --beyond); "
            "`python -m study status` lists them"
        )
    for name in names:  # all of them before the first is run
        study.experiment_named(name)
    if every:
        # An experiment beyond the report is in none of its groups.
        names = tuple(
            name for name, declared in study.EXPERIMENTS.items() if declared.group or beyond
        )
    profile = study.active_profile()
    off = not every or profile.live or settings.bars_are_off()
    for name in tqdm(names, unit="experiment", leave=None, disable=off):
        record = study.run(name, profile, fresh=fresh)
        tqdm.write(f"{name}: {_standing(profile, record)}")
        tqdm.write(str(study.record_path(profile, name)))


def _standing(profile: Profile, record: Record) -> str:
    """Say in a line how far an experiment is: status, time, training steps and errors."""
    state: str = record.status
    if state == "running" and not study.in_progress(profile, record.name):
        state = f"stopped (`python -m study run {record.name}` goes on)"
    parts = [state, f"{record.seconds:.0f} s"]
    if record.training:
        parts.append(f"{len(record.loss_curve)} of {record.training.steps} steps")
    if record.series:
        errors = summarise(record.maes().values())
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
    profile = study.active_profile()
    data = load_series() if check else None
    print(study.record_path(profile, "*").parent)
    for name in study.EXPERIMENTS:
        print(f"{name:26s} {_recorded_standing(profile, name, data)}")


def _recorded_standing(profile: Profile, name: str, data: SeriesSet | None) -> str:
    """Say how far an experiment has come, by its record, or what is wrong with the record.

    If `data` are the record's series, its errors are computed anew from its texts and compared.
    """
    if not study.record_path(profile, name).exists():
        return f"not run: {study.EXPERIMENTS[name].about}"
    try:
        record = study.load_record(profile, name, data)
        standing = _standing(profile, record)
    except InputError as error:
        return str(error)
    if data and record.plan.data != data.fingerprint:
        standing += "; not checked, because M2_DATA holds other series"
    return standing


def budget() -> None:
    """Print what the active profile's records, kept or removed, have spent, and what is left."""
    profile = study.active_profile()
    print(study.record_path(profile, "*").parent)
    heads = "".join(f"{convention:>14s}" for convention in CONVENTIONS)
    print(f"{'FLOPs spent':22s}{'status':>10s}{heads}")
    for name, record in study.all_records(profile).items():
        group = study.EXPERIMENTS[name].group
        print(_line_of_budget(name, record.status, record.spent(), group))
    for row in study.removed(profile):
        label = f"{len(row['records'])} no longer kept"
        costs = sum_costs(*row["flops"].values())
        print(_line_of_budget(label, "removed", costs, row["group"]))
    account = study.budget_of(profile)
    share = account.spent / profile.budget
    print(
        f"charged {account.spent:.4g} of {profile.budget:.3g} ({profile.budget_convention}), "
        f"{share:.2%}; reserved by unfinished experiments {account.reserved:.3g}; "
        f"left {account.left:.4g}"
    )


def _line_of_budget(label: str, state: str, costs: Costs, group: str | None) -> str:
    """Return a line of `budget`; without a group, FLOPs are not charged."""
    cells = "".join(f"{costs[convention]:14.3g}" for convention in CONVENTIONS)
    note = "" if group else "  beyond the report, not charged"
    return f"{label:22s}{state:>10s}{cells}{note}"


def pdf(folder: Path | None = None, /) -> None:
    """Redraw the report's figures and compile its PDF, from the records.

    Parameters
    ----------
    folder
        Where to put them. By default report/.
    """
    from study.paper import make_pdf

    print(make_pdf(folder.resolve() if folder else ROOT / "report"))


def flops(
    experiment: str,
    /,
    *,
    backbone: str | None = None,
    convention: Convention = "coursework",
    as_json: Annotated[Flag, Parameter(name="--json")] = False,
) -> None:
    """Count the FLOPs of an experiment: a forward pass, its training and one of its forecasts.

    Parameters
    ----------
    experiment
        An experiment that `status` lists. It has the sizes that M2_PROFILE gives it; if that is not
        set, the report's.
    backbone
        The language model. By default the experiment's, else that of M2_BACKBONE, else the
        profile's.
    convention
        How FLOPs are counted.
    as_json
        Print the integers as JSON.
    """
    # Without M2_PROFILE the report's sizes are meant, because a slice's would say little.
    profile = study.active_profile() if read("M2_PROFILE") else study.PROFILES["report"]
    declared = study.experiment_named(experiment)
    backbone = backbone or declared.backbone or settings.read("M2_BACKBONE") or profile.backbone
    sizes = asdict(study.workload(declared, profile))
    del sizes["watch"], sizes["num_forecasts"]  # neither counts in what is printed
    cli.print_costs(sizes, backbone, convention, as_json)


def model() -> None:
    """Download and convert the active profile's language model, once."""
    cli.model(study.active_profile().backbone)


for command in (run, status, budget, flops, model, pdf):
    app.command(command, help_epilogue="")
app.help_epilogue = settings.described(settings.SETTINGS | SETTINGS)
