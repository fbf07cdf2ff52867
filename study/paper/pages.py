"""The tables of the README and of the book's pages, made from the records: `make figures`.

A page says where a table stands: between `<!-- networks -->` and `<!-- end of networks -->`.
"""

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import study
from m2lib.files import ROOT, read_json, write_atomic
from m2lib.series import BASELINES
from study.paper.claims import claims_table, contexts_table
from study.paper.errors import by_world, error_table
from study.paper.numbers import FINAL_MODEL, LONG_RUN
from study.paper.real_tables import LAST_SEASON, LAST_VALUE, errors_by_series, held, judged
from study.worlds import AT_HOME, OF_USUAL_SIZE

PAGES = ("README.md", "book/results.md", "book/claims.md", "book/real_tables.md", "book/speed.md")
"""The pages that have such tables, by their paths in the checkout."""
Numbers = dict[str, Any]
"""What `numbers.json` holds."""


def write_pages(numbers: Numbers) -> None:
    """Write the tables into all pages."""
    for name in PAGES:
        page = ROOT / name
        write_atomic(page, filled(page.read_text(encoding="utf-8"), numbers).encode())


def filled(text: str, numbers: Numbers) -> str:
    """Return a page's text with all its tables as the numbers give them."""
    for name, table in TABLES.items():
        marks = rf"(<!-- {name} -->\n\n).*?(\n\n<!-- end of {name} -->)"
        if re.search(marks, text, re.DOTALL):
            made = table(numbers)
            text = re.sub(marks, lambda found: found[1] + made + found[2], text, flags=re.DOTALL)  # noqa: B023
    return text


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    joined = [f"| {' | '.join(cells)} |" for cells in lines]
    joined[1] = joined[1].replace(" ", "")
    return "\n".join(joined)


def results_table(numbers: Numbers) -> str:
    """Return the table of all forecasts of the 50 test series, with 95% intervals."""
    errors = numbers["errors"]
    steps = f"{study.trained_with('final', study.PROFILES['report']).steps:,}"
    simple = dict.fromkeys((*BASELINES, "the last period, repeated", study.TUNED))
    rows = [(_named(name), errors["test"][name]) for name in simple]
    rows += [
        (
            "AutoARIMA of statsforecast, each variable alone, without season and logarithms",
            errors["test"]["AutoARIMA"],
        ),
        (
            "the equations known, their parameters fitted to the context",
            errors["test"]["the system, fitted"],
        ),
        (
            "the same, with the data's own integrator",
            errors["test"]["the system, fitted with the file's integrator"],
        ),
        ("published: Qwen2.5-0.5B, untuned", errors["published"]["untuned"]),
        ("published: Qwen2.5-0.5B, final adapter", errors["published"]["final"]),
        ("the replication: qwen2.5-coder-0.5b, untuned", errors["report"]["untuned-test"]),
        (
            f"the replication: qwen2.5-coder-0.5b, final adapter after all of the report's {steps} "
            "steps",
            errors["report"]["final"],
        ),
    ]
    ours = {
        "untuned-test": "ours: smollm2-135m, untuned, the report's protocol",
        "untuned-test-constrained": "ours: smollm2-135m, untuned, decoded as the final model is",
        "final": "**ours: smollm2-135m, final adapter**",
        "final-sampled": "**ours: smollm2-135m, final adapter, median of 12 samples at temperature "
        "0.7**",
        "samples/final/test": "**ours: smollm2-135m, final adapter, median of 48 samples at "
        "temperature 0.5**",
        "best": "**ours: smollm2-135m, the long run (notebook 12)**",
        "samples/best/test": "**ours: smollm2-135m, the long run (notebook 12), median of 48 "
        "samples at temperature 0.7**",
    }
    rows += [(label, errors["ours"][name]) for name, label in ours.items()]
    networks = {
        "900": "three small networks together, the report's 900 series (notebook 12)",
        "5152": "three small networks together, 5,152 series each (notebook 12)",
    }
    rows += [(label, numbers["networks"][count]) for count, label in networks.items()]

    table = []
    for label, found in rows:
        cells = [label]
        for statistic in ("mean", "median"):
            interval = found.get(f"{statistic} interval")
            cells.append(f"{found[statistic]:.1f}")
            cells.append("{:.1f} to {:.1f}".format(*interval) if interval else "")
        table.append(cells)
    head = ("forecast of the 50 test series", "mean", "95% interval", "median", "95% interval")
    return _markdown(head, table)


