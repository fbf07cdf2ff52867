"""The store of runs: one JSON file a run, with all that is needed to tell where its numbers come
from.

A record is validated as a whole when it is read. Before one is run afresh, a copy is kept aside.
"""

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from filelock import FileLock, Timeout
from pydantic import ConfigDict, Field, NonNegativeInt, TypeAdapter, with_config
from tqdm.auto import tqdm
from typing_extensions import TypedDict

from m2lib.accounting import CONVENTIONS
from m2lib.decoding import DecodeConfig, Forecast, point_forecast, read_back
from m2lib.files import InputError, write_json
from m2lib.model import backbone_id
from m2lib.series import SeriesSet, TextFormat, crps_fair, series_mae, to_integers
from m2lib.settings import out_dir
from m2lib.training import TrainConfig
from study.profiles import Profile, profile_named
from study.settings import results_dir

SPENDING = ("training", "evaluation", "forecasts", "discarded")
_STRICT = ConfigDict(extra="forbid", strict=True)
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@with_config(_STRICT)
class Entry(TypedDict):
    """What a record keeps of the forecast of one series."""

    mae: Amount
    """The error of the forecast, or of the median of its samples; scaled units."""
    crps: NotRequired[Amount]
    """The fair CRPS of sampled forecasts; scaled units."""
    repairs: NonNegativeInt
    text: NotRequired[str]
    """What a greedy run wrote."""
    texts: NotRequired[list[str]]
    """What a sampled run wrote, one text a sample."""
    prompt_tokens: NonNegativeInt
    padded_tokens: NonNegativeInt
    new_tokens: NonNegativeInt | list[NonNegativeInt]
    passes: NonNegativeInt | list[NonNegativeInt]


LearnsFrom = Literal["nothing", "the training split", "simulated series", "synthetic series"]


@with_config(_STRICT)
@dataclass(frozen=True)
class Plan:
    """Everything that decides the numbers of a run: two runs of equal plans are the same run.

    Not in it are where and when a run is computed, and in which dtype, because these change a
    number in its last digits only.
    """

    name: str
    """The experiment's."""
    profile: str
    """The profile's name."""
    backbone: str
    """The language model's name."""
    weights: str
    """A hash of its weights."""
    shuffled: bool
    """Whether they are shuffled first."""
    data: str
    """The fingerprint of the data set."""
    training: TrainConfig | None
    """What it trains with; None: it trains nothing."""
    learns_from: LearnsFrom
    """Which series it trains on."""
    text_format: TextFormat | None
    """The text format of synthetic series; None where it trains on no such series."""
    without: str
    """The family of synthetic series that is left out."""
    pairs: float
    """The share of its steps on synthetic series that hold prey and predators alone."""
    start: str
    """The experiment whose adapter it uses, or trains on; empty: none."""
    start_adapter: str
    """A hash of that adapter's files."""
    protocol: DecodeConfig
    """How it forecasts."""
    split: str
    """Whose series it forecasts, `validation` or `test`."""
    series: tuple[int, ...]
    """The ids of the series that it forecasts, in their order."""
    codec_version: int
    """The version of the codec."""
    decode_version: int
    """The version of the decoding."""

    def difference(self, other: "Plan") -> str:
        """The first setting in which another plan differs, in words; empty where none does."""
        return _difference(asdict(self), asdict(other))


def _difference(here: Any, there: Any, name: str = "") -> str:
    """Where two values differ, by the dotted name of the setting: `training.steps is 9, not 5`."""
    if isinstance(here, dict) and isinstance(there, dict):
        for key in here:
            if found := _difference(here[key], there[key], f"{name}.{key}".lstrip(".")):
                return found
        return ""
    return "" if here == there else f"{name} is {here!s:.60}, not {there!s:.60}"


