"""Small networks that learn from nothing on the series a language model learns from: its rivals.

A network reads the last steps of a context and writes the quantiles of all the steps to come at
once. It sees logarithms, because prey and predators multiply: x becomes log(1 + x), where x is in
scaled units. What it writes is added to the last value that it has read. Quantiles of logarithms
become quantiles of scaled units by the inverse function, because that is monotone; the median is
the point forecast.

From each series many **windows** are cut, context and steps to come alike: a series of 100 steps
has 57 windows of 24 + 20.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from m2lib.files import read_json
from m2lib.series import CONTEXT_STEPS, FORECAST_STEPS, series_mae
from study.settings import benchmark_record

RECORD = "networks.json"
"""The file of recorded networks, beside the records of runs."""
MEDIAN = (0.5,)
"""The levels of a network that writes the median alone, and so minimises the absolute error."""
TWENTIETHS = tuple(round(place / 20, 2) for place in range(1, 20))
"""The levels 0.05, 0.1, ..., 0.95."""
CENTRE, SPREAD = 5.0, 1.5
"""About the mean and the standard deviation of log(1 + x) over the series."""
LOOKS = 20
"""How often a training looks at the validation series."""


@dataclass(frozen=True)
class NetworkConfig:
    """All that decides a network's weights, but for the series."""

    kind: str = "residual"
    """`residual`, `recurrent` or `linear`, of which the last has no hidden layer."""
    context: int = 24
    """The steps that it reads."""
    width: int = 256
    """Numbers in a hidden layer."""
    blocks: int = 3
    """Residual blocks, of two layers each."""
    levels: tuple[float, ...] = MEDIAN
    """The levels of the quantiles that it writes, ascending."""
    steps: int = 1600
    """Training steps."""
    batch_size: int = 128
    """Windows in a training step."""
    learning_rate: float = 1e-3
    """The highest rate. It is reached after a hundredth of the steps, and falls from there along
    half a cosine wave."""
    noise: float = 0.0
    """The most noise on the steps that it reads in training, as a share of each value; how much
    there is, is drawn for each window."""
    stretch: float = 1.0
    """By how much time is stretched or squeezed in training, at the most; 1: not at all."""
    seed: int = 0
    """The seed of weights and batches."""


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
    """A network of one of the three kinds."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        numbers = 2 * config.context
        width = config.width
        if config.kind == "residual":
            blocks = [Block(width) for _ in range(config.blocks)]
            self.body = nn.Sequential(
                nn.Flatten(), nn.Linear(numbers, width), *blocks, nn.LayerNorm(width)
            )
        elif config.kind == "recurrent":
            self.body = nn.GRU(2, width, num_layers=1, batch_first=True)
        elif config.kind == "linear":
            self.body = nn.Flatten()
            width = numbers
        else:
            raise ValueError(f"no network is of the kind {config.kind!r}")
        self.head = nn.Linear(width, len(config.levels) * FORECAST_STEPS * 2)
        # At first it repeats the last value.
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, logs: torch.Tensor) -> torch.Tensor:
        """Return quantiles (batch, levels, 20, 2) from contexts (batch, steps, 2), all as logs."""
        hidden = self.body((logs - CENTRE) / SPREAD)
        if self.config.kind == "recurrent":
            outputs, _ = hidden
            hidden = outputs[:, -1]
        changes = self.head(hidden).view(len(logs), -1, FORECAST_STEPS, 2)
        return logs[:, -1:].unsqueeze(1) + changes


def quantile_loss(
    quantiles: torch.Tensor, truth: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """Return the mean quantile loss of (batch, levels, 20, 2) beside a truth (batch, 20, 2)."""
    errors = truth.unsqueeze(1) - quantiles
    levels = levels.view(-1, 1, 1)
    return torch.maximum(levels * errors, (levels - 1) * errors).mean()


class Windows:
    """The windows of series, as logarithms."""

    def __init__(self, series: np.ndarray, config: NetworkConfig) -> None:
        """Take series (n, steps, 2) in scaled units."""
        self.logs = torch.from_numpy(np.log1p(series).astype(np.float32))
        self.config = config
        self.length = config.context + FORECAST_STEPS

    def draw(self, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch: contexts (batch, steps, 2), and the steps to come (batch, 20, 2)."""
        config = self.config
        size = (config.batch_size, 1)
        series = torch.randint(len(self.logs), size, generator=generator)
        most = math.log(config.stretch)
        factors = torch.exp(most * (2 * torch.rand(size, generator=generator) - 1))
        # A window of 44 steps, stretched by 2, spans 86 of the 99 from the first step to the last,
        # so it begins at one of the first 14. None is stretched beyond the series.
        last = self.logs.shape[1] - 1
        factors = factors.clamp(max=last / (self.length - 1))
        latest = (last - factors * (self.length - 1)).clamp(min=0)
        starts = torch.floor((latest + 1) * torch.rand(size, generator=generator)).minimum(latest)
        places = starts + factors * torch.arange(self.length)
        before = places.floor().long().clamp(max=last)
        after = (before + 1).clamp(max=last)
        share = (places - before).unsqueeze(-1)
        window = (1 - share) * self.logs[series, before] + share * self.logs[series, after]
        context, to_come = window.split((config.context, FORECAST_STEPS), dim=1)
        if config.noise:
            context = with_noise(context, config.noise, generator)
        return context, to_come


