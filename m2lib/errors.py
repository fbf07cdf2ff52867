"""How users hear of faults: the one error that is meant for them, warnings, and the wording."""

import sys
import warnings
from numbers import Integral
from traceback import walk_stack


class InputError(ValueError):
    """A problem that its reader can fix.

    The message is one line: what is wrong, where, and what to do.
    """

    def __str__(self) -> str:
        # Whatever a message quotes, it stays one line, and a terminal obeys none of it: a line
        # break is shown as \n, an escape character as \x1b.
        characters = [
            character if character.isprintable() else repr(character)[1:-1]
            for character in super().__str__()
        ]
        return "".join(characters)


def warn(message: str) -> None:
    """Warn of something, as of the line outside m2lib and m2tables that called it.

    Between two functions of ours there may be others, of pandas or of the caller, so the line is
    that of the outermost call.
    """
    level = 2  # for `warnings` the line that calls this function; its caller's is 3, and so on
    for level_of_caller, (frame, _) in enumerate(walk_stack(sys._getframe(1)), start=3):
        if frame.f_globals.get("__name__", "").startswith(("m2lib.", "m2tables.")):
            level = level_of_caller
    warnings.warn(message, stacklevel=level)


def check_count(name: str, number: object, least: int = 1) -> None:
    """Raise InputError for an argument that is no whole number from `least` on.

    NumPy's whole numbers pass, but 3.0 and True do not, because slices and loops fail on them later
    with errors that do not name the argument.
    """
    if not isinstance(number, Integral) or isinstance(number, bool) or number < least:
        raise InputError(f"{name} is {number!r}; give a whole number of {least} or more")


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message; without a message, the exception's name."""
    message = str(error).strip() or type(error).__name__
    return message.splitlines()[0]


def quoted(text: str) -> str:
    """Return a user's text as messages show it: in quotation marks, and cut to 200 characters."""
    if len(text) > 200:
        text = f"{text[:197]}..."
    return repr(text)
