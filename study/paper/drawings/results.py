"""Drawings of results: how a training went, and forecasts with their errors."""

from collections.abc import Callable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from m2lib.model import SYMBOLS
from m2lib.series import VARIABLES, to_integers
from study import PROFILES, Record, plots, recorded_forecast
from study.paper import errors
from study.plots import COLOURS, WIDTH
from study.published import published_maes, published_name

SHOWN_STEPS = 60  # the last of a series, where forecasts are small


def descents(
    loss: Callable[[np.ndarray], np.ndarray], paths: Mapping[str, Sequence[float]]
) -> Figure:
    """Draw gradient descent in one weight, a panel for each path of weights, on the loss curve."""
    figure, axes = plt.subplots(1, len(paths), figsize=(3.6 * len(paths), 3), sharey=True)
    all_weights = np.concatenate([np.array(path) for path in paths.values()])
    line = np.linspace(all_weights.min() - 0.3, all_weights.max() + 0.3, 200)
    for ax, (title, path) in zip(axes, paths.items(), strict=True):
        weights = np.array(path)
        ax.plot(line, loss(line), color="0.8")
        ax.plot(weights, loss(weights), "o-", color="0.3", ms=4, lw=1)
        ax.plot(weights[:1], loss(weights[:1]), "o", color=COLOURS["error"], label="start")
        ax.set(title=title, xlabel="weight w")
    axes[0].set_ylabel("loss (squared error)")
    axes[0].legend()
    return figure


def token_costs(text: str, costs: np.ndarray, start: int, end: int) -> Figure:
    """Draw what some tokens of a text cost a model, in nats, each above its token.

    costs holds the cost of every token but the first; tokens start to end - 1 are drawn.
    """
    figure, ax = plt.subplots(figsize=(9, 2.8))
    tokens = text[start:end]
    places = range(len(tokens))
    colours = ["0.3" if token.isdigit() else "0.7" for token in tokens]
    ax.bar(places, costs[start - 1 : end - 1], color=colours)
    guess_cost = np.log(len(SYMBOLS))
    ax.axhline(guess_cost, color="0.4", ls="--", lw=1)
    ax.text(len(places) - 0.4, guess_cost, "knowing nothing", ha="right", va="bottom")
    ax.set_xticks(places, tokens)
    ax.set(xlabel="true token", ylabel="cost (nats)")
    ax.margins(x=0.01)
    return figure


def learning(
    time: np.ndarray,
    scaled: np.ndarray,
    ahead: Mapping[int, np.ndarray],
    errors: Mapping[int, float],
) -> Figure:
    """Draw one series with its forecast after each of some training steps, a panel for each.

    time (steps,) and scaled (steps, 2), whose last steps are the forecast's; `ahead` holds the
    forecasts (horizon, 2) and `errors` their mean absolute errors, both by training step.
    """
    size = (2.75 * len(ahead), 3.3)
    figure, axes = plt.subplots(1, len(ahead), figsize=size, sharex=True, sharey=True)
    for ax, (step, forecast) in zip(axes, ahead.items(), strict=True):
        when = f"after {step} steps" if step else "untuned"
        title = f"{when}: error {errors[step]:.0f}"
        plots.plot_forecast(ax, time[-SHOWN_STEPS:], scaled[-SHOWN_STEPS:], forecast, title)
        ax.set_xlabel(plots.MODEL_TIME)
    axes[0].set_ylabel("scaled units")
    plots.forecast_legend(figure)
    return figure


def forecasts(records: Mapping[str, Record], shown: Sequence[int]) -> Figure:
    """Draw figures 4 and 6: a row for each record, a column for each series.

    Where the report asked the same, its error stands below the record's.
    """
    data = errors.data()
    size = (WIDTH, 0.7 + 1.7 * len(records))
    figure, axes = plt.subplots(
        len(records), len(shown), figsize=size, sharex=True, sharey="col", squeeze=False
    )
    for row, (title, record) in zip(axes, records.items(), strict=True):
        rounding = record.protocol.rounding
        published = _published_errors(record)
        for ax, i in zip(row, shown, strict=True):
            heading = f"series {i}: MAE {record.series[i]['mae']:.0f}"
            if published:
                heading += f"\nthe report's: {published[i]:.0f}"
            scaled = to_integers(data.trajectories[i], data.scales[i], rounding)
            ahead = recorded_forecast(record, data, i)
            plots.plot_forecast(ax, data.time[-SHOWN_STEPS:], scaled[-SHOWN_STEPS:], ahead, heading)
        row[0].set_ylabel(f"{title}\n(scaled units)")
    figure.suptitle(record.plan.backbone, fontsize="medium")  # that of all
    plt.setp(axes[-1], xlabel=plots.MODEL_TIME)
    plots.forecast_legend(figure)
    return figure


def _published_errors(record: Record) -> dict[int, float]:
    """Return the report's errors of an experiment by series id; none if it did not ask the same."""
    if not PROFILES[record.profile].as_reported:
        return {}
    return published_maes(published_name(record.name))


def fitted(ax: Axes, time: np.ndarray, series: np.ndarray, course: np.ndarray) -> None:
    """Draw a series as dots and a fitted course as lines, with the last 20 steps shaded.

    time (steps,); series and course (steps, 2), in scaled units.
    """
    for variable, name in enumerate(VARIABLES):
        colour = COLOURS[name]
        ax.plot(time, series[:, variable], ".", ms=4, color=colour, label=name)
        ax.plot(time, course[:, variable], color=colour, label=f"{name}, fit")
    ax.axvspan(float(time[-20]), float(time[-1]), color="0.93", lw=0, zorder=0)
    ax.margins(x=0)
    ax.set(xlabel=plots.MODEL_TIME)
