"""Columns: it is guessed which one is what, but what is given stands."""

import numpy as np
import pandas as pd
import pytest

from example_tables import B_ALONE, COLUMNS, DAYS, TWO_SERIES, WAVE
from m2lib.forecaster import Columns, guess_columns

TWO_SHOPS = TWO_SERIES.rename(columns={"item_id": "shop"})
SALES = pd.DataFrame({"date": DAYS, "sky": ["sun", "rain"] * 6, "month": 1, "sold": WAVE})
"""One series, with two columns beside its time and its target."""
YEARS = [2021] * 4 + [2022] * 4 + [2023] * 4


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        pytest.param(TWO_SERIES, COLUMNS, id="the names of chronos"),
        pytest.param(
            TWO_SERIES.set_axis(["unique_id", "DS", "Y"], axis=1),
            Columns("unique_id", "DS", ("Y",)),
            id="the names of Nixtla, in capitals",
        ),
        pytest.param(
            TWO_SERIES.set_axis(["country", "when", "gdp"], axis=1).astype({"when": str}),
            Columns("country", "when", ("gdp",)),
            id="unusual names, with dates as text",
        ),
        pytest.param(
            B_ALONE.assign(item_id=range(12)),
            Columns(None, "timestamp", ("target",)),
            id="row numbers are no ids",
        ),
        pytest.param(
            B_ALONE.set_axis(["Unnamed: 0", "time", "hare"], axis=1),
            Columns(None, "time", ("hare",)),
            id="a column that pandas names is no target",
        ),
        pytest.param(
            pd.DataFrame({"index": range(12), "date": DAYS, "sold": WAVE}),
            Columns(None, "date", ("sold",)),
            id="a column called index is no target",
        ),
        pytest.param(
            pd.DataFrame({"year": range(12), "hare": WAVE, "lynx": WAVE}),
            Columns(None, "year", ("hare", "lynx")),
            id="all other numbers are targets",
        ),
        pytest.param(
            SALES.assign(promotion=[True, False] * 6),
            Columns(None, "date", ("sold",)),
            id="text is no id where each time comes once, and yes and no are no numbers",
        ),
        pytest.param(
            SALES.assign(promotion=pd.array([True, False] * 6, dtype="boolean")),
            Columns(None, "date", ("sold",)),
            id="nor are yes and no of pandas' own type",
        ),
        pytest.param(
            SALES.assign(date=["T1", "T2"] * 6).rename(columns={"date": "team"}),
            Columns("team", "month", ("sold",)),
            id="text is an id where times repeat",
        ),
        pytest.param(
            pd.DataFrame({"note": [np.nan] * 24}).join(TWO_SHOPS),
            Columns("shop", "timestamp", ("target",)),
            id="an empty column is no id",
        ),
        pytest.param(
            TWO_SERIES.assign(target=np.nan, price=[*WAVE, *WAVE]),
            COLUMNS,
            id="no other number takes the place of an empty target",
        ),
        pytest.param(
            pd.DataFrame({"discount": [0.1, 0.2] + [np.nan] * 22}).join(TWO_SHOPS),
            Columns("shop", "timestamp", ("target",)),
            id="a few numbers are no text",
        ),
        pytest.param(
            pd.DataFrame({"holiday": [True, False] * 12}).join(TWO_SHOPS),
            Columns("shop", "timestamp", ("target",)),
            id="True and False are no text",
        ),
        pytest.param(
            pd.DataFrame({"holiday": [True, False, None] * 8}).join(TWO_SHOPS),
            Columns("shop", "timestamp", ("target",)),
            id="True and False are no text beside empty cells",
        ),
        pytest.param(
            pd.DataFrame({"year": YEARS, "month": ["Jan", "Apr", "Jul", "Oct"] * 3, "y": WAVE}),
            Columns(None, "year", ("y",)),
            id="a month is no id",
        ),
        pytest.param(
            pd.DataFrame({"year": YEARS, "quarter": ["Q1", "Q2", "Q3", "Q4"] * 3, "y": WAVE}),
            Columns(None, "year", ("y",)),
            id="a quarter is no id",
        ),
        pytest.param(
            pd.DataFrame({"year": YEARS, "season": ["spring", "autumn"] * 6, "voles": WAVE}),
            Columns(None, "year", ("voles",)),
            id="a season is no id",
        ),
        pytest.param(
            SALES.assign(weekday=[*range(7), *range(5)]),
            Columns(None, "date", ("sold",)),
            id="a weekday is no target",
        ),
        pytest.param(
            pd.DataFrame({"sold": ["1", "2", "x"] * 4}),
            Columns(None, None, ("sold",)),
            id="most cells are numbers",
        ),
        pytest.param(
            pd.DataFrame({"mixed": ["1", "x"] * 6, "sold": WAVE}),
            Columns("mixed", None, ("sold",)),
            id="half of the cells are not most",
        ),
        pytest.param(
            TWO_SERIES.assign(series="S", id="I", value=WAVE[0], y=WAVE[1]),
            COLUMNS,
            id="chronos' names come before all others",
        ),
        pytest.param(
            SALES.rename(columns={"date": "sold_on", "month": "week"}),
            Columns(None, "sold_on", ("sold",)),
            id="dates come before numbers called week",
        ),
        pytest.param(
            pd.DataFrame({"sold": WAVE, "period": range(202401, 202413)}),
            Columns(None, "period", ("sold",)),
            id="numbers such as 202401 are months",
        ),
        pytest.param(
            pd.DataFrame({"product": range(202401, 202413), "sold_on": DAYS, "y": WAVE}),
            Columns(None, "sold_on", ("y",)),
            id="dates come before numbers such as 202401",
        ),
        pytest.param(
            pd.DataFrame({"quarter": [f"{year}Q1" for year in range(1990, 2002)], "gdp": WAVE}),
            Columns(None, "quarter", ("gdp",)),
            id="quarters are dates",
        ),
    ],
)
def test_columns_are_guessed(table, columns):
    assert guess_columns(table) == columns


@pytest.mark.parametrize("form", ["%d-%b-%y", "%d/%m/%y", "%b %Y", "%m/%d/%Y %I:%M %p"])
def test_dates_that_are_read_are_guessed_in_whatever_form(form):
    """Text that repeats would otherwise be the id, and each day a series of its shops."""
    table = TWO_SHOPS.rename(columns={"timestamp": "sold on"}).assign(month=1)
    table.insert(0, "sold on", table.pop("sold on").dt.strftime(form))
    assert guess_columns(table) == Columns("shop", "sold on", ("target",))


def test_a_total_below_the_dates_leaves_them_dates():
    days = [*DAYS.strftime("%d-%b-%y"), "total"]
    table = pd.DataFrame({"sold on": days, "sold": [*WAVE, WAVE.sum()]})
    assert guess_columns(table) == Columns(None, "sold on", ("sold",))


def test_a_given_id_and_given_targets_stand():
    table = TWO_SERIES.assign(shop="B", y=[*WAVE, *WAVE])
    columns = guess_columns(table, id="shop", targets=["y", "target"])
    assert columns == Columns("shop", "timestamp", ("y", "target"))


def test_a_given_time_stands():
    table = TWO_SERIES.assign(y=[*WAVE, *WAVE])
    columns = guess_columns(table, time="y")
    assert columns == Columns("item_id", "y", ("target",))
