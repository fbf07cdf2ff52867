"""How sure the forecasts are: what the recorded samples come to, in numbers and in figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np

from m2lib import study
from m2lib.accounting import Shape, forecast_flops, total
from m2lib.model import backbone_config
from m2lib.paper import calibration_plots, plots
from m2lib.series import (
    VARIABLES,
    SeriesSet,
    bootstrap_interval,
    conformal,
    coverage,
    crps_fair,
    log_var_paths,
    paired_gain,
    quantile_loss,
    ranks,
    series_mae,
    sharpness,
    stretch_needed,
    stretched,
    summarise,
    to_integers,
    weighted_quantile_loss,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREEDY = {"untuned": "untuned-test-constrained", "final": "final", "best": "best"}
"""The experiments that forecast the test series greedily, by whose samples stand beside."""
LOG_VAR = f"log-VAR({study.ORDER}), bootstrap"
"""The competitor without a language model, of the order that the validation series chose."""
LEVELS = (0.5, 0.8, 0.95)
FAN = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
RELIABLE = tuple(i / 20 for i in range(1, 20))
COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)


@dataclass(frozen=True)
class Sampled:
    """Sampled forecasts of the series of a split, the log-VAR's beside those of the language model."""

    records: dict[str, study.Record]
    """Of the language model's samples, by whose they are: `untuned`, `final`, `best`."""
    greedy: dict[str, study.Maes]
    """MAE by series id of the one forecast that each of them makes greedily."""
    ids: list[int]
    """The series."""
    time: np.ndarray
    """Of a series' steps, (100,)."""
    contexts: np.ndarray
    """Scaled units, (n, 80, 2)."""
    truths: np.ndarray
    """Scaled units, (n, 20, 2)."""
    samples: dict[str, np.ndarray]
    """Scaled units, (n, n_samples, 20, 2), by forecaster."""

    @classmethod
    def of(cls, records: dict[str, study.Record], greedy: dict[str, study.Maes], series: SeriesSet) -> "Sampled":
        """Read from records that are all of the same series; the log-VAR gets as many samples as they have."""
        record = next(iter(records.values()))
        ids, m = sorted(record.series), record.protocol.n_samples
        contexts, truths = (to_integers(part[ids], series.scales[ids]) for part in (series.contexts, series.truths))
        samples = {
            who: np.stack([study.recorded_samples(record, series, i) for i in ids]) for who, record in records.items()
        }
        samples[LOG_VAR] = log_var_paths(contexts, m, np.random.default_rng(0), order=study.ORDER)
        return cls(records, greedy, ids, series.time, contexts, truths, samples)

    @property
    def shown(self) -> str:
        """Whose forecasts are drawn: the last of the language model's."""
        return list(self.records)[-1]

    def by_series(self, score: Callable[..., float], name: str) -> dict[int, float]:
        """A score of a forecaster's samples, which takes samples and truth, for each series."""
        pairs = zip(self.ids, self.samples[name], self.truths, strict=True)
        return {series: float(score(samples, truth)) for series, samples, truth in pairs}

    def mean(self, score: Callable[..., float], name: str) -> float:
        """The same, averaged over the series."""
        return float(np.mean(list(self.by_series(score, name).values())))


def median_mae(samples: np.ndarray, truth: np.ndarray) -> float:
    """The MAE of the samples' median."""
    return float(series_mae(np.median(samples, axis=0), truth))


def spread(samples: np.ndarray, _: object = None) -> float:
    """The mean distance of a sample from the median: where the samples are right, the median's MAE, on average."""
    return float(np.abs(samples - np.median(samples, axis=0)).mean())


def held(found: Sampled, name: str, levels: Sequence[float] = LEVELS, factor: float = 1) -> dict[float, float]:
    """The share of true values in the bands of a forecaster, by level, its samples stretched by a factor."""

    def share(samples: np.ndarray, truth: np.ndarray, level: float) -> float:
        return coverage(stretched(samples, factor), truth, level)

    return {level: found.mean(partial(share, level=level), name) for level in levels}


