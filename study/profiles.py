"""How big a run is: four profiles, of which `M2_PROFILE` names the active one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from m2lib.errors import InputError
from m2lib.model import chosen_dtype
from m2lib.provenance import versions
from m2lib.settings import read as read_setting
from study import settings

Sizes = Mapping[str, Mapping[str, Any]]
"""Settings that replace the declared ones: by experiment, or for a kind of them by what stands
before the slash."""


@dataclass(frozen=True)
class Profile:
    """A size of run."""

    name: str
    backbone: str
    """Its name in `m2lib.model.BACKBONES`, or a path."""
    most_series: int | None = None
    """How many series an experiment forecasts at most; None: all that it declares."""
    most_steps: int | None = None
    """How many steps an experiment trains at most, if `train` does not say how many; None: as many
    as it declares."""
    batch_size: int = 50
    """Texts (series times samples) decoded together; memory limits it. An evaluation decodes all
    its series together, and the samples of one series are never parted."""
    live: bool = False
    """Whether its runs are for looking at, not for the record: they are written under build/."""
    train: Sizes = field(default_factory=dict)
    """Settings of `TrainConfig` that replace the declared ones."""
    protocol: Sizes = field(default_factory=dict)
    """Settings of `DecodeConfig` that replace the declared ones."""
    forecast_dtype: str = ""
    """In which a finished model forecasts, whatever it was trained in; empty: the same."""
    checkpoint_every: int = 50
    """Training steps between checkpoints."""
    evaluate_every: int = 10**9
    """Training steps between evaluations, beside those before the first step and after the last."""
    as_reported: bool = False
    """Whether an experiment takes the series and the adapter that the report chose, not those of
    its own errors."""
    watched: int = 10
    """Validation series whose loss an evaluation takes; 0: no evaluation."""
    watched_forecasts: tuple[str, ...] = ()
    """The experiments whose evaluations forecast the watched series too."""
    budget: int = 10**17
    """FLOPs that its experiments may spend."""
    budget_convention: str = "coursework"
    """The convention of `m2lib.accounting` in which the budget is counted."""


SLICE = Profile(
    "slice",
    backbone="smollm2-135m",
    most_series=3,
    most_steps=2,
    batch_size=3,
    live=True,
    train={"default": {"learning_rate": 1e-3}, "default-warm": {"steps": 3}},
    protocol={
        "temperature": {"n_samples": 4},
        "samples": {"n_samples": 4},
        # After two steps of training nobody reads a forecast to its end.
        "default": {"max_new_tokens": 60},
        "search": {"max_new_tokens": 60},
        "context": {"max_new_tokens": 60},
        "final": {"max_new_tokens": 60},
    },
    watched=0,
)
# Three rates by three ranks, as the report's grid, but where a run of 80 steps on a small model has
# its best.
LAPTOP_RATES = (1e-3, 1e-3, 1e-3, 3e-3, 3e-3, 3e-3, 1e-2, 1e-2, 1e-2)
LAPTOP_SEARCH = {
    f"search/expt_{i}": {"steps": 80, "learning_rate": rate} for i, rate in enumerate(LAPTOP_RATES)
}
# The recipe that the trials led to: one whole series a step (none is longer than 1024 tokens), at a
# high rate.
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
LAPTOP = Profile(
    "laptop",
    backbone="smollm2-135m",
    batch_size=150,
    train={
        "default": {"steps": 200, "learning_rate": 1e-3},
        "default-warm": {"steps": 700},
        **LAPTOP_SEARCH,
        "context": {"steps": 80, "learning_rate": 1e-2, "rank": 2},  # as a search of 80 steps chose
        "final": LAPTOP_FINAL,
    },
    protocol={
        "final": {
            "context_tokens": None,
            "raw_cut": False,
            "constrained": True,
            "rounding": "nearest",
        }
    },
    evaluate_every=100,
    watched_forecasts=("default", "default-warm", "final"),
)
# The report ran in float32: its code names no dtype, and transformers before version 5 loads
# float32 then.
REPORT = Profile(
    "report",
    backbone="qwen2.5-0.5b",
    as_reported=True,
    forecast_dtype="float32",
    evaluate_every=500,
    budget_convention="published",
)
# The report's rates are constant, so a fifth of its steps is the first fifth of its own way.
FIFTH_STEPS = {"default": 1000, "search": 630, "context": 300, "final": 3080}
FIFTH = replace(
    REPORT,
    name="fifth",
    backbone="qwen2.5-coder-0.5b",
    train={kind: {"steps": steps} for kind, steps in FIFTH_STEPS.items()},
    evaluate_every=250,
)
PROFILES = {profile.name: profile for profile in (SLICE, LAPTOP, FIFTH, REPORT)}
"""The four profiles, by name."""
REPLICATION = {"fifth": FIFTH, "report": replace(REPORT, backbone=FIFTH.backbone)}
"""The profiles that the report's findings are checked at, on the one model that both are computed
with."""


def active_profile() -> Profile:
    """Return the profile that `M2_PROFILE` names; without it that is `slice`.

    If `M2_BACKBONE` is set, the profile is on that backbone. Raises InputError for an unknown
    profile.
    """
    profile = PROFILES[settings.read("M2_PROFILE") or "slice"]
    return replace(profile, backbone=read_setting("M2_BACKBONE") or profile.backbone)


def profile_named(profile: Profile | str) -> Profile:
    """Return the profile of a name, on its own backbone; a Profile is returned as it is.

    Raises InputError for an unknown name.
    """
    if isinstance(profile, Profile):
        return profile
    if profile not in PROFILES:
        raise InputError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[profile]


def setting(profile: Profile) -> str:
    """Return a line for the top of a notebook: profile, backbone, dtype used here, and versions."""
    libraries = ", ".join(f"{package} {number}" for package, number in versions().items())
    model = f"{profile.backbone} in {chosen_dtype()}"
    return f"profile {profile.name}, backbone {model}; {libraries}"
