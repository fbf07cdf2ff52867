"""Training windows of synthetic series: full, as they were asked for, and fixed by their seed."""

from dataclasses import replace

import numpy as np
import pytest

from m2lib.model import PAD_ID, ids_to_text
from m2lib.series import TABLES
from study.synthetic import synthetic_windows


def steps_of(row):
    """Return the time steps of a window, each as the list of its variables' texts."""
    text = ids_to_text(row[row != PAD_ID])
    return [step.split(",") for step in text.split(";")[:-1]]


def steps_and_variables_of(batch):
    """Return how many steps and how many variables the series of a batch have, all the same."""
    series = [steps_of(row) for row in batch]
    (steps,) = {len(one) for one in series}
    (variables,) = {len(step) for one in series for step in one}
    return steps, variables


@pytest.fixture(scope="module")
def batches():
    """Return the windows of the first 200 steps of seed 0."""
    windows = synthetic_windows(1024, 0)
    return [windows(step) for step in range(200)]


@pytest.mark.parametrize(
    ("variables", "shares", "message"),
    [
        (1, {"pair_share": 0.2}, "pairs have two variables, and the format has 1"),
        (2, {"shown_share": 0.2}, "shown series have one variable, not 2"),
    ],
)
def test_shares_of_series_that_do_not_fit_the_format_are_refused(variables, shares, message):
    with pytest.raises(ValueError, match=message):
        synthetic_windows(1024, 0, TABLES.for_variables(variables), **shares)


def test_windows_are_a_function_of_seed_and_step(batches):
    again = synthetic_windows(1024, 0)
    other = synthetic_windows(1024, 1)
    for step, batch in enumerate(batches):
        assert np.array_equal(batch, again(step))
        assert not np.array_equal(batch, other(step))


def test_each_step_is_full(batches):
    for batch in batches:
        steps, variables = steps_and_variables_of(batch)
        tokens_of_series = steps * TABLES.for_variables(variables).longest_step
        assert len(batch) * tokens_of_series <= 1024
        assert (len(batch) + 1) * tokens_of_series > 1024  # another series has no room


def test_series_are_short_and_long_and_have_one_to_eight_variables(batches):
    shapes = [steps_and_variables_of(batch) for batch in batches]
    lengths = {steps for steps, _ in shapes}
    assert min(lengths) >= 20
    assert max(lengths) >= 220
    assert {variables for _, variables in shapes} == set(range(1, 9))


PAIRS_AND_SHOWN = {"seed": 8, "pair_share": 0.7, "shown_share": 0.4}


@pytest.mark.parametrize(
    ("settings", "step", "windows", "length", "numbers"),
    [
        pytest.param({"seed": 1}, 0, 1, 226, [326, 384, 374], id="one long series"),
        pytest.param({"seed": 1}, 2, 4, 60, [349, 328, 328], id="four short series"),
        pytest.param(PAIRS_AND_SHOWN, 1, 3, 79, [174, 179, 167], id="series as they are shown"),
        pytest.param(PAIRS_AND_SHOWN, 2, 1, 85, [208, 172, 167], id="prey and predators"),
    ],
)
def test_a_seed_keeps_its_series(settings, step, windows, length, numbers):
    """Otherwise the recorded runs could not be made again, and their plans do not tell."""
    batch = synthetic_windows(1024, **settings)(step)
    steps = steps_of(batch[0])
    assert len(batch) == windows
    assert len(steps) == length
    first_numbers = [int(variables[0]) for variables in steps[:3]]
    # A last digit may be rounded differently on another processor.
    assert first_numbers == pytest.approx(numbers, abs=1)


def test_too_few_tokens_are_refused_at_once():
    with pytest.raises(ValueError, match="512 tokens have no room for 20 steps of 8 variables"):
        synthetic_windows(512, 0)


def test_an_unknown_family_is_refused_at_once():
    with pytest.raises(ValueError, match="no family 'cylce': choose one of components, "):
        synthetic_windows(1024, 0, without="cylce")


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered in scalar")
def test_a_course_that_overflows_is_drawn_anew():
    windows = synthetic_windows(1024, 3, pair_share=0.8)
    assert len(windows(1806)) == 1  # in this step the first course overflows


def test_a_format_fixes_the_number_of_variables_and_of_digits():
    text_format = replace(TABLES, digits=4, variables=3)
    windows = synthetic_windows(1024, 0, text_format, without="dynamics")
    for step in range(20):
        batch = windows(step)
        _, variables = steps_and_variables_of(batch)
        assert variables == 3
        numbers = [int(text) for row in batch for texts in steps_of(row) for text in texts]
        assert max(numbers) > 999


@pytest.mark.parametrize(
    "share",
    [
        pytest.param("pair_share", id="prey and predators alone"),
        pytest.param("shown_share", id="series as they are shown"),
    ],
)
def test_without_a_share_no_step_holds_other_series(share):
    without = synthetic_windows(1024, 0, **{share: 0})
    usual = synthetic_windows(1024, 0)
    assert np.array_equal(without(5), usual(5))


def test_a_step_of_prey_and_predators_is_one_long_series():
    all_pairs = synthetic_windows(1024, 0, pair_share=1)
    for step in range(20):
        batch = all_pairs(step)
        steps, variables = steps_and_variables_of(batch)
        assert len(batch) == 1  # there is no room for another
        assert variables == 2
        assert 64 < steps <= 128


def test_a_share_of_the_steps_holds_prey_and_predators():
    half = synthetic_windows(1024, 0, pair_share=0.5)
    numbers_of_variables = set()
    for step in range(20):
        _, variables = steps_and_variables_of(half(step))
        numbers_of_variables.add(variables)
    assert numbers_of_variables > {2}  # 2, and other numbers too
