"""From a declaration to a plan: sizes, series and what comes first, at a profile."""

from dataclasses import fields, replace
from types import SimpleNamespace

import pytest

from m2lib.decoding import DecodeConfig
from m2lib.errors import InputError
from m2lib.series import split_ids
from m2lib.training import TrainConfig
from study.experiments import EXPERIMENTS, Experiment
from study.plans import (
    Watch,
    earlier,
    plan_run,
    protocol_at,
    series_ids_of,
    trained_with,
    training_at,
    watch_at,
)
from study.profiles import PROFILES, Profile
from study.published import published_deciding_maes, published_maes
from study.selections import AdapterOf, Selection

AS_DECLARED = Profile("x", backbone="tiny")
"""A profile that replaces nothing."""
FIRST_FIVE = replace(AS_DECLARED, most_series=5)


OTHER_DECLARATIONS = {
    "protocol": DecodeConfig(context_tokens=64),
    "training": TrainConfig(steps=7, learning_rate=1e-3, rank=2),
    "training_series": 30,
    "simulated_from_recipe": True,
    "adapter": AdapterOf(("default",)),
    "split": "test",
    "select": Selection(lambda: [19], reads=(), count=1),
    "featured": (64,),
    "backbone": "small",
    "shuffled": True,
}
"""What `default-warm` does not declare: another value for each field that decides a number."""
DECIDE_NO_NUMBER = {"name", "about", "group", "milestones"}
"""The other fields: name and words, what is charged, and what is evaluated or kept on the way."""


@pytest.mark.parametrize("field", OTHER_DECLARATIONS)
def test_what_decides_a_number_is_in_the_plan(field, data, monkeypatch):
    monkeypatch.setattr("study.plans.load_finished", lambda *_: SimpleNamespace(adapter="a hash"))
    declared = EXPERIMENTS["default-warm"]
    plan = plan_run("default-warm", AS_DECLARED, data)

    changed = replace(declared, **{field: OTHER_DECLARATIONS[field]})
    monkeypatch.setitem(EXPERIMENTS, "default-warm", changed)
    assert plan.difference(plan_run("default-warm", AS_DECLARED, data))


def test_of_each_field_it_is_known_whether_it_decides_a_number():
    names = {field.name for field in fields(Experiment)}
    assert names == OTHER_DECLARATIONS.keys() | DECIDE_NO_NUMBER, (
        "put a new field into the plan (`plan_run`) and into OTHER_DECLARATIONS, or, if it decides "
        "no number of a run, into DECIDE_NO_NUMBER"
    )


def test_training_is_declared_as_published_and_sized_by_the_profile():
    at_report = trained_with("default", PROFILES["report"])
    assert at_report == TrainConfig(
        steps=5000, learning_rate=1e-5, rank=4, batch_size=2, sequence_length=512
    )
    at_laptop = trained_with("default", PROFILES["laptop"])
    assert at_laptop == replace(at_report, steps=200, learning_rate=1e-3)


def test_an_experiment_that_trains_nothing_has_no_training_settings():
    assert training_at(EXPERIMENTS["baseline"], PROFILES["laptop"]) is None
    with pytest.raises(InputError, match="baseline trains nothing"):
        trained_with("baseline", PROFILES["laptop"])


def test_a_profile_that_replaces_nothing_leaves_the_declaration():
    experiment = EXPERIMENTS["search/expt_3"]
    assert training_at(experiment, AS_DECLARED) == experiment.training


def test_a_profile_sizes_experiments_by_their_kind():
    experiment = EXPERIMENTS["search/expt_3"]
    sized = replace(
        AS_DECLARED, train={"search": {"steps": 7}}, protocol={"search": {"max_new_tokens": 60}}
    )
    assert training_at(experiment, sized).steps == 7
    assert protocol_at(experiment, sized) == replace(experiment.protocol, max_new_tokens=60)


def test_what_a_profile_says_of_a_name_stands_above_its_kind():
    experiment = EXPERIMENTS["search/expt_3"]
    sized = replace(AS_DECLARED, train={"search": {"steps": 7}, "search/expt_3": {"steps": 9}})
    assert training_at(experiment, sized) == replace(experiment.training, steps=9)


def test_a_forecast_is_as_long_as_the_true_values():
    experiment = EXPERIMENTS["search/expt_3"]
    shorter = replace(AS_DECLARED, protocol={"search": {"steps": 4}})
    said = "^search/expt_3 would forecast 4 steps, but every series keeps back 20 to compare with"
    with pytest.raises(InputError, match=said):
        protocol_at(experiment, shorter)


