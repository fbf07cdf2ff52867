"""The `m2` command: the study's `m2 data`, `m2 run`, `m2 flops` and others; those for tables are in `cli_tables`."""

import argparse
import errno
import io
import json
import os
import sys
from contextlib import suppress
from typing import TextIO

from m2lib import accounting, model, paper, series, settings, study
from m2lib.cli_tables import add_table_commands
from m2lib.cli_values import path, whole
from m2lib.files import InputError, first_line, quoted, repository

MOST = 10**18
"""The largest size that a command takes; what is computed from a few of them a float still holds."""
SIZES = {"length": 512, "rank": 4, "batch": 2, "steps": 1, "new_tokens": 220}
"""What `m2 flops` counts where nothing else is said."""


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for what is printed as an error of one line, 130 for Ctrl-C.

    141 where nobody reads on, as in `m2 status | head -1`. What only a fault of the program explains is a traceback.
    """
    _prepare_streams()
    try:
        arguments = _parsed(argv)
        arguments.command(arguments)
        sys.stdout.flush()
        return 0
    except InputError as error:
        return _end(1, f"error: {error}")
    except KeyboardInterrupt:
        return _end(130, "stopped")
    except BrokenPipeError:
        return 141
    except (OSError, MemoryError, RecursionError) as error:
        return _end(1, f"error: {InputError(_problem(error))}")
    except RuntimeError as error:  # as torch says that there is no memory
        if not any(words in str(error) for words in ("out of memory", "can't allocate memory", "not enough memory")):
            raise
        return _end(1, f"error: {InputError(_problem(MemoryError(first_line(error))))}")
    finally:
        for stream in (sys.stdout, sys.stderr):
            if _is_broken(stream):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # or Python's last flush complains


def _end(status: int, message: str) -> int:
    with suppress(OSError):  # the status tells, where nothing else can
        print(message, file=sys.stderr)
    return status


def _prepare_streams() -> None:
    """Make the streams able to show any text, whatever they are connected to."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed, as in `m2 status >&-`: the next file opened would get its output
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an ASCII terminal shows an alpha as \u03b1


def _parsed(argv: list[str] | None) -> argparse.Namespace:
    try:
        return _parser().parse_args(argv)
    finally:
        sys.stdout.flush()  # `m2 --help` ends in here, and its disk may be full


