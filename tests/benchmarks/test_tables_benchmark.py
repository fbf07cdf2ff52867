"""The benchmark of real tables: its split, its references and its record.

(It is not called test_tables.py, because the forecaster's tests of tables are.)
"""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import tables
from benchmarks.sources import FEWEST_EARLIER, TABLES, Source
from benchmarks.tables import NAIVE, measured, record_tables
from study.paper.errors import REFERENCE, table_errors, table_summary


def source_of(values, name="steps", split="test", horizon=2, season=2, origins=1):
    """Return a source of one series."""
    return Source(name, split, horizon, season, origins, lambda: pd.Series(values))


def rows_of(path):
    """Return the rows of a record."""
    return json.loads(path.read_text(encoding="utf-8"))["rows"]


def best_of(errors):
    """Return the key of the smallest error."""
    return min(errors, key=errors.get)


# The sources.


def test_no_source_is_there_twice():
    names = {source.name for source in TABLES}
    assert len(names) == len(TABLES)


def test_each_source_is_for_choosing_or_for_judging_and_ten_or_more_judge():
    splits = [source.split for source in TABLES]
    assert set(splits) == {"validation", "test"}
    assert splits.count("test") >= 10


# The record.


def test_a_row_has_what_a_picture_shows():
    deciles = np.array([10.0, 13.0]) + np.arange(-4.0, 5.0)[:, None]  # (9, 2), one apart
    source = source_of(np.arange(12.0), split="validation")  # whose last two steps are forecast

    shown = measured(source, lambda contexts, horizon, season: [deciles])["shown"]

    assert shown["context"] == [2, 3, 4, 5, 6, 7, 8, 9]  # four horizons
    assert shown["truth"] == [10, 11]
    assert shown["deciles"][:2] == [6, 9]  # the lowest, of both steps


@pytest.fixture
def walk():
    """Return a random walk of 60 steps."""
    return np.random.default_rng(0).normal(size=60).cumsum()