def _pair(found: Numbers, digits: int = 0) -> str:
    """Return the mean and the median of errors."""
    return f"{found['mean']:.{digits}f} / {found['median']:.{digits}f}"


def _named(yardstick: str) -> str:
    """Return how the table calls a yardstick."""
    if yardstick == study.TUNED:
        return "log-VAR(9), its order chosen on validation"
    return yardstick


def short_table(numbers: Numbers) -> str:
    """Return the README's table of errors, without intervals."""
    errors = numbers["errors"]
    steps = f"{study.trained_with('final', study.PROFILES['report']).steps:,}"
    rows = {
        "our model of 135 million parameters, untuned": errors["ours"]["untuned-test-constrained"],
        "the report's model of 0.5 billion parameters, untuned": errors["published"]["untuned"],
        "the report's model, tuned": errors["published"]["final"],
        "the replication, untuned": errors["report"]["untuned-test"],
        f"the replication, after all of the report's {steps} steps": errors["report"]["final"],
        "copying the most similar stretch of the past": errors["test"][
            "nearest analogue in the context"
        ],
        "a linear autoregression of logarithms, over nine steps": errors["test"][study.TUNED],
        "**ours, after a night on one core**": errors["ours"]["best"],
        "the same, the median of 48 samples": errors["ours"]["samples/best/test"],
        "**three small networks together, a minute each on the report's 900 series**": numbers[
            "networks"
        ]["900"],
        "the equations known, their parameters fitted to the context": errors["test"][
            "the system, fitted"
        ],
    }
    table = []
    for label, found in rows.items():
        digits = 0 if found["mean"] >= 2 else 1
        bold = "**" if label.startswith("**") else ""
        cells = [f"{bold}{found[key]:.{digits}f}{bold}" for key in ("mean", "median")]
        table.append([label, *cells])
    return _markdown(("forecast of the 50 test series", "mean", "median"), table)


def networks_table(numbers: Numbers) -> str:
    """Return what small networks reach, by the number of series that they learned from."""
    table = []
    for count, found in numbers["networks"].items():
        cells = [f"{int(count):,}", _pair(found, digits=1)]
        cells += [
            ", ".join(f"{mean:.1f}" for mean in found["single"]["test"]),
            f"{found['seconds']:.0f}",
        ]
        for who in (FINAL_MODEL, LONG_RUN):
            gain = found["beside"][who]
            low, high = gain["mean interval"]
            cells.append(f"{gain['mean']:.1f} ({low:.1f} to {high:.1f})".replace("-", "−"))
        table.append(cells)
    head = ("series", "three together", "single", "seconds")
    return _markdown((*head, "final adapter - network", "long run - network"), table)


def few_table(numbers: Numbers) -> str:
    """Return what the language model and the networks reach with a few series."""
    table = []
    for count, found in numbers["few series"].items():
        network = numbers["networks"][count]
        by_seed = ", ".join(map(_pair, found["test"]))
        table.append(
            [
                count,
                _pair(found["validation"]),
                _pair(network["validation"]),
                by_seed,
                _pair(network),
            ]
        )
    head = ("series", "validation: language model", "network")
    return _markdown((*head, "test: language model, by seed", "network"), table)


def worlds_table(numbers: Numbers) -> str:
    """Return mean and median errors in the recipe's own and in other worlds."""
    errors = error_table({})
    means, medians = by_world(errors, "mean"), by_world(errors, "median")
    shown = {
        "analogue": "copying",
        "log-VAR(9)": "log-VAR(9)",
        "system fitted": "the fit",
        "LM final": "the final adapter",
        "LM best": "the long run",
        "LM general": "`general`",
        "network for tables": "the network for tables",
    }
    table = []
    for world in OF_USUAL_SIZE:
        cells = ["the recipe's own" if world == AT_HOME else world]
        for name in shown:
            cells.append(f"{means.loc[world, name]:.0f} / {medians.loc[world, name]:.0f}")
        table.append(cells)
    return _markdown(("world", *shown.values()), table)