def with_noise(logs: torch.Tensor, most: float, generator: torch.Generator) -> torch.Tensor:
    """Multiply each value by a normal number around 1, whose spread is drawn for each window."""
    spread = most * torch.rand((len(logs), 1, 1), generator=generator)
    factors = 1 + spread * torch.randn(logs.shape, generator=generator)
    return torch.log1p((torch.expm1(logs) * factors).clamp(min=0))


@dataclass
class Trained:
    """A network that has been trained, and what it took."""

    network: Network
    """With the weights of the best look."""
    seconds: float
    """Processor time, looks at the validation series included."""
    flops: float
    """Of the training steps, looks not included; see `training_flops`."""
    errors: list[float]
    """The mean error over the validation series at each look, scaled units."""

    @property
    def error(self) -> float:
        """The lowest of them, which is that of the weights that were kept."""
        return min(self.errors)


def train_network(config: NetworkConfig, series: np.ndarray, validation: np.ndarray) -> Trained:
    """Train a network on series (n, steps, 2) in scaled units, with AdamW.

    Of the weights at each look, those with the lowest mean error over the validation series are
    kept (early stopping).
    """
    start = time.process_time()
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    network = Network(config)
    windows = Windows(series, config)
    levels = torch.tensor(config.levels)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.learning_rate)
    warmup = max(1, config.steps // 100)
    look_every = max(1, config.steps // LOOKS)
    errors: list[float] = []
    kept: dict[str, torch.Tensor] = {}
    for step in range(1, config.steps + 1):
        cosine = 0.5 * (1 + math.cos(math.pi * (step - 1) / config.steps))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * min(1, step / warmup) * cosine
        context, to_come = windows.draw(generator)
        loss = quantile_loss(network(context), to_come, levels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        if step % look_every == 0:
            forecasts = point_forecast([network], validation[:, :CONTEXT_STEPS])
            error = float(series_mae(forecasts, validation[:, CONTEXT_STEPS:]).mean())
            if not errors or error < min(errors):
                kept = {name: weight.clone() for name, weight in network.state_dict().items()}
            errors.append(error)
    network.load_state_dict(kept)
    return Trained(network, time.process_time() - start, training_flops(network), errors)


def num_weights(network: Network) -> int:
    """Return how many numbers a network has learned."""
    return sum(weight.numel() for weight in network.parameters())


def training_flops(network: Network) -> float:
    """Return the FLOPs of a training: six for each weight, each time that a window uses it.

    A product is a multiplication and an addition, once on the way forward and twice on the way back
    (Kaplan et al., arXiv 2001.08361). A recurrent network uses its weights at each step it reads.
    """
    config = network.config
    windows = config.steps * config.batch_size
    head = sum(weight.numel() for weight in network.head.parameters())
    repeats = config.context if config.kind == "recurrent" else 1
    return 6.0 * windows * (head + repeats * (num_weights(network) - head))


@torch.no_grad()
def quantile_forecast(networks: Sequence[Network], contexts: np.ndarray) -> np.ndarray:
    """Return quantiles (levels, n, 20, 2) from contexts (n, 80, 2), both in scaled units.

    Those of several networks are averaged, as logarithms, and sorted.
    """
    logs = torch.from_numpy(np.log1p(contexts).astype(np.float32))
    written = torch.stack([network(logs[:, -network.config.context :]) for network in networks])
    quantiles = torch.expm1(written.mean(0)).clamp(min=0).sort(dim=1).values
    return quantiles.transpose(0, 1).numpy()


def point_forecast(networks: Sequence[Network], contexts: np.ndarray) -> np.ndarray:
    """Return the medians (n, 20, 2) of `quantile_forecast`."""
    middle = len(networks[0].config.levels) // 2
    return quantile_forecast(networks, contexts)[middle]


def recorded_networks() -> dict[tuple[str, int], dict[str, Any]]:
    """Return the rows of networks.json, which `python -m benchmarks.networks` writes.

    They are by name and number of series. A row has the settings that were chosen (`config`), the
    validation error of each number of steps `tried`, `weights`, `flops`, the training's `seconds`
    for each seed, and in `sets` what was measured on each set.
    """
    rows = read_json(benchmark_record(RECORD))["rows"]
    return {(row["name"], row["count"]): row for row in rows}


def network_errors(
    name: str, count: int, where: str, who: int | Literal["ensemble"] = "ensemble"
) -> dict[int, float]:
    """Return the errors of a recorded network on a set, by series id, in scaled units.

    who: a seed, or the mean of the three seeds' forecasts.
    """
    maes = recorded_networks()[name, count]["sets"][where]["maes"][str(who)]
    return {int(series_id): mae for series_id, mae in maes.items()}
