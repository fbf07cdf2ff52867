"""A verdict claims no more than the errors prove; the errors here are made by hand."""

from dataclasses import fields, replace

import pandas as pd
import pytest

from m2lib.forecaster.evaluation import MEASURES, MODEL, Evaluation


def evaluation_of(model, last_value, one_of_each_series=False):
    """Return an evaluation from the errors of the model and of the last value.

    The forecasts are all of one series, or each of another. The third forecaster is far worse.
    """
    count = len(model)
    places = range(count) if one_of_each_series else [0] * count
    index = pd.MultiIndex.from_arrays([places, range(count)], names=["item", "steps"])
    columns = {MODEL: model, "last value": last_value, "mean": [1e6] * count}
    errors = pd.DataFrame(columns, index, dtype=float)
    return Evaluation(
        measures=dict.fromkeys(MEASURES, errors),
        season=1,
        period=None,
        crps=1.0,
        coverage=0.8,
        forecasts=pd.DataFrame(),
    )


BETTER = evaluation_of([1.0] * 20, [2.0] * 20)


def test_a_verdict_names_the_best_other_forecast():
    assert BETTER.verdict == (
        "the language model's error is 50% below that of the best of the others, "
        "last value; with 20 forecasts that is more than chance"
    )


def test_a_large_error_is_written_with_all_digits_before_its_point():
    table = evaluation_of([9999.4] * 6, [12345.6] * 6).table()
    assert table["MAE"].tolist() == ["9999", "12346", "1000000"]


def test_the_best_other_forecast_has_the_least_mean_error():
    nearly_always_right = evaluation_of([1.0] * 20, [0.0] * 19 + [1e9])
    assert "the best of the others, mean;" in nearly_always_right.verdict


@pytest.mark.parametrize(
    ("model", "last_value", "side"),
    [
        pytest.param(2.5, 2.0, "25% above", id="worse"),
        pytest.param(2.0, 2.0, "equal to", id="equal"),
        pytest.param(0.0, 0.0, "equal to", id="both without an error"),
        # The last value is right where a course stands still, and nothing is a percentage of 0.
        pytest.param(2.5, 0.0, "above", id="the other one without an error"),
    ],
)
def test_a_verdict_says_on_which_side_the_error_lies(model, last_value, side):
    verdict = evaluation_of([model] * 20, [last_value] * 20).verdict
    assert f"the language model's error is {side} that of the best" in verdict


def test_gains_and_losses_that_nearly_cancel_out_may_be_chance():
    mixed = evaluation_of([1, 3] * 10, [3, 1.01] * 10)
    assert mixed.verdict.endswith("that may be chance")


def test_forecasts_of_each_series_from_one_moment_may_all_err_together():
    once_each = evaluation_of([1.0] * 20, [2.0] * 20, one_of_each_series=True)
    assert once_each.verdict.endswith("with 20 forecasts, one of each series, that may be chance")


def test_fewer_than_six_forecasts_prove_nothing():
    few = evaluation_of([1.0] * 4, [2.0] * 4)
    assert few.verdict.endswith("fewer than 6 forecasts prove nothing")
    assert "95% interval" not in few.table()
    assert "95% interval" in evaluation_of([1.0] * 6, [2.0] * 6).table()


def test_the_interval_of_six_forecasts_is_students():
    uneven = evaluation_of([0.0] * 6, [1.0, 2, 3, 4, 5, -3])
    # It is 2.57 standard errors to either side, where a bootstrap has some 1.7.
    assert uneven.table().loc["last value", "95% interval"] == "-0.97 to +4.97"
    assert uneven.verdict.endswith("that may be chance")


def test_a_gain_that_patterns_of_signs_often_reach_may_be_chance():
    one_far_off = evaluation_of([0.0] * 6, [3.0, 3, 3, 3, 3, -0.5])
    # The interval leaves zero out, but 4 of 64 patterns of signs lie as far from it.
    assert one_far_off.table().loc["last value", "95% interval"].startswith("+0.9")
    assert one_far_off.verdict.endswith("that may be chance")


def test_a_loss_to_the_luckiest_of_several_has_to_be_surer():
    # All six forecasts are worse, and 2 of 64 patterns of signs lie as far from zero. Beside one
    # other forecaster that is more than chance. Of two, the luckier is found by these very errors.
    worse = evaluation_of([2.0, 3, 2, 3, 2, 3], [1.0] * 6)
    assert worse.verdict.endswith("that may be chance")
    fewer = worse.mase.drop(columns="mean")
    beside_one = replace(worse, measures=worse.measures | {"mase": fewer})
    assert beside_one.verdict.endswith("more than chance")


def test_a_gain_over_the_best_of_several_need_be_no_surer():
    better = evaluation_of([1.0] * 6, [2.0, 3, 2, 3, 2, 3])
    assert better.verdict.endswith("with 6 forecasts that is more than chance")


def test_a_record_holds_every_measure():
    no_measures = {"measures", "season", "period", "forecasts", "id_column"}
    of_samples = {field.name for field in fields(Evaluation)} - no_measures
    assert BETTER.record().keys() == {"origins", *MEASURES, *of_samples}


def test_the_table_has_the_best_first_and_the_models_gain_over_each():
    table = BETTER.table()
    assert list(table.index) == [MODEL, "last value", "mean"]
    assert table.loc["last value"].tolist() == ["2", "2.00", "+1.00", "+1.00 to +1.00", "20 of 20"]


def test_the_best_is_the_one_with_the_least_scaled_error():
    exchanged = BETTER.errors.rename(columns={MODEL: "mean", "mean": MODEL})
    other_units = replace(BETTER, measures=BETTER.measures | {"errors": exchanged})
    assert list(other_units.table().index) == [MODEL, "last value", "mean"]


def test_a_forecast_that_is_as_good_is_not_better():
    tied_twice = evaluation_of([1.0] * 6, [1.0, 1, 2, 2, 2, 2])
    assert tied_twice.table().loc["last value", "model better"] == "4 of 6"
