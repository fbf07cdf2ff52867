"""The commands for tables of one's own, on the tiny random model."""

import os
import re
import shlex
from dataclasses import asdict, fields
from inspect import signature
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd
import pytest

import m2lib
from m2lib import cli, cli_tables
from m2lib.errors import InputError
from m2lib.files import ROOT, read_json, short_hash
from m2lib.forecaster import Forecaster, View, finetune
from m2lib.forecaster.adapters import GENERAL_FOLDER, adapter_weights_hash
from m2lib.forecaster.evaluation import MEASURES
from m2lib.model import SEMICOLON_ID

matplotlib.use("Agg")

PNG = b"\x89PNG"
"""What a picture in this format begins with."""
PELTS_COLUMNS = {"id_column": None, "timestamp_column": "year", "target": ["hare", "lynx"]}
"""How `Forecaster` is told what the commands guess of the table of pelts."""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    """Choose the tiny model, and go to an empty folder, in which all files of a test are."""
    monkeypatch.setenv("M2_BACKBONE", "tiny")
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.setenv("M2_DTYPE", "float32")
    monkeypatch.chdir(tmp_path)


class Printed(NamedTuple):
    """What a command has printed."""

    out: str
    err: str

    @property
    def last_error(self):
        """The last line on stderr, which is an error or a warning; empty where there is none."""
        return self.err.strip().split("\n")[-1]


@pytest.fixture
def m2(capsys):
    """Return a function that runs a command, which has to end with a status, and returns `Printed`.

    The command is written as in a shell.
    """

    def run(command, status=0):
        capsys.readouterr()
        assert cli.main(shlex.split(command)) == status
        return Printed(*capsys.readouterr())

    return run


def waves(steps):
    """Return a smooth series that never repeats exactly."""
    return 50 + 30 * np.sin(np.arange(steps) / 3)


@pytest.fixture
def pelts():
    """Return a table of forty years, which is in pelts.csv, too."""
    hares = waves(40)
    table = pd.DataFrame({"year": range(1900, 1940), "hare": hares, "lynx": np.roll(hares, 3)})
    table.to_csv("pelts.csv", index=False)
    return table


# Options


def options_of(command):
    """Return the names of a command's options, those of `Task` and `Sampling` among them."""
    names = set(signature(command).parameters)
    for group, options in (("task", cli_tables.Task), ("sampling", cli_tables.Sampling)):
        if group in names:
            names.remove(group)
            names |= {option.name for option in fields(options)}
    return names


@pytest.mark.parametrize(
    ("command", "method"),
    [
        pytest.param(cli_tables.forecast, Forecaster.predict_df, id="forecast"),
        pytest.param(cli_tables.evaluate, Forecaster.evaluate, id="evaluate"),
        pytest.param(cli_tables.finetune, Forecaster.fit, id="finetune"),
    ],
)
def test_an_option_is_called_alike_in_python_unless_the_page_tells_its_other_name(command, method):
    page = (ROOT / "book" / "tables.md").read_text(encoding="utf-8")
    table = re.search(r"\| on the command line \|.*?\n\n", page, re.DOTALL)[0]
    commands_side = "\n".join(row.split("|")[1] for row in table.strip().splitlines()[2:])
    renamed = {name.replace("-", "_") for name in re.findall(r"--([\w-]+)", commands_side)}
    of_files = {"file", "force"}  # in Python a table is a DataFrame, and forecasts are not written

    alike = options_of(command) - renamed - of_files
    assert alike <= set(signature(method).parameters)


# m2 forecast


def test_a_forecast_begins_with_what_is_guessed_of_the_table(m2, pelts):
    printed = m2("forecast pelts.csv --horizon 4 --samples 1")
    assert printed.out.splitlines()[0] == (
        "pelts.csv: 40 steps of 1 series; target: hare, lynx (guessed; --target names them); "
        "time: year, 1900 to 1939; id: none"
    )


def test_targets_that_are_named_are_not_said_to_be_guessed(m2, pelts):
    printed = m2("forecast pelts.csv --horizon 4 --samples 1 --target hare lynx")
    assert "target: hare, lynx; time" in printed.out


