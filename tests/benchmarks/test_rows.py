"""Rows of a benchmark's record: what is recorded stays, and what is measured anew replaces it."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import rows
from m2lib.errors import InputError
from m2lib.files import read_json


def row_of(source, forecaster, error=1.0):
    """Return a row as a benchmark measures it."""
    return {"source": source, "forecaster": forecaster, "mase": [error], "seconds": 0.1}


def source_of(name, values=(1.0, 2.0)):
    """Return a source with a single series."""
    return SimpleNamespace(name=name, series=lambda: [np.array(values)])


def test_a_new_row_replaces_that_of_the_same_source_and_forecaster_alone():
    kept = [row_of("bricks", "AutoETS"), row_of("beer", "general")]
    new = row_of("bricks", "general", error=0.5)
    assert rows.replaced([*kept, row_of("bricks", "general")], [new]) == [*kept, new]


def test_a_record_is_written_after_each_source(tmp_path):
    path = tmp_path / "record.json"

    def new_rows(source, recorded):
        if source.name == "beer":
            raise KeyboardInterrupt
        return [row_of(source.name, "general")]

    with pytest.raises(KeyboardInterrupt):
        rows.record_sources(path, [source_of("bricks"), source_of("beer")], new_rows)

    assert rows.recorded_rows(path) == [row_of("bricks", "general")]
    assert read_json(path)["device"].startswith("cpu: ")


def test_a_record_with_nothing_new_is_not_written_again(tmp_path):
    path = tmp_path / "record.json"
    rows.write_rows(path, [], [row_of("bricks", "general")])
    before = path.stat().st_mtime_ns
    rows.record_sources(path, [source_of("bricks")], lambda source, recorded: [])
    assert path.stat().st_mtime_ns == before


def test_a_row_has_its_key_if_all_fields_of_it_are_the_same():
    recorded = [row_of("bricks", "general") | {"dtype": "int8"}]
    assert rows.has_all(recorded, [{"source": "bricks", "dtype": "int8"}])
    assert not rows.has_all(recorded, [{"source": "bricks", "dtype": "float32"}])
    assert not rows.has_all(recorded, [{"source": "bricks"}, {"source": "beer"}])


def test_a_row_of_several_views_is_not_that_of_the_plain_one():
    views = [{"steps": 60, "season": True, "trend": True}]
    recorded = row_of("bricks", "general") | {"views": views}
    assert rows.is_of(recorded, {"source": "bricks", "views": views})
    assert not rows.is_of(recorded, {"source": "bricks"})


def test_a_source_whose_values_change_is_another_place():
    before = rows.place_of(source_of("bricks"), "judging")
    after = rows.place_of(source_of("bricks", values=(1.0, 2.5)), "judging")
    assert before.pop("values") != after.pop("values")
    assert before == after == {"source": "bricks", "split": "judging"}


def test_sources_come_in_the_order_in_which_they_are_named():
    sources = [source_of("bricks"), source_of("beer"), source_of("cement")]
    assert rows.named(sources, ["cement", "bricks"], "judging") == [sources[2], sources[0]]
    assert rows.named(sources, [], "judging") == sources


def test_a_source_that_there_is_not_is_refused_by_name():
    with pytest.raises(InputError, match="no source wine is for judging; there are bricks; beer"):
        rows.named([source_of("bricks"), source_of("beer")], ["wine"], "judging")


def test_without_both_forecasters_there_is_no_summary(capsys):
    rows.show([row_of("bricks", "general")], reference="last season", ours="general")
    assert capsys.readouterr().out == (
        "no summary, because it wants rows of last season and general\n"
    )


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        pytest.param(InputError("the file is gone"), "error: the file is gone", id="an input"),
        pytest.param(
            ModuleNotFoundError("No module named 'tsdata'"),
            "error: No module named 'tsdata'; "
            "`pip install -c constraints.txt -e '.[yardsticks]'` brings what benchmarks need",
            id="a package that is not installed",
        ),
    ],
)
def test_an_error_that_a_user_can_mend_ends_the_program_in_one_line(fault, line):
    with pytest.raises(SystemExit) as ended, rows.one_line():
        raise fault
    assert ended.value.code == line
