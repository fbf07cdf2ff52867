"""The `m2` command: `m2 data`, `m2 model`, `m2 run`, `m2 status`, `m2 flops`, `m2 budget`."""

import argparse
import os
import sys
from pathlib import Path

from m2lib.files import InputError


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 for an InputError (printed in one line), 130 for Ctrl-C.

    141 where nobody reads on, as in `m2 status | head -1`.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's last flush complains
        return 141
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="m2",
        description="Forecast predator-prey series written as text with a small language model.",
        epilog="Environment: M2_PROFILE (slice, laptop, report), M2_BACKBONE (a name, folder or .gguf), M2_DATA (an "
        "HDF5 file), M2_DEVICE, M2_DTYPE, M2_RECOMPUTE=1 (train in less memory), M2_CACHE, M2_OUT and M2_RESULTS "
        "(folders).",
    )
    groups = parser.add_subparsers(required=True, metavar="command")

    data = groups.add_parser("data", help="write or check the data set").add_subparsers(required=True, metavar="action")
    generate = data.add_parser("generate", help="write the data set as an HDF5 file")
    generate.add_argument("path", nargs="?", type=Path, help="default: data/lotka_volterra_data.h5")
    generate.add_argument("--n", type=_at_least_3, default=1000, help="number of series (default 1000)")
    generate.add_argument("--seed", type=_seed, default=0, help="of the recipe (default 0: the real data set)")
    generate.add_argument("--force", action="store_true", help="replace a file that is there")
    generate.set_defaults(command=_data_generate)
    check = data.add_parser("check", help="validate the data in use and compare them with the recipe")
    check.add_argument("path", nargs="?", type=Path, help="default: M2_DATA, data/lotka_volterra_data.h5, or generated")
    check.set_defaults(command=_data_check)

    model = groups.add_parser("model", help="download and convert a backbone, once")
    model.add_argument("name", nargs="?", help="default: the active profile's")
    model.set_defaults(command=_model)

    run = groups.add_parser("run", help="run experiments, or load their finished records")
    run.add_argument("names", nargs="*", metavar="name", help="for example baseline or default-warm")
    run.add_argument("--all", action="store_true", help="all of the report's experiments that are not finished yet")
    run.add_argument("--beyond", action="store_true", help="with --all: also those that go beyond the report")
    run.add_argument("--fresh", action="store_true", help="run again even where there is a record")
    run.set_defaults(command=_run)

    status = groups.add_parser("status", help="list what is recorded at the active profile")
    status.set_defaults(command=_status)

    flops = groups.add_parser("flops", help="what an experiment costs, or a model at sizes of your own")
    flops.add_argument("experiment", nargs="?", help="its sizes, as the report has them or as M2_PROFILE has; else:")
    flops.add_argument("--length", type=_positive, default=512, help="tokens of a window and of a prompt (512)")
    flops.add_argument("--rank", type=_whole, default=4, help="of the adapters, 0 for none (4)")
    flops.add_argument("--batch", type=_positive, default=2, help="windows in a training step (2)")
    flops.add_argument("--steps", type=_whole, default=1, help="training steps (1)")
    flops.add_argument("--new-tokens", type=_positive, default=220, help="tokens of a forecast (220)")
    flops.add_argument("--backbone", help="default: M2_BACKBONE, or the profile's, or the report's qwen2.5-0.5b")
    flops.add_argument("--convention", choices=("coursework", "published", "executed"), default="coursework")
    flops.add_argument("--json", action="store_true", help="print the integers as JSON")
    flops.set_defaults(command=_flops)

    budget = groups.add_parser("budget", help="what the active profile's records have spent, and what is left")
    budget.set_defaults(command=_budget)
    return parser


def _at_least_3(text: str) -> int:
    if not text.isdecimal() or int(text) < 3:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of series; at least 3 are needed to split them")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"{text!r} is not a seed; it must be a whole number from 0 to 2**32 - 1")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _data_generate(arguments) -> None:
    from m2lib.series.data import DEFAULT_FILE, generate_series, write_series

    path = arguments.path or DEFAULT_FILE
    if path.exists() and not arguments.force:
        raise InputError(f"{path} is there already; --force replaces it")
    series = generate_series(arguments.n, arguments.seed)
    write_series(series, path)
    print(f"{path}: {len(series)} series, fingerprint {series.fingerprint}")


def _data_check(arguments) -> None:
    from m2lib.series.data import generate_series, load_series, split_ids

    series = load_series(arguments.path)
    split = split_ids(len(series))
    print(f"data         {series.source}")
    sizes = ", ".join(f"{len(getattr(split, part))} {part}" for part in ("train", "validation", "test"))
    print(f"series       {len(series)}: {sizes}")
    print(f"fingerprint  {series.fingerprint}")
    same = series.fingerprint == generate_series().fingerprint
    verdict = "every encoded value equal" if same else "another data set: published numbers do not apply to it"
    print(f"recipe       {verdict}")


def _model(arguments) -> None:
    from m2lib.model.weights import fetch_backbone
    from m2lib.study.profiles import active_profile

    name = arguments.name or active_profile().backbone
    if name == "tiny":
        print("backbone tiny: random weights, nothing to fetch")
    else:
        print(f"backbone {name}: {fetch_backbone(name)}")


