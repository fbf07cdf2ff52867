"""From an experiment's name to a plan: what it declares, at the sizes of a profile, on these data.

Sizes are resolved here alone. A plan holds all that decides a run's numbers. Its class is in
`study.records`, because a record stores its plan.
"""

from dataclasses import dataclass, replace
from typing import Any

from m2lib.decoding import DECODE_VERSION, DecodeConfig
from m2lib.errors import InputError
from m2lib.model import backbone_id, weight_hash
from m2lib.series import CODEC_VERSION, FORECAST_STEPS, SeriesSet, split_ids
from m2lib.training import TrainConfig
from study.experiments import WHOLE_SPLIT, Experiment, experiment_named
from study.profiles import Profile, Sizes
from study.published import published_deciding_maes
from study.records import LearnsFrom, Plan, load_finished
from study.selections import ErrorsOf


def plan_run(name: str, profile: Profile, data: SeriesSet) -> Plan:
    """Plan a run: settle everything that decides its numbers.

    Raises InputError for an unknown name; if there is no finished record of an earlier run whose
    errors or adapter this one needs; and if the series that it should forecast are of another data
    set.
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
        training_series=experiment.training_series,
        start=start,
        start_adapter=load_finished(profile, start).adapter if start else "",
        protocol=protocol_at(experiment, profile),
        split=experiment.split,
        series=series_ids_of(experiment, profile, len(data), errors_of),
        codec_version=CODEC_VERSION,
        decode_version=DECODE_VERSION,
    )


def training_at(experiment: Experiment, profile: Profile) -> TrainConfig | None:
    """Return what an experiment trains with at a profile; None if it trains nothing."""
    if not experiment.training:
        return None
    settings = _settings_of(experiment, profile.train)
    if profile.most_steps:
        settings.setdefault("steps", min(profile.most_steps, experiment.training.steps))
    return replace(experiment.training, **settings)


def _settings_of(experiment: Experiment, sizes: Sizes) -> dict[str, Any]:
    """Return the settings that replace those of an experiment: of its kind, then of its name.

    For search/expt_0 they are those under `search`, and over these the ones under its whole name.
    """
    kind = experiment.name.split("/")[0]
    return {**sizes.get(kind, {}), **sizes.get(experiment.name, {})}


def trained_with(name: str, profile: Profile) -> TrainConfig:
    """Return the settings that the experiment of a name trains with at a profile.

    Raises InputError if it trains nothing.
    """
    training = training_at(experiment_named(name), profile)
    if not training:
        raise InputError(f"{name} trains nothing")
    return training


def protocol_at(experiment: Experiment, profile: Profile) -> DecodeConfig:
    """Return the settings with which an experiment forecasts at a profile.

    Raises InputError if these ask for another number of steps than the true values have.
    """
    protocol = replace(experiment.protocol, **_settings_of(experiment, profile.protocol))
    if protocol.steps != FORECAST_STEPS:
        raise InputError(
            f"{experiment.name} would forecast {protocol.steps} steps, but every series keeps back "
            f"{FORECAST_STEPS} to compare with; leave the protocol's steps at {FORECAST_STEPS}"
        )
    return protocol


def learns_from(experiment: Experiment) -> LearnsFrom:
    """Say which series an experiment trains on."""
    if not experiment.training:
        return "nothing"
    return "simulated series" if experiment.simulated_from_recipe else "the training split"


@dataclass(frozen=True)
class Watch:
    """What is evaluated while an experiment trains."""

    num_series: int
    """How many validation series are evaluated; 0: none is."""
    after: tuple[int, ...]
    """The training steps after which they are evaluated, besides at the start and at the end."""
    also_forecast: bool
    """Whether they are also forecast; otherwise only their loss is taken."""


def watch_at(experiment: Experiment, profile: Profile) -> Watch:
    """Return what is evaluated while an experiment trains at a profile.

    Milestones of the experiment take precedence over what the profile watches, but a profile that
    watches nothing evaluates nothing.
    """
    training = training_at(experiment, profile)
    steps = training.steps if training else 0
    if profile.watched and experiment.milestones:
        milestones = tuple(step for step in experiment.milestones if step < steps)
        return Watch(WHOLE_SPLIT, milestones, also_forecast=True)
    evaluation_steps = range(profile.evaluate_every, steps, profile.evaluate_every)
    return Watch(
        profile.watched, tuple(evaluation_steps), experiment.name in profile.watched_forecasts
    )


def earlier(experiment: Experiment, profile: Profile) -> tuple[str, ...]:
    """Return the experiments whose errors or adapters this one needs, so that they run first."""
    if profile.as_reported:  # the published errors have chosen, so only the adapter is needed
        start = start_of(experiment, published_deciding_maes)
        return (start,) if start else ()
    selecting_names = experiment.select.reads if experiment.select else ()
    adapter_names = experiment.adapter.names if experiment.adapter else ()
    return (*selecting_names, *adapter_names)


def errors_that_choose(profile: Profile, data: SeriesSet) -> ErrorsOf:
    """Return the function that gives the errors by which series and adapters are chosen.

    They are the report's own errors, or those of finished records.
    """
    if profile.as_reported:
        return published_deciding_maes
    return lambda name: load_finished(profile, name, data).maes()


def start_of(experiment: Experiment, errors_of: ErrorsOf) -> str:
    """Return the experiment whose adapter this one uses or trains further; empty: none."""
    return experiment.adapter.chosen(errors_of) if experiment.adapter else ""


def series_ids_of(
    experiment: Experiment, profile: Profile, n: int, errors_of: ErrorsOf
) -> tuple[int, ...]:
    """Return the ids of the series that an experiment forecasts, of a data set of n series.

    They ascend, but featured ones come first, so that they are among the first few that a profile
    keeps. Raises InputError if the errors are those of another data set's series.
    """
    if experiment.num_forecasts == 0:
        return ()
    ids = getattr(split_ids(n), experiment.split)
    if experiment.select:
        errors = [errors_of(name) for name in experiment.select.reads]
        chosen = experiment.select.rule(*errors)
        if not set(chosen) <= set(ids):  # published errors are those of the report's 1000 series
            raise InputError(
                f"{experiment.name} forecasts validation series that the report chose, which are "
                f"not among those of these {n} series; unset M2_DATA, or set M2_PROFILE=laptop"
            )
        ids = chosen
    # Keys of baseline, which features 94: (False, 94) for 94 sorts before (True, 19) for 19.
    featured_first = sorted(ids, key=lambda i: (i not in experiment.featured, i))
    return tuple(featured_first[: profile.most_series])