FORECASTERS = {
    "ensemble": "the median of AutoETS, AutoTheta and AutoARIMA",
    "network": "**the network**",
    "AutoETS": "AutoETS",
    "AutoARIMA": "AutoARIMA",
    "language": "`general`",
    "AutoTheta": "AutoTheta",
    LAST_SEASON: "the last season",
    "untuned": "the untuned language model",
    LAST_VALUE: "the last value",
}
"""The forecasters of real tables, by their names in the record, and what the pages call them."""


def forecasters_table(numbers: Numbers) -> str:
    """Return how forecasters fared on the real series that judge, the lowest error first."""
    table = []
    for name, called in FORECASTERS.items():
        measured = judged()[name]
        relative, beside = measured.get(f"it / {LAST_SEASON}"), measured.get("network / it")
        cells = [called]
        for measure in ("mase", "loss"):
            ratio = relative[measure]["over_series"]["ratio"] if relative else 1
            cells += [f"{ratio:.2f}", _ratio(beside[measure]["over_series"]) if beside else ""]
        cells.append("{better} of {count}".format(**beside["mase"]) if beside else "")
        table.append([*cells, f"{measured['held']:.0%}", f"{measured['seconds']:.2g}"])
    head = (
        "forecaster",
        "error",
        "the network ÷ it (95%)",
        "loss",
        "the network ÷ it, by the loss",
    )
    return _markdown((*head, "network better on", "80% band holds", "seconds"), table)


def _ratio(ratio: dict[str, float]) -> str:
    return "{ratio:.2f} ({low:.2f} to {high:.2f})".format(**ratio)


def sources_table(numbers: Numbers) -> str:
    """Return the errors on each source of the real series, in units of the last season's."""
    steps = {
        **dict.fromkeys(("livestock", "prescriptions"), "months"),
        **dict.fromkeys(("prisons", "production"), "quarters"),
        **{"prices": "years", "flights": "weeks", "air": "days"},
    }
    shown = {
        "network": "the network",
        "language": "`general`",
        "AutoETS": "AutoETS",
        "ensemble": "their median",
        LAST_VALUE: "the last value",
    }
    errors = errors_by_series(judged())
    logs = np.log(errors[[*shown]].div(errors[LAST_SEASON], axis=0)).groupby("source", sort=False)
    counts = logs.size()
    table = []
    for source, relative in np.exp(logs.mean()).iterrows():
        own = {"sources": {source: judged()["network"]["sources"][source]}}
        cells = [f"{source}, {steps[source]}", str(counts[source])]
        cells += [f"{relative[name]:.2f}" for name in shown]
        table.append([*cells, f"{held(own):.0%}"])
    head = ("source", "series", *shown.values(), "the network's 80% band holds")
    return _markdown(head, table)


def seconds_table(_: Numbers) -> str:
    """Return the table of the seconds that the forecasts of a table take."""
    record = read_json(ROOT / "benchmarks" / "results" / "table.json")
    rows = []
    for name, seconds in record["seconds"].items():
        most = record["most"].get(name, math.inf)
        cells = []
        for n, took in seconds.items():
            star = "*" if int(n) > most else ""
            cells.append((f"{took:.0f}" if took >= 10 else f"{took:.2g}") + star)
        rows.append([name, *cells])
    head = ("seconds", *(f"{n} series" for n in next(iter(record["seconds"].values()))))
    return _markdown(head, rows)


TABLES: dict[str, Callable[[Numbers], str]] = {
    "results": results_table,
    "short results": short_table,
    "networks": networks_table,
    "few series": few_table,
    "worlds": worlds_table,
    "claims": lambda _: claims_table(),
    "contexts": lambda _: contexts_table(),
    "forecasters": forecasters_table,
    "sources": sources_table,
    "table seconds": seconds_table,
}
"""What makes the table of each mark."""
