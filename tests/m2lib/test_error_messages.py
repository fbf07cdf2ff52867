"""Errors and warnings say in one line what is wrong, and where."""

import warnings

import numpy as np
import pandas as pd
import pytest

from m2lib.errors import InputError, check_count, quoted
from m2tables import Columns, items_of


def test_a_message_is_one_line_whatever_it_quotes():
    # A line break, a carriage return, a terminal's command, a null, a line separator, half of a
    # character; and letters that are harmless.
    message = str(InputError("no file a\nb\r\x1b[2J\0\u2028\udcff: naïve, 10 × 5"))

    assert message == r"no file a\nb\r\x1b[2J\x00\u2028\udcff: naïve, 10 × 5"


def test_a_long_text_is_quoted_in_part():
    shown = quoted("9" * 10_000)

    assert shown.startswith("'999")
    assert len(shown) <= 202  # 200 characters and two quotation marks


def test_a_warning_is_of_the_line_that_calls_the_library():
    table = pd.DataFrame({"year": range(2020, 2000, -1), "y": range(20)})

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        items_of(table, Columns(None, "year", ("y",)))

    (warning,) = caught
    assert str(warning.message).endswith("were sorted by time")
    assert warning.filename == __file__


@pytest.mark.parametrize("number", [0, -1, 2.0, True, None])
def test_an_argument_that_is_no_whole_number_in_its_range_is_refused_by_name(number):
    """Other tests give each argument of a function one wrong value, and leave the rest to this."""
    message = f"^steps is {number}; give a whole number of 1 or more$"
    with pytest.raises(InputError, match=message):
        check_count("steps", number)


def test_a_whole_number_may_be_one_of_numpys():
    check_count("steps", np.int64(1))
