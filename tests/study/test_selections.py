"""Series and adapters are chosen by errors: by those of the report, as the report chose."""

from m2lib.series import summarise
from study.experiments import EXPERIMENTS
from study.plans import series_ids_of
from study.profiles import PROFILES
from study.published import published_deciding_maes, published_maes
from study.selections import hard_and_easy

HARDEST_FIVE = [278, 476, 559, 809, 911]
"""The series on which the report's search compares its settings."""
BEST_THREE = ("search/expt_6", "search/expt_7", "search/expt_8")
"""The settings that went on to its second round."""


def test_the_reduced_validation_set_is_the_reports():
    reduced = hard_and_easy(published_maes("baseline"))
    assert reduced == list(published_maes("default"))


def test_a_few_series_are_reduced_in_proportion():
    assert len(hard_and_easy({1: 5.0, 2: 1.0, 3: 2.0})) == 2


def test_the_second_round_takes_the_adapters_that_the_report_took():
    second_round = [EXPERIMENTS[f"search/second_{place}"] for place in range(3)]
    adapters = {one.adapter.chosen(published_deciding_maes) for one in second_round}
    assert adapters == set(BEST_THREE)


def test_the_report_chose_by_the_median():
    errors = {name: summarise(published_maes(name).values()) for name in BEST_THREE}
    assert min(errors, key=lambda name: errors[name].median) == "search/expt_6"
    # The mean would have chosen another.
    assert min(errors, key=lambda name: errors[name].mean) == "search/expt_7"


def test_the_second_round_is_on_the_reports_15_other_hard_series():
    second = EXPERIMENTS["search/second_0"]
    others = series_ids_of(second, PROFILES["report"], 1000, published_maes)
    assert len(others) == 15
    assert {*others, *HARDEST_FIVE} == set(published_maes("search/expt_6"))
