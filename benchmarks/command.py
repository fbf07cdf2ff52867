"""What the benchmarks' commands share."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from m2lib.errors import InputError


@contextmanager
def one_line() -> Iterator[None]:
    """End the program with one line, and not with a traceback, for an error that its user can mend.

    Such are an InputError, and a package that is not installed.
    """
    try:
        yield
    except InputError as error:
        sys.exit(f"error: {error}")
    except ModuleNotFoundError as error:  # such as "No module named 'tsdata'"
        advice = "`pip install -c constraints.txt -e '.[yardsticks]'` brings what benchmarks need"
        sys.exit(f"error: {error}; {advice}")