@with_config(_STRICT)
@dataclass
class Record:
    """One run, as it is stored.

    While a run goes on, its record says at every save what has been spent and, as `reserved`, what
    may still be: the budget counts both. A run that may cost 10 and has spent 4, for example:
    `{"training": 3, "evaluation": 1, "forecasts": 0, "discarded": 0, "reserved": 6}` under each
    convention. When it ends, nothing is reserved.
    """

    plan: Plan
    """All that decides its numbers."""
    dtype: str
    """The dtype in which it trained, or forecast where it trains nothing."""
    batch_size: int
    """Texts decoded together."""
    forecast_dtype: str = ""
    """The dtype in which it forecast; empty: in `dtype`."""
    status: Literal["running", "done"] = "running"
    """`done` at its end; a run that was killed or stopped stays `running`."""
    seconds: Amount = 0.0
    """Wall time of the whole run."""
    train_seconds: Amount = 0.0
    """Wall time of its training, with the evaluations on the way."""
    evaluation_seconds: Amount = 0.0
    """Wall time of these evaluations; 0 in records older than the field."""
    device: str = ""
    """What it ran on; where it moved, the devices in their order, with semicolons between."""
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    adapter: str = ""
    """A hash of the files of the adapter that it trained, or used."""
    run: str = ""
    """A random name for the run's checkpoints, so that no other run takes them for its own; empty
    in records older than the field."""
    steps_run: NonNegativeInt = 0
    """Training steps computed. Those after the last checkpoint of a run that was killed are not
    known."""
    loss_curve: list[Amount] = field(default_factory=list)
    """Training loss of each step, nats a token."""
    evaluations: list[dict[str, NonNegativeInt | Amount]] = field(default_factory=list)
    """What was measured in between, by step."""
    series: dict[int, Entry] = field(default_factory=dict)
    """The forecasts by series id."""
    flops: dict[str, dict[str, NonNegativeInt]] = field(
        default_factory=lambda: {
            kind: dict.fromkeys(CONVENTIONS, 0) for kind in (*SPENDING, "reserved")
        }
    )
    """Spent by kind (`discarded`: by the records that this one replaced), and `reserved`, under
    each convention."""
    schema: Literal[2] = 2

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.plan.name

    @property
    def profile(self) -> str:
        """The profile's name."""
        return self.plan.profile

    @property
    def training(self) -> TrainConfig | None:
        """What it trained with; None where it trained nothing."""
        return self.plan.training

    @property
    def protocol(self) -> DecodeConfig:
        """How its series were forecast."""
        return self.plan.protocol

    def maes(self) -> dict[int, float]:
        """MAE by series id, scaled units."""
        return {series: entry["mae"] for series, entry in self.series.items()}

    def spent(self) -> dict[str, int]:
        """FLOPs under each convention, of all kinds."""
        return {
            convention: sum(self.flops[kind][convention] for kind in SPENDING)
            for convention in CONVENTIONS
        }

    @property
    def repairs(self) -> int:
        """Values repaired over all series."""
        return sum(entry["repairs"] for entry in self.series.values())


_SCHEMA = TypeAdapter(Record)


def record_path(profile: Profile | str, name: str) -> Path:
    """Where a run's record is: under `M2_OUT` for a live profile, else `M2_RESULTS`, else
    report/results."""
    profile = profile_named(profile)
    root = out_dir() / "results" if profile.live else results_dir()
    return root / f"{profile.name}-{backbone_id(profile.backbone)}" / f"{name}.json"


def adapter_path(profile: Profile | str, name: str, step: int | None = None) -> Path:
    """The folder of a trained experiment's adapter, beside its record; within it that of a step on
    the way."""
    folder = record_path(profile, name).with_suffix("")
    return folder if step is None else folder / f"step-{step:06d}"


def load_record(profile: Profile | str, name: str, data: SeriesSet | None = None) -> Record:
    """Read a recorded run; `profile` is a Profile, or the name of one (then on that profile's own
    backbone).

    data: where they are the record's series, its errors are computed anew from its texts and
    compared. Raises InputError, naming the file and the field, where there is no record, or it is
    not valid, or says other than its texts.
    """
    path = record_path(profile, name)
    if not path.is_file():
        raise InputError(
            f"no record {path}; "
            f"`M2_PROFILE={profile_named(profile).name} python -m study run {name}` makes it"
        )
    try:
        record = _SCHEMA.validate_json(path.read_bytes())
        if record.name != name:
            raise ValueError(f"plan.name is {record.name!r}")
        if data and record.plan.data == data.fingerprint:
            _compare(record, data)
    # Errors of pydantic, or of texts that are not of these series.
    except (ValueError, LookupError, TypeError) as error:
        said = " ".join(str(error).split())
        again = f"`python -m study run {name} --fresh` replaces it"
        raise InputError(
            f"{path} is not a run record ({said:.200}); restore it, or {again}"
        ) from error
    return record


