"""`python -m benchmarks.hours` measures what the season of the week gains over that of the day.

Hours and half-hours have both. The adapter `general` forecasts two days (48 steps; of half-hours it
is one day) from moments drawn at random, of which it is given the six weeks before: once it is told
the day alone, and once day and week, as the calendar tells them. Beside it the last day and the
last week are repeated. The series are of the textbook's data (see `benchmarks.textbook`): walkers
at four places, and the electricity of a state. All of them are for choosing, because their daily
sums are, too. The record is hours.json, beside the recorded runs.
"""

from collections.abc import Sequence
from functools import partial
from importlib import import_module

import numpy as np
import pandas as pd

from benchmarks.forecasters import forecaster_of, model_key
from benchmarks.rows import (
    Row,
    has_all,
    named,
    one_line,
    place_of,
    record_parser,
    record_sources,
    recorded_rows,
    show,
)
from benchmarks.scores import Cut, score
from benchmarks.sources import Source, TextbookSource
from benchmarks.textbook import language_row
from m2lib.forecaster import Forecaster, Sampling
from m2lib.forecaster.adapters import GENERAL
from m2lib.forecaster.sampling import TEMPERATURE
from m2lib.series import DECILES
from study.paper.textbook import CHOOSING

RECORD = "hours.json"
DAY = "told the day"
WEEK = "told day and week"
LAST_DAY = "last day"
LAST_WEEK = "last week"
DAYS = 7  # of a week
WEEKS_KNOWN = 6
SAMPLES = 10
MOMENTS_SEED = 0


def _walkers() -> pd.DataFrame:
    """Return the walkers of each hour at four places."""
    table = import_module("tsdata.fpp3").raw["pedestrian"]
    hours = table.assign(hour=pd.to_datetime(table["Date_Time"]))
    wide = hours.pivot_table("Count", "hour", "Sensor", aggfunc="first")
    return wide.asfreq("h")


def _electricity(spacing: str) -> pd.Series:
    """Return the electricity used in the state of Victoria in each hour, or half of one."""
    table = import_module("tsdata.fpp3").raw["vic_elec"]
    demand = table.set_index(pd.to_datetime(table["Time"]))["Demand"]
    return demand.resample(spacing).sum()


# Name, half, horizon, season, origins and loader of each source. Here the season is the steps of a
# day, and the origins are the number of moments that are drawn in each series.
SOURCES = (
    TextbookSource("walkers, hourly", CHOOSING, 48, 24, 4, _walkers),
    TextbookSource("electricity, hourly", CHOOSING, 48, 24, 6, partial(_electricity, "h")),
    TextbookSource("electricity, half-hourly", CHOOSING, 48, 48, 6, partial(_electricity, "30min")),
)


def cuts_of(source: Source) -> list[Cut]:
    """Return the number, the context and the truth of a source's forecasts.

    A stretch with a gap, or with a day that never changes, is not drawn.
    """
    rng = np.random.default_rng(MOMENTS_SEED)
    frame = pd.DataFrame(source.load()).astype(np.float64)
    context_steps = WEEKS_KNOWN * DAYS * source.season
    cuts: list[Cut] = []
    for number, (_, column) in enumerate(frame.items()):
        values = column.to_numpy()
        num_cuts = 0
        while num_cuts < source.origins:
            origin = int(rng.integers(context_steps, len(values) - source.horizon))
            context = values[origin - context_steps : origin]
            truth = values[origin : origin + source.horizon]
            days = context.reshape(-1, source.season)
            # The range of a day with a gap is NaN, which is not above 0.
            all_days_move = np.ptp(days, axis=1).min() > 0
            if all_days_move and np.isfinite(truth).all():
                cuts.append((number, context, truth))
                num_cuts += 1
    return cuts


def repeated_row(cuts: Sequence[Cut], season: int, period: int) -> Row:
    """Return the row of a repetition of the last `period` steps; its bands have no width."""
    deciles = []
    for _, context, truth in cuts:
        forecast: np.ndarray = np.resize(context[-period:], len(truth))
        deciles.append(np.tile(forecast, (len(DECILES), 1)))
    return score(cuts, season, deciles) | {"seconds": 0.0}


def new_rows(forecaster: Forecaster, source: Source, rows: Sequence[Row]) -> list[Row]:
    """Measure the forecasters of which a source has no row among those recorded."""
    cuts = cuts_of(source)
    day = source.season  # in steps
    week = DAYS * day
    place = place_of(source, CHOOSING)
    model = {"samples": SAMPLES, "dtype": forecaster.dtype, **model_key(forecaster)}
    sampling = Sampling(SAMPLES, TEMPERATURE)
    new = []
    for name, season in ((DAY, day), (WEEK, (day, week))):
        key = place | {"forecaster": name} | model
        if not has_all(rows, [key]):
            row = language_row(forecaster, source, cuts, sampling, season=season)
            new.append(key | row)
    for name, period in ((LAST_DAY, day), (LAST_WEEK, week)):
        key = place | {"forecaster": name}
        if not has_all(rows, [key]):
            new.append(key | repeated_row(cuts, day, period))
    return new


if __name__ == "__main__":
    options = record_parser(__doc__, RECORD).parse_args()
    with one_line():
        sources = named(SOURCES, options.sources, "hours")
        record_sources(options.path, sources, partial(new_rows, forecaster_of(GENERAL)))
        show(recorded_rows(options.path), LAST_WEEK, WEEK)
