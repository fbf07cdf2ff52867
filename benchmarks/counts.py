"""`python -m benchmarks.counts` measures what the temperature does to counts that are mostly zero.

Articles that sell on few days are simulated, so that the true mean and the true chances of every
number are known. The adapter `general` forecasts each of them at several temperatures. The record
is counts.json, beside the recorded runs.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks.forecasters import forecaster_of, model_key
from benchmarks.rows import Row, is_of, one_line, recorded_rows
from m2lib.files import write_json
from m2lib.forecaster import Forecaster, Sampling
from m2lib.forecaster.adapters import GENERAL
from m2lib.provenance import provenance
from m2lib.series.intervals import t_interval
from study.settings import results_dir

RECORD = "counts.json"
SHARES = (0.3, 0.1)
"""On how large a share of its days an article sells."""
TEMPERATURES = (0.7, 1.0)
ARTICLES = 16
DAYS = 200  # that are known
HORIZON = 7  # days: a week
EXTRA = 2.0  # pieces beyond the first that are sold on a day of sale, in the mean
MEAN = 1 + EXTRA  # pieces sold on a day of sale
LEVEL = 0.9
SAMPLES = 20
DRAWS = 20_000  # weeks to come, by which a level is judged


def sales(share: float, days: int, articles: int, seed: int) -> np.ndarray:
    """Draw the pieces that articles sell, (articles, days): none on most days, else 1 + Poisson."""
    rng = np.random.default_rng(seed)
    sells = rng.random((articles, days)) < share
    return np.where(sells, 1.0 + rng.poisson(EXTRA, (articles, days)), 0.0)


def measured(forecaster: Forecaster, share: float, temperature: float) -> Row:
    """Forecast all articles of a share at a temperature, and compare with what is known of them.

    `mean` is the mean forecast over the true mean, by article, and `days` the share of days on
    which the samples have a sale. A level should hold its own share: `level` is what 0.9 holds of
    single days, and `total` what it holds of the totals of all days, both in the mean.
    """
    past_sales = sales(share, DAYS, ARTICLES, seed=0)
    contexts = [article[:, None] for article in past_sales]  # (days, one variable)
    sampling = Sampling(SAMPLES, temperature)
    start = time.perf_counter()
    forecasts = forecaster.sample(contexts, HORIZON, sampling)
    seconds = (time.perf_counter() - start) / ARTICLES

    future_sales = sales(share, HORIZON, DRAWS, seed=1)
    future_totals = future_sales.sum(axis=1)
    means = []
    days = []
    levels = []
    totals = []
    for forecast in forecasts:
        samples = forecast.physical[..., 0]  # (samples, days)
        means.append(forecast.mean.mean() / (share * MEAN))
        days.append((samples > 0).mean())
        level_of_days = np.quantile(samples, LEVEL, axis=0)
        levels.append((future_sales <= level_of_days).mean())
        level_of_total = np.quantile(samples.sum(axis=1), LEVEL)
        totals.append((future_totals <= level_of_total).mean())
    return {
        "mean": [round(float(mean), 4) for mean in means],
        "days": round(float(np.mean(days)), 4),
        "level": round(float(np.mean(levels)), 4),
        "total": round(float(np.mean(totals)), 4),
        "seconds": round(seconds, 2),
    }


def table(rows: Sequence[Row]) -> str:
    """Return the table of the record's rows as book/tables.md has it.

    Beside the mean stands Student's 95% interval over the articles.
    """
    head = [
        "sells on",
        "temperature",
        "`mean`, of the true mean",
        "days with a sale, in the samples",
        f"days at or below their level {LEVEL}",
        f"weeks with a total at or below its level {LEVEL}",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        mean = np.mean(row["mean"])
        low, high = t_interval(row["mean"])
        cells = [
            f"{row['share']:.0%} of its days",
            f"{row['temperature']:g}",
            f"{mean:.0%} ({low:.0%} to {high:.0%})",
            f"{row['days']:.0%}",
            f"{row['level']:.0%}",
            f"{row['total']:.0%}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(path: Path) -> None:
    """Measure what the record lacks, and print its table."""
    forecaster = forecaster_of(GENERAL)
    old_rows = recorded_rows(path)
    rows: list[Row] = []
    for share in SHARES:
        for temperature in TEMPERATURES:
            key: Row = {"share": share, "temperature": temperature, "articles": ARTICLES}
            key |= {"samples": SAMPLES, "dtype": forecaster.dtype}
            key |= model_key(forecaster)
            recorded = [row for row in old_rows if is_of(row, key)]
            if recorded:
                rows += recorded
            else:
                rows.append(key | measured(forecaster, share, temperature))
    if rows != old_rows:
        write_json(path, provenance(torch.device("cpu")) | {"rows": rows})
    print(table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--path", type=Path, default=results_dir() / RECORD)
    with one_line():
        main(parser.parse_args().path)