def save_record(profile: Profile | str, record: Record) -> None:
    """Write a record, whole or not at all; called at every checkpoint."""
    write_json(record_path(profile, record.name), asdict(record))


def keep_aside(path: Path) -> None:
    """Copy a record that a new run replaces, and its adapter, into `M2_OUT`, and say where."""
    aside = (
        out_dir() / "replaced" / time.strftime("%Y%m%d-%H%M%S") / path.relative_to(results_dir())
    )
    aside.parent.mkdir(parents=True, exist_ok=True)
    if (adapter := path.with_suffix("")).is_dir():
        shutil.copytree(adapter, aside.with_suffix(""), dirs_exist_ok=True)
    tqdm.write(f"the record before is now {shutil.copy2(path, aside)}")


@contextmanager
def hold(profile: Profile, name: str, wait: float = 1) -> Iterator[None]:
    """Let no other process run an experiment: the lock goes when its process ends, however that
    ends.

    Raises InputError where another process still runs it after `wait` seconds.
    """
    path = record_path(profile, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.stem}.lock")).acquire(timeout=wait):
            yield
    except Timeout as error:
        raise InputError(
            f"another process is at {name} in {path.parent}; wait for it, or stop it first"
        ) from error


def in_progress(profile: Profile, name: str) -> bool:
    """Whether a process, this one or another, runs an experiment now."""
    try:
        with hold(profile, name):
            return False
    except InputError:
        return True


def entry_of(ahead: Forecast, truth: np.ndarray) -> Entry:
    """What a record keeps of a forecast: single values of a greedy one, lists over the samples of a
    sampled one."""
    tokens = {"prompt_tokens": ahead.prompt_tokens, "padded_tokens": ahead.padded_tokens}
    entry = _errors(ahead.values, ahead.repairs, truth) | tokens
    if len(ahead.texts) == 1:
        return entry | {
            "text": ahead.texts[0],
            "new_tokens": ahead.new_tokens[0],
            "passes": ahead.passes[0],
        }
    return entry | {
        "texts": [*ahead.texts],
        "new_tokens": [*ahead.new_tokens],
        "passes": [*ahead.passes],
    }


def recorded_forecast(record: Record, data: SeriesSet, series: int) -> np.ndarray:
    """The forecast that a record holds as text, or the median of its samples: (20, 2), scaled
    units."""
    return point_forecast(recorded_samples(record, data, series))


def recorded_samples(record: Record, data: SeriesSet, series: int) -> np.ndarray:
    """The samples that a record holds as texts, of a greedy forecast that one: (n_samples, 20, 2),
    scaled units."""
    return _read(record, data, series)[0]


def _read(record: Record, data: SeriesSet, series: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Sampled forecasts (n, 20, 2) of a series in scaled units, read from a record's texts, and
    each one's repairs."""
    entry = record.series[series]
    texts = entry["texts"] if "texts" in entry else [entry["text"]]
    return read_back(texts, data.contexts[series], record.protocol)


def _compare(record: Record, data: SeriesSet) -> None:
    """Raise ValueError where a record's errors are not those of its texts."""
    for series, entry in record.series.items():
        truth = to_integers(data.truths[[series]], data.scales[[series]], record.protocol.rounding)[
            0
        ]
        for key, value in _errors(*_read(record, data, series), truth).items():
            said: Any = entry.get(key, math.nan)
            if not math.isclose(said, value, rel_tol=1e-9, abs_tol=1e-9):
                raise ValueError(
                    f"series.{series}.{key}: it is {said}, but its text gives {value:g}"
                )


def _errors(samples: np.ndarray, repairs: Sequence[int], truth: np.ndarray) -> Any:
    """The errors that an entry holds, of sampled forecasts (n, 20, 2), and how many values were
    repaired."""
    errors = {"mae": float(series_mae(point_forecast(samples), truth))}
    if len(samples) > 1:
        errors["crps"] = crps_fair(samples, truth)
    return errors | {"repairs": sum(repairs)}
