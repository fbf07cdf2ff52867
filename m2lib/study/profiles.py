"""How big a run is. `M2_PROFILE` and `M2_BACKBONE` are read here and nowhere else."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from m2lib.files import InputError


@dataclass(frozen=True)
class Profile:
    """A size of run.

    backbone: its name in `weights.BACKBONES`, or a path. series: how many series an experiment forecasts at most
    (None: all it declares). batch_size: texts (series times samples) decoded together, set by memory. live: its
    results are for looking at, not for the record, and go under build/. train: the training settings that replace the
    declared ones, by experiment, or for all of a kind, by what stands before the name's slash; decode: likewise those
    of decoding.
    checkpoint_every, evaluate_every: training steps between checkpoints and between evaluations. watched: validation
    series whose loss an evaluation takes (0: no evaluation); watched_forecasts: the experiments, named as in train, in
    which it forecasts them too.
    budget: FLOPs that its experiments may spend, counted in budget_convention (`m2lib.flops`).
    """

    name: str
    backbone: str
    series: int | None
    batch_size: int
    live: bool
    train: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    decode: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    checkpoint_every: int = 50
    evaluate_every: int = 0
    watched: int = 10
    watched_forecasts: tuple[str, ...] = ()
    budget: int = 10**17
    budget_convention: str = "coursework"

    def __post_init__(self):
        if self.series is not None and self.series < 1:
            raise ValueError("series must be at least 1")
        if min(self.batch_size, self.checkpoint_every) < 1 or min(self.evaluate_every, self.watched) < 0:
            raise ValueError("batch_size and checkpoint_every must be at least 1, the others not negative")


# Three rates by three ranks, as the report's grid, but where a run of 80 steps on a small model has its best.
LAPTOP_RATES = (1e-3, 1e-3, 1e-3, 3e-3, 3e-3, 3e-3, 1e-2, 1e-2, 1e-2)
# The recipe that the trials led to: one whole series a step (none is longer than 1024 tokens), at a high rate.
LAPTOP_FINAL = {
    "steps": 2000,
    "learning_rate": 5e-3,
    "rank": 16,
    "sequence_length": 1024,
    "batch_size": 1,
    "warmup": 0.05,
    "decay": "cosine",
    "clip_norm": 1.0,
}

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "slice",
            backbone="smollm2-135m",
            series=3,
            batch_size=3,
            live=True,
            train={
                "default": {"steps": 2, "learning_rate": 1e-3},
                "default-warm": {"steps": 3},
                "search": {"steps": 2},
                "context": {"steps": 2},
                "final": {"steps": 2},
                "trial": {"steps": 2},
            },
            watched=0,
        ),
        Profile(
            "laptop",
            backbone="smollm2-135m",
            series=None,
            batch_size=150,
            live=False,
            train={
                "default": {"steps": 200, "learning_rate": 1e-3},
                "default-warm": {"steps": 700},
                **{f"search/expt_{i}": {"steps": 80, "learning_rate": rate} for i, rate in enumerate(LAPTOP_RATES)},
                "context": {"steps": 80, "learning_rate": 1e-2, "rank": 2},  # as the search chose
                "final": LAPTOP_FINAL,
            },
            decode={"final": {"context_tokens": None, "raw_cut": False, "constrained": True, "rounding": "nearest"}},
            evaluate_every=100,
            watched_forecasts=("default", "default-warm", "final"),
        ),
        Profile(
            "report",
            backbone="qwen2.5-0.5b",
            series=None,
            batch_size=50,
            live=False,
            evaluate_every=500,
            budget_convention="published",
        ),
    )
}


def active_profile() -> Profile:
    """The profile named by `M2_PROFILE` (default `slice`), on the backbone of `M2_BACKBONE` where that is set.

    Raises InputError for an unknown profile.
    """
    name = os.environ.get("M2_PROFILE") or "slice"
    if name not in PROFILES:
        raise InputError(f"unknown profile {name!r} in M2_PROFILE: choose one of {', '.join(PROFILES)}")
    return replace(PROFILES[name], backbone=os.environ.get("M2_BACKBONE") or PROFILES[name].backbone)
