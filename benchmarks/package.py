"""`python -m benchmarks.package` puts the adapter for any table, `general`, into the package.

It is the candidate that `benchmarks.candidates` chose, and its card says what `benchmarks.textbook`
measured of it on the sources for judging.
"""

from dataclasses import asdict
from typing import Any

from benchmarks.candidates import CANDIDATES, CHOSEN, write_candidate
from m2lib.files import write_atomic, write_json
from m2lib.forecaster import read_format
from m2lib.forecaster.adapters import GENERAL, read_views, weights_hash
from m2lib.forecaster.export import CARD_FILE, FACTS_FILE, model_card
from study import PROFILES, load_record
from study.paper.textbook import LAST_SEASON, errors_by_series, held, judged_rows, ratios, summary
from study.records import Record

RUNS = CANDIDATES[CHOSEN]
"""The runs whose weights the adapter averages. They are the last of its trainings."""


def told_apart(rows: list[dict[str, Any]]) -> str:
    """Return the card's words on the series, and on which forecasters surely differ from it."""
    errors = errors_by_series(rows)
    ahead = []
    behind = []
    undecided = []
    for rival, ratio in ratios(errors, GENERAL.name).items():
        if ratio.low <= 1 <= ratio.high:
            undecided.append(rival)
        elif ratio.ratio < 1:
            ahead.append(rival)
        else:
            behind.append(rival)
    sources = errors.index.unique("source").size
    return (
        f"By a t interval over the {len(errors)} series of {sources} sources, this adapter is "
        f"surely ahead of {', '.join(ahead) or 'none'} and surely behind "
        f"{', '.join(behind) or 'none'}; it cannot be told apart from "
        f"{', '.join(undecided) or 'none'}"
    )


def trainings() -> list[Record]:
    """Return the records of its trainings: the last, the one that it started from, and so on."""
    records = [load_record(PROFILES["laptop"], RUNS[-1])]
    while records[-1].plan.start:
        records.append(load_record(PROFILES["laptop"], records[-1].plan.start))
    return records


def facts() -> dict[str, Any]:
    """Return what the card tells: data, recipe, cost, and errors on the sources for judging."""
    records = trainings()
    plan = records[0].plan
    as_shown = sum(training.plan.shown > 0 for training in records)
    last = "In the last" if as_shown == 1 else f"In the last {as_shown}"
    mean = ""
    if len(RUNS) > 1:
        mean = f"The weights are the mean of those after the last {len(RUNS)} trainings. "
    recipe = {"start": plan.start, "pairs": plan.pairs, "shown": plan.shown}
    recipe |= asdict(plan.training)
    recipe["targets"] = ", ".join(recipe["targets"])

    told = {
        "data": "No real series: an endless stream of synthetic ones, as "
        "`study.synthetic.families` draws them: seasons and trends, autoregressions, wandering "
        "cycles, counts, Gaussian processes, prey and predators, mixed; 20 to 256 steps each. "
        f"{last} of {len(records)} trainings most of them are shown as the forecaster shows a "
        "table, without their season or trend, and many are series of exponential smoothing "
        f"(`study.synthetic.shown`). {mean}The settings below are the last training's, the cost "
        "is of all",
        "recipe": recipe,
        "flops": sum(training.spent()["coursework"] for training in records),
    }
    rows = judged_rows()
    (adapter,) = {row["adapter"] for row in rows if row["forecaster"] == GENERAL.name}
    if adapter != weights_hash(GENERAL):
        return told  # the sources for judging have not been opened for this adapter yet
    errors = {}
    for name, line in summary(rows, LAST_SEASON, GENERAL.name).iterrows():
        called = "this adapter" if name == GENERAL.name else str(name)
        errors[called] = {
            "error (MASE)": round(float(line["error"]), 3),
            "80% band holds": round(held(rows, str(name)), 3),
        }
    return told | {
        "measured": "series of the textbook Forecasting: Principles and Practice, by which no "
        "choice here was made; they were opened twice, first for an earlier adapter. In geometric "
        "mean, and relative to the last season repeated. "
        f"{told_apart(rows)}",
        "errors": errors,
    }


if __name__ == "__main__":
    write_candidate(GENERAL, CHOSEN)
    told = facts()
    write_json(GENERAL / FACTS_FILE, told)
    backbone = trainings()[0].plan.backbone
    card = model_card(backbone, read_format(GENERAL), told, views=read_views(GENERAL))
    write_atomic(GENERAL / CARD_FILE, card.encode())
