"""Tables: columns guessed, series taken out and checked, forecasts put into the form that others read."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from utilsforecast.evaluation import evaluate
from utilsforecast.losses import mae, quantile_loss

from m2lib.files import InputError
from m2lib.forecaster import Columns, Item, forecast_table, future_times, guess_columns, items_of

DAYS = pd.date_range("2024-01-01", periods=12)
WAVE = np.sin(np.arange(12.0))
LONG = pd.DataFrame({"item_id": ["B"] * 12 + ["A"] * 12, "timestamp": [*DAYS] * 2, "target": [*WAVE, *-WAVE]})
COLUMNS = Columns("item_id", "timestamp", ("target",))
SKY = pd.DataFrame({"date": DAYS, "sky": ["sun", "rain"] * 6, "month": 1, "sold": WAVE})
NINE = pd.DataFrame(np.ones((12, 9)), columns=list("bcdefghij"))
THERE = "there are 'item_id, timestamp, target'; name one with "
TWICE = "column 'target' is named twice; name each column for one thing"


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        (LONG, COLUMNS),
        (LONG.set_axis(["unique_id", "DS", "Y"], axis=1), Columns("unique_id", "DS", ("Y",))),
        (LONG.assign(price=1.0), COLUMNS),
        (LONG.assign(y=1.0), COLUMNS),
        (LONG.set_axis(["country", "when", "gdp"], axis=1).astype({"when": str}), Columns("country", "when", ("gdp",))),
        (LONG[:12].assign(item_id=range(12)), Columns(None, "timestamp", ("target",))),  # the rows' numbers
        (LONG.set_axis(["Unnamed: 0", "time", "hare"], axis=1)[:12], Columns(None, "time", ("hare",))),
        (pd.DataFrame({"year": range(12), "hare": WAVE, "lynx": WAVE}), Columns(None, "year", ("hare", "lynx"))),
        (SKY, Columns(None, "date", ("sold",))),
        (pd.DataFrame({"sold": ["1", "2", "x"] * 4}), Columns(None, None, ("sold",))),
    ],
)
def test_columns_are_guessed(table, columns):
    assert guess_columns(table) == columns


def test_what_is_given_stands():
    table = LONG.assign(shop=["B"] * 24, y=WAVE.tolist() * 2)
    assert guess_columns(table, id="shop", targets=["y", "target"]) == Columns("shop", "timestamp", ("y", "target"))
    assert guess_columns(table, time="y") == Columns("item_id", "y", ("target",))


@pytest.mark.parametrize(
    ("table", "given", "problem"),
    [
        (LONG, {"id": "shop"}, f": no column 'shop'; {THERE}id_column (--id), None where the table is one series"),
        (LONG, {"time": "ds"}, f": no column 'ds'; {THERE}timestamp_column (--time), None where the rows are in order"),
        (LONG, {"targets": ["y"]}, f": no column 'y'; {THERE}target (--target)"),
        (LONG["target"], {}, " is a Series; make it a pandas DataFrame with named columns"),
        (
            LONG[["item_id"]].set_index(LONG.target),
            {},
            ": no column of numbers to forecast; there are 'item_id', and the "
            "index 'target', which reset_index() makes columns",
        ),
        (LONG, {"time": "target", "targets": ["target"]}, f": {TWICE}"),
        (LONG, {"targets": ["target"] * 2}, f": {TWICE}"),
        (LONG[:0], {}, " has column names and no rows; add a row for each step"),
        (LONG[["item_id"]], {}, ": no column of numbers to forecast; there are 'item_id'"),
        (LONG.set_axis(["a", "b", "a"], axis=1), {}, ": two columns are called 'a'; rename one"),
        (NINE, {}, ": 9 columns of numbers; name at most 8 to forecast (--target)"),
    ],
)
def test_columns_that_cannot_be_are_refused(table, given, problem):
    with pytest.raises(InputError) as error:
        guess_columns(table, **given, where="t.csv")
    assert str(error.value) == f"t.csv{problem}"


@pytest.mark.parametrize(
    ("names", "id", "time"),
    [
        (["0.1", "day", "y"], "0.1", "day"),
        (["predictions", "day", "y"], "predictions", "day"),
        (["shop", "target_name", "y"], "shop", "target_name"),
        (["timestamp", "day", "y"], "timestamp", None),
        (["shop", "item_id", "y"], None, "item_id"),
    ],
)
def test_columns_that_a_forecast_would_write_over_are_refused(names, id, time):
    taken = next(name for name in names if name not in ("shop", "day", "y"))
    with pytest.raises(InputError) as error:
        items_of(LONG.set_axis(names, axis=1), Columns(id, time, ("y",)), where="t.csv")
    assert str(error.value) == f"t.csv: forecasts have a column {taken!r} of their own; rename this one"


def test_items_come_in_the_order_of_their_first_rows():
    items = items_of(LONG, COLUMNS)
    assert [item.name for item in items] == ["B", "A"]
    for item, values in zip(items, (WAVE, -WAVE), strict=True):
        assert item.values.dtype == np.float64
        assert item.values[:, 0].tolist() == values.tolist()
        assert item.times.freqstr == "D"
        assert item.times.tolist() == DAYS.tolist()


@given(st.permutations([0] * 12 + [1] * 11 + [2] * 10))
def test_rows_may_be_interleaved(whose):
    steps = pd.Series(whose).groupby(whose).cumcount()
    values = 100 * np.array(whose) + steps**2
    items = items_of(pd.DataFrame({"id": whose, "t": steps, "v": values, "w": -values}), Columns("id", "t", ("v", "w")))
    assert [item.name for item in items] == list(dict.fromkeys(whose))
    for item in items:
        assert type(item.name) is int
        assert item.values.tolist() == [[100 * item.name + k**2, -100 * item.name - k**2] for k in item.times]


def test_without_id_and_time_rows_are_steps():
    (item,) = items_of(pd.DataFrame({"v": [True, False] * 5}), Columns(None, None, ("v",)))
    assert (item.name, item.times.tolist(), item.values.sum()) == ("series", list(range(10)), 5)
    assert future_times(item, 2).tolist() == [10, 11]


def change(column, row, value):
    table = LONG.astype({column: object})
    table.loc[row, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "row", "column", "problem"),
    [
        (change("target", 2, "x"), 3, "target", "'x' is not a number; correct it, and write "),
        (change("timestamp", 20, "?"), 21, "timestamp", "'?' is no date, or not written as the first is; write "),
        (change("item_id", 7, None), 8, "item_id", "an empty cell (NA reads as one); say whose row it is"),
        (LONG.drop(index=16), 17, "timestamp", "2024-01-06 follows 2024-01-04, and a step is D; a gap: fill it"),
        (LONG[:21], 13, None, "series 'A' begins here and has 9 steps, fewer than 10; bring more, or drop it"),
        (LONG.assign(target=[*WAVE, *[0] * 12]), 13, "target", "series 'A' is 0 throughout, so nothing is to be "),
        (LONG.assign(target=[*[5.5] * 12, *WAVE]), 1, "target", "series 'B' is 5.5 throughout, so nothing is to be "),
    ],
)
def test_a_fault_is_named_by_file_row_and_column(table, row, column, problem):
    with pytest.raises(InputError) as error:
        items_of(table, COLUMNS, "sales.csv")
    named = f", column '{column}'" if column else ""
    assert str(error.value).startswith(f"sales.csv, row {row} (line {row + 1}){named}: {problem}")


def test_of_several_columns_a_constant_one_may_be_left_out():
    with pytest.raises(
        InputError, match=r"'price': series 'B' is 1 throughout, .*; drop it, or name other columns to "
    ):
        items_of(LONG.assign(price=1), Columns("item_id", "timestamp", ("target", "price")))


def test_columns_are_checked_again():
    with pytest.raises(InputError, match=r"^the table: no column 'y'; there are"):
        items_of(LONG, Columns("item_id", "timestamp", ("y",)))


def test_series_of_other_stamps_are_not_taken_for_known():
    shifted = LONG.assign(timestamp=[*DAYS, *(DAYS + pd.Timedelta("1h"))])
    assert [item.times[0].hour for item in items_of(shifted, COLUMNS)] == [0, 1]


def forecasts(items, variables, levels, horizon=3):
    rng = np.random.default_rng(0)
    bands = [rng.random((horizon, variables, len(levels))) for _ in items]
    return bands, [rng.random((horizon, variables)) for _ in items]


def test_forecasts_are_laid_out_as_chronos_does():
    items = [Item(name, pd.RangeIndex(start, start + 10), np.zeros((10, 2))) for name, start in ((7, 0), (3, 5))]
    bands, points = forecasts(items, 2, (0.1, 0.5))
    table = forecast_table(items, Columns("shop", "week", ("hare", "lynx")), 3, bands, (0.1, 0.5), points)
    assert table.columns.tolist() == ["shop", "week", "target_name", "predictions", "0.1", "0.5"]
    assert table["shop"].tolist() == [7] * 6 + [3] * 6
    assert table["target_name"].tolist() == (["hare"] * 3 + ["lynx"] * 3) * 2
    assert table["week"].tolist() == [10, 11, 12] * 2 + [15, 16, 17] * 2
    for _, row in table.iterrows():
        place = int(row["shop"] == 3), row["week"] - (15 if row["shop"] == 3 else 10), int(row["target_name"] == "lynx")
        assert row["predictions"] == points[place[0]][place[1:]]
        assert row[["0.1", "0.5"]].tolist() == bands[place[0]][place[1:]].tolist()


def test_a_table_without_names_gets_chronos_names():
    (item,) = items_of(LONG[["target"]][:12], columns := Columns(None, None, ("target",)))
    bands, points = forecasts([item], 1, (0.9,))
    table = forecast_table([item], columns, 3, bands, (0.9,), points)
    assert table.columns.tolist() == ["item_id", "timestamp", "target_name", "predictions", "0.9"]
    assert table["item_id"].tolist() == ["series"] * 3
    assert table["timestamp"].tolist() == [12, 13, 14]


def test_utilsforecast_reads_forecasts_beside_the_truth():
    items = items_of(LONG.groupby("item_id", sort=False).head(10), COLUMNS, least=9)
    bands, points = forecasts(items, 1, (0.1,), horizon=2)
    table = forecast_table(items, COLUMNS, 2, bands, (0.1,), points)
    truth = LONG.groupby("item_id", sort=False).tail(2)
    merged = table.merge(truth, on=["item_id", "timestamp"])
    assert len(merged) == 4
    names = {"id_col": "item_id", "time_col": "timestamp", "target_col": "target"}
    scores = evaluate(merged.drop(columns="target_name"), metrics=[mae], models=["predictions"], **names)
    errors = {"B": points[0][:, 0] - WAVE[10:], "A": points[1][:, 0] + WAVE[10:]}
    found = dict(zip(scores["item_id"], scores["predictions"], strict=True))
    assert found == pytest.approx({name: np.abs(error).mean() for name, error in errors.items()})
    losses = quantile_loss(merged, models={"0.1": "0.1"}, q=0.1, id_col="item_id", target_col="target")
    assert losses["0.1"].notna().all()
