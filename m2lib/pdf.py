"""report/main.pdf: its figures and numbers, made from records, and Typst. No model is loaded.

`python -m m2lib.pdf` (`make figures`) redraws report/figures/, report/numbers.json and report/main.pdf;
`python -m m2lib.pdf FOLDER` makes the same in a folder of its own.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from m2lib import figures, report
from m2lib.baselines import BASELINES
from m2lib.codec import CONTEXT_STEPS, to_integers
from m2lib.costs import table_3
from m2lib.data import load_series, split_ids
from m2lib.experiments import EXPERIMENTS, SEARCH, chosen
from m2lib.files import ROOT, InputError, first_line, write_atomic
from m2lib.flops import CONVENTIONS, Shape, train_step_flops
from m2lib.flops import total as flops_total
from m2lib.metrics import bootstrap_interval, series_mae, summarise
from m2lib.profiles import PROFILES, Profile
from m2lib.results import Result, load_result, published_maes, published_table_3, result_path
from m2lib.vocabulary import SYMBOLS

REPORT = ROOT / "report"
SOURCES = ("main.typ", "references.bib", "published/printed.csv")


def numbers(profile: Profile) -> dict:
    """All that the PDF prints and that is not in a record as it stands: summaries, intervals, FLOPs, yardsticks."""
    results = report.found(profile, *(name for name in EXPERIMENTS if not name.startswith("trial/")))
    trials = {name: one for name, one in _trials(profile).items() if one.status == "done"}
    five, twenty = report.search_maes(profile), report.search_maes(profile, second=True)
    return {
        "study": _study(profile, results),
        "errors": {name: _errors(result.maes()) for name, result in results.items() if result.series},
        "published": _published(),
        "search": [
            _setting(name, profile, five, twenty) | {"published": published}
            for name, published in zip(SEARCH, _published_search(), strict=True)
        ],
        "chosen": report.label(chosen(lambda name: load_result(profile, name).maes()), profile),
        "context": [_context(length, results[f"context/{length}"], profile) for length in report.LENGTHS],
        "final": _final(results),
        "yardsticks": {split: _yardsticks(split) for split in ("validation", "test")},
        "table3": _table_3(),
        "model": _model(),
        "trials": [
            {"about": EXPERIMENTS[name].about.split(": ")[1], **_errors(one.maes()), "minutes": one.seconds / 60}
            for name, one in trials.items()
        ],
        "records": [
            {"name": name, "commit": one.commit, "seconds": one.seconds, "device": one.device, **one.spent()}
            for name, one in (results | trials).items()
        ],
    }


def results_table(found: dict) -> str:
    """The README's table of test errors, from `numbers`."""
    rows = [f"| {row['name']} | {row['mean']:.1f} | | {row['median']:.1f} | |" for row in found["yardsticks"]["test"]]
    errors = {f"published {name}": found["published"][name] for name in ("untuned", "final")}
    errors |= {"untuned": found["errors"]["untuned-test"], "final": found["errors"]["final"]}
    names = {
        "published untuned": "published: Qwen2.5-0.5B, untuned",
        "published final": "published: Qwen2.5-0.5B, final adapter",
        "untuned": f"ours: {found['study']['backbone']}, untuned",
        "final": f"**ours: {found['study']['backbone']}, final adapter**",
    }
    for kind, name in names.items():
        mean, median = ("{:.1f} to {:.1f}".format(*found["final"]["intervals"][kind][of]) for of in ("mean", "median"))
        rows.append(f"| {name} | {errors[kind]['mean']:.1f} | {mean} | {errors[kind]['median']:.1f} | {median} |")
    head = "| forecast of the 50 test series | mean | 95% interval | median | 95% interval |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def inputs(folder: Path = REPORT) -> list[Path]:
    """All files that a report's PDF is made of; the records come first into its numbers."""
    named = re.findall(r'"((?:figures|published)/[^"]+|[^"/]+\.svg)"', (folder / "main.typ").read_text())
    named = {folder / (name if "/" in name else f"figures/{name}") for name in named}
    records = [path for path in result_path(report.study(), "x").parent.rglob("*.json") if not _is_adapter(path)]
    return [*(folder / name for name in SOURCES), folder / "numbers.json", *sorted(named), *sorted(records)]


