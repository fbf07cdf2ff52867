"""The store of runs: one JSON file a run, with all that is needed to tell where its numbers come from."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from m2lib.accounting import CONVENTIONS
from m2lib.files import InputError, first_line, repository, write_atomic
from m2lib.forecasting import DecodeConfig, point_forecast, read_back
from m2lib.model import backbone_id
from m2lib.series import SeriesSet
from m2lib.settings import out_dir, results_dir
from m2lib.study.profiles import PROFILES, Profile

SCHEMA = 1
SPENDING = ("training", "evaluation", "forecasts", "discarded")


@dataclass
class Record:
    """One run, as it is stored.

    While a run goes on, its record says at every save what has been spent and, as `reserved`, what may still be, so
    that runs beside it cannot take the same FLOPs of the budget. A run that may cost 10 and has spent 4, for example:
    `{"training": 3, "evaluation": 1, "forecasts": 0, "discarded": 0, "reserved": 6}` under each convention. When it
    ends, whatever is left of `reserved` is given back.
    """

    name: str
    """The experiment's."""
    profile: str
    fingerprint: str
    """A hash of all that decides the numbers: settings, sizes, weights, data, versions; not of where or when it ran."""
    config: dict[str, Any]
    """The experiment's settings, see `Experiment.settings`."""
    backbone: dict[str, Any]
    """Its id, weight hash and dtype."""
    data: dict[str, Any]
    """The data set's fingerprint, and how many series it has."""
    batch_size: int
    """Texts decoded together."""
    seed: int = 0
    """Of the training."""
    status: str = "running"
    """`running`, `done` or `aborted`."""
    seconds: float = 0.0
    """Wall time of all."""
    train_seconds: float = 0.0
    """Wall time of training with its evaluations."""
    evaluation_seconds: float = 0.0
    """Wall time of these evaluations; 0 in records older than the field."""
    device: str = ""
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """Every setting of the training, defaults included."""
    adapter: str = ""
    """A hash of the adapter's files, trained or used."""
    steps_run: int = 0
    """Training steps computed; those repeated after a kill count each time."""
    loss_curve: list[float] = field(default_factory=list)
    """Training loss of each step, nats a token."""
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    """What was measured in between, by step."""
    series: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By series id `mae` (scaled units), `repairs`, `text`, and the token counts that the accountant needs; of a
    sampled forecast the `texts` of all samples, the `mae` of their median, and the `crps` (fair, scaled units)."""
    flops: dict[str, dict[str, int]] = field(
        default_factory=lambda: {kind: dict.fromkeys(CONVENTIONS, 0) for kind in (*SPENDING, "reserved")}
    )
    """Spent by kind (`discarded`: by the record that this one replaced), and `reserved`, under each convention."""
    schema: int = SCHEMA

    def maes(self) -> dict[int, float]:
        """MAE by series id, scaled units."""
        return {series: entry["mae"] for series, entry in self.series.items()}

    def spent(self) -> dict[str, int]:
        """FLOPs under each convention, of all kinds."""
        return {convention: sum(self.flops[kind][convention] for kind in SPENDING) for convention in CONVENTIONS}

    def reserving(self, costs: dict[str, int]) -> "Record":
        """The same record with these FLOPs reserved, by convention."""
        return replace(self, flops=self.flops | {"reserved": costs})

    @property
    def repairs(self) -> int:
        """Values repaired over all series."""
        return sum(entry["repairs"] for entry in self.series.values())


def record_path(profile: Profile | str, name: str) -> Path:
    """Where a run's record is: under build/results for a live profile, else `M2_RESULTS`, else report/results."""
    profile = _profile(profile)
    root = out_dir() / "results" if profile.live else results_dir() or repository("report", "results")
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
        stored = json.loads(path.read_text(encoding="utf-8"))
        schema = stored["schema"]
        if not stored["flops"].keys() >= {*SPENDING, "reserved"}:
            raise ValueError("its FLOPs are not counted")
        stored["series"] = {int(series): entry for series, entry in stored["series"].items()}
        record = Record(**stored)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a run record ({first_line(error)}); restore it from git") from error
    if schema != SCHEMA:
        raise InputError(f"{path} has schema {schema}, but this version reads schema {SCHEMA}")
    return record


def save_record(profile: Profile | str, record: Record) -> Path:
    """Write a record, whole or not at all; called at every checkpoint."""
    path = record_path(profile, record.name)
    write_atomic(path, (json.dumps(asdict(record), indent=1) + "\n").encode())
    return path


def recorded_forecast(record: Record, data: SeriesSet, series: int) -> np.ndarray:
    """The forecast that a record holds as text, or the median of its samples: (20, 2), scaled units."""
    protocol, entry = DecodeConfig(**record.config["decode"]), record.series[series]
    texts = entry["texts"] if "texts" in entry else [entry["text"]]
    read = [read_back(text, data.contexts[series], float(data.scales[series]), protocol).values for text in texts]
    return point_forecast(np.stack(read))


def fingerprint(decisive: Any) -> str:
    """16 hex digits of a hash of a JSON-like value; tuples count as lists."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:16]


def _profile(profile: Profile | str) -> Profile:
    if isinstance(profile, Profile):
        return profile
    if profile not in PROFILES:
        raise InputError(f"unknown profile {profile!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[profile]
