"""What is to be run: all that decides a run's numbers, and which record they have already."""

from dataclasses import dataclass
from typing import Any

from m2lib import model
from m2lib.decoding import DECODE_VERSION
from m2lib.files import InputError
from m2lib.series import CODEC_VERSION, SeriesSet
from m2lib.study.experiments import Experiment, experiment_named, series_ids
from m2lib.study.profiles import Profile
from m2lib.study.records import Record, fingerprint, load_record, record_path
from m2lib.study.selection import deciding_errors


@dataclass(frozen=True)
class Plan:
    """What is to be run, before a model is loaded."""

    experiment: Experiment
    """With the profile's sizes."""
    profile: Profile
    data: SeriesSet
    ids: list[int]
    """The series to be forecast, in their order."""
    source: str | None
    """The experiment whose adapter is used."""
    decisive: dict[str, Any]
    """All that decides the run's numbers; records are told apart by its hash, so its form never changes."""

    @property
    def fingerprint(self) -> str:
        """Of the run's record."""
        return fingerprint(self.decisive)

    def load_backbone(self, dtype: str | None = None) -> model.Backbone:
        """The language model that the experiment starts from.

        dtype: of a run that goes on. Default: float32 where all weights train, else as `model.load_backbone` has it.
        """
        train = self.experiment.train
        dtype = dtype or ("float32" if train and not train["rank"] else None)
        backbone = model.load_backbone(self.experiment.backbone or self.profile.backbone, dtype=dtype)
        if self.experiment.shuffled:
            model.shuffle_weights(backbone.model)
        return backbone


def resolve(name: str, profile: Profile, data: SeriesSet) -> Plan:
    """Find out what is to be run, from the declaration, the profile, and the records of earlier experiments."""
    experiment = experiment_named(name).at(profile)
    decisive = {
        "settings": experiment.settings(profile),
        "series": profile.series,
        "weights": model.weight_hash(experiment.backbone or profile.backbone),
        "data": data.fingerprint,
        "version": [CODEC_VERSION, DECODE_VERSION],
    }
    errors_of = deciding_errors(profile, lambda earlier: load_record(profile, earlier, data).maes())
    ids = series_ids(experiment, profile.series, len(data), errors_of)
    source = experiment.adapter.chosen(errors_of) if experiment.adapter else None
    if source:
        decisive["adapter"] = load_record(profile, source).adapter
    return Plan(experiment, profile, data, ids, source, decisive)


def finished(plan: Plan) -> Record | None:
    """The record of this very run, if it is done."""
    record = stored(plan)
    return record if record and record.status == "done" else None


def stored(plan: Plan) -> Record | None:
    """The record of this very run, if it has begun.

    Raises InputError where there is one of another run, or one that cannot be read; at a live profile these do not
    count.
    """
    profile, name = plan.profile, plan.experiment.name
    path = record_path(profile, name)
    if not path.exists():
        return None
    try:
        record = load_record(profile, name, plan.data)
    except InputError:
        if profile.live:
            return None
        raise
    if record.fingerprint == plan.fingerprint:
        return record
    if profile.live:
        return None
    raise InputError(f"{path} is of other settings, weights, data, sizes or code; `m2 run {name} --fresh` replaces it")