def _problem(error: OSError | MemoryError | RecursionError) -> str:
    """One line on what no other part has foreseen: the system refuses something."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({first_line(error)}); free some, or ask for less"
    if isinstance(error, RecursionError):
        return f"something that was read is nested too deeply ({first_line(error)})"
    # Files are written by `write_atomic`, which names them: a full disk without a name is where the output goes.
    unnamed = error.errno == errno.ENOSPC or _is_broken(sys.stdout)
    place = error.filename or ("standard output" if unnamed else "")
    return f"{place}: {error.strerror}" if place and error.strerror else first_line(error)


def _is_broken(stream: TextIO) -> bool:
    """Whether what has been printed cannot be written, as on a full disk."""
    try:
        stream.flush()
    except OSError:
        return True
    return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2",
        description="Forecast series written as text with a small language model: a table's, or the study's.",
        epilog=f"environment variables:\n{settings.described()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    groups = parser.add_subparsers(required=True, metavar="command")
    add_table_commands(groups)

    data = groups.add_parser("data", help="write or check the data set").add_subparsers(required=True, metavar="action")
    generate = data.add_parser("generate", help="write the data set as an HDF5 file")
    generate.add_argument("path", nargs="?", type=path, help="default: data/lotka_volterra_data.h5")
    generate.add_argument("--n", type=whole(3, MOST), default=1000, help="number of series (default 1000)")
    generate.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, help="of the recipe (default 0: the real data set)"
    )
    generate.add_argument("--force", action="store_true", help="replace a file that is there")
    generate.set_defaults(command=_data_generate)
    check = data.add_parser("check", help="validate the data in use and compare them with the recipe")
    check.add_argument("path", nargs="?", type=path, help="default: M2_DATA, data/lotka_volterra_data.h5, or generated")
    check.set_defaults(command=_data_check)

    backbone = groups.add_parser("model", help="download and convert a backbone, once")
    backbone.add_argument("name", nargs="?", type=_backbone, help="default: the active profile's")
    backbone.set_defaults(command=_model)

    run = groups.add_parser("run", help="run experiments, or load their finished records")
    run.add_argument("names", nargs="*", metavar="name", help="for example baseline or default-warm")
    run.add_argument("--all", action="store_true", help="all of the report's experiments that are not finished yet")
    run.add_argument("--beyond", action="store_true", help="with --all: also those that go beyond the report")
    run.add_argument("--fresh", action="store_true", help="run again even where there is a record")
    run.add_argument("--cluster", choices=("slurm", "local"), help="make each experiment a job of its own, there")
    run.add_argument(
        "--cluster-option",
        dest="options",
        action="append",
        type=_option,
        default=[],
        metavar="KEY=VALUE",
        help="of its jobs, as submitit names it: timeout_min=600, gpus_per_node=1, slurm_partition=gpu",
    )
    run.set_defaults(command=_run)

    status = groups.add_parser("status", help="list what is recorded at the active profile")
    status.set_defaults(command=_status)

    flops = groups.add_parser("flops", help="what an experiment costs, or a model at sizes of your own")
    flops.add_argument("experiment", nargs="?", help="its sizes, as the report has them or as M2_PROFILE has; else:")
    flops.add_argument("--length", type=whole(1, MOST), help="tokens of a window and of a prompt (512)")
    flops.add_argument("--rank", type=whole(0, MOST), help="of the adapters; 0: none, and all weights train (4)")
    flops.add_argument("--targets", type=_targets, help="projections that have adapters, as q,v,gate (q,v)")
    flops.add_argument("--batch", type=whole(1, MOST), help="windows in a training step (2)")
    flops.add_argument("--steps", type=whole(0, MOST), help="training steps (1)")
    flops.add_argument("--new-tokens", type=whole(1, MOST), help="tokens of a forecast (220)")
    flops.add_argument(
        "--backbone", type=_backbone, help="default: M2_BACKBONE, or the profile's, or the report's qwen2.5-0.5b"
    )
    flops.add_argument("--convention", choices=accounting.CONVENTIONS, default="coursework")
    flops.add_argument("--json", action="store_true", help="print the integers as JSON")
    flops.set_defaults(command=_flops)

    budget = groups.add_parser("budget", help="what the active profile's records have spent, and what is left")
    budget.set_defaults(command=_budget)

    yardsticks = groups.add_parser("yardsticks", help="measure and record all forecasters, on other worlds too")
    yardsticks.add_argument("path", nargs="?", type=path, help="default: report/results/yardsticks.json")
    yardsticks.add_argument("--fresh", action="store_true", help="measure again what the record has")
    yardsticks.set_defaults(command=_yardsticks)

    pdf = groups.add_parser("pdf", help="redraw the report's figures and compile its PDF, from the records")
    pdf.add_argument("folder", nargs="?", type=path, help="where to put them (default: report/)")
    pdf.set_defaults(command=_pdf)
    return parser


def _targets(text: str) -> tuple[str, ...]:
    """Reads the names of projections, with or without their ending `_proj`."""
    given = [name.removesuffix("_proj") + "_proj" for name in text.split(",")]
    targets = tuple(name for name in accounting.PROJECTIONS if name in given)
    if len(targets) == len(given):  # none is unknown or repeated
        return targets
    known = ",".join(name.removesuffix("_proj") for name in accounting.PROJECTIONS)
    raise argparse.ArgumentTypeError(f"{quoted(text)} is not a choice of {known}, each at most once")


def _backbone(text: str) -> str:
    """Reads a backbone's name, which may be a path."""
    path(text)
    return text


def _option(text: str) -> tuple[str, str | int]:
    """Reads KEY=VALUE; a whole number is one."""
    key, _, value = text.partition("=")
    if not (key and value):
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not KEY=VALUE")
    return key, int(value) if value.isdecimal() and len(value) <= len(str(MOST)) else value


