"""The commands for tables of one's own, on the tiny random model."""

import json
from dataclasses import asdict
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m2lib import cli, cli_tables
from m2lib.files import InputError
from m2lib.forecaster import Forecaster, View, finetune
from m2lib.forecaster import tables as module
from m2lib.forecaster.adapters import weights_hash
from m2lib.model import SEMICOLON_ID


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("M2_BACKBONE", "tiny")
    monkeypatch.setenv("M2_DEVICE", "cpu")
    monkeypatch.setenv("M2_DTYPE", "float32")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pelts(tmp_path):
    wave = 50 + 30 * np.sin(np.arange(40) / 3)
    table = pd.DataFrame({"year": 1900 + np.arange(40), "hare": wave, "lynx": np.roll(wave, 3)})
    table.to_csv(tmp_path / "pelts.csv", index=False)
    return table


def m2(capsys, *arguments):
    status = cli.main(list(map(str, arguments)))
    shown = capsys.readouterr()
    return status, shown.out, shown.err.strip().splitlines()[-1] if shown.err.strip() else ""


def test_a_forecast_is_the_same_from_python(capsys, pelts):
    pelts = pelts.rename(columns={"lynx": "US$ a_b$"})  # a dollar is drawn as one
    pelts.to_csv("dollars.csv", index=False)
    options = (
        "--horizon",
        4,
        "--levels",
        0.9,
        0.1,
        "--samples",
        5,
        "--output",
        "ahead.csv",
        "--plot",
        "ahead.png",
    )
    status, out, _ = m2(capsys, "forecast", "dollars.csv", *options)
    assert status == 0
    assert out.splitlines()[0] == (
        "dollars.csv: 40 steps of 1 series; target: hare, US$ a_b$; "
        "time: year, 1900 to 1939; id: none"
    )
    written = pd.read_csv("ahead.csv")
    made = Forecaster.from_pretrained().predict_df(
        pelts, prediction_length=4, quantile_levels=[0.9, 0.1], id_column=None,
        timestamp_column="year", target=["hare", "US$ a_b$"], num_samples=5,
    )  # fmt: skip
    pd.testing.assert_frame_equal(written, made, check_dtype=False)
    assert written.year.tolist() == [1940, 1941, 1942, 1943] * 2
    with open("ahead.png", "rb") as picture:
        assert picture.read(4) == b"\x89PNG"


def test_less_of_a_series_may_be_read(capsys, pelts):
    options = ("--horizon", 4, "--samples", 3, "--context-length", 15)
    assert m2(capsys, "forecast", "pelts.csv", *options, "--output", "ahead.csv")[0] == 0
    columns = {"id_column": None, "timestamp_column": "year", "target": ["hare", "lynx"]}
    # Nothing else has an influence: it is the forecast of a table that has no more.
    made = Forecaster.from_pretrained().predict_df(pelts[-15:], 4, num_samples=3, **columns)
    written = pd.read_csv("ahead.csv")
    pd.testing.assert_frame_equal(written, made[written.columns], check_dtype=False)

    assert m2(capsys, "evaluate", "pelts.csv", *options, "--output", "all.csv")[0] == 0
    made = Forecaster.from_pretrained().predict_df(pelts[-19:-4], 4, num_samples=3, **columns)
    assert pd.read_csv("all.csv").predictions.tolist() == made.predictions.tolist()
    error = m2(capsys, "forecast", "pelts.csv", "--horizon", 4, "--context-length", 9)[2]
    assert error == "error: context_length is 9; give 10 steps or more, or leave it out"


def test_without_a_file_the_table_is_printed(capsys, pelts):
    status, out, _ = m2(
        capsys, "forecast", "pelts.csv", "--horizon", 30, "--target", "lynx", "--samples", 1
    )
    assert status == 0
    assert "1969" in out
    status, out, _ = m2(capsys, "forecast", "pelts.csv", "--horizon", 30, "--samples", 1)
    assert "60 rows; --output F.csv writes them all" in out