@pytest.fixture
def recorded(tmp_path, monkeypatch, walk):
    """Record two sources; the statistical models are played by repetitions, which take no time."""

    def last_value(contexts, horizon, season):
        return [np.full((9, horizon), context[-1]) for context in contexts]

    def last_season(model, contexts, horizon, season):
        return [np.tile(context[-season:], (9, horizon // season)) for context in contexts]

    sources = [
        source_of(walk, name=name, horizon=4, season=2, origins=3) for name in ("one", "two")
    ]
    monkeypatch.setattr(tables, "TABLES", sources)
    monkeypatch.setattr(tables, "MODELS", {NAIVE: "SeasonalNaive"})
    monkeypatch.setattr(tables, "statsforecast_deciles", last_season)
    monkeypatch.setattr(tables, "_regression", last_value)
    path = tmp_path / "tables.json"
    record_tables(path, "test", [])
    return path


def test_each_source_has_a_row_of_each_forecaster(recorded):
    first_source = [(row["source"], row["forecaster"]) for row in rows_of(recorded)[:4]]
    assert first_source == [
        ("one", NAIVE),
        ("one", "nearest analogue"),
        ("one", "log-VAR(3)"),
        ("one", REFERENCE),
    ]


def test_what_is_recorded_is_not_measured_again(recorded, monkeypatch):
    before = rows_of(recorded)
    monkeypatch.setattr(tables, "measured", None)  # to call it would be an error
    record_tables(recorded, "test", [])
    assert rows_of(recorded) == before


def test_errors_are_in_units_of_the_reference(recorded):
    _, _, log_var, reference = rows_of(recorded)[:4]
    summary = table_summary(table_errors(recorded), "test")

    assert summary.loc[REFERENCE, "mase"] == 1
    assert summary.loc[REFERENCE, "loss"] == 1
    # Both sources hold the same series, so the ratio on one of them is that over both.
    ratio = np.mean(log_var["mase"]) / np.mean(reference["mase"])
    assert summary.loc["log-VAR(3)", "mase"] == pytest.approx(ratio)


def test_a_summary_has_both_errors_and_what_the_band_holds():
    columns = ("source", "split", "forecaster", "mase", "loss", "held")
    rows = [
        ("one", "test", REFERENCE, [2.0, 4.0], [1.0], [0.5]),
        ("one", "test", "ours", [0.5, 0.5, 3.5], [2.0], [0.0, 0.25, 0.95]),
        ("two", "test", REFERENCE, [1.0], [1.0], [0.5]),
        ("two", "test", "ours", [2.0], [8.0], [0.8]),
        ("three", "validation", REFERENCE, [1.0], [1.0], [0.5]),
        ("three", "validation", "ours", [9.0], [9.0], [0.9]),
    ]
    summary = table_summary(pd.DataFrame(rows, columns=columns), "test")

    # Ours is half and twice as large by MASE, and two and eight times as large by the loss.
    assert summary.loc["ours", "mase"] == pytest.approx(1)
    assert summary.loc["ours", "loss"] == pytest.approx(4)
    assert summary.loc["ours", "80% band holds"] == pytest.approx((0.4 + 0.8) / 2)


def test_one_forecaster_alone_leaves_the_others_as_they_were(tmp_path, monkeypatch, walk):
    def repeated(model, contexts, horizon, steps):
        return [np.resize(context[-steps:], (9, horizon)) for context in contexts]

    source = source_of(walk, name="one", horizon=4, season=2, origins=3)
    monkeypatch.setattr(tables, "TABLES", [source])
    monkeypatch.setattr(tables, "statsforecast_deciles", repeated)
    path = tmp_path / "tables.json"
    # If all forecasters were asked for, a row of other values would be measured anew.
    other = {
        "source": "one",
        "split": "test",
        "forecaster": "AutoARIMA",
        "values": "of another machine",
    }
    path.write_text(json.dumps({"rows": [other]}), encoding="utf-8")

    record_tables(path, "test", [], only=REFERENCE)

    kept, added = rows_of(path)
    assert kept == other
    assert added["forecaster"] == REFERENCE


# The reference of each source: the last value or the last period, repeated.


@pytest.fixture
def cycle():
    """Return twelve periods of five steps, with a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.1, 60)
    return np.tile([1.0, 4.0, 2.0, 8.0, 5.0], 12) + noise


def test_the_better_repetition_is_the_last_period_where_there_is_one(cycle):
    errors = tables.repetitions(source_of(cycle, season=5, horizon=5, origins=2))
    assert list(errors) == [1, 5]
    assert errors[5] < errors[1]


def test_a_reference_is_not_chosen_by_what_the_forecasts_are_judged_by(cycle):
    source = source_of(cycle, season=5, horizon=5, origins=2)
    judged = source.horizon * source.origins
    changed = cycle.copy()
    changed[-judged:] = 1000 + np.arange(10.0)  # something else altogether
    errors = tables.repetitions(source_of(changed, season=5, horizon=5, origins=2))
    assert errors == tables.repetitions(source)


def test_a_reference_is_chosen_by_three_forecasts_at_least_before_the_test(cycle):
    source = source_of(cycle, season=5, horizon=5, origins=2)
    cuts = source.earlier_cuts()
    assert len(cuts) == FEWEST_EARLIER

    ends = [len(context) + len(truth) for _, context, truth in cuts]
    assert max(ends) == len(cycle) - source.horizon * source.origins


def test_without_a_calendar_the_period_is_found_in_the_series():
    steps = np.arange(120)
    noise = np.random.default_rng(0).normal(0, 0.2, 120)
    cycle = 10 + 5 * np.sin(2 * np.pi * steps / 10) + noise
    errors = tables.repetitions(source_of(cycle, season=1, horizon=10, origins=2))
    assert best_of(errors) == 10


def test_where_there_is_no_period_the_last_value_is_repeated():
    growth = np.arange(120.0) ** 2
    errors = tables.repetitions(source_of(growth, season=1, horizon=5, origins=2))
    assert best_of(errors) == 1


@pytest.fixture(scope="module")
def committed():
    """Return the rows of the committed record, by source and forecaster."""
    return table_errors().set_index(["source", "forecaster"])


@pytest.mark.parametrize("source", TABLES, ids=lambda source: source.name)
def test_a_recorded_reference_is_the_better_of_two_before_the_test(committed, source):
    reference = committed.loc[source.name, REFERENCE]
    errors_before = reference["before"]
    repeats = int(reference["repeats"])
    assert str(repeats) == best_of(errors_before)
    assert "1" in errors_before

    if repeats == 1:
        assert reference["mase"] == pytest.approx(
            committed.loc[(source.name, "last value"), "mase"]
        )
    elif repeats == source.season:
        assert reference["mase"] == pytest.approx(committed.loc[(source.name, NAIVE), "mase"])
    else:
        # No calendar knows this period, so the forecaster that goes by it repeats the last value.
        assert source.season == 1
        last_value = committed.loc[(source.name, NAIVE), "mase"]
        assert np.mean(reference["mase"]) < np.mean(last_value)


def test_hares_and_lynxes_are_repeated_every_ten_years(committed):
    assert committed.loc[("hare and lynx", REFERENCE), "repeats"] == 10