@pytest.mark.parametrize("settings_at", [training_at, protocol_at])
def test_a_misspelt_setting_is_refused(settings_at):
    sizes = {"default": {"step": 3}}
    misspelt = replace(AS_DECLARED, train=sizes, protocol=sizes)
    with pytest.raises((TypeError, ValueError), match="step"):
        settings_at(EXPERIMENTS["default"], misspelt)


@pytest.mark.parametrize(
    ("name", "profile", "watch"),
    [
        pytest.param(
            "final",
            "laptop",
            Watch(10, tuple(range(100, 2000, 100)), also_forecast=True),
            id="forecasts too where the profile asks for them",
        ),
        pytest.param(
            "trial/rank",
            "laptop",
            Watch(10, (100, 200), also_forecast=False),
            id="elsewhere the loss alone",
        ),
        pytest.param(
            "best",
            "slice",
            Watch(0, (), also_forecast=False),
            id="nothing where the profile watches nothing",
        ),
    ],
)
def test_what_is_evaluated_on_the_way(name, profile, watch):
    assert watch_at(EXPERIMENTS[name], PROFILES[profile]) == watch


def test_an_experiment_with_milestones_evaluates_the_whole_validation_split():
    watch = watch_at(EXPERIMENTS["best"], PROFILES["laptop"])
    assert watch.num_series == len(split_ids().validation)


def test_featured_series_come_first():
    baseline = EXPERIMENTS["baseline"]
    ids = series_ids_of(baseline, FIRST_FIVE, 1000, published_maes)
    assert ids == (94, 99, 141, 19, 59)


def test_an_experiment_that_chooses_no_series_forecasts_the_whole_split():
    baseline = EXPERIMENTS["baseline"]
    every = series_ids_of(baseline, AS_DECLARED, 1000, published_maes)
    assert sorted(every) == list(split_ids().validation)
    # Of 40 series there are only two to validate on.
    of_40 = series_ids_of(baseline, FIRST_FIVE, 40, published_maes)
    assert list(of_40) == list(split_ids(40).validation)


def test_the_series_that_published_errors_choose_are_the_reports():
    chosen = series_ids_of(EXPERIMENTS["default"], AS_DECLARED, 1000, published_maes)
    assert sorted(chosen) == list(published_maes("default"))


def test_series_that_the_report_chose_are_not_looked_for_in_other_data():
    message = "default forecasts validation series that the report chose, .* unset M2_DATA"
    with pytest.raises(InputError, match=message):
        series_ids_of(EXPERIMENTS["default"], PROFILES["fifth"], 100, published_maes)


def test_selections_ask_for_validation_results_only():
    for experiment in EXPERIMENTS.values():
        asked = []

        def errors_of(name, asked=asked):
            """Return made-up errors, and note whose were asked for."""
            asked.append(name)
            return {i: float(i % 7 + len(name)) for i in split_ids().validation}

        if experiment.adapter:
            assert experiment.adapter.chosen(errors_of) in experiment.adapter.names
        ids = series_ids_of(experiment, AS_DECLARED, 1000, errors_of)
        assert set(ids) <= set(getattr(split_ids(), experiment.split))
        for name in asked:
            assert EXPERIMENTS[name].split == "validation", experiment.name


def test_experiments_are_declared_in_the_order_that_they_need():
    order = list(EXPERIMENTS)
    for name, experiment in EXPERIMENTS.items():
        for needed in earlier(experiment, AS_DECLARED):
            assert order.index(needed) < order.index(name)


@pytest.mark.parametrize("profile", ["fifth", "report"])
def test_the_replication_waits_for_no_run_but_those_whose_adapters_it_needs(profile):
    """Its selections read published errors."""

    def needed_by(name):
        return earlier(EXPERIMENTS[name], PROFILES[profile])

    assert needed_by("default") == ()
    assert needed_by("context/128") == ()
    assert needed_by("default-rest") == ("default",)
    assert needed_by("search/second_0") == ("search/expt_7",)


@pytest.mark.parametrize("profile", ["fifth", "report"])
def test_the_replication_forecasts_the_reports_series(profile):
    search = EXPERIMENTS["search/expt_0"]
    ids = series_ids_of(search, PROFILES[profile], 1000, published_deciding_maes)
    assert ids == (278, 476, 559, 809, 911)
