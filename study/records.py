"""The store of runs: one JSON file a run, with all that is needed to tell where its numbers come
from.

A record is validated as a whole when it is read. Before one is run afresh, a copy is kept aside.
"""

import json
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
from m2lib.files import ROOT, InputError, read_json, short_hash, write_json
from m2lib.model import backbone_id
from m2lib.series import SeriesSet, crps_fair, series_mae, to_integers
from m2lib.settings import out_dir
from study.profiles import Profile, profile_named
from study.settings import results_dir

SPENDING = ("training", "evaluation", "forecasts", "discarded")
YARDSTICKS = "yardsticks.json"
"""Beside the runs: forecasters with and without a language model, on the study's series and on
other worlds, as `python -m benchmarks.yardsticks` measured them."""
STATISTICAL = ("AutoARIMA", "AutoETS", "AutoTheta")
ORDER = 9
"""Of the orders from 1 to 10, that with which log-VAR has the lowest mean error on the validation
series."""
TUNED = f"log-VAR({ORDER}), its order chosen on validation"

_STRICT = ConfigDict(extra="forbid", strict=True)
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@with_config(_STRICT)
class Entry(TypedDict):
    """What a record keeps of the forecast of one series."""

    mae: Amount
    """Of the forecast, or of the median of its samples; scaled units."""
    crps: NotRequired[Amount]
    """Of sampled forecasts: fair, scaled units."""
    repairs: NonNegativeInt
    text: NotRequired[str]
    """What a greedy run wrote."""
    texts: NotRequired[list[str]]
    """What the samples of a sampled run are."""
    prompt_tokens: NonNegativeInt
    padded_tokens: NonNegativeInt
    new_tokens: NonNegativeInt | list[NonNegativeInt]
    passes: NonNegativeInt | list[NonNegativeInt]


@with_config(_STRICT)
@dataclass
class Record:
    """One run, as it is stored.

    While a run goes on, its record says at every save what has been spent and, as `reserved`, what
    may still be: the budget counts both. A run that may cost 10 and has spent 4, for example:
    `{"training": 3, "evaluation": 1, "forecasts": 0, "discarded": 0, "reserved": 6}` under each
    convention. When it ends, nothing is reserved.
    """

    name: str
    """The experiment's."""
    profile: str
    fingerprint: str
    """A hash of all that decides the numbers: settings, sizes, weights, data, versions; not of
    where or when it ran."""
    config: dict[str, Any]
    """The experiment's settings, as `Experiment.settings` gives them."""
    backbone: dict[str, str]
    """Its id, weight hash and dtype."""
    data: dict[str, Any]
    """The data set's fingerprint, and how many series it has."""
    batch_size: int
    """Texts decoded together."""
    forecast_dtype: str = ""
    """In which it forecast; empty, also in records older than the field: in the dtype of
    `backbone`."""
    seed: int = 0
    """Of the training."""
    status: Literal["running", "done"] = "running"
    """Of a run that was killed or stopped it stays `running`."""
    seconds: Amount = 0.0
    """Wall time of all."""
    train_seconds: Amount = 0.0
    """Wall time of training with its evaluations."""
    evaluation_seconds: Amount = 0.0
    """Wall time of these evaluations; 0 in records older than the field."""
    device: str = ""
    """What it ran on; several, in their order, are parted by a semicolon."""
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    """Every setting of the training, defaults included."""
    adapter: str = ""
    """A hash of the adapter's files, trained or used."""
    run: str = ""
    """What the run's checkpoints are filed under: drawn when the run begins, so that no other run
    takes them for its own. Empty in records older than the field."""
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
    schema: Literal[1] = 1

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
    def protocol(self) -> DecodeConfig:
        """How its series were forecast."""
        return DecodeConfig(**self.config["decode"])

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
            raise ValueError(f"its name is {record.name!r}")
        if data and record.data.get("fingerprint") == data.fingerprint:
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


def recorded_rows(where: str) -> dict[str, dict[str, Any]]:
    """The recorded rows of a set, by forecaster: of `M2_RESULTS` where it holds such a record, else
    the committed ones.

    A row holds `seconds` of one core and executed `flops`, each a series, and `maes` in scaled
    units by series id. Where its flops are a `bound`, `at least` or `at most`, they are not the
    number itself: of a fit only the right-hand sides are counted, and a statistical model is
    charged what a core computes at most in its seconds. Of a language model there are its FLOPs by
    the rules too (`coursework`), and a hash of its `adapter`'s files.
    """
    own = results_dir() / YARDSTICKS
    path = own if own.exists() else ROOT / "report" / "results" / YARDSTICKS
    rows = [row for row in read_json(path)["rows"] if row["set"] == where]
    return {
        row["forecaster"]: row | {"maes": {int(i): mae for i, mae in row["maes"].items()}}
        for row in rows
    }


def recorded_yardsticks(where: str) -> dict[str, dict[int, float]]:
    """The recorded errors of every forecaster on a set: MAE by series id, by name."""
    return {name: row["maes"] for name, row in recorded_rows(where).items()}


def fingerprint(decisive: Any) -> str:
    """16 hex digits of a hash of a JSON-like value; tuples count as lists."""
    return short_hash(json.dumps(decisive, sort_keys=True).encode())


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
