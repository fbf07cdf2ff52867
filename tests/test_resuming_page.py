"""The programs of book/resuming.md do what the page says of them."""

import re

from pages import execute, programs_of, text_of

PAGE = text_of("book/resuming.md")


def test_a_run_that_is_cut_off_ends_as_the_page_says(capsys):
    first, second = programs_of(PAGE)
    printed = re.search(r"^```text\n(.*?)^```", PAGE, re.M | re.S)[1]
    names = {}

    execute(first, names)
    assert capsys.readouterr().out == printed

    execute(second, names)  # which compares losses and adapters
    assert len(names["second"].losses) == 40
