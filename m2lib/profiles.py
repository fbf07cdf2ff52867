"""How big a run is. `M2_PROFILE` and `M2_BACKBONE` are read here and nowhere else."""

import os
from dataclasses import dataclass, replace

from m2lib.files import InputError


@dataclass(frozen=True)
class Profile:
    """A size of run.

    backbone: its name in `weights.BACKBONES`, or a path. series: how many series an experiment forecasts at most
    (None: all it declares). batch_size: series decoded together, set by memory. live: its results
    are for looking at, not for the record, and go under build/.
    """

    name: str
    backbone: str
    series: int | None
    batch_size: int
    live: bool

    def __post_init__(self):
        if (self.series is not None and self.series < 1) or self.batch_size < 1:
            raise ValueError("series and batch_size must be at least 1")


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("slice", backbone="smollm2-135m", series=3, batch_size=3, live=True),
        Profile("laptop", backbone="smollm2-135m", series=None, batch_size=10, live=False),
        Profile("report", backbone="qwen2.5-0.5b", series=None, batch_size=25, live=False),
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