def test_a_forecast_is_the_same_from_python(m2, pelts):
    options = "--levels 0.9 0.1 --samples 5 --season 6"
    m2(f"forecast pelts.csv --horizon 4 {options} --output ahead.csv")

    written = pd.read_csv("ahead.csv")
    assert written.year.tolist() == [1940, 1941, 1942, 1943] * 2
    expected = Forecaster.from_pretrained().predict_df(
        pelts,
        prediction_length=4,
        quantile_levels=[0.9, 0.1],
        num_samples=5,
        season=6,
        **PELTS_COLUMNS,
    )
    pd.testing.assert_frame_equal(written, expected, check_dtype=False)


def test_a_forecast_is_drawn_whatever_its_columns_are_called(m2, pelts):
    # A formula of matplotlib's begins with a dollar.
    pelts.rename(columns={"lynx": "US$ a_b$"}).to_csv("dollars.csv", index=False)
    printed = m2("forecast dollars.csv --horizon 4 --samples 5 --output a.csv --plot a.png")
    assert "target: hare, US$ a_b$ (guessed" in printed.out
    assert pd.read_csv("a.csv").target_name.unique().tolist() == ["hare", "US$ a_b$"]
    assert Path("a.png").read_bytes().startswith(PNG)


def test_a_picture_needs_nothing_that_shows_it(m2, pelts, monkeypatch):
    # What a notebook hands on to the commands in its cells.
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    m2("forecast pelts.csv --horizon 4 --samples 1 --output a.csv --plot a.png")
    assert os.environ["MPLBACKEND"] == "agg"
    assert Path("a.png").read_bytes().startswith(PNG)


def test_a_forecast_holds_its_samples_where_asked(m2, pelts):
    m2("forecast pelts.csv --horizon 4 --samples 3 --with-samples --output ahead.csv")
    columns = pd.read_csv("ahead.csv").columns.tolist()
    assert columns[-4:] == ["mean", "sample_0", "sample_1", "sample_2"]


def test_a_csv_file_has_ten_digits_of_each_forecast_and_sample(m2, pelts):
    m2("forecast pelts.csv --horizon 4 --samples 3 --with-samples --output ahead.csv")

    written = pd.read_csv("ahead.csv", dtype=str)
    numbers = written.drop(columns=["item_id", "year", "target_name"]).to_numpy().ravel()
    lengths = [len(number.lstrip("0.").replace(".", "")) for number in numbers]
    assert max(lengths) <= 10


def test_without_an_output_the_table_is_printed(m2, pelts):
    printed = m2("forecast pelts.csv --horizon 30 --target lynx --samples 1")
    assert "1969" in printed.out


def test_a_long_table_is_printed_in_part_and_this_is_said(m2, pelts):
    printed = m2("forecast pelts.csv --horizon 30 --samples 1")
    assert "60 rows; --output F.csv writes them all" in printed.out


def test_a_name_that_a_terminal_cannot_show_is_escaped(monkeypatch):
    days = pd.date_range("2024-01-01", periods=12)
    pd.DataFrame({"date": days, "price in €": np.arange(12) % 5}).to_csv("t.csv", index=False)
    terminal = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)

    assert cli.main(["forecast", "t.csv", "--horizon", "2", "--samples", "1"]) == 0
    assert b"target: price in \\u20ac;" in terminal.buffer.getvalue()


def test_a_warning_is_a_line(m2, pelts):
    pd.concat([pelts] * 10)[["hare"]].to_csv("long.csv", index=False)
    printed = m2("forecast long.csv --horizon 2 --samples 1")
    assert printed.err == (
        "warning: of a series longer than the model's window the last 204 steps are read\n"
    )


