"""The benchmark of the textbook's series: its halves, its forecasts, and how it is recorded.

(It is not called test_textbook.py, because the tests of what reads its record are.)
"""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from benchmarks import sources, textbook
from benchmarks.sources import TABLES, TEXTBOOK, TextbookSource
from benchmarks.textbook import ENSEMBLE, ENSEMBLED, STATSFORECAST
from m2lib.errors import InputError
from m2lib.files import read_json
from m2lib.forecaster.adapters import GENERAL
from study.paper.textbook import CHOOSING, JUDGING, LAST_SEASON


def source_of(name="steps", values=None, horizon=2, season=2, origins=1, half=CHOOSING):
    """Return a source whose series are the columns of some values, or else one that grows by 1."""
    if values is None:
        values = np.arange(40.0)
    return TextbookSource(name, half, horizon, season, origins, lambda: pd.DataFrame(values))


# The two halves.


def test_the_halves_are_those_that_were_drawn():
    halves = sources.drawn_halves()
    lots = set()
    for source in TEXTBOOK:
        lot = sources.LOT_OF.get(source.name, source.name)
        assert source.split == halves[lot]
        lots.add(lot)
    assert lots == set(halves)


@pytest.mark.parametrize("frequency", sources.LOTS)
def test_half_of_each_frequency_judges(frequency):
    lots = sources.LOTS[frequency]
    halves = sources.drawn_halves()
    count = Counter(halves[lot] for lot in lots)
    assert count == {CHOOSING: len(lots) // 2, JUDGING: len(lots) // 2}


def test_what_was_read_before_does_not_judge():
    choosing = {source.name for source in textbook.sources_of(CHOOSING)}
    judging = {source.name for source in textbook.sources_of(JUDGING)}
    assert not choosing & judging
    assert {source.name for source in TABLES} <= choosing


def test_a_source_of_the_other_half_is_refused_by_name():
    with pytest.raises(InputError, match="no source prices is for choosing"):
        textbook.sources_of(CHOOSING, ["retail", "prices"])


# The series of a source.


@pytest.fixture
def walks():
    """Return forty random walks of 60 steps, which are more than are drawn."""
    rng = np.random.default_rng(0)
    return {f"walk {i}": rng.normal(size=60).cumsum() for i in range(40)}


def test_a_source_draws_some_of_its_many_series(walks):
    names = []
    for values in source_of(values=walks).series():
        (name,) = [name for name, walk in walks.items() if np.array_equal(walk, values)]
        names.append(name)

    assert len(names) == sources.MOST_DRAWN
    assert len(set(names)) == sources.MOST_DRAWN
    assert names != list(walks)[: sources.MOST_DRAWN]  # by lot, and not the first ones


def test_series_that_are_short_or_given_up_are_not_drawn(walks):
    noise = np.random.default_rng(1).normal(size=60)
    short = np.where(np.arange(60) < 40, np.nan, noise)
    given_up = np.where(np.arange(60) < 20, noise, 0.0)
    unfit = {"short": short, "given up": given_up}
    assert source_of(values=unfit).series() == []

    # Nor do they move what is drawn of the others.
    drawn = source_of(values=walks | unfit).series()
    without = source_of(values=walks).series()
    np.testing.assert_array_equal(drawn, without)


def test_a_series_may_rest_where_it_is_judged(walks):
    resting = {name: np.append(values[:-2], [1.0, 1.0]) for name, values in walks.items()}
    assert len(source_of(values=resting).series()) == sources.MOST_DRAWN


@pytest.mark.parametrize(("months", "drawn"), [(37, 0), (38, 1)])
def test_a_series_has_three_years_of_months_before_its_first_forecast(months, drawn):
    source = source_of(values=np.arange(float(months)), season=12)  # it forecasts the last two
    assert len(source.series()) == drawn


def test_the_textbook_has_these_series():
    pytest.importorskip("tsdata", reason="the extra `yardsticks` brings it")
    counts = {}
    for source in TEXTBOOK:
        for values in source.series():
            assert np.isfinite(values).all()
        if source.split == CHOOSING:
            counts[source.name] = len(source.series())

    assert counts == {
        "employment": 25,
        "retail": 25,
        "arrivals": 4,
        "tourism": 25,
        "exports": 25,
        "population": 25,
        "gasoline": 1,
        "pedestrians": 4,
    }


# The forecasts of a source.


@pytest.fixture
def three_series():
    """Return the values of three series, in columns."""
    return np.random.default_rng(0).normal(size=(40, 3))


def test_forecasts_know_their_series(three_series):
    cuts = textbook.cuts_of(source_of(values=three_series, origins=2))
    assert [number for number, _, _ in cuts] == [0, 0, 1, 1, 2, 2]
    for number, context, truth in cuts:
        known = np.append(context, truth)
        np.testing.assert_array_equal(known, three_series[: len(known), number])


def test_fewer_forecasts_are_taken_at_equal_distances(three_series):
    cuts = textbook.cuts_of(source_of(values=three_series, origins=2), most=2)
    assert [number for number, _, _ in cuts] == [0, 2]


@pytest.mark.parametrize(
    ("model", "weeks", "told"),
    [
        pytest.param("AutoETS", 300, 1, id="longer than exponential smoothing knows"),
        pytest.param("AutoTheta", 300, 52, id="any length"),
        pytest.param("AutoARIMA", 500, 52, id="a series short enough for ARIMA"),
        pytest.param("AutoARIMA", 501, 1, id="a series too long for ARIMA"),
    ],
)
def test_the_weeks_of_a_year_are_told_to_the_models_that_can_use_them(
    monkeypatch, model, weeks, told
):
    seasons = []

    def deciles(model, contexts, horizon, season):
        seasons.append(season)
        return contexts

    monkeypatch.setattr(textbook, "statsforecast_deciles", deciles)
    textbook.statistical(model, [(0, np.ones(weeks), np.ones(2))], 2, 52)
    assert seasons == [told]


def test_the_ensemble_is_the_median_of_three(monkeypatch):
    level_of = {
        "last value": 1.0,
        LAST_SEASON: 5.0,
        "AutoETS": 2.0,
        "AutoTheta": 100.0,
        "AutoARIMA": 50.0,
    }
    name_of = {model: name for name, model in STATSFORECAST.items()}

    def statistical(model, cuts, horizon, season):
        return [np.full((9, horizon), level_of[name_of[model]]) for _ in cuts]

    def score(cuts, season, deciles):
        return {"forecast": float(deciles[0][0, 0])}

    monkeypatch.setattr(textbook, "_compile", lambda: None)
    monkeypatch.setattr(textbook, "statistical", statistical)
    monkeypatch.setattr(textbook, "score", score)

    rows = textbook.statistical_rows(source_of())

    assert set(ENSEMBLED) == {"AutoETS", "AutoTheta", "AutoARIMA"}
    assert rows[ENSEMBLE]["forecast"] == 50.0


# The record.


def row_of(source, forecaster, errors):
    """Return a row with the errors of two series."""
    return {
        "source": source,
        "forecaster": forecaster,
        "series": [0, 1],
        "mase": errors,
        "held": [0.8, 0.8],
        "seconds": 1.0,
    }


@pytest.fixture
def measured(monkeypatch):
    """Let forecasters take no time, and return the list of what they are asked for.

    A source that is called `broken` stops them.
    """
    asked = []

    def statistical_rows(source):
        asked.append(source.name)
        if source.name == "broken":
            raise KeyboardInterrupt
        names = (*STATSFORECAST, ENSEMBLE)
        return {name: row_of(source.name, name, [1.0, 2.0]) for name in names}

    def language_row(name, source, cuts):
        asked.append(f"{name} on {source.name}")
        return row_of(source.name, name, [1.0, 1.0])

    monkeypatch.setattr(textbook, "TABLES", ())
    monkeypatch.setattr(textbook, "statistical_rows", statistical_rows)
    monkeypatch.setattr(textbook, "language_row", language_row)
    monkeypatch.setattr(textbook, "forecaster_of", lambda name: name)
    monkeypatch.setattr(textbook, "model_key", lambda name: {"adapter": name})
    return asked


@pytest.fixture
def stopped_record(tmp_path, monkeypatch, measured):
    """Record two sources of which the second one breaks, and return the path of the record."""
    path = tmp_path / "textbook.json"
    monkeypatch.setattr(textbook, "TEXTBOOK", [source_of("whole"), source_of("broken")])
    with pytest.raises(KeyboardInterrupt):
        textbook.record_half(path, CHOOSING, [GENERAL])
    return path


def test_a_stopped_record_goes_on_after_its_last_source(stopped_record, measured, monkeypatch):
    monkeypatch.setattr(textbook, "TEXTBOOK", [source_of("whole"), source_of("next")])
    measured.clear()

    textbook.record_half(stopped_record, CHOOSING, [GENERAL])

    assert measured == ["next", "general on next"]
    rows_of_a_source = len(STATSFORECAST) + 2  # the ensemble and the language model beside them
    assert len(read_json(stopped_record)["rows"]) == 2 * rows_of_a_source


def test_of_other_weights_the_language_model_alone_is_measured_anew(
    stopped_record, measured, monkeypatch
):
    before = read_json(stopped_record)["rows"]
    monkeypatch.setattr(textbook, "TEXTBOOK", [source_of("whole")])
    monkeypatch.setattr(textbook, "model_key", lambda name: {"adapter": "another"})
    measured.clear()

    textbook.record_half(stopped_record, CHOOSING, [GENERAL])

    assert measured == ["general on whole"]
    assert len(read_json(stopped_record)["rows"]) == len(before)  # its row was replaced


def test_without_being_told_so_the_half_for_judging_is_not_read(tmp_path, monkeypatch, measured):
    def read():
        raise AssertionError("the half for judging was read")

    kept_back = TextbookSource("kept back", JUDGING, horizon=2, season=2, origins=1, load=read)
    monkeypatch.setattr(textbook, "TEXTBOOK", [source_of("open"), kept_back])

    textbook.record_half(tmp_path / "textbook.json", CHOOSING, [])

    assert measured == ["open"]
