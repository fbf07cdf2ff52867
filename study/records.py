"""The store of runs: a JSON file for each, which also tells where its numbers come from.

A record is validated as a whole when it is read. Before a new run replaces one, a copy is kept.
"""

import math
import shlex
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
from typing_extensions import TypedDict  # that of typing is refused by pydantic before Python 3.12

from m2lib.accounting import CONVENTIONS, sum_costs
from m2lib.decoding import DecodeConfig, Forecast, point_forecast, read_back
from m2lib.errors import InputError
from m2lib.files import check_folder, write_json
from m2lib.model import adapter_hash, backbone_id
from m2lib.series import SeriesSet, crps_fair, series_mae, to_integers
from m2lib.training import TrainConfig
from study.experiments import experiment_named
from study.profiles import PROFILES, Profile, profile_named
from study.settings import out_dir, results_dir

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
    """Values that were missing or unreadable, over all samples."""
    text: NotRequired[str]
    """What a greedy run wrote."""
    texts: NotRequired[list[str]]
    """What a sampled run wrote, one text a sample."""
    prompt_tokens: NonNegativeInt
    """Length of the prompt."""
    padded_tokens: NonNegativeInt
    """Length of the longest prompt in its batch, as in `m2lib.decoding.Forecast`."""
    new_tokens: NonNegativeInt | list[NonNegativeInt]
    """Tokens generated; a sampled run has a list over its samples."""
    passes: NonNegativeInt | list[NonNegativeInt]
    """Passes of one token after the prefill; a sampled run has a list over its samples."""


LearnsFrom = Literal["nothing", "the training split", "simulated series"]


@with_config(_STRICT)
@dataclass(frozen=True)
class Plan:
    """Everything that decides the numbers of a run: two runs of equal plans are the same run.

    It does not say what is evaluated while a run trains (`study.plans.Watch`), which decides the
    record's `evaluations` and their costs, and nothing else. Nor does it say where, when, in which
    dtype and in what batches a run is computed. These change the last digits of a number, and may
    turn a digit of a forecast.
    """

    name: str
    """The experiment's name."""
    profile: str
    """The profile's name."""
    backbone: str
    """The language model's name."""
    weights: str
    """A hash of the language model's weights."""
    shuffled: bool
    """Whether these weights are shuffled first."""
    data: str
    """The fingerprint of the data set."""
    training: TrainConfig | None
    """What it trains with; None: it trains nothing."""
    learns_from: LearnsFrom
    """Which series it trains on. *Simulated* ones are of the data set's recipe."""
    start: str
    """The experiment whose adapter it uses or trains further; empty: none."""
    start_adapter: str
    """A hash of that adapter's files."""
    protocol: DecodeConfig
    """How it forecasts. Its rounding is that of the training texts, too."""
    split: str
    """Whose series it forecasts, `validation` or `test`."""
    series: tuple[int, ...]
    """The ids of the series that it forecasts, in their order."""
    codec_version: int
    """The version of the codec."""
    decode_version: int
    """The version of the decoding."""
    training_series: int | None = None
    """On how many series of the training split it trains; None: on all of them. Records older than
    the field have none."""

    def difference(self, other: "Plan") -> str:
        """Name the first setting in which another plan differs; empty if none does."""
        return _difference(asdict(self), asdict(other))


def _difference(value: Any, other: Any, name: str = "") -> str:
    """Name the first setting in which two values differ: `training.steps is 9, not 5`."""
    if isinstance(value, dict) and isinstance(other, dict):
        for key in value:
            difference = _difference(value[key], other[key], f"{name}.{key}".lstrip("."))
            if difference:
                return difference
        return ""
    return "" if value == other else f"{name} is {value!s:.60}, not {other!s:.60}"


def _no_flops() -> dict[str, dict[str, int]]:
    """Return 0 for each kind of FLOPs in a record, under each convention."""
    return {kind: dict.fromkeys(CONVENTIONS, 0) for kind in (*SPENDING, "reserved")}