def test_a_column_of_dates_that_is_not_understood_is_said(m2, pelts):
    quarters = [f"Q{step % 4 + 1} of {step // 4}" for step in range(40)]
    pelts.assign(year=quarters).rename(columns={"year": "quarter"}).to_csv("q.csv", index=False)

    printed = m2("forecast q.csv --horizon 2 --samples 1 --target hare lynx")

    assert "not read: quarter" in printed.out
    order = "so the rows are taken to be in order, the oldest first"
    assert f"q.csv: no column of dates was found, {order}, and no season" in printed.last_error

    printed = m2("forecast q.csv --horizon 2 --samples 1 --target hare lynx --season 4")
    assert f"{order}; if there is such a column, name it with --time" in printed.last_error


# How much of a series is read


def test_a_forecast_of_a_short_context_is_that_of_a_table_that_has_no_more(m2, pelts):
    m2("forecast pelts.csv --horizon 4 --samples 3 --context-length 15 --output ahead.csv")

    written = pd.read_csv("ahead.csv")
    forecaster = Forecaster.from_pretrained()
    expected = forecaster.predict_df(pelts[-15:], 4, num_samples=3, **PELTS_COLUMNS)
    pd.testing.assert_frame_equal(written, expected[written.columns], check_dtype=False)


def test_evaluate_reads_a_short_context_too(m2, pelts):
    m2("evaluate pelts.csv --horizon 4 --samples 3 --context-length 15 --output all.csv")

    forecaster = Forecaster.from_pretrained()
    known = pelts[-19:-4]  # the fifteen steps before the last four
    expected = forecaster.predict_df(known, 4, num_samples=3, **PELTS_COLUMNS)
    assert pd.read_csv("all.csv").predictions.tolist() == expected.predictions.tolist()


def test_a_context_that_is_too_short_is_refused(m2, pelts):
    printed = m2("forecast pelts.csv --horizon 4 --context-length 9", status=1)
    assert printed.last_error == "error: context_length is 9; give a whole number of 10 or more"


# Series that are unfit


