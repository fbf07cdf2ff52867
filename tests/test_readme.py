"""The README's program runs, and prints what stands below it."""

import re

import numpy as np

from pages import execute, programs_of, text_of

README = text_of("README.md")
SERIES_PROGRAM, *_ = programs_of(README)


def forecast_and_truth(printed):
    """Return the two arrays that the program for a series prints, (3 steps, 2 variables) each."""
    numbers = re.findall(r"[\d.]+", printed)
    return np.array(numbers, dtype=float).reshape(2, 3, 2)


def test_the_program_for_a_series_prints_what_stands_below_it(monkeypatch, capsys):
    monkeypatch.delenv("M2_DATA", raising=False)

    execute(SERIES_PROGRAM, {})

    text, numbers = capsys.readouterr().out.split("\n", 1)
    assert text.count(";") == 20

    forecast, truth = forecast_and_truth(numbers)
    assert np.abs(forecast - truth).max() < 2  # the series goes up to 5.9

    below = re.search(r"```\n\d+,.*?\n(.*?)```", README, re.DOTALL)[1]
    printed_forecast, printed_truth = forecast_and_truth(below)
    assert (printed_truth == truth).all()
    # Another processor may round in another way.
    assert np.abs(printed_forecast - forecast).max() < 1
