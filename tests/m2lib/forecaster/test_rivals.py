"""The forecasts beside the language model's: in a table's units, or left out with a warning."""

import numpy as np
import pytest

from m2lib.errors import InputError
from m2lib.forecaster.rivals import (
    ETS,
    baselines_for,
    ets_forecasts,
    rival_forecasts,
    simple_forecasts,
)


def test_simple_forecasts_are_those_of_scaled_variables_in_the_tables_units():
    steps = np.arange(36) / 2
    context = np.stack([np.sin(steps) - 5, 1e3 * np.cos(steps)], axis=1)
    low = context.min(axis=0)
    unit = (context - low).max(axis=0) / 1000
    scaled = (context - low) / unit

    forecasts = simple_forecasts([context], 4, period=None)
    for name, baseline in baselines_for().items():
        expected = baseline(scaled[None], 4)[0] * unit + low
        assert forecasts[name][0] == pytest.approx(expected), name


def test_a_tables_units_change_no_simple_forecast():
    rng = np.random.default_rng(0)
    waves = 3 * np.sin(np.arange(60) / 2) ** 2
    context = 1 + rng.gamma(3, 1, (60, 2)) + waves[:, None]
    units = np.array([0.01, 500])

    plain = simple_forecasts([context], 4, period=None)
    in_units = simple_forecasts([context * units], 4, period=None)
    for name in baselines_for():
        assert in_units[name][0] / units == pytest.approx(plain[name][0]), name


def test_a_variable_that_is_never_negative_is_only_scaled():
    context = 500 + 300 * np.sin(np.arange(36) / 2)[:, None]
    unit = context.max() / 1000
    of_scaled = baselines_for()["log-VAR(3)"](context[None] / unit, 4)[0]

    forecasts = simple_forecasts([context], 4, period=None)
    assert forecasts["log-VAR(3)"][0] == pytest.approx(of_scaled * unit)


def test_a_variable_that_was_always_zero_has_simple_forecasts():
    wave = 50 + 30 * np.sin(np.arange(36) / 2)
    context = np.stack([wave, np.zeros(36)], axis=1)
    for name, (forecast,) in simple_forecasts([context], 4, period=None).items():
        assert forecast[:, 1] == pytest.approx(0, abs=1e-9), name


def test_a_baseline_that_a_context_is_too_short_for_is_left_out():
    contexts = [np.arange(30.0)[:, None], np.arange(8.0)[:, None]]
    with pytest.warns(UserWarning, match="a context is too short for it: nearest analogue"):
        forecasts = simple_forecasts(contexts, 4, period=None)
    assert forecasts.keys() == baselines_for().keys() - {"nearest analogue"}
    assert len(forecasts["last value"]) == 2


# AutoETS, which statsforecast brings. Here `installed` plays it: it forecasts the season that it
# was told of, and fails on fewer than 12 steps.


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("season", "taken"), [(24, 24.0), (25, 1.0)])
def test_a_season_that_is_too_long_for_exponential_smoothing_is_none(season, taken):
    forecasts = ets_forecasts([np.ones((90, 2))], 4, season)
    assert forecasts[ETS][0].tolist() == [[taken, taken]] * 4


@pytest.mark.usefixtures("installed")
def test_exponential_smoothing_is_left_out_where_it_fails():
    with pytest.warns(UserWarning, match=r"left out, as it fails: AutoETS \(series too short\)"):
        assert ets_forecasts([np.ones((90, 1)), np.ones((11, 1))], 4, season=1) == {}


# Rivals of a user's own.


def test_a_rival_may_leave_out_the_axis_of_a_single_variable():
    contexts = [np.ones((30, 1)), np.full((20, 1), 2.0)]
    forecasts = rival_forecasts(
        "mine", lambda known, steps: [c[-steps:, 0] for c in known], contexts, 4
    )
    assert [forecast.tolist() for forecast in forecasts] == [[[1.0]] * 4, [[2.0]] * 4]


def test_a_rival_cannot_change_the_table():
    context = np.ones((30, 2))

    def spoil(contexts, prediction_length):
        contexts[0][:] = 0
        return [np.zeros((prediction_length, 2))]

    rival_forecasts("mine", spoil, [context], 4)
    assert (context == 1).all()


@pytest.mark.parametrize(
    ("forecasts", "problem"),
    [
        pytest.param(None, r"did not return forecasts \('NoneType' object", id="no return"),
        pytest.param([["up"], ["down"]], "did not return forecasts", id="texts"),
        pytest.param([np.ones((4, 2))], "returned 1 forecasts of 2 contexts", id="too few"),
        pytest.param([np.ones((4, 2)), np.ones((2, 4))], r"1 has shape \(2, 4\), not", id="turned"),
        pytest.param([np.ones((4, 2)), np.ones(4)], r"1 has shape \(4,\), not", id="one variable"),
        pytest.param([np.full((4, 2), np.nan)] * 2, "0 has a value that is not finite", id="NaN"),
        pytest.param([np.full((4, 2), np.inf)] * 2, "0 has a value that is not finite", id="inf"),
    ],
)
def test_forecasts_of_another_form_are_refused(forecasts, problem):
    contexts = [np.ones((30, 2))] * 2
    with pytest.raises(InputError, match=f"^mine.*{problem}"):
        rival_forecasts("mine", lambda known, steps: forecasts, contexts, 4)
