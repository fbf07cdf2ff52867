"""`python -m benchmarks.package` puts the adapter for any table, `general`, into the package.

It is the candidate that `benchmarks.candidates` chose, and its card says what `benchmarks.textbook`
measured of it on the sources for judging.
"""

import argparse
from dataclasses import asdict
from typing import Any

import pandas as pd

from benchmarks.candidates import CANDIDATES, CHOSEN, write_candidate
from benchmarks.forecasters import UNTUNED
from benchmarks.rows import one_line
from benchmarks.textbook import ENSEMBLE
from m2lib.files import write_atomic, write_json
from m2lib.forecaster import read_format
from m2lib.forecaster.adapters import (
    FACTS_FILE,
    GENERAL,
    GENERAL_FOLDER,
    adapter_weights_hash,
    read_views,
)
from m2lib.forecaster.cards import CARD_FILE, model_card
from m2lib.series.intervals import Ratio
from study import PROFILES
from study.paper.textbook import (
    LAST_SEASON,
    LAST_VALUE,
    compared,
    errors_by_series,
    held,
    judged_rows,
    summary,
)
from study.records import Record, load_finished

RUNS = CANDIDATES[CHOSEN]
"""The runs whose weights the adapter averages. They are the last of its trainings."""
OPENED = "three times, two of them for earlier adapters"
"""How often the series for judging have been opened. Each reading adds one."""
ERROR = "error / that of the last season"
LIMITS = (
    "It knows no prices, promotions, holidays or other regressors. It reads 256 "
    "steps at most, or 128 of two variables, and writes three digits. Of its bands only the "
    "80% one has been checked for the share of true values that it holds. There are no sales, "
    "and no counts that are mostly zero, among the series that judge it. These series have "
    "been public for years, and nobody has tested whether its base model has read them. "
    "Where AutoETS, AutoTheta and AutoARIMA can be run, the median of the three has the lower "
    "error. It has not been compared with pretrained forecasters of time series."
)
"""What the adapter cannot do, and what is not known of it."""


def called(name: str) -> str:
    """Return what the card calls a forecaster of the record."""
    names = {
        GENERAL: "this adapter",
        ENSEMBLE: "the median of AutoETS, AutoTheta and AutoARIMA",
        LAST_SEASON: "the last season",
        LAST_VALUE: "the last value",
        UNTUNED: "the untuned model",
    }
    return names.get(name, name)


def told_apart(ratios: dict[str, Ratio | None]) -> str:
    """Return the card's words on which forecasters surely differ from it, by their ratios."""
    known_ratios = {name: ratio for name, ratio in ratios.items() if ratio}
    worse_names = [name for name, ratio in known_ratios.items() if ratio.high < 1]
    better_names = [name for name, ratio in known_ratios.items() if ratio.low > 1]
    undecided_names = [name for name in known_ratios if name not in (*worse_names, *better_names)]
    if not worse_names and not better_names:
        return "no difference is sure"
    return (
        f"this adapter is surely ahead of {_join_names(worse_names)}; "
        f"it is surely behind {_join_names(better_names)}; "
        f"and it cannot be told apart from {_join_names(undecided_names)}"
    )


def _join_names(names: list[str]) -> str:
    """Return names as a sentence has them: `a, b and c`, or `none`."""
    *all_but_last, last = names or ["none"]
    return f"{', '.join(all_but_last)} and {last}" if all_but_last else last


def judgement(rows: list[dict[str, Any]]) -> str:
    """Return the card's words on the errors: by series, and where each source counts once."""
    errors = errors_by_series(rows)
    ratios_over_series: dict[str, Ratio | None] = {}
    ratios_over_sources: dict[str, Ratio | None] = {}
    for name in errors.columns.drop(GENERAL):
        comparison = compared(errors, GENERAL, name)
        ratios_over_series[called(name)] = comparison.over_series
        ratios_over_sources[called(name)] = comparison.over_sources
    by_series = told_apart(ratios_over_series)
    by_source = told_apart(ratios_over_sources)
    sources = errors.index.unique("source").size
    return (
        f"By a t interval over the {len(errors)} series, {by_series}. That takes the series for "
        f"independent; if each of their {sources} sources counts once, {by_source}. Nothing is "
        f"corrected for the number of comparisons. {furthest_behind(errors)}"
    )


