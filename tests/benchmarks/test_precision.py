"""Which forecasts depend on the dtype: records are compared with those of an earlier commit."""

import subprocess

import pytest

from benchmarks import precision
from m2lib.errors import InputError
from m2lib.files import ROOT, read_json


def record_of(dtype, texts, maes):
    """Return what is compared of a record, with series that are numbered from 0."""
    entries = [{"text": text, "mae": mae} for text, mae in zip(texts, maes, strict=True)]
    series = {str(number): entry for number, entry in enumerate(entries)}
    return {"dtype": dtype, "device": "cpu: a processor", "series": series}


def test_the_texts_that_differ_are_counted_over_the_series_of_both():
    before = record_of("bfloat16", ["1,2;", "3,4;", "5,6;"], [10.0, 20.0, 90.0])
    after = record_of("float32", ["1,2;", "3,5;"], [10.0, 40.0])

    row = precision.compared(before, after)

    assert row["of"] == 2
    assert row["differing"] == 1
    assert row["before"] == {
        "dtype": "bfloat16",
        "device": "cpu: a processor",
        "mean": 15.0,
        "median": 15.0,
    }
    assert row["after"]["mean"] == 25.0


def test_the_dtype_is_that_of_the_forecasts():
    record = record_of("bfloat16", ["1,2;"], [1.0]) | {"forecast_dtype": "float32"}
    assert precision.compared(record, record)["before"]["dtype"] == "float32"


def test_a_record_of_the_first_schema_names_its_dtype_elsewhere():
    first = record_of("", ["1,2;"], [1.0])
    del first["dtype"]
    first["backbone"] = {"dtype": "bfloat16"}
    assert precision.compared(first, first)["before"]["dtype"] == "bfloat16"


@pytest.fixture
def commit(tmp_path, monkeypatch):
    """Return the only commit of a checkout, whose file has changed since."""
    author = ("-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false")
    git = ["git", "-C", str(tmp_path), *author]
    path = tmp_path / "record.json"
    path.write_text('{"dtype": "bfloat16"}', encoding="utf-8")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "a record"]):
        subprocess.run([*git, *arguments], check=True)
    path.write_text('{"dtype": "float32"}', encoding="utf-8")
    monkeypatch.setattr(precision, "ROOT", tmp_path)
    return "HEAD"


def test_an_earlier_record_is_read_from_its_commit(commit, tmp_path):
    assert precision.earlier_record(tmp_path / "record.json", commit) == {"dtype": "bfloat16"}


def test_a_file_that_a_commit_does_not_have_is_none(commit, tmp_path):
    assert precision.earlier_record(tmp_path / "other.json", commit) is None


def test_a_commit_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="a shallow clone has no past"):
        precision.compare_records("0" * 40)


def test_records_are_the_committed_ones_wherever_results_are_written(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    known = ROOT / "report" / "results" / "precision.json"
    asked = []
    monkeypatch.setattr(precision, "earlier_record", lambda path, commit: asked.append(path))
    with pytest.raises(InputError, match="no record is of another dtype at any; a shallow"):
        precision.compare_records("any")
    assert asked
    assert all(path.is_relative_to(known.parent) for path in asked)
    assert read_json(known)["records"]
