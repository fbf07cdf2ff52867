"""The table of all errors, against the records that it is made of."""

import pandas as pd
import pytest

from m2lib.errors import InputError
from m2lib.files import read_json, write_json
from study import (
    PROFILES,
    REPLICATION,
    SEARCH,
    SECOND,
    load_record,
    published_maes,
    record_path,
    recorded_rows,
    recorded_yardsticks,
)
from study.paper import errors
from study.paper.numbers import PUBLISHED
from study.worlds import WORLDS

LAPTOP = PROFILES["laptop"]


@pytest.fixture(scope="module")
def table(sampled_record):
    """Return the table of errors with one record of ours in it."""
    return errors.error_table({"final-sampled": sampled_record})


def test_a_row_is_a_forecast_of_a_series(table, sampled_record):
    assert list(table) == ["who", "experiment", "split", "series", "mae"]

    ours = table[table["who"] == "ours"]
    assert len(ours) == 50
    assert set(ours["split"]) == {"test"}
    assert dict(zip(ours["series"], ours["mae"], strict=True)) == sampled_record.maes()


def test_runs_are_ours_the_reports_and_those_of_the_yardsticks(table, sampled_record):
    runs = errors.runs(table)

    assert runs["ours", "final-sampled"].to_dict() == sampled_record.maes()
    assert runs["published", "final"].to_dict() == published_maes("final")
    for where in ("validation", "test", *WORLDS):
        for name, row in recorded_rows(where).items():
            assert runs[where, name].to_dict() == row["maes"]


def test_no_two_forecasters_share_a_name_in_figures():
    names = [*recorded_rows("test"), *PUBLISHED]
    assert len({errors.short(name) for name in names}) == len(names)


def test_recorded_runs_are_those_of_the_table(table):
    assert errors.recorded_runs(LAPTOP, "final-sampled").keys() == errors.runs(table).keys()


def test_what_asks_an_adapter_again_counts_to_its_training():
    runs = errors.recorded_runs(REPLICATION["fifth"], *SEARCH, *SECOND)

    # Five series in the first round and 15 in the second, which only the last three of the settings
    # have reached.
    for who in ("ours", "published"):
        asked_about_20 = [name for name in SEARCH if len(runs[who, name]) == 20]
        assert asked_about_20 == list(SEARCH[6:])
    assert ("ours", SECOND[0]) not in runs


def test_an_unfinished_record_is_no_result(tmp_path, monkeypatch):
    record = read_json(record_path("laptop", "final"))
    record["status"] = "running"
    write_json(tmp_path / "laptop-smollm2-135m" / "final.json", record)
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))

    message = r"final\.json is not finished; `M2_PROFILE=laptop python -m study run final` goes on"
    with pytest.raises(InputError, match=message):
        errors.finished_record(LAPTOP, "final")


def test_without_yardsticks_there_is_no_table(tmp_path, monkeypatch):
    write_json(tmp_path / "yardsticks.json", {"rows": []})
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    with pytest.raises(InputError, match="no yardstick has forecast validation; `python -m bench"):
        errors.error_table({})


def test_the_active_profile_is_shown_where_it_keeps_records(monkeypatch):
    assert errors.shown_profile() == LAPTOP  # that of the tests, `slice`, keeps none

    monkeypatch.setenv("M2_PROFILE", "report")
    assert errors.shown_profile().name == "report"


def test_the_untuned_model_is_decoded_as_the_final_one():
    assert errors.untuned_like_final(LAPTOP).protocol == load_record("laptop", "final").protocol


def test_worlds_hold_only_who_forecast_all_of_them():
    table = errors.error_table({})
    newcomer = table[table["who"] == "as trained"].assign(experiment="a newcomer")

    by_world = errors.by_world(pd.concat([table, newcomer]), "median")

    assert list(by_world.index) == list(WORLDS)
    for world in WORLDS:
        assert list(by_world) == [errors.short(name) for name in recorded_yardsticks(world)]