def furthest_behind(errors: pd.DataFrame) -> str:
    """Return the card's words on the source with the largest error in units of the last value's."""
    comparisons = {}
    ratios = {}
    for source, source_errors in errors.groupby("source"):
        comparison = compared(source_errors, GENERAL, LAST_VALUE)
        if comparison.over_series:  # a single series has no interval
            comparisons[source] = comparison
            ratios[source] = comparison.over_series
    worst = max(ratios, key=lambda source: ratios[source].ratio)
    ratio = ratios[worst]
    comparison = comparisons[worst]
    return (
        f"It is furthest behind the last value on the {worst}, with {ratio.ratio:.2f} times its "
        f"error ({ratio.low:.2f} to {ratio.high:.2f}), and ahead of it on {comparison.better} of "
        f"these {comparison.count} series"
    )


def trainings() -> list[Record]:
    """Return the records of its trainings: the last, the one that it started from, and so on."""
    records = [load_finished(PROFILES["laptop"], RUNS[-1])]
    while records[-1].plan.start:
        records.append(load_finished(PROFILES["laptop"], records[-1].plan.start))
    return records


def _data(records: list[Record]) -> str:
    """Return the card's words on what its trainings learned from."""
    num_as_shown = sum(training.plan.shown > 0 for training in records)
    last = "In the last" if num_as_shown == 1 else f"In the last {num_as_shown}"
    mean = ""
    if len(RUNS) > 1:
        mean = f"The weights are the mean of those of the runs {' and '.join(RUNS)}. "
    return (
        "No real series: an endless stream of synthetic ones, as "
        "`study.synthetic.families` draws them: seasons and trends, autoregressions, wandering "
        "cycles, counts, Gaussian processes, prey and predators, mixed; 20 to 256 steps each. "
        f"{last} of {len(records)} trainings many of them are shown as the forecaster shows a "
        "table, half of these without their season or trend, and most of these are series of "
        f"exponential smoothing (`study.synthetic.shown`). {mean}The settings below are those of "
        "the last training, which started from the one named there; the cost is that of all of "
        "them. (`pairs` and `shown` are shares of its steps, which `study.experiments` explains.)"
    )


def _recipe(record: Record) -> dict[str, Any]:
    """Return the settings of a training, as the card lists them."""
    plan = record.plan
    assert plan.training is not None  # each of the runs is a training
    recipe: dict[str, Any] = {"start": plan.start, "pairs": plan.pairs, "shown": plan.shown}
    recipe |= asdict(plan.training)
    recipe["targets"] = ", ".join(recipe["targets"])
    recipe["alpha"] = recipe["alpha"] or recipe["rank"]  # by default it is the rank
    return recipe


def facts() -> dict[str, Any]:
    """Return what the card tells: data, recipe, cost, and errors on the sources for judging."""
    records = trainings()
    card_facts = {
        "data": _data(records),
        "limits": LIMITS,
        "recipe": _recipe(records[0]),
        "flops": sum(training.spent()["coursework"] for training in records),
    }
    rows = judged_rows()
    adapters = {row["adapter"] for row in rows if row["forecaster"] == GENERAL}
    if adapters != {adapter_weights_hash(GENERAL_FOLDER)}:
        return card_facts  # the sources for judging have not all been opened for this adapter yet
    errors = {}
    for name, line in summary(rows, LAST_SEASON, GENERAL).iterrows():
        errors[called(str(name))] = {
            ERROR: round(float(line["error"]), 3),
            "80% band holds": round(held(rows, str(name)), 3),
        }
    return card_facts | {
        "measured": "series of the textbook Forecasting: Principles and Practice, and on the air "
        "of Warsaw. The errors are geometric means of the MASE, relative to that of repeating the "
        "last season; less than 1 is better. There are no shops among these series. No adapter "
        "and no view was selected on them, but an earlier adapter had been tried on some of them, "
        "which gave the idea of showing it fewer steps, and what was seen when they were first "
        f"opened steered later trainings. They were opened {OPENED}. (The factor by which samples "
        "are moved apart was found with an earlier adapter, on other real series.) "
        f"{judgement(rows)}",
        "errors": errors,
    }


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()  # it has no options but --help
    with one_line():
        backbone = trainings()[0].plan.backbone  # a missing record is named before anything changes
        write_candidate(GENERAL_FOLDER, CHOSEN)
        card_facts = facts()
        write_json(GENERAL_FOLDER / FACTS_FILE, card_facts)
        card = model_card(
            backbone, read_format(GENERAL_FOLDER), card_facts, views=read_views(GENERAL_FOLDER)
        )
        write_atomic(GENERAL_FOLDER / CARD_FILE, card.encode())