def _run(arguments) -> None:
    from tqdm.auto import tqdm

    from m2lib.study.experiments import experiment_named
    from m2lib.study.profiles import active_profile
    from m2lib.study.records import record_path
    from m2lib.study.runs import run, run_all

    if arguments.all == bool(arguments.names) or (arguments.beyond and not arguments.all):
        raise InputError("name the experiments to run, or give --all (and --beyond); `m2 status` lists them")
    for name in arguments.names:  # all of them before the first is run
        experiment_named(name)
    profile = active_profile()
    try:
        if arguments.all:
            for result in run_all(profile, fresh=arguments.fresh, beyond=arguments.beyond):
                tqdm.write(_outcome(result))
        for name in arguments.names:
            print(_outcome(run(name, profile, fresh=arguments.fresh)))
            print(record_path(profile, name))
    except KeyboardInterrupt:
        again = " ".join(arguments.names) or "--all" + " --beyond" * arguments.beyond
        print(f"\n`m2 run {again}` goes on from the last checkpoint or batch", file=sys.stderr)
        raise


def _outcome(result) -> str:
    from m2lib.series.metrics import summarise

    if result.status != "done":
        return f"{result.name}: another process records it"
    errors = f"MAE {summarise(result.maes().values())}" if result.series else "no series is left for it to forecast"
    return f"{result.name}: {errors}, {result.repairs} repairs, {result.seconds:.0f} s, {result.backbone['dtype']}"


def _status(arguments) -> None:
    from m2lib.series.metrics import summarise
    from m2lib.study.experiments import EXPERIMENTS
    from m2lib.study.profiles import active_profile
    from m2lib.study.records import load_record, record_path

    profile = active_profile()
    print(record_path(profile, "*").parent)
    for name, experiment in EXPERIMENTS.items():
        if not record_path(profile, name).exists():
            print(f"{name:22s} not run: {experiment.about}")
            continue
        try:
            result = load_record(profile, name)
        except InputError as error:
            print(f"{name:22s} {error}")
            continue
        parts = [result.status, f"{result.seconds:.0f} s"]
        if "train" in result.config:
            parts.append(f"{len(result.loss_curve)} of {result.config['train']['steps']} steps")
        if result.series:
            parts.append(f"MAE {summarise(result.maes().values())}, {result.repairs} repairs")
        print(f"{name:22s} {', '.join(parts)}")


def _flops(arguments) -> None:
    import json
    import os

    from m2lib.accounting.flops import forecast_flops, forward_flops, train_step_flops
    from m2lib.accounting.shape import COMPONENTS, Shape, times, total
    from m2lib.model.backbones import backbone_config
    from m2lib.study.costs import experiment_sizes
    from m2lib.study.profiles import PROFILES, active_profile

    # Without M2_PROFILE the report's sizes are meant: a slice's would say little.
    profile = active_profile() if os.environ.get("M2_PROFILE") else PROFILES["report"]
    backbone = arguments.backbone or os.environ.get("M2_BACKBONE") or profile.backbone
    sizes = {name: getattr(arguments, name) for name in ("rank", "batch", "steps", "new_tokens")}
    sizes |= {"length": arguments.length, "prompt": arguments.length, "forecasts": 1}
    if arguments.experiment:
        sizes = experiment_sizes(arguments.experiment, profile)
    shape, kind = Shape.of(backbone_config(backbone)), {"rank": sizes["rank"], "convention": arguments.convention}
    forward = forward_flops(shape, sizes["length"], **kind)
    step = train_step_flops(shape, sizes["length"], batch=sizes["batch"], **kind)
    costs = {
        "forward": forward,
        "train_step": step,
        "training": times(sizes["steps"], step),
        "forecast": forecast_flops(shape, sizes["prompt"], sizes["new_tokens"], **kind),
    }
    if arguments.json:
        described = {"backbone": backbone, "convention": arguments.convention, **sizes}
        totals = {name: total(one) for name, one in costs.items()}
        print(json.dumps(described | totals | {"breakdown": costs}, indent=1))
        return
    print(f"{backbone}, {arguments.convention} FLOPs; " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    print(" " * 12 + "".join(f"{name:>14s}" for name in costs))
    for part in COMPONENTS:
        if any(one[part] for one in costs.values()):
            print(f"{part:12s}" + "".join(f"{one[part]:14.4g}" for one in costs.values()))
    print(f"{'total':12s}" + "".join(f"{total(one):14.4g}" for one in costs.values()))


def _budget(arguments) -> None:
    from m2lib.accounting.shape import CONVENTIONS, Shape
    from m2lib.model.backbones import backbone_config
    from m2lib.study.budget import affordable_steps, records, state
    from m2lib.study.experiments import EXPERIMENTS
    from m2lib.study.profiles import active_profile
    from m2lib.study.records import record_path

    profile = active_profile()
    print(record_path(profile, "*").parent)
    print(f"{'FLOPs spent':22s}{'status':>10s}" + "".join(f"{convention:>14s}" for convention in CONVENTIONS))
    found = records(profile)
    for name, result in found.items():
        note = "" if EXPERIMENTS[name].group else "  beyond the report, not charged"
        spent = "".join(f"{flops:14.3g}" for flops in result.spent().values())
        print(f"{name:22s}{result.status:>10s}{spent}{note}")
    budget = state(profile)
    print(
        f"charged {budget.spent:.4g} of {budget.limit:.3g} ({budget.convention}), {budget.spent / budget.limit:.2%}; "
        f"reserved by running experiments {budget.reserved:.3g}; left {budget.left:.4g}"
    )
    if "final" not in found:
        shape, beside = Shape.of(backbone_config(profile.backbone)), {"untuned-test"} - found.keys()
        steps = affordable_steps(budget, EXPERIMENTS["final"], profile, shape, tuple(beside))
        print(f"that affords {steps} steps of the final run, with its forecasts kept back")


if __name__ == "__main__":
    sys.exit(main())
