"""The tables of README and pages are those that the records give."""

import pytest

from m2lib.files import ROOT
from study.paper.pages import PAGES, TABLES, filled


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_a_page_are_as_make_figures_writes_them(page, printed_numbers):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert filled(text, printed_numbers) == text


def test_every_table_stands_on_a_page():
    texts = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    for name in TABLES:
        assert f"<!-- {name} -->" in texts
        assert f"<!-- end of {name} -->" in texts


def test_what_stands_between_two_marks_is_replaced_and_nothing_else(monkeypatch):
    monkeypatch.setitem(TABLES, "networks", lambda numbers: numbers["row"])
    page = "a\n\n<!-- networks -->\n\n| old |\n\n<!-- end of networks -->\n\nb\n"
    assert filled(page, {"row": "| new |"}) == page.replace("old", "new")