@pytest.fixture
def shops():
    """Write shops.csv, a table of five shops, with the last rows first; one of them is fit."""
    sold = waves(30)
    with_a_hole = sold.copy()
    with_a_hole[9] = np.nan
    series = {
        "good": sold,
        "flat": np.zeros(30),
        "short": sold[:5],
        "gaps": sold,  # it loses a row below
        "hole": with_a_hole,
    }

    days = pd.date_range("2024-01-01", periods=30).strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = [
        pd.DataFrame({"shop": shop, "day": days[: len(values)], "sold": values, "price": 1.5})
        for shop, values in series.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    rows_of_gaps = table.index[table.shop == "gaps"]
    table.drop(index=rows_of_gaps[20])[::-1].to_csv("shops.csv", index=False)


FORECAST_SHOPS = "forecast shops.csv --horizon 2 --samples 2 --target sold --output ahead.csv"


def test_an_unfit_series_is_refused_with_two_ways_out(m2, shops):
    error = m2(FORECAST_SHOPS, status=1).last_error
    fault = "error: shops.csv, row 21, column 'sold': an empty cell; fill it (--fill"
    assert error.startswith(fault)
    assert error.endswith("; --skip leaves series 'hole' out (skip=True)")


def test_skip_leaves_out_what_is_unfit_and_lists_it(m2, shops):
    printed = m2(f"{FORECAST_SHOPS} --skip")

    assert "shops.csv: 30 steps of 1 series; target: sold;" in printed.out
    assert "; not read: price;" in printed.out
    left_out = [line for line in printed.err.splitlines() if "is left out" in line]
    names = [line.split("'")[1] for line in left_out]
    assert names == ["hole", "gaps", "short", "flat"]
    warning = "warning: shops.csv: the rows of 1 of 1 series were sorted by time"
    assert warning in printed.err

    ahead = pd.read_csv("ahead.csv")
    assert ahead["shop"].unique().tolist() == ["good"]
    assert ahead.day.tolist() == ["2024-01-31 00:00:00+00:00", "2024-02-01 00:00:00+00:00"]


def test_fill_makes_series_with_gaps_fit(m2, shops):
    printed = m2(f"{FORECAST_SHOPS} --skip --fill linear")
    assert "warning: shops.csv: steps that were filled (linear): 2\n" in printed.err
    assert pd.read_csv("ahead.csv")["shop"].unique().tolist() == ["hole", "gaps", "good"]


@pytest.fixture
def gaps(pelts):
    """Write gaps.csv, a table of a shop that lacks a year and of another that is constant."""
    with_a_gap = pelts.assign(shop="a").drop(index=20)
    constant = pelts.assign(shop="b", hare=1.0)
    pd.concat([with_a_gap, constant]).to_csv("gaps.csv", index=False)


def test_evaluate_leaves_out_and_fills_too(m2, gaps):
    options = "--horizon 4 --target hare --skip --fill last --samples 1"
    m2(f"evaluate gaps.csv {options} --output found.json")

    record = read_json(Path("found.json"))
    assert record["settings"]["skip"] is True
    assert record["settings"]["fill"] == "last"
    assert record["origins"] == [{"item": 0, "steps": 36}]


def test_finetune_leaves_out_and_fills_too(m2, gaps):
    options = "--horizon 4 --target hare --skip --fill last --steps 1"
    printed = m2(f"finetune gaps.csv {options} --output mine")
    assert "1 of 1 series" in printed.out


# Large tables, and what stops the work on them


@pytest.fixture
def four_series(monkeypatch):
    """Return a table of four equal series, which is in four.csv, too; two of them are a part."""
    monkeypatch.setattr("m2lib.forecaster.forecaster.PART", 2)
    table = pd.DataFrame({"id": ["a", "b", "c", "d"] * 12, "y": waves(12).repeat(4)})
    table.to_csv("four.csv", index=False)
    return table


def test_a_table_that_is_forecast_in_parts_comes_out_as_if_forecast_at_once(m2, four_series):
    m2("forecast four.csv --horizon 3 --output ahead.csv")

    written = pd.read_csv("ahead.csv")
    expected = Forecaster.from_pretrained().predict_df(
        four_series,
        prediction_length=3,
        quantile_levels=[0.1, 0.5, 0.9],
        id_column="id",
        timestamp_column=None,
        target="y",
    )
    pd.testing.assert_frame_equal(written, expected, check_dtype=False)

    # Equal series differ in what was sampled, in another part as well.
    assert written.groupby("id").predictions.apply(tuple).nunique() == 4


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        pytest.param(KeyboardInterrupt(), 130, id="Ctrl-C"),
        pytest.param(
            RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, id="out of memory"
        ),
        pytest.param(InputError("series c has no scale; drop it"), 1, id="an unfit series"),
    ],
)
def test_what_stops_the_work_leaves_the_parts_that_are_finished(
    m2, monkeypatch, four_series, reason, status
):
    sample = Forecaster.sample
    sampled = []

    def sample_one_part(*arguments, **options):
        if sampled:
            raise reason
        sampled.extend(sample(*arguments, **options))
        return sampled

    monkeypatch.setattr(Forecaster, "sample", sample_one_part)
    printed = m2("forecast four.csv --horizon 3 --output a.csv --plot a.png", status=status)

    assert "stopped after 2 of 4 series; missing: c, d\n" in printed.err
    assert pd.read_csv("a.csv").id.tolist() == ["a", "a", "a", "b", "b", "b"]
    assert Path("a.png").read_bytes().startswith(PNG)


def test_ctrl_c_before_the_first_part_writes_nothing(m2, monkeypatch, four_series):
    def stop(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Forecaster, "sample", stop)
    m2("forecast four.csv --horizon 3 --output a.csv", status=130)
    assert not Path("a.csv").exists()


# m2 evaluate