def test_what_is_unfit_is_left_out_and_listed(capsys):
    days = pd.date_range("2024-01-01", periods=30, tz="UTC")
    wave = 50 + 30 * np.sin(np.arange(30) / 3)
    shops = {"good": wave, "flat": wave * 0, "short": wave[:5], "gaps": wave, "hole": wave}
    rows = [
        {"shop": name, "day": f"{day:%Y-%m-%dT%H:%M:%SZ}", "sold": sold, "price": 1.5}
        for name, values in shops.items()
        for day, sold in zip(days, values, strict=False)
    ]
    table = pd.DataFrame(rows)
    table.loc[table.shop == "hole", "sold"] = [*wave[:9], np.nan, *wave[10:]]
    table = table.drop(index=table.index[table.shop == "gaps"][20])[::-1]
    table.to_csv("t.csv", index=False)
    options = ("--horizon", 2, "--samples", 2, "--target", "sold", "--output", "a.csv", "--force")

    status, _, error = m2(capsys, "forecast", "t.csv", *options)
    assert status == 1
    assert error.startswith("error: t.csv, row 21, column 'sold': an empty cell; fill it (--fill")
    assert error.endswith("; --skip leaves series 'hole' out (skip=True)")

    assert cli.main(["forecast", "t.csv", *map(str, options), "--skip"]) == 0
    said, warned = capsys.readouterr()
    assert "t.csv: 30 steps of 1 series; target: sold;" in said
    assert "; not read: price;" in said
    left_out = [line for line in warned.splitlines() if "is left out" in line]
    assert [line.split("'")[1] for line in left_out] == ["hole", "gaps", "short", "flat"]
    assert "warning: t.csv: the rows of 1 of 1 series were sorted by time" in warned
    ahead = pd.read_csv("a.csv")
    assert ahead["shop"].unique().tolist() == ["good"]
    assert ahead.day.tolist() == ["2024-01-31 00:00:00+00:00", "2024-02-01 00:00:00+00:00"]

    assert cli.main(["forecast", "t.csv", *map(str, options), "--skip", "--fill", "linear"]) == 0
    assert "warning: t.csv: steps that were filled (linear): 2\n" in capsys.readouterr().err
    assert pd.read_csv("a.csv")["shop"].unique().tolist() == ["hole", "gaps", "good"]


@pytest.fixture
def four(monkeypatch):
    """Four series in a table, two of them in a part."""
    monkeypatch.setattr(module, "PART", 2)
    wave = 50 + 30 * np.sin(np.arange(12) / 3)
    table = pd.DataFrame({"id": [*"abcd"] * 12, "y": wave.repeat(4)})
    table.to_csv("four.csv", index=False)
    return table


def test_parts_are_one_table(capsys, four):
    status, _, _ = m2(capsys, "forecast", "four.csv", "--horizon", 3, "--output", "a.csv")
    assert status == 0
    written = pd.read_csv("a.csv")
    made = Forecaster.from_pretrained().predict_df(
        four, prediction_length=3, quantile_levels=[0.1, 0.5, 0.9], id_column="id",
        timestamp_column=None, target="y",
    )  # fmt: skip
    pd.testing.assert_frame_equal(written, made, check_dtype=False)
    # Equal series differ in what was sampled, in another part as well.
    assert written.groupby("id").predictions.apply(tuple).nunique() == 4


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (KeyboardInterrupt(), 130),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1),
        (InputError("series c has no scale; drop it"), 1),
    ],
)
def test_what_stops_the_work_leaves_the_parts_that_are_finished(
    capsys, monkeypatch, four, reason, status
):
    sample = Forecaster.sample
    calls = iter((sample, None))

    def stopped_after_a_part(*arguments, **options):
        go_on = next(calls)
        if not go_on:
            raise reason
        return go_on(*arguments, **options)

    monkeypatch.setattr(Forecaster, "sample", stopped_after_a_part)
    options = ["--horizon", "3", "--output", "a.csv", "--plot", "a.png"]
    assert cli.main(["forecast", "four.csv", *options]) == status
    assert "stopped after 2 of 4 series; missing: c, d\n" in capsys.readouterr().err
    written = pd.read_csv("a.csv")
    assert written.id.tolist() == ["a"] * 3 + ["b"] * 3
    with open("a.png", "rb") as picture:
        assert picture.read(4) == b"\x89PNG"


def test_ctrl_c_before_the_first_part_writes_nothing(capsys, monkeypatch, four):
    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(Forecaster, "sample", stopped)
    assert cli.main(["forecast", "four.csv", "--horizon", "3", "--output", "a.csv"]) == 130
    assert not Path("a.csv").exists()


