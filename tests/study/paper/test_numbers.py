"""report/numbers.json holds what the records give."""

import json

import pytest

from study.paper import errors, numbers


def leaves(value, path=""):
    """Yield the path and the number or text of everything in a nested value."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, value
        return
    for name, item in items:
        yield from leaves(item, f"{path}/{name}")


def test_the_numbers_are_those_of_the_records(printed_numbers):
    # As JSON, because numbers.json turns tuples into lists and keys into texts.
    computed = json.dumps(numbers.numbers(errors.shown_profile()), allow_nan=False)

    now = dict(leaves(json.loads(computed)))
    then = dict(leaves(printed_numbers))

    assert then.keys() == now.keys(), "run `make figures`"
    for path, value in now.items():
        # The last bits of fits and means depend on the processor.
        same = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
        assert then[path] == same, f"{path}: run `make figures`"