def test_evaluate_says_what_beats_what_and_keeps_it(m2, pelts):
    options = "--horizon 4 --origins 3 --stride 2 --leave-out 5 --period 30 --samples 3"
    printed = m2(f"evaluate pelts.csv {options} --output found.json")

    assert "forecasts of 4 steps: 3;" in printed.out
    assert "the language model's error is" in printed.out
    assert printed.last_error == (
        "warning: left out, as a context is too short for it: 30 steps ago"
    )

    record = read_json(Path("found.json"))
    # Of forty steps five are left out, and each forecast takes four.
    assert [origin["steps"] for origin in record["origins"]] == [27, 29, 31]
    assert record["settings"]["season"] == 1
    assert record["settings"]["period"] == 30
    numbers_of_errors = {len(errors) for errors in record["errors"].values()}
    assert numbers_of_errors == {3}

    forecaster = Forecaster.from_pretrained()
    assert record["adapter"] == adapter_weights_hash(forecaster.adapter)
    assert record["backbone"]["id"] == "tiny"
    assert record["backbone"]["dtype"] == forecaster.dtype


def test_evaluate_records_every_option_that_decides_a_number(m2, pelts):
    m2("evaluate pelts.csv --horizon 4 --samples 1 --output found.json")

    recorded = set(read_json(Path("found.json"))["settings"])
    # The table, its columns and the language model have places of their own in the record.
    elsewhere = {"file", "id", "time", "target", "backbone"}
    of_the_output = {"output", "force"}
    assert options_of(cli_tables.evaluate) - elsewhere - of_the_output <= recorded


def test_evaluate_says_which_unit_each_measure_has(m2, pelts):
    printed = m2("evaluate pelts.csv --horizon 4 --samples 1")
    (sentence,) = re.findall(r"^forecasts of 4 steps: .*", printed.out, re.M)
    for measure in MEASURES.values():
        assert measure.head in sentence


def test_evaluate_records_the_table_that_it_has_read(m2, pelts, monkeypatch):
    """The file may change, or go, while the forecasts are made."""
    table = Path("pelts.csv")
    read = short_hash(table.read_bytes())
    evaluate = m2lib.forecaster.evaluate

    def evaluate_meanwhile(*arguments, **options):
        table.unlink()
        return evaluate(*arguments, **options)

    monkeypatch.setattr(m2lib.forecaster, "evaluate", evaluate_meanwhile)
    m2("evaluate pelts.csv --horizon 4 --samples 1 --output found.json")

    assert read_json(Path("found.json"))["table"] == {"file": "pelts.csv", "sha256": read}


def test_evaluate_records_all_seasons_that_are_taken_out(m2):
    hours = pd.date_range("2024-01-01", periods=60, freq="h")
    pd.DataFrame({"time": hours, "sold": waves(60)}).to_csv("hours.csv", index=False)
    m2("evaluate hours.csv --horizon 2 --samples 1 --output found.json")

    settings = read_json(Path("found.json"))["settings"]
    assert settings["seasons"] == [24, 168]  # a day and a week
    assert settings["season"] == 24


def test_evaluate_replaces_no_file_unless_told(m2, pelts):
    Path("found.json").touch()
    printed = m2("evaluate pelts.csv --horizon 4 --output found.json", status=1)
    assert printed.last_error == (
        "error: found.json exists; name another file, or replace it with --force"
    )


@pytest.mark.parametrize(
    "command",
    [
        "forecast pelts.csv --horizon 4 --samples 1 --output a.csv --plot a.png",
        "evaluate pelts.csv --horizon 4 --samples 1 --output a.csv",
    ],
)
def test_force_replaces_the_files_that_are_there(m2, pelts, command):
    files = [Path(word) for word in command.split() if word.startswith("a.")]
    for file in files:
        file.write_text("mine", encoding="utf-8")

    m2(f"{command} --force")

    assert files
    for file in files:
        assert file.read_bytes() != b"mine"


def test_evaluate_writes_all_forecasts(m2, pelts):
    options = "--horizon 4 --origins 2 --samples 3 --season 6"
    printed = m2(f"evaluate pelts.csv {options} --output all.csv")
    assert "weighted quantile loss" in printed.out

    expected = Forecaster.from_pretrained().evaluate(
        pelts, 4, origins=2, num_samples=3, season=6, **PELTS_COLUMNS
    )
    pd.testing.assert_frame_equal(pd.read_csv("all.csv"), expected.forecasts, check_dtype=False)

    first = list(range(1932, 1936))
    second = list(range(1936, 1940))
    assert expected.forecasts.year.tolist() == 2 * first + 2 * second  # of two variables each