def test_a_name_that_a_terminal_cannot_show_is_escaped(monkeypatch):
    days = pd.date_range("2024-01-01", periods=12)
    pd.DataFrame({"date": days, "price in €": np.arange(12) % 5}).to_csv("t.csv", index=False)
    terminal = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", terminal)
    assert cli.main(["forecast", "t.csv", "--horizon", "2", "--samples", "1"]) == 0
    assert b"target: price in \\u20ac;" in terminal.buffer.getvalue()


def test_evaluate_says_what_beats_what_and_keeps_it(capsys, pelts):
    options = (
        "--horizon",
        4,
        "--origins",
        3,
        "--stride",
        2,
        "--leave-out",
        5,
        "--period",
        30,
        "--samples",
        3,
    )
    status, out, warned = m2(capsys, "evaluate", "pelts.csv", *options, "--output", "found.json")
    assert (status, warned) == (
        0,
        "warning: left out, as a context is too short for it: 30 steps ago",
    )
    assert "forecasts of 4 steps: 3;" in out
    assert "the language model's error is" in out
    with open("found.json", encoding="utf-8") as file:
        kept = json.load(file)
    assert [origin["steps"] for origin in kept["origins"]] == [27, 29, 31]
    assert (kept["settings"]["season"], kept["settings"]["period"], kept["backbone"]["id"]) == (
        1,
        30,
        "tiny",
    )
    assert set(map(len, kept["errors"].values())) == {3}
    loaded = Forecaster.from_pretrained()
    assert kept["adapter"] == weights_hash(loaded.adapter)
    assert kept["backbone"]["dtype"] == loaded.dtype
    error = m2(capsys, "evaluate", "pelts.csv", *options, "--output", "found.json")[2]
    assert error == "error: found.json exists; name another file, or replace it with --force"


def test_evaluate_writes_all_forecasts(capsys, pelts):
    options = ("--horizon", 4, "--origins", 2, "--samples", 3)
    status, out, _ = m2(capsys, "evaluate", "pelts.csv", *options, "--output", "all.csv")
    assert status == 0
    assert "weighted quantile loss" in out
    made = Forecaster.from_pretrained().evaluate(
        pelts, 4, origins=2, num_samples=3,
        id_column=None, timestamp_column="year", target=["hare", "lynx"],
    )  # fmt: skip
    pd.testing.assert_frame_equal(pd.read_csv("all.csv"), made.forecasts, check_dtype=False)
    assert made.forecasts.year.tolist() == [*range(1932, 1936)] * 2 + [*range(1936, 1940)] * 2


def test_a_forecast_holds_its_samples_where_asked(capsys, pelts):
    options = ("--horizon", 4, "--samples", 3, "--with-samples", "--output", "ahead.csv")
    assert m2(capsys, "forecast", "pelts.csv", *options)[0] == 0
    assert list(pd.read_csv("ahead.csv").columns)[-4:] == [
        "mean", "sample_0", "sample_1", "sample_2"
    ]  # fmt: skip


def test_a_warning_is_a_line(capsys, pelts):
    pd.concat([pelts] * 10)[["hare"]].to_csv("long.csv", index=False)
    assert cli.main(["forecast", "long.csv", "--horizon", "2", "--samples", "1"]) == 0
    warned = "warning: of a series longer than the model's window the last 204 steps are read\n"
    assert capsys.readouterr().err == warned


def test_evaluate_fine_tunes_before_each_origin(capsys, pelts):
    options = ("--horizon", 4, "--origins", 2, "--samples", 1)
    plain, tuned = (
        m2(capsys, "evaluate", "pelts.csv", *options, *more) for more in ((), ("--finetune", 2))
    )
    assert plain[0] == tuned[0] == 0
    assert plain[1] != tuned[1]
    # An adapter may have several views, and what is tuned further has one.
    m2(capsys, "finetune", "pelts.csv", "--horizon", 4, "--steps", 1, "--output", "mine")
    Path("mine/views.json").write_text('[{"steps": 20}, {"trend": true}]', encoding="utf-8")
    keeping = ("--adapter", "mine", "--output", "found.json", "--force")
    for more, views in (((), [View(20), View(trend=True)]), (("--finetune", 1), [View()])):
        m2(capsys, "evaluate", "pelts.csv", *options, *keeping, *more)
        kept = json.loads(Path("found.json").read_text("utf-8"))
        assert kept["views"] == [asdict(view) for view in views]
    options = ("--horizon", 8, "--origins", 5, "--samples", 2, "--finetune", 1)
    _, out, error = m2(capsys, "evaluate", "pelts.csv", *options)
    # from 24 and 32 steps: 16 leave no window of ten steps and a horizon
    assert "forecasts of 8 steps: 2;" in out
    assert "3 of the 5 forecasts asked for (--origins) are missing, because their" in error


