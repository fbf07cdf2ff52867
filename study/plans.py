"""From an experiment's name to a plan: what it declares, at the sizes of a profile, on these data.

Nothing else resolves an experiment: who has a plan has all that decides the run's numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from m2lib.decoding import DECODE_VERSION, DecodeConfig
from m2lib.files import InputError
from m2lib.model import backbone_id, weight_hash
from m2lib.series import CODEC_VERSION, SeriesSet, split_ids
from m2lib.training import TrainConfig
from study.experiments import Experiment, experiment_named
from study.profiles import Profile
from study.records import LearnsFrom, Plan, load_record
from study.rules import Maes, chosen_by


def plan(name: str, profile: Profile, data: SeriesSet) -> Plan:
    """Plan a run: everything that decides its numbers.

    Raises InputError for an unknown name, and where an earlier run that decides about this one has
    no record.
    """
    experiment = experiment_named(name)
    errors_of = errors_that_choose(profile, data)
    start = start_of(experiment, errors_of)
    weights = experiment.backbone or profile.backbone
    return Plan(
        name=name,
        profile=profile.name,
        backbone=backbone_id(weights),
        weights=weight_hash(weights),
        shuffled=experiment.shuffled,
        data=data.fingerprint,
        training=training_at(experiment, profile),
        learns_from=learns_from(experiment),
        text_format=experiment.synthetic,
        without=experiment.without,
        pairs=experiment.pairs,
        start=start,
        start_adapter=load_record(profile, start).adapter if start else "",
        protocol=protocol_at(experiment, profile),
        split=experiment.split,
        series=series_of(experiment, profile, len(data), errors_of),
        codec_version=CODEC_VERSION,
        decode_version=DECODE_VERSION,
    )


def training_at(experiment: Experiment, profile: Profile) -> TrainConfig | None:
    """What an experiment trains with at a profile; None where it trains nothing."""
    if not experiment.training:
        return None
    return replace(experiment.training, **profile.replaces(profile.train, experiment.name))


def trained_with(name: str, profile: Profile) -> TrainConfig:
    """The same by an experiment's name; InputError where it trains nothing."""
    training = training_at(experiment_named(name), profile)
    if not training:
        raise InputError(f"{name} trains nothing")
    return training


def protocol_at(experiment: Experiment, profile: Profile) -> DecodeConfig:
    """How an experiment forecasts at a profile."""
    return replace(experiment.protocol, **profile.replaces(profile.protocol, experiment.name))


def learns_from(experiment: Experiment) -> LearnsFrom:
    """Which series an experiment trains on."""
    if not experiment.training:
        return "nothing"
    if experiment.synthetic:
        return "synthetic series"
    return "simulated series" if experiment.simulated else "the training split"


@dataclass(frozen=True)
class Watch:
    """What is evaluated while an experiment trains."""

    series: int
    """How many validation series; 0: nothing is."""
    after: tuple[int, ...]
    """The training steps after which they are, beside the start and the end."""
    forecasts: bool
    """Whether they are also forecast, or only their loss is taken."""


def watch_at(experiment: Experiment, profile: Profile) -> Watch:
    """What a profile evaluates while the experiment trains."""
    training = training_at(experiment, profile)
    steps = training.steps if training else 0
    if profile.watched and (experiment.milestones or experiment.synthetic):
        milestones = tuple(step for step in experiment.milestones if step < steps)
        whole_split = len(split_ids().validation)
        return Watch(whole_split, milestones, forecasts=not experiment.synthetic)
    after = range(profile.evaluate_every, steps, profile.evaluate_every)
    return Watch(profile.watched, tuple(after), experiment.name in profile.watched_forecasts)


def earlier(experiment: Experiment, profile: Profile) -> tuple[str, ...]:
    """The experiments whose results decide the series and the adapter of this one."""
    if profile.as_reported:  # the published errors have chosen, and only an adapter is needed
        start = start_of(experiment, chosen_by)
        return (start,) if start else ()
    read = experiment.select.reads if experiment.select else ()
    adapters = experiment.adapter.names if experiment.adapter else ()
    return (*read, *adapters)


def errors_that_choose(profile: Profile, data: SeriesSet) -> Callable[[str], Maes]:
    """The errors by which series and adapters are chosen: the report's own, or the records'."""
    if profile.as_reported:
        return chosen_by
    return lambda name: load_record(profile, name, data).maes()


def start_of(experiment: Experiment, errors_of: Callable[[str], Maes]) -> str:
    """The experiment whose adapter this one uses, or trains on; empty: none."""
    return experiment.adapter.chosen(errors_of) if experiment.adapter else ""


def series_of(
    experiment: Experiment, profile: Profile, n: int, errors_of: Callable[[str], Maes]
) -> tuple[int, ...]:
    """The ids that an experiment forecasts of n series, featured ones first, in their order."""
    if not experiment.forecasts:
        return ()
    ids = getattr(split_ids(n), experiment.split)
    if experiment.select:
        ids = experiment.select.rule(*map(errors_of, experiment.select.reads))
    featured_first = sorted(ids, key=lambda i: (i not in experiment.featured, i))
    return tuple(featured_first[: profile.series])
