"""What the values on the command line may be: each reader gives the value, or argparse's error that names it."""

import argparse
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from m2lib.files import InputError, quoted, user_path


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        # The length comes first: int() refuses some thousands of digits in words of its own.
        if text.isdecimal() and len(text) <= len(str(most)) and least <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not a whole number from {least} to {most}")

    return read


def number(fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """Reads a number that fits, which `what` says in words."""

    def read(text: str) -> float:
        with suppress(ValueError):  # float() would also take `1_0`, `inf` and Arabic digits
            if re.fullmatch(r"[0-9.eE+-]{1,20}", text) and fits(value := float(text)):
                return value
        raise argparse.ArgumentTypeError(f"{quoted(text)} is not {what}")

    return read


def path(text: str) -> Path:
    """Reads a path, its ~ expanded."""
    try:
        return user_path(text, "it")
    except InputError as error:  # argparse replaces the message of any other ValueError than its own
        raise argparse.ArgumentTypeError(str(error)) from error