def _data_generate(arguments: argparse.Namespace) -> None:
    path = arguments.path or series.DEFAULT_FILE
    if path.exists() and not arguments.force:
        raise InputError(f"{path} is there already; --force replaces it")
    made = series.generate_series(arguments.n, arguments.seed)
    series.write_series(made, path)
    print(f"{path}: {len(made)} series, fingerprint {made.fingerprint}")


def _data_check(arguments: argparse.Namespace) -> None:
    data = series.load_series(arguments.path)
    split = series.split_ids(len(data))
    print(f"data         {data.source}")
    sizes = ", ".join(f"{len(getattr(split, part))} {part}" for part in ("train", "validation", "test"))
    print(f"series       {len(data)}: {sizes}")
    print(f"fingerprint  {data.fingerprint}")
    same = data.fingerprint == series.generate_series().fingerprint
    verdict = "every encoded value equal" if same else "another data set: published numbers do not apply to it"
    print(f"recipe       {verdict}")


def _model(arguments: argparse.Namespace) -> None:
    name = arguments.name or study.active_profile().backbone
    if model.is_random(name):
        print(f"backbone {name}: random weights, nothing to fetch")
    else:
        print(f"backbone {name}: {model.fetch_backbone(name)}")


def _run(arguments: argparse.Namespace) -> None:
    from tqdm.auto import tqdm

    if arguments.all == bool(arguments.names) or (arguments.beyond and not arguments.all):
        raise InputError("name the experiments to run, or give --all (and --beyond); `m2 status` lists them")
    for name in arguments.names:  # all of them before the first is run
        study.experiment_named(name)
    profile = study.active_profile()
    if arguments.options and not arguments.cluster:
        raise InputError("--cluster-option says something to a cluster; name it with --cluster")
    if arguments.cluster:
        _submit(arguments, profile)
        return
    try:
        if arguments.all:
            for record in study.run_all(profile, fresh=arguments.fresh, beyond=arguments.beyond):
                tqdm.write(_outcome(record))
        for name in arguments.names:
            print(_outcome(study.run(name, profile, fresh=arguments.fresh)))
            print(study.record_path(profile, name))
    except KeyboardInterrupt:
        again = " ".join(arguments.names) or "--all" + " --beyond" * arguments.beyond
        print(f"\n`m2 run {again}` goes on from the last checkpoint or batch", file=sys.stderr)
        raise


def _submit(arguments: argparse.Namespace, profile: "study.Profile") -> None:
    if arguments.fresh:  # a job that is queued again would begin once more
        raise InputError("--fresh runs here, without --cluster; a record that is moved away is made anew there too")
    names = arguments.names or [
        name for name, experiment in study.EXPERIMENTS.items() if experiment.group or arguments.beyond
    ]
    for name, job in study.submit(names, arguments.cluster, dict(arguments.options), profile):
        print(f"{name}: job {job.job_id}, its log is {job.paths.stdout}", flush=True)


def _outcome(record: "study.Record") -> str:
    if record.status != "done":
        return f"{record.name}: another process records it"
    errors = "no series is left for it to forecast"
    if record.series:
        errors = f"MAE {series.summarise(record.maes().values())}"
    return f"{record.name}: {errors}, {record.repairs} repairs, {record.seconds:.0f} s, {record.backbone['dtype']}"


def _status(arguments: argparse.Namespace) -> None:
    profile = study.active_profile()
    print(study.record_path(profile, "*").parent)
    recorded = {name for name in study.EXPERIMENTS if os.path.lexists(study.record_path(profile, name))}
    data = series.load_series() if recorded else None
    for name, experiment in study.EXPERIMENTS.items():
        standing = _standing(profile, name, data) if name in recorded else f"not run: {experiment.about}"
        print(f"{name:22s} {standing}")


def _standing(profile: "study.Profile", name: str, data: "series.SeriesSet | None") -> str:
    try:
        record = study.load_record(profile, name, data)
    except InputError as error:
        return str(error)
    stopped = record.status == "running" and not study.in_progress(profile, record.name)
    parts = [f"stopped (`m2 run {record.name}` goes on)" if stopped else record.status, f"{record.seconds:.0f} s"]
    if "train" in record.config:
        parts.append(f"{len(record.loss_curve)} of {record.config['train']['steps']} steps")
    if record.series:
        parts.append(f"MAE {series.summarise(record.maes().values())}, {record.repairs} repairs")
    return ", ".join(parts)


