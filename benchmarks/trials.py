"""`python -m benchmarks.trials` measures ways to forecast without training, to choose among them.

A trial shares the samples of a series out among one or several views of it: how much of its past
the model sees, and what is taken out beforehand. Trials see the half for choosing of
`benchmarks.textbook` alone. The record is textbook_trials.json, beside the recorded runs. It is
written after each source, and the same command goes on from there. Its rows are of the adapter that
was in the package at the time. Rows of another adapter would replace them, so give another `--path`
to measure that one. (When the record was made, what is left of a series without its trend was
forecast as a series of its own, and so was kept above zero if nothing of it lay below. It no longer
is.)
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import trim_mean

from benchmarks.forecasters import forecaster_of, model_key
from benchmarks.rows import (
    Row,
    has_all,
    one_line,
    place_of,
    record_parser,
    record_sources,
    recorded_rows,
    show,
)
from benchmarks.scores import Cut, score
from benchmarks.sources import Source
from benchmarks.textbook import MOST_FORECASTS, SAMPLES, cuts_of, sources_of
from m2lib.files import short_hash
from m2lib.forecaster import Forecaster, Sampling
from m2lib.forecaster.adapters import GENERAL
from m2lib.forecaster.sampling import TEMPERATURE
from m2lib.forecaster.views import PLAIN, SEASONS_SEEN
from m2lib.series import DECILES, NOTHING_LEFT, Season, stretched
from m2lib.series.trends import FEWEST_STEPS, SEASONS
from m2lib.settings import out_dir
from study.paper.textbook import CHOOSING

TRIAL_RECORD = "textbook_trials.json"
LONGEST = 256
"""The most steps that `general` sees, at four tokens each."""


@dataclass(frozen=True)
class TriedView:
    """How a series is shown to the model; `m2lib.forecaster.View` has what was chosen of this."""

    steps: int = LONGEST
    """The last steps that are shown; more where they are fewer than six seasons."""
    season: str = "whole"
    """The season that is taken out is estimated from the `whole` past, or from the `part` that is
    shown; `in` leaves it in."""
    trend: str = "none"
    """What slope is taken out: that of the `mean step` of what is shown, or of a `line` through its
    last three seasons, or last 20 steps; `none` leaves it in."""


@dataclass(frozen=True)
class Trial:
    """A way to forecast without training."""

    views: tuple[TriedView, ...]
    """Among these the samples are shared out."""
    spread: float = 1.64
    """The factor by which all samples together are moved away from their median."""
    trimmed: float = 0.5
    """The share of the samples left out at either end, of whose others the point forecast is the
    mean: 0.5 makes it the median, and 0 the mean of all."""


ONE_VIEW = "as it was"
ALL = TriedView()
ALL_IN = TriedView(season="in")
FEW = TriedView(60)
FEW_IN = TriedView(60, "in")
FEW_PART = TriedView(60, "part")
FEW_LINE = TriedView(60, trend="line")
FEW_STEP = TriedView(60, trend="mean step")
CHOSEN = "60 without a line, 256, and 60 with their season"
TRIALS = {
    ONE_VIEW: Trial((ALL,)),
    "mean of the middle half": Trial((ALL,), trimmed=0.25),
    "256 with their season": Trial((ALL_IN,)),
    "last 120": Trial((TriedView(120),)),
    "last 60": Trial((FEW,)),
    "last 60, their own season": Trial((FEW_PART,)),
    "last 60 with their season": Trial((FEW_IN,)),
    "last 60 without a line": Trial((FEW_LINE,)),
    "last 60 without the mean step": Trial((FEW_STEP,)),
    "60, and 256": Trial((FEW, ALL)),
    "60 with and without their season": Trial((FEW, FEW_IN)),
    "60 with and without a line": Trial((FEW, FEW_LINE)),
    "60 without a line, and 256": Trial((FEW_LINE, ALL)),
    "60 without a line, and 60 with their season": Trial((FEW_LINE, FEW_IN)),
    CHOSEN: Trial((FEW_LINE, ALL, FEW_IN)),
    f"{CHOSEN}; spread 1.3": Trial((FEW_LINE, ALL, FEW_IN), spread=1.3),
    f"{CHOSEN}; spread 1": Trial((FEW_LINE, ALL, FEW_IN), spread=1.0),
}


@dataclass(frozen=True)
class Written:
    """What is written of a series, and how forecasts of it become forecasts of the series.

    It is `m2lib.forecaster.views.Seen` with more ways to choose from. The package has those that
    were chosen.
    """

    written: np.ndarray
    """float64, shape (steps,): what is left of the part that is shown."""
    base: np.ndarray
    """float64, shape (horizon,): the trend, which is added to a forecast of what is left."""
    factor: np.ndarray
    """float64, shape (horizon,): the season, by which that sum is multiplied."""
    shift: np.ndarray
    """float64, shape (horizon,): what the season adds after that."""
    least: float
    """The smallest value that a forecast may have."""

    def back(self, samples: np.ndarray) -> np.ndarray:
        """Put trend and season back into forecasts (samples, horizon)."""
        return np.maximum((samples + self.base) * self.factor + self.shift, self.least)


def show_series(context: np.ndarray, horizon: int, season: int, view: TriedView) -> Written:
    """Take out of a context (steps,) what a view says."""
    num_shown = min(LONGEST, max(view.steps, SEASONS_SEEN * season))
    part = context[-num_shown:]
    estimated = part if view.season == "part" else context
    length = 1 if view.season == "in" else season
    pattern = Season.of(estimated[:, None], length)
    # A season is counted from the first step that it was estimated of. Of 100 steps the last 60
    # begin at place 40, and the forecast at place 100.
    skipped = len(estimated) - len(part)
    inside: np.ndarray = (skipped + np.arange(len(part))) % length
    ahead: np.ndarray = (len(estimated) + np.arange(horizon)) % length
    factor = pattern.factor[:, 0]
    shift = pattern.shift[:, 0]
    level = (part - shift[inside]) / factor[inside]

    written = level
    base = np.zeros(horizon)
    if view.trend != "none":
        # The trend's line goes through the last step: of a level of 3, 6, 7 and a slope of 2 are
        # left 0, 1, 0; the next step has a base of 9. A line without noise leaves nothing to be
        # written, and so it is left in.
        slope = _slope(level, season, view.trend)
        remainder = level - level[-1] - slope * np.arange(1 - len(level), 1)
        if np.ptp(remainder) > NOTHING_LEFT * np.ptp(level):
            written = remainder
            base = level[-1] + slope * np.arange(1, horizon + 1)
    return Written(written, base, factor[ahead], shift[ahead], _lower_bound(context))


def _slope(level: np.ndarray, season: int, trend: str) -> float:
    """Return the slope of a level (steps,), in its units a step."""
    if trend == "mean step":
        return float((level[-1] - level[0]) / (len(level) - 1))
    last = level[-max(SEASONS * season, FEWEST_STEPS) :]
    return float(np.polyfit(np.arange(len(last)), last, 1)[0])


def _lower_bound(context: np.ndarray) -> float:
    """Return the smallest value of a forecast: what was never negative stays so."""
    return 0.0 if context.min() >= 0 else -np.inf


def view_samples(
    cuts: Sequence[Cut], horizon: int, season: int, view: TriedView
) -> tuple[list[np.ndarray], float]:
    """Return samples (SAMPLES, horizon) of each forecast as the model draws them, and the seconds.

    Their spread is 1. They are cached under build/ by the numbers that were written, so views that
    come to the same, as those of short series do, are sampled once. The seconds are those of one
    core.
    """
    all_shown = [show_series(context, horizon, season, view) for _, context, _ in cuts]
    content = b"".join(shown.written.tobytes() + b"|" for shown in all_shown)
    key = f"{_key()} {forecaster_of(GENERAL).dtype} {horizon}".encode()
    path = out_dir() / "textbook" / f"{short_hash(content + key)}.npz"
    if not path.exists():
        _store_samples(path, [shown.written for shown in all_shown], horizon)
    archive = np.load(path)
    restored_samples = []
    for shown, samples in zip(all_shown, archive["samples"], strict=True):
        restored_samples.append(shown.back(samples))
    return restored_samples, float(archive["seconds"])


def _store_samples(path: Path, written: Sequence[np.ndarray], horizon: int) -> None:
    """Sample forecasts of written series (steps,), and store them in NumPy's .npz format.

    `samples` has the shape (series, SAMPLES, horizon), and `seconds` is what they took.
    """
    forecaster = _narrow_forecaster()
    series = [values[:, None] for values in written]
    start = time.process_time()
    forecasts = forecaster.sample(series, horizon, Sampling(SAMPLES, TEMPERATURE), views=PLAIN)
    seconds = time.process_time() - start
    path.parent.mkdir(parents=True, exist_ok=True)
    # What is left of a series may be without negative values where the series is not.
    unbounded_forecasts = [replace(forecast, least=-np.inf) for forecast in forecasts]
    samples = np.stack([forecast.physical[..., 0] for forecast in unbounded_forecasts])
    draft = path.with_name(f"half-{path.name}")
    np.savez(draft, samples=samples, seconds=seconds)
    draft.replace(path)  # in one step, so that a kill leaves no half file under that name


@cache
def _narrow_forecaster() -> Forecaster:
    """Return the forecaster whose samples are left as far apart as the model draws them."""
    forecaster = forecaster_of(GENERAL)
    text_format = forecaster.text_format
    assert text_format is not None  # every adapter for tables has one
    return replace(forecaster, text_format=replace(text_format, spread=1.0))


def _key() -> dict[str, Any]:
    """Return what decides the samples of a trial, beside the series and the views."""
    return {"adapter": model_key(forecaster_of(GENERAL))["adapter"], "samples": SAMPLES}


def trial_row(trial: Trial, source: Source, cuts: Sequence[Cut]) -> dict[str, Any]:
    """Return the row of a trial.

    Of three views the first two give 7 of 20 samples and the third 6. The seconds of each view
    count by its share of the samples, although a series is read once for each of them.
    """
    shares = np.bincount(np.arange(SAMPLES) % len(trial.views))
    parts = []
    seconds = 0.0
    start = 0
    for view, share in zip(trial.views, shares.tolist(), strict=True):
        samples, view_seconds = view_samples(cuts, source.horizon, source.season, view)
        # Each view takes other samples, so that of two that come to the same none counts twice.
        parts.append([draws[start : start + share] for draws in samples])
        seconds += view_seconds * share / SAMPLES
        start += share

    deciles = []
    for i, (_, context, _) in enumerate(cuts):
        samples = np.concatenate([part[i] for part in parts])  # of all views
        deciles.append(_deciles(trial, samples, _lower_bound(context)))
    return score(cuts, source.season, deciles) | {"seconds": round(seconds, 2)}


def _deciles(trial: Trial, samples: np.ndarray, least: float) -> np.ndarray:
    """Return the deciles (9, horizon) of samples (SAMPLES, horizon), as a trial makes them.

    The samples are moved away from their median, but not below `least`. The fifth decile is the
    trial's point forecast.
    """
    moved = stretched(samples, trial.spread)
    deciles = np.quantile(np.maximum(moved, least), DECILES, axis=0)
    if trial.trimmed < 0.5:
        deciles[4] = trim_mean(samples, trial.trimmed, axis=0)
    return deciles


def new_rows(names: Sequence[str], source: Source, rows: Sequence[Row]) -> list[Row]:
    """Measure the trials of which a source has no row among those recorded."""
    cuts = cuts_of(source, MOST_FORECASTS)
    place = place_of(source, CHOOSING)
    new = []
    for name in names:
        trial = TRIALS[name]
        key = {
            **place,
            "forecaster": name,
            "forecasts": len(cuts),
            **_key(),
            "views": [asdict(view) for view in trial.views],
            "spread": trial.spread,
            "trimmed": trial.trimmed,
        }
        if not has_all(rows, [key]):
            new.append(key | trial_row(trial, source, cuts))
    return new


if __name__ == "__main__":
    parser = record_parser(__doc__, TRIAL_RECORD)
    parser.add_argument(
        "names", nargs="*", metavar="TRIAL", help=f"default: all, which are {', '.join(TRIALS)}"
    )
    options = parser.parse_args()
    for name in options.names:
        if name not in TRIALS:
            parser.error(f"no trial is called {name!r}; there are {'; '.join(TRIALS)}")
    with one_line():
        measure = partial(new_rows, options.names or list(TRIALS))
        record_sources(options.path, sources_of(CHOOSING, options.sources), measure)
        show(recorded_rows(options.path), ONE_VIEW, ONE_VIEW)