@with_config(_STRICT)
@dataclass
class Record:
    """One run, as it is stored.

    While a run goes on, its record says at every save what has been spent and, as `reserved`, what
    may still be: the budget counts both. Of a run that may cost 10 and has spent 4, for example,
    `flops["training"]["coursework"]` is 3, `flops["evaluation"]["coursework"]` 1, and
    `flops["reserved"]["coursework"]` 6. When it ends, nothing is reserved.
    """

    plan: Plan
    """All that decides its numbers."""
    dtype: str
    """The dtype in which it began: of its training, or where it trains nothing of its forecasts."""
    batch_size: int
    """How many texts were decoded together; if that was changed on the way, the last number."""
    forecast_dtype: str = ""
    """The dtype in which it forecast; empty: the same as `dtype`."""
    status: Literal["running", "done"] = "running"
    """`done` at its end; a run that was killed or stopped stays `running`."""
    seconds: Amount = 0.0
    """Wall time of the whole run."""
    train_seconds: Amount = 0.0
    """Wall time of its training, with the evaluations during it. If its steps are `taken_from` a
    longer run, it is that run's time in proportion, without evaluations."""
    evaluation_seconds: Amount = 0.0
    """Wall time of these evaluations; 0 in records older than the field."""
    device: str = ""
    """What it ran on; if it moved, the devices in their order, with semicolons between."""
    commit: str | None = None
    """The Git commit of the code when the run began; None if it is not known."""
    versions: dict[str, str] = field(default_factory=dict)
    """The versions of the libraries when the run began, by package."""
    adapter: str = ""
    """A hash of the files of the adapter that it trained, or used."""
    run: str = ""
    """A random name for the run's checkpoints, so that no other run takes them for its own; empty
    in records older than the field."""
    steps_run: NonNegativeInt = 0
    """How many training steps were computed. If the run was killed, those after its last checkpoint
    are not known."""
    taken_from: str = ""
    """The longer experiment whose run had computed its training steps already, at an equal and
    constant rate; they are charged to both, because the report's budget pays for each. Empty: it
    computed them itself, or trained nothing."""
    loss_curve: list[Amount] = field(default_factory=list)
    """Training loss of each step, nats a token."""
    evaluations: list[dict[str, NonNegativeInt | Amount]] = field(default_factory=list)
    """What was measured while it trained; each has its `step`."""
    series: dict[int, Entry] = field(default_factory=dict)
    """The forecasts by series id."""
    flops: dict[str, dict[str, NonNegativeInt]] = field(default_factory=_no_flops)
    """FLOPs by kind, then by convention: each kind in `SPENDING`, and those `reserved`. What the
    records that this one replaced had spent is `discarded`."""
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
        """What it trained with; None if it trained nothing."""
        return self.plan.training

    @property
    def protocol(self) -> DecodeConfig:
        """How its series were forecast."""
        return self.plan.protocol

    def maes(self) -> dict[int, float]:
        """Return the MAE by series id, in scaled units."""
        return {series_id: entry["mae"] for series_id, entry in self.series.items()}

    def spent(self) -> dict[str, int]:
        """Return the FLOPs spent on all kinds together, under each convention."""
        return sum_costs(*[self.flops[kind] for kind in SPENDING])

    @property
    def repairs(self) -> int:
        """How many values were repaired, over all series."""
        return sum(entry["repairs"] for entry in self.series.values())


_SCHEMA = TypeAdapter(Record)


def record_path(profile: Profile | str, name: str) -> Path:
    """Return where a run's record is.

    It is under `M2_OUT` for a live profile, else under `M2_RESULTS`, else in report/results.
    """
    profile = profile_named(profile)
    root = out_dir() / "results" if profile.live else results_dir()
    return root / f"{profile.name}-{backbone_id(profile.backbone)}" / f"{name}.json"


def adapter_path(profile: Profile | str, name: str) -> Path:
    """Return the folder of the adapter that an experiment trains, beside its record."""
    return record_path(profile, name).with_suffix("")


def run_command(profile: Profile | str, name: str) -> str:
    """Return the command that runs an experiment at a profile and on its backbone."""
    profile = profile_named(profile)
    variables = f"M2_PROFILE={profile.name}"
    usual = PROFILES.get(profile.name)
    if usual and profile.backbone != usual.backbone:
        variables += f" M2_BACKBONE={shlex.quote(profile.backbone)}"
    return f"{variables} python -m study run {name}"


def load_finished(profile: Profile | str, name: str, data: SeriesSet | None = None) -> Record:
    """Read the record of a run that came to its end.

    Raises InputError as `load_record` does, and for a run that has not come to its end.
    """
    record = load_record(profile, name, data)
    if record.status != "done":
        raise InputError(
            f"{record_path(profile, name)} is not finished; "
            f"`{run_command(profile, name)}` goes on with it"
        )
    return record


