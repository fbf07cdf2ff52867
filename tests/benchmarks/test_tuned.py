"""Fine-tuning measured on tables: what is recorded of the same table is not measured again."""

from dataclasses import asdict

import pytest

from benchmarks import tuned
from m2lib.files import read_json, short_hash, write_json
from m2lib.forecaster.adapters import GENERAL_FOLDER, adapter_weights_hash, read_format
from m2lib.forecaster.views import PLAIN

OPTIONS = {"horizon": 4, "leave_out": 2}
SETTINGS = OPTIONS | {"finetune": 20}


@pytest.fixture
def table(tmp_path):
    """Return a table's file."""
    path = tmp_path / "table.csv"
    path.write_text("y\n1\n2\n", encoding="utf-8")
    return path


@pytest.fixture
def commands(monkeypatch):
    """Return the list of the `m2` commands that are run, which do nothing here."""
    run = []
    monkeypatch.setattr(tuned, "main", lambda command: run.append(command) or 0)
    return run


@pytest.fixture
def record(tmp_path, table):
    """Return the file of a record of the table, after 20 steps of training."""
    path = tmp_path / "record.json"
    known = {
        "settings": SETTINGS,
        "table": {"sha256": short_hash(table.read_bytes())},
        "adapter": adapter_weights_hash(GENERAL_FOLDER),
        "text_format": read_format(GENERAL_FOLDER).settings(),
        "views": [asdict(view) for view in PLAIN],
    }
    write_json(path, known)
    return path


def test_what_is_recorded_is_not_measured_again(table, record, commands):
    tuned.evaluate(table, record, 20, **OPTIONS)
    assert commands == []


def test_what_is_not_recorded_is_measured(table, tmp_path, commands):
    record = tmp_path / "none.json"
    tuned.evaluate(table, record, 0, **OPTIONS)
    tuned.evaluate(table, record, 20, **OPTIONS)
    without_training = [
        "evaluate",
        str(table),
        "--horizon=4",
        "--leave-out=2",
        f"--output={record}",
        "--force",
    ]
    assert commands[0] == without_training
    assert set(commands[1]) - set(without_training) == {"--finetune=20"}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"settings": SETTINGS | {"finetune": None}}, id="no training"),
        pytest.param({"settings": SETTINGS | {"horizon": 5}}, id="another option"),
        pytest.param({"table": {"sha256": "another"}}, id="a table of other numbers"),
        pytest.param({"adapter": "another"}, id="another adapter"),
        pytest.param({"text_format": "another"}, id="another format"),
        pytest.param({"views": "another"}, id="other views"),
    ],
)
def test_a_record_of_anything_else_is_measured_again(table, record, commands, other):
    write_json(record, read_json(record) | other)
    tuned.evaluate(table, record, 20, **OPTIONS)
    assert len(commands) == 1


def test_a_command_that_fails_ends_the_program(table, tmp_path, monkeypatch):
    monkeypatch.setattr(tuned, "main", lambda command: 1)
    with pytest.raises(SystemExit, match=r"m2 evaluate .*table\.csv .* failed"):
        tuned.evaluate(table, tmp_path / "none.json", 0, **OPTIONS)


def test_the_best_training_of_the_pelts_is_measured_later_even_if_none_was_better(
    tmp_path, monkeypatch
):
    steps_of = {}

    def evaluate(table, record, steps, **options):
        steps_of[record.name] = steps
        errors = {0: 1.0, 10: 3.0, 20: 2.0, 40: 4.0}
        record.parent.mkdir(parents=True, exist_ok=True)
        write_json(record, {"errors": {"language model": [errors[steps]]}})

    monkeypatch.setattr(tuned, "evaluate", evaluate)
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))

    tuned.record_pelts()

    assert steps_of["general-tuned.json"] == 20
