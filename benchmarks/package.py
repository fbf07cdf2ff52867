"""`python -m benchmarks.package` puts the adapter for any table, `general`, into the package.

Its weights are the mean of two runs, its views and its spread are those that `benchmarks.trials`
chose, and its card says what `benchmarks.textbook` measured on the sources for judging.
"""

from dataclasses import asdict, replace
from typing import Any

from safetensors.torch import load_file, save

from m2lib.files import write_atomic, write_json
from m2lib.forecaster import read_format
from m2lib.forecaster.adapters import GENERAL, VIEWS_FILE
from m2lib.forecaster.export import CARD_FILE, FACTS_FILE, model_card
from m2lib.model.adapter_files import ADAPTER_FILE, BIAS_FILE, CONFIG_FILE
from m2lib.series import FORMAT_FILE
from study import PROFILES, adapter_path, load_record
from study.paper.textbook import LAST_SEASON, errors_by_series, held, judged_rows, ratios, summary
from study.synthetic.shown import VIEWS

AVERAGED = "general-tail", "general-even"
"""The runs whose adapters' mean goes into the package."""
SPREAD = 1.64
"""The spread of its samples, with which 80% bands hold 80% of what `benchmarks.trials` forecast."""


def mean_adapter() -> dict[str, bytes]:
    """Return PEFT's files for the package, with the mean weights of two runs.

    Their mean is better than either on the sources for choosing [1]_.

    References
    ----------
    .. [1] Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves
       accuracy without increasing inference time", ICML 2022.
    """
    first, second = (adapter_path("laptop", run) for run in AVERAGED)
    files = {CONFIG_FILE: (second / CONFIG_FILE).read_bytes()}
    for name in (ADAPTER_FILE, BIAS_FILE):
        ours = load_file(first / name)
        theirs = load_file(second / name)
        files[name] = save({key: (ours[key] + theirs[key]) / 2 for key in ours})
    return files


def told_apart(rows: list[dict[str, Any]]) -> str:
    """Return the card's words on the series, and on whom the adapter surely differs from."""
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
        f"{', '.join(behind) or 'none'}; it is not told apart from {', '.join(undecided) or 'none'}"
    )


def facts() -> dict[str, Any]:
    """Return what the card tells: data, recipe, cost, and errors on the sources for judging."""
    record = load_record(PROFILES["laptop"], AVERAGED[-1])
    records = [record]  # the last training, the one that it started from, and so on
    while records[-1].plan.start:
        records.append(load_record(PROFILES["laptop"], records[-1].plan.start))
    recipe = {"start": record.plan.start, "pairs": record.plan.pairs}
    recipe |= asdict(record.plan.training)
    recipe["targets"] = ", ".join(recipe["targets"])

    rows = judged_rows()
    errors = {}
    for name, line in summary(rows, LAST_SEASON, GENERAL.name).iterrows():
        called = "this adapter" if name == GENERAL.name else str(name)
        errors[called] = {
            "error (MASE)": round(float(line["error"]), 3),
            "80% band holds": round(held(rows, str(name)), 3),
        }
    return {
        "data": "No real series: an endless stream of synthetic ones, as "
        "`study.synthetic.families` draws them: seasons and trends, autoregressions, wandering "
        "cycles, counts, Gaussian processes, prey and predators, mixed; 20 to 256 steps each. "
        "The weights are the mean of those after the last two of "
        f"{len(records)} trainings. The settings below are the last one's, the cost is of all",
        "recipe": recipe,
        "flops": sum(training.spent()["coursework"] for training in records),
        "measured": "series of the textbook Forecasting: Principles and Practice, which nothing "
        "here was chosen by, in geometric mean and relative to the last season repeated. "
        f"{told_apart(rows)}",
        "errors": errors,
    }


if __name__ == "__main__":
    last_record = load_record(PROFILES["laptop"], AVERAGED[-1])
    trained_format = read_format(adapter_path("laptop", last_record.name))
    text_format = replace(trained_format, spread=SPREAD)
    for name, content in mean_adapter().items():
        write_atomic(GENERAL / name, content)
    write_json(GENERAL / FORMAT_FILE, text_format.settings())
    write_json(GENERAL / VIEWS_FILE, [asdict(view) for view in VIEWS])
    told = facts()
    write_json(GENERAL / FACTS_FILE, told)
    card = model_card(last_record.plan.backbone, text_format, told, views=VIEWS)
    write_atomic(GENERAL / CARD_FILE, card.encode())