def is_finished(profile: Profile | str, name: str) -> bool:
    """Return whether an experiment has a record of a run that came to its end.

    Raises InputError for a record that cannot be read.
    """
    return record_path(profile, name).is_file() and load_record(profile, name).status == "done"


def load_record(profile: Profile | str, name: str, data: SeriesSet | None = None) -> Record:
    """Read a recorded run.

    profile: a Profile, or the name of one, on its own backbone. data: if these are the record's
    series, its errors are computed anew from its texts and compared. Raises InputError for an
    unknown name, and, naming the file and the field, if there is no record, if it is not valid or
    is of another name, profile or backbone, if it is finished but not complete, or if its errors
    are not those of its texts.
    """
    profile = profile_named(profile)
    path = record_path(profile, name)
    experiment = experiment_named(name)
    if not path.is_file():
        raise InputError(f"no record {path}; `{run_command(profile, name)}` makes it")
    try:
        record = _SCHEMA.validate_json(path.read_bytes())
        if record.name != name:
            raise ValueError(f"plan.name is {record.name!r}")
        if record.profile != profile.name:
            raise ValueError(f"plan.profile is {record.profile!r}")
        if record.plan.backbone != backbone_id(experiment.backbone or profile.backbone):
            raise ValueError(f"plan.backbone is {record.plan.backbone!r}")
        _check_flops(record)
        if record.status == "done":
            _check_complete(record)
        if data and record.plan.data == data.fingerprint:
            _compare(record, data)
    # Errors of pydantic, or of texts that are not of these series.
    except (ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())
        remedy = f"`{run_command(profile, name)} --fresh` replaces it"
        raise InputError(
            f"{path} is not a run record ({reason:.200}); restore it, or {remedy}"
        ) from error
    return record


def record_of(plan: Plan, profile: Profile, data: SeriesSet) -> Record | None:
    """Return the record of this very run, or None if it has not begun.

    Raises InputError if there is a record of another plan, or one that cannot be read; at a live
    profile such a record counts as none.
    """
    path = record_path(profile, plan.name)
    if not path.exists():
        return None
    try:
        record = load_record(profile, plan.name, data)
        difference = record.plan.difference(plan)
        if difference:
            raise InputError(
                f"{path} is of another run: its {difference}; "
                f"`{run_command(profile, plan.name)} --fresh` replaces it"
            )
    except InputError:
        if profile.live:
            return None
        raise
    return record


def finished_record_of(plan: Plan, profile: Profile, data: SeriesSet) -> Record | None:
    """Return the record of this very run, or None if it is not finished; raises as `record_of`."""
    record = record_of(plan, profile, data)
    return record if record and record.status == "done" else None


def has_trained_adapter(record: Record, profile: Profile) -> bool:
    """Return whether the training of a record is finished and its adapter is still in its folder.

    At rank 0 there is never an adapter, because all weights have trained, and they are not kept.
    """
    config = record.training
    if not config or not config.rank or len(record.loss_curve) < config.steps:
        return False
    # Of a run that was killed before it had saved its adapter, both hashes are empty.
    return (
        record.adapter != "" and adapter_hash(adapter_path(profile, record.name)) == record.adapter
    )


def check_start(plan: Plan, profile: Profile) -> None:
    """Raise InputError if the adapter of the earlier run, on which a run builds, is gone."""
    folder = adapter_path(profile, plan.start)
    if plan.start and adapter_hash(folder) != plan.start_adapter:
        raise InputError(
            f"{folder} is gone, or is not the adapter that its record names; "
            f"`{run_command(profile, plan.start)} --fresh` makes both anew"
        )


def save_record(profile: Profile | str, record: Record) -> None:
    """Write a record, whole or not at all; called at every checkpoint."""
    write_json(record_path(profile, record.name), asdict(record))


def keep_aside(path: Path) -> None:
    """Copy a record that a new run replaces, and its adapter, into `M2_OUT`, and say where.

    If the record has been moved away, its adapter alone is copied.
    """
    folder = out_dir() / "replaced" / time.strftime("%Y%m%d-%H%M%S")
    copy_path = folder / path.relative_to(results_dir())
    copy_path.parent.mkdir(parents=True, exist_ok=True)
    adapter = path.with_suffix("")
    if adapter.is_dir():
        shutil.copytree(adapter, copy_path.with_suffix(""), dirs_exist_ok=True)
    if path.exists():
        shutil.copy2(path, copy_path)
        tqdm.write(f"the earlier record is now {copy_path}")
    else:
        tqdm.write(f"the adapter of an earlier run is now {copy_path.with_suffix('')}")