def test_evaluate_fine_tunes_before_each_origin(m2, pelts):
    command = "evaluate pelts.csv --horizon 4 --origins 2 --samples 1"
    assert m2(command).out != m2(f"{command} --finetune 2").out


def test_fine_tuning_before_each_origin_is_the_same_from_python(m2, pelts):
    options = "--horizon 4 --origins 2 --samples 3 --finetune 2 --context-length 12 --seed 1"
    m2(f"evaluate pelts.csv {options} --output all.csv")

    expected = Forecaster.from_pretrained().evaluate(
        pelts, 4, origins=2, num_samples=3, finetune=2, context_length=12, seed=1, **PELTS_COLUMNS
    )
    pd.testing.assert_frame_equal(pd.read_csv("all.csv"), expected.forecasts, check_dtype=False)


def test_where_there_is_nothing_to_tune_on_a_forecast_is_missing_and_this_is_said(m2, pelts):
    options = "--horizon 8 --origins 5 --samples 2 --finetune 1"
    printed = m2(f"evaluate pelts.csv {options}")

    # They are from 24 and 32 steps: 16 leave no window of ten steps and a horizon.
    assert "forecasts of 8 steps: 2;" in printed.out
    warning = "3 of the 5 forecasts asked for (--origins) are missing, because their"
    assert warning in printed.last_error


def test_what_is_tuned_learns_from_as_many_steps_as_will_be_read(m2, pelts, monkeypatch):
    trained_on = []

    def train(model, windows, *_, **options):
        trained_on.append(windows)

    monkeypatch.setattr(finetune, "train", train)
    m2("evaluate pelts.csv --horizon 4 --samples 1 --finetune 1 --context-length 12")

    (windows,) = trained_on
    steps = [(windows(number) == SEMICOLON_ID).sum() for number in range(20)]
    assert max(steps) == 12 + 4


@pytest.mark.parametrize("command", ["forecast", "evaluate"])
def test_the_temperature_decides_how_far_samples_lie_apart(m2, pelts, command):
    options = "--horizon 4 --samples 3 --temperature 1e-6"
    m2(f"{command} pelts.csv {options} --output a.csv")
    written = pd.read_csv("a.csv")
    assert written["0.1"].tolist() == written["0.9"].tolist()  # all are the likeliest text


@pytest.mark.parametrize("command", ["forecast", "evaluate"])
def test_the_seed_decides_what_is_sampled(m2, pelts, command):
    m2(f"{command} pelts.csv --horizon 4 --samples 3 --seed 1 --output first.csv")
    m2(f"{command} pelts.csv --horizon 4 --samples 3 --seed 2 --output second.csv")
    first = pd.read_csv("first.csv").predictions
    second = pd.read_csv("second.csv").predictions
    assert first.tolist() != second.tolist()


# m2 finetune and m2 export


@pytest.fixture
def tuned(m2, pelts):
    """Train an adapter on pelts.csv, into the folder `mine`, and return what is printed."""
    options = "--steps 2 --rate 0.01 --rank 3 --batch 4 --seed 5"
    return m2(f"finetune pelts.csv --horizon 4 {options} --output mine")


def test_finetune_says_what_it_cost_and_keeps_its_settings(tuned):
    assert "FLOPs by the rules" in tuned.out

    recipe = read_json(Path("mine/facts.json"))["recipe"]
    assert recipe["steps"] == 2
    assert recipe["learning_rate"] == 0.01
    assert recipe["rank"] == 3
    assert recipe["batch_size"] == 4
    assert recipe["seed"] == 5