def test_a_column_of_dates_that_is_not_understood_is_said(capsys, pelts):
    pelts.assign(quarter=[f"Q{step % 4 + 1} of {step // 4}" for step in range(len(pelts))]).drop(
        columns="year"
    ).to_csv("quarters.csv", index=False)
    options = ("--horizon", 2, "--samples", 1, "--target", "hare", "lynx")
    _, out, error = m2(capsys, "forecast", "quarters.csv", *options)
    assert "not read: quarter" in out
    assert "quarters.csv: no column of dates was found, so the rows are taken to be in" in error


TRAINED = ("--steps", 2, "--rate", 0.01, "--rank", 3, "--batch", 4, "--seed", 5)


def test_evaluate_and_finetune_leave_out_and_fill_too(capsys, pelts):
    gaps = pd.concat([pelts.assign(shop="a").drop(index=20), pelts.assign(shop="b", hare=1.0)])
    gaps.to_csv("gaps.csv", index=False)
    options = ("gaps.csv", "--horizon", 4, "--target", "hare", "--skip", "--fill", "last")
    status, _, _ = m2(capsys, "evaluate", *options, "--samples", 1, "--output", "found.json")
    assert status == 0
    with open("found.json", encoding="utf-8") as file:
        kept = json.load(file)
    assert (kept["settings"]["skip"], kept["settings"]["fill"]) == (True, "last")
    assert kept["origins"] == [{"item": 0, "steps": 36}]
    status, out, _ = m2(capsys, "finetune", *options, "--steps", 1, "--output", "mine")
    assert status == 0
    assert "1 of 1 series" in out


def test_finetune_then_forecast_then_export(capsys, pelts):
    status, out, _ = m2(
        capsys, "finetune", "pelts.csv", "--horizon", 4, *TRAINED, "--output", "mine"
    )
    assert status == 0
    assert "FLOPs by the rules" in out
    with open("mine/facts.json", encoding="utf-8") as file:
        recipe = json.load(file)["recipe"]
    assert [recipe[name] for name in ("steps", "learning_rate", "rank", "batch_size", "seed")] == [
        2,
        0.01,
        3,
        4,
        5,
    ]
    status, _, _ = m2(
        capsys, "forecast", "pelts.csv", "--horizon", 4, "--adapter", "mine", "--output", "a.csv"
    )
    assert status == 0
    status, out, _ = m2(capsys, "export", "mine", "whole")
    assert (status, out.strip()) == (0, "whole")
    with (
        open("whole/text_format.json", encoding="utf-8") as exported,
        open("mine/text_format.json", encoding="utf-8") as own,
    ):
        assert json.load(exported) == json.load(own)
    twice = ("--backbone", "whole", "--adapter", "mine")
    status, _, error = m2(capsys, "forecast", "pelts.csv", "--horizon", 4, *twice)
    assert status == 1
    assert "whole is an exported model, into which an adapter is merged already" in error


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("forecast", "pelts.csv", "--horizon", "2", "--target", "fox"), "fox"),
        (("forecast", "pelts.csv", "--horizon", "2", "--output", "pelts.csv"), "--force"),
        (("forecast", "pelts.csv", "--horizon", "2", "--output", "a.xls"), "a.xls"),
        (
            ("forecast", "pelts.csv", "--horizon", "2", "--plot", "a.gif"),
            "a.gif does not end in .png or .svg",
        ),
        (("forecast", "pelts.csv", "--horizon", "5000"), "5000 steps are more than tiny can write"),
        (("evaluate", "pelts.csv", "--horizon", "39"), "40"),
        (("finetune", "pelts.csv", "--horizon", "20", "--output", "new"), "40"),
        (("export", "gone", "new"), "'gone' is no folder with an adapter_config"),
        (("export", "none", "new"), "`none` has no adapter to merge; name an adapter's folder"),
    ],
)
def test_what_cannot_be_done_is_one_line(capsys, monkeypatch, pelts, tmp_path, arguments, line):
    if "5000" not in arguments:  # which the model has to say
        monkeypatch.setattr(Forecaster, "from_pretrained", None)
    status, _, error = m2(capsys, *arguments)
    assert status == 1
    assert error.startswith("error: ")
    assert line in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pelts.csv"]