def factor_for(found: Sampled, name: str, level: float = 0.8) -> float:
    """By how much a forecaster's samples must be stretched for a band to hold its share of these series' values."""
    pairs = zip(found.samples[name], found.truths, strict=True)
    return float(conformal(np.concatenate([stretch_needed(*pair, level).ravel() for pair in pairs]), level))


def errors_of_medians(found: Sampled, name: str, draws: int = 20) -> dict[int, float]:
    """The mean MAE of the median of n of the samples, by n, each n drawn anew some times."""
    samples, rng = found.samples[name], np.random.default_rng(0)
    errors = {}
    for n in COUNTS:
        if n <= samples.shape[1]:
            drawn = [rng.permutation(samples.shape[1])[:n] for _ in range(draws if n < samples.shape[1] else 1)]
            medians = [np.median(samples[:, chosen], axis=1) for chosen in drawn]
            errors[n] = float(np.mean([series_mae(median, found.truths) for median in medians]))
    return errors


def crps_by_temperature(records: dict[str, study.Record]) -> dict[str, dict[float, float]]:
    """The mean CRPS of records by their temperature, by whose samples they are."""
    found: dict[str, dict[float, float]] = {}
    for name, record in records.items():
        crps = float(np.mean([entry["crps"] for entry in record.series.values()]))
        found.setdefault(name.split("/")[1], {})[record.protocol.temperature] = crps
    return found


def numbers(test: Sampled, validation: Sampled, tried: dict[str, study.Record]) -> dict:
    """What the section says in numbers. tried: the records of the temperatures."""
    crps = {name: test.by_series(crps_fair, name) for name in test.samples}
    return {
        "samples": test.records[test.shown].protocol.n_samples,
        "shown": test.shown,
        "rows": [_row(test, validation, name, crps[name]) for name in test.samples],
        "temperatures": [
            {"name": who, "tried": list(by), "crps": list(by.values())}
            for who, by in crps_by_temperature(tried).items()
        ],
        "gains": {name: paired_gain(crps[test.shown], crps[name]) for name in crps if name != test.shown},
        "below greedy": paired_gain(crps[test.shown], test.greedy[test.shown]),
        "cost": _cost(test.records[test.shown]),
    }


def _row(test: Sampled, validation: Sampled, name: str, crps: dict[int, float]) -> dict:
    record, factor = test.records.get(name), factor_for(validation, name)
    greedy = summarise(test.greedy[name].values()) if record else None
    medians = summarise(test.by_series(median_mae, name).values())
    losses = [quantile_loss(*pair) for pair in zip(test.samples[name], test.truths, strict=True)]
    return {
        "name": name,
        "temperature": record.protocol.temperature if record else None,
        "greedy": greedy and greedy.mean,
        "greedy median": greedy and greedy.median,
        "median of samples": medians.mean,
        "median of samples, median": medians.median,
        "crps": float(np.mean(list(crps.values()))),
        "crps interval": bootstrap_interval(crps.values()),
        "weighted quantile loss": weighted_quantile_loss(losses, list(test.truths)),
        "held": list(held(test, name).values()),
        "width": test.mean(lambda samples, _: sharpness(samples, 0.8), name),
        "factor": factor,
        "held when stretched": list(held(test, name, factor=factor).values()),
    }


def _cost(record: study.Record) -> dict:
    """Of a record's samples; and with the report's model, one greedy forecast as published, and as many samples of a
    series by the rules."""
    shape = Shape.of(backbone_config(study.PROFILES["report"].backbone))
    forecast, samples = partial(forecast_flops, shape, 512, 220, rank=2), record.protocol.n_samples
    return {
        "flops": record.flops["forecasts"],
        "share of the budget": record.flops["forecasts"]["coursework"] / study.PROFILES["laptop"].budget,
        "seconds": record.seconds,
        "one greedy forecast as published": total(forecast(convention="published")),
        "samples by the rules": total(forecast(samples=samples)),
    }


