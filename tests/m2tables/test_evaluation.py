"""A table's past is forecast as it was known then, and a verdict claims no more than it proves."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from m2lib.errors import InputError
from m2tables import evaluation
from m2tables.evaluation import OURS, Evaluation, Origin, evaluate
from m2tables.tables import Columns, items_of

COLUMNS = Columns("id", "day", ("y",))


class Learner:
    """Forecasts the mean of what it sees, with deciles 10 apart, and remembers what it saw."""

    def __init__(self):
        self.seen = []

    def quantiles(self, series, horizon, seasons, levels):
        self.seen += [values.copy() for values in series]
        means = np.array([values.mean(axis=0) for values in series])
        spread = 100 * (np.asarray(levels) - 0.5)
        return np.tile(means[:, None, None, :] + spread[None, :, None, None], (1, 1, horizon, 1))


def items(**series):
    """Return the series of a daily table."""
    parts = []
    for name, values in series.items():
        days = pd.date_range("2024-01-01", periods=len(values))
        parts.append(pd.DataFrame({"id": name, "day": days, "y": np.asarray(values, float)}))
    return items_of(pd.concat(parts), COLUMNS)


@pytest.fixture
def alone(monkeypatch):
    """Let statsforecast be missing."""
    monkeypatch.setattr(evaluation, "find_spec", lambda _: None)


pytestmark = pytest.mark.filterwarnings("ignore:AutoETS, AutoTheta")


def test_each_origin_sees_what_was_known_by_then(alone):
    learner = Learner()
    found = evaluate(learner, items(a=range(20)), COLUMNS, horizon=3, origins=2)
    assert [len(seen) for seen in learner.seen] == [14, 17]
    assert [origin.truth.ravel().tolist() for origin in found.origins] == [
        [14, 15, 16],
        [17, 18, 19],
    ]
    assert list(found.mase.index) == [("a", 14), ("a", 17)]


def test_an_error_is_scaled_by_the_change_from_season_to_season(alone):
    # 14 known days, whose change from week to week is 7; 14 and 15 follow, after a 13.
    found = evaluate(Learner(), items(a=range(16)), COLUMNS, horizon=2)
    assert found.mase.loc[("a", 14), "last value"] == pytest.approx(1.5 / 7)
    assert found.mase.loc[("a", 14), "last season"] == pytest.approx(7 / 7)
    assert found.mase.loc[("a", 14), OURS] == pytest.approx(8 / 7)  # the mean is 6.5


def test_bands_that_hold_half_of_the_values_say_so(alone):
    # The mean is 5 and the 80% band goes from -35 to 45; one of two values is above it.
    found = evaluate(Learner(), items(a=[4, 6] * 7 + [40, 50]), COLUMNS, horizon=2)
    assert found.coverage == 0.5


def test_forecasts_stand_beside_the_truth_in_the_tables_units(alone):
    found = evaluate(Learner(), items(a=range(16)), COLUMNS, horizon=2)
    rows = found.forecasts
    assert list(rows.columns[:5]) == ["id", "day", "target_name", "cutoff", "truth"]
    assert rows["truth"].tolist() == [14, 15]
    assert rows["cutoff"].unique().tolist() == [pd.Timestamp("2024-01-14")]
    assert rows["0.5"].tolist() == rows[OURS].tolist() == [6.5, 6.5]


def test_what_is_too_short_or_has_not_changed_is_missing_and_this_is_said(alone):
    with pytest.warns(UserWarning, match="4 of the 6 forecasts are missing"):
        found = evaluate(
            Learner(), items(a=range(20), flat=[3] * 20, b=[1, 2]), COLUMNS, horizon=3, origins=2
        )
    assert [origin.item.name for origin in found.origins] == ["a", "a"]


def test_where_nothing_is_left_this_is_refused(alone):
    with pytest.raises(InputError, match="no series has changed before the last 40 steps"):
        evaluate(Learner(), items(a=range(20)), COLUMNS, horizon=20, origins=2)


def test_a_rival_of_ones_own_is_compared_and_cannot_see_or_change_what_followed(alone):
    def cheat(context, horizon, season):
        context[:] = 0
        assert context.base is None
        return np.full(horizon, season)

    found = evaluate(Learner(), items(a=range(16)), COLUMNS, horizon=2, rivals={"mine": cheat})
    assert found.origins[0].forecasts["mine"].tolist() == [[7], [7]]
    assert found.origins[0].context.max() == 13


def test_a_rival_that_returns_no_forecast_is_refused_by_name(alone):
    with pytest.raises(
        InputError, match=r"^mine has to return finite numbers of the shape \(2, 1\)"
    ):
        evaluate(
            Learner(),
            items(a=range(16)),
            COLUMNS,
            horizon=2,
            rivals={"mine": lambda *_: [np.nan, 1]},
        )


class Method:
    """Stands in for a model of statsforecast: it forecasts the season that it was told of."""

    def __init__(self, season_length):
        self.season = season_length

    def forecast(self, y, h):
        if y.max() > 100:
            raise Exception("it fails")
        return {"mean": np.full(h, float(self.season))}


@pytest.fixture
def statsforecast(monkeypatch):
    """Let statsforecast be installed, with methods that forecast once, twice, thrice the season."""
    methods = {}
    for factor, name in enumerate(evaluation.STATSFORECAST, start=1):

        class Own(Method):
            times = factor

            def forecast(self, y, h):
                return {"mean": self.times * super().forecast(y, h)["mean"]}

        methods[name] = Own
    monkeypatch.setattr(evaluation, "find_spec", lambda _: SimpleNamespace())
    monkeypatch.setattr(evaluation, "import_module", lambda _: SimpleNamespace(**methods))


def test_with_statsforecast_its_methods_and_their_median_take_part(statsforecast):
    found = evaluate(Learner(), items(a=range(16)), COLUMNS, horizon=2)
    forecasts = found.origins[0].forecasts
    assert [forecasts[name][0, 0] for name in evaluation.STATSFORECAST] == [7, 14, 21]
    assert forecasts[evaluation.MEDIAN_OF_THREE][0, 0] == 14


def test_a_method_that_fails_repeats_the_last_value_and_this_is_said(statsforecast):
    with pytest.warns(UserWarning, match="AutoETS fails and repeats the last value: it fails"):
        found = evaluate(Learner(), items(a=range(100, 116)), COLUMNS, horizon=2)
    assert found.origins[0].forecasts["AutoETS"].ravel().tolist() == [113, 113]


def test_without_statsforecast_this_is_said(alone):
    with pytest.warns(UserWarning, match="pip install statsforecast"):
        evaluate(Learner(), items(a=range(16)), COLUMNS, horizon=2)


def of_errors(ours, last_value, one_of_each_series=False):
    """Return an evaluation with these errors; a third forecaster is far worse."""
    origins = []
    for number, (own, other) in enumerate(zip(ours, last_value, strict=True)):
        item = SimpleNamespace(name=number if one_of_each_series else 0)
        forecasts = {OURS: own, "last value": other, "mean": 1e6}
        forecasts = {name: np.full((1, 1), float(error)) for name, error in forecasts.items()}
        nothing = np.zeros((1, 1))
        origins.append(Origin(item, number, nothing, nothing, np.ones(1), None, forecasts))
    return Evaluation(origins, COLUMNS)


@pytest.mark.parametrize(
    ("ours", "last_value", "verdict"),
    [
        pytest.param(
            [1.0] * 20,
            [2.0] * 20,
            "50% below that of the best of the others, last value; with 20 forecasts that is more "
            "than chance",
            id="surely better",
        ),
        pytest.param([2.5] * 20, [2.0] * 20, "25% above that of the best", id="worse"),
        pytest.param([2.0] * 20, [2.0] * 20, "equal to that of the best", id="equal"),
        pytest.param([2.5] * 20, [0.0] * 20, "is above that of the best", id="the other has none"),
        pytest.param(
            [1, 3] * 10, [3, 1.01] * 10, "that may be chance", id="they nearly cancel out"
        ),
        pytest.param([1.0] * 4, [2.0] * 4, "fewer than 6 forecasts prove nothing", id="few"),
        # The interval leaves zero out, but 4 of 64 patterns of signs lie as far from it.
        pytest.param([1.0] * 6, [4, 4, 4, 4, 4, 0.5], "that may be chance", id="signs"),
        # Of two others the luckier is found by these very errors.
        pytest.param([2.0, 3, 2, 3, 2, 3], [1.0] * 6, "that may be chance", id="luckiest of two"),
        pytest.param([1.0] * 6, [2.0, 3, 2, 3, 2, 3], "is more than chance", id="a gain"),
    ],
)
def test_a_verdict_claims_no_more_than_the_errors_prove(ours, last_value, verdict):
    assert verdict in of_errors(ours, last_value).verdict


def test_forecasts_of_each_series_from_one_moment_may_all_err_together():
    once_each = of_errors([1.0] * 20, [2.0] * 20, one_of_each_series=True)
    assert once_each.verdict.endswith("with 20 forecasts, one of each series, that may be chance")


def test_the_table_has_the_best_first_and_what_ours_gains_on_each():
    table = of_errors([1.0] * 6, [1.0, 1, 2, 2, 2, 2]).table()
    assert list(table.index) == [OURS, "last value", "mean"]
    assert table.loc["last value", "ours less"] == "+0.667"
    assert table.loc["last value", "ours better"] == "4 of 6"  # one as good is not better
    assert "95% interval" not in of_errors([1.0] * 5, [2.0] * 5).table()