def test_finetune_hands_its_options_on(m2, pelts, monkeypatch):
    calls = []

    def tune(forecaster, items, targets, horizon, output, **options):
        calls.append((targets, horizon, output, options))

    monkeypatch.setattr(finetune, "finetune", tune)
    options = "--steps 2 --rate 0.01 --rank 3 --batch 4 --seed 5 --season 6 --force"
    m2(f"finetune pelts.csv --horizon 4 {options} --output mine")

    in_python = {"num_steps": 2, "learning_rate": 0.01, "rank": 3, "batch_size": 4, "seed": 5}
    in_python |= {"season": 6, "force": True}
    assert calls == [(("hare", "lynx"), 4, Path("mine"), in_python)]


def test_export_hands_its_options_on(m2, monkeypatch):
    calls = []

    def export(adapter, folder, *, backbone, force):
        calls.append((adapter, folder, backbone, force))
        return folder

    monkeypatch.setattr(m2lib.forecaster, "export", export)
    m2("export general whole --backbone tiny --force")
    assert calls == [(GENERAL_FOLDER, Path("whole"), "tiny", True)]


def test_what_is_tuned_forecasts_and_is_exported(m2, tuned):
    m2("forecast pelts.csv --horizon 4 --adapter mine --output ahead.csv")

    assert m2("export mine whole").out.strip() == "whole"
    text_format = read_json(Path("mine/text_format.json"))
    assert read_json(Path("whole/text_format.json")) == text_format

    twice = "--backbone whole --adapter mine"
    printed = m2(f"forecast pelts.csv --horizon 4 {twice}", status=1)
    message = "whole is an exported model, into which an adapter is merged already"
    assert message in printed.last_error


@pytest.mark.parametrize(
    ("tuning", "views"),
    [
        pytest.param("", [View(20), View(trend=True)], id="as it is"),
        pytest.param("--finetune 1", [View()], id="tuned further, for one view alone"),
    ],
)
def test_evaluate_keeps_the_views_of_the_adapter(m2, tuned, tuning, views):
    Path("mine/views.json").write_text('[{"steps": 20}, {"trend": true}]', encoding="utf-8")
    options = f"--horizon 4 --origins 2 --samples 1 --adapter mine {tuning}"
    m2(f"evaluate pelts.csv {options} --output found.json")
    assert read_json(Path("found.json"))["views"] == [asdict(view) for view in views]


# What cannot be done


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "forecast pelts.csv --horizon 2 --target fox",
            "no column 'fox' among 'year, hare, lynx'",
        ),
        ("forecast pelts.csv --horizon 2 --output pelts.csv", "pelts.csv is the table itself"),
        ("evaluate pelts.csv --horizon 2 --output ./pelts.csv --force", "is the table itself"),
        (
            "forecast pelts.csv --horizon 2 --output a.xls",
            "a.xls does not end in .csv or .parquet; name it so",
        ),
        ("forecast pelts.csv --horizon 2 --plot a.gif", "a.gif does not end in .png or .svg"),
        # The pelts have 40 steps, and these need 10 more than one horizon, and than two.
        ("evaluate pelts.csv --horizon 39", "the series has 40 steps, fewer than 49"),
        (
            "finetune pelts.csv --horizon 20 --output new",
            "the series has 40 steps, fewer than 50",
        ),
        ("export gone new", "'gone' is no folder with an adapter_config"),
        ("export none new", "`none` has no adapter to merge; name an adapter's folder"),
    ],
)
def test_what_cannot_be_done_is_one_line_before_a_model_is_loaded(
    m2, monkeypatch, pelts, tmp_path, command, message
):
    monkeypatch.setattr(Forecaster, "from_pretrained", None)
    printed = m2(command, status=1)
    assert printed.last_error.startswith("error: ")
    assert message in printed.last_error
    assert list(tmp_path.iterdir()) == [tmp_path / "pelts.csv"]


def test_more_steps_than_the_model_can_write_are_refused_in_one_line(m2, pelts, tmp_path):
    printed = m2("forecast pelts.csv --horizon 5000", status=1)
    assert printed.last_error.startswith("error: ")
    assert "5000 steps are more than tiny can write" in printed.last_error
    assert list(tmp_path.iterdir()) == [tmp_path / "pelts.csv"]


