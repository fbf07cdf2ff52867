"""The settings that decide the numbers of a training run, and the learning rate of each step."""

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from m2lib.accounting import PROJECTIONS, TARGETS

COOLDOWN = 0.2
"""The share of the steps over which `cooldown` lowers the rate."""


@dataclass(frozen=True, config={"extra": "forbid", "allow_inf_nan": False})
class TrainConfig:
    """The settings that an adapter is trained with; the defaults are the report's.

    Settings that cannot be trained with raise ValueError.
    """

    steps: PositiveInt
    """Number of optimiser steps."""
    learning_rate: PositiveFloat
    """Peak learning rate of AdamW."""
    rank: NonNegativeInt
    """Rank of the adapters; at 0 there are none, and all weights train."""
    alpha: PositiveFloat | None = None
    """B A is multiplied by alpha / rank; None sets alpha to the rank."""
    batch_size: PositiveInt = 2
    """Windows in a step."""
    sequence_length: Annotated[int, Field(ge=2)] = 512
    """Tokens in a window that is cut from a text. Windows that are made for each step have lengths
    of their own; the study makes them of so many tokens in all, and `batch_size` has no effect."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps over which the learning rate rises from 0."""
    decay: Literal["constant", "cosine", "cooldown"] = "constant"
    """Course of the rate after the warm-up: `constant`, `cosine`, or `cooldown`, which is constant
    until the last fifth of the steps. Cosine and cooldown end at 0, one step after the last."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all trainable parameters; None does not clip it."""
    tail_weight: PositiveFloat = 1.0
    """Weight in the loss of a window's last token, where the first has 1; linear between."""
    units_weight: PositiveFloat = 1.0
    """Factor in the loss for a number's last digit."""
    seed: NonNegativeInt = 0
    """Seed of the adapters' first values and of the order of the windows."""
    targets: tuple[str, ...] = TARGETS
    """The projections that get adapters, some of PROJECTIONS. They are stored in its order,
    whatever order or list is given."""

    def __post_init__(self) -> None:
        """Put the targets into one order; ValueError for unknown or repeated ones, or none."""
        targets = tuple(name for name in PROJECTIONS if name in self.targets)
        # An unknown or repeated target makes the given ones more than the known ones.
        if not targets or len(targets) != len(self.targets):
            raise ValueError(f"targets must be some of {', '.join(PROJECTIONS)}, each once")
        object.__setattr__(self, "targets", targets)  # the class is frozen

    def rate(self, step: int) -> float:
        """Return the learning rate of a step from 0 to steps - 1.

        It rises in a straight line during the warm-up. Then it stays at the peak (`constant`),
        falls as half a cosine wave (`cosine`; Loshchilov and Hutter, SGDR, ICLR 2017), or stays at
        the peak and falls in a straight line over the last fifth of the steps (`cooldown`; Hägele
        et al., Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations, NeurIPS
        2024). What a run has learned before its cooldown, any longer run has learned by then, too.
        """
        # Ten steps, warmup 0.2, cosine, as shares of the peak: 0.5 and 1 (a step at rate 0 would be
        # wasted), then 1, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04; the 0 would come at step 10,
        # which does not exist. With cooldown: 0.5, then 1 up to the ninth, which has (10 - 8) / 2;
        # the tenth has 1 / 2, and the 0 would again come at step 10.
        warmup_steps = round(self.warmup * self.steps)
        if step < warmup_steps:
            return self.learning_rate * (step + 1) / warmup_steps
        if self.decay == "constant":
            return self.learning_rate
        if self.decay == "cooldown":
            cooldown_steps = max(1, COOLDOWN * self.steps)
            return self.learning_rate * min(1.0, (self.steps - step) / cooldown_steps)
        angle = math.pi * (step - warmup_steps) / (self.steps - warmup_steps)
        return self.learning_rate * 0.5 * (1 + math.cos(angle))
