"""The forecasts that the README's picture of real tables shows are recorded as it says."""

from m2lib.forecaster.adapters import GENERAL, GENERAL_FOLDER, adapter_weights_hash
from study.paper.textbook import judged_rows, pictured_rows


def test_the_pictured_forecasts_are_of_the_adapter_in_the_package():
    (adapter,) = {row["adapter"] for row in pictured_rows()}
    assert adapter == adapter_weights_hash(GENERAL_FOLDER)


def test_one_forecast_of_each_source_that_judges_is_pictured():
    judging = [row["source"] for row in judged_rows() if row["forecaster"] == GENERAL]
    pictured = [row["source"] for row in pictured_rows()]
    assert sorted(pictured) == sorted(judging)