@contextmanager
def hold(profile: Profile, name: str, wait: float = 1) -> Iterator[None]:
    """Lock a name, an experiment's or `budget`, so that no other process works on it meanwhile.

    However the process ends, the lock goes with it. Raises InputError if nothing can be written
    beside the record, or if another process still holds the lock after `wait` seconds.
    """
    path = record_path(profile, name)
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path.with_name(f".{path.stem}.lock")).acquire(timeout=wait):
            yield
    except Timeout as error:
        raise InputError(
            f"another process works on {name} in {path.parent}; wait for it, or stop it first"
        ) from error


def in_progress(profile: Profile, name: str) -> bool:
    """Return whether a process, this one or another, is running an experiment.

    Where nothing can be written, no lock can be tried, so an experiment may be running there.
    """
    try:
        with hold(profile, name):
            return False
    except InputError:
        return True


def entry_of(ahead: Forecast, truth: np.ndarray) -> Entry:
    """Return what a record keeps of a forecast.

    Text, tokens and passes are single values of one sample, and lists over several.
    """
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


def recorded_forecast(record: Record, data: SeriesSet, series_id: int) -> np.ndarray:
    """Read the forecast (20, 2) that a record holds as text, or take the median of its samples.

    It is in scaled units.
    """
    return point_forecast(recorded_samples(record, data, series_id))


def recorded_samples(record: Record, data: SeriesSet, series_id: int) -> np.ndarray:
    """Read the samples (n_samples, 20, 2) that a record holds as texts, in scaled units.

    A greedy forecast is its own only sample.
    """
    samples, _ = _read(record, data, series_id)
    return samples


def _read(record: Record, data: SeriesSet, series_id: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Read the samples (n, 20, 2) of a series from a record's texts, in scaled units.

    Returns them, and how many values of each were repaired. Raises InputError if these are other
    series than the record's.
    """
    if record.plan.data != data.fingerprint:
        raise InputError(
            f"the forecasts of {record.name} are of other series than {data.source}; unset M2_DATA"
        )
    entry = record.series[series_id]
    texts = entry["texts"] if "texts" in entry else [entry["text"]]
    return read_back(texts, data.contexts[series_id], record.protocol)


def _check_flops(record: Record) -> None:
    """Raise ValueError if a record lacks a kind of FLOPs or a convention, or has another."""
    if record.flops.keys() != {*SPENDING, "reserved"}:
        raise ValueError(f"flops: it has {', '.join(record.flops)}")
    for kind, costs in record.flops.items():
        if costs.keys() != {*CONVENTIONS}:
            raise ValueError(f"flops.{kind}: it has {', '.join(costs)}")


def _check_complete(record: Record) -> None:
    """Raise ValueError if a finished record lacks series of its plan, or training steps."""
    if record.series.keys() != set(record.plan.series):
        count = len(record.plan.series)
        raise ValueError(f"series: it is done, but has {len(record.series)} of {count}")
    steps = len(record.loss_curve)
    if record.training and steps != record.training.steps:
        raise ValueError(f"loss_curve: it is done, but has {steps} of {record.training.steps}")


def _compare(record: Record, data: SeriesSet) -> None:
    """Raise ValueError if a record's errors are not those of its texts, or if texts are missing."""
    rounding = record.protocol.rounding
    n_samples = record.protocol.n_samples
    for series_id, entry in record.series.items():
        truth = to_integers(data.truths[series_id], data.scales[series_id], rounding)
        samples, repairs = _read(record, data, series_id)
        if len(samples) != n_samples:
            raise ValueError(f"series.{series_id}: it has {len(samples)} texts, not {n_samples}")
        for key, value in _errors(samples, repairs, truth).items():
            recorded: Any = entry.get(key, math.nan)
            if not math.isclose(recorded, value, rel_tol=1e-9, abs_tol=1e-9):
                raise ValueError(
                    f"series.{series_id}.{key}: it is {recorded}, but its text gives {value:g}"
                )


def _errors(samples: np.ndarray, repairs: Sequence[int], truth: np.ndarray) -> Any:
    """Return the errors of samples (n, 20, 2) and the number of repairs, as an entry has them."""
    errors = {"mae": float(series_mae(point_forecast(samples), truth))}
    if len(samples) > 1:
        errors["crps"] = crps_fair(samples, truth)
    return errors | {"repairs": sum(repairs)}