def inputs_hash(folder: Path = REPORT) -> str:
    """SHA-256 over the names and contents of `inputs`. Raises InputError naming one that is missing."""
    digest = hashlib.sha256()
    for path in inputs(folder):
        if not path.is_file():
            raise InputError(f"{path} is missing, which {folder / 'main.typ'} names; `make figures` draws the figures")
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def compile_pdf(folder: Path = REPORT) -> Path:
    """Compile main.typ, and write beside the PDF the hash of what it was made of.

    Raises InputError where typst is not installed or finds a fault.
    """
    try:
        import typst
    except ImportError as error:
        raise InputError("the PDF needs typst: pip install typst") from error
    made_of = inputs_hash(folder)
    try:
        content = typst.compile(str(folder / "main.typ"), root=str(folder))
    except RuntimeError as error:
        raise InputError(f"{folder / 'main.typ'}: {first_line(error)}") from error
    write_atomic(folder / "main.pdf", content)
    write_atomic(folder / "main.pdf.inputs.sha256", f"{made_of}\n".encode())
    return folder / "main.pdf"


def main(arguments: list[str]) -> int:
    """Draw the figures, write the numbers, compile the PDF."""
    folder = Path(arguments[0]).resolve() if arguments else REPORT
    try:
        if folder != REPORT:
            for name in SOURCES:
                write_atomic(folder / name, (REPORT / name).read_bytes())
        for name in report.FIGURES:
            figure = report.draw(name)
            figures.save_figure(figure, name, folder=folder / "figures", kind="svg")
            plt.close(figure)
        write_atomic(folder / "numbers.json", (json.dumps(numbers(report.study()), indent=1) + "\n").encode())
        print(compile_pdf(folder))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _is_adapter(path: Path) -> bool:
    return path.name == "adapter_config.json"


def _trials(profile: Profile) -> dict[str, Result]:
    return report.found(profile, *(name for name in EXPERIMENTS if name.startswith("trial/")))


def _errors(maes: dict[int, float]) -> dict:
    summary = summarise(maes.values())
    return {"n": summary.n, "mean": summary.mean, "median": summary.median, "worst": max(maes.values())}


def _published() -> dict:
    baseline = published_maes("baseline")
    found = {name: _errors(published_maes(name)) for name in ("baseline", "default", "untuned", "final")}
    found["baseline of default"] = _errors({series: baseline[series] for series in published_maes("default")})
    five, twenty = report.published_search(), report.published_search(second=True)
    best = min(twenty, key=lambda name: summarise(twenty[name].values()).median)
    by_mean = min(twenty, key=lambda name: summarise(twenty[name].values()).mean)
    labels = {"chosen": report.label(best, PROFILES["report"]), "by mean": report.label(by_mean, PROFILES["report"])}
    return found | labels | {"five": sorted(five[best])}


def _model() -> dict:
    """Sizes of the report's model, from its config."""
    from m2lib.backbones import backbone_config

    config = backbone_config(PROFILES["report"].backbone)
    width, values = config.hidden_size, config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    adapters = config.num_hidden_layers * 2 * (width + width + width + values)
    symbols = len(SYMBOLS)
    return {
        "vocabulary": config.vocab_size,
        "blocks": config.num_hidden_layers,
        "head": config.vocab_size * width,
        "reduced head": symbols * width + symbols,
        "trained": adapters + symbols,
    }


