"""What the tests of pages share: a page's text, sentences, tables and programs."""

import re

from m2lib.files import ROOT


def text_of(page):
    """Return the text of a page, which is named by its path in the checkout."""
    return (ROOT / page).read_text(encoding="utf-8")


def sentences_of(page):
    """Return a page's text on one line, so that a sentence is found wherever its lines break."""
    return " ".join(text_of(page).split())


def cells_of(row):
    """Return the cells of a table's row, without the blanks around them."""
    return [cell.strip() for cell in row[1:-1].split("|")]


def rows_of(text):
    """Return the rows of all tables in a text, as lists of cells."""
    return [cells_of(line) for line in text.splitlines() if line.startswith("|")]


def rows_of_forecasts(page):
    """Return the rows of a page's table of forecasts of the 50 test series, without its head."""
    table = re.search(r"\| forecast of the 50 test series .*?\n\n", text_of(page), re.DOTALL)[0]
    return table.strip().splitlines()[2:]


def programs_of(text):
    """Return the Python programs in a text, in their order."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def execute(program, names):
    """Execute a program, whose names are kept in `names`."""
    exec(compile(program, "a program of a page", "exec"), names)
