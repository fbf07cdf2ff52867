from m2lib.series import summarise
from study.experiments import EXPERIMENTS
from study.plans import earlier, series_ids_of
from study.profiles import PROFILES
from study.rules import hard_and_easy, published_deciding_maes, published_maes, worst_5

FIVE = [278, 476, 559, 809, 911]


def test_reduced_validation_set_is_the_reports():
    baseline = published_maes("baseline")
    reduced = hard_and_easy(baseline)
    assert reduced == list(published_maes("default"))
    assert len(hard_and_easy({1: 5.0, 2: 1.0, 3: 2.0})) == 2


def test_the_reports_choices_come_out():
    """Its rules, replayed on its own errors."""
    assert worst_5(published_maes("default")) == FIVE
    second = [EXPERIMENTS[f"search/second_{place}"] for place in range(3)]
    assert {one.adapter.chosen(published_deciding_maes) for one in second} == {
        f"search/expt_{i}" for i in (6, 7, 8)
    }

    found = {
        f"search/expt_{i}": summarise(published_maes(f"search/expt_{i}").values())
        for i in (6, 7, 8)
    }
    assert min(found, key=lambda name: found[name].median) == "search/expt_6"
    # the mean would have chosen another
    assert min(found, key=lambda name: found[name].mean) == "search/expt_7"
    others = series_ids_of(second[0], PROFILES["report"], 1000, published_maes)
    assert len(others) == 15
    assert {*others, *FIVE} == set(published_maes("search/expt_6"))


def test_the_replication_forecasts_the_reports_series():
    """Its selections read published errors, and no other run has to come first."""
    for profile in (PROFILES["report"], PROFILES["fifth"]):
        for name in ("default", "context/128"):
            assert earlier(EXPERIMENTS[name], profile) == ()
        assert earlier(EXPERIMENTS["default-rest"], profile) == ("default",)
        assert earlier(EXPERIMENTS["search/second_0"], profile) == ("search/expt_7",)
        first = EXPERIMENTS["search/expt_0"]
        assert list(series_ids_of(first, profile, 1000, published_deciding_maes)) == FIVE
