"""The store of runs: one JSON a run, with all that is needed to tell where its numbers come from."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2lib.accounting.shape import CONVENTIONS
from m2lib.files import ROOT, InputError, first_line, out_dir, write_atomic
from m2lib.model.weights import backbone_id
from m2lib.study.profiles import PROFILES, Profile

if TYPE_CHECKING:
    pass

SCHEMA = 1
SPENDING = ("training", "evaluation", "forecasts", "discarded")
PUBLISHED = ROOT / "report" / "published"
PUBLISHED_MAE = PUBLISHED / "series_mae.csv"


@dataclass
class Record:
    """One run, as it is stored.

    name: the experiment's. status: `running`, `done` or `aborted`. config: the experiment's settings. fingerprint: a
    hash of all that decides the numbers (config, sizes, weights, data, codec and decode version), not of where or when
    it ran. training: every setting of the training, defaults included. adapter: a hash of the adapter's files, trained
    or used. steps_run: training steps computed, those repeated after a kill each time. loss_curve: training loss of
    each step, nats a token. evaluations: what was measured in between, by step.
    series: per series id `mae` (scaled units), `repairs`, `text`, and the token counts the FLOP accountant needs; of a
    sampled forecast the `texts` of all samples, the `mae` of their median, and the `crps` (fair, scaled units).
    flops: spent by kind (`discarded`: by the record that this one replaced), and `reserved` while it runs, under each
    convention. seconds: wall time of all; train_seconds: of training with its evaluations; evaluation_seconds: of these
    (0 in records older than the field).
    """

    name: str
    profile: str
    fingerprint: str
    config: dict[str, Any]
    backbone: dict[str, Any]
    data: dict[str, Any]
    batch_size: int
    seed: int = 0
    status: str = "running"
    seconds: float = 0.0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    device: str = ""
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    adapter: str = ""
    steps_run: int = 0
    loss_curve: list[float] = field(default_factory=list)
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    series: dict[int, dict[str, Any]] = field(default_factory=dict)
    flops: dict[str, dict[str, int]] = field(
        default_factory=lambda: {kind: dict.fromkeys(CONVENTIONS, 0) for kind in (*SPENDING, "reserved")}
    )
    schema: int = SCHEMA

    def maes(self) -> dict[int, float]:
        """MAE by series id, scaled units."""
        return {series: entry["mae"] for series, entry in self.series.items()}

    def spent(self) -> dict[str, int]:
        """FLOPs under each convention, of all kinds."""
        return {convention: sum(self.flops[kind][convention] for kind in SPENDING) for convention in CONVENTIONS}

    @property
    def repairs(self) -> int:
        """Values repaired over all series."""
        return sum(entry["repairs"] for entry in self.series.values())


def record_path(profile: Profile | str, name: str) -> Path:
    """Where a run's record is: under build/results for a live profile, else `M2_RESULTS`, else report/results."""
    profile = _profile(profile)
    recorded = Path(os.environ.get("M2_RESULTS") or ROOT / "report" / "results").expanduser()
    root = out_dir() / "results" if profile.live else recorded
    return root / f"{profile.name}-{backbone_id(profile.backbone)}" / f"{name}.json"


def load_record(profile: Profile | str, name: str) -> Record:
    """Read a recorded run; `profile` is a Profile, or the name of one (then on that profile's own backbone).

    Raises InputError where there is no record, or it cannot be read, naming the file and what to run.
    """
    path = record_path(profile, name)
    if not path.exists():
        profile = _profile(profile)
        other = profile.backbone != PROFILES[profile.name].backbone
        settings = f"M2_PROFILE={profile.name}" + f" M2_BACKBONE={profile.backbone}" * other
        raise InputError(f"no record {path}; `{settings} m2 run {name}` makes it")
    try:
        stored = json.loads(path.read_text())
        schema = stored["schema"]
        if not stored["flops"].keys() >= {*SPENDING, "reserved"}:
            raise ValueError("its FLOPs are not counted")
        stored["series"] = {int(series): entry for series, entry in stored["series"].items()}
        result = Record(**stored)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a run record ({first_line(error)}); restore it from git") from error
    if schema != SCHEMA:
        raise InputError(f"{path} has schema {schema}, but this version reads schema {SCHEMA}")
    return result


def save_record(profile: Profile | str, result: Record) -> Path:
    """Write a record, whole or not at all; called at every checkpoint."""
    path = record_path(profile, result.name)
    write_atomic(path, (json.dumps(asdict(result), indent=1) + "\n").encode())
    return path


def fingerprint(decisive) -> str:
    """16 hex digits of a hash of a JSON-like value; tuples count as lists."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _profile(profile: Profile | str) -> Profile:
    if isinstance(profile, Profile):
        return profile
    if profile not in PROFILES:
        raise InputError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[profile]
