"""`m2 forecast` and `m2 evaluate`."""

import shlex
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m2tables import Forecaster, cli

PNG = b"\x89PNG"
"""What a picture in this format begins with."""


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Go to an empty folder, in which all files of a test are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def m2(capsys):
    """Return a function that runs a command, which has to end with a status.

    The function returns what the command prints, and its lines on stderr.
    """

    def run(command, status=0):
        capsys.readouterr()
        assert cli.main(shlex.split(command)) == status
        out, err = capsys.readouterr()
        return out, err.strip().splitlines()

    return run


@pytest.fixture
def pelts():
    """Return a table of forty years, which is in pelts.csv, too."""
    hares = 50 + 30 * np.sin(np.arange(40) / 3)
    table = pd.DataFrame({"year": range(1900, 1940), "hare": hares, "lynx": np.roll(hares, 3)})
    table.to_csv("pelts.csv", index=False)
    return table


@pytest.fixture
def shops():
    """Write shops.csv: 35 days of a shop with a week, of one that sells nothing, and three days."""
    days = pd.date_range("2024-01-01", periods=35)
    frames = {
        "good": 10 + np.arange(35) % 7 + np.arange(35) / 10,
        "zero": np.zeros(35),
        "short": np.array([1.0, 2, 4]),
    }
    parts = [
        pd.DataFrame({"shop": shop, "date": days[-len(sold) :], "sold": sold, "price": 1.5})
        for shop, sold in frames.items()
    ]
    pd.concat(parts).to_csv("shops.csv", index=False)


FORECAST = "forecast pelts.csv --horizon 4 --target hare lynx"


def test_a_forecast_begins_with_what_is_read(m2, pelts):
    _, (first, second) = m2(FORECAST)
    assert first == (
        "pelts.csv: 40 steps of 1 series; target: hare, lynx; time: year, 1900 to 1939; id: none; "
        "season: none, because the calendar knows none of such time stamps (--season sets one)"
    )
    assert second == "forecaster: small network"


@pytest.mark.parametrize(
    ("option", "season"),
    [("", "7 steps"), ("--season 5", "5 steps"), ("--season 1", "none, as --season says")],
)
def test_the_season_is_always_said(m2, shops, option, season):
    _, lines = m2(f"forecast shops.csv --horizon 2 --id shop --target sold {option}")
    assert lines[0].endswith(f"; season: {season}; not read: price")


def test_unusual_series_are_named_and_forecast(m2, shops):
    _, lines = m2("forecast shops.csv --horizon 2 --id shop --target sold --output ahead.csv")
    remark = "fewer than 10 steps, fewer than two seasons of 7 steps: short; forecast nonetheless"
    assert lines[-2].endswith(remark)
    ahead = pd.read_csv("ahead.csv")
    assert ahead["shop"].tolist() == ["good", "good", "zero", "zero", "short", "short"]
    assert ahead.loc[ahead["shop"] == "zero", "predictions"].tolist() == [0, 0]


def test_a_forecast_is_the_same_from_python(m2, pelts):
    m2(f"{FORECAST} --levels 0.9 0.1 --season 6 --output ahead.csv")
    written = pd.read_csv("ahead.csv")
    assert written.year.tolist() == [1940, 1941, 1942, 1943] * 2
    expected = Forecaster.from_pretrained().predict_df(
        pelts,
        prediction_length=4,
        quantile_levels=[0.9, 0.1],
        season=6,
        id_column=None,
        timestamp_column="year",
        target=["hare", "lynx"],
    )
    pd.testing.assert_frame_equal(written, expected, check_dtype=False, rtol=1e-6)


def test_a_csv_file_has_ten_digits_of_each_forecast(m2, pelts):
    m2(f"{FORECAST} --output ahead.csv")
    written = pd.read_csv("ahead.csv", dtype=str)
    numbers = written.drop(columns=["item_id", "year", "target_name"]).to_numpy().ravel()
    assert max(len(number.lstrip("0.").replace(".", "")) for number in numbers) <= 10


def test_a_forecast_is_drawn_whatever_its_columns_are_called(m2, pelts, monkeypatch):
    # What a notebook hands on to the commands in its cells.
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    pelts.rename(columns={"lynx": "US$ a_b$"}).to_csv("dollars.csv", index=False)
    m2("forecast dollars.csv --horizon 4 --target hare 'US$ a_b$' --plot a.png")
    assert Path("a.png").read_bytes().startswith(PNG)


def test_a_terminal_shows_a_long_table_in_part_and_a_file_has_all_of_it(m2, pelts, monkeypatch):
    command = "forecast pelts.csv --horizon 30 --target hare lynx"
    m2(f"{command} --output ahead.csv")
    piped, _ = m2(command)
    assert piped == Path("ahead.csv").read_text(encoding="utf-8")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    shown, _ = m2(command)
    assert "60 rows; --output F.csv writes them all" in shown


def test_a_name_that_a_terminal_cannot_show_is_escaped(monkeypatch):
    days = pd.date_range("2024-01-01", periods=12)
    pd.DataFrame({"date": days, "price in €": np.arange(12) % 5}).to_csv("t.csv", index=False)
    terminal = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    assert cli.main(["forecast", "t.csv", "--horizon", "2"]) == 0
    assert b"price in \\u20ac," in terminal.buffer.getvalue()


def test_an_evaluation_is_the_same_from_python(m2, pelts):
    out, _ = m2("evaluate pelts.csv --target hare --horizon 4 --origins 2 --output all.csv")
    expected = Forecaster.from_pretrained().evaluate(
        pelts, 4, origins=2, id_column=None, timestamp_column="year", target="hare"
    )
    assert expected.verdict in out
    assert f"our 80% band holds {expected.coverage:.0%}" in out
    pd.testing.assert_frame_equal(pd.read_csv("all.csv"), expected.forecasts, check_dtype=False)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("forecast gone.csv --horizon 2", "there is no file gone.csv"),
        ("forecast pelts.csv --horizon 2", "several columns may be the target, 'hare, lynx'"),
        ("forecast pelts.csv --horizon 2 --target fox", "the column 'fox' is none of"),
        (f"{FORECAST} --output pelts.csv --force", "pelts.csv is the table itself"),
        (f"{FORECAST} --output a.xls", "a.xls does not end in .csv or .parquet; name it so"),
        (f"{FORECAST} --plot a.gif", "a.gif does not end in .png or .svg"),
        (f"{FORECAST} --output there.csv", "there.csv exists; name another file, or replace it"),
        ("evaluate pelts.csv --target hare --horizon 40", "no series has changed before the last"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_changes_nothing(m2, pelts, folder, command, message):
    Path("there.csv").write_text("mine", encoding="utf-8")
    _, error = m2(command, status=1)
    assert error[-1].startswith("error: ")
    assert message in error[-1]
    assert sorted(path.name for path in folder.iterdir()) == ["pelts.csv", "there.csv"]
    assert Path("there.csv").read_text(encoding="utf-8") == "mine"


def test_force_replaces_the_files_that_are_there(m2, pelts):
    for name in ("a.csv", "a.png"):
        Path(name).write_text("mine", encoding="utf-8")
    m2(f"{FORECAST} --output a.csv --plot a.png --force")
    assert pd.read_csv("a.csv").shape == (8, 7)
    assert Path("a.png").read_bytes().startswith(PNG)