def test_where_the_series_of_a_table_begin_and_end_is_said(tmp_path, capsys):
    days = {"b": range(5, 19), "a": range(1, 13)}
    rows = [f"{name},2024-01-{day:02d},{day % 5}" for name, known in days.items() for day in known]
    (tmp_path / "t.csv").write_text("\n".join(["id,date,y", *rows]), encoding="utf-8")
    cli_tables.Task(tmp_path / "t.csv", horizon=2).read()
    said = capsys.readouterr().out
    assert "2024-01-01 to 2024-01-18" in said
    assert "season" not in said  # no series has three weeks


def test_of_a_day_and_a_week_the_one_that_is_taken_is_said(tmp_path, capsys):
    demand = pd.DataFrame({"date": pd.date_range("2024-01-01", periods=1008, freq="30min")})
    demand["y"] = 10 + np.arange(1008) % 48 + np.arange(1008) / 100
    whole = demand.assign(id="three weeks")
    part = demand[:1007].assign(id="less")
    path = tmp_path / "t.csv"
    for table, taken in (
        (whole, "336 steps, multiplied"),
        (part, "48 steps, multiplied"),
        (pd.concat([whole, part]), "48 or 336 steps, multiplied"),
    ):
        table.to_csv(path, index=False)
        cli_tables.Task(path, horizon=2).read()
        assert capsys.readouterr().out.strip().endswith(f"id: id; season: {taken}")


def test_no_season_is_said_where_calendars_differ(tmp_path, capsys):
    shops = []
    for name, spacing in (("all days", "D"), ("business days", "B")):
        days = pd.date_range("2024-01-01", periods=35, freq=spacing)
        shops.append(pd.DataFrame({"id": name, "date": days, "y": 10 + days.dayofweek % 5}))
    path = tmp_path / "t.csv"
    for table, said in (
        (pd.concat(shops), "; season: none, because the calendars of its series differ"),
        (shops[0], "; season: 7 steps"),
    ):
        table.to_csv(path, index=False)
        cli_tables.Task(path, horizon=2).read()
        assert said in capsys.readouterr().out


def test_the_season_that_is_taken_out_is_said(tmp_path, capsys):
    days = pd.date_range("2024-01-01", periods=21)
    weekly = np.arange(21) % 7 + 1
    table = pd.DataFrame({"date": days, "y": 10 + weekly + np.arange(21) / 10})
    cases = [
        (None, "; season: 7 steps, multiplied"),
        (5, "; season: 5 steps, multiplied"),
        (1, ""),
    ]
    for season, said in cases:
        table.to_csv(tmp_path / "t.csv", index=False)
        cli_tables.Task(tmp_path / "t.csv", horizon=2, season=season).read()
        assert capsys.readouterr().out.strip().endswith(f"id: none{said}")
    table.assign(y=weekly).to_csv(tmp_path / "t.csv", index=False)  # nothing else would remain
    cli_tables.Task(tmp_path / "t.csv", horizon=2).read()
    assert capsys.readouterr().out.strip().endswith("season: 7 steps, taken out of no series")


@pytest.mark.parametrize("command", ["forecast", "evaluate"])
def test_temperature_and_seed_decide_what_is_sampled(capsys, pelts, command):
    def made(*sampling):
        options = ("--horizon", 4, "--samples", 3, *sampling, "--output", "a.csv", "--force")
        assert m2(capsys, command, "pelts.csv", *options)[0] == 0
        return pd.read_csv("a.csv")

    cold = made("--temperature", 1e-6)
    assert cold["0.1"].tolist() == cold["0.9"].tolist()  # all samples are the likeliest text
    one, other = (made("--seed", seed).predictions.tolist() for seed in (1, 2))
    assert one != other


def test_what_is_tuned_learns_from_as_many_steps_as_will_be_read(capsys, pelts, monkeypatch):
    learned = []
    monkeypatch.setattr(finetune, "train", lambda model, windows, *_: learned.append(windows))
    options = ("--horizon", 4, "--samples", 1, "--finetune", 1, "--context-length", 12)
    assert m2(capsys, "evaluate", "pelts.csv", *options)[0] == 0
    (windows,) = learned
    assert max((windows(step) == SEMICOLON_ID).sum() for step in range(20)) == 12 + 4
