"""Committed notebooks are lectures, in a state in which nbval compares something."""

import io
import itertools
import re
import tokenize
from statistics import median

import nbformat
import pytest

from m2lib.files import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
CHECK = "nbval-check-output"
LIST_ITEM = r"\s*([0-9]+[.)]|[-+*])\s"


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


@pytest.fixture(scope="module")
def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def texts(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def tags(cell):
    return cell.metadata.get("tags", [])


def outputs(cell, kind):
    """Return what a cell shows of one MIME type; what it prints is text/plain too."""
    shown = []
    for output in cell.outputs:
        if output.output_type == "stream" and kind == "text/plain":
            shown.append(output.text)
        elif kind in output.get("data", {}):
            shown.append(output.data[kind])
    return shown


def test_every_cell_was_executed_in_order(code_cells):
    for place, cell in enumerate(code_cells, start=1):
        if "remove-cell" not in tags(cell):
            count = cell.execution_count
            assert count == place, f"run all cells in order: the {place}th has [{count}]"


def test_no_cell_shows_an_error_or_noise(code_cells):
    for cell in code_cells:
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", cell.source


def test_sliders_leave_nothing_behind(notebook, code_cells):
    assert "widgets" not in notebook.metadata

    removed = [cell for cell in code_cells if "remove-cell" in tags(cell)]
    assert [cell.source for cell in removed if cell.outputs] == []


def test_some_cells_are_checked(code_cells):
    assert any(CHECK in tags(cell) for cell in code_cells)


def test_cells_are_marked_for_nbval_by_tags_and_not_in_their_code(code_cells):
    assert [cell.source for cell in code_cells if "NBVAL" in cell.source] == []


def test_checked_cells_show_something_that_can_be_compared(code_cells):
    for cell in code_cells:
        if CHECK in tags(cell):
            text = "".join(outputs(cell, "text/plain"))
            assert text.strip(), "a checked cell shows text or a table"
            assert not outputs(cell, "image/png"), "figures are not compared"


def logical_lines(source):
    """Return how many lines code has where none is broken: a call of five lines counts as one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return sum(token.type in (tokenize.NEWLINE, tokenize.COMMENT) for token in tokens)


def test_cells_are_short(code_cells):
    unfolded = [cell for cell in code_cells if "hide-cell" not in tags(cell)]
    lengths = [logical_lines(cell.source) for cell in unfolded]
    assert median(lengths) <= 8
    assert max(lengths) <= 30


def test_every_figure_has_a_text_in_its_place(code_cells):
    for cell in code_cells:
        if outputs(cell, "image/png"):
            text = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(text) > 30, (
                f"say in metadata mystnb.image.alt what this figure shows: {cell.source}"
            )


def test_what_is_folded_in_the_book_is_folded_in_jupyter(code_cells):
    for cell in code_cells:
        in_the_book = "hide-input" in tags(cell) or "hide-cell" in tags(cell)
        in_jupyter = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        assert in_jupyter == in_the_book, cell.source


def test_a_lecture_begins_with_what_one_will_see_and_what_one_needs(notebook):
    start = notebook.cells[0].source
    assert re.match(r"# \d+ · .+\n", start)
    assert "**You will see**" in start
    assert "**You need**" in start


def test_a_lecture_ends_with_a_recap_exercises_and_further_reading(texts):
    lines = "\n".join(texts).splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    assert headings[-3:] == ["## In short", "## Exercises", "## Further reading"]


def test_a_lecture_links_to_the_previous_or_the_next_one(notebook):
    links = re.findall(r"\[(?:Previous|Next): [^\]]+\]\(([^)]+)\)", notebook.cells[-1].source)
    assert links
    for target in links:
        assert (ROOT / "notebooks" / target).is_file()


def last_text(path):
    return nbformat.read(path, as_version=4).cells[-1].source


def test_previous_and_next_are_the_neighbours():
    assert len(NOTEBOOKS) > 9
    for path, later in itertools.pairwise(NOTEBOOKS):
        assert f"]({later.name})" in last_text(path)
        assert f"]({path.name})" in last_text(later)


def test_no_line_of_a_sentence_begins_a_list(texts):
    """A line that begins with "60. So" after a line of text is shown as an item of a list."""
    for text in texts:
        without_code = re.sub(r"```.*?```", "", text, flags=re.S)
        for paragraph in re.split(r"\n\s*\n", without_code):
            first, *others = paragraph.split("\n")
            may_be_a_list = re.match(LIST_ITEM, first) or first.endswith(":")
            if not may_be_a_list:
                assert not any(re.match(LIST_ITEM, line) for line in others), paragraph


@pytest.fixture(scope="module")
def exercises(notebook):
    """Return the code cells that follow the heading of each exercise, by its number."""
    by_number = {}
    number = None
    for cell in notebook.cells:
        heading = re.match(r"### Exercise (\d)", cell.source)
        if cell.cell_type == "markdown" and heading:
            number = int(heading[1])
            by_number[number] = []
        elif cell.cell_type == "code" and number:
            by_number[number].append(cell)
    return by_number


def test_a_lecture_has_three_to_five_exercises_which_are_numbered(exercises):
    assert 3 <= len(exercises) <= 5
    assert list(exercises) == list(range(1, len(exercises) + 1))


def test_every_exercise_has_a_solution_that_is_folded_and_checks_itself(exercises):
    for number, solution in exercises.items():
        assert solution, number
        assert all("hide-cell" in tags(cell) for cell in solution), number
        assert any("assert" in cell.source for cell in solution), number


def test_no_part_stands_between_the_exercises_and_the_end(notebook, texts):
    first = next(place for place, text in enumerate(texts) if text.startswith("### Exercise"))
    parts = [text for text in texts[first:] if text.startswith("## ")]
    assert parts == [notebook.cells[-1].source]
