"""The program of book/accountant.md runs, and prints what stands below it."""

import re

from pages import execute, text_of


def test_the_program_for_a_model_of_ones_own_prints_what_stands_below_it(capsys):
    found = re.search(
        r"```python\n(.*?)```\n\n```text\n(.*?)```", text_of("book/accountant.md"), re.DOTALL
    )
    execute(found[1], {})

    assert capsys.readouterr().out == found[2]
