"""A small network that writes the quantiles of 64 steps at once, of any series.

It has learned from synthetic series alone (`m2tables.synthetic.pretraining`).

Series are as different as temperatures and prices, so the network never sees their numbers. It sees
how far each step stands from the line on which the series goes on now, in units of a usual step,
and of that the inverse hyperbolic sine, which is nearly linear at 1 and a logarithm at 1000. It
writes quantiles in the same terms. As sinh is monotone, quantiles remain quantiles on the way back.

For example, 5, 7, 9, 12 changes by 2, 2 and 3. The line goes through the 12 with a slope of 2.14,
which is the mean change, drawn a little towards 0, and a usual step is 0.5. Three steps back the
line is at 12 - 3 * 2.14 = 5.57. The 5 is 0.57 below it, or -1.14 usual steps.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from m2lib.errors import InputError
from m2lib.files import read_json
from m2tables.seasons import Season

CONTEXT = 128
"""The steps that it reads."""
HORIZON = 64
"""The steps that it writes."""
LEVELS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975)
"""The levels of the quantiles that it writes."""
SEASONS_READ = 10
"""The last seasons from which a season is estimated, because an older one may differ; but no fewer
steps than CONTEXT."""
LAST_STEPS = 8  # of which the line has the mean slope
USUAL_STEPS = 48  # of which a usual step is the mean
LONGEST_SEASON = 52  # steps; of a longer one the network knows nothing but that it was taken out
FOLDER = Path(__file__).parent / "trained"
"""The folder of the trained network, in the package."""
WEIGHTS_FILE, FACTS_FILE = "weights.safetensors", "facts.json"


class Line(NamedTuple):
    """The line on which series go on, and their usual step: each of shape (series, 1)."""

    last: torch.Tensor
    """The last value."""
    slope: torch.Tensor
    """The slope; 0 where the last steps do not agree on one."""
    step: torch.Tensor
    """The size of a usual step."""
    mean: torch.Tensor
    """The mean value."""
    spread: torch.Tensor
    """The mean distance from the mean."""

    @classmethod
    def of(cls, values: torch.Tensor, known: torch.Tensor) -> "Line":
        """Find the line of values (series, steps), of which some of the first may not be known."""
        changes = values[:, 1:] - values[:, :-1]
        all_known, known = known, known[:, :-1]

        # The slope is the mean of the last changes, drawn towards 0 by their noise: of changes that
        # differ so much that their mean is within two standard errors of 0, nothing is left. Nor
        # is anything left of a single change, which has no error.
        recent, counts = changes[:, -LAST_STEPS:], known[:, -LAST_STEPS:]
        number = counts.sum(1, keepdim=True).clamp(min=1)
        slope = (recent * counts).sum(1, keepdim=True) / number
        squares = ((recent - slope) ** 2 * counts).sum(1, keepdim=True)
        error = squares / (number - 1).clamp(min=1) / number
        slope = slope * (1 - 4 * error / (slope**2 + 1e-12)).clamp(0, 1) * (number > 1)

        # A usual step is the mean change, or if that is smaller, the mean change of the change: a
        # population that grows by 1000 a year, more or less by 10, has a usual step of 10.
        turns = changes[:, 1:] - changes[:, :-1]
        step = _mean(changes[:, -USUAL_STEPS:].abs(), known[:, -USUAL_STEPS:])
        turn = _mean(turns[:, -USUAL_STEPS:].abs(), known[:, :-1][:, -USUAL_STEPS:])
        mean = _mean(values, all_known)
        spread = _mean((values - mean).abs(), all_known).clamp(min=1e-8)
        step = torch.where(number > 1, torch.minimum(step, turn), step)
        # A straight line has none, so its step is a small share of its spread.
        step = step.maximum(1e-4 * spread)
        return cls(values[:, -1:], slope, step, mean, spread)

    def distance(self, values: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Return how far values lie from the line so many steps ahead, in the network's terms."""
        return torch.asinh((values - self.last - self.slope * steps) / self.step)

    def values(self, distances: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
        """Return values (series, levels, steps) that lie so far from the line."""
        line = (self.last + self.slope * steps).unsqueeze(1)
        return line + self.step.unsqueeze(1) * torch.sinh(distances)


def _mean(values: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Return the mean of each row, (rows, 1), over the values that count."""
    return (values * counts).sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)


class Block(nn.Module):
    """Two layers whose output is added to their input (He et al., CVPR 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the hidden numbers (batch, width) of the next block."""
        return hidden + self.layers(hidden)


class Network(nn.Module):
    """A residual network from contexts to quantiles."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        # Two views of each step and whether it is known, a season ago, and six numbers.
        inputs = 3 * CONTEXT + HORIZON + 6
        self.body = nn.Sequential(
            nn.Linear(inputs, width), *[Block(width) for _ in range(blocks)], nn.LayerNorm(width)
        )
        self.head = nn.Linear(width, len(LEVELS) * HORIZON)
        # At first it goes on along the line.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, contexts: torch.Tensor, season: torch.Tensor) -> tuple[torch.Tensor, Line]:
        """Return the quantiles of what follows, as distances from each series' line.

        Parameters
        ----------
        contexts : Tensor of float32, shape (series, CONTEXT)
            The last steps; NaN where a series has not begun.
        season : Tensor of int64, shape (series,)
            Steps of each series' season; 1: none.

        Returns
        -------
        distances : Tensor, shape (series, levels, HORIZON)
            `Line.values` makes values of them.
        line : Line
            Of each series.
        """
        inputs, line = _inputs(contexts, torch.where(season > LONGEST_SEASON, 1, season))
        distances = self.head(self.body(inputs))
        return distances.view(len(contexts), len(LEVELS), HORIZON), line

    def quantiles(self, contexts: torch.Tensor, season: torch.Tensor) -> torch.Tensor:
        """Return the quantiles of what follows, (series, levels, HORIZON), as values; ascending."""
        distances, line = self(contexts, season)
        # sinh(12) is 80,000 usual steps.
        return line.values(distances.clamp(-12, 12), STEPS_AHEAD).sort(dim=1).values


STEPS_AHEAD = torch.arange(1, HORIZON + 1).unsqueeze(0)
STEPS_BACK = torch.arange(1 - CONTEXT, 1).unsqueeze(0)


def _inputs(contexts: torch.Tensor, season: torch.Tensor) -> tuple[torch.Tensor, Line]:
    """Return what a network reads of contexts, (series, numbers), and their lines."""
    known = torch.isfinite(contexts)
    values = torch.nan_to_num(contexts)
    line = Line.of(values, known)
    # The same steps once more in units of their spread, because a usual step is tiny where a
    # series is smooth.
    wide = torch.asinh((values - line.last) / line.spread) * known
    near = line.distance(values, STEPS_BACK) * known

    # What stood a season before each step ahead, or two and more where a season is short. With a
    # season of 4, steps 1 to 5 ahead look 3, 2, 1, 0 and again 3 steps before the last one.
    back = (STEPS_AHEAD - 1) % season.unsqueeze(1) + 1 - season.unsqueeze(1)
    season_ago = torch.gather(contexts, 1, CONTEXT - 1 + back)
    has_season = torch.isfinite(season_ago) & (season > 1).unsqueeze(1)
    seasonal = line.distance(torch.nan_to_num(season_ago), back) * has_season

    numbers = (
        known.sum(1, keepdim=True).log() / 5,
        (line.step / line.spread).log(),
        torch.asinh((line.mean - line.last) / line.spread),
        season.unsqueeze(1).log() / 4,
        torch.asinh(line.slope / line.step),
        has_season[:, :1],
    )
    return torch.cat([wide, near, known, *numbers, seasonal], dim=1), line


def load_network(folder: Path = FOLDER) -> Network:
    """Load the trained network of a folder, by default that of the package."""
    from safetensors.torch import load_file

    facts = read_json(folder / FACTS_FILE)
    network = Network(facts["width"], facts["blocks"])
    weights = load_file(folder / WEIGHTS_FILE)
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    return network.eval()


class Shown(NamedTuple):
    """A series as a network sees it, and how its forecast becomes one of the series."""

    context: np.ndarray
    """float32 (CONTEXT,): without season, 0 at the last step, in units of the spread; NaN where the
    series has not begun."""
    offset: float
    """The last value without its season."""
    spread: float
    """The mean distance from the mean; 0 where the series does not change."""
    factor: np.ndarray
    """(season,): the factors of the season from the first step ahead on."""
    shift: np.ndarray
    """(season,): what the season then adds."""

    @classmethod
    def of(cls, values: np.ndarray, season: int) -> "Shown":
        """Show the last steps of a series (steps,), without its season."""
        last = values[-max(CONTEXT, SEASONS_READ * season) :, None]
        pattern = Season.of(last, season)
        level = pattern.without(last)[-CONTEXT:, 0]
        offset = float(level[-1])
        spread = float(np.abs(level - level.mean()).mean())
        # What rounding leaves of a constant is no change.
        if spread <= 1e-9 * np.abs(level).max():
            spread = 0.0
        context: np.ndarray = np.full(CONTEXT, np.nan, dtype=np.float32)
        context[-len(level) :] = (level - offset) / (spread or 1.0)
        places: np.ndarray = (len(last) + np.arange(len(pattern.factor))) % len(pattern.factor)
        return cls(context, offset, spread, pattern.factor[places, 0], pattern.shift[places, 0])

    def without(self, future: np.ndarray) -> np.ndarray:
        """Return what follows the series, (steps,), as it is shown."""
        places: np.ndarray = np.arange(len(future)) % len(self.factor)
        level = (future - self.shift[places]) / self.factor[places]
        return (level - self.offset) / (self.spread or 1.0)

    def back(self, quantiles: np.ndarray) -> np.ndarray:
        """Return quantiles (levels, steps) of the series from those of what is shown."""
        places: np.ndarray = np.arange(quantiles.shape[-1]) % len(self.factor)
        level = quantiles * self.spread + self.offset
        return level * self.factor[places] + self.shift[places]


@torch.no_grad()
def forecast_quantiles(
    network: Network, series: Sequence[np.ndarray], horizon: int, seasons: Sequence[int]
) -> np.ndarray:
    """Forecast the quantiles of what follows some series.

    Beyond 64 steps the median goes on as the network continues the median before, and the bands
    around it widen as they did from the 32nd step to the 64th.

    Parameters
    ----------
    network : Network
        A trained network.
    series : sequence of ndarray of float64, each of shape (steps,)
        Physical units.
    horizon : int
        Steps to forecast.
    seasons : sequence of int
        Steps of each series' season; 1: none.

    Returns
    -------
    ndarray of float64, shape (series, levels, horizon)
        Physical units, at LEVELS. What was never negative stays so.
    """
    all_shown = [Shown.of(values, length) for values, length in zip(series, seasons, strict=True)]
    contexts = torch.from_numpy(np.stack([shown.context for shown in all_shown]))
    lengths = torch.tensor(seasons)
    written = network.quantiles(contexts, lengths)
    if horizon > HORIZON:
        written = _continued(network, contexts, lengths, written, horizon)
    quantiles = written[..., :horizon].double().numpy()

    # A season's factors are positive, so quantiles still ascend.
    forecasts = np.stack([shown.back(own) for shown, own in zip(all_shown, quantiles, strict=True)])
    least = [0.0 if values.min() >= 0 else -np.inf for values in series]
    return np.maximum(forecasts, np.reshape(least, (-1, 1, 1)))


def _continued(
    network: Network,
    contexts: torch.Tensor,
    seasons: torch.Tensor,
    written: torch.Tensor,
    horizon: int,
) -> torch.Tensor:
    """Return the quantiles of `horizon` steps or more, of which the first HORIZON are written.

    The quantiles' distances from the median grow as a power of the steps ahead: with the power 0 in
    noise, so that they stay as they are, and with 1/2 in a random walk. If instead each quantile's
    path were continued, the bands would become ever narrower, because the network takes a smooth
    path for that of a smooth series.
    """
    middle = LEVELS.index(0.5)
    median = written[:, middle]
    while median.shape[1] < horizon:
        path = torch.cat([contexts, median], dim=1)[:, -CONTEXT:]
        median = torch.cat([median, network.quantiles(path, seasons)[:, middle]], dim=1)

    distances = written - written[:, middle : middle + 1]
    width = distances[:, LEVELS.index(0.9)] - distances[:, LEVELS.index(0.1)]
    # The mean widths around the steps 32.5 and 56.5 say how fast the band grows; it never narrows,
    # and grows in proportion to the steps at most.
    early, late = width[:, 24:40].mean(1), width[:, 48:64].mean(1)
    power = (late / early.clamp(min=1e-9)).log() / math.log(56.5 / 32.5)
    steps = torch.arange(HORIZON + 1, median.shape[1] + 1)
    growth = (steps / 56.5) ** power.clamp(0, 1).unsqueeze(1)  # (series, further steps)
    further = distances[..., 48:64].mean(2, keepdim=True) * growth.unsqueeze(1)
    return torch.cat([written, median[:, None, HORIZON:] + further], dim=2)


class NetworkModel:
    """The network of the package, as a `QuantileModel`; it reads each variable alone."""

    def __init__(self, folder: Path = FOLDER) -> None:
        """Load the network of a folder."""
        self.network = load_network(folder)

    def __repr__(self) -> str:
        return "small network"

    def quantiles(
        self,
        series: Sequence[np.ndarray],
        horizon: int,
        seasons: Sequence[int],
        levels: Sequence[float],
    ) -> np.ndarray:
        """Forecast the quantiles of what follows some series.

        Parameters
        ----------
        series : sequence of ndarray of float64, each of shape (steps, variables)
            Physical units, without gaps; of equally many variables.
        horizon : int
            Steps to forecast.
        seasons : sequence of int
            Steps of each series' season; 1: none.
        levels : sequence of float
            From 0.025 to 0.975. Between those that the network writes quantiles are interpolated.

        Returns
        -------
        ndarray of float64, shape (series, levels, horizon, variables)
            Physical units.

        Raises
        ------
        InputError
            For levels beyond those that the network writes.
        """
        if min(levels) < LEVELS[0] or max(levels) > LEVELS[-1]:
            raise InputError(
                f"the network writes quantiles from {LEVELS[0]} to {LEVELS[-1]}; ask for those"
            )
        variables = [column for values in series for column in values.T]
        lengths: list[int] = np.repeat(seasons, series[0].shape[1]).tolist()
        written = forecast_quantiles(self.network, variables, horizon, lengths)
        at_levels = np.apply_along_axis(lambda path: np.interp(levels, LEVELS, path), 1, written)
        # (series * variables, levels, horizon) -> (series, levels, horizon, variables)
        grouped = at_levels.reshape(len(series), -1, len(levels), horizon)
        return np.moveaxis(grouped, 1, -1)