def fan_charts(found: Sampled) -> "Figure":
    """An easy, a typical and the worst series by CRPS: a column each, a row for each variable."""
    crps = found.by_series(crps_fair, found.shown)
    ranked = sorted(crps, key=lambda series: crps[series])
    figure, axes = plt.subplots(2, 3, figsize=(plots.WIDTH, 3.8), sharex=True)
    start, context = 50, found.contexts.shape[1]
    for column, series in zip(axes.T, (ranked[len(ranked) // 5], ranked[len(ranked) // 2], ranked[-1]), strict=True):
        row = found.ids.index(series)
        quantiles = np.quantile(found.samples[found.shown][row], FAN, axis=0)
        column[0].set_title(f"series {series}: CRPS {crps[series]:.1f}")
        for variable, (ax, name) in enumerate(zip(column, VARIABLES, strict=True)):
            past, truth = found.contexts[row, start:, variable], found.truths[row, :, variable]
            fan = dict(zip(FAN, quantiles[..., variable], strict=True))
            time, ahead = found.time[start:context], found.time[context:]
            plots.plot_fan(ax, time, past, ahead, fan, truth, plots.COLOURS[name])
    for ax, name, place in zip(axes[:, 0], VARIABLES, ("upper", "lower"), strict=True):
        ax.set_ylabel(f"{name} (scaled units)")
        figure.legend(*ax.get_legend_handles_labels(), loc=f"outside right {place}")
    for ax in axes[-1]:
        ax.set_xlabel(plots.MODEL_TIME)
    return figure


def reliability(found: Sampled) -> "Figure":
    """What the bands hold, and where the truth ranks among the samples of each forecaster."""
    m = found.samples[found.shown].shape[1]
    wide = -(-len(found.samples) // 2)  # columns of histograms, in two rows
    figure, axes = plt.subplot_mosaic(
        [["bands", *range(wide)], ["bands", *range(wide, 2 * wide)]],
        figsize=(plots.WIDTH, 3.7),
        width_ratios=[2.1, *[1] * wide],
    )
    shares = {name: held(found, name, RELIABLE) for name in found.samples}
    calibration_plots.plot_reliability(axes["bands"], shares, m)
    for place in range(2 * wide):
        axes[place].set_visible(place < len(found.samples))
    for place, (name, samples) in enumerate(found.samples.items()):
        rng = np.random.default_rng(0)
        drawn = np.stack([ranks(*pair, rng) for pair in zip(samples, found.truths, strict=True)])
        calibration_plots.plot_ranks(axes[place], drawn, m, name.split(",")[0])
        if place % wide:
            axes[place].set_ylabel("")
        if place + wide < len(found.samples):
            axes[place].set_xlabel("")
    return figure


def trust(found: Sampled) -> "Figure":
    """Does the spread know about the error? Series by series, and for those that a forecaster is surest of."""
    names = (found.shown, LOG_VAR)
    spreads, errors = (
        {name: np.array(list(found.by_series(score, name).values())) for name in names}
        for score in (spread, median_mae)
    )
    figure, (*scatter, last) = plt.subplots(1, 3, figsize=(plots.WIDTH, 2.7), gridspec_kw={"wspace": 0.08})
    for ax, name in zip(scatter, names, strict=True):
        calibration_plots.plot_trust(ax, spreads[name], errors[name], name.split(",")[0])
    calibration_plots.plot_risk(last, spreads, errors)
    return figure


def sample_counts(found: Sampled) -> "Figure":
    """The error of the median of n samples, beside the greedy forecast's."""
    figure, ax = plt.subplots(figsize=(4.6, 2.6))
    curves = {who: errors_of_medians(found, who) for who in found.records if who != "untuned"}
    calibration_plots.plot_counts(ax, curves, {who: float(np.mean(list(found.greedy[who].values()))) for who in curves})
    return figure


FIGURES: tuple[Callable[[Sampled], "Figure"], ...] = (fan_charts, reliability, trust, sample_counts)
