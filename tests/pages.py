"""The pages of the book and of the checkout, as tests read them."""

import re

from m2lib.files import ROOT


def text_of(page):
    """Return the text of a page, which is named by its path in the checkout."""
    return (ROOT / page).read_text(encoding="utf-8")


def rows_of(text):
    """Return the rows of all tables in a text, as lists of cells."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row[1:-1].split("|")] for row in rows]


def programs_of(text):
    """Return the Python programs in a text, in their order."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def execute(program, names):
    """Execute a program, whose names are kept in `names`."""
    exec(compile(program, "a program of a page", "exec"), names)
