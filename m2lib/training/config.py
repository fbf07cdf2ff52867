"""How a run is trained: every setting that decides its numbers, and the rate of each step."""

import math
from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from m2lib.accounting import PROJECTIONS, TARGETS

COSINE = {"warmup": 0.05, "decay": "cosine", "clip_norm": 1.0}
"""What the laptop's recipes and a fine-tuning share: a short warm-up, half a cosine wave, gradients
clipped."""
COOLDOWN = 0.2
"""The share of the steps over which `cooldown` lowers the rate."""


@dataclass(frozen=True, config={"extra": "forbid"})
class TrainConfig:
    """How an adapter is trained. The defaults beyond the first three fields are the report's.

    ValueError for settings that cannot be trained with.
    """

    steps: PositiveInt
    """Optimiser steps."""
    learning_rate: PositiveFloat
    """Peak rate of AdamW."""
    rank: NonNegativeInt
    """Of the adapters; 0: there are none, and all weights train."""
    alpha: PositiveFloat | None = None
    """B A is multiplied by alpha / rank; None: alpha is the rank."""
    batch_size: PositiveInt = 2
    """Windows a step."""
    sequence_length: Annotated[int, Field(ge=2)] = 512
    """Tokens a window; of made-up series tokens a step, and then `batch_size` counts for
    nothing."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the steps over which the rate rises from 0."""
    decay: Literal["constant", "cosine", "cooldown"] = "constant"
    """What the rate does after the warm-up: `constant`; `cosine`; or `cooldown`, constant until the
    last fifth of the steps. Cosine and cooldown end at 0, one step after the last."""
    clip_norm: PositiveFloat | None = None
    """Largest norm of the gradient of all that trains; None: no clipping."""
    tail_weight: PositiveFloat = 1.0
    """How much the last token of a window weighs in the loss against the first, linear between."""
    units_weight: PositiveFloat = 1.0
    """How much a number's last digit weighs in the loss against everything else."""
    seed: int = 0
    """Of the adapters' start and of the order of the windows."""
    targets: tuple[str, ...] = TARGETS
    """The projections that get adapters, some of PROJECTIONS; kept in its order, whatever order or
    list is given."""

    def __post_init__(self) -> None:
        """Put the targets into one order."""
        targets = tuple(name for name in PROJECTIONS if name in self.targets)
        if not targets or len(targets) != len(
            self.targets
        ):  # one more is given than found: unknown, or repeated
            raise ValueError(f"targets must be some of {', '.join(PROJECTIONS)}, each once")
        object.__setattr__(self, "targets", targets)  # the class is frozen

    def rate(self, step: int) -> float:
        """The learning rate of a step from 0 to steps - 1.

        It rises in a straight line, then stays at the peak, falls as half a cosine wave (Loshchilov
        and Hutter, SGDR, ICLR 2017), or stays there and falls in a straight line over the last
        fifth of the steps (Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed
        Training Durations, NeurIPS 2024): what was learned until then is what any longer run would
        have learned by then, too.
        """
        # Ten steps, warmup 0.2, cosine, as shares of the peak: 0.5 and 1 (a step at rate 0 would be
        # wasted), then 1, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04; the 0 would come at step 10,
        # which there is not. With cooldown: 0.5, then 1 up to the ninth. The last two steps are
        # cooled: the ninth has (10 - 8) / 2 = 1, the tenth 1 / 2.
        warm = round(self.warmup * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        if self.decay == "constant":
            return self.learning_rate
        if self.decay == "cooldown":
            return self.learning_rate * min(
                1.0, (self.steps - step) / max(1, COOLDOWN * self.steps)
            )
        return (
            self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm)))
        )