def _study(profile: Profile, results: dict[str, Result]) -> dict:
    charged = [one for name, one in results.items() if EXPERIMENTS[name].group]
    spent = sum(one.spent()[profile.budget_convention] for one in charged)
    rules = {kind: sum(one.spent()[kind] for one in charged) for kind in CONVENTIONS}
    report_training = sum(training for training, _ in table_3(_qwen(), "coursework").values())
    one = results["final"]
    return {
        "profile": profile.name,
        "backbone": one.backbone["id"],
        "dtype": one.backbone["dtype"],
        "device": one.device,
        "hours": sum(result.seconds for result in charged) / 3600,
        "experiments": len(charged),
        "spent": rules,
        "share of budget": spent / profile.budget,
        "share of the training published": rules["coursework"] / report_training,
        "final": one.config["train"] | {"minutes": one.seconds / 60} | one.spent(),
    }


def _setting(name: str, profile: Profile, five: dict, twenty: dict) -> dict:
    train = EXPERIMENTS[name].at(profile).train
    second = _errors(twenty[name]) if name in twenty else None
    return {"rate": train["learning_rate"], "rank": train["rank"], "five": _errors(five[name]), "twenty": second}


def _published_search() -> list[dict]:
    five, twenty = report.published_search(), report.published_search(second=True)
    return [_setting(name, PROFILES["report"], five, twenty) for name in SEARCH]


def _context(length: int, result: Result, profile: Profile) -> dict:
    published = {series: published_maes(f"context/{length}")[series] for series in published_maes("context/128")}
    steps = {
        kind: {
            backbone: flops_total(train_step_flops(shape, length, rank=2, batch=2, convention=kind))
            for backbone, shape in (("report", _qwen()), ("ours", _shape(profile)))
        }
        for kind in CONVENTIONS
    }
    seconds = result.train_seconds / max(1, len(result.loss_curve))
    return {
        "length": length,
        "ours": _errors(result.maes()),
        "published": _errors(published),
        "step": steps,
        "seconds a step": seconds,
    }


def _final(results: dict[str, Result]) -> dict:
    final, untuned = results["final"].maes(), results["untuned-test"].maes()
    kinds = {"untuned": untuned, "final": final}
    kinds |= {f"published {name}": published_maes(name) for name in ("untuned", "final")}
    intervals = {
        name: {
            "mean": bootstrap_interval(maes.values(), np.mean),
            "median": bootstrap_interval(maes.values(), np.median),
        }
        for name, maes in kinds.items()
    }
    better = sum(final[series] < untuned[series] for series in final)
    return {"intervals": intervals, "better": better, "test uses": _uses_of_test()}


def _uses_of_test() -> list[str]:
    return [name for name, experiment in EXPERIMENTS.items() if experiment.split == "test"]


def _yardsticks(split: str) -> list[dict]:
    series = load_series()
    ids = list(getattr(split_ids(len(series)), split))
    integers = to_integers(series.trajectories[ids], series.scales[ids])
    contexts, truths = integers[:, :CONTEXT_STEPS], integers[:, CONTEXT_STEPS:]
    return [
        {"name": name} | _errors(dict(zip(ids, series_mae(forecast(contexts), truths).tolist(), strict=True)))
        for name, forecast in BASELINES.items()
    ]


def _table_3() -> dict:
    tables = {kind: table_3(_qwen(), kind) for kind in CONVENTIONS}
    rows = list(tables["published"])
    for table in tables.values():
        table["all"] = tuple(sum(table[row][i] for row in rows) for i in (0, 1))
    before = sum(sum(tables["published"][row]) for row in rows if row != "final")
    return {
        "before final": before / PROFILES["report"].budget,
        "rows": [
            {"row": row, "printed": published_table_3()[row]} | {kind: list(tables[kind][row]) for kind in CONVENTIONS}
            for row in (*rows, "all")
        ],
    }


def _qwen() -> Shape:
    return _shape(PROFILES["report"])


def _shape(profile: Profile) -> Shape:
    from m2lib.backbones import backbone_config

    return Shape.of(backbone_config(profile.backbone))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