# What the commands say of a table


@pytest.fixture
def said_of(capsys):
    """Return a function that reads a table as the commands do, and returns what they print of it.

    Its options are those of `cli_tables.Task`.
    """

    def read(table, **options):
        table.to_csv("t.csv", index=False)
        cli_tables.Task(Path("t.csv"), horizon=2, **options).read()
        return capsys.readouterr().out.strip()

    return read


def test_where_the_series_of_a_table_begin_and_end_is_said(said_of):
    days_of_b = pd.date_range("2024-01-05", "2024-01-18")
    days_of_a = pd.date_range("2024-01-01", "2024-01-12")
    b = pd.DataFrame({"id": "b", "date": days_of_b, "y": days_of_b.day % 5})
    a = pd.DataFrame({"id": "a", "date": days_of_a, "y": days_of_a.day % 5})

    line = said_of(pd.concat([b, a]))

    assert "2024-01-01 to 2024-01-18" in line
    assert "season" not in line  # no series has three weeks


def test_the_columns_that_are_named_are_read(said_of):
    days = pd.date_range("2024-01-01", periods=12)
    a_year_later = days + pd.DateOffset(years=1)
    units = np.arange(12) % 5
    shop = pd.DataFrame({"date": a_year_later, "day": days, "units": units, "price": 1.5})
    table = pd.concat([shop.assign(sku="007"), shop.assign(sku="7")])

    line = said_of(table, id="sku", time="day", target=("units",))

    assert line == (
        "t.csv: 24 steps of 2 series; target: units; time: day, 2024-01-01 to 2024-01-12; "
        "id: sku; not read: date, price"
    )


@pytest.mark.parametrize(
    ("lengths", "season"),
    [
        pytest.param([1008], "336 steps", id="three weeks"),
        pytest.param([1007], "48 steps", id="less than three weeks"),
        pytest.param([1008, 1007], "48 or 336 steps", id="a series of each"),
    ],
)
def test_of_a_day_and_a_week_the_one_that_is_taken_is_said(said_of, lengths, season):
    series = []
    for length in lengths:
        half_hours = pd.date_range("2024-01-01", periods=length, freq="30min")
        steps = np.arange(length)
        demand = 10 + steps % 48 + steps / 100
        series.append(pd.DataFrame({"date": half_hours, "y": demand, "id": f"{length} steps"}))

    line = said_of(pd.concat(series))
    assert line.endswith(f"id: id; season: {season}, multiplied")


@pytest.mark.parametrize(
    ("calendars", "season"),
    [
        pytest.param(["D"], "7 steps", id="days"),
        pytest.param(
            ["D", "B"],
            "none, because the calendars of its series differ",
            id="days and business days",
        ),
    ],
)
def test_there_is_no_season_where_calendars_differ_and_this_is_said(said_of, calendars, season):
    shops = []
    for calendar in calendars:
        days = pd.date_range("2024-01-01", periods=35, freq=calendar)
        shops.append(pd.DataFrame({"id": calendar, "date": days, "y": 10 + days.dayofweek % 5}))
    assert f"; season: {season}" in said_of(pd.concat(shops))


WEEKLY = np.arange(21) % 7 + 1
THREE_WEEKS = pd.DataFrame(
    {
        "date": pd.date_range("2024-01-01", periods=21),
        "y": 10 + WEEKLY + np.arange(21) / 10,
    }
)


@pytest.mark.parametrize(
    ("asked_for", "said"),
    [
        (None, "; season: 7 steps, multiplied"),
        (5, "; season: 5 steps, multiplied"),
        (1, ""),
    ],
)
def test_the_season_that_is_taken_out_is_said(said_of, asked_for, said):
    line = said_of(THREE_WEEKS, season=asked_for)
    assert line.endswith(f"id: none{said}")


def test_a_series_that_is_its_season_and_nothing_else_keeps_it(said_of):
    line = said_of(THREE_WEEKS.assign(y=WEEKLY))
    assert line.endswith("season: 7 steps, taken out of no series")