def _flops(arguments: argparse.Namespace) -> None:
    # Without M2_PROFILE the report's sizes are meant: a slice's would say little.
    profile = study.active_profile() if settings.read("M2_PROFILE") else study.PROFILES["report"]
    own = study.experiment_named(arguments.experiment).backbone if arguments.experiment else None
    backbone = arguments.backbone or own or settings.read("M2_BACKBONE") or profile.backbone
    given = {name: size for name in (*SIZES, "targets") if (size := getattr(arguments, name)) is not None}
    if arguments.experiment:
        if given:
            option = next(iter(given)).replace("_", "-")
            raise InputError(f"{arguments.experiment} has sizes of its own; leave out its name, or --{option}")
        sizes = study.experiment_sizes(arguments.experiment, profile)
    else:
        targets = given.pop("targets", accounting.TARGETS)
        sizes = SIZES | given
        sizes |= {"prompt": sizes["length"], "samples": 1, "forecasts": 1}
        sizes |= {"targets": targets} if targets != accounting.TARGETS else {}
    shape = accounting.Shape.of(model.backbone_config(backbone))
    targets = sizes.get("targets", accounting.TARGETS)
    kind = {"rank": sizes["rank"], "targets": targets, "convention": arguments.convention}
    forecast = {"samples": sizes["samples"], **kind}
    step = accounting.train_step_flops(shape, sizes["length"], batch=sizes["batch"], **kind)
    costs = {
        "forward": accounting.forward_flops(shape, sizes["length"], **kind),
        "train_step": step,
        "training": accounting.times(sizes["steps"], step),
        "forecast": accounting.forecast_flops(shape, sizes["prompt"], sizes["new_tokens"], **forecast),
    }
    totals = {name: accounting.total(cost) for name, cost in costs.items()}
    if arguments.json:
        described = {"backbone": backbone, "convention": arguments.convention, **sizes}
        print(json.dumps(described | totals | {"breakdown": costs}, indent=1))
        return
    if "targets" in sizes:
        sizes["targets"] = "+".join(name.removesuffix("_proj") for name in targets)
    print(f"{backbone}, {arguments.convention} FLOPs; " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    print(" " * 12 + "".join(f"{name:>14s}" for name in costs))
    for part in accounting.COMPONENTS:
        if any(cost[part] for cost in costs.values()):
            print(f"{part:12s}" + "".join(f"{cost[part]:14.4g}" for cost in costs.values()))
    print(f"{'total':12s}" + "".join(f"{flops:14.4g}" for flops in totals.values()))


def _budget(arguments: argparse.Namespace) -> None:
    profile = study.active_profile()
    print(study.record_path(profile, "*").parent)
    print(f"{'FLOPs spent':22s}{'status':>10s}" + "".join(f"{kind:>14s}" for kind in accounting.CONVENTIONS))
    found = study.all_records(profile)
    for name, record in found.items():
        note = "" if study.EXPERIMENTS[record.name].group else "  beyond the report, not charged"
        spent = "".join(f"{flops:14.3g}" for flops in record.spent().values())
        print(f"{name:22s}{record.status:>10s}{spent}{note}")
    budget = study.budget_of(profile)
    print(
        f"charged {budget.spent:.4g} of {budget.limit:.3g} ({budget.convention}), {budget.spent / budget.limit:.2%}; "
        f"reserved by unfinished experiments {budget.reserved:.3g}; left {budget.left:.4g}"
    )
    if "final" not in found:
        shape, beside = accounting.Shape.of(model.backbone_config(profile.backbone)), {"untuned-test"} - found.keys()
        steps = study.affordable_steps(budget, study.EXPERIMENTS["final"], profile, shape, tuple(beside))
        print(f"that affords {steps} steps of the final run, with its forecasts kept back")


def _yardsticks(arguments: argparse.Namespace) -> None:
    print(study.record_yardsticks(arguments.path, fresh=arguments.fresh))


def _pdf(arguments: argparse.Namespace) -> None:
    print(paper.make_pdf(arguments.folder.resolve() if arguments.folder else repository("report")))


if __name__ == "__main__":
    sys.exit(main())
